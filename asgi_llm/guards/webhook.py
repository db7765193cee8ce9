"""A guard of your own, behind a URL."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

import msgspec

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.guards._calls import JsonPost, checked_transport
from asgi_llm.guards.base import Finding, GuardContext, GuardCost
from asgi_llm.transports._signature import signature_header
from asgi_llm.transports.base import Transport

__all__ = ["WebhookGuard"]

_SHORTEST_SECRET: Final = 16
_MAX_FINDINGS: Final = 1000


class _Found(msgspec.Struct):
    category: str
    start: int = 0
    end: int = 0
    score: float = 1.0
    reason: str = ""


class _Answer(msgspec.Struct):
    findings: list[_Found]


class WebhookGuard:
    """Asks a service of yours, by a signed POST.

    The body is ``{"text", "direction", "role", "path", "model"}``; the answer
    ``{"findings": [{"category", "start", "end", "score", "reason"}]}``, of which only ``category``
    is needed; ``start`` and ``end`` count characters (code points), and a finding without them is
    about the whole text. ``X-Signature`` is ``t=<Unix time>,v1=<hex>``, the HMAC-SHA256 of the
    time, a dot and the body.

    Args:
        url: Where to. Its addresses must be public, unless ``transport`` says otherwise.
        secret: Signs; at least 16 characters.
        transport: The way there. Default: one that connects to public addresses alone, closed by
            ``aclose``. The caller closes one of its own.
        timeout_seconds: Deadline of one call, above 0.
        window: The most characters of a finding, so that streams can be checked piece by piece.
            None: only whole texts.
        name: Names it in verdicts.
        wall_clock: Unix time in seconds.

    Raises:
        ConfigurationError: An option is wrong.
    """

    cost: ClassVar[GuardCost] = "remote"

    def __init__(
        self,
        url: str,
        *,
        secret: str,
        transport: Transport | None = None,
        timeout_seconds: float = 2.0,
        window: int | None = None,
        name: str = "webhook",
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if len(secret) < _SHORTEST_SECRET:
            raise ConfigurationError(
                f"secret must have at least {_SHORTEST_SECRET} characters", param="secret"
            )
        if window is not None and window < 1:
            raise ConfigurationError("window must be at least 1", param="window")
        self.name = name
        self.window = window
        self._secret = secret.encode()
        self._owned: Transport | None = None
        if transport is None:
            transport = self._owned = checked_transport()
        self._post = JsonPost(url, transport=transport, timeout_seconds=timeout_seconds)
        self._wall_clock = wall_clock

    async def check(self, text: str, context: GuardContext) -> Sequence[Finding]:
        """What the service finds.

        Raises:
            StoreError: It did not answer, or with something else.
        """
        body = msgspec.json.encode(
            {
                "text": text,
                "direction": context.direction,
                "role": context.role,
                "path": context.path,
                "model": context.model,
            }
        )
        signature = signature_header(self._secret, body, self._wall_clock())
        answer: Any = await self._post(body, [signature])
        try:
            found = msgspec.convert(answer, _Answer).findings
        except msgspec.ValidationError as error:
            raise StoreError("the webhook answered in another format") from error
        if len(found) > _MAX_FINDINGS:
            raise StoreError("the webhook answered with too many findings")
        size = len(text)
        for one in found:
            if not (0 <= one.start <= one.end <= size and 0 <= one.score <= 1 and one.category):
                raise StoreError("the webhook answered with a finding outside the text")
        return [
            Finding(
                start=one.start,
                end=one.end,
                category=one.category[:100],
                score=one.score,
                reason=one.reason[:200],
            )
            for one in sorted(found, key=lambda one: (one.start, one.end))
        ]

    async def aclose(self) -> None:
        """Close what was opened here. Idempotent."""
        if self._owned is not None:
            await self._owned.aclose()
