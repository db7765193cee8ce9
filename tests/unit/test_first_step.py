"""What is awaited by one step: what it comes to, what it waits for, what it raises."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import pytest

from asgi_llm._body import go_on
from asgi_llm._first_step import Begun, first_step


class Given:
    """Something that can be awaited and is no coroutine, as some servers hand it out."""

    def __init__(self, *waits: Any, gives: Any = None) -> None:
        self.waits = waits
        self.gives = gives

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from self.waits
        return self.gives


async def coroutine(*waits: Any, gives: Any = None) -> Any:
    """The same as a coroutine."""
    return await Given(*waits, gives=gives)


AWAITABLES = pytest.mark.parametrize("make", [coroutine, Given])


@AWAITABLES
@pytest.mark.parametrize("value", [None, 0, {"type": "http.request"}, (1, 2), StopIteration])
def test_what_is_there_already_comes_at_once(make: Any, value: Any) -> None:
    """Whatever it is, also what an exception would carry out in another shape."""
    assert value is first_step(make(gives=value))


@AWAITABLES
def test_what_has_to_wait_says_what_for(make: Any) -> None:
    """And goes on from there to its end."""
    waits_for = object()
    begun = first_step(make(waits_for, gives="end"))
    assert isinstance(begun, Begun)
    assert begun.waits_for is waits_for
    with pytest.raises(StopIteration) as end:
        begun.coroutine.send(None)
    assert "end" == end.value.value


@AWAITABLES
async def test_the_rest_is_awaited_like_any_other(make: Any) -> None:
    """Futures that it waits for are its own, and a cancellation arrives in it."""
    loop = asyncio.get_running_loop()
    there: asyncio.Future[str] = loop.create_future()

    async def wait() -> str:
        return await there

    begun = first_step(wait() if make is coroutine else _Wrapped(wait()))
    assert isinstance(begun, Begun)
    loop.call_soon(there.set_result, "there")
    assert "there" == await asyncio.wait_for(go_on(begun.coroutine, begun.waits_for), 5)
    never = loop.create_future()
    begun = first_step(_Wrapped(_wait_for(never)) if make is Given else _wait_for(never))
    task = asyncio.ensure_future(_rest(begun))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert never.cancelled()


@AWAITABLES
@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError(), KeyboardInterrupt()])
def test_what_it_raises_comes_out(make: Any, error: BaseException) -> None:
    """At the first step, as the very exception."""

    class Failing(Given):
        def __await__(self) -> Generator[Any, Any, Any]:
            yield from (_raise(error) for _ in range(1))

    async def failing() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        first_step(failing() if make is coroutine else Failing())
    assert raised.value is error


def _raise(error: BaseException) -> Any:
    raise error


class _Wrapped:
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield from self.inner.__await__())


async def _wait_for(future: asyncio.Future[Any]) -> Any:
    return await future


async def _rest(begun: Begun) -> Any:
    return await go_on(begun.coroutine, begun.waits_for)
