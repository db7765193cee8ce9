"""``SQLDirectory`` over SQLite and PostgreSQL: what is kept, refused, listed and logged."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from asgi_llm.errors import StoreError
from asgi_llm.stores.directory import (
    Budget,
    ConflictError,
    Directory,
    Entity,
    Key,
    Organization,
    Team,
    User,
)
from asgi_llm.stores.sql.directory import SQLDirectory
from asgi_llm.stores.sql.models import AuditRow, CredentialRow, OrganizationRow
from asgi_llm.types import Limit
from tests.stores.sql.members import (
    add_family,
    at,
    digest,
    entry,
    key,
    organization,
    team,
    user,
)

FULL: dict[str, Any] = {
    "tier": "pro",
    "limits": (
        Limit(unit="tokens", amount=0, window_seconds=60, scope="team", burst=7),
        Limit(unit="concurrent_requests", amount=2**53 - 1),
    ),
    "budgets": (Budget(amount_usd="0", period="day"), Budget(amount_usd="1.50", period="total")),
    "metadata": {"cost centre": "\U0001f600 <b>'\"%s", "empty": ""},
    "active": False,
    "created_at": at(0.123456),
}
MEMBERS: list[Entity] = [
    organization("org", **FULL),
    team("team", **FULL, organization_id="org", models=("gpt-*", "")),
    user("user", **FULL, organization_id="org", team_id="team", role="team_admin"),
]
FULL_KEY = key(
    "key",
    **FULL,
    organization_id="org",
    team_id="team",
    user_id="user",
    role="admin",
    models=(),
    scopes=frozenset({"b", "a"}),
    hint="wxyz",
    expires_at=at(10),
    last_used_at=at(5),
)


async def count(engine: AsyncEngine, table: type[Any]) -> int:
    async with engine.connect() as connection:
        return (await connection.execute(select(func.count()).select_from(table))).scalar_one()


async def add_full(directory: SQLDirectory) -> None:
    for member in MEMBERS:
        await directory.add(member, entry())
    await directory.add_key(FULL_KEY, digest("key"), entry())


async def test_members_come_back_as_they_were_added(directory: SQLDirectory) -> None:
    """Every field of every kind survives, times with their microseconds and their zone."""
    kept: Directory = directory
    await add_full(directory)
    for member in (*MEMBERS, FULL_KEY):
        assert member == await kept.get(type(member), member.id)


async def test_defaults_come_back_as_defaults(directory: SQLDirectory) -> None:
    """None stays None and is no empty list."""
    for member in (organization("org"), team("team"), user("user")):
        await directory.add(member, entry())
        assert member == await directory.get(type(member), member.id)
    await directory.add_key(key("key"), digest("key"), entry())
    assert key("key") == await directory.get(Key, "key")


@pytest.mark.parametrize("kind", [Organization, Team, User, Key])
async def test_what_is_not_there_is_none(directory: SQLDirectory, kind: type[Entity]) -> None:
    """Reading, changing and ending an unknown id is no error, and leaves no audit entry."""
    assert None is await directory.get(kind, "nobody")
    assert None is await directory.update(kind, "nobody", {"name": "x"}, entry())
    if kind is Key:
        ended = await directory.rotate_key(
            "nobody", digest("x"), hint="", old_expires_at=at(), audit=entry()
        )
        assert None is ended
        assert None is await directory.revoke_key("nobody", entry())
        assert () == await directory.digests("nobody")
    else:
        assert False is await directory.remove(kind, "nobody", entry())
    assert () == (await directory.audit_log(where={}, limit=10)).items


async def test_each_write_has_its_audit_entry(directory: SQLDirectory) -> None:
    """The log tells every change once, newest first, with all that the entry said."""
    entries = [
        entry(f"step.{number}", actor="key:k", target=f"t:{number}", request_id="req_1")
        for number in range(9)
    ]
    entries[3] = msgspec.structs.replace(entries[3], changes={"tier": None, "n": [0, False, 1.5]})
    await directory.add(organization("org"), entries[0])
    await directory.add_key(key("key"), digest("key"), entries[1])
    await directory.update(Key, "key", {"tier": "pro"}, entries[2])
    await directory.update(Key, "key", {"tier": None}, entries[3])
    await directory.rotate_key(
        "key", digest("new"), hint="", old_expires_at=at(9), audit=entries[4]
    )
    await directory.revoke_key("key", entries[5])
    await directory.add(organization("gone"), entries[6])
    await directory.remove(Organization, "gone", entries[7])
    page = await directory.audit_log(where={}, limit=20)
    assert entries[7::-1] == list(page.items)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (
            Key,
            {
                "name": "other",
                "tier": None,
                "limits": (),
                "budgets": (),
                "metadata": {},
                "models": None,
                "scopes": frozenset(),
                "expires_at": None,
                "user_id": None,
                "team_id": None,
                "organization_id": None,
                "role": "member",
            },
        ),
        (
            Team,
            {"tier": None, "limits": (), "budgets": (), "metadata": {}, "models": None},
        ),
        (User, {"tier": "", "limits": (), "budgets": (), "metadata": {}, "team_id": None}),
        (Organization, {"tier": None, "limits": (), "budgets": (), "metadata": {}}),
    ],
)
async def test_an_update_changes_the_named_fields_alone(
    directory: SQLDirectory, kind: type[Entity], changes: dict[str, Any]
) -> None:
    """Null, false, empty and zero are values: each is set by itself, and nothing else moves."""
    await add_full(directory)
    expected = next(member for member in (*MEMBERS, FULL_KEY) if type(member) is kind)
    for field, value in changes.items():
        expected = msgspec.structs.replace(expected, **{field: value})
        assert expected == await directory.update(kind, expected.id, {field: value}, entry())
        assert expected == await directory.get(kind, expected.id)
    for active in (True, False):
        changed = await directory.update(kind, expected.id, {"active": active}, entry())
        assert changed is not None
        assert active is changed.active


async def test_an_empty_update_is_no_change(directory: SQLDirectory) -> None:
    """Nothing is written, and the log says nothing."""
    await directory.add(organization("org"), entry("made"))
    changed = await directory.update(Organization, "org", {}, entry("not.made"))
    assert organization("org") == changed
    log = await directory.audit_log(where={}, limit=10)
    assert ["made"] == [one.action for one in log.items]


@pytest.mark.parametrize(
    "field", ["id", "created_at", "hint", "last_used_at", "revoked_at", "digest", "labels", ""]
)
async def test_an_update_of_another_field_is_refused(directory: SQLDirectory, field: str) -> None:
    """What a key's own life sets cannot be set, nor what is no field."""
    await directory.add_key(key("key"), digest("key"), entry())
    with pytest.raises(ValueError, match=f"^{field} is none of"):
        await directory.update(Key, "key", {"tier": "pro", field: None}, entry())
    assert key("key") == await directory.get(Key, "key")


async def test_a_refused_update_leaves_what_was(directory: SQLDirectory) -> None:
    """Neither the good part of it nor an audit entry is kept."""
    await directory.add(organization("one"), entry("made"))
    await directory.add(organization("two"), entry("made"))
    with pytest.raises(ConflictError, match="taken"):
        await directory.update(Organization, "two", {"tier": "pro", "name": "one"}, entry())
    assert organization("two") == await directory.get(Organization, "two")
    log = await directory.audit_log(where={}, limit=10)
    assert ["made", "made"] == [one.action for one in log.items]


async def test_failure_of_the_audit_entry_takes_the_write_back(
    directory: SQLDirectory, engine: AsyncEngine
) -> None:
    """Without its entry no change is kept."""
    async with engine.begin() as connection:
        await connection.run_sync(AuditRow.metadata.tables["llm_audit_log"].drop)
    await directory_fails(directory.add(organization("org"), entry()))
    assert 0 == await count(engine, OrganizationRow)


async def directory_fails(work: Any) -> None:
    with pytest.raises(Exception, match="asgi-llm db upgrade"):
        await work


async def test_names_are_unique_where_they_must_be(directory: SQLDirectory) -> None:
    """Organizations by name; teams and users by name within one, and among those without any."""
    await directory.add(organization("one", name="Acme"), entry())
    await directory.add(organization("two", name="acme"), entry())
    for parent in (None, "one", "two"):
        for make in (team, user):
            await directory.add(make(f"{parent}", name="A", organization_id=parent), entry())
            with pytest.raises(ConflictError, match="The name is taken"):
                await directory.add(make("other", name="A", organization_id=parent), entry())
    with pytest.raises(ConflictError, match="The name is taken"):
        await directory.add(organization("three", name="Acme"), entry())
    await directory.add_key(key("k1", name="same"), digest("k1"), entry())
    await directory.add_key(key("k2", name="same"), digest("k2"), entry())


async def test_a_digest_belongs_to_one_key(directory: SQLDirectory) -> None:
    """Neither another key nor a rotation takes it over, and no error shows it."""
    await directory.add_key(key("one"), digest("one"), entry())
    await directory.add_key(key("two"), digest("two"), entry())
    for work in (
        directory.add_key(key("three"), digest("one"), entry()),
        directory.rotate_key("two", digest("one"), hint="", old_expires_at=at(), audit=entry()),
    ):
        with pytest.raises(ConflictError, match="taken") as raised:
            await work
        assert digest("one").hex() not in str(raised.value)
    assert (digest("one"),) == await directory.digests("one")
    assert (digest("two"),) == await directory.digests("two")
    assert None is await directory.get(Key, "three")


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (team("t", organization_id="nobody"), "no such organization"),
        (user("u", organization_id="nobody"), "no such organization"),
        (user("u", organization_id="org", team_id="nobody"), "no such team"),
        (user("u", organization_id="other", team_id="team"), "another organization"),
        (key("k", team_id="nobody"), "no such team"),
        (key("k", user_id="nobody"), "no such user"),
        (key("k", organization_id="other", user_id="user"), "another organization"),
        (key("k", organization_id="other", team_id="team"), "another organization"),
        (key("k", team_id="foreign", user_id="user"), "another organization"),
    ],
)
async def test_parents_must_be_there_and_of_one_organization(
    directory: SQLDirectory, member: Entity, message: str
) -> None:
    """A key of one organization never takes its limits from a team of another."""
    await add_family(directory)
    await directory.add(organization("other"), entry())
    await directory.add(team("foreign", organization_id="other"), entry())
    with pytest.raises(ConflictError, match=message):
        if isinstance(member, Key):
            await directory.add_key(member, digest("k"), entry())
        else:
            await directory.add(member, entry())
    parents = {
        field: value
        for field, value in msgspec.structs.asdict(member).items()
        if field in ("organization_id", "team_id", "user_id")
    }
    moved = {Team: "foreign", User: "user", Key: "key"}[type(member)]
    with pytest.raises(ConflictError):
        await directory.update(type(member), moved, parents, entry())


async def test_a_team_does_not_move_away_from_its_members(directory: SQLDirectory) -> None:
    """Its users and keys stay with the organization, so that the team must as well."""
    await add_family(directory)
    await directory.add(organization("other"), entry())
    with pytest.raises(ConflictError, match="belong to another organization"):
        await directory.update(Team, "team", {"organization_id": "other"}, entry())
    assert team("team", organization_id="org") == await directory.get(Team, "team")


async def test_only_the_childless_are_removed(directory: SQLDirectory) -> None:
    """From the leaves up; a key keeps its parents for good."""
    await directory.add(organization("org"), entry())
    await directory.add(team("team", organization_id="org"), entry())
    await directory.add(user("user", organization_id="org", team_id="team"), entry())
    parents: list[tuple[type[Entity], str]] = [(Organization, "org"), (Team, "team")]
    for kind, id in parents:
        with pytest.raises(ConflictError, match="Something still belongs to it"):
            await directory.remove(kind, id, entry())
        assert await directory.get(kind, id) is not None
    removable: list[tuple[type[Entity], str]] = [(User, "user"), *reversed(parents)]
    for kind, id in removable:
        assert True is await directory.remove(kind, id, entry())
        assert None is await directory.get(kind, id)
    await add_family(directory)
    await directory.revoke_key("key", entry())
    with pytest.raises(ConflictError, match="Something still belongs to it"):
        await directory.remove(User, "user", entry())


async def test_keys_have_ways_of_their_own(directory: SQLDirectory) -> None:
    """A key cannot be added without a digest, nor removed."""
    with pytest.raises(TypeError):
        await directory.add(key("key"), entry())
    with pytest.raises(TypeError):
        await directory.remove(Key, "key", entry())
    for wrong in (b"", b"x" * 31, b"x" * 33, "x" * 32):
        with pytest.raises(ValueError, match="32 bytes"):
            await directory.add_key(key("key"), wrong, entry())  # type: ignore[arg-type]


async def test_a_rotation_keeps_the_old_credential_for_its_grace(directory: SQLDirectory) -> None:
    """Two digests then, and after the end of the first a further rotation forgets it."""
    made = key("key", hint="aaaa")
    await directory.add_key(made, digest("1"), entry())

    async def rotate(text: str, now: float, grace: float) -> Key | None:
        return await directory.rotate_key(
            "key",
            digest(text),
            hint=text * 4,
            old_expires_at=at(now + grace),
            audit=entry(at=at(now)),
        )

    assert msgspec.structs.replace(made, hint="2222") == await rotate("2", 0, 60)
    assert {digest("1"), digest("2")} == set(await directory.digests("key"))
    assert msgspec.structs.replace(made, hint="3333") == await rotate("3", 61, 60)
    assert {digest("2"), digest("3")} == set(await directory.digests("key"))
    assert msgspec.structs.replace(made, hint="3333") == await directory.get(Key, "key")


async def test_a_revoked_key_stays_revoked(directory: SQLDirectory) -> None:
    """No update, rotation or second revocation changes that, or when it was."""
    await directory.add_key(key("key"), digest("key"), entry())
    revoked = msgspec.structs.replace(key("key"), active=False, revoked_at=at(1))
    assert revoked == await directory.revoke_key("key", entry("first", at=at(1)))
    assert revoked == await directory.revoke_key("key", entry("second", at=at(2)))
    for work in (
        directory.update(Key, "key", {"active": True}, entry()),
        directory.rotate_key("key", digest("new"), hint="", old_expires_at=at(9), audit=entry()),
    ):
        with pytest.raises(ConflictError, match="revoked"):
            await work
    assert revoked == await directory.get(Key, "key")
    assert (digest("key"),) == await directory.digests("key")
    assert 0 == len((await directory.audit_log(where={"action": "second"}, limit=9)).items)


async def test_pages_are_newest_first_and_complete(directory: SQLDirectory) -> None:
    """Every member comes once, those of one instant too, whatever is added in between."""
    expected = [organization(f"{n:02}", created_at=at(n // 3)) for n in range(10)]
    for member in expected:
        await directory.add(member, entry())
    seen: list[Any] = []
    after = None
    for _ in range(10):
        page = await directory.list(Organization, where={}, limit=3, after=after)
        seen += page.items
        await directory.add(organization(f"new{len(seen)}", created_at=at(100)), entry())
        if (after := page.next) is None:
            break
    assert expected[::-1] == seen


async def test_the_log_has_pages_too(directory: SQLDirectory) -> None:
    """Entries of one instant are told apart by their number."""
    for number in range(5):
        await directory.add(organization(f"{number}"), entry(f"add.{number}", at=at()))
    first = await directory.audit_log(where={}, limit=2)
    second = await directory.audit_log(where={}, limit=3, after=first.next)
    assert ["add.4", "add.3"] == [one.action for one in first.items]
    assert ["add.2", "add.1", "add.0"] == [one.action for one in second.items]
    assert None is second.next


@pytest.mark.parametrize(
    "after",
    [
        "",
        "x",
        "====",
        "AAAA",
        "\u00e9",
        "WzEsMl0",
        "W10",
        "WyIyMDI2LTAxLTAxVDAwOjAwOjAwWiIsIlx1MDAwMCJd",
    ],
)
async def test_a_cursor_that_is_none_is_refused(directory: SQLDirectory, after: str) -> None:
    """It is an error of the caller's, and never a first page."""
    with pytest.raises(ValueError, match="not a cursor"):
        await directory.list(Organization, where={}, limit=1, after=after)


def cursor(*parts: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "after",
    [
        cursor("2026-01-01T00:00:00", "a"),
        cursor("2026-01-01T00:00:00Z", "a\0"),
        cursor("2026-01-01T00:00:00Z", 1),
        cursor("2026-01-01T00:00:00Z", 2**63),
        cursor("2026-01-01T00:00:00Z"),
        cursor("99999-01-01T00:00:00Z", "a"),
    ],
)
async def test_a_forged_cursor_is_refused(directory: SQLDirectory, after: str) -> None:
    """Times without a zone, text that no row can have, numbers in place of ids."""
    with pytest.raises(ValueError, match="not a cursor"):
        await directory.list(Organization, where={}, limit=1, after=after)


async def test_a_nonsense_row_is_a_store_error(
    directory: SQLDirectory, engine: AsyncEngine
) -> None:
    """What something else wrote into a table is not passed on."""
    await directory.add(organization("org"), entry())
    async with engine.begin() as connection:
        await connection.execute(update(OrganizationRow).values(labels=[1]))
    with pytest.raises(StoreError, match="not valid"):
        await directory.get(Organization, "org")


async def test_a_cursor_of_another_listing_is_refused(directory: SQLDirectory) -> None:
    """The log's cursors hold numbers, the members' ids."""
    for number in range(2):
        await directory.add(organization(f"{number}"), entry())
    page = await directory.audit_log(where={}, limit=1)
    with pytest.raises(ValueError, match="not a cursor"):
        await directory.list(Organization, where={}, limit=1, after=page.next)


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_a_page_has_bounds(directory: SQLDirectory, limit: int) -> None:
    """From 1 to 1,000 rows."""
    with pytest.raises(ValueError, match="limit"):
        await directory.list(Key, where={}, limit=limit)


async def test_filters_keep_tenants_apart(directory: SQLDirectory) -> None:
    """Each filter gives exactly the members whose field it names; None asks for those without."""
    for name in ("a", "b"):
        await directory.add(organization(name), entry())
        await directory.add(team(name, organization_id=name), entry())
        await directory.add(user(name, organization_id=name, team_id=name), entry())
        own = {"organization_id": name, "team_id": name, "user_id": name}
        await directory.add_key(key(f"{name}1", **own), digest(f"{name}1"), entry())
        await directory.add_key(
            key(f"{name}2", organization_id=name, active=False), digest(f"{name}2"), entry()
        )
    await directory.add_key(key("none"), digest("none"), entry())
    cases: list[tuple[type[Entity], dict[str, Any], set[str]]] = [
        (Team, {"organization_id": "a"}, {"a"}),
        (User, {"organization_id": "b"}, {"b"}),
        (User, {"team_id": "a"}, {"a"}),
        (Key, {"organization_id": "a"}, {"a1", "a2"}),
        (Key, {"organization_id": "a", "active": True}, {"a1"}),
        (Key, {"organization_id": "a", "active": False}, {"a2"}),
        (Key, {"organization_id": "a", "team_id": "b"}, set()),
        (Key, {"organization_id": "a", "team_id": None}, {"a2"}),
        (Key, {"user_id": "b"}, {"b1"}),
        (Key, {"organization_id": None}, {"none"}),
        (Key, {"name": "a1"}, {"a1"}),
        (Key, {"name": "A1"}, set()),
        (Key, {"name": "a%"}, set()),
        (Key, {"organization_id": ""}, set()),
        (Key, {}, {"a1", "a2", "b1", "b2", "none"}),
    ]
    for kind, where, expected in cases:
        page = await directory.list(kind, where=where, limit=100)
        assert expected == {member.id for member in page.items}, where


async def test_a_filter_that_does_not_exist_is_refused(directory: SQLDirectory) -> None:
    """A misspelt filter must not show everything."""
    for kind, where in (
        (Organization, {"organization_id": "a"}),
        (Team, {"team_id": "a"}),
        (Key, {"digest": b"x"}),
        (Key, {"metadata": {}}),
    ):
        with pytest.raises(ValueError, match="is none of"):
            await directory.list(kind, where=where, limit=1)
    with pytest.raises(ValueError, match="is none of"):
        await directory.audit_log(where={"id": 1}, limit=1)
    for wrong in (1, ["a"], b"a", True):
        with pytest.raises(ValueError, match="organization_id must be str"):
            await directory.list(Key, where={"organization_id": wrong}, limit=1)


async def test_of_many_who_want_one_name_one_gets_it(
    directory: SQLDirectory, engine: AsyncEngine
) -> None:
    """The others get a conflict, and leave nothing behind."""
    async with asyncio.timeout(30):
        ends = await asyncio.gather(
            *(directory.add(organization(f"{n}", name="one"), entry()) for n in range(8)),
            return_exceptions=True,
        )
    assert 1 == ends.count(None)
    assert 7 == sum(isinstance(end, ConflictError) for end in ends)
    assert 1 == await count(engine, OrganizationRow)
    assert 1 == await count(engine, AuditRow)


async def test_rotations_at_once_leave_one_credential_for_good(
    directory: SQLDirectory, engine: AsyncEngine
) -> None:
    """Each is done after the other: of all digests but the last the end is set."""
    await directory.add_key(key("key"), digest("0"), entry())
    async with asyncio.timeout(30):
        await asyncio.gather(
            *(
                directory.rotate_key(
                    "key", digest(f"{n}"), hint=f"{n}", old_expires_at=at(1e6), audit=entry()
                )
                for n in range(1, 6)
            )
        )
    assert {digest(f"{n}") for n in range(6)} == set(await directory.digests("key"))
    kept = await directory.get(Key, "key")
    assert kept is not None
    async with engine.connect() as connection:
        lasting = select(CredentialRow.digest).where(CredentialRow.expires_at.is_(None))
        assert [digest(kept.hint)] == list((await connection.execute(lasting)).scalars())
    log = await directory.audit_log(where={}, limit=10)
    assert 6 == len(log.items)


async def test_a_parent_removed_at_the_same_time_leaves_no_orphan(
    directory: SQLDirectory, engine: AsyncEngine
) -> None:
    """Either the team is there with its organization, or neither."""
    for number in range(5):
        await directory.add(organization(f"{number}"), entry())
    async with asyncio.timeout(30):
        await asyncio.gather(
            *(directory.remove(Organization, f"{n}", entry()) for n in range(5)),
            *(directory.add(team(f"{n}", organization_id=f"{n}"), entry()) for n in range(5)),
            return_exceptions=True,
        )
    organizations = {
        one.id for one in (await directory.list(Organization, where={}, limit=9)).items
    }
    teams = {one.id for one in (await directory.list(Team, where={}, limit=9)).items}
    assert organizations == teams
