"""Records of what a semantic cache would have done, for measuring before it does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from asgi_llm.errors import ConfigurationError

__all__ = ["ShadowFile", "ShadowRecord", "ShadowSink"]


class ShadowRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One candidate that was found for one request."""

    time: float
    """Unix time in seconds."""
    request_id: str
    entry_id: str
    """Of the stored answer."""
    model: str
    similarity: float
    guard: str | None = None
    """Which guard refused it; None: none did."""
    served: bool = False
    """Whether the policy would have served it."""
    same: bool | None = None
    """Whether the model's new answer said the same as the stored one; None: not compared."""
    new_text: str | None = None
    """The request's text, and the one that the stored answer was given to, by option only."""
    old_text: str | None = None


ShadowSink = Callable[[ShadowRecord], None]

_encode = msgspec.json.Encoder().encode


class ShadowFile:
    """Appends each record to a file as a line of JSON.

    Args:
        path: A file in a folder that exists; made where it is not there, readable for the
            process's user alone.
        max_bytes: Above 0. A file that has grown to this gets no further records.

    Raises:
        ConfigurationError: An option is wrong, or the file cannot be opened.
    """

    def __init__(self, path: str | Path, *, max_bytes: int = 256 * 1024 * 1024) -> None:
        if max_bytes <= 0:
            raise ConfigurationError(
                f"max_bytes must be above 0, not {max_bytes!r}", param="max_bytes"
            )
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}", param="path") from error
        self._left = max_bytes - os.fstat(self._file).st_size

    def __call__(self, record: ShadowRecord) -> None:
        """Append ``record``, in one write, so that several processes may share a file."""
        line = _encode(record) + b"\n"
        if len(line) <= self._left:
            self._left -= os.write(self._file, line)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
