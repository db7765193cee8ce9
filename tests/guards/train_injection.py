"""Make the weights of the injection guard from the labelled texts.

``python -m tests.guards.train_injection`` writes ``asgi_llm/guards/_injection_weights.txt``: the
same bytes for the same texts. ``--cross`` trains without each batch of texts in turn instead, and
prints what is found in that batch.
"""

from __future__ import annotations

import argparse
import hashlib
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import asgi_llm.guards._injection_model as model_of_guard
from asgi_llm.guards._injection_features import features_of, stem_and_class, to_words
from asgi_llm.guards._injection_model import SPANS, Model, weight_of_length
from asgi_llm.guards._injection_words import class_names, stem_of, words_of
from asgi_llm.guards.quality import Sample
from tests.guards.labelled import harmless_texts, injection_corpus, injection_texts

__all__ = ["corpus_digest", "texts_of", "train"]

_TARGET: Final = Path(model_of_guard.__file__).with_name("_injection_weights.txt")
_COST: Final = 0.08
_COST_OF_STRETCH: Final = 0.015
_ROUNDS: Final = 20
_UNIT: Final = 1000
_LEAST: Final = 0.032
_SEEN: Final = 0.1
_LEAST_COST: Final = 4
_WEAK_CLASSES: Final = frozenset(
    {"you", "neg", "all", "begin", "talk", "about", "now", "past", "tech", "act", "send", "dual"}
)
_FIXED: Final = (
    r"[a-z][013457@$][a-z]|[a-z] [a-z] [a-z] [a-z] |\byour|\byou'?re\b|\b(?:do|must|are)n't\b"
)
_MARGINS: Final = (0.25, 0.3, 0.35)
_BATCHES: Final = (*injection_corpus.BATCHES, "templates")
_SCALES: Final = {"word": 1.0, "pair": 1.0, "class": 1.5, "follows": 1.0}

Labelled = list[tuple[str, bool]]


def texts_of(batch: str) -> Labelled:
    """The texts of a batch, and whether each is an attempt."""
    samples: Iterable[Sample]
    if batch == "templates":
        samples = [
            one
            for group in (
                injection_texts.jailbreaks(),
                injection_texts.direct(),
                injection_texts.indirect(),
                harmless_texts.full_of_triggers(),
                harmless_texts.ordinary(),
            )
            for one in group
        ]
    else:
        samples = [
            one
            for kind in injection_corpus.KINDS
            for one in injection_corpus.samples(kind, batch, fills=2)
        ]
    return list({one.text: (one.text, bool(one.labels)) for one in samples}.values())


def _longer(known: Labelled, rng: random.Random) -> Labelled:
    """More texts: several harmless ones in a row, and attempts in front of or behind one."""
    harmless = [text for text, is_attempt in known if not is_attempt]
    attempts = [text for text, is_attempt in known if is_attempt]
    made = []
    for _ in range(len(harmless) * 3 // 2):
        parts = [rng.choice(harmless) for _ in range(rng.choice((2, 2, 3, 4, 6)))]
        made.append((rng.choice((" ", "\n", ". ")).join(parts), False))
    for _ in range(len(attempts)):
        parts = [rng.choice(attempts), rng.choice(harmless)]
        rng.shuffle(parts)
        made.append((rng.choice((" ", "\n")).join(parts), True))
    return made


def _stretches(known: Labelled) -> Iterable[tuple[list[bytes], bool, float]]:
    """The words of all texts, and of harmless ones the stretches that the guard looks at."""
    for text, is_attempt in known:
        words = to_words(text.encode())
        yield words, is_attempt, _COST
        if not is_attempt:
            for span in SPANS[:2]:
                if len(words) > span:
                    for first in range(0, len(words), span):
                        yield words[first : first + span], False, _COST_OF_STRETCH


def _scale(feature: str) -> float:
    if " " in feature:
        return _SCALES["pair"]
    if feature.startswith("<"):
        return _SCALES["class"]
    return _SCALES["follows" if ">" in feature else "word"]


def train(known: Labelled, *, corpus: str = "") -> Model:
    """Weights by dual coordinate descent for the squared hinge loss.

    Source: Hsieh et al., A Dual Coordinate Descent Method for Large-scale Linear SVM, ICML 2008.
    """
    rng = random.Random(5)
    known = [*known, *_longer(known, rng)]
    numbers: dict[str, int] = {}
    rows: list[tuple[list[tuple[int, float]], float, float, float]] = []
    for words, is_attempt, cost in _stretches(known):
        share = weight_of_length(len(words))
        row = {
            numbers.setdefault(feature, len(numbers)): _scale(feature) * share
            for _, feature in features_of(words)
        }
        square = 1.0 + sum(value * value for value in row.values()) + 0.5 / cost
        rows.append((list(row.items()), 1.0 if is_attempt else -1.0, square, 0.5 / cost))
    weights = [0.0] * len(numbers)
    bias = 0.0
    alphas = [0.0] * len(rows)
    order = list(range(len(rows)))
    for _ in range(_ROUNDS):
        rng.shuffle(order)
        for number in order:
            row_items, sign, square, slack = rows[number]
            margin = bias
            for feature_number, value in row_items:
                margin += weights[feature_number] * value
            gradient = sign * margin - 1.0 + alphas[number] * slack
            alpha = max(alphas[number] - gradient / square, 0.0)
            step = (alpha - alphas[number]) * sign
            if step:
                alphas[number] = alpha
                bias += step
                for feature_number, value in row_items:
                    weights[feature_number] += step * value
    scaled = {feature: weights[at] * _scale(feature) for feature, at in numbers.items()}
    kept = {
        feature: round(weight * _UNIT) / _UNIT
        for feature, weight in scaled.items()
        if abs(weight) >= _LEAST
    }
    return Model(round(bias * _UNIT) / _UNIT, kept, "", corpus)


def corpus_digest() -> str:
    """Of all texts that the weights are made from."""
    digest = hashlib.sha256()
    for batch in _BATCHES:
        for text, is_attempt in texts_of(batch):
            digest.update(f"{is_attempt} {text}\x00".encode())
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


def _covering(model: Model, known: Labelled) -> list[str]:
    """Units of which each attempt that the model sees has one, and few ordinary texts."""
    chosen = [f"<{name}>" for name in class_names() if name not in _WEAK_CLASSES]
    rest = [
        _units(text)
        for text, is_attempt in known
        if is_attempt and not _units(text) & {*chosen} and model.margin_of(text.encode()) > _SEEN
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


def _trigger(model: Model, known: Labelled) -> str:
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


def write(model: Model, known: Labelled, target: Path) -> None:
    """Write a model as the package reads it: a head, the trigger, then features and weights."""
    lines = [f"{round(model.bias * _UNIT)}\t{corpus_digest()}", _trigger(model, known)]
    lines += [f"{name}\t{round(value * _UNIT)}" for name, value in sorted(model.weights.items())]
    target.write_text("\n".join(lines) + "\n", "utf-8")


def _share(known: Iterable[float], least: float) -> float:
    values = list(known)
    return sum(value >= least for value in values) / len(values) if values else 0.0


def cross() -> None:
    """Print, batch by batch, what a model that has not seen it finds in it."""
    texts = {batch: texts_of(batch) for batch in _BATCHES}
    for batch, held in texts.items():
        others = [one for other, known in texts.items() if other != batch for one in known]
        model = train(others)
        scored = [(model.margin_of(text.encode()), is_attempt) for text, is_attempt in held]
        for least in _MARGINS:
            found = _share((margin for margin, is_attempt in scored if is_attempt), least)
            alarms = _share((margin for margin, is_attempt in scored if not is_attempt), least)
            print(f"{batch:<10} margin {least:.2f}: found {found:.3f}, alarms {alarms:.3f}")


def main() -> None:
    """Write the weights, or look at how they generalise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cross", action="store_true", help="leave out each batch in turn")
    if parser.parse_args().cross:
        cross()
    else:
        known = [one for batch in _BATCHES for one in texts_of(batch)]
        write(train(known), known, _TARGET)


if __name__ == "__main__":
    main()
