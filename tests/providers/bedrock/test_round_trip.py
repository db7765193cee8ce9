"""Random chats to Converse's words and back: what both formats can say is not lost."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_llm.providers.bedrock import Bedrock
from asgi_llm.types import Deployment

ADAPTER = Bedrock(region="us-east-1", api_key="bedrock-api-key-0123456789")
DEPLOYMENT = Deployment(provider="bedrock", model="vendor.m-v1:0")

_text = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda t: t.strip())
_name = st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True)
_json_value = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=6,
)
_user_part: st.SearchStrategy[dict[str, Any]] = st.one_of(
    _text.map(lambda text: {"type": "text", "text": text}),
    st.sampled_from(["png", "jpeg", "gif", "webp"]).map(
        lambda word: {
            "type": "image_url",
            "image_url": {"url": f"data:image/{word};base64,iVBORw0KGgo="},
        }
    ),
)
_user: st.SearchStrategy[dict[str, Any]] = st.one_of(
    _text, st.lists(_user_part, min_size=1, max_size=3)
).map(lambda content: {"role": "user", "content": content})
_result = st.one_of(_text, st.dictionaries(_text, _json_value, max_size=3).map(json.dumps))


@st.composite
def _exchange(draw: st.DrawFn, number: int) -> list[dict[str, Any]]:
    """What the user says, and an answer: text, thoughts, and calls with their results."""
    messages = [draw(_user)]
    calls = [
        {
            "id": f"call_{number}_{index}",
            "type": "function",
            "function": {"name": draw(_name), "arguments": json.dumps(arguments)},
        }
        for index, arguments in enumerate(
            draw(st.lists(st.dictionaries(_text, _json_value, max_size=3), max_size=3))
        )
    ]
    said: dict[str, Any] = {"role": "assistant", "content": draw(_text)}
    if thoughts := draw(st.none() | _text):
        block = {"type": "thinking", "thinking": thoughts, "signature": draw(_name)}
        said["thinking_blocks"] = [block]
    if calls:
        said["tool_calls"] = calls
    messages.append(said)
    messages += [
        {"role": "tool", "tool_call_id": call["id"], "content": draw(_result)} for call in calls
    ]
    return messages


@st.composite
def chats(draw: st.DrawFn) -> dict[str, Any]:
    """A chat that both formats can say."""
    messages = [
        {"role": draw(st.sampled_from(["system", "developer"])), "content": text}
        for text in draw(st.lists(_text, max_size=2))
    ]
    for number in range(draw(st.integers(0, 2))):
        messages += draw(_exchange(number))
    messages.append(draw(_user))
    document: dict[str, Any] = {"model": "x", "messages": messages}
    options = {
        "max_tokens": st.integers(1, 10_000),
        "temperature": st.floats(0, 1),
        "top_p": st.floats(0, 1),
        "stop": st.lists(_text, min_size=1, max_size=4),
        "tools": st.lists(_name, min_size=1, max_size=3, unique=True).map(
            lambda names: [
                {
                    "type": "function",
                    "function": {
                        "name": name,
                        "description": f"about {name}",
                        "parameters": {"type": "object", "properties": {name: {"type": "string"}}},
                    },
                }
                for name in names
            ]
        ),
    }
    for name, values in options.items():
        value = draw(st.none() | values)
        if value is not None:
            document[name] = value
    return document


def _value(text: str) -> Any:
    """A result as what it means."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, dict) else text


def flat(document: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What an OpenAI chat says, in order and without its shape."""
    said: list[tuple[Any, ...]] = []
    for message in document["messages"]:
        role = "system" if message["role"] == "developer" else message["role"]
        if role == "tool":
            said.append(("result", message["tool_call_id"], _value(message["content"])))
            continue
        for block in message.get("thinking_blocks", ()):
            said.append(("thinking", block["thinking"], block["signature"]))
        content = message["content"]
        text = [{"type": "text", "text": content}]
        parts: list[dict[str, Any]] = text if isinstance(content, str) else content
        for part in parts:
            if part["type"] == "text":
                said.append((role, part["text"]))
            else:
                said.append((role, "image", part["image_url"]["url"]))
        for call in message.get("tool_calls", ()):
            function = call["function"]
            said.append(("call", call["id"], function["name"], json.loads(function["arguments"])))
    return said


def flat_converse(body: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The same of a request in Converse's words."""
    said: list[tuple[Any, ...]] = [("system", one["text"]) for one in body.get("system", ())]
    for message in body["messages"]:
        for block in message["content"]:
            ((kind, value),) = block.items()
            if kind == "text":
                said.append((message["role"], value))
            elif kind == "image":
                url = f"data:image/{value['format']};base64,{value['source']['bytes']}"
                said.append((message["role"], "image", url))
            elif kind == "reasoningContent":
                thought = value["reasoningText"]
                said.append(("thinking", thought["text"], thought["signature"]))
            elif kind == "toolUse":
                said.append(("call", value["toolUseId"], value["name"], value["input"]))
            else:
                (one,) = value["content"]
                said.append(("result", value["toolUseId"], one.get("json", one.get("text"))))
    return said


@settings(max_examples=150, deadline=None)
@given(chats())
def test_a_random_chat_survives(document: dict[str, Any]) -> None:
    """Each text, image, thought, call and result in its order, and each option."""
    translation = ADAPTER.translate("chat", document, DEPLOYMENT)
    assert () == translation.losses
    body = json.loads(bytes(translation.request.body))  # type: ignore[arg-type]
    assert flat(document) == flat_converse(body)
    sides = [message["role"] for message in body["messages"]]
    assert all(one != other for one, other in itertools.pairwise(sides))
    config = body.get("inferenceConfig", {})
    assert [document.get(name) for name in ("max_tokens", "temperature", "top_p", "stop")] == [
        config.get(name) for name in ("maxTokens", "temperature", "topP", "stopSequences")
    ]
    tools = [
        {
            "toolSpec": {
                "name": tool["function"]["name"],
                "description": tool["function"]["description"],
                "inputSchema": {"json": tool["function"]["parameters"]},
            }
        }
        for tool in document.get("tools", ())
    ]
    told = body.get("toolConfig", {}).get("tools", [])
    called = any("tool_calls" in message for message in document["messages"])
    assert (tools == told) if tools or not called else bool(told)


@settings(max_examples=100, deadline=None)
@given(st.lists(_text, max_size=3), st.lists(st.dictionaries(_text, _json_value), max_size=3))
def test_a_random_answer_survives(texts: list[str], inputs: list[dict[str, Any]]) -> None:
    """Its text, and its calls with their arguments."""
    content: list[dict[str, Any]] = [{"text": text} for text in texts]
    content += [
        {"toolUse": {"toolUseId": f"t{index}", "name": "look", "input": value}}
        for index, value in enumerate(inputs)
    ]
    message = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": "tool_use" if inputs else "end_turn",
        "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2},
    }
    document = {"model": "x", "messages": [{"role": "user", "content": "hi"}]}
    translation = ADAPTER.translate("chat", document, DEPLOYMENT)
    answer = ADAPTER.parse_response(translation, json.dumps(message).encode())
    (choice,) = json.loads(answer.body)["choices"]
    said = choice["message"]
    assert "".join(texts) == (said["content"] or "")
    assert inputs == [
        json.loads(call["function"]["arguments"]) for call in said.get("tool_calls", ())
    ]
