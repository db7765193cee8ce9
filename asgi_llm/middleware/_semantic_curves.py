"""How far an entry's answer carries: weights over a family of curves.

An entry's answer is right for a text of similarity *s* with the probability

    p(s) = ceiling / (1 + exp(-slope * (s - boundary)))

A logistic curve, with a ceiling, because there are entries that a near miss reaches at any
similarity. Which curve an entry has is not known: every curve of a fixed family has a weight, each
comparison of answers multiplies the weights by how well the curve foretold it (Bayes), and where
the weights begin is learned from all entries together.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["CURVES", "SIMILARITY_STEPS", "CurvePrior"]

_BOUNDARIES: Final = tuple(0.56 + 0.04 * step for step in range(13))
_SLOPES: Final = (25.0, 80.0)
_CEILINGS: Final = {0.3: 0.05, 0.7: 0.05, 0.9: 0.1, 0.97: 0.2, 0.995: 0.3, 0.9995: 0.3}
"""And how likely each is at first."""
SIMILARITY_STEPS: Final = 250
"""Similarities are told apart by 1/250."""


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
CURVES: Final = struct.Struct(f"<{len(_CURVES)}f")
"""The likelihood of each curve, up to a common factor."""
_ONES: Final = CURVES.pack(*(1.0,) * len(_CURVES))


class _Row(NamedTuple):
    """What all curves say at one similarity."""

    right: tuple[float, ...]
    wrong: tuple[float, ...]
    order: tuple[int, ...]
    """The curves, the most pessimistic first."""


class CurvePrior:
    """Where the weights of all entries begin, and what follows for one of them.

    Args:
        doubt: Above 0 and at most 0.5: the chance that what is called pessimistic is not.
    """

    def __init__(self, doubt: float) -> None:
        self._doubt = doubt
        self._rows: dict[int, _Row] = {}
        self._prior = _first_prior()
        self._learned = 0

    def pessimistic(self, similarity: float, likelihood: bytes) -> float:
        """The chance of a right answer that is exceeded as surely as was asked for.

        Args:
            similarity: From 0 to 1.
            likelihood: Of the entry; empty: nothing was learned of it.
        """
        row = self._row(similarity)
        weights = self._weights(likelihood)
        low = self._doubt * sum(weights)
        reached = 0.0
        for curve in row.order:
            reached += weights[curve]
            if reached >= low:
                return row.right[curve]
        return row.right[row.order[0]]

    def learn(self, similarity: float, correct: bool, likelihood: bytes) -> bytes:
        """The likelihood after one observation more."""
        row = self._row(similarity)
        factors = row.right if correct else row.wrong
        before = CURVES.unpack(likelihood or _ONES)
        after = [one * factor for one, factor in zip(before, factors, strict=True)]
        most = max(after)
        return CURVES.pack(*[one / most for one in after])

    def generalize(self, likelihood: bytes) -> None:
        """Move the common start a little towards what an entry looks like (online EM)."""
        self._learned += 1
        pace = max((self._learned + _PATIENCE) ** -_PACE, _SLOWEST)
        weights = self._weights(likelihood)
        share = pace / sum(weights)
        self._prior = [
            (1 - pace) * start + share * weight
            for start, weight in zip(self._prior, weights, strict=True)
        ]

    def _weights(self, likelihood: bytes) -> Sequence[float]:
        if not likelihood:
            return self._prior
        return [
            one * start for one, start in zip(CURVES.unpack(likelihood), self._prior, strict=True)
        ]

    def _row(self, similarity: float) -> _Row:
        step = min(max(round(similarity * SIMILARITY_STEPS), 0), SIMILARITY_STEPS)
        row = self._rows.get(step)
        if row is None:
            right = tuple([curve.at(step / SIMILARITY_STEPS) for curve in _CURVES])
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


def _first_prior() -> list[float]:
    """Before anything is learned: most entries carry some way, and few as far as 0.7.

    Guards come first, so that high ceilings are likelier than low ones.
    """
    weights = [
        math.exp(-(((curve.boundary - 0.88) / 0.12) ** 2) / 2) * _CEILINGS[curve.ceiling]
        for curve in _CURVES
    ]
    total = sum(weights)
    return [weight / total for weight in weights]
