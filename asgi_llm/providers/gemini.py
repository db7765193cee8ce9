"""Gemini on Google AI Studio."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from asgi_llm.errors import RawHeaders
from asgi_llm.providers._gemini_format import GeminiFormat, Values
from asgi_llm.providers._native import malformed
from asgi_llm.providers._options import checked_base_url, credential, header_pairs
from asgi_llm.providers.base import ModelCard
from asgi_llm.transports.base import Timeouts, Transport, UpstreamRequest
from asgi_llm.types import Document

__all__ = ["Gemini"]

_TEXTS_AT_ONCE: Final = 100
_LISTED_AT_ONCE: Final = 1000


class Gemini(GeminiFormat):
    """Gemini, by the API of Google AI Studio.

    Args:
        api_key: Sent as ``x-goog-api-key``, never in the URL.
        name: Its name here, the part before the slash in ``provider/model``.
        base_url: Up to and with the version.
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

    def __init__(
        self,
        *,
        api_key: str,
        name: str = "gemini",
        base_url: str = "https://generativelanguage.googleapis.com/v1beta",
        headers: Iterable[tuple[str, str]] = (),
        models: Iterable[str] = (),
        strict: bool = False,
        transport: Transport | None = None,
        timeouts: Timeouts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        extra, extra_secrets = header_pairs(headers)
        sent: RawHeaders = [(b"x-goog-api-key", credential(api_key, "api_key")), *extra]
        super().__init__(
            name=name,
            provider_name="gcp.gemini",
            base_url=checked_base_url(base_url),
            headers=sent,
            models=models,
            operations=("chat", "embeddings"),
            strict=strict,
            transport=transport,
            timeouts=timeouts,
            secrets=[api_key, *extra_secrets],
            clock=clock,
        )

    def model_url(self, model: str) -> str:
        """See ``GeminiFormat.model_url``."""
        path = self.checked_model(model)
        kind = "" if path.startswith("tunedModels/") else "models/"
        return f"{self.base_url}/{kind}{path}"

    def embedding_limit(self, model: str) -> int:
        """See ``GeminiFormat.embedding_limit``."""
        return _TEXTS_AT_ONCE

    def embedding_request(
        self, url: str, texts: list[str], document: Document, model: str
    ) -> UpstreamRequest:
        """See ``GeminiFormat.embedding_request``."""
        shared: Document = {"model": f"models/{self.checked_model(model)}"}
        for name, there in (
            ("dimensions", "outputDimensionality"),
            ("task_type", "taskType"),
            ("title", "title"),
        ):
            if (value := document.get(name)) is not None:
                shared[there] = value
        requests = [{**shared, "content": {"parts": [{"text": text}]}} for text in texts]
        return self.post(f"{url}:batchEmbedContents", {"requests": requests})

    def read_embeddings(self, body: bytes) -> tuple[list[list[float]], int | None]:
        """See ``GeminiFormat.read_embeddings``; the API tells no tokens."""
        return [one.values for one in _decode_batch(body).embeddings], None

    def build_models_request(self) -> UpstreamRequest:
        """The call that lists the models."""
        url = f"{self.base_url}/models?pageSize={_LISTED_AT_ONCE}"
        return UpstreamRequest("GET", url, self._headers)

    def parse_models(self, body: bytes) -> tuple[ModelCard, ...]:
        """Read ``{"models": [{"name": "models/..."}]}``."""
        try:
            listed = _decode_models(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise malformed() from error
        return tuple(
            ModelCard(id=row.name.removeprefix("models/"), owned_by="google")
            for row in listed.models
        )


class _Batch(msgspec.Struct, gc=False):
    embeddings: list[Values]


class _Model(msgspec.Struct):
    name: str
    version: Any = None


class _Models(msgspec.Struct):
    models: list[_Model]


_decode_batch = msgspec.json.Decoder(_Batch).decode
_decode_models = msgspec.json.Decoder(_Models).decode
