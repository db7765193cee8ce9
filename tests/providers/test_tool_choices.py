"""Choices of tools that are objects, at every adapter that puts them into other words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers._echo_text import respond
from asgi_llm.providers.anthropic import Anthropic
from asgi_llm.providers.base import Provider
from asgi_llm.providers.bedrock import Bedrock
from asgi_llm.providers.cohere import Cohere
from asgi_llm.providers.gemini import Gemini
from asgi_llm.providers.mistral import Mistral
from asgi_llm.providers.ollama import Ollama
from asgi_llm.types import Deployment
from asgi_llm.wire.validation import validate

ADAPTERS: list[Provider] = [
    Anthropic(api_key="k"),
    Bedrock(region="eu-west-1", api_key="k"),
    Cohere(api_key="k"),
    Gemini(api_key="k"),
    Mistral(api_key="k"),
    Ollama(),
]

each_adapter = pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)


def asked(choice: Any) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in ("read", "erase")]
    messages = [{"role": "user", "content": "hi"}]
    document = {"model": "m", "messages": messages, "tools": tools, "tool_choice": choice}
    return validate("chat", document)


def allowed(*tools: dict[str, Any]) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": list(tools)}}


def sent(adapter: Provider, choice: Any) -> str:
    deployment = Deployment(provider=adapter.name, model="m")
    body = adapter.translate("chat", asked(choice), deployment).request.body
    assert isinstance(body, bytes)
    return json.dumps(json.loads(body)["toolConfig" if adapter.name == "bedrock" else "tools"])


REFUSED = [
    ({"type": "auto"}, "tool_choice.type"),
    ({"type": "tool", "name": "read"}, "tool_choice.type"),
    (allowed(), "tool_choice.allowed_tools.tools"),
    (allowed({"type": "vendor:search"}), "tool_choice.allowed_tools.tools[0].type"),
]


@each_adapter
@pytest.mark.parametrize(
    "tool", [{"type": "function", "name": "read"}, {"function": {"name": "read"}}]
)
def test_tools_that_are_not_allowed_are_not_offered(
    adapter: Provider, tool: dict[str, Any]
) -> None:
    """Wherever the name of those that are stands."""
    tools = sent(adapter, allowed(tool))
    assert ("read" in tools, "erase" in tools) == (True, False)


@each_adapter
@pytest.mark.parametrize(("choice", "param"), REFUSED)
def test_a_choice_without_a_word_there_is_refused(
    adapter: Provider, choice: dict[str, Any], param: str
) -> None:
    """By its path; never are all tools offered in its place."""
    with pytest.raises(InvalidRequestError) as caught:
        sent(adapter, choice)
    assert (400, param) == (caught.value.status, caught.value.param)


@pytest.mark.parametrize(("choice", "param"), REFUSED)
def test_echo_refuses_the_same(choice: dict[str, Any], param: str) -> None:
    """What is tried with it works elsewhere."""
    with pytest.raises(InvalidRequestError) as caught:
        respond(asked(choice))
    assert param == caught.value.param
