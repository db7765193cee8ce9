"""The texts of a plain chat, measured by the plain source and by the one for C: the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_llm.wire._plain_texts import measure_texts

ASCII = st.text(st.characters(max_codepoint=127), max_size=20)


@given(st.lists(ASCII, max_size=6))
def test_texts_in_ascii_are_measured(texts: list[str]) -> None:
    """All of their letters."""
    messages = [{"role": "user", "content": text} for text in texts]
    assert sum(map(len, texts)) == measure_texts(messages)
    assert sum(map(len, texts)) == measure_texts([{"content": text} for text in texts])


class Text(str):
    """A text by another name."""


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "Grüße"},
        {"role": "user", "content": None},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "user", "content": "Hi", "name": "ada"},
        {"role": "user", "content": Text("Hi")},
        {"role": "user"},
        {},
        "Hi",
        None,
        ["content"],
    ],
)
def test_what_is_more_than_a_role_and_a_plain_text_is_not_measured(message: Any) -> None:
    """Wherever it stands."""
    plain = {"role": "user", "content": "Hi"}
    assert 4 == measure_texts([plain, plain])
    assert -1 == measure_texts([message])
    assert -1 == measure_texts([plain, message])
    assert -1 == measure_texts([message, plain])


@pytest.mark.parametrize("messages", [None, "Hi", {}, ({"role": "user", "content": "Hi"},), 7])
def test_messages_are_a_list(messages: Any) -> None:
    """All else is none."""
    assert -1 == measure_texts(messages)
