"""The OpenAI wire format, upstream: the base of every adapter that speaks it.

Requests are encoded from the one parse that all checks saw; answers pass as the bytes that came.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any, Final

import msgspec

from asgi_llm import _json, _sse
from asgi_llm._semconv import Operation
from asgi_llm.errors import ProviderError, ProviderUnavailableError, RawHeaders
from asgi_llm.providers._errors import parse_error, parse_stream_error
from asgi_llm.providers._quirks import (
    DONE_OPTIONAL,
    FINISH_REASON_OPTIONAL,
    THINK_TAGS,
    apply_quirks,
)
from asgi_llm.providers._think_tags import ThinkTagStream, split_answer
from asgi_llm.providers.base import Answer, ModelCard, StreamDecoder, Translation
from asgi_llm.transports.base import Timeouts, Transport, UpstreamRequest
from asgi_llm.types import Deployment, Document, Usage
from asgi_llm.wire.usage import PlainUsage, usage_from_openai

__all__ = ["PATHS", "OpenAIFormat", "PassThroughStream"]

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


class PassThroughStream:
    """Passes an OpenAI stream on as it came, and tells a finished stream from one that broke off.

    A chunk whose events finish nothing is passed as the very object that came. Each event is parsed
    for the few fields that decide about it, which also keeps broken JSON from the client.

    Args:
        choices: How many choices the answer has.
        done_optional: The provider ends without ``[DONE]``.
        finish_reason_optional: ``[DONE]`` finishes a stream that gave no finish reason.
        provider: Name of the provider, for messages.
        secrets: Strings that no error may show.
        max_event_bytes: Cap on one event.

    Streaming: holds back an unfinished event, and everything from the event that finishes the last
    choice on, until ``[DONE]`` or the end of the body. Where a finish reason is optional, an event
    with usage waits for the next one.
    """

    __slots__ = (
        "_choices",
        "_done_optional",
        "_finish_reason_optional",
        "_finished",
        "_held",
        "_max",
        "_parts",
        "_passed",
        "_provider",
        "_secrets",
        "_size",
        "_tail",
        "done",
        "error",
        "usage",
    )

    def __init__(
        self,
        *,
        choices: int = 1,
        done_optional: bool = False,
        finish_reason_optional: bool = False,
        provider: str = "",
        secrets: tuple[str, ...] = (),
        max_event_bytes: int = _sse.MAX_EVENT_BYTES,
    ) -> None:
        self._choices = choices
        self._done_optional = done_optional
        self._finish_reason_optional = finish_reason_optional
        self._provider = provider
        self._secrets = secrets
        self._max = max_event_bytes
        self._parts: list[bytes] = []  # an event without its end
        self._size = 0
        self._tail = b""  # the last bytes of _parts, where a border may begin
        self._held: list[bytes] = []
        self._passed = 0
        self._finished: set[int] = set()
        self.done = False
        self.error: ProviderError | None = None
        self.usage: Usage | None = None

    @property
    def output_characters(self) -> int:
        """A guess from the number of events, most of which hold one token."""
        return self._passed * 4

    def feed(self, chunk: bytes) -> bytes:
        """The bytes to send now; the very ``chunk`` in the plain case."""
        if self.done or self.error is not None:
            return b""
        self._passed += 1
        if self._parts:
            if not _sse.has_border(self._tail + chunk):
                self._keep(chunk)
                return b""
            self._parts.append(chunk)
            chunk = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
        if not chunk.endswith(b"\n\n"):
            border = _sse.last_border(chunk)
            if border < len(chunk):
                self._keep(chunk[border:])
                chunk = chunk[:border]
        if not self._held and _is_plain(chunk):
            return chunk
        return self._inspect(chunk)

    def close(self, *, framed: bool = True) -> bytes:
        """The held-back end, or none of it and an ``error``."""
        if self._is_over():
            return b""
        out = b""
        if self._parts:
            # Some servers leave out the last blank line.
            last = b"".join(self._parts)
            self._parts.clear()
            out = self._inspect(last.rstrip(b"\r\n") + b"\n\n")
        if self._is_over():
            return out
        if len(self._finished) >= self._choices and (framed or self._done_optional):
            self.done = True
            return out + self._release()
        self._fail(_truncated())
        return out

    def _is_over(self) -> bool:
        return self.done or self.error is not None

    def _keep(self, rest: bytes) -> None:
        if not rest:
            return
        self._size += len(rest)
        if self._size > self._max:
            self._parts.clear()
            self._fail(
                ProviderUnavailableError(
                    f"The provider sent an event of more than {self._max} bytes.",
                    code="invalid_provider_response",
                )
            )
            return
        self._parts.append(rest)
        self._tail = (self._tail + rest)[-3:] if len(self._parts) > 1 else rest[-3:]

    def _inspect(self, chunk: bytes) -> bytes:
        """Look into each event of ``chunk``, which holds whole events only."""
        out: list[bytes] = []
        for raw, event in _sse.split(chunk):
            if event is None:
                (self._held if self._held else out).append(raw)
                continue
            if event.done:
                if not self._finished and not self._finish_reason_optional:
                    self._fail(_truncated())
                else:
                    self.done = True
                    out += [*self._held, raw]
                    self._held.clear()
                break
            known = self.usage
            try:
                self._look(event.json())
            except _sse.SSEError:
                self._fail(
                    ProviderUnavailableError(
                        "The provider sent an event that is not valid JSON.",
                        code="invalid_provider_response",
                    )
                )
            if self.error is not None:
                break
            finishing = len(self._finished) >= self._choices
            if self._held and not finishing:
                out += self._held
                self._held.clear()
            # Where nothing but the end mark finishes a stream, usage may be all that is before it.
            may_finish = self._finish_reason_optional and self.usage is not known
            (self._held if finishing or may_finish else out).append(raw)
        return out[0] if len(out) == 1 else b"".join(out)

    def _look(self, data: Any) -> None:
        if not isinstance(data, dict):
            raise _sse.SSEError
        if data.get("error"):
            self._fail(parse_stream_error(data, secrets=self._secrets, provider=self._provider))
            return
        for choice in data.get("choices") or ():
            if isinstance(choice, dict) and choice.get("finish_reason"):
                self._finished.add(choice.get("index") or 0)
        usage = data.get("usage") or (data.get("x_groq") or {}).get("usage")
        if usage:
            # Usage on several events is cumulative: the last one counts.
            self.usage = usage_from_openai(usage) or self.usage

    def _release(self) -> bytes:
        held = b"".join(self._held)
        self._held.clear()
        return held

    def _fail(self, error: ProviderError) -> None:
        self.error = error
        self._held.clear()


class _ChoicePeek(msgspec.Struct, gc=False):
    finish_reason: str | None = None


class _EventPeek(msgspec.Struct, gc=False):
    """What decides whether an event may pass unseen; the rest is skipped, but must be JSON."""

    choices: list[_ChoicePeek] | None = None
    usage: Any = None
    x_groq: Any = None
    error: Any = None


_peek_event = msgspec.json.Decoder(_EventPeek).decode


_CR: Final = ord("\r")


def _is_plain(chunk: bytes) -> bool:
    """Whether ``chunk`` holds but events that are well-formed and finish nothing."""
    if _CR in chunk or not chunk.endswith(b"}\n\n") or not chunk.startswith(b"data: {"):
        return False
    if chunk.find(b"\n") == len(chunk) - 2:
        return _finishes_nothing(chunk[6:-2])
    return all(
        block.startswith(b"data: {") and b"\n" not in block and _finishes_nothing(block[6:])
        for block in chunk[:-2].split(b"\n\n")
    )


def _finishes_nothing(data: bytes) -> bool:
    try:
        event = _peek_event(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    if event.usage or event.error or event.x_groq:
        return False
    choices = event.choices
    if not choices:
        return True
    if len(choices) == 1:
        return not choices[0].finish_reason
    return not any(choice.finish_reason for choice in choices)


def _truncated() -> ProviderUnavailableError:
    return ProviderUnavailableError(
        "The provider's stream ended before it was finished.", code="stream_truncated"
    )
