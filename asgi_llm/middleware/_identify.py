"""From a request to whoever made it, or to the reason why that is not known."""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from starlette.types import Scope

from asgi_llm.errors import AuthenticationError, ConfigurationError, StoreError
from asgi_llm.middleware._credentials import (
    MAX_CREDENTIAL_BYTES,
    claimed_issuer,
    looks_like_a_token,
    read_credential,
    refuse_key_in_url,
)
from asgi_llm.middleware._master_key import MasterKey
from asgi_llm.middleware._steady_time import SteadyTime
from asgi_llm.stores.base import KeyRecord, KeyStore
from asgi_llm.stores.keys_cached import CachedKeys
from asgi_llm.types import Principal

__all__ = ["HostIdentity", "Identification", "KeyCheck", "TokenVerifier"]

T = TypeVar("T")

KeyCheck = Callable[[str], "Principal | KeyRecord | Awaitable[Principal | KeyRecord | None] | None"]
"""Says who a credential stands for; None: nobody. It is asked on every request."""

HostIdentity = Callable[[Scope], "Principal | Awaitable[Principal | None] | None"]
"""Says who the host found to be calling; None: nobody."""

MASTER: Final = Principal(role="admin", key_name="master")

_MASTER_RECORD = KeyRecord(principal=MASTER)
_CHALLENGE = [(b"www-authenticate", b"Bearer")]


class TokenVerifier(Protocol):
    """Verifies signed tokens of one issuer. ``JWTVerifier`` is one."""

    issuer: str

    def peek(self, digest: bytes) -> Principal | None:
        """Whom a token stands for that was verified before; None: verify it."""
        ...

    async def verify(self, token: bytes, digest: bytes) -> Principal:
        """Whom ``token``, with that SHA-256 digest, stands for.

        Raises:
            AuthenticationError: It is not valid, or not any more.
            StoreError: The keys to verify it with could not be had.
        """
        ...


class Identification:
    """Finds out who is calling. Arguments are those of ``AuthMiddleware``.

    Raises:
        ConfigurationError: Nobody could ever be known, or an option is wrong.
    """

    def __init__(
        self,
        *,
        keys: KeyStore | KeyCheck | None,
        master_key: MasterKey | None,
        management_prefix: str,
        jwt: TokenVerifier | Sequence[TokenVerifier] | None,
        principal: HostIdentity | None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._master = master_key
        self._management = management_prefix
        self._verifiers = _by_issuer(jwt)
        self._host = principal
        self._now = SteadyTime(wall_clock, clock)
        self._peek: Callable[[bytes], KeyRecord | None] = _knows_nothing
        self._find: Callable[[bytes], Awaitable[KeyRecord | None]] = _finds_nothing
        self._check: KeyCheck | None = None
        if hasattr(keys, "find"):
            store: Any = keys
            if not hasattr(store, "peek"):
                store = CachedKeys(store, clock=clock)
            self._peek, self._find = store.peek, store.find
        elif callable(keys):
            self._check = keys
        elif keys is not None:
            raise ConfigurationError("keys must be a key store or a callable", param="keys")
        self._takes_credentials = not (keys is None and master_key is None and not self._verifiers)
        if not self._takes_credentials and principal is None:
            raise ConfigurationError(
                "nobody could be let in: give keys, jwt, principal or master_key", param="keys"
            )

    async def identify(self, scope: Scope, path: str) -> Principal:
        """Who made the request.

        What is missing, malformed, unknown or revoked takes the same steps to the same answer. Only
        whoever holds a key or a token that has expired is told so.

        Raises:
            RequestError: Nobody that is known did, or the credential is not in its place.
            StoreError: It cannot be found out.
        """
        if not self._takes_credentials:
            return await self._ask_host(scope)
        if query := scope.get("query_string"):
            refuse_key_in_url(query)
        credential = read_credential(scope["headers"])
        if not credential and self._host is not None:
            return await self._ask_host(scope)
        digest = _digest(credential)
        record = self._peek(digest)
        if record is None:
            try:
                record = await self._look_up(credential, digest, path)
            except StoreError:
                # Who sent nothing gets the same answer either way.
                if credential:
                    raise
        if not credential:
            raise _missing()
        if record is None or not record.active:
            raise AuthenticationError("This API key is not valid.", headers=_CHALLENGE)
        # Written so that what is no time at all has passed.
        if record.expires_at is not None and not self._now() < record.expires_at:
            raise AuthenticationError(
                "This API key has expired.", code="expired_api_key", headers=_CHALLENGE
            )
        return _principal(record.principal, "keys")

    async def _look_up(self, credential: bytes, digest: bytes, path: str) -> KeyRecord | None:
        """What is known of a credential that is not in memory."""
        if self._master is not None and self._master.has(digest) and self._manages(path):
            return _MASTER_RECORD
        if self._verifiers and looks_like_a_token(credential):
            return await self._verify(credential, digest)
        if self._check is not None:
            return await self._ask(self._check, credential)
        return await self._find(digest)

    def _manages(self, path: str) -> bool:
        prefix = self._management
        return prefix == "/" or path == prefix or path.startswith(prefix + "/")

    async def _verify(self, token: bytes, digest: bytes) -> KeyRecord | None:
        for verifier in self._verifiers.values():
            known = verifier.peek(digest)
            if known is not None:
                return KeyRecord(principal=known)
        if len(token) > MAX_CREDENTIAL_BYTES:
            return None
        verifier_of_it = self._verifiers.get(claimed_issuer(token) or "")
        if verifier_of_it is None:
            return None
        try:
            return KeyRecord(principal=await verifier_of_it.verify(token, digest))
        except AuthenticationError as error:
            error.headers = (*error.headers, *_CHALLENGE)
            raise

    async def _ask(self, check: KeyCheck, credential: bytes) -> KeyRecord | None:
        if not 0 < len(credential) <= MAX_CREDENTIAL_BYTES or not credential.isascii():
            return None
        answer = await _awaited(check(credential.decode("ascii")))
        if isinstance(answer, Principal):
            return KeyRecord(principal=answer)
        if answer is None or isinstance(answer, KeyRecord):
            return answer
        raise TypeError(f"keys returned {type(answer).__name__}, not a Principal or a KeyRecord")

    async def _ask_host(self, scope: Scope) -> Principal:
        host = self._host
        principal = None if host is None else await _awaited(host(scope))
        if principal is None:
            raise _missing()
        return _principal(principal, "principal")


def _principal(found: object, option: str) -> Principal:
    if not isinstance(found, Principal):
        raise TypeError(f"{option} gave {type(found).__name__}, not a Principal")
    return found


def _digest(credential: bytes) -> bytes:
    if len(credential) > MAX_CREDENTIAL_BYTES:
        # No key is so long; what is hashed in its place is no key either.
        credential = credential[:MAX_CREDENTIAL_BYTES] + b"\0"
    return hashlib.sha256(credential).digest()


def _missing() -> AuthenticationError:
    return AuthenticationError(
        "Send an API key: Authorization: Bearer <key>.",
        code="missing_api_key",
        headers=_CHALLENGE,
    )


async def _awaited(answer: T | Awaitable[T]) -> T:
    return await answer if inspect.isawaitable(answer) else answer


def _by_issuer(jwt: TokenVerifier | Sequence[TokenVerifier] | None) -> dict[str, TokenVerifier]:
    given = () if jwt is None else jwt if isinstance(jwt, Sequence) else (jwt,)
    verifiers = {verifier.issuer: verifier for verifier in given}
    if len(verifiers) != len(given):
        raise ConfigurationError("two verifiers have the same issuer", param="jwt")
    return verifiers


def _knows_nothing(digest: bytes) -> None:
    return None


async def _finds_nothing(digest: bytes) -> None:
    return None
