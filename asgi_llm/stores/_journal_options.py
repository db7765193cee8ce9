"""How the lanes of a process are written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores._journal_sync import GroupSync
from asgi_llm.stores._journal_writer import LaneWriter, Sync

__all__ = ["LaneOptions"]

_WORKER: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SMALLEST_SEGMENT: Final = 4096


class LaneOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of ``FileJournal`` that concern a lane."""

    folder: Path
    worker: str
    max_segment_bytes: int
    fsync: Sync
    fsync_interval_seconds: float
    map_segments: bool

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            ConfigurationError: An option is out of range.
        """
        if _WORKER.fullmatch(self.worker) is None:
            raise ConfigurationError(
                "worker must be 1 to 64 letters, digits, _ and -", param="worker"
            )
        if self.max_segment_bytes < _SMALLEST_SEGMENT:
            raise ConfigurationError(
                f"max_segment_bytes must be at least {_SMALLEST_SEGMENT}", param="max_segment_bytes"
            )
        if self.fsync not in ("always", "group", "never"):
            raise ConfigurationError("fsync must be always, group or never", param="fsync")
        if not (0 < self.fsync_interval_seconds <= 60):
            raise ConfigurationError(
                "fsync_interval_seconds must be above 0 and at most 60",
                param="fsync_interval_seconds",
            )

    def begin(self) -> tuple[LaneWriter, GroupSync | None]:
        """A new lane, and what brings it onto the disk where no writer waits for that.

        Raises:
            OSError: It cannot be made.
        """
        group = GroupSync(self.fsync_interval_seconds) if self.fsync == "group" else None
        try:
            writer = LaneWriter(
                self.folder,
                self.worker,
                max_segment_bytes=self.max_segment_bytes,
                maps=self.map_segments,
                sync=self.fsync,
                group=group,
            )
        except OSError:
            if group is not None:
                group.close()
            raise
        return writer, group
