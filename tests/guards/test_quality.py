"""The measure of quality, and that the built-in guards reach their goals on the tuning texts."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.guards.base import Finding, GuardContext
from asgi_llm.guards.quality import Label, Sample, evaluate, read_samples
from asgi_llm.guards.words import RegexGuard
from tests.guards.quality import has_once_only_injections, measure


async def test_counts() -> None:
    """Right, wrong, found and missed, by the labels' categories."""
    guard = RegexGuard({"a.one": "1+", "b": "2+"})
    samples = [
        Sample(text="11 2", labels=[Label(category="a", start=0, end=2)]),
        Sample(text="1 3", labels=[Label(category="a", start=0, end=3)]),
        Sample(text="x", labels=[Label(category="b")]),
        Sample(text="2", labels=[Label(category="b")]),
    ]
    report = await evaluate([guard], samples)
    a, b = report.rows["a"], report.rows["b"]
    assert (2, 1, 2, 0) == (a.labels, a.found, a.right, a.wrong)
    assert (2, 1, 1, 1) == (b.labels, b.found, b.right, b.wrong)
    assert (1.0, 0.5, 2 / 3) == (a.precision, a.recall, a.f1)
    assert (4, 2, 3, 1) == (
        report.total.labels,
        report.total.found,
        report.total.right,
        report.total.wrong,
    )
    assert (4, 3, 9) == (report.samples, report.flagged, report.characters)


async def test_overlapping_findings_of_a_category_count_once() -> None:
    """A key that two rules know is one key."""
    report = await evaluate(
        [RegexGuard({"a.x": "[0-9]+", "a.y": "1"})],
        [Sample(text="21", labels=[Label(category="a", start=0, end=2)])],
    )
    assert 1 == report.rows["a"].right


class Asked:
    """A remote guard that finds every text."""

    name = "asked"
    cost = "remote"
    window = None

    async def check(self, text: str, context: GuardContext) -> Sequence[Finding]:
        return (Finding(start=0, end=0, category="asked"),)


async def test_remote_guards_are_awaited() -> None:
    """Their findings count as all others."""
    report = await evaluate([Asked()], [Sample(text="x")])  # type: ignore[list-item]
    assert (1, 0.0) == (report.rows["asked"].wrong, report.rows["asked"].precision)
    assert 1.0 == report.rows["asked"].recall
    assert 0.0 == report.rows["asked"].f1


async def test_nothing_to_measure() -> None:
    """Costs nothing."""
    report = await evaluate([RegexGuard({"a": "x"})], [])
    assert (0, 0.0) == (report.samples, report.microseconds_a_kilobyte)


def test_samples_of_a_file() -> None:
    """A line each; empty ones are left out."""
    sample = Sample(text="a b", labels=[Label(category="x", start=0, end=1)])
    line = msgspec.json.encode(sample).decode()
    (read,) = read_samples(["", line, " "])
    assert ("a b", "x", 0, 1) == (
        read.text,
        read.labels[0].category,
        read.labels[0].start,
        read.labels[0].end,
    )


@pytest.mark.parametrize(
    "line", ["no", "{}", '{"text":"a","labels":[{"category":"x","start":0,"end":9}]}']
)
def test_a_line_that_is_no_sample(line: str) -> None:
    """Its number is told."""
    with pytest.raises(ConfigurationError, match="line 2"):
        read_samples(["", line])


def test_the_goals_are_met_on_the_tuning_texts() -> None:
    """All shares of the table; times are for the command, not for a test."""
    figures, _ = measure(once=False)
    assert [] == [str(one) for one in figures if not one.met and "ms a KB" not in one.name]


@pytest.mark.skipif(
    not has_once_only_injections(), reason="tests/guards/labelled/injection_once.py is absent"
)
def test_what_is_found_in_the_texts_of_the_one_run_gets_no_worse() -> None:
    """All goals are met on texts that neither the rules nor the weights are made from."""
    figures, _ = measure(once=True)
    assert [] == [str(one) for one in figures if not one.met and "ms a KB" not in one.name]
