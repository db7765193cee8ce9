"""The prebuilt gateway with its worker processes, and who of them serves which connection."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.e2e.faults.wire import Connection
from tests.e2e.gateway_process import COMMAND, clean_environment
from tests.services.postgres_server import children_of

__all__ = ["Fleet", "Served", "poll"]

START_SECONDS = 60.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.02


async def poll(what: str, is_so: Callable[[], Awaitable[bool]], *, seconds: float) -> float:
    """Ask ``is_so()`` every 20 ms until it is true; the seconds that took.

    Raises:
        AssertionError: It was not, in ``seconds``.
    """
    began = time.monotonic()
    while not await is_so():
        assert time.monotonic() - began < seconds, f"not within {seconds} seconds: {what}"
        await asyncio.sleep(POLL_SECONDS)
    return time.monotonic() - began


class Served(NamedTuple):
    """One request as the gateway logged it: Unix seconds between which it was decided."""

    began: float
    ended: float
    status: int


class Fleet:
    """``asgi-llm serve`` in a process of its own, with so many workers.

    Args:
        folder: Where its configuration and its log are.
        configuration: A ``server`` in it takes the place of the one below.
        workers: How many; said to the command, unless that ``server`` says it.
    """

    def __init__(self, folder: Path, configuration: Mapping[str, Any], *, workers: int) -> None:
        self._folder = folder
        self.workers = workers
        server = {"port": 0, "log_format": "json", "graceful_shutdown_seconds": 1}
        content = {"server": server, **configuration}
        path = folder / "asgi-llm.yaml"
        path.write_text(json.dumps(content))
        is_said = "workers" in content["server"]
        self._arguments = [] if is_said else ["--workers", str(workers)]
        self._log = folder / "gateway.log"
        self._process: subprocess.Popen[bytes]
        self.port = 0

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [COMMAND, "serve", *self._arguments],
                cwd=self._folder,
                env=clean_environment() | {"PYTHONWARNINGS": "error"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self.port = self._wait_for_port()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        finally:
            self._kill()
        if error is None:
            assert 0 == self._process.returncode, self.log()
            assert "Traceback" not in self.log(), self.log()

    @property
    def pid(self) -> int:
        """Of the process that was started; with one worker it is that."""
        return self._process.pid

    def terminate(self) -> None:
        """Ask it to end, and wait until it has."""
        self._process.terminate()
        self._process.wait(STOP_SECONDS)

    def _kill(self) -> None:
        """End the whole session, its workers too; where it ended by itself there is none."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _wait_for_port(self) -> int:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            _, found, rest = self.log().partition("serving http://127.0.0.1:")
            if found and "/" in rest:
                return int(rest.partition("/")[0])
            time.sleep(POLL_SECONDS)
        raise RuntimeError(f"the gateway did not start:\n{self.log()}")

    def log(self) -> str:
        """What it and its workers have written so far."""
        return self._log.read_text()

    def served(self) -> dict[str, Served]:
        """The access log by request id, with the times of the server itself."""
        found = {}
        for line in self.log().splitlines():
            record = json.loads(line)
            if record.get("event") == "request":
                # The end is cut to milliseconds.
                ended = _seconds(record["timestamp"])
                began = ended - record["duration_ms"] / 1000
                found[record["request_id"]] = Served(began, ended + 0.001, record["status"])
        return found

    @asynccontextmanager
    async def connections(self, number: int) -> AsyncIterator[dict[int, list[Connection]]]:
        """Open connections, as many to each worker, by the worker's pid.

        The kernel gives a connection to whoever is first to take it, so it takes more than one try.

        Args:
            number: How many in all.
        """
        each = number // self.workers
        kept: dict[int, list[Connection]] = {}
        opened: list[Connection] = []
        deadline = time.monotonic() + START_SECONDS
        try:
            while sum(map(len, kept.values())) < each * self.workers:
                assert time.monotonic() < deadline, f"some worker takes no connection: {kept}"
                new = [Connection(self.port) for _ in range(max(8, each))]
                await asyncio.gather(*(connection.open() for connection in new))
                opened += new
                for pid, mine in (await self._taken(new)).items():
                    found = kept.setdefault(pid, [])
                    found += mine[: each - len(found)]
            yield kept
        finally:
            for connection in opened:
                await connection.close()

    async def _taken(self, connections: Sequence[Connection]) -> dict[int, list[Connection]]:
        """The connections by the pid of the worker that took each, once all are taken."""

        async def all_are() -> bool:
            return len(self._owners(connections)) == len(connections)

        await poll("every connection is taken", all_are, seconds=START_SECONDS)
        owners = self._owners(connections)
        taken: dict[int, list[Connection]] = {}
        for connection in connections:
            taken.setdefault(owners[connection.local_port], []).append(connection)
        return taken

    def _owners(self, connections: Sequence[Connection]) -> dict[int, int]:
        """The pid of the worker that serves each connection, by the client's port."""
        processes = {}
        for pid in children_of(self._process.pid) if self.workers > 1 else [self._process.pid]:
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(FileNotFoundError):
                    processes[os.readlink(descriptor)] = pid
        ports = {connection.local_port for connection in connections}
        owners = {}
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            local, remote = (int(address.rpartition(":")[2], 16) for address in fields[1:3])
            owner = processes.get(f"socket:[{fields[9]}]")
            if local == self.port and remote in ports and owner is not None:
                owners[remote] = owner
        return owners


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
