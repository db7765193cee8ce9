"""What the tests of the Cohere adapter share: requests built, answers read whole and streamed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from asgi_llm.providers.base import Translation
from asgi_llm.providers.cohere import Cohere
from asgi_llm.types import Deployment

ASKED = {"model": "cohere/c", "messages": [{"role": "user", "content": "hi"}]}

Translate = Callable[..., Translation]
Sent = Callable[..., dict[str, Any]]
Whole = Callable[..., dict[str, Any]]
Streamed = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def translate() -> Translate:
    """The translation of a request: fields of the document, and options of the adapter."""

    def translate(
        document: dict[str, Any] | None = None, *, operation: Any = "chat", **options: Any
    ) -> Translation:
        adapter = Cohere(**{"api_key": "cohere-0123456789", **options})
        at = Deployment(provider=adapter.name, model="command-a-03-2025")
        asked = {**ASKED, **(document or {})} if operation == "chat" else document or {}
        return adapter.translate(operation, asked, at)

    return translate


@pytest.fixture
def sent(translate: Translate) -> Sent:
    """The body that goes to Cohere."""

    def sent(document: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        body = translate(document, **options).request.body
        assert isinstance(body, bytes)
        found = json.loads(body)
        assert isinstance(found, dict)
        return found

    return sent


@pytest.fixture
def whole(translate: Translate) -> Whole:
    """The answer that the client gets for one of Cohere's."""

    def whole(
        message: dict[str, Any],
        finish_reason: str | None = "COMPLETE",
        document: dict[str, Any] | None = None,
        **fields: Any,
    ) -> dict[str, Any]:
        answer = {
            "id": "a1",
            "message": {"role": "assistant", **message},
            "finish_reason": finish_reason,
            **fields,
        }
        body = json.dumps(answer).encode()
        found = json.loads(Cohere(api_key="k").parse_response(translate(document), body).body)
        assert isinstance(found, dict)
        return found

    return whole


@pytest.fixture
def streamed(translate: Translate) -> Streamed:
    """The chunks that the client gets for events of Cohere's, fed in pieces of ``size`` bytes."""

    def streamed(
        events: list[dict[str, Any]],
        document: dict[str, Any] | None = None,
        *,
        size: int = 100_000,
    ) -> list[dict[str, Any]]:
        asked = {"stream": True, "stream_options": {"include_usage": True}, **(document or {})}
        (decoder,) = Cohere(api_key="k").stream_decoders(translate(asked))
        data = b"".join(
            f"event: {one.get('type')}\ndata: {json.dumps(one, ensure_ascii=False)}\n\n".encode()
            for one in events
        )
        out = b"".join(decoder.feed(data[at : at + size]) for at in range(0, len(data), size))
        out += decoder.close()
        if decoder.error is not None:
            raise decoder.error
        *rows, done, rest = out.split(b"\n\n")
        assert (b"data: [DONE]", b"") == (done, rest)
        return [json.loads(row.removeprefix(b"data: ")) for row in rows]

    return streamed
