"""Guards that ask somebody: services over real sockets, models behind their Protocols."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.guards.base import GuardContext
from asgi_llm.guards.entities import EntitiesGuard, gliner, presidio
from asgi_llm.guards.models import ClassifierGuard, JudgeGuard
from asgi_llm.guards.moderation import ModerationGuard
from asgi_llm.guards.webhook import WebhookGuard
from asgi_llm.testing.upstream import Reply, Upstream, Wait, json_reply, raw_reply
from asgi_llm.transports.http1 import Http1Transport

SECRET = "a secret of the tests"


def moderated(flags: Mapping[str, bool], scores: Mapping[str, float]) -> Reply:
    return json_reply({"results": [{"categories": flags, "category_scores": scores}]})


async def moderate(reply: Reply, context: GuardContext, **options: Any) -> list[tuple[str, float]]:
    transport = Http1Transport()
    try:
        async with asyncio.timeout(30), Upstream(lambda _: reply) as upstream:
            guard = ModerationGuard(
                f"{upstream.url}/v1/moderations", transport=transport, **options
            )
            found = await guard.check("some text", context)
            request = json.loads((await upstream.served(1))[0].request.body)
            assert ("some text", "omni-moderation-latest") == (request["input"], request["model"])
            return [(one.category, one.score) for one in found]
    finally:
        await transport.aclose()


async def test_moderation_says_what_the_service_says(context: GuardContext) -> None:
    """Its flags, with its scores."""
    reply = moderated({"violence": True, "hate": False}, {"violence": 0.9, "hate": 0.4})
    assert [("moderation.violence", 0.9)] == await moderate(reply, context)


async def test_moderation_with_thresholds_of_ones_own(context: GuardContext) -> None:
    """They take the place of the service's flags."""
    reply = moderated({"violence": True, "hate": False}, {"violence": 0.9, "hate": 0.4})
    found = await moderate(reply, context, thresholds={"hate": 0.3, "*": 0.95})
    assert [("moderation.hate", 0.4)] == found


@pytest.mark.parametrize(
    "reply",
    [
        json_reply({"results": []}),
        json_reply({"results": [{"categories": 3}]}),
        json_reply([]),
        json_reply({}, status=500),
        raw_reply(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nno!"),
    ],
)
async def test_moderation_that_cannot_be_understood(reply: Reply, context: GuardContext) -> None:
    """It is an error of the service, for the layer to decide on."""
    with pytest.raises(StoreError):
        await moderate(reply, context)


async def test_b13_a_service_that_hangs_is_given_up(context: GuardContext) -> None:
    """At the deadline."""
    never = asyncio.Event()
    transport = Http1Transport()
    async with asyncio.timeout(30):
        async with Upstream(lambda _: json_reply({}, before=[Wait(never)])) as upstream:
            guard = ModerationGuard(upstream.url, transport=transport, timeout_seconds=0.05)
            with pytest.raises(StoreError, match="did not answer"):
                await guard.check("text", context)
            never.set()
        await transport.aclose()


async def test_an_empty_text_is_not_moderated(context: GuardContext) -> None:
    """Nobody is asked."""
    guard = ModerationGuard("http://127.0.0.1:1/", transport=Http1Transport())
    assert [] == list(await guard.check("  ", context))


async def hooked(reply: Reply, context: GuardContext, text: str = "some text") -> Any:
    transport = Http1Transport()
    async with asyncio.timeout(30), Upstream(lambda _: reply) as upstream:
        guard = WebhookGuard(
            f"{upstream.url}/hook", secret=SECRET, transport=transport, wall_clock=lambda: 1000.5
        )
        try:
            return await guard.check(text, context), (await upstream.served(1))[0].request
        finally:
            await transport.aclose()


async def test_b36_a_webhook_is_signed(context: GuardContext) -> None:
    """The time and the body, with the secret; the body has the text and where it stands."""
    found, request = await hooked(json_reply({"findings": []}), context)
    assert [] == found
    body = bytes(request.body)
    digest = hmac.new(SECRET.encode(), b"1000." + body, hashlib.sha256).hexdigest()
    headers = dict(request.headers)
    assert f"t=1000,v1={digest}".encode() == headers[b"x-signature"]
    assert {
        "text": "some text",
        "direction": "input",
        "role": "user",
        "path": "messages[0].content",
        "model": "",
    } == json.loads(body)


async def test_a_webhook_finds(context: GuardContext) -> None:
    """What it answers, in the order of the text."""
    reply = json_reply(
        {
            "findings": [
                {"category": "house.b", "start": 5, "end": 9, "score": 0.5, "reason": "b"},
                {"category": "house.a"},
            ]
        }
    )
    found, _ = await hooked(reply, context)
    assert [("house.a", 0, 0, 1.0), ("house.b", 5, 9, 0.5)] == [
        (one.category, one.start, one.end, one.score) for one in found
    ]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"findings": [{"start": 1}]},
        {"findings": [{"category": "a", "start": 5, "end": 2}]},
        {"findings": [{"category": "a", "start": 0, "end": 99}]},
        {"findings": [{"category": "a", "score": 2}]},
        {"findings": [{"category": "a"}] * 1001},
    ],
)
async def test_a_webhook_that_cannot_be_understood(document: Any, context: GuardContext) -> None:
    """It is an error of the service."""
    with pytest.raises(StoreError):
        await hooked(json_reply(document), context)


async def test_b9_b36_a_webhook_does_not_reach_private_addresses(context: GuardContext) -> None:
    """Unless a transport is given that may: no connection is made."""
    async with asyncio.timeout(30), Upstream(lambda _: json_reply({"findings": []})) as upstream:
        guard = WebhookGuard(upstream.url, secret=SECRET)
        with pytest.raises(StoreError):
            await guard.check("text", context)
        await guard.aclose()
        assert 0 == upstream.connections


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"url": "ftp://x"}, "url"),
        ({"url": "http://127.0.0.1 /"}, "url"),
        ({"secret": "short"}, "secret"),
        ({"window": 0}, "window"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
    ],
)
def test_wrong_options_of_a_webhook(options: dict[str, Any], param: str) -> None:
    """They are named."""
    given = {"url": "https://hook.example/", "secret": SECRET, **options}
    with pytest.raises(ConfigurationError) as refused:
        WebhookGuard(given.pop("url"), **given)
    assert param == refused.value.param


def test_wrong_thresholds_of_moderation() -> None:
    """They are from 0 to 1."""
    with pytest.raises(ConfigurationError):
        ModerationGuard("http://a/", transport=Http1Transport(), thresholds={"hate": 2})


# Models


def test_a_classifier_sees_a_long_text_in_pieces(context: GuardContext) -> None:
    """Each piece that has the label is a finding."""
    seen: list[int] = []

    def classify(text: str) -> Mapping[str, float]:
        seen.append(len(text))
        return {"INJECTION": 0.9 if "bad" in text else 0.1, "OTHER": 1.0}

    guard = ClassifierGuard(classify, labels={"INJECTION": "injection.model"})
    text = "x" * 3900 + "bad"
    found = guard.check(text, context)
    assert [2000, 2000, 303] == seen
    assert [("injection.model", 3600, 3903)] == [(f.category, f.start, f.end) for f in found]
    assert [] == list(guard.check("", context))


class Scripted:
    """A judge that answers what it is told, and keeps the question."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.question = ""

    async def __call__(self, question: str) -> str:
        self.question = question
        return self.answer


async def test_a_judge(context: GuardContext) -> None:
    """Its number is the score; the text stands between marks that it does not hold."""
    judge = Scripted(" 80\n")
    (found,) = await JudgeGuard(judge).check("x ============ {text} {mark}", context)
    assert ("injection.judge", 0.8, 0, 0) == (found.category, found.score, found.start, found.end)
    assert 3 == judge.question.count("=============")
    assert "x ============ {text} {mark}" in judge.question
    assert [] == list(await JudgeGuard(Scripted("20")).check("x", context))


async def test_a_judge_reads_both_ends_of_a_long_text(context: GuardContext) -> None:
    """And no more than that."""
    judge = Scripted("0")
    await JudgeGuard(judge).check("a" * 15_000 + "b" * 15_000, context)
    assert (10_000, 10_000) == (judge.question.count("aa") * 2, judge.question.count("bb") * 2)


@pytest.mark.parametrize("answer", ["no", "", "nan", "101", "-1"])
async def test_a_judge_that_gives_no_number(answer: str, context: GuardContext) -> None:
    """It has not judged."""
    with pytest.raises(StoreError):
        await JudgeGuard(Scripted(answer)).check("x", context)


class Analyzed:
    """One result, as Presidio's analyzer gives them."""

    def __init__(self, start: int, end: int, entity_type: str, score: float) -> None:
        self.start, self.end, self.entity_type, self.score = start, end, entity_type, score


class Analyzer:
    """Finds the word Ada, as Presidio would."""

    def analyze(self, *, text: str, language: str, entities: Sequence[str]) -> list[Analyzed]:
        assert ("en", ["PERSON"]) == (language, list(entities))
        at = text.find("Ada")
        return [Analyzed(at, at + 3, "PERSON", 0.85)] if at >= 0 else []


def test_entities_of_presidio(context: GuardContext) -> None:
    """Names, also where one stands on the border of two pieces: once."""
    guard = EntitiesGuard(
        presidio(kinds=["PERSON"], analyzer=Analyzer()), categories={"PERSON": "pii.name"}
    )
    for text in ("I am Ada.", "x" * 3950 + " Ada"):
        start = text.index("Ada")
        assert [("pii.name", start, start + 3)] == [
            (f.category, f.start, f.end) for f in guard.check(text, context)
        ]


class Gliner:
    """Finds everything to be a person, as little as GLiNER would."""

    def predict_entities(self, text: str, labels: Sequence[str]) -> list[dict[str, Any]]:
        return [{"start": 0, "end": len(text), "label": labels[0], "score": 0.4}]


def test_entities_of_gliner(context: GuardContext) -> None:
    """Only those whose score is high enough."""
    recognizer = gliner(model=Gliner())
    low = EntitiesGuard(recognizer, categories={"person": "pii.name"}, threshold=0.3)
    assert 1 == len(low.check("Ada", context))
    assert [] == list(EntitiesGuard(recognizer, categories={"person": "x"}).check("Ada", context))
    assert [] == list(EntitiesGuard(recognizer, categories={"place": "x"}).check("Ada", context))


def test_wrong_options_of_models() -> None:
    """They are refused when the guard is made."""
    for make in (
        lambda: ClassifierGuard(lambda _: {}, labels={}),
        lambda: ClassifierGuard(lambda _: {}, labels={"a": "b"}, threshold=2),
        lambda: JudgeGuard(Scripted(""), threshold=2),
        lambda: JudgeGuard(Scripted(""), question="no slots"),
        lambda: EntitiesGuard(lambda _: (), categories={}),
        lambda: EntitiesGuard(lambda _: (), categories={"a": "b"}, threshold=-1),
        lambda: gliner(),
    ):
        with pytest.raises(ConfigurationError):
            make()
