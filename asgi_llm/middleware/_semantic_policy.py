"""Whether a stored answer that is near enough, and that no guard refuses, may be served.

Pure, and without any I/O: a policy decides from the similarity and from what was learned of the
entry, and gives back what is to be kept of it.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol

import msgspec

from asgi_llm.errors import ConfigurationError

__all__ = ["DecisionPolicy", "Evidence", "Experience", "ThresholdPolicy", "Verdict"]

Verdict = Literal["serve", "explore", "skip"]
"""``serve`` the stored answer; ``explore``: ask the model, and learn from comparing the answers;
``skip``: this entry is no candidate."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is known of a candidate before any answer is compared."""

    similarity: float
    """Cosine of the two texts."""
    wording: bytes = b""
    """A digest of what the new text says, of eight bytes; empty where it is not known."""
    same_wording: bool = False
    """Whether the entry's own text has that digest, too."""


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

    def decide(self, evidence: Evidence, state: bytes) -> Verdict:
        """What to do with a candidate.

        Args:
            evidence: Of the candidate.
            state: What was learned of the entry; empty at first. What cannot be read counts as
                nothing learned.
        """
        ...

    def learn(self, evidence: Evidence, correct: bool, state: bytes) -> bytes:
        """The entry's state with one observation more."""
        ...

    def generalize(self, evidence: Evidence, correct: bool, state: bytes) -> None:
        """Let other entries profit from an observation; called once for each that is kept.

        Args:
            evidence: As it was decided on.
            correct: Whether the stored answer was right.
            state: Of the entry, before it learned that.
        """
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

    def decide(self, evidence: Evidence, state: bytes) -> Verdict:
        """Serve what reaches the threshold."""
        return "serve" if evidence.similarity >= self.min_similarity else "skip"

    def learn(self, evidence: Evidence, correct: bool, state: bytes) -> bytes:
        """Nothing is learned."""
        return state

    def generalize(self, evidence: Evidence, correct: bool, state: bytes) -> None:
        """Nothing is learned."""

    def experience(self, state: bytes) -> Experience:
        """There is none."""
        return _NO_EXPERIENCE
