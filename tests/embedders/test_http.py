"""The embedder over an endpoint's ``/embeddings``, on real sockets."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from asgi_llm.embedders.base import EmbedderError
from asgi_llm.embedders.http import HttpEmbedder
from asgi_llm.errors import ConfigurationError
from asgi_llm.testing import Upstream, Wait, json_reply
from asgi_llm.testing.replies import Reply
from asgi_llm.testing.upstream import ReceivedRequest
from asgi_llm.transports.base import Timeouts

PATIENT_SECONDS = 20.0
KEY = "sk-secret-1"


def rows(texts: list[str], *, as_base64: bool = True) -> list[dict[str, Any]]:
    """A vector of 3 numbers for each text, not of unit length."""
    vectors = [[3.0 * len(text), 4.0 * len(text), 0.0] for text in texts]
    return [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(struct.pack("<3f", *vector)).decode()
            if as_base64
            else vector,
        }
        for index, vector in enumerate(vectors)
    ]


def answer(request: ReceivedRequest) -> Reply:
    return json_reply({"data": rows(request.json()["input"])})


def embedder(upstream: Upstream, **options: Any) -> HttpEmbedder:
    return HttpEmbedder(f"{upstream.url}/v1/", model="m", **options)


async def test_vectors_come_at_unit_length_in_order() -> None:
    """Of base64 or numbers, in whatever order the rows are."""

    def reversed_numbers(request: ReceivedRequest) -> Reply:
        data = rows(request.json()["input"], as_base64=request.json()["input"] == ["x"])
        return json_reply({"data": data[::-1]})

    async with Upstream(reversed_numbers) as upstream, asyncio.timeout(PATIENT_SECONDS):
        client = embedder(upstream, api_key=KEY, headers={"X-Team": "a"})
        before = client.dimension
        for texts in (["x"], ["x", "yy", "zzz"]):
            found = await client.embed(texts)
            assert ((len(texts), 3), "float32") == (found.shape, found.dtype.name)
            assert [[pytest.approx(0.6), pytest.approx(0.8), 0.0]] * len(texts) == found.tolist()
        assert (None, 3) == (before, client.dimension)
        assert (0, 3) == (await client.embed([])).shape
        await client.aclose()
        first = upstream.ledger[0].request
    assert "/v1/embeddings" == first.path
    assert {"model": "m", "encoding_format": "base64", "input": ["x"]} == first.json()
    assert (b"Bearer sk-secret-1", b"a") == (first.header("authorization"), first.header("x-team"))


async def test_callers_of_one_turn_share_a_call() -> None:
    """And a list that is too long for one is split, with several calls at once."""
    async with Upstream(answer) as upstream, asyncio.timeout(PATIENT_SECONDS):
        client = embedder(upstream, max_batch_texts=4, dimensions=3)
        await asyncio.gather(client.embed(["a"]), client.embed(["bb", "ccc"]))
        await client.embed(list("123456789"))
        await client.aclose()
        asked = [served.request.json() for served in upstream.ledger]
    assert [3, 4, 4, 1] == [len(one["input"]) for one in asked]
    assert {3} == {one["dimensions"] for one in asked}
    assert "m:3" == client.name


def with_rows(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[ReceivedRequest], Reply]:
    return lambda request: json_reply({"data": change(rows(request.json()["input"]))})


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (lambda _: json_reply({"error": KEY}, status=401), "answered 401 Unauthorized"),
        (lambda _: json_reply({}, status=599), "answered 599"),
        (lambda _: json_reply({"data": "none"}), "no list of vectors"),
        (lambda _: Reply(body=b"<html>"), "no list of vectors"),
        (with_rows(lambda found: found[:1]), "not one vector for each text"),
        (with_rows(lambda found: [found[0], found[0]]), "not one vector for each text"),
        (with_rows(lambda found: [{**one, "embedding": "!!!!"} for one in found]), "no list"),
        (with_rows(lambda found: [{**one, "embedding": "AAAA"} for one in found]), "no list"),
        (with_rows(lambda found: [{**one, "embedding": [0.0]} for one in found]), "no list"),
        (with_rows(lambda found: [{**one, "embedding": []} for one in found]), "no list"),
        (
            with_rows(lambda found: [found[0], {**found[1], "embedding": [1.0, 2.0]}]),
            "no list of vectors",
        ),
        (lambda _: Reply(body=b" " * 10_000_000), "larger than"),
    ],
)  # fmt: skip
async def test_an_answer_that_is_none_is_an_error_of_ours(
    handler: Callable[[ReceivedRequest], Reply], told: str
) -> None:
    """It says what is wrong, and neither the key nor what was asked."""
    async with Upstream(handler) as upstream, asyncio.timeout(PATIENT_SECONDS):
        client = embedder(upstream, api_key=KEY)
        with pytest.raises(EmbedderError, match=told) as caught:
            await client.embed(["private one", "private two"])
        await client.aclose()
    assert KEY not in str(caught.value)
    assert "private" not in str(caught.value)


async def test_nobody_there_and_nobody_answering() -> None:
    """A refused connection and a missed deadline are errors of ours."""
    async with Upstream(answer) as upstream:
        gone = embedder(upstream)
    async with asyncio.timeout(PATIENT_SECONDS):
        with pytest.raises(EmbedderError, match="the endpoint of m"):
            await gone.embed(["a"])
        await gone.aclose()
        stall = asyncio.Event()
        async with Upstream(lambda _: json_reply({}, before=[Wait(stall)])) as upstream:
            slow = embedder(upstream, timeouts=Timeouts(total_seconds=0.05))
            with pytest.raises(EmbedderError, match=r"within 0\.05 seconds"):
                await slow.embed(["a"])
            stall.set()
            await slow.aclose()


async def test_a_vector_of_another_length_than_before_is_refused() -> None:
    """A model that changed behind its endpoint must not fill an index with what does not fit."""
    upstream = Upstream()
    for vector in ([1.0, 0.0], [1.0, 0.0, 0.0]):
        upstream.script(json_reply({"data": [{"embedding": vector}]}))
    async with upstream, asyncio.timeout(PATIENT_SECONDS):
        client = embedder(upstream)
        assert np.array_equal([[1.0, 0.0]], await client.embed(["a"]))
        with pytest.raises(EmbedderError):
            await client.embed(["a"])
        await client.aclose()


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"base_url": "ftp://x"}, "base_url"),
        ({"model": ""}, "model"),
        ({"dimensions": 0}, "dimensions"),
        ({"headers": {"Authorization": "x"}}, "headers"),
        ({"headers": {"x": "a\r\nb: c"}}, "headers"),
        ({"api_key": "a\nb"}, "headers"),
        ({"api_key": "\u20ac"}, "headers"),
        ({"max_batches": 0}, "max_batches"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], param: str) -> None:
    """The error names the option."""
    given = {"base_url": "http://127.0.0.1:1", "model": "m", **options}
    with pytest.raises(ConfigurationError) as caught:
        HttpEmbedder(given.pop("base_url"), **given)
    assert param == caught.value.param
