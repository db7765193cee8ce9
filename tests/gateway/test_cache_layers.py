"""The caches of the prebuilt gateway: who shares, what it costs, and what the log says."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import redis

from asgi_llm.gateway.build import load_gateway
from asgi_llm.gateway.compose import Gateway
from asgi_llm.stores.key_material import new_key
from asgi_llm.testing import (
    ReceivedRequest,
    Recorder,
    Reply,
    Upstream,
    call,
    chat_answer,
    http_scope,
    json_reply,
)
from tests.services.redis_server import RedisServer, redis8_url

__all__ = ["redis8_url"]

JSON = (b"content-type", b"application/json")
DEAR = {"prices": {"overrides": {"up": {"*": {"input": 0, "output": 0, "per_request": 1}}}}}
"""Each call costs a USD."""
KEYS = [
    {"name": f"key-{name}-{number}", "key": f"sk-{name}-{number}-7f3b9c2e8a", "organization": name}
    for name in ("acme", "zeta")
    for number in (1, 2)
]
AUTH: Any = {"auth": {"keys": KEYS, "database": False}}


@asynccontextmanager
async def gateway_of(folder: Path, upstream: Upstream, *stack: Any) -> AsyncIterator[Gateway]:
    """A gateway in front of ``upstream``, started and ended."""
    gateway = load_gateway(
        {
            "providers": {"up": {"type": "openai", "base_url": f"{upstream.url}/v1"}},
            "storage": {"database": f"sqlite:///{folder}/gateway.db"},
            "stack": list(stack),
        }
    )
    async with asyncio.timeout(60), gateway.lifespan():
        yield gateway


async def ask(gateway: Gateway, text: str, key: str | None = None, **fields: Any) -> Recorder:
    """A chat about ``text``."""
    headers = [JSON] if key is None else [JSON, (b"authorization", f"Bearer {key}".encode())]
    document = {
        "model": "up/m",
        "temperature": 0,
        "messages": [{"role": "user", "content": text}],
        **fields,
    }
    scope = http_scope(path="/v1/chat/completions", headers=headers)
    return await call(gateway, scope, json=document)


def header(answer: Recorder, name: str) -> str | None:
    """A header of an answer."""
    found = [value for key, value in answer.headers if key == name.encode()]
    return found[0].decode() if found else None


def content(answer: Recorder) -> Any:
    """What the model said."""
    assert 200 == answer.status, answer.body
    return json.loads(answer.body)["choices"][0]["message"]["content"]


class Counting:
    """Answers with how often it was asked, and who it is told that asks what."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, request: ReceivedRequest) -> Reply:
        self.calls += 1
        return json_reply(chat_answer(f"answer {self.calls}"))


class Vectors:
    """An endpoint for embeddings in which all texts of so many words mean the same."""

    def __init__(self) -> None:
        self.is_broken = False

    def __call__(self, request: ReceivedRequest) -> Reply:
        if self.is_broken:
            return json_reply({"error": {"message": "broken"}}, 500)
        texts = json.loads(request.body)["input"]
        rows = [
            {
                "object": "embedding",
                "index": index,
                "embedding": [1.0 if at == len(text.split()) % 8 else 0.0 for at in range(8)],
            }
            for index, text in enumerate(texts)
        ]
        return json_reply({"object": "list", "data": rows, "model": "m"})


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Let everything else go on until ``is_so()``, for at most 20 seconds."""
    deadline = time.monotonic() + 20
    while not await is_so():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def ready(gateway: Gateway) -> Any:
    """What ``/health/ready`` says."""
    answer = await call(gateway, http_scope(method="GET", path="/health/ready"))
    return answer.status, json.loads(answer.body)["status"]


async def test_a_hit_is_told_and_costs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In headers, in the ledger and in the log."""
    journal = {"journal": {"enabled": False}}
    async with Upstream(Counting()) as upstream:
        stack = ("access_log", {"cost": {**DEAR, **journal}}, "exact_cache")
        with caplog.at_level(logging.INFO, "asgi_llm.access"):
            async with gateway_of(tmp_path, upstream, *stack) as gateway:
                first = await ask(gateway, "Hello")
                again = await ask(gateway, "Hello")
                passed = await ask(gateway, "Hello", temperature=1)
    names = ("x-cache-status", "x-cache-type", "x-cost", "x-cost-saved")
    assert ("MISS", None, "1", None) == tuple(header(first, name) for name in names)
    assert ("HIT", "EXACT", "0", "1") == tuple(header(again, name) for name in names)
    assert ("BYPASS", None, "1", None) == tuple(header(passed, name) for name in names)
    assert first.body == again.body
    with closing(sqlite3.connect(tmp_path / "gateway.db")) as connection:
        rows = connection.execute(
            "SELECT cost_micros, coalesce(saved_micros, 0) FROM llm_ledger ORDER BY at, id"
        )
        assert [(1_000_000, 0), (0, 1_000_000), (1_000_000, 0)] == rows.fetchall()
    lines = [record.getMessage() for record in caplog.records if record.name == "asgi_llm.access"]
    assert ["cache=miss", "cache=hit", "cache=bypass"] == [
        next(word for word in line.split() if word.startswith("cache=")) for line in lines
    ]
    assert ["cache_type=exact" in line for line in lines] == [False, True, False]


async def test_two_organizations_never_share(tmp_path: Path) -> None:
    """Over both caches, where all prompts of as many words mean the same; keys of one do share."""
    async with Upstream(Counting()) as upstream, Upstream(Vectors()) as vectors:
        embedder = {"http": {"base_url": f"{vectors.url}/v1", "model": "m"}}
        # No guard: the partition alone has to keep them apart.
        semantic = {"embedder": embedder, "guards": [], "embed_timeout_seconds": 10}
        stack = (AUTH, "exact_cache", {"semantic_cache": semantic})
        async with gateway_of(tmp_path, upstream, *stack) as gateway:
            found: dict[str, list[tuple[str, str | None, str | None]]] = {}
            for text in ("Tell me more", "Tell me more", "Say it again"):
                for key in KEYS:
                    answer = await ask(gateway, text, key["key"])
                    found.setdefault(key["organization"], []).append(
                        (
                            content(answer),
                            header(answer, "x-cache-status"),
                            header(answer, "x-cache-type"),
                        )
                    )
            assert (200, "ready") == await ready(gateway)
    # What is served by meaning is not kept as an answer to those very words.
    expected = [("HIT", "EXACT")] * 3 + [("HIT", "SEMANTIC")] * 2
    for number, organization in enumerate(("acme", "zeta"), start=1):
        mine = found[organization]
        assert {f"answer {number}"} == {text for text, _, _ in mine}
        assert [("MISS", None), *expected] == [(status, kind) for _, status, kind in mine]


async def test_what_is_made_anew_behind_an_answer_is_in_the_books(tmp_path: Path) -> None:
    """No client waits for that call, and somebody pays for it."""
    counting = Counting()
    async with Upstream(counting) as upstream:
        cost = {"cost": {**DEAR, "journal": {"enabled": False}}}
        cache = {"exact_cache": {"ttl_seconds": 0.001, "stale_while_revalidate_seconds": 60}}
        async with gateway_of(tmp_path, upstream, cost, cache) as gateway:

            async def is_made_anew() -> bool:
                answer = await ask(gateway, "Hello")
                return bool(content(answer) != "answer 1")

            assert "answer 1" == content(await ask(gateway, "Hello"))
            await until(is_made_anew)
    with closing(sqlite3.connect(tmp_path / "gateway.db")) as connection:
        rows = connection.execute("SELECT cost_micros FROM llm_ledger").fetchall()
    assert counting.calls == sum(cost == 1_000_000 for (cost,) in rows)
    assert counting.calls > 1


async def test_while_redis_is_away_requests_go_on(tmp_path: Path) -> None:
    """The gateway is degraded, and every answer comes from the provider."""
    with RedisServer() as server:
        async with Upstream(Counting()) as upstream:
            gateway = load_gateway(
                {
                    "providers": {"up": {"type": "openai", "base_url": f"{upstream.url}/v1"}},
                    "storage": {"redis": server.url},
                    "stack": [{"exact_cache": {"store": "redis", "store_timeout_seconds": 5}}],
                }
            )
            async with asyncio.timeout(60), gateway.lifespan():
                assert (200, "ready") == await ready(gateway)
                told = [header(await ask(gateway, "Hello"), "x-cache-status") for _ in range(2)]
                assert ["MISS", "HIT"] == told
                server.stop()
                told = [header(await ask(gateway, "Hello"), "x-cache-status") for _ in range(4)]
                assert ["MISS"] * 4 == told
                assert (200, "degraded") == await ready(gateway)


async def test_two_workers_share_by_redis_what_only_they_can_read(tmp_path: Path) -> None:
    """Encrypted, and compressed: what lies in Redis holds nothing of the answer."""
    secret = "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
    with RedisServer() as server:
        async with Upstream(Counting()) as upstream:
            mapping = {
                "providers": {"up": {"type": "openai", "base_url": f"{upstream.url}/v1"}},
                "storage": {"redis": server.url},
                "stack": [
                    {
                        "exact_cache": {
                            "encryption_keys": secret,
                            "compress_over_bytes": 10,
                            "store_timeout_seconds": 5,
                        }
                    }
                ],
            }
            one, other = load_gateway(mapping), load_gateway(mapping)
            async with asyncio.timeout(60), one.lifespan(), other.lifespan():
                assert "answer 1" == content(await ask(one, "Hello"))
                again = await ask(other, "Hello")
                assert ("HIT", "answer 1") == (header(again, "x-cache-status"), content(again))


async def test_without_its_embedder_the_cache_is_done_without(tmp_path: Path) -> None:
    """Requests miss, and the gateway is degraded until it answers again."""
    vectors = Vectors()
    async with Upstream(Counting()) as upstream, Upstream(vectors) as endpoint:
        embedder = {"http": {"base_url": f"{endpoint.url}/v1", "model": "m"}}
        semantic = {"embedder": embedder, "guards": [], "embed_timeout_seconds": 10}
        async with gateway_of(tmp_path, upstream, {"semantic_cache": semantic}) as gateway:
            vectors.is_broken = True
            assert "MISS" == header(await ask(gateway, "Hello there"), "x-cache-status")
            assert (200, "degraded") == await ready(gateway)
            vectors.is_broken = False
            assert "MISS" == header(await ask(gateway, "Hello there"), "x-cache-status")
            assert (200, "ready") == await ready(gateway)
            answer = await ask(gateway, "Hi there")
            assert ("HIT", "SEMANTIC") == (
                header(answer, "x-cache-status"),
                header(answer, "x-cache-type"),
            )


async def test_two_workers_share_what_lies_in_the_vectors_of_redis(redis8_url: str) -> None:
    """What one has paid for serves its own organization on the other, and nobody else."""
    with closing(redis.Redis.from_url(redis8_url)) as client:
        client.flushdb()
    async with Upstream(Counting()) as upstream, Upstream(Vectors()) as endpoint:
        semantic = {
            "embedder": {"http": {"base_url": f"{endpoint.url}/v1", "model": "m"}},
            "index": {"redis": {"dimension": 8}},
            "guards": [],
            "embed_timeout_seconds": 10,
            "index_timeout_seconds": 5,
        }
        mapping = {
            "providers": {"up": {"type": "openai", "base_url": f"{upstream.url}/v1"}},
            "storage": {"redis": redis8_url},
            "stack": [AUTH, {"semantic_cache": semantic}],
        }
        one, other = load_gateway(mapping), load_gateway(mapping)
        mine, colleague, stranger = (KEYS[number]["key"] for number in (0, 1, 2))
        async with asyncio.timeout(60), one.lifespan(), other.lifespan():
            assert "answer 1" == content(await ask(one, "Hello there", mine))
            hit = await ask(other, "Hi there", colleague)
            assert ("HIT", "SEMANTIC", "answer 1") == (
                header(hit, "x-cache-status"),
                header(hit, "x-cache-type"),
                content(hit),
            )
            assert "answer 2" == content(await ask(other, "Hi there", stranger))


async def test_what_was_observed_is_in_a_file(tmp_path: Path) -> None:
    """Nothing is served, and no prompt is written unless that is asked for."""
    shadow = tmp_path / "shadow.jsonl"
    async with Upstream(Counting()) as upstream, Upstream(Vectors()) as endpoint:
        semantic = {
            "embedder": {"http": {"base_url": f"{endpoint.url}/v1", "model": "m"}},
            "guards": [],
            "embed_timeout_seconds": 10,
            "mode": "observe",
            "shadow": {"file": str(shadow)},
        }
        async with gateway_of(tmp_path, upstream, {"semantic_cache": semantic}) as gateway:
            for text in ("Hello there", "Hi there"):
                assert "MISS" == header(await ask(gateway, text), "x-cache-status")
    [line] = shadow.read_text().splitlines()
    assert (True, False) == (json.loads(line)["similarity"] > 0.99, "there" in line)


async def test_an_admin_sees_the_caches_and_empties_them(tmp_path: Path) -> None:
    """Of the running gateway: what was saved, and a purge after which answers are made anew."""
    master = new_key()
    auth = {"auth": {"master_key": master, "keys": KEYS}}
    async with Upstream(Counting()) as upstream, Upstream(Vectors()) as endpoint:
        embedder = {"http": {"base_url": f"{endpoint.url}/v1", "model": "m"}}
        semantic = {"embedder": embedder, "guards": [], "embed_timeout_seconds": 10}
        stack = (auth, "exact_cache", {"semantic_cache": semantic})
        async with gateway_of(tmp_path, upstream, *stack) as gateway:

            async def admin(method: str, path: str, body: Any = None) -> Any:
                headers = [JSON, (b"authorization", f"Bearer {master}".encode())]
                answer = await call(gateway, http_scope(method, path, headers), json=body)
                assert 200 == answer.status, answer.body
                return json.loads(answer.body)

            acme, zeta = KEYS[0]["key"], KEYS[2]["key"]
            for key in (acme, zeta):
                for text in ("Hello there", "Hello there", "Hi there"):
                    entry = header(await ask(gateway, text, key), "x-cache-entry")
            states = (await admin("GET", "/admin/caches"))["data"]
            assert [("exact", 2, 2), ("semantic", 2, 2)] == [
                (one["name"], one["entries"], one["hits"]) for one in states
            ]
            assert states[0]["saved_input_tokens"] > 0
            found = (await admin("GET", "/admin/caches/entries?scope=organization:zeta"))["data"]
            assert [entry] == [one["id"] for one in found]
            purged = await admin("POST", "/admin/caches/purge", {"scope": "organization:zeta"})
            assert {"exact": 1, "semantic": 1} == purged["removed"]
            told = [
                header(await ask(gateway, "Hello there", key), "x-cache-status")
                for key in (acme, zeta)
            ]
            assert ["HIT", "MISS"] == told
            document = await admin("GET", "/openapi.json")
            assert "/admin/caches/purge" in document["paths"]
