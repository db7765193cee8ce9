"""The policy that learns for each entry how far its answer carries, under a stated error rate.

Two things are learned of an entry. For a wording that its answer was compared under before: how
often the two answers said the same. For all others: how far the answer carries, as a curve over
similarity. A wording is asked about once, as a rule, and then served however it is dressed up.

The stored answer is served outright where even a pessimistic reading is within the error rate.
Elsewhere the request goes to the model, but for so small a share of requests that the error rate
holds all the same. None of that is believed before it is shown: a part of what would be served is
asked about nevertheless, and until a sample proves that the rate holds nothing is served.

Source: vCache, arXiv 2502.03771 (2025): a boundary for each entry, learned on line, and the
probability of exploring that keeps the bound (its equation for tau). There the curve is fitted by
maximum likelihood with a confidence region; weights over a family of curves need no fit, have no
degenerate case where all observations agree, and take the same few microseconds at any size. The
wordings, and the proof, are not of that paper.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from asgi_llm.errors import ConfigurationError
from asgi_llm.middleware._semantic_audit import Audit
from asgi_llm.middleware._semantic_curves import CURVES, SIMILARITY_STEPS, CurvePrior
from asgi_llm.middleware._semantic_policy import Evidence, Experience, Verdict
from asgi_llm.middleware._semantic_wording import WORDING_BYTES

__all__ = ["VerifiedPolicy"]

_FORMAT: Final = 2
_HEAD: Final = struct.Struct("<BII")
_WORDINGS_AT: Final = _HEAD.size + CURVES.size
_WORDING: Final = struct.Struct(f"<{WORDING_BYTES}sHH")
_MOST_WORDINGS: Final = 32
_MOST_COUNTED: Final = 0xFFFF


class _Known(NamedTuple):
    """What is known of one wording, at one entry."""

    right: int
    wrong: int


class VerifiedPolicy:
    """Serves an entry's answer where it was found to carry, and finds out where that is.

    Of the requests that have a candidate at most ``max_error_rate`` get a stored answer that a
    comparison would have called wrong.

    Args:
        max_error_rate: Above 0 and below 0.5.
        confidence: From 0.5 to below 1: how sure the bound is to hold.
        min_similarity: From 0 to 1; what is less similar is not explored either.
        chance: Gives numbers from 0 to below 1.

    Raises:
        ConfigurationError: An option is out of range.
    """

    learns = True

    def __init__(
        self,
        *,
        max_error_rate: float = 0.01,
        confidence: float = 0.95,
        min_similarity: float = 0.7,
        chance: Callable[[], float] = random.random,
    ) -> None:
        if not 0 < max_error_rate < 0.5:
            raise ConfigurationError(
                f"max_error_rate must be above 0 and below 0.5, not {max_error_rate!r}",
                param="max_error_rate",
            )
        if not 0.5 <= confidence < 1:
            raise ConfigurationError(
                f"confidence must be from 0.5 to below 1, not {confidence!r}", param="confidence"
            )
        if not 0 <= min_similarity <= 1:
            raise ConfigurationError(
                f"min_similarity must be from 0 to 1, not {min_similarity!r}",
                param="min_similarity",
            )
        doubt = 1 - confidence
        self.min_similarity: Final = min_similarity
        # Half of the rate is spent: nobody could prove that one right at the bound holds.
        self._wanted = 1 - max_error_rate / 2
        # As many of those that would be served are asked about as may be wrong.
        self._least = max_error_rate
        self._chance = chance
        self._curves = CurvePrior(doubt)
        self._repeats = _Repeats(doubt)
        self.audit: Final = Audit(max_error_rate, doubt)
        """Of candidates: whether a wrong answer is served, by what is asked about instead."""

    def decide(self, evidence: Evidence, state: bytes) -> Verdict:
        """Serve, explore or skip."""
        if evidence.similarity < self.min_similarity:
            return "skip"
        known = _known(evidence, state)
        if known.wrong > known.right:
            return "skip"
        if not evidence.same_wording:
            self._repeats.note_use(known.right > 0)
        if not self.audit.proven:
            return "explore"
        return "explore" if self._chance() < self._exploring(evidence, known, state) else "serve"

    def exploring(self, evidence: Evidence, state: bytes) -> float:
        """With which probability a candidate is explored rather than served.

        Once it is shown that the error rate holds; before that all are explored.
        """
        return self._exploring(evidence, _known(evidence, state), state)

    def learn(self, evidence: Evidence, correct: bool, state: bytes) -> bytes:
        """The entry's state with one observation more."""
        _, observations, correct_before = _head(state)
        curves, wordings = _curves(state), _wordings(state)
        at = _find(evidence.wording, wordings)
        right = wrong = 0
        if at >= 0:
            _, right, wrong = _WORDING.unpack_from(wordings, at)
            wordings = wordings[:at] + wordings[at + _WORDING.size :]
        elif not evidence.same_wording:
            curves = self._curves.learn(evidence.similarity, correct, curves)
        if evidence.wording:
            if max(right, wrong) == _MOST_COUNTED:
                right, wrong = right // 2, wrong // 2
            kept = _WORDING.pack(evidence.wording, right + correct, wrong + (not correct))
            # The latest stand last, and what was not asked about for longest goes.
            wordings = (wordings + kept)[-_MOST_WORDINGS * _WORDING.size :]
        head = _HEAD.pack(_FORMAT, observations + 1, correct_before + correct)
        return head + (curves or CURVES.pack(*(1.0,) * (CURVES.size // 4))) + wordings

    def generalize(self, evidence: Evidence, correct: bool, state: bytes) -> None:
        """Let other entries profit: where weights begin, and what a repeat is worth."""
        known = _known(evidence, state)
        explored = self._exploring(evidence, known, state)
        # A sample in which every candidate is as likely as any other.
        if not self.audit.proven or self._chance() * explored < self._least:
            wrong = not correct and self._chance() >= explored
            self.audit.note(wrong)
        if known.right:
            self._repeats.note(known, correct)
        else:
            self._curves.generalize(
                self._curves.learn(evidence.similarity, correct, _curves(state))
            )

    def experience(self, state: bytes) -> Experience:
        """What was learned of an entry."""
        _, observations, correct = _head(state)
        curves = _curves(state)
        boundary = next(
            (
                step / SIMILARITY_STEPS
                for step in range(
                    -int(-self.min_similarity * SIMILARITY_STEPS // 1), SIMILARITY_STEPS + 1
                )
                if self._curves.pessimistic(step / SIMILARITY_STEPS, curves) >= self._wanted
            ),
            None,
        )
        return Experience(observations=observations, correct=correct, boundary=boundary)

    def _exploring(self, evidence: Evidence, known: _Known, state: bytes) -> float:
        if known.right:
            return max(self._least, self._needed(self._repeats.pessimistic(known)))
        right = self._curves.pessimistic(evidence.similarity, _curves(state))
        # What is found out is of use as often as the wording is asked again.
        return max(self._least, self._needed(right), self._repeats.share)

    def _needed(self, right: float) -> float:
        """How much has to be explored of what is right so often."""
        return 0.0 if right >= self._wanted else (self._wanted - right) / (1 - right)


_DOUBTS: Final = (0.001, 0.003, 0.006, 0.012, 0.025, 0.05, 0.1, 0.3, 1.0, 3.0)
_MEMORY: Final = 0.999
_USES: Final = 1 / 500


class _Repeats:
    """What it is worth that an answer was right under a wording before.

    Of a wording under which it was right *r* times and wrong *w* times, it is right next with the
    probability r / (r + w + d). How large the doubt d is depends on the model's whims and on the
    comparison: it is learned from all wordings, as weights over a few values.

    Args:
        doubt: As of ``CurvePrior``.
    """

    def __init__(self, doubt: float) -> None:
        self._doubt = doubt
        self._weights = [1 / len(_DOUBTS)] * len(_DOUBTS)
        self._reach()
        self.share = 0.5
        """Of the wordings that are not an entry's own: those that were asked about before."""

    def pessimistic(self, known: _Known) -> float:
        """The chance of a right answer that is exceeded as surely as was asked for."""
        return known.right / (known.right + known.wrong + self._pessimistic)

    def note(self, known: _Known, correct: bool) -> None:
        """A wording was asked about again."""
        total = known.right + known.wrong
        weights = [
            weight**_MEMORY * (known.right if correct else known.wrong + doubt) / (total + doubt)
            for weight, doubt in zip(self._weights, _DOUBTS, strict=True)
        ]
        whole = sum(weights)
        self._weights = [max(weight / whole, 1e-9) for weight in weights]
        self._reach()

    def note_use(self, known: bool) -> None:
        """A wording that is not an entry's own was met."""
        self.share += (known - self.share) * _USES

    def _reach(self) -> None:
        left = self._doubt * sum(self._weights)
        for weight, doubt in zip(reversed(self._weights), reversed(_DOUBTS), strict=True):
            left -= weight
            self._pessimistic = doubt
            if left <= 0:
                return


def _head(state: bytes) -> tuple[int, int, int]:
    if len(state) < _WORDINGS_AT or state[0] != _FORMAT:
        return _FORMAT, 0, 0
    head: tuple[int, int, int] = _HEAD.unpack_from(state)
    return head


def _curves(state: bytes) -> bytes:
    if len(state) < _WORDINGS_AT or state[0] != _FORMAT:
        return b""
    return state[_HEAD.size : _WORDINGS_AT]


def _wordings(state: bytes) -> bytes:
    if len(state) < _WORDINGS_AT or state[0] != _FORMAT:
        return b""
    whole = (len(state) - _WORDINGS_AT) // _WORDING.size
    return state[_WORDINGS_AT : _WORDINGS_AT + whole * _WORDING.size]


def _find(wording: bytes, wordings: bytes) -> int:
    """Where a wording stands, or -1."""
    at = wordings.find(wording) if wording else -1
    while at >= 0 and at % _WORDING.size:
        at = wordings.find(wording, at + 1)
    return at


def _known(evidence: Evidence, state: bytes) -> _Known:
    wordings = _wordings(state)
    at = _find(evidence.wording, wordings)
    right = wrong = 0
    if at >= 0:
        _, right, wrong = _WORDING.unpack_from(wordings, at)
    # The entry's own answer was given to the wording of the entry.
    return _Known(right + evidence.same_wording, wrong)
