"""What the index in Qdrant does beyond the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qdrant_client import AsyncQdrantClient

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores.semantic_index import Learning, Selection
from asgi_llm.stores.semantic_index_qdrant import QdrantSemanticIndex
from tests.stores.semantic_index.conftest import (
    DIMENSION,
    PATIENT_SECONDS,
    START,
    SetClock,
    entry,
    unit,
)

FIRST = unit(1)
HERE = b"P" * 32


def index_at(server: Any, **options: Any) -> QdrantSemanticIndex:
    return QdrantSemanticIndex(
        server,
        **{
            "dimension": DIMENSION,
            "timeout_seconds": PATIENT_SECONDS,
            "clock": SetClock(),
            **options,
        },
    )


async def test_a_folder_keeps_entries_over_a_restart(tmp_path: Path) -> None:
    """With what was learned."""
    index = index_at(str(tmp_path / "qdrant"))
    await index.add(entry(), FIRST)
    await index.update_learning("one", expected_version=0, state=b"x")
    await index.aclose()
    again = index_at(str(tmp_path / "qdrant"))
    (match,) = await again.search(HERE, FIRST)
    assert Learning(b"x", 1) == match.entry.learning
    await again.aclose()


async def test_a_collection_of_another_length_is_left_alone() -> None:
    """Every call says so."""
    client = AsyncQdrantClient(":memory:")
    await index_at(client).add(entry(), FIRST)
    other = index_at(client, dimension=DIMENSION + 1)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=f"vectors of {DIMENSION} numbers, not"):
            await other.find(Selection())
    await client.close()


async def test_the_whole_collection_has_a_bound() -> None:
    """About once a minute: what ran out goes, then what was used least recently."""
    clock = SetClock()
    index = index_at(":memory:", max_entries=3, clock=clock)
    await index.add(entry("short", expires=START + 1), FIRST)
    for number in range(5):
        clock.now += 1
        await index.add(entry(f"e{number}", b"%d" % number, created=clock.now), FIRST)
    clock.now += 1
    await index.touch("e0")
    clock.now += 60
    await index.add(entry("last", created=clock.now), FIRST)
    assert ["e0", "e4", "last"] == [one.id for one in await index.find(Selection())]
    await index.aclose()


async def test_a_client_of_ones_own_stays_open() -> None:
    """Who opened it closes it."""
    client = AsyncQdrantClient(":memory:")
    index = index_at(client)
    await index.add(entry(), FIRST)
    await index.aclose()
    assert await client.collection_exists("asgi-llm-semantic")
    await client.close()


async def test_nobody_there_is_an_error_of_ours() -> None:
    """Of every call."""
    index = index_at("http://127.0.0.1:1")
    for work in (index.search(HERE, FIRST), index.add(entry(), FIRST), index.statistics()):
        with pytest.raises(StoreError, match="Qdrant failed"):
            await work
    await index.aclose()


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"method": "magic"}, "method"),
        ({"dimension": 0}, "dimension"),
        ({"ef": 0}, "ef"),
        ({"max_entries_per_partition": 0}, "max_entries_per_partition"),
        ({"max_entries": 0}, "max_entries"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], param: str) -> None:
    """The error names the option."""
    with pytest.raises(ConfigurationError) as caught:
        index_at(":memory:", **options)
    assert param == caught.value.param
