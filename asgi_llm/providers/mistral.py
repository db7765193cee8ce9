"""Mistral AI: nearly OpenAI's format, and translated where it is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from asgi_llm import _json
from asgi_llm._semconv import Operation
from asgi_llm.errors import RawHeaders
from asgi_llm.providers._embedding_list import as_wanted, embedding_list, size_batches
from asgi_llm.providers._embeddings import embedding_texts, wants_base64
from asgi_llm.providers._legacy_functions import wants_function_call
from asgi_llm.providers._losses import Losses
from asgi_llm.providers._mistral_answer import MistralStream, plain_answer
from asgi_llm.providers._mistral_request import build_chat
from asgi_llm.providers._native import malformed
from asgi_llm.providers._options import checked_base_url, credential, header_pairs
from asgi_llm.providers._passthrough import OpenAIFormat
from asgi_llm.providers.base import Answer, StreamDecoder, Translation
from asgi_llm.transports.base import Timeouts, Transport, UpstreamRequest
from asgi_llm.types import Deployment, Document

__all__ = ["Mistral"]

MAX_TEXTS: Final = 512
MAX_BATCH_BYTES: Final = 40_000
"""Some 13,000 tokens; a call may have 16,384."""

_PASSED: Final = ("metadata", "output_dimension", "output_dtype", "encoding_format")
_TAKEN: Final = frozenset(("asgi_llm", "dimensions", "input", "model", *_PASSED))


class Mistral(OpenAIFormat):
    """A Mistral AI account.

    Args:
        api_key: Sent as a bearer token.
        name: Its name here, the part before the slash in ``provider/model``.
        base_url: Up to and without the path of an operation.
        headers: Further headers, sent with every call.
        models: Models that it is known to serve, without asking it.
        strict: Refuse what the translation would lose, in place of reporting it.
        transport: Its own way to the upstream; None takes the app's.
        timeouts: Deadlines of its calls; None takes the app's.

    Raises:
        ConfigurationError: An option is wrong.

    Source: Mistral AI API reference, and the types of its Python SDK 3.7; November 2026.
    """

    limit_headers: Mapping[bytes, bytes] = {
        b"x-ratelimit-limit-req-minute": b"x-ratelimit-limit-requests",
        b"x-ratelimit-remaining-req-minute": b"x-ratelimit-remaining-requests",
        b"x-ratelimit-limit-tokens-minute": b"x-ratelimit-limit-tokens",
        b"x-ratelimit-remaining-tokens-minute": b"x-ratelimit-remaining-tokens",
    }

    def __init__(
        self,
        *,
        api_key: str,
        name: str = "mistral",
        base_url: str = "https://api.mistral.ai/v1",
        headers: Iterable[tuple[str, str]] = (),
        models: Iterable[str] = (),
        strict: bool = False,
        transport: Transport | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        sent: RawHeaders = [(b"authorization", b"Bearer " + credential(api_key, "api_key"))]
        extra, secrets = header_pairs(headers)
        super().__init__(
            name=name,
            provider_name="mistral_ai",
            base_url=checked_base_url(base_url),
            headers=[*sent, *extra],
            models=models,
            operations=("chat", "embeddings", "transcription"),
            transport=transport,
            timeouts=timeouts,
            secrets=[*secrets, api_key],
        )
        self.strict = strict

    def translate(
        self, operation: Operation, document: Document, deployment: Deployment
    ) -> Translation:
        """See ``Provider.translate``."""
        losses = Losses(self.name, strict=self.strict or deployment.strict)
        if operation == "embeddings":
            return self._embed(document, deployment, losses)
        body = build_chat(document, deployment.model, losses)
        url = self.url_for(operation, deployment)
        request = UpstreamRequest("POST", url, self._json_headers, _json.encode(body))
        return Translation(operation, document, deployment, request, losses=losses.names)

    def parse_response(self, translation: Translation, *bodies: bytes) -> Answer:
        """See ``Provider.parse_response``; what is as OpenAI has it keeps its bytes."""
        if translation.operation == "embeddings":
            return self._embedded(translation, *bodies)
        body, usage = super().parse_response(translation, *bodies)
        if translation.operation != "chat":
            return Answer(body, usage)
        legacy = wants_function_call(translation.document)
        return Answer(plain_answer(body, self.name, legacy=legacy), usage)

    def stream_decoders(self, translation: Translation) -> tuple[StreamDecoder, ...]:
        """See ``Provider.stream_decoders``; what is as OpenAI has it keeps its bytes."""
        (inner,) = super().stream_decoders(translation)
        document = translation.document
        options = document.get("stream_options") or {}
        return (
            MistralStream(
                inner,
                choices=document.get("n") or 1,
                include_usage=bool(options.get("include_usage")),
                provider=self.name,
                legacy=wants_function_call(document),
            ),
        )

    def _embed(self, document: Document, deployment: Deployment, losses: Losses) -> Translation:
        as_base64 = wants_base64(document)
        body: Document = {"model": deployment.model}
        if document.get("dimensions") is not None:
            body["output_dimension"] = document["dimensions"]
        for name in _PASSED:
            if document.get(name) is not None:
                body[name] = document[name]
        for name, value in document.items():
            if name not in _TAKEN and value is not None:
                losses.add(name)
        pieces = size_batches(embedding_texts(document), MAX_TEXTS, MAX_BATCH_BYTES)
        url = self.url_for("embeddings", deployment)
        first, *more = [
            UpstreamRequest("POST", url, self._json_headers, _json.encode({**body, "input": piece}))
            for piece in pieces
        ]
        plain = body.get("output_dtype") in (None, "float")
        return Translation(
            "embeddings",
            document,
            deployment,
            first,
            more=tuple(more),
            losses=losses.names,
            memo=([len(piece) for piece in pieces], as_base64 if plain else None),
        )

    def _embedded(self, translation: Translation, *bodies: bytes) -> Answer:
        sizes, as_base64 = translation.memo
        try:
            if len(bodies) == 1:
                answer = super().parse_response(translation, *bodies)
                if as_wanted(answer.body, sizes[0], as_base64):
                    return answer
            return embedding_list(translation.deployment.model, sizes, bodies, as_base64=as_base64)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise malformed() from error
