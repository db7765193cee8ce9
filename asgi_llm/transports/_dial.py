"""Opening a connection to a name that may have several addresses, of both families."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from asgi_llm.transports._connection import Connection

STAGGER_SECONDS = 0.25
"""How long an address may take before the next is tried beside it (RFC 8305, section 5)."""

Address = tuple[str, int]
"""A literal address and its family."""
Connect = Callable[[str, int], Coroutine[Any, Any, Connection]]
Resolve = Callable[[str, int], Awaitable[list[Address]]]
"""Host and port to addresses, the preferred one first; raises OSError where there is none."""


async def dial(
    factory: Callable[[], Connection],
    host: str,
    port: int,
    context: ssl.SSLContext | None,
    resolver: Resolve | None = None,
) -> Connection:
    """Connect a protocol made by ``factory``, over TLS where there is a ``context``.

    It is connected to one of the addresses that ``resolver`` gives, which is asked once. None: the
    system's.

    Raises:
        OSError: No address answers (the first failure of all), or TLS failed.
    """
    loop = asyncio.get_running_loop()
    name = host.rstrip(".") if context is not None else None

    async def connect(address: str, family: int) -> Connection:
        _, connection = await loop.create_connection(
            factory, address, port, family=family, ssl=context, server_hostname=name
        )
        return connection

    addresses = await (resolve(loop, host, port) if resolver is None else resolver(host, port))
    if len(addresses) == 1:
        return await connect(*addresses[0])
    return await race(connect, addresses)


async def resolve(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[Address]:
    """Addresses in the system's order of preference, families taking turns.

    Raises:
        OSError: There is none.
    """
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    else:
        return [(host, socket.AF_INET6 if version == 6 else socket.AF_INET)]
    by_family: dict[int, deque[Address]] = {}
    for family, _, _, _, address in infos:
        by_family.setdefault(family, deque()).append((str(address[0]), family))
    turns: list[Address] = []
    while any(by_family.values()):
        turns += [queue.popleft() for queue in by_family.values() if queue]
    if not turns:
        raise OSError("the name has no address")
    return turns


async def race(
    connect: Connect, addresses: list[Address], stagger_seconds: float = STAGGER_SECONDS
) -> Connection:
    """The first connection that stands; addresses are tried one by one, each given a head start.

    The loop's own happy eyeballs are not used, because uvloop has none.

    Raises:
        OSError: The first failure, where every address failed, or there is none.
    """
    if not addresses:
        raise OSError("the name has no address")
    left = deque(addresses)
    tasks: list[asyncio.Task[Connection]] = []
    pending: set[asyncio.Task[Connection]] = set()
    winner: asyncio.Task[Connection] | None = None
    failure: BaseException | None = None
    try:
        while winner is None and (left or pending):
            if left:
                task = asyncio.get_running_loop().create_task(connect(*left.popleft()))
                tasks.append(task)
                pending.add(task)
            done, pending = await asyncio.wait(
                pending,
                timeout=stagger_seconds if left else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                if (error := task.exception()) is None:
                    winner = task
                else:
                    failure = failure or error
    finally:
        for task in tasks:
            if task is not winner:
                task.cancel()
                task.add_done_callback(_discard)
    if winner is not None:
        return winner.result()
    try:
        raise failure or OSError("the name has no address")
    finally:
        # Or the failure's traceback and this frame would keep each other alive.
        del failure, task, done


def _discard(task: asyncio.Task[Connection]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()
