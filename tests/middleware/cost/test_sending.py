"""Messages are handed on as by a coroutine that awaits the one and then the other."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import types
from collections.abc import Generator
from typing import Any, cast

import pytest
from starlette.types import Send

from asgi_llm._sending import DONE, hand_on

FIRST: dict[str, Any] = {"type": "first"}
SECOND: dict[str, Any] = {"type": "second"}


class Left:
    """An answer whose client may leave.

    Attributes:
        asked: How often it was asked whether it goes on.
    """

    def __init__(self, *, goes_on: bool = False) -> None:
        self.asked = 0
        self._goes_on = goes_on

    def goes_on(self) -> bool:
        self.asked += 1
        return self._goes_on


class Sent:
    """A ``send``.

    Args:
        fails_at: The message at which it raises.
        error: What it raises.
        waits: How often it lets others in for each message.
    """

    def __init__(
        self, *, fails_at: int = -1, error: type[BaseException] = OSError, waits: int = 1
    ) -> None:
        self.messages: list[Any] = []
        self._fails_at = fails_at
        self._error = error
        self._waits = waits

    async def __call__(self, message: Any) -> None:
        for _ in range(self._waits):
            await asyncio.sleep(0)
        if len(self.messages) == self._fails_at:
            raise self._error("gone")
        self.messages.append(message)


@pytest.mark.parametrize("waits", [0, 1, 3])
@pytest.mark.parametrize("then", [None, SECOND])
async def test_both_are_sent_in_turn(waits: int, then: Any) -> None:
    """Whether the host has to be waited for or not."""
    send = Sent(waits=waits)
    await hand_on(send, FIRST, then, Left())
    assert [FIRST, SECOND][: 1 + (then is not None)] == send.messages


async def test_nothing_is_sent_before_it_is_awaited() -> None:
    """As of any coroutine."""
    send = Sent(waits=0)
    waiting = hand_on(send, FIRST, None, Left())
    assert [] == send.messages
    await waiting
    assert [FIRST] == send.messages


async def test_it_may_be_a_task() -> None:
    """So it is a coroutine to asyncio; so is what there is to await where there is no wait."""
    for waits in (0, 2):
        send = Sent(waits=waits)
        one = hand_on(send, FIRST, SECOND, Left())
        assert asyncio.iscoroutine(one)
        await asyncio.create_task(one)
        assert [FIRST, SECOND] == send.messages
    assert asyncio.iscoroutine(DONE)
    await asyncio.create_task(DONE)
    await DONE


@pytest.mark.parametrize("waits", [0, 2])
@pytest.mark.parametrize("fails_at", [0, 1])
async def test_an_error_of_a_host_whose_client_has_left_is_no_error_to_who_goes_on(
    waits: int, fails_at: int
) -> None:
    """What is behind it is not sent."""
    answer, send = Left(goes_on=True), Sent(fails_at=fails_at, waits=waits)
    await hand_on(send, FIRST, SECOND, answer)
    assert (1, fails_at) == (answer.asked, len(send.messages))


@pytest.mark.parametrize("waits", [0, 2])
@pytest.mark.parametrize("fails_at", [0, 1])
@pytest.mark.parametrize(
    ("error", "asked"),
    [(OSError, 1), (ConnectionResetError, 1), (ValueError, 0), (KeyboardInterrupt, 0)],
)
async def test_an_error_is_raised_as_it_was(
    error: type[BaseException], asked: int, waits: int, fails_at: int
) -> None:
    """To an answer that does not go on, and any that tells of something else."""
    answer, send = Left(), Sent(fails_at=fails_at, error=error, waits=waits)
    with pytest.raises(error, match="gone") as raised:
        await hand_on(send, FIRST, SECOND, answer)
    assert error is type(raised.value)
    assert (asked, fails_at) == (answer.asked, len(send.messages))
    assert raised.value.__context__ is None


@pytest.mark.parametrize("goes_on", [False, True])
async def test_a_send_that_fails_before_it_can_be_awaited_is_one_that_fails(goes_on: bool) -> None:
    """An ``OSError`` of it too means that the client has left."""

    def send(message: Any) -> Any:
        raise OSError("gone")

    answer = Left(goes_on=goes_on)
    if goes_on:
        await hand_on(send, FIRST, SECOND, answer)
    else:
        with pytest.raises(OSError, match="gone"):
            await hand_on(send, FIRST, SECOND, answer)
    assert 1 == answer.asked


async def test_whatever_can_be_awaited_may_come_of_a_send() -> None:
    """Futures, objects with ``__await__``, and coroutines of old."""
    sent: list[Any] = []
    loop = asyncio.get_running_loop()

    def later(message: Any) -> asyncio.Future[None]:
        future: asyncio.Future[None] = loop.create_future()
        loop.call_soon(future.set_result, None)
        sent.append(message)
        return future

    class Awaited:
        def __await__(self) -> Generator[Any, None, None]:
            yield from asyncio.sleep(0).__await__()
            sent.append(self)

    @types.coroutine
    def old(message: Any) -> Generator[Any, None, None]:
        yield
        sent.append(message)

    await hand_on(later, FIRST, SECOND, Left())
    await hand_on(lambda message: Awaited(), FIRST, None, Left())
    await hand_on(old, FIRST, SECOND, Left())
    assert 5 == len(sent)
    with pytest.raises(TypeError, match="await"):
        await hand_on(cast("Send", lambda message: 7), FIRST, None, Left())


async def test_who_is_cancelled_while_the_host_waits_ends_with_it() -> None:
    """It is told, and nothing behind is sent; the answer is not asked."""
    seen: list[str] = []
    begun = asyncio.Event()

    async def send(message: Any) -> None:
        seen.append(message["type"])
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    answer = Left(goes_on=True)
    task = asyncio.ensure_future(hand_on(send, FIRST, SECOND, answer))
    async with asyncio.timeout(10):
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (["first", "cancelled"], 0) == (seen, answer.asked)


async def test_a_host_that_takes_no_notice_of_a_cancellation_gets_the_rest() -> None:
    """As it does from any coroutine."""
    sent: list[str] = []
    begun = asyncio.Event()

    async def send(message: Any) -> None:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            if not sent:
                await asyncio.Event().wait()
        sent.append(message["type"])

    task = asyncio.ensure_future(hand_on(send, FIRST, SECOND, Left()))
    async with asyncio.timeout(10):
        await begun.wait()
        task.cancel()
        await task
    assert ["first", "second"] == sent


@pytest.mark.parametrize("error", [OSError, ValueError])
async def test_what_is_thrown_in_counts_as_an_error_of_the_host(error: type[Exception]) -> None:
    """As where a task of the host's own is ended."""
    answer = Left(goes_on=True)
    one: Any = hand_on(Sent(waits=3), FIRST, SECOND, answer).__await__()
    assert next(one) is None
    with pytest.raises(StopIteration if error is OSError else error):
        one.throw(error("gone"))
    assert int(error is OSError) == answer.asked


async def test_one_that_is_closed_closes_the_host() -> None:
    """Begun or not; nothing is left that would warn of not having been awaited."""
    seen: list[str] = []

    async def send(message: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("closed")

    hand_on(send, FIRST, None, Left()).close()
    one: Any = hand_on(send, FIRST, SECOND, Left())
    steps = one.__await__()
    next(steps)
    steps.close()
    assert ["closed"] == seen
    assert inspect.isawaitable(DONE)
    DONE.close()
    with pytest.raises(ValueError, match="no"):
        DONE.throw(ValueError("no"))


async def test_one_that_ends_before_it_begins_sends_nothing() -> None:
    """What is thrown in is raised."""
    send = Sent()
    one: Any = hand_on(send, FIRST, SECOND, Left(goes_on=True))
    with pytest.raises(ValueError, match="early"):
        one.throw(ValueError("early"))
    assert [] == send.messages
