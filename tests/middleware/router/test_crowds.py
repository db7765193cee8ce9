"""Many requests at once, at targets that do anything: what is counted stays right."""

from __future__ import annotations

import asyncio
import random

import pytest

from asgi_llm.middleware.cost import CostMiddleware
from asgi_llm.middleware.router import RouterMiddleware
from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.openai import OpenAI
from asgi_llm.routing.retries import RetryBudget
from asgi_llm.routing.strategies import Load
from asgi_llm.stores.breakers import BreakerPolicy
from asgi_llm.stores.breakers_memory import MemoryBreakers
from asgi_llm.testing import (
    ReceivedRequest,
    Reply,
    Reset,
    Upstream,
    chat_answer,
    chat_events,
    error_answer,
    json_reply,
    sse_reply,
)
from tests.middleware.cost.conftest import NineTokens, Notes
from tests.middleware.router.conftest import HELLO, Clocked, exchange_of, route
from tests.middleware.router.test_rows import PRICES

REQUESTS = 150


class Moody:
    """Answers well, badly, or not at all, as the dice fall."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def __call__(self, request: ReceivedRequest) -> Reply:
        streams = request.json().get("stream", False)
        events = chat_events("One two three.")
        return self._random.choice(
            (
                sse_reply(events) if streams else json_reply(chat_answer()),
                error_answer(500),
                error_answer(429, headers={"retry-after": "1"}),
                error_answer(400, code="bad"),
                Reply(before=(Reset(),)),
                sse_reply([*events[:2], Reset()], done=False),
            )
        )


@pytest.mark.parametrize("hedge_after_seconds", (None, 0.001))
@pytest.mark.parametrize("seed", range(3))
async def test_nothing_is_lost_and_nothing_is_left(
    seed: int, hedge_after_seconds: float | None
) -> None:
    """A row for each call that the providers saw, no count that stays, and one answer each."""
    notes, load, dice = Notes(), Load(), random.Random(seed)
    names = ("a", "b")
    async with (
        asyncio.timeout(60),
        Upstream(Moody(seed)) as first,
        Upstream(Moody(seed + 100)) as second,
    ):
        ups = dict(zip(names, (first, second), strict=True))
        app = ProviderApp(
            [OpenAI(name=n, api_key="k", base_url=f"{up.url}/v1") for n, up in ups.items()]
        )
        router = RouterMiddleware(
            app,
            routes=[route("a", "b", strategy="weighted", fallbacks=("c",)), route("b/z", name="c")],
            attempts=4,
            sleep=Clocked().sleep,
            load=load,
            hedge_after_seconds=hedge_after_seconds,
            retry_budget=RetryBudget(share=1, burst=1000),
            breakers=MemoryBreakers(
                policy=BreakerPolicy(failures=10**6, max_retry_after_seconds=0)
            ),
        )
        metered = CostMiddleware(router, prices=PRICES, journal=notes, token_counter=NineTokens())

        async def one(streams: bool, leaves: bool) -> None:
            async with exchange_of(metered, {**HELLO, "stream": streams}) as exchange:
                if leaves:
                    exchange.disconnect()
                recorder = await exchange.finish()
            if not leaves:
                starts = [m for m in recorder.messages if m["type"] == "http.response.start"]
                assert 1 == len(starts)
                assert recorder.complete
                calls = recorder.header("x-attempts")
                assert calls is None or 1 <= int(calls) <= 4

        asked = [(dice.random() < 0.5, dice.random() < 0.1) for _ in range(REQUESTS)]
        await asyncio.gather(*(one(*kind) for kind in asked))
        await app.aclose()
        seen = sum(len(up.ledger) for up in ups.values())
        for name in ("a/m", "b/m", "b/z"):
            assert 0 == load.in_flight(name)
        reached = [row for row in notes.rows if row.provider is not None]
        # A call that was ended before it was sent has a row, too; none that was sent has none.
        ended = sum(leaves for _, leaves in asked) if hedge_after_seconds is None else REQUESTS
        assert seen <= len(reached) <= seen + ended
        assert len(reached) == len({row.id for row in reached})
        attempts: dict[str, list[int]] = {}
        for row in reached:
            attempts.setdefault(row.request_id, []).append(row.attempt)
        assert all(4 >= max(numbers) for numbers in attempts.values())
