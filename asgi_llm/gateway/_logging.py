"""The log of the process that serves: standard error, one format for every logger."""

from __future__ import annotations

import logging
import sys
import time
from typing import Literal

from asgi_llm import _json
from asgi_llm._traceback import describe
from asgi_llm.gateway import access_log
from asgi_llm.gateway.compose import BrokenResponse

__all__ = ["LogFormat", "log_to_stderr"]

LogFormat = Literal["console", "json"]


def log_to_stderr(format: LogFormat, level: str) -> None:
    """Send the package's log, warnings of other packages, and access lines to standard error.

    Called again it replaces what it set up before, as worker processes do.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JSONLines() if format == "json" else _ConsoleLines())
    handler.addFilter(_is_news)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("asgi_llm").setLevel(level.upper())
    logging.getLogger(access_log.LOGGER_NAME).handlers = []
    access_log.write_to(sys.stderr)


def _is_news(record: logging.LogRecord) -> bool:
    """False for a server's report of what the gateway has logged itself, in better words."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, BrokenResponse)


class _Lines(logging.Formatter):
    """Parts that both formats share. An exception is told without its text, which may quote."""

    def parts(self, record: logging.LogRecord) -> tuple[str, str]:
        """The time, and the message."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        message = record.getMessage().strip()
        if record.exc_info and record.exc_info[1] is not None:
            message = f"{message}\n{describe(record.exc_info[1])}"
        return f"{moment}.{int(record.msecs):03d}Z", message


class _ConsoleLines(_Lines):
    def format(self, record: logging.LogRecord) -> str:
        moment, message = self.parts(record)
        return f"{moment} {record.levelname.lower():<8} {message}"


class _JSONLines(_Lines):
    def format(self, record: logging.LogRecord) -> str:
        moment, message = self.parts(record)
        line = {
            "timestamp": moment,
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": message,
        }
        return _json.encode(line).decode()
