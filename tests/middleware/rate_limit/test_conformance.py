"""The layer keeps what every layer promises, with nothing to limit and with every kind of limit."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_llm.middleware.auth import AuthMiddleware
from asgi_llm.middleware.rate_limit import RateLimitMiddleware
from asgi_llm.testing.conformance import Check, Example, Layer, checks
from asgi_llm.types import Principal

SETTINGS: dict[str, dict[str, Any]] = {
    "no limit": {},
    "requests": {"limits": ["1000 requests/minute", "100000 requests/day per everyone"]},
    "concurrency": {"limits": ["1000 concurrent requests"]},
    "tokens": {"limits": ["1000000000 tokens/minute", "1000000000 output tokens/day"]},
    "models": {"model_limits": {"*": ["1000 requests/minute per model"]}},
    "observed": {"limits": ["0 requests/minute", "0 tokens/minute"], "mode": "observe"},
}


def layer_of(settings: dict[str, Any]) -> Layer:
    return lambda app: RateLimitMiddleware(app, **settings)


@pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
async def test_alone(settings: dict[str, Any], check: Check) -> None:
    """The layer alone, around an app of which it knows nothing, passes the whole suite."""
    await check(layer_of(settings))


@pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)
async def test_inside_authentication(check: Check) -> None:
    """Inside the layer that says who is calling it passes as well."""

    async def known(key: str) -> Principal | None:
        return Principal(key_id="k1", team_id="t1") if key == "sk-test" else None

    def layer(app: Any) -> Any:
        return AuthMiddleware(
            RateLimitMiddleware(
                app, limits=["1000 requests/minute per key", "1000000000 tokens/minute per team"]
            ),
            keys=known,
        )

    await check(layer, Example(headers=((b"authorization", b"Bearer sk-test"),)))
