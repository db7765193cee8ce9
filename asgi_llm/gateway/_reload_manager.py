"""SIGHUP, to one process or to the one that looks after several: read the configuration again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import uvicorn
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

__all__ = ["STARTUP_FAILURE", "Manager", "on_hang_up"]

STARTUP_FAILURE: Final = 3
"""The exit status by which a worker says that it could not start."""

_PAUSE_SECONDS: Final = 5.0
_INPUT: Final = 0


def on_hang_up(
    reload: Callable[[], None] | None, loop: asyncio.AbstractEventLoop | None = None
) -> None:
    """Say what becomes of SIGHUP from now on, in the process that serves.

    One that says that the terminal is gone, in which the process was started, ends it as before.

    Args:
        reload: Called on ``loop`` at any other; None: it does not serve yet, and has read the file
            a moment ago.
        loop: Where it is called.
    """
    is_gone = _watch_terminal()

    def heed(*_: object) -> None:
        if is_gone():
            signal.raise_signal(signal.SIGTERM)
        elif reload is not None and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(reload)

    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, heed)


def _watch_terminal() -> Callable[[], bool]:
    """Says whether the terminal that is there now is gone."""
    is_there = os.isatty(_INPUT)
    return lambda: is_there and not os.isatty(_INPUT)


class Manager(Multiprocess):
    """Looks after the workers. SIGHUP goes on to each of them, and none is started anew for it.

    A worker that died is replaced. Where its successor cannot start, as with a file that the others
    have refused since, it is tried again, and the others go on.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self._terminal_is_gone = _watch_terminal()
        self._missing = 0
        self._again_at = 0.0

    def handle_hup(self) -> None:
        """Let all workers read the configuration again."""
        if self._terminal_is_gone():
            self.handle_term()
            return
        for process in self.processes:
            # One that is not ready would die of it.
            if process.wait_until_ready(self.config.timeout_worker_healthcheck, self.should_exit):
                _hang_up(process)

    def keep_subprocess_alive(self) -> None:
        """Replace the workers that died."""
        if self.should_exit.is_set():
            return
        if self._missing and time.monotonic() >= self._again_at:
            for _ in range(self._missing):
                process = Process(self.config, self.sockets)
                process.start()
                self.processes.append(process)
            self._missing = 0
        super().keep_subprocess_alive()
        # Nothing else sets it there than a worker that could not start.
        if self.should_exit.is_set():
            serving = [one for one in self.processes if one.exitcode != STARTUP_FAILURE]
            if any(process.is_ready() for process in serving):
                self._missing = len(self.processes) - len(serving)
                self._again_at = time.monotonic() + _PAUSE_SECONDS
                self.processes = serving
                self.should_exit.clear()


def _hang_up(process: Process) -> None:
    if process.pid is not None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGHUP)
