"""Making, showing, rotating, revoking and importing keys."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from asgi_llm.errors import StoreError
from asgi_llm.stores.directory import Directory, Key
from asgi_llm.stores.key_material import digest_key
from asgi_llm.types import Principal
from tests.gateway.admin.world import (
    ADMIN,
    API,
    MEMBER,
    TEAM_ADMIN,
    add_key,
    fill,
    moment,
    secret,
)

GOOD_KEY = "vk_9f2Kx7QpLw3ZtB8mRc5YdN1s"


async def test_a_new_key_is_shown_once(api: API) -> None:
    """The answer to its creation has it, may not be stored, and no later answer has it."""
    made = await api.ask(ADMIN, "POST", "/admin/keys", {"name": "first", "user_id": "user_a_boss"})
    assert (201, "no-store") == (made.status, made.headers["cache-control"])
    key = made.json
    text = key["key"]
    assert text.startswith("sk-") and len(text) == 46
    assert ("key", "first", text[-4:], True) == (
        key["object"],
        key["name"],
        key["hint"],
        key["active"],
    )
    assert ("org_a", "team_a", "user_a_boss") == (
        key["organization_id"],
        key["team_id"],
        key["user_id"],
    )
    seen = [
        await api.ask(ADMIN, "GET", path)
        for path in (
            f"/admin/keys/{key['id']}",
            "/admin/keys",
            f"/admin/keys/{key['id']}/limits",
            "/admin/audit",
            f"/admin/users/{key['user_id']}",
        )
    ]
    assert [200] * len(seen) == [one.status for one in seen]
    digest = digest_key(text)
    for one in seen:
        for hidden in (
            text.encode(),
            digest.hex().encode(),
            base64.b64encode(digest),
            base64.urlsafe_b64encode(digest).rstrip(b"="),
        ):
            assert hidden not in one.body
        assert "no-store" == one.headers["cache-control"]


async def test_the_new_key_opens_what_it_says(api: API) -> None:
    """Its digest is the only thing kept, and leads to it."""
    made = await api.ask(ADMIN, "POST", "/admin/keys", {"name": "plain"})
    assert [digest_key(made.json["key"])] == list(await api.directory.digests(made.json["id"]))


async def test_rotation_gives_a_new_text_and_tells_the_caches(api: API) -> None:
    """The id stays, the text is new, all digests of the key are forgotten."""
    answer = await api.ask(ADMIN, "POST", "/admin/keys/key_a_member/rotate", {"grace_seconds": 600})
    assert 200 == answer.status
    text = answer.json["key"]
    assert ("key_a_member", text[-4:]) == (answer.json["id"], answer.json["hint"])
    both = {digest_key(secret("key_a_member")), digest_key(text)}
    assert both == set(api.forgotten)
    assert both == set(await api.directory.digests("key_a_member"))


async def test_rotation_without_a_body_has_no_grace(api: API) -> None:
    """The audit log says so."""
    await api.ask(ADMIN, "POST", "/admin/keys/key_a_member/rotate")
    log = await api.ask(ADMIN, "GET", "/admin/audit?action=key.rotate")
    assert [{"grace_seconds": 0}] == [entry["changes"] for entry in log.json["data"]]


@pytest.mark.parametrize("request_of", [("POST", "/revoke"), ("DELETE", "")])
async def test_revocation_is_for_good(api: API, request_of: tuple[str, str]) -> None:
    """Both ways to say it end the key; nothing brings it back; a second time changes nothing."""
    method, suffix = request_of
    path = "/admin/keys/key_a_member"
    revoked = await api.ask(ADMIN, method, path + suffix)
    assert (200, False) == (revoked.status, revoked.json["active"])
    assert "2026" in revoked.json["revoked_at"]
    assert [digest_key(secret("key_a_member"))] == api.forgotten
    for again in (
        await api.ask(ADMIN, "PATCH", path, {"active": True}),
        await api.ask(ADMIN, "PATCH", path, {"name": "other"}),
        await api.ask(ADMIN, "POST", path + "/rotate"),
    ):
        assert (409, "conflict", None) == again.error
    assert revoked.json == (await api.ask(ADMIN, method, path + suffix)).json
    log = await api.ask(ADMIN, "GET", "/admin/audit?target=key:key_a_member")
    assert ["key.revoke"] == [entry["action"] for entry in log.json["data"]]


async def test_an_expired_key_cannot_be_rotated(api: API) -> None:
    """A new credential of it would open nothing."""
    await add_key(api.directory, "key_old", expires_at=moment(5))
    api.now += 10
    answer = await api.ask(ADMIN, "POST", "/admin/keys/key_old/rotate")
    assert (409, "conflict", None) == answer.error


async def test_import_takes_a_key_of_ones_own(api: API) -> None:
    """It is digested like any other, and cannot be taken twice."""
    body = {"name": "from elsewhere", "key": GOOD_KEY, "team_id": "team_b"}
    made = await api.ask(ADMIN, "POST", "/admin/keys/import", body)
    assert (201, GOOD_KEY, "no-store") == (
        made.status,
        made.json["key"],
        made.headers["cache-control"],
    )
    assert [digest_key(GOOD_KEY)] == list(await api.directory.digests(made.json["id"]))
    # It may have been tried before, and be remembered as unknown.
    assert [digest_key(GOOD_KEY)] == api.forgotten
    again = await api.ask(ADMIN, "POST", "/admin/keys/import", body)
    assert (409, "conflict", None) == again.error
    log = await api.ask(ADMIN, "GET", "/admin/audit?action=key.import")
    assert GOOD_KEY.encode() not in log.body
    assert GOOD_KEY not in again.body.decode()


@pytest.mark.parametrize(
    "weak",
    [
        "short",
        "a" * 40,
        "abcdefghijklmnopqrstuvwxyz0123456789",
        "sk-1234567890abcdefghijklmnop",
        "password" * 6,
        "abcd1234" * 8,
        "zyxwvutsrqponmlkjihgfedcba",
        "0" * 30 + "9f2Kx7Qp",
        "with a space 9f2Kx7QpLw3ZtB8mRc5YdN1s",
        "schlüssel-9f2Kx7QpLw3ZtB8mRc5YdN1s",
        "line\n9f2Kx7QpLw3ZtB8mRc5YdN1s",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
        "",
    ],
)
async def test_import_refuses_what_could_be_guessed(api: API, weak: str) -> None:
    """Too short, too regular, not sendable: 422, nothing kept, nothing repeated."""
    before = await api.ask(ADMIN, "GET", "/admin/keys?limit=200")
    answer = await api.ask(ADMIN, "POST", "/admin/keys/import", {"name": "weak", "key": weak})
    assert (422, "key") == (answer.status, answer.error[2])
    assert not weak or weak not in answer.json["error"]["message"]
    after = await api.ask(ADMIN, "GET", "/admin/keys?limit=200")
    assert before.json == after.json


@pytest.mark.parametrize(
    "good",
    [
        GOOD_KEY,
        "sk-proj-5hG8aKq2LmZx9RtYw1VbNc7Df3",
        "0f8fad5b-d9cb-469f-a165-70867728950e",
        "9b74c9897bac770ffc029102a200c5de",
    ],
)
async def test_import_takes_what_other_gateways_make(api: API, good: str) -> None:
    """Random text in base64, in hexadecimal, and UUIDs are keys."""
    answer = await api.ask(ADMIN, "POST", "/admin/keys/import", {"name": "good", "key": good})
    assert 201 == answer.status


async def test_a_store_that_cannot_tell_the_caches_does_not_lose_the_key(
    directory: Directory,
) -> None:
    """The key is made by then and shown only now: the answer is sent."""

    async def fails(digests: object) -> None:
        raise StoreError("away")

    api = API(directory, invalidate=fails)
    made = await api.ask(ADMIN, "POST", "/admin/keys", {"name": "k"})
    rotated = await api.ask(ADMIN, "POST", f"/admin/keys/{made.json['id']}/rotate")
    assert (201, 200) == (made.status, rotated.status)
    assert made.json["key"] != rotated.json["key"]


async def test_updates_tell_the_caches(api: API) -> None:
    """A change to a key, or to anything that it belongs to, makes workers look again."""
    cases: list[tuple[str, dict[str, Any], set[str]]] = [
        ("/admin/keys/key_a_boss", {"tier": "free"}, {"key_a_boss"}),
        ("/admin/users/user_a_member", {"active": False}, {"key_a_member"}),
        ("/admin/teams/team_a", {"models": ["echo/*"]}, {"key_a_boss", "key_a_member"}),
        ("/admin/organizations/org_b", {"active": False}, {"key_b_boss", "key_b_member"}),
        ("/admin/organizations/org_b", {"name": "New"}, set()),
    ]
    for path, change, keys in cases:
        api.forgotten.clear()
        assert 200 == (await api.ask(ADMIN, "PATCH", path, change)).status
        assert {digest_key(secret(id)) for id in keys} == set(api.forgotten)


async def test_members_manage_their_own_keys_only(api: API) -> None:
    """They list, show, rotate and revoke them, and make none unless the option says so."""
    listed = await api.ask(MEMBER, "GET", "/admin/keys")
    assert ["key_a_member"] == [key["id"] for key in listed.json["data"]]
    assert 200 == (await api.ask(MEMBER, "GET", "/admin/keys/key_a_member")).status
    assert 200 == (await api.ask(MEMBER, "POST", "/admin/keys/key_a_member/rotate")).status
    refused = await api.ask(MEMBER, "POST", "/admin/keys", {"name": "mine"})
    assert (403, "role_required", None) == refused.error
    refused = await api.ask(MEMBER, "PATCH", "/admin/keys/key_a_member", {"name": "x"})
    assert (403, "role_required", None) == refused.error
    assert 404 == (await api.ask(MEMBER, "GET", "/admin/keys/key_a_boss")).status
    assert 200 == (await api.ask(MEMBER, "POST", "/admin/keys/key_a_member/revoke")).status


async def test_members_make_keys_for_themselves_by_option(directory: Directory) -> None:
    """The key is theirs and has no more than they have."""
    await fill(directory)
    api = API(directory, members_create_keys=True)
    made = await api.ask(MEMBER, "POST", "/admin/keys", {"name": "mine"})
    assert (201, "user_a_member", "team_a", "org_a", "member") == (
        made.status,
        *(made.json[name] for name in ("user_id", "team_id", "organization_id", "role")),
    )
    for body, status in (
        ({"name": "n", "user_id": "user_a_boss"}, 404),
        ({"name": "n", "user_id": "user_b_member"}, 404),
        ({"name": "n", "team_id": "team_b"}, 422),
        ({"name": "n", "role": "team_admin"}, 422),
        ({"name": "n", "scopes": ["batch"]}, 403),
        ({"name": "n", "tier": "enterprise"}, 403),
    ):
        assert status == (await api.ask(MEMBER, "POST", "/admin/keys", body)).status, body
    refused = await api.ask(MEMBER, "POST", "/admin/keys/import", {"name": "n", "key": GOOD_KEY})
    assert 403 == refused.status


async def test_a_caller_without_user_sees_the_key_alone(api: API) -> None:
    """A key of nobody is its own to show, and to list."""
    key: Key = await add_key(api.directory, "key_alone")
    alone = Principal(key_id=key.id)
    listed = await api.ask(alone, "GET", "/admin/keys")
    assert ["key_alone"] == [one["id"] for one in listed.json["data"]]
    assert [] == (await api.ask(Principal(), "GET", "/admin/keys")).json["data"]


async def test_a_team_admin_makes_keys_in_the_team(api: API) -> None:
    """Without further words the key is of the team, and has what the team has."""
    made = await api.ask(TEAM_ADMIN, "POST", "/admin/keys", {"name": "service"})
    assert (201, "team_a", "org_a", None) == (
        made.status,
        *(made.json[name] for name in ("team_id", "organization_id", "user_id")),
    )
