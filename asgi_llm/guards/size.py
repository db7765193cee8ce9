"""Caps on the length of a text, in characters and in tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from asgi_llm.errors import ConfigurationError
from asgi_llm.guards.base import Finding, GuardContext, GuardCost

__all__ = ["LengthGuard", "estimated_tokens"]

_BYTES_A_TOKEN: Final = 4


def estimated_tokens(text: str) -> int:
    """A token for every four bytes, rounded up: an estimate for any model."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return -(-size // _BYTES_A_TOKEN)


class LengthGuard:
    """Finds texts that are too long; what stands behind the cap is the finding.

    Over a cap on tokens the finding is about the whole text.

    Args:
        max_characters: At least 1; None: no cap.
        max_tokens: At least 1; None: no cap.
        count_tokens: Counts them. Has to be quick: it runs on the event loop.
        name: Names it in verdicts.

    Raises:
        ConfigurationError: There is no cap, or one is below 1.
    """

    cost: ClassVar[GuardCost] = "inline"
    window: ClassVar[int | None] = None

    def __init__(
        self,
        *,
        max_characters: int | None = None,
        max_tokens: int | None = None,
        count_tokens: Callable[[str], int] = estimated_tokens,
        name: str = "length",
    ) -> None:
        if max_characters is None and max_tokens is None:
            raise ConfigurationError("give max_characters or max_tokens", param="max_characters")
        for option, value in (("max_characters", max_characters), ("max_tokens", max_tokens)):
            if value is not None and value < 1:
                raise ConfigurationError(f"{option} must be at least 1", param=option)
        self.name = name
        self._characters = max_characters
        self._tokens = max_tokens
        self._count = count_tokens

    def check(self, text: str, context: GuardContext) -> Sequence[Finding]:
        """What of ``text`` is over a cap."""
        if self._characters is not None and len(text) > self._characters:
            return (
                Finding(
                    start=self._characters,
                    end=len(text),
                    category="length.characters",
                    reason=f"more than {self._characters} characters",
                ),
            )
        if self._tokens is not None and self._count(text) > self._tokens:
            return (
                Finding(
                    start=0,
                    end=0,
                    category="length.tokens",
                    reason=f"more than {self._tokens} tokens",
                ),
            )
        return ()
