"""Text from outside is a value to the database, wherever it comes in."""

from __future__ import annotations

import hashlib

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from asgi_llm.stores.directory import Key, Organization, Team, User
from asgi_llm.stores.sql import SQLDirectory, SQLKeys
from asgi_llm.stores.sql.models import Base
from tests.stores.sql.members import add_family, digest, entry, key, organization

STRINGS = [
    "Bearer ' OR '1'='1",
    "' OR '1'='1' --",
    "' OR 1=1#",
    '" OR ""="',
    "1 OR 1=1",
    "1' ORDER BY 99-- -",
    "1' UNION SELECT NULL,NULL,NULL-- -",
    "' UNION ALL SELECT digest, key_id, NULL FROM llm_credentials-- ",
    "'; DROP TABLE llm_keys; --",
    "'; DELETE FROM llm_audit_log; --",
    "'; UPDATE llm_users SET role='admin'; --",
    "1; SELECT pg_sleep(9)--",
    "' AND (SELECT 1 FROM pg_sleep(9))::text='1",
    "' AND 1=CAST((SELECT version()) AS int)--",
    "' AND RANDOMBLOB(900000000) NOT NULL --",
    "' AND load_extension('x') --",
    "'||(SELECT name FROM sqlite_master LIMIT 1)||'",
    "'; ATTACH DATABASE '/tmp/x.db' AS x; --",
    "'; COPY llm_keys TO PROGRAM 'id'; --",
    "\\' OR 1=1 --",
    "%' OR name LIKE '%",
    "a_b",
    "*/ OR 1=1 /*",
    "$1",
    "$$ OR $$",
    ":digest",
    "?",
    "%s",
    "%(digest)s",
    "{0}{digest}",
    "\u02bc OR 1=1",
    "\uff07 OR \uff071\uff07=\uff071",
    "E'\\x27'",
    "name); DROP TABLE llm_users; --",
]
KINDS = (Organization, Team, User, Key)


async def counts(engine: AsyncEngine) -> dict[str, int]:
    async with engine.connect() as connection:
        return {
            name: (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            for name, table in Base.metadata.tables.items()
        }


async def test_cve_2026_42208_no_filter_id_or_digest_is_read_as_sql(
    directory: SQLDirectory, keys: SQLKeys, engine: AsyncEngine
) -> None:
    """Each string finds nothing, changes nothing and fails nothing, wherever it is given."""
    await add_family(directory)
    before = await counts(engine)
    for text in STRINGS:
        for presented in (text.encode(), hashlib.sha256(text.encode()).digest()):
            assert None is await keys.find(presented)
        for kind in KINDS:
            assert None is await directory.get(kind, text)
            assert None is await directory.update(kind, text, {"tier": "pro"}, entry())
            page = await directory.list(kind, where={"name": text}, limit=10)
            assert () == page.items
        for field in ("organization_id", "team_id", "user_id"):
            assert () == (await directory.list(Key, where={field: text}, limit=10)).items
        for field in ("actor", "action", "target"):
            assert () == (await directory.audit_log(where={field: text}, limit=10)).items
        assert () == await directory.digests(text)
        assert None is await directory.revoke_key(text, entry())
        assert False is await directory.remove(User, text, entry())
        try:
            await directory.list(Key, where={}, limit=10, after=text)
        except ValueError:
            continue
        raise AssertionError(f"a cursor: {text}")
    assert before == await counts(engine)


async def test_cve_2026_42208_every_string_is_stored_as_it_is(
    directory: SQLDirectory, keys: SQLKeys
) -> None:
    """As name, tier, id, metadata, model, scope, actor and action: it comes back, and is found."""
    for number, text in enumerate(STRINGS):
        member = organization(text[:64], name=text, tier=text[:64], metadata={text: text})
        await directory.add(member, entry(text[:64], actor=text, target=text, request_id=text))
        assert member == await directory.get(Organization, member.id)
        page = await directory.list(Organization, where={"name": text}, limit=10)
        assert [member] == list(page.items)
        log = await directory.audit_log(where={"actor": text}, limit=10)
        assert [text] == [one.target for one in log.items]
        made = key(f"{number}", name=text, models=(text,), scopes=frozenset({text}))
        await directory.add_key(made, digest(text), entry())
        found = await keys.find(digest(text))
        assert found is not None
        assert (text, (text,), frozenset({text})) == (
            found.principal.key_name,
            found.principal.models,
            found.principal.scopes,
        )
    page = await directory.list(Organization, where={}, limit=1000)
    assert len(STRINGS) == len(page.items)


async def test_cve_2026_42208_text_that_a_database_cannot_hold_finds_nothing(
    directory: SQLDirectory, engine: AsyncEngine
) -> None:
    """NUL and lone surrogates are no error of the store: nobody can have such a name."""
    await add_family(directory)
    before = await counts(engine)
    for text in ("key\0", "\0", "\ud800", "key\udfff", "x" * 5000):
        for kind in KINDS:
            assert None is await directory.get(kind, text)
            assert None is await directory.update(kind, text, {"tier": "pro"}, entry())
            assert () == (await directory.list(kind, where={"name": text}, limit=10)).items
        assert () == (await directory.audit_log(where={"actor": text}, limit=10)).items
        assert () == await directory.digests(text)
        assert None is await directory.revoke_key(text, entry())
    assert before == await counts(engine)
