"""Leases kept alive, by one heartbeat for each event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar
from weakref import WeakKeyDictionary

__all__ = ["LeaseBeats"]

T = TypeVar("T")

_RENEWED_AT_ONCE: Final = 64


class LeaseBeats(Generic[T]):
    """Renews leases from ``hold`` to ``drop``.

    One timer for each event loop runs while there are any. A third of the lease passes between two
    beats, and a lease that has not lived to see two of them has no need to be renewed: most
    requests cost the store nothing here.

    Args:
        renew: Renews a lease, given its name and what it is on; whether that went well. If not, the
            rest waits for the next beat: a store in trouble gets the rest of the lease to come
            back.
        lease_seconds: How long a lease lives by itself, above 0.
    """

    __slots__ = ("_beats", "_interval", "_renew")

    def __init__(self, renew: Callable[[str, T], Awaitable[bool]], lease_seconds: float) -> None:
        self._renew = renew
        self._interval = lease_seconds / 3
        self._beats: WeakKeyDictionary[asyncio.AbstractEventLoop, _Beat[T]] = WeakKeyDictionary()

    def hold(self, lease: str, held: T) -> None:
        """Keep ``lease``, which is on ``held``, alive. To be dropped in the same event loop."""
        loop = asyncio.get_running_loop()
        beat = self._beats.get(loop)
        if beat is None:
            beat = self._beats[loop] = _Beat(self._renew, self._interval)
        beat.leases[lease] = held
        if not beat.is_armed:
            beat.arm(loop)

    def drop(self, lease: str) -> None:
        """Renew ``lease`` no more, if it is held."""
        beat = self._beats.get(asyncio.get_running_loop())
        if beat is not None:
            beat.leases.pop(lease, None)

    def close(self) -> None:
        """Renew nothing any more."""
        for beat in self._beats.values():
            beat.leases.clear()


class _Beat(Generic[T]):
    """The heartbeat of the leases of one event loop."""

    # Neither the loop nor its timer is kept: the loop is the weak key that leads here.
    __slots__ = ("_interval", "_renew", "_seen", "_task", "is_armed", "leases")

    def __init__(self, renew: Callable[[str, T], Awaitable[bool]], interval_seconds: float) -> None:
        self._renew = renew
        self._interval = interval_seconds
        self._seen: list[str] = []
        self._task: asyncio.Task[None] | None = None
        self.leases: dict[str, T] = {}
        self.is_armed = False

    def arm(self, loop: asyncio.AbstractEventLoop) -> None:
        """Beat once more, an interval from now."""
        self.is_armed = True
        loop.call_later(self._interval, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        due = [lease for lease in self._seen if lease in self.leases]
        self._seen = list(self.leases)
        if due:
            self._task = loop.create_task(self._renew_all(due, loop))
        elif self.leases:
            self.arm(loop)
        else:
            self.is_armed = False

    async def _renew_all(self, due: list[str], loop: asyncio.AbstractEventLoop) -> None:
        try:
            for at in range(0, len(due), _RENEWED_AT_ONCE):
                renewals = [
                    self._renew(lease, self.leases[lease])
                    for lease in due[at : at + _RENEWED_AT_ONCE]
                    if lease in self.leases
                ]
                if not all(await asyncio.gather(*renewals)):
                    return
        finally:
            self._task = None
            if not loop.is_closed():
                self.arm(loop)
