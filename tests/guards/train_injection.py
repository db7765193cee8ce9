"""Make the weights of the injection guard from the labelled texts.

``python -m tests.guards.train_injection`` writes ``asgi_llm/guards/_injection_weights.txt``: the
same bytes for the same texts. ``--cross`` trains without each batch of texts in turn instead, and
prints what is found in that batch: what a new author's texts would give.
"""

from __future__ import annotations

import argparse
import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import asgi_llm.guards._injection_model as model_of_guard
from asgi_llm.guards._injection_features import features_of, stem_and_class, to_words
from asgi_llm.guards._injection_model import SCORERS, SPANS, Model, Weights, weight_of_length
from asgi_llm.guards._injection_place import NOWHERE, Place, place_of
from asgi_llm.guards._injection_words import class_names, stem_of, words_of
from asgi_llm.guards.base import GuardContext
from asgi_llm.guards.quality import Sample
from tests.guards.labelled import harmless_texts, injection_corpus, injection_texts

__all__ = ["corpus_digest", "texts_of", "train"]

_TARGET: Final = Path(model_of_guard.__file__).with_name("_injection_weights.txt")
_COST: Final = 0.05
_COST_OF_STRETCH: Final = 0.015
_HARMLESS_COUNTS: Final = 4.0
_WITH_SYSTEM_COUNTS: Final = 2.0
_BARE_ORDERS_COUNT: Final = 6.0
_FEW: Final = 12
_ROUNDS: Final = 20
_UNIT: Final = 1000
_LEAST: Final = 0.032
_SEEN: Final = -0.25
_LEAST_COST: Final = 4
_WEAK_CLASSES: Final = frozenset(
    {"you", "neg", "all", "begin", "talk", "about", "now", "past", "tech", "act", "send", "dual"}
)
_FIXED: Final = (
    r"[a-z][013457@$][a-z]|[a-z] [a-z] [a-z] [a-z] |\byour|\byou'?re\b|\b(?:do|must|are)n't\b"
)
_BATCHES: Final = (*injection_corpus.BATCHES, "templates")
_SCALE_OF_CLASS: Final = 1.5
_SCALE_OF_TOUCHED: Final = 1.5
_OTHER_SYSTEMS: Final = 2


class Text(NamedTuple):
    """A text that is labelled.

    Attributes:
        text: All of it.
        kind: As in ``injection_corpus.KINDS``.
        system: The system text that is seen with it; empty where there is none.
    """

    text: str
    kind: str
    system: str = ""

    @property
    def is_attempt(self) -> bool:
        """Whether it is one."""
        return "harmless" not in self.kind

    @property
    def place(self) -> Place:
        """Where it stands."""
        return _place(self.text, self.system) if self.system else NOWHERE


Row = tuple[dict[str, float], bool, float]
"""Values of features, whether it is an attempt, and what a mistake costs."""


def _place(text: str, system: str) -> Place:
    context = GuardContext(direction="input", role="user", path="", system=(system,))
    return place_of(context, to_words(text.encode()))


def texts_of(batch: str) -> list[Text]:
    """The texts of a batch."""
    groups: Iterable[tuple[str, Sequence[Sample]]]
    if batch == "templates":
        groups = [
            ("jailbreaks", injection_texts.jailbreaks()),
            ("injections", injection_texts.direct()),
            ("documents", injection_texts.indirect()),
            ("harmless", harmless_texts.full_of_triggers()),
            ("ordinary_harmless", harmless_texts.ordinary()),
        ]
    else:
        groups = [
            (kind, injection_corpus.samples(kind, batch, fills=2))
            for kind in injection_corpus.KINDS
        ]
    known = {
        (one.text, *one.system): Text(one.text, kind, *one.system)
        for kind, samples in groups
        for one in samples
    }
    return list(known.values())


def _longer(known: Sequence[Text], rng: random.Random) -> Iterator[Text]:
    """More texts: several harmless ones in a row, and attempts in front of or behind one."""
    harmless = [one.text for one in known if not one.is_attempt]
    attempts = [one for one in known if one.is_attempt]
    for _ in range(len(harmless) * 3 // 2):
        parts = [rng.choice(harmless) for _ in range(rng.choice((2, 2, 3, 4, 6)))]
        yield Text(rng.choice((" ", "\n", ". ")).join(parts), "harmless")
    for _ in range(len(attempts)):
        attempt = rng.choice(attempts)
        parts = [attempt.text, rng.choice(harmless)]
        rng.shuffle(parts)
        yield Text(rng.choice((" ", "\n")).join(parts), attempt.kind)


def _row(words: Sequence[bytes], touched: int = 0) -> dict[str, float]:
    share = weight_of_length(len(words))
    row = {
        feature: _SCALE_OF_CLASS * share if feature[0] == "<" else share
        for feature in features_of(words)
    }
    row.update({f"@{number}": _SCALE_OF_TOUCHED for number in range(1, touched + 1)})
    return row


def _plain_rows(known: Sequence[Text], rng: random.Random) -> Iterator[tuple[Row, str]]:
    """Rows of all texts, and of harmless ones the stretches that the guard looks at; by kind."""
    for one in [*known, *_longer(known, rng)]:
        words = to_words(one.text.encode())
        counts = _HARMLESS_COUNTS
        if one.is_attempt:
            # A bare order has little else that could speak for it.
            counts = _BARE_ORDERS_COUNT if len(words) <= _FEW else 1.0
        yield (_row(words), one.is_attempt, _COST * counts), one.kind
        if not one.is_attempt:
            for span in SPANS[:2]:
                if len(words) > span:
                    for first in range(0, len(words), span):
                        row = _row(words[first : first + span])
                        yield (row, False, _COST_OF_STRETCH * counts), one.kind


def _guided_rows(known: Sequence[Text], rng: random.Random) -> Iterator[Row]:
    """Rows of texts beside system texts: their own, or some that have nothing to do with them."""
    systems = [*injection_texts.SYSTEMS, *(one.system for one in known if one.system)]
    for one in known:
        if one.kind in ("jailbreaks", "long_harmless"):
            continue
        words = to_words(one.text.encode())
        counts = 1.0 if one.is_attempt else _HARMLESS_COUNTS
        seen = [one.system] * bool(one.system)
        for system in seen or rng.sample(systems, 1 if one.is_attempt else _OTHER_SYSTEMS):
            cost = _COST * counts * (_WITH_SYSTEM_COUNTS if one.system else 1.0)
            yield _row(words, _place(one.text, system).touched), one.is_attempt, cost


def _descend(rows: Sequence[Row], rng: random.Random) -> tuple[float, dict[str, float]]:
    """A bias and weights by dual coordinate descent for the squared hinge loss.

    Source: Hsieh et al., A Dual Coordinate Descent Method for Large-scale Linear SVM, ICML 2008.
    """
    numbers: dict[str, int] = {}
    known = []
    for row, is_attempt, cost in rows:
        items = [(numbers.setdefault(name, len(numbers)), value) for name, value in row.items()]
        square = 1.0 + sum(value * value for _, value in items) + 0.5 / cost
        known.append((items, 1.0 if is_attempt else -1.0, square, 0.5 / cost))
    weights = [0.0] * len(numbers)
    bias = 0.0
    alphas = [0.0] * len(known)
    order = list(range(len(known)))
    for _ in range(_ROUNDS):
        rng.shuffle(order)
        for number in order:
            items, sign, square, slack = known[number]
            margin = bias
            for at, value in items:
                margin += weights[at] * value
            alpha = max(alphas[number] - (sign * margin - 1 + alphas[number] * slack) / square, 0.0)
            step = (alpha - alphas[number]) * sign
            if step:
                alphas[number] = alpha
                bias += step
                for at, value in items:
                    weights[at] += step * value
    return bias, {name: weights[at] for name, at in numbers.items()}


def train(known: Sequence[Text]) -> tuple[list[int], Weights]:
    """The biases of the scorers, and the weights of features in thousandths."""
    rng = random.Random(5)
    plain = list(_plain_rows(known, rng))
    biases = []
    weights: dict[str, list[int]] = {}
    for number, rows in enumerate(
        (
            [row for row, kind in plain if not row[1] or kind == "jailbreaks"],
            [row for row, kind in plain if not row[1] or kind != "jailbreaks"],
            list(_guided_rows(known, rng)),
        )
    ):
        bias, found = _descend(rows, rng)
        biases.append(round(bias * _UNIT))
        for name, weight in found.items():
            scale = {"<": _SCALE_OF_CLASS, "@": _SCALE_OF_TOUCHED}.get(name[0], 1.0)
            if abs(weight * scale) >= _LEAST:
                weights.setdefault(name, [0] * len(SCORERS))[number] = round(weight * scale * _UNIT)
    return biases, weights


def corpus_digest() -> str:
    """Of all texts that the weights are made from."""
    digest = hashlib.sha256()
    for batch in _BATCHES:
        for one in texts_of(batch):
            digest.update("\t".join((one.kind, one.system, f"{one.text}\x00")).encode())
    return digest.hexdigest()[:16]


def _units(text: str) -> set[str]:
    """What a trigger may look for in a text: classes of words, and beginnings of words."""
    found = set()
    for word in to_words(text.encode()):
        stem, group = stem_and_class(word)
        if group and group not in _WEAK_CLASSES:
            found.add(f"<{group}>")
        elif (len(stem) > 3 or not stem.isascii()) and stem.replace("-", "").isalpha():
            found.add(stem)
    return found


def _covering(model: Model, known: Sequence[Text]) -> list[str]:
    """Units of which each attempt that the model sees has one, and few ordinary texts."""
    chosen = [f"<{name}>" for name in class_names() if name not in _WEAK_CLASSES]
    rest = [
        _units(one.text)
        for one in known
        if one.is_attempt
        and not _units(one.text) & {*chosen}
        and model.margin_of(one.text.encode(), one.place) > _SEEN
    ]
    ordinary = [sample.text for sample in harmless_texts.ordinary()]
    ordinary += [sample.text for sample in injection_corpus.samples("long_harmless")]
    cost = Counter(unit for text in set(ordinary) for unit in _units(text))
    rest = [units for units in rest if units]
    while rest:
        gain = Counter(unit for units in rest for unit in units)
        if not gain:
            break
        best = max(gain, key=lambda unit: (gain[unit] / (_LEAST_COST + cost[unit]), unit))
        chosen.append(best)
        rest = [units for units in rest if best not in units]
    return chosen


def _trigger(model: Model, known: Sequence[Text]) -> str:
    """A pattern that is in texts that the model may flag."""
    beginnings = set()
    for unit in _covering(model, known):
        # A stem with fewer letters than stems have is a whole word.
        stem = f"{unit}*" if stem_of(f"{unit}x".encode()) == unit.encode() else unit
        words = words_of(unit[1:-1]) if unit.startswith("<") else [stem]
        for word in words:
            whole = "" if word.endswith("*") or not word.isascii() else r"\b"
            beginnings.add(word.rstrip("*").replace(".", "[.]") + whole)
    ascii_words = "|".join(sorted(word for word in beginnings if word.isascii()))
    others = "|".join(sorted(word for word in beginnings if not word.isascii()))
    return rf"(?:\b(?:{ascii_words})|{others}|{_FIXED})"


def write(biases: Sequence[int], weights: Weights, known: Sequence[Text]) -> None:
    """Write a model as the package reads it: a head, the trigger, then features and weights."""
    trigger = _trigger(Model(biases, weights), known)
    lines = ["\t".join([corpus_digest(), *map(str, biases)]), trigger]
    lines += ["\t".join([name, *map(str, values)]) for name, values in sorted(weights.items())]
    _TARGET.write_text("\n".join(lines) + "\n", "utf-8")


def _share(known: Iterable[bool]) -> str:
    values = list(known)
    return f"{sum(values) / len(values):>11.1%}" if values else " " * 11


def cross() -> None:
    """Print, batch by batch, what a model that has not seen it finds in it.

    Harmless texts are looked at alone, and beside system texts that set limits.
    """
    texts = {batch: texts_of(batch) for batch in _BATCHES}
    titles = (*injection_corpus.KINDS[:-1], "seen_harmless", "seen_ordinary")
    print(" " * 10, *(f"{title[-11:]:>11}" for title in titles))
    systems = injection_texts.SYSTEMS
    for batch, held in texts.items():
        others = [one for other, known in texts.items() if other != batch for one in known]
        model = Model(*train(others))
        found: dict[str, list[bool]] = {title: [] for title in injection_corpus.KINDS}
        for number, one in enumerate(held):
            data = one.text.encode()
            found[one.kind].append(model.margin_of(data, one.place) >= 0)
            if one.kind in ("harmless", "ordinary_harmless"):
                seen = f"seen_{one.kind.partition('_')[0]}"
                place = _place(one.text, systems[number % len(systems)])
                found.setdefault(seen, []).append(model.margin_of(data, place) >= 0)
        print(f"{batch:<10}", *(_share(found.get(title, ())) for title in titles), flush=True)


def main() -> None:
    """Write the weights, or look at how they generalise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cross", action="store_true", help="leave out each batch in turn")
    if parser.parse_args().cross:
        cross()
    else:
        known = [one for batch in _BATCHES for one in texts_of(batch)]
        write(*train(known), known)


if __name__ == "__main__":
    main()
