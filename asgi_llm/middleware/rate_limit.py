"""How much a caller may ask for: requests, tokens and concurrency."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Final, Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_llm._asgi import BufferedBody, route_path, send_error
from asgi_llm.errors import (
    ConfigurationError,
    InternalError,
    InvalidRequestError,
    LLMError,
    RawHeaders,
    StoreError,
)
from asgi_llm.middleware._caller_address import AddressReader
from asgi_llm.middleware._limit_answers import admission, denial, refusal
from asgi_llm.middleware._limit_calls import LimitCalls
from asgi_llm.middleware._limit_cost import Reservation, reserve_output
from asgi_llm.middleware._limit_plan import UNKNOWN_MODEL, Plan, Planner, is_by_address, model_of
from asgi_llm.middleware._limit_rules import LimitRules, parse_limit, read_limits
from asgi_llm.middleware._limited_answer import Asked, HeldAnswer, ToldAnswer
from asgi_llm.middleware._model_access import INFERENCE_PATHS, is_upload
from asgi_llm.state import FAILURE, LIMIT_STATUS, PRINCIPAL, State, enter
from asgi_llm.stores.base import Decision, Demand, LimitStatus, LimitStore
from asgi_llm.stores.limits_memory import MemoryLimits
from asgi_llm.types import Document, Limit, LimitReport, Principal
from asgi_llm.wire._explain import name_kind
from asgi_llm.wire.tokens import EstimatedTokens, TokenCounter
from asgi_llm.wire.upload import Upload

__all__ = ["RateLimitMiddleware", "parse_limit"]

logger = logging.getLogger(__name__)

MIB: Final = 1024 * 1024
_MAX_TOKENS: Final = 2**31 - 1
_UNCHECKED: Final = LimitReport("unchecked")


class RateLimitMiddleware:
    """Lets through what the caller's limits allow, and answers the rest with 429.

    All limits of a request are taken in one step, or none is. Tokens are reserved before the call
    (the input as counted, and the output that the request may have) and settled when it is over:
    with the usage that an app inside has left in the state, else with what the answer says, else
    with an estimate. A place among concurrent requests is held until the last byte has left.

    Only POSTs to the inference paths count; all else passes untouched. The body is read only where
    a limit of tokens or of models concerns the caller, and the answer only for tokens.

    Who is calling is the principal in the state. Without one it is the client's address, with IPv6
    counted by networks of 64 bits. A limit whose scope the caller has no id for, such as a team,
    does not concern the request; ``caller`` and ``address`` always do.

    Args:
        limits: For every request, as texts (``60 requests/minute per user``), ``Limit`` or
            mappings.
        tiers: Limits by tier. A principal's own stand in the place of those of the same scope, unit
            and window.
        default_tier: For callers without a tier, or with one that is not in ``tiers``; None: no
            tier's limits concern them.
        model_limits: Limits by a pattern of model names (as in ``fnmatch``, case kept). Every
            pattern that fits applies, and the models that fit it share the limit, unless its scope
            says that each has its own.
        store: Where limits are counted. Default: the memory of this process.
        mode: ``observe`` counts and refuses nothing; the state says what would have been.
        on_store_error: What becomes of a request when the store fails or is too late: ``allow``
            lets it through uncounted, ``deny`` answers 503.
        store_timeout_seconds: Deadline of a call of the store, above 0; None: it needs none. A
            store that has its own (an attribute ``timeout_seconds``) keeps that.
        trusted_proxies: Addresses and networks whose ``X-Forwarded-For`` counts.
        default_output_tokens: Reserved for the output of one choice where neither the client nor
            ``max_output_tokens`` says more, at least 0.
        max_output_tokens: The most that models of a pattern give in one choice: reserved where the
            client names no maximum, and never more than this where it does. The first that fits
            counts.
        token_counter: Counts the input. Default: a token for every four bytes.
        lease_seconds: How long the reservations of a worker that died are kept, above 0.
        inference_paths: Where a POST counts, as ``route_path`` gives the path.
        max_body_bytes: Cap on a body that is read here, above 0.
        body_timeout_seconds: How long it may take, above 0.
        clock: Seconds, monotonic, for the default store and for the log.

    Attributes:
        refusals: Requests that were refused, or would have been.

    Streaming: chunks pass as they come; of an answer whose tokens count, the last 64 KiB are kept.

    Raises:
        ConfigurationError: An option is wrong; ``param`` names it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: LimitRules = (),
        tiers: Mapping[str, LimitRules] | None = None,
        default_tier: str | None = None,
        model_limits: Mapping[str, LimitRules] | None = None,
        store: LimitStore | None = None,
        mode: Literal["enforce", "observe"] = "enforce",
        on_store_error: Literal["allow", "deny"] = "allow",
        store_timeout_seconds: float | None = 0.05,
        trusted_proxies: Iterable[str] = (),
        default_output_tokens: int = 1024,
        max_output_tokens: Mapping[str, int] | None = None,
        token_counter: TokenCounter | None = None,
        lease_seconds: float = 60.0,
        inference_paths: Collection[str] = INFERENCE_PATHS,
        max_body_bytes: int = 32 * MIB,
        body_timeout_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        tiers = tiers or {}
        _check_choice("mode", mode, ("enforce", "observe"))
        _check_choice("on_store_error", on_store_error, ("allow", "deny"))
        if default_tier is not None and default_tier not in tiers:
            raise ConfigurationError(
                f"default_tier: there is no tier {default_tier!r}", param="default_tier"
            )
        for option, value in (
            ("store_timeout_seconds", store_timeout_seconds),
            ("lease_seconds", lease_seconds),
            ("max_body_bytes", max_body_bytes),
            ("body_timeout_seconds", body_timeout_seconds),
        ):
            if value is not None and not value > 0:
                raise ConfigurationError(f"{option} must be above 0, not {value!r}", param=option)
        self._max_output = dict(max_output_tokens or {})
        for option, tokens in (
            ("default_output_tokens", default_output_tokens),
            *((f"max_output_tokens.{pattern}", most) for pattern, most in self._max_output.items()),
        ):
            if type(tokens) is not int or not 0 <= tokens <= _MAX_TOKENS:
                raise ConfigurationError(
                    f"{option} must be a whole number from 0 to {_MAX_TOKENS}, not {tokens!r}",
                    param=option,
                )
        self.app = app
        self._planner = Planner(
            read_limits(limits, option="limits"),
            {name: read_limits(rules, option=f"tiers.{name}") for name, rules in tiers.items()},
            default_tier,
            {
                pattern: read_limits(rules, option=f"model_limits.{pattern}")
                for pattern, rules in (model_limits or {}).items()
            },
            self._note_unknown_tier,
        )
        self._calls = LimitCalls(
            MemoryLimits(clock=clock) if store is None else store,
            timeout_seconds=store_timeout_seconds,
            lease_seconds=lease_seconds,
            clock=clock,
            logger=logger,
        )
        self._enforce = mode == "enforce"
        self._deny = on_store_error == "deny"
        self._addresses = AddressReader(trusted_proxies)
        self._counter = EstimatedTokens() if token_counter is None else token_counter
        self._default_output = default_output_tokens
        self._paths = frozenset(inference_paths)
        self._max_body_bytes = max_body_bytes
        self._body_timeout = body_timeout_seconds
        self.refusals = 0

    @property
    def store_failures(self) -> int:
        """Calls of the store that failed or were too late."""
        return self._calls.failures

    async def standing(self, principal: Principal) -> list[tuple[Limit, LimitStatus]]:
        """How the limits of a caller stand, for those who look after callers. Takes nothing.

        Left out is what depends on a model or on where a request comes from.

        Raises:
            StoreError: The store failed, or was too late.
            ConfigurationError: A limit of the caller's own is out of range.
        """
        plan = self._planner.find(principal, "", None)
        looks = [
            Demand(demand.key, demand.limit, 0, demand.limit.unit == "concurrent_requests")
            for demand in plan.demands
            if not is_by_address(demand)
        ]
        if not looks:
            return []
        decision = await self._calls.take(looks, os.urandom(12).hex(), enforce=True)
        return [(look.limit, status) for look, status in zip(looks, decision.statuses, strict=True)]

    async def aclose(self) -> None:
        """Stop renewing leases. The store is closed by whoever made it."""
        self._calls.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        path = route_path(scope)
        if path not in self._paths:
            await self.app(scope, receive, send)
            return
        scope, state = enter(scope)
        principal = state.get(PRINCIPAL)
        known = self._planner.known(principal)
        address = None
        if known is None and self._planner.needs_address(principal):
            address = self._addresses.read(scope)
        lease = ""
        asked: Asked | None = None
        decision: Decision | None = None
        headers: RawHeaders = []
        failure: LLMError | None = None
        try:
            plan = known or self._planner.find(principal, address, None)
            demands = plan.demands
            if plan.by_model or plan.tokens:
                asked = await self._read(scope, receive, state, path, plan, principal, address)
                if asked is None:
                    return
                receive, plan, demands = asked.receive, asked.plan, asked.demands
            if demands:
                if plan.held:
                    lease = os.urandom(12).hex()
                decision = self._calls.take_at_once(demands, lease, enforce=self._enforce)
                if decision is None:
                    taking = self._calls.take(demands, lease, enforce=self._enforce)
                    decision = await (
                        self._undone(taking, plan, demands, lease) if lease else taking
                    )
                if decision.admitted:
                    said, headers = admission(plan, decision)
                else:
                    self.refusals += 1
                    said, headers = denial(plan, decision, enforce=self._enforce), []
                    if self._enforce:
                        failure = refusal(plan, demands, decision)
                state.set(LIMIT_STATUS, said)
        except StoreError as error:
            self._calls.note(error)
            state.set(LIMIT_STATUS, _UNCHECKED)
            if self._deny and self._enforce:
                failure = StoreError("The limits of this caller cannot be checked right now.")
        except ConfigurationError as error:
            logger.error("a caller's own limits cannot be read: %s", error.message)
            failure = InternalError("The limits of this caller cannot be checked.")
        except LLMError as error:
            failure = error
        if failure is not None:
            state.set(FAILURE, failure)
            await send_error(send, state, failure)
            return
        if decision is None:
            await self.app(scope, receive, send)
            return
        if not self._enforce:
            # Whoever is only watched is told nothing.
            headers = []
        if not plan.held:
            await self.app(scope, receive, ToldAnswer(send, headers) if headers else send)
            return
        held = _held(plan, demands)
        answer = HeldAnswer(send, headers, self._calls, held, lease, state, asked)
        await answer.run(self.app, scope, receive)

    async def _undone(
        self,
        taking: Awaitable[Decision],
        plan: Plan,
        demands: tuple[Demand, ...],
        lease: str,
    ) -> Decision:
        """``taking``; what it holds is given back where the request is cancelled meanwhile."""
        try:
            return await taking
        except asyncio.CancelledError:
            # Nobody knows whether the store had taken it by then.
            held = _held(plan, demands)
            await self._calls.settle(held, lease, [0] * len(held))
            raise

    async def _read(
        self,
        scope: Scope,
        receive: Receive,
        state: State,
        path: str,
        plan: Plan,
        principal: Principal | None,
        address: str | None,
    ) -> Asked | None:
        """Read what the limits depend on. None: the client left before the body was whole."""
        document: Document | None = None
        model = UNKNOWN_MODEL
        upload = is_upload(scope, path)
        if not upload or plan.by_model:
            body = await BufferedBody.read(
                scope, receive, max_bytes=self._max_body_bytes, timeout_seconds=self._body_timeout
            )
            if body is None:
                return None
            receive = body.receive
            try:
                if upload:
                    model = await self._model_of_form(scope, body.data)
                else:
                    document = _checked(state.document(body.data))
                    model = model_of(document)
            except InvalidRequestError:
                if self._enforce:
                    raise
        if plan.by_model:
            plan = self._planner.find(principal, address, model)
        reservation = Reservation(0, 0, False)
        demands = plan.demands
        if plan.tokens:
            if document is not None:
                reservation = await self._reserve(document, path, model)
            demands = tuple(
                [
                    Demand(demand.key, demand.limit, reservation.cost(demand), True)
                    if at in plan.tokens
                    else demand
                    for at, demand in enumerate(demands)
                ]
            )
        return Asked(receive, plan, demands, reservation.input_tokens)

    async def _reserve(self, document: Document, path: str, model: str) -> Reservation:
        try:
            output, guessed = reserve_output(
                document, path, model, default=self._default_output, most=self._max_output
            )
        except InvalidRequestError:
            if self._enforce:
                raise
            output, guessed = self._default_output, True
        count = await self._counter.count(document, model)
        return Reservation(count.tokens, output, guessed)

    async def _model_of_form(self, scope: Scope, data: bytes) -> str:
        upload = await Upload.read_head(
            scope, BufferedBody(data, _nothing_more).receive, max_bytes=self._max_body_bytes
        )
        if upload is None:
            return UNKNOWN_MODEL
        async with upload:
            return model_of(upload.document())

    def _note_unknown_tier(self, tier: str) -> None:
        if self._calls.may_log():
            logger.warning("there is no tier %.80r among the limits", tier)


def _held(plan: Plan, demands: tuple[Demand, ...]) -> tuple[Demand, ...]:
    return tuple([demands[at] for at in plan.held])


async def _nothing_more() -> Message:
    return {"type": "http.disconnect"}


def _checked(document: Any) -> Document:
    if type(document) is not dict:
        raise InvalidRequestError(
            f"The body has to be a JSON object, got {name_kind(document)}.", code="invalid_type"
        )
    return document


def _check_choice(option: str, value: str, choices: tuple[str, str]) -> None:
    if value not in choices:
        raise ConfigurationError(
            f"{option} must be {' or '.join(choices)}, not {value!r}", param=option
        )
