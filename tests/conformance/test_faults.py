"""The suite catches faults: a layer with one of them fails the check that is about it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar, cast

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_llm._asgi import BufferedBody
from asgi_llm.testing.conformance import Layer, _subject, checks


class Faulty:
    """A pass-through whose parts a fault replaces."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.http(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


def copy_of(scope: Scope, **changes: Any) -> Scope:
    return {**cast("Mapping[str, Any]", scope), **changes}


FAULTS: dict[str, tuple[Layer, str]] = {}


def fails(check: str) -> Any:
    """Note which check is to find the fault."""

    def add(layer: type[Faulty]) -> type[Faulty]:
        FAULTS[layer.__name__] = (layer, check)
        return layer

    return add


@fails("lifespan_passes_as_the_same_objects")
class WrapsLifespan(Faulty):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope} if scope["type"] == "lifespan" else scope, receive, send)


@fails("websocket_passes_as_the_same_objects")
class WrapsWebSocket(Faulty):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def wrapped(message: Message) -> None:
            await send(message)

        await self.app(scope, receive, wrapped if scope["type"] == "websocket" else send)


@fails("unknown_scope_passes_as_the_same_objects")
class DropsUnknownScopes(Faulty):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket", "lifespan"):
            await self.app(scope, receive, send)


@fails("callers_scope_is_unchanged")
class EditsScope(Faulty):
    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["asgi_llm"] = object()
        await self.app(scope, receive, send)


@fails("callers_scope_is_unchanged")
class EditsHeadersInPlace(Faulty):
    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = copy_of(scope)
        scope["headers"].append((b"x-added", b"1"))
        await self.app(scope, receive, send)


@fails("scope_arrives_unchanged")
class MergesRequestHeaders(Faulty):
    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        merged = list(dict(scope["headers"]).items())
        await self.app(copy_of(scope, headers=merged), receive, send)


@fails("scope_arrives_unchanged")
class CopiesState(Faulty):
    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(copy_of(scope, state=dict(scope.get("state", {}))), receive, send)


@fails("works_with_no_other_layer")
class NeedsAnotherLayer(Faulty):
    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"].get("principal")
        await self.app(scope, receive, send)


@fails("works_under_any_mount")
class TakesTheMountOff(Faulty):
    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path != scope["path"]:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body"})
            return
        await self.app(scope, receive, send)


@fails("works_under_every_spec_version")
class NeedsSpecVersion(Faulty):
    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if float(scope["asgi"]["spec_version"]) >= 2.0:
            await self.app(scope, receive, send)


@fails("concurrent_requests_do_not_mix")
class SharesOneRequest(Faulty):
    _send: Send

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._send = send

        async def shared(message: Message) -> None:
            await self._send(message)

        await self.app(scope, receive, shared)


@fails("no_task_is_left_behind")
class LeavesATask(Faulty):
    tasks: ClassVar[list[asyncio.Task[Any]]] = []

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.tasks.append(asyncio.create_task(asyncio.Event().wait()))
        await self.app(scope, receive, send)


@fails("body_arrives_byte_for_byte")
class EncodesBodyAnew(Faulty):
    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await BufferedBody.read(scope, receive, max_bytes=2**25)
        if body is None:
            return
        try:
            data = json.dumps(json.loads(body.data)).encode()
        except ValueError:
            data = body.data
        await self.app(body.replace(scope, data), body.receive, send)


@fails("chunked_upload_arrives")
class NeedsBodyKey(Faulty):
    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def strict() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                return {**message, "body": message["body"]}
            return message

        await self.app(scope, strict, send)


@fails("large_body_arrives")
class CutsLargeBodies(Faulty):
    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = 0

        async def cut() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            return {**message, "body": b""} if size > 2**20 else message

        await self.app(scope, cut, send)


@fails("document_arrives_unchanged")
class DropsUnknownFields(Faulty):
    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await BufferedBody.read(scope, receive, max_bytes=2**25)
        if body is None:
            return
        data = body.data
        if data.startswith(b"{"):
            known = {k: v for k, v in json.loads(data).items() if not k.startswith("x_")}
            data = json.dumps(known).encode()
        await self.app(body.replace(scope, data), body.receive, send)


@fails("other_requests_pass")
class ParsesEveryBody(Faulty):
    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await BufferedBody.read(scope, receive, max_bytes=2**25)
        if body is None:
            return
        json.loads(body.data)
        await self.app(scope, body.receive, send)


class _Replays(Faulty):
    """Reads the body and then gives ``after`` in place of what the server says."""

    after: ClassVar[Message]

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await BufferedBody.read(scope, receive, max_bytes=2**25)
        if body is None:
            return
        messages: list[Message] = [{"type": "http.request", "body": body.data}]

        async def replay() -> Message:
            return messages.pop() if messages else self.after

        await self.app(scope, replay, send)


@fails("receive_waits_after_the_body")
class InventsDisconnect(_Replays):
    after: ClassVar[Message] = {"type": "http.disconnect"}


@fails("receive_waits_after_the_body")
class InventsSecondBody(_Replays):
    after: ClassVar[Message] = {"type": "http.request", "body": b"", "more_body": False}


@fails("disconnect_reaches_a_streaming_app")
class HidesDisconnect(Faulty):
    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def deaf() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                await asyncio.Event().wait()
            return message

        await self.app(scope, deaf, send)


@fails("disconnect_before_the_end_of_the_body")
class EndsBodyOnDisconnect(Faulty):
    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def ending() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                return {"type": "http.request", "body": b"", "more_body": False}
            return message

        await self.app(scope, ending, send)


class _Sends(Faulty):
    """Turns each message into the messages of ``out``."""

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        memory: list[Message] = []

        async def changed(message: Message) -> None:
            async for one in self.out(message, memory):
                await send(one)

        await self.app(scope, receive, changed)

    def out(self, message: Message, memory: list[Message]) -> AsyncIterator[Message]:
        raise AssertionError("a fault says what it sends")


@fails("chunks_leave_before_the_next_is_asked_for")
class BuffersTheStream(_Sends):
    async def out(self, message: Message, memory: list[Message]) -> AsyncIterator[Message]:
        memory.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            for one in memory:
                yield one
            memory.clear()


@fails("chunks_leave_before_the_next_is_asked_for")
class StaysOneChunkBehind(_Sends):
    async def out(self, message: Message, memory: list[Message]) -> AsyncIterator[Message]:
        memory.append(message)
        last = message["type"] == "http.response.body" and not message.get("more_body")
        while len(memory) > (0 if last else 1):
            yield memory.pop(0)


@fails("start_leaves_before_the_body")
class HoldsTheStart(_Sends):
    async def out(self, message: Message, memory: list[Message]) -> AsyncIterator[Message]:
        if message["type"] == "http.response.start":
            memory.append(message)
            return
        while memory:
            yield memory.pop()
        yield message


@fails("a_slow_client_slows_the_app")
class QueuesWithoutEnd(Faulty):
    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        queue: asyncio.Queue[Message | None] = asyncio.Queue()

        async def drain() -> None:
            while (message := await queue.get()) is not None:
                await send(message)

        draining = asyncio.create_task(drain())
        try:
            await self.app(scope, receive, queue.put)
        finally:
            queue.put_nowait(None)
            await draining


@fails("repeated_headers_are_kept")
class MergesResponseHeaders(_Sends):
    async def out(self, message: Message, memory: list[Message]) -> AsyncIterator[Message]:
        if "headers" in message:
            message = {**message, "headers": list(dict(message["headers"]).items())}
        yield message


@fails("repeated_headers_are_kept")
class LowersResponseHeaders(_Sends):
    async def out(self, message: Message, memory: list[Message]) -> AsyncIterator[Message]:
        if "headers" in message:
            message = {**message, "headers": [(n.lower(), v) for n, v in message["headers"]]}
        yield message


@fails("body_leaves_byte_for_byte")
class NormalisesLineEnds(_Sends):
    async def out(self, message: Message, memory: list[Message]) -> AsyncIterator[Message]:
        if b"\r\n" in message.get("body", b""):
            message = {**message, "body": message["body"].replace(b"\r\n", b"\n")}
        yield message


@fails("empty_chunks_pass")
class EndsOnEmptyChunk(_Sends):
    async def out(self, message: Message, memory: list[Message]) -> AsyncIterator[Message]:
        if message["type"] == "http.response.body" and not message.get("body"):
            message = {**message, "more_body": False}
        yield message


@fails("empty_chunks_pass")
class DropsEmptyChunks(_Sends):
    async def out(self, message: Message, memory: list[Message]) -> AsyncIterator[Message]:
        if message["type"] != "http.response.body" or message.get("body"):
            yield message


@fails("large_answer_leaves")
class CutsLargeAnswers(_Sends):
    async def out(self, message: Message, memory: list[Message]) -> AsyncIterator[Message]:
        memory.append(message)
        if len(memory) > 20 and message.get("body", b"").startswith(b"x"):
            message = {**message, "body": b""}
        yield message


@fails("statuses_pass")
class AnswersTwoHundred(_Sends):
    async def out(self, message: Message, memory: list[Message]) -> AsyncIterator[Message]:
        yield {**message, "status": 200} if "status" in message else message


@fails("optional_keys_may_be_missing")
class UsesHeadersUp(_Sends):
    async def out(self, message: Message, memory: list[Message]) -> AsyncIterator[Message]:
        if "headers" in message:
            any(name == b"content-encoding" for name, _ in message["headers"])
        yield message


@fails("optional_keys_may_be_missing")
class NeedsHeadersKey(_Sends):
    async def out(self, message: Message, memory: list[Message]) -> AsyncIterator[Message]:
        if message["type"] == "http.response.start":
            message = {**message, "headers": list(message["headers"])}
        yield message


@fails("unknown_messages_pass")
class DropsUnknownMessages(_Sends):
    async def out(self, message: Message, memory: list[Message]) -> AsyncIterator[Message]:
        if message["type"] in ("http.response.start", "http.response.body"):
            yield message


@fails("unknown_messages_pass")
class RebuildsTheStart(_Sends):
    async def out(self, message: Message, memory: list[Message]) -> AsyncIterator[Message]:
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            message = {"type": message["type"], "status": message["status"], "headers": headers}
        yield message


@fails("pathsend_passes")
class DropsPathsend(_Sends):
    async def out(self, message: Message, memory: list[Message]) -> AsyncIterator[Message]:
        if message["type"] != "http.response.pathsend":
            yield message


@fails("exceptions_pass_once")
class SwallowsExceptions(Faulty):
    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except Exception:
            return


@fails("exceptions_pass_once")
class RaisesItsOwn(Faulty):
    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            raise RuntimeError("the app failed") from error


@fails("exceptions_pass_once")
class AnswersAndRaises(Faulty):
    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except Exception:
            await send({"type": "http.response.start", "status": 500, "headers": []})
            await send({"type": "http.response.body"})
            raise


@fails("exceptions_pass_once")
class TriesAgain(Faulty):
    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await BufferedBody.read(scope, receive, max_bytes=2**25)
        if body is None:
            return
        try:
            await self.app(scope, body.receive, send)
        except Exception:
            await self.app(scope, BufferedBody(body.data, receive).receive, send)


@fails("unfinished_answers_stay_unfinished")
class FinishesForTheApp(Faulty):
    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        done = False

        async def watched(message: Message) -> None:
            nonlocal done
            done = done or message["type"] != "http.response.start"
            done = done and not message.get("more_body", False)
            await send(message)

        await self.app(scope, receive, watched)
        if not done:
            await send({"type": "http.response.body"})


@fails("errors_of_send_reach_the_app")
class HidesErrorsOfSend(Faulty):
    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def quiet(message: Message) -> None:
            try:
                await send(message)
            except OSError:
                return

        await self.app(scope, receive, quiet)


@fails("cancellation_reaches_the_app")
class ShieldsTheApp(Faulty):
    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        inner = asyncio.ensure_future(cast("Any", self.app(scope, receive, send)))
        try:
            await asyncio.shield(inner)
        except asyncio.CancelledError:
            if not inner.done():
                inner.add_done_callback(lambda task: task.cancelled() or task.exception())
            raise


@fails("cancellation_reaches_the_app")
class SwallowsCancellation(Faulty):
    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except asyncio.CancelledError:
            return


@pytest.mark.parametrize("name", FAULTS)
async def test_fault_is_found(name: str) -> None:
    """A layer with this fault fails the check that is about it."""
    layer, expected = FAULTS[name]
    [check] = [check for check in checks if check.__name__ == expected]
    with pytest.raises(AssertionError):
        await check(layer)


def test_every_check_can_fail() -> None:
    """No check is without a fault that it finds."""
    assert {check.__name__ for check in checks} == {expected for _, expected in FAULTS.values()}


async def test_a_hanging_layer_fails_instead_of_hanging() -> None:
    """A check of a layer that never returns ends with an AssertionError that says so."""

    class Hangs(Faulty):
        async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.Event().wait()

    async def impatient(layer: Layer, example: _subject.Example) -> None:
        await layer(Faulty(cast("Any", None)))(
            example.scope(), cast("Any", None), cast("Any", None)
        )

    check = _subject.check(impatient, deadline_seconds=0.01)
    with pytest.raises(AssertionError, match="hangs"):
        await check(Hangs)
