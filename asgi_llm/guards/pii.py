"""Personal data that has a form: addresses, account numbers, numbers given by states.

Where a number has check digits they must be right; where it has none, or a weak one, words around
it have to say what it is, or its score is low. Names and postal addresses have no form: for those
see ``asgi_llm.guards.entities``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from asgi_llm.errors import ConfigurationError
from asgi_llm.guards._pii_contacts import contact_rules
from asgi_llm.guards._pii_context import CONTEXT_TRIGGER, context_rules
from asgi_llm.guards._pii_national import national_rules
from asgi_llm.guards._pii_payment import payment_rules
from asgi_llm.guards.patterns import PatternGuard

__all__ = ["DEFAULT_REGIONS", "PiiGuard"]

_TRIGGER: Final = "|".join(
    (
        r"[\pL\pN_+'%-]@[\pL\pN]",
        r"[0-9](?:[ ()./-]{0,3}[0-9]){6}",
        r"[0-9]\.[0-9]{1,3}\.[0-9]",
        r"[0-9a-fA-F]:[0-9a-fA-F]{0,4}:[0-9a-fA-F]|::[0-9a-fA-F]",
        r"[0-9a-fA-F]{2}[:-][0-9a-fA-F]{2}[:-][0-9a-fA-F]{2}",
        r"[0-9a-fA-F]{4}\.[0-9a-fA-F]{4}\.",
        r"[A-Za-z]{2}[0-9]{2}[ -]?[A-Za-z0-9][ -]?[A-Za-z0-9]",
        r"[A-Za-z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-Da-d]",
        r"[A-Za-z]{3} ?[0-9]{2}[A-Za-z]|[A-Z]{6}[0-9LMNPQRSTUV]{2}[A-Z]",
        r"[A-Z]{5}[0-9]{4}[A-Z]",
        r"\b[13LMDTA9][1-9A-HJ-NP-Za-km-z]{20}",
        r"(?i:\b(?:bc|tb|ltc)1[02-9ac-hj-np-z]{8})|0x[0-9a-fA-F]{8}",
        CONTEXT_TRIGGER,
    )
)
# An address may be longer than the window.
_UNFINISHED: Final = r"[\w.%+'@-]{64,}"
DEFAULT_REGIONS: Final = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "IN", "BR")


class PiiGuard(PatternGuard):
    """Finds personal data by form, check digits and the words around.

    Categories: ``pii.email``, ``phone``, ``card``, ``iban``, ``crypto``, ``ip``, ``mac``,
    ``us_ssn``, ``uk_nino``, ``uk_nhs``, ``de_steuer_id``, ``fr_nir``, ``es_dni``,
    ``it_codice_fiscale``, ``nl_bsn``, ``in_aadhaar``, ``in_pan``, ``br_cpf``, ``br_cnpj``,
    ``date_of_birth``, ``passport`` and ``driving_licence``.

    Args:
        name: Names it in verdicts.
        categories: Which to look for, such as ``pii.email``. Default: all.
        regions: Two-letter codes of the countries whose phone numbers are found without their
            country's code.
        threshold: Findings with a lower score are left out. From 0 to 1.

    Raises:
        ConfigurationError: A category is unknown, or google-re2 or phonenumbers is not installed.
    """

    def __init__(
        self,
        *,
        name: str = "pii",
        categories: Collection[str] | None = None,
        regions: Sequence[str] = DEFAULT_REGIONS,
        threshold: float = 0.5,
    ) -> None:
        rules = [*contact_rules(regions), *payment_rules(), *national_rules(), *context_rules()]
        if categories is not None:
            known = {rule.category for rule in rules}
            if unknown := sorted(set(categories) - known):
                raise ConfigurationError(
                    f"categories: {unknown[0]!r} is none of {', '.join(sorted(known))}",
                    param="categories",
                )
            rules = [rule for rule in rules if rule.category in categories]
        super().__init__(
            name,
            rules,
            threshold=threshold,
            unfinished=_UNFINISHED,
            trigger=_TRIGGER,
            silent_on_plain_words=True,
        )
