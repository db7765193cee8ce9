"""From the claims of a verified token to a Principal, as the configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

from asgi_llm.errors import ConfigurationError
from asgi_llm.types import Principal, Role

__all__ = ["CLAIM_FIELDS", "ClaimMapping"]

_TEXT: Final = frozenset(("key_name", "user_id", "team_id", "organization_id", "tier"))
_LISTS: Final = frozenset(("models", "scopes"))

CLAIM_FIELDS: Final = _TEXT | _LISTS
"""Fields of a Principal that a claim may fill. A role comes by way of ``roles`` alone."""

_RANKS: Final[dict[str, int]] = {"member": 0, "team_admin": 1, "admin": 2}
_MAX_TEXT = 512
_MAX_ITEMS = 1000


class ClaimMapping:
    """Which claim fills which field.

    A claim is named as it stands in the token, or by a path with dots into nested objects. What is
    not there stays empty: ``models`` then means none, and without a ``user_id`` that was asked for
    nobody is known.

    Args:
        claims: Field to claim.
        role_claim: The claim that holds roles, as text or as a list.
        roles: The issuer's word for a role to ours; the highest of several counts.

    Raises:
        ConfigurationError: A field or a role that there is not.
    """

    def __init__(
        self, claims: Mapping[str, str], role_claim: str | None, roles: Mapping[str, Role]
    ) -> None:
        for field in claims:
            if field not in CLAIM_FIELDS:
                raise ConfigurationError(
                    f"claims: {field!r} cannot be filled; there are: "
                    + ", ".join(sorted(CLAIM_FIELDS)),
                    param="claims",
                )
        for role in roles.values():
            if role not in get_args(Role):
                raise ConfigurationError(f"roles: there is no role {role!r}", param="roles")
        if bool(roles) != (role_claim is not None):
            raise ConfigurationError("role_claim and roles go together", param="roles")
        self._claims = dict(claims)
        self._role_claim = role_claim
        self._roles = dict(roles)

    def principal(self, claims: Mapping[str, Any]) -> Principal:
        """Whom ``claims`` stand for.

        Raises:
            ValueError: A claim is of another kind than its field, or the user is not named.
        """
        fields: dict[str, Any] = {}
        for field, name in self._claims.items():
            value = _claim(claims, name)
            if field in _TEXT:
                fields[field] = None if value is None else _text(value)
            elif field == "models":
                fields[field] = _texts(value)
            else:
                fields[field] = frozenset(_texts(value))
        if "user_id" in self._claims and fields["user_id"] is None:
            raise ValueError("the claim for user_id is missing")
        return Principal(role=self._role(claims), **fields)

    def _role(self, claims: Mapping[str, Any]) -> Role:
        given: Role = "member"
        if self._role_claim is not None:
            for name in _texts(_claim(claims, self._role_claim)):
                role = self._roles.get(name, "member")
                if _RANKS[role] > _RANKS[given]:
                    given = role
        return given


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def _text(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        raise ValueError("a claim is no text, or too long")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    """A list of texts, or one text with spaces between, as in OAuth's ``scope``."""
    if value is None:
        return ()
    items = value.split() if isinstance(value, str) else value
    if not isinstance(items, list) or len(items) > _MAX_ITEMS:
        raise ValueError("a claim is no list of texts")
    return tuple(_text(item) for item in items)
