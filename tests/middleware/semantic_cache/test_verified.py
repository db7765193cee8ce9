"""The policy that learns, by itself and in the layer."""

from __future__ import annotations

import hashlib
import math
import random
from typing import Any, NamedTuple

import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.middleware._semantic_policy import Evidence, ThresholdPolicy
from asgi_llm.middleware._semantic_verified import VerifiedPolicy
from asgi_llm.middleware.semantic_cache import SemanticCacheMiddleware
from asgi_llm.stores.semantic_index import Selection
from asgi_llm.stores.semantic_index_memory import MemorySemanticIndex
from asgi_llm.testing import chat_answer
from tests.middleware.exact_cache.conftest import App, ask, cache_of
from tests.middleware.semantic_cache.conftest import ALIKE, WordEmbedder, asks


def near(similarity: float, wording: str = "", *, same: bool = False) -> Evidence:
    """A candidate that is so similar; wordings are told apart by a name."""
    digest = hashlib.sha256(wording.encode()).digest()[:8] if wording else b""
    return Evidence(similarity=similarity, wording=digest, same_wording=same)


def observe(policy: VerifiedPolicy, evidence: Evidence, correct: bool, state: bytes) -> bytes:
    """The state after an observation that all entries profit from."""
    policy.generalize(evidence, correct, state)
    return policy.learn(evidence, correct, state)


def taught(policy: VerifiedPolicy, observations: list[tuple[float, bool]]) -> bytes:
    """The state of an entry after ``observations``, each in a wording of its own."""
    state = b""
    for similarity, correct in observations:
        state = observe(policy, near(similarity), correct, state)
    return state


def proven(**options: Any) -> VerifiedPolicy:
    """A policy that has seen 2000 answers hold under the wordings of their own entries."""
    policy = VerifiedPolicy(**options)
    for at in range(2000):
        observe(policy, near(0.9, str(at), same=True), True, b"")
    assert policy.audit.proven
    return policy


def test_nothing_is_served_before_it_is_proven() -> None:
    """All is explored until a sample shows that the error rate holds, and not much longer."""
    policy = VerifiedPolicy(max_error_rate=0.02, chance=random.Random(1).random)
    state, explored = b"", 0
    same = near(0.97, "same", same=True)
    while policy.decide(same, state) == "explore":
        state = observe(policy, same, True, state)
        explored += 1
    # No test of a rate of 2 % that is wrong once in 20 needs fewer than these.
    assert math.log(0.05) / math.log(0.98) <= explored <= 400
    assert ("skip", "explore") == (
        policy.decide(near(0.69, "same", same=True), state),
        VerifiedPolicy(chance=lambda: 0.999).decide(same, state),
    )


def test_good_experience_is_served_and_bad_is_not() -> None:
    """What proved right where it was asked is served there; not where it proved wrong."""
    policy = proven(max_error_rate=0.02, confidence=0.8, chance=lambda: 0.5)
    good = taught(policy, [(0.85, True)] * 60)
    mixed = taught(policy, [(0.95, True)] * 30 + [(0.85, False)] * 10)
    for _ in range(2000):
        policy.decide(near(0.9), good)  # wordings do not return: there is no use in asking first
    assert "serve" == policy.decide(near(0.9), good)
    assert "explore" == policy.decide(near(0.85), mixed)
    assert policy.exploring(near(0.97), mixed) < policy.exploring(near(0.85), mixed)


def test_a_wording_is_asked_about_once() -> None:
    """What was confirmed of a wording is served, what was refuted is passed over; both for good."""
    policy = proven(max_error_rate=0.02, chance=lambda: 0.5)
    assert "explore" == policy.decide(near(0.9, "new"), b"")
    state = policy.learn(near(0.9, "good"), True, b"")
    state = policy.learn(near(0.98, "bad"), False, state)
    assert ["serve", "skip", "explore"] == [
        policy.decide(near(similarity, wording), state)
        for similarity, wording in ((0.75, "good"), (0.99, "bad"), (0.9, "new"))
    ]
    assert policy.exploring(near(0.75, "good"), state) == 0.02


def test_the_own_wording_needs_no_confirmation() -> None:
    """An entry's answer was given to its own wording; two refusals and it is passed over."""
    policy = proven(max_error_rate=0.02, chance=lambda: 0.5)
    own = near(0.8, "own", same=True)
    once = policy.learn(own, False, b"")
    assert ["serve", "explore", "skip"] == [
        policy.decide(own, state) for state in (b"", once, policy.learn(own, False, once))
    ]


def test_doubt_grows_with_the_whims_of_the_model() -> None:
    """Where repeats often turn out differently, one confirmation is not enough any more."""
    policy = proven(max_error_rate=0.02, chance=lambda: 0.5)
    calm = policy.exploring(near(0.8, "own", same=True), b"")
    for at in range(300):
        policy.generalize(near(0.9, str(at), same=True), at % 4 != 0, b"")
    assert calm == 0.02
    assert policy.exploring(near(0.8, "own", same=True), b"") > 0.5


def test_wordings_that_do_not_return_are_not_asked_about_for_their_own_sake() -> None:
    """How much is explored first falls with how rarely a wording comes again."""
    policy = proven(max_error_rate=0.02, confidence=0.8, chance=lambda: 0.5)
    state = taught(policy, [(0.95, True)] * 80)
    before = policy.exploring(near(0.97, "new"), state)
    for at in range(3000):
        policy.decide(near(0.97, f"another {at}"), state)
    assert before > 0.3
    assert policy.exploring(near(0.97, "new"), state) == 0.02


def test_an_answer_that_is_ever_wrong_is_never_trusted() -> None:
    """An entry that near misses reach at any similarity is asked about for ever."""
    policy = VerifiedPolicy(max_error_rate=0.01, chance=lambda: 0.5)
    state = taught(policy, [(0.97, at % 2 == 0) for at in range(200)])
    assert policy.exploring(near(1.0), state) > 0.9
    assert None is policy.experience(state).boundary


def test_experience_is_told() -> None:
    """People are told how much was learned, and from which similarity on an answer is served."""
    policy = VerifiedPolicy(max_error_rate=0.05, confidence=0.5)
    told = policy.experience(taught(policy, [(0.9, True)] * 40 + [(0.75, False)] * 5))
    assert (45, 40) == (told.observations, told.correct)
    assert told.boundary is not None
    assert 0.75 < told.boundary <= 0.95


@pytest.mark.parametrize("state", [b"", b"x", b"\x01" * 700, b"\x02", b"\xff" * 700])
def test_a_state_that_cannot_be_read_counts_for_nothing(state: bytes) -> None:
    """What another version has written is no experience, and no error."""
    policy = VerifiedPolicy()
    for evidence in (near(0.9), near(0.9, "own", same=True)):
        assert policy.exploring(evidence, state) == policy.exploring(evidence, b"")
        assert policy.learn(evidence, True, state) == policy.learn(evidence, True, b"")
    assert 0 == policy.experience(state).observations


def test_the_state_stays_small() -> None:
    """An entry keeps at most a kilobyte, the latest wordings, and counts that do not run over."""
    policy = proven()
    state = b""
    for at in range(500):
        state = policy.learn(near(0.9, str(at)), True, state)
    assert len(state) <= 1024
    told = [policy.exploring(near(0.9, str(at)), state) for at in (0, 467, 468, 499)]
    assert told[0] == told[1] > told[2] == told[3] == 0.01
    for _ in range(70_000):
        state = policy.learn(near(0.9, "499"), True, state)
    assert (len(state) <= 1024, 70_500) == (True, policy.experience(state).observations)
    assert 0.01 == policy.exploring(near(0.9, "499"), state)


def test_what_is_learned_survives() -> None:
    """Another process reads from the state what was learned of an entry, wordings and all."""
    policy = VerifiedPolicy(max_error_rate=0.02)
    state = policy.learn(near(0.9, "good"), True, b"")
    state = policy.learn(near(0.9, "bad"), False, state)
    other = proven(max_error_rate=0.02, chance=lambda: 0.5)
    assert ["serve", "skip"] == [
        other.decide(near(0.9, wording), state) for wording in ("good", "bad")
    ]
    assert (2, 1) == (other.experience(state).observations, other.experience(state).correct)


class Asked(NamedTuple):
    """What became of a stream of candidates."""

    hits: int
    errors: int
    verdicts: tuple[str, ...]


def run(policy: VerifiedPolicy, *, seed: int, whims: float, count: int = 20_000) -> Asked:
    """``count`` candidates of 150 entries, each with a curve and 20 wordings of its own.

    Popularity is Zipf's. A fifth of the entries are such that their answer is wrong at any
    similarity in 3 to 30 of 100 cases. Of a wording an answer is right or wrong, but for as large a
    share of answers as ``whims`` that turn out otherwise.
    """
    chance = random.Random(seed)
    curves = [
        (
            chance.uniform(0.7, 0.95),
            chance.choice((20.0, 60.0)),
            1.0 if chance.random() < 0.8 else chance.uniform(0.7, 0.97),
        )
        for _ in range(150)
    ]
    weights = [1 / rank for rank in range(1, len(curves) + 1)]
    wordings: dict[tuple[int, int], tuple[float, bool]] = {}
    for entry, (boundary, slope, ceiling) in enumerate(curves):
        for number in range(20):
            similarity = chance.uniform(0.7, 1.0)
            right = ceiling / (1 + math.exp(-slope * (similarity - boundary)))
            wordings[entry, number] = (similarity, number == 0 or chance.random() < right)
    states = [b""] * len(curves)
    verdicts: list[str] = []
    errors = 0
    for entry in chance.choices(range(len(curves)), weights, k=count):
        number = chance.randrange(20)
        similarity, holds = wordings[entry, number]
        correct = holds != (chance.random() < whims)
        evidence = near(similarity, f"{entry}/{number}", same=number == 0)
        verdicts.append(policy.decide(evidence, states[entry]))
        if verdicts[-1] == "explore":
            states[entry] = observe(policy, evidence, correct, states[entry])
        elif verdicts[-1] == "serve":
            errors += not correct
    return Asked(verdicts.count("serve"), errors, tuple(verdicts))


@pytest.mark.parametrize("bound", [0.01, 0.02, 0.05])
@pytest.mark.parametrize("whims", [0.0, 0.01, 0.1])
def test_the_bound_holds(bound: float, whims: float) -> None:
    """Errors stay under the bound, however often answers differ for no reason; hits are many."""
    policy = VerifiedPolicy(max_error_rate=bound, chance=random.Random(5).random)
    asked = run(policy, seed=11, whims=whims)
    assert asked.errors / 20_000 <= bound
    assert asked.hits > (500 if whims > bound else 6000)


@pytest.mark.parametrize("bound", [0.01, 0.02, 0.05])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_bound_holds_without_wordings(bound: float, confidence: float) -> None:
    """Where no text returns, errors stay under the bound by what similarity tells."""
    chance = random.Random(11)
    policy = VerifiedPolicy(
        max_error_rate=bound, confidence=confidence, chance=random.Random(5).random
    )
    states = [b""] * 150
    ends = [chance.uniform(0.72, 0.92) for _ in states]
    errors = hits = 0
    for entry in chance.choices(range(len(states)), [1 / rank for rank in range(1, 151)], k=20_000):
        similarity = chance.uniform(0.7, 1.0)
        correct = chance.random() < 0.999 / (1 + math.exp(-80 * (similarity - ends[entry])))
        verdict = policy.decide(near(similarity), states[entry])
        if verdict == "explore":
            states[entry] = observe(policy, near(similarity), correct, states[entry])
        elif verdict == "serve":
            hits += 1
            errors += not correct
    assert errors / 20_000 <= bound
    assert hits > 1000


def test_chance_decides_alone() -> None:
    """With the same numbers for chance the same is decided, and others decide otherwise."""
    runs = [
        run(VerifiedPolicy(chance=random.Random(seed).random), seed=3, whims=0.0)
        for seed in (1, 1, 2)
    ]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


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
    state = policy.learn(near(0.95), False, b"")
    policy.generalize(near(0.95), False, state)
    assert ("serve", "skip") == (policy.decide(near(0.9), state), policy.decide(near(0.89), state))
    assert (b"", 0) == (state, policy.experience(state).observations)


class Deciding(ThresholdPolicy):
    """Explores everything, and notes what it is taught."""

    learns = True

    def __init__(self) -> None:
        super().__init__(0.3)
        self.taught: list[bool] = []

    def decide(self, evidence: Evidence, state: bytes) -> Any:
        return "explore"

    def learn(self, evidence: Evidence, correct: bool, state: bytes) -> bytes:
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
    assert b"other+" == entry.learning.state


@pytest.mark.parametrize("when", ["before it is written", "after a lost race"])
async def test_what_was_learned_of_an_answer_is_not_written_onto_the_next(when: str) -> None:
    """Another answer may take the place of the one that was compared, under the same id."""

    class Replaced(MemorySemanticIndex):
        replaced = False

        async def update_learning(self, id: str, *, expected_version: int, state: bytes) -> bool:
            if not self.replaced:
                await self._replace(id)
                if when == "after a lost race":
                    return False
            return await super().update_learning(id, expected_version=expected_version, state=state)

        async def _replace(self, id: str) -> None:
            self.replaced = True
            await self.remove(Selection(ids=(id,)))
            await ask(cache, asks(ALIKE[0]))

    answers = iter(["The code is 1111.", "The code is 1111.", "The code is 2222."])
    app, index = App(lambda number: chat_answer(next(answers))), Replaced()
    cache = SemanticCacheMiddleware(app, embedder=WordEmbedder(), index=index, policy=Deciding())
    for text in ALIKE[:2]:
        await ask(cache, asks(text))
    (entry,) = await index.find(Selection())
    assert b"2222" in entry.payload
    assert b"" == entry.learning.state


async def test_verified_in_the_layer() -> None:
    """After enough agreement the layer serves what it asked about before."""
    app = App(lambda number: chat_answer("The same."))
    policy = VerifiedPolicy(max_error_rate=0.1, confidence=0.5, chance=random.Random(3).random)
    cache = SemanticCacheMiddleware(app, embedder=WordEmbedder(), policy=policy)
    await ask(cache, asks(ALIKE[0]))
    told = [cache_of(await ask(cache, asks(ALIKE[1])))[0] for _ in range(60)]
    assert b"MISS" == told[0]
    assert [b"HIT"] * 5 == told[-5:]


async def test_a_wording_is_served_in_any_dress() -> None:
    """The layer tells greetings from wording, and what one process learned serves another."""
    app, index = App(lambda number: chat_answer("The same.")), MemorySemanticIndex()
    first = SemanticCacheMiddleware(
        app, embedder=WordEmbedder(), index=index, policy=VerifiedPolicy(max_error_rate=0.02)
    )
    for text in ALIKE[:2]:
        assert (b"MISS", None) == cache_of(await ask(first, asks(text)))
    second = SemanticCacheMiddleware(
        app,
        embedder=WordEmbedder(),
        index=index,
        policy=proven(max_error_rate=0.02, chance=lambda: 0.5),
    )
    told = [cache_of(await ask(second, asks(f"Hi, {text} Thanks!")))[0] for text in ALIKE]
    assert [b"HIT", b"HIT"] == told[:2]
    assert 2 + told.count(b"MISS") == app.calls
