"""One HTTP/1.1 connection: what is written, how the answer is parsed, and its deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from typing import TYPE_CHECKING, cast

import httptools

from asgi_llm.transports._look import SocketLook
from asgi_llm.transports._parsing import Parsing
from asgi_llm.transports._response import Http1Response
from asgi_llm.transports.base import (
    ConnectionLostError,
    Phase,
    Timeouts,
    TransportError,
    TransportTimeoutError,
    UpstreamProtocolError,
)

if TYPE_CHECKING:
    from asgi_llm.transports._pool import Pool

_ONE_WRITE_BYTES = 64 * 1024
# uvloop's clock has milliseconds, and its timers may be early by one.
_TIMER_SLACK_SECONDS = 0.002
# RTSP and ICE, which httptools takes for HTTP.
_OTHER_PROTOCOLS = (b"R", b"I")


class Connection(Parsing, asyncio.Protocol):
    """Serves one response at a time, and between them belongs to its pool.

    Args:
        pool: Told when the connection is free and when it is gone.
        max_header_bytes: Cap on a response's status line and headers, and on trailers.
        high_water_bytes: What may lie unread before reading stops.
    """

    __slots__ = (
        "_drained",
        "_first_byte",
        "_high_water",
        "_idle",
        "_is_tls",
        "_look",
        "_loop",
        "_max_header_bytes",
        "_pool",
        "_seen_bytes",
        "_since",
        "_soonest",
        "_timeouts",
        "_timer",
        "_timer_at",
        "_total",
        "_total_at",
        "_transport",
        "_uploaded",
        "_write_paused",
        "closed",
        "has_place",
        "idle_since",
        "paused",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pool: Pool,
        *,
        max_header_bytes: int,
        high_water_bytes: int,
    ) -> None:
        super().__init__()
        self._loop = loop
        self._pool = pool
        self._max_header_bytes = max_header_bytes
        self._high_water = high_water_bytes
        self._transport: asyncio.Transport | None = None
        self._look: SocketLook
        self._is_tls = False
        self.closed = False
        """Whether it is given up: by the peer or by us. No use from here on."""
        self.has_place = False
        """Whether it counts towards the pool's cap."""
        self.idle_since = 0.0
        self.paused = False
        """Whether reading is, since too much lies unread."""
        self._timeouts: Timeouts | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._write_paused = False
        self._drained: asyncio.Future[None] | None = None

    # For the transport and the response

    def begin(
        self, is_head: bool, timeouts: Timeouts, total_at: float, uploaded: bool
    ) -> Http1Response:
        """A response for the request that is now to be written, somebody waiting for its headers.

        Args:
            is_head: The response has no body, whatever its headers say.
            timeouts: From which ``connect`` is over.
            total_at: When the whole call has to be over, on the loop's clock.
            uploaded: The request is written at once. Else ``upload_ended`` says when it was.
        """
        response = self._response = Http1Response(self)
        self._is_head = is_head
        self._started = self._complete = self._interim = False
        self._keep = True
        self._malformed = None
        self._head_bytes = self._count = 0
        if self._headers:
            # Trailers of the message before.
            self._headers = []
        self._uploaded = uploaded
        self._seen_bytes = 0
        if timeouts is not self._timeouts:
            self._take_timeouts(timeouts)
        self._total_at = total_at
        response.waiter = self._loop.create_future()
        now = self._loop.time()
        self._since = now if uploaded else math.inf
        # The shorter of both, so that the timer need not be set again when the headers are there.
        due = now + self._soonest
        if due < self._timer_at or total_at < self._timer_at:
            self._arm(min(due, total_at))
        return response

    def _take_timeouts(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._first_byte = _or_never(timeouts.first_byte_seconds)
        self._idle = _or_never(timeouts.idle_seconds)
        self._total = _or_never(timeouts.total_seconds)
        self._soonest = min(self._first_byte, self._idle)

    def write(self, data: bytes, more: bytes = b"") -> None:
        """Hand bytes to the socket; nothing where it is gone, which the response tells."""
        if self.closed or self._transport is None:
            return
        if not more:
            self._transport.write(data)
        elif len(more) < _ONE_WRITE_BYTES:
            self._transport.write(data + more)
        else:
            self._transport.writelines((data, more))

    async def drain(self) -> None:
        """Wait until the socket takes more. The peer's slowness counts towards its first byte."""
        while self._write_paused and not self.closed:
            self._wait_from_now(self._first_byte)
            self._drained = self._loop.create_future()
            try:
                await self._drained
            finally:
                self._since = math.inf

    def upload_ended(self) -> None:
        """The request has been written whole: from now on the answer is due."""
        self._uploaded = True
        self._wait_from_now(self._first_byte)

    def watch(self) -> asyncio.Future[None]:
        """What wakes the reader, who waits from now on."""
        loop = self._loop
        self._since = now = loop.time()
        if now + self._idle < self._timer_at:
            self._arm(now + self._idle)
        return loop.create_future()

    def resume(self) -> None:
        """Read on."""
        self.paused = False
        if self._transport is not None and not self.closed:
            self._transport.resume_reading()

    def fail(self, error: TransportError) -> None:
        """End the response with ``error``, and the connection with it."""
        response = self._response
        self.close()
        if response is not None:
            self._response = response.connection = None
            response.error = error
            response.wake()

    def close(self) -> None:
        """Give it up now; the socket closes in the loop's next turn. Idempotent."""
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake_writer()
        if self._transport is not None:
            # Not here: this may be a call out of uvloop's TLS, which goes on to write, and logs it
            # as a fatal error where it finds the socket closed.
            self._loop.call_soon(self._transport.abort)
        self._pool.forget(self)

    def is_usable(self) -> bool:
        """Whether a request may be written to it, as far as the loop has heard."""
        return not (self.closed or self._transport is None or self._transport.is_closing())

    def negotiated(self) -> str | None:
        """The protocol that TLS agreed on; None where it did not, or there is no TLS."""
        tls = None if self._transport is None else self._transport.get_extra_info("ssl_object")
        return None if tls is None else cast("str | None", tls.selected_alpn_protocol())

    def has_news(self) -> bool:
        """Whether something has come that the loop has not heard of, such as the end."""
        return self._look.has_come()

    def fileno(self) -> int:
        """Of the socket; -1 where it has none."""
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        return -1 if sock is None else cast("int", sock.fileno())

    def shut_socket(self) -> None:
        """End the connection from outside its loop, which is closed."""
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._look = SocketLook(self.fileno())
        self._is_tls = transport.get_extra_info("ssl_object") is not None

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:
            # Nobody has asked: the peer is out of step, or ends its side of TLS.
            self.close()
            return
        in_head = not self._started
        if in_head and not self._seen_bytes and data[:1] in _OTHER_PROTOCOLS:
            self.fail(UpstreamProtocolError("the response is of another protocol"))
            return
        parser = self._parser
        if parser is None:
            return
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            # Nonsense after the message's end only costs the connection.
            self._keep = False
            if not self._complete:
                self._take(response)
                self.fail(self._malformed or UpstreamProtocolError(f"malformed response: {error}"))
                return
        if in_head:
            self._seen_bytes += len(data)
            cap = self._max_header_bytes
            if self._seen_bytes > cap and not self._head_fits(response, cap):
                response.status = 0
                self.fail(UpstreamProtocolError("the response's headers are over the cap"))
                return
            if not self._started:
                return
            self._seen_bytes = 0
            if (waiter := response.waiter) is not None:
                response.waiter = None
                if not waiter.done():
                    waiter.set_result(None)
        if self._complete:
            self._finish(response)
            return
        if parts := self._parts:
            self._seen_bytes = 0
            waiter = response.waiter
            if waiter is not None and not response.whole:
                # Most pieces of a stream: its reader waits for just this one.
                response.chunks += parts
                response.size += len(data)
                parts.clear()
                response.waiter = None
                if not waiter.done():
                    waiter.set_result(None)
                return
            self._take(response)
            if response.whole and response.connection is not None:
                self._since = self._loop.time()
        elif not in_head:
            # Chunk extensions and trailers are dropped, but not for ever.
            self._seen_bytes += len(data)
            if self._seen_bytes > self._max_header_bytes:
                self.fail(UpstreamProtocolError("the response's trailers are over the cap"))

    def eof_received(self) -> None:
        self._over(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._over(exc)
        # The parser and this object hold each other.
        self._parser = None
        self._pool.lost(self)

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._wake_writer()

    # Inside

    def _take(self, response: Http1Response) -> None:
        """Hand over what one wake-up brought."""
        parts = self._parts
        if parts:
            chunk = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            if not response.add(chunk, self._high_water) and not self.paused:
                self.paused = True
                if self._transport is not None:
                    self._transport.pause_reading()

    def _finish(self, response: Http1Response) -> None:
        # What follows the message is another's: a second response that nobody asked for.
        if len(self._parts) > self._count:
            del self._parts[self._count :]
            self._keep = False
        if self._parts:
            self._take(response)
            if response.connection is None:
                return
        if self.paused:
            self.resume()
        self._response = response.connection = None
        if self._keep and self._uploaded and not self.closed and self._is_sent():
            self._pool.release(self)
        else:
            self.close()
        if response.waiter is not None:
            response.wake()

    def _is_sent(self) -> bool:
        """Whether nothing of a request that was answered by its head stands in the next's way."""
        transport = self._transport
        if transport is None or transport.get_write_buffer_size():
            return False
        # TLS has a buffer below that nobody tells of; it fills where the socket takes no more.
        return not self._is_tls or self._look.takes_more()

    def _over(self, exc: Exception | None) -> None:
        response = self._response
        if response is None:
            self.close()
        elif self._started and not response.framed and exc is None:
            self._count = len(self._parts)
            self._finish(response)
        else:
            error = ConnectionLostError(
                "the upstream closed the connection before the response's end"
            )
            error.__cause__ = exc
            self.fail(error)

    def _wake_writer(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # Deadlines: one timer a connection, which finds out when it fires what is due. Most requests
    # end long before, and leave it as it is for the next.

    def _wait_from_now(self, seconds: float) -> None:
        self._since = now = self._loop.time()
        if now + seconds < self._timer_at:
            self._arm(now + seconds)

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        response = self._response
        if response is None:
            return
        now = self._loop.time()
        phase: Phase = "idle" if self._started else "first_byte"
        seconds = self._idle if self._started else self._first_byte
        due = (self._since if response.waiter is not None else now) + seconds
        if self._total_at <= due:
            phase, seconds, due = "total", self._total, self._total_at
        if due <= now + _TIMER_SLACK_SECONDS:
            self.fail(TransportTimeoutError(phase, seconds))
        elif due < math.inf:
            self._arm(due)


def _or_never(seconds: float | None) -> float:
    return math.inf if seconds is None else seconds
