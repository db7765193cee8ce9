"""The official SDK's types read what we send, and read the answers as we do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_llm.providers.base import Translation
from asgi_llm.providers.cohere import Cohere
from asgi_llm.types import Deployment

types = pytest.importorskip("cohere.types")
v2_types = pytest.importorskip("cohere.v2.types")
unchecked = pytest.importorskip("cohere.core.unchecked_base_model")
pydantic = pytest.importorskip("pydantic")

Translate = Callable[..., Translation]
Sent = Callable[..., dict[str, Any]]

AT = Deployment(provider="cohere", model="command-a-03-2025")
PIXEL = "data:image/png;base64,iVBORw0KGgo="
FIELDS = {
    "citation_options", "documents", "frequency_penalty", "k", "logprobs", "max_tokens", "messages",
    "model", "p", "presence_penalty", "priority", "response_format", "safety_mode", "seed",
    "stop_sequences", "stream", "strict_tools", "temperature", "thinking", "tool_choice", "tools",
}  # fmt: skip


def construct(type_: Any, value: Any) -> Any:
    """As the SDK makes its objects of what came."""
    return unchecked.construct_type(type_=type_, object_=value)


def unknown(value: Any) -> Iterator[str]:
    """Names of fields that the SDK does not know, at any depth."""
    if isinstance(value, pydantic.BaseModel):
        yield from value.model_extra or {}
        for name in type(value).model_fields:
            yield from unknown(getattr(value, name))
    elif isinstance(value, list):
        for one in value:
            yield from unknown(one)


def check_known(body: dict[str, Any]) -> None:
    """Everything in a request has its place in the SDK's types, and is of the type."""
    assert body.keys() <= FIELDS
    known: dict[str, Any] = {
        "messages": types.ChatMessages,
        "tools": types.ToolV2,
        "response_format": types.ResponseFormatV2,
        "thinking": types.Thinking,
    }
    for name, type_ in known.items():
        if name not in body:
            continue
        for value in body[name] if name == "tools" else [body[name]]:
            pydantic.TypeAdapter(type_).validate_python(value)
            assert [] == list(unknown(construct(type_, value)))


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda text: not text.isspace()
)
names = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
arguments = st.dictionaries(names, st.integers(0, 10**30) | words, min_size=1, max_size=3).map(
    json.dumps
)


@st.composite
def calls(draw: st.DrawFn) -> list[dict[str, Any]]:
    """An assistant's message with calls, and a result for each of them."""
    made = [
        {
            "id": f"call_{index}",
            "type": "function",
            "function": {"name": name, "arguments": draw(arguments)},
        }
        for index, name in enumerate(draw(st.lists(names, min_size=1, max_size=3)))
    ]
    message = {"role": "assistant", "reasoning_content": draw(words), "tool_calls": made}
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": draw(words)} for call in made
    ]
    return [message, *results]


parts = st.one_of(
    words.map(lambda text: {"type": "text", "text": text}),
    st.just({"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}),
)
users = st.one_of(
    words.map(lambda text: [{"role": "user", "content": text}]),
    st.lists(parts, min_size=2, max_size=3).map(lambda one: [{"role": "user", "content": one}]),
)
answers = st.one_of(
    words.map(lambda text: [{"role": "assistant", "content": text}]),
    st.tuples(words, words).map(
        lambda one: [{"role": "assistant", "content": one[0], "reasoning_content": one[1]}]
    ),
    calls(),
)
conversations = st.lists(st.tuples(users, answers), min_size=1, max_size=3).map(
    lambda pairs: [message for user, answer in pairs for message in (*user, *answer)]
)


def read_back(message: dict[str, Any]) -> dict[str, Any]:
    """A message of Cohere's in OpenAI's form."""
    told = dict(message)
    if "tool_plan" in told:
        told["reasoning_content"] = told.pop("tool_plan")
    content = told.get("content")
    if isinstance(content, list) and content[0]["type"] == "thinking":
        told["reasoning_content"] = content[0]["thinking"]
        told["content"] = content[1]["text"]
    return told


@given(conversations)
@settings(max_examples=60, deadline=None)
def test_any_conversation_survives_and_is_what_the_sdk_knows(
    messages: list[dict[str, Any]],
) -> None:
    """Nothing is lost on the way there, and the SDK's types hold all of it."""
    # Calls without results before the user speaks again would be refused, so each pair is whole.
    translation = Cohere(api_key="k").translate("chat", {"messages": messages, "model": "x"}, AT)
    assert isinstance(translation.request.body, bytes)
    body = json.loads(translation.request.body)
    assert () == translation.losses
    check_known(body)
    there = [read_back(message) for message in body["messages"]]
    assert merged(messages) == merged(there)


def merged(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Contents as lists of parts: a single text may be a string in either format."""
    return [
        {
            **message,
            "content": [{"type": "text", "text": content}] if isinstance(content, str) else content,
        }
        for message in messages
        for content in (message.get("content"),)
    ]


EVERYTHING: dict[str, Any] = {
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "system", "content": "Be kind."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "x"},
                {"type": "image_url", "image_url": {"url": PIXEL, "detail": "high"}},
            ],
        },
        {"role": "assistant", "content": "Hm.", "reasoning_content": "hm"},
        {"role": "user", "content": "go"},
    ],
    "tools": [{"type": "function", "function": {"name": "now", "strict": True}}],
    "tool_choice": "required",
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"a": 1}}},
    "max_completion_tokens": 9,
    "temperature": 1,
    "top_p": 0.5,
    "top_k": 5,
    "seed": 1,
    "stop": "x",
    "logprobs": True,
    "presence_penalty": 1,
    "frequency_penalty": 1,
    "reasoning_effort": "low",
    "documents": [{"data": {"text": "d"}, "id": "1"}],
    "citation_options": {"mode": "FAST"},
    "safety_mode": "STRICT",
    "priority": 1,
}


def test_the_sdk_knows_every_field_that_goes_out(sent: Sent) -> None:
    """At every level."""
    body = sent(EVERYTHING)
    assert FIELDS - {"logprobs"} <= body.keys() | {"logprobs"}
    check_known(body)


def test_recorded_answers_read_as_the_sdk_reads_them(recorded: Path, translate: Translate) -> None:
    """Text, thoughts, plan, calls, citations, whole and streamed, at several cuts."""
    seen = 0
    for line in (recorded / "cohere.chat.jsonl").read_text().splitlines():
        response = json.loads(line)["response"]
        if response["status"] != 200:
            continue
        seen += 1
        if "json" in response:
            theirs = construct(v2_types.V2ChatResponse, response["json"]).message
            texts = [part.text for part in theirs.content or () if part.type == "text"]
            body = json.dumps(response["json"]).encode()
            found = json.loads(Cohere(api_key="k").parse_response(translate(), body).body)
            message = found["choices"][0]["message"]
            assert "".join(texts) == (message["content"] or "")
            assert (theirs.tool_plan or "") == message.get("reasoning_content", "")
            assert [
                (call.id, call.function.name, call.function.arguments)
                for call in theirs.tool_calls or ()
            ] == [
                (call["id"], call["function"]["name"], call["function"]["arguments"])
                for call in message.get("tool_calls") or ()
            ]
            assert len(theirs.citations or ()) == len(message.get("citations", ()))
            continue
        data = response["text"].encode()
        events = [
            construct(v2_types.V2ChatStreamResponse, json.loads(row.partition("data: ")[2]))
            for row in response["text"].split("\n\n")
            if "data: {" in row
        ]
        told = "".join(
            event.delta.message.content.text for event in events if event.type == "content-delta"
        )
        plan = "".join(
            event.delta.message.tool_plan for event in events if event.type == "tool-plan-delta"
        )
        names = [
            event.delta.message.tool_calls.function.name
            for event in events
            if event.type == "tool-call-start"
        ]
        for size in (1, 17, len(data)):
            (decoder,) = Cohere(api_key="k").stream_decoders(translate({"stream": True}))
            out = b"".join(decoder.feed(data[at : at + size]) for at in range(0, len(data), size))
            assert decoder.error is None
            deltas = [
                choice["delta"]
                for row in out.split(b"\n\n")[:-2]
                for choice in json.loads(row[6:])["choices"]
            ]
            assert told == "".join(delta.get("content") or "" for delta in deltas)
            assert plan == "".join(delta.get("reasoning_content") or "" for delta in deltas)
            assert names == [
                call["function"]["name"]
                for delta in deltas
                for call in delta.get("tool_calls") or ()
                if "id" in call
            ]
            assert decoder.usage is not None
            billed = events[-1].delta.usage.billed_units
            assert (billed.input_tokens, billed.output_tokens) == (
                decoder.usage.input_tokens,
                decoder.usage.output_tokens,
            )
    assert seen > 20
