"""The whole quality table: ``python -m tests.guards.quality [--once]``.

Without an option the texts are those that the rules were tuned on. ``--once`` is for the other
ones, which nobody tunes on.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from asgi_llm.guards.base import Guard
from asgi_llm.guards.injection import InjectionGuard
from asgi_llm.guards.pii import PiiGuard
from asgi_llm.guards.quality import Report, Sample, evaluate
from asgi_llm.guards.secrets import SecretsGuard
from tests.guards.labelled import harmless_texts, injection_texts, pii_texts, secret_texts

__all__ = ["Figure", "measure"]

_LINE: Final = "{:<44} {:>9} {:>9}  {}"


class Figure:
    """One line of the table.

    Args:
        name: What was measured.
        value: From 0 to 1.
        goal: Such as ``>= 0.97``.
        met: Whether it is reached.
        count: Of how many.
    """

    __slots__ = ("count", "goal", "met", "name", "value")

    def __init__(self, name: str, value: float, comparison: str, limit: float, count: int) -> None:
        self.name = name
        self.value = value
        self.goal = f"{comparison} {limit:.3f}"
        self.met = value >= limit if comparison == ">=" else value <= limit
        self.count = count

    def __str__(self) -> str:
        met = "" if self.met else "NOT MET"
        return _LINE.format(self.name, f"{self.value:.4f}", self.goal, f"of {self.count}  {met}")


def _check(guard: Guard, samples: Iterable[Sample]) -> Report:
    return asyncio.run(evaluate([guard], samples))


def _flagged(name: str, guard: Guard, samples: Sequence[Sample], how: str, limit: float) -> Figure:
    report = _check(guard, samples)
    return Figure(name, report.flagged / report.samples, how, limit, report.samples)


def measure(*, once: bool) -> tuple[list[Figure], dict[str, Report]]:
    """All figures, and the reports that have rows by category."""
    pii, secrets, injection = PiiGuard(), SecretsGuard(), InjectionGuard()
    personal = pii_texts.personal(once=once)
    found = _check(pii, personal)
    strict = [row for name, row in found.rows.items() if pii_texts.checked(name)]
    labels = sum(row.labels for row in strict)
    right, wrong = sum(row.right for row in strict), sum(row.wrong for row in strict)
    keys = _check(secrets, [*secret_texts.secrets(once=once), *secret_texts.lookalikes(once=once)])
    jailbreaks = injection_texts.jailbreaks(once=once)
    attempts = [*injection_texts.direct(once=once), *injection_texts.indirect(once=once)]
    triggers = harmless_texts.full_of_triggers(once=once)
    ordinary = harmless_texts.ordinary(once=once)
    seen = injection_texts.with_system
    figures = [
        Figure(
            "PII with check digits: recall",
            sum(row.found for row in strict) / labels,
            ">=",
            0.97,
            labels,
        ),
        Figure("PII with check digits: precision", right / (right + wrong), ">=", 0.97, right),
        _flagged("wrong check digits: flagged", pii, pii_texts.wrong(once=once), "<=", 0.02),
        _flagged("texts full of numbers: flagged", pii, pii_texts.numbers(once=once), "<=", 0.05),
        Figure("secrets: recall", keys.total.recall, ">=", 0.95, keys.total.labels),
        Figure("secrets: precision", keys.total.precision, ">=", 0.98, keys.total.right),
        _flagged("jailbreaks: found", injection, jailbreaks, ">=", 0.85),
        _flagged("injections: found", injection, attempts, ">=", 0.30),
        _flagged("injections, system seen: found", injection, seen(attempts), ">=", 0.55),
        _flagged("prompts full of triggers: alarms", injection, triggers, "<=", 0.02),
        _flagged("the same, system seen: alarms", injection, seen(triggers), "<=", 0.02),
        _flagged("ordinary prompts: alarms", injection, ordinary, "<=", 0.005),
        _flagged("the same, system seen: alarms", injection, seen(ordinary), "<=", 0.005),
    ]
    for name, guard in (("PII", pii), ("secrets", secrets), ("injection", injection)):
        report = _check(guard, ordinary)
        figures.append(
            Figure(
                f"{name} on ordinary prompts: ms a KB",
                report.microseconds_a_kilobyte / 1000,
                "<=",
                0.5,
                report.samples,
            )
        )
    return figures, {"PII": found, "secrets": keys}


def main() -> int:
    """Print the table; 0 where all goals are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="the texts that nobody tunes on")
    figures, reports = measure(once=parser.parse_args().once)
    for name, report in reports.items():
        print(
            f"{name}, {report.samples} texts, {report.microseconds_a_kilobyte / 1000:.2f} ms a KB"
        )
        for category, row in report.rows.items():
            print(
                f"  {category:<28} {row.labels:>5} labels  precision {row.precision:.3f}  "
                f"recall {row.recall:.3f}  F1 {row.f1:.3f}"
            )
    print(_LINE.format("figure", "value", "goal", ""))
    for figure in figures:
        print(figure)
    return 0 if all(figure.met for figure in figures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
