"""Money through the prebuilt gateway: what the upstream served is what the ledger says."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import openai
import pytest

from asgi_llm.testing import Upstream, Wait, chat_answer, chat_events, json_reply, sse_reply
from tests.e2e.faults.fleet import poll
from tests.e2e.gateway_process import COMMAND, GatewayProcess, clean_environment, running_gateway
from tests.services.redis_server import RedisServer

HELLO: Any = [{"role": "user", "content": "Hello there."}]
COST = Decimal("0.000029")
"""Of 9 tokens at a USD for a million, and of 2 at ten."""
CHOICES: Any = {"max_tokens": 10}


def configure(folder: Path, upstream: str, cost: Mapping[str, Any], **storage: str) -> None:
    """Write ``asgi-llm.yaml`` for one upstream whose model costs 1 and 10 USD for a million."""
    prices = {"overrides": {"up": {"test-model": {"input": 1, "output": 10}}}}
    configuration = {
        "providers": {"up": {"type": "openai", "base_url": f"{upstream}/v1", "api_key": "k"}},
        "models": {"fast": {"targets": [{"provider": "up", "model": "test-model"}]}},
        "storage": storage,
        "stack": ["access_log", {"cost": {"prices": prices, **cost}}],
    }
    # YAML holds JSON.
    (folder / "asgi-llm.yaml").write_text(json.dumps(configuration))


def client(origin: str) -> openai.AsyncOpenAI:
    """A strict client that does not try again."""
    return openai.AsyncOpenAI(
        api_key="sk-none",
        base_url=f"{origin}/v1",
        max_retries=0,
        _strict_response_validation=True,
    )


def ledger_of(folder: Path) -> list[dict[str, Any]]:
    """All rows, in the order of the requests."""
    with closing(sqlite3.connect(folder / "asgi-llm.db")) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute("SELECT * FROM llm_ledger ORDER BY at, id").fetchall()
    return [dict(row) for row in rows]


def cost_of(row: Mapping[str, Any]) -> Decimal | None:
    """What a row says that its call cost."""
    amount = json.loads(row["cost"])["amount_usd"]
    return None if amount is None else Decimal(amount)


async def test_a_call_and_a_stream_have_their_cost_told_and_written_down(tmp_path: Path) -> None:
    """Plain and streamed, in the header and in the last event, and in a row each."""
    async with asyncio.timeout(60), Upstream() as upstream:
        configure(tmp_path, upstream.url, {})
        with running_gateway(tmp_path) as origin:
            async with client(origin) as asking:
                upstream.script(json_reply(chat_answer()))
                raw = await asking.chat.completions.with_raw_response.create(
                    model="fast", messages=HELLO, user="u", metadata={"project": "p"}
                )
                upstream.script(sse_reply(chat_events()))
                stream = await asking.chat.completions.create(
                    model="up/test-model",
                    messages=HELLO,
                    stream=True,
                    stream_options={"include_usage": True},
                )
                chunks = [chunk async for chunk in stream]
        assert COST == Decimal(raw.headers["x-cost"])
        assert COST == Decimal(str(getattr(chunks[-1], "cost", None)))
        plain, streamed = ledger_of(tmp_path)
        assert [COST, COST] == [cost_of(plain), cost_of(streamed)]
        assert raw.headers["x-request-id"] == plain["request_id"]
        told = {name: plain[name] for name in ("requested_model", "model", "provider", "outcome")}
        assert {
            "requested_model": "fast",
            "model": "test-model",
            "provider": "up",
            "outcome": "complete",
        } == told
        assert {"project": "p"} == json.loads(plain["tags"])
        assert [0, 1] == [plain["streamed"], streamed["streamed"]]
        served = [row.usage for row in upstream.ledger]
        assert [
            {"prompt_tokens": row["input_uncached"], "completion_tokens": row["output_text"]}
            for row in (plain, streamed)
        ] == [
            {name: usage[name] for name in ("prompt_tokens", "completion_tokens")}
            for usage in served
            if usage is not None
        ]
    log = (tmp_path / "gateway.log").read_text()
    assert 2 == log.count("cost_usd=2.9e-05")
    assert "price_source='overrides sha256:" in log
    assert "asgi-llm.db: what each call used and cost" in log


async def test_what_a_killed_worker_left_is_found_by_the_next(tmp_path: Path) -> None:
    """The answer that was given, with its cost; and the one that was under way, as unknown."""
    held = asyncio.Event()
    async with asyncio.timeout(90), Upstream() as upstream:
        configure(tmp_path, upstream.url, {})
        killed = GatewayProcess(tmp_path)
        try:
            async with client(killed.origin) as asking:
                first, *rest = chat_events()
                upstream.script(sse_reply([first, Wait(held), *rest]))
                stream = await asking.chat.completions.create(
                    model="fast", messages=HELLO, stream=True, **CHOICES
                )
                await anext(stream)
                upstream.script(json_reply(chat_answer()))
                await asking.chat.completions.create(model="fast", messages=HELLO)
                killed.kill()
                with pytest.raises(openai.APIError):
                    await anext(stream)
        except BaseException:
            killed.kill()
            raise
        held.set()
        with running_gateway(tmp_path):
            # Nothing is asked of it: it looks by itself when it starts.
            await poll("both are there", partial(_has, tmp_path, 2), seconds=30)
        assert "recorded 2 rows of a worker that is gone" in (tmp_path / "gateway.log").read_text()
        rows = {row["outcome"]: row for row in ledger_of(tmp_path)}
        assert {"complete", "unknown_after_crash"} == set(rows)
        assert 2 == len(ledger_of(tmp_path))
        assert COST == cost_of(rows["complete"])
        assert 1 == rows["unknown_after_crash"]["usage_estimated"]
        assert "fast" == rows["unknown_after_crash"]["requested_model"]


async def _has(folder: Path, number: int) -> bool:
    """Whether there are so many rows; there are none while there is no table."""
    try:
        return len(ledger_of(folder)) >= number
    except sqlite3.OperationalError:
        return False


async def test_a_budget_refuses_in_words_that_say_when_it_ends(tmp_path: Path) -> None:
    """There is room for either call and not for both: 402, as configured, and no call made."""
    budget = {"scope": "everyone", "amount_usd": 0.00032, "period": "total"}
    async with asyncio.timeout(60), Upstream() as upstream:
        upstream.script(json_reply(chat_answer()))
        configure(tmp_path, upstream.url, {"budgets": [budget], "refusal_status": 402})
        with running_gateway(tmp_path) as origin:
            async with client(origin) as asking:
                await asking.chat.completions.create(model="fast", messages=HELLO, **CHOICES)
                with pytest.raises(openai.APIStatusError) as caught:
                    await asking.chat.completions.create(
                        model="fast", messages=HELLO, max_tokens=30
                    )
        assert 1 == len(upstream.ledger)
    assert 402 == caught.value.status_code
    assert "budget_exceeded" == caught.value.code
    assert caught.value.message == (
        "Error code: 402 - The budget of all callers together has no room for this request: "
        "the budget is 0.00032 USD in all, and the request may cost up to 0.000316 USD."
    )
    # What was refused reached no provider, and has no row.
    assert ["complete"] == [row["outcome"] for row in ledger_of(tmp_path)]


@contextmanager
def running_worker(folder: Path) -> Iterator[None]:
    """``asgi-llm worker`` in ``folder``, which ends well when it is told to."""
    with (folder / "worker.log").open("w") as output:
        child = subprocess.Popen(
            [COMMAND, "worker"],
            cwd=folder,
            env=clean_environment() | {"PYTHONWARNINGS": "error"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
        os.kill(child.pid, signal.SIGTERM)
        assert 0 == child.wait(15), (folder / "worker.log").read_text()
    finally:
        child.kill()
        child.wait()


async def test_a_worker_writes_what_gateways_hand_over(tmp_path: Path) -> None:
    """By way of Redis: the gateway has no row in the database before the worker has written it."""
    with RedisServer() as redis:
        async with asyncio.timeout(90), Upstream() as upstream:
            upstream.script(json_reply(chat_answer()))
            kept = {"delivery": "redis", "retention_days": 30}
            configure(tmp_path, upstream.url, {"ledger": kept}, redis=redis.url)
            with running_gateway(tmp_path) as origin:
                async with client(origin) as asking:
                    await asking.chat.completions.create(model="fast", messages=HELLO)
                    assert not await _has(tmp_path, 1)
                    with running_worker(tmp_path):
                        await poll("it is there", partial(_has, tmp_path, 1), seconds=30)
    (row,) = ledger_of(tmp_path)
    assert COST == cost_of(row)
