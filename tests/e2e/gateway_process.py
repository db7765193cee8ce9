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


class GatewayProcess:
    """``asgi-llm serve`` in ``folder``; it accepts connections when this is made.

    Attributes:
        origin: As in ``http://127.0.0.1:4000``.
    """

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        port = free_port()
        self.origin = f"http://127.0.0.1:{port}"
        self._log = folder / "gateway.log"
        with self._log.open("w") as output:
            self._child = subprocess.Popen(
                [COMMAND, "serve", "--port", str(port), *arguments],
                cwd=folder,
                env=clean_environment() | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_for(port)
        except BaseException:
            self.kill()
            raise

    def _wait_for(self, port: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not _accepts(port):
            try:
                self._child.wait(0.05)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
            raise RuntimeError(f"the gateway did not start:\n{self.log()}")

    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text()

    def kill(self) -> None:
        """End it as the kernel does that needs memory: now."""
        self._child.kill()
        self._child.wait()

    def stop(self) -> None:
        """End it as a supervisor does, and see that it ends well."""
        self._child.terminate()
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"the gateway did not stop:\n{self.log()}") from None
        assert 0 == self._child.returncode, self.log()


@contextmanager
def running_gateway(folder: Path, *arguments: str, **environment: str) -> Iterator[str]:
    """``asgi-llm serve`` in ``folder``: its origin, once it accepts connections."""
    gateway = GatewayProcess(folder, *arguments, **environment)
    try:
        yield gateway.origin
    finally:
        gateway.stop()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
