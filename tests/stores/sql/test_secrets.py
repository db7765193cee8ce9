"""A digest is shown nowhere: not by errors or their causes, rows, entries of the log, or logs."""

from __future__ import annotations

import base64
import logging
import traceback
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from asgi_llm.errors import StoreError
from asgi_llm.stores.directory import ConflictError, Key
from asgi_llm.stores.sql import SQLDirectory, SQLKeys, create_schema, open_engine
from asgi_llm.stores.sql.models import CredentialRow
from tests.stores.sql.members import at, digest, entry, key

TEXT = "sk-canary-0123456789"
CANARY = digest(TEXT)
SHOWN = [
    TEXT,
    CANARY.hex(),
    repr(CANARY)[2:-1],
    base64.b64encode(CANARY).decode().rstrip("="),
    base64.urlsafe_b64encode(CANARY).decode().rstrip("="),
]


def shown_in(text: str) -> list[str]:
    return [one for one in SHOWN if one.lower() in text.lower()]


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


async def error_of(work: Awaitable[Any]) -> BaseException:
    with pytest.raises((StoreError, ConflictError)) as raised:
        await work
    return raised.value


def check(error: BaseException) -> None:
    for one in chain(error):
        assert [] == shown_in(repr(one) + repr(vars(one)))
    assert [] == shown_in("".join(traceback.format_exception(error)))


async def test_incident_2026_03_18_no_error_shows_a_digest(
    directory: SQLDirectory,
    keys: SQLKeys,
    engine: AsyncEngine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A digest that is taken, a table that is gone, a value that the driver refuses."""
    caplog.set_level(logging.DEBUG)
    await directory.add_key(key("key"), CANARY, entry())
    await keys.find(CANARY)
    check(await error_of(directory.add_key(key("other"), CANARY, entry())))
    rotation = directory.rotate_key(
        "key", CANARY, hint="", old_expires_at=at(1), audit=entry(at=at())
    )
    check(await error_of(rotation))
    if engine.dialect.name == "postgresql":
        # The driver's own message repeats what it was given.
        check(await error_of(keys.find(CANARY.hex())))  # type: ignore[arg-type]
    async with engine.begin() as connection:
        await connection.run_sync(CredentialRow.metadata.tables["llm_credentials"].drop)
    check(await error_of(keys.find(CANARY)))
    check(await error_of(directory.add_key(key("other"), CANARY, entry())))
    assert [] == shown_in(caplog.text)


async def test_incident_2026_03_18_no_log_of_statements_shows_a_digest(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Statements and drivers may be logged: values are left out."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, "sqlalchemy.engine")
    engine = open_engine(database_url)
    await create_schema(engine)
    await SQLDirectory(engine).add_key(key("key"), CANARY, entry())
    assert await SQLKeys(engine).find(CANARY) is not None
    await engine.dispose()
    assert "INSERT INTO llm_credentials" in caplog.text
    assert [] == shown_in(caplog.text)


async def test_incident_2026_03_18_no_error_of_a_read_only_file_shows_a_digest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A refused write repeats nothing of what it would have written."""
    caplog.set_level(logging.DEBUG)
    engine = open_engine(f"sqlite:///{tmp_path}/test.db")
    await create_schema(engine)
    reader = open_engine(f"sqlite:///file:{tmp_path}/test.db?mode=ro&uri=true")
    check(await error_of(SQLDirectory(reader).add_key(key("key"), CANARY, entry())))
    assert [] == shown_in(caplog.text)
    await reader.dispose()
    await engine.dispose()


async def test_incident_2026_03_18_no_row_or_struct_shows_a_digest(
    directory: SQLDirectory, keys: SQLKeys, engine: AsyncEngine
) -> None:
    """Representations of models, members, records and entries of the log."""
    await directory.add_key(key("key"), CANARY, entry())
    async with AsyncSession(engine) as session:
        row = (await session.execute(select(CredentialRow))).scalar_one()
        assert CANARY == row.digest
        shown = repr(row) + str(row)
    page = await directory.list(Key, where={}, limit=9)
    log = await directory.audit_log(where={}, limit=9)
    shown += repr((page, log, await keys.find(CANARY), directory, keys, engine))
    assert [] == shown_in(shown)


async def test_hardening_2026_04_a_digest_opens_nothing(
    directory: SQLDirectory, keys: SQLKeys
) -> None:
    """Whoever read the table cannot log in with what it holds."""
    await directory.add_key(key("key"), CANARY, entry())
    for stolen in SHOWN[1:]:
        assert None is await keys.find(digest(stolen))
