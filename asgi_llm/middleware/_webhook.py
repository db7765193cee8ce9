"""Alerts by webhook: signed, and repeated where nobody answers."""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import msgspec

from asgi_llm.errors import ConfigurationError, RawHeaders, StoreError
from asgi_llm.middleware._budget_alerts import BudgetAlert
from asgi_llm.pricing import format_usd
from asgi_llm.transports._signature import signature_header

__all__ = ["Post", "SignedWebhook"]

_TRY_AGAIN: Final = frozenset((408, 425, 429))
_SHORTEST_SECRET: Final = 16


class Post(Protocol):
    """Sends a request. It has a deadline, follows no redirect, and keeps to the address rules."""

    async def __call__(self, url: str, *, headers: RawHeaders, body: bytes) -> int:
        """The status of the answer to a POST.

        Raises:
            Exception: There was no answer, or the address may not be reached.
        """
        ...


class SignedWebhook:
    """A ``Notify`` that posts each alert as JSON to one URL.

    The body has a ``text``, escaped as Slack wants it, and the figures. Its header
    ``X-Signature`` is ``t=<Unix time>,v1=<hex>``: the HMAC-SHA256 of the time, a dot and the body.
    Whoever gets it refuses times that are some minutes old; a repeated attempt is signed anew, with
    the same ``id``.

    Args:
        url: Where to; ``https``, or ``http`` for a service of one's own.
        secret: At least 16 characters. None: alerts are not signed, for a receiver whose address
            is the secret, as Slack's.
        post: Sends it. Which addresses may be reached is its to decide.
        max_attempts: From 1.
        base_delay_seconds: Wait before the second attempt; it doubles with each one more.
        max_delay_seconds: No wait is longer. Each is cut to between a half and the whole of itself.
        wall_clock: Unix time in seconds.
        sleep: Waits.
        draw: A number from 0 to 1.

    Raises:
        ConfigurationError: An option is wrong.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: str | None,
        post: Post,
        max_attempts: int = 5,
        base_delay_seconds: float = 1.0,
        max_delay_seconds: float = 60.0,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        if not url.startswith(("https://", "http://")):
            raise ConfigurationError("url must begin with https:// or http://", param="url")
        if secret is not None and len(secret) < _SHORTEST_SECRET:
            raise ConfigurationError(
                f"secret must have at least {_SHORTEST_SECRET} characters", param="secret"
            )
        if max_attempts < 1:
            raise ConfigurationError("max_attempts must be at least 1", param="max_attempts")
        for option, seconds in (
            ("base_delay_seconds", base_delay_seconds),
            ("max_delay_seconds", max_delay_seconds),
        ):
            if not 0 < seconds < math.inf:
                raise ConfigurationError(f"{option} must be above 0", param=option)
        self._url = url
        self._secret = None if secret is None else secret.encode()
        self._post = post
        self._max_attempts = max_attempts
        self._base_delay = base_delay_seconds
        self._max_delay = max_delay_seconds
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._draw = draw

    async def __call__(self, alert: BudgetAlert) -> None:
        """Post ``alert``.

        Raises:
            StoreError: Nobody took it, however often it was posted.
        """
        body = _body(alert)
        for attempt in range(self._max_attempts):
            if attempt:
                wait = min(self._max_delay, self._base_delay * 2 ** (attempt - 1))
                await self._sleep(wait * (0.5 + self._draw() / 2))
            try:
                status = await self._post(self._url, headers=self._headers(body), body=body)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                problem = type(error).__name__
                continue
            if 200 <= status < 300:
                return
            problem = f"status {status}"
            if status < 500 and status not in _TRY_AGAIN:
                break
        raise StoreError(f"the webhook did not take an alert: {problem}")

    def _headers(self, body: bytes) -> RawHeaders:
        headers = [(b"content-type", b"application/json"), (b"user-agent", b"asgi-llm")]
        if self._secret is not None:
            headers.append(signature_header(self._secret, body, self._wall_clock()))
        return headers


def _body(alert: BudgetAlert) -> bytes:
    figures = {
        "scope": alert.scope,
        "owner": alert.owner,
        "tag": alert.tag,
        "period": alert.period,
        "share": format_usd(alert.share),
        "amount_usd": format_usd(alert.amount_usd),
        "spent_usd": format_usd(alert.spent_usd),
        "hard": alert.hard,
        "at": alert.at,
    }
    # The same for the same alert, so that whoever gets it twice can tell.
    id = hashlib.sha256(msgspec.json.encode(figures)).hexdigest()[:32]
    return msgspec.json.encode(
        {"id": id, "type": "budget_alert", "text": _escaped(alert.text), "budget": figures}
    )


def _escaped(text: str) -> str:
    """A tag's value is a client's, and would else call a whole channel or hide a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
