"""The policy that learns, by itself and in the layer."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.middleware._semantic_policy import ThresholdPolicy
from asgi_llm.middleware._semantic_verified import VerifiedPolicy
from asgi_llm.middleware.semantic_cache import SemanticCacheMiddleware
from asgi_llm.stores.semantic_index import Selection
from asgi_llm.stores.semantic_index_memory import MemorySemanticIndex
from asgi_llm.testing import chat_answer
from tests.middleware.exact_cache.conftest import App, ask, cache_of
from tests.middleware.semantic_cache.conftest import ALIKE, WordEmbedder, asks


def taught(policy: VerifiedPolicy, observations: list[tuple[float, bool]]) -> bytes:
    """The state of an entry after ``observations``."""
    state = b""
    for similarity, correct in observations:
        state = policy.learn(similarity, correct, state)
        policy.generalize(state)
    return state


def test_an_unknown_entry_is_explored() -> None:
    """At first the model is asked for nearly all candidates, and what is not similar is skipped."""
    policy = VerifiedPolicy(max_error_rate=0.01, chance=lambda: 0.5)
    assert ("explore", "skip") == (policy.decide(0.95, b""), policy.decide(0.69, b""))


def test_good_experience_is_served_and_bad_is_not() -> None:
    """What proved right where it was asked is served there; not where it proved wrong."""
    policy = VerifiedPolicy(max_error_rate=0.02, confidence=0.8, chance=lambda: 0.5)
    good = taught(policy, [(0.85, True)] * 60)
    mixed = taught(policy, [(0.95, True)] * 30 + [(0.85, False)] * 10)
    assert "serve" == policy.decide(0.9, good)
    assert "explore" == policy.decide(0.85, mixed)
    assert policy.exploring(0.97, mixed) < policy.exploring(0.85, mixed)


def test_an_answer_that_is_ever_wrong_is_never_trusted() -> None:
    """An entry that near misses reach at any similarity is asked about for ever."""
    policy = VerifiedPolicy(max_error_rate=0.01, chance=lambda: 0.5)
    state = taught(policy, [(0.97, at % 2 == 0) for at in range(200)])
    assert policy.exploring(1.0, state) > 0.9
    assert None is policy.experience(state).boundary


def test_experience_is_told() -> None:
    """People are told how much was learned, and from which similarity on an answer is served."""
    policy = VerifiedPolicy(max_error_rate=0.05, confidence=0.5)
    told = policy.experience(taught(policy, [(0.9, True)] * 40 + [(0.75, False)] * 5))
    assert (45, 40) == (told.observations, told.correct)
    assert told.boundary is not None
    assert 0.75 < told.boundary <= 0.95


@pytest.mark.parametrize("state", [b"", b"x", b"\x01" * 100, b"\xff" * 700])
def test_a_state_that_cannot_be_read_counts_for_nothing(state: bytes) -> None:
    """What another version has written is no experience, and no error."""
    policy = VerifiedPolicy()
    assert policy.exploring(0.9, state) == policy.exploring(0.9, b"")
    assert 0 == policy.experience(state).observations


def test_the_state_stays_small() -> None:
    """However much was learned, an entry keeps less than a kilobyte, and learns on."""
    policy = VerifiedPolicy()
    state = taught(policy, [(0.9, at % 7 != 0) for at in range(3000)])
    assert len(state) < 1024
    assert 0 < policy.exploring(0.9, state) < 1


@pytest.mark.parametrize("bound", [0.01, 0.02, 0.05])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_bound_holds(bound: float, confidence: float) -> None:
    """20,000 candidates of 150 entries, each with a curve of its own: errors stay under the bound.

    Popularity is Zipf's. A fifth of the entries are such that their answer is wrong at any
    similarity in 3 to 30 of 100 cases.
    """
    chance = random.Random(11)
    policy = VerifiedPolicy(
        max_error_rate=bound, confidence=confidence, chance=random.Random(5).random
    )
    curves = [
        (
            chance.uniform(0.7, 0.95),
            chance.choice((20.0, 60.0)),
            1.0 if chance.random() < 0.8 else chance.uniform(0.7, 0.97),
        )
        for _ in range(150)
    ]
    weights = [1 / rank for rank in range(1, len(curves) + 1)]
    states = [b""] * len(curves)
    errors = hits = 0
    for entry in chance.choices(range(len(curves)), weights, k=20_000):
        boundary, slope, ceiling = curves[entry]
        similarity = chance.uniform(0.7, 1.0)
        right = ceiling / (1 + math.exp(-slope * (similarity - boundary)))
        correct = chance.random() < right
        if policy.decide(similarity, states[entry]) == "explore":
            states[entry] = policy.learn(similarity, correct, states[entry])
            policy.generalize(states[entry])
        else:
            hits += 1
            errors += not correct
    assert errors / 20_000 <= bound
    assert hits > 1000


@pytest.mark.parametrize(
    "options",
    [{"max_error_rate": 0}, {"max_error_rate": 0.5}, {"confidence": 1}, {"min_similarity": 2}],
    ids=str,
)
def test_wrong_options(options: dict[str, float]) -> None:
    """A bound, a confidence or a similarity out of range is named."""
    with pytest.raises(ConfigurationError) as caught:
        VerifiedPolicy(**options)  # type: ignore[arg-type]  # none of them is the source of chance
    assert next(iter(options)) == caught.value.param


def test_a_threshold_learns_nothing() -> None:
    """One figure for all: served from there on, whatever was seen."""
    policy = ThresholdPolicy(0.9)
    state = policy.learn(0.95, False, b"")
    policy.generalize(state)
    assert ("serve", "skip") == (policy.decide(0.9, state), policy.decide(0.89, state))
    assert (b"", 0) == (state, policy.experience(state).observations)


class Deciding(ThresholdPolicy):
    """Explores everything, and notes what it is taught."""

    learns = True

    def __init__(self) -> None:
        super().__init__(0.3)
        self.taught: list[bool] = []

    def decide(self, similarity: float, state: bytes) -> Any:
        return "explore"

    def learn(self, similarity: float, correct: bool, state: bytes) -> bytes:
        self.taught.append(correct)
        return state + (b"+" if correct else b"-")


async def test_exploring_asks_the_model_and_compares() -> None:
    """The client gets the model's answer, the entry the experience; an equal one is kept once."""
    answers = iter(["Click the link.", "Click  the link.", "Call 555 now."])
    app = App(lambda number: chat_answer(next(answers)))
    index, policy = MemorySemanticIndex(), Deciding()
    cache = SemanticCacheMiddleware(app, embedder=WordEmbedder(), index=index, policy=policy)
    for text in ALIKE:
        assert (b"MISS", None) == cache_of(await ask(cache, asks(text)))
    assert [True, False] == policy.taught
    entries = await index.find(Selection())
    assert {ALIKE[0]: b"+-", ALIKE[2]: b""} == {one.text: one.learning.state for one in entries}
    assert (3, 2, 1) == (app.calls, cache.counts.explored, cache.counts.confirmed)


async def test_a_lost_race_is_run_again() -> None:
    """Who finds that another has taught the entry in between learns on top of that."""

    class Raced(MemorySemanticIndex):
        raced = False

        async def update_learning(self, id: str, *, expected_version: int, state: bytes) -> bool:
            if not self.raced:
                self.raced = True
                other = b"other"
                await super().update_learning(id, expected_version=expected_version, state=other)
            return await super().update_learning(id, expected_version=expected_version, state=state)

    app, index = App(lambda number: chat_answer("The same.")), Raced()
    cache = SemanticCacheMiddleware(app, embedder=WordEmbedder(), index=index, policy=Deciding())
    for text in ALIKE[:2]:
        await ask(cache, asks(text))
    (entry,) = await index.find(Selection())
    assert (b"other+", 2) == (entry.learning.state, entry.learning.version)


async def test_verified_in_the_layer() -> None:
    """After enough agreement the layer serves what it asked about before."""
    app = App(lambda number: chat_answer("The same."))
    policy = VerifiedPolicy(max_error_rate=0.1, confidence=0.5, chance=random.Random(3).random)
    cache = SemanticCacheMiddleware(app, embedder=WordEmbedder(), policy=policy)
    await ask(cache, asks(ALIKE[0]))
    told = [cache_of(await ask(cache, asks(ALIKE[1])))[0] for _ in range(60)]
    assert b"MISS" == told[0]
    assert [b"HIT"] * 5 == told[-5:]
