"""Thoughts and their signatures: what Gemini gave goes back to it byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from asgi_llm.providers.base import Translation

Sent = Callable[..., dict[str, Any]]
Translate = Callable[..., Translation]
Whole = Callable[..., dict[str, Any]]
Streamed = Callable[..., list[dict[str, Any]]]

STAND_IN = "skip_thought_signature_validator"
USER = {"role": "user", "content": "hi"}


def answer(*parts: dict[str, Any], reason: str | None = "STOP") -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}}
    if reason is not None:
        candidate["finishReason"] = reason
    return {"candidates": [candidate], "responseId": "r1"}


@pytest.mark.parametrize(
    "parts",
    [
        [{"text": "hm", "thought": True}, {"text": "so", "thoughtSignature": "c2ln+w=="}],
        [{"text": "so", "thoughtSignature": "c2ln"}],
        [{"text": "", "thoughtSignature": "c2ln"}],
        [{"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "c2ln"}],
        [
            {"executableCode": {"code": "1"}, "thoughtSignature": "YQ=="},
            {"codeExecutionResult": {"output": "1"}},
            {"text": "so", "thoughtSignature": "Yg=="},
        ],
    ],
    ids=["thought-and-text", "text", "alone", "call", "code"],
)
def test_case_60_61_62_what_was_signed_goes_back_as_it_came(
    whole: Whole, sent: Sent, parts: list[dict[str, Any]]
) -> None:
    """A client that sends the message back sends all of it."""
    message = whole(answer(*parts))["choices"][0]["message"]
    messages = [USER, message]
    for call in message.get("tool_calls", ()):
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": "ok"})
    assert parts == sent({"messages": messages})["contents"][1]["parts"]


def test_case_61_a_signature_at_the_end_of_a_stream_is_of_all_thoughts(
    streamed: Streamed, sent: Sent
) -> None:
    """It comes with a text that is empty; it goes back with the text that is there."""
    events = [
        answer({"text": "h", "thought": True}, reason=None),
        answer({"text": "m", "thought": True}, reason=None),
        answer({"text": "so"}, reason=None),
        answer({"text": "", "thoughtSignature": "c2ln"}),
    ]
    rows = [row for chunk in streamed(events) for row in chunk["choices"]]
    blocks = [block for row in rows for block in row["delta"].get("thinking_blocks", ())]
    assert [{"type": "thinking", "thinking": "hm", "signature": "google:c2ln"}] == blocks
    said = {"role": "assistant", "content": "so", "thinking_blocks": blocks}
    parts = sent({"messages": [USER, said, USER]})["contents"][1]["parts"]
    assert [{"text": "hm", "thought": True}, {"text": "so", "thoughtSignature": "c2ln"}] == parts


def test_two_signed_thoughts_before_one_text_stay_two(sent: Sent) -> None:
    """Signed parts are never merged."""
    blocks = [
        {"type": "thinking", "thinking": "", "signature": f"google:{one}"} for one in ("YQ==", "Yg")
    ]
    said = {"role": "assistant", "content": "so", "thinking_blocks": blocks}
    assert [
        {"text": "", "thoughtSignature": "YQ=="},
        {"text": "so", "thoughtSignature": "Yg"},
    ] == sent({"messages": [USER, said, USER]})["contents"][1]["parts"]


@pytest.mark.parametrize(
    ("fields", "lost"),
    [
        (
            {"thinking_blocks": [{"type": "thinking", "thinking": "a", "signature": "ErUB"}]},
            "messages.thinking_blocks",
        ),
        (
            {"thinking_blocks": [{"type": "thinking", "thinking": "a", "signature": 5}]},
            "messages.thinking_blocks",
        ),
        (
            {"thinking_blocks": [{"type": "redacted_thinking", "data": "ErUB"}]},
            "messages.thinking_blocks",
        ),
        ({"reasoning_content": "hm"}, "messages.reasoning_content"),
        (
            {"provider_blocks": [{"type": "server_tool_use", "id": "a"}]},
            "messages.provider_blocks",
        ),
        ({"provider_blocks": [{"type": "toolCall"}]}, "messages.provider_blocks"),
    ],
)
def test_case_64_what_another_provider_thought_is_dropped_and_reported(
    sent: Sent, translate: Translate, fields: dict[str, Any], lost: str
) -> None:
    """Nothing is signed here."""
    said = {"role": "assistant", "content": "so", **fields}
    document = {"messages": [USER, said, USER]}
    assert [{"text": "so"}] == sent(document)["contents"][1]["parts"]
    assert (lost,) == translate(document).losses


@pytest.mark.parametrize(
    ("model", "signatures", "expected"),
    [
        ("gemini-3-flash", [None, None], [STAND_IN, None]),
        ("gemini-3-flash", ["c2ln", None], ["c2ln", None]),
        ("gemini-3-flash", [None, "c2ln"], [STAND_IN, "c2ln"]),
        ("unheard-of", [None], [STAND_IN]),
        ("gemini-2.5-pro", [None, "c2ln"], [None, "c2ln"]),
    ],
)
def test_case_62_the_first_call_of_a_turn_is_signed_or_has_the_stand_in(
    sent: Sent, model: str, signatures: list[str | None], expected: list[str | None]
) -> None:
    """Of each turn, whatever the client kept."""
    calls = [
        {
            "id": f"c{index}",
            "type": "function",
            "function": {"name": "f", "arguments": ""},
            **({"extra_content": {"google": {"thought_signature": one}}} if one else {}),
        }
        for index, one in enumerate(signatures)
    ]
    turn = [
        {"role": "assistant", "content": None, "tool_calls": calls},
        *({"role": "tool", "tool_call_id": call["id"], "content": "ok"} for call in calls),
    ]
    contents = sent({"messages": [USER, *turn, *turn]}, model=model)["contents"]
    for content in (contents[1], contents[3]):
        assert expected == [part.get("thoughtSignature") for part in content["parts"]]


@pytest.mark.parametrize("extra", [{"other": {"a": 1}}, "text", [1]])
def test_what_another_provider_put_beside_a_call_is_reported(
    translate: Translate, extra: Any
) -> None:
    """The call itself is told."""
    call = {
        "id": "c",
        "type": "function",
        "function": {"name": "f", "arguments": "{}"},
        "extra_content": extra,
    }
    translation = translate(
        {
            "messages": [
                USER,
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c", "content": "ok"},
            ]
        }
    )
    assert ("messages.tool_calls.extra_content",) == translation.losses
    assert isinstance(translation.request.body, bytes)
    assert (
        "f"
        == json.loads(translation.request.body)["contents"][1]["parts"][0]["functionCall"]["name"]
    )


def test_a_draft_of_a_picture_is_no_picture_of_the_answer(whole: Whole) -> None:
    """What the model thought in pictures is kept apart."""
    blob = {"mimeType": "image/png", "data": "iVBORw=="}
    message = whole(answer({"inlineData": blob, "thought": True}, {"text": "so"}))["choices"][0][
        "message"
    ]
    assert [{"type": "inlineData", "inlineData": blob}] == message["provider_blocks"]
    assert "images" not in message
