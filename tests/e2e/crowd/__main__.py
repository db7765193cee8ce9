"""Do others notice a crowd?

``python -m tests.e2e.crowd`` opens 10,000 connections that say nothing, and 10,000 that ask for a
stream with one key, measures what others wait for before, meanwhile and after, and exits with 1
where a count is not exact or the 99th percentile has grown by 20 % or more while all are there. How
long others wait while the streams arrive is told too: that depends on how fast they do. Several
rounds; the medians of their figures count. Let the machine do nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import tempfile
from pathlib import Path
from statistics import median

from tests.e2e.crowd.probe import CONNECTIONS
from tests.e2e.crowd.scene import FILES, Round, Size, scene

MOST = 1.2
"""How many times as long others may wait."""
PHASES = ("before", "idle", "arriving", "streams", "after")


def ratios(rounds: list[Round]) -> dict[str, float]:
    """The 99th percentile in each phase with a crowd, over that in those without one."""
    p99 = {phase: [one.milliseconds[phase]["p99"] for one in rounds] for phase in PHASES}
    alone = median(p99["before"] + p99["after"])
    return {phase: median(p99[phase]) / alone for phase in ("idle", "streams")}


def report(rounds: list[Round]) -> str:
    """All figures as a table."""
    lines = ["milliseconds of others    median       p99     worst"]
    for phase in PHASES:
        figures = (
            median(one.milliseconds[phase][name] for one in rounds)
            for name in ("median", "p99", "worst")
        )
        lines.append(f"  {phase:<20}" + "".join(f"{figure:>10.2f}" for figure in figures))
    for number, one in enumerate(rounds, 1):
        p99 = " ".join(f"{phase} {one.milliseconds[phase]['p99']:.2f}" for phase in PHASES)
        lines.append(f"round {number}: p99 {p99}")
        lines += [f"  {name:<34}{n:>8,}" for name, n in one.counts.items() if n or name.islower()]
        memory = ", ".join(f"{name} {n:.0f}" for name, n in one.megabytes.items())
        lines.append(f"  MB of the gateway: {memory}")
    for phase, ratio in ratios(rounds).items():
        verdict = "holds" if ratio < MOST else "IS TOO MUCH"
        lines.append(f"p99 with {phase}: {ratio:.2f} of that without; under {MOST} {verdict}")
    return "\n".join(lines)


def is_wrong(one: Round) -> bool:
    """Whether anything happened that should not have."""
    return any(n for name, n in one.counts.items() if name.isupper())


async def measure(folder: Path, size: Size, options: argparse.Namespace) -> list[Round]:
    """All rounds."""
    async with scene(folder, size) as found:
        return [
            await found.round(
                requests=options.requests,
                per_second=options.per_second,
                arrivals_per_second=options.arrivals_per_second,
            )
            for _ in range(options.rounds)
        ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--idle", type=int, default=10_000, help="connections that say nothing")
    parser.add_argument("--streams", type=int, default=10_000, help="asked for with one key")
    parser.add_argument("--slots", type=int, default=50, help="streams that it may have")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=600, help="of others, in each phase")
    parser.add_argument("--per-second", type=float, default=100.0, help="of these")
    parser.add_argument("--arrivals-per-second", type=float, default=500.0, help="of the streams")
    options = parser.parse_args()
    # As many as the machine lets a process have open; the rest is turned away by the cap.
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    room = options.idle + options.streams + CONNECTIONS
    if allowed != resource.RLIM_INFINITY:
        room = min(room, allowed - options.slots - FILES)
    size = Size(idle=options.idle, streams=options.streams, slots=options.slots, cap=room)
    with tempfile.TemporaryDirectory(prefix="crowd-") as folder:
        rounds = asyncio.run(measure(Path(folder), size, options))
    print(report(rounds), flush=True)
    wrong = any(is_wrong(one) for one in rounds)
    return 1 if wrong or max(ratios(rounds).values()) >= MOST else 0


if __name__ == "__main__":
    sys.exit(main())
