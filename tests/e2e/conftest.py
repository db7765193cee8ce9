"""A gateway that all end-to-end tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.gateway_process import running_gateway


@pytest.fixture(scope="session")
def gateway_origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway that was started with no configuration and no keys."""
    with running_gateway(tmp_path_factory.mktemp("gateway")) as origin:
        yield origin
