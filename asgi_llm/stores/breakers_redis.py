"""Breakers that all processes share, kept in Redis; each has a view of its own of what is open."""

from __future__ import annotations

import asyncio
import os
import random as random_numbers
import time
from collections.abc import Awaitable, Callable
from math import inf
from pathlib import Path
from typing import Any, Final

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores._breaker import Breaker
from asgi_llm.stores._circuit import Terms
from asgi_llm.stores._redis_client import connect, disconnect
from asgi_llm.stores._redis_pipeline import ScriptPipeline
from asgi_llm.stores.breakers import BreakerPolicy, Standing
from asgi_llm.stores.breakers_memory import MemoryBreakers

__all__ = ["RedisBreakers"]

SCRIPT: Final = Path(__file__).with_name("breakers.lua")
_MAX_COUNTED = 10_000
_MAX_UNTOLD = 1_000
_MAX_AT_ONCE = 100
# In hexadecimal; those that a process gives itself are shorter.
_LEASE_LENGTH = 16

_Reply = asyncio.Future[list[Any]]


class RedisBreakers:
    """A ``BreakerStore`` in Redis, in Redis' own time.

    A failure, and the outcome of a trial, is told at once; answers are only counted, and told
    when the view is refreshed, in the turn of whatever request comes then. While Redis is away each
    process goes by what it has learned and what it sees itself, and tells what it has opened, and
    of trials that have ended, when Redis answers again.

    Args:
        server: An address (see ``asgi_llm.stores._redis_client.connect``), or a client of
            ``redis.asyncio``: ``Redis``, one of Sentinel's ``master_for``, or ``RedisCluster``.
            A client stays open when the store is closed.
        policy: When a breaker opens, and for how long.
        refresh_seconds: How old the view may be before it is asked for anew, above 0. A request
            that finds one twice as old waits for the new one.
        timeout_seconds: After this a call fails. Above 0.
        failure_threshold: So many failures in a row, timeouts included, and Redis is away.
        probe_seconds: How often it is tried again, above 0 and below 5.
        prefix: What every key begins with.
        tag: The hash tag of every key, so that all lie on one node of a Cluster.
        clock: Seconds that never go back.
        random: From 0 to below 1; jitter of the cool-down.
        sleep: Waits between probes.
    """

    def __init__(
        self,
        server: Any,
        *,
        policy: BreakerPolicy | None = None,
        refresh_seconds: float = 0.5,
        timeout_seconds: float = 0.05,
        failure_threshold: int = 3,
        probe_seconds: float = 1.0,
        prefix: str = "asgi-llm:breaker",
        tag: str = "asgi-llm",
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random_numbers.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if not 0 < timeout_seconds < inf:
            raise ConfigurationError("timeout_seconds must be above 0", param="timeout_seconds")
        if not 0 < refresh_seconds < inf:
            raise ConfigurationError("refresh_seconds must be above 0", param="refresh_seconds")
        policy = policy or BreakerPolicy()
        self._owned = isinstance(server, str)
        self._client = connect(server) if isinstance(server, str) else server
        self._pipeline = ScriptPipeline(
            self._client, SCRIPT.read_text(encoding="utf-8"), timeout_seconds=timeout_seconds
        )
        self._start = f"{prefix}:{{{tag}}}:"
        terms = self._limits = Terms(policy)
        self._terms = (
            *(terms.slice, terms.failures, terms.minimum_calls, terms.rate),
            *(terms.cool_down, terms.max_cool_down, terms.jitter, terms.trial),
        )
        self._window_seconds = policy.window_seconds
        self._refresh_seconds = refresh_seconds
        self._clock = clock
        self._random = random
        # Those that are not closed, as Redis said last: until when on this clock, by id.
        self._view: dict[str, tuple[float, float]] = {}
        self._viewed_at = self._asked_at = -inf
        self._asking: _Reply | None = None
        self._answers: dict[str, int] = {}
        # Trials that have ended, which Redis may not have heard: the operation, and the target, by
        # lease. To be told twice changes nothing.
        self._untold: dict[str, tuple[str, str]] = {}
        self._own = MemoryBreakers(policy=policy, clock=clock, random=random)
        self._away = Breaker(
            type(self).__name__,
            self._probe,
            failure_threshold=failure_threshold,
            probe_seconds=probe_seconds,
            clock=clock,
            sleep=sleep,
        )

    def standing(self, target: str) -> Standing | None:
        """How the breaker of ``target`` stands, as far as this process knows; None: closed."""
        if self._away.is_open:
            return self._own.standing(target)
        known = self._view.get(target)
        if known is None:
            return None
        now = self._clock()
        left = max(0.0, max(known) - now)
        return Standing("open" if known[0] > now else "half_open", left)

    def refresh(self) -> Awaitable[None] | None:
        """Ask Redis what is open where that is due; what to await where the view is too old."""
        now = self._clock()
        if now - self._asked_at >= self._refresh_seconds:
            if self._away.is_open:
                self._away.watch()
                return None
            self._ask(now)
        elif self._asking is None:
            return None
        asking = self._asking
        if asking is None or now - self._viewed_at < 2 * self._refresh_seconds:
            return None
        return _ended(asking)

    async def claim(self, target: str) -> str | None:
        """Leave to call a target that is not closed: a lease; "" if it is closed; None: not now."""
        if self._away.is_open:
            return await self._own.claim(target)
        lease = os.urandom(_LEASE_LENGTH // 2).hex()
        try:
            outcome = self._note(target, await self._send("c", target, lease))
        except StoreError as error:
            # It may be given all the same, now or later.
            self._keep_untold("r", target, lease)
            self._went_wrong(error)
            return None
        except asyncio.CancelledError:
            self.released(target, lease)
            raise
        self._away.succeeded()
        if outcome == 0:
            return ""
        return lease if outcome == 2 else None

    def succeeded(self, target: str, lease: str = "") -> None:
        """``target`` has answered. Closes the breaker where ``lease`` is the trial's."""
        if self._away.is_open:
            self._own.succeeded(target, lease)
            if lease:
                self._keep_untold("s", target, lease)
        elif lease:
            self._end_trial("s", target, lease)
        elif target in self._answers or len(self._answers) < _MAX_COUNTED:
            self._answers[target] = self._answers.get(target, 0) + 1

    def failed(
        self,
        target: str,
        lease: str = "",
        *,
        counts: bool = True,
        cool_down_seconds: float | None = None,
    ) -> None:
        """``target`` has failed. Opens the breaker again where ``lease`` is the trial's."""

        def fail_here() -> None:
            self._own.failed(target, lease, counts=counts, cool_down_seconds=cool_down_seconds)
            if lease:
                # Told late, a failure could be one of another time; the trial is over in any case.
                self._keep_untold("r", target, lease)

        if self._away.is_open:
            fail_here()
            return
        cool_down = self._limits.asked_for(cool_down_seconds)
        answers = self._answers.pop(target, 0)
        sent = self._send("f", target, lease, answers, counts, cool_down, self._random())
        sent.add_done_callback(self._noting(target, fail_here))

    def released(self, target: str, lease: str) -> None:
        """The trial has no outcome: another may have one."""
        if self._away.is_open:
            self._own.released(target, lease)
            self._keep_untold("r", target, lease)
        else:
            self._end_trial("r", target, lease)

    def health(self) -> dict[str, Any]:
        """The targets that are ``not_closed``, and the ``store`` that says so."""
        if self._away.is_open:
            return {**self._own.health(), "store": self._away.health()}
        standings = ((target, self.standing(target)) for target in self._view)
        return {
            "not_closed": {
                target: {"state": one.state, "retry_after_seconds": one.retry_after_seconds}
                for target, one in standings
                if one is not None
            },
            "store": self._away.health(),
        }

    async def aclose(self) -> None:
        """Close the connection, and the client if it was made here."""
        await self._away.aclose()
        await self._pipeline.aclose()
        if self._owned:
            await disconnect(self._client)

    def _send(self, name: str, target: str, lease: str, *arguments: Any) -> _Reply:
        batch = self._pipeline.batch()
        hash_place, window = batch.places([f"{self._start}open", f"{self._start}window:{target}"])
        return batch.call((name, hash_place, self._terms, window, target, lease, *arguments))

    def _end_trial(self, name: str, target: str, lease: str) -> None:
        def keep() -> None:
            self._keep_untold(name, target, lease)

        self._send(name, target, lease).add_done_callback(self._noting(target, keep))

    def _keep_untold(self, name: str, target: str, lease: str) -> None:
        # Of many claims at once the first is the one that may have been given.
        if len(lease) == _LEASE_LENGTH and len(self._untold) < _MAX_UNTOLD:
            self._untold[lease] = name, target

    def _tell_again(self) -> None:
        for lease in list(self._untold)[:_MAX_AT_ONCE]:
            name, target = self._untold.pop(lease)
            self._end_trial(name, target, lease)

    def _ask(self, now: float) -> None:
        """Ask for the view, and tell of answers that are still news."""
        asking = self._asking
        if asking is not None and asking.get_loop() is asyncio.get_running_loop():
            return
        if self._window_seconds < now - self._asked_at < inf:
            self._answers.clear()
        self._asked_at = now
        self._asking = self._list()
        self._asking.add_done_callback(self._listed)

    def _list(self) -> _Reply:
        batch = self._pipeline.batch()
        (hash_place,) = batch.places([f"{self._start}open"])
        told: list[Any] = []
        answers = self._answers
        for target in list(answers)[:_MAX_AT_ONCE]:
            (window,) = batch.places([f"{self._start}window:{target}"])
            told += (window, target, answers.pop(target))
        return batch.call(("y", hash_place, self._terms, told))

    def _listed(self, future: _Reply) -> None:
        self._asking = None
        error = future.exception()
        if error is not None:
            self._went_wrong(error)
        else:
            self._away.succeeded()
            self._take_view(future.result())
            if self._untold:
                self._tell_again()

    def _take_view(self, reply: list[Any]) -> None:
        now = self._clock()
        listed = iter(reply)
        self._view = {
            target: (now + wait / 1e6, now + busy / 1e6)
            for target, wait, busy in zip(listed, listed, listed, strict=True)
        }
        self._viewed_at = now

    def _noting(
        self, target: str, otherwise: Callable[[], None] | None = None
    ) -> Callable[[_Reply], None]:
        """Takes over what Redis says of ``target``; where it says nothing, does the other thing."""

        def note(future: _Reply) -> None:
            error = future.exception()
            if error is not None:
                self._went_wrong(error)
                if otherwise is not None:
                    otherwise()
            else:
                self._away.succeeded()
                self._note(target, future.result())

        return note

    def _note(self, target: str, reply: list[Any]) -> int:
        outcome, wait, busy = reply
        if outcome == 0:
            self._view.pop(target, None)
        else:
            now = self._clock()
            self._view[target] = (now + wait / 1e6, now + busy / 1e6)
        return int(outcome)

    def _went_wrong(self, error: BaseException) -> None:
        was_away = self._away.is_open
        self._away.failed(error)
        if self._away.is_open and not was_away:
            now = self._clock()
            for target, (until, _) in self._view.items():
                # Nobody would hear of the end of a trial that is under way elsewhere.
                self._own.hold(target, max(0.0, until - now))
            self._view = {}

    async def _probe(self) -> None:
        """Learn the view again, and tell of what was opened, and tried, without Redis."""
        self._take_view(await self._list())
        for target, standing in list(self._own.not_closed()):
            # What is left of one that is half-open is its trial's time, and no cool-down.
            if standing.state == "open":
                left = round(standing.retry_after_seconds * 1e6)
                sent = self._send("f", target, "", 0, False, left, 0.0)
                sent.add_done_callback(self._noting(target))
        self._own.clear()
        self._tell_again()


async def _ended(asking: _Reply) -> None:
    """Wait for it, and not for what it says."""
    await asyncio.wait([asking])
