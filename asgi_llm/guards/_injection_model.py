"""The linear model of injection: which wordings speak for an attempt, and how much.

Its weights are data, made from the labelled texts by ``python -m tests.guards.train_injection``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from math import log2, sqrt
from pathlib import Path
from typing import Final, NamedTuple

from asgi_llm.guards._injection_features import features_of, to_words

__all__ = ["FEW_WORDS", "SPANS", "Model", "Stretch", "load_model", "weight_of_length"]

FEW_WORDS: Final = 20
_UNIT: Final = 1000
_WEIGHTS: Final = Path(__file__).with_name("_injection_weights.txt")
_MEMORY: Final = 60
_SHORT: Final = 40
_A_DOUBLING: Final = 0.2
_MOST_FOR_LENGTH: Final = 0.7
SPANS: Final = (24, 64, 160)


class Stretch(NamedTuple):
    """Words of a text that follow one another, and how much they speak for an attempt."""

    first: int
    last: int
    margin: float


def weight_of_length(words: int) -> float:
    """What features count for in a stretch of so many words: long ones have more of everything."""
    return sqrt(FEW_WORDS / max(words, FEW_WORDS))


class Model(NamedTuple):
    """Weights of features.

    Attributes:
        bias: What every stretch begins with.
        weights: By feature.
        trigger: RE2 pattern; texts without it cannot reach any threshold that is worth having.
        corpus: Digest of the texts that the weights were made from.
    """

    bias: float
    weights: dict[str, float]
    trigger: str
    corpus: str

    def margin_of(self, data: bytes) -> float:
        """The highest margin of a stretch of a text as UTF-8; above 0: rather an attempt."""
        return max(stretch.margin for stretch in self.stretches(to_words(data)))

    def stretches(self, words: Sequence[bytes]) -> list[Stretch]:
        """All stretches that are looked at: short, middle and long ones, each half over the last.

        What comes again within some words counts once. In long texts more is needed: chance has
        more to choose from.
        """
        sums = [0.0] * len(words)
        weight_of = self.weights.get
        last: dict[str, int] = {}
        for place, feature in features_of(words):
            weight = weight_of(feature)
            if weight is not None:
                if feature not in last or last[feature] <= place - _MEMORY:
                    sums[place] += weight
                last[feature] = place
        sums = list(accumulate(sums, initial=0.0))
        less = min(_A_DOUBLING * log2(max(len(words), _SHORT) / _SHORT), _MOST_FOR_LENGTH)
        found: list[Stretch] = []
        for span in SPANS:
            end = 0
            start = 0
            while end < len(words) or not found:
                end = min(start + span, len(words))
                share = (sums[end] - sums[start]) * weight_of_length(end - start)
                found.append(Stretch(start, end, self.bias + share - less))
                start += span // 2
            if span >= len(words):
                break
        return found


@lru_cache(maxsize=1)
def load_model() -> Model:
    """The model that comes with the package."""
    head, trigger, *lines = _WEIGHTS.read_text("utf-8").splitlines()
    bias, corpus = head.split("\t")
    weights = {}
    for line in lines:
        feature, _, weight = line.rpartition("\t")
        weights[feature] = int(weight) / _UNIT
    return Model(int(bias) / _UNIT, weights, trigger, corpus)
