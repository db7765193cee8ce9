"""What a provider adapter is: translation both ways, and no I/O."""

from __future__ import annotations

from collections.abc import AsyncIterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from asgi_llm._semconv import Operation
from asgi_llm.errors import ProviderError, RawHeaders
from asgi_llm.transports.base import Timeouts, Transport, UpstreamRequest
from asgi_llm.types import Deployment, Document, Usage

__all__ = ["Answer", "ModelCard", "Provider", "StreamDecoder", "UploadProvider"]


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


class StreamDecoder(Protocol):
    """Turns one upstream stream into an OpenAI stream. One instance per response."""

    usage: Usage | None
    """What the provider reported so far; final once the stream is over."""
    done: bool
    """The provider said that the stream is over, and everything that it sent has been returned."""
    error: ProviderError | None
    """What went wrong, if something did: nothing more comes out after what was returned last."""

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

    def build_request(
        self, operation: Operation, document: Document, deployment: Deployment
    ) -> UpstreamRequest:
        """The upstream call for ``document``, which is valid for ``operation``.

        Raises:
            InvalidRequestError: The document holds what this provider cannot be told.
        """
        ...

    def parse_response(self, operation: Operation, deployment: Deployment, body: bytes) -> Answer:
        """Read a whole answer with a 2xx status.

        Raises:
            ProviderError: It is no answer: an error with status 200, an empty or malformed body.
        """
        ...

    def stream_decoder(
        self, operation: Operation, document: Document, deployment: Deployment
    ) -> StreamDecoder:
        """A decoder for the stream that answers ``document``."""
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
