"""Breakers in the memory of one process."""

from __future__ import annotations

import random as random_numbers
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Literal

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores._circuit import Circuit, Terms
from asgi_llm.stores.breakers import BreakerPolicy, Standing

__all__ = ["MemoryBreakers"]


class MemoryBreakers:
    """A ``BreakerStore`` for one process and one event loop.

    Args:
        policy: When a breaker opens, and for how long.
        clock: Seconds that never go back.
        random: From 0 to below 1; jitter of the cool-down.
        max_targets: How many are remembered, at least 1; the oldest closed one makes room.
    """

    def __init__(
        self,
        *,
        policy: BreakerPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random_numbers.random,
        max_targets: int = 10_000,
    ) -> None:
        if max_targets < 1:
            raise ConfigurationError("max_targets must be at least 1", param="max_targets")
        self._terms = Terms(policy or BreakerPolicy())
        self._clock = clock
        self._random = random
        self._max_targets = max_targets
        self._closed: dict[str, Circuit] = {}
        self._open: dict[str, Circuit] = {}
        self._leases = 0

    def __len__(self) -> int:
        """How many targets are remembered."""
        return len(self._closed) + len(self._open)

    def standing(self, target: str) -> Standing | None:
        """How the breaker of ``target`` stands; None: closed."""
        circuit = self._open.get(target)
        if circuit is None:
            return None
        now = self._now()
        circuit.advance(now)
        if not circuit.is_open:
            self._move(target, circuit)
            return None
        free_at = max(circuit.until, circuit.lease_until) if circuit.lease else circuit.until
        state: Literal["open", "half_open"] = "open" if now < circuit.until else "half_open"
        return Standing(state, max(0, free_at - now) / 1e6)

    def refresh(self) -> Awaitable[None] | None:
        """None: there is nobody else to learn from."""
        return None

    async def claim(self, target: str) -> str | None:
        """Leave to call a target that is not closed: a lease; "" if it is closed; None: not now."""
        circuit = self._open.get(target)
        if circuit is None:
            return ""
        self._leases += 1
        lease = f"{self._leases}"
        if circuit.claim(self._now(), self._terms, lease):
            return lease
        if circuit.is_open:
            return None
        self._move(target, circuit)
        return ""

    def succeeded(self, target: str, lease: str = "") -> None:
        """``target`` has answered. Closes the breaker where ``lease`` is the trial's."""
        circuit = self._closed.get(target)
        if circuit is not None:
            if self._clock() * 1e6 < circuit.fresh_until:
                # What ``count`` does as a rule, without the call.
                circuit.slices[-1][1] += 1
            else:
                circuit.count(self._now(), self._terms, 1)
        elif target not in self._open:
            self._found(target).count(self._now(), self._terms, 1)
        elif lease:
            circuit = self._open[target]
            circuit.succeed(self._now(), lease)
            self._move(target, circuit)

    def failed(
        self,
        target: str,
        lease: str = "",
        *,
        counts: bool = True,
        cool_down_seconds: float | None = None,
    ) -> None:
        """``target`` has failed. Opens the breaker again where ``lease`` is the trial's."""
        circuit = self._found(target)
        circuit.fail(
            self._now(),
            self._terms,
            lease=lease,
            calls=0,
            counts=counts,
            cool_down=self._terms.asked_for(cool_down_seconds),
            random=self._random(),
        )
        self._move(target, circuit)

    def released(self, target: str, lease: str) -> None:
        """The trial has no outcome: another may have one."""
        circuit = self._open.get(target)
        if circuit is not None:
            circuit.release(lease)

    def hold(self, target: str, seconds: float) -> None:
        """Open ``target`` for so long, at least 0, whatever was seen of it here."""
        circuit = self._found(target)
        now = self._now()
        circuit.hold(now, now + round(seconds * 1e6))
        self._move(target, circuit)

    def not_closed(self) -> Iterator[tuple[str, Standing]]:
        """All targets that are not closed, and how they stand."""
        for target in tuple(self._open):
            standing = self.standing(target)
            if standing is not None:
                yield target, standing

    def clear(self) -> None:
        """Forget everything: all are closed."""
        self._closed.clear()
        self._open.clear()

    def health(self) -> dict[str, Any]:
        """The targets that are ``not_closed``, and the seconds until they may be tried."""
        return {
            "not_closed": {
                target: {
                    "state": standing.state,
                    "retry_after_seconds": standing.retry_after_seconds,
                }
                for target, standing in self.not_closed()
            }
        }

    async def aclose(self) -> None:
        """Nothing is open."""

    def _now(self) -> int:
        return int(self._clock() * 1e6 + 0.5)

    def _found(self, target: str) -> Circuit:
        circuit = self._closed.get(target) or self._open.get(target)
        if circuit is None:
            if len(self) >= self._max_targets:
                crowd = self._closed or self._open
                del crowd[next(iter(crowd))]
            circuit = self._closed[target] = Circuit()
        return circuit

    def _move(self, target: str, circuit: Circuit) -> None:
        """Put it among its like, as the youngest."""
        self._closed.pop(target, None)
        self._open.pop(target, None)
        (self._open if circuit.is_open else self._closed)[target] = circuit
