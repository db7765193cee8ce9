"""The linear model of injection: which wordings speak for an attempt, and how much.

It has three scorers: of jailbreaks, of injections, and of injections where a system text sets
limits. The weights are data, made from the labelled texts by
``python -m tests.guards.train_injection``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from math import log2, sqrt
from pathlib import Path
from typing import Final, NamedTuple

from asgi_llm.guards._injection_features import MOST_BEFORE, QUOTE, REACH, stem_and_class, to_words
from asgi_llm.guards._injection_place import MOST_EXTRA, MOST_TOUCHED, NOWHERE, Place
from asgi_llm.guards._injection_words import class_names

__all__ = [
    "FEW_WORDS",
    "SCORERS",
    "SPANS",
    "THRESHOLDS",
    "Model",
    "Stretch",
    "load_model",
    "weight_of_length",
]

FEW_WORDS: Final = 20
SPANS: Final = (24, 64, 160)
SCORERS: Final = ("jailbreak", "injection", "guided")
THRESHOLDS: Final = (0.15, 0.5, 0.4)
"""Margins that a scorer needs: chosen on batches of texts that a model had not seen."""

_UNIT: Final = 1000
_WEIGHTS: Final = Path(__file__).with_name("_injection_weights.txt")
_MEMORY: Final = 60
_SHORT: Final = 40
_A_DOUBLING: Final = 0.2
_MOST_FOR_LENGTH: Final = 0.7
_KNOWN_WORDS: Final = 16_384
_SHIFT: Final = 20
_NO_PAIR: Final = 1 << 60
_LONG_AGO: Final = -1000
_FIRST: Final = "^"

Weights = Mapping[str, Sequence[int]]
"""By feature, one of each scorer, in thousandths; ``@n`` stands for n words that are guarded."""


class Stretch(NamedTuple):
    """Words of a text that follow one another, and how much they speak for an attempt."""

    first: int
    last: int
    margin: float


def weight_of_length(words: int) -> float:
    """What features count for in a stretch of so many words: long ones have more of everything."""
    return sqrt(FEW_WORDS / max(words, FEW_WORDS))


class _Words(dict[bytes, tuple[int, int, int]]):
    """The numbers of the stem of each word, of the stem as the first of a pair, and of the class.

    0 stands for a stem or a class that no weight asks for.
    """

    __slots__ = ("_groups", "_stems")

    def __init__(self, stems: Mapping[str, int], groups: Mapping[str, int]) -> None:
        super().__init__()
        self._stems = stems
        self._groups = groups

    def __missing__(self, token: bytes) -> tuple[int, int, int]:
        name, group = stem_and_class(token)
        if len(self) >= _KNOWN_WORDS:
            self.clear()
        stem = self._stems.get(name, 0)
        known = self[token] = (stem, stem << _SHIFT or _NO_PAIR, self._groups.get(group, 0))
        return known


class Model:
    """Weights of features.

    Args:
        biases: What every stretch begins with, for each scorer, in thousandths.
        weights: By feature.
        trigger: RE2 pattern; texts without it cannot reach any threshold that is worth having.
        corpus: Digest of the texts that the weights were made from.
    """

    __slots__ = (
        "_biases",
        "_guided",
        "_plain",
        "_quote",
        "_quoted",
        "_touched",
        "_words",
        "corpus",
        "trigger",
    )

    def __init__(
        self, biases: Sequence[int], weights: Weights, *, trigger: str = "", corpus: str = ""
    ) -> None:
        self.trigger = trigger
        self.corpus = corpus
        self._biases = [
            bias / _UNIT - least for bias, least in zip(biases, THRESHOLDS, strict=True)
        ]
        touched = [
            weights.get(f"@{number}", (0, 0, 0))[2] / _UNIT for number in range(1, MOST_TOUCHED + 1)
        ]
        self._touched = list(accumulate(touched, initial=0.0))
        self._quote = 2
        stems: dict[str, int] = {_FIRST: 1, QUOTE.decode(): self._quote}
        groups = {name: number for number, name in enumerate(class_names(), start=1)}
        self._quoted = (len(groups) + 1) << _SHIFT
        # Two sums in one: the real part is for jailbreaks, the imaginary one for injections.
        self._plain: dict[int, complex] = {}
        self._guided: dict[int, complex] = {}
        for feature, (jailbreak, injection, guided) in weights.items():
            key = self._key(feature, stems, groups)
            if jailbreak or injection:
                self._plain[key] = complex(jailbreak, injection) / _UNIT
            if jailbreak or guided:
                self._guided[key] = complex(jailbreak, guided) / _UNIT
        self._words = _Words(stems, groups)

    def _key(self, feature: str, stems: dict[str, int], groups: Mapping[str, int]) -> int:
        """Stems are positive, and their pairs beyond a shift; classes and theirs are negative."""
        head = feature[0]
        if head == "@":
            return 0
        if head == '"':
            return -(self._quoted | groups[feature[1:-1]])
        if head == "<":
            return -groups[feature[1:-1]]
        one, is_two, other = feature.partition(">")
        if is_two:
            return -(groups[one] << _SHIFT | groups[other])
        one, is_two, other = feature.partition(" ")
        number = stems.setdefault(one, len(stems) + 1)
        return number << _SHIFT | stems.setdefault(other, len(stems) + 1) if is_two else number

    def margin_of(self, data: bytes, place: Place = NOWHERE) -> float:
        """The highest margin of a stretch of a text as UTF-8; above 0: an attempt."""
        return max(stretch.margin for stretch in self.stretches(to_words(data), place))

    def highest_of(self, words: Sequence[bytes]) -> float:
        """The most that ``margin_of`` says of a text, wherever it stands."""
        touched = min(MOST_TOUCHED, len(words))
        guided = Place(extra=MOST_EXTRA, touched=touched, is_guided=True)
        plain = Place(extra=MOST_EXTRA, touched=0, is_guided=False)
        return max(
            stretch.margin for place in (plain, guided) for stretch in self.stretches(words, place)
        )

    def stretches(self, words: Sequence[bytes], place: Place = NOWHERE) -> list[Stretch]:
        """All stretches that are looked at: short, middle and long ones, each half over the last.

        In long texts more is needed: chance has more to choose from.
        """
        sums = list(accumulate(self._sums(words, self._guided if place.is_guided else self._plain)))
        less = min(_A_DOUBLING * log2(max(len(words), _SHORT) / _SHORT), _MOST_FOR_LENGTH)
        jailbreak = self._biases[0] - less
        injection = self._biases[2 if place.is_guided else 1] - less + place.extra
        injection += self._touched[place.touched]
        found: list[Stretch] = []
        for span in SPANS:
            start = end = 0
            while end < len(words) or not found:
                end = min(start + span, len(words))
                share = (sums[end] - sums[start]) * weight_of_length(end - start)
                margin = max(jailbreak + share.real, injection + share.imag)
                found.append(Stretch(start, end, margin))
                start += span // 2
            if span >= len(words):
                break
        return found

    def _sums(self, words: Sequence[bytes], weights: Mapping[int, complex]) -> Iterable[complex]:
        """Nothing, then what each word adds. What comes again within some words counts once."""
        sums = [0j] * (len(words) + 1)
        last: dict[int, int] = {}
        recent: list[tuple[int, int]] = []
        is_quoted = False
        quote = self._quote
        before = 1 << _SHIFT
        # The hot loop: two look-ups for a word without a class.
        for at, (stem, as_first, group) in enumerate(map(self._words.__getitem__, words), start=1):
            if stem:
                if stem in weights:
                    if last.get(stem, _LONG_AGO) <= at - _MEMORY:
                        sums[at] += weights[stem]
                    last[stem] = at
                key = before | stem
                if key in weights:
                    if last.get(key, _LONG_AGO) <= at - _MEMORY:
                        sums[at] += weights[key]
                    last[key] = at
                if stem == quote:
                    is_quoted = not is_quoted
            before = as_first
            if group:
                keys = [-(other | group) for other, until in recent if at <= until]
                keys.append(-group)
                if is_quoted:
                    keys.append(-(self._quoted | group))
                for key in keys:
                    if key in weights:
                        if last.get(key, _LONG_AGO) <= at - _MEMORY:
                            sums[at] += weights[key]
                        last[key] = at
                recent.append((group << _SHIFT, at + REACH))
                if len(recent) > MOST_BEFORE:
                    del recent[0]
        return sums


@lru_cache(maxsize=1)
def load_model() -> Model:
    """The model that comes with the package."""
    head, trigger, *lines = _WEIGHTS.read_text("utf-8").splitlines()
    corpus, *biases = head.split("\t")
    weights = {}
    for line in lines:
        feature, *values = line.rsplit("\t", len(SCORERS))
        weights[feature] = [int(value) for value in values]
    return Model([int(bias) for bias in biases], weights, trigger=trigger, corpus=corpus)
