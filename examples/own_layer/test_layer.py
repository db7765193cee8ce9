"""The layer keeps every promise of a layer, and does what it is for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asgi_llm import client
from asgi_llm.errors import ConfigurationError
from asgi_llm.testing.conformance import Check, checks
from examples.own_layer.app import gateway
from examples.own_layer.layer import WordLimitMiddleware


@pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)
async def test_conformance(check: Check) -> None:
    """The layer is transparent, in every way that the suite knows."""
    await check(lambda app: WordLimitMiddleware(app, max_words=10_000_000))


async def ask(words: int) -> Any:
    """The answer to a chat of so many words."""
    message = {"role": "user", "content": "word " * words}
    async with asyncio.timeout(10), client(gateway) as http:
        return await http.post(
            "/v1/chat/completions", json={"model": "echo/echo", "messages": [message]}
        )


async def test_a_chat_within_the_limit_passes() -> None:
    """The answer says how many words are left."""
    answer = await ask(40)
    assert (200, "60") == (answer.status_code, answer.headers["x-words-remaining"])


async def test_a_chat_over_the_limit_is_refused() -> None:
    """The error has the form of all errors."""
    answer = await ask(101)
    assert 400 == answer.status_code
    assert "too_many_words" == answer.json()["error"]["code"]
    assert answer.headers["x-request-id"].startswith("req_")


def test_a_bad_option_names_itself() -> None:
    """The mistake is told where the stack is built."""
    with pytest.raises(ConfigurationError, match="max_words"):
        WordLimitMiddleware(gateway, max_words=0)
