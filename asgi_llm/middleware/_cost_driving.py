"""How an app is run whose answer is paid for. There is a source for C beside it."""

from __future__ import annotations

from starlette.types import ASGIApp, Scope

from asgi_llm.middleware._cost_answer import CostedAnswer

__all__ = ["drive"]


async def drive(app: ASGIApp, scope: Scope, answer: CostedAnswer) -> None:
    """Run ``app``, and have noted what came of it, whatever that is."""
    try:
        await app(scope, answer.receive, answer.send)
    except BaseException as error:
        await answer.finish(error)
        raise
    if not answer.is_over():
        await answer.finish(None)
