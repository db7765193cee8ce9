"""The labelled pairs, and what the guards and a threshold make of them.

Each line of ``pairs/PART/CLASS.jsonl`` holds two texts, what they are to each other, and their
cosine by all-MiniLM-L6-v2. A family is one question with its paraphrases and its near misses; all
lines of a family are in one part, so that nothing that was tuned on is in the part used once.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from asgi_llm.middleware._agreement import disagreement, read

__all__ = ["CLASSES", "PARTS", "Pair", "answered", "pairs_of", "refused"]

PARTS = ("tuning", "once")
CLASSES = ("paraphrase", "near_miss", "contradiction", "related", "unrelated")

_FOLDER = Path(__file__).parent / "pairs"


class Pair(NamedTuple):
    """Two texts."""

    family: str
    kind: str
    """The class, or of near misses what is changed."""
    a: str
    b: str
    cosine: float


def pairs_of(part: str) -> dict[str, list[Pair]]:
    """The pairs of a part by their class."""
    pairs: dict[str, list[Pair]] = defaultdict(list)
    for name in CLASSES:
        for line in (_FOLDER / part / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            pairs[name].append(Pair(row["family"], row["kind"], row["a"], row["b"], row["cosine"]))
    return pairs


def refused(pair: Pair) -> str | None:
    """The guard that refuses to answer ``b`` with what was answered to ``a``."""
    refusal = disagreement(read(pair.b), read(pair.a))
    return None if refusal is None else refusal[0]


def answered(part: str, *, threshold: float, guarded: bool) -> dict[str, float]:
    """The share of each class that would be answered from the cache."""
    return {
        name: sum(
            pair.cosine >= threshold and not (guarded and refused(pair) is not None)
            for pair in pairs
        )
        / len(pairs)
        for name, pairs in pairs_of(part).items()
    }
