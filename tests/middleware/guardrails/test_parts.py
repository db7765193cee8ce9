"""Small parts of the guardrails: the quick look, the threads, the views, and what is noted."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_llm.errors import StoreError
from asgi_llm.guards.base import Finding, GuardContext, GuardCost
from asgi_llm.guards.patterns import PatternGuard, Rule
from asgi_llm.middleware._guard_chat import list_simple_texts, read_simple_request
from asgi_llm.middleware._guard_checks import MAX_VERDICTS
from asgi_llm.middleware._guard_frame import read_frame
from asgi_llm.middleware._guard_pieces import read_simple_chunk
from asgi_llm.middleware._guard_quick import PanelLook
from asgi_llm.middleware._guard_quick_rules import QuickRules
from asgi_llm.middleware._guard_simple import read_simple_answer
from asgi_llm.middleware._guard_texts import path_text, read_texts
from asgi_llm.middleware._guard_threads import Threads
from asgi_llm.middleware._guard_views import is_plain, read_views, token_start
from asgi_llm.middleware.guardrails import Guardrail, GuardrailsMiddleware
from asgi_llm.state import VERDICTS
from asgi_llm.testing import chat_answer
from tests.middleware.guardrails.probes import App, Pattern, ask, chat


def quick(pattern: str) -> QuickRules:
    guard = PatternGuard("one", [Rule(category="x", pattern=pattern, max_length=8)])
    return QuickRules([guard], 8)


class OfRoles:
    """A rail for the texts of some roles."""

    def __init__(self, *roles: str) -> None:
        self.roles = frozenset(roles)


def judge(pattern: str, texts: list[str]) -> str:
    look = PanelLook(quick(pattern), [OfRoles()])
    return look.judge_request(texts, ["user"] * len(texts))


@pytest.mark.parametrize(
    "pattern", ["^bad", "bad$", r"\bbad\b", "(?:^|[^a])bad(?:[^a]|$)", "(?i)BAD"]
)
def test_the_quick_look_sees_what_the_ends_of_a_text_mean(pattern: str) -> None:
    """A rule that names the start or the end of a text finds it among others too."""
    assert "plain" == judge(pattern, ["one", "bad", "two"])
    assert "clean" == judge(pattern, ["one", "good", "two"])


@pytest.mark.parametrize(
    ("pattern", "works"), [(r"\Abad", False), (r"bad\z", False), ("bad", True)]
)
def test_rules_that_the_quick_look_cannot_have(pattern: str, works: bool) -> None:
    """With a rule that lines cannot stand in for, each text is looked at by itself."""
    assert works is quick(pattern).works


@pytest.mark.parametrize("text", ["caf\u00e9", "a%41b", "a\\nb", "&#65;", "QUJDREVGR0hJSktMTU5P"])
def test_the_quick_look_judges_plain_text_alone(text: str) -> None:
    """Of a text that may be in disguise it says nothing, and the views are asked for."""
    assert "unknown" == judge("bad", [text])
    assert not is_plain(text)


def test_the_quick_look_knows_whose_text_it_is() -> None:
    """A rule for users finds nothing in what the system says, nor between the two."""
    look = PanelLook(quick("bad"), [OfRoles("user")])
    assert "clean" == look.judge_request(["bad", "good"], ["system", "user"])
    assert "plain" == look.judge_request(["good", "bad"], ["system", "user"])
    assert "clean" == look.judge_request(["ba", "d"], ["system", "user"])
    assert "plain" == look.judge_request(["ba", "x", "d"], ["user", "system", "user"])
    assert not look.concerns("bad", "system")
    assert look.concerns("bad", "user")


@pytest.mark.parametrize("before", ["x." * 20, "x " * 20, ""])
@pytest.mark.parametrize("after", [".y" * 20, " y" * 20, ""])
@pytest.mark.parametrize("middle", [None, "m " * 20])
def test_the_quick_look_sees_what_stands_in_two_texts(
    before: str, after: str, middle: str | None
) -> None:
    """However long the texts are, whose ends alone are read together."""
    texts = [f"{before}b", f"ad{after}"]
    assert "plain" == judge("bad", texts)
    assert "plain" == judge("bad", texts if middle is None else [middle, *texts, middle])


@pytest.mark.parametrize("size", [0, 10, 40, 100])
def test_what_stands_in_texts_of_two_roles_is_seen_as_far_as_a_guard_reaches(size: int) -> None:
    """Of two guards the one of shorter findings looks at all roles, and misses none of them."""
    short, long = (
        PatternGuard(name, [Rule(category="x", pattern=pattern, max_length=length)])
        for name, pattern, length in (("short", "sec ret", 8), ("long", "bad .{0,40}", 48))
    )
    look = PanelLook(QuickRules([short, long], 48), [OfRoles(), OfRoles("user")])
    before, after = "w " * size, " w" * size
    for at in range(1, len("sec ret")):
        texts = [before + "sec ret"[:at], "sec ret"[at:] + after]
        assert "plain" == look.judge_request(texts, ["system", "user"])
        assert "plain" == look.judge_request(texts, ["user", "user"])
    assert "plain" == look.judge_request([before + "ba", "d " + after], ["user", "user"])
    assert "clean" == look.judge_request([before + "ba", "d " + after], ["system", "user"])


def test_the_quick_look_of_fewer_guards() -> None:
    """What one guard finds is nothing to a panel that has only the other one."""
    one, two = (
        PatternGuard(name, [Rule(category="x", pattern=name, max_length=8)])
        for name in ("bad", "worse")
    )
    narrow = QuickRules([one, two], 8).narrowed([two])
    assert narrow is not None
    look = PanelLook(narrow, [OfRoles()])
    assert ("clean", "plain") == (look.judge("bad"), look.judge("worse"))
    assert look.passes("so bad a thing")
    assert not look.passes("so much worse")
    assert QuickRules([one], 8).narrowed([two]) is None
    assert QuickRules([one], 8).narrowed([one, one]) is None


SIMPLE_VALUES = st.one_of(
    st.none(), st.booleans(), st.floats(allow_nan=False), st.integers(-(10**12), 10**12),
    st.sampled_from(["", "gpt", "data:,x", "x" * 70, "user"]), st.just(["stop"]),
    st.just({"include_usage": True}), st.just({"include_usage": "x"}),
)  # fmt: skip
MESSAGES = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {
                "role": st.sampled_from(["user", "system", "developer", "function", "r" * 70]),
                "content": st.sampled_from(["", "hello", "data:,x", "a" * 300, "two words", None]),
            },
            optional={"name": st.just("joe")},
        ),
        st.just("text"),
    ),
    max_size=3,
)  # fmt: skip


@given(
    st.fixed_dictionaries(
        {"messages": MESSAGES},
        optional={
            key: SIMPLE_VALUES
            for key in ("model", "temperature", "stop", "seed", "user", "stream_options", "other")
        },
    )
)
def test_a_simple_request_has_the_texts_that_are_read_of_any(document: dict[str, Any]) -> None:
    """The short way to the texts of a request gives what the long one does, or nothing."""
    simple = read_simple_request(document)
    if simple is not None:
        texts = read_texts(document)
        assert [(text.text, text.role) for text in texts] == list(zip(*simple, strict=True))
        assert texts == list_simple_texts(document)


@pytest.mark.parametrize(
    "answer",
    [
        {"usage": {"note": "alice@example.com"}},
        {"usage": {"prompt_tokens": "alice@example.com"}},
        {"id": "alice@example.com" * 5},
        {"created": 4111111111111111},
        {"note": "alice@example.com"},
        {"choices": []},
    ],
)
def test_answers_that_are_not_simple(answer: dict[str, Any]) -> None:
    """What may hide something beside the content is not judged by that alone."""
    plain = chat_answer("hello")
    assert "hello" == read_simple_answer(msgspec.json.encode(plain))
    assert read_simple_answer(msgspec.json.encode(plain | answer)) is None


CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":" and so"},"logprobs":%s}]}\n\n'


def test_the_frame_of_a_chunk() -> None:
    """What stands around a content is the same for all chunks of a stream."""
    chunk = CHUNK % b"null"
    frame = read_frame(chunk, 0, " and so")
    assert frame is not None
    assert chunk == frame.head + b" and so" + frame.tail
    assert " and so on" == frame.content([chunk, frame.head + b" on" + frame.tail])


@pytest.mark.parametrize(
    "inside",
    [b'a","role":"x', b"a\\nb", b"a\nb", "caf\u00e9".encode(), b"a\x7f", b"a\r\n\r\n", b"\xff"],
)
def test_what_a_frame_does_not_read(inside: bytes) -> None:
    """A chunk that says more than plain text is for others to read."""
    chunk = CHUNK % b"null"
    frame = read_frame(chunk, 0, " and so")
    assert frame is not None
    assert frame.content([chunk, frame.head + inside + frame.tail]) is None


def test_two_events_in_one_chunk_are_no_text() -> None:
    """Nor is what begins with one event and ends with another."""
    chunk = CHUNK % b"null"
    frame = read_frame(chunk, 0, " and so")
    assert frame is not None
    assert frame.content([chunk + chunk]) is None


@pytest.mark.parametrize(
    "chunk",
    [
        # The content that counts stands elsewhere.
        CHUNK % b'{"content":" and so"}',
        b'data: {"choices":[{"delta":{"content":" and so","content":" and so"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content": " and so"},"logprobs":"\\"content\\":"}]}\n\n',
    ],
)
def test_a_frame_is_only_what_stands_around_the_content(chunk: bytes) -> None:
    """Where the word stands twice, the frame is that of the content, or there is none."""
    frame = read_frame(chunk, 0, " and so")
    if frame is not None:
        other = frame.head + b" alice@example.com" + frame.tail
        assert (0, " alice@example.com") == read_simple_chunk(other)


@given(st.text(max_size=80))
def test_views_lead_back_into_the_text(text: str) -> None:
    """Every part of every view stands somewhere in the text, and longer parts no shorter."""
    for view in read_views(text, is_json=False):
        length = len(view.text)
        for start in range(0, length, 7):
            first, last = view.origin(start, min(length, start + 3))
            assert 0 <= first <= last <= len(text)
        if length:
            assert view.origin(0, length)[0] <= view.origin(length - 1, length)[0]


def test_tokens_are_not_cut() -> None:
    """A place inside a run of base64 or an escape goes back to its start."""
    assert 4 == token_start("see QUJDREVG now", 9)
    assert 0 == token_start("say%40now", 6)
    assert 8 == token_start("one two three", 8)


def test_paths_name_no_texts() -> None:
    """In a path only short words and the API's own names are written out."""
    path = (
        "tools",
        0,
        "parameters",
        "alice@example.com",
        "AKIAIOSFODNN7EXAMPLE",
        "additionalProperties",
    )
    assert "tools[0].parameters.*.*.additionalProperties" == path_text(path)


async def test_threads_take_no_more_than_they_can() -> None:
    """With all threads busy, calls wait up to a bound, and then fail at once."""
    release = threading.Event()
    threads = Threads(1)
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def first() -> bool:
        loop.call_soon_threadsafe(begun.set)
        return release.wait(5)

    waiting = [asyncio.create_task(threads.run(first))]
    async with asyncio.timeout(5):
        await begun.wait()
    waiting += [asyncio.create_task(threads.run(lambda: True)) for _ in range(16)]
    await asyncio.sleep(0)
    with pytest.raises(StoreError, match="busy"):
        await threads.run(lambda: True)
    release.set()
    async with asyncio.timeout(5):
        assert [True] * len(waiting) == list(await asyncio.gather(*waiting))
    threads.close()
    with pytest.raises(StoreError):
        await threads.run(lambda: True)


async def test_verdicts_are_bounded() -> None:
    """However much is found, the state keeps 256 verdicts, and all of it is redacted."""
    app = App()
    rail = Guardrail(guard=Pattern(r"s\d+x", window=8), action="redact")
    await ask(GuardrailsMiddleware(app, input=[rail]), chat(*[f"s{n}x" for n in range(300)]))
    verdicts = app.states[0].get(VERDICTS)
    assert MAX_VERDICTS == len(verdicts or ())
    assert all("<EMAIL_" in one["content"] for one in app.documents[0]["messages"])


async def test_findings_out_of_the_text_do_no_harm() -> None:
    """Offsets behind the end of a text are cut to it."""

    class Wild:
        name = "wild"
        cost: GuardCost = "inline"
        window: int | None = 8

        def check(self, text: str, context: GuardContext) -> list[Finding]:
            return [Finding(start=-3, end=len(text) + 9, category="x.wild")] if text else []

    app = App()
    rail = Guardrail(guard=Wild(), action="redact")
    await ask(GuardrailsMiddleware(app, input=[rail]), chat("abc"))
    assert "<WILD_1>" == app.documents[0]["messages"][0]["content"]
