"""A fast upstream in a process of its own: ``python -m tests.performance.upstream PORT``.

``POST .../chat/completions``, or ``.../messages`` in Anthropic's format, answers at once with JSON,
or, where the request asks for a stream, with 100 chunks, one write each, ``GAP_SECONDS`` apart.
"""

from __future__ import annotations

import asyncio
import os
import sys
from functools import partial
from typing import cast

import httptools
import uvloop

from tests.performance.wire import answer_body, claude_answer, claude_writes, stream_writes

GAP_SECONDS = 0.001
VIGIL_SECONDS = 0.005
_JSON_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_0123456789abcdef\r\n"
    b"content-length: %d\r\n\r\n"
)
_SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"x-request-id: req_0123456789abcdef\r\ntransfer-encoding: chunked\r\n\r\n"
)


class Answers:
    """What is answered in one format: the bytes of a whole answer, and those of a stream's writes.

    Args:
        body: Of the whole answer.
        writes: Of the stream.
    """

    def __init__(self, body: bytes, writes: list[bytes]) -> None:
        self.whole = _JSON_HEAD % len(body) + body
        self.stream = [b"%x\r\n%b\r\n" % (len(data), data) for data in writes]
        self.stream[0] = _SSE_HEAD + self.stream[0]
        self.stream[-1] += b"0\r\n\r\n"


_OPENAI = Answers(answer_body(), stream_writes())
_CLAUDE = Answers(claude_answer(), claude_writes())


class Vigil:
    """Keeps the loop from sleeping for a moment after each request.

    Whoever writes to a process that sleeps pays for waking it, and a slow target finds the upstream
    asleep more often than a fast one does: it would be charged for more than it did.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._until = 0.0
        self._is_kept = False

    def extend(self) -> None:
        """A request is there, so more are to be expected."""
        self._until = self._loop.time() + VIGIL_SECONDS
        if not self._is_kept:
            self._is_kept = True
            self._loop.call_soon(self._keep)

    def _keep(self) -> None:
        os.sched_yield()
        self._is_kept = self._loop.time() < self._until
        if self._is_kept:
            self._loop.call_soon(self._keep)


class Connection(asyncio.Protocol):
    """Serves one connection, one request after the other."""

    def __init__(self, vigil: Vigil) -> None:
        self._loop = asyncio.get_running_loop()
        self._vigil = vigil
        self._parser = httptools.HttpRequestParser(self)
        self._body = bytearray()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._vigil.extend()
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body.clear()

    def on_url(self, url: bytes) -> None:
        self._answers = _CLAUDE if url.endswith(b"/messages") else _OPENAI

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if b'"stream": true' in self._body or b'"stream":true' in self._body:
            self._next(0)
        else:
            self._transport.write(self._answers.whole)

    def _next(self, number: int) -> None:
        self._vigil.extend()
        writes = self._answers.stream
        self._transport.write(writes[number])
        if number + 1 < len(writes):
            self._timer = self._loop.call_later(GAP_SECONDS, self._next, number + 1)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()


async def main() -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(
        partial(Connection, Vigil()), "127.0.0.1", int(sys.argv[1]), backlog=1024
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
