"""The policy that learns for each entry how far its answer carries, under a stated error rate.

An entry's answer is right for a text of similarity *s* with the probability

    p(s) = ceiling / (1 + exp(-slope * (s - boundary)))

A logistic curve, with a ceiling, because there are entries that a near miss reaches at any
similarity. Which curve an entry has is not known: every curve of a fixed family has a weight, each
comparison of answers multiplies the weights by how well the curve foretold it (Bayes), and where
the weights begin is learned from all entries together. The stored answer is served outright where
even the pessimistic reading of the weights is within the error rate. Elsewhere the request goes to
the model, but for so small a share of requests that the error rate holds all the same.

Source: vCache, arXiv 2502.03771 (2025): a boundary for each entry, learned on line, and the
probability of exploring that keeps the bound (its equation for tau). There the curve is fitted by
maximum likelihood with a confidence region; weights over a family of curves need no fit, have no
degenerate case where all observations agree, and take the same few microseconds at any size.
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from asgi_llm.errors import ConfigurationError
from asgi_llm.middleware._semantic_policy import Experience, Verdict

__all__ = ["VerifiedPolicy"]

_BOUNDARIES: Final = tuple(0.56 + 0.04 * step for step in range(13))
_SLOPES: Final = (25.0, 80.0)
_CEILINGS: Final = {0.3: 0.05, 0.7: 0.05, 0.9: 0.1, 0.97: 0.2, 0.995: 0.3, 0.9995: 0.3}
"""And how likely each is at first."""
_STEPS: Final = 250
"""Similarities are told apart by 1/250."""
_FORMAT: Final = 1
_HEAD: Final = struct.Struct("<BII")


class _Curve(NamedTuple):
    boundary: float
    slope: float
    ceiling: float

    def at(self, similarity: float) -> float:
        height = 1 / (1 + math.exp(-self.slope * (similarity - self.boundary)))
        return max(1e-6, self.ceiling * height)


_CURVES: Final = tuple(
    _Curve(boundary, slope, ceiling)
    for boundary in _BOUNDARIES
    for slope in _SLOPES
    for ceiling in _CEILINGS
)
_BODY: Final = struct.Struct(f"<{len(_CURVES)}f")
_ONES: Final = (1.0,) * len(_CURVES)


class _Row(NamedTuple):
    """What all curves say at one similarity."""

    right: tuple[float, ...]
    wrong: tuple[float, ...]
    order: tuple[int, ...]
    """The curves, the most pessimistic first."""


class _State(NamedTuple):
    observations: int
    correct: int
    likelihood: Sequence[float]
    """Of each curve, up to a common factor."""


class VerifiedPolicy:
    """Serves an entry's answer where it was found to carry, and finds out where that is.

    Of the requests that have a candidate at most ``max_error_rate`` get a stored answer that a
    comparison would have called wrong.

    Args:
        max_error_rate: Above 0 and below 0.5.
        confidence: From 0.5 to below 1: how sure the bound is to hold of each entry.
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
        self.min_similarity: Final = min_similarity
        self._max_error_rate = max_error_rate
        self._doubt = 1 - confidence
        self._chance = chance
        self._rows: dict[int, _Row] = {}
        self._prior = list(_first_prior())
        self._learned = 0

    def decide(self, similarity: float, state: bytes) -> Verdict:
        """Serve, explore or skip."""
        if similarity < self.min_similarity:
            return "skip"
        explores = self.exploring(similarity, state)
        return "explore" if explores > 0 and self._chance() < explores else "serve"

    def exploring(self, similarity: float, state: bytes) -> float:
        """With which probability a candidate is explored rather than served."""
        right = self._pessimistic(similarity, _read(state).likelihood)
        wanted = 1 - self._max_error_rate
        return 0.0 if right >= wanted else (wanted - right) / (1 - right)

    def learn(self, similarity: float, correct: bool, state: bytes) -> bytes:
        """The entry's state with one observation more."""
        before = _read(state)
        row = self._row(similarity)
        factors = row.right if correct else row.wrong
        likelihood = [one * factor for one, factor in zip(before.likelihood, factors, strict=True)]
        most = max(likelihood)
        likelihood = [one / most for one in likelihood]
        return _write(before.observations + 1, before.correct + correct, likelihood)

    def experience(self, state: bytes) -> Experience:
        """What was learned of an entry."""
        read = _read(state)
        boundary = next(
            (
                step / _STEPS
                for step in range(math.ceil(self.min_similarity * _STEPS), _STEPS + 1)
                if self.exploring(step / _STEPS, state) == 0
            ),
            None,
        )
        return Experience(observations=read.observations, correct=read.correct, boundary=boundary)

    def _pessimistic(self, similarity: float, likelihood: Sequence[float]) -> float:
        """The chance of a right answer that the weights exceed with the stated confidence."""
        row = self._row(similarity)
        weights = [one * start for one, start in zip(likelihood, self._prior, strict=True)]
        total = sum(weights)
        low = self._doubt * total
        reached = 0.0
        for curve in row.order:
            reached += weights[curve]
            if reached >= low:
                return row.right[curve]
        return row.right[row.order[0]]

    def generalize(self, state: bytes) -> None:
        """Move the common start a little towards what this entry looks like (online EM)."""
        likelihood = _read(state).likelihood
        self._learned += 1
        pace = max((self._learned + _PATIENCE) ** -_PACE, _SLOWEST)
        weights = [one * start for one, start in zip(likelihood, self._prior, strict=True)]
        share = pace / sum(weights)
        self._prior = [
            (1 - pace) * start + share * weight
            for start, weight in zip(self._prior, weights, strict=True)
        ]

    def _row(self, similarity: float) -> _Row:
        step = min(max(round(similarity * _STEPS), 0), _STEPS)
        row = self._rows.get(step)
        if row is None:
            right = tuple([curve.at(step / _STEPS) for curve in _CURVES])
            row = self._rows[step] = _Row(
                right,
                tuple([1 - one for one in right]),
                tuple(sorted(range(len(right)), key=right.__getitem__)),
            )
        return row


_PATIENCE: Final = 30
_PACE: Final = 0.7
"""Between 0.5 and 1, as online EM wants it: later entries know more than the first did."""
_SLOWEST: Final = 1 / 5000


def _first_prior() -> Sequence[float]:
    """Before anything is learned: most entries carry some way, and few as far as 0.7.

    Guards come first, so that high ceilings are likelier than low ones.
    """
    weights = [
        math.exp(-(((curve.boundary - 0.88) / 0.12) ** 2) / 2) * _CEILINGS[curve.ceiling]
        for curve in _CURVES
    ]
    total = sum(weights)
    return [weight / total for weight in weights]


def _read(state: bytes) -> _State:
    if len(state) != _HEAD.size + _BODY.size or state[0] != _FORMAT:
        return _State(0, 0, _ONES)
    _, observations, correct = _HEAD.unpack_from(state)
    return _State(observations, correct, _BODY.unpack_from(state, _HEAD.size))


def _write(observations: int, correct: int, likelihood: Sequence[float]) -> bytes:
    return _HEAD.pack(_FORMAT, observations, correct) + _BODY.pack(*likelihood)
