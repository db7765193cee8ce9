"""Keys and issuers that a configuration names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._layer_definitions import JWTDefinition, KeyDefinition
from asgi_llm.middleware._jwt import JWTVerifier
from asgi_llm.middleware._limit_rules import parse_limit
from asgi_llm.middleware._master_key import GOOD_KEY, why_guessable
from asgi_llm.stores.base import KeyRecord
from asgi_llm.stores.keys_memory import DIGEST_PREFIX
from asgi_llm.types import BudgetRule, Principal

__all__ = ["named_keys", "open_verifier"]


def named_keys(
    definitions: Sequence[KeyDefinition], *, insecure: bool = False
) -> Iterator[tuple[str, KeyRecord]]:
    """Each key, or its digest, and what it may do.

    Args:
        definitions: As configured.
        insecure: Take keys that are easily guessed.

    Raises:
        ConfigurationError: One of them is wrong; ``param`` is its path below the layer.
    """
    names: set[str] = set()
    for index, definition in enumerate(definitions):
        path = f"keys.{index}"
        if (definition.key is None) == (definition.sha256 is None):
            raise ConfigurationError("give either key or sha256", param=path)
        if definition.name in names:
            raise ConfigurationError(
                f"two keys are named {definition.name!r}", param=f"{path}.name"
            )
        names.add(definition.name)
        credential = definition.key.reveal() if definition.key else ""
        cause = why_guessable(credential) if credential and not insecure else None
        if cause is not None:
            raise ConfigurationError(
                f"this key is refused: {cause}. A good one: {GOOD_KEY}", param=f"{path}.key"
            )
        yield credential or f"{DIGEST_PREFIX}{definition.sha256}", _record(definition, path)


def _record(definition: KeyDefinition, path: str) -> KeyRecord:
    limits = []
    for index, text in enumerate(definition.limits):
        try:
            limits.append(parse_limit(text))
        except ConfigurationError as error:
            raise ConfigurationError(error.message, param=f"{path}.limits.{index}") from error
    return KeyRecord(
        principal=Principal(
            key_id=definition.name,
            key_name=definition.name,
            user_id=definition.user,
            team_id=definition.team,
            organization_id=definition.organization,
            role=definition.role,
            tier=definition.tier,
            models=definition.models,
            scopes=frozenset(definition.scopes),
            limits=tuple(limits),
            budgets=tuple(
                [
                    BudgetRule(
                        scope="key", amount_usd=one.amount_usd, period=one.period, hard=one.hard
                    )
                    for one in definition.budgets
                ]
            ),
            metadata=definition.metadata,
        ),
        expires_at=None if definition.expires is None else _time(definition.expires, path),
    )


def _time(text: str, path: str) -> float:
    """Unix time of an ISO 8601 text; without a zone it is UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            "expected a date and time as in 2027-01-31T00:00:00Z", param=f"{path}.expires"
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def open_verifier(definition: JWTDefinition) -> JWTVerifier:
    """Who verifies the tokens of one issuer. Opens no connection.

    Raises:
        ConfigurationError: An option is wrong.
    """
    options = msgspec.structs.asdict(definition)
    if not options["claims"]:
        del options["claims"]
    return JWTVerifier(**options)
