"""What the index in process promises beyond the others: its bounds, and its file."""

from __future__ import annotations

import asyncio
import hashlib
import stat
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores._index_snapshot import MAGIC
from asgi_llm.stores.semantic_index import Learning, Selection
from asgi_llm.stores.semantic_index_memory import MemorySemanticIndex
from asgi_llm.testing import ManualClock
from tests.stores.semantic_index.conftest import START, SetClock, at_angle, entry, unit

FIRST = unit(1)
HERE = b"P" * 32
MEBIBYTE = 1024 * 1024


def file_of(folder: Path) -> Path:
    return folder / "index.bin"


def kept_index(folder: Path, **options: Any) -> MemorySemanticIndex:
    return MemorySemanticIndex(snapshot_path=file_of(folder), clock=SetClock(), **options)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def filled(folder: Path, count: int = 3) -> bytes:
    """The bytes of a snapshot of so many entries."""
    index = kept_index(folder)
    for number in range(count):
        await index.add(entry(f"e{number}"), at_angle(1 - number / count))
    await index.aclose()
    return file_of(folder).read_bytes()


async def test_entries_survive_a_restart(tmp_path: Path) -> None:
    """Everything of them, in the order of use, but for those that ran out meanwhile."""
    clock = SetClock()
    index = MemorySemanticIndex(snapshot_path=file_of(tmp_path), clock=clock)
    for number in range(2500):
        # Several chunks of the file, and many partitions.
        await index.add(entry(f"e{number:04}", b"%d" % (number % 7)), at_angle(number / 2500))
    await index.add(entry("short", expires=START + 10), FIRST)
    await index.touch("e0003")
    await index.add(entry("e0004", b"4", learning=Learning(version=2**48)), at_angle(4 / 2500))
    await index.update_learning("e0004", expected_version=2**48, state=b"learned")
    before = await index.find(Selection(), limit=1000)
    await index.aclose()

    clock.now = START + 10
    again = MemorySemanticIndex(
        snapshot_path=file_of(tmp_path), max_entries_per_partition=358, clock=clock
    )
    assert before == await again.find(Selection(), limit=1000)
    assert None is await again.get("short")
    kept = await again.get("e0004")
    assert kept is not None
    assert Learning(b"learned", 2**48 + 1) == kept.learning
    matches = await again.search(b"3", at_angle(0.9004), 1)
    assert ["e2250"] == [match.entry.id for match in matches]
    # Partition 3 is full: what goes is not what was used last.
    await again.add(entry("new1", b"3"), FIRST)
    await again.add(entry("new2", b"3"), FIRST)
    assert None is not await again.get("e0003")
    assert None is await again.get("e0010")


async def test_no_file_is_an_empty_index(tmp_path: Path) -> None:
    """The first start finds nothing, and an index that nobody wrote to leaves nothing."""
    index = kept_index(tmp_path)
    assert () == await index.search(HERE, FIRST)
    await index.aclose()
    assert [] == names(tmp_path)


async def test_the_file_is_for_its_user_alone(tmp_path: Path) -> None:
    """It holds prompts and answers; and nothing is left beside it."""
    await filled(tmp_path)
    assert 0o600 == stat.S_IMODE(file_of(tmp_path).stat().st_mode)
    assert ["index.bin"] == names(tmp_path)


async def start_with(folder: Path, data: bytes) -> int:
    """How many entries an index finds that starts with a file of ``data``."""
    file_of(folder).write_bytes(data)
    index = kept_index(folder)
    return (await index.statistics()).entries


async def test_a_file_cut_anywhere_starts_an_empty_index(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At each length it is refused, put aside, and told to the log."""
    whole = await filled(tmp_path)
    for length in range(0, len(whole), 7):
        caplog.clear()
        assert 0 == await start_with(tmp_path, whole[:length])
        assert "starts empty" in caplog.text
        assert whole[:length] == (tmp_path / "index.bin.damaged").read_bytes()
        assert not file_of(tmp_path).exists()
    assert 3 == await start_with(tmp_path, whole)


async def test_a_changed_byte_anywhere_starts_an_empty_index(tmp_path: Path) -> None:
    """The checksum covers all of the file."""
    whole = await filled(tmp_path)
    for place in range(0, len(whole), 11):
        changed = bytearray(whole)
        changed[place] ^= 0x10
        assert 0 == await start_with(tmp_path, bytes(changed))
    assert 0 == await start_with(tmp_path, whole + b"\0")


def sealed(body: bytes) -> bytes:
    return body + hashlib.sha256(body).digest()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (sealed(b"asgi-llm semantic index 2\n"), "another version"),
        (sealed(b"something else entirely, and long enough"), "no snapshot"),
        (sealed(MAGIC + b"\x01"), "no head"),
        (sealed(MAGIC + b"\xff" * 16), "no whole body"),
        (sealed(MAGIC + b"\x01\0\0\0" + b"\x01\0\0\0" + b"\x01" + b"\0" * 7 + b"\xc1" + b"\0" * 4),
         "cannot be read"),
        (sealed(MAGIC + b"\x01\0\0\0" + b"\x01\0\0\0" + b"\x01" + b"\0" * 7 + b"\x90" + b"\0" * 4),
         "more or fewer"),
        (b"", "no snapshot"),
    ],
)  # fmt: skip
async def test_a_file_of_another_kind_starts_an_empty_index(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, data: bytes, told: str
) -> None:
    """Also one with a checksum that fits: it says what is wrong."""
    assert 0 == await start_with(tmp_path, data)
    assert told in caplog.text


async def test_a_file_that_cannot_be_read_or_written_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An index works all the same, and says in the log that nothing of it lasts."""
    file_of(tmp_path).mkdir()
    (file_of(tmp_path) / "in the way").touch()
    (tmp_path / "index.bin.damaged").mkdir()
    (tmp_path / "index.bin.damaged" / "too").touch()
    index = kept_index(tmp_path)
    await index.add(entry(), FIRST)
    assert 1 == len(await index.search(HERE, FIRST))
    await index.aclose()
    for told in ("starts empty", "could not be put aside", "could not be written"):
        assert told in caplog.text
    assert ["index.bin", "index.bin.damaged"] == names(tmp_path)


OTHER = np.array([0.6, 0.8, 0.0], dtype=np.float32)
"""A vector of a model whose vectors are shorter."""


@pytest.mark.parametrize("first", ["search", "add"])
async def test_a_file_of_another_model_counts_for_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, first: str
) -> None:
    """The index begins anew with the first vector of another length, says so once, and lasts."""
    await filled(tmp_path)
    index = kept_index(tmp_path)
    for wrong in (2 * OTHER, OTHER[None]):
        with pytest.raises(ConfigurationError, match="vector"):
            await index.search(HERE, wrong)
    assert 3 == (await index.statistics()).entries
    if first == "search":
        assert () == await index.search(HERE, OTHER)
    await index.add(entry("new"), OTHER)
    assert ["new"] == [match.entry.id for match in await index.search(HERE, OTHER)]
    assert 1 == (await index.statistics()).entries
    with pytest.raises(ConfigurationError, match="3 numbers"):
        await index.search(HERE, FIRST)
    await index.aclose()
    assert 1 == caplog.text.count("its 3 entries")
    again = kept_index(tmp_path)
    assert ["new"] == [match.entry.id for match in await again.search(HERE, OTHER)]


async def test_a_file_whose_entries_have_all_run_out_has_no_model(tmp_path: Path) -> None:
    """What is gone says nothing of how long vectors are."""
    clock = SetClock()
    index = MemorySemanticIndex(snapshot_path=file_of(tmp_path), clock=clock)
    await index.add(entry(expires=START + 10), FIRST)
    await index.aclose()
    clock.now += 10
    again = MemorySemanticIndex(snapshot_path=file_of(tmp_path), clock=clock)
    assert () == await again.search(HERE, OTHER)
    await again.add(entry("new"), OTHER)
    assert ["new"] == [match.entry.id for match in await again.search(HERE, OTHER)]


@pytest.mark.parametrize("ends", ["removed", "run out"])
async def test_an_empty_index_takes_vectors_of_any_length(ends: str) -> None:
    """Once the last entry is gone the next may be of another model; before, it may not."""
    clock = SetClock()
    index = MemorySemanticIndex(clock=clock)
    await index.add(entry(expires=START + 10), FIRST)
    with pytest.raises(ConfigurationError, match="vector"):
        await index.add(entry("new"), OTHER)
    if ends == "removed":
        await index.remove(Selection())
    else:
        clock.now += 10
    await index.add(entry("new"), OTHER)
    assert ["new"] == [match.entry.id for match in await index.search(HERE, OTHER)]


def saving_index(folder: Path, clock: ManualClock) -> MemorySemanticIndex:
    """One that is written 60 seconds after a change at the latest."""
    return MemorySemanticIndex(
        snapshot_path=file_of(folder), snapshot_seconds=60, clock=clock, sleep=clock.sleep
    )


async def ended(*tasks: asyncio.Task[Any]) -> None:
    async with asyncio.timeout(30):
        await asyncio.gather(*tasks)


async def test_a_change_is_written_when_it_is_due(tmp_path: Path) -> None:
    """By one task, which ends then; a process that is killed keeps what was written."""
    clock = ManualClock(START)
    index = saving_index(tmp_path, clock)
    tasks = asyncio.all_tasks()
    for id in ("one", "two"):
        await index.add(entry(id), FIRST)
    (writing,) = asyncio.all_tasks() - tasks
    await clock.until_sleeping()
    clock.advance(59)
    await asyncio.sleep(0)
    assert [] == names(tmp_path)
    clock.advance(1)
    await ended(writing)
    again = saving_index(tmp_path, clock)
    assert ["one", "two"] == [one.id for one in await again.find(Selection())]
    # The next is due at once, if the last was written long ago.
    clock.advance(60)
    await index.add(entry("three"), FIRST)
    await ended(*(asyncio.all_tasks() - tasks))
    assert 3 == (await saving_index(tmp_path, clock).statistics()).entries
    await index.aclose()


async def test_what_was_removed_does_not_come_back(tmp_path: Path) -> None:
    """A removal is written like any change, though only look-ups follow it."""
    clock = ManualClock(START)
    index = saving_index(tmp_path, clock)
    await index.add(entry("bad"), FIRST)
    await index.save()
    tasks = asyncio.all_tasks()
    await index.remove(Selection(ids=("bad",)))
    await clock.until_sleeping()
    clock.advance(60)
    await index.search(HERE, FIRST)
    await ended(*(asyncio.all_tasks() - tasks))
    assert () == await saving_index(tmp_path, clock).search(HERE, FIRST)
    await index.aclose()


async def test_what_changes_while_the_file_is_written_is_written_next(tmp_path: Path) -> None:
    """Also where nothing changes any more after that."""
    clock = ManualClock(START)
    index = saving_index(tmp_path, clock)
    tasks = asyncio.all_tasks()
    await index.add(entry("one"), FIRST)
    (writing,) = asyncio.all_tasks() - tasks
    await clock.until_sleeping()
    clock.advance(60)
    async with asyncio.timeout(30):
        while not names(tmp_path):  # noqa: ASYNC110  a thread writes it
            await asyncio.sleep(0)
    await index.add(entry("two"), FIRST)
    await clock.until_sleeping()
    assert 1 == (await saving_index(tmp_path, clock).statistics()).entries
    clock.advance(60)
    await ended(writing)
    assert 2 == (await saving_index(tmp_path, clock).statistics()).entries


async def test_closing_ends_the_task_that_waits(tmp_path: Path) -> None:
    """What it waited to write is written; what comes after that starts no other."""
    clock = ManualClock(START)
    index = saving_index(tmp_path, clock)
    tasks = asyncio.all_tasks()
    await index.add(entry("one"), FIRST)
    await clock.until_sleeping()
    await index.aclose()
    assert 0 == clock.sleeping
    assert tasks == asyncio.all_tasks()
    assert 1 == (await saving_index(tmp_path, clock).statistics()).entries
    await index.add(entry("two"), FIRST)
    assert tasks == asyncio.all_tasks()


def test_an_index_whose_loop_has_ended_goes_on_in_the_next(tmp_path: Path) -> None:
    """The task that waited on the first is gone with it; the second has its own."""
    clock = ManualClock(START)
    index = saving_index(tmp_path, clock)

    async def change(id: str) -> None:
        await index.add(entry(id), FIRST)
        await clock.until_sleeping()

    asyncio.run(change("one"))
    asyncio.run(change("two"))
    asyncio.run(index.aclose())
    found = asyncio.run(saving_index(tmp_path, clock).find(Selection()))
    assert ["one", "two"] == [one.id for one in found]


async def test_a_snapshot_taken_under_changes_is_whole(tmp_path: Path) -> None:
    """Each vector in it is that of its entry, whatever came and went while it was written."""
    index = kept_index(tmp_path, max_entries_per_partition=400)
    numbers = np.random.default_rng(3)

    def vector_of(number: int) -> Any:
        return at_angle(number / 4000)

    for number in range(400):
        await index.add(entry(f"e{number}"), vector_of(number))
    # Whatever is evicted meanwhile, these stay.
    for number in range(5):
        await index.add(entry(f"s{number}", b"stable"), vector_of(number))
    saving = asyncio.create_task(index.save())
    number = 400
    while not saving.done():
        await index.add(entry(f"e{number}"), vector_of(number))
        if numbers.random() < 0.01:
            await index.remove(Selection(ids=tuple(f"e{n}" for n in range(number - 390, number))))
        number = number + 1 if number < 3999 else 400
        await asyncio.sleep(0)
    await saving
    again = kept_index(tmp_path)
    found = await again.find(Selection(), limit=1000)
    assert {f"s{number}" for number in range(5)} <= {one.id for one in found}
    for one in found:
        (match,) = [
            match
            for match in await again.search(one.partition, vector_of(int(one.id[1:])), 1000)
            if match.entry.id == one.id
        ]
        assert 1.0 == pytest.approx(match.similarity, abs=1e-6)


async def test_the_first_calls_at_once_load_the_file_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A caller that gives up does not stop the others; nobody sees half an index."""
    await filled(tmp_path, 2000)
    index = kept_index(tmp_path)
    impatient = asyncio.create_task(index.get("e0"))
    await asyncio.sleep(0)
    impatient.cancel()
    found = await asyncio.gather(*[index.statistics() for _ in range(20)])
    assert {2000} == {one.entries for one in found}
    assert impatient.cancelled()
    assert "" == caplog.text


async def test_all_entries_together_stay_under_the_bound() -> None:
    """In bytes that Python really takes, with payloads of all sizes and many partitions."""
    bound = 8 * MEBIBYTE
    numbers = np.random.default_rng(5)
    clock = SetClock()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        index = MemorySemanticIndex(max_bytes=bound, clock=clock)
        for number in range(6000):
            vector = numbers.normal(size=384).astype(np.float32)
            await index.add(
                entry(
                    f"e{number}",
                    b"%d" % numbers.integers(0, 2000),
                    payload=bytes(numbers.integers(0, 4000)),
                    text="x" * int(numbers.integers(0, 2000)),
                    expires=START + float(numbers.integers(1, 10**6)),
                ),
                vector / np.linalg.norm(vector),
            )
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    stands = await index.statistics()
    assert stands.size_bytes is not None
    assert 0.9 * bound < stands.size_bytes <= bound
    assert stands.evicted == 6000 - stands.entries > 0
    assert after - before <= bound


async def test_removal_gives_the_memory_back() -> None:
    """An index that was emptied counts nothing, and what is left of a large partition is found."""
    index = MemorySemanticIndex(clock=SetClock())
    for number in range(2000):
        await index.add(entry(f"e{number}"), at_angle(number / 2000))
    full = (await index.statistics()).size_bytes
    await index.remove(Selection(ids=tuple(f"e{number}" for number in range(1990))))
    few = await index.statistics()
    assert 10 == few.entries
    assert few.size_bytes is not None and full is not None
    assert few.size_bytes < full / 50
    found = await index.search(HERE, FIRST, 100)
    assert [f"e{number}" for number in range(1999, 1989, -1)] == [m.entry.id for m in found]
    await index.remove(Selection())
    assert (0, 0, 0) == (
        (await index.statistics()).entries,
        (await index.statistics()).partitions,
        (await index.statistics()).size_bytes,
    )


async def test_what_is_larger_than_the_index_is_not_kept() -> None:
    """And evicts nothing that is there."""
    index = MemorySemanticIndex(max_bytes=MEBIBYTE, clock=SetClock())
    await index.add(entry("small"), FIRST)
    await index.add(entry("large", payload=bytes(MEBIBYTE)), FIRST)
    assert ["small"] == [one.id for one in await index.find(Selection())]
    assert 1 == (await index.statistics()).evicted


async def test_the_least_recently_used_of_all_goes_first() -> None:
    """Where memory is short, partitions share it."""
    index = MemorySemanticIndex(max_bytes=MEBIBYTE, clock=SetClock())
    for number in range(10):
        await index.add(entry(f"e{number}", b"%d" % number, payload=bytes(90_000)), FIRST)
    await index.touch("e0")
    await index.add(entry("big", payload=bytes(250_000)), FIRST)
    assert ["big", "e0", "e3", "e4", "e5", "e6", "e7", "e8", "e9"] == [
        one.id for one in await index.find(Selection())
    ]


async def test_a_large_partition_is_searched_while_it_changes() -> None:
    """Searches that run in a thread never give what is gone, nor another's similarity."""
    size, dimension = 9000, 512
    index = MemorySemanticIndex(max_entries_per_partition=size, clock=SetClock())
    numbers = np.random.default_rng(11)
    vectors = numbers.normal(size=(2 * size, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for number in range(size):
        await index.add(entry(f"e{number}"), vectors[number])
    living = set(range(size))
    for number in range(size, size + 300):
        searches = [asyncio.create_task(index.search(HERE, vectors[number], 3)) for _ in range(2)]
        await asyncio.sleep(0)
        gone = min(living)
        await index.remove(Selection(ids=(f"e{gone}",)))
        living.remove(gone)
        await index.add(entry(f"e{number}"), vectors[number])
        living.add(number)
        for matches in await asyncio.gather(*searches):
            for match in matches:
                found = int(match.entry.id[1:])
                assert found in living
                expected = float(vectors[found] @ vectors[number])
                assert expected == pytest.approx(match.similarity, abs=1e-5)
        (best,) = await index.search(HERE, vectors[number], 1)
        assert f"e{number}" == best.entry.id


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"max_entries_per_partition": 0}, "max_entries_per_partition"),
        ({"max_bytes": MEBIBYTE - 1}, "max_bytes"),
        ({"snapshot_seconds": 0.5}, "snapshot_seconds"),
        ({"snapshot_seconds": float("nan")}, "snapshot_seconds"),
        ({"snapshot_path": "/no/such/folder/index"}, "snapshot_path"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], param: str) -> None:
    """The error names the option."""
    with pytest.raises(ConfigurationError) as caught:
        MemorySemanticIndex(**options)
    assert param == caught.value.param
