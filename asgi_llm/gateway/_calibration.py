"""From judged candidates of a semantic cache to hit rate and false hits at each threshold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Final

import msgspec

from asgi_llm.errors import ConfigurationError
from asgi_llm.middleware._agreement import GUARDS, disagreement, read

__all__ = [
    "Case",
    "Point",
    "area",
    "best_threshold",
    "curve",
    "parse_cases",
    "plot_svg",
    "plot_text",
]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A request, and the stored answer that was nearest to it."""

    same: bool
    """Whether that answer would have been right."""
    similarity: float | None = None
    """None: it has to be computed from the texts."""
    guard: str | None = None
    """Which guard refuses it; None: none does."""
    new_text: str | None = None
    old_text: str | None = None


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What one threshold would have done."""

    threshold: float
    hit_rate: float
    """Hits among all cases."""
    recall: float
    """Hits among those whose stored answer was right."""
    false_hit_rate: float
    """Wrong answers among the hits; 0 without a hit."""
    error_rate: float
    """Wrong answers among all cases."""

    @property
    def precision(self) -> float:
        """Right answers among the hits."""
        return 1 - self.false_hit_rate


_STEP: Final = 0.01
_RIGHT_CLASSES: Final = frozenset(("paraphrase", "same", "duplicate", "1", "true", "yes"))
_WRONG_CLASSES: Final = frozenset(
    ("near_miss", "related", "contradiction", "unrelated", "different", "0", "false", "no")
)


def parse_cases(lines: Iterable[str]) -> list[Case]:
    """Read lines of JSON: shadow records, or labelled pairs of texts.

    A pair has ``a`` and ``b`` (or ``old_text`` and ``new_text``), a label (``same``, or ``class``),
    and a ``similarity`` (or ``cosine``) where that is known. A shadow record whose answers were not
    compared has no label, and is left out.

    Raises:
        ConfigurationError: A line is none of these; ``param`` is its number.
    """
    cases: list[Case] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ConfigurationError(f"line {number} is not JSON", param=str(number)) from error
        if not isinstance(row, dict):
            raise ConfigurationError(f"line {number} is no object", param=str(number))
        same = _label(row, number)
        if same is None:
            continue
        similarity = row.get("similarity", row.get("cosine"))
        old, new = row.get("old_text", row.get("a")), row.get("new_text", row.get("b"))
        texts = (old, new) if isinstance(old, str) and isinstance(new, str) else None
        if similarity is None and texts is None:
            raise ConfigurationError(
                f"line {number} has neither a similarity nor two texts", param=str(number)
            )
        guard = row.get("guard")
        if guard is None and texts is not None:
            refusal = disagreement(read(texts[1]), read(texts[0]), tuple(GUARDS))
            guard = None if refusal is None else refusal[0]
        cases.append(
            Case(
                same=same,
                similarity=None if similarity is None else float(similarity),
                guard=guard,
                new_text=None if texts is None else texts[1],
                old_text=None if texts is None else texts[0],
            )
        )
    return cases


def _label(row: dict[str, Any], number: int) -> bool | None:
    if isinstance(row.get("same"), bool):
        return bool(row["same"])
    label = str(row.get("class", row.get("label", ""))).lower()
    if label in _RIGHT_CLASSES or label in _WRONG_CLASSES:
        return label in _RIGHT_CLASSES
    if "similarity" in row and "entry_id" in row:
        return None
    raise ConfigurationError(
        f"line {number} has no label: same (true or false), or class", param=str(number)
    )


def curve(cases: Sequence[Case], *, guarded: bool) -> list[Point]:
    """What each threshold from 0.50 to 1.00 would have done.

    Args:
        cases: With their similarities.
        guarded: Whether what a guard refuses is a miss.
    """
    points: list[Point] = []
    right = sum(case.same for case in cases)
    for step in range(50, 101):
        threshold = step * _STEP
        hits = [
            case
            for case in cases
            if (case.similarity or 0.0) >= threshold and not (guarded and case.guard is not None)
        ]
        good = sum(case.same for case in hits)
        points.append(
            Point(
                threshold=round(threshold, 2),
                hit_rate=len(hits) / max(1, len(cases)),
                recall=good / max(1, right),
                false_hit_rate=(len(hits) - good) / max(1, len(hits)),
                error_rate=(len(hits) - good) / max(1, len(cases)),
            )
        )
    return points


def area(points: Sequence[Point]) -> float:
    """P-CHR AUC: the area under precision over the cache hit ratio, from 0 to 1.

    A cache that never gets beyond some hit ratio, at whatever threshold, gains nothing there. At a
    ratio of 0 the precision counts as that of the highest threshold with a hit.

    Source: "Closing the Calibration Gap in Semantic Caching", arXiv 2606.19719 (2026); by the
    description in its abstract, integrated by trapezoids.
    """
    reached = [point for point in points if point.hit_rate > 0]
    if not reached:
        return 0.0
    reached.sort(key=lambda point: (point.hit_rate, -point.threshold))
    total = reached[0].hit_rate * reached[0].precision
    for one, other in pairwise(reached):
        total += (other.hit_rate - one.hit_rate) * (one.precision + other.precision) / 2
    return total


def best_threshold(points: Sequence[Point], *, max_false_hit_rate: float) -> Point | None:
    """The lowest threshold from which on false hits stay within the rate; None: there is none.

    One with a lucky figure below thresholds that are over the rate does not count.
    """
    best: Point | None = None
    for point in sorted(points, key=lambda one: -one.threshold):
        if point.hit_rate == 0:
            continue
        if point.false_hit_rate > max_false_hit_rate:
            break
        best = point
    return best


_WIDTH: Final = 51
_HEIGHT: Final = 16


def plot_text(curves: dict[str, Sequence[Point]]) -> str:
    """Precision (up) over the hit ratio (right), in characters; one mark for each curve."""
    grid = [[" "] * _WIDTH for _ in range(_HEIGHT)]
    marks = "*o+x"
    for mark, points in zip(marks, curves.values(), strict=False):
        for point in points:
            if point.hit_rate > 0:
                column = round(point.hit_rate * (_WIDTH - 1))
                row = round((1 - point.precision) * (_HEIGHT - 1))
                grid[row][column] = mark
    lines = [
        f"{1 - row / (_HEIGHT - 1):4.2f} |{''.join(cells).rstrip()}"
        for row, cells in enumerate(grid)
    ]
    lines.append("     +" + "-" * _WIDTH)
    lines.append("      0" + "cache hit ratio".center(_WIDTH - 2) + "1")
    lines.extend(f"      {mark} {name}" for mark, name in zip(marks, curves, strict=False))
    return "\n".join(lines)


def plot_svg(curves: dict[str, Sequence[Point]]) -> str:
    """The same plot as an SVG document."""
    colours = ("#1b6ca8", "#c0392b", "#2e8b57", "#7d5ba6")
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 560 420" font-family="sans-serif" '
        'font-size="12">',
        '<rect width="560" height="420" fill="white"/>',
        '<path d="M50 20V370H530" fill="none" stroke="black"/>',
        '<text x="290" y="405" text-anchor="middle">cache hit ratio</text>',
        '<text x="15" y="195" text-anchor="middle" transform="rotate(-90 15 195)">precision</text>',
    ]
    for tenth in range(0, 11, 2):
        x, y = 50 + 48 * tenth, 370 - 35 * tenth
        parts.append(f'<text x="{x}" y="386" text-anchor="middle">{tenth / 10:.1f}</text>')
        parts.append(f'<text x="44" y="{y + 4}" text-anchor="end">{tenth / 10:.1f}</text>')
    for place, (name, points) in enumerate(curves.items()):
        colour = colours[place % len(colours)]
        line = " ".join(
            f"{50 + 480 * point.hit_rate:.1f},{370 - 350 * point.precision:.1f}"
            for point in points
            if point.hit_rate > 0
        )
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="400" y="{300 + 18 * place}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])
