"""What every directory does, and what a key of it stands for: one suite over all drivers."""

from __future__ import annotations

import datetime
import hashlib
import itertools
from typing import Any

import pytest

from asgi_llm.stores.directory import (
    AuditEntry,
    Budget,
    ConflictError,
    Directory,
    Key,
    Organization,
    Team,
    User,
)
from asgi_llm.types import Limit, Role

BEGINNING = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
MINUTE = Limit(unit="requests", amount=60, window_seconds=60)
_seconds = itertools.count(1)


def at(seconds: float = 0) -> datetime.datetime:
    return BEGINNING + datetime.timedelta(seconds=seconds)


def entry(action: str = "test.change", **fields: Any) -> AuditEntry:
    """One that is later than those before."""
    return AuditEntry(
        **{
            "at": at(next(_seconds)),
            "actor": "master",
            "action": action,
            "target": "test:1",
            **fields,
        }
    )


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def make(kind: type[Any], id: str, **fields: Any) -> Any:
    """A member, later than those before."""
    return kind(**{"id": id, "name": id, "created_at": at(next(_seconds)), **fields})


async def add_family(directory: Directory, **levels: dict[str, Any]) -> None:
    """``org``, ``team``, ``user`` and ``key``, each belonging to all before it."""
    belongs: dict[str, Any] = {}
    for kind, id, field in (
        (Organization, "org", "organization_id"),
        (Team, "team", "team_id"),
        (User, "user", "user_id"),
    ):
        await directory.add(make(kind, id, **belongs, **levels.get(id, {})), entry())
        belongs[field] = id
    key = make(Key, "key", **belongs, **levels.get("key", {}))
    await directory.add_key(key, digest("key"), entry())


async def actions(directory: Directory) -> list[str]:
    page = await directory.audit_log(where={}, limit=100)
    return [one.action for one in page.items]


async def test_members_come_back_as_they_were(directory: Directory) -> None:
    """Every field of every kind."""
    common: dict[str, Any] = {
        "tier": "pro",
        "limits": (MINUTE, Limit(unit="concurrent_requests", amount=0, scope="team")),
        "budgets": (Budget(amount_usd="0.000001", period="day", hard=False),),
        "metadata": {"ü": "\u20ac"},
        "active": False,
    }
    members = [
        make(Organization, "o", **common),
        make(Team, "t", organization_id="o", models=("a/*",), **common),
        make(User, "u", organization_id="o", team_id="t", role="team_admin", **common),
    ]
    for member in members:
        await directory.add(member, entry())
        assert member == await directory.get(type(member), member.id)
    key = make(
        Key,
        "k",
        organization_id="o",
        team_id="t",
        user_id="u",
        role="team_admin",
        models=(),
        scopes=frozenset({"x", "y"}),
        hint="abcd",
        expires_at=at(100.5),
        **common,
    )
    await directory.add_key(key, digest("k"), entry())
    assert key == await directory.get(Key, "k")
    assert None is await directory.get(Key, "u")


async def test_what_cannot_be_is_a_conflict_and_leaves_nothing(directory: Directory) -> None:
    """Names and ids taken, parents missing or of another organization, digests twice."""
    await add_family(directory)
    await directory.add(make(Organization, "other"), entry())
    log = await actions(directory)
    adds: list[Any] = [
        make(Organization, "new", name="org"),
        make(Organization, "org", name="new"),
        make(Team, "new", name="team", organization_id="org"),
        make(Team, "new", organization_id="nobody"),
        make(User, "new", name="user", organization_id="org"),
        make(User, "new", team_id="nobody"),
        make(User, "new", organization_id="other", team_id="team"),
    ]
    for member in adds:
        with pytest.raises(ConflictError):
            await directory.add(member, entry())
    for key, text in (
        (make(Key, "key"), "new"),
        (make(Key, "new"), "key"),
        (make(Key, "new", user_id="nobody"), "new"),
        (make(Key, "new", organization_id="other", team_id="team"), "new"),
    ):
        with pytest.raises(ConflictError):
            await directory.add_key(key, digest(text), entry())
    for kind, id, changes in (
        (Organization, "other", {"name": "org"}),
        (Team, "team", {"organization_id": "nobody"}),
        (Team, "team", {"organization_id": "other"}),
        (User, "user", {"organization_id": "other"}),
        (User, "user", {"team_id": "nobody"}),
    ):
        with pytest.raises(ConflictError):
            await directory.update(kind, id, changes, entry())
    assert log == await actions(directory)
    assert None is await directory.get(Key, "new")
    # The same name elsewhere is another's.
    await directory.add(make(Team, "t2", name="team", organization_id="other"), entry())
    await directory.add(make(User, "u2", name="user", organization_id="other"), entry())


async def test_updates_set_what_they_name(directory: Directory) -> None:
    """The rest stays; None is a value; what a key's life sets is not set by hand."""
    await add_family(directory, key={"tier": "pro", "models": ("a",)})
    before = await directory.get(Key, "key")
    after = await directory.update(
        Key, "key", {"models": None, "limits": (MINUTE,), "scopes": frozenset({"s"})}, entry("u")
    )
    assert after is not None and before is not None
    assert after.models is None
    assert ((MINUTE,), frozenset({"s"}), "pro") == (after.limits, after.scopes, after.tier)
    assert after == await directory.get(Key, "key")
    assert "u" == (await actions(directory))[0]
    log = await actions(directory)
    assert after == await directory.update(Key, "key", {}, entry())
    assert None is await directory.update(Key, "nobody", {"name": "x"}, entry())
    for field in ("id", "created_at", "hint", "revoked_at", "last_used_at", "digest"):
        with pytest.raises(ValueError, match=field):
            await directory.update(Key, "key", {field: "x"}, entry())
    assert log == await actions(directory)


async def test_listings_go_on_where_they_ended(directory: Directory) -> None:
    """Newest first; what is added meanwhile is not in the rest; filters hold on every page."""
    for number in range(7):
        await directory.add(make(Organization, f"o{number}", active=number % 2 == 0), entry())
    seen: list[str] = []
    after: str | None = None
    while True:
        page = await directory.list(Organization, where={"active": True}, limit=2, after=after)
        seen += [one.id for one in page.items]
        await directory.add(make(Organization, f"late {len(seen)}"), entry())
        after = page.next
        if after is None:
            break
    assert ["o6", "o4", "o2", "o0"] == seen
    exact = await directory.list(Organization, where={"name": "o3"}, limit=1)
    assert (["o3"], None) == ([one.id for one in exact.items], exact.next)
    assert () == tuple((await directory.list(User, where={}, limit=5)).items)


async def test_listings_by_what_members_belong_to(directory: Directory) -> None:
    """Equal is equal; None asks for those that belong to nothing."""
    await add_family(directory)
    await directory.add_key(make(Key, "free"), digest("free"), entry())
    for where, expected in (
        ({"organization_id": "org"}, ["key"]),
        ({"team_id": "team", "user_id": "user"}, ["key"]),
        ({"user_id": None}, ["free"]),
        ({"user_id": "' OR '1'='1"}, []),
        ({"active": True}, ["free", "key"]),
        ({"active": False}, []),
    ):
        page = await directory.list(Key, where=where, limit=10)
        assert expected == [one.id for one in page.items]


async def test_senseless_listings_are_refused(directory: Directory) -> None:
    """A cursor that is none, a field that there is not, a number out of range: ValueError."""
    for after in ("", "x", "-1", "1.5", "\x00", "9" * 40, "ü", "AAAA"):
        with pytest.raises(ValueError):
            await directory.list(Key, where={}, limit=1, after=after)
        with pytest.raises(ValueError):
            await directory.audit_log(where={}, limit=1, after=after)
    for limit in (0, -1, 1001):
        with pytest.raises(ValueError):
            await directory.list(Key, where={}, limit=limit)
    with pytest.raises(ValueError):
        await directory.list(Key, where={"hint": "x"}, limit=1)
    with pytest.raises(ValueError):
        await directory.list(Organization, where={"team_id": "x"}, limit=1)
    with pytest.raises(ValueError):
        await directory.audit_log(where={"changes": "x"}, limit=1)


async def test_only_what_nothing_belongs_to_is_removed(directory: Directory) -> None:
    """A revoked key belongs as before; keys themselves are never removed."""
    await add_family(directory)
    await directory.revoke_key("key", entry())
    for kind, id in ((Organization, "org"), (Team, "team"), (User, "user")):
        with pytest.raises(ConflictError):
            await directory.remove(kind, id, entry())
    with pytest.raises(TypeError):
        await directory.remove(Key, "key", entry())
    with pytest.raises(TypeError):
        await directory.add(make(Key, "other"), entry())
    await directory.add(make(User, "gone"), entry())
    assert await directory.remove(User, "gone", entry("user.delete"))
    assert not await directory.remove(User, "gone", entry())
    assert (None, "user.delete") == (
        await directory.get(User, "gone"),
        (await actions(directory))[0],
    )


async def test_rotation_lets_the_old_credential_end(stores: Any) -> None:
    """Both work until the end of the grace; a further rotation does not prolong an old one."""
    directory, keys = stores.directory, stores.keys
    await add_family(directory)
    now = entry()
    end = now.at + datetime.timedelta(hours=1)
    rotated = await directory.rotate_key(
        "key", digest("second"), hint="cond", old_expires_at=end, audit=now
    )
    assert ("key", "cond") == (rotated.id, rotated.hint)
    old, new = await keys.find(digest("key")), await keys.find(digest("second"))
    assert (end.timestamp(), None) == (old.expires_at, new.expires_at)
    assert old.active and old.principal == new.principal
    later = end + datetime.timedelta(hours=5)
    await directory.rotate_key(
        "key", digest("third"), hint="hird", old_expires_at=later, audit=entry()
    )
    ends = [(await keys.find(digest(text))).expires_at for text in ("key", "second", "third")]
    assert [end.timestamp(), later.timestamp(), None] == ends
    assert {digest(text) for text in ("key", "second", "third")} == set(
        await directory.digests("key")
    )
    # What had ended is forgotten at the next rotation.
    last = entry(at=end + datetime.timedelta(seconds=1))
    await directory.rotate_key("key", digest("fourth"), hint="", old_expires_at=later, audit=last)
    assert None is await keys.find(digest("key"))
    assert None is await directory.rotate_key(
        "nobody", digest("fifth"), hint="", old_expires_at=later, audit=entry()
    )
    with pytest.raises(ConflictError):
        await directory.rotate_key(
            "key", digest("third"), hint="", old_expires_at=later, audit=entry()
        )


async def test_revocation_ends_all_credentials_for_good(stores: Any) -> None:
    """Rotated ones too; nothing makes the key active again; the second time changes nothing."""
    directory, keys = stores.directory, stores.keys
    await add_family(directory)
    await directory.rotate_key(
        "key", digest("second"), hint="", old_expires_at=at(10**6), audit=entry()
    )
    revocation = entry("key.revoke")
    revoked = await directory.revoke_key("key", revocation)
    assert (False, revocation.at) == (revoked.active, revoked.revoked_at)
    for text in ("key", "second"):
        assert not (await keys.find(digest(text))).active
    assert revoked == await directory.revoke_key("key", entry("again"))
    assert "key.revoke" == (await actions(directory))[0]
    with pytest.raises(ConflictError):
        await directory.update(Key, "key", {"active": True}, entry())
    with pytest.raises(ConflictError):
        await directory.rotate_key(
            "key", digest("third"), hint="", old_expires_at=at(10**6), audit=entry()
        )
    assert None is await directory.revoke_key("nobody", entry())


async def test_the_log_keeps_every_entry(directory: Directory) -> None:
    """Newest first, with all that it was given, by actor, action or target."""
    written = [
        entry("a.one", actor="key:1", target="key:x", request_id="req_1", changes={"n": [1, None]}),
        entry("a.two", actor="key:1"),
        entry("a.one", actor="master"),
    ]
    for number, one in enumerate(written):
        await directory.add(make(Organization, f"o{number}"), one)
    assert list(reversed(written)) == list((await directory.audit_log(where={}, limit=10)).items)
    for where, expected in (
        ({"actor": "key:1"}, [1, 0]),
        ({"action": "a.one"}, [2, 0]),
        ({"target": "key:x"}, [0]),
        ({"actor": "master", "action": "a.two"}, []),
    ):
        page = await directory.audit_log(where=where, limit=10)
        assert [written[number] for number in expected] == list(page.items)
    first = await directory.audit_log(where={}, limit=2)
    rest = await directory.audit_log(where={}, limit=2, after=first.next)
    assert ([written[0]], None) == (list(rest.items), rest.next)


LEVELS = ("key", "user", "team", "org")


@pytest.mark.parametrize("given", [set(), *({one} for one in LEVELS), set(LEVELS), {"team", "org"}])
async def test_the_nearest_wins(stores: Any, given: set[str]) -> None:
    """Tier and limits come from the nearest of key, user, team and organization that has them."""
    limit = {
        level: Limit(unit="requests", amount=number, window_seconds=60)
        for number, level in enumerate(LEVELS)
    }
    other = Limit(unit="tokens", amount=5, window_seconds=60)
    levels: dict[str, dict[str, Any]] = {
        level: {"tier": level, "limits": (limit[level],)} for level in given
    }
    organization = levels.setdefault("org", {})
    organization["limits"] = (*organization.get("limits", ()), other)
    await add_family(stores.directory, **levels)
    found = (await stores.keys.find(digest("key"))).principal
    nearest = next((level for level in LEVELS if level in given), None)
    assert nearest == found.tier
    expected = {other} if nearest is None else {other, limit[nearest]}
    assert expected == set(found.limits)


@pytest.mark.parametrize(
    ("of_key", "of_team", "expected"),
    [(None, None, None), (None, ("a",), ("a",)), (("b",), ("a",), ("b",)), ((), ("a",), ())],
)
async def test_models_are_the_keys_or_the_teams(
    stores: Any, of_key: Any, of_team: Any, expected: Any
) -> None:
    """An empty list is a list: nothing may be called."""
    await add_family(stores.directory, key={"models": of_key}, team={"models": of_team})
    assert expected == (await stores.keys.find(digest("key"))).principal.models


@pytest.mark.parametrize("of_key", ["member", "team_admin", "admin"])
@pytest.mark.parametrize("of_user", ["member", "team_admin", "admin"])
async def test_a_key_manages_no_more_than_its_user(
    stores: Any, of_key: Role, of_user: Role
) -> None:
    """The lesser of both roles."""
    await add_family(stores.directory, key={"role": of_key}, user={"role": of_user})
    order = ["member", "team_admin", "admin"]
    expected = order[min(order.index(of_key), order.index(of_user))]
    assert expected == (await stores.keys.find(digest("key"))).principal.role


@pytest.mark.parametrize("level", LEVELS)
async def test_a_key_is_active_while_all_above_it_are(stores: Any, level: str) -> None:
    """One that is not is enough; back again, it is active again."""
    await add_family(stores.directory)
    kinds: dict[str, Any] = {"key": Key, "user": User, "team": Team, "org": Organization}
    for active in (False, True):
        await stores.directory.update(kinds[level], level, {"active": active}, entry())
        assert active == (await stores.keys.find(digest("key"))).active


async def test_what_a_key_does_not_say_comes_from_its_user(stores: Any) -> None:
    """Team and organization, with what they give."""
    directory = stores.directory
    await directory.add(make(Organization, "org", tier="pro"), entry())
    await directory.add(make(Team, "team", organization_id="org", models=("a",)), entry())
    user = make(User, "user", organization_id="org", team_id="team", metadata={"not": "inherited"})
    await directory.add(user, entry())
    key = make(Key, "key", user_id="user", metadata={"own": "1"}, scopes=frozenset({"s"}))
    await directory.add_key(key, digest("key"), entry())
    found = (await stores.keys.find(digest("key"))).principal
    assert ("key", "key", "user", "team", "org", "pro", ("a",), {"own": "1"}, {"s"}) == (
        found.key_id,
        found.key_name,
        found.user_id,
        found.team_id,
        found.organization_id,
        found.tier,
        found.models,
        found.metadata,
        found.scopes,
    )


async def test_a_key_ends_at_the_earlier_of_its_ends(stores: Any) -> None:
    """Its own, and that of a rotated credential."""
    directory, keys = stores.directory, stores.keys
    await add_family(directory, key={"expires_at": at(5000)})
    assert at(5000).timestamp() == (await keys.find(digest("key"))).expires_at
    await directory.rotate_key(
        "key", digest("second"), hint="", old_expires_at=at(4000), audit=entry()
    )
    ends = [(await keys.find(digest(text))).expires_at for text in ("key", "second")]
    assert [at(4000).timestamp(), at(5000).timestamp()] == ends


@pytest.mark.parametrize("text", ["", "nobody", "KEY", "key ", "key\n"])
async def test_no_such_key(stores: Any, text: str) -> None:
    """None, and not another's record."""
    await add_family(stores.directory)
    assert None is await stores.keys.find(digest(text))
    assert None is await stores.keys.find(digest("key")[:31] + b"\x00")
