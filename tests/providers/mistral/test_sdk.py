"""The official SDK's types read what we send, and read the answers as we do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_llm.providers.base import Translation
from asgi_llm.providers.mistral import Mistral
from asgi_llm.types import Deployment

models = pytest.importorskip("mistralai.client.models")

Translate = Callable[..., Translation]
Sent = Callable[..., dict[str, Any]]

AT = Deployment(provider="mistral", model="mistral-small-latest")
PIXEL = "data:image/png;base64,iVBORw0KGgo="

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda text: not text.isspace()
)
names = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
arguments = st.dictionaries(names, st.integers(0, 10**30) | words, max_size=3).map(json.dumps)


@st.composite
def calls(draw: st.DrawFn) -> list[dict[str, Any]]:
    """An assistant's message with calls, and a result for each of them."""
    made = [
        {
            "id": f"call_{index}_{draw(names)}",
            "type": "function",
            "function": {"name": name, "arguments": draw(arguments)},
        }
        for index, name in enumerate(draw(st.lists(names, min_size=1, max_size=3)))
    ]
    message = {"role": "assistant", "content": draw(words), "tool_calls": made}
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": draw(words)} for call in made
    ]
    return [message, *results]


parts = st.one_of(
    words.map(lambda text: {"type": "text", "text": text}),
    st.just({"type": "image_url", "image_url": {"url": PIXEL}}),
)
turns = st.one_of(
    words.map(lambda text: [{"role": "user", "content": text}]),
    st.lists(parts, min_size=1, max_size=3).map(lambda one: [{"role": "user", "content": one}]),
    st.tuples(words, words).map(
        lambda one: [{"role": "assistant", "content": one[0], "reasoning_content": one[1]}]
    ),
    calls(),
)
conversations = st.lists(turns, min_size=1, max_size=5).map(
    lambda given: (
        [message for turn in given for message in turn] + [{"role": "user", "content": "."}]
    )
)


def read_back(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mistral's messages in OpenAI's form, with ids by their order."""
    ids: dict[str, int] = {}
    found = []
    for message in messages:
        told = {name: value for name, value in message.items() if name != "name"}
        content = told["content"]
        if isinstance(content, list) and content and content[0]["type"] == "thinking":
            told["reasoning_content"] = content[0]["thinking"][0]["text"]
            told["content"] = content[1]["text"]
        if "tool_calls" in told:
            told["tool_calls"] = [
                {**call, "id": ids.setdefault(call["id"], len(ids))} for call in told["tool_calls"]
            ]
        if "tool_call_id" in told:
            told["tool_call_id"] = ids.setdefault(told["tool_call_id"], len(ids))
        found.append(told)
    return found


@given(conversations)
@settings(max_examples=60, deadline=None)
def test_any_conversation_survives_and_is_what_the_sdk_knows(
    messages: list[dict[str, Any]],
) -> None:
    """Nothing is lost on the way there, and no field goes out that the API does not name."""
    translation = Mistral(api_key="k").translate("chat", {"messages": messages, "model": "x"}, AT)
    assert isinstance(translation.request.body, bytes)
    body = json.loads(translation.request.body)
    assert () == translation.losses
    assert read_back(messages) == read_back(body["messages"])
    parsed = models.ChatCompletionRequest.model_validate(body)
    assert body == parsed.model_dump(mode="json", by_alias=True, exclude_unset=True)


EVERYTHING: dict[str, Any] = {
    "messages": [
        {"role": "developer", "content": "Be brief.", "name": "x"},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": PIXEL, "detail": "high"}},
                {"type": "file", "file": {"file_data": "JVBERi0=", "filename": "a.pdf"}},
                {"type": "file", "file": {"file_id": "f"}},
                {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
                {"type": "document_url", "document_url": {"url": "https://a.example/x.pdf"}},
            ],
        },
        {"role": "assistant", "content": "Hm.", "reasoning_content": "hm", "annotations": []},
    ],
    "tools": [{"type": "function", "function": {"name": "now", "strict": True}}],
    "tool_choice": "required",
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
    "max_completion_tokens": 9,
    "temperature": 2,
    "top_p": 0.5,
    "seed": 1,
    "stop": "x",
    "n": 2,
    "logprobs": True,
    "top_logprobs": 2,
    "presence_penalty": 1,
    "frequency_penalty": 1,
    "parallel_tool_calls": True,
    "reasoning_effort": "high",
    "prompt_mode": "reasoning",
    "safe_prompt": True,
    "service_tier": "default",
    "metadata": {"a": "b"},
    "prediction": {"type": "content", "content": "x"},
    "prompt_cache_key": "k",
    "stream_options": {"include_usage": True},
    "user": "u",
}


@pytest.mark.parametrize("stream", [False, True])
def test_the_sdk_knows_every_field_that_goes_out(sent: Sent, stream: bool) -> None:
    """At every level: what it reads is the whole body."""
    body = sent({**EVERYTHING, "stream": stream})
    cls = models.ChatCompletionStreamRequest if stream else models.ChatCompletionRequest
    assert body == cls.model_validate(body).model_dump(
        mode="json", by_alias=True, exclude_unset=True
    )


def test_the_sdk_knows_every_field_of_embeddings(translate: Translate) -> None:
    """With all options."""
    document = {
        "model": "x",
        "input": ["a"],
        "dimensions": 8,
        "encoding_format": "base64",
        "output_dtype": "int8",
    }
    body = translate(document, operation="embeddings").request.body
    assert isinstance(body, bytes)
    found = json.loads(body)
    assert found == models.EmbeddingRequest.model_validate(found).model_dump(
        mode="json", by_alias=True, exclude_unset=True
    )


def test_recorded_answers_read_as_the_sdk_reads_them(recorded: Path, translate: Translate) -> None:
    """Text, thoughts, calls, finish reason and usage of each."""
    seen = 0
    for line in (recorded / "mistral.chat.jsonl").read_text().splitlines():
        response = json.loads(line)["response"]
        if response["status"] != 200 or "json" not in response:
            continue
        seen += 1
        theirs = models.ChatCompletionResponse.model_validate(response["json"])
        body = json.dumps(response["json"]).encode()
        found = Mistral(api_key="k").parse_response(translate(), body)
        ours = json.loads(found.body)["choices"][0]
        (choice,) = theirs.choices
        content = choice.message.content
        texts, thoughts = [content or ""], [""]
        if isinstance(content, list):
            texts = [part.text for part in content if part.type == "text"]
            thoughts = [
                inner.text for part in content if part.type == "thinking" for inner in part.thinking
            ]
        message = ours["message"]
        assert "".join(texts) == (message["content"] or "")
        assert "".join(thoughts) == message.get("reasoning_content", "")
        assert choice.finish_reason == ours["finish_reason"]
        assert [
            (call.id, call.function.name, call.function.arguments)
            for call in choice.message.tool_calls or ()
        ] == [
            (call["id"], call["function"]["name"], call["function"]["arguments"])
            for call in message.get("tool_calls") or ()
        ]
        assert found.usage is not None
        assert (theirs.usage.prompt_tokens, theirs.usage.completion_tokens) == (
            found.usage.input_tokens,
            found.usage.output_tokens,
        )
    assert seen > 20
