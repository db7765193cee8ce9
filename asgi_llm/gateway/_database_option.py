"""What the commands over the database share: which one it is, and how they fail."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, NoReturn, TypeVar

import click

from asgi_llm.errors import ConfigurationError, LLMError, StoreError
from asgi_llm.gateway.config import CONFIG_VARIABLE, DEFAULT_DATABASE, DEFAULT_FILE, load
from asgi_llm.stores.directory import ConflictError

__all__ = [
    "BAD_INPUT",
    "DEFAULT_DATABASE",
    "Stores",
    "database_options",
    "fail",
    "find_stores",
    "run",
]

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])

FAILURE = 1
BAD_INPUT = 2


def database_options(command: Command) -> Command:
    """``--database`` and ``--config``."""
    config = click.option(
        "--config",
        "-c",
        metavar="FILE",
        help=f"Configuration file, for its storage.database. Default: ${CONFIG_VARIABLE}, or "
        f"{DEFAULT_FILE} in this directory.",
    )
    database = click.option(
        "--database",
        metavar="URL",
        help="URL of the database, in place of the configuration's. One with a password is better "
        "kept in the file or in $ASGI_LLM__STORAGE__DATABASE: other users can read arguments.",
    )
    return database(config(command))


class Stores(NamedTuple):
    """Where a gateway keeps things, by their URLs."""

    database: str
    redis: str | None


def find_stores(database: str | None, config: str | None) -> Stores:
    """Those of the options; ends the command where the configuration is wrong."""
    if database is not None:
        if config is not None:
            fail("--database and --config cannot go together", BAD_INPUT)
        return Stores(database, None)
    try:
        storage = load(config).configuration.storage
    except ConfigurationError as error:
        fail(error.message, BAD_INPUT)
    return Stores(
        storage.database.reveal() if storage.database else DEFAULT_DATABASE,
        storage.redis.reveal() if storage.redis else None,
    )


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``; ends the command where it fails, with status 1 or 2."""
    try:
        return asyncio.run(work)
    except ConflictError as error:
        fail(str(error), FAILURE)
    except StoreError as error:
        fail(error.message, FAILURE)
    except LLMError as error:
        fail(error.message, FAILURE if error.status == 404 else BAD_INPUT)


def fail(message: str, status: int) -> NoReturn:
    """Say what is wrong on standard error, and end."""
    for line in message.splitlines():
        click.echo(f"error: {line}", err=True)
    sys.exit(status)
