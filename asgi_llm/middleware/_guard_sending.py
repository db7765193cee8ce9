"""What the answers of guarded apps are sent with, and what tells an app that it was refused."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final, cast

from starlette.types import Message

from asgi_llm.errors import RawHeaders

__all__ = ["NOTHING", "Refused", "holds_text", "is_refusal", "with_length"]


_TEXT_MEDIA: Final = (
    b"json", b"xml", b"yaml", b"csv", b"javascript", b"ecmascript", b"subrip", b"markdown", b"rtf",
    b"urlencoded",
)  # fmt: skip
# An iterator that has ended stays so.
_ENDED: Final = cast("Generator[Any, Any, None]", iter(()))


class _Nothing:
    """What there is to wait for where nothing is to be sent."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        return _ENDED


NOTHING: Final = _Nothing()


class Refused(OSError):
    """Raised out of ``send``, as where the client has left, to stop an app that was refused."""


def holds_text(media: bytes) -> bool:
    """Whether what is of this type, in small letters, may hold text."""
    return not media or media.startswith(b"text/") or any(word in media for word in _TEXT_MEDIA)


def with_length(start: Message, length: int | None) -> Message:
    """The start of an answer that is so long; None: nobody knows."""
    headers: RawHeaders = [
        pair for pair in start["headers"] if bytes(pair[0]).lower() != b"content-length"
    ]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    return {**start, "headers": headers}


def is_refusal(error: BaseException | None) -> bool:
    """Whether ``error`` is what a host made of our ``Refused``."""
    while error is not None:
        if isinstance(error, Refused):
            return True
        if isinstance(error, BaseExceptionGroup):
            return all(is_refusal(one) for one in error.exceptions)
        error = error.__cause__ or error.__context__
    return False
