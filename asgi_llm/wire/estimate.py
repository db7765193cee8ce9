"""A guess at usage, for where a provider did not come to report it. Never free of error."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from asgi_llm.types import Document, Usage

__all__ = ["estimate_usage"]

_CHARACTERS_A_TOKEN: Final = 4
"""OpenAI's rule of thumb for English; other scripts have more tokens."""

_MEDIA_TOKENS: Final = 1000
"""For an image, a file or a sound, whose base64 says nothing of its tokens."""

_MEDIA_CHARACTERS: Final = _MEDIA_TOKENS * _CHARACTERS_A_TOKEN


def estimate_usage(
    document: Document, output_characters: int, reported: Usage | None = None
) -> Usage:
    """Usage guessed from the length of what was asked and answered, flagged as an estimate.

    Args:
        document: The request.
        output_characters: Length of the answer, as far as it came.
        reported: What the provider had said by then: its input counts, and its output as a floor.
    """
    output = _tokens(output_characters)
    if reported is not None:
        unsaid = max(0, output - reported.output_tokens)
        return msgspec.structs.replace(
            reported, output_text=reported.output_text + unsaid, estimated=True
        )
    asked = [document.get(name) for name in ("messages", "tools", "functions", "prompt", "input")]
    return Usage(
        input_uncached=_tokens(_characters(asked)),
        output_text=output,
        estimated=True,
    )


def _tokens(characters: int) -> int:
    return -(-characters // _CHARACTERS_A_TOKEN)


def _characters(value: Any) -> int:
    total = 0
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            total += _MEDIA_CHARACTERS if one.startswith("data:") else len(one)
        elif isinstance(one, dict):
            if "input_audio" in one or "file" in one:
                total += _MEDIA_CHARACTERS
            else:
                left += one.values()
        elif isinstance(one, list):
            left += one
        elif isinstance(one, int) and not isinstance(one, bool):
            total += _CHARACTERS_A_TOKEN
    return total
