"""The goals of the semantic cache on the labelled pairs, by the cosines that were recorded."""

from __future__ import annotations

import pytest

from asgi_llm.middleware.semantic_cache import GUARDED_THRESHOLD
from tests.semantic.labelled import CLASSES, PARTS, answered, pairs_of


@pytest.mark.parametrize("part", PARTS)
def test_goals(part: str) -> None:
    """At the defaults: paraphrases at least 60 %, near misses at most 5 %, all else at most 1 %."""
    shares = answered(part, threshold=GUARDED_THRESHOLD, guarded=True)
    assert shares["paraphrase"] >= 0.60
    assert shares["near_miss"] <= 0.05
    assert max(shares["contradiction"], shares["related"], shares["unrelated"]) <= 0.01


def test_similarity_alone_cannot_tell() -> None:
    """Where similarity alone finds 60 % of paraphrases it takes a quarter of near misses, too."""
    for part in PARTS:
        shares = answered(part, threshold=0.90, guarded=False)
        assert shares["paraphrase"] >= 0.60
        assert shares["near_miss"] >= 0.25


def test_no_family_is_in_both_parts() -> None:
    """What was tuned on shares no family, and no text, with what is used once."""
    tuning, once = (pairs_of(part) for part in PARTS)
    for field in ("family", "a", "b"):
        sets = [
            {getattr(pair, field) for name in CLASSES for pair in part[name]}
            for part in (tuning, once)
        ]
        assert not sets[0] & sets[1]


def test_there_are_enough_pairs() -> None:
    """Every class has its share, and every kind of near miss is in both parts."""
    for part in PARTS:
        pairs = pairs_of(part)
        assert sum(map(len, pairs.values())) >= 300
        kinds = {pair.kind for pair in pairs["near_miss"]}
        assert kinds >= {"number", "unit", "date", "negation", "entity", "direction", "opposite"}
        assert kinds >= {"constraint", "version", "language", "quoted", "identifier", "comparison"}
