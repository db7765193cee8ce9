"""The layer keeps what every layer promises, with routes and without."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_llm.middleware.router import RouterMiddleware
from asgi_llm.routing.targets import Fallbacks, Route, Target
from asgi_llm.testing.conformance import Check, Layer, checks
from asgi_llm.types import Deployment


def target(name: str) -> Target:
    return Target(deployment=Deployment(provider="openai", model=name))


ROUTES = (
    Route(
        name="echo",
        targets=(target("a"), target("b")),
        strategy="weighted",
        fallbacks=Fallbacks(errors=("other",)),
    ),
    Route(name="other", targets=(target("c"),)),
)

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "one attempt": {"attempts": 1},
    "no deadline": {"deadline_seconds": None},
    "routes, streams passed at once": {"routes": ROUTES, "stream_peek_bytes": 0},
    "routes, hedged": {
        "routes": ROUTES,
        "hedge_after_seconds": 60,
        "stream_peek_bytes": 0,
    },
    "routes, one attempt": {"routes": ROUTES, "attempts": 1},
}

WAITS_FOR_CONTENT = frozenset(
    (
        "a_slow_client_slows_the_app",
        "cancellation_reaches_the_app",
        "chunks_leave_before_the_next_is_asked_for",
        "disconnect_reaches_a_streaming_app",
        "start_leaves_before_the_body",
    )
)
"""Checks that look for the start of a stream before its first content, which is held back."""


def layer_of(settings: dict[str, Any]) -> Layer:
    return lambda app: RouterMiddleware(app, **settings)


@pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
async def test_alone(settings: dict[str, Any], check: Check) -> None:
    """The layer alone, around an app of which it knows nothing, passes the whole suite."""
    await check(layer_of(settings))


@pytest.mark.parametrize(
    "check",
    [one for one in checks if one.__name__ not in WAITS_FOR_CONTENT],
    ids=lambda check: check.__name__,
)
async def test_with_routes(check: Check) -> None:
    """Routes whose streams are looked into pass all but what that gives up."""
    await check(layer_of({"routes": ROUTES}))
