"""The body reader and the send wrapper: what every layer is made of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_llm import errors
from asgi_llm._asgi import BufferedBody, Observer, RawHeaders, observe
from asgi_llm.errors import ContentFilterError
from asgi_llm.types import Outcome


def scope_of(*headers: tuple[bytes, bytes]) -> Scope:
    return {"type": "http", "method": "POST", "path": "/", "headers": list(headers)}


class Client:
    """The host's side of one request."""

    def __init__(self, *incoming: Message) -> None:
        self.incoming = list(incoming)
        self.sent: list[Message] = []
        self.fail_after: int | None = None

    async def receive(self) -> Message:
        if not self.incoming:
            await asyncio.Event().wait()
        return self.incoming.pop(0)

    async def send(self, message: Message) -> None:
        if self.fail_after is not None and len(self.sent) >= self.fail_after:
            raise BrokenPipeError
        self.sent.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.sent if m["type"].endswith("body"))


def part(body: bytes, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


DISCONNECT: Message = {"type": "http.disconnect"}


async def test_body_in_parts_is_replayed_whole_and_once() -> None:
    """The app further in gets one message, and after it what the host really says."""
    client = Client(part(b"ab", True), part(b"", True), part(b"c"), DISCONNECT)
    body = await BufferedBody.read(scope_of(), client.receive, max_bytes=10)
    assert body is not None
    assert await body.receive() == part(b"abc")
    assert await body.receive() == DISCONNECT


async def test_a_second_receive_waits_for_the_host() -> None:
    """No disconnect is invented while the client is still there."""
    client = Client(part(b"x"))
    body = await BufferedBody.read(scope_of(), client.receive, max_bytes=10)
    assert body is not None
    await body.receive()
    waiting = asyncio.ensure_future(body.receive())
    await asyncio.wait([waiting], timeout=0.01)
    assert not waiting.done()
    waiting.cancel()


async def test_a_client_that_leaves_while_sending_is_told_by_none() -> None:
    """A body that never became whole is no body."""
    client = Client(part(b"ab", True), DISCONNECT)
    assert await BufferedBody.read(scope_of(), client.receive, max_bytes=10) is None


async def test_a11_a_body_over_the_cap_is_refused() -> None:
    """By its announced length unread, without one after at most one message too many."""
    announced = Client(part(b"x" * 20))
    with pytest.raises(errors.RequestTooLargeError):
        scope = scope_of((b"content-length", b"20"))
        await BufferedBody.read(scope, announced.receive, max_bytes=10)
    assert len(announced.incoming) == 1
    chunked = Client(*[part(b"x" * 6, True)] * 9)
    with pytest.raises(errors.RequestTooLargeError):
        await BufferedBody.read(scope_of(), chunked.receive, max_bytes=10)
    assert len(chunked.incoming) == 7


async def test_a_body_at_the_cap_is_taken() -> None:
    """The cap itself is allowed."""
    body = await BufferedBody.read(scope_of(), Client(part(b"x" * 10)).receive, max_bytes=10)
    assert body is not None
    assert body.data == b"x" * 10


async def test_a14_a_body_that_does_not_arrive_is_a_408() -> None:
    """The deadline covers the whole body, so that trickling does not extend it."""
    with pytest.raises(errors.InvalidRequestError) as caught:
        await BufferedBody.read(
            scope_of(), Client(part(b"x", True)).receive, max_bytes=10, timeout_seconds=0.01
        )
    assert caught.value.status == 408


async def test_a_replaced_body_has_its_length_in_a_new_scope() -> None:
    """The caller's scope stays as it was."""
    scope = scope_of((b"content-length", b"3"), (b"a", b"b"))
    body = await BufferedBody.read(scope, Client(part(b"abc")).receive, max_bytes=10)
    assert body is not None
    replaced = body.replace(scope, b"longer")
    assert replaced["headers"] == [(b"a", b"b"), (b"content-length", b"6")]
    assert scope["headers"] == [(b"content-length", b"3"), (b"a", b"b")]
    assert (await body.receive())["body"] == b"longer"


def answering(*chunks: bytes, media: bytes = b"text/plain", status: int = 200) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        length = b"%d" % sum(map(len, chunks))
        headers = [(b"content-type", media), (b"content-length", length)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for chunk in chunks[:-1]:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": chunks[-1]})

    return app


class Log(Observer):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def on_start(self, status: int, headers: RawHeaders) -> None:
        self.seen.append(status)

    async def on_body(self, chunk: bytes, more: bool) -> bytes:
        self.seen.append((chunk, more))
        return chunk

    async def on_end(self, outcome: Outcome) -> None:
        self.seen.append(outcome)


async def run(app: ASGIApp, observer: Observer, client: Client | None = None) -> Client:
    client = client or Client()
    await observe(app, scope_of(), client.receive, client.send, observer)
    return client


async def test_an_observer_sees_everything_once_and_in_order() -> None:
    """Start, chunks and end; the messages pass as they were."""
    log = Log()
    client = await run(answering(b"a", b"b"), log)
    assert log.seen == [200, (b"a", True), (b"b", False), Outcome.COMPLETE]
    assert client.body == b"ab"


async def test_a_silent_return_is_a_disconnect() -> None:
    """Hosts return normally when the client has left: no last message means no whole answer."""
    log = Log()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})

    await run(app, log)
    assert log.seen[-1] is Outcome.DISCONNECTED


async def test_only_a_failing_send_is_a_disconnect() -> None:
    """An OSError out of ``send`` means that the client left; the app's own is a failure."""
    log, client = Log(), Client()
    client.fail_after = 1
    with pytest.raises(BrokenPipeError):
        await run(answering(b"a", b"b"), log, client)
    assert log.seen[-1] is Outcome.DISCONNECTED

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise FileNotFoundError

    log = Log()
    with pytest.raises(FileNotFoundError):
        await run(app, log)
    assert log.seen == [Outcome.FAILED]


async def test_an_exception_after_the_end_leaves_the_answer_complete() -> None:
    """What was delivered was delivered, and the exception still passes."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answering(b"a")(scope, receive, send)
        raise ZeroDivisionError

    log = Log()
    with pytest.raises(ZeroDivisionError):
        await run(app, log)
    assert log.seen[-1] is Outcome.COMPLETE


async def test_a_cancelled_request_is_a_disconnect() -> None:
    """Cancellation is how hosts tell that the client left; ``on_end`` still runs."""
    log, client = Log(), Client()
    began = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        began.set()
        await receive()

    task = asyncio.ensure_future(run(app, log, client))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log.seen == [Outcome.DISCONNECTED]


class Upper(Observer):
    rewrites: ClassVar[bool] = True

    async def on_body(self, chunk: bytes, more: bool) -> bytes:
        return chunk.upper()


class WholeUpper(Upper):
    hold_start: ClassVar[bool] = True

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.headers: RawHeaders = []

    async def on_start(self, status: int, headers: RawHeaders) -> None:
        self.headers = headers

    async def on_body(self, chunk: bytes, more: bool) -> bytes:
        self.parts.append(chunk)
        if more:
            return b""
        self.headers.append((b"x-parts", b"%d" % len(self.parts)))
        return b"".join(self.parts).upper() + b"!"


async def test_a_rewriter_drops_the_length() -> None:
    """The announced length would be wrong; the chunks still leave one by one."""
    client = await run(answering(b"a", b"b"), Upper())
    assert client.sent[0]["headers"] == [(b"content-type", b"text/plain")]
    assert [m.get("body") for m in client.sent[1:]] == [b"A", b"B"]


async def test_a_held_start_takes_headers_and_length_from_the_body() -> None:
    """With the whole body at hand, headers may depend on it and the length is right again."""
    client = await run(answering(b"a", b"b"), WholeUpper())
    assert client.sent[0]["headers"] == [
        (b"content-type", b"text/plain"),
        (b"x-parts", b"2"),
        (b"content-length", b"3"),
    ]
    assert client.body == b"AB!"
    assert len(client.sent) == 2


class Refusing(Observer):
    def __init__(self, at: str) -> None:
        self.at = at
        self.outcome: Outcome | None = None

    async def on_start(self, status: int, headers: RawHeaders) -> None:
        if self.at == "start":
            raise ContentFilterError("no")

    async def on_body(self, chunk: bytes, more: bool) -> bytes:
        if chunk == self.at.encode():
            raise ContentFilterError("no")
        return chunk

    async def on_end(self, outcome: Outcome) -> None:
        self.outcome = outcome


async def test_a_refusal_before_the_start_is_the_answer() -> None:
    """The app's answer is replaced by the rendered error, and the app is stopped."""
    observer = Refusing("start")
    client = await run(answering(b"a", b"b"), observer)
    assert client.sent[0]["status"] == 400
    assert msgspec.json.decode(client.body)["error"]["code"] == "content_filter"
    assert observer.outcome is Outcome.FAILED


async def test_a_refusal_within_a_stream_is_its_last_event() -> None:
    """There is no second start: the error is an event, then the end mark, then the end."""
    observer = Refusing("data: b\n\n")
    app = answering(b"data: a\n\n", b"data: b\n\n", b"data: c\n\n", media=b"text/event-stream")
    client = await run(app, observer)
    assert [m["type"] for m in client.sent].count("http.response.start") == 1
    assert client.body.startswith(b'data: a\n\ndata: {"error":')
    assert client.body.endswith(b"data: [DONE]\n\n")
    assert not client.sent[-1].get("more_body", False)


async def test_a_refusal_within_anything_else_cuts_it() -> None:
    """Nothing more is sent, so that the server cannot end the answer as if it were whole."""
    client = await run(answering(b"a", b"b"), Refusing("b"))
    assert client.sent[-1].get("more_body") is True


class AppError(Exception):
    pass


@pytest.mark.parametrize("kind", ["same", "from", "group", "swallowed"])
async def test_what_a_host_makes_of_a_refusal_ends_there(kind: str) -> None:
    """Hosts wrap the exception that stops them; none of its forms leaves ``observe``."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await answering(b"a", b"b")(scope, receive, send)
        except OSError as error:
            if kind == "same":
                raise
            if kind == "from":
                raise AppError from error
            if kind == "group":
                raise ExceptionGroup("host", [error]) from None
            with pytest.raises(OSError):
                await send({"type": "http.response.body", "body": b"again"})

    client = await run(app, Refusing("b"))
    assert client.body == b"a"


async def test_an_unrelated_exception_after_a_refusal_passes() -> None:
    """Only what the refusal caused is ended; a bug of the app's stays visible."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(OSError):
            await answering(b"a")(scope, receive, send)
        raise AppError

    with pytest.raises(AppError):
        await run(app, Refusing("start"))


@pytest.mark.parametrize(
    "make", [Observer, lambda: Upper(), lambda: Log()], ids=["plain", "rewriter", "log"]
)
async def test_unknown_messages_pass(make: Callable[[], Observer]) -> None:
    """Early hints, trailers and what servers will think of next go through as they are."""
    hint = {"type": "http.response.early_hint", "links": [b"</a>"]}
    trailers = {"type": "http.response.trailers", "headers": [(b"a", b"b")], "more_trailers": False}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(hint)
        await answering(b"a")(scope, receive, send)
        await send(trailers)

    client = await run(app, make())
    assert client.sent[0] is hint
    assert client.sent[-1] is trailers


async def test_a_file_sent_by_path_releases_a_held_start_and_is_complete() -> None:
    """A body that never passes through Python is still a body."""
    observer = Refusing("never")
    observer.hold_start = True  # type: ignore[misc]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.pathsend", "path": "/x"})

    client = await run(app, observer)
    assert [m["type"] for m in client.sent] == ["http.response.start", "http.response.pathsend"]
    assert observer.outcome is Outcome.COMPLETE
