"""A file that is changed under real gateway processes, with one worker and with four."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from asgi_llm.testing import Upstream, chat_answer, json_reply
from tests.e2e.faults.fleet import Fleet, poll
from tests.e2e.faults.load import under_load
from tests.e2e.faults.wire import Connection
from tests.services.postgres_server import children_of

KEY = "sk-test-reload-7f3b9c2e8a1d4560"
WITHIN_SECONDS = 5.0
"""In which all workers are on the version of a changed file."""
WAIT_SECONDS = 20.0
WATCHED = {"interval_seconds": 1, "enabled": True}
TOLD = {"interval_seconds": 1, "enabled": False}


def configuration(
    *stack: Any, reload: Mapping[str, Any] = WATCHED, models: Sequence[str] = (), **more: Any
) -> dict[str, Any]:
    """The offline provider behind a key, which may be for some models only."""
    key: dict[str, Any] = {"name": "only", "key": KEY}
    if models:
        key["models"] = list(models)
    server = {"port": 0, "log_format": "json", "graceful_shutdown_seconds": 10, "reload": reload}
    return {
        "server": server,
        "providers": {"e": {"type": "echo"}},
        "stack": ["access_log", {"auth": {"keys": [key], "database": False}}, *stack],
        **more,
    }


def change(folder: Path, content: Mapping[str, Any] | str) -> float:
    """Put another configuration in the place of the one there is; when that was."""
    new = folder / "asgi-llm.new"
    new.write_text(content if isinstance(content, str) else json.dumps(content))
    new.replace(folder / "asgi-llm.yaml")
    return time.monotonic()


async def told(connection: Connection) -> Any:
    """What a worker says of its configuration."""
    return (await connection.ask("/health/ready")).json["details"]["configuration"]


async def all_are(
    kept: Mapping[int, Sequence[Connection]],
    what: str,
    is_so: Callable[[Connection], Awaitable[bool]],
    *,
    seconds: float,
) -> None:
    """Wait until it is so of every worker."""

    async def everywhere() -> bool:
        return all([await is_so(mine[0]) for mine in kept.values()])

    await poll(what, everywhere, seconds=seconds)


def is_at(reloads: int) -> Callable[[Connection], Awaitable[bool]]:
    """Whether a worker has taken so many configurations since its start."""

    async def is_so(connection: Connection) -> bool:
        return bool((await told(connection))["reloads"] == reloads)

    return is_so


@pytest.mark.parametrize("workers", [1, 4])
async def test_b33_two_reloads_under_load(tmp_path: Path, workers: int) -> None:
    """No request fails, and within 5 seconds of each change all workers are on one version."""
    with Fleet(tmp_path, configuration(), workers=workers) as fleet:
        async with asyncio.timeout(120), fleet.connections(workers) as kept:
            assert workers == len(kept)
            versions = {(await told(mine[0]))["version"] for mine in kept.values()}
            assert 1 == len(versions)
            async with under_load(fleet, [KEY]) as load:
                await load.goes_on(time.monotonic(), seconds=WAIT_SECONDS)
                for number in (1, 2):
                    limit = {"rate_limit": {"limits": [f"{number}000000 requests/hour"]}}
                    change(tmp_path, configuration(limit))
                    await all_are(kept, "it is taken", is_at(number), seconds=WITHIN_SECONDS)
                    found = {(await told(mine[0]))["version"] for mine in kept.values()}
                    assert 1 == len(found)
                    versions |= found
                await load.goes_on(time.monotonic(), seconds=WAIT_SECONDS)
            assert 3 == len(versions)
            assert {200} == {answer.status for answer in load.chats}
            assert {200} == {answer.status for answer in load.lives}


@pytest.mark.parametrize("workers", [1, 4])
async def test_a_hang_up_is_heeded_at_once_and_ends_no_worker(tmp_path: Path, workers: int) -> None:
    """SIGHUP to the process that was started reaches every worker; no request fails."""
    with Fleet(tmp_path, configuration(reload=TOLD), workers=workers) as fleet:
        async with asyncio.timeout(120), fleet.connections(workers) as kept:
            processes = set(children_of(fleet.pid))
            async with under_load(fleet, [KEY]) as load:
                for number in (1, 2, 3):
                    change(tmp_path, configuration({"cors": {"allow_origins": ["*"]}}, reload=TOLD))
                    os.kill(fleet.pid, signal.SIGHUP)
                    await all_are(kept, "it is taken", is_at(number), seconds=WAIT_SECONDS)
                await load.goes_on(time.monotonic(), seconds=WAIT_SECONDS)
            assert processes == set(children_of(fleet.pid))
            assert {200} == {answer.status for answer in (*load.chats, *load.lives)}


async def test_two_warm_workers_both_see_a_change_of_policy(tmp_path: Path) -> None:
    """Models that a key may not use any more, and a lower limit, on workers that served it."""
    limit = {"rate_limit": {"limits": ["1000 requests/hour"], "store": "memory"}}
    with Fleet(tmp_path, configuration(limit), workers=2) as fleet:
        async with asyncio.timeout(60), fleet.connections(2) as kept:
            for mine in kept.values():
                assert 200 == (await mine[0].chat(KEY)).status
            change(tmp_path, configuration(limit, models=["e/other"]))

            async def is_refused(connection: Connection) -> bool:
                return (403, "model_not_allowed") == (await connection.chat(KEY)).told

            await all_are(kept, "the model is refused", is_refused, seconds=WITHIN_SECONDS)
            lower = {"rate_limit": {"limits": ["2 requests/hour"], "store": "memory"}}
            change(tmp_path, configuration(lower))

            async def is_limited(connection: Connection) -> bool:
                return 429 == (await connection.chat(KEY)).status

            await all_are(kept, "the limit counts", is_limited, seconds=WITHIN_SECONDS)


@pytest.mark.parametrize("workers", [1, 4])
async def test_streams_across_two_swaps_end_whole(tmp_path: Path, workers: int) -> None:
    """Each to its last word with the key, the model and the limits of its beginning."""
    slow: dict[str, Any] = {"providers": {"e": {"type": "echo", "chunk_delay_seconds": 0.25}}}
    words = " ".join(f"word{number}" for number in range(24))
    document = {
        "model": "e/echo",
        "messages": [{"role": "user", "content": words}],
        "stream": True,
    }
    with Fleet(tmp_path, configuration(reload=TOLD, **slow), workers=workers) as fleet:
        async with asyncio.timeout(60), fleet.connections(2 * workers) as kept:
            for _, second in kept.values():
                status, _ = await second.begin("/v1/chat/completions", key=KEY, document=document)
                assert 200 == status
            for number in (1, 2):
                change(tmp_path, configuration(reload=TOLD, models=[f"e/{number}"]))
                os.kill(fleet.pid, signal.SIGHUP)
                await all_are(kept, "it is taken", is_at(number), seconds=WAIT_SECONDS)
            for first, second in kept.values():
                assert 403 == (await first.chat(KEY)).status
                data = b""
                while chunk := await second.chunk():
                    data += chunk
                events = [line[6:] for line in data.decode().splitlines() if line[:6] == "data: "]
                assert "[DONE]" == events.pop()
                choices = [one for event in events for one in json.loads(event)["choices"]]
                assert words == "".join(one["delta"].get("content") or "" for one in choices)
                assert "stop" == choices[-1]["finish_reason"]


@pytest.mark.parametrize("workers", [1, 4])
async def test_no_row_is_lost_or_doubled(tmp_path: Path, workers: int) -> None:
    """As many rows as the provider has served, over reloads that change the layer and others."""

    def with_books(upstream: Upstream, number: int) -> dict[str, Any]:
        cost = {"tell_cost": bool(number % 2), "tag_names": [f"tag{number}"]}
        provider = {"type": "openai", "base_url": f"{upstream.url}/v1", "api_key": "none"}
        return configuration({"cost": cost}, reload=TOLD, providers={"e": provider})

    async with Upstream(lambda _: json_reply(chat_answer("four"))) as upstream:
        with Fleet(tmp_path, with_books(upstream, 0), workers=workers) as fleet:
            async with asyncio.timeout(120), fleet.connections(workers) as kept:
                async with under_load(fleet, [KEY]) as load:
                    await load.goes_on(time.monotonic(), seconds=WAIT_SECONDS)
                    lanes = set(os.listdir(tmp_path / "asgi-llm.journal"))
                    for number in range(1, 6):
                        change(tmp_path, with_books(upstream, number))
                        os.kill(fleet.pid, signal.SIGHUP)
                        await all_are(kept, "it is taken", is_at(number), seconds=WAIT_SECONDS)
                    await load.goes_on(time.monotonic(), seconds=WAIT_SECONDS)
                    assert lanes == set(os.listdir(tmp_path / "asgi-llm.journal"))
                assert {200} == {answer.status for answer in load.chats}
        assert len(load.chats) == len(upstream.ledger)
        with closing(sqlite3.connect(tmp_path / "asgi-llm.db")) as connection:
            found = connection.execute("SELECT COUNT(*), COUNT(DISTINCT id) FROM llm_ledger")
            assert (len(load.chats), len(load.chats)) == found.fetchone()


async def test_b32_a_worker_that_dies_while_the_file_is_bad(tmp_path: Path) -> None:
    """The others serve on with what they have, and it is replaced when the file is good again."""
    with Fleet(tmp_path, configuration(reload=WATCHED), workers=2) as fleet:
        async with asyncio.timeout(90), fleet.connections(2) as kept:
            (doomed, _), (_, mine) = kept.items()
            version = (await told(mine[0]))["version"]
            change(tmp_path, "providers: [")

            async def is_refused() -> bool:
                return bool((await told(mine[0]))["refused"] == 1)

            await poll("it is refused", is_refused, seconds=WAIT_SECONDS)
            os.kill(doomed, signal.SIGKILL)

            async def has_failed() -> bool:
                return "failed to start" in fleet.log()

            await poll("its successor cannot start", has_failed, seconds=WAIT_SECONDS)
            assert 200 == (await mine[0].chat(KEY)).status
            assert version == (await told(mine[0]))["version"]
            change(tmp_path, configuration(reload=WATCHED))
            async with fleet.connections(2) as anew:
                assert 2 == len(anew)
                for connections in anew.values():
                    assert 200 == (await connections[0].chat(KEY)).status


async def test_what_needs_a_restart_is_told_by_every_worker(tmp_path: Path) -> None:
    """Their number too, where it is from the file; and by one that takes another's place."""
    content = configuration(reload=WATCHED)
    content["server"]["workers"] = 2
    with Fleet(tmp_path, content, workers=2) as fleet:
        async with asyncio.timeout(90), fleet.connections(2) as kept:
            content["server"] |= {"workers": 3, "keep_alive_seconds": 5}
            change(tmp_path, content)
            await all_are(kept, "it is taken", is_at(1), seconds=WITHIN_SECONDS)
            expected = ["server.workers", "server.keep_alive_seconds"]
            for mine in kept.values():
                assert expected == (await told(mine[0]))["restart_required"]
            os.kill(next(iter(kept)), signal.SIGKILL)
            async with fleet.connections(2) as anew:
                for connections in anew.values():
                    assert expected == (await told(connections[0]))["restart_required"]


async def test_twenty_hang_ups_leave_no_descriptor_behind(tmp_path: Path) -> None:
    """The process holds as many files and sockets as after the first."""
    with Fleet(tmp_path, configuration({"cost": {}}, reload=TOLD), workers=1) as fleet:
        async with asyncio.timeout(60), fleet.connections(1) as kept:
            (mine,) = kept.values()
            counts = []
            for number in range(1, 21):
                assert 200 == (await mine[0].chat(KEY)).status
                os.kill(fleet.pid, signal.SIGHUP)
                await all_are(kept, "it is taken", is_at(number), seconds=WAIT_SECONDS)
                counts.append(len(os.listdir(f"/proc/{fleet.pid}/fd")))
            assert counts[1] == counts[-1]
