"""One call of the app, and what its target's breaker and load are told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import Final

import msgspec
from starlette.types import ASGIApp, Receive, Scope

from asgi_llm.errors import LLMError, ProviderTimeoutError
from asgi_llm.middleware._router_answer import AttemptAnswer, error_names, read_error
from asgi_llm.routing.breaker import settle
from asgi_llm.routing.retries import Failure, RetryBudget, classify
from asgi_llm.routing.strategies import Load
from asgi_llm.routing.targets import Target
from asgi_llm.state import ATTEMPTS, FAILURE, State
from asgi_llm.stores.breakers import BreakerStore

__all__ = ["RouterSettings", "TargetAttempt", "made_so_far", "name_cause"]

_CUT_OFF: Final = "provider_timeout"


class RouterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What all requests of a router share; see ``RouterMiddleware``."""

    app: ASGIApp
    attempts: int
    deadline_seconds: float | None
    attempt_seconds: float | None
    hedge_after_seconds: float | None
    peek_bytes: int
    rewrite_model: bool
    breakers: BreakerStore
    load: Load
    budget: RetryBudget
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]


class TargetAttempt:
    """One call of the app, and what its target's breaker and load are told of it.

    Args:
        settings: The router's.
        target: Where it goes; None: the app finds it.
        lease: Of the target's breaker.
        state: Of the request, or a branch of it.

    Attributes:
        target: As given.
        state: As given.
        error: Why there is no answer, where the app did not say it itself.
    """

    __slots__ = (
        "_begun_at",
        "_cut",
        "_lease",
        "_settings",
        "_settled",
        "error",
        "state",
        "target",
    )

    def __init__(
        self, settings: RouterSettings, target: Target | None, lease: str, state: State
    ) -> None:
        self._settings = settings
        self.target = target
        self._lease = lease
        self.state = state
        self._settled = target is None
        self._begun_at = settings.clock()
        self._cut: asyncio.Timeout | None = None
        self.error: LLMError | None = None

    async def begin(self, status: int) -> None:
        """The first byte is about to leave."""
        if self._cut is not None:
            if self._cut.expired():
                # The call is being ended at this moment.
                await asyncio.sleep(0)
            self._cut.reschedule(None)
        if self.target is None or status >= 400:
            return
        self.observe()
        if self._lease:
            # What waits for the trial should not have to wait for the end of a stream.
            self._settle(None)

    async def run(
        self, scope: Scope, receive: Receive, answer: AttemptAnswer, left_seconds: float
    ) -> Failure | None:
        """Call the app. None: there is an answer, or nobody to give it to."""
        settings = self._settings
        seconds = min(left_seconds, settings.attempt_seconds or inf)
        known = made_so_far(self.state)
        name = None if self.target is None else self.target.id
        if name is not None:
            settings.load.started(name)
        try:
            if await self._is_cut_off(scope, receive, answer, seconds):
                return self._timed_out(answer, known, seconds)
        except Exception:
            # The app's own trouble passes, behind what it has said before.
            if answer.begun:
                self._judge(answer, known)
            await answer.release()
            raise
        else:
            return self._judge(answer, known)
        finally:
            if name is not None:
                settings.load.ended(name)
                if self._lease:
                    self.release()

    def release(self) -> None:
        """Give the lease back where the call has no outcome. May be called again."""
        if not self._settled and self._lease and self.target is not None:
            self._settled = True
            self._settings.breakers.released(self.target.id, self._lease)

    async def _is_cut_off(
        self, scope: Scope, receive: Receive, answer: AttemptAnswer, seconds: float
    ) -> bool:
        """Call the app; whether it was ended because its answer did not begin in time."""
        app = self._settings.app
        if seconds == inf:
            await app(scope, receive, answer)
            return False
        self._cut = cut = asyncio.timeout(seconds)
        try:
            async with cut:
                await app(scope, receive, answer)
        except TimeoutError:
            if not cut.expired():
                raise
        finally:
            self._cut = None
        return cut.expired()

    def _timed_out(self, answer: AttemptAnswer, known: int, seconds: float) -> Failure | None:
        """The app was ended, since its answer did not begin in time."""
        name_cause(self.state, known, _CUT_OFF)
        self.error = ProviderTimeoutError(f"No answer began within {seconds:.3g} seconds.")
        answer.drop()
        self.observe()
        return self._settle(classify(self.error))

    def _judge(self, answer: AttemptAnswer, known: int) -> Failure | None:
        """What came of the call."""
        error = self.state.get(FAILURE)
        if answer.status is None:
            # Apps return without a word when the client has left.
            return None
        if not (answer.whole or answer.refused or error) and (answer.begun or answer.status < 400):
            return None
        attempts = self.state.get(ATTEMPTS) or ()
        status: int | None = answer.status
        code = kind = None
        if error is not None:
            status = attempts[-1].status if len(attempts) > known else None
        elif answer.refused:
            code, kind = error_names(answer.error)
            status = 500
        elif answer.status < 400:
            return self._settle(None)
        elif not answer.begun:
            code, kind = read_error(answer.body)
        return self._settle(
            classify(
                error,
                status=status,
                error_code=code or kind,
                retry_after_seconds=None if answer.begun else _retry_after(answer),
                bytes_sent=answer.begun,
            )
        )

    def _settle(self, failure: Failure | None) -> Failure | None:
        if not self._settled and self.target is not None:
            self._settled = True
            settle(self._settings.breakers, self.target.id, self._lease, failure)
        elif failure is not None and self.target is not None:
            # The trial has begun to answer, and broke off.
            settle(self._settings.breakers, self.target.id, "", failure)
        return failure

    def observe(self) -> None:
        """An answer has begun after so long; or it is not waited for any longer."""
        if self.target is not None:
            settings = self._settings
            settings.load.observed(self.target.id, settings.clock() - self._begun_at)


def made_so_far(state: State) -> int:
    """How many attempts a state tells of."""
    attempts = state.get(ATTEMPTS)
    return 0 if attempts is None else len(attempts)


def name_cause(state: State, known: int, code: str) -> None:
    """Give the attempts behind the first ``known`` a cause, where they have come to an end early.

    Nobody else can tell it of calls that were ended from outside.
    """
    attempts = state.get(ATTEMPTS) or ()
    if any(one.error_code is None for one in attempts[known:]):
        named = [
            msgspec.structs.replace(one, error_code=code) if one.error_code is None else one
            for one in attempts[known:]
        ]
        state.set(ATTEMPTS, (*attempts[:known], *named))


def _retry_after(answer: AttemptAnswer) -> float | None:
    """What a foreign app's error says of when to come back."""
    for name, value in answer.headers:
        if name.lower() == b"retry-after" and value.isdigit():
            return float(value[:9])
    return None
