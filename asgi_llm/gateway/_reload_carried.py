"""What outlives a change of configuration: each resource by what it was made from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from asgi_llm.gateway.compose import Resource, Starting

__all__ = ["Carried", "Hold"]

T = TypeVar("T")


class _Entry:
    __slots__ = ("holds", "key", "kind", "value")

    def __init__(self, kind: str, key: object, value: Any) -> None:
        self.kind = kind
        self.key = key
        self.value = value
        self.holds: set[Hold] = set()


class Carried:
    """The resources of one process that gateways built one after another have in common.

    A resource whose kind and key are those of one that is held is that one, with all that it
    remembers; it is closed when the last gateway that holds it has ended.
    """

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._own = Hold(self)
        # Builds run in a thread, and what they replace ends on the loop meanwhile: it waits for
        # the one, never for the other, under which a model may be loaded.
        self._lock = threading.Lock()
        self._building = threading.RLock()
        self._making = False

    def hold(self) -> Hold:
        """The share of one gateway, which is to be built."""
        return Hold(self)

    def has(self, kind: str) -> bool:
        """Whether a resource of that kind is held by anyone."""
        with self._lock:
            return any(entry.kind == kind for entry in self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def take(
        self, hold: Hold, kind: str, key: object, make: Callable[[], T], *, lasting: bool = False
    ) -> T:
        """See ``Hold.take``."""
        with self._building:
            if self._making:
                raise RuntimeError(f"{kind} was taken while another resource was made")
            with self._lock:
                for entry in self._entries:
                    if entry.kind == kind and entry.key == key:
                        entry.holds.add(hold)
                        found: T = entry.value
                        return found
            value = self._made(make)
            entry = _Entry(kind, key, value)
            entry.holds.add(hold)
            if lasting:
                entry.holds.add(self._own)
            with self._lock:
                self._entries.append(entry)
            return value

    def _made(self, make: Callable[[], T]) -> T:
        self._making = True
        try:
            return make()
        finally:
            self._making = False

    def entry_of(self, hold: Hold, resource: object) -> _Entry | None:
        """The entry by which ``hold`` has ``resource``; None: it is its own."""
        with self._lock:
            return next(
                (one for one in self._entries if one.value is resource and hold in one.holds), None
            )

    def join(self, hold: Hold, entry: _Entry) -> None:
        """Hold it again, after it was given up."""
        with self._lock:
            entry.holds.add(hold)
            if entry not in self._entries:
                self._entries.append(entry)

    def leave(self, hold: Hold, entry: _Entry) -> bool:
        """Give it up; True: nobody holds it any more."""
        with self._lock:
            entry.holds.discard(hold)
            if entry.holds:
                return False
            if entry in self._entries:
                self._entries.remove(entry)
            return True

    def leave_all(self, hold: Hold) -> list[Any]:
        """Give up all that ``hold`` has; what nobody holds any more."""
        with self._lock:
            left = [one for one in self._entries if hold in one.holds]
            for entry in left:
                entry.holds.discard(hold)
            self._entries = [one for one in self._entries if one.holds]
            return [one.value for one in left if not one.holds]


class Hold:
    """What one gateway has of the resources that outlive it."""

    def __init__(self, carried: Carried) -> None:
        self._carried = carried
        self._changes: list[Callable[[], None]] = []

    def take(self, kind: str, key: object, make: Callable[[], T], *, lasting: bool = False) -> T:
        """The resource of that kind that was made from ``key``, or a new one.

        Args:
            kind: What it is.
            key: All that it is made from: definitions, or tuples of values. Compared by equality.
            make: Makes it where there is none. What it needs of others is taken before: whoever
                finds it made has to hold those as well.
            lasting: Whether it stays for a later one when nobody holds it, and is never closed.

        Raises:
            RuntimeError: ``make`` took another one.
        """
        return self._carried.take(self, kind, key, make, lasting=lasting)

    def change(self, change: Callable[[], None]) -> None:
        """Change what others may hold as well, when all is built: a failure changes nothing."""
        self._changes.append(change)

    def finish(self) -> None:
        """All is built."""
        for change in self._changes:
            change()

    def uses(self, resources: Iterable[Resource]) -> list[Resource]:
        """``resources`` to be closed with the gateway; those that were taken, by their last holder.

        Whatever else was taken, such as the counts of a cache, is given up after them.
        """
        found: list[Resource] = []
        for resource in resources:
            entry = self._carried.entry_of(self, resource)
            found.append(resource if entry is None else _Use(self._carried, self, entry))
        return [*found, self]

    async def aclose(self) -> None:
        """Give all of it up, and close what nobody else holds. May be called again."""
        for value in self._carried.leave_all(self):
            if isinstance(value, Resource):
                await value.aclose()


class _Use:
    """One gateway's use of a resource: started by each, closed by the last."""

    __slots__ = ("_carried", "_entry", "_hold")

    def __init__(self, carried: Carried, hold: Hold, entry: _Entry) -> None:
        self._carried = carried
        self._hold = hold
        self._entry = entry

    def start(self) -> None:
        """Start the resource, if it can be; nothing if it has begun."""
        self._carried.join(self._hold, self._entry)
        if isinstance(self._entry.value, Starting):
            self._entry.value.start()

    async def aclose(self) -> None:
        """Give it up, and close it where nobody else holds it. May be called again."""
        if self._carried.leave(self._hold, self._entry):
            await self._entry.value.aclose()
