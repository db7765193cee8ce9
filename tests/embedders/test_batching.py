"""Micro-batching: who is joined, who waits, and whom nothing that others do disturbs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_llm.embedders._batching import Batcher
from asgi_llm.embedders.base import EmbedderBusyError, EmbedderError, TextTooLongError
from asgi_llm.errors import ConfigurationError

PATIENT_SECONDS = 20.0


class Model:
    """Upper-cases texts in batches that it notes, each only once a test allows it."""

    def __init__(self, *, open: bool = True) -> None:
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.began = asyncio.Event()
        if open:
            self.gate.set()

    async def run(self, texts: list[str]) -> list[str]:
        self.batches.append(texts)
        self.began.set()
        await self.gate.wait()
        if "fail" in texts:
            raise ValueError("the text is: fail")
        if "wrong" in texts:
            raise ConfigurationError("wrong", param="p")
        return [text.upper() for text in texts]


async def test_callers_of_one_loop_turn_share_a_batch() -> None:
    """Each gets its own results, in its own order."""
    model, batcher = Model(), Batcher()
    asked = [["a", "b"], ["c"], [], ["d", "e", "f"]]
    async with asyncio.timeout(PATIENT_SECONDS):
        found = await asyncio.gather(*[batcher.submit(texts, model.run) for texts in asked])
    assert [["A", "B"], ["C"], [], ["D", "E", "F"]] == found
    assert [["a", "b", "c", "d", "e", "f"]] == model.batches


async def test_who_comes_while_a_batch_runs_is_in_the_next() -> None:
    """One batch is under way at a time; those that come meanwhile go together."""
    model, batcher = Model(open=False), Batcher()
    first = asyncio.create_task(batcher.submit(["first"], model.run))
    async with asyncio.timeout(PATIENT_SECONDS):
        await model.began.wait()
        others = [asyncio.create_task(batcher.submit([f"o{n}"], model.run)) for n in range(3)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert [["first"]] == model.batches
        model.gate.set()
        await asyncio.gather(first, *others)
    assert [["first"], ["o0", "o1", "o2"]] == model.batches


async def test_a_window_joins_those_of_several_turns() -> None:
    """Until it ends nothing runs, and what came by then runs together."""
    model, batcher = Model(), Batcher(window_seconds=0.05)
    async with asyncio.timeout(PATIENT_SECONDS):
        first = asyncio.create_task(batcher.submit(["a"], model.run))
        for _ in range(3):
            await asyncio.sleep(0)
        second = asyncio.create_task(batcher.submit(["b"], model.run))
        assert [["A"], ["B"]] == [await first, await second]
    assert [["a", "b"]] == model.batches


async def test_batches_run_side_by_side_where_that_is_allowed() -> None:
    """Up to so many, and the next begins when one ends."""
    model, batcher = Model(open=False), Batcher(max_batch_texts=1, max_batches=2)
    tasks = [asyncio.create_task(batcher.submit([name], model.run)) for name in "abc"]
    async with asyncio.timeout(PATIENT_SECONDS):
        await model.began.wait()
        await asyncio.sleep(0)
        assert [["a"], ["b"]] == model.batches
        model.gate.set()
        assert [["A"], ["B"], ["C"]] == await asyncio.gather(*tasks)


async def test_a_long_list_does_not_hold_up_a_short_one() -> None:
    """Callers take turns: the one text is in the first batch after it came."""
    model, batcher = Model(open=False), Batcher(max_batch_texts=16)
    long = asyncio.create_task(batcher.submit([f"l{n}" for n in range(100)], model.run))
    async with asyncio.timeout(PATIENT_SECONDS):
        await model.began.wait()
        short = asyncio.create_task(batcher.submit(["short"], model.run))
        await asyncio.sleep(0)
        model.gate.set()
        assert ["SHORT"] == await short
        assert "short" in model.batches[1]
        assert [f"L{n}" for n in range(100)] == await long
    assert {16, 5} >= {len(batch) for batch in model.batches}


async def test_a_cancelled_caller_takes_no_more_time_and_disturbs_nobody() -> None:
    """What it still had to ask is not run; those in the same batch get their answers."""
    model, batcher = Model(open=False), Batcher(max_batch_texts=4)
    leaving = asyncio.create_task(batcher.submit([f"x{n}" for n in range(40)], model.run))
    async with asyncio.timeout(PATIENT_SECONDS):
        await model.began.wait()
        staying = asyncio.create_task(batcher.submit(["a", "b"], model.run))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait((leaving,))
        model.gate.set()
        assert ["A", "B"] == await staying
    assert leaving.cancelled()
    assert [["x0", "x1", "x2", "x3"], ["a", "b"]] == model.batches


async def test_a_deadline_is_the_callers_own() -> None:
    """It gets its timeout though the model goes on, and the next caller is served."""
    model, batcher = Model(open=False), Batcher()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await batcher.submit(["slow"], model.run)
    model.gate.set()
    async with asyncio.timeout(PATIENT_SECONDS):
        assert ["NEXT"] == await batcher.submit(["next"], model.run)


async def test_a_batch_that_fails_fails_for_its_own_callers() -> None:
    """Each gets an error of its own, which does not quote the text; the next batch runs."""
    model, batcher = Model(), Batcher(max_batch_texts=2)
    async with asyncio.timeout(PATIENT_SECONDS):
        results = await asyncio.gather(
            *[batcher.submit([text], model.run) for text in ("fail", "beside", "later")],
            return_exceptions=True,
        )
    assert ["LATER"] == results[2]
    failed, beside = results[0], results[1]
    assert isinstance(failed, EmbedderError) and isinstance(beside, EmbedderError)
    assert "the model failed: ValueError" == str(failed)
    assert failed is not beside


async def test_an_error_of_ours_comes_as_it_is() -> None:
    """With what it says of its cause."""
    model, batcher = Model(), Batcher()
    async with asyncio.timeout(PATIENT_SECONDS):
        with pytest.raises(ConfigurationError) as caught:
            await batcher.submit(["wrong"], model.run)
    assert ("wrong", "p") == (caught.value.message, caught.value.param)


async def test_any_error_of_ours_reaches_each_caller() -> None:
    """Also one that is made of other things than its message; each caller has its own."""
    batcher = Batcher()

    async def run(texts: list[str]) -> list[str]:
        raise TextTooLongError(place=1, tokens=600, limit=512)

    async with asyncio.timeout(PATIENT_SECONDS):
        one, other = await asyncio.gather(
            *[batcher.submit([text], run) for text in "ab"], return_exceptions=True
        )
    for error in (one, other):
        assert isinstance(error, TextTooLongError)
        assert (1, 600, 512) == (error.place, error.tokens, error.limit)
        assert "text 1 has 600 tokens; the model reads 512" == str(error)
    assert one is not other


async def test_a_full_queue_refuses_and_recovers() -> None:
    """What fits is taken; a list above the bound is taken where nobody waits."""
    model, batcher = Model(open=False), Batcher(max_batch_texts=2, max_waiting_texts=5)
    async with asyncio.timeout(PATIENT_SECONDS):
        running = asyncio.create_task(batcher.submit(["r", "r"], model.run))
        await model.began.wait()
        waiting = asyncio.create_task(batcher.submit(["w"] * 4, model.run))
        await asyncio.sleep(0)
        with pytest.raises(EmbedderBusyError):
            await batcher.submit(["too", "many"], model.run)
        fits = asyncio.create_task(batcher.submit(["f"], model.run))
        await asyncio.sleep(0)
        model.gate.set()
        await asyncio.gather(running, waiting, fits)
        assert ["L"] * 9 == await batcher.submit(["l"] * 9, model.run)


async def test_closing_refuses_those_who_wait_and_lets_the_rest_end() -> None:
    """The batch under way is finished; then nothing is taken."""
    model, batcher = Model(open=False), Batcher(max_batch_texts=1)
    running = asyncio.create_task(batcher.submit(["r"], model.run))
    async with asyncio.timeout(PATIENT_SECONDS):
        await model.began.wait()
        waiting = asyncio.create_task(batcher.submit(["w"], model.run))
        await asyncio.sleep(0)
        closing = asyncio.create_task(batcher.aclose())
        with pytest.raises(EmbedderError, match="closed"):
            await waiting
        assert not closing.done()
        model.gate.set()
        await closing
        assert ["R"] == await running
        with pytest.raises(EmbedderError, match="closed"):
            await batcher.submit(["late"], model.run)
        await batcher.aclose()


def test_a_batcher_serves_one_loop_after_another() -> None:
    """What waited on a loop that ended is forgotten, and holds up nobody."""
    batcher = Batcher(max_waiting_texts=1)

    async def leave() -> None:
        model = Model(open=False)
        task = asyncio.create_task(batcher.submit(["stuck"], model.run))
        await model.began.wait()
        assert not task.done()

    async def ask() -> list[str]:
        async with asyncio.timeout(PATIENT_SECONDS):
            return await batcher.submit(["a"], Model().run)

    asyncio.run(leave())
    assert ["A"] == asyncio.run(ask())
    assert ["A"] == asyncio.run(ask())


@settings(max_examples=60, deadline=None)
@given(
    lists=st.lists(st.lists(st.text(max_size=3), max_size=20), min_size=1, max_size=12),
    size=st.integers(1, 9),
    batches=st.integers(1, 3),
    seed=st.integers(0, 2**16),
)
def test_whatever_comes_and_goes_each_gets_its_own(
    lists: list[list[str]], size: int, batches: int, seed: int
) -> None:
    """Any lists, sizes, arrivals and cancellations: results fit, batches keep their bound."""
    chance = random.Random(seed)

    async def play() -> None:
        ran: list[Sequence[str]] = []

        async def run(texts: list[str]) -> list[str]:
            ran.append(texts)
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            return [f"<{text}>" for text in texts]

        batcher = Batcher(max_batch_texts=size, max_batches=batches, max_waiting_texts=10**6)
        tasks = []
        for texts in lists:
            tasks.append(asyncio.create_task(batcher.submit(texts, run)))
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
        leaving = [task for task in tasks if chance.random() < 0.3 and task.cancel()]
        async with asyncio.timeout(PATIENT_SECONDS):
            results = await asyncio.gather(*tasks, return_exceptions=True)
            await batcher.aclose()
        for task, texts, result in zip(tasks, lists, results, strict=True):
            if task in leaving and task.cancelled():
                continue
            assert [f"<{text}>" for text in texts] == result
        assert all(0 < len(texts) <= size for texts in ran)
        if not leaving:
            assert sorted(text for texts in lists for text in texts) == sorted(
                text for texts in ran for text in texts
            )

    asyncio.run(play())


@pytest.mark.parametrize(
    "options",
    [
        {"max_batch_texts": 0},
        {"max_waiting_texts": 0},
        {"max_batches": 0},
        {"window_seconds": -1.0},
        {"window_seconds": float("inf")},
        {"window_seconds": float("nan")},
    ],
)
def test_wrong_options_are_refused(options: dict[str, int]) -> None:
    """The error names the option."""
    with pytest.raises(ConfigurationError) as caught:
        Batcher(**options)
    assert [caught.value.param] == list(options)
