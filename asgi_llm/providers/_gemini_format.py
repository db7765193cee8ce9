"""What Gemini's two endpoints share: the translation, and where it differs the hooks."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import msgspec

from asgi_llm import _json
from asgi_llm._semconv import Operation
from asgi_llm.errors import ModelNotFoundError
from asgi_llm.providers._chat_answer import AnswerWriter
from asgi_llm.providers._conversation import ChatRequest
from asgi_llm.providers._embeddings import (
    batches,
    embedding_answer,
    embedding_texts,
    wants_base64,
)
from asgi_llm.providers._errors import parse_stream_error
from asgi_llm.providers._gemini_answer import ResponseReader
from asgi_llm.providers._gemini_request import generate_body
from asgi_llm.providers._losses import Losses
from asgi_llm.providers._native import ChatCall, NativeFormat, malformed
from asgi_llm.providers._translated_stream import AnswerReader
from asgi_llm.providers.base import Answer, Translation
from asgi_llm.transports.base import UpstreamRequest
from asgi_llm.types import Deployment, Document, Usage
from asgi_llm.wire.estimate import estimate_usage

__all__ = ["GeminiFormat"]

_MODEL: Final = re.compile(r"(?:(?:models|tunedModels)/)?[A-Za-z0-9][A-Za-z0-9._@-]*")
_TOLD_OF_EMBEDDINGS: Final = frozenset(
    ("model", "input", "dimensions", "encoding_format", "task_type", "title")
)


class GeminiFormat(NativeFormat, ABC):
    """See ``Gemini`` and ``Vertex``."""

    one_choice = False

    @abstractmethod
    def model_url(self, model: str) -> str:
        """Where a model is, without the method.

        Raises:
            ModelNotFoundError: The name cannot be a model's.
        """

    def chat_call(self, request: ChatRequest, deployment: Deployment) -> ChatCall:
        """See ``NativeFormat.chat_call``."""
        body, memo = generate_body(request, deployment.model)
        method = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
        return ChatCall(f"{self.model_url(deployment.model)}:{method}", body, memo)

    def read_answer(self, translation: Translation, body: bytes, writer: AnswerWriter) -> None:
        """See ``NativeFormat.read_answer``."""
        self.reader(translation).read("message", body, writer)

    def reader(self, translation: Translation) -> AnswerReader:
        """See ``NativeFormat.reader``."""
        error_of = partial(parse_stream_error, provider=self.name, secrets=self._secrets)
        return ResponseReader(translation.memo, error_of)

    # Embeddings

    def other_call(
        self, operation: Operation, document: Document, deployment: Deployment, losses: Losses
    ) -> Translation:
        """See ``NativeFormat.other_call``."""
        if operation != "embeddings":
            raise self.unsupported(operation)
        for name, value in document.items():
            if name not in _TOLD_OF_EMBEDDINGS and value is not None:
                losses.add(name)
        wants_base64(document)
        url = self.model_url(deployment.model)
        limit = self.embedding_limit(deployment.model)
        first, *more = [
            self.embedding_request(url, list(texts), document, deployment.model)
            for texts in batches(embedding_texts(document), limit)
        ]
        return Translation(operation, document, deployment, first, more=tuple(more))

    @abstractmethod
    def embedding_limit(self, model: str) -> int:
        """How many texts one call takes."""

    @abstractmethod
    def embedding_request(
        self, url: str, texts: list[str], document: Document, model: str
    ) -> UpstreamRequest:
        """The call that embeds ``texts``."""

    @abstractmethod
    def read_embeddings(self, body: bytes) -> tuple[list[list[float]], int | None]:
        """The vectors of one call, and its tokens where they are told."""

    def read_other(self, translation: Translation, *bodies: bytes) -> Answer:
        """See ``NativeFormat.read_other``."""
        document = translation.document
        vectors: list[list[float]] = []
        tokens: int | None = 0
        for body in bodies:
            found, used = self.read_embeddings(body)
            vectors += found
            tokens = None if tokens is None or used is None else tokens + used
        if len(vectors) != len(embedding_texts(document)):
            raise malformed()
        usage = estimate_usage(document, 0) if tokens is None else Usage(input_uncached=tokens)
        model = translation.deployment.model
        return Answer(
            embedding_answer(model, vectors, usage, as_base64=wants_base64(document)), usage
        )

    def post(self, url: str, body: Any) -> UpstreamRequest:
        """A call with a JSON body."""
        return UpstreamRequest("POST", url, self._json_headers, _json.encode(body))

    def checked_model(self, model: str) -> str:
        """A model's name for a URL's path, without ``models/``.

        Raises:
            ModelNotFoundError: It cannot be one; it would lead to another place.
        """
        if _MODEL.fullmatch(model) is None or ".." in model:
            raise ModelNotFoundError(f"The provider {self.name!r} has no model of that name.")
        return quote(model.removeprefix("models/"), safe="/@")


class Values(msgspec.Struct, gc=False):
    """One vector."""

    values: list[float]
