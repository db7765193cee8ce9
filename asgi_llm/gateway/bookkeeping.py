"""The books of one worker: its journal on disk, and the way from there to the ledger."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from pathlib import Path

from asgi_llm.gateway._cost_definitions import JournalDefinition
from asgi_llm.stores.journal import FileJournal
from asgi_llm.stores.journal_shipper import JournalShipper
from asgi_llm.stores.ledger import Ledger

__all__ = ["Bookkeeping", "open_journal"]

logger = logging.getLogger(__name__)

_PROBE_BYTES = 4096


def open_journal(definition: JournalDefinition, *, folder: Path) -> FileJournal:
    """The journal of this process. Nothing is opened before it is written.

    Args:
        definition: As the configuration has it.
        folder: Where it is, unless the definition says so.
    """
    return FileJournal(
        definition.folder or folder,
        fsync=definition.fsync,
        fsync_interval_seconds=definition.fsync_interval_seconds,
        map_segments=definition.map_segments,
    )


class Bookkeeping:
    """A journal, and the shipper that brings its rows to a ledger.

    Nothing is opened before the first write, or ``start``.

    Args:
        journal: Of this process.
        ledger: Where the rows go.
        takeover_seconds: How often journals of dead workers are looked for, above 0.
    """

    def __init__(
        self, journal: FileJournal, ledger: Ledger, *, takeover_seconds: float = 60.0
    ) -> None:
        self.journal = journal
        self._shipper = JournalShipper(journal, ledger, takeover_seconds=takeover_seconds)

    def start(self) -> None:
        """Record what dead workers have left, from now on."""
        self._shipper.start()

    async def check_journal(self) -> bool:
        """Whether the disk takes what is written; one that refused is tried again."""
        return not self.journal.is_failing or await asyncio.to_thread(_takes, self.journal.folder)

    def facts(self) -> dict[str, object]:
        """How much waits, for ``/health``."""
        return {
            "pending_rows": self._shipper.pending_rows,
            "oldest_age_seconds": round(self._shipper.oldest_age_seconds, 1),
        }

    def journal_facts(self) -> dict[str, object]:
        """What the disk did not take, for ``/health``."""
        journal = self.journal
        return {
            "rows_in_memory": journal.unwritten_rows,
            "unwritten_intents": journal.unwritten_intents,
            "lost_rows": journal.lost_rows,
        }

    async def aclose(self) -> None:
        """Record what is pending as far as that goes in time; the rest stays on disk."""
        await self._shipper.aclose()


def _takes(folder: Path) -> bool:
    """Whether a few bytes can be written there."""
    probe = folder / f".probe-{secrets.token_hex(8)}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, bytes(_PROBE_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            probe.unlink()
    except OSError as error:
        logger.debug("the journal's folder takes nothing: %s", error.strerror)
        return False
    return True
