"""Texts as the bytes that are looked at, where these are plain ASCII."""

from __future__ import annotations

__all__ = ["ascii_of", "is_ascii", "join_two"]


def ascii_of(text: str, most: int) -> bytes | None:
    """The bytes of a text; None: it has more than ``most``, or is not ASCII."""
    return text.encode() if len(text) <= most and text.isascii() else None


def join_two(first: str, last: str, near: int, most: int) -> bytes | None:
    """Two texts, and between them what stands across their border, each in lines of its own.

    Args:
        first: The first one. The result begins with it.
        last: The last one. The result ends with it.
        near: Characters on each side of the border at least. What is longer has no spaces.
        most: Characters of the result at the most.

    Returns:
        The bytes; None: there are more, or they are not ASCII.
    """
    start, end = last, first
    if len(last) > near and (place := last.find(" ", near)) > 0:
        start = last[:place]
    if len(first) > near:
        end = first[max(0, first.rfind(" ", 0, -near)) :]
    return ascii_of(f"{first}\n{end}{start}\n{last}", most)


def is_ascii(data: bytes) -> bool:
    """Whether all of a text is ASCII."""
    return data.isascii()
