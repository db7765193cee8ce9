"""Media types that go by several names, at every adapter that tells them in another place."""

from __future__ import annotations

import json

import pytest

from asgi_llm.providers.anthropic import Anthropic
from asgi_llm.providers.base import Provider
from asgi_llm.providers.bedrock import Bedrock
from asgi_llm.providers.cohere import Cohere
from asgi_llm.providers.gemini import Gemini
from asgi_llm.types import Deployment


@pytest.mark.parametrize(
    "adapter",
    [
        Anthropic(api_key="k"),
        Bedrock(region="eu-west-1", api_key="k"),
        Cohere(api_key="k"),
        Gemini(api_key="k"),
    ],
    ids=lambda adapter: adapter.name,
)
def test_image_jpg_is_image_jpeg(adapter: Provider) -> None:
    """Clients write both; providers take one."""
    bodies = []
    for kind in ("jpg", "jpeg"):
        image = {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,/9j/4AAQ"}}
        document = {"model": "m", "messages": [{"role": "user", "content": [image]}]}
        deployment = Deployment(provider=adapter.name, model="m")
        body = adapter.translate("chat", document, deployment).request.body
        assert isinstance(body, bytes)
        bodies.append(json.loads(body))
    assert bodies[0] == bodies[1]
