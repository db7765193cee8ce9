"""The upstream of local embeddings: OpenAI's embeddings API over a model of this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

from asgi_llm import _json, errors
from asgi_llm.embedders.base import (
    CountingEmbedder,
    EmbedderBusyError,
    EmbedderError,
    TextTooLongError,
)
from asgi_llm.errors import InvalidRequestError, ModelNotFoundError, RawHeaders
from asgi_llm.providers._embeddings import embedding_answer, embedding_texts, wants_base64
from asgi_llm.transports.base import (
    ResponseTooLargeError,
    Timeouts,
    TransportTimeoutError,
    UpstreamRequest,
    UpstreamResponse,
)
from asgi_llm.types import Document, Usage

if TYPE_CHECKING:
    from asgi_llm.embedders.base import Vectors

__all__ = ["LocalTransport"]

_JSON: Final = (b"content-type", b"application/json")
_INLINE_NUMBERS: Final = 20_000
"""What is written on the event loop: some 2 ms as numbers."""
_TINY: Final = 1e-12


class LocalTransport:
    """Answers in process.

    Args:
        embedder: The model; closed by whoever made it.
        models: The names by which it is asked.
        matryoshka: Whether the beginning of a vector is a vector, so that it may be cut.
    """

    def __init__(
        self, embedder: CountingEmbedder, *, models: tuple[str, ...], matryoshka: bool
    ) -> None:
        self._embedder = embedder
        self._models = models
        self._matryoshka = matryoshka

    async def send(self, request: UpstreamRequest, timeouts: Timeouts) -> UpstreamResponse:
        """Answer ``request``."""
        try:
            if request.url.endswith("/models"):
                return _LocalResponse(_json.encode(self._list()))
            if not isinstance(request.body, bytes):
                raise InvalidRequestError("The body must come whole.")
            document = _json.decode(request.body)
            limit = timeouts.first_byte_seconds
            try:
                async with asyncio.timeout(limit):
                    return _LocalResponse(await self._embed(document))
            except TimeoutError:
                raise TransportTimeoutError("first_byte", limit or 0.0) from None
        except errors.LLMError as error:
            return _LocalResponse(_json.encode(errors.error_document(error)), error.status)
        except EmbedderBusyError as error:
            busy = errors.ProviderUnavailableError(
                str(error), status=503, code="model_overloaded", retry_after_seconds=1
            )
            return _LocalResponse(
                _json.encode(errors.error_document(busy)), 503, (b"retry-after", b"1")
            )
        except EmbedderError as error:
            failed = errors.ProviderUnavailableError(str(error))
            return _LocalResponse(_json.encode(errors.error_document(failed)), 500)

    async def aclose(self) -> None:
        """Nothing is open here."""

    async def _embed(self, document: Document) -> bytes:
        model = document["model"]
        if model not in self._models:
            raise ModelNotFoundError(f"model: {model!r} is not served here")
        texts = embedding_texts(document)
        as_base64 = wants_base64(document)
        try:
            vectors, tokens = await self._embedder.embed_counted(texts)
        except TextTooLongError as error:
            raise InvalidRequestError(
                f"input[{error.place}]: the text has {error.tokens} tokens; the model's maximum "
                f"context length is {error.limit}",
                param="input",
                code="context_length_exceeded",
            ) from error
        vectors = self._cut(vectors, document.get("dimensions"))
        usage = Usage(input_uncached=sum(tokens))
        if vectors.size > _INLINE_NUMBERS:
            return await asyncio.to_thread(_answer, model, vectors, usage, as_base64)
        return _answer(model, vectors, usage, as_base64)

    def _cut(self, vectors: Vectors, dimensions: int | None) -> Vectors:
        """The beginning of each vector, at unit length again, where that says something."""
        length = vectors.shape[1]
        if dimensions is None or dimensions == length:
            return vectors
        if not self._matryoshka or dimensions > length:
            kind = "at most" if self._matryoshka else "exactly"
            raise InvalidRequestError(
                f"dimensions: the model gives vectors of {kind} {length} numbers, not {dimensions}",
                param="dimensions",
                code="unsupported_dimensions",
            )
        short = vectors[:, :dimensions]
        lengths: Any = (short * short).sum(axis=1, keepdims=True) ** 0.5
        lengths[lengths < _TINY] = 1.0
        found: Vectors = short / lengths
        return found

    def _list(self) -> Document:
        data = [
            {"id": name, "object": "model", "created": 0, "owned_by": "local"}
            for name in self._models
        ]
        return {"object": "list", "data": data}


def _answer(model: str, vectors: Vectors, usage: Usage, as_base64: bool) -> bytes:
    return embedding_answer(model, vectors.tolist(), usage, as_base64=as_base64)


class _LocalResponse:
    """One whole answer."""

    def __init__(self, body: bytes, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
        self.status = status
        self.headers: RawHeaders = [_JSON, *headers]
        self.framed = True
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body

    async def read(self, max_bytes: int) -> bytes:
        """The whole body."""
        if len(self._body) > max_bytes:
            raise ResponseTooLargeError(f"the body is larger than {max_bytes} bytes")
        return self._body

    async def aclose(self) -> None:
        """Nothing is open."""
