"""A scripted upstream for synchronous tests, on an event loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from asgi_llm.testing._thread import LoopThread
from asgi_llm.testing.ledger import Served
from asgi_llm.testing.replies import Reply

if TYPE_CHECKING:
    from asgi_llm.testing.upstream import Upstream

__all__ = ["ThreadedUpstream"]


class ThreadedUpstream:
    """An ``Upstream`` in a thread, with blocking methods. Made by ``Upstream.in_thread``.

    The handler runs in the thread. An ``asyncio.Event`` of a ``Wait`` is set with ``set``.

    Args:
        upstream: The server to run, not entered yet.
    """

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._thread = LoopThread("asgi-llm-upstream")

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``, or https; no trailing slash."""
        return self._upstream.url

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._upstream.port

    @property
    def ledger(self) -> list[Served]:
        """One row a request, in order of arrival."""
        return self._upstream.ledger

    @property
    def failures(self) -> list[Exception]:
        """Errors of the test itself."""
        return self._upstream.failures

    @property
    def connections(self) -> int:
        """Connections accepted so far."""
        return self._upstream.connections

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return self._upstream.open_connections

    def script(self, *replies: Reply) -> None:
        """Queue ``replies``: each request takes the next one."""
        self._thread.call(self._upstream.script, *replies)

    def set(self, event: asyncio.Event) -> None:
        """Set an event that a ``Wait`` of a reply waits for."""
        self._thread.call(event.set)

    def until(self, condition: Callable[[], object], *, timeout_seconds: float = 5.0) -> None:
        """Wait until ``condition``, which is asked in the thread, holds. See ``Upstream.until``."""
        self._thread.run(self._upstream.until(condition, timeout_seconds=timeout_seconds))

    def arrived(self, n: int, *, timeout_seconds: float = 5.0) -> list[Served]:
        """Wait until ``n`` requests have come in; the first ``n`` rows."""
        return self._thread.run(self._upstream.arrived(n, timeout_seconds=timeout_seconds))

    def served(self, n: int, *, timeout_seconds: float = 5.0) -> list[Served]:
        """Wait until ``n`` requests are complete, left or cut; those rows."""
        return self._thread.run(self._upstream.served(n, timeout_seconds=timeout_seconds))

    def drop_connections(self) -> None:
        """Close every idle connection."""
        self._thread.run(self._upstream.drop_connections())

    def listen(self) -> None:
        """Accept connections again."""
        self._thread.call(self._upstream.listen)

    def stop_listening(self) -> None:
        """Refuse new connections; those that are open go on."""
        self._thread.call(self._upstream.stop_listening)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._thread.enter(self._upstream)
        except BaseException:
            self._thread.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._thread.leave(self._upstream, error)
        finally:
            self._thread.stop()
