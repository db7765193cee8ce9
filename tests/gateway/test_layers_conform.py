"""The gateway's own layers keep the promises that every layer makes."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
from starlette.types import ASGIApp

from asgi_llm.gateway._own_budgets import OwnBudgets, WhenReady
from asgi_llm.gateway.access_log import AccessLogMiddleware
from asgi_llm.gateway.cors import CORSMiddleware
from asgi_llm.gateway.health import Health
from asgi_llm.gateway.system import SystemMiddleware
from asgi_llm.middleware.cost import CostMiddleware
from asgi_llm.pricing import PriceTable
from asgi_llm.testing.conformance import Check, Example, Layer, checks


def access_log(app: ASGIApp) -> ASGIApp:
    return AccessLogMiddleware(app, logger=logging.getLogger("test.conformance.access"))


def cors(app: ASGIApp) -> ASGIApp:
    return CORSMiddleware(app, allow_origins=["https://app.test"])


def system(app: ASGIApp) -> ASGIApp:
    return SystemMiddleware(app, health=Health())


def cost(app: ASGIApp) -> ASGIApp:
    """The layer as a configuration makes it, whose first request waits for its database."""

    async def prepare() -> None:
        ready.append(True)

    ready: list[bool] = []
    prices = PriceTable(overrides={"*": {"*": {"input": 1, "output": 1}}})
    own = OwnBudgets(None, alert_shares=(), deny=True)
    layer = CostMiddleware(app, prices=prices, budgets_of=own, tell_cost=False)
    return WhenReady(layer, is_ready=lambda: bool(ready), prepare=prepare, start=lambda: None)


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    """An access log that nobody reads would pass everything and prove nothing."""
    logger = logging.getLogger("test.conformance.access")
    handler = logging.StreamHandler(io.StringIO())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield
    logger.removeHandler(handler)


@pytest.mark.parametrize("layer", [access_log, cors, system])
@pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)
async def test_a_layer_keeps_the_promise(layer: Layer, check: Check) -> None:
    """Each check of the conformance suite holds for each layer."""
    await check(layer)


@pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)
async def test_the_layer_of_costs_keeps_it(check: Check) -> None:
    """With a client that asks for usage, so that nothing is to be hidden from it."""
    document = {
        "model": "echo",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream_options": {"include_usage": True},
    }
    await check(cost, Example(document=document))
