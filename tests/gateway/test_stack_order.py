"""Orders of a stack that lose money or leak are told, in the log and with their place."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from starlette.middleware import Middleware

from asgi_llm.gateway.build import load_gateway
from asgi_llm.gateway.compose import compose
from asgi_llm.gateway.config import load
from asgi_llm.middleware.auth import AuthMiddleware
from asgi_llm.middleware.exact_cache import ExactCacheMiddleware
from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.echo import Echo
from asgi_llm.stores.keys_memory import MemoryKeys

AUTH: Any = {"auth": {"keys": [{"name": "a", "key": "sk-7f3b9c2e8a1d4560"}], "database": False}}
COST: Any = {"cost": {"ledger": {"enabled": False}, "budget_store": "memory"}}
EMBEDDER: Any = {"http": {"base_url": "http://127.0.0.1:1/v1", "model": "m"}}
SEMANTIC: Any = {"semantic_cache": {"embedder": EMBEDDER}}
SCOPED: Any = {"guardrails": {"output": [{"length": {"max_tokens": 9}, "scopes": ["tier:free"]}]}}
ANYONE: Any = {"guardrails": {"output": [{"length": {"max_tokens": 9}}]}}
BLIND = "stands outside of auth, and does not know who is calling: put it after auth"
OPEN = "stands outside of auth, and answers whoever was not let in: put it after auth"

TOLD: Any = {"telemetry": {"public": True}}
UNSEEN = "stands inside of auth, and counts nothing of what that answers itself: put it before auth"

STACKS: dict[str, tuple[list[Any], list[tuple[int, str, str]]]] = {
    "the usual order": (
        ["access_log", AUTH, "rate_limit", COST, SCOPED, "exact_cache", SEMANTIC],
        [],
    ),
    "telemetry outermost": (["access_log", TOLD, AUTH, "exact_cache"], []),
    "telemetry in auth": ([AUTH, TOLD], [(1, "telemetry", UNSEEN)]),
    "guards behind the caches": ([AUTH, "exact_cache", SEMANTIC, SCOPED], []),
    "no auth at all": ([COST, SCOPED, "exact_cache"], []),
    "limits by address before auth": (["rate_limit", AUTH], []),
    "guards for all before auth": ([ANYONE, AUTH], []),
    "a cache before auth": (["exact_cache", AUTH], [(0, "exact_cache", OPEN)]),
    "the other cache before auth": ([SEMANTIC, AUTH], [(0, "semantic_cache", OPEN)]),
    "a meter before auth": ([COST, AUTH], [(0, "cost", BLIND)]),
    "guards for some before auth": ([SCOPED, AUTH], [(0, "guardrails", BLIND)]),
    "a meter in a cache": (
        [AUTH, "exact_cache", COST],
        [
            (
                2,
                "cost",
                "stands inside of exact_cache, and books nothing of what that answers: put it "
                "before exact_cache",
            )
        ],
    ),
    "limits in a cache": (
        [AUTH, SEMANTIC, "exact_cache", "rate_limit"],
        [
            (
                3,
                "rate_limit",
                "stands inside of semantic_cache, and does not limit what that answers: put it "
                "before semantic_cache",
            )
        ],
    ),
}


@pytest.mark.parametrize("name", STACKS)
async def test_what_is_said_of_a_stack(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """One line in the log for each layer that stands wrong, and one note with its place."""
    stack, expected = STACKS[name]
    mapping = {"providers": {"e": {"type": "echo"}}, "stack": stack}
    notes = [f"stack[{index}].{layer}: {why}" for index, layer, why in expected]
    assert notes == list(load(mapping).notes)
    with caplog.at_level(logging.WARNING, "asgi_llm.gateway.compose"):
        gateway = load_gateway(mapping)
    lines = [record.getMessage() for record in caplog.records]
    assert [f"the stack's layer {layer} {why}" for _, layer, why in expected] == lines
    await gateway.aclose()


class OwnCache(ExactCacheMiddleware):
    """A cache of somebody's own."""


async def test_a_stack_of_ones_own_is_told_too(caplog: pytest.LogCaptureFixture) -> None:
    """Layers are known by what they are, subclasses included."""
    auth = Middleware(AuthMiddleware, keys=MemoryKeys({}))
    with caplog.at_level(logging.WARNING, "asgi_llm.gateway.compose"):
        gateway = compose([Middleware(OwnCache), auth], ProviderApp([Echo()]))
    assert [f"the stack's layer exact_cache {OPEN}"] == [
        record.getMessage() for record in caplog.records
    ]
    await gateway.aclose()
