"""The OpenAI wire format, upstream: the base of every adapter that speaks it.

Requests are encoded from the one parse that all checks saw; answers pass as the bytes that came.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any, Final

import msgspec

from asgi_llm import _json
from asgi_llm._semconv import Operation
from asgi_llm.errors import ProviderError, ProviderUnavailableError, RawHeaders
from asgi_llm.providers._errors import parse_error, parse_stream_error
from asgi_llm.providers._passthrough_stream import PassThroughStream
from asgi_llm.providers._quirks import (
    DONE_OPTIONAL,
    FINISH_REASON_OPTIONAL,
    THINK_TAGS,
    apply_quirks,
)
from asgi_llm.providers._think_tags import ThinkTagStream, split_answer
from asgi_llm.providers.base import Answer, ModelCard, StreamDecoder, Translation
from asgi_llm.transports.base import Timeouts, Transport, UpstreamRequest
from asgi_llm.types import Deployment, Document
from asgi_llm.wire.usage import PlainUsage, usage_from_openai

__all__ = ["PATHS", "OpenAIFormat"]

PATHS: Final[dict[Operation, str]] = {
    "chat": "/chat/completions",
    "text_completion": "/completions",
    "embeddings": "/embeddings",
    "moderation": "/moderations",
    "image_generation": "/images/generations",
    "speech": "/audio/speech",
    "transcription": "/audio/transcriptions",
}
"""Where each operation lives below the base URL."""

USER_AGENT: Final = (b"user-agent", b"asgi-llm")
_IDENTITY: Final = (b"accept-encoding", b"identity")
_JSON: Final = (b"content-type", b"application/json")


class OpenAIFormat:
    """An adapter for an endpoint that speaks the OpenAI format.

    Args:
        name: Its name here, the part before the slash in ``provider/model``.
        provider_name: OpenTelemetry's ``gen_ai.provider.name`` value.
        base_url: Up to and without the path of an operation, as in ``https://host/v1``.
        headers: Sent with every call; the credentials are among them.
        models: Models that it is known to serve.
        operations: What it can be asked for.
        quirks: Names from ``_quirks``: where it departs from OpenAI.
        transport: Its own way to the upstream; None takes the app's.
        timeouts: Deadlines of its calls; None takes the app's.
        secrets: Strings that no error may show.
    """

    stream_types = frozenset((b"text/event-stream",))
    limit_headers: Mapping[bytes, bytes] = {}

    def __init__(
        self,
        *,
        name: str,
        provider_name: str,
        base_url: str,
        headers: Iterable[tuple[bytes, bytes]] = (),
        models: Iterable[str] = (),
        operations: Iterable[Operation] = tuple(PATHS),
        quirks: Iterable[str] = (),
        transport: Transport | None = None,
        timeouts: Timeouts | None = None,
        secrets: Iterable[str] = (),
    ) -> None:
        self.name = name
        self.provider_name = provider_name
        self.base_url = base_url.rstrip("/")
        self.models = tuple(models)
        self.operations = frozenset(operations)
        self.quirks = frozenset(quirks)
        self.transport = transport
        self.timeouts = timeouts
        self._secrets = tuple(secrets)
        # Tuples: the transport writes them out once.
        self._headers = (*headers, USER_AGENT, _IDENTITY)
        self._json_headers = (*self._headers, _JSON)
        self._urls = {operation: self.base_url + path for operation, path in PATHS.items()}

    def url_for(self, operation: Operation, deployment: Deployment) -> str:
        """Where ``operation`` is called."""
        return self._urls[operation]

    def translate(
        self, operation: Operation, document: Document, deployment: Deployment
    ) -> Translation:
        """The upstream call: the document with the upstream's model name, encoded."""
        sent = {**document, "model": deployment.model}
        sent.pop("asgi_llm", None)
        quirks = self.quirks | deployment.quirks if deployment.quirks else self.quirks
        if quirks:
            sent = apply_quirks(sent, quirks)
        url = self.url_for(operation, deployment)
        request = UpstreamRequest("POST", url, self._json_headers, _json.encode(sent))
        return Translation(operation, document, deployment, request)

    def build_upload_request(
        self,
        operation: Operation,
        deployment: Deployment,
        content_type: bytes,
        body: AsyncIterable[bytes],
    ) -> UpstreamRequest:
        """The upstream call for a multipart form, whose ``body`` names the upstream's model."""
        headers = [*self._headers, (b"content-type", content_type)]
        return UpstreamRequest("POST", self.url_for(operation, deployment), headers, body)

    def parse_response(self, translation: Translation, *bodies: bytes) -> Answer:
        """Check that the body is an answer, and read its usage; the bytes stay as they are."""
        (body,) = bodies
        try:
            peek: _Peek | _LoosePeek = _peek(body)
        except msgspec.ValidationError:
            peek = _peek_loosely(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _no_answer("is not a JSON object" if body else "is empty") from error
        if peek.error:
            raise parse_stream_error(
                {"error": peek.error}, secrets=self._secrets, provider=self.name
            )
        result = _RESULT_OF.get(translation.operation)
        if result is not None and getattr(peek, result) is msgspec.UNSET:
            raise _no_answer(f"has no {result!r}")
        usage = peek.usage
        if isinstance(usage, PlainUsage):
            found = usage.to_usage()
            if found is None:
                found = usage_from_openai(msgspec.to_builtins(usage))
        else:
            found = usage_from_openai(usage) if usage else None
        if translation.operation == "chat" and THINK_TAGS in self._quirks_of(translation):
            body = split_answer(body)
        return Answer(body, found)

    def stream_decoders(self, translation: Translation) -> tuple[StreamDecoder, ...]:
        """A decoder that passes whole events on as they came, unless a quirk is about them."""
        quirks = self._quirks_of(translation)
        choices = _choices_of(translation.document)
        decoder = PassThroughStream(
            choices=choices,
            done_optional=DONE_OPTIONAL in quirks,
            finish_reason_optional=FINISH_REASON_OPTIONAL in quirks,
            provider=self.name,
            secrets=self._secrets,
        )
        if translation.operation == "chat" and THINK_TAGS in quirks:
            return (ThinkTagStream(decoder, choices=choices),)
        return (decoder,)

    def _quirks_of(self, translation: Translation) -> frozenset[str]:
        of_deployment = translation.deployment.quirks
        return self.quirks | of_deployment if of_deployment else self.quirks

    def parse_error(self, status: int, headers: RawHeaders, body: bytes) -> ProviderError:
        """The error that a non-2xx answer means to our client."""
        return parse_error(status, headers, body, secrets=self._secrets, provider=self.name)

    def build_models_request(self) -> UpstreamRequest | None:
        """The call that lists the account's models."""
        return UpstreamRequest("GET", self.base_url + "/models", self._headers)

    def parse_models(self, body: bytes) -> tuple[ModelCard, ...]:
        """Read ``{"data": [{"id": ...}]}``, or the bare list that some servers send."""
        try:
            document = _json.decode_unchecked(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _no_answer("is not JSON") from error
        rows = document.get("data") if isinstance(document, dict) else document
        if not isinstance(rows, list):
            raise _no_answer("has no list of models")
        return tuple(_card(row) for row in rows if _is_card(row))


def _is_card(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("id"), str) and bool(row["id"])


def _card(row: dict[str, Any]) -> ModelCard:
    created, owner = row.get("created"), row.get("owned_by")
    return ModelCard(
        id=row["id"],
        created=created if isinstance(created, int) else 0,
        owned_by=owner if isinstance(owner, str) else "",
    )


class _AnyPeek(msgspec.Struct, kw_only=True, gc=False):
    """What is read of an answer; the rest is skipped, but must be JSON."""

    error: Any = None
    choices: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    results: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Peek(_AnyPeek, kw_only=True, gc=False):
    usage: PlainUsage | None = None


class _LoosePeek(_AnyPeek, kw_only=True, gc=False):
    usage: Any = None


_peek = msgspec.json.Decoder(_Peek).decode
_decode_loosely = msgspec.json.Decoder(_LoosePeek).decode


def _peek_loosely(body: bytes) -> _LoosePeek:
    try:
        return _decode_loosely(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _no_answer("is not a JSON object") from error


_RESULT_OF: Final[dict[str, str]] = {
    "chat": "choices",
    "text_completion": "choices",
    "embeddings": "data",
    "image_generation": "data",
    "moderation": "results",
}


def _no_answer(what: str) -> ProviderUnavailableError:
    return ProviderUnavailableError(
        f"The provider's answer {what}.", code="invalid_provider_response"
    )


def _choices_of(document: Document) -> int:
    """How many choices the answer to ``document`` has; a list of prompts has ``n`` for each."""
    n = document.get("n") or 1
    prompts = document.get("prompt")
    if isinstance(prompts, list) and prompts and not isinstance(prompts[0], int):
        n *= len(prompts)
    return int(n)
