"""A gateway in a process of its own, as a user starts it."""

from __future__ import annotations

import os
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMAND = str(Path(sysconfig.get_path("scripts"), "asgi-llm"))

START_SECONDS = 30.0
STOP_SECONDS = 15.0


def clean_environment() -> dict[str, str]:
    """The environment without what a gateway would configure itself from."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ASGI_LLM_", "OPENAI_", "AZURE_"))
        and not name.endswith(("_API_KEY", "_TOKEN", "_PROXY", "_proxy"))
    }


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running_gateway(folder: Path, *arguments: str, **environment: str) -> Iterator[str]:
    """``asgi-llm serve`` in ``folder``: its origin, once it accepts connections."""
    port = free_port()
    command = [COMMAND, "serve", "--port", str(port)]
    log = folder / "gateway.log"
    with log.open("w") as output:
        child = subprocess.Popen(
            [*command, *arguments],
            cwd=folder,
            env=clean_environment() | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _accepts(port):
            try:
                child.wait(0.05)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
            raise RuntimeError(f"the gateway did not start:\n{log.read_text()}")
        yield f"http://127.0.0.1:{port}"
    finally:
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise RuntimeError(f"the gateway did not stop:\n{log.read_text()}") from None
    assert 0 == child.returncode, log.read_text()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
