"""The lifespan protocol of a gateway; what goes wrong is logged without its secrets."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from starlette.types import Receive, Send

from asgi_llm._traceback import describe

__all__ = ["answer_lifespan"]

logger = logging.getLogger(__name__)


async def answer_lifespan(
    start: Callable[[], Awaitable[None]],
    stop: Callable[[], Awaitable[None]],
    receive: Receive,
    send: Send,
) -> None:
    """Answer one lifespan scope. What ``start`` or ``stop`` raises is told and does not leave."""
    await receive()
    try:
        await start()
    except Exception as error:
        logger.error("the gateway did not start:\n%s", describe(error))
        await send({"type": "lifespan.startup.failed", "message": str(error)})
        return
    try:
        await send({"type": "lifespan.startup.complete"})
        await receive()
    except BaseException:
        await stop()
        raise
    try:
        await stop()
    except Exception as error:
        logger.error("the gateway did not end well:\n%s", describe(error))
        await send({"type": "lifespan.shutdown.failed", "message": str(error)})
    else:
        await send({"type": "lifespan.shutdown.complete"})
