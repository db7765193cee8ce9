"""Where the events of a recorded stream begin and end, whatever its framing."""

from __future__ import annotations

import re
import struct

_SSE = re.compile(rb"(?:\r\n|\r|\n){2,}")


def events(provider: str, body: bytes) -> list[bytes]:
    """The events of a stream with their borders; together they are ``body``."""
    if provider == "bedrock":
        return _frames(body)
    if provider == "ollama":
        return body.splitlines(keepends=True)
    if body.lstrip()[:1] == b"[":
        return _elements(body)
    found, start = [], 0
    for border in _SSE.finditer(body):
        found.append(body[start : border.end()])
        start = border.end()
    return [*found, body[start:]] if start < len(body) else found


def _frames(body: bytes) -> list[bytes]:
    found, start = [], 0
    while start < len(body):
        (size,) = struct.unpack_from(">I", body, start)
        found.append(body[start : start + size])
        start += size
    return found


def _elements(body: bytes) -> list[bytes]:
    """The elements of a JSON array, each with what stands before it; the last ends it."""
    found, start, depth, in_string, escaped = [], 0, 0, False, False
    for place, byte in enumerate(body):
        char = chr(byte)
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in "[{":
            depth += 1
        elif char in "]}":
            depth -= 1
            if char == "}" and depth == 1:
                found.append(body[start : place + 1])
                start = place + 1
    found[-1] += body[start:]
    return found
