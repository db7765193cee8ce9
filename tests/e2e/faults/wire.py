"""A small HTTP/1.1 client: paths go out as they are written, and every answer has its times."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, NamedTuple, Self

__all__ = ["CHAT", "Answer", "Connection"]

DEADLINE_SECONDS = 15.0
"""Of one exchange: longer than anything here may take, so that what hangs is an error."""

CHAT: dict[str, Any] = {"model": "e/echo", "messages": [{"role": "user", "content": "Hello"}]}


class Answer(NamedTuple):
    """What came back, and when: seconds of the monotonic clock."""

    status: int
    headers: dict[str, str]
    body: bytes
    began: float
    ended: float

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The code of an error."""
        return None if self.status < 400 else str(self.json["error"]["code"])

    @property
    def told(self) -> tuple[int, str | None]:
        """Status and code."""
        return self.status, self.code

    @property
    def remaining(self) -> int:
        """Requests that are left, as the answer says."""
        return int(self.headers["x-ratelimit-remaining-requests"])


class Connection:
    """One connection that is kept alive. Not for two exchanges at the same time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self.local_port = 0

    async def open(self) -> Self:
        async with asyncio.timeout(DEADLINE_SECONDS):
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self.local_port = self._writer.get_extra_info("sockname")[1]
        return self

    async def close(self) -> None:
        """Close it at once, whatever is under way."""
        self._writer.transport.abort()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    async def ask(
        self, path: str, *, key: str | None = None, document: Any = None, method: str | None = None
    ) -> Answer:
        """One exchange: a GET, or a POST where there is a document.

        Raises:
            ConnectionError: The server closed the connection.
            TimeoutError: There was no whole answer within 15 seconds.
        """
        began = time.monotonic()
        async with asyncio.timeout(DEADLINE_SECONDS):
            status, headers = await self.begin(path, key=key, document=document, method=method)
            body = b"".join([chunk async for chunk in self._body(headers)])
        return Answer(status, headers, body, began, time.monotonic())

    async def chat(self, key: str | None = None, **fields: Any) -> Answer:
        """A chat."""
        return await self.ask("/v1/chat/completions", key=key, document=CHAT | fields)

    async def begin(
        self, path: str, *, key: str | None = None, document: Any = None, method: str | None = None
    ) -> tuple[int, dict[str, str]]:
        """Send a request and read the head of its answer; the body is still to come."""
        body = b"" if document is None else json.dumps(document).encode()
        lines = [f"{method or ('GET' if document is None else 'POST')} {path} HTTP/1.1", "host: x"]
        if key is not None:
            lines.append(f"authorization: Bearer {key}")
        if document is not None:
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        except EOFError as error:
            raise ConnectionError("closed before an answer") from error
        fields = (line.partition(":") for line in head[1:-2])
        return int(head[0].split()[1]), {name.lower(): text.strip() for name, _, text in fields}

    async def chunk(self) -> bytes:
        """The next chunk of a stream; empty at its end."""
        size = int(await self._reader.readline() or b"0", 16)
        data = await self._reader.readexactly(size + 2)
        return data[:-2]

    async def _body(self, headers: dict[str, str]) -> AsyncIterator[bytes]:
        try:
            if headers.get("transfer-encoding") != "chunked":
                yield await self._reader.readexactly(int(headers.get("content-length", 0)))
                return
            while data := await self.chunk():
                yield data
        except EOFError as error:
            raise ConnectionError("closed within an answer") from error
