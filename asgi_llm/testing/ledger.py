"""What an upstream received, and what it really served."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from asgi_llm.errors import RawHeaders

__all__ = ["ReceivedRequest", "Served"]


class ReceivedRequest:
    """A request as it came over the wire.

    Attributes:
        method: As sent.
        target: Path and query, undecoded.
        headers: In their order, duplicates kept, names in the case in which they came.
        connection: Serial number of its connection, from 1.
        http_version: ``"1.1"`` or ``"1.0"``.
        keep_alive: Whether the client lets the connection go on.
        trailers: Header fields after a chunked body.
        body_bytes: How much of the body has arrived.
        complete: Whether all of it has.
    """

    def __init__(
        self,
        method: str,
        target: str,
        headers: RawHeaders,
        connection: int,
        *,
        http_version: str = "1.1",
        keep_alive: bool = True,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.connection = connection
        self.http_version = http_version
        self.keep_alive = keep_alive
        self.trailers: RawHeaders = []
        self.body_bytes = 0
        self.complete = False
        self._body: list[bytes] = []
        self._whole = asyncio.Event()

    def __repr__(self) -> str:
        return f"<{self.method} {self.target} on connection {self.connection}>"

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def body(self) -> bytes:
        """What has arrived of the body; empty where bodies are not recorded."""
        if len(self._body) > 1:
            self._body = [b"".join(self._body)]
        return self._body[0] if self._body else b""

    def json(self) -> Any:
        """The body as JSON."""
        return msgspec.json.decode(self.body)

    def header(self, name: str) -> bytes | None:
        """The first value of a header, whatever its case."""
        wanted = name.lower().encode("latin-1")
        return next((value for key, value in self.headers if key.lower() == wanted), None)

    async def read(self) -> bytes:
        """The whole body, waited for: for a handler that is called before it has arrived."""
        await self._whole.wait()
        return self.body

    def add(self, data: bytes, *, keep: bool) -> None:
        """Take in a piece of the body."""
        self.body_bytes += len(data)
        if keep:
            self._body.append(data)

    def end(self) -> None:
        """Mark the body as whole."""
        self.complete = True
        self._whole.set()


class Served:
    """One row of the ledger: a request, and what was served for it. Updated as it happens.

    Attributes:
        request: What came.
        status: Of the reply; None while none was sent.
        sent_bytes: Bytes of the response that the operating system took: status line, headers and
            framing included, TLS not.
        blocked: Whether the reply waits for a client that does not read.
        complete: Whether the reply was sent to its end.
        client_left: Whether the client closed or reset the connection before that; one that only
            shuts its sending side down counts as gone, as HTTP clients do not do that.
        cut: Whether the upstream itself broke off: by ``Close``, ``Reset``, or its own end.
        documents: The JSON documents (the answer, or the events of a stream) that were sent whole.
            Only what ``json_reply`` and ``sse_reply`` encoded themselves is known here.
    """

    def __init__(self, request: ReceivedRequest) -> None:
        self.request = request
        self.status: int | None = None
        self.sent_bytes = 0
        self.blocked = False
        self.complete = False
        self.client_left = False
        self.cut = False
        self.documents: list[Any] = []

    def __repr__(self) -> str:
        state = next(
            (name for name in ("complete", "client_left", "cut") if getattr(self, name)),
            "under way",
        )
        return f"<{self.request!r}: {self.status}, {self.sent_bytes} bytes, {state}>"

    @property
    def done(self) -> bool:
        """Whether nothing more will be sent: complete, left or cut."""
        return self.complete or self.client_left or self.cut

    @property
    def usage(self) -> dict[str, Any] | None:
        """The last ``usage`` object that was sent whole; None where the client saw none."""
        for document in reversed(self.documents):
            usage = document.get("usage") if isinstance(document, Mapping) else None
            if isinstance(usage, Mapping):
                return dict(usage)
        return None

    @property
    def text(self) -> str:
        """The content of choice 0 that was sent."""
        return "".join(
            choice.get("text") or _part(choice).get("content") or ""
            for choice in self._choices()
            if choice.get("index", 0) == 0
        )

    @property
    def output_tokens(self) -> int:
        """Tokens that were sent, over all choices.

        For a stream, the events that carried content, reasoning or tool arguments: the builders of
        this kit put one token in each. For a whole answer, its own ``completion_tokens``.
        """
        count = 0
        for document in self.documents:
            if isinstance(document, Mapping) and "chunk" not in str(document.get("object", "")):
                count += (document.get("usage") or {}).get("completion_tokens", 0)
        for choice in self._choices():
            delta = choice.get("delta") or {}
            arguments = any(
                call.get("function", {}).get("arguments") for call in delta.get("tool_calls") or ()
            )
            if delta.get("content") or delta.get("reasoning_content") or arguments:
                count += 1
        return count

    def _choices(self) -> list[Mapping[str, Any]]:
        return [
            choice
            for document in self.documents
            if isinstance(document, Mapping)
            for choice in document.get("choices") or ()
        ]


def _part(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    part = choice.get("delta") or choice.get("message") or {}
    return part if isinstance(part, Mapping) else {}
