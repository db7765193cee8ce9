"""What a call used beside tokens, whatever a server says of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple

from asgi_llm.pricing import Quantities, read_quantities

RERANK = {"query": "q", "documents": ["d"] * 101}
IMAGES = {"prompt": "a cat", "n": 2}
SPEECH = {"input": "four", "voice": "alloy"}
CHAT: dict[str, Any] = {"messages": []}


@pytest.mark.parametrize(
    ("request_document", "answer", "expected"),
    [
        (CHAT, None, Quantities()),
        (CHAT, {"usage": {"prompt_tokens": 3}}, Quantities()),
        (IMAGES, None, Quantities(images=2)),
        (IMAGES, {"data": [{"b64_json": ""}]}, Quantities(images=1)),
        (IMAGES, {"data": []}, Quantities(images=0)),
        ({"prompt": "a cat"}, None, Quantities(images=1)),
        ({"prompt": "a tale", "max_tokens": 5}, None, Quantities()),
        ({"input": ["a"]}, {"data": [{"embedding": [0.1]}]}, Quantities()),
        (
            IMAGES,
            {
                "data": [{"url": "u"}, {"url": "v"}],
                "usage": {
                    "input_tokens_details": {"image_tokens": 323, "text_tokens": 50},
                    "output_tokens_details": {"image_tokens": 1056},
                },
            },
            Quantities(images=2, image_tokens_in=323, image_tokens_out=1056),
        ),
        (SPEECH, None, Quantities(characters=4)),
        ({"input": "four"}, None, Quantities()),
        ({}, {"usage": {"type": "duration", "seconds": 95}}, Quantities(audio_seconds=95)),
        ({}, {"duration": 3.2}, Quantities(audio_seconds=Decimal("3.2"))),
        ({}, {"duration": "3.2"}, Quantities(audio_seconds=Decimal("3.2"))),
        ({}, {"duration": "3.2.1"}, Quantities()),
        ({}, {"duration": True}, Quantities()),
        ({}, {"duration": float("nan")}, Quantities()),
        ({}, {"duration": -1}, Quantities()),
        (RERANK, None, Quantities(searches=2)),
        (RERANK, {"usage": {"search_units": 3}}, Quantities(searches=3)),
        (RERANK, {"meta": {"billed_units": {"search_units": 4}}}, Quantities(searches=4)),
        (RERANK, {"usage": {"search_units": "4"}}, Quantities(searches=0)),
        (
            CHAT,
            {"usage": {"server_tool_use": {"web_search_requests": 2}}},
            Quantities(web_searches=2),
        ),
        (
            CHAT,
            {"usage": {"server_tool_use_details": {"web_search_requests": 1}}},
            Quantities(web_searches=1),
        ),
    ],
)
def test_quantities_are_read_where_they_stand(
    request_document: dict[str, Any], answer: dict[str, Any] | None, expected: Quantities
) -> None:
    """In the answer, and before it came in the request."""
    assert expected == read_quantities(request_document, answer)


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12))
names = st.sampled_from(
    [
        "usage",
        "data",
        "duration",
        "seconds",
        "type",
        "meta",
        "billed_units",
        "search_units",
        "server_tool_use",
        "n",
        "prompt",
        "web_search_requests",
        "input_tokens_details",
        "image_tokens",
        "input",
        "voice",
        "documents",
        "query",
    ]
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4)
)
objects = st.dictionaries(names, values, max_size=6)


@given(request_document=objects, answer=objects)
def test_nothing_that_a_server_says_raises_or_counts_below_zero(
    request_document: dict[str, Any], answer: dict[str, Any]
) -> None:
    """Any JSON at all."""
    assert min(astuple(read_quantities(request_document, answer))) >= 0
