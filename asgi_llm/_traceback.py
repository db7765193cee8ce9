"""Where an exception came from, in words that may be logged."""

from __future__ import annotations

import traceback

from asgi_llm.errors import ConfigurationError

__all__ = ["describe"]

_MAX_LINKS = 16
_MAX_FRAMES = 32


def describe(error: BaseException) -> str:
    """The traceback of ``error`` and of what caused it, without the exceptions' messages.

    A message may quote what a client sent (``KeyError`` and ``ValueError`` often do), and prompt
    text does not belong in a log. Kept are types, frames, source lines, the operating system's own
    words, and the text of a ``ConfigurationError``, which speaks of the operator's settings.
    """
    parts: list[str] = []
    _describe(error, parts, set())
    return "".join(parts)


def _describe(error: BaseException, parts: list[str], seen: set[int]) -> bool:
    """Add ``error`` to ``parts``; False: it is there already, or there are too many."""
    if id(error) in seen or len(seen) >= _MAX_LINKS:
        return False
    seen.add(id(error))
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if earlier is not None and _describe(earlier, parts, seen):
        parts.append("which led to:\n")
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            _describe(one, parts, seen)
        parts.append("which were grouped in:\n")
    frames = traceback.StackSummary.extract(
        traceback.walk_tb(error.__traceback__), limit=-_MAX_FRAMES
    )
    parts.extend(frames.format())
    parts.append(f"{_name(error)}{_words(error)}\n")
    return True


def _name(error: BaseException) -> str:
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def _words(error: BaseException) -> str:
    if isinstance(error, ConfigurationError):
        return f": {error.message}"
    if isinstance(error, OSError) and error.strerror:
        return f": {error.strerror}"
    return ""
