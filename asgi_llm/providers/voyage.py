"""Voyage AI: embeddings and reranking."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from asgi_llm import _json
from asgi_llm._semconv import Operation
from asgi_llm.errors import RawHeaders
from asgi_llm.providers._embedding_list import embedding_list, size_batches
from asgi_llm.providers._embeddings import embedding_texts, wants_base64
from asgi_llm.providers._losses import Losses
from asgi_llm.providers._native import NativeFormat
from asgi_llm.providers._options import checked_base_url, credential, header_pairs
from asgi_llm.providers._rerank import Ranked, ranking, rerank_body, token_count
from asgi_llm.providers.base import Answer, Translation
from asgi_llm.transports.base import Timeouts, Transport, UpstreamRequest
from asgi_llm.types import Deployment, Document, Usage

__all__ = ["Voyage"]

MAX_TEXTS: Final = 1000
MAX_BATCH_BYTES: Final = 300_000
"""Some 100,000 tokens, below the smallest cap that any of the models has on a call."""

_PASSED: Final = ("input_type", "output_dtype")
_TAKEN: Final = frozenset(
    (
        "asgi_llm",
        "dimensions",
        "encoding_format",
        "input",
        "model",
        "output_dimension",
        "truncation",
        *_PASSED,
    )
)


class Voyage(NativeFormat):
    """A Voyage AI account.

    Args:
        api_key: Sent as a bearer token.
        name: Its name here, the part before the slash in ``provider/model``.
        base_url: Up to and without the path of an operation.
        headers: Further headers, sent with every call.
        models: Models that it is known to serve; Voyage does not list them.
        input_type: ``query`` or ``document``, for requests that do not say it; None: neither.
        strict: Refuse what the translation would lose, in place of reporting it.
        transport: Its own way to the upstream; None takes the app's.
        timeouts: Deadlines of its calls; None takes the app's.
        clock: Unix time in seconds.

    Raises:
        ConfigurationError: An option is wrong.

    Source: Voyage AI API reference, "Text embedding models" and "Rerankers", November 2026.
    """

    def __init__(
        self,
        *,
        api_key: str,
        name: str = "voyage",
        base_url: str = "https://api.voyageai.com/v1",
        headers: Iterable[tuple[str, str]] = (),
        models: Iterable[str] = (),
        input_type: str | None = None,
        strict: bool = False,
        transport: Transport | None = None,
        timeouts: Timeouts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        sent: RawHeaders = [(b"authorization", b"Bearer " + credential(api_key, "api_key"))]
        extra, secrets = header_pairs(headers)
        super().__init__(
            name=name,
            provider_name="voyage_ai",
            base_url=checked_base_url(base_url),
            headers=[*sent, *extra],
            models=models,
            operations=("embeddings", "rerank"),
            strict=strict,
            transport=transport,
            timeouts=timeouts,
            secrets=[*secrets, api_key],
            clock=clock,
        )
        self._input_type = input_type

    def other_call(
        self, operation: Operation, document: Document, deployment: Deployment, losses: Losses
    ) -> Translation:
        """See ``NativeFormat``."""
        if operation == "embeddings":
            return self._embed(document, deployment, losses)
        if operation == "rerank":
            body = rerank_body(
                document,
                deployment.model,
                losses,
                top_name="top_k",
                passed=frozenset(("truncation",)),
            )
            return Translation(operation, document, deployment, self._call("/rerank", body))
        raise self.unsupported(operation)

    def _embed(self, document: Document, deployment: Deployment, losses: Losses) -> Translation:
        as_base64 = wants_base64(document)
        # OpenAI refuses a text that is too long, while Voyage cuts it unless it is told not to.
        body: Document = {
            "model": deployment.model,
            "truncation": bool(document.get("truncation")),
        }
        if self._input_type is not None:
            body["input_type"] = self._input_type
        for name in _PASSED:
            if document.get(name) is not None:
                body[name] = document[name]
        length = document.get("output_dimension") or document.get("dimensions")
        if length is not None:
            body["output_dimension"] = length
        if as_base64:
            body["encoding_format"] = "base64"
        for name, value in document.items():
            if name not in _TAKEN and value is not None:
                losses.add(name)
        pieces = size_batches(embedding_texts(document), MAX_TEXTS, MAX_BATCH_BYTES)
        first, *more = [self._call("/embeddings", {**body, "input": piece}) for piece in pieces]
        plain = body.get("output_dtype") in (None, "float")
        memo = [len(piece) for piece in pieces], as_base64 if plain else None, length
        return Translation("embeddings", document, deployment, first, more=tuple(more), memo=memo)

    def _call(self, path: str, body: Document) -> UpstreamRequest:
        return UpstreamRequest("POST", self.base_url + path, self._json_headers, _json.encode(body))

    def read_other(self, translation: Translation, *bodies: bytes) -> Answer:
        """See ``NativeFormat``."""
        model = translation.deployment.model
        if translation.operation == "embeddings":
            sizes, as_base64, length = translation.memo
            return embedding_list(
                model,
                sizes,
                bodies,
                as_base64=as_base64,
                dimensions=None if as_base64 is None else length,
            )
        (body,) = bodies
        answer = _decode_ranking(body)
        tokens = token_count((answer.usage or {}).get("total_tokens"))
        usage = None if tokens is None else Usage(input_uncached=tokens)
        return ranking(translation.document, model, answer.data, usage=usage)


class _Ranking(msgspec.Struct):
    data: list[Ranked]
    usage: dict[str, Any] | None = None


_decode_ranking: Final = msgspec.json.Decoder(_Ranking).decode
