from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import asgi_llm
from asgi_llm.errors import (
    ConfigurationError,
    LLMError,
    ProviderUnavailableError,
    RateLimitError,
    StoreError,
)
from asgi_llm.gateway.compose import BrokenResponse, Gateway, compose
from asgi_llm.testing import Exchange, Recorder, call, http_scope, websocket_scope

SECRET = "the prompt of a client"
SSE = (b"content-type", b"text/event-stream")


def started(*headers: tuple[bytes, bytes], status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def app_of(*steps: Message | BaseException) -> ASGIApp:
    """An app that sends the messages and raises the exceptions it is given."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for step in steps:
            if isinstance(step, BaseException):
                raise step
            await send(dict(step))

    return app


def gateway_of(*steps: Message | BaseException) -> Gateway:
    return compose([], app_of(*steps))


class Tag:
    """A layer that writes down when it is entered and closed."""

    def __init__(self, app: ASGIApp, *, name: str, log: list[str]) -> None:
        self.app, self.name, self.log = app, name, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.log.append(self.name)
        await self.app(scope, receive, send)

    async def aclose(self) -> None:
        self.log.append(f"close {self.name}")


class Plain:
    """A layer that owns nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Closing:
    def __init__(self, name: str, log: list[str], error: Exception | None = None) -> None:
        self.name, self.log, self.error = name, log, error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(started())
        await send(body(b"inside"))

    async def aclose(self) -> None:
        self.log.append(f"close {self.name}")
        if self.error is not None:
            raise self.error


async def test_layers_stand_around_the_app_outermost_first() -> None:
    """The first of the list is entered first; the app inside answers."""
    log: list[str] = []
    layers = [Middleware(Tag, name=name, log=log) for name in ("outer", "inner")]
    answer = await call(asgi_llm.compose(layers, Closing("app", log)))
    assert (b"inside", ["outer", "inner"]) == (answer.body, log)


async def test_a_layer_without_resources_is_fine() -> None:
    """Only what has an ``aclose`` is closed."""
    log: list[str] = []
    gateway = compose([Middleware(Plain)], Closing("app", log))
    assert b"inside" == (await call(gateway)).body
    await gateway.aclose()
    assert ["close app"] == log


async def test_everything_is_closed_in_order_even_if_one_fails() -> None:
    """Layers from the outside in, the app, then resources; a failure stops none of them."""
    log: list[str] = []
    layers = [Middleware(Tag, name=name, log=log) for name in ("outer", "inner")]
    resources = [Closing("store", log, OSError("gone")), Closing("last", log)]
    gateway = compose(layers, Closing("app", log), resources=resources)
    with pytest.raises(OSError, match="gone"):
        await gateway.aclose()
    assert [f"close {name}" for name in ("outer", "inner", "app", "store", "last")] == log


# The error boundary


async def test_b38_an_unknown_exception_is_a_500_without_detail(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The client learns nothing; the log has the place and the request id, and no prompt text."""
    cause = KeyError(SECRET)
    error = ValueError(SECRET)
    error.__cause__ = cause
    answer = await call(gateway_of(error))
    assert 500 == answer.status
    assert {
        "error": {
            "message": "The gateway failed to answer.",
            "type": "internal_error",
            "param": None,
            "code": "internal_error",
        }
    } == answer.json()
    request_id = (answer.header("x-request-id") or b"").decode()
    assert request_id.startswith("req_")
    (record,) = caplog.records
    text = record.getMessage()
    assert request_id in text
    assert "test_compose.py" in text
    assert "KeyError" in text
    assert "ValueError" in text
    assert SECRET not in text
    assert (None, logging.ERROR) == (record.exc_info, record.levelno)


@pytest.mark.parametrize(
    "error",
    [
        RateLimitError("Later.", retry_after_seconds=3),
        StoreError("The store is away."),
        ProviderUnavailableError("Gone."),
    ],
)
async def test_our_own_errors_are_rendered(
    error: LLMError, caplog: pytest.LogCaptureFixture
) -> None:
    """An LLMError that escapes becomes its own answer and is no fault to log."""
    answer = await call(gateway_of(error))
    assert error.status == answer.status
    assert error.message == answer.json()["error"]["message"]
    assert [] == caplog.records


async def test_a_wrong_setting_met_in_a_request_is_no_business_of_the_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A ConfigurationError is a 500 without detail; its text is in the log."""
    answer = await call(gateway_of(ConfigurationError("the database URL is wrong")))
    assert (500, False) == (answer.status, b"database" in answer.body)
    assert "the database URL is wrong" in caplog.text


@pytest.mark.parametrize(
    ("error", "code"),
    [(ValueError(SECRET), "internal_error"), (StoreError("Away."), "store_unavailable")],
)
async def test_a_started_stream_ends_with_one_error_event(error: Exception, code: str) -> None:
    """After the start of a stream: one event that holds the error, the end mark, the end."""
    answer = await call(gateway_of(started(SSE), body(b"data: {}\n\n", more=True), error))
    first, last, done = answer.events
    assert ({}, code, True) == (first.json(), last.json()["error"]["code"], done.done)
    assert answer.complete
    assert SECRET.encode() not in answer.body


async def test_an_event_that_was_cut_does_not_swallow_the_error() -> None:
    """A stream that broke off inside an event still ends with a readable error event."""
    answer = await call(gateway_of(started(SSE), body(b'data: {"half', more=True), ValueError()))
    _, last, done = answer.events
    assert ("internal_error", True) == (last.json()["error"]["code"], done.done)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-type", b"application/json")],
        [SSE, (b"content-encoding", b"gzip")],
        [],
    ],
)
@pytest.mark.parametrize("error", [ValueError(SECRET), StoreError("Away.")])
async def test_any_other_started_response_is_cut_off(
    headers: list[tuple[bytes, bytes]], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing more is sent, never a clean end; what the server sees holds no prompt text."""
    gateway = gateway_of(started(*headers), body(b"half", more=True), error)
    recorder = Recorder()
    with pytest.raises(BrokenResponse) as broken:
        await gateway(http_scope(), _no_body, recorder)
    assert ([b"half"], False) == (recorder.chunks, recorder.complete)
    assert broken.value.__suppress_context__
    assert 1 == len(caplog.records)
    assert SECRET not in caplog.text


async def test_an_error_after_the_whole_response_is_logged_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The client has its answer, so that the connection may live on."""
    answer = await call(gateway_of(started(), body(b"whole"), ValueError()))
    assert (200, b"whole") == (answer.status, answer.body)
    assert 1 == len(caplog.records)


async def _no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def test_a_client_that_left_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """OSError out of ``send`` ends quietly, also wrapped in what a host makes of it."""

    async def host(scope: Scope, receive: Receive, send: Send) -> None:
        await send(started(SSE))
        try:
            while True:
                await send(body(b"data: {}\n\n", more=True))
        except OSError as error:
            if scope["path"] == "/group":
                raise ExceptionGroup("tasks", [error]) from None
            if scope["path"] == "/wrapped":
                raise RuntimeError("no one is listening") from error
            raise

    for path in ("/plain", "/group", "/wrapped"):
        scope = http_scope(path=path, spec_version="2.4")
        async with Exchange(compose([], host), scope) as exchange:
            await exchange.next_chunk()
            exchange.disconnect()
            await exchange.finish()
            assert [b"data: {}\n\n"] == exchange.recorder.chunks
    assert [] == caplog.records


async def test_another_error_after_the_client_left_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A fault that does not come of the leaving is one, and nobody is told."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(started(SSE))
        with contextlib.suppress(OSError):
            while True:
                await send(body(b"data: {}\n\n", more=True))
        raise ValueError

    async with Exchange(compose([], app), http_scope(spec_version="2.4")) as exchange:
        await exchange.next_chunk()
        exchange.disconnect()
        await exchange.finish()
    assert 1 == len(caplog.records)


async def test_a_client_that_left_before_the_answer_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Starlette's ClientDisconnect ends quietly; nothing is sent to nobody."""
    async with Exchange(gateway_of(ClientDisconnect())) as exchange:
        await exchange.finish()
        assert [] == exchange.recorder.messages
    assert [] == caplog.records


async def test_an_apps_own_oserror_is_an_error() -> None:
    """An OSError that does not come from ``send`` is a 500 like any other."""
    answer = await call(gateway_of(FileNotFoundError("template")))
    assert 500 == answer.status


async def test_an_error_while_the_client_leaves_is_logged_and_raises_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A fault of the app is logged even if nobody is there to be told."""

    async def gone(message: Message) -> None:
        raise OSError

    await gateway_of(ValueError())(http_scope(), _no_body, gone)
    assert 1 == len(caplog.records)


async def test_cancellation_passes() -> None:
    """A server that cancels its handler sees the cancellation, and nothing is sent."""
    recorder = Recorder()
    with pytest.raises(asyncio.CancelledError):
        await gateway_of(asyncio.CancelledError())(http_scope(), _no_body, recorder)
    assert [] == recorder.messages


# Request ids


async def test_every_answer_has_a_request_id_of_ours() -> None:
    """An app that sets none gets one; one that does keeps it; the client's is only echoed."""
    own = gateway_of(started((b"X-Request-Id", b"req_mine")), body(b""))
    none = gateway_of(started(), body(b""))
    scope = http_scope(headers=[(b"x-request-id", b"trace-1")])
    answer = await call(own, scope)
    assert [b"req_mine"] == answer.header_values("x-request-id")
    answer = await call(none, scope)
    assert (answer.header("x-request-id") or b"").startswith(b"req_")
    assert b"trace-1" == answer.header("x-client-request-id")
    strange = http_scope(headers=[(b"x-request-id", b"a b\x1b")])
    assert None is (await call(none, strange)).header("x-client-request-id")


async def test_duplicate_headers_are_kept() -> None:
    """Adding an id leaves all other headers as they were, in their order."""
    cookies = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    answer = await call(gateway_of(started(*cookies), body(b"")))
    assert cookies == answer.headers[:2]


async def test_chunks_leave_one_by_one() -> None:
    """The boundary holds nothing back: chunk n is out before the app makes n+1."""
    made: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(started(SSE))
        for number in range(3):
            made.append(number)
            await send(body(b"%d" % number, more=True))
        await send(body(b""))

    async with Exchange(compose([], app)) as exchange:
        for number in range(3):
            assert b"%d" % number == await exchange.next_chunk()
            assert number + 1 >= len(made)
        await exchange.finish()


async def test_fifty_requests_do_not_mix() -> None:
    """Fifty requests at once keep their own ids and their own fate."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0)
        if scope["path"].endswith("5"):
            raise ValueError
        await send(started())
        await asyncio.sleep(0)
        await send(body(scope["path"].encode()))

    gateway = compose([], app)
    answers = await asyncio.gather(
        *(call(gateway, http_scope(path=f"/{number}")) for number in range(50))
    )
    for number, answer in enumerate(answers):
        assert (500 if number % 10 == 5 else 200) == answer.status
    assert 50 == len({answer.header("x-request-id") for answer in answers})


# WebSocket


async def websocket(app: ASGIApp) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await compose([], app)(websocket_scope(), receive, send)
    return sent


async def test_a_websocket_that_nobody_answers_is_closed() -> None:
    """An app that returns without a word closes with 4404."""
    assert [{"type": "websocket.close", "code": 4404}] == await websocket(app_of())


@pytest.mark.parametrize("accepted", [True, False])
async def test_a_websocket_that_fails_is_closed(
    accepted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception closes with 1011, before and after the accept, and is logged."""
    steps: list[Message] = [{"type": "websocket.accept"}] if accepted else []
    sent = await websocket(app_of(*steps, ValueError(SECRET)))
    assert [*steps, {"type": "websocket.close", "code": 1011}] == sent
    assert ("ValueError" in caplog.text, SECRET in caplog.text) == (True, False)


async def test_a_websocket_that_the_app_closed_is_left_alone() -> None:
    """What the app said stands, and a fault after it sends no second close."""
    steps: list[Message] = [{"type": "websocket.close", "code": 4401}]
    assert steps == await websocket(app_of(*steps))
    assert steps == await websocket(app_of(*steps, ValueError()))


async def test_a_websocket_whose_client_left_is_no_error() -> None:
    """Nobody is there to be told."""

    async def gone(message: Message) -> None:
        raise OSError

    await compose([], app_of())(websocket_scope(), _no_body, gone)


# Lifespan


async def lifespan_of(
    gateway: ASGIApp, *, until: asyncio.Event | None = None
) -> list[tuple[str, str]]:
    """What a server hears."""
    events = iter(("lifespan.startup", "lifespan.shutdown"))
    heard: list[tuple[str, str]] = []

    async def receive() -> Message:
        kind = next(events)
        if kind == "lifespan.shutdown" and until is not None:
            await until.wait()
        return {"type": kind}

    async def send(message: Message) -> None:
        heard.append((message["type"], message.get("message", "")))

    async with asyncio.timeout(5):
        await gateway({"type": "lifespan", "state": {}}, receive, send)
    return heard


COMPLETE = [("lifespan.startup.complete", ""), ("lifespan.shutdown.complete", "")]


async def test_the_lifespan_closes_what_is_open() -> None:
    """A server's lifespan ends with everything closed; an app without one is no obstacle."""
    log: list[str] = []

    async def no_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"

    gateway = compose([], no_lifespan, resources=[Closing("store", log)])
    assert COMPLETE == await lifespan_of(gateway)
    assert ["close store"] == log


async def test_the_apps_own_lifespan_runs() -> None:
    """A Starlette app inside starts and stops with the gateway, before resources close."""
    log: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette):  # type: ignore[no-untyped-def]
        log.append("up")
        yield {"pool": 1}
        log.append("down")

    gateway = compose([], Starlette(lifespan=lifespan), resources=[Closing("store", log)])
    assert COMPLETE == await lifespan_of(gateway)
    assert ["up", "down", "close store"] == log


async def test_requests_see_what_the_apps_lifespan_made() -> None:
    """State of the inner lifespan reaches its requests, whoever held the gateway open."""
    seen: list[object] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette):  # type: ignore[no-untyped-def]
        yield {"pool": 1}

    async def page(request: Request) -> Response:
        seen.append((request.state.pool, getattr(request.state, "server", None)))
        return Response()

    gateway = compose([], Starlette(routes=[Route("/", page)], lifespan=lifespan))
    async with gateway.lifespan():
        await call(gateway, http_scope("GET", "/", state={"server": 2}))
        await call(gateway, http_scope("GET", "/"))
    assert [(1, 2), (1, None)] == seen


@pytest.mark.parametrize("fails_at", ["startup", "shutdown"])
async def test_an_app_that_fails_to_start_or_end_fails_the_gateway(fails_at: str) -> None:
    """The server is told that it failed, and resources are closed all the same."""
    log: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette):  # type: ignore[no-untyped-def]
        if fails_at == "startup":
            raise RuntimeError("no database")
        yield
        raise RuntimeError("no database")

    gateway = compose([], Starlette(lifespan=lifespan), resources=[Closing("store", log)])
    heard = await lifespan_of(gateway)
    kind, message = heard[-1]
    assert (f"lifespan.{fails_at}.failed", True) == (kind, "no database" in message)
    assert ["close store"] == log


async def test_a_resource_that_does_not_close_fails_the_shutdown() -> None:
    """The server hears of it."""
    gateway = compose([], app_of(), resources=[Closing("store", [], OSError("stuck"))])
    assert [COMPLETE[0], ("lifespan.shutdown.failed", "stuck")] == await lifespan_of(gateway)


async def test_two_hosts_may_hold_one_gateway() -> None:
    """The first start opens, the last end closes, whatever their order; it can start again."""
    log: list[str] = []
    gateway = compose([], app_of(), resources=[Closing("store", log)])
    until = asyncio.Event()
    host = asyncio.create_task(lifespan_of(gateway, until=until))
    async with gateway.lifespan():
        async with gateway.lifespan(object()):
            await asyncio.sleep(0)
        assert [] == log
    assert [] == log
    until.set()
    assert COMPLETE == await host
    assert ["close store"] == log
    async with gateway.lifespan():
        pass
    assert ["close store"] * 2 == log


async def test_the_lifespan_fits_starlette() -> None:
    """``Starlette(lifespan=gateway.lifespan)`` works, as the host's own."""
    log: list[str] = []
    gateway = compose([], app_of(), resources=[Closing("store", log)])
    host = Starlette(routes=[Mount("/llm", gateway)], lifespan=gateway.lifespan)
    assert COMPLETE == await lifespan_of(host)
    assert ["close store"] == log


async def test_a_cancelled_server_still_closes() -> None:
    """A server that cancels the lifespan leaves nothing open."""
    log: list[str] = []
    gateway = compose([], app_of(), resources=[Closing("store", log)])
    task = asyncio.create_task(lifespan_of(gateway, until=asyncio.Event()))
    for _ in range(10):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ["close store"] == log


async def test_a_start_that_is_cancelled_leaves_nothing_behind() -> None:
    """An app that hangs at its start is ended with the server that gave up, and all is closed."""
    log: list[str] = []

    async def hanging(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            log.append("ended")

    gateway = compose([], hanging, resources=[Closing("store", log)])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), gateway.lifespan():
            raise AssertionError
    assert ["ended", "close store"] == log


async def test_an_error_of_ours_after_the_whole_response_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What no client can be told any more is in the log."""
    answer = await call(gateway_of(started(), body(b"whole"), StoreError("Away.")))
    assert (b"whole", 1) == (answer.body, len(caplog.records))


async def test_ids_are_not_set_twice() -> None:
    """An app that names and echoes its request itself is left as it is."""
    headers = [(b"x-request-id", b"req_1"), (b"x-client-request-id", b"trace-1")]
    scope = http_scope(headers=[(b"x-request-id", b"trace-1")])
    assert headers == (await call(gateway_of(started(*headers), body(b"")), scope)).headers


async def test_other_scopes_pass() -> None:
    """A scope type that we do not know reaches the app untouched."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    scope: Scope = {"type": "webtransport"}
    await compose([], app)(scope, _no_body, Recorder())
    assert seen[0] is scope


async def test_what_has_something_to_do_before_the_first_request_is_started_once() -> None:
    """With the first of several lifespans, after the app inside; the others have nothing to do."""
    told: list[str] = []

    class Books:
        def start(self) -> None:
            told.append("started")

        async def aclose(self) -> None:
            told.append("closed")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        told.append("inside")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    gateway = compose([], app, resources=[Books(), Closed()])
    async with gateway.lifespan(), gateway.lifespan():
        assert ["inside", "started"] == told
    assert ["inside", "started", "closed"] == told


class Closed:
    """A resource that needs no start."""

    async def aclose(self) -> None:
        """Nothing is open."""
