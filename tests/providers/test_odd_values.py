"""Fields that no definition checks, with values that no client should send."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers.anthropic import Anthropic
from asgi_llm.providers.base import Provider
from asgi_llm.providers.bedrock import Bedrock
from asgi_llm.providers.cohere import Cohere
from asgi_llm.providers.gemini import Gemini
from asgi_llm.providers.mistral import Mistral
from asgi_llm.providers.ollama import Ollama
from asgi_llm.types import Deployment
from asgi_llm.wire.validation import validate

each_adapter = pytest.mark.parametrize(
    "adapter",
    [
        Anthropic(api_key="k"),
        Bedrock(region="eu-west-1", api_key="k"),
        Cohere(api_key="k"),
        Gemini(api_key="k"),
        Mistral(api_key="k"),
        Ollama(),
    ],
    ids=lambda adapter: adapter.name,
)


def tell(adapter: Provider, **fields: Any) -> tuple[str, ...]:
    """What is lost of a chat whose earlier answer has these fields."""
    asked = {"role": "user", "content": "hi"}
    messages = [asked, {"role": "assistant", "content": "Yes.", **fields}, asked]
    document = {"model": "m", "messages": messages}
    return adapter.translate("chat", document, Deployment(provider=adapter.name, model="m")).losses


@each_adapter
def test_thoughts_that_are_no_text_are_refused(adapter: Provider) -> None:
    """By their path."""
    with pytest.raises(InvalidRequestError) as caught:
        tell(adapter, reasoning_content=3)
    assert "messages[1].reasoning_content" == caught.value.param


@each_adapter
def test_thinking_blocks_that_are_none_do_no_harm(adapter: Provider) -> None:
    """They are refused or reported."""
    try:
        lost = tell(adapter, thinking_blocks=3)
    except InvalidRequestError as error:
        assert "messages[1].thinking_blocks" == error.param
    else:
        assert ("messages.thinking_blocks",) == lost


@each_adapter
def test_a_tool_of_no_type_is_refused(adapter: Provider) -> None:
    """Its empty type is not taken for that of a function, which it need not have."""
    document = validate(
        "chat",
        {
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "tools": [{"type": "", "code": {}}],
        },
    )
    with pytest.raises(InvalidRequestError) as caught:
        adapter.translate("chat", document, Deployment(provider=adapter.name, model="m"))
    assert ("tools[0].type", "unsupported_tool") == (caught.value.param, caught.value.code)


ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 2**70, "", "x", [], {}, [None], [[]], [{}], {"a": 1}),
    *({"type": "x"}, {"type": "text"}, {"type": ""}, {"text": 3}, {"name": "x"}, {"function": {}}),
)
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Bonn"}'},
}
CHAT: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "hi"}], "name": "ada"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [CALL],
            "reasoning_content": "Hm.",
            "thinking_blocks": [{"type": "thinking", "thinking": "Hm.", "signature": "s"}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "rain"}]},
    ],
    "tools": [
        {
            "type": "function",
            "function": {"name": "weather", "description": "It.", "parameters": WEATHER},
        }
    ],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": WEATHER}},
    "reasoning_effort": "low",
    "stop": ["x"],
    "temperature": 0.5,
    "max_tokens": 5,
    "metadata": {"a": "b"},
    "user": "ada",
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where anything stands in a document."""
    found = [path] if path else []
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            found += places(value[key], (*path, key))
    return found


def with_odd(document: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy in which another value stands there."""
    changed = copy.deepcopy(document)
    holder: Any = changed
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = copy.deepcopy(value)
    return changed


@each_adapter
@settings(max_examples=150, deadline=None)
@given(path=st.sampled_from(places(CHAT)), value=st.sampled_from(ODD))
def test_whatever_stands_in_a_chat_it_is_told_or_refused(
    adapter: Provider, path: tuple[Any, ...], value: Any
) -> None:
    """What passes the checks of the format is no failure of an adapter."""
    try:
        document = validate("chat", with_odd(CHAT, path, value))
        adapter.translate("chat", document, Deployment(provider=adapter.name, model="m"))
    except InvalidRequestError as error:
        assert error.message
