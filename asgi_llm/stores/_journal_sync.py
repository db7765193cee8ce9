"""What brings the written part of a lane onto the disk."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

__all__ = ["GroupSync"]

logger = logging.getLogger(__name__)


class GroupSync:
    """A thread that brings what was written onto the disk, all of it at once, every so often.

    Args:
        interval_seconds: How long a write waits for others at most, above 0.
    """

    def __init__(self, interval_seconds: float) -> None:
        self._interval_seconds = interval_seconds
        self._lock = threading.Lock()
        self._work = threading.Event()
        self._stop = threading.Event()
        self._folder: Path | None = None
        self._current = -1
        self._retired: list[int] = []
        self._is_refused = False
        self.is_due = True
        """Whether ``wrote`` is to be called after a write; if not, that is synced as it is."""
        self.failures = 0
        """How often the disk refused."""
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)
        self._thread.start()

    def adopt(self, file: int, folder: Path) -> None:
        """Sync ``file`` from now on, and ``folder`` for its name; the file before was retired."""
        with self._lock:
            self._current, self._folder, self._is_refused = file, folder, False
        self._wake()

    def retire(self) -> None:
        """Sync the file once more, and close it."""
        with self._lock:
            if self._current >= 0:
                self._retired.append(self._current)
                self._current = -1
        self._wake()

    def wrote(self) -> bool:
        """Say that there is something to sync; False if the disk refused the last of it."""
        self._wake()
        return not self._is_refused

    def _wake(self) -> None:
        self.is_due = self._is_refused
        self._work.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._work.wait()
            self._stop.wait(self._interval_seconds)
            # In this order: whoever does not see it due yet has written before the sync.
            self._work.clear()
            self.is_due = True
            self._sync()

    def _sync(self) -> None:
        with self._lock:
            folder, self._folder = self._folder, None
            current = self._current
            retired, self._retired = self._retired, []
        try:
            if folder is not None:
                opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(opened)
                finally:
                    os.close(opened)
        except OSError as error:
            self._note(error)
        for file in retired:
            try:
                try:
                    os.fdatasync(file)
                finally:
                    os.close(file)
            except OSError as error:
                self._note(error)
        if current < 0 or self._is_refused:
            return
        try:
            # Closed by this thread alone, so that the number still means the same file.
            os.fdatasync(current)
        except OSError as error:
            # The kernel may have dropped what it could not write; to try again proves nothing.
            self._is_refused = self.is_due = True
            self._note(error)

    def _note(self, error: OSError) -> None:
        self.failures += 1
        logger.error("the journal could not be synced to the disk: %s", error.strerror)

    def close(self) -> None:
        """Sync and close everything, and end the thread."""
        self.retire()
        self._stop.set()
        self._work.set()
        self._thread.join()
        self._sync()
