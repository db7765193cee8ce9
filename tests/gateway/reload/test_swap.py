"""What changes with the file, what goes on, and what is closed."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from asgi_llm.gateway.reload import ReloadingGateway
from asgi_llm.stores.key_material import new_key
from asgi_llm.testing import (
    Recorder,
    Reply,
    Upstream,
    Wait,
    chat_answer,
    chat_events,
    json_reply,
    sse_reply,
)
from tests.gateway.reload.running import (
    DEADLINE_SECONDS,
    ask,
    asked,
    configuration,
    facts,
    file_of,
    running,
    write,
)

LIMIT = {"rate_limit": {"limits": ["5 requests/hour"]}}


def left(answer: Recorder) -> int:
    """How many requests are left."""
    value = answer.header("x-ratelimit-remaining-requests")
    assert value is not None
    return int(value)


def paused(go_on: asyncio.Event) -> Reply:
    """A stream that waits after its second event."""
    events = chat_events("one two three")
    return sse_reply([*events[:2], Wait(go_on), *events[2:]])


def text_of(answer: Recorder) -> str:
    """What a stream said in all."""
    chunks = [json.loads(event.data) for event in answer.events if event.data != b"[DONE]"]
    choices = [choice for chunk in chunks for choice in chunk.get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def test_a_change_counts_for_the_next_request(tmp_path: Path) -> None:
    """Models, providers and layers are those of the new file, and the version is another."""
    file = file_of(tmp_path)
    async with running(file) as gateway:
        before = await facts(gateway)
        models = {"n": {"targets": [{"provider": "f", "model": "echo"}]}}
        providers = {"f": {"type": "echo"}}
        write(
            file,
            configuration(
                tmp_path, {"cors": {"allow_origins": ["*"]}}, models=models, providers=providers
            ),
        )
        assert gateway.version != await gateway.reload()
        assert 404 == (await ask(gateway)).status
        assert 200 == (await ask(gateway, model="n")).status
        after = await facts(gateway)
        assert before["version"] != after["version"] == gateway.version
        assert before["loaded_at"] <= after["loaded_at"]
        assert 1 == after["reloads"]


async def test_a_limit_in_memory_goes_on_counting(tmp_path: Path) -> None:
    """Through a change of something else, and through one of its own options too."""
    file = file_of(tmp_path, LIMIT)
    async with running(file) as gateway:
        assert [4, 3] == [left(await ask(gateway)) for _ in range(2)]
        write(file, configuration(tmp_path, LIMIT, "access_log"))
        await gateway.reload()
        assert 2 == left(await ask(gateway))
        other = {"rate_limit": LIMIT["rate_limit"] | {"default_output_tokens": 5}}
        write(file, configuration(tmp_path, other))
        await gateway.reload()
        assert 1 == left(await ask(gateway))


async def test_slots_of_requests_under_way_stay_taken(tmp_path: Path) -> None:
    """A stream that began before the swap holds its slot until it ends, for new requests too."""
    go_on = asyncio.Event()
    async with Upstream() as upstream:
        upstream.script(paused(go_on), json_reply(chat_answer("four")))
        options: Any = {
            "providers": {"e": {"type": "openai", "base_url": f"{upstream.url}/v1"}},
        }
        slots = {"rate_limit": {"limits": ["1 concurrent request"]}}
        file = file_of(tmp_path, slots, **options)
        async with running(file) as gateway:
            stream = asyncio.create_task(ask(gateway, stream=True))
            await upstream.arrived(1)
            write(file, configuration(tmp_path, slots, "access_log", **options))
            await gateway.reload()
            assert 429 == (await ask(gateway)).status
            go_on.set()
            assert "one two three" == text_of(await stream)
            assert 200 == (await ask(gateway)).status


async def test_memory_caches_and_their_figures_go_on(tmp_path: Path) -> None:
    """An answer of before the swap is a hit after it, and the counts are not those of a new one."""
    cache = {"exact_cache": {"cache_when": "always"}}
    file = file_of(tmp_path, cache)
    async with running(file) as gateway:
        assert b"MISS" == (await ask(gateway)).header("x-cache-status")
        write(file, configuration(tmp_path, "access_log", cache))
        await gateway.reload()
        assert b"HIT" == (await ask(gateway)).header("x-cache-status")


async def test_budgets_in_memory_are_not_given_back(tmp_path: Path) -> None:
    """What was spent before the swap is spent after it; a new amount counts at once."""

    def cost(amount: str, shares: list[str]) -> dict[str, Any]:
        prices = {"overrides": {"e": {"*": {"input": 0, "output": 0, "per_request": 1}}}}
        budget = {"scope": "key", "amount_usd": amount, "alert_shares": shares}
        options = {"ledger": {"enabled": False}, "budget_store": "memory", "tell_cost": False}
        return {"cost": {"prices": prices, "budgets": [budget], **options}}

    key = new_key()
    auth = {"auth": {"keys": [{"name": "k", "key": key}]}}
    file = file_of(tmp_path, auth, cost("2", []))
    async with running(file) as gateway:
        assert 200 == (await ask(gateway, key)).status
        write(file, configuration(tmp_path, auth, cost("2", []), models={}))
        await gateway.reload()
        assert 200 == (await ask(gateway, key, model="e/echo")).status
        assert 400 == (await ask(gateway, key, model="e/echo")).status
        write(file, configuration(tmp_path, auth, cost("3", [])))
        await gateway.reload()
        assert 200 == (await ask(gateway, key)).status
        assert 400 == (await ask(gateway, key)).status


async def test_aliases_of_one_upstream_keep_their_own_prices(tmp_path: Path) -> None:
    """Two accounts at one address: a new price of one leaves that of the other."""
    async with Upstream() as upstream:
        upstream.script(*[json_reply(chat_answer("four", model="x")) for _ in range(4)])
        account = {"type": "openai", "base_url": f"{upstream.url}/v1"}

        def options(dear: int) -> dict[str, Any]:
            return {
                "providers": {"a": account, "b": account},
                "models": {
                    "cheap": {"targets": [{"provider": "a", "model": "x"}]},
                    "dear": {"targets": [{"provider": "b", "model": "x"}]},
                },
            }

        def cost(dear: int) -> dict[str, Any]:
            price = {"input": 0, "output": 0}
            overrides = {
                "a": {"x": price | {"per_request": 1}},
                "b": {"x": price | {"per_request": dear}},
            }
            return {"cost": {"prices": {"overrides": overrides}, "ledger": {"enabled": False}}}

        file = file_of(tmp_path, cost(5), **options(5))
        async with running(file) as gateway:
            seen = [(await ask(gateway, model=name)).header("x-cost") for name in ("cheap", "dear")]
            write(file, configuration(tmp_path, cost(7), **options(7)))
            await gateway.reload()
            seen += [
                (await ask(gateway, model=name)).header("x-cost") for name in ("cheap", "dear")
            ]
            assert [1, 5, 1, 7] == [float(value or b"nan") for value in seen]


async def test_b32_a_stream_ends_as_it_began(tmp_path: Path) -> None:
    """With the old guards, provider and connection to its end, while new requests get the new."""
    go_on = asyncio.Event()
    async with Upstream() as old, Upstream() as new:
        old.script(paused(go_on))
        new.script(json_reply(chat_answer("four")))

        def options(upstream: Upstream) -> dict[str, Any]:
            return {"providers": {"e": {"type": "openai", "base_url": f"{upstream.url}/v1"}}}

        hide = {"guardrails": {"output": [{"words": {"words": ["three"]}, "action": "redact"}]}}
        file = file_of(tmp_path, hide, **options(old))
        async with running(file) as gateway:
            stream = asyncio.create_task(ask(gateway, stream=True))
            await old.arrived(1)
            write(file, configuration(tmp_path, **options(new)))
            await gateway.reload()
            answer = json.loads((await ask(gateway)).body)
            assert "four" == answer["choices"][0]["message"]["content"]
            assert not stream.done()
            go_on.set()
            ended = await stream
            assert ended.complete
            assert "three" not in text_of(ended)
            assert text_of(ended).startswith("one two ")


async def test_a_stream_over_the_time_ends_in_an_error(tmp_path: Path) -> None:
    """After drain_seconds the old one is closed; what is still under way is told, and settled."""
    async with Upstream() as upstream:
        upstream.script(paused(asyncio.Event()))
        options: Any = {
            "providers": {"e": {"type": "openai", "base_url": f"{upstream.url}/v1"}},
            "server": {"reload": {"enabled": False, "drain_seconds": 0}},
        }
        slots = {"rate_limit": {"limits": ["1 concurrent request"]}}
        file = file_of(tmp_path, slots, **options)
        async with running(file) as gateway:
            stream = asyncio.create_task(ask(gateway, stream=True))
            await upstream.arrived(1)
            await gateway.reload()
            ended = await stream
            event = json.loads([one.data for one in ended.events if one.data != b"[DONE]"][-1])
            assert "configuration_changed" == event["error"]["code"]
            upstream.script(json_reply(chat_answer("four")))
            assert 200 == (await ask(gateway)).status


async def test_an_answer_over_the_time_is_a_503(tmp_path: Path) -> None:
    """One that has not begun is refused so that the client may try again at once."""
    async with Upstream() as upstream:
        upstream.script(json_reply(chat_answer("late"), before=[Wait(asyncio.Event())]))
        options: Any = {
            "providers": {"e": {"type": "openai", "base_url": f"{upstream.url}/v1"}},
            "server": {"reload": {"enabled": False, "drain_seconds": 0}},
        }
        file = file_of(tmp_path, **options)
        async with running(file) as gateway:
            asking = asyncio.create_task(ask(gateway))
            await upstream.arrived(1)
            await gateway.reload()
            answer = await asking
            assert 503 == answer.status
            assert b"1" == answer.header("retry-after")
            assert "configuration_changed" == json.loads(answer.body)["error"]["code"]


async def test_what_needs_a_restart_is_told_and_the_rest_is_taken(tmp_path: Path) -> None:
    """Port, workers, database and journal stay; a limit beside them is taken."""
    cost = {"cost": {"journal": {"folder": f"{tmp_path}/one"}}}
    file = file_of(tmp_path, cost)
    async with running(file) as gateway:
        changed = configuration(
            tmp_path,
            LIMIT,
            {"cost": {"journal": {"folder": f"{tmp_path}/two"}, "tell_cost": False}},
            server={"port": 4001, "workers": 3, "reload": {"enabled": False}},
            storage={"database": f"sqlite:///{tmp_path}/other.db"},
        )
        write(file, changed)
        await gateway.reload()
        answer = await ask(gateway)
        assert 4 == left(answer)
        assert answer.header("x-cost") is None
        expected = ["server.port", "server.workers", "storage.database", "stack.cost.journal"]
        assert expected == (await facts(gateway))["restart_required"]
        assert not (tmp_path / "two").exists()
        assert not (tmp_path / "other.db").exists()
        write(file, configuration(tmp_path, LIMIT, cost))
        await gateway.reload()
        assert "restart_required" not in await facts(gateway)


async def test_the_journal_is_opened_once_and_every_row_arrives_once(tmp_path: Path) -> None:
    """One lane for all gateways of the process; as many rows as the upstream has served."""
    calls, reloads = 60, 6
    async with Upstream(lambda _: json_reply(chat_answer("four"))) as upstream:
        options: Any = {"providers": {"e": {"type": "openai", "base_url": f"{upstream.url}/v1"}}}
        stacks: list[list[Any]] = [[{"cost": {}}], ["access_log", {"cost": {}}]]
        stacks.append([{"cost": {"on_store_error": "deny", "tell_cost": False}}])
        file = file_of(tmp_path, *stacks[0], **options)
        lanes: set[str] = set()
        async with running(file) as gateway:
            assert 200 == (await ask(gateway)).status

            async def load() -> None:
                for _ in range(calls // 6):
                    assert 200 == (await ask(gateway)).status

            async with asyncio.TaskGroup() as tasks:
                for _ in range(6):
                    tasks.create_task(load())
                for number in range(reloads):
                    write(file, configuration(tmp_path, *stacks[number % 3], **options))
                    await gateway.reload()
                    lanes |= {one.name for one in (tmp_path / "gateway.journal").iterdir()}
        assert reloads == gateway.reloads
        assert 1 == len(lanes)
        calls += 1
        assert calls == len(upstream.ledger)
        with closing(sqlite3.connect(tmp_path / "gateway.db")) as connection:
            rows = connection.execute("SELECT COUNT(*), COUNT(DISTINCT id) FROM llm_ledger")
            assert (calls, calls) == rows.fetchone()


async def test_twenty_reloads_leave_nothing_behind(tmp_path: Path) -> None:
    """No descriptor, task, or resource more than after the first."""
    stack: list[Any] = [
        {"auth": {"master_key": new_key(), "database": True, "mode": "observe"}},
        LIMIT,
        {"cost": {"webhooks": [{"url": "https://example.org/hook"}]}},
        {"guardrails": {"input": [{"words": {"words": ["x"]}, "action": "flag"}]}},
        {"exact_cache": {}},
    ]
    file = file_of(tmp_path, *stack)
    async with running(file) as gateway:
        figures = []
        for number in range(20):
            assert (await ask(gateway)).status in (200, 429)
            write(file, configuration(tmp_path, *stack, *(["access_log"] * (number % 2))))
            await gateway.reload()
            while gateway._retiring:
                await asyncio.wait(gateway._retiring)
            held = {entry.kind: len(entry.holds) for entry in gateway._carried._entries}
            figures.append((len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks()), held))
        # A task of the upkeep may be there for a moment; one left behind by each would be twenty.
        assert max(one[0] for one in figures[:5]) >= min(one[0] for one in figures[-5:])
        assert max(one[1] for one in figures[:5]) >= min(one[1] for one in figures[-5:])
        assert figures[1][2] == figures[-1][2]
        assert {1} == set(figures[-1][2].values())
    assert 0 == len(gateway._carried)


async def test_what_changed_is_closed_after_its_last_request(tmp_path: Path) -> None:
    """The old connections go when the stream over them has ended; those that are kept stay."""
    go_on = asyncio.Event()
    async with Upstream() as upstream:
        upstream.script(paused(go_on))

        def options(proxy: str | None) -> dict[str, Any]:
            provider = {"type": "openai", "base_url": f"{upstream.url}/v1", "proxy": proxy}
            return {"providers": {"e": provider}}

        file = file_of(tmp_path, LIMIT, **options(None))
        async with running(file) as gateway:
            stream = asyncio.create_task(ask(gateway, stream=True))
            await upstream.arrived(1)
            write(file, configuration(tmp_path))
            await gateway.reload()
            assert gateway._carried.has("limits.0")
            go_on.set()
            await stream
            await asyncio.wait(gateway._retiring)
            assert not gateway._carried.has("limits.0")
            assert gateway._carried.has("transport")


async def test_draining_outlives_a_swap(tmp_path: Path) -> None:
    """A process that ends is not ready, whichever gateway is asked."""
    file = file_of(tmp_path)
    async with running(file) as gateway:
        health = gateway.health
        await gateway.reload()
        health.drain()
        assert "draining" == (await asked(gateway, "/health/ready"))["status"]
        await gateway.reload()
        assert "draining" == (await asked(gateway, "/health/ready"))["status"]


async def test_a_mapping_can_be_read_again(tmp_path: Path) -> None:
    """A host's settings are no file: nothing is watched, and ``reload`` takes what they are now."""
    settings = configuration(tmp_path)
    gateway = ReloadingGateway(settings)
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert 200 == (await ask(gateway)).status
        settings["models"] = {"n": {"targets": [{"provider": "e", "model": "echo"}]}}
        await gateway.reload()
        assert 200 == (await ask(gateway, model="n")).status
        await gateway.aclose()
    assert 0 == len(gateway._carried)


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
async def test_the_gateways_own_pages_follow(tmp_path: Path, path: str) -> None:
    """``server.docs`` is taken like any other key."""
    file = file_of(tmp_path)
    async with running(file) as gateway:
        assert "paths" in gateway.openapi()
        write(file, configuration(tmp_path, server={"docs": False, "reload": {"enabled": False}}))
        await gateway.reload()
        assert "unknown_route" == (await asked(gateway, path))["error"]["code"]
