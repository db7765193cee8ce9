"""What the tests of the Mistral adapter share: requests built, answers read whole and streamed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from asgi_llm.errors import ProviderError
from asgi_llm.providers.base import Translation
from asgi_llm.providers.mistral import Mistral
from asgi_llm.types import Deployment

KEY = "mistral-0123456789"
ASKED = {"model": "mistral/small", "messages": [{"role": "user", "content": "hi"}]}

Translate = Callable[..., Translation]
Sent = Callable[..., dict[str, Any]]
Whole = Callable[..., dict[str, Any]]
Passed = Callable[..., bytes]
Streamed = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def translate() -> Translate:
    """The translation of a request: fields of the document, and options of the adapter."""

    def translate(
        document: dict[str, Any] | None = None, *, operation: Any = "chat", **options: Any
    ) -> Translation:
        adapter = Mistral(api_key=KEY, **options)
        at = Deployment(provider=adapter.name, model="mistral-small-latest")
        asked = {**ASKED, **(document or {})} if operation == "chat" else document or {}
        return adapter.translate(operation, asked, at)

    return translate


@pytest.fixture
def sent(translate: Translate) -> Sent:
    """The body that goes to Mistral."""

    def sent(document: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        body = translate(document, **options).request.body
        assert isinstance(body, bytes)
        found = json.loads(body)
        assert isinstance(found, dict)
        return found

    return sent


@pytest.fixture
def whole(translate: Translate) -> Whole:
    """The one choice that the client gets for one of Mistral's."""

    def whole(choice: dict[str, Any]) -> dict[str, Any]:
        answer = {"id": "a", "object": "chat.completion", "created": 1, "model": "m"}
        body = json.dumps({**answer, "choices": [{"index": 0, **choice}]}).encode()
        found = json.loads(Mistral(api_key=KEY).parse_response(translate(), body).body)
        assert answer == {name: found[name] for name in answer}
        (made,) = found["choices"]
        assert isinstance(made, dict)
        return made

    return whole


@pytest.fixture
def passed(translate: Translate) -> Passed:
    """The bytes that the client gets for those of a stream, fed in pieces of ``size``."""

    def passed(
        data: bytes, document: dict[str, Any] | None = None, *, size: int = 100_000
    ) -> bytes:
        asked = {"stream": True, **(document or {})}
        (decoder,) = Mistral(api_key=KEY).stream_decoders(translate(asked))
        out = b"".join(decoder.feed(data[at : at + size]) for at in range(0, len(data), size))
        out += decoder.close()
        error: ProviderError | None = decoder.error
        if error is not None:
            raise error
        assert decoder.done
        return out

    return passed


@pytest.fixture
def streamed(passed: Passed) -> Streamed:
    """The choices that the client gets for choices of Mistral's, an event each."""

    def streamed(
        choices: list[dict[str, Any]],
        document: dict[str, Any] | None = None,
        *,
        size: int = 100_000,
    ) -> list[dict[str, Any]]:
        head = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        data = b"".join(
            b"data: "
            + json.dumps({**head, "choices": [{"index": 0, "finish_reason": None, **one}]}).encode()
            + b"\n\n"
            for one in choices
        )
        out = passed(data + b"data: [DONE]\n\n", document, size=size)
        *events, done, rest = out.split(b"\n\n")
        assert (b"data: [DONE]", b"") == (done, rest)
        chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
        assert all(head == {name: chunk[name] for name in head} for chunk in chunks)
        return [choice for chunk in chunks for choice in chunk["choices"]]

    return streamed
