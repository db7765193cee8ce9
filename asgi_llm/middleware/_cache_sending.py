"""An answer of two messages on its way. C has an object for it that takes less than a coroutine."""

from __future__ import annotations

from starlette.types import Message, Send

__all__ = ["send_both"]


async def send_both(send: Send, first: Message, second: Message) -> None:
    """Send two messages, one after the other."""
    await send(first)
    await send(second)
