"""``SQLKeys``: what a credential stands for, what a key inherits, and when it was last used."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import event, update
from sqlalchemy.ext.asyncio import AsyncEngine

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores.base import KeyRecord, KeyStore
from asgi_llm.stores.directory import Key, Organization, Team, User
from asgi_llm.stores.sql import SQLKeys, create_schema, open_engine
from asgi_llm.stores.sql.directory import SQLDirectory
from asgi_llm.stores.sql.models import KeyRow
from asgi_llm.testing import ManualClock
from asgi_llm.types import Limit, Principal, Role
from tests.stores.sql.members import add_family, at, digest, entry, key, organization, team, user

FAMILY = ((Organization, "org"), (Team, "team"), (User, "user"), (Key, "key"))


async def test_a_bare_key_is_found(directory: SQLDirectory, keys: SQLKeys) -> None:
    """A key that belongs to nobody has a principal of defaults."""
    store: KeyStore = keys
    await directory.add_key(key("key", name="Bare"), digest("key"), entry())
    expected = KeyRecord(principal=Principal(key_id="key", key_name="Bare"))
    assert expected == await store.find(digest("key"))


async def test_an_unknown_digest_is_none(directory: SQLDirectory, keys: SQLKeys) -> None:
    """So is a digest of another length, and the digest of a digest."""
    await directory.add_key(key("key"), digest("key"), entry())
    for unknown in (digest("other"), b"", digest("key")[:20], digest(digest("key").hex())):
        assert None is await keys.find(unknown)


async def test_what_a_key_says_itself_comes_first(directory: SQLDirectory, keys: SQLKeys) -> None:
    """Tier, models, scopes and metadata of the key's own."""
    await add_family(
        directory,
        tier="pro",
        models=("gpt-*",),
        scopes=frozenset({"chat"}),
        metadata={"a": "b"},
        expires_at=at(100),
    )
    for kind, id in FAMILY[:3]:
        await directory.update(kind, id, {"tier": "free"}, entry())
    await directory.update(Team, "team", {"models": ("other",)}, entry())
    expected = Principal(
        key_id="key",
        key_name="key",
        user_id="user",
        team_id="team",
        organization_id="org",
        tier="pro",
        models=("gpt-*",),
        scopes=frozenset({"chat"}),
        metadata={"a": "b"},
    )
    found = KeyRecord(principal=expected, expires_at=at(100).timestamp())
    assert found == await keys.find(digest("key"))


@pytest.mark.parametrize("levels", range(1, 5))
async def test_the_nearest_tier_counts(directory: SQLDirectory, keys: SQLKeys, levels: int) -> None:
    """The organization's is used until a team, a user or the key itself has one."""
    await add_family(directory)
    for kind, id in FAMILY[:levels]:
        await directory.update(kind, id, {"tier": id}, entry())
    found = await keys.find(digest("key"))
    assert found is not None
    assert FAMILY[levels - 1][1] == found.principal.tier


async def test_limits_are_inherited_one_by_one(directory: SQLDirectory, keys: SQLKeys) -> None:
    """Of each scope, unit and window the nearest limit counts; a zero is a limit."""

    def limit(amount: int, **fields: Any) -> Limit:
        return Limit(**{"unit": "requests", "window_seconds": 60, **fields, "amount": amount})

    await add_family(directory)
    own = {
        "org": (limit(1), limit(1, window_seconds=3600), limit(1, scope="organization")),
        "team": (limit(2), limit(2, scope="team"), limit(2, unit="tokens")),
        "user": (limit(3, unit="tokens"), limit(3, unit="concurrent_requests", window_seconds=0)),
        "key": (limit(0, unit="concurrent_requests", window_seconds=0),),
    }
    for kind, id in FAMILY:
        await directory.update(kind, id, {"limits": own[id]}, entry())
    found = await keys.find(digest("key"))
    assert found is not None
    expected = {
        limit(0, unit="concurrent_requests", window_seconds=0),
        limit(3, unit="tokens"),
        limit(2),
        limit(2, scope="team"),
        limit(1, window_seconds=3600),
        limit(1, scope="organization"),
    }
    assert expected == set(found.principal.limits)
    assert len(expected) == len(found.principal.limits)


@pytest.mark.parametrize(
    ("own", "teams", "expected"),
    [
        (None, None, None),
        (None, ("a",), ("a",)),
        (None, (), ()),
        (("b",), ("a",), ("b",)),
        ((), ("a",), ()),
    ],
)
async def test_models_are_the_keys_else_the_teams(
    directory: SQLDirectory, keys: SQLKeys, own: Any, teams: Any, expected: Any
) -> None:
    """An empty list is a list: it allows nothing."""
    await add_family(directory, models=own)
    await directory.update(Team, "team", {"models": teams}, entry())
    found = await keys.find(digest("key"))
    assert found is not None
    assert expected == found.principal.models


async def test_a_key_inherits_from_its_users_team(directory: SQLDirectory, keys: SQLKeys) -> None:
    """Whoever names a user only is in the user's team and organization."""
    await add_family(directory)
    await directory.update(Team, "team", {"models": ("a",)}, entry())
    await directory.add_key(key("plain", user_id="user"), digest("plain"), entry())
    found = await keys.find(digest("plain"))
    assert found is not None
    assert ("team", "org", ("a",)) == (
        found.principal.team_id,
        found.principal.organization_id,
        found.principal.models,
    )


@pytest.mark.parametrize(
    ("own", "users", "expected"),
    [
        ("member", "admin", "member"),
        ("admin", "member", "member"),
        ("team_admin", "admin", "team_admin"),
        ("admin", "team_admin", "team_admin"),
        ("admin", "admin", "admin"),
    ],
)
async def test_a_key_can_do_no_more_than_its_user(
    directory: SQLDirectory, keys: SQLKeys, own: Role, users: Role, expected: Role
) -> None:
    """Whoever is an admin no more has no admin's keys left."""
    await add_family(directory, role=own)
    await directory.update(User, "user", {"role": users}, entry())
    found = await keys.find(digest("key"))
    assert found is not None
    assert expected == found.principal.role


@pytest.mark.parametrize(("kind", "id"), FAMILY)
async def test_nobody_is_active_under_an_inactive_one(
    directory: SQLDirectory, keys: SQLKeys, kind: type[Any], id: str
) -> None:
    """Key, user, team and organization each can be switched off, and on again."""
    await add_family(directory)
    for active in (False, True):
        await directory.update(kind, id, {"active": active}, entry())
        found = await keys.find(digest("key"))
        assert found is not None
        assert active is found.active


async def test_b3_a_revoked_key_is_found_inactive(directory: SQLDirectory, keys: SQLKeys) -> None:
    """With all its credentials, those of a grace period too."""
    await directory.add_key(key("key"), digest("old"), entry())
    await directory.rotate_key("key", digest("new"), hint="", old_expires_at=at(1e6), audit=entry())
    await directory.revoke_key("key", entry())
    for text in ("old", "new"):
        found = await keys.find(digest(text))
        assert found is not None
        assert False is found.active


@pytest.mark.parametrize(
    ("key_end", "old", "new"),
    [(None, 50.0, None), (100.0, 50.0, 100.0), (20.0, 20.0, 20.0)],
)
async def test_the_earliest_end_counts(
    directory: SQLDirectory,
    keys: SQLKeys,
    key_end: float | None,
    old: float,
    new: float | None,
) -> None:
    """A credential ends with its grace period or with its key."""
    made = key("key", expires_at=None if key_end is None else at(key_end))
    await directory.add_key(made, digest("old"), entry())
    await directory.rotate_key("key", digest("new"), hint="", old_expires_at=at(50), audit=entry())
    for text, seconds in (("old", old), ("new", new)):
        found = await keys.find(digest(text))
        assert found is not None
        assert (None if seconds is None else at(seconds).timestamp()) == found.expires_at


async def test_b3_a_grace_period_never_grows(directory: SQLDirectory, keys: SQLKeys) -> None:
    """A later rotation with a longer one does not bring an older credential back."""
    await directory.add_key(key("key"), digest("1"), entry())
    for text, end in (("2", 50), ("3", 5000)):
        await directory.rotate_key(
            "key", digest(text), hint="", old_expires_at=at(end), audit=entry(at=at(1))
        )
    for text, end in (("1", 50), ("2", 5000)):
        found = await keys.find(digest(text))
        assert found is not None
        assert at(end).timestamp() == found.expires_at


async def test_a_look_up_is_one_statement(directory: SQLDirectory, engine: AsyncEngine) -> None:
    """No transaction is begun for it, and nothing is read twice."""
    await add_family(directory)
    statements: list[str] = []

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def note(_c: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    assert await SQLKeys(engine).find(digest("key")) is not None
    assert 1 == len(statements)


async def test_a_nonsense_row_is_a_store_error(
    directory: SQLDirectory, keys: SQLKeys, engine: AsyncEngine
) -> None:
    """What something else wrote into the table is never an identity."""
    await directory.add_key(key("key"), digest("key"), entry())
    async with engine.begin() as connection:
        await connection.execute(
            update(KeyRow).values(
                limits=[{"unit": "apples", "amount": 1, "window_seconds": 1, "burst": None}]
            )
        )
    with pytest.raises(StoreError, match="not valid"):
        await keys.find(digest("key"))


# Times of last use


async def last_used(directory: SQLDirectory, id: str) -> float | None:
    found = await directory.get(Key, id)
    assert found is not None
    return None if found.last_used_at is None else found.last_used_at.timestamp()


async def test_use_is_written_in_batches(directory: SQLDirectory, engine: AsyncEngine) -> None:
    """Nothing is written before the time has come, then all at once, each key's latest time."""
    clock = ManualClock()
    keys = SQLKeys(engine, note_every_seconds=10, clock=clock)
    for id in ("a", "b"):
        await directory.add_key(key(id), digest(id), entry())
    writes: list[str] = []

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def note(_c: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("UPDATE"):
            writes.append(statement)

    clock.advance(9.9)
    for second in (100, 300, 200):
        keys.note_used("a", second)
    keys.note_used("b", 150)
    assert None is await last_used(directory, "a")
    clock.advance(0.1)
    keys.note_used("b", 160)
    async with asyncio.timeout(10):
        await keys.flush()
    assert 1 == len(writes)
    assert [300, 160] == [await last_used(directory, id) for id in ("a", "b")]
    keys.note_used("a", 400)
    assert 1 == len(writes)
    await keys.flush()
    assert 400 == await last_used(directory, "a")


async def test_use_never_goes_back(directory: SQLDirectory, keys: SQLKeys) -> None:
    """A process that is late does not undo what another has written."""
    await directory.add_key(key("key"), digest("key"), entry())
    for second in (200, 100):
        keys.note_used("key", second)
        await keys.flush()
    assert 200 == await last_used(directory, "key")


async def test_what_waits_to_be_written_is_bounded(sqlite_url: str) -> None:
    """Beyond 100,000 keys no more are gathered until those are written."""
    engine = open_engine(sqlite_url)
    await create_schema(engine)
    directory, keys = SQLDirectory(engine), SQLKeys(engine, timeout_seconds=30)
    await directory.add_key(key("key"), digest("key"), entry())
    for number in range(100_000):
        keys.note_used(f"k{number}", 1)
    keys.note_used("key", 1)
    await keys.flush()
    assert None is await last_used(directory, "key")
    keys.note_used("key", 2)
    await keys.flush()
    assert 2 == await last_used(directory, "key")
    await engine.dispose()


async def test_a_key_that_is_gone_does_not_matter(keys: SQLKeys) -> None:
    """Its use is written to nobody, and the next flush has nothing to do."""
    keys.note_used("nobody", 1)
    await keys.flush()
    await keys.flush()


async def test_use_waits_for_a_database_that_is_away(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A failed write is told once and tried again with the next."""
    engine = open_engine(sqlite_url)
    keys = SQLKeys(engine)
    keys.note_used("key", 5)
    await keys.flush()
    assert [
        "times of last use of 1 keys wait: The database lacks tables of this version; run: "
        "asgi-llm db upgrade"
    ] == caplog.messages
    await create_schema(engine)
    directory = SQLDirectory(engine)
    await directory.add_key(key("key"), digest("key"), entry())
    await keys.flush()
    assert 5 == await last_used(directory, "key")
    await engine.dispose()


@pytest.mark.parametrize(
    "option",
    [{"timeout_seconds": 0}, {"timeout_seconds": float("inf")}, {"note_every_seconds": -1}],
)
def test_an_option_out_of_range_is_named(option: dict[str, float]) -> None:
    """The error says which option it is."""
    with pytest.raises(ConfigurationError) as raised:
        SQLKeys(open_engine("sqlite://"), **option)  # type: ignore[arg-type]
    assert next(iter(option)) == raised.value.param


async def test_the_same_name_in_two_organizations_is_two_users(
    directory: SQLDirectory, keys: SQLKeys
) -> None:
    """Limits of one never reach the other."""
    for name, amount in (("one", 1), ("two", 2)):
        await directory.add(organization(name), entry())
        await directory.add(team(name, organization_id=name), entry())
        limits = (Limit(unit="requests", amount=amount, window_seconds=60),)
        made = user(name, name="same", organization_id=name, team_id=name, limits=limits)
        await directory.add(made, entry())
        await directory.add_key(key(name, user_id=name), digest(name), entry())
    for name, amount in (("one", 1), ("two", 2)):
        found = await keys.find(digest(name))
        assert found is not None
        assert [amount] == [limit.amount for limit in found.principal.limits]
