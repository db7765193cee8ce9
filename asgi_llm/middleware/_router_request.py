"""One request on its way through attempts, from the first to the one that the client gets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import Any, Final, cast

from starlette.types import Receive, Scope, Send

from asgi_llm import _json
from asgi_llm._asgi import BufferedBody, send_error
from asgi_llm.errors import InvalidRequestError, LLMError, ProviderUnavailableError
from asgi_llm.middleware._router_answer import AttemptAnswer
from asgi_llm.middleware._router_attempt import (
    RouterSettings,
    TargetAttempt,
    made_so_far,
    name_cause,
)
from asgi_llm.middleware._router_pause import pause
from asgi_llm.middleware._router_plan import Plan, Step
from asgi_llm.middleware._router_race import ABANDONED, Race, SharedReceive, Tried
from asgi_llm.routing.breaker import admit
from asgi_llm.routing.targets import Target
from asgi_llm.state import (
    DEPLOYMENT,
    FAILURE,
    RESPONSE_MODEL,
    SCOPE_KEY,
    TRANSLATION_LOSS,
    USAGE,
    State,
)
from asgi_llm.stores.breakers import BreakerStore
from asgi_llm.types import Document

__all__ = ["RoutedRequest"]

_OF_AN_ATTEMPT: Final = (FAILURE, USAGE, RESPONSE_MODEL, TRANSLATION_LOSS)


class RoutedRequest:
    """The attempts of one request.

    Args:
        settings: The router's.
        plan: Where it may go.
        document: Its body, parsed.
        scope: Its own.
        data: The body's bytes.
        receive: Of the client, behind the body.
        send: To the client.
        state: Its own.
    """

    __slots__ = (
        "_begun_at",
        "_data",
        "_document",
        "_number",
        "_plan",
        "_receive",
        "_scope",
        "_send",
        "_settings",
        "_state",
    )

    def __init__(
        self,
        settings: RouterSettings,
        plan: Plan,
        document: Document,
        scope: Scope,
        data: bytes,
        receive: Receive,
        send: Send,
        state: State,
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._scope = scope
        self._data = data
        self._document = document
        self._receive = receive
        self._send = send
        self._state = state
        self._number = 0
        self._begun_at = settings.clock()

    async def run(self) -> None:
        """Call the app until it has an answer, or nothing is left to try."""
        settings = self._settings
        settings.budget.requested()
        asking = settings.breakers.refresh()
        if asking is not None:
            await asking
        soonest = _Soonest()
        found = await self._admitted(self._plan.first(), soonest)
        if found is None:
            error = self._nobody(soonest)
            self._state.set(FAILURE, error)
            await send_error(self._send, self._state, error)
            return
        while found is not None:
            known = made_so_far(self._state)
            if settings.hedge_after_seconds is None or found[0].target is None or self._number:
                tried = await self._try(*found)
            else:
                tried = await self._race(*found)
            if tried is None:
                return
            found = None
            if self._number < settings.attempts:
                try:
                    found = await self._another(self._plan.next(self._left_seconds()))
                except _ClientLeft:
                    return
            if found is None:
                await self._finish(tried)
                return
            tried.answer.drop()
            name_cause(self._state, known, ABANDONED)
            self._state.discard(*_OF_AN_ATTEMPT)

    async def _try(self, step: Step, lease: str) -> Tried | None:
        """Make one attempt. None: the request is over."""
        holds = self._number + 1 < self._settings.attempts
        tried = self._prepare(step, lease, self._state, holds=holds)
        failure = await tried.run()
        if failure is None or tried.answer.begun:
            await tried.answer.release()
            return None
        self._plan.failed(step.target, failure)
        return tried

    async def _race(self, step: Step, lease: str) -> Tried | None:
        """The same with a second one, where the first does not begin to answer in time."""
        settings = self._settings

        def prepare(step: Step, lease: str) -> Tried:
            self._plan.begun(step.target)
            return self._prepare(step, lease, self._state.branch(), holds=True)

        async def find() -> tuple[Step, str] | None:
            if self._number >= settings.attempts:
                return None
            found = await self._another(self._plan.spare(), is_spare=True)
            if found is None or race.is_open:
                return found
            # The first has come to an end in the meantime.
            target, lease = found[0].target, found[1]
            if target is not None and lease:
                settings.breakers.released(target.id, lease)
            return None

        shared = SharedReceive(self._receive)
        self._receive = shared
        try:
            race = Race(prepare(step, lease), self._state)
            failed = await race.run(find, prepare, settings.hedge_after_seconds or 0.0)
        finally:
            self._receive = await shared.aclose()
        for tried, failure in failed:
            self._plan.failed(tried.target, failure)
        return failed[-1][0] if failed else None

    def _prepare(self, step: Step, lease: str, state: State, *, holds: bool) -> Tried:
        """An attempt that is to be made, and counts."""
        settings = self._settings
        self._number += 1
        left = self._left_seconds()
        attempt = TargetAttempt(settings, step.target, lease, state)
        answer = AttemptAnswer(
            self._send,
            state,
            number=self._number,
            holds=holds and left > 0,
            peek_bytes=0 if step.target is None else settings.peek_bytes,
            on_begin=attempt.begin,
        )
        return Tried(attempt, answer, *self._call(step.target, state), left)

    def _call(self, target: Target | None, state: State) -> tuple[Scope, Receive]:
        """What the app is called with."""
        body = BufferedBody(self._data, self._receive)
        scope = self._scope
        if state is not self._state:
            scope = {**cast("Mapping[str, Any]", scope), SCOPE_KEY: state}
        if target is not None:
            state.set(DEPLOYMENT, target.deployment)
            if self._settings.rewrite_model:
                model = target.deployment.model
                scope = body.replace(scope, _json.encode({**self._document, "model": model}))
        return scope, body.receive

    def _left_seconds(self) -> float:
        deadline = self._settings.deadline_seconds
        if deadline is None:
            return inf
        return deadline - (self._settings.clock() - self._begun_at)

    async def _admitted(self, steps: Iterator[Step], soonest: _Soonest) -> tuple[Step, str] | None:
        """The first of the steps whose target may be called, and the lease of its breaker."""
        breakers = self._settings.breakers
        for step in steps:
            if step.target is None:
                return step, ""
            lease = await admit(breakers, step.target.id)
            if lease is not None:
                return step, lease
            soonest.note(breakers, step.target.id)
        return None

    async def _another(
        self, steps: Iterator[Step], *, is_spare: bool = False
    ) -> tuple[Step, str] | None:
        """The same for a further attempt, which waits for its turn.

        The budget pays for what adds to the load of a target in trouble, and for a spare attempt
        that nobody may need; to go on to a target that has not failed is what targets are for, and
        is bounded by the attempts of a request and by breakers.

        Raises:
            _ClientLeft: While it was waited for.
        """
        settings = self._settings
        paid = False
        for step in steps:
            name = None if step.target is None else step.target.id
            standing = None if name is None else settings.breakers.standing(name)
            if standing is not None and standing.retry_after_seconds > step.wait_seconds:
                continue
            if step.wait_seconds >= self._left_seconds():
                continue
            if (step.repeats or is_spare) and not paid:
                if not settings.budget.take():
                    return None
                paid = True
            if step.wait_seconds > 0 and not await pause(
                step.wait_seconds, self._receive, settings.sleep
            ):
                raise _ClientLeft
            lease = "" if name is None else await admit(settings.breakers, name)
            if lease is not None:
                return step, lease
        return None

    async def _finish(self, tried: Tried) -> None:
        """Give the client the last failure: nothing is left to try."""
        if tried.answer.status is not None:
            await tried.answer.release()
            return
        error = tried.attempt.error
        if error is not None:
            if self._number > 1:
                error.headers = (*error.headers, (b"x-attempts", b"%d" % self._number))
            self._state.set(FAILURE, error)
            await send_error(self._send, self._state, error)

    def _nobody(self, soonest: _Soonest) -> LLMError:
        """The error for a request that nobody was called for."""
        model = self._document["model"]
        if soonest.seconds is not None:
            return ProviderUnavailableError(
                f"All that serves the model {model!r} has failed lately and is left alone.",
                status=503,
                retry_after_seconds=max(1.0, soonest.seconds),
            )
        reasons = "; ".join(self._plan.refusals) or "none is allowed"
        return InvalidRequestError(
            f"No target of the model {model!r} can serve this request: {reasons}.",
            param="model",
            code="no_eligible_target",
        )


class _ClientLeft(Exception):
    """Nobody waits for the answer any more."""


class _Soonest:
    """When the first of the targets that are left alone may be called again."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds: float | None = None

    def note(self, breakers: BreakerStore, target: str) -> None:
        """Take a target that may not be called into account."""
        standing = breakers.standing(target)
        seconds = 0.0 if standing is None else standing.retry_after_seconds
        self.seconds = seconds if self.seconds is None else min(self.seconds, seconds)
