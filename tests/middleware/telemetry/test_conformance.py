"""The layer keeps what every layer promises, alone and with the others."""

from __future__ import annotations

import pytest
from starlette.types import ASGIApp

from asgi_llm.integrations.prometheus import PrometheusMetrics
from asgi_llm.middleware.auth import AuthMiddleware
from asgi_llm.middleware.exact_cache import ExactCacheMiddleware
from asgi_llm.middleware.telemetry import TelemetryMiddleware
from asgi_llm.testing.conformance import Check, Example, checks
from asgi_llm.types import Principal


def alone(app: ASGIApp) -> ASGIApp:
    return TelemetryMiddleware(app, metrics=PrometheusMetrics())


def users(app: ASGIApp) -> ASGIApp:
    return TelemetryMiddleware(
        app, metrics=PrometheusMetrics(), models=["echo"], max_models=0, max_users=5
    )


def twice(app: ASGIApp) -> ASGIApp:
    metrics = PrometheusMetrics()
    inner = TelemetryMiddleware(app, metrics=metrics)
    return TelemetryMiddleware(inner, metrics=metrics)


@pytest.mark.parametrize("layer", [alone, users, twice])
@pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)
async def test_alone(layer: type[TelemetryMiddleware], check: Check) -> None:
    """With its defaults, with labels for users, and around itself."""
    await check(layer)


@pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)
async def test_around_others(check: Check) -> None:
    """Outside of authentication and a cache, whose state it reads."""

    async def known(key: str) -> Principal | None:
        return Principal(key_id="k1", user_id="u1") if key == "sk-test" else None

    def layer(app: ASGIApp) -> ASGIApp:
        cached = ExactCacheMiddleware(app, share_calls=False)
        return TelemetryMiddleware(
            AuthMiddleware(cached, keys=known), metrics=PrometheusMetrics(), max_users=5
        )

    await check(layer, Example(headers=((b"authorization", b"Bearer sk-test"),)))
