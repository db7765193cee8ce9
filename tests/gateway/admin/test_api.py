"""The API around its bodies: listings, the log, limits, and what HTTP asks for."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.gateway.admin import (
    LimitState,
    admin_components,
    admin_paths,
    build_admin_app,
    templates,
)
from asgi_llm.gateway.admin._routes import ROUTES
from asgi_llm.gateway.openapi import document
from asgi_llm.state import FAILURE, PRINCIPAL, State, enter
from asgi_llm.stores.base import LimitStatus
from asgi_llm.stores.directory import Directory
from asgi_llm.stores.directory_memory import MemoryDirectory
from asgi_llm.testing import call, http_scope
from asgi_llm.types import Limit, Principal
from tests.gateway.admin.world import ADMIN, API, MEMBER, TEAM_ADMIN, fill, snapshot


async def test_a_tenant_from_nothing(directory: Directory) -> None:
    """An admin adds an organization, a team, its admin and a key; the team's admin goes on."""
    api = API(directory)
    organization = (
        await api.ask(ADMIN, "POST", "/admin/organizations", {"name": "Acme", "id": "acme"})
    ).json
    assert ("organization", "acme", True) == tuple(
        organization[name] for name in ("object", "id", "active")
    )
    team = (
        await api.ask(
            ADMIN,
            "POST",
            "/admin/teams",
            {"name": "Search", "organization_id": "acme", "tier": "pro"},
        )
    ).json
    user = (
        await api.ask(
            ADMIN,
            "POST",
            "/admin/users",
            {"name": "Lead", "team_id": team["id"], "role": "team_admin"},
        )
    ).json
    assert ("acme", team["id"]) == (user["organization_id"], user["team_id"])
    key = (
        await api.ask(
            ADMIN,
            "POST",
            "/admin/keys",
            {"name": "Lead's", "user_id": user["id"], "role": "team_admin"},
        )
    ).json
    lead = Principal(
        key_id=key["id"],
        user_id=user["id"],
        team_id=team["id"],
        organization_id="acme",
        role="team_admin",
        tier="pro",
    )
    hired = await api.ask(lead, "POST", "/admin/users", {"name": "Second"})
    assert (201, "acme", team["id"], "member") == (
        hired.status,
        *(hired.json[name] for name in ("organization_id", "team_id", "role")),
    )
    for path, status in (
        (f"/admin/teams/{team['id']}", 409),
        (f"/admin/users/{hired.json['id']}", 200),
        (f"/admin/users/{user['id']}", 409),
    ):
        gone = await api.ask(ADMIN, "DELETE", path)
        assert status == gone.status, path
    for taken in (
        ("/admin/organizations", {"name": "Acme"}),
        ("/admin/organizations", {"name": "Other", "id": "acme"}),
        ("/admin/teams", {"name": "Search", "organization_id": "acme"}),
    ):
        assert (409, "conflict", None) == (await api.ask(ADMIN, "POST", *taken)).error


async def test_a_removed_member_is_gone(api: API) -> None:
    """The answer says so, and the next one is a 404."""
    removed = await api.ask(ADMIN, "DELETE", "/admin/teams/team_a2")
    assert {"object": "team", "id": "team_a2", "deleted": True} == removed.json
    assert (404, "not_found", None) == (await api.ask(ADMIN, "GET", "/admin/teams/team_a2")).error
    assert 404 == (await api.ask(ADMIN, "DELETE", "/admin/teams/team_a2")).status


async def test_parents_have_to_fit(api: API) -> None:
    """A team of another organization, a user of another team: 422, by field; missing ones: 404."""
    for path, body, expected in (
        ("keys", {"team_id": "team_a", "organization_id": "org_b"}, (422, "organization_id")),
        ("keys", {"user_id": "user_a_boss", "team_id": "team_b"}, (422, "team_id")),
        ("keys", {"user_id": "user_a_boss", "organization_id": "org_b"}, (422, "organization_id")),
        ("keys", {"user_id": "user_a_member", "role": "team_admin"}, (422, "role")),
        ("users", {"team_id": "team_a", "organization_id": "org_b"}, (422, "organization_id")),
        ("teams", {"organization_id": "nobody"}, (404, "organization_id")),
        ("users", {"team_id": "nobody"}, (404, "team_id")),
        ("keys", {"user_id": "nobody"}, (404, "user_id")),
    ):
        answer = await api.ask(ADMIN, "POST", f"/admin/{path}", {"name": "n", **body})
        assert expected == (answer.status, answer.error[2]), body


@pytest.mark.parametrize("size", [1, 2, 3, 200])
async def test_pages_hold_everything_once(api: API, size: int) -> None:
    """Newest first, one after the other by the cursor, also while something is added."""
    seen: list[str] = []
    query = f"?limit={size}"
    while True:
        page = (await api.ask(ADMIN, "GET", f"/admin/keys{query}")).json
        assert "list" == page["object"] and len(page["data"]) <= size
        seen += [key["id"] for key in page["data"]]
        await api.ask(ADMIN, "POST", "/admin/keys", {"name": "added meanwhile"})
        if page["next"] is None:
            break
        query = f"?limit={size}&after={page['next']}"
    assert ["key_b_member", "key_b_boss", "key_a_member", "key_a_boss"] == seen


async def test_filters(api: API) -> None:
    """By what a member belongs to, by name, and whether it is active."""
    await api.ask(ADMIN, "POST", "/admin/keys/key_a_member/revoke")
    for query, expected in (
        ("organization_id=org_a", {"key_a_boss", "key_a_member"}),
        ("team_id=team_b&user_id=user_b_boss", {"key_b_boss"}),
        ("active=false", {"key_a_member"}),
        ("active=true&organization_id=org_a", {"key_a_boss"}),
        ("name=key_b_boss", {"key_b_boss"}),
        ("name=nobody", set()),
    ):
        page = (await api.ask(ADMIN, "GET", f"/admin/keys?{query}")).json
        assert expected == {key["id"] for key in page["data"]}, query
    own = (await api.ask(TEAM_ADMIN, "GET", "/admin/teams")).json
    assert ["team_a"] == [team["id"] for team in own["data"]]
    assert [] == (await api.ask(TEAM_ADMIN, "GET", "/admin/teams?active=false")).json["data"]


async def test_the_log_says_who_did_what(api: API) -> None:
    """Each change has one entry, with our id of the request; refused ones have none."""
    made = await api.ask(TEAM_ADMIN, "POST", "/admin/keys", {"name": "one", "scopes": ["batch"]})
    id = made.json["id"]
    await api.ask(ADMIN, "PATCH", f"/admin/keys/{id}", {"tier": "free", "limits": []})
    await api.ask(TEAM_ADMIN, "PATCH", f"/admin/keys/{id}", {"role": "admin"})
    await api.ask(Principal(role="admin", user_id="root"), "DELETE", f"/admin/keys/{id}")
    log = (await api.ask(ADMIN, "GET", f"/admin/audit?target=key:{id}")).json["data"]
    assert [
        ("user:root", "key.revoke", {}),
        ("master", "key.update", {"tier": "free"}),
        (
            "key:key_a_boss",
            "key.create",
            {
                "name": "one",
                "organization_id": "org_a",
                "team_id": "team_a",
                "scopes": ["batch"],
            },
        ),
    ] == [(entry["actor"], entry["action"], entry["changes"]) for entry in log]
    assert made.headers["x-request-id"] == log[-1]["request_id"]
    page = (await api.ask(ADMIN, "GET", "/admin/audit?limit=1")).json
    assert 1 == len(page["data"]) and page["next"] is not None
    by_actor = (await api.ask(ADMIN, "GET", "/admin/audit?actor=key:key_a_boss")).json
    assert 1 == len(by_actor["data"])


async def test_limits_of_a_key_and_how_they_stand(directory: Directory) -> None:
    """The caller that the key stands for is asked about; numbers without end are null."""
    await fill(directory)
    asked: list[Principal] = []

    async def limits_of(principal: Principal) -> list[LimitState]:
        asked.append(principal)
        status = LimitStatus(remaining=58, reset_seconds=2.0, retry_after_seconds=0.0)
        never = LimitStatus(remaining=0, reset_seconds=1.0, retry_after_seconds=float("inf"))
        return [
            LimitState(limit=principal.limits[0], status=status),
            LimitState(limit=Limit(unit="tokens", amount=0, window_seconds=60), status=never),
        ]

    api = API(directory, limit_state=limits_of)
    answer = await api.ask(MEMBER, "GET", "/admin/keys/key_a_member/limits")
    assert ("key_a_member", "user_a_member", "team_a", "org_a", "pro") == (
        asked[0].key_id,
        asked[0].user_id,
        asked[0].team_id,
        asked[0].organization_id,
        asked[0].tier,
    )
    requests, tokens = answer.json["data"]
    assert {
        "unit": "requests",
        "amount": 60,
        "window_seconds": 60,
        "scope": "caller",
        "burst": None,
        "remaining": 58,
        "reset_seconds": 2.0,
        "retry_after_seconds": 0.0,
    } == requests
    assert (0, None) == (tokens["remaining"], tokens["retry_after_seconds"])
    assert MEMBER.limits == asked[0].limits


async def test_limits_without_anybody_who_counts(api: API) -> None:
    """What the directory says, and null for how it stands."""
    answer = await api.ask(ADMIN, "GET", "/admin/keys/key_b_boss/limits")
    assert ("pro", [(60, None)]) == (
        answer.json["tier"],
        [(one["amount"], one["remaining"]) for one in answer.json["data"]],
    )


# HTTP


async def test_head_is_get_without_a_body(memory_api: API) -> None:
    """And with its length."""
    get = await memory_api.ask(ADMIN, "GET", "/admin/keys")
    head = await memory_api.ask(ADMIN, "HEAD", "/admin/keys")
    assert (200, b"", get.headers["content-length"]) == (
        head.status,
        head.body,
        head.headers["content-length"],
    )


@pytest.mark.parametrize("path", sorted(templates()))
async def test_a8_other_methods_are_told_which_there_are(memory_api: API, path: str) -> None:
    """405 with Allow, for each path all of its own."""
    answer = await memory_api.ask(ADMIN, "PUT", path.replace("{id}", "key_a_boss"))
    methods: set[str] = {one.method for one in ROUTES if one.path == path}
    if "GET" in methods:
        methods.add("HEAD")
    assert (405, methods) == (answer.status, set(answer.headers["allow"].split(", ")))


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/admin",
        "/admin/",
        "/admin/keys//",
        "/admin//keys",
        "/admin/keys/a/b",
        "/ADMIN/keys",
        "/admin/keys/%2e%2e/teams/",
        "/admin/keys;x=1",
        "/admin/Keys",
    ],
)
async def test_a5_no_other_form_of_a_path_is_one(memory_api: API, path: str) -> None:
    """404, and no redirect to where the Host header says."""
    answer = await memory_api.ask(ADMIN, "GET", path, headers=[("host", "evil/#@x")])
    assert (404, "not_found", None) == answer.error


async def test_large_and_foreign_bodies(memory_api: API) -> None:
    """413 over the cap, 415 for another type or a coded one; nothing is stored."""
    before = await snapshot(memory_api.directory)
    path = "/admin/keys"
    large = await memory_api.ask(ADMIN, "POST", path, body=b'{"name":"' + b" " * 70_000)
    assert (413, "request_too_large", None) == large.error
    form = await memory_api.ask(
        ADMIN, "POST", path, headers=[("content-type", "text/plain")], body=b'{"name":"n"}'
    )
    assert 415 == form.status
    coded = await memory_api.ask(
        ADMIN, "POST", path, {"name": "n"}, headers=[("content-encoding", "gzip")]
    )
    assert (415, "unsupported_media_type", None) == coded.error
    assert before == await snapshot(memory_api.directory)


async def test_a_page_of_another_origin_changes_nothing(memory_api: API) -> None:
    """A host's identity may be a cookie, which a browser sends by itself; a key it does not."""
    path = "/admin/keys/key_a_member/revoke"
    for origin in ("same-site", "cross-site"):
        site = ("sec-fetch-site", origin)
        refused = await memory_api.ask(ADMIN, "POST", path, headers=[site, ("cookie", "s=1")])
        assert (403, "cross_origin_request", None) == refused.error
    assert [] == memory_api.forgotten
    own = await memory_api.ask(ADMIN, "POST", path, headers=[("sec-fetch-site", "same-origin")])
    keyed = await memory_api.ask(ADMIN, "POST", path, headers=[site, ("authorization", "Bearer x")])
    assert (200, 200) == (own.status, keyed.status)


class Away(MemoryDirectory):
    """Answers nothing."""

    async def get(self, kind: Any, id: str) -> Any:
        raise StoreError("The database did not answer in time.")

    async def list(self, kind: Any, **options: Any) -> Any:
        raise RuntimeError(options["where"])


async def test_failures_are_told_without_detail(caplog: pytest.LogCaptureFixture) -> None:
    """A directory that is away is a 503; what nobody foresaw is a 500, in the log by its place."""
    api = API(Away())
    away = await api.ask(ADMIN, "GET", "/admin/keys/key_1")
    assert (503, "store_unavailable", None) == away.error
    broken = await api.ask(ADMIN, "GET", "/admin/keys?name=secret")
    assert (500, "internal_error", None) == broken.error
    assert b"secret" not in broken.body
    assert "RuntimeError" in caplog.text and "secret" not in caplog.text


async def test_a_refusal_is_in_the_state(memory_api: API) -> None:
    """For whoever logs outside; and the client's own id is echoed beside ours."""
    states: list[State] = []

    async def outside(scope: Scope, receive: Receive, send: Send) -> None:
        scope, state = enter(scope)
        states.append(state)
        state.set(PRINCIPAL, MEMBER)
        await memory_api.app(scope, receive, send)

    scope = http_scope("GET", "/admin/audit", [("x-request-id", "mine")])
    recorder = await call(outside, scope)
    failure = states[0].get(FAILURE)
    assert failure is not None and 403 == failure.status == recorder.status
    headers = dict(recorder.headers)
    assert b"mine" == headers[b"x-client-request-id"]
    assert states[0].request_id.encode() == headers[b"x-request-id"]


async def test_mounted_under_a_prefix() -> None:
    """The app works at any place of a host."""
    directory = MemoryDirectory()
    await fill(directory)
    host = Starlette(routes=[Mount("/llm", build_admin_app(directory))])

    async def outside(scope: Scope, receive: Receive, send: Send) -> None:
        scope, state = enter(scope)
        state.set(PRINCIPAL, ADMIN)
        await host(scope, receive, send)

    for path, root in (
        ("/llm/admin/keys/key_a_boss", ""),
        ("/llm/admin/keys/key_a_boss/", ""),
        ("/out/llm/admin/keys/key_a_boss", "/out"),
    ):
        recorder = await call(outside, http_scope("GET", path, root_path=root))
        assert 200 == recorder.status, path


@pytest.mark.parametrize("option", [{"max_body_bytes": 0}, {"body_timeout_seconds": 0}])
def test_options_out_of_range(option: dict[str, Any]) -> None:
    """A ConfigurationError that names the option."""
    with pytest.raises(ConfigurationError) as caught:
        build_admin_app(MemoryDirectory(), **option)
    assert [caught.value.param] == list(option)


# OpenAPI


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(one) for one in value.values()))
    if isinstance(value, list | tuple):
        return set().union(*(references(one) for one in value))
    return set()


def test_the_description_is_whole() -> None:
    """Every route is described, every reference leads somewhere, no name is taken twice."""
    paths, components = admin_paths(), admin_components()
    described = {
        (method.upper(), path)
        for path, item in paths.items()
        for method in item
        if method != "parameters"
    }
    assert {(one.method, one.path) for one in ROUTES} == described
    gateway = document()
    for section, parts in components.items():
        assert set() == parts.keys() & gateway["components"][section].keys()
    merged = {
        section: {**parts, **components.get(section, {})}
        for section, parts in gateway["components"].items()
    }
    for reference in references(paths) | references(components):
        _, _, section, name = reference.split("/")
        assert name in merged[section], reference
    ids = [
        operation["operationId"]
        for item in paths.values()
        for name, operation in item.items()
        if name != "parameters"
    ]
    assert len(ids) == len(set(ids)) == len(ROUTES)
