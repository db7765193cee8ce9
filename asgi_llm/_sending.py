"""Messages on their way out. C has an object for them that takes less than a coroutine."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final, Protocol, cast

from starlette.types import Message, Send

__all__ = ["DONE", "Answer", "hand_on", "send_both"]


class Answer(Protocol):
    """What is asked when a client has left."""

    def goes_on(self) -> bool:
        """Whether the app is to go on all the same."""
        ...


async def send_both(send: Send, first: Message, second: Message) -> None:
    """Send two messages, the second one when the first one has gone."""
    await send(first)
    await send(second)


async def hand_on(send: Send, message: Message, then: Message | None, answer: Answer) -> None:
    """Send a message, and the one behind it, if there is one.

    An ``OSError`` means that the client has left; it is not raised if the answer goes on.
    """
    try:
        await send(message)
        if then is not None:
            await send(then)
    except OSError:
        if not answer.goes_on():
            raise


class _Done:
    """What there is to await where nothing has to be waited for; a coroutine that is over."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        return _NO_STEPS

    def send(self, value: None) -> None:
        raise StopIteration

    def throw(self, *error: Any) -> None:
        raise error[0]

    def close(self) -> None:
        """Nothing is open."""


_NO_STEPS: Final = cast("Generator[None, None, None]", iter(()))
DONE: Final = _Done()
"""What there is to await where nothing has to be waited for."""
