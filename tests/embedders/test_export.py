"""``asgi-llm embedder export``, with the real model."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from asgi_llm.embedders.export import export_model
from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway.embedder_commands import embedder


def test_the_command_says_what_it_made(minilm_int8: Path) -> None:
    """Name, size and agreement; the files hold what it says, and nothing else is there."""
    printed = (minilm_int8.parent / "minilm-int8.txt").read_text()
    assert "mini-int8" in printed
    assert "384 numbers, of at most 256 tokens" in printed
    assert "of 16 texts (0.95 is needed)" in printed
    size = (minilm_int8 / "model.onnx").stat().st_size
    assert f"{size / 1e6:.1f} MB" in printed
    assert 20e6 < size < 30e6
    assert {"embedder.json", "model.onnx", "tokenizer.json"} == {
        path.name for path in minilm_int8.iterdir()
    }


def test_the_description_fits_the_files(minilm_onnx: Path) -> None:
    """With the digest of the weights."""
    described = msgspec.json.decode((minilm_onnx / "embedder.json").read_bytes())
    with (minilm_onnx / "model.onnx").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    assert {
        "format": 1,
        "name": "model",
        "precision": "fp32",
        "dimension": 384,
        "max_input_tokens": 256,
        "pooling": "mean",
        "model_sha256": digest,
    } == described


def test_exported_files_run_without_torch(minilm_int8: Path) -> None:
    """In a process that embeds a text, neither torch nor transformers is loaded."""
    code = (
        "import asyncio, sys; from asgi_llm.embedders.onnx import OnnxEmbedder\n"
        f"print(asyncio.run(OnnxEmbedder({str(minilm_int8)!r}).embed(['a'])).shape)\n"
        "print([name for name in ('torch', 'transformers', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert ["(1, 384)", "[]"] == done.stdout.splitlines()


def test_nothing_is_overwritten(minilm_path: str, tmp_path: Path) -> None:
    """A folder that holds something is left as it is."""
    (tmp_path / "mine").touch()
    with pytest.raises(ConfigurationError, match="is there already") as caught:
        export_model(minilm_path, tmp_path)
    assert "output" == caught.value.param
    assert ["mine"] == [path.name for path in tmp_path.iterdir()]


def test_the_command_tells_what_is_wrong(minilm_path: str, tmp_path: Path) -> None:
    """On standard error, with status 2."""
    (tmp_path / "mine").touch()
    result = CliRunner().invoke(embedder, ["export", minilm_path, "--output", str(tmp_path)])
    assert (2, "", f"error: {tmp_path} is there already\n") == (
        result.exit_code,
        result.stdout,
        result.stderr,
    )


def test_a_model_that_is_not_there_leaves_nothing(tmp_path: Path) -> None:
    """No folder, and no file beside it."""
    with pytest.raises(ConfigurationError, match="cannot load"):
        export_model(tmp_path / "none", tmp_path / "out" / "model")
    assert [] == list((tmp_path / "out").iterdir())
