"""What is awaited once for each request. C has objects for it that take less than coroutines."""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.types import Message

from asgi_llm.middleware._cache_flight import Flight, Flights

__all__ = ["drive", "hand_on"]


async def hand_on(flight: Flight, data: bytes) -> Message:
    """The first message of the ``receive`` of a flight: a body, to whoever awaits it first."""
    if flight._given:
        return await flight.receive()
    flight._given = True
    return {"type": "http.request", "body": data, "more_body": False}


async def drive(running: Awaitable[None], flights: Flights, key: bytes, flight: Flight) -> None:
    """Await an app that answers. Whatever comes of that, then its flight is over."""
    try:
        await running
    finally:
        flights.end(key, flight)
