"""One answer that is made of several calls: choices, or batches, that a provider gives one by one.

All calls are made at once. The first that fails ends the others, and their failure is the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from starlette.types import Send

from asgi_llm._asgi import stream_error
from asgi_llm.errors import LLMError, ProviderError, ProviderUnavailableError
from asgi_llm.providers._exchange import Exchange, provider_error, read_error
from asgi_llm.providers._watch import ClientWatch
from asgi_llm.providers.base import StreamDecoder
from asgi_llm.state import ATTEMPTS, FAILURE, RESPONSE_MODEL, USAGE
from asgi_llm.transports._decoding import decoded
from asgi_llm.transports.base import TransportError, UpstreamRequest, UpstreamResponse
from asgi_llm.types import Attempt, Usage
from asgi_llm.wire.estimate import estimate_usage

__all__ = ["FanOut"]

T = TypeVar("T")

_AT_ONCE: Final = 8
"""Whole answers under way at the same time. Streams all are: each is a choice of its own."""


class FanOut(Exchange):
    """All calls of one translation. See ``Exchange``.

    Streaming: the streams are read side by side and passed on as they come, one chunk at a time:
    what has not been sent keeps its upstream waiting.
    """

    __slots__ = ("_first",)

    _first: UpstreamResponse

    async def run(self, send: Send, watch: ClientWatch) -> None:
        """Make the calls and relay their one answer.

        Raises:
            ProviderError: There is no answer to relay; nothing was sent to the client.
        """
        failure: LLMError | None = None
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

    async def _whole_all(self, send: Send, watch: ClientWatch) -> None:
        calling, translation = self._calling, self._translation
        requests = (translation.request, *translation.more)
        # The cap is on the answer that they make together.
        max_bytes = max(1, calling.max_response_bytes // len(requests))
        places = asyncio.Semaphore(_AT_ONCE)

        async def body_of(request: UpstreamRequest) -> bytes:
            async with places:
                return await self._call(request, lambda response: response.read(max_bytes))

        bodies = await _all([body_of(request) for request in requests])
        body, usage = calling.provider.parse_response(translation, *bodies)
        if usage is not None:
            self._state.set(USAGE, usage)
        headers = self._headers(self._first)
        headers += (
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
        )
        watch.sending = True
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        watch.sending = False

    async def _stream_all(self, send: Send, watch: ClientWatch) -> ProviderError | None:
        translation = self._translation
        requests = (translation.request, *translation.more)
        decoders = self._calling.provider.stream_decoders(translation)
        # One chunk waits at most; None after the last.
        ready: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        usage: Usage | None = None

        async def read(request: UpstreamRequest, decoder: StreamDecoder) -> None:
            nonlocal usage
            await self._call(request, lambda response: self._pump(response, decoder, ready))
            # Of all of them together, from the one that ends last.
            usage = decoder.usage

        async def read_all() -> ProviderError | None:
            failure: ProviderError | None = None
            try:
                await _all([read(*pair) for pair in zip(requests, decoders, strict=True)])
            except ProviderError as error:
                failure = error
            await ready.put(None)
            return failure

        reading = asyncio.get_running_loop().create_task(read_all())
        started = False
        try:
            while (chunk := await ready.get()) is not None:
                watch.sending = True
                if not started:
                    started = True
                    await self._start_stream(self._first, send)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                watch.sending = False
            failure = await reading
        finally:
            # It outlives the request in no case.
            reading.cancel()
            await asyncio.wait((reading,))
        if failure is not None:
            if not started:
                raise failure
            characters = sum(decoder.output_characters for decoder in decoders)
            usage = estimate_usage(translation.document, characters)
        if usage is not None:
            self._state.set(USAGE, usage)
        watch.sending = True
        end = b"" if failure is None else stream_error(failure)
        await send({"type": "http.response.body", "body": end})
        watch.sending = False
        return failure

    async def _pump(
        self,
        response: UpstreamResponse,
        decoder: StreamDecoder,
        ready: asyncio.Queue[bytes | None],
    ) -> None:
        """Hand on what one stream brings until it is over."""
        if not self._is_stream(response):
            body = await response.read(self._calling.max_response_bytes)
            self._calling.provider.parse_response(self._translation, body)
            raise ProviderUnavailableError(
                "The provider did not answer with a stream.", code="invalid_provider_response"
            )
        async for chunk in response:
            if out := decoder.feed(chunk):
                await ready.put(out)
            if decoder.done or decoder.error is not None:
                break
        else:
            if out := decoder.close(framed=response.framed):
                await ready.put(out)
        if decoder.error is not None:
            raise decoder.error

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
                self._first = response
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


async def _all(steps: list[Any]) -> list[Any]:
    """Run coroutines side by side; the first failure ends the others, and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(step) for step in steps]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
