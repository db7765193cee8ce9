"""What Claude's older models lack, read from the version in their names.

A name without a version that is known here is taken for a new model, so that nothing has to be
learned of one before it can be used. A name that is not Claude's at all, as other servers of the
Messages API have them, is taken for a model that has everything.

Source: Anthropic, "Models overview", "Adaptive thinking", "Effort", "Structured outputs" and
"Migration guide"; November 2026.
"""

from __future__ import annotations

import functools
import re
from typing import Final

import msgspec

__all__ = ["ModelTraits", "model_traits"]

# claude-3-5-sonnet-20241022, claude-2.1, claude-opus-4-1-20250805, claude-4-opus-20250514,
# claude-sonnet-4@20250514, and any of them behind the prefix of a region or a vendor.
_VERSION: Final = re.compile(
    r"claude-(?:(?P<line>opus|sonnet|haiku)-)?v?(?P<major>\d{1,2})(?!\d)"
    r"(?:[.-](?P<minor>\d{1,2})(?!\d))?"
)
_NEWEST: Final = (99, 0)
# From here on nothing is known, so that nothing is taken from what the client says.
_UNKNOWN: Final = (6, 0)
_CAPS: Final = (((3, 7), 32_000), ((3, 5), 8192), ((0, 0), 4096))


class ModelTraits(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one model takes.

    Attributes:
        default_max_tokens: Cap on an answer whose client sets none.
        most_tokens: The highest cap that it takes, as far as a thinking budget may raise one.
        thinks: It can think before it answers.
        thinks_adaptively: It is told an effort; others are told a budget.
        has_xhigh: It has the effort between ``high`` and ``max``.
        has_schemas: It can be held to a JSON Schema, in answers and in calls.
        samplers: How many of ``temperature`` and ``top_p`` it takes at once; those that take none
            take no ``top_k`` either.
    """

    default_max_tokens: int
    most_tokens: int
    thinks: bool
    thinks_adaptively: bool
    has_xhigh: bool
    has_schemas: bool
    samplers: int


@functools.lru_cache(maxsize=256)
def model_traits(model: str) -> ModelTraits:
    """What the model with this name takes."""
    found = _VERSION.search(model)
    version = _NEWEST
    if found is not None:
        version = int(found["major"]), int(found["minor"] or 0)
    elif "claude-instant" in model:
        version = 1, 0
    samplers = 2
    if (4, 0) < version < _UNKNOWN:
        samplers = 1 if version <= (4, 6) else 0
    small = found is not None and found["line"] == "opus" and version <= (4, 1)
    return ModelTraits(
        default_max_tokens=next(cap for since, cap in _CAPS if version >= since),
        most_tokens=32_000 if small else 64_000,
        thinks=version >= (3, 7),
        thinks_adaptively=version >= (4, 6),
        has_xhigh=version >= (4, 7),
        has_schemas=version >= (4, 5),
        samplers=samplers,
    )
