"""How well guards do on labelled texts: precision, recall and F1, category by category."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from inspect import isawaitable
from typing import Literal

import msgspec

from asgi_llm.errors import ConfigurationError
from asgi_llm.guards.base import Finding, Guard, GuardContext

__all__ = ["Label", "Report", "Row", "Sample", "evaluate", "read_samples"]


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be found in a text."""

    category: str
    """A finding of this category, or of one below it, is meant: ``secret`` is any secret."""
    start: int = 0
    end: int = 0
    """Equal to ``start``: the label is about the whole text."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A text, and what is to be found in it; all of it."""

    text: str
    labels: Sequence[Label] = ()
    direction: Literal["input", "output"] = "input"
    role: str = "user"
    system: Sequence[str] = ()


class Row(msgspec.Struct, kw_only=True):
    """The counts of one category."""

    labels: int = 0
    """How many there are to be found."""
    found: int = 0
    """How many of them were, each of them all of its span."""
    right: int = 0
    """Findings that touch a label of their category."""
    wrong: int = 0
    """Findings that touch none."""

    @property
    def precision(self) -> float:
        """Of the findings, the share that is right; 1 where there is none."""
        total = self.right + self.wrong
        return self.right / total if total else 1.0

    @property
    def recall(self) -> float:
        """Of the labels, the share that was found; 1 where there is none."""
        return self.found / self.labels if self.labels else 1.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


class Report(msgspec.Struct, kw_only=True):
    """The counts of all categories."""

    rows: dict[str, Row]
    """By category, sorted."""
    total: Row
    samples: int
    flagged: int
    """Samples with a finding."""
    characters: int
    seconds: float
    """What the checks took."""

    @property
    def microseconds_a_kilobyte(self) -> float:
        """Of checking 1000 characters."""
        return self.seconds * 1e9 / self.characters if self.characters else 0.0


def read_samples(lines: Iterable[str]) -> list[Sample]:
    """Samples of a file of JSON lines; empty lines are left out.

    Raises:
        ConfigurationError: A line is no sample; the message has its number.
    """
    samples = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            sample = msgspec.json.decode(line, type=Sample)
        except msgspec.DecodeError as error:
            raise ConfigurationError(f"line {number}: {error}") from error
        if any(not 0 <= one.start <= one.end <= len(sample.text) for one in sample.labels):
            raise ConfigurationError(f"line {number}: a label stands outside the text")
        samples.append(sample)
    return samples


async def evaluate(guards: Sequence[Guard], samples: Iterable[Sample]) -> Report:
    """Check all samples, one after another.

    Raises:
        StoreError: A guard's service does not answer.
    """
    rows: defaultdict[str, Row] = defaultdict(Row)
    report = Report(rows={}, total=Row(), samples=0, flagged=0, characters=0, seconds=0.0)
    known = list(samples)
    wanted = {label.category for sample in known for label in sample.labels}
    async for sample, findings, seconds in _checked(guards, known):
        report.samples += 1
        report.flagged += bool(findings)
        report.characters += len(sample.text)
        report.seconds += seconds
        for label in sample.labels:
            row = rows[label.category]
            row.labels += 1
            row.found += any(_covers(one, label) for one in findings)
        for category, finding in _distinct(findings, wanted):
            if any(_touches(finding, label) for label in sample.labels):
                rows[category].right += 1
            else:
                rows[category].wrong += 1
    report.rows = dict(sorted(rows.items()))
    for row in rows.values():
        for field in row.__struct_fields__:
            setattr(report.total, field, getattr(report.total, field) + getattr(row, field))
    return report


async def _checked(
    guards: Sequence[Guard], samples: Iterable[Sample]
) -> AsyncIterator[tuple[Sample, list[Finding], float]]:
    for sample in samples:
        context = GuardContext(
            direction=sample.direction,
            role=sample.role,
            path="messages[0].content",
            system=sample.system,
        )
        findings: list[Finding] = []
        began = time.perf_counter()
        for guard in guards:
            found = guard.check(sample.text, context)
            findings += await found if isawaitable(found) else found
        yield sample, findings, time.perf_counter() - began


def _is_of(category: str, wanted: str) -> bool:
    return category == wanted or category.startswith(wanted + ".")


def _covers(finding: Finding, label: Label) -> bool:
    if not _is_of(finding.category, label.category):
        return False
    is_whole = label.start == label.end or finding.start == finding.end
    return is_whole or (finding.start <= label.start and label.end <= finding.end)


def _touches(finding: Finding, label: Label) -> bool:
    if not _is_of(finding.category, label.category):
        return False
    is_whole = label.start == label.end or finding.start == finding.end
    return is_whole or (finding.start < label.end and label.start < finding.end)


def _distinct(findings: Iterable[Finding], wanted: set[str]) -> list[tuple[str, Finding]]:
    """The findings under the label's category that they belong to; those that overlap are one."""
    kept: list[tuple[str, Finding]] = []
    ends: dict[str, int] = {}
    for finding in sorted(findings, key=lambda one: (one.start, one.end)):
        matching = [one for one in wanted if _is_of(finding.category, one)]
        category = max(matching, key=len) if matching else finding.category
        if finding.start < ends.get(category, -1):
            ends[category] = max(ends[category], finding.end)
            continue
        ends[category] = finding.end
        kept.append((category, finding))
    return kept
