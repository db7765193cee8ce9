"""What every cache store does alike."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from asgi_llm.stores.cache import CacheStore, Found, Selection
from tests.stores.cache.conftest import answer, key


async def bodies(store: CacheStore, *numbers: int) -> list[bytes | None]:
    found = await store.get([key(number) for number in numbers])
    return [None if one is None else one.answer.body for one in found]


async def test_what_is_kept_comes_back_as_it_was(any_store: CacheStore) -> None:
    """Every field, in the order of the keys, and with the age that it was given."""
    first, second = answer(b"x" * 500, namespace="n"), answer(b"\x00\xff", usage=None, headers=())
    await any_store.set([(key(1), first), (key(2), second)], age_seconds=7.0)
    found = await any_store.get([key(2), key(3), key(1)])
    assert [second, None, first] == [one and one.answer for one in found]
    for one in found:
        assert one is None or 7.0 <= one.age_seconds < 30.0


async def test_more_entries_than_one_step_takes(any_store: CacheStore) -> None:
    """A thousand at once come back in their order."""
    numbers = range(1000)
    await any_store.set([(key(one), answer(b"%d" % one)) for one in numbers])
    assert [b"%d" % one for one in numbers] == await bodies(any_store, *numbers)
    assert 1000 == (await any_store.statistics()).entries
    assert 1000 == await any_store.purge(Selection(model="gpt-4o"))
    assert [None] == await bodies(any_store, 5)


async def test_the_last_one_counts(any_store: CacheStore) -> None:
    """What is kept under a key that has something takes its place."""
    await any_store.set([(key(1), answer(b"old"))])
    await any_store.set([(key(1), answer(b"new"))])
    assert [b"new"] == await bodies(any_store, 1)
    assert 1 == (await any_store.statistics()).entries


async def test_what_has_run_out_is_gone(any_store: CacheStore) -> None:
    """Stale answers are given with their age, those past ``keep_seconds`` are not."""
    await any_store.set([(key(1), answer(b"stale"))], age_seconds=100.0)
    await any_store.set([(key(2), answer(b"gone"))], age_seconds=121.0)
    assert [b"stale", None] == await bodies(any_store, 1, 2)
    (found,) = await any_store.get([key(1)])
    assert found is not None and found.age_seconds >= 100.0


@pytest.mark.parametrize("seconds", [1e18, inf])
async def test_an_answer_may_be_fresh_for_ever(any_store: CacheStore, seconds: float) -> None:
    """No time is too long to be kept for."""
    await any_store.set([(key(1), answer(b"kept", fresh_seconds=seconds, keep_seconds=seconds))])
    claim = await any_store.claim(key(1), owner="a", lease_seconds=30.0)
    assert claim.found is not None
    assert (b"kept", seconds) == (claim.found.answer.body, claim.found.answer.fresh_seconds)
    assert 1 == (await any_store.statistics()).entries
    assert 1 == await any_store.purge(Selection(model="gpt-4o"))


async def test_delete(any_store: CacheStore) -> None:
    """What is deleted is gone, and what there was is counted."""
    await any_store.set([(key(1), answer()), (key(2), answer())])
    assert 1 == await any_store.delete([key(1), key(3)])
    assert [True, False] == [one is None for one in await bodies(any_store, 1, 2)]
    assert 0 == await any_store.delete([])


async def test_a_key_that_is_deleted_twice_at_once_counts_once(any_store: CacheStore) -> None:
    """A key may be named more than once, and what is named with it is deleted too."""
    await any_store.set([(key(1), answer()), (key(2), answer())])
    assert 2 == await any_store.delete([key(1), key(1), key(2)])
    assert [True, True] == [one is None for one in await bodies(any_store, 1, 2)]


ENTRIES: dict[int, dict[str, Any]] = {
    1: {},
    2: {"scope": "organization:other"},
    3: {"model": "gpt-4o-mini"},
    4: {"namespace": "tests"},
    5: {"written_by": "key_2"},
    6: {"written_by": None},
}


@pytest.mark.parametrize(
    ("selection", "gone"),
    [
        (Selection(scope="organization:acme"), {1, 3, 4, 5, 6}),
        (Selection(scope="organization:nobody"), set()),
        (Selection(model="gpt-4o-mini"), {3}),
        (Selection(namespace="tests"), {4}),
        (Selection(namespace=""), {1, 2, 3, 5, 6}),
        (Selection(written_by="key_1"), {1, 2, 3, 4}),
        (Selection(scope="organization:other", model="gpt-4o-mini"), set()),
        (Selection(scope="organization:acme", written_by="key_2"), {5}),
        (Selection(older_than_seconds=50.0), {4, 5, 6}),
        (Selection(older_than_seconds=50.0, namespace="tests"), {4}),
        (Selection(), {1, 2, 3, 4, 5, 6}),
    ],
    ids=str,
)
async def test_purge(any_store: CacheStore, selection: Selection, gone: set[int]) -> None:
    """What is meant goes, all of it, and nothing else."""
    for number, fields in ENTRIES.items():
        age_seconds = 80.0 if number >= 4 else 1.0
        await any_store.set([(key(number), answer(**fields))], age_seconds=age_seconds)
    assert len(gone) == await any_store.purge(selection)
    left = await bodies(any_store, *ENTRIES)
    assert gone == {number for number, body in zip(ENTRIES, left, strict=True) if body is None}


async def test_a_claim_finds_what_is_fresh(any_store: CacheStore) -> None:
    """Where there is an answer that will do, nobody gets the right to make another."""
    await any_store.set([(key(1), answer(b"fresh"))], age_seconds=20.0)
    claim = await any_store.claim(key(1), owner="a", lease_seconds=30.0)
    assert claim.found is not None
    assert b"fresh" == claim.found.answer.body


async def test_an_old_answer_comes_with_the_right_to_make_another(any_store: CacheStore) -> None:
    """Beyond its own freshness, and beyond what the caller takes for old."""
    await any_store.set([(key(1), answer(b"stale"))], age_seconds=100.0)
    await any_store.set([(key(2), answer(b"fresh"))], age_seconds=20.0)
    stale = await any_store.claim(key(1), owner="a", lease_seconds=30.0)
    too_old = await any_store.claim(key(2), owner="a", lease_seconds=30.0, max_age_seconds=5.0)
    assert [(b"stale", True), (b"fresh", True)] == [
        (claim.found and claim.found.answer.body, claim.leased) for claim in (stale, too_old)
    ]


async def test_the_right_is_given_back(any_store: CacheStore) -> None:
    """With an answer or without one; what others do with it changes nothing."""
    first = await any_store.claim(key(1), owner="a", lease_seconds=30.0)
    await any_store.release(key(1), owner="b")
    await any_store.renew(key(1), owner="a", lease_seconds=30.0)
    await any_store.release(key(1), owner="a")
    second = await any_store.claim(key(1), owner="b", lease_seconds=30.0)
    await any_store.set([(key(1), answer(b"made"))], owner="b")
    third = await any_store.claim(key(1), owner="c", lease_seconds=30.0)
    assert [True, True] == [first.leased, second.leased]
    assert third.found is not None
    assert b"made" == third.found.answer.body


async def test_statistics_count(any_store: CacheStore) -> None:
    """Hits, writes and entries."""
    await any_store.set([(key(1), answer())])
    found = await any_store.get([key(1), key(2)])
    assert [True, False] == [isinstance(one, Found) for one in found]
    said = await any_store.statistics()
    assert (1, 1, 1) == (said.entries, said.hits, said.writes)
    assert said.misses >= 1
