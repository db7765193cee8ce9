"""The upstream of the soak, in a process of its own: every fault by name, and a tally of it all.

It prints its URLs as a line of JSON, and for each line on its standard input a line with its tally.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import ssl
import sys
from collections import Counter
from collections.abc import Callable, Iterator

from asgi_llm.testing import (
    Close,
    ReceivedRequest,
    Reply,
    Reset,
    Served,
    Step,
    Upstream,
    Wait,
    json_reply,
    raw_reply,
    sse_reply,
)

EVENTS = 20
FILLER = "x" * 700
MEGABYTE = 1 << 20


def document(serial: str) -> dict[str, str]:
    """The answer to request ``serial``, so that a mixed-up one is noticed."""
    return {"serial": serial, "filler": FILLER}


def events(serial: str) -> list[dict[str, object]]:
    """The stream of request ``serial``."""
    return [{"serial": serial, "n": n} for n in range(EVENTS)]


def pause(seconds: float) -> Wait:
    """A wait that ends by itself."""
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, event.set)
    return Wait(event)


def never() -> Wait:
    """A stall."""
    return Wait(asyncio.Event())


def slow(serial: str) -> Iterator[Step]:
    """A stream that never stalls for long, and never ends."""
    while True:
        yield b'data: {"serial":"%b"}\n\n' % serial.encode()
        yield pause(0.05)


def _paced(serial: str) -> Reply:
    steps: list[Step] = []
    for event in events(serial):
        steps += (f"data: {json.dumps(event)}\n\n".encode(), pause(0.002 * len(steps)))
    return sse_reply(steps)


REPLIES: dict[str, Callable[[str], Reply]] = {
    "json": lambda n: json_reply(document(n)),
    "json_chunked": lambda n: json_reply(document(n), framing="chunked"),
    "json_gzip": lambda n: json_reply(document(n), gzip=True),
    "json_until_close": lambda n: json_reply(document(n), framing="close"),
    "json_last": lambda n: json_reply(document(n), keep_alive=False),
    "json_then_closed": lambda n: json_reply(document(n), after=[Close()]),
    "upload": lambda n: json_reply(document(n)),
    "answered_early": lambda n: json_reply(document(n), status=413),
    "error_429": lambda n: json_reply(document(n), status=429, headers={"retry-after": "1"}),
    "error_500": lambda n: json_reply(document(n), status=500),
    "no_content": lambda n: Reply(status=204),
    "sse": lambda n: sse_reply(events(n)),
    "sse_gzip": lambda n: sse_reply(events(n), gzip=True),
    "sse_random_split": lambda n: sse_reply(events(n), split=random.Random(n)),
    "sse_tiny_split": lambda n: sse_reply(events(n), split=3),
    "sse_paced": _paced,
    "client_leaves": lambda n: sse_reply([*events(n)[:2], never()]),
    "client_cancels_wait": lambda n: json_reply(document(n), before=[never()]),
    "client_cancels_body": lambda n: sse_reply([*events(n)[:2], never()]),
    "stall_first_byte": lambda n: json_reply(document(n), before=[never()]),
    "stall_head": lambda n: raw_reply([b"HTTP/1.1 200 OK\r\ncontent-le", never()]),
    "stall_body": lambda n: sse_reply([*events(n)[:2], never()]),
    "endless": lambda n: Reply(body=slow(n), framing="chunked"),
    "reset_head": lambda n: raw_reply([b"HTTP/1.1 200 OK\r\ncontent-le", Reset()]),
    "reset_body": lambda n: sse_reply([*events(n)[:2], Reset()]),
    "fin_at_once": lambda n: raw_reply([Close()]),
    "fin_length": lambda n: Reply(body=[b"abc", Close(), b"def"]),
    "fin_chunked": lambda n: sse_reply([*events(n)[:2], Close(notify=False)]),
    "malformed": lambda n: raw_reply(b"HTTP/1.1 200 OK\r\nx: a\r\n folded\r\n\r\n"),
    "bad_chunk": lambda n: raw_reply(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n"
    ),
    "header_bomb": lambda n: raw_reply(b"HTTP/1.1 200 OK\r\nx: " + b"y" * MEGABYTE + b"\r\n\r\n"),
    "too_large": lambda n: Reply(body=[b"z" * 65536] * 64, framing="chunked"),
    "read_slowly": lambda n: Reply(body=[b"z" * 65536] * 16, framing="chunked"),
}


def case_of(request: ReceivedRequest) -> tuple[str, str]:
    """The fault asked for, and the request's serial number."""
    _, case, serial = request.path.split("/")
    return case, serial


async def reply(request: ReceivedRequest) -> Reply:
    """What the path asks for, once the body is there."""
    case, serial = case_of(request)
    if case != "answered_early":
        await request.read()
    if case == "upload" and request.body_bytes != int(request.header("x-size") or b"-1"):
        return json_reply({"received": request.body_bytes}, status=400)
    return REPLIES[case](serial)


class Tally:
    """Counts what was served, and drops the rows that are done."""

    def __init__(self, *upstreams: Upstream) -> None:
        self._upstreams = upstreams
        self._counts: Counter[tuple[str, str]] = Counter()

    def fold(self) -> None:
        """Take the rows in that are done."""
        for upstream in self._upstreams:
            rest: list[Served] = []
            for row in upstream.ledger:
                if row.done:
                    self._counts[case_of(row.request)[0], _end(row)] += 1
                else:
                    rest.append(row)
            upstream.ledger[:] = rest

    def report(self) -> str:
        """All of it, as a line of JSON."""
        self.fold()
        return json.dumps(
            {
                "ends": [[case, end, count] for (case, end), count in self._counts.items()],
                "under_way": sum(len(upstream.ledger) for upstream in self._upstreams),
                "open": sum(upstream.open_connections for upstream in self._upstreams),
                "accepted": sum(upstream.connections for upstream in self._upstreams),
                "failures": [repr(e) for upstream in self._upstreams for e in upstream.failures],
            }
        )


def _end(row: Served) -> str:
    return "complete" if row.complete else "left" if row.client_left else "cut"


async def serve(certificate: str | None) -> None:
    """Answer until the standard input ends."""
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)

    def upstream() -> Upstream:
        return Upstream(reply, ssl_context=context, record_bodies=False, answer_early=True)

    # Where connections close behind the client's back a request may be lost on one, so that these
    # have an address of their own.
    async with upstream() as main, upstream() as closing:
        tally = Tally(main, closing)
        print(json.dumps({"main": main.url, "closing": closing.url}), flush=True)
        folding = loop.create_task(_fold(tally))
        while await commands.readline():
            print(tally.report(), flush=True)
        folding.cancel()


async def _fold(tally: Tally) -> None:
    while True:
        await asyncio.sleep(0.5)
        tally.fold()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--certificate", help="PEM file with a key and its certificate, for https")
    asyncio.run(serve(parser.parse_args().certificate))
