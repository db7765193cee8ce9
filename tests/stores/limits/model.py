"""What the limit stores promise, written out slowly: every token taken is kept, with its time.

Times are whole microseconds. The stores put takes that lie closely together into one entry, so the
model is exact for takes at the same time, or further apart than a 512th of the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, inf

from asgi_llm.stores.base import Decision, Demand, LimitStatus
from asgi_llm.types import Limit

SECOND = 1_000_000


@dataclass
class Taken:
    """Tokens that were taken at one time by one request."""

    at: int
    amount: int


@dataclass
class Reservation:
    """A live lease."""

    deadline: int
    taken: Taken
    number: int = 0
    """Of two of a limit the later one has the greater."""
    least: Fraction = Fraction(0)
    """How low the debt has been since it was made: no more of it comes off the debt again."""


@dataclass
class State:
    """What is known of one limit."""

    log: list[Taken] = field(default_factory=list)
    leases: dict[str, Reservation] = field(default_factory=dict)
    debt: Fraction = Fraction(0)
    stamp: int = 0
    reservations: int = 0


class Model:
    """A limit store without any economy.

    Attributes:
        now: The time, in microseconds; a test moves it.
    """

    def __init__(self, now: int) -> None:
        self.now = now
        self._states: dict[str, State] = {}

    def _state(self, demand: Demand) -> State:
        """The state at ``now``: what has come back is gone."""
        limit = demand.limit
        state = self._states.setdefault(demand.key, State(stamp=self.now))
        if limit.unit == "concurrent_requests":
            state.leases = {
                key: lease for key, lease in state.leases.items() if lease.deadline > self.now
            }
            return state
        # Events in the order of time: a reservation that lapses comes back at its deadline.
        for key in sorted(state.leases, key=lambda key: state.leases[key].deadline):
            if state.leases[key].deadline <= self.now:
                lease = state.leases.pop(key)
                self._decay(state, limit, max(lease.deadline, state.stamp))
                self._give_back(state, lease, lease.taken.amount)
        self._decay(state, limit, self.now)
        window = limit.window_seconds * SECOND
        state.log = [one for one in state.log if one.at + window > self.now and one.amount]
        return state

    def _decay(self, state: State, limit: Limit, now: int) -> None:
        rate = Fraction(limit.amount, limit.window_seconds * SECOND)
        state.debt = max(Fraction(0), state.debt - (now - state.stamp) * rate)
        state.stamp = now
        for lease in state.leases.values():
            lease.least = min(lease.least, state.debt)

    def _give_back(self, state: State, held: Reservation, amount: int) -> None:
        held.taken.amount -= amount
        held.least = min(held.least, state.debt)
        back = min(Fraction(amount), held.least)
        state.debt -= back
        for lease in state.leases.values():
            if lease.number > held.number:
                lease.least -= back
            else:
                lease.least = min(lease.least, held.least - back)

    def _add(self, state: State, limit: Limit, cost: int) -> Taken:
        taken = Taken(self.now, cost)
        state.log.append(taken)
        *_, brim = self._bounds(limit)
        state.debt = min(state.debt + cost, Fraction(brim + limit.amount))
        return taken

    def _bounds(self, limit: Limit) -> tuple[bool, bool, int]:
        """Whether the window counts, whether the bucket does, and what it holds."""
        brim = limit.burst if limit.burst is not None and limit.amount else limit.amount
        return brim <= limit.amount, brim != limit.amount, brim

    def _wait(self, demand: Demand, state: State) -> float:
        """Microseconds."""
        limit, cost = demand.limit, demand.cost
        if cost == 0:
            return 0
        if limit.unit == "concurrent_requests":
            excess = len(state.leases) + 1 - limit.amount
            ends = sorted(lease.deadline for lease in state.leases.values())
            if excess <= 0:
                return 0
            return inf if limit.amount == 0 else ends[excess - 1] - self.now
        by_window, by_bucket, brim = self._bounds(limit)
        if limit.amount == 0 or cost > brim:
            return inf
        ready = self.now
        if by_window:
            excess = sum(one.amount for one in state.log) + cost - limit.amount
            for one in state.log:
                if excess > 0:
                    excess -= one.amount
                    ready = one.at + limit.window_seconds * SECOND
        if by_bucket:
            lacking = (state.debt + cost - brim) * limit.window_seconds * SECOND / limit.amount
            ready = max(ready, self.now + ceil(lacking))
        return ready - self.now

    def _status(self, demand: Demand, state: State, wait: float) -> LimitStatus:
        limit = demand.limit
        if limit.unit == "concurrent_requests":
            remaining = limit.amount - len(state.leases)
            reset = max((lease.deadline for lease in state.leases.values()), default=self.now)
        else:
            by_window, by_bucket, brim = self._bounds(limit)
            window = limit.window_seconds * SECOND
            left: list[int] = []
            whole = [self.now]
            if by_window:
                left.append(limit.amount - sum(one.amount for one in state.log))
                whole += [one.at + window for one in state.log if one.amount]
            if by_bucket:
                left.append((brim - state.debt).__floor__())
                if limit.amount:
                    whole.append(self.now + ceil(state.debt * window / limit.amount))
            remaining, reset = min(left), max(whole)
        return LimitStatus(max(0, remaining), (reset - self.now) / SECOND, wait / SECOND)

    def take(
        self, demands: Sequence[Demand], *, lease: str, lease_seconds: float, enforce: bool = True
    ) -> Decision:
        states = [self._state(demand) for demand in demands]
        waits = [self._wait(demand, state) for demand, state in zip(demands, states, strict=True)]
        admitted = not any(waits)
        if admitted or not enforce:
            for demand, state in zip(demands, states, strict=True):
                deadline = self.now + int(lease_seconds * SECOND)
                if demand.cost and demand.limit.unit == "concurrent_requests":
                    state.leases[lease] = Reservation(deadline, Taken(self.now, 1))
                elif demand.cost:
                    taken = self._add(state, demand.limit, demand.cost)
                    if demand.held:
                        state.reservations += 1
                        state.leases[lease] = Reservation(
                            deadline, taken, state.reservations, state.debt
                        )
        return Decision(
            admitted,
            tuple(
                self._status(demand, state, wait)
                for demand, state, wait in zip(demands, states, waits, strict=True)
            ),
        )

    def renew(self, demands: Sequence[Demand], *, lease: str, lease_seconds: float) -> None:
        for demand in demands:
            held = self._state(demand).leases.get(lease)
            if held is not None:
                held.deadline = self.now + int(lease_seconds * SECOND)

    def settle(self, demands: Sequence[Demand], *, lease: str, costs: Sequence[int]) -> None:
        for demand, cost in zip(demands, costs, strict=True):
            state = self._state(demand)
            held = state.leases.pop(lease, None)
            if demand.limit.unit == "concurrent_requests" or not demand.held:
                continue
            reserved = 0 if held is None else held.taken.amount
            if held is not None and cost < reserved:
                self._give_back(state, held, reserved - cost)
            elif cost > reserved:
                self._add(state, demand.limit, cost - reserved)
