"""What every semantic index promises, on all of them."""

from __future__ import annotations

import asyncio
import random

import msgspec
import numpy as np
import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.stores.semantic_index import (
    MAX_LEARNING_BYTES,
    IndexEntry,
    Learning,
    Selection,
    SemanticIndex,
)
from tests.stores.semantic_index.conftest import (
    DIMENSION,
    MOST,
    START,
    TimedIndex,
    Vector,
    at_angle,
    entry,
    unit,
)

FIRST = unit(1)
HERE = b"P" * 32
THERE = b"Q" * 32


async def ids(index: SemanticIndex, selection: Selection | None = None) -> list[str]:
    return [one.id for one in await index.find(selection or Selection(), limit=100)]


async def nearest(index: SemanticIndex, vector: Vector = FIRST, k: int = 100) -> list[str]:
    return [match.entry.id for match in await index.search(HERE, vector, k)]


async def learned_of(index: SemanticIndex) -> Learning:
    """What was learned of entry ``one``."""
    found = await index.get("one")
    assert found is not None
    return found.learning


async def test_an_empty_index_finds_nothing(timed: TimedIndex) -> None:
    """No entry, no match, and nothing to remove or to touch."""
    index = timed.index
    assert () == await index.search(HERE, FIRST)
    assert () == await index.find(Selection())
    assert None is await index.get("one")
    assert 0 == await index.remove(Selection())
    assert not await index.update_learning("one", expected_version=0, state=b"x")
    await index.touch("one")
    assert 0 == (await index.statistics()).entries


async def test_an_entry_comes_back_as_it_was(timed: TimedIndex) -> None:
    """Every field, with bytes and text of any kind, by search and by id, in any worker."""
    text = 'NUL \x00, quote ", \u00fc, \U0001f600, half a pair \ud800, line\nend'
    kept = entry(
        "!~id{}:@/",
        bytes(range(32)),
        text=text,
        payload=bytes(range(256)),
        model="gpt-4o \u00fc",
        namespace="a {tag}|b",
        scope="org-1",
        expires=START + 60.5,
        uses=3,
        last_used=START + 1.25,
        learning=Learning(b"\x00learned\xff", 7),
    )
    await timed.index.add(kept, FIRST)
    (match,) = await timed.other.search(bytes(range(32)), FIRST)
    assert kept == match.entry
    assert 1.0 == pytest.approx(match.similarity, abs=1e-6)
    assert kept == await timed.other.get("!~id{}:@/")
    assert (kept,) == await timed.other.find(Selection())


async def test_matches_come_by_cosine_the_likest_first(timed: TimedIndex) -> None:
    """The similarity is the cosine, opposite vectors included; k and the minimum are obeyed."""
    cosines = {"same": 1.0, "near": 0.9, "half": 0.5, "right": 0.0, "opposite": -1.0}
    for id, cosine in cosines.items():
        await timed.index.add(entry(id), at_angle(cosine))
    found = await timed.index.search(HERE, FIRST, 10)
    assert list(cosines) == [match.entry.id for match in found]
    assert list(cosines.values()) == pytest.approx([match.similarity for match in found], abs=1e-5)
    assert ["same", "near"] == await nearest(timed.index, k=2)
    above = await timed.index.search(HERE, FIRST, 10, min_similarity=0.49)
    assert ["same", "near", "half"] == [match.entry.id for match in above]


async def test_a_search_never_leaves_its_partition(timed: TimedIndex) -> None:
    """The same vector in another partition is not found, however few there are in this one."""
    for number in range(MOST):
        await timed.index.add(entry(f"there-{number}", THERE), FIRST)
    await timed.index.add(entry("here"), at_angle(0.1))
    assert ["here"] == await nearest(timed.index)
    assert () == await timed.index.search(HERE[:-1], FIRST)
    assert () == await timed.index.search(HERE + b"\0", FIRST)


async def test_random_partitions_and_vectors_never_cross(timed: TimedIndex) -> None:
    """What a search gives is always of the partition asked, and all that is there is found."""
    random.seed(7)
    numbers = np.random.default_rng(7)
    partitions = [bytes([number]) * random.randint(1, 64) for number in range(12)]
    held: dict[bytes, set[str]] = {}
    for number in range(40):
        partition = random.choice(partitions)
        if len(held.setdefault(partition, set())) == MOST:
            continue
        vector = numbers.normal(size=DIMENSION).astype(np.float32)
        id = f"entry-{number}"
        await timed.index.add(entry(id, partition), vector / np.linalg.norm(vector))
        held[partition].add(id)
    for partition in partitions:
        found = await timed.other.search(partition, FIRST, 100)
        assert held.get(partition, set()) == {match.entry.id for match in found}
        assert all(match.entry.partition == partition for match in found)


async def test_what_has_run_out_is_gone(timed: TimedIndex) -> None:
    """From the second on in which it expires, an entry is not found in any way."""
    await timed.index.add(entry("short", expires=START + 10), FIRST)
    await timed.index.add(entry("long", expires=START + 20), at_angle(0.5))
    timed.clock.now = START + 9.9
    assert ["short", "long"] == await nearest(timed.index)
    timed.clock.now = START + 10
    assert ["long"] == await nearest(timed.index, k=1)
    assert None is await timed.index.get("short")
    assert ["long"] == await ids(timed.index)
    assert not await timed.index.update_learning("short", expected_version=0, state=b"x")
    await timed.index.touch("short")
    assert 0 == await timed.index.remove(Selection(ids=("short",)))
    assert ["long"] == await nearest(timed.index)


async def test_the_same_id_replaces(timed: TimedIndex) -> None:
    """Also in another partition: an id is one entry, and nothing of the old one stays."""
    await timed.index.add(entry("one", learning=Learning(b"old", 3), uses=9), FIRST)
    await timed.index.add(entry("one", text="new"), at_angle(0.5))
    (match,) = await timed.index.search(HERE, FIRST)
    assert ("new", 0, Learning()) == (match.entry.text, match.entry.uses, match.entry.learning)
    assert 0.5 == pytest.approx(match.similarity, abs=1e-5)
    await timed.index.add(entry("one", THERE), FIRST)
    assert [] == await nearest(timed.index)
    assert ["one"] == [match.entry.id for match in await timed.index.search(THERE, FIRST)]
    assert 1 == (await timed.index.statistics()).entries


async def test_a_full_partition_evicts_what_was_used_least_recently(timed: TimedIndex) -> None:
    """A touch keeps an entry; other partitions keep theirs; evictions are counted."""
    await timed.index.add(entry("elsewhere", THERE), FIRST)
    for number in range(MOST):
        timed.clock.now += 1
        await timed.index.add(entry(f"e{number}", created=timed.clock.now, last_used=0.0), FIRST)
    timed.clock.now += 1
    await timed.index.touch("e0")
    timed.clock.now += 1
    await timed.index.add(entry("new", created=timed.clock.now, last_used=0.0), FIRST)
    assert {"e0", "e2", "e3", "e4", "new"} == set(await nearest(timed.index))
    assert ["elsewhere"] == await ids(timed.index, Selection(partition=THERE))
    assert 1 == (await timed.index.statistics()).evicted


async def test_what_has_run_out_is_evicted_first(timed: TimedIndex) -> None:
    """An entry that is of no use makes room before one that is, however long ago used."""
    await timed.index.add(entry("old"), FIRST)
    for number in range(MOST - 1):
        timed.clock.now += 1
        given = entry(f"e{number}", created=timed.clock.now, expires=START + 100)
        await timed.index.add(given, FIRST)
    timed.clock.now = START + 100
    await timed.index.add(entry("new", created=timed.clock.now), FIRST)
    assert {"old", "new"} == set(await nearest(timed.index))


async def test_uses_are_noted(timed: TimedIndex) -> None:
    """A touch counts, and sets the time, which does not go back."""
    await timed.index.add(entry(), FIRST)
    timed.clock.now = START + 5
    await timed.index.touch("one")
    timed.clock.now = START + 3
    await timed.other.touch("one")
    found = await timed.index.get("one")
    assert found is not None
    assert (2, START + 5) == (found.uses, found.last_used)


SELECTIONS: list[tuple[Selection, list[str]]] = [
    (Selection(), []),
    (Selection(ids=("a1", "b1", "none")), ["a2", "a3"]),
    (Selection(ids=()), ["a1", "a2", "a3", "b1"]),
    (Selection(partition=HERE), ["b1"]),
    (Selection(namespace="blue"), ["a1", "a3", "b1"]),
    (Selection(namespace=""), ["a2", "b1"]),
    (Selection(model="m2"), ["a1", "a2", "b1"]),
    (Selection(scope="org-1"), ["a2"]),
    (Selection(created_before=START + 2), ["a2", "a3", "b1"]),
    (Selection(scope="org-1", model="m1"), ["a2", "a3"]),
    (Selection(scope="org-1", ids=("a2",)), ["a1", "a2", "a3", "b1"]),
    (Selection(namespace="bl\x00ue"), ["a1", "a2", "a3", "b1"]),
    (Selection(model="m%", scope="org_1"), ["a1", "a2", "a3", "b1"]),
    (Selection(ids=("no id",)), ["a1", "a2", "a3", "b1"]),
]
"""What is selected, and what is left then."""


async def test_entries_are_selected_by_what_they_are(timed: TimedIndex) -> None:
    """All conditions given must hold; the same ones list and remove; none given means all."""
    given = [
        entry("a1", created=START + 1, scope="org-1", model="m1"),
        entry("a2", created=START + 2, namespace="blue", scope="org-2", model="m1"),
        entry("a3", created=START + 3, scope="org-1", model="m2"),
        entry("b1", THERE, created=START + 4, namespace="red", scope="org-1", model="m1"),
    ]
    for selection, left in SELECTIONS:
        for one in given:
            await timed.index.add(one, FIRST)
        listed = await ids(timed.other, selection)
        assert 4 - len(left) == await timed.other.remove(selection), selection
        assert left == await ids(timed.index), selection
        assert sorted([*left, *listed]) == ["a1", "a2", "a3", "b1"]
        assert [id for id in left if id[0] == "a"] == sorted(await nearest(timed.index))


async def test_a_list_comes_in_pages_by_id(timed: TimedIndex) -> None:
    """Bytewise: upper case before lower; ids after the last one of a page follow."""
    for id in ("b", "B", "a-1", "a", "a1", "~", "!"):
        await timed.index.add(entry(id, id.encode()), FIRST)
    first = await timed.index.find(Selection(), limit=3)
    assert ["!", "B", "a"] == [one.id for one in first]
    rest = await timed.index.find(Selection(), limit=100, after="a")
    assert ["a-1", "a1", "b", "~"] == [one.id for one in rest]
    chosen = Selection(ids=("~", "B", "b"))
    assert ["b", "~"] == [one.id for one in await timed.index.find(chosen, limit=2, after="B")]


async def test_learning_is_written_by_the_first_of_two(timed: TimedIndex) -> None:
    """An update counts only if nobody else has written since; versions go up by one."""
    await timed.index.add(entry(), FIRST)
    assert Learning() == await learned_of(timed.index)
    assert await timed.index.update_learning("one", expected_version=0, state=b"\x00a")
    assert not await timed.other.update_learning("one", expected_version=0, state=b"b")
    assert Learning(b"\x00a", 1) == await learned_of(timed.other)
    assert await timed.other.update_learning("one", expected_version=1, state=b"")
    (match,) = await timed.index.search(HERE, FIRST)
    assert Learning(b"", 2) == match.entry.learning


async def test_a_large_version_is_held_as_it_is(timed: TimedIndex) -> None:
    """One of 48 bits is told apart from its neighbours, and goes up by one as any other does."""
    version = 2**48 - 1
    await timed.index.add(entry(learning=Learning(version=version)), FIRST)
    assert Learning(version=version) == await learned_of(timed.other)
    for other in (version - 1, version + 1):
        assert not await timed.other.update_learning("one", expected_version=other, state=b"x")
    assert await timed.other.update_learning("one", expected_version=version, state=b"a")
    assert Learning(b"a", version + 1) == await learned_of(timed.index)
    assert await timed.index.update_learning("one", expected_version=version + 1, state=b"b")
    assert Learning(b"b", version + 2) == await learned_of(timed.other)


async def test_no_learning_is_lost_among_many_writers(timed: TimedIndex) -> None:
    """Two workers and ten tasks add to a counter by compare and set; none of it is lost."""
    await timed.index.add(entry(), FIRST)
    tasks, rounds = 10, 3

    async def learn(index: SemanticIndex) -> None:
        for _ in range(rounds):
            while True:
                learned = await learned_of(index)
                state = b"%d" % (int(learned.state or b"0") + 1)
                if await index.update_learning(
                    "one", expected_version=learned.version, state=state
                ):
                    break

    async with asyncio.timeout(60):
        await asyncio.gather(
            *[learn(index) for index in (timed.index, timed.other) for _ in range(tasks // 2)]
        )
    assert Learning(b"%d" % (tasks * rounds), tasks * rounds) == await learned_of(timed.index)


async def test_many_at_once_do_not_disturb_each_other(timed: TimedIndex) -> None:
    """Searches, additions and removals that run together leave what they should."""
    await asyncio.gather(
        *[timed.index.add(entry(f"e{number}", bytes([number])), FIRST) for number in range(20)]
    )
    results = await asyncio.gather(
        *[timed.index.search(bytes([number]), FIRST) for number in range(20)],
        *[timed.index.remove(Selection(ids=(f"e{number}",))) for number in range(0, 20, 2)],
    )
    assert 10 == sum(count for count in results if isinstance(count, int))
    assert sorted(f"e{number}" for number in range(1, 20, 2)) == sorted(await ids(timed.index))


BROKEN: list[tuple[str, object]] = [
    ("id", ""),
    ("id", "with space"),
    ("id", "\u00fc"),
    ("id", "x" * 129),
    ("partition", b""),
    ("partition", b"x" * 65),
    ("model", "x" * 257),
    ("namespace", "a\x00b"),
    ("scope", "\ud800"),
    ("learning", Learning(b"x" * (MAX_LEARNING_BYTES + 1), 1)),
    ("created", float("nan")),
    ("expires", float("nan")),
    ("last_used", float("inf")),
    ("uses", -1),
]


async def test_an_entry_that_breaks_a_rule_is_refused(timed: TimedIndex) -> None:
    """The error names the field, and nothing is kept."""
    for field, value in BROKEN:
        broken: IndexEntry = msgspec.structs.replace(entry(), **{field: value})
        with pytest.raises(ConfigurationError) as caught:
            await timed.index.add(broken, FIRST)
        assert field == caught.value.param
    assert 0 == (await timed.index.statistics()).entries


async def test_wrong_arguments_are_refused(timed: TimedIndex) -> None:
    """A vector of another length, kind or norm, a count out of range, too much to learn."""
    await timed.index.add(entry(), FIRST)
    broken = FIRST.copy()
    broken[1] = np.nan
    wrong = (FIRST[:-1], FIRST.astype(np.float64), FIRST[None], 2 * FIRST, 0 * FIRST, broken)
    for vector in wrong:
        with pytest.raises(ConfigurationError, match="vector"):
            await timed.index.search(HERE, vector)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="vector"):
            await timed.index.add(entry("two"), vector)  # type: ignore[arg-type]
    for count in (0, 1001):
        with pytest.raises(ConfigurationError, match="k must be"):
            await timed.index.search(HERE, FIRST, count)
        with pytest.raises(ConfigurationError, match="limit must be"):
            await timed.index.find(Selection(), limit=count)
    with pytest.raises(ConfigurationError, match="state"):
        await timed.index.update_learning(
            "one", expected_version=0, state=b"x" * (MAX_LEARNING_BYTES + 1)
        )
