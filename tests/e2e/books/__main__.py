"""Does the ledger equal what the provider served?

``python -m tests.e2e.books [FAULT ...] [--times N]`` puts a gateway under load and under faults,
prints the comparison of each, and exits with 1 where a row is missing, doubled, invented or wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.e2e.books.comparison import differences, report
from tests.e2e.books.faults import FAULTS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join(FAULTS)}")
    parser.add_argument("--times", type=int, help="how often, or for how many seconds")
    options = parser.parse_args()
    for name in options.faults:
        if name not in FAULTS:
            parser.error(f"no such fault: {name}")
    wrong = False
    for name in options.faults or FAULTS:
        fault, usual = FAULTS[name]
        times = options.times or usual
        with tempfile.TemporaryDirectory(prefix="books-") as folder:
            found = asyncio.run(fault(Path(folder), times=times))
        print(report(f"{name}, {times}", found), flush=True)
        wrong = wrong or bool(differences(found))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
