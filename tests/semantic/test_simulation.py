"""Streams of requests under ``verified``, with vectors of words in the place of a model's."""

from __future__ import annotations

import functools
import hashlib
import random
import re

import numpy as np
import numpy.typing as npt
import pytest

from asgi_llm.middleware._semantic_policy import ThresholdPolicy
from asgi_llm.middleware._semantic_verified import VerifiedPolicy
from tests.semantic.simulation import Stream, draw, simulate

_BOUND = 0.02


@functools.cache
def vector_of(text: str) -> npt.NDArray[np.float32]:
    """The sum of a vector for each word: texts with many words in common are similar."""
    total = np.full(96, 0.02, dtype=np.float32)
    for word in re.findall(r"\w+", text.lower()):
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
        total += np.random.default_rng(seed).standard_normal(96).astype(np.float32)
    vector: npt.NDArray[np.float32] = total / np.float32(np.linalg.norm(total))
    return vector


def learning() -> VerifiedPolicy:
    """A policy with fixed chances."""
    return VerifiedPolicy(max_error_rate=_BOUND, chance=random.Random(1).random)


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize("stream", ["steady", "shift", "outdated", "near_misses"])
def test_the_bound_holds(stream: Stream, guarded: bool) -> None:
    """Of all requests, at any time, no more are answered wrongly than was asked for."""
    requests = draw(5000, seed=3, parts=("once",), stream=stream)
    run = simulate(requests, vector_of, learning(), guarded=guarded)
    assert max(run.worst, run.errors / run.requests) <= _BOUND
    if stream == "near_misses":
        assert run.last_errors / run.last_requests <= _BOUND
    else:
        assert run.last_hits / run.last_requests >= 0.2


def test_verified_serves_more_than_any_threshold_with_so_few_errors() -> None:
    """By similarity alone, no figure serves half as much without more errors."""
    requests = draw(5000, seed=4, parts=("once",))
    learned = simulate(requests, vector_of, learning(), guarded=True)
    static = [
        simulate(requests, vector_of, ThresholdPolicy(threshold), guarded=False)
        for threshold in (0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.999)
    ]
    best = max([run.hits for run in static if run.errors <= learned.errors], default=0)
    assert learned.hits >= 2 * best


def test_a_stream_is_drawn_by_its_seed() -> None:
    """The same seed gives the same stream, and no text comes twice."""
    streams = [draw(2000, seed=seed) for seed in (1, 1, 2)]
    assert streams[0] == streams[1]
    assert streams[0] != streams[2]
    texts = [request.text for request in streams[0]]
    assert len(texts) == len(set(texts))
