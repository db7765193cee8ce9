"""Embeddings by the models of Amazon and of Cohere on Bedrock, which each have their own format.

Source: Amazon Bedrock User Guide, "Amazon Titan Text Embeddings", "Amazon Titan Multimodal
Embeddings G1" and "Cohere Embed models"; November 2026.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from asgi_llm.errors import RawHeaders
from asgi_llm.providers._embeddings import (
    batches,
    check_dimensions,
    embedding_answer,
    embedding_texts,
    wants_base64,
)
from asgi_llm.providers._losses import Losses
from asgi_llm.providers._native import malformed
from asgi_llm.providers._rerank import token_count
from asgi_llm.providers.base import Answer, Translation
from asgi_llm.types import Document, Usage
from asgi_llm.wire.estimate import estimate_usage

__all__ = ["EmbeddingMemo", "embedding_bodies", "read_embeddings", "with_token_count"]

_COHERE: Final = "cohere.embed"
_PICTURES_TOO: Final = "titan-embed-image"
_TEXTS_AT_ONCE: Final = 96
_INPUT_TYPE: Final = "search_document"
_TAKEN: Final = frozenset(("asgi_llm", "dimensions", "encoding_format", "input", "model"))
_COHERE_FIELDS: Final = ("input_type", "max_tokens", "truncate")
_TITAN_FIELDS: Final = ("normalize",)
_COUNT_HEADER: Final = b"x-amzn-bedrock-input-token-count"


class EmbeddingMemo(msgspec.Struct, gc=False):
    """What has to be known of a request to read its answers.

    Attributes:
        sizes: How many texts each call has.
        is_cohere: They go to a model of Cohere's.
    """

    sizes: list[int]
    is_cohere: bool


def embedding_bodies(
    document: Document, model: str, losses: Losses
) -> tuple[list[Document], EmbeddingMemo]:
    """What each call says, in order: Titan takes one text a call, Cohere's models 96.

    Raises:
        InvalidRequestError: It cannot be asked.
    """
    wants_base64(document)
    texts = embedding_texts(document)
    is_cohere = _COHERE in model
    passed = _COHERE_FIELDS if is_cohere else _TITAN_FIELDS
    shared: Document = {name: document[name] for name in passed if document.get(name) is not None}
    for name, value in document.items():
        if value is not None and name not in _TAKEN and name not in passed:
            losses.add(name)
    size = document.get("dimensions")
    if is_cohere:
        shared.setdefault("input_type", _INPUT_TYPE)
        if size is not None:
            shared["output_dimension"] = size
        pieces = batches(texts, _TEXTS_AT_ONCE)
        bodies = [{**shared, "texts": piece} for piece in pieces]
        return bodies, EmbeddingMemo([len(piece) for piece in pieces], is_cohere=True)
    if size is not None and _PICTURES_TOO in model:
        shared["embeddingConfig"] = {"outputEmbeddingLength": size}
    elif size is not None:
        shared["dimensions"] = size
    bodies = [{**shared, "inputText": text} for text in texts]
    return bodies, EmbeddingMemo([1] * len(texts), is_cohere=False)


def with_token_count(translation: Translation, headers: RawHeaders, body: bytes) -> bytes:
    """``body`` with the count of tokens that stands in a header alone, where Titan has it."""
    memo = translation.memo
    if not isinstance(memo, EmbeddingMemo) or not memo.is_cohere or body[:1] != b"{":
        return body
    for name, value in headers:
        if name == _COUNT_HEADER and value.isdigit() and len(value) < 10:
            return b'{"inputTextTokenCount":%d,%b' % (int(value), body[1:])
    return body


class _Vectors(msgspec.Struct, gc=False, rename="camel"):
    embedding: msgspec.Raw = msgspec.Raw(b"")
    embeddings: msgspec.Raw = msgspec.Raw(b"")
    input_text_token_count: Any = None


class _Typed(msgspec.Struct, gc=False):
    float: list[msgspec.Raw] | None = None


_decode: Final = msgspec.json.Decoder(_Vectors).decode
_decode_list: Final = msgspec.json.Decoder(list[msgspec.Raw] | _Typed).decode
_numbers: Final = msgspec.json.Decoder(list[float]).decode


def read_embeddings(translation: Translation, bodies: Sequence[bytes]) -> Answer:
    """One answer of those to each of the calls.

    Raises:
        ProviderError: Not every text has a vector, or vectors are of another length.
        msgspec.MsgspecError: An answer is not what it should be.
    """
    document = translation.document
    memo: EmbeddingMemo = translation.memo
    vectors: list[Any] = []
    tokens: int | None = 0
    for size, body in zip(memo.sizes, bodies, strict=True):
        answer = _decode(body)
        found = _found(answer)
        if len(found) != size:
            raise malformed()
        vectors += found
        used = token_count(answer.input_text_token_count)
        tokens = None if tokens is None or used is None else tokens + used
    for vector in vectors:
        check_dimensions(bytes(vector).count(b",") + 1, document.get("dimensions"))
    as_base64 = wants_base64(document)
    if as_base64:
        vectors = [_numbers(vector) for vector in vectors]
    usage = estimate_usage(document, 0) if tokens is None else Usage(input_uncached=tokens)
    model = translation.deployment.model
    return Answer(embedding_answer(model, vectors, usage, as_base64=as_base64), usage)


def _found(answer: _Vectors) -> list[msgspec.Raw]:
    """Cohere's models give a list, or lists by type where they were asked for some."""
    if bytes(answer.embedding)[:1] == b"[":
        return [answer.embedding]
    listed = _decode_list(answer.embeddings)
    return (listed.float or []) if isinstance(listed, _Typed) else listed
