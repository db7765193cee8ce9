"""The admin API inside of AuthMiddleware: keys made here open it, and stop when they are ended."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from starlette.types import ASGIApp

from asgi_llm.gateway.admin import build_admin_app
from asgi_llm.middleware.auth import AuthMiddleware
from asgi_llm.stores.directory_memory import MemoryDirectory
from asgi_llm.stores.key_material import digest_key
from asgi_llm.stores.keys_cached import CachedKeys
from asgi_llm.testing import Recorder, call, http_scope
from tests.gateway.admin.world import fill

MASTER = "mk-Vx93kQpLw7ZtB8mRc5YdN1sQ"


@pytest.fixture
async def app() -> ASGIApp:
    """Two tenants, with all that a gateway puts around the API."""
    directory = MemoryDirectory()
    await fill(directory)
    cached = CachedKeys(directory)
    return AuthMiddleware(
        build_admin_app(directory, invalidate=cached.invalidate), keys=cached, master_key=MASTER
    )


async def ask(app: ASGIApp, key: str | None, method: str, path: str, json: Any = None) -> Recorder:
    headers = [("authorization", f"Bearer {key}")] if key is not None else []
    return await call(app, http_scope(method, path, headers), json=json)


async def made(app: ASGIApp, **fields: Any) -> dict[str, Any]:
    answer = await ask(app, MASTER, "POST", "/admin/keys", {"name": "new", **fields})
    assert 201 == answer.status, answer.body
    document: dict[str, Any] = answer.json()
    return document


async def test_b3_a_key_works_until_it_is_revoked(app: ASGIApp) -> None:
    """From the next request on, though it was in the cache."""
    key = await made(app, user_id="user_a_member")
    own = f"/admin/keys/{key['id']}"
    assert 200 == (await ask(app, key["key"], "GET", own)).status
    assert 200 == (await ask(app, MASTER, "POST", f"{own}/revoke")).status
    assert 401 == (await ask(app, key["key"], "GET", own)).status


async def test_b3_a_rotated_key_ends_at_once_without_grace(app: ASGIApp) -> None:
    """The new one works; with a grace both do."""
    key = await made(app, user_id="user_a_member")
    own = f"/admin/keys/{key['id']}"
    assert 200 == (await ask(app, key["key"], "GET", own)).status
    grace = {"grace_seconds": 600}
    second = (await ask(app, key["key"], "POST", f"{own}/rotate", grace)).json()["key"]
    for text in (key["key"], second):
        assert 200 == (await ask(app, text, "GET", own)).status
    third = (await ask(app, second, "POST", f"{own}/rotate")).json()["key"]
    statuses = [(await ask(app, text, "GET", own)).status for text in (second, third)]
    assert [401, 200] == statuses


@pytest.mark.parametrize("path", ["users/user_a_member", "teams/team_a", "organizations/org_a"])
async def test_switching_off_what_a_key_belongs_to_ends_it(app: ASGIApp, path: str) -> None:
    """At once, and switched on again it works again."""
    key = await made(app, user_id="user_a_member")
    own = f"/admin/keys/{key['id']}"
    for active, status in ((True, 200), (False, 401), (True, 200)):
        await ask(app, MASTER, "PATCH", f"/admin/{path}", {"active": active})
        assert status == (await ask(app, key["key"], "GET", own)).status


async def test_b3_who_loses_a_role_loses_it_in_their_keys(app: ASGIApp) -> None:
    """A team's admin who is a member now manages nothing any more, from the next request on."""
    key = await made(app, user_id="user_a_boss", role="team_admin")
    assert 200 == (await ask(app, key["key"], "GET", "/admin/users")).status
    await ask(app, MASTER, "PATCH", "/admin/users/user_a_boss", {"role": "member"})
    assert 403 == (await ask(app, key["key"], "GET", "/admin/users")).status


async def test_hardening_2026_04_a_digest_is_no_key(app: ASGIApp) -> None:
    """In no form that somebody could find it in."""
    key = await made(app, role="admin")
    digest = digest_key(key["key"])
    assert 200 == (await ask(app, key["key"], "GET", "/admin/audit")).status
    for text in (
        digest.hex(),
        digest.hex().upper(),
        f"sha256:{digest.hex()}",
        base64.b64encode(digest).decode(),
        base64.urlsafe_b64encode(digest).decode().rstrip("="),
        f"sk-{base64.urlsafe_b64encode(digest).decode().rstrip('=')}",
        key["id"],
        key["hint"],
    ):
        assert 401 == (await ask(app, text, "GET", "/admin/audit")).status


async def test_an_imported_key_works_though_it_was_tried_before(app: ASGIApp) -> None:
    """Unknown keys are remembered as such, and forgotten when they are imported."""
    text = "vk_9f2Kx7QpLw3ZtB8mRc5YdN1s"
    assert 401 == (await ask(app, text, "GET", "/admin/keys")).status
    body = {"name": "own", "key": text, "user_id": "user_a_member"}
    assert 201 == (await ask(app, MASTER, "POST", "/admin/keys/import", body)).status
    assert 200 == (await ask(app, text, "GET", "/admin/keys")).status


async def test_cve_2026_12772_nothing_is_told_to_nobody(app: ASGIApp) -> None:
    """Without a key, every path is a 401."""
    for path in ("/admin/keys", "/admin/nothing", "/"):
        assert 401 == (await ask(app, None, "GET", path)).status
