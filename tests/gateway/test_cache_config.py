"""The caches of a configuration: every option has its place, and every mistake too."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway.build import build, load_gateway
from asgi_llm.gateway.config import load

ECHO = "providers: {e: {type: echo}}\n"
HTTP = "embedder: {http: {base_url: 'http://127.0.0.1:1/v1', model: m}}"
KEYS = "new:" + base64.b64encode(bytes(32)).decode()
NOWHERE = "redis://127.0.0.1:1/0"


def first_problem(tmp_path: Path, text: str) -> str:
    """The first line of the error for a file with ``text`` behind the provider's line."""
    file = tmp_path / "gateway.yaml"
    file.write_text(ECHO + text)
    with pytest.raises(ConfigurationError) as caught:
        build(load(file, environ={"KEYS": "one:Y2FuYXJ5", "BAD": "c a n a r y canary"}))
    assert "canary" not in caught.value.message
    return caught.value.message.splitlines()[0].removeprefix(f"{tmp_path}/")


CASES = {
    "an option": (
        "stack: [{exact_cache: {tll_seconds: 1}}]\n",
        "gateway.yaml:2:24: stack[0].exact_cache.tll_seconds: unknown key, did you mean "
        "ttl_seconds?",
    ),
    "a time": (
        "stack: [{exact_cache: {ttl_seconds: 0}}]\n",
        "gateway.yaml:2:37: stack[0].exact_cache.ttl_seconds: expected a number above 0 to ",
    ),
    "a scope": (
        "stack: [{exact_cache: {scope: everyone}}]\n",
        "gateway.yaml:2:31: stack[0].exact_cache.scope: expected one of key, organization, shared, "
        "team, user, got 'everyone'",
    ),
    "Redis that is not there": (
        "stack: [{exact_cache: {store: levels}}]\n",
        "gateway.yaml:2:24: stack[0].exact_cache.store: levels needs storage.redis",
    ),
    "a key for memory": (
        "stack: [{exact_cache: {encryption_keys: '${KEYS}'}}]\n",
        "gateway.yaml:2:24: stack[0].exact_cache.encryption_keys: it is for what lies in Redis",
    ),
    "a short key": (
        f"storage: {{redis: '{NOWHERE}'}}\nstack: [{{exact_cache: {{encryption_keys: "
        "'${KEYS}'}}]\n",
        "gateway.yaml:3:24: stack[0].exact_cache.encryption_keys: the key 'one' has 6 bytes, not "
        "16, 24 or 32",
    ),
    "a key that is none": (
        f"storage: {{redis: '{NOWHERE}'}}\nstack: [{{exact_cache: {{encryption_keys: "
        "'${BAD}'}}]\n",
        "gateway.yaml:3:24: stack[0].exact_cache.encryption_keys: a key is not base64",
    ),
    "an address of Redis": (
        "storage: {redis: 'http://u:canary@h'}\nstack: [exact_cache]\n",
        "gateway.yaml:2:11: storage.redis: the address of Redis begins with ",
    ),
    "two of them": (
        "stack: [exact_cache, exact_cache]\n",
        "gateway.yaml:2:22: stack[1].exact_cache: one layer exact_cache is enough",
    ),
    "no embedder": (
        "stack: [semantic_cache]\n",
        "gateway.yaml:2:9: stack[0].semantic_cache.embedder: the key is missing",
    ),
    "an embedder that is none": (
        "stack: [{semantic_cache: {embedder: {onx: {}}}}]\n",
        "gateway.yaml:2:38: stack[0].semantic_cache.embedder.onx: unknown key, did you mean onnx?",
    ),
    "an embedder that is empty": (
        "stack: [{semantic_cache: {embedder: {}}}]\n",
        "gateway.yaml:2:27: stack[0].semantic_cache.embedder: the key is missing; give one of "
        "sentence_transformers, onnx, http",
    ),
    "a folder": (
        "stack: [{semantic_cache: {embedder: {onnx: {folder: /nowhere}}}}]\n",
        "gateway.yaml:2:",
    ),
    "two indexes": (
        f"stack: [{{semantic_cache: {{{HTTP}, index: {{memory: {{}}, redis: {{}}}}}}}}]\n",
        "gateway.yaml:2:92: stack[0].semantic_cache.index: memory and redis cannot go together; "
        "give one of memory, postgresql, redis, qdrant",
    ),
    "a length of vectors": (
        f"storage: {{redis: '{NOWHERE}'}}\n"
        f"stack: [{{semantic_cache: {{{HTTP}, index: {{redis: {{}}}}}}}}]\n",
        "gateway.yaml:3:100: stack[0].semantic_cache.index.redis.dimension: the length of the "
        "model's vectors is needed, as in 384",
    ),
    "an index in Redis": (
        f"stack: [{{semantic_cache: {{{HTTP}, index: {{redis: {{dimension: 3}}}}}}}}]\n",
        "gateway.yaml:2:100: stack[0].semantic_cache.index.redis: redis needs storage.redis",
    ),
    "an index in SQLite": (
        f"stack: [{{semantic_cache: {{{HTTP}, index: {{postgresql: {{dimension: 3}}}}}}}}]\n",
        "gateway.yaml:1:1: storage.database: a semantic index in SQL needs PostgreSQL with "
        "pgvector",
    ),
    "a snapshot of several": (
        "server: {workers: 2}\n"
        f"stack: [{{semantic_cache: {{{HTTP}, index: {{memory: {{snapshot_path: s}}}}}}}}]\n",
        "gateway.yaml:3:109: stack[0].semantic_cache.index.memory.snapshot_path: there are 2 "
        "workers, and each would need a file of its own",
    ),
    "a snapshot's folder": (
        f"stack: [{{semantic_cache: {{{HTTP}, index: {{memory: {{snapshot_path: /no/s}}}}}}}}]\n",
        "gateway.yaml:2:109: stack[0].semantic_cache.index.memory.snapshot_path: the folder of "
        "/no/s does not exist",
    ),
    "a guard": (
        f"stack: [{{semantic_cache: {{{HTTP}, guards: [number]}}}}]\n",
        "gateway.yaml:2:101: stack[0].semantic_cache.guards[0]: unknown guard, did you mean "
        "numbers?",
    ),
    "a shadow": (
        f"stack: [{{semantic_cache: {{{HTTP}, shadow: {{file: /no/shadow.jsonl}}}}}}]\n",
        "gateway.yaml:2:101: stack[0].semantic_cache.shadow.file: /no/shadow.jsonl: No such file "
        "or directory",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_mistake_has_its_place(tmp_path: Path, name: str) -> None:
    """File, line, column and key path, and no secret."""
    text, expected = CASES[name]
    assert first_problem(tmp_path, text)[: len(expected)] == expected


EXACT: dict[str, Any] = {
    "store": "levels",
    "max_memory_bytes": 1_000_000,
    "near_seconds": 5,
    "store_timeout_seconds": 0.1,
    "compress_over_bytes": 100,
    "max_value_bytes": 1000,
    "encryption_keys": KEYS,
    "scope": "team",
    "without_principal": "bypass",
    "credential_headers": ["x-api-key"],
    "client_controls": False,
    "cache_when": "always",
    "ttl_seconds": 60,
    "max_ttl_seconds": 120,
    "stale_while_revalidate_seconds": 5,
    "stale_if_error_seconds": 6,
    "max_refreshes": 2,
    "max_entry_bytes": 1000,
    "share_calls": False,
    "share_wait_seconds": 1,
    "lease_seconds": 1,
    "replay_event_seconds": 0.01,
    "on_store_error": "deny",
}
SEMANTIC: dict[str, Any] = {
    "embedder": {
        "http": {
            "base_url": "http://127.0.0.1:1/v1",
            "model": "m",
            "api_key": "k",
            "dimensions": 8,
            "headers": {"x-a": "b"},
        }
    },
    "policy": "verified",
    "threshold": 0.6,
    "max_error_rate": 0.02,
    "confidence": 0.9,
    "guards": ["numbers", "negation"],
    "mode": "observe",
    "scope": "user",
    "without_principal": "share",
    "credential_headers": ["x-api-key"],
    "client_controls": False,
    "conversation_turns": 2,
    "max_temperature": 0.5,
    "max_text_characters": 100,
    "candidates": 3,
    "ttl_seconds": 60,
    "max_ttl_seconds": 120,
    "max_entry_bytes": 1000,
    "replay_event_seconds": 0.01,
    "on_store_error": "deny",
    "embed_timeout_seconds": 1,
    "index_timeout_seconds": 1,
}


@pytest.mark.parametrize("kind", ["memory", "redis", "qdrant"])
async def test_every_option_reaches_the_layers(tmp_path: Path, kind: str) -> None:
    """All of them together, each away from its default; nothing is asked of anybody."""
    shared = {"max_entries_per_partition": 5, "max_entries": 10, "method": "exact", "ef": 5}
    index: dict[str, Any] = {
        "memory": {
            "max_entries_per_partition": 5,
            "max_bytes": 2_000_000,
            "snapshot_path": str(tmp_path / "index"),
            "snapshot_seconds": 10,
        },
        "redis": shared,
        "qdrant": {**shared, "url": str(tmp_path / "qdrant"), "collection": "c"},
    }
    shadow = {"file": str(tmp_path / "shadow.jsonl"), "max_bytes": 1000, "texts": True}
    gateway = load_gateway(
        {
            "providers": {"e": {"type": "echo"}},
            "storage": {"redis": NOWHERE},
            "stack": [
                {"exact_cache": EXACT},
                {"semantic_cache": {**SEMANTIC, "index": {kind: index[kind]}, "shadow": shadow}},
            ],
        }
    )
    assert {"exact_cache", "embedder", "semantic_cache"} == set(gateway.health.checks)
    # With `deny` they cannot be done without.
    assert {"embedder"} == gateway.health.dispensable
    await gateway.aclose()


async def test_an_embedder_says_how_long_its_vectors_are(tmp_path: Path) -> None:
    """``dimensions`` of an endpoint stands for ``dimension`` of the index."""
    gateway = load_gateway(
        {
            "providers": {"e": {"type": "echo"}},
            "stack": [
                {
                    "semantic_cache": {
                        "embedder": SEMANTIC["embedder"],
                        "index": {"qdrant": {"url": str(tmp_path / "qdrant")}},
                    }
                }
            ],
        }
    )
    assert {"embedder", "semantic_cache"} == gateway.health.dispensable
    await gateway.aclose()
