"""Each quirk rewrites what its name says, and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.providers._quirks import _REWRITES, QUIRKS, apply_quirks, check_quirks
from asgi_llm.providers.compatible import COMPATIBLE

CALL = {"id": "call_0123456789abcdef", "type": "function", "function": {"name": "f"}}

CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("max_tokens_only", {"max_completion_tokens": 5}, {"max_tokens": 5}),
    ("max_tokens_only", {"max_completion_tokens": 5, "max_tokens": 3}, {"max_tokens": 3}),
    ("max_completion_tokens_only", {"max_tokens": 5}, {"max_completion_tokens": 5}),
    ("no_stream_options", {"stream": True, "stream_options": {}}, {"stream": True}),
    (
        "developer_as_system",
        {"messages": [{"role": "developer", "content": "a"}, {"role": "user", "content": "b"}]},
        {"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]},
    ),
    (
        "text_as_string",
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": t} for t in ("a", "b")]},
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]},
                {"role": "user", "content": []},
                {"role": "user", "content": "c"},
            ]
        },
        {
            "messages": [
                {"role": "user", "content": "ab"},
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]},
                {"role": "user", "content": []},
                {"role": "user", "content": "c"},
            ]
        },
    ),
    ("seed_as_random_seed", {"seed": 7}, {"random_seed": 7}),
    (
        "short_tool_ids",
        {
            "messages": [
                {"role": "assistant", "tool_calls": [CALL, {**CALL, "id": "abcDEF123"}]},
                {"role": "tool", "tool_call_id": CALL["id"], "content": "r"},
                {"role": "tool", "tool_call_id": "abcDEF123", "content": "r"},
            ]
        },
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{**CALL, "id": "aff2e571f"}, {**CALL, "id": "abcDEF123"}],
                },
                {"role": "tool", "tool_call_id": "aff2e571f", "content": "r"},
                {"role": "tool", "tool_call_id": "abcDEF123", "content": "r"},
            ]
        },
    ),
]


@pytest.mark.parametrize(("quirk", "before", "after"), CASES)
def test_a_quirk_rewrites_the_request(
    quirk: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """The rewritten document, while the client's own stays as it was."""
    original = copy.deepcopy(before)
    assert after == apply_quirks(before, frozenset({quirk}))
    assert original == before


@pytest.mark.parametrize("quirk", sorted(_REWRITES))
def test_a_quirk_leaves_a_document_alone_that_it_does_not_concern(quirk: str) -> None:
    """Also where messages are not what they should be."""
    for document in ({"model": "m"}, {"messages": None}, {"messages": ["x", {"role": "user"}]}):
        assert document == apply_quirks(document, frozenset({quirk}))


def test_every_rewrite_has_a_case_here() -> None:
    """No quirk without a proof."""
    assert set(_REWRITES) == {quirk for quirk, _, _ in CASES}


def test_every_quirk_is_described_and_every_row_uses_described_ones() -> None:
    """The table names only what exists."""
    assert set(_REWRITES) < set(QUIRKS)
    for row in COMPATIBLE.values():
        assert row.quirks == check_quirks(row.quirks)


def test_an_unknown_quirk_is_refused_by_name() -> None:
    """A typing error must not be silently without effect."""
    with pytest.raises(ConfigurationError, match="unknown quirk 'max_token_only'"):
        check_quirks(["max_token_only"])
