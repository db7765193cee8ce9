"""The request of one who follows: answered out of what another's call brings."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Final

from starlette.types import Receive, Send

from asgi_llm._asgi import stream_error
from asgi_llm.errors import ProviderUnavailableError
from asgi_llm.middleware._cache_flight import Departure, Flight
from asgi_llm.middleware._cache_replay import answer_body, hit_report, replay, start_message
from asgi_llm.middleware._cache_request import CacheRequest
from asgi_llm.state import CACHE_STATUS, FAILURE, State
from asgi_llm.types import CacheReport

__all__ = ["Followed", "follow_flight"]


class Followed(Enum):
    """What came of following."""

    SERVED = "served"
    LEFT = "left"
    """The client has left."""
    NOTHING = "nothing"
    """Nothing came of the flight for this request, and nothing was sent."""
    LATE = "late"
    """It took too long, and nothing was sent."""


_SHARED: Final = CacheReport(status="hit", type="exact")


async def follow_flight(
    flight: Flight,
    request: CacheRequest,
    send: Send,
    receive: Receive,
    state: State,
    *,
    wait_seconds: float,
) -> Followed:
    """Answer ``request`` out of ``flight``.

    A stream that is asked for in the same form leaves as it comes; for all else its end is waited
    for.

    Args:
        flight: Which the caller has joined; it is left here.
        request: One with the same key.
        send: The client's.
        receive: The host's own, after the body has been read.
        state: Of the request.
        wait_seconds: How long to wait for the answer, or for its beginning.
    """
    asked = flight.request
    live = request.streams and asked.streams and request.tells_usage == asked.tells_usage
    departure: Departure | None = None
    try:
        while flight.looking and not flight.over:
            await flight.change()
        if not flight.over:
            departure = Departure(receive)
            outcome = await _begun_or_over(flight, departure, live, wait_seconds)
            if outcome is not None:
                return outcome
            if live and flight.has_begun:
                await _relay(flight, send, state, departure)
                return Followed.SERVED
        answer = flight.answer
        body = None if answer is None else await answer_body(answer, request)
        if answer is None or body is None:
            return Followed.NOTHING
        await replay(
            send,
            state,
            answer,
            body,
            report=hit_report(answer, "exact"),
            streams=request.streams,
            age_seconds=flight.age_seconds,
        )
        return Followed.SERVED
    finally:
        flight.leave()
        if departure is not None:
            await departure.close()


async def _begun_or_over(
    flight: Flight, departure: Departure, live: bool, wait_seconds: float
) -> Followed | None:
    """Wait for the end or, where that will do, the beginning; what came before it, if anything."""
    timer = flight.loop.create_future()
    handle = flight.loop.call_later(wait_seconds, _ring, timer)
    try:
        while not flight.over and not (live and flight.has_begun):
            change = flight.change()
            if await departure.comes_before(_either(change, timer)):
                return Followed.LEFT
            if timer.done() and not change.done():
                return Followed.LATE
        return None
    finally:
        handle.cancel()


def _ring(timer: asyncio.Future[None]) -> None:
    if not timer.done():
        timer.set_result(None)


def _either(one: asyncio.Future[None], other: asyncio.Future[None]) -> asyncio.Future[None]:
    """Done when one of them is; neither is cancelled."""
    both = one.get_loop().create_future()

    def ring(_: asyncio.Future[None]) -> None:
        other.remove_done_callback(ring)
        _ring(both)

    one.add_done_callback(ring)
    other.add_done_callback(ring)
    return both


async def _relay(flight: Flight, send: Send, state: State, departure: Departure) -> None:
    """Send a stream on as it comes."""
    head = flight.head
    assert head is not None  # noqa: S101  it has begun
    state.set(CACHE_STATUS, _SHARED)
    await send(
        start_message(
            state,
            head.headers,
            streams=True,
            in_its_form=True,
            cache_type="exact",
            age_seconds=0.0,
            length=-1,
        )
    )
    place = 0
    while True:
        over = flight.over
        taken = flight.take(place)
        if taken is None or (over and not flight.whole):
            await _break_off(send, state)
            return
        chunk, place = taken
        if over:
            if flight.answer is not None:
                # Before the last byte, for those who meter it.
                state.set(CACHE_STATUS, hit_report(flight.answer, "exact"))
            await send({"type": "http.response.body", "body": chunk})
            return
        if chunk:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        elif await departure.comes_before(flight.change()):
            return


async def _break_off(send: Send, state: State) -> None:
    error = ProviderUnavailableError("The stream broke off.")
    state.set(FAILURE, error)
    await send({"type": "http.response.body", "body": stream_error(error)})
