"""The only body reader, the only send wrapper, and the one reading of a path.

Every layer is made of these, so that each promise (nothing invented on ``receive``, no second
start, chunk *n* gone before *n+1* is asked for) is kept in one place.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_llm import _json, _sse, errors
from asgi_llm._body import BufferedBody, check_length, go_on, read_body
from asgi_llm.errors import RawHeaders
from asgi_llm.state import State, enter
from asgi_llm.types import Outcome

__all__ = [
    "BufferedBody",
    "Observer",
    "RawHeaders",
    "check_length",
    "go_on",
    "is_event_stream",
    "observe",
    "read_body",
    "route_path",
    "send_error",
    "stream_error",
]


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
