"""What the chunks of a stream have in common, so that they need not be read one by one."""

from __future__ import annotations

from collections.abc import Sequence

from asgi_llm.middleware._guard_pieces import read_simple_chunk

__all__ = ["Frame", "read_frame"]


class Frame:
    """What chunks have around a content that grows in nearly all of them.

    Args:
        head: What stands before the content.
        tail: What stands behind it.

    Attributes:
        head: As given.
        tail: As given.
        length: Of both.
    """

    __slots__ = ("head", "length", "tail")

    def __init__(self, head: bytes, tail: bytes) -> None:
        self.head = head
        self.tail = tail
        self.length = len(head) + len(tail)

    def room(self, chunk: bytes) -> int:
        """How many bytes of a chunk are content; 0: none, or it is not in this frame."""
        if type(chunk) is bytes and chunk.startswith(self.head) and chunk.endswith(self.tail):
            return len(chunk) - self.length
        return 0

    def content(self, chunks: Sequence[bytes]) -> str | None:
        """What plain chunks in this frame say together; None: one of them may say more."""
        start, end = len(self.head), -len(self.tail)
        data = b"".join([chunk[start:end] for chunk in chunks])
        if not data.isascii():
            return None
        text = data.decode("ascii")
        return text if text.isprintable() and '"' not in text and "\\" not in text else None


def read_frame(chunk: bytes, index: int, text: str) -> Frame | None:
    """The frame of a simple chunk, which says ``text``; None: it cannot be told."""
    start = chunk.find(b'"', chunk.find(b'"content"') + len(b'"content"')) + 1
    end = chunk.find(b'"', start)
    head, tail = chunk[:start], chunk[end:]
    # With another content, that alone is another.
    other = f"x{text}"
    if not (other.isascii() and other.isprintable() and chunk[start:end] == text.encode()):
        return None
    if read_simple_chunk(head + other.encode() + tail) != (index, other):
        return None
    return Frame(head, tail)
