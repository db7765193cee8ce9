"""A process whose clock is off: ``python -m tests.services.skewed SECONDS MODULE ...``.

The module runs as if it had been started itself; the wall clock that it sees is so many seconds
ahead of the real one, or behind it where they are negative.
"""

from __future__ import annotations

import runpy
import sys
import time


def main() -> None:
    _, seconds, module, *arguments = sys.argv
    true_time, ahead = time.time, float(seconds)
    time.time = lambda: true_time() + ahead
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
