"""The rows equal what the provider served, through crashes, outages and clients that leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.books.comparison import differences, report
from tests.e2e.books.faults import FAULTS

TIMES = {
    "kills": 12,
    "terminations": 2,
    "leaving": 150,
    "database-away": 3,
    "redis-restarted": 2,
    "disk-full": 1,
    "disk-full-denied": 1,
}
"""A little of each; ``python -m tests.e2e.books`` is the whole of it."""


@pytest.mark.parametrize("name", FAULTS)
async def test_b17_b28_b29_b30_b31_the_rows_equal_what_was_served(
    tmp_path: Path, name: str
) -> None:
    """Every call that the upstream counted has its one row, of the right usage and price."""
    fault, _ = FAULTS[name]
    found = await fault(tmp_path, times=TIMES[name])
    assert {} == differences(found), report(name, found)
    assert found["served"] > 10
