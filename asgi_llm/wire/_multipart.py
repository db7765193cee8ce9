"""A form read part by part from ASGI messages, and the bytes to write one.

Source: RFC 7578 (multipart/form-data), RFC 2046 section 5.1.1 (boundaries).
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from starlette.types import Receive, Scope

from asgi_llm._asgi import check_length
from asgi_llm._optional import require
from asgi_llm.errors import InvalidRequestError, RequestTooLargeError

__all__ = ["ClientLeftError", "FormReader", "Part", "PartEnd", "encode_file_head", "encode_text"]

_MAX_CONTENT_TYPE_BYTES = 512
_MAX_HEADERS = 8
_MAX_HEADER_BYTES = 4096
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_NAME = re.compile(rb"[A-Za-z0-9_.\[\]-]{1,128}")
_MEDIA_TYPE = re.compile(rb"[A-Za-z0-9!#$&^_.+-]{1,64}/[A-Za-z0-9!#$&^_.+-]{1,64}")
_PATH_SEPARATOR = re.compile(r"[/\\]")
_MAX_FILE_NAME = 128
_KNOWN_HEADERS = frozenset((b"content-type", b"content-length", b"content-transfer-encoding"))


class ClientLeftError(Exception):
    """The client left before its body was whole."""


@dataclass(frozen=True, slots=True)
class Part:
    """The head of a part.

    Attributes:
        name: Of the field.
        file_name: As the client gave it, without any path and without what would end a header;
            None: this is a text.
        media_type: Of a file.
        head: Its headers as they came, one a line, without the names of those that most have, and
            without that of the field.
    """

    name: str
    file_name: bytes | None
    media_type: bytes
    head: str = ""


class PartEnd:
    """The end of a part."""


Event = Part | bytes | PartEnd
_PART_END = PartEnd()


class FormReader:
    """Reads a form as it arrives.

    Args:
        scope: Where the content type and the length are looked up.
        receive: Of the layer that reads.
        max_bytes: Cap on the whole body.
        max_parts: Cap on the number of parts.
        timeout_seconds: Cap on the time for the whole body; None is none.

    Raises:
        InvalidRequestError: The body is of another type (415), or its boundary is missing or bad.
        RequestTooLargeError: The announced length is over ``max_bytes``.
        ConfigurationError: The package's ``gateway`` extra is not installed.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        *,
        max_bytes: int,
        max_parts: int,
        timeout_seconds: float | None,
    ) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._max_parts = max_parts
        self._timeout_seconds = timeout_seconds
        self._deadline: float | None = None
        if timeout_seconds is not None:
            self._deadline = asyncio.get_running_loop().time() + timeout_seconds
        check_length(scope, max_bytes)
        self._multipart = require("python_multipart.multipart", extra="gateway")
        self._parser = self._multipart.MultipartParser(
            self._boundary(scope),
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )
        self._events: list[Event] = []
        self._size = 0
        self._parts = 0
        self._complete = False
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0
        self._field = b""
        self._value = b""

    async def read(self) -> tuple[list[Event], bool]:
        """What the next message of the body holds, and whether there are more.

        Raises:
            ClientLeftError: There is no more, and the body was not whole.
            InvalidRequestError: The form is malformed, or too slow (408).
            RequestTooLargeError: The body is over its cap.
        """
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError as error:
            raise InvalidRequestError(
                f"The body did not arrive within {self._timeout_seconds:g} seconds.",
                code="request_timeout",
                status=408,
            ) from error
        if message["type"] != "http.request":
            raise ClientLeftError
        data: bytes = message.get("body", b"")
        self._size += len(data)
        if self._size > self._max_bytes:
            raise self._too_large()
        try:
            if data and not self._complete:
                self._parser.write(data)
        except self._multipart.MultipartParseError as error:
            raise _malformed("a boundary or a header is not as it has to be") from error
        more: bool = message.get("more_body", False)
        if not more and not self._complete:
            raise _malformed("it ends before its last boundary")
        events, self._events = self._events, []
        return events, more

    def _boundary(self, scope: Scope) -> bytes:
        values = [value for name, value in scope["headers"] if name == b"content-type"]
        value = values[0] if len(values) == 1 else b""
        if len(value) > _MAX_CONTENT_TYPE_BYTES:
            raise _malformed("its content type is too long")
        kind, options = self._multipart.parse_options_header(value)
        if kind != b"multipart/form-data":
            raise InvalidRequestError(
                "The body has to be multipart/form-data, with the audio in the field file.",
                code="unsupported_media_type",
                status=415,
            )
        boundary: bytes = options.get(b"boundary", b"")
        if not _BOUNDARY.fullmatch(boundary):
            raise _malformed("its boundary is missing or has more than 70 characters or a bad one")
        return boundary

    def _too_large(self) -> RequestTooLargeError:
        return RequestTooLargeError(f"The body is larger than {self._max_bytes} bytes.")

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > self._max_parts:
            raise InvalidRequestError(
                f"The form has more than {self._max_parts} fields.", code="too_many_fields"
            )
        self._headers = {}
        self._header_bytes = 0

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._value += data[start:end]

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > _MAX_HEADER_BYTES or len(self._headers) >= _MAX_HEADERS:
            raise _malformed("a part has too many or too long headers")

    def _on_header_end(self) -> None:
        name = self._field.lower()
        if name in self._headers:
            raise _malformed("a part has the same header twice")
        self._headers[name] = self._value
        self._field = self._value = b""

    def _on_headers_finished(self) -> None:
        headers = self._headers
        kind, options = self._multipart.parse_options_header(headers.get(b"content-disposition"))
        name: bytes = options.get(b"name", b"")
        if kind != b"form-data" or not _NAME.fullmatch(name):
            raise _malformed("a part has no name, or one with odd characters")
        encoding = headers.get(b"content-transfer-encoding", b"binary").lower()
        if encoding not in (b"binary", b"8bit", b"7bit"):
            raise _malformed("a part has a transfer encoding")
        file_name: bytes | None = options.get(b"filename")
        if file_name is not None or name == b"file":
            file_name = _clean(file_name or b"")
        media_type = headers.get(b"content-type", b"").partition(b";")[0].strip()
        if not _MEDIA_TYPE.fullmatch(media_type):
            media_type = b"application/octet-stream"
        head = _unread(headers, name).decode("utf-8", "replace")
        self._events.append(Part(name.decode("ascii"), file_name, media_type, head))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(data[start:end])

    def _on_part_end(self) -> None:
        self._events.append(_PART_END)

    def _on_end(self) -> None:
        self._complete = True


def encode_text(boundary: bytes, name: str, value: str) -> bytes:
    """A text part, from its boundary line to its end."""
    return (
        b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n'
        % (boundary, name.encode("ascii"))
        + value.encode()
        + b"\r\n"
    )


def encode_file_head(boundary: bytes, part: Part) -> bytes:
    """What stands before a file's content."""
    return (
        b'--%b\r\nContent-Disposition: form-data; name="%b"; filename="%b"\r\n'
        b"Content-Type: %b\r\n\r\n"
        % (boundary, part.name.encode("ascii"), part.file_name or b"", part.media_type)
    )


def _unread(headers: dict[bytes, bytes], name: bytes) -> bytes:
    """What the head of the part ``name`` says besides that."""
    lines: list[bytes] = []
    for header, value in headers.items():
        if header == b"content-disposition":
            lines.append(value.removeprefix(b'form-data; name="%b"' % name))
        else:
            lines.append(value if header in _KNOWN_HEADERS else header + b": " + value)
    return b"\n".join(filter(None, lines))


def _clean(name: bytes) -> bytes:
    """The last segment of a file name, without what a path or a header could be made of."""
    text = _PATH_SEPARATOR.split(name.decode("utf-8", "replace"))[-1]
    text = "".join(c for c in text if c.isprintable() and c != '"')[-_MAX_FILE_NAME:]
    return text.encode() if text.strip(". ") else b"file"


def _malformed(cause: str) -> InvalidRequestError:
    return InvalidRequestError(f"The form cannot be read: {cause}.", code="invalid_form")
