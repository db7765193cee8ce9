"""The state of one breaker and its rules, without I/O; ``breakers.lua`` has the same.

Times are microseconds of one clock that never goes back.
"""

from __future__ import annotations

from math import floor

from asgi_llm.stores.breakers import BreakerPolicy

__all__ = ["FORGET", "SLICES", "Circuit", "Terms"]

SLICES = 10
"""The window moves on by this part of it."""
FORGET = 3600 * 1_000_000
"""A breaker that nobody tried for so long after its cool-down is closed: no more is known."""
_MOST_TRIPS = 32


class Terms:
    """A policy in microseconds."""

    __slots__ = (
        "cool_down",
        "failures",
        "jitter",
        "max_cool_down",
        "minimum_calls",
        "most_asked_for",
        "rate",
        "slice",
        "trial",
    )

    def __init__(self, policy: BreakerPolicy) -> None:
        self.slice = max(1, round(policy.window_seconds * 1e6 / SLICES))
        self.failures = policy.failures
        self.minimum_calls = policy.minimum_calls
        self.rate = policy.failure_rate
        self.cool_down = round(policy.cool_down_seconds * 1e6)
        self.max_cool_down = round(policy.max_cool_down_seconds * 1e6)
        self.jitter = policy.jitter
        self.trial = round(policy.trial_seconds * 1e6)
        self.most_asked_for = policy.max_retry_after_seconds * 1e6

    def asked_for(self, seconds: float | None) -> int:
        """The cool-down that a provider asked for, within the policy; 0: none."""
        if seconds is None or not seconds > 0:
            return 0
        return round(min(seconds * 1e6, self.most_asked_for))

    def wait(self, trips: int, random: float) -> int:
        """The cool-down of the n-th time that it opens."""
        whole = min(self.cool_down << (trips - 1), self.max_cool_down)
        return floor(whole * (1 - self.jitter * random))


class Circuit:
    """One breaker.

    Attributes:
        is_open: Whether it is not closed: open before ``until``, half-open after.
        until: When the cool-down ends.
        lease: The trial that is under way; empty: none.
        lease_until: When that is given up.
        fresh_until: Until then answers may be added to the last slice.
    """

    __slots__ = (
        "closed_at",
        "fresh_until",
        "is_open",
        "lease",
        "lease_until",
        "slices",
        "trips",
        "until",
    )

    def __init__(self) -> None:
        self.is_open = False
        self.until = 0
        self.lease = ""
        self.lease_until = 0
        self.trips = 0
        self.closed_at = 0
        self.fresh_until = 0
        # (number, calls, failures), oldest first.
        self.slices: list[list[int]] = []

    def advance(self, now: int) -> None:
        """Forget what is too long ago."""
        if self.is_open and now >= self.until + FORGET:
            self.is_open = False
            self.lease = ""
            self.trips = 0

    def count(self, now: int, terms: Terms, calls: int, failures: int = 0) -> None:
        """Add outcomes to the window of a closed breaker."""
        number = now // terms.slice
        slices = self.slices
        if slices and slices[-1][0] >= number:
            last = slices[-1]
            last[1] += calls
            last[2] += failures
            return
        slices.append([number, calls, failures])
        self.fresh_until = (number + 1) * terms.slice
        while slices[0][0] <= number - SLICES:
            del slices[0]

    def fail(
        self,
        now: int,
        terms: Terms,
        *,
        lease: str,
        calls: int,
        counts: bool,
        cool_down: int,
        random: float,
    ) -> None:
        """A call failed.

        Args:
            now: The time.
            terms: The policy.
            lease: The trial's; empty for a call while it was closed.
            calls: Others that went well, and were not counted yet.
            counts: Whether it is one for the window.
            cool_down: How long to leave the target alone; 0: as the window says.
            random: From 0 to below 1.
        """
        self.advance(now)
        if self.is_open:
            if lease and lease == self.lease:
                self.lease = ""
                self._open(now, terms, counts, cool_down, random)
            elif cool_down:
                self.until = max(self.until, now + cool_down)
            return
        self.count(now, terms, calls + counts, int(counts))
        total = sum(one[1] for one in self.slices)
        failed = sum(one[2] for one in self.slices)
        tripped = counts and (
            failed >= terms.failures
            and total >= terms.minimum_calls
            and failed >= terms.rate * total
        )
        if tripped or cool_down:
            if now - self.closed_at >= terms.max_cool_down:
                self.trips = 0
            self._begin()
            self._open(now, terms, tripped, cool_down, random)

    def _open(self, now: int, terms: Terms, tripped: bool, cool_down: int, random: float) -> None:
        if tripped:
            self.trips = min(self.trips + 1, _MOST_TRIPS)
            cool_down = max(cool_down, terms.wait(self.trips, random))
        self.until = now + cool_down

    def hold(self, now: int, until: int) -> None:
        """Be open until then at least, whatever the window says."""
        self.advance(now)
        self.until = max(self.until, until) if self.is_open else until
        self._begin()

    def _begin(self) -> None:
        self.is_open = True
        self.slices.clear()
        self.fresh_until = 0

    def claim(self, now: int, terms: Terms, lease: str) -> bool:
        """Let the trial ``lease`` through, if it may be."""
        self.advance(now)
        if not self.is_open or now < self.until or (self.lease and now < self.lease_until):
            return False
        self.lease = lease
        self.lease_until = now + terms.trial
        return True

    def succeed(self, now: int, lease: str) -> None:
        """The trial ``lease`` went well."""
        if self.is_open and lease == self.lease:
            self.is_open = False
            self.lease = ""
            self.closed_at = now

    def release(self, lease: str) -> None:
        """The trial ``lease`` has no outcome."""
        if lease == self.lease:
            self.lease = ""
