"""Records of what a semantic cache would have done, for measuring before it does."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

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

logger = logging.getLogger(__name__)

_LOG_EVERY_SECONDS: Final = 1.0
_encode = msgspec.json.Encoder().encode


class ShadowFile:
    """Appends each record to a file as a line of JSON.

    One that cannot be written, to a full disk for example, is lost, and the log says so, once a
    second at most.

    Args:
        path: A file in a folder that exists; made where it is not there, readable for the
            process's user alone.
        max_bytes: Above 0. A file that has grown to this gets no further records.
        clock: Seconds, monotonic.

    Raises:
        ConfigurationError: An option is wrong, or the file cannot be opened.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        max_bytes: int = 256 * 1024 * 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_bytes <= 0:
            raise ConfigurationError(
                f"max_bytes must be above 0, not {max_bytes!r}", param="max_bytes"
            )
        try:
            self._file: int | None = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}", param="path") from error
        self._path = path
        self._left = max_bytes - os.fstat(self._file).st_size
        self._clock = clock
        self._next_log = -math.inf

    def __call__(self, record: ShadowRecord) -> None:
        """Append ``record``, in one write, so that several processes may share a file.

        Does nothing once the file is closed: a request may outlive it.
        """
        if self._file is None:
            return
        line = _encode(record) + b"\n"
        if len(line) > self._left:
            return
        try:
            self._left -= os.write(self._file, line)
        except OSError as error:
            now = self._clock()
            if now >= self._next_log:
                self._next_log = now + _LOG_EVERY_SECONDS
                logger.warning("no shadow record could be written to %s: %s", self._path, error)

    def close(self) -> None:
        """Close the file. Idempotent."""
        # Its number may be another file's, or a client's connection, right after.
        file, self._file = self._file, None
        if file is not None:
            os.close(file)
