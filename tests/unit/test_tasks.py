"""Tasks that end when they are told to."""

from __future__ import annotations

import asyncio

import pytest

from asgi_llm._tasks import end


async def endless(times: int, heard: list[int]) -> None:
    """Runs for ever, and misses the first ``times`` cancellations."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            heard.append(times)
            if len(heard) > times:
                raise


async def begun(times: int, heard: list[int]) -> asyncio.Task[None]:
    task = asyncio.create_task(endless(times, heard))
    await asyncio.sleep(0)
    return task


async def test_a_task_that_misses_its_end_is_told_again() -> None:
    """As often as it takes; another one that heard is not told twice."""
    deaf: list[int] = []
    keen: list[int] = []
    tasks = [await begun(2, deaf), await begun(0, keen)]
    async with asyncio.timeout(20):
        await end(*tasks)
    assert all(task.cancelled() for task in tasks)
    assert (3, 1) == (len(deaf), len(keen))


async def test_what_is_done_keeps_its_error() -> None:
    """Nothing to wait for is no error, and what a task raised is still there to be asked for."""

    async def fail() -> None:
        raise ValueError("of the task")

    task = asyncio.create_task(fail())
    await asyncio.wait((task,))
    await end(task)
    await end()
    with pytest.raises(ValueError, match="of the task"):
        task.result()


async def test_who_ends_a_task_can_be_cancelled() -> None:
    """The task has been told by then."""
    heard: list[int] = []
    task = await begun(1, heard)
    ending = asyncio.create_task(end(task))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert 1 == len(heard)
    await end(task)
    assert task.cancelled()
