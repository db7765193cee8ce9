"""The load, in a process of its own: ``python -m tests.performance.driver``, options below.

Keeps every connection busy with one request at a time until the time is up, waits for the answers
still on their way, and prints one JSON line. Every answer is checked; one bad answer ends the run
with an error, because the figures would not mean anything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import time
from typing import Any, cast

import uvloop

from tests.performance.wire import CHUNKS, CLIENT_KEY, request_body

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_clock = time.perf_counter


class Load:
    """What all connections of one run share: the request, the deadline and the figures."""

    def __init__(self, request: bytes, seconds: float, *, stream: bool) -> None:
        self.request = request
        self.stream = stream
        self.ends_at = _clock() + seconds
        self.seconds: list[float] = []
        self.first_byte_seconds: list[float] = []
        self.reads = 0
        self.failure: str | None = None


class Connection(asyncio.Protocol):
    """One client: sends, reads the answer to its end, sends again."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        if _clock() >= self._load.ends_at or self._load.failure:
            self._busy = False
            self._transport.close()
            return
        self._busy = True
        self._received = b""
        self._sent_at = _clock()
        self._first_byte_at = 0.0
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        self._load.reads += 1
        received = self._received = self._received + data if self._received else data
        if self._first_byte_at == 0.0:
            if not received.startswith(b"HTTP/1.1 200"):
                self._fail(f"the target answered {received[:300]!r}")
                return
            self._first_byte_at = _clock()
        if self._load.stream:
            # A hundred short pieces: joining them costs less than parsing would.
            if received.endswith(b"\r\n0\r\n\r\n"):
                self._finish(received.count(b"data: ") == CHUNKS + 1 and b"[DONE]" in received)
            return
        head, separator, body = received.partition(b"\r\n\r\n")
        if separator:
            length = _LENGTH.search(head + b"\r\n")
            if length is None:
                self._fail("the answer has no content-length")
            elif len(body) >= int(length[1]):
                self._finish(len(body) == int(length[1]) and b'"choices"' in body)

    def _finish(self, whole: bool) -> None:
        if not whole:
            self._fail(f"the answer is not whole: {self._received[-300:]!r}")
            return
        self._load.seconds.append(_clock() - self._sent_at)
        self._load.first_byte_seconds.append(self._first_byte_at - self._sent_at)
        self._send()

    def _fail(self, message: str) -> None:
        self._load.failure = self._load.failure or message
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._busy:
            self._load.failure = self._load.failure or "the target closed a connection in use"
        self.closed.set_result(None)


def keep_awake(loop: asyncio.AbstractEventLoop) -> None:
    """Poll for answers and never sleep, letting the upstream run whenever it can.

    On a virtual machine it costs the sender of an answer several microseconds to wake an idle CPU.
    How often the driver is asleep depends on how slow the target is, so that without this a slow
    target would be charged for wake-ups that a fast one is spared.
    """
    os.sched_yield()
    loop.call_soon(keep_awake, loop)


def _milliseconds(values: list[float], share: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1e3, 3)


async def main() -> None:
    """Run the load that the command line describes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/v1/chat/completions")
    parser.add_argument("--model", default="gpt-4o-mini")
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--stream", action="store_true")
    options = parser.parse_args()
    body = request_body(options.model, stream=options.stream)
    request = (
        f"POST {options.path} HTTP/1.1\r\nhost: 127.0.0.1:{options.port}\r\n"
        "user-agent: asgi-llm-performance\r\naccept: application/json\r\n"
        f"authorization: Bearer {CLIENT_KEY}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body
    load = Load(request, options.seconds, stream=options.stream)
    loop = asyncio.get_running_loop()
    started = _clock()
    connections = []
    for _ in range(options.connections):
        _, connection = await loop.create_connection(
            lambda: Connection(load), "127.0.0.1", options.port
        )
        connections.append(connection)
    keep_awake(loop)
    async with asyncio.timeout(options.seconds + 30):
        await asyncio.gather(*(connection.closed for connection in connections))
    elapsed = _clock() - started
    if load.failure or not load.seconds:
        raise SystemExit(load.failure or "no answer came")
    figures: dict[str, Any] = {
        "requests": len(load.seconds),
        "per_second": round(len(load.seconds) / elapsed, 1),
        "reads_per_request": round(load.reads / len(load.seconds), 2),
        "p50_ms": _milliseconds(load.seconds, 0.5),
        "p99_ms": _milliseconds(load.seconds, 0.99),
        "first_byte_p50_ms": _milliseconds(load.first_byte_seconds, 0.5),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    uvloop.run(main())
