"""Starts processes, loads them, and reads from ``/proc`` what that cost."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.performance.targets import TARGETS
from tests.performance.wire import CHUNKS
from tests.services.redis_server import redis_binary

ROOT = Path(__file__).resolve().parents[2]
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_UVICORN = (
    *("--loop", "uvloop", "--http", "httptools", "--workers", "1"),
    *("--no-access-log", "--log-level", "warning", "--backlog", "4096"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """One kind of load."""

    name: str
    connections: int
    stream: bool

    @property
    def units_per_request(self) -> int:
        """What the CPU time of one request is divided by."""
        return CHUNKS if self.stream else 1


LOADS = (
    Load(name="json", connections=64, stream=False),
    Load(name="stream", connections=16, stream=True),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One target under one load, once.

    Args:
        cpu_us: User and system time of the target's process tree, in microseconds per request, or
            per chunk of a stream.
        busy_percent: Share of one CPU that the target used.
        steal_percent: Share of one CPU that the host took away, over all CPUs.
        other_percent: Share of the target's CPU that other processes used.
    """

    round: int
    target: str
    load: str
    cpu_us: float
    busy_percent: float
    steal_percent: float
    other_percent: float
    requests: int
    per_second: float
    reads_per_request: float
    p50_ms: float
    p99_ms: float
    first_byte_p50_ms: float

    def to_json(self) -> dict[str, Any]:
        """As written into the results file."""
        return asdict(self)


_usable = sorted(os.sched_getaffinity(0))


def cpus() -> tuple[int, int]:
    """The CPU of the target, and the CPU of everything else."""
    return _usable[-1], _usable[0]


def step_aside() -> None:
    """Leave the target's CPU to the target: this process does, and whatever it starts from now."""
    os.sched_setaffinity(0, {cpus()[1]})


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def process(command: list[str], *, port: int, **environment: str) -> Iterator[int]:
    """Run ``command`` until the block ends; entered when it listens on ``port``.

    Raises:
        RuntimeError: It ended, or did not listen within 30 seconds.
    """
    child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment})
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if child.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command} does not listen on port {port}") from None
                time.sleep(0.02)
        yield child.pid
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextmanager
def upstream() -> Iterator[str]:
    """The upstream's origin."""
    port = free_port()
    command = [sys.executable, "-m", "tests.performance.upstream", str(port)]
    with process(command, port=port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def redis() -> Iterator[str]:
    """The URL of a Redis server that keeps nothing on disk."""
    port = free_port()
    command = [redis_binary(), "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--save", "", "--appendonly", "no", "--loglevel", "warning"]
    with process(command, port=port):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def target(name: str, origin: str, redis_url: str = "") -> Iterator[tuple[int, int]]:
    """A target under uvicorn: its process id and its port."""
    port = free_port()
    application = "tests.performance.serving:app"
    command = [sys.executable, "-m", "uvicorn", "--factory", application, "--port", str(port)]
    known = {
        "PERFORMANCE_TARGET": TARGETS[name].factory,
        "PERFORMANCE_UPSTREAM": origin,
        "PERFORMANCE_REDIS": redis_url,
    }
    with process([*command, *_UVICORN], port=port, **known) as pid:
        yield pid, port


def drive(name: str, port: int, load: Load, seconds: float) -> dict[str, Any]:
    """Run the driver once and return its figures.

    Raises:
        RuntimeError: The target gave a wrong answer.
    """
    command = [sys.executable, "-m", "tests.performance.driver", "--port", str(port)]
    command += ["--connections", str(load.connections), "--seconds", str(seconds)]
    command += ["--model", TARGETS[name].model, *(["--stream"] if load.stream else [])]
    child = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    output, errors = child.communicate(timeout=seconds + 60)
    if child.returncode:
        raise RuntimeError(f"{name}, {load.name}: {errors.strip()}")
    figures: dict[str, Any] = json.loads(output)
    return figures


def measure(name: str, pid: int, port: int, load: Load, seconds: float, round: int) -> Run:
    """Drive a warm target once, on a CPU where nothing else is, and say what it cost."""
    target_cpu, other_cpu = cpus()
    used, steal, busy, started = cpu_seconds(pid), stolen(), cpu_busy(target_cpu), time.monotonic()
    os.sched_setaffinity(pid, {target_cpu})
    try:
        figures = drive(name, port, load, seconds)
    finally:
        os.sched_setaffinity(pid, {other_cpu})
    time.sleep(0.05)  # the kernel adds CPU time up at its next tick
    elapsed = time.monotonic() - started
    used = cpu_seconds(pid) - used
    other = cpu_busy(target_cpu) - busy - used
    return Run(
        round=round,
        target=name,
        load=load.name,
        cpu_us=round_to(used / (figures["requests"] * load.units_per_request) * 1e6),
        busy_percent=round_to(used / elapsed * 100),
        steal_percent=round_to((stolen() - steal) / elapsed * 100),
        other_percent=round_to(max(0.0, other) / elapsed * 100),
        **figures,
    )


def round_to(value: float) -> float:
    """Two digits behind the point: more would only look exact."""
    return float(f"{value:.2f}")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of its living descendants, in steps of 10 ms."""
    ticks = 0
    for member in _tree(pid):
        fields = _stat_fields(member)
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS_PER_SECOND


def stolen() -> float:
    """Seconds that the host has taken from this machine's CPUs since boot."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return int(fields[8]) / _TICKS_PER_SECOND


def cpu_busy(cpu: int) -> float:
    """Seconds that one CPU has worked since boot, for anyone."""
    for line in Path("/proc/stat").read_text().splitlines():
        fields = line.split()
        if fields[0] == f"cpu{cpu}":
            user, nice, system, _idle, _wait, interrupts, softirqs = map(int, fields[1:8])
            return (user + nice + system + interrupts + softirqs) / _TICKS_PER_SECOND
    raise RuntimeError(f"there is no CPU {cpu}")


def _stat_fields(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def _tree(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int(_stat_fields(int(entry.name))[1])
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
            children.setdefault(parent, []).append(int(entry.name))
    members, waiting = [], [pid]
    while waiting:
        member = waiting.pop()
        members.append(member)
        waiting += children.get(member, [])
    return members
