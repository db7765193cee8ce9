"""The arithmetic of the performance harness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.performance.report import Results, Spread, compare, goals, table


def _run(round: int, target: str, cpu_us: float, **fields: Any) -> dict[str, Any]:
    figures = dict.fromkeys(
        ("busy_percent", "other_percent", "steal_percent", "per_second", "p50_ms", "p99_ms"), 0.0
    )
    return {"round": round, "target": target, "load": "json", "cpu_us": cpu_us, **figures, **fields}


def _results(*runs: dict[str, Any]) -> Results:
    return Results({"cpu": "one"}, {"max_steal": 5.0}, list(runs))


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that slows down for a whole round does not change the ratio."""
    results = _results(
        _run(1, "hello", 20), _run(1, "pass-through", 30), _run(2, "hello", 40),
        _run(2, "pass-through", 60), _run(3, "hello", 10), _run(3, "pass-through", 20),
    )  # fmt: skip
    assert Spread(1.5, 1.5, 2.0) == results.ratio("pass-through", "json", "hello")


def test_disturbed_runs_are_left_out_and_told() -> None:
    """A run with steal above the limit changes no figure, and the table says that it is missing."""
    results = _results(
        _run(1, "hello", 20), _run(1, "hello", 900, steal_percent=50.0), _run(2, "hello", 22)
    )
    assert Spread(21, 20, 22) == results.figure("cpu_us", "hello", "json")
    assert "1 runs left out" in table(results)


def test_a_missed_goal_is_told_and_an_unmeasured_one_is_not_met() -> None:
    """The goal on JSON is missed at 3.5 times hello; the one on streams has no figures."""
    text, met = goals(_results(_run(1, "hello", 10), _run(1, "provider-app", 35)))
    assert not met
    assert "MISSED" in text
    assert "stream, at most 1.4: not measured" in text


def test_a_met_goal_passes() -> None:
    """2.5 times hello is within the goal."""
    text, met = goals(_results(_run(1, "hello", 10), _run(1, "provider-app", 25)))
    assert met
    assert "3.0: 2.50 (2.50-2.50)  met" in text


def test_comparison_fails_only_on_a_clear_regression() -> None:
    """Twice as dear is worse; the same spread on a slower machine is the same."""
    old = _results(_run(1, "hello", 10), _run(1, "gateway", 30))
    slower_machine = _results(_run(1, "hello", 20), _run(1, "gateway", 60))
    worse = _results(_run(1, "hello", 10), _run(1, "gateway", 60))
    assert compare(old, slower_machine, max_regression_percent=10)[1]
    text, sound = compare(old, worse, max_regression_percent=10)
    assert not sound
    assert "gateway / hello: 3.00 (3.00-3.00) -> 6.00 (6.00-6.00)  +100.0 %  WORSE" in text


def test_a_results_file_reads_back_as_it_was_written(tmp_path: Path) -> None:
    """Nothing is lost between ``write`` and ``read``."""
    results = _results(_run(1, "hello", 20), _run(2, "hello", 21.5))
    results.write(tmp_path / "results.json")
    assert results == Results.read(tmp_path / "results.json")
