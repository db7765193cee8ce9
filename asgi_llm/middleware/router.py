"""Which target serves a request, and which others are tried when that one fails."""

from __future__ import annotations

import asyncio
import random as _random
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm._asgi import BufferedBody, check_length, read_body, route_path, send_error
from asgi_llm.errors import (
    ConfigurationError,
    InvalidRequestError,
    LLMError,
    PermissionDeniedError,
)
from asgi_llm.middleware._cache_request import is_json
from asgi_llm.middleware._cost_request import OPERATIONS
from asgi_llm.middleware._model_access import (
    INFERENCE_PATHS,
    MAX_MODEL_LENGTH,
    check_unseen_model,
)
from asgi_llm.middleware._router_attempt import RouterSettings
from asgi_llm.middleware._router_plan import Plan, PlannedRoute, plan_routes
from asgi_llm.middleware._router_request import RoutedRequest
from asgi_llm.routing.eligibility import Policy
from asgi_llm.routing.retries import Backoff, RetryBudget
from asgi_llm.routing.strategies import Load
from asgi_llm.routing.targets import Route, Target
from asgi_llm.state import FAILURE, PRINCIPAL, State, enter
from asgi_llm.stores.breakers import BreakerStore
from asgi_llm.stores.breakers_memory import MemoryBreakers
from asgi_llm.types import Document, Principal
from asgi_llm.wire.validation import validate

__all__ = ["RouterMiddleware"]

MIB: Final = 1024 * 1024

_MAX_DIRECT: Final = 1000

_OPENAI_PATHS: Final = frozenset(OPERATIONS) - {"/v1/responses", "/v1/messages"}
"""Where a request has a form of which is known what it needs."""


class RouterMiddleware:
    """Sends each request to a target of its model's route, and to another one where that fails.

    A failure is mended only as long as nothing has left to the client: not after the first byte.
    The targets of a route are tried in its strategy's order, then those of its fallbacks; left out
    are those whose breaker is open, those that cannot serve the request, and those that a policy
    or the caller's key does not allow. A model without a route is left to the app, and asked for
    again where it fails in a way that may pass.

    Only POSTs of JSON are routed; all else, uploads included, passes untouched. Put it inside of
    everything that judges or counts requests: what is outside sees one request, whatever it takes.

    Args:
        routes: What names of one's own stand for, and their fallbacks.
        resolve: Finds the target of a name that is no route, such as ``provider/model``; None:
            the app does, and the name has neither breaker nor load.
        policy: What is allowed for all requests, or a function of who asks.
        attempts: Calls for one request, the first included; from 1 to 100.
        deadline_seconds: For all of them together until an answer begins, above 0; None: none.
        attempt_seconds: For one of them until its answer begins, above 0; None: none.
        hedge_after_seconds: After so long without the beginning of an answer another target is
            called as well, above 0; the first to begin is the answer, the other is ended. It counts
            as an attempt, and against the budget. None: never.
        stream_peek_bytes: How much of a stream may be held back until its first content, at least
            0; 0 lets an error in its first event pass.
        rewrite_model: Whether the request's ``model`` becomes the target's, for apps that do not
            read ``DEPLOYMENT``.
        backoff: How long a target is left alone before it is tried again.
        retry_budget: How many further attempts all requests of this process may make together.
        breakers: Which targets are left alone. Default: in memory. The caller's to close.
        load: How busy and how fast targets are.
        inference_paths: Where a POST is routed, as ``route_path`` gives the path.
        max_body_bytes: Cap on a request's body, above 0.
        body_timeout_seconds: How long it may take, above 0.
        clock: Seconds that never go back.
        sleep: Waits.
        random: From 0 to below 1.

    Streaming: chunks pass as they come, from the first content on. An error of up to 256 KiB is
    held until it is whole.

    Raises:
        ConfigurationError: An option is wrong; ``param`` names it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: Iterable[Route] = (),
        resolve: Callable[[str], Target | None] | None = None,
        policy: Policy | Callable[[Principal | None], Policy] | None = None,
        attempts: int = 3,
        deadline_seconds: float | None = 600.0,
        attempt_seconds: float | None = None,
        hedge_after_seconds: float | None = None,
        stream_peek_bytes: int = 64 * 1024,
        rewrite_model: bool = False,
        backoff: Backoff | None = None,
        retry_budget: RetryBudget | None = None,
        breakers: BreakerStore | None = None,
        load: Load | None = None,
        inference_paths: Collection[str] = INFERENCE_PATHS,
        max_body_bytes: int = 32 * MIB,
        body_timeout_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = _random.random,
    ) -> None:
        for option, value in (
            ("deadline_seconds", deadline_seconds),
            ("attempt_seconds", attempt_seconds),
            ("hedge_after_seconds", hedge_after_seconds),
            ("max_body_bytes", max_body_bytes),
            ("body_timeout_seconds", body_timeout_seconds),
        ):
            if value is not None and not value > 0:
                raise ConfigurationError(f"{option} must be above 0, not {value!r}", param=option)
        if not 1 <= attempts <= 100:
            raise ConfigurationError("attempts is from 1 to 100", param="attempts")
        if stream_peek_bytes < 0:
            raise ConfigurationError(
                "stream_peek_bytes must be at least 0", param="stream_peek_bytes"
            )
        self.app = app
        self.breakers: BreakerStore = MemoryBreakers(clock=clock) if breakers is None else breakers
        self._routes = plan_routes(routes)
        self._resolve = resolve
        self._direct: dict[str, PlannedRoute] = {}
        if policy is None:
            policy = Policy()
        self._policy = (lambda _: policy) if isinstance(policy, Policy) else policy
        self._backoff = backoff or Backoff()
        self._load = Load(clock=clock) if load is None else load
        self._paths = frozenset(inference_paths)
        self._max_body_bytes = max_body_bytes
        self._body_timeout = body_timeout_seconds
        self._random = random
        self._settings = RouterSettings(
            app=app,
            attempts=attempts,
            deadline_seconds=deadline_seconds,
            attempt_seconds=attempt_seconds,
            hedge_after_seconds=hedge_after_seconds,
            peek_bytes=stream_peek_bytes,
            rewrite_model=rewrite_model,
            breakers=self.breakers,
            load=self._load,
            budget=retry_budget or RetryBudget(clock=clock),
            clock=clock,
            sleep=sleep,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        path = route_path(scope)
        if path not in self._paths:
            await self.app(scope, receive, send)
            return
        scope, state = enter(scope)
        routed: RoutedRequest | None = None
        try:
            if is_json(state.headers):
                check_length(scope, self._max_body_bytes)
                data = await read_body(receive, self._max_body_bytes, self._body_timeout)
                if data is None:
                    return
                found = self._read(path, data, state)
                if found is None:
                    receive = BufferedBody(data, receive).receive
                else:
                    routed = RoutedRequest(
                        self._settings, *found, scope, data, receive, send, state
                    )
            if routed is None:
                self._check_regions(state)
        except LLMError as error:
            state.set(FAILURE, error)
            await send_error(send, state, error)
            return
        if routed is None:
            await self.app(scope, receive, send)
        else:
            await routed.run()

    def _read(self, path: str, data: bytes, state: State) -> tuple[Plan, Document] | None:
        """Where the request may go; None: nowhere but to the app, which will refuse it.

        Raises:
            PermissionDeniedError: The model is not the caller's to use.
        """
        try:
            document = state.document(data)
        except InvalidRequestError:
            # The app refuses it in its own words.
            return None
        name = document.get("model") if type(document) is dict else None
        if type(name) is not str or len(name) > MAX_MODEL_LENGTH:
            return None
        operation = OPERATIONS.get(path, "chat")
        known: Document | None = None
        start = self._routes.get(name) or self._found(name)
        if start is not None:
            if path in _OPENAI_PATHS:
                try:
                    known = validate(operation, document)
                except InvalidRequestError:
                    return None
            check_unseen_model(state, name)
        else:
            self._check_regions(state)
        principal = state.get(PRINCIPAL)
        plan = Plan(
            start,
            operation,
            known,
            principal,
            self._policy(principal),
            self._load,
            self._backoff,
            self._random,
        )
        return plan, document

    def _check_regions(self, state: State) -> None:
        """Refuse what would go to a place that nobody here knows.

        Raises:
            PermissionDeniedError: The caller's data may go to some regions only.
        """
        if self._policy(state.get(PRINCIPAL)).regions is not None:
            raise PermissionDeniedError(
                "This key's requests may go to some regions only, and where this one would go is "
                "not known: ask for a model with targets in them.",
                param="model",
                code="region_not_allowed",
            )

    def _found(self, name: str) -> PlannedRoute | None:
        """The route of a name that is none of those configured."""
        if self._resolve is None:
            return None
        planned = self._direct.get(name)
        if planned is None:
            target = self._resolve(name)
            if target is None:
                return None
            planned = PlannedRoute(Route(name=name, targets=(target,)))
            if len(self._direct) >= _MAX_DIRECT:
                # Clients choose these names.
                self._direct.clear()
            self._direct[name] = planned
        return planned
