"""One call to a provider and its relay to the client: the I/O around the adapters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

import msgspec
from starlette.types import Message, Send

from asgi_llm._asgi import stream_error
from asgi_llm.errors import (
    LLMError,
    ProviderError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    RawHeaders,
)
from asgi_llm.providers._losses import loss_text
from asgi_llm.providers._watch import ClientWatch
from asgi_llm.providers.base import Provider, Translation
from asgi_llm.state import ATTEMPTS, FAILURE, RESPONSE_MODEL, USAGE, State
from asgi_llm.transports._decoding import decoded
from asgi_llm.transports.base import (
    ConnectError,
    ConnectionLostError,
    Timeouts,
    Transport,
    TransportError,
    TransportTimeoutError,
    UpstreamRequest,
    UpstreamResponse,
)
from asgi_llm.types import Attempt
from asgi_llm.wire.estimate import estimate_usage

__all__ = [
    "TOLD_HEADERS",
    "BrokenOffError",
    "Calling",
    "Exchange",
    "drain",
    "provider_error",
    "read_error",
]

_MAX_ERROR_BYTES: Final = 1024 * 1024
_DRAIN_SECONDS: Final = 0.5

# Operations whose answer need not be JSON; it passes as it comes.
_OPAQUE: Final = frozenset(("speech", "transcription"))

TOLD_HEADERS: Final[Mapping[bytes, bytes]] = {
    name: name
    for name in (
        b"openai-processing-ms",
        b"openai-version",
        b"retry-after",
        b"retry-after-ms",
        b"x-ratelimit-limit-requests",
        b"x-ratelimit-limit-tokens",
        b"x-ratelimit-remaining-requests",
        b"x-ratelimit-remaining-tokens",
        b"x-ratelimit-reset-requests",
        b"x-ratelimit-reset-tokens",
    )
}
"""What a client learns of the upstream's headers, and under which name; the upstream's ids and
cookies are not among it."""

_JSON: Final = (b"content-type", b"application/json")
_SSE_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # Keeps nginx from collecting the stream.
    (b"x-accel-buffering", b"no"),
)


class BrokenOffError(Exception):
    """An answer that is no event stream broke off after it had begun.

    It leaves the app, because only an exception makes a server cut the connection, without which
    a client would take the part for the whole.
    """


class Calling(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What all calls of an app to one provider share.

    Attributes:
        provider: The adapter.
        transport: The way there.
        timeouts: Deadlines of a call.
        max_response_bytes: Cap on an answer that is read whole.
        clock: Seconds, monotonic.
        header: Names the provider to the client.
        authorize: The provider's, where its calls have to be signed one by one.
        with_headers: The provider's, where a part of its answers stands in headers.
        told_headers: Headers of the upstream that the client learns, and under which name.
    """

    provider: Provider
    transport: Transport
    timeouts: Timeouts
    max_response_bytes: int
    clock: Callable[[], float]
    header: tuple[bytes, bytes]
    authorize: Callable[[UpstreamRequest], Awaitable[UpstreamRequest]] | None
    with_headers: Callable[[Translation, RawHeaders, bytes], bytes] | None
    told_headers: Mapping[bytes, bytes]


class Exchange:
    """One attempt at one deployment.

    Args:
        calling: How its provider is called.
        translation: What is asked.
        state: The request's state, which learns of the attempt.
    """

    __slots__ = ("_calling", "_state", "_translation")

    def __init__(self, calling: Calling, translation: Translation, state: State) -> None:
        self._calling = calling
        self._translation = translation
        self._state = state

    async def run(self, send: Send, watch: ClientWatch) -> None:
        """Call the provider and relay its answer.

        Raises:
            ProviderError: There is no answer to relay; nothing was sent to the client.
            BrokenOffError: See there.
        """
        calling, translation = self._calling, self._translation
        clock = calling.clock
        begun = clock()
        status: int | None = None
        first_byte: float | None = None
        failure: LLMError | None = None
        try:
            request = translation.request
            if calling.authorize is not None:
                request = await calling.authorize(request)
            response = await calling.transport.send(request, calling.timeouts)
            status = response.status
            first_byte = clock() - begun
            try:
                if not 200 <= status < 300:
                    body = await read_error(response)
                    raise calling.provider.parse_error(status, response.headers, body)
                response = decoded(response)
                if translation.operation in _OPAQUE:
                    await self._pass(response, send, watch)
                elif translation.document.get("stream"):
                    failure = await self._stream(response, send, watch)
                else:
                    await self._whole(response, send, watch)
            except BaseException:
                # All of them close it where they end as they should.
                await response.aclose()
                raise
        except TransportError as error:
            failure = provider_error(error, calling.provider.name)
            raise failure from error
        except LLMError as error:
            failure = error
            raise
        finally:
            attempt = Attempt(
                provider=translation.deployment.provider,
                model=translation.deployment.model,
                status=status,
                error_code=None if failure is None else failure.code,
                duration_seconds=clock() - begun,
                time_to_first_byte_seconds=first_byte,
            )
            state = self._state
            before = state.get(ATTEMPTS)
            state.update(
                {
                    ATTEMPTS: (*before, attempt) if before else (attempt,),
                    RESPONSE_MODEL: attempt.model,
                }
            )
            if failure is not None:
                state.set(FAILURE, failure)

    async def _whole(self, response: UpstreamResponse, send: Send, watch: ClientWatch) -> None:
        calling = self._calling
        body = await response.read(calling.max_response_bytes)
        if calling.with_headers is not None:
            body = calling.with_headers(self._translation, response.headers, body)
        body, usage = calling.provider.parse_response(self._translation, body)
        if usage is not None:
            self._state.set(USAGE, usage)
        headers = self._headers(response)
        headers += (_JSON, (b"content-length", b"%d" % len(body)))
        watch.sending = message = {"type": "http.response.body", "body": body}
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(message)
        watch.sending = None

    async def _stream(
        self, response: UpstreamResponse, send: Send, watch: ClientWatch
    ) -> ProviderError | None:
        if not self._is_stream(response):
            # Not a stream: an error, which the adapter reads, or something it cannot be.
            body = await response.read(self._calling.max_response_bytes)
            self._calling.provider.parse_response(self._translation, body)
            raise ProviderUnavailableError(
                "The provider did not answer with a stream.", code="invalid_provider_response"
            )
        (decoder,) = self._calling.provider.stream_decoders(self._translation)
        chunks = aiter(response)
        started = False
        out = b""
        message: Message
        try:
            async for chunk in chunks:
                out = decoder.feed(chunk)
                if decoder.done or decoder.error is not None:
                    break
                if out:
                    message = {"type": "http.response.body", "body": out, "more_body": True}
                    watch.sending = message
                    if not started:
                        started = True
                        await self._start_stream(response, send)
                    await send(message)
                    watch.sending = None
            else:
                out = decoder.close(framed=response.framed)
            failure = decoder.error
        except TransportError as error:
            out = b""
            failure = provider_error(error, self._calling.provider.name)
        if failure is not None:
            if not started and not out:
                raise failure
            out += stream_error(failure)
            usage = estimate_usage(
                self._translation.document, decoder.output_characters, decoder.usage
            )
            self._state.set(USAGE, usage)
        elif decoder.usage is not None:
            self._state.set(USAGE, decoder.usage)
        watch.sending = message = {"type": "http.response.body", "body": out}
        if not started:
            await self._start_stream(response, send)
        await send(message)
        watch.sending = None
        if failure is None:
            await drain(chunks)
        await response.aclose()
        return failure

    def _is_stream(self, response: UpstreamResponse) -> bool:
        """Whether it is what was asked for; an answer that does not say what it is may be."""
        media = _content_type(response.headers)
        return not media or (
            media.partition(b";")[0].strip() in self._calling.provider.stream_types
        )

    async def _start_stream(self, response: UpstreamResponse, send: Send) -> None:
        headers = self._headers(response)
        headers.extend(_SSE_HEADERS)
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _pass(self, response: UpstreamResponse, send: Send, watch: ClientWatch) -> None:
        media = _content_type(response.headers)
        if media.startswith(b"application/json"):
            await self._whole(response, send, watch)
            return
        headers = self._headers(response)
        headers += [h for h in response.headers if h[0] in (b"content-type", b"content-length")]
        started = False
        message: Message
        try:
            async for chunk in response:
                message = {"type": "http.response.body", "body": chunk, "more_body": True}
                watch.sending = message
                if not started:
                    started = True
                    await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send(message)
                watch.sending = None
        except TransportError as error:
            if not started:
                raise
            raise BrokenOffError(str(error)) from error
        if not started:
            raise ProviderUnavailableError(
                "The provider's answer is empty.", code="invalid_provider_response"
            )
        watch.sending = message = {"type": "http.response.body", "body": b""}
        await send(message)
        watch.sending = None
        await response.aclose()

    def _headers(self, response: UpstreamResponse) -> RawHeaders:
        state = self._state
        attempts = state.get(ATTEMPTS)
        headers: RawHeaders = [
            (b"x-request-id", state.request_id.encode()),
            self._calling.header,
            (b"x-model", self._translation.deployment.model.encode()),
            (b"x-attempts", b"%d" % (len(attempts) + 1 if attempts else 1)),
        ]
        if losses := self._translation.losses:
            headers.append((b"x-translation-loss", loss_text(losses).encode()))
        client_id = state.client_request_id
        if client_id is not None:
            headers.append((b"x-client-request-id", client_id.encode()))
        told = self._calling.told_headers
        headers += [(told[name], value) for name, value in response.headers if name in told]
        return headers


def _content_type(headers: RawHeaders) -> bytes:
    for name, value in headers:
        if name == b"content-type":
            return value.lower()
    return b""


async def read_error(response: UpstreamResponse) -> bytes:
    """The body of an error answer; nothing where it broke off, since the status says enough."""
    try:
        return await decoded(response).read(_MAX_ERROR_BYTES)
    except TransportError:
        return b""


async def drain(chunks: AsyncIterator[bytes]) -> None:
    """Take what follows the end mark, so that the connection can be used again.

    The client has its whole answer; whatever goes wrong here only costs the connection.
    """
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in chunks:
                return
    except (TimeoutError, TransportError):
        return


def provider_error(error: TransportError, provider: str) -> ProviderError:
    """What a transport's failure means to our client."""
    if isinstance(error, TransportTimeoutError):
        return ProviderTimeoutError(f"The provider {provider!r} timed out: {error}.")
    if isinstance(error, ConnectError):
        return ProviderUnavailableError(f"The provider {provider!r} could not be reached.")
    if isinstance(error, ConnectionLostError):
        return ProviderUnavailableError(
            f"The provider {provider!r} broke the connection off.", code="connection_lost"
        )
    return ProviderUnavailableError(
        f"The provider {provider!r} gave an answer that cannot be read: {error}.",
        code="invalid_provider_response",
    )
