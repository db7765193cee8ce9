"""Fixtures of the provider tests: files beside the tests, and recorded traffic where it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture
def fixture_bytes() -> Callable[[str], bytes]:
    """Reads a file of ``tests/providers/fixtures``."""

    def read(name: str) -> bytes:
        return (FIXTURES / name).read_bytes()

    return read


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder of recorded traffic; the test is skipped, visibly, where it is not given."""
    folder = os.environ.get("ASGI_LLM_RECORDED")
    if not folder:
        pytest.skip("ASGI_LLM_RECORDED is not set: no recorded traffic to replay")
    return Path(folder)
