"""Two attempts at once: the one that begins to answer first is the answer, the other is ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.types import Message, Receive, Scope

from asgi_llm.middleware._router_answer import AttemptAnswer
from asgi_llm.middleware._router_attempt import TargetAttempt, made_so_far, name_cause
from asgi_llm.middleware._router_plan import Step
from asgi_llm.routing.retries import Failure
from asgi_llm.routing.targets import Target
from asgi_llm.state import ATTEMPTS, State

__all__ = ["ABANDONED", "Race", "SharedReceive", "Tried"]

logger = logging.getLogger(__name__)

ABANDONED: Final = "abandoned"
"""The cause of an attempt whose answer nobody gets, since another one took its place."""


class Tried:
    """An attempt with all that it is made of.

    Attributes:
        attempt: The call.
        answer: What came of it.
    """

    __slots__ = ("_left_seconds", "_receive", "_scope", "answer", "attempt")

    def __init__(
        self,
        attempt: TargetAttempt,
        answer: AttemptAnswer,
        scope: Scope,
        receive: Receive,
        left_seconds: float,
    ) -> None:
        self.attempt = attempt
        self.answer = answer
        self._scope = scope
        self._receive = receive
        self._left_seconds = left_seconds

    @property
    def target(self) -> Target | None:
        """Where it goes."""
        return self.attempt.target

    @property
    def state(self) -> State:
        """What it says of itself."""
        return self.attempt.state

    async def run(self) -> Failure | None:
        """Make it. None: there is an answer, or nobody to give it to."""
        return await self.attempt.run(self._scope, self._receive, self.answer, self._left_seconds)


class Race:
    """The attempts of one request that are under way at the same time.

    Args:
        first: The one that is made at once. Its state is a branch.
        state: The request's, which goes by the winner's as soon as there is one.
    """

    def __init__(self, first: Tried, state: State) -> None:
        self._state = state
        self._known = made_so_far(state)
        self._runners = [first]
        self._tasks: dict[asyncio.Task[Failure | None], Tried] = {}
        self._winner: Tried | None = None
        self._is_merged = False
        self._decided = asyncio.Event()

    async def run(
        self,
        find: Callable[[], Awaitable[tuple[Step, str] | None]],
        prepare: Callable[[Step, str], Tried],
        after_seconds: float,
    ) -> list[tuple[Tried, Failure]]:
        """Run until one of them has answered, or all have failed.

        Args:
            find: Finds where the other attempt may go; None: nowhere.
            prepare: Makes it ready.
            after_seconds: When it is made, unless the first has begun to answer, or failed.

        Returns:
            Those that failed, where none answered; empty: the request is over.
        """
        deciding = asyncio.ensure_future(self._decided.wait())
        try:
            first = self._start(self._runners[0])
            await asyncio.wait(
                (first, deciding), timeout=after_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if self.is_open:
                found = await find()
                if found is not None:
                    other = prepare(*found)
                    self._runners.append(other)
                    self._start(other)
            return await self._ended(deciding)
        finally:
            await self._end_all(deciding)

    @property
    def is_open(self) -> bool:
        """Whether none has begun to answer, and none has failed."""
        return self._winner is None and not any(task.done() for task in self._tasks)

    def _start(self, tried: Tried) -> asyncio.Task[Failure | None]:
        begin = tried.answer.on_begin

        async def begin_first(status: int) -> None:
            await begin(status)
            await self._win(tried)

        tried.answer.on_begin = begin_first
        task = asyncio.ensure_future(tried.run())
        # It may be ended before its first step.
        task.add_done_callback(lambda _: tried.attempt.release())
        self._tasks[task] = tried
        return task

    async def _win(self, tried: Tried) -> None:
        """Nothing of the others may leave any more; they are over when the first byte does."""
        if self._winner is None:
            self._winner = tried
            self._decided.set()
            losers = {task: one for task, one in self._tasks.items() if one is not tried}
            for task, one in losers.items():
                if task.cancel():
                    # So slow it is, at the least.
                    one.attempt.observe()
            if losers:
                await asyncio.wait(losers)
            if not self._is_merged:
                self._merge(tried)
            # The app inside knows of its own call alone.
            tried.answer.is_counted = True
        elif self._winner is not tried:
            # It is being cancelled.
            await asyncio.Event().wait()

    async def _ended(self, deciding: asyncio.Future[Any]) -> list[tuple[Tried, Failure]]:
        failed: list[tuple[Tried, Failure]] = []
        waiting = set(self._tasks)
        while waiting and self._winner is None:
            done, _ = await asyncio.wait((*waiting, deciding), return_when=asyncio.FIRST_COMPLETED)
            for task in [] if self._winner is not None else [one for one in waiting if one in done]:
                waiting.discard(task)
                failure = task.result()
                tried = self._tasks[task]
                if failure is None or tried.answer.begun:
                    # Nobody is there to be answered, or it has been answered.
                    await tried.answer.release()
                    return []
                failed.append((tried, failure))
        if self._winner is not None:
            winning = next(task for task, one in self._tasks.items() if one is self._winner)
            await winning
            return []
        self._merge(failed[-1][0])
        return failed

    def _merge(self, tried: Tried) -> None:
        """Let the request's state go by what ``tried`` says, and all attempts be among it."""
        self._is_merged = True
        others = [one.state for one in self._runners if one is not tried]
        for state in others if self._winner is not None else ():
            name_cause(state, self._known, ABANDONED)
        own = tried.state.get(ATTEMPTS) or ()
        made = [one for state in others for one in (state.get(ATTEMPTS) or ())[self._known :]]
        if made:
            attempts = (*own[: self._known], *made, *own[self._known :])
            tried.state.set(ATTEMPTS, attempts)
        self._state.adopt(tried.state)

    async def _end_all(self, deciding: asyncio.Future[Any]) -> None:
        tasks = [deciding, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in self._tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                logger.debug("an attempt ended with %s", type(error).__name__)
        if not self._is_merged:
            # Nobody answers: what was done is told all the same.
            self._merge(self._runners[-1])


class SharedReceive:
    """The client's ``receive``, for several who listen at the same time.

    Args:
        receive: The client's; its body must have been read.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._asking: asyncio.Future[Message] | None = None

    async def __call__(self) -> Message:
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._receive())
        asking = self._asking
        message = await asyncio.shield(asking)
        if message["type"] != "http.disconnect" and self._asking is asking:
            self._asking = None
        return message

    async def aclose(self) -> Receive:
        """Listen no more; the ``receive`` to go on with."""
        asking = self._asking
        if asking is not None:
            asking.cancel()
            await asyncio.wait((asking,))
        return self._receive
