"""What of a conversation Gemini has no place for, and prompts that are too long."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers.gemini import Gemini
from asgi_llm.types import Deployment

DEPLOYMENT = Deployment(provider="gemini", model="gemini-9-pro")
PNG = "data:image/png;base64,iVBORw0KGgo="


def asked(*messages: dict[str, Any]) -> tuple[Any, tuple[str, ...]]:
    """The body that is sent, and what is lost."""
    document = {"model": "x", "messages": list(messages)}
    translation = Gemini(api_key="AIza-0123456789").translate("chat", document, DEPLOYMENT)
    assert isinstance(translation.request.body, bytes)
    return json.loads(translation.request.body), translation.losses


def test_case_03_instructions_amid_a_chat_are_moved_ahead_and_reported() -> None:
    """There is one place for them, which is before everything."""
    body, losses = asked(
        {"role": "user", "content": "a"},
        {"role": "system", "content": "b"},
        {"role": "user", "content": "c"},
    )
    assert [{"text": "b"}] == body["systemInstruction"]["parts"]
    assert [{"role": "user", "parts": [{"text": "a"}, {"text": "c"}]}] == body["contents"]
    assert ("messages.role",) == losses


def test_case_08_a_last_turn_of_the_model_is_sent_as_it_is() -> None:
    """Gemini goes on from it."""
    body, losses = asked(
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "It begins"}
    )
    assert {"role": "model", "parts": [{"text": "It begins"}]} == body["contents"][-1]
    assert () == losses


@pytest.mark.parametrize(
    ("message", "lost"),
    [
        ({"role": "user", "content": "a", "name": "Ann"}, "messages.name"),
        (
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": PNG, "detail": "high"}},
                ],
            },
            "messages.content.image_url.detail",
        ),
    ],
    ids=["09-name", "13-detail"],
)
def test_what_gemini_has_no_place_for_is_reported(message: dict[str, Any], lost: str) -> None:
    """And refused where that is asked for."""
    assert (lost,) == asked(message)[1]
    document = {"model": "x", "messages": [message]}
    with pytest.raises(InvalidRequestError, match="strict"):
        Gemini(api_key="k", strict=True).translate("chat", document, DEPLOYMENT)


def test_case_90_a_prompt_that_is_too_long_has_openais_code() -> None:
    """Google says so in words only."""
    body = {
        "error": {
            "code": 400,
            "message": "The input token count (1200000) exceeds the maximum number of tokens "
            "allowed (1048576).",
            "status": "INVALID_ARGUMENT",
        }
    }
    error = Gemini(api_key="k").parse_error(400, [], json.dumps(body).encode())
    assert (400, "context_length_exceeded") == (error.status, error.code)


def test_case_28_results_without_ids_are_in_the_order_of_their_calls() -> None:
    """Whichever was ready first: two calls of one function have nothing else to be told by."""
    function = {"name": "weather", "arguments": "{}"}
    ids = [f"call_r-1_0_{number}" for number in range(3)]
    body, losses = asked(
        {"role": "user", "content": "a"},
        {
            "role": "assistant",
            "tool_calls": [{"id": one, "type": "function", "function": function} for one in ids],
        },
        *({"role": "tool", "tool_call_id": ids[n], "content": str(n)} for n in (2, 0, 1)),
        {"role": "user", "content": "b"},
    )
    *results, last = body["contents"][-1]["parts"]
    told = [part["functionResponse"]["response"]["result"] for part in results]
    assert (["0", "1", "2"], {"text": "b"}, ()) == (told, last, losses)
