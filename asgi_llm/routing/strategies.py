"""In which order the targets of a route are tried."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from asgi_llm.errors import ConfigurationError
from asgi_llm.routing.targets import Target

__all__ = [
    "STRATEGIES",
    "Cheapest",
    "LeastBusy",
    "Load",
    "LowestLatency",
    "Ordered",
    "RoundRobin",
    "Strategy",
    "Weighted",
]

Random = Callable[[], float]
"""A number from 0 (included) to 1 (excluded), as ``random.random`` gives."""


class _Measured:
    """How busy and how fast one target is."""

    __slots__ = ("in_flight", "measured_at", "seconds")

    def __init__(self) -> None:
        self.in_flight = 0
        self.seconds = 0.0
        self.measured_at: float | None = None


class Load:
    """How busy and how fast targets are, as this process sees it; bounded.

    It is for one event loop: no two threads may use it at the same time.

    Args:
        clock: Seconds that never go back.
        half_life_seconds: A measured time counts half as much after so long, above 0; and one
            that nothing was heard of for so long is believed to be half of what it was, so that
            a slow target is tried again.
        max_targets: How many are remembered, at least 1; the oldest idle one makes room.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        half_life_seconds: float = 30.0,
        max_targets: int = 10_000,
    ) -> None:
        if not 0 < half_life_seconds < math.inf:
            raise ConfigurationError("half_life_seconds must be above 0", param="half_life_seconds")
        if max_targets < 1:
            raise ConfigurationError("max_targets must be at least 1", param="max_targets")
        self._clock = clock
        self._half_life = half_life_seconds
        self._max_targets = max_targets
        self._measured: dict[str, _Measured] = {}

    def __len__(self) -> int:
        """How many targets are remembered."""
        return len(self._measured)

    def started(self, target: str) -> None:
        """A call to the target of that id is made. Each is ended by one ``ended``."""
        one = self._measured.get(target)
        (self._added(target) if one is None else one).in_flight += 1

    def ended(self, target: str) -> None:
        """A call that ``started`` is over, whatever came of it."""
        one = self._measured.get(target)
        if one is not None and one.in_flight > 0:
            one.in_flight -= 1

    def observed(self, target: str, seconds: float) -> None:
        """An answer's first byte came after so long; or a deadline passed without one."""
        one = self._measured.get(target) or self._added(target)
        now = self._clock()
        if one.measured_at is None:
            one.seconds = seconds
        else:
            # At least a tenth: answers of one moment count too.
            kept = min(0.9, 0.5 ** ((now - one.measured_at) / self._half_life))
            one.seconds = kept * one.seconds + (1 - kept) * seconds
        one.measured_at = now

    def in_flight(self, target: str) -> int:
        """How many calls to it are under way."""
        one = self._measured.get(target)
        return 0 if one is None else one.in_flight

    def latency_seconds(self, target: str) -> float | None:
        """Its time to first byte, recent answers above all; None where none is known."""
        one = self._measured.get(target)
        if one is None or one.measured_at is None:
            return None
        return float(one.seconds * 0.5 ** ((self._clock() - one.measured_at) / self._half_life))

    def _added(self, target: str) -> _Measured:
        while len(self._measured) >= self._max_targets:
            idle = next((name for name, one in self._measured.items() if not one.in_flight), None)
            if idle is None:
                break
            del self._measured[idle]
        one = self._measured[target] = _Measured()
        return one


class Strategy(Protocol):
    """An order of targets. One instance belongs to one route, and may remember."""

    def order(self, targets: Sequence[Target], load: Load, random: Random) -> list[Target]:
        """All of ``targets``, in the order in which to try them.

        Args:
            targets: Those that may serve the request, in the route's order; may be empty.
            load: How busy and how fast they are.
            random: From 0 to below 1.
        """
        ...


class Ordered:
    """As the route lists them."""

    def order(self, targets: Sequence[Target], load: Load, random: Random) -> list[Target]:
        """All of ``targets`` as they are."""
        return list(targets)


class Weighted:
    """At random, each with its weight's share of what comes.

    Source: Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006.
    """

    def order(self, targets: Sequence[Target], load: Load, random: Random) -> list[Target]:
        """First, and at each later place of those that are left, each by its share."""
        if len(targets) < 2:
            return list(targets)
        # 1 - random() is never 0.
        return _sorted(
            targets,
            [-math.log(1.0 - random()) / t.weight if t.weight else math.inf for t in targets],
        )


class RoundRobin:
    """In turn: the one whose turn is longest past is first, also where some of them are missing."""

    def __init__(self) -> None:
        self._turn = 0
        # By target id: a route's own targets, and so few.
        self._turns: dict[str, int] = {}

    def order(self, targets: Sequence[Target], load: Load, random: Random) -> list[Target]:
        """The next one in turn is first, then those after it; without a weight comes last."""
        if not targets:
            return []
        turns = self._turns
        order = _sorted(targets, [(not t.weight, turns.get(t.id, 0)) for t in targets])
        self._turn += 1
        turns[order[0].id] = self._turn
        return order


class LeastBusy:
    """The fewest calls under way in this process first, for its weight."""

    def order(self, targets: Sequence[Target], load: Load, random: Random) -> list[Target]:
        """By calls under way, with one more; those alike at random."""
        if len(targets) < 2:
            return list(targets)
        return _sorted(
            targets,
            [
                ((load.in_flight(t.id) + 1) / t.weight if t.weight else math.inf, random())
                for t in targets
            ],
        )


class LowestLatency:
    """The shortest time to first byte first; the others are tried now and then.

    One that nothing is known of is first until one request is under way that will tell.

    Args:
        exploration: The share of requests that go to any target at random, from 0 to 1.
    """

    def __init__(self, *, exploration: float = 0.02) -> None:
        if not 0 <= exploration <= 1:
            raise ConfigurationError("exploration is from 0 to 1", param="exploration")
        self._exploration = exploration

    def order(self, targets: Sequence[Target], load: Load, random: Random) -> list[Target]:
        """By time to first byte; those alike at random; without a weight comes last."""
        if len(targets) < 2:
            return list(targets)
        keys = []
        for target in targets:
            seconds, busy = load.latency_seconds(target.id), load.in_flight(target.id)
            if seconds is None:
                seconds = math.inf if busy else -1.0
            keys.append((not target.weight, seconds, busy, random()))
        order = _sorted(targets, keys)
        if self._exploration and random() < self._exploration:
            shared = [target for target in order if target.weight]
            if shared:
                tried = shared[int(random() * len(shared))]
                order.remove(tried)
                order.insert(0, tried)
        return order


class Cheapest:
    """The lowest price first, an unknown one last."""

    def order(self, targets: Sequence[Target], load: Load, random: Random) -> list[Target]:
        """By price; of those alike the less busy one first."""
        return _sorted(
            targets,
            [(math.inf if t.price is None else t.price, load.in_flight(t.id)) for t in targets],
        )


STRATEGIES: Final[Mapping[str, Callable[[], Strategy]]] = {
    "ordered": Ordered,
    "weighted": Weighted,
    "round_robin": RoundRobin,
    "least_busy": LeastBusy,
    "lowest_latency": LowestLatency,
    "cheapest": Cheapest,
}
"""What a configuration can name, to what makes a strategy for one route."""


def _sorted(targets: Sequence[Target], keys: Sequence[Any]) -> list[Target]:
    """``targets`` by their keys; those alike stay as they are."""
    return [targets[place] for place in sorted(range(len(targets)), key=keys.__getitem__)]
