"""What the tests of the Ollama adapter share: requests built, answers read whole and streamed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from asgi_llm.providers.base import Translation
from asgi_llm.providers.ollama import Ollama
from asgi_llm.types import Deployment

ASKED = {"model": "local", "messages": [{"role": "user", "content": "hi"}]}

Translate = Callable[..., Translation]
Sent = Callable[..., dict[str, Any]]
Whole = Callable[..., dict[str, Any]]
Streamed = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def translate() -> Translate:
    """The translation of a chat: fields of the document, and options of the adapter."""

    def translate(
        document: dict[str, Any] | None = None,
        *,
        deployment: dict[str, Any] | None = None,
        **options: Any,
    ) -> Translation:
        adapter = Ollama(**options)
        at = Deployment(provider=adapter.name, model="llama3.2:3b", **(deployment or {}))
        return adapter.translate("chat", {**ASKED, **(document or {})}, at)

    return translate


@pytest.fixture
def sent(translate: Translate) -> Sent:
    """The body that goes to Ollama."""

    def sent(document: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        body = translate(document, **options).request.body
        assert isinstance(body, bytes)
        found = json.loads(body)
        assert isinstance(found, dict)
        return found

    return sent


@pytest.fixture
def whole(translate: Translate) -> Whole:
    """The answer that the client gets for a body of Ollama's."""

    def whole(
        answer: dict[str, Any], document: dict[str, Any] | None = None, **options: Any
    ) -> dict[str, Any]:
        translation = translate(document, **options)
        body = Ollama().parse_response(translation, json.dumps(answer).encode()).body
        found = json.loads(body)
        assert isinstance(found, dict)
        return found

    return whole


@pytest.fixture
def streamed(translate: Translate) -> Streamed:
    """The chunks that the client gets for lines of Ollama's, fed in pieces of ``size`` bytes."""

    def streamed(
        lines: list[dict[str, Any]],
        document: dict[str, Any] | None = None,
        *,
        size: int = 100_000,
        **options: Any,
    ) -> list[dict[str, Any]]:
        asked = {"stream": True, "stream_options": {"include_usage": True}, **(document or {})}
        (decoder,) = Ollama().stream_decoders(translate(asked, **options))
        data = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
        out = b"".join(decoder.feed(data[at : at + size]) for at in range(0, len(data), size))
        out += decoder.close()
        assert decoder.error is None
        *events, done, rest = out.split(b"\n\n")
        assert (b"data: [DONE]", b"") == (done, rest)
        return [json.loads(event.removeprefix(b"data: ")) for event in events]

    return streamed
