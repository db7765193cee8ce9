"""Ten minutes of the HTTP/1.1 transport against every fault, plain and TLS, on both loops.

    python tests/soak/soak_http1.py --seconds 600 --concurrency 64

At the end nothing may be left (connections, descriptors, tasks, objects, memory), and every answer
must be accounted for: what each call ended in, and what the upstream says it served. Exits with 1
where anything differs.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import ssl
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme

from asgi_llm.transports._connection import Connection
from asgi_llm.transports._decoding import decoded
from asgi_llm.transports._response import Http1Response
from asgi_llm.transports.base import (
    ConnectionLostError,
    ResponseTooLargeError,
    Timeouts,
    TransportTimeoutError,
    UpstreamProtocolError,
    UpstreamRequest,
    UpstreamResponse,
)
from asgi_llm.transports.http1 import Http1Transport

UPSTREAM = Path(__file__).with_name("faulty_upstream.py")
PATIENT = Timeouts(
    connect_seconds=20.0, first_byte_seconds=20.0, idle_seconds=20.0, total_seconds=40.0
)
# Fewer places than calls at once, so that the queue for them is in use all the time.
PLACES = 3 / 4
MAX_BYTES = 1 << 20
EVENTS = 20
MAX_MEMORY_GROWTH_BYTES = 6 << 20
_HANDSHAKE_SECONDS = 65
# glibc takes larger blocks from the system, and gives them back, but raises the border with each
# block that is freed. TLS has blocks of 256 KiB; left in the heaps they hide how much is in use.
_STEADY_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(64 << 10)}


class Wrong(Exception):
    """An answer is not what the upstream sent."""


@dataclass
class Part:
    """One stretch of the soak: an upstream, a transport, and what came of the calls."""

    transport: Http1Transport
    urls: dict[str, str]
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    unheard: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    async def send(
        self, case: str, serial: str, timeouts: Timeouts = PATIENT, **fields: Any
    ) -> UpstreamResponse:
        """Make the call that asks for ``case``."""
        url = self.urls["closing" if case in CLOSES_BEHIND else "main"]
        fields.setdefault("body", b"{}")
        headers = fields.pop("headers", [])
        request = UpstreamRequest("POST", f"{url}/{case}/{serial}", headers, **fields)
        try:
            return await self.transport.send(request, timeouts)
        except TransportTimeoutError as error:
            # Its time was over before an answer began: on a busy machine it may not have left.
            self.unheard[case] += error.phase == "total"
            raise


async def read_whole(part: Part, case: str, serial: str, **fields: Any) -> None:
    """Read a JSON answer, or none with a 204, and check that it is this call's."""
    response = await part.send(case, serial, **fields)
    try:
        body = await decoded(response).read(MAX_BYTES)
    finally:
        await response.aclose()
    if response.status == 204 and not body:
        return
    answer = json.loads(body)
    if answer != {"serial": serial, "filler": "x" * 700}:
        raise Wrong(f"status {response.status}, {body[:80]!r}")


async def read_stream(part: Part, case: str, serial: str, **fields: Any) -> None:
    """Read a stream to its end, and check that it is this call's and whole."""
    response = await part.send(case, serial, **fields)
    try:
        body = b"".join([chunk async for chunk in decoded(response)])
    finally:
        await response.aclose()
    lines = body.split(b"\n\n")
    if lines[-2:] != [b"data: [DONE]", b""]:
        raise Wrong(f"ends in {body[-80:]!r}")
    got = [json.loads(line[6:]) for line in lines[:-2]]
    if got != [{"serial": serial, "n": n} for n in range(EVENTS)]:
        raise Wrong(f"{len(got)} events, first {lines[0]!r}")


async def read_large(part: Part, case: str, serial: str) -> None:
    """Read a megabyte slower than it is sent."""
    response = await part.send(case, serial)
    size = 0
    async for chunk in response:
        size += len(chunk)
        await asyncio.sleep(0.002)
    await response.aclose()
    if size != MAX_BYTES:
        raise Wrong(f"{size} bytes")


async def upload(part: Part, case: str, serial: str) -> None:
    """Send a body piece by piece, chunked or with its length."""
    sizes = [int(serial) % 7 * 1000 + n for n in range(10)]
    length = sum(sizes) if int(serial) % 2 else None

    async def pieces() -> AsyncIterator[bytes]:
        for size in sizes:
            yield b"u" * size
            await asyncio.sleep(0)

    headers = [(b"x-size", b"%d" % sum(sizes))]
    await read_whole(part, case, serial, body=pieces(), content_length=length, headers=headers)


async def upload_without_end(part: Part, case: str, serial: str) -> None:
    """Send a body that goes on until the upstream has answered."""

    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield b"u" * 100
            await asyncio.sleep(0.005)

    await read_whole(part, case, serial, body=pieces())


async def leave(part: Part, case: str, serial: str) -> None:
    """Leave after the first piece."""
    response = await part.send(case, serial)
    async for _ in response:
        break
    await response.aclose()


async def cancel(part: Part, case: str, serial: str) -> None:
    """Cancel the call, some time after it has begun."""
    task = asyncio.ensure_future(read_whole(part, case, serial))
    await asyncio.wait((task,), timeout=int(serial) % 50 / 200)
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        raise Wrong(f"ended by itself: {task.exception()!r}")


def limited(**limits: float) -> Callable[[Part, str, str], Awaitable[None]]:
    """Read a stream under short deadlines."""
    values = {name: getattr(PATIENT, name) for name in Timeouts.__dataclass_fields__}
    timeouts = Timeouts(**{**values, **limits})
    return lambda part, case, serial: read_stream(part, case, serial, timeouts=timeouts)


@dataclass(frozen=True)
class Case:
    """How to call, what it must end in, and what the upstream may say of it."""

    call: Callable[[Part, str, str], Awaitable[None]]
    outcome: str = "ok"
    ends: tuple[str, ...] = ("complete",)


CASES: dict[str, Case] = {
    **{
        name: Case(read_whole)
        for name in (
            "json",
            "json_chunked",
            "json_gzip",
            "json_until_close",
            "json_last",
            "error_429",
            "error_500",
            "no_content",
        )
    },
    **{
        name: Case(read_stream)
        for name in ("sse", "sse_gzip", "sse_random_split", "sse_tiny_split", "sse_paced")
    },
    "json_then_closed": Case(read_whole),
    "upload": Case(upload),
    "answered_early": Case(upload_without_end),
    "read_slowly": Case(read_large),
    "client_leaves": Case(leave, ends=("left",)),
    "client_cancels_wait": Case(cancel, ends=("left",)),
    "client_cancels_body": Case(cancel, ends=("left",)),
    "stall_first_byte": Case(limited(first_byte_seconds=0.3), "timeout first_byte", ("left",)),
    "stall_head": Case(limited(first_byte_seconds=0.3), "timeout first_byte", ("left",)),
    "stall_body": Case(limited(idle_seconds=0.3), "timeout idle", ("left",)),
    "endless": Case(limited(total_seconds=0.5), "timeout total", ("left",)),
    "reset_head": Case(read_stream, "lost", ("cut",)),
    "reset_body": Case(read_stream, "lost", ("cut",)),
    "fin_at_once": Case(read_stream, "lost", ("cut",)),
    "fin_length": Case(read_stream, "lost", ("cut",)),
    "fin_chunked": Case(read_stream, "lost", ("cut",)),
    "malformed": Case(read_stream, "malformed"),
    "bad_chunk": Case(read_stream, "malformed"),
    "header_bomb": Case(read_stream, "malformed", ("complete", "left")),
    "too_large": Case(read_whole, "too large", ("complete", "left")),
}
CLOSES_BEHIND = frozenset(("json_then_closed",))
"""The upstream closes an idle connection without a word, so that a request may be lost on it."""
MAY_NOT_ARRIVE = CLOSES_BEHIND | {"client_cancels_wait", "client_cancels_body"}


async def one_call(part: Part, name: str, serial: str) -> None:
    """Make one call and note what it ended in."""
    case = CASES[name]
    detail = ""
    try:
        await case.call(part, name, serial)
        outcome = "ok"
    except ConnectionLostError:
        outcome = "lost"
    except UpstreamProtocolError:
        outcome = "malformed"
    except ResponseTooLargeError:
        outcome = "too large"
    except TransportTimeoutError as error:
        outcome = f"timeout {error.phase}"
    except Exception as error:
        outcome = type(error).__name__
        detail = str(error)
    part.calls[name, outcome] += 1
    unserved = outcome == "lost" and name in CLOSES_BEHIND
    if outcome != case.outcome and not unserved and len(part.wrong) < 20:
        part.wrong.append(f"{name} {serial}: {outcome} instead of {case.outcome} {detail}")


def settle(part: Part, served: dict[str, Any]) -> None:
    """Compare the calls with what the upstream says of them."""
    ends: Counter[str] = Counter()
    for name, end, count in served["ends"]:
        ends[name] += count
        if end not in CASES[name].ends:
            part.wrong.append(f"{name}: the upstream counts {count} as {end}")
    for name in CASES:
        made = sum(count for (case, _), count in part.calls.items() if case == name)
        if name in CLOSES_BEHIND:
            made -= part.calls[name, "lost"]
        least = made - part.unheard[name]
        fewer = ends[name] < least and name not in MAY_NOT_ARRIVE - CLOSES_BEHIND
        if ends[name] > made or fewer:
            part.wrong.append(f"{name}: {made} answers due, the upstream counts {ends[name]}")
        if not ends[name]:
            part.wrong.append(f"{name}: never reached the upstream; too few calls to tell anything")
    for what in ("under_way", "open"):
        if served[what]:
            part.wrong.append(f"the upstream has {served[what]} {what} after the transport closed")
    part.wrong += [f"the upstream failed: {failure}" for failure in served["failures"]]


def memory_bytes() -> int:
    """Resident set of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def growth_bytes(samples: list[int]) -> int:
    """From the middle fifth of the time to the last; until then the allocator's pools fill."""
    fifth = max(len(samples) // 5, 1)
    middle, late = samples[2 * fifth : 3 * fifth] or samples[:1], samples[-fifth:]
    return sum(late) // len(late) - sum(middle) // len(middle)


async def alive() -> int:
    """Connections and responses that something still holds.

    uvloop's timer for a TLS handshake that was cancelled holds its protocol until it is due.
    """
    for _ in range(_HANDSHAKE_SECONDS):
        gc.collect()
        held = sum(isinstance(thing, (Connection, Http1Response)) for thing in gc.get_objects())
        if not held:
            break
        await asyncio.sleep(1)
    return held


async def soak(
    seconds: float, concurrency: int, authority: trustme.CA | None, certificate: str | None
) -> Part:
    """One part: start an upstream, call it, and see what is left."""
    options = [] if certificate is None else ["--certificate", certificate]
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(UPSTREAM), *options, stdin=asyncio.subprocess.PIPE, stdout=-1
    )
    assert process.stdin is not None and process.stdout is not None
    urls = json.loads(await process.stdout.readline())
    context: ssl.SSLContext | None = None
    if authority is not None:
        context = ssl.create_default_context()
        authority.configure_trust(context)

    def transport() -> Http1Transport:
        places = max(int(concurrency * PLACES), 1)
        return Http1Transport(
            ssl_context=context, max_connections_per_origin=places, idle_expiry_seconds=2.0
        )

    warm = Part(transport(), urls)
    await one_call(warm, "json", "0")
    await warm.transport.aclose()
    descriptors, tasks = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())

    part = Part(transport(), urls, calls=warm.calls)
    samples: list[int] = []
    ends_at = time.monotonic() + seconds
    serial = 0
    names = list(CASES)

    async def work() -> None:
        nonlocal serial
        while time.monotonic() < ends_at:
            serial += 1
            await one_call(part, names[serial % len(names)], str(serial))

    async def sample() -> None:
        while time.monotonic() < ends_at:
            samples.append(memory_bytes())
            await asyncio.sleep(max(seconds / 200, 0.05))

    await asyncio.gather(sample(), *(work() for _ in range(concurrency)))
    await part.transport.aclose()

    for _ in range(50):
        process.stdin.write(b"\n")
        served = json.loads(await process.stdout.readline())
        if not served["open"] and not served["under_way"]:
            break
        await asyncio.sleep(0.1)
    settle(part, served)
    left = {
        "descriptors": len(os.listdir("/proc/self/fd")) - descriptors,
        "tasks": len(asyncio.all_tasks()) - tasks,
        "objects": await alive(),
    }
    part.wrong += [f"{count} {what} are left" for what, count in left.items() if count]
    growth = growth_bytes(samples)
    if growth > MAX_MEMORY_GROWTH_BYTES:
        part.wrong.append(f"memory grew by {growth >> 10} KiB")
    process.stdin.close()
    await process.wait()
    show(part, served, samples, growth)
    return part


def show(part: Part, served: dict[str, Any], samples: list[int], growth: int) -> None:
    """The table of a part."""
    ends: dict[str, list[str]] = {}
    for name, end, count in sorted(served["ends"]):
        ends.setdefault(name, []).append(f"{count} {end}")
    for name in CASES:
        outcomes = [f"{count} {what}" for (case, what), count in part.calls.items() if case == name]
        print(f"  {name:20} {', '.join(outcomes):36} upstream: {', '.join(ends.get(name, []))}")
    print(
        f"  {part.calls.total()} calls on {served['accepted']} connections; memory"
        f" {samples[0] >> 20} to {samples[-1] >> 20} MiB, middle to end {growth >> 10:+} KiB"
    )
    for line in part.wrong:
        print(f"  WRONG: {line}")
    print(flush=True)


def main() -> int:
    """Run all parts; 1 where one of them found something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="of all parts together")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--tls", choices=["both", "yes", "no"], default="both")
    parser.add_argument("--loop", choices=["both", "asyncio", "uvloop"], default="both")
    options = parser.parse_args()
    schemes = {"both": ["plain", "tls"], "yes": ["tls"], "no": ["plain"]}[options.tls]
    loops = ["asyncio", "uvloop"] if options.loop == "both" else [options.loop]
    parts = [(scheme, loop) for scheme in schemes for loop in loops]
    authority = trustme.CA()
    found = 0
    with tempfile.TemporaryDirectory() as folder:
        certificate = Path(folder, "upstream.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
        for scheme, loop in parts:
            seconds = options.seconds / len(parts)
            print(f"{scheme}, {loop}, {options.concurrency} at once, {seconds:g} s", flush=True)
            tls = scheme == "tls"
            factory = __import__("uvloop").new_event_loop if loop == "uvloop" else None
            with asyncio.Runner(loop_factory=factory) as runner:
                part = runner.run(
                    # Every call has a deadline: a part that hangs has lost one.
                    asyncio.wait_for(
                        soak(
                            seconds,
                            options.concurrency,
                            authority if tls else None,
                            str(certificate) if tls else None,
                        ),
                        seconds + 180,
                    )
                )
            found += len(part.wrong)
    print(f"{found} things wrong" if found else "all accounted for, nothing left")
    return 1 if found else 0


if __name__ == "__main__":
    if not _STEADY_ALLOCATOR.items() <= os.environ.items():
        # It is read when a process begins.
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **_STEADY_ALLOCATOR})  # noqa: S606
    sys.exit(main())
