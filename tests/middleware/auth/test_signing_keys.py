"""An issuer that does not answer, beside requests for which its keys are there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asgi_llm.errors import StoreError
from asgi_llm.middleware._signing_keys import RemoteKeys, SigningKey
from asgi_llm.testing import ManualClock

FRESH_SECONDS = 600.0
STALE_SECONDS = 3600.0
TURNS = 20


class Issuer:
    """Publishes one key, named like its value, and answers when it is let.

    Attributes:
        key: The one.
        tries: How often it was asked.
        error: What becomes of it in place of an answer.
        gate: Where it hangs.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.tries = 0
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self) -> tuple[SigningKey, ...]:
        """Answer, or not."""
        self.tries += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return (SigningKey(self.key, self.key),)


def keys_of(issuer: Issuer, clock: ManualClock) -> RemoteKeys:
    return RemoteKeys(
        issuer.load, fresh_seconds=FRESH_SECONDS, stale_seconds=STALE_SECONDS, clock=clock
    )


async def find(keys: RemoteKeys, kid: str) -> Any:
    return await keys.find(kid, lambda key: True)


async def turns() -> None:
    """Let all tasks go as far as they can."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def is_there_at_once(keys: RemoteKeys, kid: str) -> bool:
    """Whether the key is found without a wait for anything."""
    task = asyncio.create_task(find(keys, kid))
    await turns()
    if not task.done():
        task.cancel()
        return False
    return await task is not None


async def test_keys_are_fetched_beside_the_requests_before_they_are_too_old() -> None:
    """Who asks meanwhile gets those that are there, and who asks later the new ones."""
    clock, issuer = ManualClock(), Issuer("one")
    keys = keys_of(issuer, clock)
    await find(keys, "one")
    issuer.key = "two"
    issuer.gate.clear()
    clock.advance(FRESH_SECONDS * 0.8)
    for _ in range(5):
        assert await is_there_at_once(keys, "one")
    assert 2 == issuer.tries
    issuer.gate.set()
    await turns()
    assert await is_there_at_once(keys, "two")
    assert await find(keys, "one") is None


async def test_an_issuer_that_does_not_answer_holds_nobody_up() -> None:
    """It is asked every ten seconds, beside the requests, until the keys are too old."""
    clock, issuer = ManualClock(), Issuer("one")
    keys = keys_of(issuer, clock)
    await find(keys, "one")
    issuer.error = TimeoutError()
    issuer.gate.clear()
    clock.advance(FRESH_SECONDS * 0.8)
    seen = []
    for tries in range(2, 15):
        seen.append(await is_there_at_once(keys, "one"))
        assert tries == issuer.tries
        issuer.gate.set()
        await turns()
        issuer.gate.clear()
        seen.append(await is_there_at_once(keys, "one"))
        clock.advance(10)
    assert clock() > FRESH_SECONDS
    assert all(seen)
    clock.advance(STALE_SECONDS - clock())
    last = asyncio.create_task(find(keys, "one"))
    await turns()
    assert not last.done()
    issuer.gate.set()
    with pytest.raises(StoreError):
        await last


async def test_a_key_that_is_not_there_is_waited_for() -> None:
    """In one fetch for all who name it, while others go on."""
    clock, issuer = ManualClock(), Issuer("one")
    keys = keys_of(issuer, clock)
    await find(keys, "one")
    issuer.key = "two"
    issuer.gate.clear()
    clock.advance(10)
    waiting = [asyncio.create_task(find(keys, "two")) for _ in range(5)]
    await turns()
    assert not any(one.done() for one in waiting)
    assert await is_there_at_once(keys, "one")
    issuer.gate.set()
    assert ["two"] * 5 == await asyncio.gather(*waiting)
    assert 2 == issuer.tries


@pytest.mark.parametrize("is_silent_before", [False, True])
async def test_a_key_that_was_withdrawn_is_no_good_after_a_pause(is_silent_before: bool) -> None:
    """When nobody has asked for long, the first one waits for what holds now."""
    clock, issuer = ManualClock(), Issuer("one")
    keys = keys_of(issuer, clock)
    await find(keys, "one")
    if is_silent_before:
        issuer.error = OSError()
        clock.advance(FRESH_SECONDS)
        assert "one" == await find(keys, "one")
        issuer.error = None
    issuer.key = "two"
    clock.advance(FRESH_SECONDS)
    assert await find(keys, "one") is None
    assert "two" == await find(keys, "two")
