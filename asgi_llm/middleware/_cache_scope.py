"""Who shares stored answers: the partition that a request belongs to."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, Literal

from starlette.types import Scope

from asgi_llm.errors import ConfigurationError
from asgi_llm.middleware._cache_headers import credentials_of, lengths_of
from asgi_llm.state import PRINCIPAL, State
from asgi_llm.types import Principal

__all__ = [
    "CREDENTIAL_HEADERS",
    "CacheScope",
    "Partitioner",
    "ScopeFinder",
    "WithoutPrincipal",
    "author",
]

ScopeFinder = Callable[[Principal | None, Scope], str | None]
"""Gives the id of a partition for a request; None: the request is not cached."""

CacheScope = Literal["organization", "team", "user", "key", "shared"]
WithoutPrincipal = Literal["by_credentials", "share", "bypass"]

CREDENTIAL_HEADERS: Final = (
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "cookie",
)
"""By which clients say who they are, where no layer has found out."""

# Where the caller has no id of the wanted kind, the next one that is there: each is at least as
# narrow as what was asked for, so that nothing is ever shared more widely.
_FALLBACK: Final = {
    "organization": ("organization_id", "team_id", "user_id", "key_id"),
    "team": ("team_id", "user_id", "key_id"),
    "user": ("user_id", "key_id"),
    "key": ("key_id",),
}
_KIND: Final = {
    "organization_id": "organization:",
    "team_id": "team:",
    "user_id": "user:",
    "key_id": "key:",
}


class Partitioner:
    """Finds the partition of a request. Two that differ share nothing, whatever they ask.

    Args:
        scope: Who shares: an organization (the default of caches), a team, a user, a key, all
            (``shared``), or what a function finds.
        without_principal: What becomes of requests of which no layer inside the same stack knows
            who sends them. ``by_credentials``: those with the same credentials share, and those
            without any share among themselves, since then nobody is told apart at all; ``share``:
            all of them share; ``bypass``: they are not cached.
        credential_headers: What counts as credentials.

    Raises:
        ConfigurationError: An option is wrong; ``param`` names it.
    """

    __slots__ = ("_fields", "_find", "_headers", "_lengths", "_shared", "_without")

    def __init__(
        self,
        scope: CacheScope | ScopeFinder,
        *,
        without_principal: WithoutPrincipal = "by_credentials",
        credential_headers: Collection[str] = CREDENTIAL_HEADERS,
    ) -> None:
        if not callable(scope) and scope != "shared" and scope not in _FALLBACK:
            raise ConfigurationError(
                f"scope must be organization, team, user, key, shared or a function, not {scope!r}",
                param="scope",
            )
        if without_principal not in ("by_credentials", "share", "bypass"):
            raise ConfigurationError(
                "without_principal must be by_credentials, share or bypass, "
                f"not {without_principal!r}",
                param="without_principal",
            )
        self._shared = scope == "shared"
        self._find: ScopeFinder | None = scope if callable(scope) else None
        self._fields = () if callable(scope) or self._shared else _FALLBACK[scope]
        self._without = without_principal
        self._headers = frozenset(name.lower().encode("latin-1") for name in credential_headers)
        self._lengths = lengths_of(self._headers)

    def partition(self, scope: Scope, principal: Principal | None) -> str | None:
        """The partition's name, as ``organization:acme``; None: the request is not cached."""
        if self._shared:
            return "shared"
        if self._find is not None:
            found = self._find(principal, scope)
            return None if found is None else f"custom:{found}"
        if principal is not None:
            for field in self._fields:
                value = getattr(principal, field)
                if value is not None:
                    return _KIND[field] + str(value)
        # A caller without any id, such as one with the master key, is told apart like a stranger.
        return self._of_stranger(scope)

    def _of_stranger(self, scope: Scope) -> str | None:
        if self._without == "bypass":
            return None
        if self._without == "share":
            return "anonymous"
        digest = credentials_of(scope["headers"], self._headers, self._lengths)
        return "anonymous" if digest is None else f"credentials:{digest}"


def author(state: State) -> str | None:
    """Who an answer is made for, to be kept with it: id of the key, else of the user."""
    principal = state.get(PRINCIPAL)
    return None if principal is None else principal.key_id or principal.user_id
