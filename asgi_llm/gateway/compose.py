"""A stack of layers and the app inside, made into one ASGI app with a boundary around it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, Protocol, cast, runtime_checkable

from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_llm._asgi import is_event_stream, send_error, stream_error
from asgi_llm._traceback import describe
from asgi_llm.errors import ConfigurationError, InternalError, LLMError, RawHeaders
from asgi_llm.gateway import openapi as _openapi
from asgi_llm.gateway._order import misplaced
from asgi_llm.gateway._startup import answer_lifespan
from asgi_llm.gateway.health import Health
from asgi_llm.integrations._lifespan import Member
from asgi_llm.state import FAILURE, State, enter

__all__ = ["BrokenResponse", "Gateway", "LifespanFailed", "Resource", "Starting", "compose"]

logger = logging.getLogger(__name__)

CLOSE_INTERNAL_ERROR = 1011
CLOSE_NOT_FOUND = 4404


@runtime_checkable
class Resource(Protocol):
    """What is closed when the gateway ends. ``aclose`` may be called more than once."""

    async def aclose(self) -> None:
        """Close it."""
        ...


@runtime_checkable
class Starting(Protocol):
    """A resource with something to do before the first request. It works without a start too."""

    def start(self) -> None:
        """Begin on the running loop; nothing if it has begun."""
        ...


class BrokenResponse(RuntimeError):
    """A response broke off after its start; raised so that the server cuts the connection.

    It stands for the app's own exception, which is logged already and whose text may quote a
    prompt.
    """


class LifespanFailed(RuntimeError):
    """The app inside said that it cannot start, or did not end well."""


def compose(
    middleware: Sequence[Middleware],
    app: ASGIApp,
    *,
    resources: Sequence[Resource] = (),
    health: Health | None = None,
    openapi: Callable[[], dict[str, Any]] = _openapi.document,
) -> Gateway:
    """Put ``middleware`` around ``app``, outermost first, and a boundary around the whole.

    Any order is legal. One that loses money or leaks, such as a cache outside of authentication, is
    warned of in the log.

    Args:
        middleware: The layers. Those with an ``aclose`` are closed with the gateway.
        app: The app inside, as a rule a ``ProviderApp``. Closed with the gateway if it can be.
        resources: Stores and clients to close after them, in this order. Those with a ``start``
            are started with the gateway, where its host says when that is.
        health: Readiness, shared with a ``SystemMiddleware``.
        openapi: Makes the OpenAPI document that a host may merge into its own.
    """
    owned: list[Resource] = []
    stack = app
    kinds: list[str] = []
    scoped: set[int] = set()
    for index, (cls, args, kwargs) in reversed(list(enumerate(middleware))):
        stack = cls(stack, *args, **kwargs)
        kinds.insert(0, _kind_of(stack))
        if kinds[0] == "guardrails" and _names_callers(kwargs):
            scoped.add(index)
        if hasattr(stack, "aclose"):
            owned.insert(0, cast("Resource", stack))
    if hasattr(app, "aclose"):
        owned.append(app)
    for index, message in misplaced(kinds, asks_who=scoped):
        logger.warning("the stack's layer %s %s", kinds[index], message)
    return Gateway(
        stack, resources=[*owned, *resources], health=health or Health(), openapi=openapi
    )


_KINDS: Final = {
    "asgi_llm.middleware.telemetry.TelemetryMiddleware": "telemetry",
    "asgi_llm.middleware.auth.AuthMiddleware": "auth",
    "asgi_llm.middleware.rate_limit.RateLimitMiddleware": "rate_limit",
    "asgi_llm.middleware.cost.CostMiddleware": "cost",
    "asgi_llm.gateway._own_budgets.WhenReady": "cost",
    "asgi_llm.middleware.guardrails.GuardrailsMiddleware": "guardrails",
    "asgi_llm.middleware.exact_cache.ExactCacheMiddleware": "exact_cache",
    "asgi_llm.middleware.semantic_cache.SemanticCacheMiddleware": "semantic_cache",
    "asgi_llm.middleware.router.RouterMiddleware": "router",
}
"""By name, since nobody has to import a layer that is not in the stack."""


def _kind_of(layer: ASGIApp) -> str:
    """What a configuration calls the layer; empty for others."""
    classes = (f"{cls.__module__}.{cls.__qualname__}" for cls in type(layer).__mro__)
    return next((_KINDS[name] for name in classes if name in _KINDS), "")


def _names_callers(options: Mapping[str, Any]) -> bool:
    """Whether a guard of the layer is for some callers alone."""
    sides = [options.get(side) for side in ("input", "output")]
    return any(
        getattr(rail, "scopes", ())
        for side in sides
        if isinstance(side, list | tuple)
        for rail in side
    )


class Gateway:
    """One ASGI app: an error boundary and a lifespan around a stack. Made by ``compose``.

    An exception that escapes the stack becomes an answer where the response has not started; a
    stream that has ends with one error event; any other started response is cut off. Every response
    carries ``X-Request-ID``, and the client's own, if it is sane, as ``X-Client-Request-ID``.

    Args:
        app: The stack.
        resources: Closed in this order when the last lifespan ends.
        health: Readiness; ``health.drain()`` is for whoever stops the process.
        openapi: Makes the OpenAPI document.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        resources: Sequence[Resource],
        health: Health,
        openapi: Callable[[], dict[str, Any]],
    ) -> None:
        self.app = app
        self.health = health
        self.openapi = openapi
        self._last_words: LLMError | None = None
        self._resources = tuple(resources)
        self._lock = asyncio.Lock()
        self._users = 0
        self._inner = Member("the app inside", app)
        self._closing = AsyncExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            await self._http(scope, receive, send)
        elif kind == "websocket":
            await self._websocket(scope, receive, send)
        elif kind == "lifespan":
            await self._answer_lifespan(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope, state = enter(self._inner.see(scope))
        watched = _Send(state, send)
        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            if not watched.is_clients_doing(error):
                await _conclude(watched, error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._last_words is None or task is None:
                raise
            task.uncancel()
            await _conclude(watched, self._last_words)

    def expire(self, tasks: Iterable[asyncio.Task[object]], last_words: LLMError) -> None:
        """End requests under way: their clients get ``last_words``, where an answer allows it.

        Args:
            tasks: Those that serve the requests.
            last_words: What they are told. No request comes after it.
        """
        self._last_words = last_words
        for task in tasks:
            task.cancel()

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope, state = enter(self._inner.see(scope))
        last: str | None = None

        async def watched(message: Message) -> None:
            nonlocal last
            last = message["type"]
            await send(message)

        code = CLOSE_NOT_FOUND
        try:
            await self.app(scope, receive, watched)
            if last is not None:
                return
        except Exception as error:
            logger.error("websocket %s failed:\n%s", state.request_id, describe(error))
            if last == "websocket.close":
                return
            code = CLOSE_INTERNAL_ERROR
        try:
            await send({"type": "websocket.close", "code": code})
        except OSError:
            logger.debug("websocket %s: the client left first", state.request_id)

    async def _answer_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer_lifespan(lambda: self._open(scope.get("state")), self._close, receive, send)

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """From start to end of the gateway, for a host's ``lifespan=`` or an exit stack.

        May be entered more than once, by hosts that know nothing of each other: the first starts
        it, the last closes it. Nothing depends on it: what was never started opens when it is used.

        Args:
            app: The host, which such a callable gets; not used.

        Raises:
            LifespanFailed: The app inside has a lifespan of its own and did not start, or end.
        """
        await self._open(None)
        try:
            yield
        finally:
            await self._close()

    async def aclose(self) -> None:
        """Close layers, app and resources, each even if another failed. May be called again."""
        async with AsyncExitStack() as closing:
            for resource in reversed(self._resources):
                closing.push_async_callback(resource.aclose)

    async def _open(self, state: Mapping[str, Any] | None) -> None:
        async with self._lock:
            if self._users == 0:
                async with AsyncExitStack() as opening:
                    opening.push_async_callback(self.aclose)
                    opening.push_async_callback(await self._start_inner(state or {}))
                    for resource in self._resources:
                        if isinstance(resource, Starting):
                            resource.start()
                    self._closing = opening.pop_all()
            self._users += 1

    async def _start_inner(self, state: Mapping[str, Any]) -> Callable[[], Awaitable[None]]:
        asgi = {"version": "3.0", "spec_version": "2.0"}
        run = self._inner.run({"type": "lifespan", "asgi": asgi, "state": state})
        try:
            failure = await run.start()
        except BaseException:
            await run.cancel()
            raise
        if failure is not None:
            await run.cancel()
            raise LifespanFailed(failure)

        async def stop() -> None:
            failure = await run.stop()
            if failure is not None:
                await run.cancel()
                raise LifespanFailed(failure)

        return stop

    async def _close(self) -> None:
        async with self._lock:
            self._users -= 1
            if self._users == 0:
                await self._closing.aclose()


class _Send:
    """The ``send`` of one request: remembers how far the response got, and names the request."""

    __slots__ = ("_client_left", "_send", "_state", "last", "start")

    def __init__(self, state: State, send: Send) -> None:
        self._state = state
        self._send = send
        self._client_left: OSError | None = None
        self.start: Message | None = None
        self.last: Message | None = None

    async def __call__(self, message: Message) -> None:
        if self.start is None and message["type"] == "http.response.start":
            self.start = message = self._named(message)
        self.last = message
        try:
            await self._send(message)
        except OSError as error:
            self._client_left = error
            raise

    def _named(self, message: Message) -> Message:
        headers = message.get("headers", ())
        client = self._state.client_request_id
        named, echoed = False, client is None
        for name, _ in headers:
            if len(name) == 12 and name.lower() == b"x-request-id":
                named = True
            elif len(name) == 19 and name.lower() == b"x-client-request-id":
                echoed = True
        if named and echoed:
            return message
        added: RawHeaders = []
        if not named:
            added.append((b"x-request-id", self._state.request_id.encode("ascii")))
        if client is not None and not echoed:
            added.append((b"x-client-request-id", client.encode("ascii")))
        return {**message, "headers": [*headers, *added]}

    @property
    def complete(self) -> bool:
        """Whether the last message of the response was handed to the server."""
        last = self.last
        if last is None:
            return False
        return last["type"] == "http.response.pathsend" or (
            last["type"] == "http.response.body" and not last.get("more_body", False)
        )

    def is_clients_doing(self, error: BaseException) -> bool:
        """Whether ``error`` says no more than that the client left."""
        if isinstance(error, ClientDisconnect):
            return True
        return self._client_left is not None and _comes_of(error, self._client_left)

    async def end(self, error: LLMError) -> bool:
        """Tell the client of ``error`` where the response still allows it; False: it does not."""
        self._state.set(FAILURE, error)
        start = self.start
        if start is None:
            await send_error(self, self._state, error)
            return True
        headers = list(start.get("headers", ()))
        encoded = any(name.lower() == b"content-encoding" for name, _ in headers)
        if encoded or not is_event_stream(headers):
            return False
        last = self.last or {}
        # An event that was cut in the middle must not swallow ours.
        border = b"" if last.get("body", b"\n\n").endswith(b"\n\n") else b"\n\n"
        await self({"type": "http.response.body", "body": border + stream_error(error)})
        return True

    def log(self, error: BaseException) -> None:
        """Log ``error`` without any text of the request."""
        logger.error("request %s failed:\n%s", self._state.request_id, describe(error))


async def _conclude(send: _Send, error: Exception) -> None:
    """End a response whose app raised ``error``."""
    told = (
        error if isinstance(error, LLMError) and not isinstance(error, ConfigurationError) else None
    )
    if told is None or send.complete:
        send.log(error)
    if send.complete:
        return
    try:
        ended = await send.end(told or InternalError("The gateway failed to answer."))
    except OSError:
        # `end` does nothing but send: nobody is there to be told.
        return
    if not ended:
        if told is not None:
            send.log(error)
        raise BrokenResponse(
            "a response broke off after its start; the cause is in the log"
        ) from None


def _comes_of(error: BaseException | None, cause: BaseException) -> bool:
    """Whether ``error`` is ``cause``, or what a host made of it."""
    while error is not None:
        if error is cause:
            return True
        if isinstance(error, BaseExceptionGroup):
            return all(_comes_of(one, cause) for one in error.exceptions)
        error = error.__cause__ or error.__context__
    return False
