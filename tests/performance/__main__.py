"""CPU cost of the gateway as ratios to anchors: ``python -m tests.performance``.

``run`` (the default) starts an upstream and each target under the same uvicorn, loads these in
turn, a second each and round after round, and writes a results file. ``compare`` puts two of those
files side by side. The method is told in docs/explanation/performance.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from contextlib import ExitStack
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asgi_llm
from tests.performance.measure import (
    LOADS,
    Load,
    Run,
    cpus,
    drive,
    measure,
    redis,
    step_aside,
    target,
    upstream,
)
from tests.performance.report import Results, compare, goals, table
from tests.performance.targets import TARGETS

_RETRIES = 3
_SETTINGS = ("targets", "loads", "starts", "rounds", "seconds", "warm_up_seconds", "max_steal")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 1 where a goal is missed or a figure got worse."""
    parser = argparse.ArgumentParser(prog="python -m tests.performance", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="measure, print a table, write a results file")
    running.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    running.add_argument(
        "--loads", nargs="+", choices=[load.name for load in LOADS], default=["json", "stream"]
    )
    running.add_argument("--starts", type=int, default=3, help="how often all is started afresh")
    running.add_argument("--rounds", type=int, default=5, help="after each start")
    running.add_argument("--seconds", type=float, default=1.0, help="length of one run")
    running.add_argument("--warm-up-seconds", type=float, default=1.0)
    running.add_argument("--max-steal", type=float, default=5.0, help="per cent of one CPU")
    running.add_argument("--output", type=Path, default=Path("performance.json"))
    showing = commands.add_parser("show", help="print the table of a results file again")
    showing.add_argument("results", type=Path)
    comparing = commands.add_parser("compare", help="two results files as ratios, side by side")
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    comparing.add_argument("--max-regression-percent", type=float, default=10.0)
    given = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(given or ["run"])
    if options.command == "compare":
        old, new = Results.read(options.old), Results.read(options.new)
        text, sound = compare(old, new, max_regression_percent=options.max_regression_percent)
        print(text)
        return 0 if sound else 1
    results = Results.read(options.results) if options.command == "show" else _run(options)
    text, met = goals(results)
    compiled = results.machine.get("compiled modules", 0)
    print(f"{table(results)}\n\n{compiled} modules were compiled\n{text}")
    return 0 if met else 1


def _run(options: argparse.Namespace) -> Results:
    if len(os.sched_getaffinity(0)) < 2:
        print("one CPU only: the load is measured with the target, compare with care")
    step_aside()
    settings = {key: getattr(options, key) for key in _SETTINGS}
    loads = [load for load in LOADS if load.name in options.loads]
    runs: list[dict[str, Any]] = []
    with ExitStack() as serving:
        origin = serving.enter_context(upstream())
        redis_url = ""
        if any(TARGETS[name].redis for name in options.targets):
            redis_url = serving.enter_context(redis())
        for start in range(options.starts):
            with ExitStack() as started:
                made = {
                    name: started.enter_context(target(name, origin, redis_url))
                    for name in options.targets
                }
                for load in loads:
                    for name in _measured(options.targets, load):
                        drive(name, made[name][1], load, options.warm_up_seconds)
                for turn in range(options.rounds):
                    number = start * options.rounds + turn + 1
                    for load in loads:
                        for name in _rotated(_measured(options.targets, load), turn):
                            runs += _undisturbed(name, *made[name], load, number, options)
    results = Results(_machine(), settings, runs)
    results.write(options.output)
    print(f"results are in {options.output}\n")
    return results


def _measured(targets: list[str], load: Load) -> list[str]:
    """Those that are measured under ``load``."""
    return [name for name in targets if TARGETS[name].streams or not load.stream]


def _rotated(targets: list[str], turn: int) -> list[str]:
    """Each time another one first, so that none always follows the same."""
    first = turn % len(targets)
    return targets[first:] + targets[:first]


def _undisturbed(
    name: str, pid: int, port: int, load: Load, number: int, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Runs of one target under one load: one, or more where the host took CPU time away."""
    runs: list[dict[str, Any]] = []
    for _ in range(_RETRIES):
        run: Run = measure(name, pid, port, load, options.seconds, number)
        runs.append(run.to_json())
        kept = run.steal_percent <= options.max_steal
        print(
            f"round {number}  {name:13} {load.name:7} {run.cpu_us:8.2f} us  "
            f"{run.per_second:9.1f}/s  CPU {run.busy_percent:5.1f} %  "
            f"other {run.other_percent:4.1f} %  steal {run.steal_percent:4.1f} %"
            f"{'' if kept else '  (left out)'}",
            flush=True,
        )
        if kept:
            break
    return runs


def _machine() -> dict[str, Any]:
    model = next(
        line.split(":", 1)[1].strip()
        for line in [*Path("/proc/cpuinfo").read_text().splitlines(), "model name: unknown"]
        if line.startswith("model name")
    )
    packages = ("asgi-llm", "uvicorn", "uvloop", "httptools", "msgspec")
    return {
        "cpu": model,
        "cpus": len(set(cpus())),
        "pinned": {"target": cpus()[0], "driver and upstream": cpus()[1]},
        "kernel": platform.release(),
        "python": platform.python_version(),
        "collector": os.environ.get("PERFORMANCE_COLLECTOR", "eased"),
        "compiled modules": len(_compiled()),
        "packages": {name: version(name) for name in packages},
    }


def _compiled() -> list[Path]:
    package = Path(asgi_llm.__file__).parent
    # Each ends with the last of them as well.
    return list(package.rglob(f"*{EXTENSION_SUFFIXES[-1]}"))


if __name__ == "__main__":
    raise SystemExit(main())
