"""Random chats to Gemini's words and back: what both formats can say is not lost."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_llm.providers.gemini import Gemini
from asgi_llm.types import Deployment

GEMINI = Gemini(api_key="AIza-0123456789")
DEPLOYMENT = Deployment(provider="gemini", model="gemini-9-flash")

_text = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda t: t.strip())
_name = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}", fullmatch=True)
_signature = st.binary(min_size=1, max_size=9).map(lambda data: base64.b64encode(data).decode())
_json_value = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=6,
)
_image = st.sampled_from(["data:image/png;base64,iVBORw0KGgo=", "https://example.com/a.png"])
_user_part: st.SearchStrategy[dict[str, Any]] = st.one_of(
    _text.map(lambda text: {"type": "text", "text": text}),
    _image.map(lambda url: {"type": "image_url", "image_url": {"url": url}}),
)
_user: st.SearchStrategy[dict[str, Any]] = st.lists(_user_part, min_size=1, max_size=3).map(
    lambda content: {"role": "user", "content": content}
)


@st.composite
def _exchange(draw: st.DrawFn, number: int) -> list[dict[str, Any]]:
    """What the user says, and an answer: thoughts, text, and calls with their results."""
    said: dict[str, Any] = {"role": "assistant", "content": draw(_text)}
    if thoughts := draw(st.none() | _text):
        signature = f"google:{draw(_signature)}"
        block = {"type": "thinking", "thinking": thoughts, "signature": signature}
        said["thinking_blocks"] = [block]
    results = []
    for index, arguments in enumerate(
        draw(st.lists(st.dictionaries(_text, _json_value, max_size=3), max_size=3))
    ):
        call: dict[str, Any] = {
            "id": f"fc-{number}-{index}",
            "type": "function",
            "function": {"name": draw(_name), "arguments": json.dumps(arguments)},
        }
        if index == 0 or draw(st.booleans()):
            call["extra_content"] = {"google": {"thought_signature": draw(_signature)}}
        said.setdefault("tool_calls", []).append(call)
        content = draw(_text.filter(lambda text: not text.lstrip().startswith("{")))
        results.append({"role": "tool", "tool_call_id": call["id"], "content": content})
    return [draw(_user), said, *results]


@st.composite
def _chats(draw: st.DrawFn) -> dict[str, Any]:
    messages = [{"role": "system", "content": text} for text in draw(st.lists(_text, max_size=2))]
    for number in range(draw(st.integers(0, 3))):
        messages += draw(_exchange(number))
    document: dict[str, Any] = {"model": "gemini/g", "messages": [*messages, draw(_user)]}
    if names := draw(st.lists(_name, max_size=3, unique=True)):
        document["tools"] = [
            {"type": "function", "function": {"name": name, "description": draw(_text)}}
            for name in names
        ]
    for name, values in {
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1),
        "seed": st.integers(0, 2**31 - 1),
        "max_completion_tokens": st.integers(1, 1000),
        "stop": st.lists(_text, min_size=1, max_size=5),
        "n": st.integers(2, 4),
    }.items():
        if (value := draw(st.none() | values)) is not None:
            document[name] = value
    return document


def read_back(body: dict[str, Any]) -> dict[str, Any]:
    """A body of ``generateContent`` as the chat that it stands for."""
    system = body.get("systemInstruction", {"parts": []})["parts"]
    messages: list[dict[str, Any]] = [{"role": "system", "content": one["text"]} for one in system]
    for content in body["contents"]:
        if content["role"] == "model":
            messages.append(_said(content["parts"]))
            continue
        asked: list[dict[str, Any]] = []
        for part in content["parts"]:
            if answered := part.get("functionResponse"):
                messages.append(
                    {
                        "role": "tool",
                        "tool_call_id": answered["id"],
                        "content": answered["response"]["result"],
                    }
                )
            elif "text" in part:
                asked.append({"type": "text", "text": part["text"]})
            else:
                asked.append({"type": "image_url", "image_url": {"url": _url(part)}})
        if asked:
            messages.append({"role": "user", "content": asked})
    found = {"model": "gemini/g", "messages": messages}
    for tool in body.get("tools", ()):
        found["tools"] = [
            {"type": "function", "function": one} for one in tool["functionDeclarations"]
        ]
    names = {
        "temperature": "temperature",
        "topP": "top_p",
        "seed": "seed",
        "maxOutputTokens": "max_completion_tokens",
        "stopSequences": "stop",
        "candidateCount": "n",
    }
    config = body.get("generationConfig", {})
    return found | {names[name]: value for name, value in config.items()}


def _url(part: dict[str, Any]) -> str:
    if blob := part.get("inlineData"):
        return f"data:{blob['mimeType']};base64,{blob['data']}"
    return str(part["fileData"]["fileUri"])


def _said(parts: list[dict[str, Any]]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant"}
    thought = ""
    for part in parts:
        signature = part.get("thoughtSignature")
        if call := part.get("functionCall"):
            told = {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": json.dumps(call["args"])},
            }
            if signature is not None:
                told["extra_content"] = {"google": {"thought_signature": signature}}
            message.setdefault("tool_calls", []).append(told)
        elif part.get("thought"):
            thought = part["text"]
        else:
            message["content"] = part["text"]
            if signature is not None:
                message["thinking_blocks"] = [
                    {"type": "thinking", "thinking": thought, "signature": f"google:{signature}"}
                ]
    return message


def _merged(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Neighbours of one side as one message, as the sides of a chat alternate."""
    found: list[dict[str, Any]] = []
    for role, group in itertools.groupby(messages, key=lambda one: one["role"]):
        if role == "user":
            found.append({"role": role, "content": [p for one in group for p in one["content"]]})
        else:
            found += group
    return found


@settings(max_examples=150, deadline=None)
@given(_chats())
def test_a_chat_survives_the_way_to_gemini_and_back(document: dict[str, Any]) -> None:
    """Instructions, turns, media, thoughts, calls, results, tools and settings."""
    translation = GEMINI.translate("chat", document, DEPLOYMENT)
    assert isinstance(translation.request.body, bytes)
    body = json.loads(translation.request.body)
    for content in body["contents"]:
        types.Content.model_validate(content)
    expected = {**document, "messages": _merged(document["messages"])}
    assert expected == read_back(body)
    assert () == translation.losses
