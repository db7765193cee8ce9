"""``asgi-llm guard``: the built-in guards on a text, and how well they do on labelled ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TextIO

import click

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._database_option import BAD_INPUT, FAILURE, fail
from asgi_llm.gateway._listing import columns
from asgi_llm.guards.base import Finding, GuardContext
from asgi_llm.guards.injection import InjectionGuard
from asgi_llm.guards.links import LinksGuard
from asgi_llm.guards.patterns import PatternGuard, scan_together
from asgi_llm.guards.pii import PiiGuard
from asgi_llm.guards.quality import Report, Row, Sample, evaluate, read_samples
from asgi_llm.guards.secrets import SecretsGuard

__all__ = ["guard"]

_GUARDS: Final[dict[str, Callable[[], PatternGuard]]] = {
    "pii": PiiGuard,
    "secrets": SecretsGuard,
    "injection": InjectionGuard,
    "links": LinksGuard,
}
_DEFAULT: Final = ("pii", "secrets", "injection")
_MAX_CHARACTERS: Final = 50_000_000
_COLOURS: Final = {"pii": "yellow", "secret": "red", "injection": "magenta"}


@click.group()
def guard() -> None:
    """Guards: tried on a text, and measured on labelled ones."""


_guards_option = click.option(
    "--guard",
    "-g",
    "names",
    type=click.Choice(tuple(_GUARDS)),
    multiple=True,
    help=f"Which guards; more than one by the option again. Default: {', '.join(_DEFAULT)}.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@guard.command()
@click.argument("file", type=click.File("r", encoding="utf-8"), default="-")
@_guards_option
@click.option(
    "--direction",
    type=click.Choice(("input", "output")),
    default="input",
    help="Whether it is a request's text or an answer's. Default: input.",
)
@_json_option
def check(file: TextIO, names: Sequence[str], direction: Any, as_json: bool) -> None:
    """Show what the guards find in FILE, or in standard input.

    Exits 0 when nothing is found, 1 when something is.
    """
    text = _read(file)
    context = GuardContext(direction=direction, role="user", path="text")
    found = _findings(text, _chosen(names), context)
    placed = _places(found)
    if as_json:
        click.echo(json.dumps(_document(text, found, placed), indent=2, ensure_ascii=False))
    else:
        for line in columns(
            [("START", "END", "CATEGORY", "SCORE", "GUARD", "REASON")]
            + [
                (str(one.start), str(one.end), one.category, f"{one.score:.2f}", name, one.reason)
                for name, one in found
            ]
        ):
            click.echo(line)
        click.echo()
        click.echo(_coloured(text, placed))
    if found:
        raise SystemExit(FAILURE)


@guard.command("eval")
@click.argument("file", type=click.File("r", encoding="utf-8"))
@_guards_option
@_json_option
def evaluate_file(file: TextIO, names: Sequence[str], as_json: bool) -> None:
    """Print precision, recall and F1 of each category on the labelled texts of FILE.

    Each line is {"text": ..., "labels": [{"category", "start", "end"}]}, with "role", "direction"
    and "system" where they matter. A label without start and end is about the whole text.
    """
    try:
        samples = read_samples(_read(file).splitlines())
    except ConfigurationError as error:
        fail(error.message, BAD_INPUT)
    if not samples:
        fail("there is no labelled text", BAD_INPUT)
    reports = _evaluated(samples, _chosen(names))
    if as_json:
        click.echo(json.dumps(_report_document(reports), indent=2))
        return
    head = ("CATEGORY", "LABELS", "FOUND", "WRONG", "PRECISION", "RECALL", "F1")
    rows: list[tuple[str, ...]] = [head]
    rows += [_cells(name, row) for name, row in reports.rows.items()]
    for line in columns([*rows, _cells("all", reports.total)]):
        click.echo(line)
    click.echo(
        f"{reports.flagged} of {reports.samples} texts flagged, "
        f"{reports.microseconds_a_kilobyte / 1000:.3f} ms a KB"
    )


def _read(file: TextIO) -> str:
    try:
        text = file.read(_MAX_CHARACTERS + 1)
    except UnicodeDecodeError:
        fail("the text is not UTF-8", BAD_INPUT)
    if len(text) > _MAX_CHARACTERS:
        fail(f"more than {_MAX_CHARACTERS} characters", BAD_INPUT)
    return text


def _chosen(names: Sequence[str]) -> list[PatternGuard]:
    try:
        return [_GUARDS[name]() for name in names or _DEFAULT]
    except ConfigurationError as error:
        fail(error.message, BAD_INPUT)


def _findings(
    text: str, guards: Sequence[PatternGuard], context: GuardContext
) -> list[tuple[str, Finding]]:
    by_guard = scan_together(guards).scan(text, context=context)
    found = [
        (one.name, finding) for one, all in zip(guards, by_guard, strict=True) for finding in all
    ]
    return sorted(found, key=lambda pair: (pair[1].start, pair[1].end))


def _evaluated(samples: Sequence[Sample], guards: Sequence[PatternGuard]) -> Report:
    return asyncio.run(evaluate(guards, samples))


def _places(found: Iterable[tuple[str, Finding]]) -> list[tuple[int, int, str, str]]:
    """Start, end, placeholder and family of what is redacted; findings that overlap are one."""
    spans: list[tuple[int, int, str]] = []
    for _, finding in found:
        if finding.start == finding.end:
            continue
        if spans and finding.start < spans[-1][1]:
            start, end, category = spans[-1]
            spans[-1] = (start, max(end, finding.end), category)
        else:
            spans.append((finding.start, finding.end, finding.category))
    numbers: dict[str, int] = {}
    placed = []
    for start, end, category in spans:
        family, _, kind = category.partition(".")
        label = (kind or family).upper().replace(".", "_")
        numbers[label] = numbers.get(label, 0) + 1
        placed.append((start, end, f"<{label}_{numbers[label]}>", family))
    return placed


def _redacted(text: str, placed: Sequence[tuple[int, int, str, str]]) -> str:
    return _coloured(text, placed, colour=lambda shown, _: shown)


def _coloured(
    text: str,
    placed: Sequence[tuple[int, int, str, str]],
    *,
    colour: Callable[[str, str], str] = lambda shown, family: click.style(
        shown, fg=_COLOURS.get(family, "cyan"), bold=True
    ),
) -> str:
    parts, at = [], 0
    for start, end, placeholder, family in placed:
        parts += [text[at:start], colour(placeholder, family)]
        at = end
    return "".join([*parts, text[at:]])


def _document(
    text: str, found: Sequence[tuple[str, Finding]], placed: Sequence[tuple[int, int, str, str]]
) -> dict[str, Any]:
    return {
        "findings": [
            {
                "guard": name,
                "category": one.category,
                "start": one.start,
                "end": one.end,
                "score": one.score,
                "reason": one.reason,
            }
            for name, one in found
        ],
        "redacted": _redacted(text, placed),
    }


def _cells(name: str, row: Row) -> tuple[str, ...]:
    counts = (str(row.labels), str(row.found), str(row.wrong))
    return (name, *counts, f"{row.precision:.3f}", f"{row.recall:.3f}", f"{row.f1:.3f}")


def _report_document(report: Report) -> dict[str, Any]:
    def figures(row: Row) -> dict[str, Any]:
        return {
            "labels": row.labels,
            "found": row.found,
            "right": row.right,
            "wrong": row.wrong,
            "precision": round(row.precision, 4),
            "recall": round(row.recall, 4),
            "f1": round(row.f1, 4),
        }

    return {
        "categories": {name: figures(row) for name, row in report.rows.items()},
        "all": figures(report.total),
        "samples": report.samples,
        "flagged": report.flagged,
        "ms_per_kilobyte": round(report.microseconds_a_kilobyte / 1000, 4),
    }
