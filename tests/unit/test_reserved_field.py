"""The field of a document that layers write: refused from clients, and let pass from layers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm._asgi import BufferedBody
from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.openai import OpenAI
from asgi_llm.state import State, enter
from asgi_llm.testing import Upstream, call, chat_answer, json_reply

CHAT: dict[str, Any] = {"model": "openai/m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("body", [b'{"asgi_llm": {}}', b'{"\\u0061sgi_llm": null}'])
def test_what_is_read_first_is_the_clients(body: bytes) -> None:
    """Refused, however it is spelt, and as often as it is read."""
    state = State()
    for _ in range(2):
        with pytest.raises(InvalidRequestError) as caught:
            state.document(body)
        assert ("reserved_field", "asgi_llm") == (caught.value.code, caught.value.param)


def test_what_is_read_after_it_a_layer_has_written() -> None:
    """The document with the field is then like any other: parsed once."""
    state = State()
    state.document(b'{"model": "m"}')
    written = b'{"model": "m", "asgi_llm": {"x": 1}}'
    document = state.document(written)
    assert {"model": "m", "asgi_llm": {"x": 1}} == document
    assert state.document(written) is document


def test_a_body_that_is_no_json_was_not_read() -> None:
    """What comes after it is still the client's."""
    state = State()
    with pytest.raises(InvalidRequestError):
        state.document(b"{")
    with pytest.raises(InvalidRequestError) as caught:
        state.document(b'{"asgi_llm": {}}')
    assert "reserved_field" == caught.value.code


def test_only_the_top_level_is_reserved() -> None:
    """Deeper down it is a name like any other; so it is in a list."""
    assert {"metadata": {"asgi_llm": 1}} == State().document(b'{"metadata": {"asgi_llm": 1}}')
    assert ["asgi_llm"] == State().document(b'["asgi_llm"]')


class Writes:
    """A layer that reads the document and hands on another, with the field."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope, state = enter(scope)
        body = await BufferedBody.read(scope, receive, max_bytes=10_000)
        assert body is not None
        document = {**state.document(body.data), "asgi_llm": {"seen": True}}
        scope = body.replace(scope, json.dumps(document).encode())
        await self._app(scope, body.receive, send)


async def ask(app: ASGIApp, document: dict[str, Any]) -> tuple[int, Any]:
    answer = await call(app, json=document)
    return answer.status, json.loads(answer.body)


async def test_a_layers_field_reaches_the_app_and_does_not_leave_it() -> None:
    """The provider gets the document without it; a client's own is a 400."""
    async with Upstream(lambda _: json_reply(chat_answer("hello"))) as upstream:
        app = ProviderApp([OpenAI(api_key="sk-0123456789", base_url=upstream.url + "/v1")])
        status, answer = await ask(Writes(app), CHAT)
        assert (200, "hello") == (status, answer["choices"][0]["message"]["content"])
        assert {**CHAT, "model": "m"} == upstream.ledger[0].request.json()
        status, answer = await ask(app, {**CHAT, "asgi_llm": {"seen": True}})
        assert (400, "reserved_field") == (status, answer["error"]["code"])
        assert 1 == len(upstream.ledger)
        await app.aclose()
