"""Answers that are made while they are sent, so that their size does not matter."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from starlette.types import Receive, Send

from asgi_llm._asgi import RawHeaders
from asgi_llm.state import State

__all__ = ["Download", "begin_csv", "send_download"]

_HEADERS: Final[RawHeaders] = [
    (b"content-type", b"text/csv; charset=utf-8; header=present"),
    (b"content-disposition", b'attachment; filename="usage.csv"'),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]


class Download(NamedTuple):
    """A text of which the first part is there already."""

    first: str
    rest: AsyncIterator[str]


async def begin_csv(lines: AsyncIterator[str]) -> Download:
    """``lines`` as a download; what goes wrong before the first of them can still be told."""
    return Download(await anext(lines), lines)


async def send_download(
    download: Download, receive: Receive, send: Send, state: State, *, head: bool
) -> None:
    """Send it, a part at a time, until it ends or the client leaves.

    What fails on the way is raised: a server cuts the answer off then, so that nobody takes it for
    the whole.
    """
    headers = [*_HEADERS, (b"x-request-id", state.request_id.encode("ascii"))]
    if state.client_request_id is not None:
        headers.append((b"x-client-request-id", state.client_request_id.encode()))
    async with contextlib.AsyncExitStack() as stack:
        close = getattr(download.rest, "aclose", None)
        if close is not None:
            stack.push_async_callback(close)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if head:
            await send({"type": "http.response.body", "body": b""})
            return
        leaving = asyncio.get_running_loop().create_task(_wait_for_leave(receive))
        stack.callback(leaving.cancel)
        await send(_part(download.first))
        async for text in download.rest:
            if leaving.done():
                return
            if text:
                await send(_part(text))
        await send({"type": "http.response.body", "body": b""})


def _part(text: str) -> dict[str, object]:
    return {"type": "http.response.body", "body": text.encode(), "more_body": True}


async def _wait_for_leave(receive: Receive) -> None:
    with contextlib.suppress(OSError):
        while (await receive())["type"] != "http.disconnect":
            pass
