"""One answer that is made of several calls: choices, or batches, that a provider gives one by one.

All calls are made at once. The first that fails ends the others, and their failure is the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

from starlette.types import Message, Send

from asgi_llm._asgi import stream_error
from asgi_llm.errors import LLMError, ProviderUnavailableError, RawHeaders
from asgi_llm.providers._exchange import Exchange, drain, provider_error, read_error
from asgi_llm.providers._translated_stream import sum_usage
from asgi_llm.providers._watch import ClientWatch
from asgi_llm.providers.base import StreamDecoder
from asgi_llm.state import ATTEMPTS, FAILURE, RESPONSE_MODEL, USAGE
from asgi_llm.transports._decoding import decoded
from asgi_llm.transports.base import TransportError, UpstreamRequest, UpstreamResponse
from asgi_llm.types import Attempt, Usage
from asgi_llm.wire.estimate import estimate_usage

__all__ = ["FanOut", "side_by_side"]

T = TypeVar("T")

_Chunk = tuple[UpstreamResponse, bytes]

_AT_ONCE: Final = 8
"""Calls under way at the same time; the next begins when one of them is over."""


class FanOut(Exchange):
    """All calls of one translation. See ``Exchange``.

    Streaming: the streams are read side by side and passed on as they come, one chunk at a time:
    what has not been sent keeps its upstream waiting.
    """

    __slots__ = ("_asked", "_attempts", "_ready", "_turn", "_usage")

    _attempts: int
    """Calls made for the request, those of this answer included."""
    _asked: list[StreamDecoder]
    """Decoders of the streams that have been asked for."""
    _ready: asyncio.Queue[_Chunk | None]
    """What is to be sent next; None after the last."""
    _turn: asyncio.Lock
    """Held by the stream that hands over a chunk, so that they are sent as they were decoded."""
    _usage: Usage | None

    async def run(self, send: Send, watch: ClientWatch) -> None:
        """Make the calls and relay their one answer.

        Raises:
            ProviderError: There is no answer to relay; nothing was sent to the client.
        """
        failure: LLMError | None = None
        before = self._state.get(ATTEMPTS) or ()
        self._attempts = len(before) + 1 + len(self._translation.more)
        try:
            if self._translation.document.get("stream"):
                failure = await self._stream_all(send, watch)
            else:
                await self._whole_all(send, watch)
        except LLMError as error:
            failure = error
            raise
        finally:
            self._state.set(RESPONSE_MODEL, self._translation.deployment.model)
            if failure is not None:
                self._state.set(FAILURE, failure)

    def _headers(self, response: UpstreamResponse) -> RawHeaders:
        # Calls that are not over yet are in no list of attempts.
        attempts = b"%d" % self._attempts
        return [
            (name, attempts if name == b"x-attempts" else value)
            for name, value in super()._headers(response)
        ]

    async def _whole_all(self, send: Send, watch: ClientWatch) -> None:
        calling, translation = self._calling, self._translation
        requests = (translation.request, *translation.more)
        # The cap is on the answer that they make together.
        max_bytes = max(1, calling.max_response_bytes // len(requests))
        places = asyncio.Semaphore(_AT_ONCE)

        async def read(response: UpstreamResponse) -> tuple[UpstreamResponse, bytes]:
            body = await response.read(max_bytes)
            if calling.with_headers is not None:
                body = calling.with_headers(translation, response.headers, body)
            return response, body

        async def ask(request: UpstreamRequest) -> tuple[UpstreamResponse, bytes]:
            async with places:
                return await self._call(request, read)

        answers = await side_by_side([ask(request) for request in requests])
        body, usage = calling.provider.parse_response(translation, *(data for _, data in answers))
        if usage is not None:
            self._state.set(USAGE, usage)
        headers = self._headers(answers[0][0])
        headers += (
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
        )
        watch.sending = message = {"type": "http.response.body", "body": body}
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(message)
        watch.sending = None

    async def _stream_all(self, send: Send, watch: ClientWatch) -> LLMError | None:
        self._ready = asyncio.Queue(1)
        self._turn = asyncio.Lock()
        self._usage = None
        self._asked = []
        reading = asyncio.get_running_loop().create_task(self._read_all())
        started = False
        message: Message
        try:
            while (chunk := await self._ready.get()) is not None:
                response, data = chunk
                message = {"type": "http.response.body", "body": data, "more_body": True}
                watch.sending = message
                if not started:
                    started = True
                    await self._start_stream(response, send)
                await send(message)
                watch.sending = None
            failure = await reading
        finally:
            # It outlives the request in no case.
            reading.cancel()
            await asyncio.wait((reading,))
        end = b""
        if failure is not None:
            if not started or not isinstance(failure, LLMError):
                raise failure
            end = stream_error(failure)
            self._usage = self._estimate()
        if self._usage is not None:
            self._state.set(USAGE, self._usage)
        watch.sending = message = {"type": "http.response.body", "body": end}
        await send(message)
        watch.sending = None
        return failure

    async def _read_all(self) -> Exception | None:
        """Read all streams to their end; what went wrong, if something did."""
        translation = self._translation
        requests = (translation.request, *translation.more)
        places = asyncio.Semaphore(_AT_ONCE)

        async def read(request: UpstreamRequest, decoder: StreamDecoder) -> None:
            async with places:
                self._asked.append(decoder)
                await self._call(request, lambda response: self._pump(response, decoder))

        failure: Exception | None = None
        try:
            decoders = self._calling.provider.stream_decoders(translation)
            await side_by_side([read(*pair) for pair in zip(requests, decoders, strict=True)])
        except Exception as error:
            # Whatever it is: who waits for the next chunk has to be told.
            failure = error
        await self._ready.put(None)
        return failure

    async def _pump(self, response: UpstreamResponse, decoder: StreamDecoder) -> None:
        """Hand on what one stream brings until it is over."""
        if not self._is_stream(response):
            body = await response.read(self._calling.max_response_bytes)
            self._calling.provider.parse_response(self._translation, body)
            raise ProviderUnavailableError(
                "The provider did not answer with a stream.", code="invalid_provider_response"
            )
        chunks = aiter(response)
        async for chunk in chunks:
            await self._hand_over(response, decoder, partial(decoder.feed, chunk))
            if decoder.done or decoder.error is not None:
                break
        else:
            await self._hand_over(response, decoder, partial(decoder.close, framed=response.framed))
        if decoder.error is not None:
            raise decoder.error
        await drain(chunks)

    async def _hand_over(
        self, response: UpstreamResponse, decoder: StreamDecoder, decode: Callable[[], bytes]
    ) -> None:
        async with self._turn:
            out = decode()
            if decoder.done:
                # The last of them to be done knows of all.
                self._usage = decoder.usage
            if out:
                await self._ready.put((response, out))

    def _estimate(self) -> Usage | None:
        """Usage of a stream that broke off: what each call said, else a guess."""
        usage: Usage | None = None
        for decoder in self._asked:
            said = decoder.usage
            if said is None or not decoder.done:
                document = self._translation.document
                said = estimate_usage(document, decoder.output_characters, said)
            usage = sum_usage(usage, said)
        return usage

    async def _call(
        self, request: UpstreamRequest, use: Callable[[UpstreamResponse], Awaitable[T]]
    ) -> T:
        """Make one call and do with its answer what is to be done; note the attempt.

        Raises:
            ProviderError: Also for what the transport raises.
        """
        calling = self._calling
        begun = calling.clock()
        status: int | None = None
        first_byte: float | None = None
        failure: LLMError | None = None
        try:
            if calling.authorize is not None:
                request = await calling.authorize(request)
            response = await calling.transport.send(request, calling.timeouts)
            status, first_byte = response.status, calling.clock() - begun
            try:
                if not 200 <= status < 300:
                    body = await read_error(response)
                    raise calling.provider.parse_error(status, response.headers, body)
                return await use(decoded(response))
            finally:
                await response.aclose()
        except TransportError as error:
            failure = provider_error(error, calling.provider.name)
            raise failure from error
        except LLMError as error:
            failure = error
            raise
        finally:
            attempt = Attempt(
                provider=self._translation.deployment.provider,
                model=self._translation.deployment.model,
                status=status,
                error_code=None if failure is None else failure.code,
                duration_seconds=calling.clock() - begun,
                time_to_first_byte_seconds=first_byte,
            )
            self._state.set(ATTEMPTS, (*(self._state.get(ATTEMPTS) or ()), attempt))


async def side_by_side(steps: list[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines; what they return, in their order.

    The first failure ends the others, and is raised as it is.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(step) for step in steps]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
