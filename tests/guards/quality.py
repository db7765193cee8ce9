"""The whole quality table: ``python -m tests.guards.quality [--once]``.

Without an option the texts are those that the rules were tuned on and the weights made from.
``--once`` is for the other ones, which nobody tunes on. Those of injection are in
``tests/guards/labelled/injection_once.py``; without that file its figures are left out.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Final, NamedTuple

from asgi_llm.guards.base import Guard
from asgi_llm.guards.injection import InjectionGuard
from asgi_llm.guards.pii import PiiGuard
from asgi_llm.guards.quality import Label, Report, Sample, evaluate
from asgi_llm.guards.secrets import SecretsGuard
from tests.guards.labelled import (
    harmless_texts,
    injection_corpus,
    injection_texts,
    pii_texts,
    secret_texts,
)
from tests.guards.labelled.samples import plain

__all__ = ["Figure", "has_once_only_injections", "measure"]

_ONCE: Final = "tests.guards.labelled.injection_once"

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


class _Injections(NamedTuple):
    """Labelled texts for the guard of injection."""

    jailbreaks: list[Sample]
    attempts: list[Sample]
    attempts_with_system: list[Sample]
    triggering: list[Sample]
    ordinary: list[Sample]


def has_once_only_injections() -> bool:
    """Whether the texts that nobody tunes on are there."""
    return find_spec(_ONCE) is not None


def _tuning() -> _Injections:
    corpus = injection_corpus.samples
    attempts = [
        *injection_texts.direct(),
        *injection_texts.indirect(),
        *corpus("injections"),
        *corpus("documents"),
    ]
    return _Injections(
        jailbreaks=[*injection_texts.jailbreaks(), *corpus("jailbreaks")],
        attempts=attempts,
        attempts_with_system=[*injection_texts.with_system(attempts), *corpus("with_system")],
        triggering=[
            *harmless_texts.full_of_triggers(),
            *corpus("harmless"),
            *corpus("harmless_with_system"),
        ],
        ordinary=[*harmless_texts.ordinary(), *corpus("ordinary_harmless")],
    )


def _once_only() -> _Injections:
    texts = import_module(_ONCE)
    label = [Label(category="injection")]

    def attempts(found: Iterable[str]) -> list[Sample]:
        return [Sample(text=text, labels=label) for text in found]

    return _Injections(
        jailbreaks=attempts([text for _, text in texts.JAILBREAKS]),
        attempts=attempts(texts.INJECTIONS),
        attempts_with_system=[
            Sample(text=text, labels=label, system=[system])
            for system, text in texts.INJECTIONS_WITH_SYSTEM
        ],
        triggering=plain(texts.TRIGGERING),
        ordinary=plain(texts.ORDINARY),
    )


def _figures_of_injection(texts: _Injections) -> list[Figure]:
    guard = InjectionGuard()
    seen = injection_texts.with_system
    triggers, ordinary = texts.triggering, texts.ordinary
    rows = [
        ("jailbreaks: found", texts.jailbreaks, ">=", 0.85),
        ("injections: found", texts.attempts, ">=", 0.30),
        ("injections, system seen: found", texts.attempts_with_system, ">=", 0.55),
        ("prompts full of triggers: alarms", triggers, "<=", 0.02),
        ("the same, system seen: alarms", seen(triggers), "<=", 0.02),
        ("ordinary prompts: alarms", ordinary, "<=", 0.005),
        ("the same, system seen: alarms", seen(ordinary), "<=", 0.005),
    ]
    return [_flagged(name, guard, found, how, goal) for name, found, how, goal in rows]


def measure(*, once: bool) -> tuple[list[Figure], dict[str, Report]]:
    """All figures, and the reports that have rows by category."""
    pii, secrets, injection = PiiGuard(), SecretsGuard(), InjectionGuard()
    personal = pii_texts.personal(once=once)
    found = _check(pii, personal)
    strict = [row for name, row in found.rows.items() if pii_texts.checked(name)]
    labels = sum(row.labels for row in strict)
    right, wrong = sum(row.right for row in strict), sum(row.wrong for row in strict)
    keys = _check(secrets, [*secret_texts.secrets(once=once), *secret_texts.lookalikes(once=once)])
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
    ]
    ordinary = harmless_texts.ordinary()
    if not once:
        figures += _figures_of_injection(_tuning())
    elif has_once_only_injections():
        figures += _figures_of_injection(_once_only())
        ordinary = _once_only().ordinary
    for name, guard in (("PII", pii), ("secrets", secrets), ("injection", injection)):
        # The first texts are dearer: the automaton is being built.
        _check(guard, ordinary)
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
