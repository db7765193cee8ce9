"""The real model, in every driver that runs it here."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from asgi_llm.embedders.base import CountingEmbedder, EmbedderError, TextTooLongError
from asgi_llm.embedders.onnx import OnnxEmbedder
from asgi_llm.embedders.sentence_transformers import SentenceTransformerEmbedder
from asgi_llm.errors import ConfigurationError
from tests.embedders.sentences import sentences

PATIENT_SECONDS = 120.0
TEXTS = ["", *sentences(119)]
LONG = "one two three four five six seven eight nine ten " * 40


@pytest.fixture(scope="session")
def reference(minilm_path: str) -> SentenceTransformerEmbedder:
    """Loaded once: torch takes seconds. Its thread outlives each test's loop."""
    return SentenceTransformerEmbedder(minilm_path, name="MiniLM")


@pytest.fixture(params=["onnx", "int8", "sentence_transformers"])
async def embedder(request: pytest.FixtureRequest) -> AsyncIterator[CountingEmbedder]:
    """One of each driver."""
    if request.param == "sentence_transformers":
        yield request.getfixturevalue("reference")
        return
    name = {"onnx": "minilm_onnx", "int8": "minilm_int8"}[request.param]
    made = OnnxEmbedder(request.getfixturevalue(name))
    yield made
    await made.aclose()


async def test_vectors_are_of_unit_length(embedder: CountingEmbedder) -> None:
    """A row for each text, in their order, float32; what is not known before is known after."""
    async with asyncio.timeout(PATIENT_SECONDS):
        vectors, tokens = await embedder.embed_counted(TEXTS)
    assert ((len(TEXTS), 384), "float32") == (vectors.shape, vectors.dtype.name)
    assert np.ones(len(TEXTS)) == pytest.approx(np.linalg.norm(vectors, axis=1), abs=1e-5)
    assert (384, 256) == (embedder.dimension, embedder.max_input_tokens)
    assert (len(TEXTS), 2) == (len(tokens), tokens[0])
    assert (0, 384) == (await embedder.embed([])).shape


async def test_a_text_has_the_same_vector_alone_and_in_company(embedder: CountingEmbedder) -> None:
    """Whatever is in its batch, and whoever asks at the same time."""
    few = TEXTS[:40]
    async with asyncio.timeout(PATIENT_SECONDS):
        together = await embedder.embed(few)
        alone = await asyncio.gather(*[embedder.embed([text]) for text in few])
    cosines = np.einsum("ij,ij->i", together, np.concatenate(alone))
    # In int8 what is measured for a batch's scale is of the whole batch.
    least = 0.98 if embedder.name == "mini-int8" else 0.99999
    assert least < cosines.min()


@pytest.mark.parametrize(("files", "least"), [("minilm_onnx", 0.99999), ("minilm_int8", 0.97)])
async def test_exported_files_give_the_vectors_of_the_reference(
    request: pytest.FixtureRequest,
    reference: SentenceTransformerEmbedder,
    files: str,
    least: float,
) -> None:
    """And count the same tokens, on 120 texts of several scripts."""
    made = OnnxEmbedder(request.getfixturevalue(files), threads=2)
    async with asyncio.timeout(PATIENT_SECONDS):
        wanted = await reference.embed_counted(TEXTS)
        found = await made.embed_counted(TEXTS)
        await made.aclose()
    assert wanted.tokens == found.tokens
    assert least < np.einsum("ij,ij->i", wanted.vectors, found.vectors).min()


async def test_cosine_alone_cannot_tell_a_negation(embedder: CountingEmbedder) -> None:
    """What the guards of the cache are for: the opposite is nearer than the paraphrase."""
    async with asyncio.timeout(PATIENT_SECONDS):
        vectors = await embedder.embed(
            [
                "How do I reset my password?",
                "How do I NOT reset my password?",
                "What is the way to reset the password?",
            ]
        )
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] > 0.8


async def test_a_text_that_is_too_long_is_refused(embedder: CountingEmbedder) -> None:
    """With its place and its length; those who ask at the same time are answered."""
    async with asyncio.timeout(PATIENT_SECONDS):
        refused, answered = await asyncio.gather(
            embedder.embed(["short", LONG]), embedder.embed(["other"]), return_exceptions=True
        )
    assert isinstance(refused, TextTooLongError)
    assert (1, 402, 256) == (refused.place, refused.tokens, refused.limit)
    assert isinstance(answered, np.ndarray)
    assert (1, 384) == answered.shape
    assert "three" not in str(refused)


async def test_texts_are_cut_as_the_reference_cuts_them(
    minilm_path: str, minilm_onnx: Path, reference: SentenceTransformerEmbedder
) -> None:
    """By option; the tokens are those that were read."""
    cutting = OnnxEmbedder(minilm_onnx, truncate=True)
    theirs = SentenceTransformerEmbedder(minilm_path, truncate=True)
    async with asyncio.timeout(PATIENT_SECONDS):
        found, wanted = await asyncio.gather(
            cutting.embed_counted([LONG, "short"]), theirs.embed_counted([LONG, "short"])
        )
        await cutting.aclose()
        await theirs.aclose()
    assert (256, 3) == found.tokens == wanted.tokens
    assert 0.99999 < np.einsum("ij,ij->i", wanted.vectors, found.vectors).min()


async def test_half_a_surrogate_pair_is_a_text_too(embedder: CountingEmbedder) -> None:
    """No tokenizer takes it, so that something else stands in its place."""
    async with asyncio.timeout(PATIENT_SECONDS):
        assert (1, 384) == (await embedder.embed(["broken \ud800 text"])).shape


async def test_the_model_runs_in_one_thread_that_is_not_the_loops(minilm_onnx: Path) -> None:
    """The loop goes on while it loads and runs; the thread ends with the embedder."""
    embedder = OnnxEmbedder(minilm_onnx, name="watched")
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    async with asyncio.timeout(PATIENT_SECONDS):
        await embedder.load()
        assert turns > 20
        turns = 0
        await embedder.embed(TEXTS)
        assert turns > 20
        threads = [one for one in threading.enumerate() if one.name.startswith("embedder-watched")]
        assert 1 == len(threads)
        turning.cancel()
        await embedder.aclose()
        await asyncio.to_thread(threads[0].join, PATIENT_SECONDS)
        assert not threads[0].is_alive()
        with pytest.raises(EmbedderError, match="closed"):
            await embedder.embed(["late"])
        await embedder.aclose()


async def test_a_caller_that_cannot_wait_leaves_a_model_that_loads(minilm_onnx: Path) -> None:
    """Its deadline passes; who comes later finds the model there."""
    embedder = OnnxEmbedder(minilm_onnx)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await embedder.embed(["hurry"])
    async with asyncio.timeout(PATIENT_SECONDS):
        assert (1, 384) == (await embedder.embed(["calm"])).shape
        await embedder.aclose()


def folder_of(source: Path, target: Path, **changes: Any) -> Path:
    """A copy of an exported folder, without the model's weight, with another description."""
    target.mkdir()
    shutil.copy(source / "tokenizer.json", target)
    described = msgspec.json.decode((source / "embedder.json").read_bytes())
    (target / "embedder.json").write_bytes(msgspec.json.encode({**described, **changes}))
    (target / "model.onnx").write_bytes(b"not a model")
    return target


async def test_a_file_that_is_no_model_fails_each_call(minilm_onnx: Path, tmp_path: Path) -> None:
    """With an error of ours, the second time without trying again."""
    embedder = OnnxEmbedder(folder_of(minilm_onnx, tmp_path / "model"))
    async with asyncio.timeout(PATIENT_SECONDS):
        for _ in range(2):
            with pytest.raises(EmbedderError, match="could not be loaded"):
                await embedder.embed(["a"])
            with pytest.raises(EmbedderError, match="could not be loaded"):
                await embedder.load()
        await embedder.aclose()


def test_a_folder_that_is_no_model_is_refused_at_once(minilm_onnx: Path, tmp_path: Path) -> None:
    """In the constructor, with the reason."""
    cases = {
        "it has no tokenizer.json": tmp_path,
        "is of format 2, not 1": folder_of(minilm_onnx, tmp_path / "format", format=2),
        "cannot be read": folder_of(minilm_onnx, tmp_path / "unknown", new_field=1),
        "it has no model.onnx": folder_of(minilm_onnx, tmp_path / "weightless"),
    }
    (tmp_path / "weightless" / "model.onnx").unlink()
    for told, folder in cases.items():
        with pytest.raises(ConfigurationError, match=told):
            OnnxEmbedder(folder)


def test_the_files_of_sentence_transformers_are_read_too(
    minilm_path: str, minilm_onnx: Path, tmp_path: Path
) -> None:
    """With an ONNX file in their usual place; without one the command is named that makes it."""
    model = tmp_path / "plain-model"
    shutil.copytree(minilm_path, model, ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(ConfigurationError, match="asgi-llm embedder export"):
        OnnxEmbedder(model)
    (model / "onnx").mkdir()
    (model / "onnx" / "model.onnx").symlink_to(minilm_onnx / "model.onnx")

    async def embed() -> Any:
        embedder = OnnxEmbedder(model)
        exported = OnnxEmbedder(minilm_onnx)
        async with asyncio.timeout(PATIENT_SECONDS):
            return embedder.name, await embedder.embed(["a b"]), await exported.embed(["a b"])

    name, found, wanted = asyncio.run(embed())
    assert "plain-model" == name
    assert wanted == pytest.approx(found)
    (model / "modules.json").write_text('[{"type": "x.Transformer"}, {"type": "x.Dense"}]')
    with pytest.raises(ConfigurationError, match="its steps are Transformer, Dense"):
        OnnxEmbedder(model)


async def test_a_model_that_is_not_on_this_machine_is_not_fetched() -> None:
    """An error of ours says so."""
    embedder = SentenceTransformerEmbedder("no-such-model-anywhere")
    async with asyncio.timeout(PATIENT_SECONDS):
        with pytest.raises(ConfigurationError, match="cannot load 'no-such-model-anywhere'"):
            await embedder.embed(["a"])
        await embedder.aclose()


def test_wrong_options_are_refused(minilm_onnx: Path, minilm_path: str) -> None:
    """The error names the option."""
    for options in ({"threads": 0}, {"max_batch_texts": 0}, {"window_seconds": -1}, {"name": ""}):
        for make, model in (
            (OnnxEmbedder, minilm_onnx),
            (SentenceTransformerEmbedder, minilm_path),
        ):
            with pytest.raises(ConfigurationError) as caught:
                make(model, **options)
            assert [caught.value.param] == list(options)
