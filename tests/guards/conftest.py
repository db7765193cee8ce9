"""Where a text stands, for all tests of guards."""

from __future__ import annotations

import pytest

from asgi_llm.guards.base import GuardContext


@pytest.fixture
def context() -> GuardContext:
    """A user's text, whole."""
    return GuardContext(direction="input", role="user", path="messages[0].content")


@pytest.fixture
def piece() -> GuardContext:
    """A piece of an answer, of which more may come."""
    return GuardContext(direction="output", role="assistant", path="", is_final=False)
