"""What Gemini's two endpoints share: the translation, and where they differ the hooks."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Final
from urllib.parse import quote

import msgspec

from asgi_llm import _json
from asgi_llm._semconv import Operation
from asgi_llm.errors import (
    ConfigurationError,
    ModelNotFoundError,
    ProviderError,
    RawHeaders,
)
from asgi_llm.providers._chat_answer import AnswerWriter
from asgi_llm.providers._conversation import ChatRequest
from asgi_llm.providers._embeddings import (
    check_dimensions,
    embedding_answer,
    embedding_texts,
    wants_base64,
)
from asgi_llm.providers._errors import parse_error, parse_stream_error
from asgi_llm.providers._gemini_answer import ResponseReader
from asgi_llm.providers._gemini_frames import EventFrames
from asgi_llm.providers._gemini_request import Schemas, generate_body
from asgi_llm.providers._losses import Losses
from asgi_llm.providers._native import ChatCall, NativeFormat, malformed
from asgi_llm.providers._translated_stream import AnswerReader, Frames
from asgi_llm.providers.base import Answer, Translation
from asgi_llm.transports.base import UpstreamRequest
from asgi_llm.types import Deployment, Document, Usage
from asgi_llm.wire.estimate import estimate_usage

__all__ = ["GeminiFormat", "Vector", "checked_schemas"]

_TAKEN: Final = frozenset(("asgi_llm", "dimensions", "encoding_format", "input", "model"))
_BAD_KEYS: Final = (b"API_KEY_INVALID", b"API_KEY_EXPIRED")

Vector = msgspec.Raw
"""One vector, as the JSON array that came."""


class GeminiFormat(NativeFormat, ABC):
    """See ``Gemini`` and ``Vertex``."""

    one_choice = False
    own_blocks = True
    # Without `alt=sse`, which a proxy may have dropped, the events come in a JSON array.
    stream_types = frozenset((b"text/event-stream", b"application/json"))

    model_names: ClassVar[re.Pattern[str]]
    """What can be the name of a model."""

    embedding_fields: ClassVar[frozenset[str]]
    """Fields of Google's own that a request for embeddings may have."""

    schemas: Schemas = "auto"

    @abstractmethod
    def model_url(self, model: str) -> str:
        """Where a model is, without the method.

        Raises:
            ModelNotFoundError: The name cannot be a model's.
        """

    def chat_call(self, request: ChatRequest, deployment: Deployment) -> ChatCall:
        """See ``NativeFormat.chat_call``."""
        url = self.model_url(deployment.model)
        body, memo = generate_body(request, deployment.model, schemas=self.schemas)
        method = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
        return ChatCall(f"{url}:{method}", body, memo)

    def read_answer(self, translation: Translation, body: bytes, writer: AnswerWriter) -> None:
        """See ``NativeFormat.read_answer``."""
        self.reader(translation).read("message", body, writer)

    def reader(self, translation: Translation) -> AnswerReader:
        """See ``NativeFormat.reader``."""
        error_of = partial(parse_stream_error, provider=self.name, secrets=self._secrets)
        return ResponseReader(translation.memo, error_of)

    def frames(self) -> Frames:
        """See ``NativeFormat.frames``."""
        return EventFrames()

    def parse_error(self, status: int, headers: RawHeaders, body: bytes) -> ProviderError:
        """See ``Provider.parse_error``; a wrong key has the status 400 here."""
        if status == 400 and any(reason in body for reason in _BAD_KEYS):
            status = 401
        return parse_error(status, headers, body, secrets=self._secrets, provider=self.name)

    # Embeddings

    def other_call(
        self, operation: Operation, document: Document, deployment: Deployment, losses: Losses
    ) -> Translation:
        """See ``NativeFormat.other_call``."""
        if operation != "embeddings":
            raise self.unsupported(operation)
        for name, value in document.items():
            if value is not None and name not in _TAKEN and name not in self.embedding_fields:
                losses.add(name)
        wants_base64(document)
        url = self.model_url(deployment.model)
        pieces = self.embedding_pieces(embedding_texts(document), deployment.model)
        first, *more = [
            self.embedding_request(url, texts, document, deployment.model) for texts in pieces
        ]
        sizes = [len(texts) for texts in pieces]
        return Translation(operation, document, deployment, first, more=tuple(more), memo=sizes)

    @abstractmethod
    def embedding_pieces(self, texts: list[str], model: str) -> list[Sequence[str]]:
        """``texts`` in order, in pieces that one call takes."""

    @abstractmethod
    def embedding_request(
        self, url: str, texts: Sequence[str], document: Document, model: str
    ) -> UpstreamRequest:
        """The call that embeds ``texts``."""

    @abstractmethod
    def read_embeddings(self, body: bytes) -> tuple[list[Vector], int | None]:
        """The vectors of one call, and its tokens where they are told."""

    def read_other(self, translation: Translation, *bodies: bytes) -> Answer:
        """See ``NativeFormat.read_other``."""
        document = translation.document
        vectors: list[Any] = []
        tokens: int | None = 0
        for size, body in zip(translation.memo, bodies, strict=True):
            found, used = self.read_embeddings(body)
            if len(found) != size:
                raise malformed()
            vectors += found
            tokens = None if tokens is None or used is None else tokens + used
        check_dimensions(bytes(vectors[0]).count(b",") + 1, document.get("dimensions"))
        as_base64 = wants_base64(document)
        if as_base64:
            vectors = [_numbers(vector) for vector in vectors]
        usage = estimate_usage(document, 0) if tokens is None else Usage(input_uncached=tokens)
        model = translation.deployment.model
        return Answer(embedding_answer(model, vectors, usage, as_base64=as_base64), usage)

    def post(self, url: str, body: Document) -> UpstreamRequest:
        """A call with a JSON body."""
        return UpstreamRequest("POST", url, self._json_headers, _json.encode(body))

    def checked_model(self, model: str) -> str:
        """A model's name for a URL's path, without ``models/``.

        Raises:
            ModelNotFoundError: It cannot be one; it would lead to another place.
        """
        if self.model_names.fullmatch(model) is None or ".." in model:
            raise ModelNotFoundError(f"The provider {self.name!r} has no model of that name.")
        return quote(model.removeprefix("models/"), safe="/@")


def checked_schemas(value: Schemas) -> Schemas:
    """``value``, if it is one of the known ways to tell a schema."""
    if value not in ("auto", "json", "subset"):
        raise ConfigurationError(
            f"schemas must be auto, json or subset, not {value!r}", param="schemas"
        )
    return value


_numbers: Final = msgspec.json.Decoder(list[float]).decode
