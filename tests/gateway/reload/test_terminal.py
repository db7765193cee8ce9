"""SIGHUP as it comes from a terminal that is closed."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.e2e.gateway_process import COMMAND, clean_environment
from tests.gateway.reload.running import DEADLINE_SECONDS

# What a shell does for its jobs: the terminal is theirs, and tells them when it is gone.
TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_terminal_that_is_closed_ends_the_gateway(tmp_path: Path, workers: int) -> None:
    """It ends as by SIGTERM and does not live on unseen, though SIGHUP means something else."""
    (tmp_path / "asgi-llm.yaml").write_text("providers: {echo: {type: echo}}")
    master, terminal = os.openpty()
    command = (COMMAND, "serve", "--port", "0", "--workers", str(workers))
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", TAKE_TERMINAL, *command),
            cwd=tmp_path,
            env=clean_environment(),
            stdin=terminal,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    finally:
        os.close(terminal)
    assert process.stderr is not None
    log = b""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while b"/v1" not in log:
                line = await process.stderr.readline()
                assert line, log.decode()
                log += line
    finally:
        # Its other end was the last one.
        os.close(master)
    async with asyncio.timeout(DEADLINE_SECONDS):
        log += await process.stderr.read()
        assert 0 == await process.wait(), log.decode()
    assert b"Traceback" not in log, log.decode()
