"""Words between two others in a sign."""

from __future__ import annotations

from typing import Final

__all__ = ["gap"]

_W: Final = r"[^\s.!?;]+"


def gap(most: int) -> str:
    """At most so many words between two others."""
    return rf"\s+(?:{_W}\s+){{0,{most}}}?"
