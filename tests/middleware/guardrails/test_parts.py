"""Small parts of the guardrails: the quick look, the threads, the views, and what is noted."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_llm.errors import StoreError
from asgi_llm.guards.base import Finding, GuardContext, GuardCost
from asgi_llm.guards.patterns import PatternGuard, Rule
from asgi_llm.middleware._guard_checks import MAX_VERDICTS
from asgi_llm.middleware._guard_quick import QuickLook
from asgi_llm.middleware._guard_texts import path_text
from asgi_llm.middleware._guard_threads import Threads
from asgi_llm.middleware._guard_views import is_plain, read_views, token_start
from asgi_llm.middleware.guardrails import Guardrail, GuardrailsMiddleware
from asgi_llm.state import VERDICTS
from tests.middleware.guardrails.probes import App, Pattern, ask, chat


def quick(pattern: str) -> QuickLook:
    guard = PatternGuard("one", [Rule(category="x", pattern=pattern, max_length=8)])
    return QuickLook([guard], 8)


@pytest.mark.parametrize(
    "pattern", ["^bad", "bad$", r"\bbad\b", "(?:^|[^a])bad(?:[^a]|$)", "(?i)BAD"]
)
def test_the_quick_look_sees_what_the_ends_of_a_text_mean(pattern: str) -> None:
    """A rule that names the start or the end of a text finds it among others too."""
    assert "plain" == quick(pattern).judge(["one", "bad", "two"])
    assert "clean" == quick(pattern).judge(["one", "good", "two"])


@pytest.mark.parametrize(
    ("pattern", "works"), [(r"\Abad", False), (r"bad\z", False), ("bad", True)]
)
def test_rules_that_the_quick_look_cannot_have(pattern: str, works: bool) -> None:
    """With a rule that lines cannot stand in for, each text is looked at by itself."""
    assert works is quick(pattern).works


@pytest.mark.parametrize("text", ["caf\u00e9", "a%41b", "a\\nb", "&#65;", "QUJDREVGR0hJSktMTU5P"])
def test_the_quick_look_judges_plain_text_alone(text: str) -> None:
    """Of a text that may be in disguise it says nothing, and the views are asked for."""
    assert "unknown" == quick("bad").judge([text])
    assert not is_plain(text)


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
