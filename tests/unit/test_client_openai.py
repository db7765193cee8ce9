"""The OpenAI SDK over the in-process client, against an app that speaks chat completions."""

from __future__ import annotations

import asyncio
import json
from types import ModuleType
from typing import Any

import httpx
import httpx2
import openai
import pytest
from openai import AsyncOpenAI
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

import asgi_llm
from asgi_llm import _sse
from asgi_llm._asgi import send_error
from asgi_llm.errors import AuthenticationError, ProviderUnavailableError, RateLimitError
from asgi_llm.state import enter

DEADLINE = 10.0


def chunk(content: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    event = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
    }
    return _sse.encode(json.dumps(event).encode())


class Chat:
    """Repeats the last message, word by word if it streams; some words make it fail or wait."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.left = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope, state = enter(scope)
        document = json.loads(await Request(scope, receive).body())
        text: str = document["messages"][-1]["content"]
        for word, error in (
            ("401", AuthenticationError("No.")),
            ("429", RateLimitError("Later.", retry_after_seconds=7)),
            ("502", ProviderUnavailableError("Gone.")),
        ):
            if text == word:
                await send_error(send, state, error)
                return
        if text == "crash":
            raise ValueError(text)
        if document.get("stream"):
            await self._stream(text, receive, send)
        else:
            await self._whole(text, send)

    async def _whole(self, text: str, send: Send) -> None:
        message = {"role": "assistant", "content": text}
        answer = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    async def _stream(self, text: str, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for word in text.split():
            if word == "break":
                raise ValueError(word)
            if word == "leave":
                if (await receive())["type"] == "http.disconnect":
                    self.left.set()
                return
            if word == "wait":
                await self.go_on.wait()
            await send({"type": "http.response.body", "body": chunk(word), "more_body": True})
            self.sent.append(word)
        body = chunk("", "stop") + _sse.DONE
        await send({"type": "http.response.body", "body": body, "more_body": False})


def sdk(app: Chat, module: ModuleType | None = None, **options: Any) -> AsyncOpenAI:
    http: Any = asgi_llm.client(app, module=module)
    return AsyncOpenAI(api_key="sk-test", http_client=http, max_retries=0, **options)


def messages(text: str) -> Any:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("module", [None, httpx2, httpx])
async def test_the_sdk_gets_whole_answers_and_streams(module: ModuleType | None) -> None:
    """``AsyncOpenAI(http_client=client(app))`` needs no base URL, with httpx2 and with httpx."""
    async with asyncio.timeout(DEADLINE), sdk(Chat(), module) as api:
        whole = await api.chat.completions.create(model="m", messages=messages("one two"))
        stream = await api.chat.completions.create(
            model="m", messages=messages("one two"), stream=True
        )
        words = [event.choices[0].delta.content async for event in stream]
    assert "one two" == whole.choices[0].message.content
    assert ["one", "two", ""] == words


async def test_the_sdk_sees_a_chunk_before_the_next_is_made() -> None:
    """The first word is read while the app still waits to make the second."""
    app = Chat()
    async with asyncio.timeout(DEADLINE), sdk(app) as api:
        stream = await api.chat.completions.create(
            model="m", messages=messages("one wait"), stream=True
        )
        first = await anext(aiter(stream))
        assert ("one", ["one"]) == (first.choices[0].delta.content, app.sent)
        app.go_on.set()
        assert 2 == len([event async for event in stream])


async def test_a_stream_closed_early_disconnects_the_app() -> None:
    """``stream.close()`` reaches the app as a real disconnect."""
    app = Chat()
    async with asyncio.timeout(DEADLINE), sdk(app) as api:
        stream = await api.chat.completions.create(
            model="m", messages=messages("one leave"), stream=True
        )
        await anext(aiter(stream))
        await stream.close()
        assert app.left.is_set()
        assert set() == asyncio.all_tasks() - {asyncio.current_task()}


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("401", openai.AuthenticationError),
        ("429", openai.RateLimitError),
        ("502", openai.InternalServerError),
        ("crash", openai.InternalServerError),
    ],
)
async def test_the_sdk_raises_its_own_errors(word: str, error: type[openai.APIStatusError]) -> None:
    """Each status is the SDK's own error class, with our request id."""
    async with asyncio.timeout(DEADLINE), sdk(Chat()) as api:
        with pytest.raises(error) as raised:
            await api.chat.completions.create(model="m", messages=messages(word))
    assert raised.value.request_id is not None
    assert raised.value.request_id.startswith("req_")


async def test_a_stream_that_breaks_off_is_an_error() -> None:
    """An app that dies in mid-stream is a connection error to the SDK, not an end."""
    words = []
    async with asyncio.timeout(DEADLINE), sdk(Chat()) as api:
        stream = await api.chat.completions.create(
            model="m", messages=messages("one break"), stream=True
        )
        with pytest.raises((openai.APIConnectionError, httpx2.RemoteProtocolError)):
            async for event in stream:
                words.append(event.choices[0].delta.content)
    assert ["one"] == words


async def test_fifty_sdk_streams_do_not_mix() -> None:
    """Fifty streams of one client at once each get their own words."""

    async def one(api: AsyncOpenAI, number: int) -> list[str | None]:
        text = " ".join(f"{number}-{word}" for word in range(10))
        stream = await api.chat.completions.create(model="m", messages=messages(text), stream=True)
        return [event.choices[0].delta.content async for event in stream]

    async with asyncio.timeout(DEADLINE), sdk(Chat()) as api:
        answers = await asyncio.gather(*(one(api, number) for number in range(50)))
    expected = [[*(f"{number}-{word}" for word in range(10)), ""] for number in range(50)]
    assert expected == answers


async def test_the_sdks_own_timeout_holds() -> None:
    """The SDK's timeout ends a stream whose app has gone silent, and the app is ended too."""
    app = Chat()
    async with asyncio.timeout(DEADLINE), sdk(app, timeout=0.05) as api:
        with pytest.raises((openai.APITimeoutError, httpx2.ReadTimeout)):
            async for _ in await api.chat.completions.create(
                model="m", messages=messages("one leave"), stream=True
            ):
                pass
    assert app.left.is_set()
