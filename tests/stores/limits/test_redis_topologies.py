"""Limits on a Cluster and behind Sentinel, all of them real servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores._redis_client import connect
from asgi_llm.stores.base import Demand
from asgi_llm.stores.limits_redis import RedisLimits
from asgi_llm.types import Limit
from tests.services.redis_server import RedisServer

REQUESTS = Limit(unit="requests", amount=100, window_seconds=3600)
TOKENS = Limit(unit="tokens", amount=1000, window_seconds=3600)
SLOTS = Limit(unit="concurrent_requests", amount=100)
DEADLINE_SECONDS = 30.0
LAST_SLOT = 16383


def wait_for(server: RedisServer, command: tuple[str, ...], text: bytes) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while text not in str(server.command(*command)).encode():
        assert time.monotonic() < deadline, server.command(*command)
        time.sleep(0.02)


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[RedisServer]]:
    """Three masters, each with a third of the slots."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    with RedisServer(*options) as one, RedisServer(*options) as two, RedisServer(*options) as three:
        nodes = [one, two, three]
        bounds = [0, 5461, 10923, LAST_SLOT + 1]
        for node, begin, end in zip(nodes, bounds, bounds[1:], strict=False):
            node.command("CLUSTER", "ADDSLOTS", *range(begin, end))
            node.command("CLUSTER", "MEET", "127.0.0.1", str(one.port))
        for node in nodes:
            wait_for(node, ("CLUSTER", "INFO"), b"cluster_slots_ok:16384")
            wait_for(node, ("CLUSTER", "INFO"), b"cluster_state:ok")
            wait_for(node, ("CLUSTER", "INFO"), b"cluster_known_nodes:3")
        yield nodes


def demands(key: str) -> list[Demand]:
    return [
        Demand(f"{key}/requests", REQUESTS, 1, False),
        Demand(f"{key}/tokens", TOKENS, 5, True),
        Demand("everyone", SLOTS, 1, True),
    ]


async def test_a_cluster_decides_all_limits_of_a_request_on_one_node(
    cluster: list[RedisServer],
) -> None:
    """200 at once over many callers: exactly the shared 100 pass; all keys share a slot."""
    store = RedisLimits(f"redis+cluster://127.0.0.1:{cluster[0].port}", timeout_seconds=10.0)
    async with asyncio.timeout(DEADLINE_SECONDS):
        decisions = await asyncio.gather(
            *(
                store.take(demands(f"caller {n % 10}"), lease=f"{n}", lease_seconds=30.0)
                for n in range(200)
            )
        )
        await store.settle(demands("caller 0"), lease="0", costs=[1, 1, 0])
        await store.aclose()
    assert 100 == sum(decision.admitted for decision in decisions)
    assert 1 == sum(bool(node.keys()) for node in cluster)


async def test_tags_spread_limits_over_the_nodes(cluster: list[RedisServer]) -> None:
    """With a tag for each tenant, tenants lie on different nodes, each request's keys on one."""
    for node in cluster:
        node.flush()
    client = connect(f"redis+cluster://127.0.0.1:{cluster[0].port}")
    store = RedisLimits(
        client, timeout_seconds=10.0, tag=lambda demand: demand.key.partition("/")[0]
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        for number in range(12):
            decision = await store.take(
                demands(f"tenant {number}")[:2], lease=f"{number}", lease_seconds=30.0
            )
            assert decision.admitted
        await store.aclose()
        await client.aclose()
    assert all(node.keys() for node in cluster)


async def test_sentinel_names_the_master(redis_server: RedisServer, tmp_path: Path) -> None:
    """The store asks the sentinels for the master, and takes its limits there."""
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(f"sentinel monitor mymaster 127.0.0.1 {redis_server.port} 1\n")
    with RedisServer(configuration=configuration, sentinel=True) as sentinel:
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/mymaster/0"
        store = RedisLimits(url, timeout_seconds=10.0)
        async with asyncio.timeout(DEADLINE_SECONDS):
            decision = await store.take(demands("a"), lease="a", lease_seconds=30.0)
            await store.aclose()
    assert [99, 995, 99] == [status.remaining for status in decision.statuses]
    assert b"asgi-llm:limit:{asgi-llm}:a/requests" == redis_server.keys()[0]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1",
        "redis+ring://127.0.0.1",
        "redis+sentinel://127.0.0.1:26379",
        "redis+sentinel:///mymaster",
        "redis+sentinel://127.0.0.1:x/mymaster",
        "redis://127.0.0.1:x",
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    """The error names the option."""
    with pytest.raises(ConfigurationError) as caught:
        connect(url)
    assert "url" == caught.value.param
