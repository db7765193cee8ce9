"""Where the workers of one gateway keep their metrics, so that each can tell the sum of all."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["metrics_folder"]

_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
_FIGURES: Final = re.compile(r"(counter|gauge_[a-z]+|histogram|summary)_[0-9]+\.db")


@contextmanager
def metrics_folder() -> Iterator[None]:
    """Name a folder to all processes that are started meanwhile; it is empty at the start.

    One that ``PROMETHEUS_MULTIPROC_DIR`` names already is used, and rid of what an earlier run has
    left. Else one is made, for the owner of this process alone, and removed at the end.
    """
    named = os.environ.get(_VARIABLE)
    if named:
        folder = Path(named)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in folder.iterdir():
            if _FIGURES.fullmatch(file.name):
                file.unlink(missing_ok=True)
        yield
        return
    with tempfile.TemporaryDirectory(prefix="asgi-llm-metrics-") as made:
        os.environ[_VARIABLE] = made
        try:
            yield
        finally:
            del os.environ[_VARIABLE]
