"""The base of every adapter whose wire format is not OpenAI's.

It does what is alike for all of them: losses, several choices from a provider that gives one at a
time, the frame of answers and streams, errors. An adapter fills in how a chat is asked
(``chat_call``), how an answer is read (``read_answer`` for a whole one, ``reader`` for the events
of a stream, over the same functions for its parts), and its other operations.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import msgspec

from asgi_llm import _json
from asgi_llm._semconv import Operation
from asgi_llm.errors import (
    InvalidRequestError,
    ProviderError,
    ProviderUnavailableError,
    RawHeaders,
)
from asgi_llm.providers._chat_answer import AnswerWriter, new_id
from asgi_llm.providers._chat_chunks import ChunkWriter
from asgi_llm.providers._chat_completion import CompletionWriter
from asgi_llm.providers._conversation import ChatRequest
from asgi_llm.providers._errors import parse_error
from asgi_llm.providers._legacy_functions import (
    FunctionCallChunks,
    FunctionCallCompletion,
    wants_function_call,
)
from asgi_llm.providers._losses import Losses
from asgi_llm.providers._translated_stream import (
    AnswerReader,
    Frames,
    SSEFrames,
    StreamGroup,
    TranslatedStream,
    sum_usage,
)
from asgi_llm.providers.base import Answer, ModelCard, StreamDecoder, Translation
from asgi_llm.transports.base import Timeouts, Transport, UpstreamRequest
from asgi_llm.types import Deployment, Document, Usage
from asgi_llm.wire.usage import usage_to_openai

__all__ = ["ChatCall", "NativeFormat", "malformed"]

USER_AGENT = (b"user-agent", b"asgi-llm")
_IDENTITY = (b"accept-encoding", b"identity")
_JSON = (b"content-type", b"application/json")


class ChatCall(msgspec.Struct, gc=False):
    """A chat in the provider's words.

    Attributes:
        url: Where it is asked.
        body: What is asked; encoded as JSON. ``msgspec.Raw`` values go in as they stand.
        memo: What ``read_answer`` and ``reader`` need to know of it.
        headers: Beside the provider's own.
    """

    url: str
    body: Document
    memo: Any = None
    headers: tuple[tuple[bytes, bytes], ...] = ()


class NativeFormat:
    """See the module.

    Args:
        name: Its name here, the part before the slash in ``provider/model``.
        provider_name: OpenTelemetry's ``gen_ai.provider.name`` value.
        base_url: Without a slash at its end.
        headers: Sent with every call; the credentials are among them.
        models: Models that it is known to serve.
        operations: What it can be asked for.
        strict: Refuse what the translation would lose, in place of reporting it.
        transport: Its own way to the upstream; None takes the app's.
        timeouts: Deadlines of its calls; None takes the app's.
        secrets: Strings that no error may show.
        clock: Unix time in seconds, for ``created``.
    """

    stream_types: frozenset[bytes] = frozenset((b"text/event-stream",))

    limit_headers: Mapping[bytes, bytes] = {}

    own_blocks: ClassVar[bool] = False
    """Blocks of its own that an answer had in ``provider_blocks`` can be sent back to it."""

    one_choice: ClassVar[bool] = True
    """An answer has one choice: for ``n`` of them the same is asked ``n`` times."""

    def __init__(
        self,
        *,
        name: str,
        provider_name: str,
        base_url: str,
        headers: Iterable[tuple[bytes, bytes]] = (),
        models: Iterable[str] = (),
        operations: Iterable[Operation] = ("chat",),
        strict: bool = False,
        transport: Transport | None = None,
        timeouts: Timeouts | None = None,
        secrets: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.provider_name = provider_name
        self.base_url = base_url.rstrip("/")
        self.models = tuple(models)
        self.operations = frozenset(operations)
        self.strict = strict
        self.transport = transport
        self.timeouts = timeouts
        self._secrets = tuple(secrets)
        self._clock = clock
        # Tuples: the transport writes them out once.
        self._headers = (*headers, USER_AGENT, _IDENTITY)
        self._json_headers = (*self._headers, _JSON)

    # For the adapter to fill in

    def chat_call(self, request: ChatRequest, deployment: Deployment) -> ChatCall:
        """How the chat is asked.

        Args:
            request: What is asked. Everything of it that the call says has to be taken from it;
                the rest is reported as lost.
            deployment: Whom.

        Raises:
            InvalidRequestError: It cannot be asked.
        """
        raise self.unsupported("chat")

    def read_answer(self, translation: Translation, body: bytes, writer: AnswerWriter) -> None:
        """Tell the parts of a whole answer to ``writer``, its usage included.

        Raises:
            ProviderError: It is an error.
            msgspec.MsgspecError: It is not what it should be.
        """
        raise self.unsupported("chat")

    def reader(self, translation: Translation) -> AnswerReader:
        """A reader for the events of one streamed answer."""
        raise self.unsupported("chat")

    def frames(self) -> Frames:
        """The framing of a stream."""
        return SSEFrames()

    def other_call(
        self, operation: Operation, document: Document, deployment: Deployment, losses: Losses
    ) -> Translation:
        """How anything but a chat is asked; ``losses.names`` goes into the result by itself."""
        raise self.unsupported(operation)

    def read_other(self, translation: Translation, *bodies: bytes) -> Answer:
        """Read the answer to it."""
        raise self.unsupported(translation.operation)

    # The Provider protocol

    def translate(
        self, operation: Operation, document: Document, deployment: Deployment
    ) -> Translation:
        """See ``Provider.translate``."""
        losses = Losses(self.name, strict=self.strict or deployment.strict)
        if operation != "chat":
            translation = self.other_call(operation, document, deployment, losses)
            translation.losses = losses.names
            return translation
        request = ChatRequest(document, losses, own_blocks=self.own_blocks)
        count = request.choices() if self.one_choice else 1
        call = self.chat_call(request, deployment)
        headers = (*self._json_headers, *call.headers) if call.headers else self._json_headers
        upstream = UpstreamRequest("POST", call.url, headers, _json.encode(call.body))
        return Translation(
            operation,
            document,
            deployment,
            upstream,
            more=(upstream,) * (count - 1),
            losses=request.close(),
            memo=call.memo,
        )

    def parse_response(self, translation: Translation, *bodies: bytes) -> Answer:
        """See ``Provider.parse_response``."""
        try:
            if translation.operation != "chat":
                return self.read_other(translation, *bodies)
            created = int(self._clock())
            model = translation.deployment.model
            legacy = wants_function_call(translation.document)
            writer_type = FunctionCallCompletion if legacy else CompletionWriter
            answer: Document | None = None
            usage: Usage | None = None
            for index, body in enumerate(bodies):
                writer = writer_type(model=model, created=created, choice=index)
                self.read_answer(translation, body, writer)
                document = writer.document()
                usage = sum_usage(usage, writer.usage)
                if answer is None:
                    answer = document
                else:
                    answer["choices"] += document["choices"]
            if answer is None:
                raise malformed()
            if usage is not None and len(bodies) > 1:
                answer["usage"] = usage_to_openai(usage)
            return Answer(_json.encode(answer), usage)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise malformed() from error

    def stream_decoders(self, translation: Translation) -> tuple[StreamDecoder, ...]:
        """See ``Provider.stream_decoders``."""
        size = 1 + len(translation.more)
        options = translation.document.get("stream_options") or {}
        group = StreamGroup(include_usage=bool(options.get("include_usage")), size=size)
        created, model = int(self._clock()), translation.deployment.model
        # Several streams make one answer, which has one id.
        id_ = new_id() if size > 1 else ""
        legacy = wants_function_call(translation.document)
        writer_type = FunctionCallChunks if legacy else ChunkWriter
        return tuple(
            TranslatedStream(
                self.frames(),
                self.reader(translation),
                writer_type(model=model, created=created, choice=index, id=id_),
                group,
            )
            for index in range(size)
        )

    def parse_error(self, status: int, headers: RawHeaders, body: bytes) -> ProviderError:
        """See ``Provider.parse_error``."""
        return parse_error(status, headers, body, secrets=self._secrets, provider=self.name)

    def build_models_request(self) -> UpstreamRequest | None:
        """See ``Provider.build_models_request``; None unless the adapter says otherwise."""
        return None

    def parse_models(self, body: bytes) -> tuple[ModelCard, ...]:
        """See ``Provider.parse_models``."""
        return ()

    def unsupported(self, operation: Operation) -> InvalidRequestError:
        """The error for an operation that the provider does not have."""
        return InvalidRequestError(
            f"The provider {self.name!r} has no {operation.replace('_', ' ')}.",
            param="model",
            code="unsupported_operation",
        )


def malformed() -> ProviderUnavailableError:
    """The error for an answer that is none."""
    return ProviderUnavailableError(
        "The provider's answer cannot be read.", code="invalid_provider_response"
    )
