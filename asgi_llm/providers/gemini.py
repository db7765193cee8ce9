"""Gemini on Google AI Studio."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from asgi_llm.errors import ConfigurationError, RawHeaders
from asgi_llm.providers._embeddings import batches
from asgi_llm.providers._gemini_format import GeminiFormat, Vector, checked_schemas
from asgi_llm.providers._gemini_request import Schemas
from asgi_llm.providers._native import malformed
from asgi_llm.providers._options import checked_base_url, credential, header_pairs
from asgi_llm.providers.base import ModelCard
from asgi_llm.transports.base import Timeouts, Transport, UpstreamRequest
from asgi_llm.types import Document

__all__ = ["Gemini"]

_LISTED_AT_ONCE: Final = 1000
_TEXTS_AT_ONCE: Final = 100
_EMBEDDING_FIELDS: Final = {"task_type": "taskType", "title": "title"}
_SERVED: Final = frozenset(("generateContent", "embedContent", "batchEmbedContents"))


class Gemini(GeminiFormat):
    """Gemini, by the API of Google AI Studio.

    Args:
        api_key: Sent as ``x-goog-api-key``, never in the URL.
        name: Its name here, the part before the slash in ``provider/model``.
        base_url: Up to and with the version.
        schemas: How JSON Schemas are told: as they are (``json``), in the ``subset`` that older
            models know, or as the model's name says (``auto``).
        headers: Further headers, sent with every call.
        models: Models that it is known to serve, without asking it.
        strict: Refuse what the translation would lose, in place of reporting it.
        transport: Its own way to the upstream; None takes the app's.
        timeouts: Deadlines of its calls; None takes the app's.
        clock: Unix time in seconds.

    Raises:
        ConfigurationError: An option is wrong.

    Source: Gemini API reference, November 2026.
    """

    model_names = re.compile(r"(?:(?:models|tunedModels)/)?[A-Za-z0-9][A-Za-z0-9._@-]*")
    embedding_fields = frozenset(_EMBEDDING_FIELDS)

    def __init__(
        self,
        *,
        api_key: str,
        name: str = "gemini",
        base_url: str = "https://generativelanguage.googleapis.com/v1beta",
        schemas: Schemas = "auto",
        headers: Iterable[tuple[str, str]] = (),
        models: Iterable[str] = (),
        strict: bool = False,
        transport: Transport | None = None,
        timeouts: Timeouts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        url = checked_base_url(base_url)
        if url.endswith("/openai"):
            raise ConfigurationError(
                "base_url ends before /openai here; the type gemini_openai is for that endpoint",
                param="base_url",
            )
        extra, extra_secrets = header_pairs(headers)
        sent: RawHeaders = [(b"x-goog-api-key", credential(api_key, "api_key")), *extra]
        super().__init__(
            name=name,
            provider_name="gcp.gemini",
            base_url=url,
            headers=sent,
            models=models,
            operations=("chat", "embeddings"),
            strict=strict,
            transport=transport,
            timeouts=timeouts,
            secrets=[api_key, *extra_secrets],
            clock=clock,
        )
        self.schemas = checked_schemas(schemas)

    def model_url(self, model: str) -> str:
        """See ``GeminiFormat.model_url``."""
        return f"{self.base_url}/{self._resource(model)}"

    def _resource(self, model: str) -> str:
        path = self.checked_model(model)
        return path if path.startswith("tunedModels/") else f"models/{path}"

    def embedding_pieces(self, texts: list[str], model: str) -> list[Sequence[str]]:
        """See ``GeminiFormat.embedding_pieces``."""
        return batches(texts, _TEXTS_AT_ONCE)

    def embedding_request(
        self, url: str, texts: Sequence[str], document: Document, model: str
    ) -> UpstreamRequest:
        """See ``GeminiFormat.embedding_request``."""
        shared: Document = {"model": self._resource(model)}
        if (size := document.get("dimensions")) is not None:
            shared["outputDimensionality"] = size
        for name, there in _EMBEDDING_FIELDS.items():
            if (value := document.get(name)) is not None:
                shared[there] = value
        requests = [{**shared, "content": {"parts": [{"text": text}]}} for text in texts]
        return self.post(f"{url}:batchEmbedContents", {"requests": requests})

    def read_embeddings(self, body: bytes) -> tuple[list[Vector], int | None]:
        """See ``GeminiFormat.read_embeddings``."""
        batch = _decode_batch(body)
        counts = batch.usage_metadata
        tokens = None if counts is None else counts.prompt_token_count
        return [one.values for one in batch.embeddings], tokens

    def build_models_request(self) -> UpstreamRequest:
        """The call that lists the models."""
        url = f"{self.base_url}/models?pageSize={_LISTED_AT_ONCE}"
        return UpstreamRequest("GET", url, self._headers)

    def parse_models(self, body: bytes) -> tuple[ModelCard, ...]:
        """Read ``{"models": [{"name": "models/..."}]}``, without those for other operations."""
        try:
            listed = _decode_models(body).models
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise malformed() from error
        return tuple(
            ModelCard(id=row.name.removeprefix("models/"), owned_by="google")
            for row in listed
            if row.name and not _SERVED.isdisjoint(row.supported_generation_methods or _SERVED)
        )


class _Embedding(msgspec.Struct, gc=False):
    values: msgspec.Raw


class _Counts(msgspec.Struct, gc=False, rename="camel"):
    prompt_token_count: int | None = None


class _Batch(msgspec.Struct, gc=False, rename="camel"):
    embeddings: list[_Embedding]
    usage_metadata: _Counts | None = None


class _Model(msgspec.Struct, gc=False, rename="camel"):
    name: str = ""
    supported_generation_methods: list[str] | None = None


class _Models(msgspec.Struct, gc=False):
    models: list[_Model] = []


_decode_batch: Final = msgspec.json.Decoder(_Batch).decode
_decode_models: Final = msgspec.json.Decoder(_Models).decode
