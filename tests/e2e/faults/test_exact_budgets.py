"""Budgets that several workers share: all that there is room for, and not one call more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.faults.fleet import Fleet
from tests.services.postgres_server import PostgresServer
from tests.services.redis_server import RedisServer

WORKERS = 4
ROOM = 30
AT_ONCE = 60


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Each place where budgets can be kept that workers share."""
    if request.param == "redis":
        with RedisServer() as redis:
            yield {"redis": redis.url, "database": f"sqlite:///{tmp_path}/gateway.db"}
    elif request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        server.thaw()
        server.start()
        yield {"database": server.create_database()}
    else:
        yield {"database": f"sqlite:///{tmp_path}/gateway.db"}


async def test_b15_calls_at_once_spend_all_of_a_budget_and_no_more(
    storage: dict[str, str], tmp_path: Path
) -> None:
    """60 calls of a USD each, over four workers, with 30 USD to spend."""
    price: dict[str, Any] = {"input": 0, "output": 0, "per_request": 1}
    cost = {
        "prices": {"overrides": {"e": {"*": price}}},
        "budgets": [{"scope": "everyone", "amount_usd": ROOM, "period": "total"}],
        "on_store_error": "deny",
        # What is proved is not how fast a busy machine is.
        "store_timeout_seconds": 20,
    }
    configuration = {
        "providers": {"e": {"type": "echo"}},
        "storage": storage,
        "stack": ["access_log", {"cost": cost}],
    }
    with Fleet(tmp_path, configuration, workers=WORKERS) as fleet:
        async with asyncio.timeout(120), fleet.connections(AT_ONCE) as kept:
            connections = [one for mine in kept.values() for one in mine]
            assert (WORKERS, AT_ONCE) == (len(kept), len(connections))
            answers = await asyncio.gather(*(one.chat() for one in connections))
    told = [answer.told for answer in answers]
    assert ROOM == told.count((200, None))
    assert AT_ONCE - ROOM == told.count((400, "budget_exceeded"))
