"""What the index in PostgreSQL does beyond the others: its table, its plans, its failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores.semantic_index import Selection
from asgi_llm.stores.sql.engine import open_engine
from asgi_llm.stores.sql.semantic_index import SQLSemanticIndex
from tests.services.postgres_server import PostgresServer
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
TABLE = "llm_semantic_8"


@pytest.fixture
async def engine(pgvector_url: str) -> AsyncIterator[AsyncEngine]:
    opened = open_engine(pgvector_url)
    yield opened
    await opened.dispose()


def index_in(engine: AsyncEngine, **options: Any) -> SQLSemanticIndex:
    return SQLSemanticIndex(
        engine,
        **{
            "dimension": DIMENSION,
            "timeout_seconds": PATIENT_SECONDS,
            "clock": SetClock(),
            **options,
        },
    )


def rows(url: str, statement: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchall()


async def test_many_that_start_at_once_make_one_table(engine: AsyncEngine) -> None:
    """Whoever is first makes it; the others find it, and all work."""
    indexes = [index_in(engine, method=("exact", "hnsw")[number % 2]) for number in range(6)]
    await asyncio.gather(
        *[index.add(entry(f"e{number}"), FIRST) for number, index in enumerate(indexes)]
    )
    assert 6 == (await indexes[0].statistics()).entries


async def test_the_approximate_index_is_made_later_too(
    engine: AsyncEngine, pgvector_url: str
) -> None:
    """Over what is there already; ``create`` may be called again and again."""
    exact = index_in(engine)
    await exact.add(entry(), FIRST)
    names = "SELECT indexname FROM pg_indexes WHERE tablename = 'llm_semantic_8'"
    assert not any("hnsw" in name for (name,) in rows(pgvector_url, names))
    hnsw = index_in(engine, method="hnsw")
    await hnsw.create()
    await hnsw.create()
    assert any("hnsw" in name for (name,) in rows(pgvector_url, names))
    assert 1 == len(await hnsw.search(HERE, FIRST))
    assert 1 == len(await exact.search(HERE, FIRST))


async def test_lengths_of_vectors_have_tables_of_their_own(engine: AsyncEngine) -> None:
    """So that a change of the model starts empty, and the way back finds what was there."""
    small, large = index_in(engine), index_in(engine, dimension=DIMENSION + 1)
    await small.add(entry(), FIRST)
    assert () == await large.find(Selection())
    assert 1 == len(await small.find(Selection()))


async def test_a_table_of_another_version_is_left_alone(
    engine: AsyncEngine, pgvector_url: str
) -> None:
    """It says which table, and changes nothing."""
    await index_in(engine).create()
    with psycopg.connect(pgvector_url) as connection:
        connection.execute(f"COMMENT ON TABLE {TABLE} IS 'something else'")
    with pytest.raises(ConfigurationError, match=f"{TABLE} is not of this version"):
        await index_in(engine).search(HERE, FIRST)


async def test_a_search_of_a_small_partition_is_by_its_own_index(
    engine: AsyncEngine, pgvector_url: str
) -> None:
    """Among many partitions, only its rows are read."""
    index = index_in(engine)
    await index.create()
    with psycopg.connect(pgvector_url) as connection:
        connection.execute(
            "INSERT INTO llm_semantic_8 SELECT 'e' || n, ('p' || n % 500)::bytea,"
            " ('[1,' || n || ',0,0,0,0,0,0]')::vector, '', '', 'm', '', '', 0, 'infinity', 0, 0,"
            " '', 0 FROM generate_series(1, 20000) n"
        )
        connection.execute("COMMIT")
        connection.execute(f"ANALYZE {TABLE}")
    plan = rows(
        pgvector_url,
        "EXPLAIN SELECT id FROM llm_semantic_8 WHERE partition = 'p7'::bytea AND expires > 1"
        " ORDER BY (embedding <=> '[1,0,0,0,0,0,0,0]') + 0.0 LIMIT 5",
    )
    assert any(f"ix_{TABLE}_partition" in line for (line,) in plan)
    assert 40 == len(await index.search(b"p7", FIRST, 1000))


async def test_a_hit_leaves_the_indexes_alone(pgvector_url: str) -> None:
    """A touch and what is learned are updates in place (HOT): vectors are not indexed anew."""
    engine = open_engine(pgvector_url, max_connections=1)
    index = index_in(engine, method="hnsw")
    await index.add(entry(), FIRST)
    for number in range(10):
        await index.touch("one")
        await index.update_learning("one", expected_version=number, state=b"x")
    async with engine.begin() as connection:
        # The one process of the server that did it reports it at the end of this transaction.
        await connection.execute(sa.select(sa.func.pg_stat_force_next_flush()))
    updates = (
        "SELECT pg_stat_get_tuples_updated(oid), pg_stat_get_tuples_hot_updated(oid)"
        " FROM pg_class WHERE relname = 'llm_semantic_8'"
    )
    assert [(20, 20)] == rows(pgvector_url, updates)
    await engine.dispose()


async def test_the_whole_table_has_a_bound(engine: AsyncEngine) -> None:
    """About once a minute: what ran out goes, then what was used least recently."""
    clock = SetClock()
    index = index_in(engine, max_entries=3, clock=clock)
    await index.add(entry("short", expires=START + 1), FIRST)
    for number in range(5):
        clock.now += 1
        await index.add(entry(f"e{number}", b"%d" % number, created=clock.now), FIRST)
    await index.touch("e0")
    clock.now += 60
    await index.add(entry("last", created=clock.now), FIRST)
    assert ["e0", "e4", "last"] == [one.id for one in await index.find(Selection())]
    assert 3 == (await index.statistics()).evicted


async def test_a_database_that_is_gone_or_frozen_is_an_error_in_time(
    pgvector_server: PostgresServer, engine: AsyncEngine
) -> None:
    """Of every call, and over when the database is back."""
    index = index_in(engine, timeout_seconds=1.0)
    await index.create()
    calls = (
        lambda: index.search(HERE, FIRST),
        lambda: index.add(entry(), FIRST),
        lambda: index.get("one"),
        lambda: index.find(Selection()),
        lambda: index.remove(Selection()),
        lambda: index.touch("one"),
        lambda: index.update_learning("one", expected_version=0, state=b""),
        lambda: index.statistics(),
    )
    pgvector_server.freeze()
    try:
        async with asyncio.timeout(PATIENT_SECONDS):
            results = await asyncio.gather(*[ask() for ask in calls], return_exceptions=True)
    finally:
        pgvector_server.thaw()
    assert [StoreError] * len(calls) == [type(one) for one in results]
    pgvector_server.stop(mode="immediate")
    try:
        for ask in calls:
            with pytest.raises(StoreError):
                await ask()
    finally:
        pgvector_server.start()
    await index.add(entry(), FIRST)
    assert 1 == len(await index.search(HERE, FIRST))


async def test_a_server_without_the_extension_is_an_error(
    pgvector_url: str,
) -> None:
    """Of ours, at the first call: whoever may not make the extension is told by the database."""
    with psycopg.connect(pgvector_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE guest LOGIN")
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    try:
        engine = open_engine(pgvector_url.replace("postgres@", "guest@"))
        with pytest.raises(StoreError, match="42501"):
            await index_in(engine).search(HERE, FIRST)
        await engine.dispose()
    finally:
        with psycopg.connect(pgvector_url, autocommit=True) as connection:
            connection.execute("DROP ROLE guest")


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"method": "magic"}, "method"),
        ({"dimension": 0}, "dimension"),
        ({"dimension": 2001, "method": "hnsw"}, "dimension"),
        ({"dimension": 16_001}, "dimension"),
        ({"ef_search": 0}, "ef_search"),
        ({"max_entries_per_partition": 0}, "max_entries_per_partition"),
        ({"max_entries": 0}, "max_entries"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], param: str) -> None:
    """The error names the option."""
    with pytest.raises(ConfigurationError) as caught:
        index_in(open_engine("postgresql://nobody@127.0.0.1:1/none"), **options)
    assert param == caught.value.param


def test_another_database_is_refused() -> None:
    """SQLite has no vectors."""
    with pytest.raises(ConfigurationError, match="needs PostgreSQL"):
        SQLSemanticIndex(open_engine("sqlite://"), dimension=3)
