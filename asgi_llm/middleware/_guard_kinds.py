"""What the events of a stream and their fields are called, and what that says of them."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["GROWS", "comes_whole", "ends_text", "is_of_sound", "is_sound"]

GROWS: Final = frozenset(
    (
        "content", "text", "refusal", "reasoning", "reasoning_content", "thinking", "arguments",
        "input", "partial_json", "transcript", "summary",
    )
)  # fmt: skip
"""Fields of an event that hold the next piece of a text."""

_LAST_OF_TEXT: Final = (".done", ".completed", ".incomplete", ".failed", "_stop")
_WELL_KNOWN: Final = (
    "response.", "transcript.", "speech.", "image_", "thread.", "message_", "content_block_",
)  # fmt: skip


def ends_text(kind: str) -> bool:
    """Whether an event of this kind is the last one of a text, or of all."""
    return kind.endswith(_LAST_OF_TEXT)


def comes_whole(kind: str) -> bool:
    """Whether nothing grows in events of this kind but their ``delta``."""
    return kind.startswith(_WELL_KNOWN)


def is_sound(key: tuple[Any, ...]) -> bool:
    """Whether a field ``data`` or ``delta`` is one that holds a sound.

    Args:
        key: Of a text in a stream: its choice, or its kind of event, and what leads to it there.
    """
    if key[-1] == "data" and key[-2] == "audio":
        return True
    return type(key[0]) is str and is_of_sound(key[0])


def is_of_sound(kind: str) -> bool:
    """Whether events of this kind are about a sound, and not about what is said in it."""
    return "audio" in kind and "transcript" not in kind
