"""A stream of requests over the labelled groups, under a threshold or under ``verified``.

Requests are real texts: a wording of a group, or a near miss as a question of its own, with a
greeting and thanks. Groups are as popular as Zipf's law has it. What was asked before word for word
is left out, for an exact cache would answer it.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from asgi_llm.middleware._agreement import disagreement, read
from asgi_llm.middleware._semantic_policy import DecisionPolicy
from tests.semantic.labelled import PARTS, pairs_of

if TYPE_CHECKING:
    from asgi_llm.embedders.base import Vector

__all__ = ["Request", "Run", "draw", "simulate"]

_BEFORE = (
    *("", "Hi, ", "Hello! ", "Please help: ", "Quick question: ", "Hey, ", "Question: "),
    *("Sorry to ask, but ", "One more question: ", "Could you tell me: ", "I was wondering: "),
    "Good morning. ",
)
_BEHIND = (
    *("", " Thanks!", " Thank you.", " Please answer briefly.", " I would like to know."),
    *(" Thanks in advance.", " Please.", " Any help is welcome.", " Cheers"),
)
_CANDIDATES = 5


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
    last_requests: int
    """The last quarter, when all is learned that will be."""
    last_hits: int
    last_errors: int


def draw(count: int, *, seed: int) -> list[Request]:
    """``count`` requests, of which those that were asked before word for word are left out."""
    chance = random.Random(seed)
    questions = _questions()
    chance.shuffle(questions)
    weights = [1 / rank for rank in range(1, len(questions) + 1)]
    seen: set[str] = set()
    requests: list[Request] = []
    for question in chance.choices(range(len(questions)), weights, k=count):
        wording = chance.choice(questions[question])
        text = f"{chance.choice(_BEFORE)}{wording}{chance.choice(_BEHIND)}"
        if text not in seen:
            seen.add(text)
            requests.append(Request(question, text))
    return requests


def _questions() -> list[list[str]]:
    groups: dict[tuple[str, str], dict[str, None]] = {}
    single: dict[str, None] = {}
    for part in PARTS:
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


def simulate(
    requests: Sequence[Request],
    vectors: Mapping[str, Vector],
    policy: DecisionPolicy,
    *,
    guarded: bool,
) -> Run:
    """Put ``requests`` through a cache that starts empty.

    As in the layer, an explored answer that says the same is not kept a second time.
    """
    reading = functools.lru_cache(maxsize=None)(read)
    rows = np.zeros((len(requests), len(vectors[requests[0].text])), dtype=np.float32)
    entries: list[Request] = []
    states: list[bytes] = []
    hits = errors = last_hits = last_errors = 0
    last = len(requests) * 3 // 4
    for place, request in enumerate(requests):
        vector = vectors[request.text]
        cosines = rows[: len(entries)] @ vector
        keeps = True
        for entry in np.argsort(-cosines)[:_CANDIDATES]:
            if guarded and disagreement(reading(request.text), reading(entries[entry].text)):
                continue
            similarity = float(cosines[entry])
            same = entries[entry].question == request.question
            verdict = policy.decide(similarity, states[entry])
            if verdict == "explore":
                states[entry] = policy.learn(similarity, same, states[entry])
                policy.generalize(states[entry])
                keeps = not same
            elif verdict == "serve":
                keeps = False
                hits += 1
                errors += not same
                last_hits += place >= last
                last_errors += place >= last and not same
            break
        if keeps:
            rows[len(entries)] = vector
            entries.append(request)
            states.append(b"")
    return Run(
        len(requests), len(entries), hits, errors, len(requests) - last, last_hits, last_errors
    )
