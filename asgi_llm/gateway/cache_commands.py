"""``asgi-llm cache``: what a semantic cache would do, measured."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import click
import msgspec

from asgi_llm.embedders.base import EmbedderError
from asgi_llm.embedders.onnx import OnnxEmbedder
from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._calibration import (
    Case,
    Point,
    area,
    best_threshold,
    curve,
    parse_cases,
    plot_svg,
    plot_text,
)

__all__ = ["cache"]

_TEXTS_AT_ONCE = 64


@click.group()
def cache() -> None:
    """The caches: what they would do, measured."""


@cache.command()
@click.argument("file", type=click.File(encoding="utf-8"))
@click.option(
    "--max-false-hits",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="The share of hits that may be wrong, for which the threshold is looked for.",
)
@click.option(
    "--embedder",
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False),
    help="An exported model, for pairs that have no similarity yet.",
)
@click.option("--plot", is_flag=True, help="Print precision over the hit ratio, too.")
@click.option(
    "--svg",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write that plot to a file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def calibrate(
    file: TextIO,
    max_false_hits: float,
    embedder: str | None,
    plot: bool,
    svg: Path | None,
    as_json: bool,
) -> None:
    """Find the threshold of a semantic cache.

    FILE holds lines of JSON: the records of a cache in the mode "observe", or pairs of texts with a
    label (the fields a, b, and same, true or false). "-" reads them from the standard input.

    Prints for each threshold how much would be served, and how much of that would be wrong: by
    similarity alone, and with the guards.
    """
    try:
        cases = parse_cases(file)
        if any(case.similarity is None for case in cases):
            if embedder is None:
                raise ConfigurationError(
                    "some pairs have no similarity; give a model with --embedder", param="embedder"
                )
            cases = asyncio.run(_with_similarities(cases, embedder))
    except (ConfigurationError, EmbedderError) as error:
        raise click.UsageError(f"{file.name}: {error}") from error
    if not cases:
        raise click.UsageError(f"{file.name} holds no case with a label")
    curves: dict[str, Sequence[Point]] = {
        "similarity alone": curve(cases, guarded=False),
        "with the guards": curve(cases, guarded=True),
    }
    if svg is not None:
        svg.write_text(plot_svg(curves), encoding="utf-8")
    if as_json:
        click.echo(json.dumps(_report(cases, curves, max_false_hits), indent=2))
        return
    right = sum(case.same for case in cases)
    click.echo(f"{len(cases)} cases, {right} of them with a stored answer that is right.")
    for name, points in curves.items():
        click.echo(f"\n{name}: P-CHR AUC {area(points):.3f}")
        click.echo("threshold  hit rate  right ones found  false hits")
        for point in points[::5]:
            click.echo(
                f"{point.threshold:9.2f} {point.hit_rate:9.1%} {point.recall:17.1%}"
                f" {point.false_hit_rate:11.1%}"
            )
        best = best_threshold(points, max_false_hit_rate=max_false_hits)
        click.echo(
            f"no threshold keeps false hits within {max_false_hits:.1%}"
            if best is None
            else f"threshold for at most {max_false_hits:.1%} false hits: {best.threshold:.2f}"
            f" (finds {best.recall:.1%} of the right ones)"
        )
    if plot:
        click.echo("\n" + plot_text(curves))


def _report(
    cases: Sequence[Case], curves: dict[str, Sequence[Point]], max_false_hits: float
) -> dict[str, object]:
    report: dict[str, object] = {"cases": len(cases), "right": sum(case.same for case in cases)}
    for name, points in curves.items():
        best = best_threshold(points, max_false_hit_rate=max_false_hits)
        report[name.replace(" ", "_")] = {
            "p_chr_auc": round(area(points), 4),
            "threshold": None if best is None else best.threshold,
            "points": msgspec.to_builtins(points),
        }
    return report


async def _with_similarities(cases: Sequence[Case], folder: str) -> list[Case]:
    model = OnnxEmbedder(folder, truncate=True)
    try:
        out: list[Case] = []
        for at in range(0, len(cases), _TEXTS_AT_ONCE):
            some = cases[at : at + _TEXTS_AT_ONCE]
            texts = [text for case in some for text in (case.new_text or "", case.old_text or "")]
            vectors = await model.embed(texts)
            for place, case in enumerate(some):
                found = float(vectors[2 * place] @ vectors[2 * place + 1])
                similarity = found if case.similarity is None else case.similarity
                out.append(msgspec.structs.replace(case, similarity=similarity))
        return out
    finally:
        await model.aclose()
