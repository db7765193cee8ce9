"""What a failed sync means: what was not brought onto the disk is not taken for brought there."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from asgi_llm.stores._journal_sync import GroupSync
from tests.stores.ledger.waiting import until


async def test_the_thread_goes_on_when_a_file_can_be_neither_synced_nor_closed(
    tmp_path: Path,
) -> None:
    """It is counted, and what is written later is synced."""
    group = GroupSync(0.001)
    opened = os.open(tmp_path / "a", os.O_CREAT | os.O_RDWR)
    # A number that nobody else gets.
    file = fcntl.fcntl(opened, fcntl.F_DUPFD, 500)
    os.close(opened)
    os.close(file)
    group.adopt(file, tmp_path)
    group.retire()
    await until(lambda: group.failures >= 1)
    group.adopt(os.open(tmp_path / "b", os.O_CREAT | os.O_RDWR), tmp_path)
    await until(lambda: group.is_due)
    assert group.wrote()
    group.close()
