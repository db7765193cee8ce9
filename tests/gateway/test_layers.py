"""Layers of a configuration, from the file to the answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway.build import load_gateway
from asgi_llm.gateway.compose import Gateway
from asgi_llm.stores.key_material import digest_key, new_key
from asgi_llm.testing import Recorder, call, http_scope

MASTER = new_key()
FILE_KEY = new_key()
JSON = (b"content-type", b"application/json")
CHAT = {"model": "e/echo", "messages": [{"role": "user", "content": "Hello"}]}


def configuration(folder: Path, *stack: Any, **more: Any) -> dict[str, Any]:
    """A gateway over the offline provider, with a database of its own."""
    return {
        "providers": {"e": {"type": "echo"}},
        "storage": {"database": f"sqlite:///{folder}/gateway.db"},
        "stack": list(stack),
        **more,
    }


@asynccontextmanager
async def gateway_of(mapping: dict[str, Any]) -> AsyncIterator[Gateway]:
    """The gateway that ``mapping`` describes, started and ended."""
    gateway = load_gateway(mapping)
    async with gateway.lifespan():
        yield gateway


async def ask(
    gateway: Gateway,
    key: str | None,
    path: str = "/v1/chat/completions",
    document: dict[str, Any] | None = None,
) -> Recorder:
    """A POST with ``key``: a chat, unless it says otherwise."""
    headers = [JSON] if key is None else [JSON, (b"authorization", b"Bearer " + key.encode())]
    scope = http_scope(path=path, headers=headers)
    return await call(gateway, scope, json=CHAT if document is None else document)


async def look(gateway: Gateway, key: str, path: str) -> Recorder:
    """A GET with ``key``."""
    headers = [(b"authorization", b"Bearer " + key.encode())]
    return await call(gateway, http_scope(method="GET", path=path, headers=headers))


def code(answer: Recorder) -> tuple[int | None, str]:
    """Status and code of an error."""
    return answer.status, str(json.loads(answer.body)["error"]["code"])


async def test_a_key_of_the_file_lets_in_and_no_other(tmp_path: Path) -> None:
    """As text or as its digest, with models and an end of its own."""
    other, ended = new_key(), new_key()
    keys = [
        {"name": "text", "key": FILE_KEY},
        {"name": "digest", "sha256": digest_key(other).hex(), "models": ["e/other"]},
        {"name": "ended", "key": ended, "expires": "2020-01-31T00:00:00Z"},
    ]
    async with gateway_of(configuration(tmp_path, {"auth": {"keys": keys}})) as gateway:
        assert 200 == (await ask(gateway, FILE_KEY)).status
        assert (403, "model_not_allowed") == code(await ask(gateway, other))
        assert (401, "expired_api_key") == code(await ask(gateway, ended))
        assert (401, "invalid_api_key") == code(await ask(gateway, new_key()))
        assert (401, "invalid_api_key") == code(await ask(gateway, digest_key(other).hex()))
        assert (401, "missing_api_key") == code(await ask(gateway, None))
        open_to_all = await call(gateway, http_scope(method="GET", path="/health/ready"))
        assert 200 == open_to_all.status


async def test_keys_of_the_database_are_made_used_and_revoked(tmp_path: Path) -> None:
    """By the master key, which is good for nothing else; a revoked key ends at once here."""
    stack = {"auth": {"master_key": MASTER}}
    async with gateway_of(configuration(tmp_path, stack)) as gateway:
        assert (401, "invalid_api_key") == code(await ask(gateway, MASTER))
        made = await ask(gateway, MASTER, "/admin/keys", {"name": "first", "models": ["e/*"]})
        assert 201 == made.status
        key, key_id = (json.loads(made.body)[field] for field in ("key", "id"))
        assert 200 == (await ask(gateway, key)).status
        assert 403 == (await ask(gateway, key, "/admin/keys", {"name": "second"})).status
        revoked = await ask(gateway, MASTER, f"/admin/keys/{key_id}/revoke", {})
        assert 200 == revoked.status
        assert (401, "invalid_api_key") == code(await ask(gateway, key))


async def test_a_database_outlives_its_gateway(tmp_path: Path) -> None:
    """Keys are there after a restart, with the time of their last use."""
    stack = {"auth": {"master_key": MASTER}}
    async with gateway_of(configuration(tmp_path, stack)) as gateway:
        made = json.loads((await ask(gateway, MASTER, "/admin/keys", {"name": "kept"})).body)
        assert 200 == (await ask(gateway, made["key"])).status
    async with gateway_of(configuration(tmp_path, stack)) as gateway:
        assert 200 == (await ask(gateway, made["key"])).status
        shown = await look(gateway, MASTER, f"/admin/keys/{made['id']}")
        assert json.loads(shown.body)["last_used_at"] is not None


async def test_limits_hold_by_tier_and_are_told_to_the_admin(tmp_path: Path) -> None:
    """What a key has left is in its answers, and in the admin API without taking any of it."""
    limits = {
        "tiers": {"free": {"requests_per_minute": 2, "limits": ["100 requests/day"]}},
        "default_tier": "free",
    }
    stack = ({"auth": {"master_key": MASTER}}, {"rate_limit": limits})
    async with gateway_of(configuration(tmp_path, *stack)) as gateway:
        made = json.loads((await ask(gateway, MASTER, "/admin/keys", {"name": "first"})).body)
        answer = await ask(gateway, made["key"])
        assert (b"x-ratelimit-remaining-requests", b"1") in answer.headers
        for _ in range(2):
            shown = await look(gateway, MASTER, f"/admin/keys/{made['id']}/limits")
            rows = json.loads(shown.body)["data"]
            left = {row["window_seconds"]: row["remaining"] for row in rows}
            assert {60: 1, 86_400: 99} == left
        assert 200 == (await ask(gateway, made["key"])).status
        assert (429, "rate_limit_exceeded") == code(await ask(gateway, made["key"]))


async def test_the_document_describes_the_admin_api_where_there_is_one(tmp_path: Path) -> None:
    """Only where it is served."""
    stacks: dict[bool, tuple[Any, ...]] = {
        True: ({"auth": {"master_key": MASTER}},),
        False: ({"auth": {"keys": [{"name": "a", "key": FILE_KEY}], "database": False}},),
    }
    for served, stack in stacks.items():
        async with gateway_of(configuration(tmp_path, *stack)) as gateway:
            answer = await call(gateway, http_scope(method="GET", path="/openapi.json"))
            assert served is ("/admin/keys/{id}/rotate" in json.loads(answer.body)["paths"])
            found = await look(gateway, FILE_KEY, "/admin/keys")
            assert found.status == (401 if served else 404)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (
            {"auth": {"master_key": "sk-1234"}},
            "stack[0].auth.master_key: master_key is refused: it has fewer than 16 characters",
        ),
        ({"auth": {"database": False}}, "stack[0].auth.keys: nobody could be let in"),
        (
            {"auth": {"keys": [{"name": "a"}]}},
            "stack[0].auth.keys[0]: give either key or sha256",
        ),
        (
            {"auth": {"keys": [{"name": "a", "key": "sk-1234"}]}},
            "stack[0].auth.keys[0].key: this key is refused: it has fewer than 16 characters",
        ),
        (
            {"auth": {"keys": [{"name": "a", "key": "sk-changeme-changeme"}]}},
            "stack[0].auth.keys[0].key: this key is refused: it looks like one from an example",
        ),
        (
            {"auth": {"keys": [{"name": "a", "key": FILE_KEY, "limits": ["3 per day"]}]}},
            "stack[0].auth.keys[0].limits[0]: '3 per day'",
        ),
        (
            {"auth": {"keys": [{"name": "a", "key": FILE_KEY, "expires": "soon"}]}},
            "stack[0].auth.keys[0].expires: expected a date and time",
        ),
        (
            {"rate_limit": {"limits": ["many"]}},
            "stack[0].rate_limit.limits[0]: ",
        ),
        (
            {"rate_limit": {"default_tier": "gold"}},
            "stack[0].rate_limit.default_tier: ",
        ),
        (
            {"rate_limit": {"store": "redis"}},
            "stack[0].rate_limit.store: redis needs storage.redis",
        ),
    ],
)
def test_a_mistake_in_a_layer_has_its_place(
    tmp_path: Path, layer: dict[str, Any], expected: str
) -> None:
    """The path of the key, and no secret."""
    with pytest.raises(ConfigurationError) as caught:
        load_gateway(configuration(tmp_path, layer))
    assert caught.value.message.startswith(expected)
    assert "sk-1234" not in caught.value.message


def test_b38_a_guessable_key_is_taken_where_risks_are(tmp_path: Path) -> None:
    """``--insecure`` says so."""
    keys = [{"name": "a", "key": "sk-1234"}]
    load_gateway(
        configuration(tmp_path, {"auth": {"master_key": "sk-12345", "keys": keys}}), insecure=True
    )


def test_a_wrong_database_is_no_secret_told(tmp_path: Path) -> None:
    """The URL holds a password."""
    mapping = configuration(tmp_path, {"auth": {"master_key": MASTER}})
    mapping["storage"] = {"database": "mysql://u:canary@h/d"}
    with pytest.raises(ConfigurationError) as caught:
        load_gateway(mapping)
    assert caught.value.message.startswith("storage.database: ")
    assert "canary" not in caught.value.message


@pytest.mark.parametrize(
    ("storage", "options", "expected"),
    [
        ({"redis": "http://u:canary@h"}, {}, "storage.redis: the address of Redis begins with "),
        (
            {},
            {"storage": "memcached://h"},
            "stack[0].rate_limit.storage: only the algorithms fixed_window, moving_window, "
            "sliding_window can be counted there",
        ),
        (
            {},
            {"storage": "nowhere://h", "algorithm": "fixed_window"},
            "stack[0].rate_limit.storage: ",
        ),
    ],
)
def test_a_wrong_store_of_limits_has_its_place(
    storage: dict[str, str], options: dict[str, str], expected: str
) -> None:
    """Whether it is the layer's own or the one of all."""
    with pytest.raises(ConfigurationError) as caught:
        load_gateway(
            {
                "providers": {"e": {"type": "echo"}},
                "storage": storage,
                "stack": [{"rate_limit": {"limits": ["1 request/minute"], **options}}],
            }
        )
    assert caught.value.message.startswith(expected)
    assert "canary" not in caught.value.message


@pytest.mark.parametrize("algorithm", ["fixed_window", "moving_window", "sliding_window"])
async def test_windows_of_the_package_hold(tmp_path: Path, algorithm: str) -> None:
    """In memory, with slots beside them."""
    limits = ["2 requests/hour per everyone", "5 concurrent requests"]
    layer = {"rate_limit": {"limits": limits, "algorithm": algorithm}}
    async with gateway_of(configuration(tmp_path, layer)) as gateway:
        assert [200, 200, 429] == [(await ask(gateway, None)).status for _ in range(3)]


async def test_workers_share_a_limit_in_memory(tmp_path: Path) -> None:
    """Each gives out its part, so that all together give out no more than the limit."""
    layer = {"rate_limit": {"limits": ["8 requests/hour per everyone"]}}
    mapping = configuration(tmp_path, layer, server={"workers": 4})
    async with gateway_of(mapping) as gateway:
        assert [200, 200, 429] == [(await ask(gateway, None)).status for _ in range(3)]
