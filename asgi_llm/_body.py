"""The only reader of request bodies: read whole, capped and in time, and handed on once."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator, Mapping
from functools import partial
from types import MethodType
from typing import Any, Final, TypeVar, cast

from starlette.types import Message, Receive, Scope

from asgi_llm import errors
from asgi_llm._first_step import Begun, first_step
from asgi_llm.state import SCOPE_KEY, State

__all__ = [
    "ArrivingBody",
    "BufferedBody",
    "check_and_take",
    "check_length",
    "go_on",
    "read_body",
    "take_body",
]

T = TypeVar("T")

_MOST_DIGITS: Final = 19
_POWERS_OF_TEN: Final = tuple([10**digits for digits in range(_MOST_DIGITS)])


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

    def take(self) -> bytes | None:
        """The body for a layer of ours further in, without a message; None: it has been given."""
        if self._given:
            return None
        self._given = True
        return self.data

    def replace(self, scope: Scope, data: bytes) -> Scope:
        """Put ``data`` in the body's place; the scope that goes with it has its length."""
        self.data = data
        headers = [(n, v) for n, v in scope["headers"] if n != b"content-length"]
        headers.append((b"content-length", b"%d" % len(data)))
        return {**cast("Mapping[str, Any]", scope), "headers": headers}


class ArrivingBody:
    """A body that is not there as a whole; from ``take_body``.

    Args:
        arriving: Reads what is still to come.
    """

    __slots__ = ("_arriving",)

    def __init__(self, arriving: Coroutine[Any, Any, bytes | None]) -> None:
        self._arriving = arriving

    async def whole(self, timeout_seconds: float | None) -> bytes | None:
        """All of it; None: the client left before that.

        Raises:
            RequestTooLargeError: The body is too long.
            InvalidRequestError: It took too long (408).
        """
        arriving = self._arriving
        try:
            # Several messages may be there at once: one step then ends the coroutine, and no
            # deadline has to be set up for it.
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


def take_body(receive: Receive, max_bytes: int) -> bytes | ArrivingBody | None:
    """The body alone, without any waiting where it is there already, as it is as a rule.

    An ``ArrivingBody``: it is not. None: the client has left. See ``BufferedBody.read``.
    """
    buffered = _buffered(receive, max_bytes)
    return _first_message(receive, max_bytes) if buffered is None else buffered


def check_and_take(scope: Scope, receive: Receive, max_bytes: int) -> bytes | ArrivingBody | None:
    """``check_length`` and ``take_body``: what a layer outside has read, that one has checked."""
    buffered = _buffered(receive, max_bytes)
    if buffered is not None:
        return buffered
    check_length(scope, max_bytes)
    return _first_message(receive, max_bytes)


def _buffered(receive: Receive, max_bytes: int) -> bytes | None:
    """The body that a layer of ours has read."""
    if type(receive) is MethodType:
        read = receive.__self__
        if type(read) is BufferedBody:
            body = read
            data = body.take()
            if data is not None and len(data) > max_bytes:
                raise _too_large(max_bytes)
            return data
    return None


def _first_message(receive: Receive, max_bytes: int) -> bytes | ArrivingBody | None:
    message = first_step(receive())
    if type(message) is Begun:
        return ArrivingBody(_drain_from(message, receive, max_bytes))
    if message["type"] != "http.request":
        return None
    if message.get("more_body", False):
        return ArrivingBody(_drain(message, receive, max_bytes))
    data = message.get("body", b"")
    if len(data) > max_bytes:
        raise _too_large(max_bytes)
    return cast("bytes", data)


async def read_body(
    receive: Receive, max_bytes: int, timeout_seconds: float | None
) -> bytes | None:
    """The body alone, for whoever hands it on to nobody. See ``BufferedBody.read``."""
    taken = take_body(receive, max_bytes)
    if type(taken) is ArrivingBody:
        return await taken.whole(timeout_seconds)
    return cast("bytes | None", taken)


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
        if announced is None:
            return
        digits = len(announced)
        # Fewer digits than the cap has, as a rule.
        if (
            digits < _MOST_DIGITS
            and _POWERS_OF_TEN[digits] <= max_bytes
            and announced.isdigit()
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


async def _drain_from(begun: Begun, receive: Receive, max_bytes: int) -> bytes | None:
    message = await go_on(begun.coroutine, begun.waits_for)
    return await _drain(message, receive, max_bytes)


async def _drain(message: Message, receive: Receive, max_bytes: int) -> bytes | None:
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
