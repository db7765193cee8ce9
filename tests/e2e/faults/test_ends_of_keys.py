"""Keys that end, on four workers, with Redis between them and without."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import pytest

from tests.e2e.faults.fleet import Fleet, poll
from tests.e2e.faults.management import MASTER, manage
from tests.e2e.faults.wire import Connection
from tests.services.redis_server import RedisServer

WORKERS = 4
ALONE_SECONDS = 5.0
"""Within this a worker finds out by itself."""
TOLD_SECONDS = 1.0
"""Within this it is told over Redis."""
SOON_SECONDS = 0.5

SERVED = (200, None)
INVALID = (401, "invalid_api_key")
EXPIRED = (401, "expired_api_key")


class Place(NamedTuple):
    """A gateway, and how soon all of its workers know."""

    fleet: Fleet
    seconds: float


@pytest.fixture(scope="module", params=["alone", "redis"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """Four workers over one SQLite file, each for itself or with Redis between them."""
    folder = tmp_path_factory.mktemp("fleet")
    storage = {"database": f"sqlite:///{folder}/keys.db"}
    with ExitStack() as stack:
        if request.param == "redis":
            storage["redis"] = stack.enter_context(RedisServer()).url
        configuration: dict[str, Any] = {
            "providers": {"e": {"type": "echo"}},
            "storage": storage,
            "stack": ["access_log", {"auth": {"master_key": MASTER}}],
        }
        fleet = stack.enter_context(Fleet(folder, configuration, workers=WORKERS))
        yield Place(fleet, TOLD_SECONDS if request.param == "redis" else ALONE_SECONDS)


@pytest.fixture
async def connections(place: Place) -> AsyncIterator[list[Connection]]:
    """One to each worker."""
    async with asyncio.timeout(60), place.fleet.connections(WORKERS) as kept:
        yield [one for mine in kept.values() for one in mine]


async def everywhere(connections: list[Connection], key: str, told: tuple[int, str | None]) -> bool:
    """Whether all workers answer alike; never anything but yes and this."""
    answers = {(await connection.chat(key)).told for connection in connections}
    assert answers <= {SERVED, told}
    return answers == {told}


async def test_b3_a_revoked_key_stops_everywhere(
    place: Place, connections: list[Connection]
) -> None:
    """On all workers, which have all just used it: at once with Redis, else within 5 seconds."""
    key = await manage(connections[0], name="revoked")
    assert await everywhere(connections, key.text, SERVED)
    await manage(connections[1], f"/{key.id}/revoke")
    began = time.monotonic()
    # Who revoked it knows without being told.
    assert INVALID == (await connections[1].chat(key.text)).told
    stopped = partial(everywhere, connections, key.text, INVALID)
    await poll("stopped", stopped, seconds=began + place.seconds - time.monotonic())


async def test_b3_a_key_that_is_to_end_sooner_does(
    place: Place, connections: list[Connection]
) -> None:
    """An end that is set for a key in use is heard of like a revocation."""
    key = await manage(connections[0], name="ending")
    assert await everywhere(connections, key.text, SERVED)
    end = (datetime.now(UTC) + timedelta(seconds=SOON_SECONDS)).isoformat()
    answer = await connections[1].ask(
        f"/admin/keys/{key.id}", key=MASTER, document={"expires_at": end}, method="PATCH"
    )
    assert 200 == answer.status
    stopped = partial(everywhere, connections, key.text, EXPIRED)
    await poll("stopped", stopped, seconds=max(place.seconds, SOON_SECONDS + TOLD_SECONDS))


async def test_b3_an_expiry_that_is_known_needs_no_word(connections: list[Connection]) -> None:
    """A key works on every worker up to its time, and on none from then on."""
    end = datetime.now(UTC) + timedelta(seconds=1.5)
    key = await manage(connections[0], name="expiring", expires_at=end.isoformat())
    statuses = set()
    while datetime.now(UTC) < end:
        for connection in connections:
            asked_at = datetime.now(UTC)
            answer = await connection.chat(key.text)
            if datetime.now(UTC) < end:
                statuses.add(answer.told)
            elif asked_at >= end:
                assert EXPIRED == answer.told
    assert {SERVED} == statuses
    for connection in connections:
        assert EXPIRED == (await connection.chat(key.text)).told


async def test_b3_both_credentials_work_while_a_rotation_has_grace(
    place: Place, connections: list[Connection]
) -> None:
    """On every worker; after it the new one alone, and the key is the same."""
    old = await manage(connections[0], name="rotated")
    assert await everywhere(connections, old.text, SERVED)
    asked_at = time.monotonic()
    new = await manage(connections[1], f"/{old.id}/rotate", grace_seconds=2)
    graced = time.monotonic()
    assert (old.id, True) == (new.id, new.text != old.text)
    while time.monotonic() < asked_at + 2:
        for connection in connections:
            answers = [await connection.chat(key) for key in (old.text, new.text)]
            assert SERVED == answers[1].told
            assert SERVED == answers[0].told or answers[0].ended >= asked_at + 2
    over = partial(everywhere, connections, old.text, EXPIRED)
    await poll("over", over, seconds=graced + max(2, place.seconds) + 1 - time.monotonic())
    assert await everywhere(connections, new.text, SERVED)
