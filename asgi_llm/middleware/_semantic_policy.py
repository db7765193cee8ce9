"""Whether a stored answer that is near enough, and that no guard refuses, may be served.

Pure, and without any I/O: a policy decides from the similarity and from what was learned of the
entry, and gives back what is to be kept of it.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol

import msgspec

from asgi_llm.errors import ConfigurationError

__all__ = ["DecisionPolicy", "Experience", "ThresholdPolicy", "Verdict"]

Verdict = Literal["serve", "explore", "skip"]
"""``serve`` the stored answer; ``explore``: ask the model, and learn from comparing the answers;
``skip``: this entry is no candidate."""


class Experience(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was learned of one entry, for people to look at."""

    observations: int
    """How often its answer was compared with a new one."""
    correct: int
    """How often the two said the same."""
    boundary: float | None
    """The least similarity at which its answer is served without asking; None: at none so far."""


class DecisionPolicy(Protocol):
    """Decides on candidates, and learns. Deterministic but for its source of chance."""

    @property
    def min_similarity(self) -> float:
        """What is less similar is never a candidate."""
        ...

    @property
    def learns(self) -> bool:
        """Whether ``learn`` is of any use."""
        ...

    def decide(self, similarity: float, state: bytes) -> Verdict:
        """What to do with a candidate.

        Args:
            similarity: Cosine of the two texts.
            state: What was learned of the entry; empty at first. What cannot be read counts as
                nothing learned.
        """
        ...

    def learn(self, similarity: float, correct: bool, state: bytes) -> bytes:
        """The entry's state with one observation more."""
        ...

    def generalize(self, state: bytes) -> None:
        """Let other entries profit from what one has learned; called with each state kept."""
        ...

    def experience(self, state: bytes) -> Experience:
        """What was learned of an entry."""
        ...


_NO_EXPERIENCE: Final = Experience(observations=0, correct=0, boundary=None)


class ThresholdPolicy:
    """One figure for all: what is at least so similar is served.

    Args:
        threshold: From 0 to 1.

    Raises:
        ConfigurationError: It is out of range.
    """

    learns = False

    def __init__(self, threshold: float) -> None:
        if not 0 <= threshold <= 1:
            raise ConfigurationError(
                f"threshold must be from 0 to 1, not {threshold!r}", param="threshold"
            )
        self.min_similarity: Final = threshold

    def decide(self, similarity: float, state: bytes) -> Verdict:
        """Serve what reaches the threshold."""
        return "serve" if similarity >= self.min_similarity else "skip"

    def learn(self, similarity: float, correct: bool, state: bytes) -> bytes:
        """Nothing is learned."""
        return state

    def generalize(self, state: bytes) -> None:
        """Nothing is learned."""

    def experience(self, state: bytes) -> Experience:
        """There is none."""
        return _NO_EXPERIENCE
