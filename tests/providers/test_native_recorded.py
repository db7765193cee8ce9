"""Recorded traffic in formats of providers' own, replayed both ways over real sockets."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.providers.native_replay import (
    EXPECTED_MISSES,
    answer_differences,
    providers_there,
    replaying_native,
    rows_of,
)
from tests.providers.replay_views.borders import events
from tests.providers.replay_views.exchanges import Choice, Counts, Reading, load_native
from tests.providers.replay_views.report import (
    PAGE,
    figures,
    outside,
    outside_told,
    rates,
    report,
)

CHOICE = Choice(text="a", reasoning="b", calls=(("f", {"x": 1}), ("g", {})), finish="tool_calls")
READING = Reading(
    choices=(CHOICE,),
    counts=Counts(input=5, cached=3, output=2),
    vectors=((0.25, 0.5),),
    ranking=((1, 0.5), (0, 0.25)),
)


async def test_requests_and_answers_mean_what_was_recorded(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At every cut; 98 % of each provider's, of what OpenAI's format can say; misses explained."""
    async with replaying_native(recorded) as replay:
        outcomes = await replay.run_all()
        rows = rows_of(replay.cases, outcomes)
    with capsys.disabled():
        print("\n" + report(rows))
    assert [] == [(row.id, row.reasons) for row in rows if row.reasons and not row.expected]
    found = rates(rows)
    assert {*providers_there(), "all"} == found.keys()
    for name, rate in found.items():
        assert rate.equal >= 0.98 * rate.in_scope, name
    assert found == figures("In formats of providers' own")
    assert outside(rows) == outside_told()
    assert len(outcomes) > 1500


def test_every_expected_miss_is_in_the_reference() -> None:
    """What the app does otherwise is written down."""
    text = " ".join(PAGE.read_text().split())
    for reason in EXPECTED_MISSES:
        assert reason in text


def test_events_put_together_are_the_stream(recorded: Path) -> None:
    """Where events are said to begin and end, nothing is lost, whatever the framing."""
    streams = [exchange for exchange in load_native(recorded) if exchange.stream]
    assert len(streams) > 60
    for exchange in streams:
        pieces = events(exchange.provider, exchange.body)
        assert exchange.body == b"".join(pieces)
        assert all(pieces)


@pytest.mark.parametrize(
    "change",
    [
        {"choices": ()},
        {"choices": (dataclasses.replace(CHOICE, text=""),)},
        {"choices": (dataclasses.replace(CHOICE, reasoning="c"),)},
        {"choices": (dataclasses.replace(CHOICE, calls=CHOICE.calls[::-1]),)},
        {"choices": (dataclasses.replace(CHOICE, calls=(("f", {"x": 2}), ("g", {}))),)},
        {"choices": (dataclasses.replace(CHOICE, finish="tool_calls tool_calls"),)},
        {"choices": (dataclasses.replace(CHOICE, finish=None),)},
        {"counts": None},
        {"counts": Counts(input=5, cached=3, output=1)},
        {"counts": Counts(input=5, cached=0, output=2)},
        {"vectors": ((0.5, 0.25),)},
        {"ranking": ((0, 0.25), (1, 0.5))},
        {"error": ("BadRequestError", 400)},
    ],
)
def test_the_comparison_sees_what_differs(change: dict[str, Any]) -> None:
    """In text, thoughts, calls and their order, finish reason, usage, vectors, ranks and errors."""
    assert [] == list(answer_differences(READING, READING))
    assert len(list(answer_differences(READING, dataclasses.replace(READING, **change)))) == 1
