"""Fields that no definition checks, with values that no client should send."""

from __future__ import annotations

from typing import Any

import pytest

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
