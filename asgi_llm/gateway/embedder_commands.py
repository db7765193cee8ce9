"""``asgi-llm embedder``: models for embeddings, made ready to run in process."""

from __future__ import annotations

from pathlib import Path

import click

from asgi_llm.embedders.base import EmbedderError
from asgi_llm.embedders.export import LEAST_AGREEMENT, export_model
from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._database_option import BAD_INPUT, FAILURE, fail
from asgi_llm.gateway._listing import columns

__all__ = ["embedder"]


@click.group()
def embedder() -> None:
    """Models for embeddings: for the semantic cache, and for /v1/embeddings without a provider."""


@embedder.command()
@click.argument("model")
@click.option(
    "--output",
    "-o",
    metavar="DIR",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to make; it must not exist, or be empty.",
)
@click.option(
    "--int8",
    is_flag=True,
    help="Weights of 8 bits: a quarter of the size, less CPU, not quite the same vectors.",
)
@click.option(
    "--name", metavar="NAME", help="What the model is called. Default: as it was, with -int8."
)
def export(model: str, output: Path, int8: bool, name: str | None) -> None:
    """Write MODEL as an ONNX file, which needs no torch to run.

    MODEL is a folder of a sentence-transformers model, or the name of one on this machine; nothing
    is fetched. The files are compared with the model itself before they are put in their place.
    """
    try:
        made = export_model(model, output, int8=int8, name=name)
    except ConfigurationError as error:
        fail(error.message, BAD_INPUT)
    except EmbedderError as error:
        fail(str(error), FAILURE)
    described = made.description
    least = LEAST_AGREEMENT[described.precision]
    facts = [
        ("Folder", str(made.folder)),
        ("Name", described.name),
        ("Precision", described.precision),
        (
            "Vectors",
            f"{described.dimension} numbers, of at most {described.max_input_tokens} tokens",
        ),
        ("Size", f"{made.size_bytes / 1e6:.1f} MB"),
        (
            "Agreement",
            f"cosine with the model itself {made.least_agreement:.5f} at least, "
            f"{made.mean_agreement:.5f} on average, of {made.texts} texts ({least} is needed)",
        ),
    ]
    for line in columns(facts):
        click.echo(line)
