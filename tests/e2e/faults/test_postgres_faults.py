"""PostgreSQL stopped, frozen and restarted under load, with keys in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple

import pytest

from asgi_llm.stores.key_material import new_key
from tests.e2e.faults.fleet import Fleet, poll
from tests.e2e.faults.load import Load, under_load
from tests.e2e.faults.management import MASTER, manage
from tests.e2e.faults.wire import Connection
from tests.services.postgres_server import PostgresServer

WORKERS = 2
FRESH_SECONDS = 1.0
"""How long a key is used without another look: short, so that a short outage is one."""
OUTAGE_SECONDS = 3.0
"""Long enough for every key to be looked for again, and not to be found."""
STORE_SECONDS = 1.0
"""Deadline of a look-up."""
MARGIN_SECONDS = 0.1
"""For the rest of a request, beyond what a request that asks nobody anything takes at most."""
BACK_SECONDS = 5.0

SERVED = (200, None)
UNKNOWN = (401, "invalid_api_key")
AWAY = (503, "store_unavailable")


@pytest.fixture(scope="module")
def fleet(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """A gateway with its keys in a database of its own."""
    postgres_server.thaw()
    postgres_server.start()
    configuration = {
        "providers": {"e": {"type": "echo"}},
        "storage": {"database": postgres_server.create_database()},
        "stack": ["access_log", {"auth": {"master_key": MASTER, "fresh_seconds": FRESH_SECONDS}}],
    }
    with Fleet(tmp_path_factory.mktemp("fleet"), configuration, workers=WORKERS) as fleet:
        yield fleet
        # The gateway writes when its keys were last used before it ends.
        postgres_server.thaw()
        postgres_server.start()


class Scene(NamedTuple):
    """A connection to each worker, what the load with known keys has got, and another key."""

    connections: list[Connection]
    load: Load
    unused: str


@asynccontextmanager
async def scene(fleet: Fleet) -> AsyncIterator[Scene]:
    """The gateway under load with keys that every worker knows; afterwards nobody has waited."""
    async with asyncio.timeout(60), fleet.connections(WORKERS) as kept:
        connections = [one for mine in kept.values() for one in mine]
        made = [await manage(connections[0], name=f"key {number}") for number in range(6)]
        known, unused = [key.text for key in made[:5]], made[5].text
        for connection in connections:
            assert [SERVED] * 5 == [(await connection.chat(key)).told for key in known]
        async with under_load(fleet, known) as load:
            yield Scene(connections, load, unused)
    assert {SERVED} == {answer.told for answer in load.chats}
    assert {200} == {live.status for live in load.lives}
    served = fleet.served()
    decided = [served[answer.headers["x-request-id"]] for answer in load.chats]
    taken = max(one.ended - one.began for one in decided)
    assert taken < STORE_SECONDS + MARGIN_SECONDS + load.stall_seconds()


async def full_service(scene: Scene) -> None:
    """Within 5 seconds all workers are ready, know a key that they never saw, and no other."""
    began = time.monotonic()
    for connection in scene.connections:

        async def is_back(connection: Connection = connection) -> bool:
            ready = await connection.ask("/health/ready")
            known = await connection.chat(scene.unused)
            unknown = await connection.chat(new_key())
            assert known.told in (SERVED, AWAY)
            assert unknown.told in (UNKNOWN, AWAY)
            return [200, SERVED, UNKNOWN] == [ready.status, known.told, unknown.told] and (
                ready.json["status"] == "ready"
            )

        await poll("in use again", is_back, seconds=began + BACK_SECONDS - time.monotonic())
    await scene.load.goes_on(began, seconds=began + BACK_SECONDS - time.monotonic())


async def degraded(connection: Connection) -> bool:
    answer = await connection.ask("/health/ready")
    return (answer.status, answer.json["status"]) == (200, "degraded")


@pytest.mark.parametrize("fault", ["stopped", "frozen"])
async def test_b28_known_keys_go_on_without_the_database(
    fleet: Fleet, postgres_server: PostgresServer, fault: str
) -> None:
    """Others get 503, never 401; within 5 seconds of its return all are known again."""
    async with scene(fleet) as found:
        away = partial(postgres_server.stop, mode="immediate")
        await asyncio.to_thread(away if fault == "stopped" else postgres_server.freeze)
        gone = time.monotonic()
        try:
            while time.monotonic() < gone + OUTAGE_SECONDS:
                for connection in found.connections:
                    for key in (found.unused, new_key()):
                        answer = await connection.chat(key)
                        assert AWAY == answer.told
                        assert answer.headers["retry-after"]
                    assert 401 == (await connection.chat()).status
            for connection in found.connections:
                assert await degraded(connection)
            managed = await found.connections[0].ask("/admin/keys", key=MASTER)
            assert AWAY == managed.told
        finally:
            back = postgres_server.start if fault == "stopped" else postgres_server.thaw
            await asyncio.to_thread(back)
        await full_service(found)


async def test_b28_a_restart_of_the_database_goes_unnoticed_by_known_keys(
    fleet: Fleet, postgres_server: PostgresServer
) -> None:
    """A key that was never seen gets 503 at worst, and is known within 5 seconds."""
    async with scene(fleet) as found:
        restart = partial(postgres_server.restart, mode="immediate")
        restarting = asyncio.ensure_future(asyncio.to_thread(restart))
        while not restarting.done():
            for connection in found.connections:
                assert (await connection.chat(found.unused)).told in (SERVED, AWAY)
        await restarting
        await full_service(found)
