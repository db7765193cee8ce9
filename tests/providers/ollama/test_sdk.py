"""The official SDK's types read what we send, and read the answers as we do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ollama
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ollama import _types

from asgi_llm.providers.base import Translation
from asgi_llm.providers.ollama import Ollama
from asgi_llm.types import Deployment

Translate = Callable[..., Translation]

AT = Deployment(provider="ollama", model="m:1b")
PIXEL = "iVBORw0KGgo="

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda text: not text.isspace()
)
names = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(names, values, max_size=3)


@st.composite
def calls(draw: st.DrawFn) -> list[dict[str, Any]]:
    """An assistant's message with calls, and a result for each of them."""
    given = draw(st.lists(st.tuples(names, objects), min_size=1, max_size=3))
    made = [
        {
            "id": f"call_{index}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for index, (name, arguments) in enumerate(given)
    ]
    message: dict[str, Any] = {"role": "assistant", "content": draw(st.none() | words)}
    message["tool_calls"] = made
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": draw(words)} for call in made
    ]
    return [message, *results]


@st.composite
def users(draw: st.DrawFn) -> dict[str, Any]:
    """A user's message: text, or images and a text."""
    text = draw(words)
    images = draw(st.integers(0, 2))
    if not images:
        return {"role": "user", "content": text}
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    return {"role": "user", "content": [*[image] * images, {"type": "text", "text": text}]}


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """A chat request, without what Ollama has no words for."""
    messages: list[dict[str, Any]] = []
    if draw(st.booleans()):
        messages.append({"role": "system", "content": draw(words)})
    for _ in range(draw(st.integers(1, 3))):
        messages.append(draw(users()))
        if draw(st.booleans()):
            messages += draw(calls())
        else:
            said: dict[str, Any] = {"role": "assistant", "content": draw(words)}
            if draw(st.booleans()):
                said["reasoning_content"] = draw(words)
            messages.append(said)
    messages.append(draw(users()))
    document: dict[str, Any] = {"model": "m", "messages": messages, "stream": draw(st.booleans())}
    for name, value in (
        ("temperature", st.floats(0, 2)),
        ("top_p", st.floats(0, 1)),
        ("seed", st.integers(0, 2**31)),
        ("max_completion_tokens", st.integers(1, 10_000)),
        ("stop", st.lists(words, min_size=1, max_size=4)),
        ("reasoning_effort", st.sampled_from(["low", "medium", "high"])),
    ):
        if draw(st.booleans()):
            document[name] = draw(value)
    if draw(st.booleans()):
        document["tools"] = [
            {
                "type": "function",
                "function": {"name": name, "parameters": {"type": "object", "properties": {}}},
            }
            for name in draw(st.lists(names, min_size=1, max_size=3))
        ]
    if draw(st.booleans()):
        schema = {"type": "object", "properties": {draw(names): {"type": "string"}}}
        document["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "response", "schema": schema},
        }
    return document


def read_back(sent: dict[str, Any]) -> dict[str, Any]:
    """The OpenAI request that says what ``sent`` says to Ollama."""
    options = sent.get("options", {})
    messages = [read_message(message) for message in sent["messages"]]
    document = {"model": "m", "messages": messages, "stream": sent["stream"]}
    for name in ("temperature", "top_p", "seed", "stop"):
        if name in options:
            document[name] = options[name]
    if "num_predict" in options:
        document["max_completion_tokens"] = options["num_predict"]
    if "think" in sent:
        document["reasoning_effort"] = sent["think"]
    if "tools" in sent:
        document["tools"] = sent["tools"]
    if "format" in sent:
        document["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "response", "schema": sent["format"]},
        }
    return document


def read_message(message: dict[str, Any]) -> dict[str, Any]:
    role, content = message["role"], message["content"]
    if role == "tool":
        return {"role": role, "tool_call_id": message["tool_call_id"], "content": content}
    if role == "user" and "images" in message:
        images = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}
            for image in message["images"]
        ]
        return {"role": role, "content": [*images, {"type": "text", "text": content}]}
    found: dict[str, Any] = {"role": role, "content": content or None}
    if "thinking" in message:
        found["reasoning_content"] = message["thinking"]
    if "tool_calls" in message:
        found["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {
                    "name": call["function"]["name"],
                    "arguments": json.dumps(call["function"]["arguments"]),
                },
            }
            for call in message["tool_calls"]
        ]
    return found


@settings(max_examples=150, deadline=None)
@given(documents())
def test_a_conversation_comes_back_as_it_was(document: dict[str, Any]) -> None:
    """All that both formats can say survives, nothing is reported, and the SDK's types take it."""
    translation = Ollama().translate("chat", document, AT)
    body = translation.request.body
    assert isinstance(body, bytes)
    sent = json.loads(body)
    assert () == translation.losses
    assert document == read_back(sent)
    parsed = _types.ChatRequest.model_validate(sent)
    assert parsed.messages is not None
    for ours, theirs in zip(sent["messages"], parsed.messages, strict=True):
        images = [ollama.Image(value=image) for image in ours.get("images", ())]
        message = ollama.Message.model_validate({**dict(theirs), "images": images})
        assert (ours["role"], ours["content"]) == (message.role, message.content)
        assert ours.get("tool_name") == message.tool_name
        assert ours.get("images", []) == [image.model_dump() for image in message.images or ()]
        assert [call["function"]["arguments"] for call in ours.get("tool_calls", ())] == [
            call.function.arguments for call in message.tool_calls or ()
        ]
    assert sent.get("format") == parsed.format
    assert sent.get("think") == parsed.think
    ollama.Options.model_validate(sent.get("options", {}))


def test_the_sdk_takes_our_call_for_embeddings() -> None:
    """With all of its fields."""
    document = {"model": "m", "input": ["a", "b"], "dimensions": 8, "options": {"num_ctx": 9}}
    body = Ollama().translate("embeddings", document, AT).request.body
    assert isinstance(body, bytes)
    parsed = _types.EmbedRequest.model_validate_json(body)
    assert (["a", "b"], 8, False) == (parsed.input, parsed.dimensions, parsed.truncate)


def recordings(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(row) for row in (folder / "ollama.chat.jsonl").read_text().splitlines()]
    return [row for row in rows if row["request"]["url"].endswith("/api/chat")]


def test_recorded_answers_read_as_the_sdk_reads_them(recorded: Path) -> None:
    """Text, calls, finish and usage, whole or streamed in pieces of any size."""
    read = 0
    for row in recordings(recorded):
        response = row["response"]
        if response["status"] != 200:
            error = Ollama().parse_error(
                response["status"], [], json.dumps(response["json"]).encode()
            )
            assert (404, "model_not_found") == (error.status, error.code)
            continue
        sent = row["request"]["json"]
        stream = bool(sent["stream"])
        text = response["text"] if "text" in response else json.dumps(response["json"])
        lines = [ollama.ChatResponse.model_validate_json(line) for line in text.splitlines()]
        last = lines[-1]
        expected = (
            "".join(line.message.content or "" for line in lines),
            last.done_reason,
            last.prompt_eval_count,
            last.eval_count,
        )
        document = {
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "stream": stream,
        }
        translation = Ollama().translate("chat", document, AT)
        for size in (1, 13, len(text) * 4):
            assert expected == read_ours(translation, text.encode(), stream=stream, size=size)
            read += 1
    assert read >= 9


def read_ours(translation: Translation, data: bytes, *, stream: bool, size: int) -> Any:
    adapter = Ollama()
    if not stream:
        answer = adapter.parse_response(translation, data)
        (choice,) = json.loads(answer.body)["choices"]
        usage = answer.usage
        content, finish = choice["message"]["content"], choice["finish_reason"]
    else:
        (decoder,) = adapter.stream_decoders(translation)
        out = b"".join(decoder.feed(data[at : at + size]) for at in range(0, len(data), size))
        out += decoder.close()
        usage = decoder.usage
        assert decoder.done
        chunks = [json.loads(event[6:]) for event in out.split(b"\n\n")[:-2]]
        content = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        finish = chunks[-1]["choices"][0]["finish_reason"]
    assert usage is not None
    return content, finish, usage.input_tokens, usage.output_tokens


@pytest.mark.parametrize("field", ["message", "done", "done_reason", "prompt_eval_count"])
def test_we_read_the_fields_that_the_sdk_reads(field: str) -> None:
    """By the same names."""
    assert field in ollama.ChatResponse.model_fields
