"""One request at the exact cache: looked up, led, or following another that asks the same."""

from __future__ import annotations

import os
from collections.abc import Awaitable
from typing import Final

from starlette.types import Receive, Scope, Send

from asgi_llm._asgi import send_error
from asgi_llm.errors import LLMError, StoreError
from asgi_llm.middleware._cache_controls import not_cached
from asgi_llm.middleware._cache_embeddings import EmbeddingBatch, read_items
from asgi_llm.middleware._cache_flight import Departure, Flight
from asgi_llm.middleware._cache_follow import Followed, follow_flight
from asgi_llm.middleware._cache_lead import LedAnswer
from asgi_llm.middleware._cache_refresh import forked_scope, receive_nothing, send_nowhere
from asgi_llm.middleware._cache_replay import MISS, answer_body, hit_report, replay
from asgi_llm.middleware._cache_request import CacheRequest
from asgi_llm.middleware._cache_settings import ExactSettings
from asgi_llm.state import CACHE_STATUS, FAILURE, State, enter
from asgi_llm.stores.cache import Found, StoredAnswer

__all__ = ["ExactLookup", "serve"]

_FIRST_PAUSE_SECONDS: Final = 0.01
_LONGEST_PAUSE_SECONDS: Final = 0.1
_SLOWER: Final = 1.5


def serve(
    settings: ExactSettings,
    answer: StoredAnswer,
    body: bytes,
    send: Send,
    state: State,
    streams: bool,
    age_seconds: float,
) -> Awaitable[None]:
    """Serve what was stored.

    Args:
        settings: Of the layer.
        answer: From the store.
        body: It, in the form that is wanted.
        send: The client's.
        state: Of the request.
        streams: Whether the client wants events.
        age_seconds: Of the answer.
    """
    report = hit_report(answer, "exact")
    settings.counts.note_hit(report)
    return replay(
        send,
        state,
        answer,
        body,
        report=report,
        streams=streams,
        age_seconds=age_seconds,
        event_seconds=settings.event_seconds,
        sleep=settings.sleep,
    )


class ExactLookup:
    """One request.

    Args:
        settings: Of the layer.
        request: What the cache knows of it.
        key: Its digest.
        scope: Its scope.
        data: Its body.
        receive: The host's own.
        send: The client's.
        state: Its state.
    """

    __slots__ = (
        "_batch",
        "_data",
        "_fallback",
        "_key",
        "_owner",
        "_receive",
        "_request",
        "_scope",
        "_send",
        "_settings",
        "_state",
    )

    def __init__(
        self,
        settings: ExactSettings,
        request: CacheRequest,
        key: bytes,
        scope: Scope,
        data: bytes,
        receive: Receive,
        send: Send,
        state: State,
    ) -> None:
        self._settings = settings
        self._request = request
        self._scope = scope
        self._data = data
        self._receive = receive
        self._send = send
        self._state = state
        self._key = key
        self._fallback: tuple[Found, bytes] | None = None
        self._batch: EmbeddingBatch | None = None
        # Under which this one holds the right to make the answer; None: it does not.
        self._owner: str | None = None

    async def run(self, found: Found | None) -> None:
        """Answer the request.

        Args:
            found: What a store that never waits had.
        """
        settings, controls = self._settings, self._request.controls
        try:
            if self._request.operation == "embeddings":
                if await self._looked_up_items():
                    return
            elif controls.looks:
                if settings.memory is None and not (settings.shares and controls.shares):
                    # Else the claim looks as well.
                    found = (await settings.calls.get((self._key,)))[0]
                if found is not None and await self._serve_found(found):
                    return
        except StoreError as error:
            await self._refuse(error)
            return
        if controls.only_cached:
            await self._refuse(not_cached())
        elif settings.shares and controls.shares:
            await self._share()
        else:
            await self._lead(self._led())

    async def _looked_up_items(self) -> bool:
        settings, request = self._settings, self._request
        items = read_items(request.document.get("input"))
        if items is None:
            return False
        batch = EmbeddingBatch(settings.app, request, items, fresh_seconds=settings.ttl_seconds)
        if request.controls.looks:
            if settings.memory is not None:
                batch.know([settings.memory.look(key) for key in batch.keys])
            else:
                batch.know(await settings.calls.get(batch.keys))
        settings.counts.items_asked += len(batch.keys)
        settings.counts.items_found += batch.found
        answer = batch.answer()
        if answer is not None:
            await self._serve(answer, answer.body, batch.age_seconds)
            return True
        self._batch = batch
        return False

    async def _serve_found(self, found: Found, flight: Flight | None = None) -> bool:
        """Serve what a store had, if that will do for this request; whether it did.

        The right to make it anew is passed on, or given back, where this serves.

        Args:
            found: From the store.
            flight: Who else waits for it.
        """
        request, settings = self._request, self._settings
        answer, age = found.answer, found.age_seconds
        late = age - answer.fresh_seconds
        if late > settings.longest_stale_seconds or not request.controls.allow(age):
            return False
        body = answer.body
        if answer.is_stream != request.streams or (
            answer.is_stream and answer.tells_usage != request.tells_usage
        ):
            converted = await answer_body(answer, request)
            if converted is None:
                return False
            body = converted
        if late > 0:
            if late > settings.revalidate_seconds:
                if late <= settings.if_error_seconds:
                    self._fallback = (found, body)
                return False
            settings.counts.stale += 1
            if self._owner is not None or (settings.memory is not None and request.controls.stores):
                await self._refresh()
        else:
            # Store and layer reckon in other units: at the border it may be old for one alone.
            await self._give_back()
        if flight is not None:
            flight.finish(answer, age)
        await self._serve(answer, body, age)
        return True

    async def _serve(self, answer: StoredAnswer, body: bytes, age_seconds: float) -> None:
        await serve(
            self._settings,
            answer,
            body,
            self._send,
            self._state,
            self._request.streams,
            age_seconds,
        )

    async def _share(self) -> None:
        """Follow who asks the same just now, or lead."""
        settings, key = self._settings, self._key
        flights = settings.flights
        last: Flight | None = None
        ordinal = 0
        while True:
            flight = flights.find(key)
            if flight is None or flight is last:
                led = self._led()
                if last is not None:
                    led.failures = last.failures + 1
                flights.begin(key, led)
                try:
                    await self._lead_others(led, settings.wait_seconds)
                finally:
                    flights.end(key, led)
                return
            if last is not None and flight.may_go_alone(ordinal):
                break
            ordinal = flight.join()
            outcome = await follow_flight(
                flight,
                self._request,
                self._send,
                self._receive,
                self._state,
                wait_seconds=settings.wait_seconds,
            )
            if outcome is Followed.SERVED:
                settings.counts.shared += 1
                settings.counts.note_hit(self._state.get(CACHE_STATUS))
                return
            if outcome is Followed.LEFT:
                return
            if outcome is Followed.LATE:
                break
            last = flight
        await self._lead_others(self._led(), 0.0)

    async def _lead_others(self, led: LedAnswer, wait_seconds: float) -> None:
        """Make the answer, unless another process has it or, for so long at most, is at it."""
        try:
            if await self._is_ours(led, wait_seconds):
                if self._owner is not None:
                    self._settings.calls.hold(self._key, self._owner)
                await self._lead(led)
        finally:
            await self._give_back()

    async def _is_ours(self, led: LedAnswer, wait_seconds: float) -> bool:
        """Whether the answer is to be made here; where not, the request is dealt with."""
        settings = self._settings
        if settings.memory is not None or self._batch is not None:
            return True
        led.looking = True
        owner = os.urandom(12).hex()
        until = settings.clock() + wait_seconds
        pause = _FIRST_PAUSE_SECONDS
        departure: Departure | None = None
        try:
            while True:
                claim = await settings.calls.claim(self._key, owner, max_age_seconds=None)
                if claim.leased:
                    self._owner = owner
                found = claim.found
                if found is not None and await self._serve_found(found, led):
                    return False
                if led.looking:
                    led.begin()
                if (
                    claim.leased
                    or (found is not None and found.age_seconds <= found.answer.fresh_seconds)
                    or settings.clock() >= until
                ):
                    break
                if departure is None:
                    departure = Departure(self._receive)
                await settings.sleep(pause)
                pause = min(pause * _SLOWER, _LONGEST_PAUSE_SECONDS)
                led.has_left = departure.has_left
                if led.has_left and not led.followers:
                    return False
        except StoreError as error:
            led.finish(None)
            await self._refuse(error)
            return False
        finally:
            if departure is not None:
                await departure.close()
        return True

    async def _lead(self, led: LedAnswer) -> None:
        """Let the app answer, and keep what comes of it."""
        settings, fallback = self._settings, self._fallback
        settings.counts.misses += 1
        self._state.set(CACHE_STATUS, MISS)
        app = settings.app if self._batch is None else self._batch
        try:
            if fallback is None:
                await app(self._scope, led.receive, led.send)
            else:
                await led.run_or_fail(app)
                if led.failed:
                    found, body = fallback
                    settings.counts.stale += 1
                    # Which the client does not meet.
                    self._state.discard(FAILURE)
                    led.finish(found.answer, found.age_seconds)
                    await self._serve(found.answer, body, found.age_seconds)
        finally:
            led.finish(None)
            if settings.memory is None or self._batch is not None:
                owner, self._owner = self._owner, None
                await self._put(led, owner)

    def _led(self) -> LedAnswer:
        return LedAnswer(
            self._settings,
            self._request,
            self._key,
            self._data,
            self._scope,
            self._receive,
            self._send,
            self._state,
        )

    async def _put(self, led: LedAnswer, owner: str | None) -> None:
        """Keep what came where that takes waiting, and give back the right to make it."""
        settings = self._settings
        if self._batch is not None:
            entries = self._batch.entries
            settings.counts.writes += len(entries)
            if settings.memory is not None:
                for key, answer in entries:
                    settings.memory.put(key, answer)
            elif entries:
                await settings.calls.set(entries)
        elif led.kept is not None:
            await settings.calls.set(((self._key, led.kept),), owner)
        elif owner is not None:
            await settings.calls.release(self._key, owner)

    async def _refresh(self) -> None:
        """Make the answer anew behind this request, unless that is being done."""
        settings = self._settings
        if settings.refreshes.has_room_for(self._key):
            scope = forked_scope(self._scope, self._state)
            owner, self._owner = self._owner, None
            settings.counts.refreshes += 1
            settings.refreshes.begin(self._key, self._made_anew(scope, owner))
        else:
            await self._give_back()

    async def _give_back(self) -> None:
        """Give the right to make the answer back, where it is still held."""
        owner, self._owner = self._owner, None
        if owner is not None:
            await self._settings.calls.release(self._key, owner)

    async def _made_anew(self, scope: Scope, owner: str | None) -> None:
        settings = self._settings
        state = enter(scope)[1]
        state.set(CACHE_STATUS, MISS)
        if owner is not None:
            settings.calls.hold(self._key, owner)
        led = LedAnswer(
            settings,
            self._request,
            self._key,
            self._data,
            scope,
            receive_nothing,
            send_nowhere,
            state,
        )
        try:
            if not settings.refreshes.is_closed:
                await settings.refresh_app(scope, led.receive, led.send)
        finally:
            if settings.memory is None:
                await self._put(led, owner)

    async def _refuse(self, error: LLMError) -> None:
        self._state.set(FAILURE, error)
        await send_error(self._send, self._state, error)
