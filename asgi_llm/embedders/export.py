"""Making ONNX files of a model, and proving that they give the model's own vectors."""

from __future__ import annotations

import hashlib
import io
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Final, Literal

import msgspec

from asgi_llm._optional import require
from asgi_llm.embedders._model_folder import (
    DESCRIPTION,
    FORMAT,
    Description,
    pooling_of,
    read_folder,
)
from asgi_llm.embedders._threaded import check_installed
from asgi_llm.embedders.base import EmbedderError
from asgi_llm.embedders.onnx import OnnxModel
from asgi_llm.embedders.sentence_transformers import SentenceTransformerModel
from asgi_llm.errors import ConfigurationError

__all__ = ["LEAST_AGREEMENT", "Export", "export_model"]

_EXTRA: Final = "export"
_NEEDED: Final = ("torch", "transformers", "sentence_transformers", "onnx", "onnxscript")

LEAST_AGREEMENT: Final = {"fp32": 0.999, "int8": 0.95}
"""Cosine between a text's vector by the files and by the reference, of the worst text."""

PROBES: Final = (
    "",
    "a",
    "Hello!",
    "How do I reset my password?",
    "How do I NOT reset my password?",
    "It takes 15 minutes to walk 1.2 km at 4.8 km/h, 3 times a day.",
    "Wie setze ich mein Passwort zurück?",
    "¿Cuál es la capital de Francia?",
    "パスワードを忘れました。",
    "Привет, как дела?",
    "SELECT id, name FROM users WHERE created_at > '2024-01-01' ORDER BY name;",
    "def add(a: int, b: int) -> int:\n    return a + b\n",
    "INV-2024-000173 was paid on 3 March 2024; INV-2024-000137 was not.",
    "naïve café — “quoted” text … with  odd   spaces\tand\nlines",
    "The quick brown fox jumps over the lazy dog. " * 12,
    "word " * 200,
)
"""Texts on which the files are compared with the reference."""


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """What was made."""

    folder: Path
    description: Description
    size_bytes: int
    """Of ``model.onnx``."""
    least_agreement: float
    """Cosine with the reference, of the worst of the texts compared."""
    mean_agreement: float
    texts: int


def export_model(
    model: str | Path, output: str | Path, *, int8: bool = False, name: str | None = None
) -> Export:
    """Write the files that ``OnnxEmbedder`` reads, once they are proved to be right.

    Nothing is fetched. Takes some ten seconds, and several times the model's size in memory.

    Args:
        model: A folder of a sentence-transformers model, or the name of one that is on this
            machine. Its steps are a transformer, pooling (mean or first token), normalizing.
        output: The folder to make; it must not exist, or be empty.
        int8: Weights of 8 bits: a quarter of the size, several times faster, not quite the same
            vectors.
        name: What the model is called from then on; None: as it was, with the precision.

    Raises:
        ConfigurationError: A package is missing, the model is not there or not of that kind, or
            the output is there already.
        EmbedderError: The vectors do not agree with the reference's; nothing is left.
    """
    check_installed(*_NEEDED, extra=_EXTRA)
    check_installed("onnxruntime", "tokenizers", extra="onnx")
    target = Path(output)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigurationError(f"{target} is there already", param="output")
    target.parent.mkdir(parents=True, exist_ok=True)
    reference = SentenceTransformerModel(str(model))
    source = _source_of(reference, str(model))
    precision: Literal["fp32", "int8"] = "int8" if int8 else "fp32"
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as temporary:
        made = Path(temporary) / "model"
        made.mkdir()
        _write_graph(reference, made / "model.onnx", int8=int8)
        reference.model.tokenizer.backend_tokenizer.save(str(made / "tokenizer.json"))
        plain = Path(str(model)).name
        description = Description(
            format=FORMAT,
            name=name or (f"{plain}-int8" if int8 else plain),
            precision=precision,
            dimension=reference.dimension,
            max_input_tokens=reference.max_input_tokens,
            pooling=pooling_of(source),
            model_sha256=_digest(made / "model.onnx"),
        )
        (made / DESCRIPTION).write_bytes(
            msgspec.json.format(msgspec.json.encode(description), indent=2) + b"\n"
        )
        worst, mean = _agreement(reference, made)
        if worst < LEAST_AGREEMENT[precision]:
            raise EmbedderError(
                f"the exported model agrees with the reference to {worst:.5f} only, "
                f"not to {LEAST_AGREEMENT[precision]}"
            )
        if target.exists():
            target.rmdir()
        made.rename(target)
    return Export(
        folder=target,
        description=description,
        size_bytes=(target / "model.onnx").stat().st_size,
        least_agreement=worst,
        mean_agreement=mean,
        texts=len(PROBES),
    )


def _source_of(reference: SentenceTransformerModel, model: str) -> Path:
    """The folder in which the model's own files are."""
    if (Path(model) / "modules.json").is_file():
        return Path(model)
    hub = require("huggingface_hub", extra=_EXTRA)
    found = hub.try_to_load_from_cache(model, "modules.json")
    if not isinstance(found, str) and "/" not in model:
        found = hub.try_to_load_from_cache(f"sentence-transformers/{model}", "modules.json")
    if not isinstance(found, str):
        raise ConfigurationError(f"{model!r} has no modules.json", param="model")
    return Path(found).parent


def _write_graph(reference: SentenceTransformerModel, path: Path, *, int8: bool) -> None:
    torch = require("torch", extra=_EXTRA)
    transformer = reference.model[0].auto_model.eval()
    # The fused attention of torch does not always have a counterpart in ONNX.
    transformer.set_attn_implementation("eager")
    takes_types = "token_type_ids" in reference.model.tokenizer.model_input_names
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if takes_types else [])]
    # A tensor each: what is one tensor in the example is one input in the graph.
    examples = {given: torch.ones((2, 8), dtype=torch.int64) for given in names}
    shape = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            transformer,
            (),
            kwargs=examples,
            input_names=names,
            output_names=["last_hidden_state"],
            dynamic_shapes={given: shape for given in names},
            dynamo=True,
            verbose=False,
        )
        program.save(str(path))
    if int8:
        _quantize(path)


def _quantize(path: Path) -> None:
    quantization = require("onnxruntime.quantization", extra=_EXTRA)
    smaller = path.with_suffix(".int8")
    with _quiet():
        # A scale for each channel: with one for all of a matrix, vectors of MiniLM agree with the
        # reference to 0.94 on average, with these to 0.99.
        quantization.quantize_dynamic(
            str(path),
            str(smaller),
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
        )
    for piece in path.parent.glob(path.name + "*"):
        piece.unlink()
    shutil.move(smaller, path)


def _agreement(reference: SentenceTransformerModel, folder: Path) -> tuple[float, float]:
    """Cosine of the worst text and of all on average, each embedded alone and in one batch."""
    model = OnnxModel(read_folder(folder), threads=1)
    wanted, _ = reference.encode(PROBES, truncate=True)
    together, _ = model.encode(PROBES, truncate=True)
    cosines = [
        float(row @ given[0])
        for row, text in zip(wanted, PROBES, strict=True)
        for given in [model.encode([text], truncate=True)[0]]
    ]
    cosines += [float(row @ given) for row, given in zip(wanted, together, strict=True)]
    return min(cosines), sum(cosines) / len(cosines)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter tells its own authors; what goes wrong is raised all the same."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
