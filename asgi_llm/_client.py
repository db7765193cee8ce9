"""An HTTP client over an ASGI app in the same process, with no socket, that streams.

httpx's own transport for ASGI apps keeps the whole answer back until the app has returned, so that
a stream arrives as one piece and leaving early is impossible.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from collections.abc import AsyncIterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, overload

from starlette.types import ASGIApp, Message, Scope

from asgi_llm import _optional, errors
from asgi_llm._traceback import describe
from asgi_llm.errors import ConfigurationError, InternalError, RawHeaders
from asgi_llm.state import State

if TYPE_CHECKING:
    import httpx2

__all__ = ["client"]

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT_SECONDS = 600.0


@overload
def client(
    app: ASGIApp,
    *,
    module: None = None,
    base_url: str = ...,
    root_path: str = ...,
    client_address: tuple[str, int] = ...,
    raise_app_exceptions: bool = ...,
    grace_seconds: float = ...,
    **options: Any,
) -> httpx2.AsyncClient: ...


@overload
def client(
    app: ASGIApp,
    *,
    module: ModuleType,
    base_url: str = ...,
    root_path: str = ...,
    client_address: tuple[str, int] = ...,
    raise_app_exceptions: bool = ...,
    grace_seconds: float = ...,
    **options: Any,
) -> Any: ...


def client(
    app: ASGIApp,
    *,
    module: ModuleType | None = None,
    base_url: str = "http://asgi-llm.local",
    root_path: str = "",
    client_address: tuple[str, int] = ("127.0.0.1", 0),
    raise_app_exceptions: bool = False,
    grace_seconds: float = 1.0,
    **options: Any,
) -> Any:
    """Make an ``AsyncClient`` whose requests are calls of ``app``.

    For ``AsyncOpenAI(http_client=client(gateway))``, or by itself. Closing the client ends what is
    still running.

    Args:
        app: Any ASGI app.
        module: ``httpx2`` or ``httpx``; without it httpx2 if installed, else httpx.
        base_url: What relative URLs are joined to. The app is called whatever the host is.
        root_path: The scope's ``root_path``; paths must start with it, as under a real mount.
        client_address: What the app sees as the client's address.
        raise_app_exceptions: Let an exception of the app out of the client, instead of a 500, or a
            connection that breaks off if the response had started.
        grace_seconds: How long an app may go on after the client has left (it gets a real
            ``http.disconnect``, then it is cancelled), and how long the end of a whole response
            waits for the app to return. At least 0.
        options: Further options of ``AsyncClient``. ``timeout`` is 600 seconds if not given.

    Raises:
        ConfigurationError: Neither module is installed, or an option is wrong.

    Streaming: at most one chunk waits for the reader; the app's ``send`` waits with the next.
    """
    if grace_seconds < 0:
        raise ConfigurationError("grace_seconds must be at least 0", param="grace_seconds")
    if module is None:
        installed = importlib.util.find_spec("httpx2") or not importlib.util.find_spec("httpx")
        module = _optional.require("httpx2" if installed else "httpx", extra="httpx")
    transport = _Transport(
        app,
        module,
        root_path=root_path,
        client_address=client_address,
        raise_app_exceptions=raise_app_exceptions,
        grace_seconds=grace_seconds,
    )
    options.setdefault("timeout", DEFAULT_TIMEOUT_SECONDS)
    # A proxy from the environment would take the requests away from the app.
    options.setdefault("trust_env", False)
    return module.AsyncClient(transport=transport, base_url=base_url, **options)


class _Transport:
    """The transport of an ``AsyncClient``, for either module."""

    def __init__(
        self,
        app: ASGIApp,
        module: Any,
        *,
        root_path: str,
        client_address: tuple[str, int],
        raise_app_exceptions: bool,
        grace_seconds: float,
    ) -> None:
        self.app = app
        self.module = module
        self.raise_app_exceptions = raise_app_exceptions
        self.grace_seconds = grace_seconds
        self._root_path = root_path
        self._client_address = client_address
        self._exchanges: set[_Exchange] = set()
        # Both modules ask for an instance of their own base class.
        self._body_type: Any = type("_ResponseBody", (_Body, module.AsyncByteStream), {})

    async def __aenter__(self) -> _Transport:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def handle_async_request(self, request: Any) -> Any:
        exchange = _Exchange(self, request)
        self._exchanges.add(exchange)
        exchange.task.add_done_callback(lambda _: self._exchanges.discard(exchange))
        try:
            status, headers = await exchange.start()
        except BaseException:
            await exchange.leave()
            raise
        return self.module.Response(
            status,
            headers=headers,
            stream=self._body_type(exchange),
            extensions={"http_version": b"HTTP/1.1"},
        )

    async def aclose(self) -> None:
        """Leave every response that is still open, and wait for the apps to return."""
        await asyncio.gather(*(exchange.leave() for exchange in tuple(self._exchanges)))

    def scope(self, request: Any) -> Scope:
        """The ASGI scope of ``request``."""
        url = request.url
        return {
            "type": "http",
            # From 2.4 on `send` says with an OSError that the client has left.
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": request.method,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "scheme": url.scheme,
            "path": url.path,
            "raw_path": url.raw_path.split(b"?")[0],
            "query_string": url.query,
            "server": (url.host, url.port or (443 if url.scheme == "https" else 80)),
            "client": self._client_address,
            "root_path": self._root_path,
        }


class _ClientLeft(OSError):
    """Raised by ``send`` once the response is closed."""


class _Exchange:
    """One request: the app's task on one side, the reader of the response on the other."""

    def __init__(self, transport: _Transport, request: Any) -> None:
        self._transport = transport
        self._module = transport.module
        self._request = request
        timeouts = request.extensions.get("timeout", {})
        self._read_timeout: float | None = timeouts.get("read")
        self._without_body = request.method == "HEAD"
        self._upload: AsyncIterator[bytes] | None = None
        self._upload_ended = False
        self._upload_error: BaseException | None = None
        self._start: tuple[int, RawHeaders] | None = None
        self._chunk: bytes | None = None
        self._complete = False
        self._error: Exception | None = None
        self._closed = False
        self._gone = asyncio.Event()
        # One of each is waited for at a time: by the reader for the app, by the app for the reader.
        self._for_reader = asyncio.Event()
        self._for_app = asyncio.Event()
        self.task = asyncio.create_task(self._run())

    async def start(self) -> tuple[int, RawHeaders]:
        """Status and headers, once the app has sent them."""
        while self._start is None:
            if self._upload_error is not None:
                raise self._upload_error
            if self.task.done():
                return self._answer_for_app()
            await self._news()
        return self._start

    def _answer_for_app(self) -> tuple[int, RawHeaders]:
        error, self._error = self._error, None
        if error is None:
            logger.error("the app returned without an answer")
        elif self._transport.raise_app_exceptions:
            raise error
        else:
            logger.error("the app failed:\n%s", describe(error))
        told = InternalError("The app failed to answer.")
        status, headers, self._chunk = errors.render(told, State().request_id)
        self._complete = True
        return status, headers

    async def next_chunk(self) -> bytes | None:
        """The next piece of the body; None is its end."""
        while True:
            chunk, self._chunk = self._chunk, None
            if chunk is not None:
                self._for_app.set()
                return chunk
            if self._complete:
                return None
            if self._upload_error is not None:
                raise self._upload_error
            if self.task.done():
                raise self._breaking()
            await self._news()

    def _breaking(self) -> BaseException:
        error, self._error = self._error, None
        if error is not None:
            if self._transport.raise_app_exceptions:
                return error
            logger.error("the app failed after its answer began:\n%s", describe(error))
        broken: BaseException = self._module.RemoteProtocolError(
            "the app broke its answer off", request=self._request
        )
        return broken

    async def _news(self) -> None:
        """Wait until the app has sent something, or has ended."""
        self._for_reader.clear()
        try:
            async with asyncio.timeout(self._read_timeout):
                await self._for_reader.wait()
        except TimeoutError as error:
            raise self._module.ReadTimeout(
                f"nothing from the app within {self._read_timeout:g} seconds",
                request=self._request,
            ) from error

    async def close(self) -> None:
        """The reader needs no more: wait for the app to return, or leave it."""
        if not self._complete:
            await self.leave()
            return
        self._closed = True
        self._chunk = None
        # What goes on for longer is a background task, and none of the reader's business.
        await asyncio.wait({self.task}, timeout=self._transport.grace_seconds)
        self._report()

    async def leave(self) -> None:
        """Be gone: the app hears of it, gets its grace, and is cancelled."""
        self._closed = True
        self._gone.set()
        self._for_app.set()
        grace = self._transport.grace_seconds
        try:
            await asyncio.wait({self.task}, timeout=grace)
        finally:
            self.task.cancel()
        await asyncio.wait({self.task}, timeout=grace)
        self._report()

    async def _run(self) -> None:
        try:
            await self._transport.app(
                self._transport.scope(self._request), self._receive, self._send
            )
        except Exception as error:
            self._error = error
        finally:
            # After the end `receive` and `send` are as they are for a client that has left.
            self._gone.set()
            self._for_reader.set()
            if self._closed:
                self._report()

    def _report(self) -> None:
        """Log the app's error, if no reader has met it. An OSError is how it learns of leaving."""
        error, self._error = self._error, None
        if error is not None and (self._complete or not isinstance(error, OSError)):
            logger.error("the app failed after its answer was read or left:\n%s", describe(error))

    async def _receive(self) -> Message:
        if not self._upload_ended and not self._gone.is_set():
            return await self._read_upload()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _read_upload(self) -> Message:
        if self._upload is None:
            try:
                body: bytes = self._request.content
            except self._module.RequestNotRead:
                self._upload = self._request.stream.__aiter__()
            else:
                self._upload_ended = True
                return {"type": "http.request", "body": body, "more_body": False}
        # Ended unless the next line returns: an iterator that was interrupted goes on as if it
        # were at its end, and half a body must not pass for a whole one.
        self._upload_ended = True
        try:
            chunk = await self._upload.__anext__()
        except StopAsyncIteration:
            return {"type": "http.request", "body": b"", "more_body": False}
        except Exception as error:
            self._upload_error = error
            self._gone.set()
            self._for_reader.set()
            return {"type": "http.disconnect"}
        self._upload_ended = False
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def _send(self, message: Message) -> None:
        if self._gone.is_set():
            raise _ClientLeft("the response is closed")
        kind = message["type"]
        if kind == "http.response.start":
            if self._start is not None:
                raise RuntimeError("the response has started already")
            self._start = (message["status"], list(message.get("headers", ())))
            self._for_reader.set()
        elif kind == "http.response.body":
            if self._start is None:
                raise RuntimeError("the response has not started")
            await self._put(message.get("body", b""), message.get("more_body", False))

    async def _put(self, chunk: bytes, more: bool) -> None:
        while chunk and not self._without_body:
            if self._chunk is None:
                self._chunk = chunk
                break
            self._for_app.clear()
            await self._for_app.wait()
            if self._gone.is_set():
                raise _ClientLeft("the response is closed")
        if not more:
            self._complete = True
            self._gone.set()
        self._for_reader.set()


class _Body:
    """The body of one response, read as the app sends it."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (chunk := await self._exchange.next_chunk()) is not None:
            yield chunk

    async def aclose(self) -> None:
        await self._exchange.close()
