"""Checks: what leaves of the answer, and when."""

from __future__ import annotations

from starlette.types import Message, Receive, Scope, Send

from asgi_llm.errors import RawHeaders
from asgi_llm.testing.conformance._probes import (
    answer,
    bodies,
    drain,
    events,
    in_pieces,
    json_start,
    request,
    stream_start,
)
from asgi_llm.testing.conformance._subject import Example, Layer, check, require
from asgi_llm.testing.exchange import Exchange
from asgi_llm.testing.recorder import Recorder

_LARGE = 2 * 1024 * 1024


async def _answered(layer: Layer, example: Example, *messages: Message, mark: str = "") -> Recorder:
    """What leaves of the answer of an app that reads its request and sends ``messages``."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await drain(receive)
        for message in messages:
            await send(message)

    body = example.body(mark=mark)
    return await request(layer(app), example.scope(body), [body])


def _kinds(messages: list[Message]) -> list[str]:
    return [message["type"] for message in messages]


@check
async def chunks_leave_before_the_next_is_asked_for(layer: Layer, example: Example) -> None:
    """When ``send`` returns to the app, the chunk has left: nothing waits for the next one."""
    late: list[int] = []
    chunks = events()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await drain(receive)
        await send(stream_start())
        sent = b""
        for number, message in enumerate(bodies(chunks)):
            await send(message)
            sent += message["body"]
            if exchange.recorder.body != sent:
                late.append(number)

    body = example.body(stream=True)
    exchange = Exchange(layer(app), example.scope(body), body=body)
    async with exchange:
        await exchange.finish()
    require(not late, f"chunks {late} of {len(chunks)} had not left when the next was asked for")
    _require_answer(exchange.recorder, b"".join(chunks), "a stream")


@check
async def start_leaves_before_the_body(layer: Layer, example: Example) -> None:
    """The client gets status and headers when the app sends them, not with the first chunk."""
    early: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await drain(receive)
        await send(stream_start())
        early.append(len(exchange.recorder.messages))
        await send({"type": "http.response.body", "body": b"".join(events())})

    body = example.body(stream=True)
    exchange = Exchange(layer(app), example.scope(body), body=body)
    async with exchange:
        await exchange.finish()
    require(early == [1], "the start had not left when the app went on to the body")


@check
async def a_slow_client_slows_the_app(layer: Layer, example: Example) -> None:
    """While the client does not read, the app is not asked for more than it has sent already."""
    chunks = events("word " * 40)
    made: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await drain(receive)
        await send(stream_start())
        for message in bodies(chunks):
            made.append(message)
            await send(message)

    body = example.body(stream=True)
    async with Exchange(layer(app), example.scope(body), body=body) as exchange:
        await exchange.next_message()
        await exchange.settle()
        require(len(made) <= 1, f"{len(made)} chunks were made before the client read the first")
        recorder = await exchange.finish()
    _require_answer(recorder, b"".join(chunks), "a stream")


@check
async def repeated_headers_are_kept(layer: Layer, example: Example) -> None:
    """Response headers keep their order, their case and their repetitions."""
    repeated = [
        (b"set-cookie", b"a=1; Path=/"),
        (b"X-Odd-Case", b"\xff"),
        (b"set-cookie", b"b=2; Path=/"),
        (b"vary", b"Origin"),
        (b"vary", b"Accept"),
    ]
    whole = answer()
    start = json_start(whole)
    start["headers"] += repeated
    recorder = await _answered(layer, example, start, *bodies([whole]))
    wanted = {name.lower() for name, _ in repeated}
    kept = [pair for pair in recorder.headers if pair[0].lower() in wanted]
    require(kept == repeated, f"the headers left as {kept}, not as {repeated}")


@check
async def body_leaves_byte_for_byte(layer: Layer, example: Example) -> None:
    """The client gets the very bytes of the app, streamed or whole, and one end."""
    whole, stream = answer("a \u00e9 \U0001f600"), b"".join(events())
    cases = {
        "in one message": (json_start(whole), [whole]),
        "whole, in pieces of 5": (json_start(whole), in_pieces(whole, 5)),
        "a stream cut inside its events": (stream_start(), in_pieces(stream, 11)),
        "a stream in one message": (stream_start(), [stream]),
        "a stream with CRLF and a comment": (
            stream_start(),
            [b": hello\r\n\r\n" + stream.replace(b"\n", b"\r\n")],
        ),
    }
    for where, (start, pieces) in cases.items():
        recorder = await _answered(layer, example, start, *bodies(pieces), mark=where)
        _require_answer(recorder, b"".join(pieces), where)


@check
async def empty_chunks_pass(layer: Layer, example: Example) -> None:
    """Empty chunks, before, between and last, neither end the body nor lose its end."""
    chunks = events()
    pieces = [b"", chunks[0], b"", b"", *chunks[1:], b""]
    recorder = await _answered(layer, example, stream_start(), *bodies(pieces))
    _require_answer(recorder, b"".join(chunks), "with empty chunks")
    nothing = await _answered(layer, example, json_start(b""), *bodies([b""]), mark="nothing")
    _require_answer(nothing, b"", "an empty body")


@check
async def large_answer_leaves(layer: Layer, example: Example) -> None:
    """An answer of 2 MiB in chunks of 64 KiB leaves whole."""
    whole = answer("x" * _LARGE)
    recorder = await _answered(layer, example, json_start(whole), *bodies(in_pieces(whole, 65536)))
    _require_answer(recorder, whole, "2 MiB")


def _require_answer(recorder: Recorder, body: bytes, where: str) -> RawHeaders:
    """The answer is whole and well formed, and its body is ``body``; gives its headers."""
    require(recorder.started, f"nothing was answered: {where}")
    require(recorder.status == 200, f"the status is {recorder.status}, not 200: {where}")
    require(
        recorder.body == body,
        f"{len(recorder.body)} bytes left and are not the {len(body)} of the app: {where}",
    )
    require(recorder.complete, f"the end of the body did not leave: {where}")
    headers = recorder.headers
    announced = [value for name, value in headers if name == b"content-length"]
    require(
        all(int(value) == len(body) for value in announced),
        f"content-length {announced} does not fit {len(body)} bytes: {where}",
    )
    return headers


@check
async def statuses_pass(layer: Layer, example: Example) -> None:
    """The app's status is the client's, with a body or without."""
    for status, body in ((201, answer()), (204, b""), (400, b'{"error": {}}'), (404, b"")):
        start = json_start(body, status=status)
        recorder = await _answered(layer, example, start, *bodies([body]), mark=f"status {status}")
        require(recorder.status == status, f"status {status} left as {recorder.status}")
        require(recorder.body == body, f"the body of a {status} is {recorder.body!r}, not {body!r}")


@check
async def optional_keys_may_be_missing(layer: Layer, example: Example) -> None:
    """Messages without their optional keys pass, and headers may be any iterable of pairs."""
    bare: list[Message] = [
        {"type": "http.response.start", "status": 200},
        {"type": "http.response.body"},
    ]
    _require_answer(await _answered(layer, example, *bare), b"", "no headers, body or more_body")
    whole = answer()
    pairs = ([name, value] for name, value in json_start(whole)["headers"])
    start = json_start(whole, headers=pairs)
    recorder = await _answered(layer, example, start, *bodies([whole]), mark="iterable")
    headers = _require_answer(recorder, whole, "headers are a generator of lists")
    require(
        (b"content-type", b"application/json") in headers,
        "headers that were given as an iterator have been used up inside the layer",
    )


@check
async def unknown_messages_pass(layer: Layer, example: Example) -> None:
    """Messages and keys that the layer does not know leave unchanged, in their order."""
    whole = answer()
    messages: list[Message] = [
        {"type": "http.response.early_hint", "links": [b"</a>; rel=preload"]},
        {"type": "http.response.debug", "info": {"template": object()}},
        json_start(whole, trailers=True, x_key=1),
        {"type": "x.unknown", "body": b"not a body", "more_body": False},
        *bodies([whole]),
        {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": False},
    ]
    recorder = await _answered(layer, example, *messages)
    left, kinds = _kinds(recorder.messages), _kinds(messages)
    require(left == kinds, f"{left} left, not {kinds}")
    for came, gone in zip(messages, recorder.messages, strict=True):
        for key, value in came.items():
            if key != "headers" or came["type"] == "http.response.trailers":
                require(gone.get(key) == value, f"{key!r} of {came['type']} left changed")


@check
async def pathsend_passes(layer: Layer, example: Example) -> None:
    """A body that the server is to read from a file is asked for as the app asked."""
    message: Message = {"type": "http.response.pathsend", "path": "/srv/answer.json"}
    recorder = await _answered(layer, example, json_start(answer()), message)
    left = _kinds(recorder.messages)
    require(
        left == ["http.response.start", "http.response.pathsend"],
        f"{left} left for a start and a pathsend",
    )
    require(recorder.messages[1] == message, f"pathsend left as {recorder.messages[1]}")


CHECKS = (
    chunks_leave_before_the_next_is_asked_for,
    start_leaves_before_the_body,
    a_slow_client_slows_the_app,
    repeated_headers_are_kept,
    body_leaves_byte_for_byte,
    empty_chunks_pass,
    large_answer_leaves,
    statuses_pass,
    optional_keys_may_be_missing,
    unknown_messages_pass,
    pathsend_passes,
)
