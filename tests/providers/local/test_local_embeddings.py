"""Embeddings without a provider: the real model behind ``/v1/embeddings``, on a real socket."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest

from asgi_llm.embedders.http import HttpEmbedder
from asgi_llm.embedders.onnx import OnnxEmbedder
from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway.build import load_gateway
from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.local_embeddings import LocalEmbeddings, local_embeddings
from asgi_llm.testing import call, http_scope
from asgi_llm.testing.serving import serve
from asgi_llm.transports.base import Timeouts

MODEL = "local/mini"
PATIENT_SECONDS = 60.0
LONG = "word " * 300


def provider(folder: Path, **options: Any) -> LocalEmbeddings:
    return local_embeddings(name="local", model=str(folder), models=("mini",), **options)


@pytest.fixture
async def url(minilm_onnx: Path) -> AsyncIterator[str]:
    made = provider(minilm_onnx)
    async with serve(ProviderApp([made]), "uvicorn", log_level="warning") as address:
        yield address + "/v1"
    await made.aclose()


@pytest.fixture
async def client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        api_key="none",
        base_url=url,
        max_retries=0,
        timeout=PATIENT_SECONDS,
    ) as made:
        yield made


async def test_the_sdk_gets_vectors_in_both_encodings(
    client: openai.AsyncOpenAI, minilm_onnx: Path
) -> None:
    """The same ones that the embedder gives, with usage by the model's tokenizer."""
    texts = ["How do I reset my password?", "Hello"]
    embedder = OnnxEmbedder(minilm_onnx)
    wanted = await embedder.embed_counted(texts)
    await embedder.aclose()
    # The SDK asks for base64 unless told otherwise.
    for encoding in ({}, {"encoding_format": "base64"}, {"encoding_format": "float"}):
        answer = await client.embeddings.create(model=MODEL, input=texts, **encoding)  # type: ignore[arg-type]
        vectors: Any = [row.embedding for row in answer.data]
        if encoding == {"encoding_format": "base64"}:
            vectors = [np.frombuffer(base64.b64decode(text), "<f4") for text in vectors]
        assert wanted.vectors == pytest.approx(np.array(vectors), abs=1e-6)
        assert (12, 12) == (answer.usage.prompt_tokens, answer.usage.total_tokens)
        assert [0, 1] == [row.index for row in answer.data]
        assert "mini" == answer.model
    assert 12 == sum(wanted.tokens)


async def test_one_text_and_the_models_own_dimensions(client: openai.AsyncOpenAI) -> None:
    """A bare string is a list of one; asking for what is given anyway is no error."""
    answer = await client.embeddings.create(model=MODEL, input="Hello", dimensions=384)
    assert [384] == [len(row.embedding) for row in answer.data]


async def refusal(client: openai.AsyncOpenAI, **fields: Any) -> tuple[int, str, Any]:
    with pytest.raises(openai.APIStatusError) as caught:
        await client.embeddings.create(**{"model": MODEL, "input": "Hello", **fields})
    error = json.loads(caught.value.response.text)["error"]
    return caught.value.status_code, error["code"], error["message"]


async def test_what_the_model_cannot_do_is_a_clear_400(client: openai.AsyncOpenAI) -> None:
    """Other dimensions, token ids, a text that is too long, another encoding."""
    status, code, message = await refusal(client, dimensions=256)
    assert (400, "unsupported_dimensions") == (status, code)
    assert "exactly 384 numbers, not 256" in message
    assert (400, "unsupported_input") == (await refusal(client, input=[[1, 2], [3]]))[:2]
    status, code, message = await refusal(client, input=["short", LONG])
    assert (400, "context_length_exceeded") == (status, code)
    assert "input[1]: the text has 302 tokens" in message
    assert 400 == (await refusal(client, encoding_format="int8"))[0]


async def test_another_model_and_another_operation_are_not_there(
    client: openai.AsyncOpenAI, url: str
) -> None:
    """A model is found by its names alone; chats are not what it is for."""
    assert 404 == (await refusal(client, model="local/other"))[0]
    with pytest.raises(openai.APIStatusError) as caught:
        await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hello"}]
        )
    assert 400 <= caught.value.status_code < 500
    assert [MODEL] == [model.id async for model in client.models.list()]


async def test_many_texts_of_many_clients(client: openai.AsyncOpenAI) -> None:
    """Each gets its own; a large answer is written off the loop, and is the same."""
    lists = [[f"text {n} of list {m}" for n in range(1 + 12 * m)] for m in range(6)]
    async with asyncio.timeout(PATIENT_SECONDS):
        answers = await asyncio.gather(
            *[client.embeddings.create(model=MODEL, input=texts) for texts in lists]
        )
        (again,) = await asyncio.gather(client.embeddings.create(model=MODEL, input=[lists[5][60]]))
    assert [len(texts) for texts in lists] == [len(answer.data) for answer in answers]
    assert answers[5].data[60].embedding == pytest.approx(again.data[0].embedding, abs=1e-5)


async def test_the_http_embedder_can_use_it(url: str, minilm_onnx: Path) -> None:
    """One gateway embeds for another: vectors are those of the model in process."""
    there = HttpEmbedder(url, model=MODEL)
    here = OnnxEmbedder(minilm_onnx)
    texts = ["a", "How do I reset my password?"]
    async with asyncio.timeout(PATIENT_SECONDS):
        assert await here.embed(texts) == pytest.approx(await there.embed(texts), abs=1e-6)
        with pytest.raises(Exception, match="answered 400 Bad Request"):
            await there.embed([LONG])
        await there.aclose()
        await here.aclose()


async def ask(made: LocalEmbeddings, **fields: Any) -> tuple[int, dict[str, Any], Any]:
    """One request in process."""
    app = ProviderApp([made])
    async with asyncio.timeout(PATIENT_SECONDS):
        answer = await call(
            app,
            http_scope(path="/v1/embeddings"),
            json={"model": MODEL, "input": "Hello", **fields},
        )
        await app.aclose()
    return answer.status, json.loads(answer.body), dict(answer.headers)


async def test_dimensions_are_cut_where_that_is_said_to_be_legal(minilm_onnx: Path) -> None:
    """To unit length again; more than there are remain a 400."""
    made = provider(minilm_onnx, matryoshka=True)
    whole = (await ask(made))[1]["data"][0]["embedding"]
    status, document, _ = await ask(made, dimensions=64)
    short = np.array(document["data"][0]["embedding"])
    assert (200, (64,)) == (status, short.shape)
    assert 1.0 == pytest.approx(float(np.linalg.norm(short)), abs=1e-5)
    assert short == pytest.approx(np.array(whole[:64]) / np.linalg.norm(whole[:64]), abs=1e-5)
    status, document, _ = await ask(made, dimensions=385)
    assert (400, True) == (status, "at most 384" in document["error"]["message"])
    await made.aclose()


async def test_long_texts_are_cut_by_option(minilm_onnx: Path) -> None:
    """Usage is what the model read."""
    made = provider(minilm_onnx, truncate=True)
    status, document, _ = await ask(made, input=LONG)
    assert (200, 256) == (status, document["usage"]["prompt_tokens"])
    await made.aclose()


async def test_a_full_queue_is_a_503_and_a_deadline_a_504(minilm_onnx: Path) -> None:
    """With Retry-After; who waited is answered."""
    embedder = OnnxEmbedder(minilm_onnx, max_batch_texts=1, max_waiting_texts=1)
    made = LocalEmbeddings(embedder, models=("mini",))
    async with asyncio.timeout(PATIENT_SECONDS):
        results = await asyncio.gather(*[ask(made, input=["a", "b"]) for _ in range(3)])
        refused = [one for one in results if one[0] != 200]
        assert 2 == len(refused)
        for status, document, headers in refused:
            assert (503, "model_overloaded") == (status, document["error"]["code"])
            assert b"1" == headers[b"retry-after"]
    hurried = LocalEmbeddings(
        embedder, models=("mini",), timeouts=Timeouts(first_byte_seconds=1e-6)
    )
    assert 504 == (await ask(hurried))[0]
    await made.aclose()
    status, document, _ = await ask(made)
    assert (502, "provider_unavailable") == (status, document["error"]["code"])


async def test_the_configuration_describes_it(minilm_onnx: Path) -> None:
    """From the file to the answer, and what is wrong with it is told with its key."""
    options = {"type": "local_embeddings", "model": str(minilm_onnx), "models": ["mini"]}
    gateway = load_gateway({"providers": {"local": options}})
    async with gateway.lifespan(), asyncio.timeout(PATIENT_SECONDS):
        answer = await call(
            gateway,
            http_scope(path="/v1/embeddings"),
            json={"model": MODEL, "input": "Hello"},
        )
        assert 384 == len(json.loads(answer.body)["data"][0]["embedding"])
    for wrong in ({"model": "/nowhere"}, {"engine": "magic"}, {"threads": 0}, {"modell": "x"}):
        with pytest.raises(ConfigurationError):
            load_gateway({"providers": {"local": {**options, **wrong}}})


def test_an_embedder_that_does_not_count_is_refused() -> None:
    """Usage would be a guess."""
    with pytest.raises(ConfigurationError, match="counts tokens"):
        LocalEmbeddings(HttpEmbedder("http://127.0.0.1:1/v1", model="m"))  # type: ignore[arg-type]


async def test_curl_would_see_openais_answer(url: str) -> None:
    """The bytes on the wire, without an SDK."""
    async with httpx2.AsyncClient(timeout=PATIENT_SECONDS) as http:
        response = await http.post(f"{url}/embeddings", json={"model": MODEL, "input": "Hello"})
    document = response.json()
    assert (200, "application/json") == (response.status_code, response.headers["content-type"])
    assert {"object", "data", "model", "usage"} == document.keys()
    assert {"object", "index", "embedding"} == document["data"][0].keys()
    assert {"prompt_tokens": 3, "total_tokens": 3} == document["usage"]
