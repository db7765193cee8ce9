"""The form of an audio transcription: its fields in memory, its file streamed through."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import BinaryIO, Self, cast

from starlette.types import Receive, Scope

from asgi_llm.errors import InvalidRequestError
from asgi_llm.state import RESERVED_FIELD, reserved_field
from asgi_llm.types import Document
from asgi_llm.wire._multipart import (
    ClientLeftError,
    Event,
    FormReader,
    Part,
    encode_file_head,
    encode_text,
)

__all__ = ["ClientLeftError", "Upload"]

_FILE = "file"
_MODEL = "model"
_MEMORY_BYTES = 1024 * 1024
_READ_BYTES = 256 * 1024


class Upload:
    """One form. Made by ``read_head``; use as an async context manager, or call ``aclose``.

    Streaming: where the model is named before the file, as the SDKs do it, the file passes through
    message by message. Where the file comes first it is spooled (1 MiB in memory, then a temporary
    file that has no name), since nobody knows yet where to send it.

    Attributes:
        fields: The texts that came before the file, or all of them where it was spooled; a field
            that came several times has a list.
        heads: The field of each part so far that has more in its head than that, and what it is: as
            it came, and not as it is sent on.
        finished: Set once the body has arrived whole, or will not be read any further: from then
            on ``receive`` is free for somebody who waits for a disconnect.
    """

    def __init__(self, reader: FormReader, *, max_field_bytes: int) -> None:
        self.fields: dict[str, str | list[str]] = {}
        self.heads: list[tuple[str, str]] = []
        self.finished = asyncio.Event()
        self._reader = reader
        self._max_field_bytes = max_field_bytes
        self._pairs: list[tuple[str, str]] = []
        self._part: Part | None = None
        self._text = b""
        self._file: Part | None = None
        self._spool = _Spool()
        self._pending: list[Event] | None = None
        self._more = True
        self._sent = False
        self._boundary = b"asgi-llm-" + os.urandom(16).hex().encode()

    @classmethod
    async def read_head(
        cls,
        scope: Scope,
        receive: Receive,
        *,
        max_bytes: int,
        max_fields: int = 64,
        max_field_bytes: int = 64 * 1024,
        timeout_seconds: float | None = None,
    ) -> Upload | None:
        """Read until the file may stream, or to the end. None: the client left before that.

        Args:
            scope: Where the content type and the length are looked up.
            receive: The reader's own ``receive``; nobody else may call it until ``finished``.
            max_bytes: Cap on the whole body.
            max_fields: Cap on the number of parts, the file included.
            max_field_bytes: Cap on one text.
            timeout_seconds: Cap on the time for the whole body, the file included.

        Raises:
            InvalidRequestError: The form is malformed, has no file or two, is of another type
                (415) or too slow (408).
            RequestTooLargeError: The body is over ``max_bytes``.
            ConfigurationError: The package's ``gateway`` extra is not installed.
        """
        reader = FormReader(
            scope,
            receive,
            max_bytes=max_bytes,
            max_parts=max_fields,
            timeout_seconds=timeout_seconds,
        )
        upload = cls(reader, max_field_bytes=max_field_bytes)
        try:
            await upload._read_head()
        except ClientLeftError:
            await upload.aclose()
            return None
        except BaseException:
            await upload.aclose()
            raise
        return upload

    def document(self) -> Document:
        """The fields as ``validate("transcription", ...)`` takes them: ``x[]`` is a list ``x``."""
        document: Document = {}
        for raw, value in self._pairs:
            name = _plain(raw)
            if name in document or raw != name:
                document[name] = [*_as_list(document.get(name, [])), value]
            else:
                document[name] = value
        return document

    def body(self, replace: Mapping[str, str]) -> tuple[bytes, AsyncIterator[bytes]]:
        """The form to send on: its content type, and its bytes under a boundary of our own.

        Args:
            replace: Values that take the place of the client's, or are added.

        Streaming: a file that was not spooled is read as this is iterated, which can be done once.
        Raises, then, what ``read_head`` raises, and ``ClientLeftError``.
        """
        content_type = b"multipart/form-data; boundary=" + self._boundary
        return content_type, self._encode(dict(replace))

    @property
    def file_name(self) -> str:
        """The file's, as it is sent on."""
        return ((self._file and self._file.file_name) or b"").decode()

    async def read_rest(self) -> None:
        """Read what is behind the head, for its fields alone: the file is not kept.

        Raises what ``read_head`` raises, and ``ClientLeftError``.
        """
        if self._pending is not None and not self._sent:
            self._sent = True
            async for _ in self._stream():
                pass

    async def aclose(self) -> None:
        """Drop what is held and remove the temporary file. Idempotent."""
        self.finished.set()
        self._spool.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _read_head(self) -> None:
        while self._more:
            events, self._more = await self._reader.read()
            for place, event in enumerate(events):
                if self._take(event):
                    await self._spool.write(cast("bytes", event))
                elif event is self._file and _MODEL in self.fields:
                    self._pending = events[place + 1 :]
                    if not self._more:
                        self.finished.set()
                    return
        if self._file is None:
            raise InvalidRequestError(
                "file: required field is missing", param=_FILE, code="missing_field"
            )
        self.finished.set()

    def _take(self, event: Event) -> bool:
        """Note ``event``; whether it is content of the file."""
        if isinstance(event, Part):
            if event.file_name is not None:
                self._begin_file(event)
            if event.head:
                self.heads.append((event.name, event.head))
            self._part, self._text = event, b""
            return False
        part = self._part
        if part is None or part is self._file:
            return isinstance(event, bytes)
        if isinstance(event, bytes):
            self._text += event
            if len(self._text) > self._max_field_bytes:
                raise InvalidRequestError(
                    f"{part.name}: got more than {self._max_field_bytes} bytes",
                    param=part.name,
                    code="invalid_value",
                )
        else:
            self._add(part.name)
        return False

    def _begin_file(self, part: Part) -> None:
        if part.name != _FILE or self._file is not None:
            raise InvalidRequestError(
                f"{part.name}: got a file, expected one file in all, in the field {_FILE}",
                param=part.name,
                code="invalid_type",
            )
        self._file = part

    def _add(self, name: str) -> None:
        try:
            value = self._text.decode()
        except UnicodeDecodeError as error:
            raise InvalidRequestError(
                f"{name}: got text that is not UTF-8", param=name, code="invalid_value"
            ) from error
        if _plain(name) == RESERVED_FIELD:
            raise reserved_field()
        if self._pending is not None:
            self._check_late(name)
        self._pairs.append((name, value))
        if name in self.fields:
            self.fields[name] = [*_as_list(self.fields[name]), value]
        else:
            self.fields[name] = value

    def _check_late(self, name: str) -> None:
        # What came before the file was checked and acted upon: it may not change any more.
        if name in self.fields and name == _plain(name):
            raise InvalidRequestError(
                f"{name}: this field cannot come again after the file",
                param=name,
                code="invalid_value",
            )

    async def _encode(self, replace: dict[str, str]) -> AsyncIterator[bytes]:
        if self._file is None or self._sent:
            raise RuntimeError("an upload that streams can be sent once")
        self._sent = self._pending is not None
        head = len(self._pairs)
        pairs = [(name, replace.get(name, value)) for name, value in self._pairs]
        added = replace.keys() - {name for name, _ in pairs}
        pairs += [(name, value) for name, value in replace.items() if name in added]
        yield self._encode_texts(pairs) + encode_file_head(self._boundary, self._file)
        async for piece in self._spool.read() if self._pending is None else self._stream():
            yield piece
        late = [(name, value) for name, value in self._pairs[head:] if name not in replace]
        yield b"\r\n" + self._encode_texts(late) + b"--" + self._boundary + b"--\r\n"

    def _encode_texts(self, pairs: list[tuple[str, str]]) -> bytes:
        return b"".join(encode_text(self._boundary, name, value) for name, value in pairs)

    async def _stream(self) -> AsyncIterator[bytes]:
        events = self._pending or []
        try:
            while True:
                for event in events:
                    if self._take(event):
                        yield cast("bytes", event)
                if not self._more:
                    return
                events, self._more = await self._reader.read()
                if not self._more:
                    self.finished.set()
        finally:
            self.finished.set()


class _Spool:
    """A file that is in memory as long as it is small."""

    def __init__(self) -> None:
        self._memory = bytearray()
        self._file: BinaryIO | None = None

    async def write(self, data: bytes) -> None:
        self._memory += data
        if len(self._memory) > _MEMORY_BYTES:
            if self._file is None:
                # It has no name, or is deleted when it is closed, even by the end of the process.
                self._file = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115
            full, self._memory = self._memory, bytearray()
            await asyncio.to_thread(self._file.write, full)

    async def read(self) -> AsyncIterator[bytes]:
        """The content from its beginning."""
        if self._file is not None:
            self._file.seek(0)
            while piece := await asyncio.to_thread(self._file.read, _READ_BYTES):
                yield piece
        for start in range(0, len(self._memory), _READ_BYTES):
            yield bytes(self._memory[start : start + _READ_BYTES])

    def close(self) -> None:
        self._memory = bytearray()
        if self._file is not None:
            self._file.close()


def _plain(name: str) -> str:
    return name.removesuffix("[]")


def _as_list(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]
