"""The public keys of an issuer of tokens: where they are, and how long they are believed.

Source: RFC 7517 (JSON Web Key), OpenID Connect Discovery 1.0.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec

from asgi_llm._traceback import describe
from asgi_llm.errors import StoreError
from asgi_llm.middleware._fetch import Fetch

__all__ = ["FixedKeys", "KeySource", "RemoteKeys", "SigningKey", "choose", "discovered", "key_set"]

logger = logging.getLogger(__name__)

REFETCH_SECONDS: Final = 10.0
"""The least time between two fetches, whatever tokens ask for."""

FETCH_SECONDS: Final = 10.0

AHEAD: Final = 0.8
"""The part of their time after which keys are fetched again beside the requests."""

DISCOVERY_PATH: Final = "/.well-known/openid-configuration"


class SigningKey(msgspec.Struct, frozen=True):
    """A key, and the id by which tokens name it."""

    kid: str | None
    key: Any


class KeySource(Protocol):
    """Where a token's key is found."""

    async def find(self, kid: str | None, fits: Callable[[Any], bool]) -> Any | None:
        """The key of that id that ``fits`` the algorithm; without an id, the only one that does.

        Raises:
            StoreError: The keys could not be had.
        """
        ...


def choose(keys: Iterable[SigningKey], kid: str | None, fits: Callable[[Any], bool]) -> Any | None:
    """The key of ``keys`` that is meant, or None where none is, or where it could be several."""
    fitting = [one.key for one in keys if (kid is None or one.kid == kid) and fits(one.key)]
    return fitting[0] if len(fitting) == 1 else None


def key_set(document: Any, import_key: Callable[[Any], Any]) -> tuple[SigningKey, ...]:
    """The signing keys of a JWK Set. Those of a kind that is not understood are left out.

    Raises:
        ValueError: It is no key set, or holds no key that can be used.
    """
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("the document is no JWK Set")
    keys = []
    for jwk in listed[:100]:
        if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig" or jwk.get("kty") == "oct":
            # A secret that is published is none.
            continue
        try:
            key = import_key(jwk)
        except Exception as error:
            logger.debug("a key of a JWK Set was left out: %s", type(error).__name__)
            continue
        kid = jwk.get("kid")
        keys.append(SigningKey(kid if isinstance(kid, str) else None, key))
    if not keys:
        raise ValueError("the JWK Set holds no key that can be used")
    return tuple(keys)


class FixedKeys:
    """Keys from the configuration."""

    def __init__(self, keys: Iterable[SigningKey]) -> None:
        self._keys = tuple(keys)

    async def find(self, kid: str | None, fits: Callable[[Any], bool]) -> Any | None:
        """See ``KeySource``. A single key without an id of its own answers to any."""
        if len(self._keys) == 1 and self._keys[0].kid is None:
            kid = None
        return choose(self._keys, kid, fits)


class RemoteKeys:
    """Keys that their issuer publishes.

    They are fetched when they are first needed, again when a token names one that is not there or
    when they get as old as ``fresh_seconds``, but never twice in ten seconds, and once for all who
    wait. In the last fifth of that time they are fetched beside the requests; at its end requests
    wait for new ones, so that one that was withdrawn is used no longer. While they cannot be
    fetched those that are there are used up to ``stale_seconds``, without a wait.

    Args:
        load: Fetches and reads them.
        fresh_seconds: Above 0.
        stale_seconds: At least ``fresh_seconds``.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        load: Callable[[], Awaitable[tuple[SigningKey, ...]]],
        *,
        fresh_seconds: float,
        stale_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._load = load
        self._fresh = fresh_seconds
        self._stale = stale_seconds
        self._clock = clock
        self._keys: tuple[SigningKey, ...] = ()
        self._loaded_at: float | None = None
        self._tried_at: float | None = None
        self._failed_at: float | None = None
        self._refreshing: asyncio.Task[None] | None = None

    async def find(self, kid: str | None, fits: Callable[[Any], bool]) -> Any | None:
        """See ``KeySource``."""
        now, loaded_at = self._clock(), self._loaded_at
        if loaded_at is None:
            await self._refresh()
        elif now >= loaded_at + self._fresh * AHEAD:
            self._begin(now)
            if self._is_over(now, loaded_at):
                await self._refresh()
        key = choose(self._current(), kid, fits)
        if key is None:
            await self._refresh()
            key = choose(self._current(), kid, fits)
            if key is None and self._failed_at is not None:
                raise StoreError("the issuer's keys could not be fetched")
        return key

    async def aclose(self) -> None:
        """Stop fetching."""
        if self._refreshing is not None:
            self._refreshing.cancel()

    def _current(self) -> tuple[SigningKey, ...]:
        if self._loaded_at is None or self._clock() >= self._loaded_at + self._stale:
            raise StoreError("the issuer's keys could not be fetched")
        return self._keys

    def _is_over(self, now: float, loaded_at: float) -> bool:
        """Whether the time of the keys is over, so that others are waited for."""
        if now >= loaded_at + self._stale:
            return True
        # Each try at an issuer that hangs lasts to its deadline, and the next comes soon.
        is_silent = self._failed_at is not None and now < self._failed_at + self._fresh
        return now >= loaded_at + self._fresh and not is_silent

    async def _refresh(self) -> None:
        self._begin(self._clock())
        if self._refreshing is not None:
            # Shielded: one who stops waiting must not stop the others.
            await asyncio.shield(self._refreshing)

    def _begin(self, now: float) -> None:
        """Fetch them beside whoever asks, unless that goes on, or was begun a moment ago."""
        if self._refreshing is not None:
            return
        if self._tried_at is not None and now < self._tried_at + REFETCH_SECONDS:
            return
        self._tried_at = now
        self._refreshing = asyncio.get_running_loop().create_task(self._fetch(now))
        self._refreshing.add_done_callback(self._refreshed)

    def _refreshed(self, task: asyncio.Task[None]) -> None:
        self._refreshing = None

    async def _fetch(self, now: float) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                keys = await self._load()
        except Exception as error:
            self._failed_at = now
            logger.warning("an issuer's keys could not be fetched:\n%s", describe(error))
        else:
            self._failed_at = None
            self._keys, self._loaded_at = keys, now


async def discovered(issuer: str, fetch: Fetch) -> str:
    """The URL of an issuer's keys, as its discovery document names it.

    Raises:
        ValueError: The document is another issuer's, or its keys are less protected than itself.
    """
    document = msgspec.json.decode(await fetch(issuer.rstrip("/") + DISCOVERY_PATH))
    if not isinstance(document, dict) or document.get("issuer") != issuer:
        raise ValueError("the discovery document names another issuer")
    url = document.get("jwks_uri")
    if not isinstance(url, str) or urlsplit(url).scheme not in ("https", urlsplit(issuer).scheme):
        raise ValueError("the discovery document names no URL for the keys")
    return url
