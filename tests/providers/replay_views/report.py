"""How many recorded exchanges of each provider came out as they were recorded, as a table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "replay.md"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One recorded exchange, over all cuts at which it was replayed."""

    provider: str
    id: str
    replays: int
    out_of_scope: str | None = None
    """What the OpenAI format cannot say of it."""
    reasons: tuple[str, ...] = ()
    """Why it is no match; empty: it is one."""
    expected: bool = True
    """The reasons are known, and explained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """The figures of one provider."""

    recordings: int
    out_of_scope: int
    equal: int

    @property
    def in_scope(self) -> int:
        return self.recordings - self.out_of_scope

    @property
    def percent(self) -> str:
        return f"{100 * self.equal / self.in_scope:.1f} %" if self.in_scope else "none"


def rates(rows: list[Row]) -> dict[str, Rate]:
    """The figures of each provider, and of all of them."""
    found = {}
    for provider in [*sorted({row.provider for row in rows}), "all"]:
        of_it = [row for row in rows if provider in (row.provider, "all")]
        found[provider] = Rate(
            recordings=len(of_it),
            out_of_scope=sum(row.out_of_scope is not None for row in of_it),
            equal=sum(row.out_of_scope is None and not row.reasons for row in of_it),
        )
    return found


def report(rows: list[Row]) -> str:
    """The figures, the misses with their reasons, and what is out of scope."""
    head = ("recordings", "out of scope", "in scope", "equal", "rate")
    lines = [f"{'provider':<16}" + "".join(f"{name:>14}" for name in head)]
    for provider, rate in rates(rows).items():
        cells = (rate.recordings, rate.out_of_scope, rate.in_scope, rate.equal, rate.percent)
        lines.append(f"{provider:<16}" + "".join(f"{cell!s:>14}" for cell in cells))
    lines.append(f"{sum(row.replays for row in rows)} replays")
    misses = [row for row in rows if row.reasons and row.out_of_scope is None]
    lines += ["", "misses:" if misses else "no misses"]
    lines += [f"- {_line(row)}" for row in misses]
    outside = [row for row in rows if row.out_of_scope is not None]
    lines += ["", "out of scope:"] if outside else []
    reasons: dict[str, list[str]] = {}
    for row in outside:
        reasons.setdefault(f"{row.provider}: {row.out_of_scope}", []).append(row.id)
    for reason, ids in reasons.items():
        lines.append(f"- {reason} ({len(ids)})")
    # Their answers are replayed nevertheless, where a call of ours could have had them.
    lines += [f"- {_line(row)}" for row in outside if row.reasons]
    return "\n".join(lines)


def figures(heading: str) -> dict[str, Rate]:
    """The figures in the reference below a heading."""
    section = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"\| (\S+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\S+ %) \|", section)
    found = {}
    for provider, recordings, outside, inside, equal, percent in rows:
        rate = Rate(recordings=int(recordings), out_of_scope=int(outside), equal=int(equal))
        if (int(inside), percent) != (rate.in_scope, rate.percent):
            raise ValueError(f"the figures of {provider} contradict each other")
        found[provider.strip("`")] = rate
    return found


def outside(rows: list[Row]) -> dict[tuple[str, str], int]:
    """How many of each provider are out of scope, by the reason; a star: nothing is replayed."""
    found: dict[tuple[str, str], int] = {}
    for row in rows:
        if row.out_of_scope is not None:
            key = row.provider, row.out_of_scope + ("" if row.replays else " *")
            found[key] = found.get(key, 0) + 1
    return found


def outside_told() -> dict[tuple[str, str], int]:
    """The same as the reference says it."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*[^|\d ][^|]*) \| (\d+) \|$", PAGE.read_text(), re.M)
    return {(provider, reason): int(count) for provider, reason, count in rows}


def _line(row: Row) -> str:
    known = "" if row.expected else "NOT EXPECTED: "
    return f"{row.provider}: {row.id}: {known}{'; '.join(row.reasons)}"
