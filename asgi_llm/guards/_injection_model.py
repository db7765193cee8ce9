"""The linear model of injection: which wordings speak for an attempt, and how much.

It has three scorers: of jailbreaks, of injections, and of injections where a system text sets
limits. The weights are data, made from the labelled texts by
``python -m tests.guards.train_injection``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from math import log2, sqrt
from pathlib import Path
from typing import Final, NamedTuple

from asgi_llm.guards._injection_features import (
    MOST_BEFORE,
    QUESTION,
    QUOTE,
    REACH,
    SENTENCE,
    prepare,
    stem_and_class,
    to_token,
    to_words,
)
from asgi_llm.guards._injection_place import MOST_EXTRA, MOST_TOUCHED, NOWHERE, Place
from asgi_llm.guards._injection_scan import GROUPS, IS_COMPILED, STEMS, Limits, WordScan
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
THRESHOLDS: Final = (-0.05, 0.8, 0.5)
"""Margins that a scorer needs: chosen on batches of texts that a model had not seen."""

_UNIT: Final = 1000
_WEIGHTS: Final = Path(__file__).with_name("_injection_weights.txt")
_MEMORY: Final = 60
_SHORT: Final = 40
_A_DOUBLING: Final = 0.2
_MOST_FOR_LENGTH: Final = 0.7
_KNOWN_WORDS: Final = 16_384
# Sums of three scorers in one number, each with so many bits.
_APART: Final = 48
_PART: Final = (1 << _APART) - 1
_HALF: Final = 1 << (_APART - 1)
_NO_PAIR: Final = 1 << 60
_LONG_AGO: Final = -1000
_FIRST: Final = "^"

_Table = dict[int, Sequence[int]]

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
        known = self[token] = (stem, stem << STEMS or _NO_PAIR, self._groups.get(group, 0))
        return known


class Model:
    """Weights of features.

    Args:
        biases: What every stretch begins with, for each scorer, in thousandths.
        weights: By feature.
        trigger: RE2 pattern; texts without it are no attempts, whatever they score.
        corpus: Digest of the texts that the weights were made from.

    Attributes:
        scan: Tells what ``highest_of`` does of a text, without its words.
    """

    __slots__ = (
        "_biases",
        "_quote",
        "_quoted",
        "_touched",
        "_weights",
        "_words",
        "corpus",
        "scan",
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
        self._quoted = (len(groups) + 1) << STEMS
        # The sums of all scorers in one number.
        self._weights: dict[int, int] = {}
        tables: tuple[_Table, _Table, _Table] = ({}, {}, {})
        for feature, values in weights.items():
            key = self._key(feature, stems, groups)
            jailbreak, injection, guided = values
            self._weights[key] = (guided << 2 * _APART) + (injection << _APART) + jailbreak
            if key < 0:
                first, group = divmod(-key, 1 << STEMS)
                first = GROUPS if first << STEMS == self._quoted else first
                tables[2][first * GROUPS + group] = values
            elif key:
                tables[key >= 1 << STEMS][key] = values
        self._words = _Words(stems, groups)
        self.scan = WordScan(
            *tables,
            self._resolve,
            [self._resolve(mark) for mark in (QUOTE, SENTENCE, QUESTION)],
            Limits(
                [self._biases[0], self._biases[1] + MOST_EXTRA, self._biases[2] + MOST_EXTRA],
                self._touched,
                SPANS,
                few=FEW_WORDS,
                short=_SHORT,
                doubling=_A_DOUBLING,
                most=_MOST_FOR_LENGTH,
                memory=_MEMORY,
                reach=REACH,
            ),
            last_stem=len(stems),
        )

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
            return -(groups[one] << STEMS | groups[other])
        one, is_two, other = feature.partition(" ")
        number = stems.setdefault(one, len(stems) + 1)
        return number << STEMS | stems.setdefault(other, len(stems) + 1) if is_two else number

    def _resolve(self, token: bytes) -> int:
        """The number of a word's stem, and that of its class."""
        stem, _, group = self._words[to_token(token)]
        return group << STEMS | stem

    def margin_of(self, data: bytes, place: Place = NOWHERE) -> float:
        """The highest margin of a stretch of a text as UTF-8; above 0: an attempt."""
        return max(stretch.margin for stretch in self.stretches(to_words(data), place))

    def highest_in(self, data: bytes) -> float:
        """The most that ``margin_of`` says of a text as UTF-8, wherever it stands."""
        if IS_COMPILED:
            return self.scan.highest(data if data.isascii() else prepare(data))
        return self.highest_of(to_words(data))

    def highest_of(self, words: Sequence[bytes]) -> float:
        """The same of its words."""
        touched = self._touched[min(MOST_TOUCHED, len(words))]
        jailbreak, injection, guided = self._begin(len(words))
        injection += MOST_EXTRA
        guided += MOST_EXTRA + touched
        return max(
            max(jailbreak + one, injection + two, guided + three)
            for _, _, one, two, three in self._totals(words)
        )

    def stretches(self, words: Sequence[bytes], place: Place = NOWHERE) -> list[Stretch]:
        """All stretches that are looked at: short, middle and long ones, each half over the last.

        In long texts more is needed: chance has more to choose from.
        """
        jailbreak, injection, guided = self._begin(len(words))
        if place.is_guided:
            injection = guided
        injection += place.extra + self._touched[place.touched]
        return [
            Stretch(
                start, end, max(jailbreak + one, injection + (three if place.is_guided else two))
            )
            for start, end, one, two, three in self._totals(words)
        ]

    def _begin(self, count: int) -> list[float]:
        less = min(_A_DOUBLING * log2(max(count, _SHORT) / _SHORT), _MOST_FOR_LENGTH)
        return [bias - less for bias in self._biases]

    def _totals(self, words: Sequence[bytes]) -> Iterator[tuple[int, int, float, float, float]]:
        """Where each stretch begins and ends, and what each scorer makes of it."""
        sums = list(accumulate(self._sums(words)))
        for span in SPANS:
            start = end = 0
            while end < len(words) or not end:
                end = min(start + span, len(words))
                scale = weight_of_length(end - start) / _UNIT
                total = sums[end] - sums[start]
                jailbreak = ((total + _HALF) & _PART) - _HALF
                total = (total - jailbreak) >> _APART
                injection = ((total + _HALF) & _PART) - _HALF
                guided = (total - injection) >> _APART
                yield start, end, jailbreak * scale, injection * scale, guided * scale
                if not end:
                    return
                start += span // 2
            if span >= len(words):
                return

    def _sums(self, words: Sequence[bytes]) -> list[int]:
        """Nothing, then what each word adds. What comes again within some words counts once."""
        sums = [0] * (len(words) + 1)
        weights = self._weights
        last: dict[int, int] = {}
        recent: list[tuple[int, int]] = []
        is_quoted = False
        quote = self._quote
        before = 1 << STEMS
        # The hot loop where nothing is compiled: two look-ups for a word without a class.
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
                recent.append((group << STEMS, at + REACH))
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
