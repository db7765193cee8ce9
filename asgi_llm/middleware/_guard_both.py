"""Two messages that leave one after the other."""

from __future__ import annotations

from starlette.types import Message, Send

__all__ = ["send_both"]


async def send_both(send: Send, first: Message, second: Message) -> None:
    """Send two messages; the second one when the first one has gone."""
    await send(first)
    await send(second)
