"""What is known of Gemini models by their names; what is not known is taken for a new model.

Source: Gemini API, "Thinking", "Thought signatures", "Structured outputs", "Function calling";
November 2026.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Literal

import msgspec

__all__ = ["ModelTraits", "model_traits"]


class ModelTraits(msgspec.Struct, frozen=True, kw_only=True):
    """What a model can be told.

    Attributes:
        thinking: How it is told how much to think: by a ``level``, by a ``budget`` of tokens, or
            not at all.
        budgets: The smallest and the largest budget.
        can_rest: A budget of 0 turns thinking off.
        levels: The levels that it knows.
        has_json_schemas: It takes JSON Schemas as they are, not only a subset of OpenAPI's.
        wants_signatures: It refuses a call in the history that has no signature.
        sees_results: A function's response may hold images and documents.
    """

    thinking: Literal["level", "budget", "none"] = "level"
    budgets: tuple[int, int] = (1, 24_576)
    can_rest: bool = True
    levels: tuple[str, ...] = ("minimal", "low", "medium", "high")
    has_json_schemas: bool = True
    wants_signatures: bool = True
    sees_results: bool = True


_NEW: Final = ModelTraits()
_SECOND: Final = ModelTraits(thinking="none", wants_signatures=False, sees_results=False)
_FIRST: Final = msgspec.structs.replace(_SECOND, has_json_schemas=False)
_FLASH: Final = ModelTraits(thinking="budget", wants_signatures=False, sees_results=False)

_KNOWN: Final[tuple[tuple[re.Pattern[str], ModelTraits], ...]] = (
    (re.compile(r"gemini-1|gemma-[123]"), _FIRST),
    (re.compile(r"gemini-2\.0|gemini-2\.5-.*(image|tts)"), _SECOND),
    (
        re.compile(r"gemini-2\.5-pro"),
        msgspec.structs.replace(_FLASH, budgets=(128, 32_768), can_rest=False),
    ),
    (
        re.compile(r"gemini-2\.5-flash-lite"),
        msgspec.structs.replace(_FLASH, budgets=(512, 24_576)),
    ),
    (re.compile(r"gemini-2\.5|gemini-robotics-er-1"), _FLASH),
    (re.compile(r"gemini-3-pro"), ModelTraits(levels=("low", "high"))),
    (re.compile(r"gemini-[0-9.]+-pro"), ModelTraits(levels=("low", "medium", "high"))),
)


@lru_cache(maxsize=256)
def model_traits(model: str) -> ModelTraits:
    """The traits of the model that the API calls ``model``."""
    name = model.removeprefix("models/")
    for pattern, traits in _KNOWN:
        if pattern.match(name):
            return traits
    return _NEW
