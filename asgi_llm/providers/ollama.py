"""Ollama's native API, which says more than its OpenAI-compatible one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

import msgspec

from asgi_llm import _json
from asgi_llm._semconv import Operation
from asgi_llm.errors import ConfigurationError, RawHeaders
from asgi_llm.providers._chat_answer import AnswerWriter
from asgi_llm.providers._conversation import ChatRequest
from asgi_llm.providers._embeddings import (
    check_dimensions,
    embedding_answer,
    embedding_texts,
    wants_base64,
)
from asgi_llm.providers._losses import Losses
from asgi_llm.providers._native import ChatCall, NativeFormat, malformed
from asgi_llm.providers._ollama_answer import ChatReader, token_usage
from asgi_llm.providers._ollama_request import build_chat, native_options
from asgi_llm.providers._options import checked_base_url, credential, header_pairs
from asgi_llm.providers._quirks import THINK_TAGS
from asgi_llm.providers._translated_stream import AnswerReader, Frames, JSONLines
from asgi_llm.providers.base import Answer, ModelCard, Translation
from asgi_llm.transports.base import Timeouts, Transport, UpstreamRequest
from asgi_llm.types import Deployment, Document

__all__ = ["Ollama"]


class Ollama(NativeFormat):
    """An Ollama server, or Ollama's cloud, by the native API.

    Args:
        api_key: Sent as a bearer token; None for a server of one's own.
        name: Its name here, the part before the slash in ``provider/model``.
        base_url: Up to and without ``/api``.
        headers: Further headers, sent with every call.
        models: Models that it is known to serve, without asking it.
        options: Native options (``num_ctx`` ...) of every call, unless the request says otherwise.
        keep_alive: How long a model stays loaded: seconds, or a text such as ``10m``; None leaves
            it to the server.
        quirks: ``think_tags``, or nothing.
        strict: Refuse what the translation would lose, in place of reporting it.
        transport: Its own way to the upstream; None takes the app's.
        timeouts: Deadlines of its calls; None takes the app's.
        clock: Unix time in seconds, for ``created``.

    Raises:
        ConfigurationError: An option is wrong.

    Source: Ollama API reference.
    """

    stream_types = frozenset((b"application/x-ndjson",))

    fetches_urls: ClassVar[bool] = False
    """Images have to come as data."""

    def __init__(
        self,
        *,
        api_key: str | None = None,
        name: str = "ollama",
        base_url: str = "http://127.0.0.1:11434",
        headers: Iterable[tuple[str, str]] = (),
        models: Iterable[str] = (),
        options: Mapping[str, Any] | None = None,
        keep_alive: str | float | None = None,
        quirks: Iterable[str] = (),
        strict: bool = False,
        transport: Transport | None = None,
        timeouts: Timeouts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        url = checked_base_url(base_url)
        if url.endswith(("/v1", "/api")):
            raise ConfigurationError(
                "base_url ends before /api here; for the OpenAI-compatible API below /v1 there is "
                "the type ollama_openai",
                param="base_url",
            )
        sent: RawHeaders = []
        extra, secrets = header_pairs(headers)
        if api_key is not None:
            sent.append((b"authorization", b"Bearer " + credential(api_key, "api_key")))
            secrets.append(api_key)
        super().__init__(
            name=name,
            provider_name="ollama",
            base_url=url,
            headers=[*sent, *extra],
            models=models,
            operations=("chat", "embeddings"),
            strict=strict,
            transport=transport,
            timeouts=timeouts,
            secrets=secrets,
            clock=clock,
        )
        self.quirks = frozenset(quirks)
        if unknown := sorted(self.quirks - {THINK_TAGS}):
            raise ConfigurationError(
                f"quirk {unknown[0]!r} is not one of Ollama's; the only one is {THINK_TAGS!r}",
                param="quirks",
            )
        self._options = _checked_options(options)
        self._keep_alive = _checked_keep_alive(keep_alive)
        self._chat_url = url + "/api/chat"
        self._embed_url = url + "/api/embed"

    # Chat

    def chat_call(self, request: ChatRequest, deployment: Deployment) -> ChatCall:
        """See ``NativeFormat``."""
        body = build_chat(request, deployment.model, self._options)
        if self._keep_alive is not None:
            body.setdefault("keep_alive", self._keep_alive)
        return ChatCall(self._chat_url, body)

    def read_answer(self, translation: Translation, body: bytes, writer: AnswerWriter) -> None:
        """See ``NativeFormat``."""
        self.reader(translation).read("message", body, writer)

    def reader(self, translation: Translation) -> AnswerReader:
        """See ``NativeFormat``."""
        return ChatReader(
            translation.document,
            think_tags=THINK_TAGS in self.quirks or THINK_TAGS in translation.deployment.quirks,
            provider=self.name,
            secrets=self._secrets,
        )

    def frames(self) -> Frames:
        """See ``NativeFormat``."""
        return JSONLines()

    # Embeddings

    def other_call(
        self, operation: Operation, document: Document, deployment: Deployment, losses: Losses
    ) -> Translation:
        """See ``NativeFormat``."""
        if operation != "embeddings":
            raise self.unsupported(operation)
        body: Document = {"model": deployment.model, "input": embedding_texts(document)}
        # OpenAI refuses a text that is too long, while Ollama cuts it unless it is told not to.
        body["truncate"] = document.get("truncate") or False
        for name in ("dimensions", "keep_alive"):
            if document.get(name) is not None:
                body[name] = document[name]
        if self._keep_alive is not None:
            body.setdefault("keep_alive", self._keep_alive)
        if options := {**self._options, **native_options(document.get("options"))}:
            body["options"] = options
        for name, value in document.items():
            if name not in _EMBEDDING_FIELDS and value is not None:
                losses.add(name)
        request = UpstreamRequest("POST", self._embed_url, self._json_headers, _json.encode(body))
        return Translation(operation, document, deployment, request, memo=wants_base64(document))

    def read_other(self, translation: Translation, *bodies: bytes) -> Answer:
        """See ``NativeFormat``."""
        (body,) = bodies
        answer = _decode_vectors(body)
        if answer.error:
            raise self.parse_error(500, [], body)
        document, vectors = translation.document, answer.embeddings
        if len(vectors) != len(embedding_texts(document)):
            raise malformed()
        for vector in vectors:
            check_dimensions(len(vector), document.get("dimensions"))
        usage = token_usage(answer.prompt_eval_count, 0, document)
        model = translation.deployment.model
        data = embedding_answer(model, vectors, usage, as_base64=bool(translation.memo))
        return Answer(data, usage)

    # Models

    def build_models_request(self) -> UpstreamRequest | None:
        """The call that lists the models that the server has."""
        return UpstreamRequest("GET", self.base_url + "/api/tags", self._headers)

    def parse_models(self, body: bytes) -> tuple[ModelCard, ...]:
        """Read ``{"models": [{"model": ..., "modified_at": ...}]}``."""
        try:
            rows = _decode_models(body).models
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise malformed() from error
        return tuple(
            ModelCard(id=row.model or row.name, created=_unix(row.modified_at))
            for row in rows
            if row.model or row.name
        )


_EMBEDDING_FIELDS: Final = frozenset(
    (
        "asgi_llm",
        "dimensions",
        "encoding_format",
        "input",
        "keep_alive",
        "model",
        "options",
        "truncate",
    )
)


class _Vectors(msgspec.Struct):
    embeddings: list[list[float]] = []
    prompt_eval_count: Any = None
    error: Any = None


class _Model(msgspec.Struct):
    name: str = ""
    model: str = ""
    modified_at: str = ""


class _Models(msgspec.Struct):
    models: list[_Model]


_decode_vectors: Final = msgspec.json.Decoder(_Vectors).decode
_decode_models: Final = msgspec.json.Decoder(_Models).decode


def _unix(text: str) -> int:
    """Unix seconds of a RFC 3339 time; 0 where it is none."""
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        return 0


def _checked_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    if options is None:
        return {}
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise ConfigurationError("options must be a mapping with names as keys", param="options")
    return dict(options)


def _checked_keep_alive(keep_alive: str | float | None) -> str | float | None:
    if keep_alive is None or (isinstance(keep_alive, str) and keep_alive):
        return keep_alive
    if isinstance(keep_alive, bool) or not isinstance(keep_alive, int | float):
        raise ConfigurationError(
            f"keep_alive must be seconds or a text such as '10m', not {keep_alive!r}",
            param="keep_alive",
        )
    return keep_alive
