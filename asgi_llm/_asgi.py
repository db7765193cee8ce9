"""The only body reader, the only send wrapper, and the one reading of a path.

Every layer is made of these, so that each promise (nothing invented on ``receive``, no second
start, chunk *n* gone before *n+1* is asked for) is kept in one place.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator, Mapping
from functools import partial
from typing import Any, ClassVar, TypeVar, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_llm import _json, _sse, errors
from asgi_llm.errors import RawHeaders
from asgi_llm.state import SCOPE_KEY, State, enter
from asgi_llm.types import Outcome

__all__ = [
    "BufferedBody",
    "Observer",
    "RawHeaders",
    "is_event_stream",
    "observe",
    "route_path",
    "send_error",
    "stream_error",
]

T = TypeVar("T")


def route_path(scope: Scope) -> str:
    """The path below the mount point: the one that auth, limits and the router all decide on.

    Hosts differ in what they hand over. Most keep the prefix in ``path`` and name it in
    ``root_path``; FastAPI behind a stripping proxy has a ``root_path`` that ``path`` never held,
    and says in ``app_root_path`` which part came from outside; Litestar takes the prefix off both,
    and at ``/`` the path's own slash with it.
    Nothing is decoded again, one trailing slash is dropped, and the empty path is ``/``.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path") or ""
    if root:
        rest = _below(path, root)
        if rest is None and (outer := scope.get("app_root_path")):
            rest = _below(path, root[len(outer) :]) if root.startswith(outer) else None
        if rest is not None:
            path = rest
    if path.endswith("/") and not path.endswith("//"):
        path = path[:-1]
    return path if path[:1] == "/" else f"/{path}"


def _below(path: str, root: str) -> str | None:
    """``path`` without ``root``, or None where ``root`` does not end on a segment border of it."""
    root = root.rstrip("/")
    if not path.startswith(root):
        return None
    rest = path[len(root) :]
    return rest if not rest or rest[0] == "/" else None


class BufferedBody:
    """A request body, read whole by one layer and handed on once.

    ``receive`` gives the body as one message and from then on what the host's own ``receive``
    gives: a disconnect is never invented and a second body never sent, since Django and Starlette
    both break on either.

    Attributes:
        data: The body.
    """

    __slots__ = ("_given", "_receive", "data")

    def __init__(self, data: bytes, receive: Receive) -> None:
        self.data = data
        self._receive = receive
        self._given = False

    @classmethod
    async def read(
        cls,
        scope: Scope,
        receive: Receive,
        *,
        max_bytes: int,
        timeout_seconds: float | None = None,
    ) -> BufferedBody | None:
        """Drain ``receive``. None: the client left before the body was whole.

        Args:
            scope: Where ``content-length`` is looked up, so that a large body is refused unread.
            receive: The layer's own ``receive``.
            max_bytes: Cap on the body.
            timeout_seconds: Cap on the time for the whole body; None is none.

        Raises:
            RequestTooLargeError: The body is over ``max_bytes``; at most one message more is read.
            InvalidRequestError: The body took too long (408), or has two lengths (400).
        """
        check_length(scope, max_bytes)
        data = await read_body(receive, max_bytes, timeout_seconds)
        return None if data is None else cls(data, receive)

    async def receive(self) -> Message:
        """The ``receive`` for the app further in."""
        if self._given:
            return await self._receive()
        self._given = True
        return {"type": "http.request", "body": self.data, "more_body": False}

    def replace(self, scope: Scope, data: bytes) -> Scope:
        """Put ``data`` in the body's place; the scope that goes with it has its length."""
        self.data = data
        headers = [(n, v) for n, v in scope["headers"] if n != b"content-length"]
        headers.append((b"content-length", b"%d" % len(data)))
        return {**cast("Mapping[str, Any]", scope), "headers": headers}


async def read_body(
    receive: Receive, max_bytes: int, timeout_seconds: float | None
) -> bytes | None:
    """The body alone, for whoever hands it on to nobody. See ``BufferedBody.read``."""
    arriving = _drain(receive, max_bytes)
    try:
        # As a rule the body is there already, or another layer has read it: one step then ends the
        # coroutine, and no deadline has to be set up for it.
        waits_for = arriving.send(None)
    except StopIteration as whole:
        return cast("bytes | None", whole.value)
    try:
        async with asyncio.timeout(timeout_seconds):
            return await go_on(arriving, waits_for)
    except TimeoutError as error:
        raise errors.InvalidRequestError(
            f"The body did not arrive within {timeout_seconds:g} seconds.",
            code="request_timeout",
            status=408,
        ) from error


def check_length(scope: Scope, max_bytes: int) -> None:
    """Refuse what the headers alone say of a body.

    A length beside ``transfer-encoding`` is how one message is made to look like two; some servers
    let it pass.

    Raises:
        RequestTooLargeError: The announced length is over ``max_bytes``.
        InvalidRequestError: The body has two lengths.
    """
    state = scope.get(SCOPE_KEY)
    if isinstance(state, State):
        # Every layer asks, and this is made once. What a body really has is counted in any case.
        headers = state.headers
        announced = headers.get(b"content-length")
        if announced is None or (
            announced.isdigit()
            and int(announced[:19]) <= max_bytes
            and b"transfer-encoding" not in headers
        ):
            return
    length = coded = False
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = True
            if value.isdigit() and int(value[:19]) > max_bytes:
                raise _too_large(max_bytes)
        elif name == b"transfer-encoding":
            coded = True
    if length and coded:
        raise errors.InvalidRequestError(
            "Content-Length and Transfer-Encoding cannot go together.",
            code="ambiguous_length",
            headers=[(b"connection", b"close")],
        )


async def _drain(receive: Receive, max_bytes: int) -> bytes | None:
    message = await receive()
    if message["type"] != "http.request":
        return None
    data: bytes = message.get("body", b"")
    if message.get("more_body", False):
        parts, size = [data], len(data)
        while message.get("more_body", False):
            if size > max_bytes:
                raise _too_large(max_bytes)
            message = await receive()
            if message["type"] != "http.request":
                return None
            part: bytes = message.get("body", b"")
            parts.append(part)
            size += len(part)
        data = b"".join(parts)
    if len(data) > max_bytes:
        raise _too_large(max_bytes)
    return data


@types.coroutine
def go_on(begun: Coroutine[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    """Await a coroutine that has been stepped once already, and waits for ``waits_for``."""
    while True:
        try:
            answer = yield waits_for
        except BaseException as error:
            step = partial(begun.throw, error)
        else:
            step = partial(begun.send, answer)
        try:
            waits_for = step()
        except StopIteration as whole:
            return cast("T", whole.value)


def _too_large(max_bytes: int) -> errors.RequestTooLargeError:
    return errors.RequestTooLargeError(f"The body is larger than {max_bytes} bytes.")


class Observer:
    """Watches or rewrites one response; one instance per request, passed to ``observe``.

    Any hook may raise an ``LLMError`` to refuse the answer: before the start left it becomes the
    answer, after it a stream ends with it as its last event, and anything else is cut off.
    """

    hold_start: ClassVar[bool] = False
    """Keep the start back until the first body bytes leave, so that headers may depend on the body.
    ``on_start`` may keep its ``headers`` list and edit it until then."""

    rewrites: ClassVar[bool] = False
    """Whether ``on_body`` may return other bytes. The length that the app announced is then
    dropped, or corrected where the whole body leaves at once."""

    async def on_start(self, status: int, headers: RawHeaders) -> None:
        """The response begins. ``headers`` is this observer's to edit."""

    async def on_body(self, chunk: bytes, more: bool) -> bytes:
        """A chunk passes; return what to send in its place. Empty with ``more``: nothing yet."""
        return chunk

    async def on_end(self, outcome: Outcome) -> None:
        """The response is over; called exactly once, however it ended."""


class _Refused(OSError):
    """Raised out of ``send`` to stop an app whose answer was refused.

    An OSError, because that is how ASGI (2.4) tells an app that nobody listens any more.
    """


class _ObservedSend:
    """The ``send`` that an observed app gets."""

    __slots__ = (
        "_held",
        "_is_stream",
        "_observer",
        "_send",
        "_started",
        "_state",
        "outcome",
        "refused",
    )

    def __init__(self, send: Send, observer: Observer, state: State) -> None:
        self._send = send
        self._observer = observer
        self._state = state
        self._held: Message | None = None
        self._started = False
        self._is_stream = False
        self.refused = False
        self.outcome: Outcome | None = None

    async def __call__(self, message: Message) -> None:
        if self.refused:
            raise _Refused
        kind = message["type"]
        try:
            if kind == "http.response.body":
                await self._body(message)
            elif kind == "http.response.start":
                await self._start(message)
            else:
                if kind in _BODY_BY_OTHER_MEANS:
                    await self._release()
                await self._forward(message)
                if kind == "http.response.pathsend":
                    self.outcome = Outcome.COMPLETE
        except errors.LLMError as error:
            self.refused = True
            self.outcome = Outcome.FAILED
            await self._refuse(error)
            raise _Refused from error

    async def _start(self, message: Message) -> None:
        headers: RawHeaders = list(message.get("headers", ()))
        observer = self._observer
        self._is_stream = is_event_stream(headers)
        await observer.on_start(message["status"], headers)
        message = {**message, "headers": headers}
        if observer.hold_start:
            self._held = message
            return
        if observer.rewrites:
            _set_length(headers, None)
        self._started = True
        await self._forward(message)

    async def _body(self, message: Message) -> None:
        chunk: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        out = await self._observer.on_body(chunk, more)
        if out is not chunk:
            if not out and more:
                return
            message = {"type": "http.response.body", "body": out, "more_body": more}
        elif not chunk and more and self._held is not None:
            return
        if self._held is not None:
            await self._release(None if more else len(out))
        await self._forward(message)
        if not more:
            self.outcome = Outcome.COMPLETE

    async def _release(self, length: int | None = None) -> None:
        message, self._held = self._held, None
        if message is None:
            return
        if self._observer.rewrites:
            _set_length(message["headers"], length)
        self._started = True
        await self._forward(message)

    async def _forward(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:
            # Judged around `send` alone: an OSError of the app's own is a failure like any other.
            self.outcome = Outcome.DISCONNECTED
            raise

    async def _refuse(self, error: errors.LLMError) -> None:
        if not self._started:
            await send_error(self._send, self._state, error)
        elif self._is_stream:
            await self._send({"type": "http.response.body", "body": stream_error(error)})


_BODY_BY_OTHER_MEANS = frozenset(
    ("http.response.pathsend", "http.response.zerocopysend", "http.response.trailers")
)


async def observe(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, observer: Observer
) -> None:
    """Run ``app`` with ``observer`` on its response.

    Streaming: a chunk is forwarded before the app may produce the next. Unknown messages pass.
    The app's exceptions pass as they are; only what the app raises because its answer was refused
    ends here.
    """
    scope, state = enter(scope)
    observed = _ObservedSend(send, observer, state)
    try:
        await app(scope, receive, observed)
    except asyncio.CancelledError:
        observed.outcome = observed.outcome or Outcome.DISCONNECTED
        raise
    except Exception as error:
        if observed.refused and _is_refusal(error):
            return
        observed.outcome = observed.outcome or Outcome.FAILED
        raise
    finally:
        # Django and Starlette return normally when the client has left, so that a return without
        # the last message means a client that is gone.
        await observer.on_end(observed.outcome or Outcome.DISCONNECTED)


def _is_refusal(error: BaseException | None) -> bool:
    """Whether ``error`` is what a host made of our ``_Refused``."""
    while error is not None:
        if isinstance(error, _Refused):
            return True
        if isinstance(error, BaseExceptionGroup):
            return all(_is_refusal(one) for one in error.exceptions)
        error = error.__cause__ or error.__context__
    return False


def is_event_stream(headers: RawHeaders) -> bool:
    """Whether the content type is ``text/event-stream``."""
    return any(
        name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
        for name, value in headers
    )


def _set_length(headers: RawHeaders, length: int | None) -> None:
    headers[:] = [pair for pair in headers if pair[0].lower() != b"content-length"]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))


def stream_error(error: errors.LLMError) -> bytes:
    """The end of an OpenAI stream that went wrong: the error as an event, then the end mark."""
    return _sse.encode(_json.encode(errors.error_document(error))) + _sse.DONE


async def send_error(send: Send, state: State, error: errors.LLMError) -> None:
    """Answer with ``error``. Only for a response that has not started."""
    status, headers, body = errors.render(error, state.request_id)
    if state.client_request_id is not None:
        headers.append((b"x-client-request-id", state.client_request_id.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
