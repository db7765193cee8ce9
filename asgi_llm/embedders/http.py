"""Embeddings of any endpoint that speaks OpenAI's ``/v1/embeddings``."""

from __future__ import annotations

import binascii
import http
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from asgi_llm import _json
from asgi_llm._optional import require
from asgi_llm.embedders._batching import Batcher
from asgi_llm.embedders.base import EmbedderError
from asgi_llm.errors import ConfigurationError
from asgi_llm.transports.base import Timeouts, Transport, TransportError, UpstreamRequest
from asgi_llm.transports.default import default_transport

if TYPE_CHECKING:
    from asgi_llm.embedders.base import Vector, Vectors

__all__ = ["HttpEmbedder"]

_OWN_HEADERS: Final = frozenset(
    ("host", "content-length", "transfer-encoding", "connection", "content-type", "authorization")
)
_TEXT_BYTES: Final = 128 * 1024
_MAX_DIMENSION: Final = 65_536
_TINY: Final = 1e-12


class _Row(msgspec.Struct):
    embedding: str | list[float]
    index: int | None = None


class _List(msgspec.Struct):
    data: list[_Row]


_decode: Final = msgspec.json.Decoder(_List).decode


class HttpEmbedder:
    """An ``Embedder`` over an endpoint's ``/embeddings``.

    What callers ask at the same time goes out in one call. A call that fails is not repeated.

    Args:
        base_url: Up to and with ``/v1``.
        model: As the endpoint calls it.
        api_key: Sent as a bearer token; None: there is none.
        name: What the model is called here; None: ``model``, with ``dimensions`` where given.
        dimensions: Asked of the endpoint, from 1; None leaves it to the model.
        max_input_tokens: How much of a text the model reads, where that is known: told to callers,
            not enforced.
        headers: More of them, for each call.
        timeouts: Deadlines of a call; by default 10 seconds for all of it.
        transport: Its way to the endpoint, which stays open when the embedder is closed; None: one
            of its own.
        max_batch_texts: Of one call, at least 1.
        max_batches: Calls at once, at least 1.
        window_seconds: How long the first caller waits for others to join, at least 0; 0: until
            all have come that are in the same turn of the loop.
        max_waiting_texts: What comes on top of so many that wait is refused.

    Raises:
        ConfigurationError: An option is wrong, or numpy is missing.

    Source: OpenAI API reference, "Create embeddings".
    """

    def __init__(
        self,
        base_url: str,
        *,
        model: str,
        api_key: str | None = None,
        name: str | None = None,
        dimensions: int | None = None,
        max_input_tokens: int | None = None,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
        transport: Transport | None = None,
        max_batch_texts: int = 64,
        max_batches: int = 4,
        window_seconds: float = 0.0,
        max_waiting_texts: int = 2048,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise ConfigurationError(
                "base_url must begin with http:// or https://", param="base_url"
            )
        if not model:
            raise ConfigurationError("model must not be empty", param="model")
        if dimensions is not None and not 1 <= dimensions <= _MAX_DIMENSION:
            raise ConfigurationError(
                f"dimensions must be from 1 to {_MAX_DIMENSION}", param="dimensions"
            )
        self._np = require("numpy", extra="semantic")
        own = model if dimensions is None else f"{model}:{dimensions}"
        self.name = own if name is None else name
        self._url = base_url.rstrip("/") + "/embeddings"
        self._asked: dict[str, Any] = {"model": model, "encoding_format": "base64"}
        if dimensions is not None:
            self._asked["dimensions"] = dimensions
        self._headers = _headers(headers or {}, api_key)
        self._timeouts = timeouts or Timeouts(
            connect_seconds=5, first_byte_seconds=10, idle_seconds=10, total_seconds=10
        )
        self._owned = transport is None
        self._transport = default_transport() if transport is None else transport
        self._batcher = Batcher(
            max_batch_texts=max_batch_texts,
            window_seconds=window_seconds,
            max_waiting_texts=max_waiting_texts,
            max_batches=max_batches,
        )
        self._dimension = dimensions
        self._max_input_tokens = max_input_tokens

    @property
    def dimension(self) -> int | None:
        """Length of a vector; None as long as it was not asked for, nor answered."""
        return self._dimension

    @property
    def max_input_tokens(self) -> int | None:
        """As the option says."""
        return self._max_input_tokens

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """A vector of unit length for each of ``texts``, in their order; float32, shape (n, d).

        Raises:
            EmbedderError: The endpoint could not be reached, refused, or answered nonsense; or too
                many texts wait for it.
        """
        rows = await self._batcher.submit(texts, self._call)
        np = self._np
        if not rows:
            return np.empty((0, self._dimension or 0), dtype=np.float32)  # type: ignore[no-any-return]
        return np.stack(rows)  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        """Let the calls under way end; close the transport if it was made here. Idempotent."""
        await self._batcher.aclose()
        if self._owned:
            await self._transport.aclose()

    async def _call(self, texts: list[str]) -> list[Vector]:
        body = _json.encode({**self._asked, "input": texts})
        request = UpstreamRequest("POST", self._url, self._headers, body)
        size = len(texts) * (self._dimension or 4096) * 24 + _TEXT_BYTES
        try:
            response = await self._transport.send(request, self._timeouts)
            try:
                answer = await response.read(size)
            finally:
                await response.aclose()
        except TransportError as error:
            raise EmbedderError(f"the endpoint of {self.name}: {error}") from error
        if not 200 <= response.status < 300:
            raise EmbedderError(
                f"the endpoint of {self.name} answered {response.status} {_reason(response.status)}"
            )
        return self._read(answer, len(texts))

    def _read(self, answer: bytes, count: int) -> list[Vector]:
        np = self._np
        try:
            data = _decode(answer).data
            found: dict[int, Vector] = {}
            for place, row in enumerate(data):
                given = row.embedding
                vector = (
                    np.frombuffer(binascii.a2b_base64(given, strict_mode=True), dtype="<f4")
                    if isinstance(given, str)
                    else np.array(given, dtype=np.float32)
                )
                found[place if row.index is None else row.index] = self._unit(vector)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
            raise EmbedderError(f"the endpoint of {self.name} gave no list of vectors") from error
        if len(data) != count or found.keys() != set(range(count)):
            raise EmbedderError(f"the endpoint of {self.name} gave not one vector for each text")
        return [found[place] for place in range(count)]

    def _unit(self, vector: Any) -> Vector:
        """``vector`` at unit length, if it is one and as long as the others."""
        np = self._np
        length = float(np.linalg.norm(vector))
        if not math.isfinite(length) or length < _TINY or vector.size > _MAX_DIMENSION:
            raise ValueError("no vector")
        if self._dimension is None:
            self._dimension = int(vector.size)
        elif vector.size != self._dimension:
            raise ValueError("another length")
        unit: Vector = (vector / np.float32(length)).astype(np.float32)
        return unit


def _headers(given: Mapping[str, str], api_key: str | None) -> tuple[tuple[bytes, bytes], ...]:
    pairs = [("content-type", "application/json"), ("accept-encoding", "identity")]
    for name, value in given.items():
        if name.lower() in _OWN_HEADERS:
            raise ConfigurationError(f"headers: {name} is set by itself", param="headers")
        pairs.append((name.lower(), value))
    if api_key is not None:
        pairs.append(("authorization", f"Bearer {api_key}"))
    try:
        found = tuple([(name.encode("ascii"), value.encode("latin-1")) for name, value in pairs])
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            "headers and api_key must be text of a header", param="headers"
        ) from error
    if any(mark in value for _, value in found for mark in (b"\r", b"\n", b"\0")):
        raise ConfigurationError("headers and api_key must be one line each", param="headers")
    return found


def _reason(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return ""
