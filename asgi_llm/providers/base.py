"""What a provider adapter is: translation both ways, and no I/O."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import msgspec

from asgi_llm._semconv import Operation
from asgi_llm.errors import ProviderError, RawHeaders
from asgi_llm.transports.base import Timeouts, Transport, UpstreamRequest
from asgi_llm.types import Deployment, Document, Usage

__all__ = [
    "Answer",
    "AuthorizingProvider",
    "HeaderReader",
    "ModelCard",
    "Provider",
    "StreamDecoder",
    "Translation",
    "UploadProvider",
]


class Answer(NamedTuple):
    """A whole answer in the OpenAI format.

    Attributes:
        body: What the client gets. The very bytes of the upstream where nothing had to change.
        usage: What the provider reported; None where it was silent.
    """

    body: bytes
    usage: Usage | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """One model that a provider lists."""

    id: str
    created: int = 0
    """Unix seconds; 0 where the provider does not say."""
    owned_by: str = ""


class Translation(msgspec.Struct, gc=False):
    """One request in the provider's words, and what is needed to read the answer to it.

    Attributes:
        operation: What is asked.
        document: What the client sent.
        deployment: Whom it is asked.
        request: The upstream call.
        more: Further calls that the one answer is made of: a list of texts over the provider's
            limit, or several choices from a provider that gives one at a time. The app makes all of
            them at once.
        losses: Paths in the document that the provider is not told, or not as they were written.
        memo: The adapter's own notes.
    """

    operation: Operation
    document: Document
    deployment: Deployment
    request: UpstreamRequest
    more: tuple[UpstreamRequest, ...] = ()
    losses: tuple[str, ...] = ()
    memo: Any = None


class StreamDecoder(Protocol):
    """Turns one upstream stream into an OpenAI stream. One instance per response."""

    usage: Usage | None
    """What the provider reported so far; final once the stream is over."""
    done: bool
    """The provider said that the stream is over, and everything that it sent has been returned."""
    error: ProviderError | None
    """What went wrong, if something did: nothing more comes out after what was returned last."""

    @property
    def output_characters(self) -> int:
        """How much was written so far, for an estimate where no usage came; may be rough."""
        ...

    def feed(self, chunk: bytes) -> bytes:
        """The bytes to send now: whole events, or none yet.

        Streaming: holds back an unfinished event, and everything from the event that finishes the
        last choice on, until the upstream has really finished.
        """
        ...

    def close(self, *, framed: bool = True) -> bytes:
        """The held-back end of the stream, once the upstream's body has ended.

        Sets ``error`` where the upstream stopped before it finished.

        Args:
            framed: False where the body ended only because the connection did, which proves
                nothing about its being whole.
        """
        ...


class Provider(Protocol):
    """An adapter for one upstream account: where it is, how it is called, what it speaks.

    Stateless towards requests, so that one instance serves all of them.
    """

    name: str
    """Its name here, the part before the slash in ``provider/model``."""
    provider_name: str
    """OpenTelemetry's ``gen_ai.provider.name`` value."""
    transport: Transport | None
    """Its own way to the upstream; None takes the app's."""
    timeouts: Timeouts | None
    """Deadlines of its calls; None takes the app's."""
    models: tuple[str, ...]
    """Models that it is known to serve, without a call; may be empty."""
    operations: frozenset[Operation]
    """What it can be asked for."""
    stream_types: frozenset[bytes]
    """Media types of its streams. An answer of another type to a request for one is read whole."""
    limit_headers: Mapping[bytes, bytes]
    """Its names of headers for limits, in lower case, and OpenAI's names of the same."""

    def translate(
        self, operation: Operation, document: Document, deployment: Deployment
    ) -> Translation:
        """The upstream call, or calls, for ``document``, which is valid for ``operation``.

        Raises:
            InvalidRequestError: The document holds what this provider cannot be told.
        """
        ...

    def parse_response(self, translation: Translation, *bodies: bytes) -> Answer:
        """Read a whole answer with a 2xx status.

        Args:
            translation: What was asked.
            bodies: The answer to each of its calls, in their order: one, unless it has ``more``.

        Raises:
            ProviderError: It is no answer: an error with status 200, an empty or malformed body.
        """
        ...

    def stream_decoders(self, translation: Translation) -> tuple[StreamDecoder, ...]:
        """A decoder for the stream that answers each of the calls, in their order.

        Where there are several, what they return may be sent in any order as long as each one's
        own is kept; the last of them to be done returns the end of the stream.
        """
        ...

    def parse_error(self, status: int, headers: RawHeaders, body: bytes) -> ProviderError:
        """The error that a non-2xx answer means to our client, free of the provider's secrets."""
        ...

    def build_models_request(self) -> UpstreamRequest | None:
        """The call that lists the account's models; None where there is none."""
        ...

    def parse_models(self, body: bytes) -> tuple[ModelCard, ...]:
        """Read the answer to ``build_models_request``.

        Raises:
            ProviderError: It is no model list.
        """
        ...


@runtime_checkable
class AuthorizingProvider(Provider, Protocol):
    """A provider whose calls carry something that has to be fetched or computed for each call."""

    async def authorize(self, request: UpstreamRequest) -> UpstreamRequest:
        """``request`` with credentials: a token that is renewed now and then, or a signature.

        Raises:
            ProviderError: They cannot be had.
        """
        ...


@runtime_checkable
class HeaderReader(Provider, Protocol):
    """A provider that says a part of its answers in headers."""

    def with_headers(self, translation: Translation, headers: RawHeaders, body: bytes) -> bytes:
        """The body of a whole answer as ``parse_response`` wants it."""
        ...


@runtime_checkable
class UploadProvider(Provider, Protocol):
    """A provider that takes audio to transcribe."""

    def build_upload_request(
        self,
        operation: Operation,
        deployment: Deployment,
        content_type: bytes,
        body: AsyncIterable[bytes],
    ) -> UpstreamRequest:
        """The upstream call for a multipart form, whose ``body`` names the upstream's model."""
        ...
