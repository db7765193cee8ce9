"""Processes that do as lines of JSON tell them, and answer each with a line of JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

__all__ = ["Peer", "answer_lines"]

ANSWER_SECONDS = 300.0
"""Longer than anything that is asked of a peer may take."""


class Peer:
    """``python -m MODULE ARGUMENTS``, a process that ends with the block.

    Args:
        module: One whose main part is ``answer_lines``.
        arguments: Its command line.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self._command = (sys.executable, "-m", module, *arguments)
        self._process: asyncio.subprocess.Process

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        if self._process.returncode is None and error is not None:
            self._process.kill()
        self._process.stdin.close()
        await self._process.communicate()
        assert error is not None or self._process.returncode == 0

    async def ask(self, **order: Any) -> Any:
        """Give an order, and wait for its answer.

        Raises:
            RuntimeError: The process has ended.
            TimeoutError: It took longer than five minutes.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        async with asyncio.timeout(ANSWER_SECONDS):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self._command[1:])} has ended")
        return json.loads(line)


async def answer_lines(answer: Callable[..., Awaitable[Any]]) -> None:
    """Give ``answer`` each line of the standard input as keywords, until it ends."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        print(json.dumps(await answer(**json.loads(line))), flush=True)
