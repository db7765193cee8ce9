"""The files of an exported model: what is where, and how its vectors are made.

Two layouts are read: the one that ``asgi-llm embedder export`` writes, and that of repositories of
sentence-transformers with an ONNX file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec

from asgi_llm.errors import ConfigurationError

__all__ = [
    "DESCRIPTION",
    "FORMAT",
    "Description",
    "ModelFolder",
    "Pooling",
    "pooling_of",
    "read_folder",
]

DESCRIPTION: Final = "embedder.json"
FORMAT: Final = 1

Pooling = Literal["mean", "cls"]
"""Whether a vector is the mean over all tokens, or the first token's."""


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``embedder.json`` says."""

    format: int
    name: str
    precision: Literal["fp32", "int8"]
    dimension: int
    max_input_tokens: int
    pooling: Pooling
    model_sha256: str
    """Of ``model.onnx``, hexadecimal."""


class ModelFolder(msgspec.Struct, frozen=True, kw_only=True):
    """Where the files of a model are, and what they are."""

    model: Path
    tokenizer: Path
    name: str
    max_input_tokens: int
    pooling: Pooling
    model_sha256: str | None = None


class _SentenceConfig(msgspec.Struct):
    max_seq_length: int


class _PoolingConfig(msgspec.Struct):
    pooling_mode_mean_tokens: bool = False
    pooling_mode_cls_token: bool = False
    pooling_mode: str | None = None


class _Module(msgspec.Struct):
    type: str


def read_folder(path: str | Path) -> ModelFolder:
    """What is in the folder of an exported model.

    Raises:
        ConfigurationError: It is none, or its vectors are made in a way that is not known here.
    """
    folder = Path(path)
    tokenizer = folder / "tokenizer.json"
    if not tokenizer.is_file():
        raise _wrong(folder, "it has no tokenizer.json")
    try:
        if (folder / DESCRIPTION).is_file():
            return _of_ours(folder, tokenizer)
        return _of_sentence_transformers(folder, tokenizer)
    except (msgspec.MsgspecError, OSError, UnicodeDecodeError) as error:
        raise _wrong(folder, f"it cannot be read: {error}") from error


def _of_ours(folder: Path, tokenizer: Path) -> ModelFolder:
    described = msgspec.json.decode((folder / DESCRIPTION).read_bytes(), type=Description)
    if described.format != FORMAT:
        raise _wrong(folder, f"{DESCRIPTION} is of format {described.format}, not {FORMAT}")
    model = folder / "model.onnx"
    if not model.is_file():
        raise _wrong(folder, "it has no model.onnx")
    return ModelFolder(
        model=model,
        tokenizer=tokenizer,
        name=described.name,
        max_input_tokens=described.max_input_tokens,
        pooling=described.pooling,
        model_sha256=described.model_sha256,
    )


def _of_sentence_transformers(folder: Path, tokenizer: Path) -> ModelFolder:
    model = next(
        (file for file in (folder / "onnx/model.onnx", folder / "model.onnx") if file.is_file()),
        None,
    )
    if model is None:
        raise _wrong(folder, "it has no ONNX file; `asgi-llm embedder export` makes one")
    limit = msgspec.json.decode(
        (folder / "sentence_bert_config.json").read_bytes(), type=_SentenceConfig
    ).max_seq_length
    return ModelFolder(
        model=model,
        tokenizer=tokenizer,
        name=folder.resolve().name,
        max_input_tokens=limit,
        pooling=pooling_of(folder),
    )


def pooling_of(folder: Path) -> Pooling:
    """How a model of sentence-transformers makes one vector of many.

    Raises:
        ConfigurationError: In a way that is not known here, or more is done to it.
    """
    steps = msgspec.json.decode((folder / "modules.json").read_bytes(), type=list[_Module])
    names = [step.type.rpartition(".")[2] for step in steps]
    if names[:2] != ["Transformer", "Pooling"] or names[2:] not in ([], ["Normalize"]):
        raise _wrong(folder, f"its steps are {', '.join(names)}; known are pooling and normalizing")
    read = msgspec.json.decode(
        (folder / "1_Pooling" / "config.json").read_bytes(), type=_PoolingConfig
    )
    if read.pooling_mode == "mean" or read.pooling_mode_mean_tokens:
        return "mean"
    if read.pooling_mode == "cls" or read.pooling_mode_cls_token:
        return "cls"
    raise _wrong(folder, "it pools neither by the mean nor by the first token")


def _wrong(folder: Path, why: str) -> ConfigurationError:
    return ConfigurationError(f"{folder} is not the folder of a model: {why}", param="folder")
