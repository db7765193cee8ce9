"""Reads results, says them in a table, and compares two of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """A ratio that must not be passed.

    Args:
        target: What is measured.
        load: Under which load.
        base: What its CPU is divided by.
        at_most: The most that may come out.
        above: Subtract the CPU of this target first.
        base_load: The load of ``base``; None is the same.
    """

    target: str
    load: str
    base: str
    at_most: float
    above: str | None = None
    base_load: str | None = None

    def __str__(self) -> str:
        measured = f"({self.target} - {self.above})" if self.above else self.target
        base = f"{self.base}, {self.base_load}" if self.base_load else self.base
        return f"{measured} / {base}, {self.load}, at most {self.at_most}"


GOALS = (
    Goal(target="provider-app", load="json", base="hello", at_most=3.0),
    Goal(target="provider-app", load="stream", base="pass-through", at_most=1.4),
    Goal(target="anthropic", load="json", base="hello", at_most=1.5, above="provider-app"),
    Goal(
        target="anthropic",
        load="stream",
        base="hello",
        at_most=0.3,
        above="provider-app",
        base_load="json",
    ),
    Goal(target="auth", load="json", base="hello", at_most=0.25, above="hello"),
    Goal(target="limits", load="json", base="hello", at_most=0.4, above="auth"),
    Goal(target="limits-redis", load="json", base="hello", at_most=0.7, above="auth"),
    Goal(target="cache-hit", load="json", base="hello", at_most=2.0),
    Goal(target="cache-miss", load="json", base="hello", at_most=0.35, above="auth"),
    Goal(target="cost", load="json", base="hello", at_most=0.6, above="provider-app"),
    Goal(
        target="cost",
        load="stream",
        base="hello",
        at_most=0.06,
        above="provider-app",
        base_load="json",
    ),
    Goal(target="guardrails", load="json", base="hello", at_most=0.6, above="provider-app"),
    Goal(
        target="guardrails",
        load="stream",
        base="hello",
        at_most=0.12,
        above="provider-app",
        base_load="json",
    ),
)


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the lowest and the highest value."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """None where there is no value."""
        items = list(values)
        return cls(median(items), min(items), max(items)) if items else None

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"

    def overlaps(self, other: Spread) -> bool:
        """Whether the two could be the same figure, measured twice."""
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True, slots=True)
class Results:
    """One results file: where and how it was made, and its runs."""

    machine: dict[str, Any]
    settings: dict[str, Any]
    runs: list[dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read a file that ``write`` made."""
        content = json.loads(path.read_text())
        return cls(content["machine"], content["settings"], content["runs"])

    def write(self, path: Path) -> None:
        """Write one JSON object, one run a line."""
        runs = ",\n".join("  " + json.dumps(run) for run in self.runs)
        head = f'"machine": {json.dumps(self.machine)},\n"settings": {json.dumps(self.settings)}'
        path.write_text(f'{{{head},\n"runs": [\n{runs}\n]}}\n')

    def kept(self) -> list[dict[str, Any]]:
        """Runs that the host did not disturb."""
        return [run for run in self.runs if run["steal_percent"] <= self.settings["max_steal"]]

    def names(self, field: str) -> list[str]:
        """The targets or loads that have runs, in order."""
        return list(dict.fromkeys(run[field] for run in self.kept()))

    def figure(self, field: str, target: str, load: str) -> Spread | None:
        """A figure of one target under one load over all rounds."""
        return Spread.of(
            run[field] for run in self.kept() if (run["target"], run["load"]) == (target, load)
        )

    def ratio(
        self,
        target: str,
        load: str,
        base: str,
        *,
        above: str | None = None,
        base_load: str | None = None,
    ) -> Spread | None:
        """CPU of ``target`` over CPU of ``base``, taken within each round. See ``Goal``."""
        cpu = {(run["round"], run["target"], run["load"]): run["cpu_us"] for run in self.kept()}
        ratios = []
        for (number, name, kind), value in cpu.items():
            below = cpu.get((number, base, base_load or load))
            taken = 0.0 if above is None else cpu.get((number, above, load))
            if (name, kind) == (target, load) and below is not None and taken is not None:
                ratios.append((value - taken) / below)
        return Spread.of(ratios)


def table(results: Results) -> str:
    """Medians over the rounds, with the spread in brackets."""
    lines = []
    for load in results.names("load"):
        unit = "chunk" if load == "stream" else "request"
        rows = [
            [
                *(f"{load}: target", f"CPU us/{unit}", "x hello", "x pass-through"),
                *("req/s", "p50 ms", "p99 ms", "CPU %", "other %", "rounds"),
            ]
        ]
        for target in results.names("target"):
            cpu = results.figure("cpu_us", target, load)
            if cpu is None:
                continue
            plain = [
                results.figure(field, target, load)
                for field in ("per_second", "p50_ms", "p99_ms", "busy_percent", "other_percent")
            ]
            rounds = sum((run["target"], run["load"]) == (target, load) for run in results.kept())
            rows.append(
                [
                    target,
                    str(cpu),
                    *(str(results.ratio(target, load, base) or "-") for base in _BASES),
                    *(f"{figure.median:.1f}" if figure else "-" for figure in plain),
                    str(rounds),
                ]
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join(cells).rstrip())
        lines.append("")
    dropped = len(results.runs) - len(results.kept())
    if dropped:
        lines.append(f"{dropped} runs left out: steal above {results.settings['max_steal']} %")
    return "\n".join(lines).rstrip()


_BASES = ("hello", "pass-through")


def goals(results: Results) -> tuple[str, bool]:
    """One line a goal, and whether all that could be checked are met."""
    lines, met = [], True
    for goal in GOALS:
        ratio = results.ratio(
            goal.target, goal.load, goal.base, above=goal.above, base_load=goal.base_load
        )
        name = str(goal)
        if ratio is None:
            lines.append(f"goal  {name}: not measured")
            continue
        within = ratio.median <= goal.at_most
        met = met and within
        lines.append(f"goal  {name}: {ratio}  {'met' if within else 'MISSED'}")
    return "\n".join(lines), met


def compare(old: Results, new: Results, *, max_regression_percent: float) -> tuple[str, bool]:
    """Two files side by side, as ratios, and whether nothing got worse.

    Ratios and not microseconds: another machine, or the same one an hour later, changes those. A
    change counts as worse where it is over ``max_regression_percent`` and the spreads do not meet.
    """
    lines, sound = [], True
    for key in ("cpu", "kernel", "python", "collector", "compiled modules"):
        if old.machine.get(key) != new.machine.get(key):
            lines.append(f"{key} differs: {old.machine.get(key)} | {new.machine.get(key)}")
    for load in new.names("load"):
        for target in new.names("target"):
            for base in _BASES:
                before, after = old.ratio(target, load, base), new.ratio(target, load, base)
                if target == base or before is None or after is None:
                    continue
                change = (after.median / before.median - 1) * 100
                verdict = "same" if before.overlaps(after) else "better" if change < 0 else "worse"
                if verdict == "worse" and change > max_regression_percent:
                    sound = False
                    verdict = f"WORSE by more than {max_regression_percent:g} %"
                lines.append(
                    f"{load:7} {target} / {base}: {before} -> {after}  {change:+.1f} %  {verdict}"
                )
    return "\n".join(lines), sound
