"""Cohere's v2 API: chats, embeddings and reranking."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from asgi_llm import _json
from asgi_llm._semconv import Operation
from asgi_llm.errors import (
    ConfigurationError,
    InvalidRequestError,
    ProviderError,
    RawHeaders,
)
from asgi_llm.providers._chat_answer import AnswerWriter
from asgi_llm.providers._cohere_answer import ChatReader, read_chat
from asgi_llm.providers._cohere_request import build_chat
from asgi_llm.providers._conversation import ChatRequest
from asgi_llm.providers._embeddings import batches, embedding_answer, embedding_texts, wants_base64
from asgi_llm.providers._errors import parse_error
from asgi_llm.providers._losses import Losses
from asgi_llm.providers._native import ChatCall, NativeFormat, malformed
from asgi_llm.providers._options import checked_base_url, credential, header_pairs
from asgi_llm.providers._rerank import Ranked, ranking, rerank_body, token_count
from asgi_llm.providers._translated_stream import AnswerReader
from asgi_llm.providers.base import Answer, ModelCard, Translation
from asgi_llm.transports.base import Timeouts, Transport, UpstreamRequest
from asgi_llm.types import Deployment, Document, Usage

__all__ = ["Cohere"]

MAX_TEXTS: Final = 96
_INVALID_TOKEN: Final = 498

_EMBEDDING_TYPES: Final = ("base64", "binary", "float", "int8", "ubinary", "uint8")
_PASSED: Final = ("input_type", "max_tokens", "output_dimension", "priority", "truncate")
_TAKEN: Final = frozenset(
    (
        "asgi_llm",
        "dimensions",
        "embedding_types",
        "encoding_format",
        "input",
        "model",
        *_PASSED,
    )
)
_RERANK_PASSED: Final = frozenset(("max_tokens_per_doc", "priority"))


class Cohere(NativeFormat):
    """A Cohere account, or a private deployment of its models.

    Args:
        api_key: Sent as a bearer token.
        name: Its name here, the part before the slash in ``provider/model``.
        base_url: Up to and without ``/v2``.
        headers: Further headers, sent with every call.
        models: Models that it is known to serve, without asking it.
        input_type: Of embeddings whose request does not say it: ``search_document``,
            ``search_query``, ``classification`` or ``clustering``.
        strict: Refuse what the translation would lose, in place of reporting it.
        transport: Its own way to the upstream; None takes the app's.
        timeouts: Deadlines of its calls; None takes the app's.
        clock: Unix time in seconds, for ``created``.

    Raises:
        ConfigurationError: An option is wrong.

    Source: Cohere API reference v2, November 2026.
    """

    limit_headers: Mapping[bytes, bytes] = {
        b"x-trial-endpoint-call-limit": b"x-ratelimit-limit-requests",
        b"x-trial-endpoint-call-remaining": b"x-ratelimit-remaining-requests",
    }

    def __init__(
        self,
        *,
        api_key: str,
        name: str = "cohere",
        base_url: str = "https://api.cohere.com",
        headers: Iterable[tuple[str, str]] = (),
        models: Iterable[str] = (),
        input_type: str = "search_document",
        strict: bool = False,
        transport: Transport | None = None,
        timeouts: Timeouts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        url = checked_base_url(base_url)
        if url.endswith(("/v1", "/v2")):
            raise ConfigurationError("base_url ends before /v2 here", param="base_url")
        if not input_type:
            raise ConfigurationError("input_type must not be empty", param="input_type")
        sent: RawHeaders = [(b"authorization", b"Bearer " + credential(api_key, "api_key"))]
        extra, secrets = header_pairs(headers)
        super().__init__(
            name=name,
            provider_name="cohere",
            base_url=url,
            headers=[*sent, *extra],
            models=models,
            operations=("chat", "embeddings", "rerank"),
            strict=strict,
            transport=transport,
            timeouts=timeouts,
            secrets=[*secrets, api_key],
            clock=clock,
        )
        self._input_type = input_type
        self._chat_url = url + "/v2/chat"

    # Chat

    def chat_call(self, request: ChatRequest, deployment: Deployment) -> ChatCall:
        """See ``NativeFormat``."""
        body, names = build_chat(request, deployment.model)
        return ChatCall(self._chat_url, body, memo=names)

    def read_answer(self, translation: Translation, body: bytes, writer: AnswerWriter) -> None:
        """See ``NativeFormat``."""
        read_chat(body, writer, translation.memo, provider=self.name, secrets=self._secrets)

    def reader(self, translation: Translation) -> AnswerReader:
        """See ``NativeFormat``."""
        return ChatReader(translation.memo, provider=self.name, secrets=self._secrets)

    # Embeddings and reranking

    def other_call(
        self, operation: Operation, document: Document, deployment: Deployment, losses: Losses
    ) -> Translation:
        """See ``NativeFormat``."""
        if operation == "embeddings":
            return self._embed(document, deployment, losses)
        if operation == "rerank":
            body = rerank_body(document, deployment.model, losses, passed=_RERANK_PASSED)
            return Translation(operation, document, deployment, self._call("/v2/rerank", body))
        raise self.unsupported(operation)

    def _embed(self, document: Document, deployment: Deployment, losses: Losses) -> Translation:
        kind = _embedding_type(document)
        body: Document = {
            "model": deployment.model,
            "input_type": self._input_type,
            # OpenAI refuses a text that is too long, while Cohere cuts it unless told not to.
            "truncate": "NONE",
            "embedding_types": [kind],
        }
        if document.get("dimensions") is not None:
            body["output_dimension"] = document["dimensions"]
        for name in _PASSED:
            if document.get(name) is not None:
                body[name] = document[name]
        for name, value in document.items():
            if name not in _TAKEN and value is not None:
                losses.add(name)
        pieces = batches(embedding_texts(document), MAX_TEXTS)
        first, *more = [self._call("/v2/embed", {**body, "texts": piece}) for piece in pieces]
        memo = kind, [len(piece) for piece in pieces]
        return Translation("embeddings", document, deployment, first, more=tuple(more), memo=memo)

    def _call(self, path: str, body: Document) -> UpstreamRequest:
        return UpstreamRequest("POST", self.base_url + path, self._json_headers, _json.encode(body))

    def read_other(self, translation: Translation, *bodies: bytes) -> Answer:
        """See ``NativeFormat``."""
        model = translation.deployment.model
        if translation.operation == "embeddings":
            kind, sizes = translation.memo
            vectors: list[Any] = []
            tokens: int | None = None
            for size, body in zip(sizes, bodies, strict=True):
                answer = _decode_vectors(body)
                found = answer.embeddings.get(kind)
                if found is None or len(found) != size:
                    raise malformed()
                vectors += found
                if (used := _billed(answer.meta, "input_tokens", "image_tokens")) is not None:
                    tokens = used + (tokens or 0)
            usage = None if tokens is None else Usage(input_uncached=tokens)
            return Answer(embedding_answer(model, vectors, usage, as_base64=False), usage)
        (body,) = bodies
        ranked = _decode_ranking(body)
        tokens = _billed(ranked.meta, "input_tokens")
        return ranking(
            translation.document,
            model,
            ranked.results,
            id=ranked.id,
            usage=None if tokens is None else Usage(input_uncached=tokens),
            search_units=_billed(ranked.meta, "search_units"),
        )

    # Errors and models

    def parse_error(self, status: int, headers: RawHeaders, body: bytes) -> ProviderError:
        """See ``Provider.parse_error``."""
        if status == _INVALID_TOKEN:
            status = 401
        return parse_error(status, headers, body, secrets=self._secrets, provider=self.name)

    def build_models_request(self) -> UpstreamRequest | None:
        """The call that lists the models."""
        return UpstreamRequest("GET", self.base_url + "/v1/models?page_size=1000", self._headers)

    def parse_models(self, body: bytes) -> tuple[ModelCard, ...]:
        """Read ``{"models": [{"name": ...}]}``."""
        try:
            rows = _decode_models(body).models
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise malformed() from error
        return tuple(ModelCard(id=row.name, owned_by="cohere") for row in rows if row.name)


def _embedding_type(document: Document) -> str:
    """The one kind of vectors that is asked for: Cohere's own field wins."""
    given = document.get("embedding_types")
    if given is None:
        return "base64" if wants_base64(document) else "float"
    if not isinstance(given, list) or len(given) != 1 or given[0] not in _EMBEDDING_TYPES:
        raise InvalidRequestError(
            "embedding_types: a list of one type is expected, of " + ", ".join(_EMBEDDING_TYPES),
            param="embedding_types",
            code="invalid_value",
        )
    return str(given[0])


class _Vectors(msgspec.Struct):
    # Numbers or base64: as they came.
    embeddings: dict[str, list[msgspec.Raw] | None]
    meta: dict[str, Any] | None = None


class _Ranking(msgspec.Struct):
    results: list[Ranked]
    id: str | None = None
    meta: dict[str, Any] | None = None


class _Model(msgspec.Struct):
    name: str = ""


class _Models(msgspec.Struct):
    models: list[_Model]


_decode_vectors: Final = msgspec.json.Decoder(_Vectors).decode
_decode_ranking: Final = msgspec.json.Decoder(_Ranking).decode
_decode_models: Final = msgspec.json.Decoder(_Models).decode


def _billed(meta: dict[str, Any] | None, *names: str) -> int | None:
    """The sum of the units of those names; None: there are none of them."""
    units = (meta or {}).get("billed_units")
    if not isinstance(units, dict):
        return None
    counts = [count for name in names if (count := token_count(units.get(name))) is not None]
    return sum(counts) if counts else None
