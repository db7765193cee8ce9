"""The HTTP/1.1 side of a scripted upstream: one connection, its requests in turn."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol

import httptools

from asgi_llm.errors import RawHeaders
from asgi_llm.testing._link import Link
from asgi_llm.testing.ledger import ReceivedRequest, Served
from asgi_llm.testing.replies import (
    Close,
    Control,
    Framing,
    Piece,
    Reply,
    Reset,
    Signal,
    Step,
    Wait,
    head,
    writes,
)

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})")


class Owner(Protocol):
    """What a connection needs of its server."""

    record_bodies: bool
    answer_early: bool
    ledger: list[Served]

    async def reply_to(self, request: ReceivedRequest) -> Reply:
        """The reply, or an exception, which the connection turns into a 500 and reports."""

    def failed(self, error: Exception) -> None:
        """Keep an error of the test's own making."""

    def changed(self) -> None:
        """Wake whoever waits for a row."""

    def ended(self, connection: Connection) -> None:
        """Forget a connection that is closed."""


class _Cut(Exception):
    """The reply ended the connection."""


class Connection:
    """Reads requests as they come and answers them one after the other.

    Args:
        owner: The server.
        sock: An accepted socket.
        serial: Its number.
        context: A TLS context, or None.
    """

    def __init__(
        self, owner: Owner, sock: socket.socket, serial: int, context: ssl.SSLContext | None
    ) -> None:
        self._owner = owner
        self._serial = serial
        self._queue: deque[Served] = deque()
        self._arrived = asyncio.Event()
        self._row: Served | None = None
        self._base = 0
        self._deaf = False
        self._left = False
        self._reading: Served | None = None
        self._target = b""
        self._headers: RawHeaders = []
        self._parser = httptools.HttpRequestParser(self)
        self._link = Link(
            sock, context, on_data=self._feed, on_end=self._leave, on_change=self._count
        )
        self.task = asyncio.get_running_loop().create_task(self._run())
        self.task.add_done_callback(self._finish)

    @property
    def idle(self) -> bool:
        """Whether no request is on its way in or being answered."""
        return self._row is None and not self._queue and self._reading is None

    def shut(self) -> None:
        """Close now. What is being served counts as cut."""
        self._link.close()
        self.task.cancel()

    # What httptools calls

    def on_message_begin(self) -> None:
        self._target, self._headers = b"", []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        fields = self._headers if self._reading is None else self._reading.request.trailers
        fields.append((name, value))

    def on_headers_complete(self) -> None:
        request = ReceivedRequest(
            self._parser.get_method().decode("ascii"),
            self._target.decode("latin-1"),
            self._headers,
            self._serial,
            http_version=self._parser.get_http_version(),
            keep_alive=self._parser.should_keep_alive() and not self._parser.should_upgrade(),
        )
        row = self._reading = Served(request)
        self._owner.ledger.append(row)
        self._queue.append(row)
        self._arrived.set()
        self._owner.changed()

    def on_body(self, data: bytes) -> None:
        if self._reading is not None:
            self._reading.request.add(data, keep=self._owner.record_bodies)
            self._owner.changed()

    def on_message_complete(self) -> None:
        if self._reading is not None:
            self._reading.request.end()
            self._reading = None
            self._owner.changed()

    # What the link calls

    def _feed(self, data: bytes) -> None:
        if self._deaf:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The request itself is read; what the client would say in another protocol is not.
            self._deaf = True
        except httptools.HttpParserError as error:
            self._deaf = True
            self._owner.failed(
                ValueError(f"the client sent malformed HTTP: {error}; it began {data[:80]!r}")
            )
            self.shut()

    def _leave(self) -> None:
        # The rows are marked when the task, and with it a handler's cleaning up, is over.
        self._left = True
        self.task.cancel()

    def _count(self) -> None:
        if self._row is not None:
            self._row.sent_bytes = self._link.sent_bytes - self._base
            self._row.blocked = self._link.blocked
        self._owner.changed()

    # The answering side

    async def _run(self) -> None:
        try:
            while True:
                while not self._queue:
                    self._arrived.clear()
                    await self._arrived.wait()
                row = self._row = self._queue.popleft()
                self._base = self._link.sent_bytes
                final = await self._answer(row)
                self._row = None
                self._owner.changed()
                if final:
                    break
        except _Cut:
            pass

    def _finish(self, task: asyncio.Task[None]) -> None:
        # Not a `finally` of the task: one that is cancelled before its first step has none.
        self._link.close()
        for row in (self._row, *self._queue):
            if row is not None and not row.done:
                row.client_left, row.cut = self._left, not self._left
        self._row = None
        self._queue.clear()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._owner.failed(error if isinstance(error, Exception) else RuntimeError(repr(error)))
        self._owner.ended(self)

    async def _answer(self, row: Served) -> bool:
        """Serve one request; whether it was the connection's last."""
        request = row.request
        expects = (request.header("expect") or b"").lower() == b"100-continue"
        if not self._owner.answer_early:
            if expects and not request.complete:
                await self._link.send(b"HTTP/1.1 100 Continue\r\n\r\n")
                self._base = self._link.sent_bytes
            await request.read()
        try:
            reply = await self._owner.reply_to(request)
        except Exception as error:
            self._owner.failed(error)
            text = f"the scripted upstream has no reply: {error!r}".encode()
            reply = Reply(
                status=500, headers=[("content-type", "text/plain")], body=[text], keep_alive=False
            )
        try:
            await self._serve(row, reply)
        except ConnectionError:
            raise _Cut from None
        if not reply.raw and _framing(reply, request) == "close":
            return True
        if not request.complete:
            # Closing with unread bytes would send a reset and take the reply with it.
            await request.read()
        return not (request.keep_alive and reply.keep_alive)

    async def _serve(self, row: Served, reply: Reply) -> None:
        await self._steps(reply.before)
        steps = writes(reply)
        if reply.raw:
            await self._raw(row, steps)
        else:
            await self._framed(row, reply, steps)
        row.complete = True
        self._owner.changed()
        await self._steps(reply.after)

    async def _raw(self, row: Served, steps: Iterator[Piece | Control]) -> None:
        begin = b""
        apart = False
        for step in steps:
            if isinstance(step, Piece):
                if row.status is None:
                    begin = (begin + step.data)[:64]
                    match = _STATUS_LINE.match(begin)
                    row.status = int(match[1]) if match else None
                await self._write(step.data, apart=apart)
                apart = True
            else:
                await self._control(step)

    async def _framed(self, row: Served, reply: Reply, steps: Iterator[Piece | Control]) -> None:
        framing = _framing(reply, row.request)
        keep_alive = row.request.keep_alive and reply.keep_alive and framing != "close"
        length = 0
        if framing == "length" or row.request.method == "HEAD":
            known = list(steps)
            length = sum(len(step.data) for step in known if isinstance(step, Piece))
            steps = iter(known)
        row.status = reply.status
        await self._link.send(head(reply, framing, length=length, keep_alive=keep_alive))
        if framing is None or row.request.method == "HEAD":
            return
        apart = False
        for step in steps:
            if not isinstance(step, Piece):
                await self._control(step)
                continue
            if step.data:
                data = step.data
                if framing == "chunked":
                    data = b"%x\r\n%b\r\n" % (len(data), data)
                await self._write(data, apart=apart)
                apart = True
            row.documents += step.documents
        if framing == "chunked":
            await self._link.send(b"0\r\n\r\n")

    async def _steps(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if isinstance(step, bytes):
                await self._write(step, apart=True)
            else:
                await self._control(step)

    async def _write(self, data: bytes, *, apart: bool) -> None:
        if apart:
            # Two turns of the loop let a client on the same loop read what was written before, so
            # that it sees the pieces as they were cut.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await self._link.send(data)

    async def _control(self, step: Control) -> None:
        match step:
            case Wait(event):
                await event.wait()
            case Signal(event):
                event.set()
            case Reset():
                self._link.reset()
                raise _Cut
            case Close(notify):
                self._link.close(notify=notify)
                raise _Cut


def _framing(reply: Reply, request: ReceivedRequest) -> Framing | None:
    if reply.status in (204, 304):
        return None
    if reply.framing == "chunked" and request.http_version == "1.0":
        return "close"
    return reply.framing
