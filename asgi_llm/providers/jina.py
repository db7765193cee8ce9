"""Jina AI: embeddings and reranking."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from asgi_llm import _json
from asgi_llm._semconv import Operation
from asgi_llm.errors import InvalidRequestError, RawHeaders
from asgi_llm.providers._embedding_list import embedding_list
from asgi_llm.providers._embeddings import batches, embedding_texts, wants_base64
from asgi_llm.providers._losses import Losses
from asgi_llm.providers._native import NativeFormat
from asgi_llm.providers._options import checked_base_url, credential, header_pairs
from asgi_llm.providers._rerank import Ranked, ranking, rerank_body, token_count
from asgi_llm.providers.base import Answer, Translation
from asgi_llm.transports.base import Timeouts, Transport, UpstreamRequest
from asgi_llm.types import Deployment, Document, Usage

__all__ = ["Jina"]

MAX_TEXTS: Final = 512

_PASSED: Final = ("dimensions", "late_chunking", "normalized", "prompt_name", "task", "truncate")
_TAKEN: Final = frozenset(
    ("asgi_llm", "embedding_type", "encoding_format", "input", "model", *_PASSED)
)


class Jina(NativeFormat):
    """A Jina AI account.

    Args:
        api_key: Sent as a bearer token.
        name: Its name here, the part before the slash in ``provider/model``.
        base_url: Up to and without the path of an operation.
        headers: Further headers, sent with every call.
        models: Models that it is known to serve, without asking.
        task: For embeddings whose request does not say it, as in ``retrieval.passage``; None leaves
            it to the model.
        strict: Refuse what the translation would lose, in place of reporting it.
        transport: Its own way to the upstream; None takes the app's.
        timeouts: Deadlines of its calls; None takes the app's.
        clock: Unix time in seconds.

    Raises:
        ConfigurationError: An option is wrong.

    Source: Jina AI API reference, "Embeddings" and "Reranker", November 2026.
    """

    def __init__(
        self,
        *,
        api_key: str,
        name: str = "jina",
        base_url: str = "https://api.jina.ai/v1",
        headers: Iterable[tuple[str, str]] = (),
        models: Iterable[str] = (),
        task: str | None = None,
        strict: bool = False,
        transport: Transport | None = None,
        timeouts: Timeouts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        sent: RawHeaders = [(b"authorization", b"Bearer " + credential(api_key, "api_key"))]
        extra, secrets = header_pairs(headers)
        super().__init__(
            name=name,
            provider_name="jina_ai",
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
        self._task = task

    def other_call(
        self, operation: Operation, document: Document, deployment: Deployment, losses: Losses
    ) -> Translation:
        """See ``NativeFormat``."""
        if operation == "embeddings":
            return self._embed(document, deployment, losses)
        if operation == "rerank":
            body = rerank_body(document, deployment.model, losses)
            # They are put back from the request, and the default here is to send them.
            body["return_documents"] = False
            return Translation(operation, document, deployment, self._call("/rerank", body))
        raise self.unsupported(operation)

    def _embed(self, document: Document, deployment: Deployment, losses: Losses) -> Translation:
        as_base64 = wants_base64(document)
        body: Document = {"model": deployment.model}
        if self._task is not None:
            body["task"] = self._task
        for name in _PASSED:
            if document.get(name) is not None:
                body[name] = document[name]
        kind = document.get("embedding_type")
        if kind is not None and not isinstance(kind, str):
            raise InvalidRequestError(
                "embedding_type: one type is expected, as a string",
                param="embedding_type",
                code="invalid_value",
            )
        if kind is not None or as_base64:
            body["embedding_type"] = kind or "base64"
        for name, value in document.items():
            if name not in _TAKEN and value is not None:
                losses.add(name)
        texts = embedding_texts(document)
        # Late chunking takes all texts for one; apart they would have other vectors.
        limit = len(texts) if document.get("late_chunking") else MAX_TEXTS
        pieces = batches(texts, limit)
        first, *more = [self._call("/embeddings", {**body, "input": piece}) for piece in pieces]
        memo = (
            [len(piece) for piece in pieces],
            as_base64 if kind is None else None,
            document.get("dimensions") if kind in (None, "float", "base64") else None,
        )
        return Translation("embeddings", document, deployment, first, more=tuple(more), memo=memo)

    def _call(self, path: str, body: Document) -> UpstreamRequest:
        return UpstreamRequest("POST", self.base_url + path, self._json_headers, _json.encode(body))

    def read_other(self, translation: Translation, *bodies: bytes) -> Answer:
        """See ``NativeFormat``."""
        model = translation.deployment.model
        if translation.operation == "embeddings":
            sizes, as_base64, length = translation.memo
            return embedding_list(model, sizes, bodies, as_base64=as_base64, dimensions=length)
        (body,) = bodies
        answer = _decode_ranking(body)
        tokens = token_count((answer.usage or {}).get("total_tokens"))
        usage = None if tokens is None else Usage(input_uncached=tokens)
        return ranking(translation.document, model, answer.results, usage=usage)


class _Ranking(msgspec.Struct):
    results: list[Ranked]
    usage: dict[str, Any] | None = None


_decode_ranking: Final = msgspec.json.Decoder(_Ranking).decode
