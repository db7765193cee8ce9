"""One call for all who ask the same at the same time: who makes it, and who follows."""

from __future__ import annotations

import asyncio
from asyncio import get_running_loop
from collections.abc import Awaitable
from typing import Any, Final

from starlette.types import Message, Receive

from asgi_llm import _sse
from asgi_llm.middleware._cache_answer import AnswerHead
from asgi_llm.middleware._cache_request import CacheRequest
from asgi_llm.stores._kept_answer import KeptAnswer
from asgi_llm.stores.cache import StoredAnswer

__all__ = ["Departure", "Flight", "Flights"]

_MOST_DOUBLINGS: Final = 16


class Flight:
    """An answer that is being made, and those who wait for it.

    Its bytes are kept once for all, up to a cap. Of a longer answer only the end is kept, as long
    as the cap, for those who follow it already: a follower whose client is slower than that is cut
    off, and slows nobody.

    Args:
        request: The one that asks for it.

    Attributes:
        loop: The event loop that it is made in.
        request: The one that asks for it.
        parts: Its bytes so far, as far as they are kept; None: there are none.
        failures: Flights for the same answer, in a row before this one, of which nothing came.
        followers: How many wait for it now.
        head: Its start; None till it began.
        age_seconds: Of ``answer``.
        over: Whether it is.
        looking: Whether it is still being looked for in the store, which takes no time to speak of.
        too_long: Whether it outgrew ``max_bytes``.
        whole: Whether its end has come, whatever is in it.
    """

    __slots__ = (
        "_answer",
        "_dropped",
        "_given",
        "_kept",
        "_size",
        "_visible",
        "_waiting",
        "age_seconds",
        "failures",
        "followers",
        "head",
        "joined",
        "looking",
        "loop",
        "over",
        "parts",
        "request",
        "too_long",
        "whole",
    )

    def __init__(self, request: CacheRequest) -> None:
        self._set_out(request)

    def _set_out(self, request: CacheRequest) -> None:
        self.loop = get_running_loop()
        self.request = request
        # Of most flights nothing has to be kept, and nobody follows them.
        self.parts: list[bytes] | None = None
        self.failures = 0
        self.followers = 0
        self.joined = 0
        self.head: AnswerHead | None = None
        self._answer: StoredAnswer | None = None
        self._kept: KeptAnswer | None = None
        self.age_seconds = 0.0
        self.over = False
        self.looking = False
        self.too_long = False
        self.whole = False
        self._dropped = 0
        self._given = False
        self._size = 0
        self._visible = 0
        self._waiting: list[asyncio.Future[None]] | None = None

    @property
    def answer(self) -> StoredAnswer | None:
        """What came of it, once it is over; None: nothing that can be shared."""
        return self._answer if self._kept is None else self._kept.answer

    @property
    def has_begun(self) -> bool:
        """Whether there is something of a stream for followers to send on."""
        return self.head is not None and self.head.is_stream and self._visible > 0

    def feed(self, chunk: bytes, max_bytes: int) -> None:
        """A piece of the answer has come.

        Args:
            chunk: The piece.
            max_bytes: Cap on what is kept of all of them.
        """
        if self.parts is None:
            self.parts = []
        self.parts.append(chunk)
        self._size += len(chunk)
        if self._size > max_bytes:
            self._drop(max_bytes)
        # The end is held back until it is known what came of the whole.
        if self.followers and not chunk.endswith(_sse.DONE):
            self._visible = self._dropped + len(self.parts)
            self._wake()

    def body(self) -> bytes:
        """All of it; only for an answer that is not too long."""
        parts = self.parts or ()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def finish(self, answer: StoredAnswer | None, age_seconds: float = 0.0) -> None:
        """It is over, and ``answer`` came of it; None: nothing that can be shared."""
        if self.over:
            return
        self.over = True
        self._answer = answer
        if age_seconds:
            self.age_seconds = age_seconds
        if self.followers:
            self._show_all()

    def finish_with(self, kept: KeptAnswer) -> None:
        """It is over, and ``kept`` came of it."""
        if self.over:
            return
        self.over = True
        self._kept = kept
        if self.followers:
            self._show_all()

    def _show_all(self) -> None:
        self._visible = self._dropped + len(self.parts or ())
        self._wake()

    def begin(self) -> None:
        """The store does not have it: it is being made."""
        self.looking = False
        self._wake()

    def join(self) -> int:
        """Follow; how many did so before."""
        if not self.followers and not self.over and self.parts:
            last = self.parts[-1].endswith(_sse.DONE)
            self._visible = self._dropped + len(self.parts) - last
        self.followers += 1
        self.joined += 1
        return self.joined - 1

    def leave(self) -> None:
        """Follow no more."""
        self.followers -= 1
        if not self.followers:
            self._wake()

    def take(self, place: int) -> tuple[bytes, int] | None:
        """What has come since ``place``, and the new place; None: it is not kept any more."""
        if place < self._dropped:
            return None
        start, end = place - self._dropped, self._visible - self._dropped
        return b"".join((self.parts or ())[start:end]), self._visible

    def receive(self) -> Awaitable[Message]:
        """The ``receive`` for the app that makes it."""
        raise TypeError("this one has no app")

    def change(self) -> asyncio.Future[None]:
        """Done when something has happened. It must not be awaited from another loop."""
        waiter = get_running_loop().create_future()
        if self._waiting is None:
            self._waiting = []
        self._waiting.append(waiter)
        return waiter

    async def until_deserted(self) -> None:
        """Return when nobody follows any more, or there is nothing left to follow."""
        while self.followers and not self.over:
            await self.change()

    def may_go_alone(self, ordinal: int) -> bool:
        """Whether a follower of the flight before this one may call for itself beside this one.

        Of so many failures in a row the number of those that call at once doubles with each: an
        app that is in trouble meets no herd, and nobody waits for hundreds of others to fail.
        """
        return self.failures > 0 and ordinal < 2 ** min(self.failures - 1, _MOST_DOUBLINGS)

    def _drop(self, max_bytes: int) -> None:
        """Keep the last ``max_bytes`` for those who follow, and nothing for those who do not."""
        self.too_long = True
        parts = self.parts or []
        at = 0
        while at < len(parts) and (not self.followers or self._size > max_bytes):
            self._size -= len(parts[at])
            at += 1
        del parts[:at]
        self._dropped += at

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        for waiter in waiting or ():
            if not waiter.done():
                waiter.set_result(None)


class Flights:
    """The flights of one layer, by key."""

    __slots__ = ("_under_way",)

    def __init__(self) -> None:
        self._under_way: dict[bytes, Flight] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def find(self, key: bytes) -> Flight | None:
        """The flight for ``key`` that can be followed; None: there is none.

        One that another event loop has begun cannot be.
        """
        flight: Flight | None = self._under_way.get(key)
        if (
            flight is None
            or flight.too_long
            # Its app may still be at something when its answer is long whole.
            or (
                flight.over
                and flight._answer is None
                and (flight._kept is None or not flight._kept.may_be_stored)
            )
            or flight.loop is not get_running_loop()
        ):
            return None
        return flight

    def begin(self, key: bytes, flight: Flight) -> None:
        """From now on ``flight`` is the one for ``key``."""
        self._under_way[key] = flight

    def end(self, key: bytes, flight: Flight) -> None:
        """Whatever came of ``flight``, it is over, and nobody can join it any more."""
        if not flight.over:
            flight.finish(None)
        if self._under_way.get(key) is flight:
            del self._under_way[key]


class Departure:
    """Notices that a client has left while its request waits for something else.

    Args:
        receive: The host's own, after the body has been read.
    """

    __slots__ = ("_left",)

    def __init__(self, receive: Receive) -> None:
        self._left: asyncio.Future[Message] = asyncio.ensure_future(_next_message(receive))

    @property
    def has_left(self) -> bool:
        """Whether the client has left."""
        return self._left.done()

    async def comes_before(self, other: asyncio.Future[Any]) -> bool:
        """Wait for ``other``, or for the client to leave; whether that came first."""
        if not self._left.done():
            await asyncio.wait((self._left, other), return_when=asyncio.FIRST_COMPLETED)
        return not other.done()

    async def close(self) -> None:
        """Look no more."""
        if not self._left.done():
            self._left.cancel()
            await asyncio.wait((self._left,))
        if not self._left.cancelled():
            # What the host raises here it raises again to whoever asks next.
            self._left.exception()


async def _next_message(receive: Receive) -> Message:
    return await receive()
