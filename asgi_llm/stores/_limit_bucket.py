"""The arithmetic of one limit: a token bucket that is held to its window.

Times are whole microseconds kept in floats (exact for 285 years), so that a wait that was announced
is met to the microsecond. ``limits.lua`` does the same in Redis; the rules are in the reference,
"Rate limit stores".

- A *log* of what was taken in the last window keeps every window of that length to the amount.
  Takes that lie closer together than 1/512 of the window share one entry and come back with the
  last of them: late by at most that, never early.
- A *debt*, where the limit names a burst: what the bucket of ``burst`` tokens lacks until it is
  full, in token-microseconds, so that both refill and cost are whole numbers. What is given back
  leaves the debt that there would be if it had never been taken.
"""

from __future__ import annotations

import heapq
from math import ceil, inf

import msgspec

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores._limit_dips import Dips
from asgi_llm.stores.base import Demand
from asgi_llm.types import Limit

__all__ = ["GRAINS", "MICROSECONDS", "Bucket", "Slots"]

GRAINS = 512
"""Into how many parts a window is told apart at most."""
MICROSECONDS = 1_000_000


class Entry(msgspec.Struct, gc=False):
    """Tokens that come back together, one window after ``last``."""

    last: float
    amount: int


class Lease(msgspec.Struct, gc=False):
    """What one request reserved of one limit."""

    deadline: float
    amount: int
    entry: Entry | None = None
    number: int = 0
    """Of ``Dips``; 0: it raised no debt."""


class Leases:
    """The live reservations of one limit, and which of them ends first."""

    __slots__ = ("by_id", "ends")

    def __init__(self) -> None:
        self.by_id: dict[str, Lease] = {}
        # (deadline, id); a renewed or settled lease leaves its old row behind until it comes up.
        self.ends: list[tuple[float, str]] = []

    def add(self, lease_id: str, lease: Lease) -> None:
        self.by_id[lease_id] = lease
        self._note(lease.deadline, lease_id)

    def renew(self, lease_id: str, deadline: float) -> None:
        lease = self.by_id.get(lease_id)
        if lease is not None:
            lease.deadline = deadline
            self._note(deadline, lease_id)

    def _note(self, deadline: float, lease_id: str) -> None:
        ends = self.ends
        if len(ends) > 64 and len(ends) > 2 * len(self.by_id):
            ends[:] = [(lease.deadline, key) for key, lease in self.by_id.items()]
            heapq.heapify(ends)
        heapq.heappush(ends, (deadline, lease_id))

    def lapsed(self, now: float) -> list[Lease]:
        """Take out all whose deadline has passed."""
        ends, found = self.ends, []
        while ends and ends[0][0] <= now:
            _, lease_id = heapq.heappop(ends)
            lease = self.by_id.get(lease_id)
            if lease is not None and lease.deadline <= now:
                found.append(self.by_id.pop(lease_id))
        return found

    def next_end(self) -> float:
        """No lease ends before this."""
        return self.ends[0][0] if self.ends else inf


class Slots:
    """A limit of ``concurrent_requests``: one slot for each live lease, whatever its cost."""

    __slots__ = ("capacity", "due", "latest", "leases", "limit", "most", "used")

    plain = False

    def __init__(self, limit: Limit, share: float, now: float) -> None:
        self.leases = Leases()
        self.used = 0
        self.due = inf
        # When the last lease runs out; None where that one has ended since.
        self.latest: float | None = None
        self.adapt(limit, share)

    def adapt(self, limit: Limit, share: float) -> None:
        """Go by ``limit`` from now on."""
        self.limit = limit
        self.most = self.capacity = shared(limit.amount, share)

    def advance(self, now: float) -> None:
        """Let the leases end that have run out by ``now``."""
        if self.due <= now:
            self.leases.lapsed(now)
            self.used = len(self.leases.by_id)
            self.due = self.leases.next_end()

    def affords(self, cost: int) -> bool:
        """Whether there is a place for one more, if one is asked for."""
        return cost == 0 or self.used < self.most

    def wait(self, cost: int, now: float) -> float:
        """Seconds until so many leases have run out that one more has a place."""
        if self.affords(cost):
            return 0.0
        if self.most == 0:
            return inf
        deadlines = sorted(lease.deadline for lease in self.leases.by_id.values())
        return (deadlines[self.used - self.most] - now) / MICROSECONDS

    def take(self, demand: Demand, now: float, lease_id: str, deadline: float) -> None:
        """Occupy a slot, free or not."""
        if demand.cost:
            self.leases.add(lease_id, Lease(deadline, 1))
            self.used = len(self.leases.by_id)
            self.due = min(self.due, deadline)
            if self.latest is not None or self.used == 1:
                self.latest = max(self.latest or deadline, deadline)

    def renew(self, lease_id: str, deadline: float) -> None:
        """Let a live lease run until ``deadline``."""
        if lease_id in self.leases.by_id:
            self.leases.renew(lease_id, deadline)
            self.due = self.leases.next_end()
            self.latest = None

    def settle(self, lease_id: str, cost: int, now: float) -> None:
        """Free the slot of a lease."""
        lease = self.leases.by_id.pop(lease_id, None)
        if lease is not None:
            self.used -= 1
            if lease.deadline == self.latest:
                self.latest = None

    def remaining(self) -> int:
        """Free slots."""
        return max(0, self.most - self.used)

    def reset(self, now: float) -> float:
        """Seconds until the last lease has run out."""
        if self.used == 0:
            return 0.0
        if self.latest is None:
            self.latest = max(lease.deadline for lease in self.leases.by_id.values())
        return (self.latest - now) / MICROSECONDS

    def idle_at(self, now: float) -> float:
        """Before this the limit is not as if nobody had ever asked."""
        return self.leases.next_end() if self.used else now


class Bucket:
    """A limit of a window."""

    __slots__ = (
        "brim",
        "capacity",
        "debt",
        "dips",
        "due",
        "entries",
        "fresh_until",
        "grain",
        "leases",
        "limit",
        "most",
        "plain",
        "rate",
        "stamp",
        "tail",
        "used",
        "window",
        "window_seconds",
    )

    def __init__(self, limit: Limit, share: float, now: float) -> None:
        self.entries: list[Entry] = []
        self.tail: Entry | None = None
        self.fresh_until = -inf  # until when the last entry may take in more
        self.used = 0
        self.due = inf  # nothing comes back before this; it may be later
        self.debt = 0.0
        self.stamp = now
        self.dips: Dips | None = None  # while anything is reserved
        self.leases: Leases | None = None
        self.adapt(limit, share)

    def adapt(self, limit: Limit, share: float) -> None:
        """Go by ``limit`` from now on; what was taken stays taken.

        Raises:
            ConfigurationError: It has no window.
        """
        if limit.window_seconds <= 0:
            raise ConfigurationError(
                f"a limit of {limit.unit} needs a window of at least 1 second",
                param="window_seconds",
            )
        self.limit = limit
        self.rate = amount = shared(limit.amount, share)
        self.window_seconds = float(limit.window_seconds)
        self.window = self.window_seconds * MICROSECONDS
        self.grain = self.window / GRAINS
        burst = shared(limit.burst, share) if limit.burst is not None and amount else amount
        # A bucket that holds the whole amount never runs dry before the window does.
        self.plain = burst == amount
        self.brim = burst * self.window
        self.capacity = burst
        self.most = amount if burst <= amount else inf
        self._find_due()

    def _find_due(self) -> None:
        due = self.entries[0].last + self.window if self.entries else inf
        self.due = due if self.leases is None else min(due, self.leases.next_end())

    def advance(self, now: float) -> None:
        """Let what has come back by ``now`` come back."""
        if not self.plain:
            self.debt = max(0.0, self.debt - (now - self.stamp) * self.rate)
            self.stamp = now
        if self.due <= now:
            entries = self.entries
            horizon = now - self.window
            while entries and entries[0].last <= horizon:
                gone = entries.pop(0)
                self.used -= gone.amount
                gone.last = -inf  # a lease may still point here
            if not entries:
                self.tail = None
                self.fresh_until = -inf
            if self.leases is not None:
                for lease in self.leases.lapsed(now):
                    self._give_back(lease, lease.amount)
                self._forget_dips()
            self._find_due()

    def affords(self, cost: int) -> bool:
        """Whether ``cost`` can be taken; of an advanced bucket."""
        if cost == 0:
            return True
        if cost > self.most - self.used or cost > self.capacity:
            return False
        return self.plain or self._lacks(cost) < self.rate

    def _lacks(self, cost: int) -> float:
        return self.debt + cost * self.window - self.brim

    def wait(self, cost: int, now: float) -> float:
        """Seconds until ``cost`` can be taken, if nobody takes or gives back meanwhile."""
        if self.affords(cost):
            return 0.0
        if cost > self.capacity:
            return inf
        ready = now
        excess = self.used + cost - self.most
        if excess > 0:
            for entry in self.entries:
                excess -= entry.amount
                if excess <= 0:
                    ready = entry.last + self.window
                    break
        if not self.plain:
            ready = max(ready, now + ceil(self._lacks(cost) / self.rate))
        return (ready - now) / MICROSECONDS

    def take(self, demand: Demand, now: float, lease_id: str, deadline: float) -> None:
        """Take what is demanded, affordable or not."""
        cost = demand.cost
        if cost == 0:
            return
        self.add(cost, now)
        if demand.held:
            if self.leases is None:
                self.leases = Leases()
            number = 0
            if not self.plain:
                if self.dips is None:
                    self.dips = Dips()
                number = self.dips.reserve(self.debt)
            self.leases.add(lease_id, Lease(deadline, cost, self.tail, number))
            self.due = min(self.due, deadline)

    def add(self, cost: int, now: float) -> None:
        """Take ``cost``, at least 1, affordable or not."""
        if not self.plain:
            if self.dips is not None:
                self.dips.note(self.debt)
            # A debt never exceeds what one more window brings back.
            most = self.brim + self.rate * self.window
            self.debt = min(self.debt + cost * self.window, most)
        if self.most == inf:
            return
        self.used += cost
        tail = self.tail
        if tail is not None and now <= self.fresh_until:
            tail.last = now
            tail.amount += cost
        else:
            self.tail = tail = Entry(now, cost)
            self.entries.append(tail)
            self.fresh_until = now + self.grain
            # Not only where nothing was due: a lease can be, that outlives its own entry.
            self.due = min(self.due, now + self.window)

    def _give_back(self, lease: Lease, amount: int) -> None:
        if self.dips is not None and not self.plain:
            self.debt -= self.dips.give_back(lease.number, amount * self.window, self.debt)
        entry = lease.entry
        if entry is None or entry.last == -inf:
            return
        amount = min(amount, entry.amount)
        entry.amount -= amount
        self.used -= amount
        # An empty entry at the end would put off the time at which the limit is whole again.
        entries = self.entries
        while entries and entries[-1].amount == 0:
            entries.pop().last = -inf
            self.tail = entries[-1] if entries else None
            self.fresh_until = -inf

    def renew(self, lease_id: str, deadline: float) -> None:
        """Let a live reservation run until ``deadline``."""
        if self.leases is not None:
            self.leases.renew(lease_id, deadline)
            self._find_due()

    def settle(self, lease_id: str, cost: int, now: float) -> None:
        """End a lease with what it cost; of an advanced bucket."""
        lease = None if self.leases is None else self.leases.by_id.pop(lease_id, None)
        reserved = 0 if lease is None else lease.amount
        if cost > reserved:
            self.add(cost - reserved, now)
        elif lease is not None and cost < reserved:
            self._give_back(lease, reserved - cost)
        self._forget_dips()

    def _forget_dips(self) -> None:
        if self.leases is not None and not self.leases.by_id:
            self.dips = None

    def remaining(self) -> int:
        """What may be taken at once."""
        left = self.most - self.used
        if not self.plain:
            left = min(left, (self.brim - self.debt) // self.window)
        return max(0, int(left))

    def reset(self, now: float) -> float:
        """Seconds until the limit is whole again."""
        return (self._whole_at(now) - now) / MICROSECONDS

    def _whole_at(self, now: float) -> float:
        ready = now if self.tail is None else self.tail.last + self.window
        if self.debt and self.rate:
            ready = max(ready, self.stamp + ceil(self.debt / self.rate))
        return ready

    def idle_at(self, now: float) -> float:
        """Before this the limit is not as if nobody had ever asked."""
        if self.leases is not None and self.leases.by_id:
            return max(self._whole_at(now), self.leases.next_end())
        return self._whole_at(now)


def shared(amount: int, share: float) -> int:
    """A share of an amount: at least 1, unless nothing may pass at all."""
    return amount if share == 1.0 or amount == 0 else max(1, int(amount * share))
