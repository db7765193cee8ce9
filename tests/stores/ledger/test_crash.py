"""Workers that are killed at random moments lose nothing."""

from __future__ import annotations

import asyncio
import re
import sys


async def test_the_rows_equal_what_was_served_after_forty_kills() -> None:
    """Every call that the upstream counted has one row; those in flight at a kill are flagged."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.stores.ledger.crash", "--kills", "40", "--seed", "3"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(120):
        printed, _ = await process.communicate()
    figures = {
        found[1]: int(found[2].replace(",", ""))
        for found in re.finditer(r"^(.+?) {2,}([\d,]+)$", printed.decode(), re.MULTILINE)
    }
    assert 0 == process.returncode, printed.decode()
    assert 40 == figures["kills"]
    assert figures["rows of known outcome"] >= figures["answered to clients"] > 0
    assert (
        figures["in flight at a kill"]
        >= figures["rows unknown after a crash"] - (figures["of those, never served"])
    )
    assert 0 == sum(count for name, count in figures.items() if name.split()[0].isupper())
