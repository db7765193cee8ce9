"""The command ``asgi-llm worker``: what gateways hand over by way of Redis is written down."""

from __future__ import annotations

import asyncio
import logging
import signal

import click

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._cost_definitions import CostDefinition
from asgi_llm.gateway._database_option import BAD_INPUT, fail, run
from asgi_llm.gateway._logging import log_to_stderr
from asgi_llm.gateway._prepared_ledger import PreparedLedger
from asgi_llm.gateway._upkeep import make_upkeep
from asgi_llm.gateway.config import (
    CONFIG_VARIABLE,
    DEFAULT_DATABASE,
    DEFAULT_FILE,
    find_cost,
    load,
    shown_database,
)
from asgi_llm.gateway.storage import Storage
from asgi_llm.stores.ledger_stream import run_worker

__all__ = ["worker"]

logger = logging.getLogger(__name__)


@click.command()
@click.option(
    "--config",
    "-c",
    metavar="FILE",
    help=f"Configuration file, the gateway's own. Default: ${CONFIG_VARIABLE}, or {DEFAULT_FILE} "
    "in this directory.",
)
def worker(config: str | None) -> None:
    """Write the rows that gateways hand over by way of Redis into the ledger.

    Needs the layer cost with ledger.delivery: redis. Any number of these may run. Also deletes
    what is older than retention_days. Ends at SIGTERM or Ctrl+C with the rows in its hands written.
    """
    try:
        loaded = load(config)
        configuration = loaded.configuration
        definition = find_cost(configuration)
        if definition is None:
            fail("there is nothing to do: the stack has no layer cost", BAD_INPUT)
        redis = configuration.storage.redis
        if definition.ledger.delivery != "redis" or redis is None:
            fail(
                "there is nothing to do: each worker of the gateway writes its rows itself, unless "
                "the layer cost has ledger.delivery: redis and there is a storage.redis",
                BAD_INPUT,
            )
        database = configuration.storage.database
        storage = Storage(database.reveal() if database else DEFAULT_DATABASE)
    except ConfigurationError as error:
        fail(error.message, BAD_INPUT)
    log_to_stderr(configuration.server.log_format, configuration.server.log_level)
    logger.info("rows from Redis go into %s; press Ctrl+C to stop", shown_database(configuration))
    run(_work(redis.reveal(), storage, definition))
    logger.info("the worker has stopped")


async def _work(redis: str, storage: Storage, definition: CostDefinition) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    storage.start()
    upkeep = make_upkeep(definition.ledger, storage)
    if upkeep is not None:
        upkeep.start()
    try:
        await run_worker(redis, PreparedLedger(storage.ledger, storage.prepare), stop=stop)
    finally:
        if upkeep is not None:
            await upkeep.aclose()
        await storage.aclose()
