"""A gateway whose file is changed while it runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from asgi_llm.gateway.reload import ReloadingGateway
from asgi_llm.testing import Recorder, call, http_scope

__all__ = ["DEADLINE_SECONDS", "ask", "asked", "facts", "file_of", "running", "write"]

DEADLINE_SECONDS = 30.0
JSON = (b"content-type", b"application/json")
SAYING: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "one two"}]}
QUIET = {"enabled": False}
"""For a test that says itself when the file is to be read."""


def configuration(folder: Path, *stack: Any, **more: Any) -> dict[str, Any]:
    """The offline provider behind the alias ``m``, and a database in ``folder``."""
    return {
        "server": {"reload": QUIET},
        "providers": {"e": {"type": "echo"}},
        "models": {"m": {"targets": [{"provider": "e", "model": "echo"}]}},
        "storage": {"database": f"sqlite:///{folder}/gateway.db"},
        "stack": list(stack),
        **more,
    }


def write(file: Path, content: dict[str, Any] | str) -> None:
    """Put ``content`` in the place of ``file`` at one blow, as an editor or a tool does."""
    text = content if isinstance(content, str) else json.dumps(content)
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


def file_of(folder: Path, *stack: Any, **more: Any) -> Path:
    """``gateway.yaml`` in ``folder``, with the offline provider."""
    file = folder / "gateway.yaml"
    write(file, configuration(folder, *stack, **more))
    return file


@asynccontextmanager
async def running(file: Path, **options: Any) -> AsyncIterator[ReloadingGateway]:
    """The gateway that ``file`` describes, started and ended."""
    gateway = ReloadingGateway(file, **options)
    async with asyncio.timeout(DEADLINE_SECONDS), gateway.lifespan():
        yield gateway


async def ask(gateway: ASGIApp, key: str | None = None, **fields: Any) -> Recorder:
    """A chat, with ``key`` where there is one."""
    headers = [JSON] if key is None else [JSON, (b"authorization", b"Bearer " + key.encode())]
    scope = http_scope(path="/v1/chat/completions", headers=headers)
    # A stream that waits for a test to go on does so however long a busy machine takes.
    return await call(gateway, scope, json=SAYING | fields, timeout_seconds=DEADLINE_SECONDS)


async def asked(gateway: ASGIApp, path: str) -> Any:
    """The body of a GET."""
    answer = await call(gateway, http_scope(method="GET", path=path))
    return json.loads(answer.body)


async def facts(gateway: ASGIApp) -> Any:
    """What the readiness answer says of the configuration."""
    return (await asked(gateway, "/health/ready"))["details"]["configuration"]
