"""Whatever breaks inside a check: a refusal, never an identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_llm.errors import (
    AuthenticationError,
    ConfigurationError,
    InternalError,
    PermissionDeniedError,
    RequestError,
    StoreError,
)
from asgi_llm.middleware.auth import AuthMiddleware
from asgi_llm.stores.base import KeyRecord
from asgi_llm.stores.keys_cached import CachedKeys
from asgi_llm.testing import ManualClock
from asgi_llm.types import Principal
from tests.middleware.auth.probes import CALLER, KEY, MASTER_KEY, Inside, ask, bearer

TOKEN = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJpc3N1ZXIifQ.x"
ERRORS: list[Exception] = [
    ValueError("sk-1"),
    TypeError(),
    KeyError("x"),
    AttributeError(),
    LookupError(),
    UnicodeDecodeError("ascii", b"\xff", 0, 1, "x"),
    OSError(111, "refused"),
    TimeoutError(),
    RecursionError(),
    MemoryError(),
    StopIteration(),
    StopAsyncIteration(),
    AssertionError(),
    NotImplementedError(),
    StoreError("away"),
    ConfigurationError("wrong"),
    ExceptionGroup("several", [ValueError()]),
    AuthenticationError("not known"),
    PermissionDeniedError("not you"),
]


class Parts:
    """Every step of a check; the one that is named raises or returns what it is told."""

    def __init__(self, step: str, fault: Callable[[], Any]) -> None:
        self.step = step
        self.fault = fault

    def at(self, step: str, well: Any) -> Any:
        return self.fault() if step == self.step else well

    # A key store with a memory

    def peek(self, digest: bytes) -> Any:
        return self.at("keys.peek", None)

    async def find(self, digest: bytes) -> Any:
        record = KeyRecord(principal=CALLER, expires_at=100.0)
        return self.at("keys.find", record)

    # Clocks, and a host

    def clock(self) -> Any:
        return self.at("clock", 1.0)

    def wall_clock(self) -> Any:
        return self.at("wall_clock", 1.0)

    async def host(self, scope: Any) -> Any:
        return self.at("host", CALLER)


class Tokens:
    """A verifier of tokens, of such parts."""

    issuer = "issuer"

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def peek(self, digest: bytes) -> Any:
        return self.parts.at("token.peek", None)

    async def verify(self, token: bytes, digest: bytes) -> Any:
        return self.parts.at("token.verify", CALLER)


STEPS = {
    "keys.peek": bearer(KEY),
    "keys.find": bearer(KEY),
    "clock": bearer(KEY),
    "wall_clock": bearer(KEY),
    "token.peek": bearer(TOKEN),
    "token.verify": bearer(TOKEN),
    "host": [],
}


async def broken(step: str, fault: Callable[[], Any]) -> tuple[int, int, AuthMiddleware]:
    """Status of the request and calls of the app, with a fault in one step of the check."""
    # While the layer is made the clocks are well.
    parts = Parts("none", fault)
    inside = Inside()
    layer = AuthMiddleware(
        inside,
        keys=parts,
        jwt=Tokens(parts),
        principal=parts.host,
        master_key=MASTER_KEY,
        clock=parts.clock,
        wall_clock=parts.wall_clock,
    )
    assert 200 == (await ask(layer, STEPS[step])).status
    parts.step = step
    status = (await ask(layer, STEPS[step])).status
    return status, inside.calls - 1, layer


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", ERRORS, ids=repr)
async def test_cve_2026_59822_a_step_that_raises(step: str, error: Exception) -> None:
    """Each error in each step: 401, 403 or 503, no call of the app, and it is counted."""

    def fault() -> Any:
        raise error

    status, calls, layer = await broken(step, fault)
    expected = error.status if isinstance(error, RequestError) else 503
    assert (expected, 0, 1) == (status, calls, layer.refusals.total())


WRONG: list[Any] = [
    True,
    1,
    "admin",
    b"",
    {"role": "admin"},
    [CALLER],
    Principal,
    KeyRecord,
    object(),
    cast("Any", KeyRecord)(principal=None),
    cast("Any", KeyRecord)(principal={"role": "admin"}),
    cast("Any", KeyRecord)(principal=CALLER, expires_at="never"),
    KeyRecord(principal=CALLER, expires_at=float("nan")),
    KeyRecord(principal=CALLER, expires_at=float("-inf")),
    KeyRecord(principal=CALLER, active=False),
    cast("Any", KeyRecord)(principal=CALLER, active=None),
]


@pytest.mark.parametrize("step", ["keys.peek", "keys.find", "token.peek", "token.verify", "host"])
@pytest.mark.parametrize("answer", WRONG, ids=range(len(WRONG)))
async def test_cve_2026_59822_a_step_that_answers_nonsense(step: str, answer: Any) -> None:
    """What is no good record or no Principal is no identity."""
    status, calls, _ = await broken(step, lambda: answer)
    assert status in (401, 503)
    assert 0 == calls


@pytest.mark.parametrize("step", ["clock", "wall_clock"])
async def test_cve_2026_59822_a_clock_that_knows_no_time(step: str) -> None:
    """With a clock that gives no number a key that ends has ended, or the other clock decides."""
    assert (503, 0) == (await broken(step, lambda: None))[:2]
    assert (503, 0) == (await broken(step, lambda: "1"))[:2]
    status, calls, _ = await broken(step, lambda: float("nan"))
    assert {"clock": (401, 0), "wall_clock": (200, 1)}[step] == (status, calls)


async def test_cve_2026_59822_an_internal_error_of_a_check_stays_one() -> None:
    """A check may choose another refusal; it is still none of an identity."""

    def fault() -> Any:
        raise InternalError("x")

    status, calls, _ = await broken("keys.find", fault)
    assert (500, 0) == (status, calls)


class Flaky:
    """A store in which one key is good, one revoked, and which fails when told."""

    def __init__(self) -> None:
        self.away = False
        self.revoked = False

    async def find(self, digest: bytes) -> KeyRecord | None:
        if self.away:
            raise OSError("refused")
        return KeyRecord(principal=CALLER, active=not self.revoked)


@given(st.lists(st.sampled_from(["away", "back", "revoke", "ask", "wait", "forget"]), max_size=40))
async def test_b3_b28_any_history_of_a_key(events: list[str]) -> None:
    """Who is let in was known to be good five seconds ago, or at the stated age in an outage."""
    clock, store, inside = ManualClock(), Flaky(), Inside()
    keys = CachedKeys(store, stale_seconds=20, clock=clock)
    layer = AuthMiddleware(inside, keys=keys, clock=clock, wall_clock=clock)
    revoked_at = back_at = None
    for event in events:
        if event == "away":
            store.away = True
        elif event == "back":
            if store.away:
                store.away, back_at = False, clock()
        elif event == "revoke":
            store.revoked, revoked_at = True, clock() if revoked_at is None else revoked_at
        elif event == "wait":
            clock.advance(1.5)
        elif event == "forget":
            keys.forget(next(iter(keys._entries), b""))
        else:
            status = (await ask(layer)).status
            since = 0 if revoked_at is None else clock() - revoked_at
            # What failed several times is left alone for a moment, and asked again within five.
            missing = store.away or (back_at is not None and clock() - back_at < 5)
            assert status in ((200, 401, 503) if missing else (200, 401))
            if status == 200:
                assert since <= (20 if missing else 5)
