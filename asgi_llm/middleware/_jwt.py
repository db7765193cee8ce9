"""Web tokens that an issuer signs, in place of keys.

Source: RFC 7515 (JWS), RFC 7519 (JWT), RFC 8725 (JWT best current practices).
"""

from __future__ import annotations

import base64
import binascii
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from asgi_llm._optional import require
from asgi_llm.errors import AuthenticationError, ConfigurationError
from asgi_llm.middleware._claims import ClaimMapping
from asgi_llm.middleware._fetch import Fetch, HttpFetch
from asgi_llm.middleware._signing_keys import (
    FixedKeys,
    KeySource,
    RemoteKeys,
    SigningKey,
    discovered,
    key_set,
)
from asgi_llm.middleware._steady_time import SteadyTime
from asgi_llm.types import Principal, Role

__all__ = ["ALGORITHMS", "JWTVerifier"]

logger = logging.getLogger(__name__)

_SECRET_ALGORITHMS: Final = frozenset(("HS256", "HS384", "HS512"))
_KEY_TYPES: Final = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP", "HS": "oct"}

ALGORITHMS: Final = _SECRET_ALGORITHMS | {
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
}
"""What may be allowed. ``none`` is not among it."""

MIN_SECRET_BYTES: Final = 32
_SUBJECT: Final[Mapping[str, str]] = MappingProxyType({"user_id": "sub"})
_NO_ROLES: Final[Mapping[str, Role]] = MappingProxyType({})
# Beyond the year 9999 no clock goes.
_LAST_SECOND = 253_402_300_800


class _Header(msgspec.Struct):
    alg: str
    kid: str | None = None
    crit: Any = None
    b64: Any = None


class JWTVerifier:
    """Verifies the tokens of one issuer, and says whom they stand for.

    Of ``key``, ``jwks`` and ``jwks_url`` one at most is given; with none of them the issuer's
    OpenID Connect discovery document says where its keys are.

    A token that was verified is not verified again for ``cached_seconds``, nor beyond its end; it
    is remembered by the SHA-256 digest of the whole of it. So a signing key that is withdrawn is
    good for ``keys_fresh_seconds`` and ``cached_seconds`` more at the most, as long as the issuer
    answers.

    Args:
        issuer: Compared with ``iss``, character for character.
        audience: One of which has to be in ``aud``.
        algorithms: Those that are accepted, all with secrets or all with public keys.
        key: A public key or a certificate as PEM text or a JWK, or the secret (at least 32 bytes).
        jwks: A JWK Set.
        jwks_url: Where one is, ``https``; ``http`` if the issuer itself is ``http``.
        claims: Field of the Principal to claim; see ``ClaimMapping``.
        role_claim: The claim that holds roles.
        roles: The issuer's word for a role to ours.
        leeway_seconds: How far the issuer's clock may be off, 0 to 300.
        cached_seconds: At least 0.
        max_cached: Tokens to remember, at least 1; about 1 KiB each.
        keys_fresh_seconds: How old published keys get before others are waited for, above 0.
        keys_stale_seconds: How old they may get while they cannot be fetched.
        fetch: The way to published keys.
        clock: Seconds, monotonic.
        wall_clock: Unix time in seconds.

    Raises:
        ConfigurationError: An option is wrong, or joserfc is not installed.
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str | Collection[str],
        algorithms: Sequence[str] = ("RS256", "ES256"),
        key: str | bytes | Mapping[str, Any] | None = None,
        jwks: Mapping[str, Any] | None = None,
        jwks_url: str | None = None,
        claims: Mapping[str, str] = _SUBJECT,
        role_claim: str | None = None,
        roles: Mapping[str, Role] = _NO_ROLES,
        leeway_seconds: float = 30.0,
        cached_seconds: float = 300.0,
        max_cached: int = 10_000,
        keys_fresh_seconds: float = 600.0,
        keys_stale_seconds: float = 86_400.0,
        fetch: Fetch | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._models = require("joserfc.jws", extra="auth").JWSRegistry.algorithms
        self._import = require("joserfc.jwk", extra="auth").import_key
        audiences = (audience,) if isinstance(audience, str) else tuple(audience)
        for option, well in (
            ("issuer", bool(issuer)),
            ("audience", bool(audiences) and all(audiences)),
            ("leeway_seconds", 0 <= leeway_seconds <= 300),
            ("cached_seconds", 0 <= cached_seconds < math.inf),
            ("max_cached", max_cached >= 1),
            ("keys_fresh_seconds", 0 < keys_fresh_seconds < math.inf),
            ("keys_stale_seconds", keys_fresh_seconds <= keys_stale_seconds < math.inf),
        ):
            if not well:
                raise ConfigurationError(f"{option} is empty or out of range", param=option)
        _check_algorithms(algorithms)
        self.issuer = issuer
        self._audiences = frozenset(audiences)
        self._algorithms = frozenset(algorithms)
        self._mapping = ClaimMapping(claims, role_claim, roles)
        self._leeway = leeway_seconds
        self._cached_seconds = cached_seconds
        self._max_cached = max_cached
        self._clock = clock
        self._wall = wall_clock
        self._now = SteadyTime(wall_clock, clock)
        self._verified: OrderedDict[bytes, tuple[Principal, float, float]] = OrderedDict()
        self._own_fetch: HttpFetch | None = None
        self._remote: RemoteKeys | None = None
        if sum(given is not None for given in (key, jwks, jwks_url)) > 1:
            raise ConfigurationError("give one of key, jwks and jwks_url", param="key")
        secret = not self._algorithms.isdisjoint(_SECRET_ALGORITHMS)
        if secret and (key is None or isinstance(key, Mapping)):
            raise ConfigurationError(
                "key: algorithms with a secret need the secret, as text", param="key"
            )
        self._keys: KeySource
        if key is not None:
            self._keys = FixedKeys((self._given(key),))
        elif jwks is not None:
            try:
                self._keys = FixedKeys(key_set(dict(jwks), self._import))
            except ValueError as error:
                raise ConfigurationError(f"jwks: {error}", param="jwks") from None
        else:
            if jwks_url is None:
                _check_url("issuer", issuer, issuer)
            else:
                _check_url("jwks_url", jwks_url, issuer)
            if fetch is None:
                fetch = self._own_fetch = HttpFetch()
            self._keys = self._remote = RemoteKeys(
                self._loading(jwks_url, fetch),
                fresh_seconds=keys_fresh_seconds,
                stale_seconds=keys_stale_seconds,
                clock=clock,
            )

    def peek(self, digest: bytes) -> Principal | None:
        """Whom a token of that digest stands for, if it was verified lately; None: verify it."""
        known = self._verified.get(digest)
        if known is None:
            return None
        principal, until, expires_at = known
        return principal if self._clock() < until and self._now() < expires_at else None

    async def verify(self, token: bytes, digest: bytes) -> Principal:
        """Whom ``token`` stands for.

        Raises:
            AuthenticationError: It is not valid: no word on why, but where it has expired.
            StoreError: The issuer's keys cannot be had.
        """
        try:
            signed, _, signature = token.rpartition(b".")
            head, _, body = signed.partition(b".")
            header = msgspec.json.decode(_decoded(head), type=_Header)
            key = await self._key(header)
            model = self._models[header.alg]
            if key is None or not model.verify(signed, _decoded(signature), key):
                raise ValueError("no key of the issuer's has signed it")
            claims = msgspec.json.decode(_decoded(body), type=dict[str, Any])
            expires_at = self._check(claims)
            principal = self._mapping.principal(claims)
        except (ValueError, RecursionError, binascii.Error) as error:
            # msgspec's errors are ValueErrors too. The text of them may quote the token.
            logger.debug("a token was refused: %s", type(error).__name__)
            raise AuthenticationError("This token is not valid.") from error
        self._remember(digest, principal, expires_at)
        return principal

    async def aclose(self) -> None:
        """Close what was opened here. Idempotent."""
        if self._remote is not None:
            await self._remote.aclose()
        if self._own_fetch is not None:
            await self._own_fetch.aclose()

    async def _key(self, header: _Header) -> Any | None:
        if header.alg not in self._algorithms:
            raise ValueError("the algorithm is not allowed")
        if header.crit is not None or header.b64 is not None:
            raise ValueError("the header asks for what is not understood")
        model = self._models[header.alg]

        def fits(key: Any) -> bool:
            try:
                model.check_key(key)
            except Exception:
                return False
            return True

        return await self._keys.find(header.kid, fits)

    def _check(self, claims: Mapping[str, Any]) -> float:
        """When the claims end, leeway included, if they hold now."""
        if claims.get("iss") != self.issuer:
            raise ValueError("another issuer")
        audience = claims.get("aud")
        named = [audience] if isinstance(audience, str) else audience
        if not isinstance(named, list) or not any(
            isinstance(one, str) and one in self._audiences for one in named
        ):
            raise ValueError("for another audience")
        expires_at = _time(claims, "exp") + self._leeway
        latest = self._wall() + self._leeway
        for name in ("nbf", "iat"):
            if name in claims and _time(claims, name) > latest:
                raise ValueError("not good yet")
        if self._now() >= expires_at:
            raise AuthenticationError("This token has expired.", code="expired_api_key")
        return expires_at

    def _remember(self, digest: bytes, principal: Principal, expires_at: float) -> None:
        self._verified[digest] = (principal, self._clock() + self._cached_seconds, expires_at)
        self._verified.move_to_end(digest)
        if len(self._verified) > self._max_cached:
            self._verified.popitem(last=False)

    def _given(self, key: str | bytes | Mapping[str, Any]) -> SigningKey:
        """The key from the configuration, of the kind that the algorithms need."""
        kinds = sorted({_KEY_TYPES[name[:2]] for name in self._algorithms})
        if kinds == ["oct"] and len(key) < MIN_SECRET_BYTES:
            raise ConfigurationError(
                f"key: a secret must have at least {MIN_SECRET_BYTES} bytes", param="key"
            )
        for kind in kinds:
            try:
                if not isinstance(key, Mapping):
                    return SigningKey(None, self._import(key, kind))
                if key.get("kty") == kind:
                    return SigningKey(key.get("kid"), self._import(dict(key)))
            except Exception as error:
                # By its type alone: the words may quote a secret.
                logger.debug("key is no %s key: %s", kind, type(error).__name__)
        raise ConfigurationError(
            f"key: this is no key for {', '.join(sorted(self._algorithms))}", param="key"
        )

    def _loading(
        self, url: str | None, fetch: Fetch
    ) -> Callable[[], Awaitable[tuple[SigningKey, ...]]]:
        async def load() -> tuple[SigningKey, ...]:
            where = url or await discovered(self.issuer, fetch)
            return key_set(msgspec.json.decode(await fetch(where)), self._import)

        return load


def _check_algorithms(algorithms: Sequence[str]) -> None:
    if isinstance(algorithms, str) or not algorithms:
        raise ConfigurationError("algorithms must be a list of names", param="algorithms")
    for name in algorithms:
        if name not in ALGORITHMS:
            raise ConfigurationError(f"algorithms: {name!r} is not accepted", param="algorithms")
    with_secrets = _SECRET_ALGORITHMS.intersection(algorithms)
    if with_secrets and len(with_secrets) != len(set(algorithms)):
        # Else a token signed with the public key as its secret would pass for the issuer's.
        raise ConfigurationError(
            "algorithms with secrets and with public keys cannot go together", param="algorithms"
        )


def _check_url(option: str, url: str, issuer: str) -> None:
    if not url.startswith("https://") and not (
        url.startswith("http://") and issuer.startswith("http://")
    ):
        raise ConfigurationError(f"{option} must be an https URL", param=option)


def _decoded(segment: bytes) -> bytes:
    """Base64 of the URL's alphabet without padding, in its one form."""
    if len(segment) % 4 == 1 or b"=" in segment or b"+" in segment or b"/" in segment:
        raise ValueError("a segment is not base64url")
    return base64.b64decode(segment + b"=" * (-len(segment) % 4), altchars=b"-_", validate=True)


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a time is no number")
    if not 0 <= value < _LAST_SECOND:
        raise ValueError("a time is out of range")
    return float(value)
