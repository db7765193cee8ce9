"""Keys: what a wrong one costs and learns, what counts as one, and what is remembered of them."""

from __future__ import annotations

import gc
import hashlib
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway.build import load_gateway
from asgi_llm.middleware.auth import AuthMiddleware
from asgi_llm.middleware.cost import CostMiddleware
from asgi_llm.middleware.rate_limit import RateLimitMiddleware
from asgi_llm.stores.base import Decision, Demand, KeyRecord, KeyStore
from asgi_llm.stores.budgets import BudgetDecision, BudgetDemand, BudgetRule
from asgi_llm.stores.budgets_memory import MemoryBudgets
from asgi_llm.stores.key_material import new_key
from asgi_llm.stores.keys_cached import CachedKeys
from asgi_llm.stores.keys_memory import MemoryKeys
from asgi_llm.stores.keys_redis import RedisKeyCache
from asgi_llm.stores.limits_memory import MemoryLimits
from asgi_llm.testing import ManualClock, Recorder, call, http_scope
from asgi_llm.types import Principal
from tests.middleware.auth.probes import CALLER, KEY, MASTER_KEY, Inside, Table, ask, bearer
from tests.middleware.cost.conftest import HELLO, PRICES, App
from tests.services.redis_server import RedisServer

# B1


def steps(work: Callable[[], Awaitable[None]]) -> list[str]:
    """The functions, Python's and C's, that are called to identify who calls, in their order."""
    called: list[str] = []

    def note(frame: Any, event: str, argument: Any) -> None:
        if event in ("call", "return"):
            called.append(f"{event} {frame.f_code.co_qualname}")
        elif event.startswith("c_"):
            called.append(f"{event} {argument.__qualname__}")

    running = work().__await__()
    gc.disable()
    sys.setprofile(note)
    try:
        # Nothing here waits for anything.
        next(running, None)
    finally:
        sys.setprofile(None)
        gc.enable()
    begin, end = (called.index(f"{event} Identification.identify") for event in ("call", "return"))
    return called[begin:end]


def wrong_in(key: str, place: int) -> str:
    return key[:place] + chr(ord(key[place]) ^ 1) + key[place + 1 :]


async def test_b1_a_wrong_key_costs_the_same_wherever_it_is_wrong() -> None:
    """No step more or less for a key that is right up to its last character, or in none."""
    layer = AuthMiddleware(Inside(), keys=MemoryKeys({KEY: CALLER}), master_key=MASTER_KEY)

    def refuse(key: str) -> list[str]:
        recorder = Recorder()

        async def receive() -> Message:
            raise AssertionError

        scope = http_scope("GET", "/admin/keys", headers=bearer(key))
        found = steps(lambda: layer(scope, receive, recorder))
        assert 401 == recorder.status
        return found

    refuse(KEY[::-1])
    for key in (KEY, MASTER_KEY):
        taken = [refuse(wrong_in(key, place)) for place in range(len(key))]
        assert any("compare_digest" in one for one in taken[0])
        assert [taken[0]] * len(taken) == taken
    assert refuse(wrong_in(KEY, 3)) == refuse(wrong_in(MASTER_KEY, 3)) == refuse("x y z")


# B2


class NotedLimits(MemoryLimits):
    """Limits in memory, and under which keys anything was ever counted."""

    names: set[str]

    async def take(self, demands: Sequence[Demand], **options: Any) -> Decision:
        self.names |= {demand.key for demand in demands}
        return await super().take(demands, **options)

    def decide(
        self, demands: Sequence[Demand], lease: str, lease_seconds: float, enforce: bool
    ) -> Decision:
        self.names |= {demand.key for demand in demands}
        return super().decide(demands, lease, lease_seconds, enforce)


class NotedBudgets(MemoryBudgets):
    """Budgets in memory, and of whom anything was ever spent."""

    names: set[str]

    async def reserve(
        self, demands: Sequence[BudgetDemand], amount: int, **options: Any
    ) -> BudgetDecision:
        self.names |= {demand.key for demand in demands}
        return await super().reserve(demands, amount, **options)


def full_width(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


CHANGES: list[Callable[[str], str]] = [
    str.upper,
    str.lower,
    str.swapcase,
    full_width,
    lambda key: f" {key}",
    lambda key: f"{key} ",
    lambda key: f"\t{key}",
    lambda key: f"{key}\t",
    lambda key: f"{key}\n",
    lambda key: f"{key}\0",
    lambda key: f"Bearer {key}",
    lambda key: f'"{key}"',
    lambda key: f"'{key}'",
    lambda key: f"{key},{key}",
    lambda key: f"{key}\u00a0",
    lambda key: f"\ufeff{key}",
    lambda key: key.replace("-", "\u2010"),
    lambda key: key[:-1],
    lambda key: key[1:],
]


@given(
    changes=st.lists(st.sampled_from(CHANGES), min_size=1, max_size=3),
    name=st.sampled_from(["authorization", "x-api-key", "api-key", "x-goog-api-key"]),
    encoding=st.sampled_from(["utf-8", "utf-16", "latin-1"]),
)
async def test_b2_no_variant_of_a_key_has_a_limit_or_a_budget_of_its_own(
    changes: list[Callable[[str], str]], name: str, encoding: str
) -> None:
    """However a key is written: it is that key, or nobody's, and counts nowhere else."""
    limits, budgets, inside = NotedLimits(), NotedBudgets(), App()
    limits.names, budgets.names = set(), set()
    costs = CostMiddleware(
        inside,
        prices=PRICES,
        budgets=[BudgetRule(scope="key", amount_usd=Decimal(1))],
        budget_store=budgets,
    )
    limited = RateLimitMiddleware(costs, limits=["2 requests/hour per key"], store=limits)
    app = AuthMiddleware(limited, keys=MemoryKeys({KEY: CALLER}))

    async def chat(value: bytes) -> int | None:
        prefix = b"Bearer " if name == "authorization" else b""
        headers = [(b"content-type", b"application/json"), (name.encode(), prefix + value)]
        recorder = await call(
            app, http_scope("POST", "/v1/chat/completions", headers=headers), json=HELLO
        )
        return recorder.status

    variant = KEY
    for change in changes:
        variant = change(variant)
    written = variant.encode(encoding, errors="replace")
    assert 200 == await chat(KEY.encode())
    first = limits.names.copy(), budgets.names.copy()
    assert (1, 1) == (len(first[0]), len(first[1]))
    is_the_key = written == KEY.encode()
    assert (200 if is_the_key else 401) == await chat(written)
    if not is_the_key:
        assert 200 == await chat(KEY.encode())
    # Now the key has had its two requests, in whatever form they were made.
    assert 429 == await chat(KEY.encode())
    assert (429 if is_the_key else 401) == await chat(written)
    assert first == (limits.names, budgets.names)
    assert 2 == len(inside.documents)


# CVE-2026-35030

SHARED = [20, 32, 64, 500]


@pytest.mark.parametrize("level", ["memory", "redis"])
@pytest.mark.parametrize("shared", SHARED)
async def test_cve_2026_35030_keys_that_share_all_but_the_end_are_two(
    redis_server: RedisServer, level: str, shared: int
) -> None:
    """From a warm cache of either level each gets its own identity, and what is like them none."""
    start = "sk-" + "a" * (shared - 3)
    texts = {f"{start}{end}": Principal(user_id=f"user {end}") for end in "xyz"}
    table = Table({text: KeyRecord(principal=one) for text, one in texts.items()})
    made = [
        RedisKeyCache(table, redis=redis_server.url, timeout_seconds=2.0, store_timeout_seconds=5.0)
        for _ in range(2 if level == "redis" else 0)
    ]
    inside = Inside()
    # With Redis the second worker finds what the first has looked up.
    sources: Sequence[KeyStore] = made or [table, table]
    workers = [AuthMiddleware(inside, keys=CachedKeys(source)) for source in sources]
    for layer in workers:
        for _ in range(2):
            for text, principal in texts.items():
                assert 200 == (await ask(layer, bearer(text))).status
                assert principal == inside.principals[-1]
            for other in (start, start[:-1] + "x", f"{start}w", f"{start}xx"):
                assert 401 == (await ask(layer, bearer(other))).status
    for cache in made:
        await cache.aclose()


# B28: how long a key is used while its database is away is a figure of the configuration.


async def test_b28_ten_minutes_without_a_database() -> None:
    """A key seen lately goes on for all of them, one that was not gets 503 and never 401."""
    clock = ManualClock()
    seen, unseen = new_key(), new_key()
    table = Table({key: KeyRecord(principal=CALLER) for key in (seen, unseen)})
    keys = CachedKeys(table, stale_seconds=600, clock=clock)
    layer = AuthMiddleware(Inside(), keys=keys, clock=clock)
    assert 200 == (await ask(layer, bearer(seen))).status
    table.error = OSError("connection refused")
    for seconds in (1.0, 4.0, 55.0, 240.0, 299.0):
        clock.advance(seconds)
        assert 200 == (await ask(layer, bearer(seen))).status
        for other in (unseen, new_key()):
            assert 503 == (await ask(layer, bearer(other))).status
    clock.advance(2.0)
    assert 503 == (await ask(layer, bearer(seen))).status
    table.error = None
    clock.advance(5.0)
    assert [200, 200, 401] == [
        (await ask(layer, bearer(key))).status for key in (seen, unseen, new_key())
    ]


# B29, B38: a whole gateway

CHAT = {"model": "e/echo", "messages": [{"role": "user", "content": "hi"}]}
MASTER = new_key()


def configured(folder: Path, auth: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "providers": {"e": {"type": "echo"}},
        "storage": {"database": f"sqlite:///{folder}/gateway.db"},
        "stack": [{"auth": auth}],
        **more,
    }


async def status_of(app: Any, key: str | None, path: str = "/v1/chat/completions",
                    document: Any = None) -> Recorder:  # fmt: skip
    headers = [(b"content-type", b"application/json")]
    if key is not None:
        headers.append((b"authorization", f"Bearer {key}".encode()))
    return await call(app, http_scope("POST", path, headers=headers), json=document or CHAT)


async def test_b29_a_locked_file_of_keys_is_a_policy_and_stays_whole(tmp_path: Path) -> None:
    """While another process holds SQLite's file, known keys go on, others and changes get 503."""
    gateway = load_gateway(
        configured(tmp_path, {"master_key": MASTER, "fresh_seconds": 0.001})
    )  # fmt: skip
    async with gateway.lifespan():
        made = [
            (await status_of(gateway, MASTER, "/admin/keys", {"name": name})).json()["key"]
            for name in ("known", "unknown")
        ]
        assert 200 == (await status_of(gateway, made[0])).status
        file = tmp_path / "gateway.db"
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("UPDATE llm_keys SET tier = 'lost'")
            # Writers wait for each other, readers for nobody.
            assert [200, 200] == [(await status_of(gateway, key)).status for key in made]
            changed = await status_of(gateway, MASTER, "/admin/keys", {"name": "third"})
            assert 503 == changed.status
            other.execute("ROLLBACK")
        assert 201 == (await status_of(gateway, MASTER, "/admin/keys", {"name": "third"})).status
    with closing(sqlite3.connect(file)) as after:
        assert [("ok",)] == after.execute("PRAGMA integrity_check").fetchall()
        names = {name for (name,) in after.execute("SELECT name FROM llm_keys")}
    assert {"known", "unknown", "third"} == names


LEFT_OUT: dict[str, dict[str, Any]] = {
    "everything": {},
    "an empty master key": {"master_key": ""},
    "a master key of spaces": {"master_key": " " * 20},
    "no master key": {"master_key": None},
    "an unset variable": {"master_key": "${ASGI_LLM_NOT_SET:-}"},
    "no keys": {"keys": []},
    "an empty key": {"keys": [{"name": "a", "key": ""}]},
    "an empty digest": {"keys": [{"name": "a", "sha256": ""}]},
    "the digest of nothing": {"keys": [{"name": "a", "sha256": hashlib.sha256(b"").hexdigest()}]},
    "no keys and no database": {"keys": [], "database": False},
    "no issuers": {"jwt": [], "database": False},
    "an issuer without a key": {"jwt": [{"issuer": "https://idp.example"}]},
    "a public path of nothing": {"public_paths": [""]},
    "no mode": {"mode": None},
    "an unknown mode": {"mode": "off"},
    "an option that is not there": {"enabled": False},
    "a word for off": {"master_key": "none"},
}


STARTS = {"everything", "no master key", "an unset variable", "no keys"}
"""With the keys of the database, of which there are none."""


@pytest.mark.parametrize("case", LEFT_OUT)
async def test_b38_no_value_that_is_left_out_turns_authentication_off(
    tmp_path: Path, case: str
) -> None:
    """The gateway does not start, or whoever has no key is nobody in it."""
    if case not in STARTS:
        with pytest.raises(ConfigurationError):
            load_gateway(configured(tmp_path, LEFT_OUT[case]))
        return
    gateway = load_gateway(configured(tmp_path, LEFT_OUT[case]))
    async with gateway.lifespan():
        for key in (None, "", " ", "none", "null", "undefined", "sk-1234", "sk-", "Bearer"):
            for path in ("/v1/chat/completions", "/admin/keys"):
                assert 401 == (await status_of(gateway, key, path)).status, (key, path)


async def test_b38_logs_of_all_details_show_none_to_a_client(tmp_path: Path) -> None:
    """With the log level of a developer an error is as short as ever."""
    gateway = load_gateway(
        configured(tmp_path, {"master_key": MASTER}, server={"log_level": "debug"})
    )
    async with gateway.lifespan():
        key = (await status_of(gateway, MASTER, "/admin/keys", {"name": "a"})).json()["key"]
        with closing(sqlite3.connect(tmp_path / "gateway.db")) as other:
            other.execute("ALTER TABLE llm_credentials RENAME TO llm_gone")
            other.commit()
        for one in (key[:-1], new_key()):
            answer = await status_of(gateway, one)
            assert (503, {"message", "type", "param", "code"}) == (
                answer.status,
                set(msgspec.json.decode(answer.body)["error"]),
            )
            for word in (b"llm_", b"sqlite", b"Traceback", b"SELECT", b".py"):
                assert word not in answer.body
