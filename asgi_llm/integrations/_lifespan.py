"""Several lifespans behind one: each app in a task of its own, up in order, down in reverse."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Member", "run_lifespans", "speak_lifespan"]

_log = logging.getLogger(__name__)


class Member:
    """One app among those whose lifespans run together, and the lifespan state it made.

    Args:
        name: What error messages call it.
        app: Called with a ``receive``, a ``send`` and a ``scope["state"]`` of its own.
    """

    def __init__(self, name: str, app: ASGIApp) -> None:
        self.name = name
        self.app = app
        self._state: dict[str, Any] = {}

    def run(self, scope: Scope) -> _Run:
        """Begin its lifespan. Where the server keeps state, the app gets a copy."""
        if "state" in scope:
            self._state = dict(scope["state"])
            scope = {**cast("Mapping[str, Any]", scope), "state": self._state}
        return _Run(self.name, self.app, scope)

    def see(self, scope: Scope) -> Scope:
        """The request scope with the state that this app's own lifespan made."""
        if not self._state:
            return scope
        state = {**(scope.get("state") or {}), **self._state}
        return {**cast("Mapping[str, Any]", scope), "state": state}


class _Run:
    """One lifespan from startup to shutdown, in its own task, as its context managers need."""

    def __init__(self, name: str, app: ASGIApp, scope: Scope) -> None:
        self._name = name
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._absent = False
        self._asked_last = False
        self._task = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def start(self) -> str | None:
        """Start up. None if it did, or if the app has no lifespan; else what went wrong."""
        answer = await self._ask("lifespan.startup")
        if answer is not None:
            return _failure(answer)
        # How Django and others say that they have no lifespan; servers go on then, too.
        self._absent = True
        error = self._error()
        _log.info("%s has no lifespan%s", self._name, f": {error!r}" if error else "")
        return None

    async def stop(self) -> str | None:
        """Shut down. None if it did, or had nothing to; else what went wrong."""
        if self._absent:
            return None
        answer = await self._ask("lifespan.shutdown")
        if answer is not None and (failure := _failure(answer)) is not None:
            return failure
        await asyncio.wait({self._task})
        error = self._error()
        return None if error is None or isinstance(error, _OverError) else repr(error)

    async def cancel(self) -> None:
        """End the task, whatever it waits for."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _error(self) -> BaseException | None:
        return None if self._task.cancelled() else self._task.exception()

    async def _ask(self, kind: str) -> Message | None:
        """The app's answer to ``kind``; None if it ended without one."""
        self._answer = asyncio.get_running_loop().create_future()
        self._inbox.put_nowait({"type": kind})
        either: set[asyncio.Future[Any]] = {self._answer, self._task}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return self._answer.result() if self._answer.done() else None

    async def _receive(self) -> Message:
        if self._asked_last:
            raise _OverError
        message = await self._inbox.get()
        self._asked_last = message["type"] == "lifespan.shutdown"
        return message

    async def _send(self, message: Message) -> None:
        if not self._answer.done():
            self._answer.set_result(message)


class _OverError(Exception):
    """Ends an app that asks for more after its shutdown."""


def _failure(answer: Message) -> str | None:
    if answer["type"].endswith(".failed"):
        return str(answer.get("message") or "it gave no reason")
    return None


async def run_lifespans(
    members: Sequence[Member], scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer a lifespan scope for all of ``members``: started in order, stopped in reverse.

    If one fails to start, those before it are stopped, and the server is told which and why.
    """
    await receive()
    runs: list[tuple[Member, _Run]] = []
    try:
        for member in members:
            run = member.run(scope)
            runs.append((member, run))
            failure = await run.start()
            if failure is not None:
                await run.cancel()
                runs.pop()
                failures = [f"{member.name} did not start: {failure}", *await _stop(runs)]
                await send({"type": "lifespan.startup.failed", "message": "\n".join(failures)})
                return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        failures = await _stop(runs)
        if failures:
            await send({"type": "lifespan.shutdown.failed", "message": "\n".join(failures)})
        else:
            await send({"type": "lifespan.shutdown.complete"})
    finally:
        for _, run in reversed(runs):
            await run.cancel()


async def _stop(runs: list[tuple[Member, _Run]]) -> list[str]:
    failures = []
    while runs:
        member, run = runs[-1]
        failure = await run.stop()
        if failure is not None:
            failures.append(f"{member.name} did not stop: {failure}")
            await run.cancel()
        runs.pop()
    return failures


def speak_lifespan(
    lifespan: Callable[[], AbstractAsyncContextManager[object]],
) -> ASGIApp:
    """An ASGI app that speaks the lifespan protocol for a context manager, and nothing else."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        phase = "startup"
        await receive()
        try:
            async with lifespan():
                await send({"type": "lifespan.startup.complete"})
                phase = "shutdown"
                await receive()
        except Exception as error:
            await send({"type": f"lifespan.{phase}.failed", "message": _describe(error)})
            raise
        await send({"type": "lifespan.shutdown.complete"})

    return app


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
