"""What the tests of the Gemini adapter share: requests built, answers read whole and streamed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from google.genai import types

from asgi_llm.providers.base import StreamDecoder, Translation
from asgi_llm.providers.gemini import Gemini
from asgi_llm.types import Deployment

ASKED = {"model": "gemini/g", "messages": [{"role": "user", "content": "hi"}]}
OPTIONS: dict[str, Any] = {"api_key": "AIza-0123456789", "clock": lambda: 1_700_000_000.5}

Translate = Callable[..., Translation]
Sent = Callable[..., dict[str, Any]]
Whole = Callable[..., dict[str, Any]]
Streamed = Callable[..., list[dict[str, Any]]]
Decoded = Callable[..., tuple[bytes, StreamDecoder]]


@pytest.fixture
def translate() -> Translate:
    """The translation of a request: fields of the document, a model, options of the adapter."""

    def translate(
        document: dict[str, Any] | None = None,
        *,
        operation: Any = "chat",
        model: str = "gemini-9-flash",
        **options: Any,
    ) -> Translation:
        adapter = Gemini(**{**OPTIONS, **options})
        asked = {**ASKED, **(document or {})} if operation == "chat" else document or {}
        return adapter.translate(operation, asked, Deployment(provider="gemini", model=model))

    return translate


@pytest.fixture
def sent(translate: Translate) -> Sent:
    """The body that goes to Gemini, read by Google's own types, which know no other fields."""

    def sent(document: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        body = json.loads(bytes(translate(document, **options).request.body))  # type: ignore[arg-type]
        for content in [*body["contents"], body.get("systemInstruction", {"parts": []})]:
            types.Content.model_validate(content)
        types.GenerationConfig.model_validate(body.get("generationConfig", {}))
        for tool in body.get("tools", ()):
            types.Tool.model_validate(tool)
        types.ToolConfig.model_validate(body.get("toolConfig", {}))
        for setting in body.get("safetySettings", ()):
            types.SafetySetting.model_validate(setting)
        assert isinstance(body, dict)
        return body

    return sent


@pytest.fixture
def whole(translate: Translate) -> Whole:
    """The answer that the client gets for one of Gemini's."""

    def whole(response: Any, document: dict[str, Any] | None = None) -> dict[str, Any]:
        body = response if isinstance(response, bytes) else json.dumps(response).encode()
        found = json.loads(Gemini(**OPTIONS).parse_response(translate(document), body).body)
        assert isinstance(found, dict)
        return found

    return whole


@pytest.fixture
def decoded(translate: Translate) -> Decoded:
    """What comes out for a stream's bytes, fed in pieces of ``size``, and its decoder."""

    def decoded(
        data: bytes,
        document: dict[str, Any] | None = None,
        *,
        size: int = 1_000_000,
        framed: bool = True,
    ) -> tuple[bytes, StreamDecoder]:
        asked = {"stream": True, "stream_options": {"include_usage": True}, **(document or {})}
        (decoder,) = Gemini(**OPTIONS).stream_decoders(translate(asked))
        out = b"".join(decoder.feed(data[at : at + size]) for at in range(0, len(data), size))
        return out + decoder.close(framed=framed), decoder

    return decoded


@pytest.fixture
def streamed(decoded: Decoded) -> Streamed:
    """The chunks that the client gets for a stream that ends well."""

    def streamed(
        responses: list[Any], document: dict[str, Any] | None = None, *, size: int = 1_000_000
    ) -> list[dict[str, Any]]:
        data = b"".join(
            b"data: " + json.dumps(one, ensure_ascii=False).encode() + b"\r\n\r\n"
            for one in responses
        )
        out, decoder = decoded(data, document, size=size)
        if decoder.error is not None:
            raise decoder.error
        *rows, done, rest = out.split(b"\n\n")
        assert (b"data: [DONE]", b"") == (done, rest)
        return [json.loads(row.removeprefix(b"data: ")) for row in rows]

    return streamed
