"""Calls are timed on their way, and nothing else of the one who is called changes."""

from __future__ import annotations

import pytest

from asgi_llm.gateway._timed_calls import TimedCalls
from asgi_llm.testing import ManualClock


class Store:
    """Takes a second for a look, and two to fail."""

    name = "kept"

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock

    async def get(self, key: str, *, fails: bool = False) -> str:
        if fails:
            self.clock.advance(2)
            raise LookupError(key)
        self.clock.advance(1)
        return f"answer of {key}"

    async def set(self, key: str) -> str:
        self.clock.advance(4)
        return key


async def test_named_calls_are_timed_and_others_are_not() -> None:
    """Arguments, answers and exceptions pass as they are."""
    clock = ManualClock()
    seconds: list[float] = []
    timed = TimedCalls(Store(clock), ("get",), seconds.append, timer=clock)
    assert "answer of k" == await timed.get("k")
    with pytest.raises(LookupError, match="k2"):
        await timed.get("k2", fails=True)
    assert "k3" == await timed.set("k3")
    assert "kept" == timed.name
    assert [1.0, 2.0] == seconds
    assert not hasattr(timed, "health")
