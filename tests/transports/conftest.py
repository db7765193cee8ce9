"""What the transports' tests share: two loops, the drivers, plain and TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import pytest_asyncio
import trustme
import uvloop

from tests.transports.wires import Wire


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test runs on both loops."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest_asyncio.fixture(params=["http1-plain", "http1-tls", "httpx2-tls", "httpx-plain"])
async def wire(request: pytest.FixtureRequest, authority: trustme.CA) -> AsyncIterator[Wire]:
    driver, _, scheme = request.param.partition("-")
    wire = Wire(driver, authority if scheme == "tls" else None)
    yield wire
    await wire.aclose()


@pytest_asyncio.fixture(params=["plain", "tls"])
async def http1(request: pytest.FixtureRequest, authority: trustme.CA) -> AsyncIterator[Wire]:
    wire = Wire("http1", authority if request.param == "tls" else None)
    yield wire
    await wire.aclose()
