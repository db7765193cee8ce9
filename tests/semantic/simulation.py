"""Streams of requests over the labelled groups, under a threshold or under ``verified``.

Requests are real texts: a wording of a group, or a near miss as a question of its own, with a
greeting and thanks. Groups are as popular as Zipf's law has it. What was asked before word for word
is left out, for an exact cache would answer it.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np

from asgi_llm.middleware._agreement import Reading, disagreement, read
from asgi_llm.middleware._semantic_policy import DecisionPolicy, Evidence
from asgi_llm.middleware._semantic_wording import wording_of
from tests.semantic.labelled import PARTS, pairs_of

if TYPE_CHECKING:
    from asgi_llm.embedders.base import Vector

__all__ = ["STREAMS", "Request", "Run", "Stream", "draw", "simulate"]

Stream = Literal["steady", "shift", "outdated", "near_misses"]
STREAMS: Final[Mapping[Stream, str]] = {
    "steady": "popularity stays",
    "shift": "halfway other questions come, and popularity is drawn anew",
    "outdated": "halfway one question of twenty gets another answer",
    "near_misses": "once paraphrases are learned only near misses come, each of them once",
}

_BEFORE = (
    *("", "Hi, ", "Hello! ", "Please help: ", "Quick question: ", "Hey, ", "Question: "),
    *("Sorry to ask, but ", "One more question: ", "Could you tell me: ", "I was wondering: "),
    "Good morning. ",
)
_BEHIND = (
    *("", " Thanks!", " Thank you.", " Please answer briefly.", " I would like to know."),
    *(" Thanks in advance.", " Please.", " Any help is welcome.", " Cheers"),
)
_CANDIDATES = 8
"""As in the layer."""
_WARM = 1000
"""Requests after which the rate of errors so far is looked at."""


class Request(NamedTuple):
    """What is asked, and which question it is."""

    question: int
    text: str


class Run(NamedTuple):
    """What became of a stream of requests."""

    requests: int
    entries: int
    hits: int
    errors: int
    reworded: int
    """Hits whose text says it in other words than the entry's."""
    last_requests: int
    """The last quarter, when all is learned that will be."""
    last_hits: int
    last_errors: int
    worst: float
    """The highest rate of errors among all requests so far, at any time after 1000 of them."""


def draw(
    count: int, *, seed: int, parts: Sequence[str] = PARTS, stream: Stream = "steady"
) -> list[Request]:
    """``count`` requests, of which those that were asked before word for word are left out."""
    chance = random.Random(seed)
    questions = _questions(parts)
    chance.shuffle(questions)
    if stream == "near_misses":
        several = [at for at, texts in enumerate(questions) if len(texts) > 1]
        misses = [(at, texts[0]) for at, texts in enumerate(questions) if len(texts) == 1]
        # Of what is new to an exact cache the last quarter are near misses.
        drawn = _popular(chance, questions, several, len(misses) * 4)
        drawn += chance.sample(misses, len(misses))
    else:
        first = len(questions) // 2 if stream == "shift" else len(questions)
        drawn = _popular(chance, questions, range(first), count // 2)
        order = list(range(len(questions)))
        if stream == "shift":
            chance.shuffle(order)
        drawn += _popular(chance, questions, order, count - len(drawn))
    seen: set[str] = set()
    requests: list[Request] = []
    for place, (question, wording) in enumerate(drawn):
        if stream == "outdated" and place >= len(drawn) // 2 and question % 20 == 0:
            question += len(questions)
        text = f"{chance.choice(_BEFORE)}{wording}{chance.choice(_BEHIND)}"
        if text not in seen:
            seen.add(text)
            requests.append(Request(question, text))
    return requests


def _popular(
    chance: random.Random, questions: Sequence[Sequence[str]], order: Sequence[int], count: int
) -> list[tuple[int, str]]:
    weights = [1 / rank for rank in range(1, len(order) + 1)]
    return [
        (question, chance.choice(questions[question]))
        for question in chance.choices(order, weights, k=count)
    ]


def _questions(parts: Sequence[str]) -> list[list[str]]:
    groups: dict[tuple[str, str], dict[str, None]] = {}
    single: dict[str, None] = {}
    for part in parts:
        for name, pairs in pairs_of(part).items():
            for pair in pairs:
                if name == "paraphrase":
                    groups.setdefault((part, pair.family), {}).update({pair.a: None, pair.b: None})
                elif name != "unrelated":
                    single.update({pair.a: None, pair.b: None})
    known = {text for group in groups.values() for text in group}
    return [list(group) for group in groups.values()] + [
        [text] for text in single if text not in known
    ]


@functools.cache
def _read(text: str) -> tuple[Reading, bytes]:
    reading = read(text)
    return reading, wording_of((reading,))


def simulate(
    requests: Sequence[Request],
    vector_of: Callable[[str], Vector],
    policy: DecisionPolicy,
    *,
    guarded: bool,
) -> Run:
    """Put ``requests`` through a cache that starts empty.

    As in the layer, an explored answer that says the same is not kept a second time.
    """
    rows = np.zeros((len(requests), len(vector_of(requests[0].text))), dtype=np.float32)
    entries: list[Request] = []
    states: list[bytes] = []
    hits = errors = reworded = last_hits = last_errors = 0
    worst = 0.0
    last = len(requests) * 3 // 4
    for place, request in enumerate(requests):
        vector = vector_of(request.text)
        reading, wording = _read(request.text)
        cosines = rows[: len(entries)] @ vector
        keeps = True
        for entry in _nearest(cosines):
            similarity = float(cosines[entry])
            if similarity < policy.min_similarity:
                break
            old, old_wording = _read(entries[entry].text)
            if guarded and disagreement(reading, old):
                continue
            same = entries[entry].question == request.question
            evidence = Evidence(
                similarity=similarity, wording=wording, same_wording=wording == old_wording
            )
            verdict = policy.decide(evidence, states[entry])
            if verdict == "skip":
                continue
            if verdict == "explore":
                policy.generalize(evidence, same, states[entry])
                states[entry] = policy.learn(evidence, same, states[entry])
                keeps = not same
            else:
                keeps = False
                hits += 1
                errors += not same
                reworded += not evidence.same_wording
                last_hits += place >= last
                last_errors += place >= last and not same
            break
        if place >= _WARM:
            worst = max(worst, errors / (place + 1))
        if keeps:
            rows[len(entries)] = vector
            entries.append(request)
            states.append(b"")
    return Run(
        requests=len(requests),
        entries=len(entries),
        hits=hits,
        errors=errors,
        reworded=reworded,
        last_requests=len(requests) - last,
        last_hits=last_hits,
        last_errors=last_errors,
        worst=worst,
    )


def _nearest(cosines: np.ndarray[tuple[int], np.dtype[np.float32]]) -> Sequence[int]:
    """Where the nearest entries stand, the nearest first."""
    if len(cosines) > _CANDIDATES:
        some = np.argpartition(-cosines, _CANDIDATES)[:_CANDIDATES]
    else:
        some = np.arange(len(cosines))
    found: list[int] = some[np.argsort(-cosines[some])].tolist()
    return found
