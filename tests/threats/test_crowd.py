"""A crowd at the prebuilt gateway: ``python -m tests.e2e.crowd`` with fewer connections."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.e2e.crowd.scene import Size, scene

SIZE = Size(idle=2000, streams=1000, slots=20, cap=2900)
BYTES_EACH = 32 * 1024
"""Of the gateway's memory, for a connection at most."""


async def test_a15_a_crowd_is_bounded_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Cap and limit of a key hold to the connection, others are served, and all is freed again."""
    async with asyncio.timeout(120), scene(tmp_path, SIZE) as found:
        rounds = [await found.round(requests=25, per_second=200) for _ in range(2)]
    assert 108 == SIZE.turned_away
    for one in rounds:
        assert {} == {name: n for name, n in one.counts.items() if name.isupper() and n}
        assert (20, 872, 108) == (
            one.counts["streams let in"],
            one.counts["refused by the key's limit"],
            one.counts["refused by the cap"],
        )
    grown = rounds[0].megabytes["crowd"] - rounds[0].megabytes["before"]
    assert grown * 2**20 < SIZE.cap * BYTES_EACH
    # What the first crowd took is used again by the second.
    again = rounds[1].megabytes["crowd"] - rounds[0].megabytes["crowd"]
    assert again * 2**20 < SIZE.cap * BYTES_EACH / 4
