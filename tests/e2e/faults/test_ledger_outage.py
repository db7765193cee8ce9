"""PostgreSQL stopped and frozen under a gateway that keeps a ledger: rows equal what was served."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from asgi_llm.testing import Upstream, chat_answer, json_reply
from tests.e2e.faults.fleet import Fleet, poll
from tests.e2e.faults.wire import Answer, Connection
from tests.services.postgres_server import PostgresServer

WORKERS = 2
MOST_SECONDS = 1.5
"""That a request may take while the database does not answer: nobody waits for it twice."""


def configuration(upstream: str, database: str, **cost: Any) -> dict[str, Any]:
    prices = {"overrides": {"up": {"m": {"input": 1, "output": 10}}}}
    return {
        "providers": {"up": {"type": "openai", "base_url": f"{upstream}/v1", "api_key": "k"}},
        "storage": {"database": database},
        "stack": ["access_log", {"cost": {"prices": prices, **cost}}],
    }


async def ask(connections: list[Connection], times: int) -> list[Answer]:
    """As many calls over each connection."""
    answers = []
    for _ in range(times):
        answers += await asyncio.gather(*(one.chat(model="up/m") for one in connections))
    return answers


def rows_of(url: str) -> dict[str, tuple[str, Decimal]]:
    """Outcome and cost in USD of each request."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT request_id, outcome, cost_micros + cost_picos / 1e6 FROM llm_ledger"
        ).fetchall()
    assert len(found) == len({request_id for request_id, *_ in found})
    return {request_id: (outcome, micros / 10**6) for request_id, outcome, micros in found}


@pytest.mark.parametrize("way", ["stopped", "frozen"])
async def test_b28_an_outage_loses_no_row_and_doubles_none(
    postgres_server: PostgresServer, tmp_path: Path, way: str
) -> None:
    """Calls go on as if nothing were; after its return the ledger has each of them once."""
    postgres_server.thaw()
    postgres_server.start()
    database = postgres_server.create_database()
    async with asyncio.timeout(120), Upstream() as upstream:
        upstream.script(json_reply(chat_answer(model="m")))
        with Fleet(tmp_path, configuration(upstream.url, database), workers=WORKERS) as fleet:
            async with fleet.connections(WORKERS) as kept:
                connections = [one for mine in kept.values() for one in mine]

                async def all_are(*statuses: str) -> bool:
                    answers = [await one.ask("/health/ready") for one in connections]
                    assert {200} == {answer.status for answer in answers}
                    return {answer.json["status"] for answer in answers} <= set(statuses)

                answers = await ask(connections, 5)
                if way == "stopped":
                    postgres_server.stop()
                else:
                    postgres_server.freeze()
                answers += await ask(connections, 20)
                await poll("it is told", lambda: all_are("degraded"), seconds=30)
                answers += await ask(connections, 20)
                postgres_server.thaw()
                postgres_server.start()
                await poll("all is well", lambda: all_are("ready"), seconds=45)
                answers += await ask(connections, 5)
        assert {200} == {answer.status for answer in answers}
        assert max(answer.ended - answer.began for answer in answers) < MOST_SECONDS
        assert len(answers) == len(upstream.ledger)
    rows = rows_of(database)
    asked = {answer.headers["x-request-id"] for answer in answers}
    assert asked == set(rows)
    assert Counter({("complete", Decimal("0.000029")): len(answers)}) == Counter(rows.values())


async def test_b28_a_budget_that_cannot_be_checked_is_denied_at_once(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """As declared: 503 while the database is away, and no call made; served after its return."""
    postgres_server.thaw()
    postgres_server.start()
    database = postgres_server.create_database()
    cost = {
        "budgets": [{"scope": "everyone", "amount_usd": 1, "period": "total"}],
        "on_store_error": "deny",
    }
    async with asyncio.timeout(120), Upstream() as upstream:
        upstream.script(json_reply(chat_answer(model="m")))
        with Fleet(tmp_path, configuration(upstream.url, database, **cost), workers=1) as fleet:
            async with fleet.connections(1) as kept:
                ((connection,),) = kept.values()
                assert 200 == (await connection.chat(model="up/m")).status
                postgres_server.stop()
                told = {(await connection.chat(model="up/m")).told for _ in range(10)}
                ready = await connection.ask("/health/ready")
                assert (503, "not_ready") == (ready.status, ready.json["status"])
                postgres_server.start()

                async def is_ready() -> bool:
                    return (await connection.ask("/health/ready")).status == 200

                await poll("it is ready", is_ready, seconds=30)
                assert 200 == (await connection.chat(model="up/m")).status
        assert {(503, "store_unavailable")} == told
        assert 2 == len(upstream.ledger)
    assert 2 == len(rows_of(database))
