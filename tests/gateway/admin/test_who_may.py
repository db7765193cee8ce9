"""Who may do what: generated from the table of routes and from the fields of the bodies."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from msgspec.structs import replace

from asgi_llm.gateway.admin._bodies import CreateKey, CreateUser, UpdateKey, UpdateUser
from asgi_llm.gateway.admin._grants import covers
from asgi_llm.gateway.admin._judge import LimitState
from asgi_llm.gateway.admin._routes import ROUTES, Operation
from asgi_llm.stores.directory import Budget, Directory, User
from asgi_llm.types import Limit, Principal
from tests.gateway.admin.world import (
    ADMIN,
    API,
    CALLERS,
    MEMBER,
    TEAM_ADMIN,
    add_key,
    entry,
    fill,
    moment,
    snapshot,
)

OF_TENANT_B = {
    "organizations": ["org_b"],
    "teams": ["team_b"],
    "users": ["user_b_boss", "user_b_member"],
    "keys": ["key_b_boss", "key_b_member"],
    "budgets": ["budget_team_b", "budget_user_b", "budget_key_b", "budget_org_b", "budget_all"],
}

OTHERS = [b"org_b", b"team_b", b"user_b", b"key_b", b"team_a2"]


def name_of(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


def body_for(operation: Operation) -> dict[str, Any] | None:
    """A body that is right as far as it goes."""
    match operation.action:
        case "create":
            return {"name": "new"}
        case "import":
            return {"name": "new", "key": "vk_9f2Kx7QpLw3ZtB8mRc5YdN1s"}
        case "update":
            return {"name": "changed"}
        case "rotate" | "revoke":
            return {}
        case "create_budget":
            return {"scope": "user", "amount_usd": "1"}
        case "update_budget":
            return {"amount_usd": "1"}
        case "purge_caches":
            return {"everything": True}
    return None


def path_for(operation: Operation, id: str = "key_a_member") -> str:
    return operation.path.replace("{id}", id)


@pytest.mark.parametrize("operation", ROUTES, ids=name_of)
async def test_cve_2026_12772_every_route_is_refused_without_identity(
    memory_api: API, operation: Operation
) -> None:
    """401, and nothing changes."""
    before = await memory_api.snapshot()
    for body in (body_for(operation), None):
        answer = await memory_api.ask(None, operation.method, path_for(operation), body)
        assert (401, "missing_api_key", None) == answer.error
        assert "Bearer" == answer.headers["www-authenticate"]
    assert before == await memory_api.snapshot()


@pytest.mark.parametrize("operation", ROUTES, ids=name_of)
async def test_cve_2026_47101_every_route_is_refused_with_too_small_a_role(
    memory_api: API, operation: Operation
) -> None:
    """Each role below the route's own, and a word that is no role: 403, and nothing changes."""
    ranks = ["member", "team_admin", "admin"]
    below = [CALLERS[role] for role in ranks[: ranks.index(operation.role)]]
    if operation.role == "team_admin":
        # A team's admin without a team has nothing to manage.
        below.append(replace(TEAM_ADMIN, team_id=None))
    unknown: Any = "owner"
    before = await memory_api.snapshot()
    for caller in (*below, Principal(role=unknown), replace(ADMIN, role="")):
        answer = await memory_api.ask(
            caller, operation.method, path_for(operation), body_for(operation)
        )
        assert (403, "role_required", None) == answer.error
    assert before == await memory_api.snapshot()


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE", "PUT", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", [*sorted({operation.path for operation in ROUTES}), "/admin/x"])
async def test_cve_2026_12772_no_method_answers_without_identity(
    memory_api: API, method: str, path: str
) -> None:
    """A path or a method that there is not is no way in either: 401 before 404 and 405."""
    answer = await memory_api.ask(None, method, path.replace("{id}", "key_a_member"))
    assert 401 == answer.status


@pytest.mark.parametrize("caller", ["team_admin", "member"])
@pytest.mark.parametrize(
    ("operation", "id"),
    [
        (operation, id)
        for operation in ROUTES
        if "{id}" in operation.path
        for id in (*OF_TENANT_B[operation.path.split("/")[2]], "team_a2", "nobody", "org_a")
    ],
    ids=lambda value: value if isinstance(value, str) else name_of(value),
)
async def test_b34_what_is_anothers_is_not_there(
    memory_api: API, caller: str, operation: Operation, id: str
) -> None:
    """404 as for an id that nobody has, or 403 for all ids alike; nothing changes."""
    before = await memory_api.snapshot()
    answers = [
        await memory_api.ask(
            CALLERS[caller], operation.method, path_for(operation, one), body_for(operation)
        )
        for one in (id, "id_that_nobody_has")
    ]
    assert answers[0].status in (403, 404)
    assert answers[0].json == answers[1].json
    assert before == await memory_api.snapshot()


@pytest.mark.parametrize("plural", ["teams", "users", "keys"])
async def test_b34_listings_hold_nothing_of_others(api: API, plural: str) -> None:
    """Whatever filter asks for it."""
    for query in (
        "",
        "?organization_id=org_b",
        *(("?team_id=team_b", "?team_id=team_a2") if plural != "teams" else ()),
        *(("?user_id=user_b_member",) if plural == "keys" else ()),
    ):
        answer = await api.ask(TEAM_ADMIN, "GET", f"/admin/{plural}{query}")
        assert 200 == answer.status
        assert [] == [one for one in OTHERS if one in answer.body]
        assert bool(query) != bool(answer.json["data"])
    for query in ("", "?user_id=user_b_member", "?team_id=team_b"):
        answer = await api.ask(MEMBER, "GET", f"/admin/keys{query}")
        assert [] == [one for one in (*OTHERS, b"boss") if one in answer.body]


# What a team's admin may give

FOREIGN_PLACES: dict[str, list[Any]] = {
    "organization_id": ["org_b", "org_nobody"],
    "team_id": ["team_b", "team_a2", "team_nobody"],
    "user_id": ["user_b_member", "user_nobody"],
}
BEYOND: dict[str, list[Any]] = {
    "role": ["admin"],
    "tier": ["enterprise", "free"],
    "models": [["*"], ["anthropic/*"], ["openai/*", "x"], ["*/gpt"], ["openai*"], ["echo/*"]],
    "scopes": [["admin"], ["batch", "admin"], ["b*"]],
    "limits": [
        ["61 requests/minute"],
        ["60 requests/minute burst 61"],
        ["60 requests/minute", "1000000 tokens/minute"],
        ["60 requests/minute", "1 requests/minute per organization"],
        ["60 requests/minute", "1 requests/minute per everyone"],
        [{"unit": "requests", "amount": 10**12, "window_seconds": 60}],
    ],
    "budgets": [
        [{"amount_usd": "100.01", "period": "month"}],
        [{"amount_usd": 1e9, "period": "month"}],
        [{"amount_usd": "100", "period": "month", "hard": False}],
    ],
    "expires_at": ["2031-01-01T00:00:00Z"],
}
WITHIN: dict[str, list[Any]] = {
    "role": ["member"],
    "tier": ["pro"],
    "models": [["openai/gpt-4o"], ["openai/*"], ["echo/echo", "openai/gpt-*"], [], None],
    "scopes": [["batch"], []],
    "limits": [["60 requests/minute"], ["5 requests/minute"], ["0 requests/minute"]],
    "budgets": [
        [{"amount_usd": "99.99", "period": "month"}],
        [{"amount_usd": "1", "period": "month"}, {"amount_usd": "1", "period": "day"}],
    ],
    "expires_at": ["2026-10-01T00:00:00Z"],
}
HARMLESS = {"name", "metadata", "active"}
# An id may be taken already, which is not theirs to find out.
ONLY_ADMINS = {"id": ["chosen"]}

BODIES: list[tuple[str, str, type[Any], str | None]] = [
    ("users", "POST", CreateUser, None),
    ("users", "PATCH", UpdateUser, "user_a_member"),
    ("users", "PATCH", UpdateUser, "user_a_boss"),
    ("keys", "POST", CreateKey, None),
    ("keys", "PATCH", UpdateKey, "key_a_member"),
    ("keys", "PATCH", UpdateKey, "key_a_boss"),
]


def cases(values: dict[str, list[Any]]) -> list[tuple[str, str, str | None, str, Any]]:
    return [
        (plural, method, id, field, value)
        for plural, method, definition, id in BODIES
        for field in definition.__struct_fields__
        for value in values.get(field, ())
    ]


def test_cve_2026_47101_every_field_of_every_body_has_its_case() -> None:
    """A field that is added has to be judged here before it is let in."""
    for _, _, definition, _ in BODIES:
        judged = {*BEYOND, *FOREIGN_PLACES, *ONLY_ADMINS, *HARMLESS}
        assert set() == set(definition.__struct_fields__) - judged


def own_key_that_ends() -> Principal:
    return replace(TEAM_ADMIN, key_id="key_ends")


@pytest.mark.parametrize(
    ("plural", "method", "id", "field", "value"),
    cases({**BEYOND, **FOREIGN_PLACES, **ONLY_ADMINS}),
    ids=str,
)
async def test_cve_2026_47101_nobody_gives_more_than_their_own(
    memory_api: API, plural: str, method: str, id: str | None, field: str, value: Any
) -> None:
    """Role x field x object: a team's admin is refused, names the field, and nothing is stored."""
    await add_key(
        memory_api.directory,
        "key_ends",
        team_id="team_a",
        role="team_admin",
        expires_at=moment(10**7),
    )
    before = await memory_api.snapshot()
    body = {"name": "new"} if method == "POST" else {}
    path = f"/admin/{plural}" + (f"/{id}" if id else "")
    answer = await memory_api.ask(own_key_that_ends(), method, path, {**body, field: value})
    assert answer.status in (403, 404, 422)
    assert field == answer.error[2]
    assert before == await memory_api.snapshot()


@pytest.mark.parametrize(("plural", "method", "id", "field", "value"), cases(WITHIN), ids=str)
async def test_what_one_has_one_may_give(
    api: API, plural: str, method: str, id: str | None, field: str, value: Any
) -> None:
    """The same fields with no more than the giver's own are stored."""
    body = {"name": "new"} if method == "POST" else {}
    path = f"/admin/{plural}" + (f"/{id}" if id else "")
    answer = await api.ask(TEAM_ADMIN, method, path, {**body, field: value})
    assert answer.status in (200, 201), answer.body
    shown = answer.json[field]
    if field == "limits":
        assert [60, 5, 0].count(shown[0]["amount"]) == 1
    elif field == "budgets":
        assert [one["amount_usd"] for one in value] == [one["amount_usd"] for one in shown]
    else:
        assert value == shown


async def test_cve_2026_47101_a_narrow_key_makes_no_wide_one_by_saying_nothing(
    directory: Directory,
) -> None:
    """What would be inherited counts like what is said."""
    await fill(directory)
    api = API(directory)
    for narrowed in (
        {"models": ("openai/gpt-4o",)},
        {"tier": "free"},
        {"limits": (Limit(unit="requests", amount=1, window_seconds=60),)},
    ):
        narrow = replace(TEAM_ADMIN, **narrowed)
        for path in ("/admin/keys", "/admin/users"):
            answer = await api.ask(narrow, "POST", path, {"name": f"wide {path}"})
            assert (403, "beyond_own_grant") == answer.error[:2], (narrowed, path)
            (field,) = narrowed
            assert field == answer.error[2]


async def test_cve_2026_47101_budgets_of_ones_own_key_bind_what_one_makes(api: API) -> None:
    """The team's budget would be more."""
    await add_key(
        api.directory,
        "key_poor",
        team_id="team_a",
        role="team_admin",
        budgets=(Budget(amount_usd="1", period="month"),),
    )
    poor = replace(TEAM_ADMIN, key_id="key_poor")
    refused = await api.ask(poor, "POST", "/admin/keys", {"name": "rich"})
    assert (403, "beyond_own_grant", "budgets") == refused.error
    budgets = [{"amount_usd": 0.5, "period": "month"}]
    made = await api.ask(poor, "POST", "/admin/keys", {"name": "poor", "budgets": budgets})
    assert (201, "0.5") == (made.status, made.json["budgets"][0]["amount_usd"])


async def test_cve_2026_47101_rotation_gives_nobody_more_than_they_have(api: API) -> None:
    """Whoever rotates a key holds it: one that has more than they have is refused."""
    wide: list[dict[str, Any]] = [
        {"role": "admin"},
        {"models": ("*",)},
        {"tier": "enterprise"},
        {"scopes": frozenset({"admin"})},
        {"limits": (Limit(unit="requests", amount=10_000, window_seconds=60),)},
    ]
    for number, fields in enumerate(wide):
        id = f"key_wide_{number}"
        await add_key(api.directory, id, team_id="team_a", organization_id="org_a", **fields)
        before = await snapshot(api.directory)
        refused = await api.ask(TEAM_ADMIN, "POST", f"/admin/keys/{id}/rotate")
        assert 403 == refused.status
        assert before == await snapshot(api.directory)
    # One's own other key likewise.
    await add_key(
        api.directory,
        "key_other",
        user_id="user_a_member",
        team_id="team_a",
        organization_id="org_a",
        scopes=frozenset({"batch"}),
    )
    refused = await api.ask(MEMBER, "POST", "/admin/keys/key_other/rotate")
    assert (403, "beyond_own_grant", "scopes") == refused.error


@pytest.mark.parametrize(
    ("method", "suffix", "body"),
    [
        ("PATCH", "", {"name": "x"}),
        ("DELETE", "", None),
        ("POST", "/rotate", {}),
        ("POST", "/revoke", {}),
    ],
)
async def test_cve_2026_47101_what_has_a_higher_role_is_not_touched(
    api: API, method: str, suffix: str, body: dict[str, Any] | None
) -> None:
    """A team's admin sees an admin's key in the team, and can do nothing to it, nor as its user."""
    await api.directory.add(
        User(
            id="user_root",
            name="root",
            created_at=moment(-5),
            organization_id="org_a",
            team_id="team_a",
            role="admin",
        ),
        entry(),
    )
    await add_key(
        api.directory,
        "key_root",
        user_id="user_root",
        team_id="team_a",
        organization_id="org_a",
        role="admin",
    )
    before = await snapshot(api.directory)
    assert 200 == (await api.ask(TEAM_ADMIN, "GET", "/admin/keys/key_root")).status
    refused = await api.ask(TEAM_ADMIN, method, f"/admin/keys/key_root{suffix}", body)
    assert (403, "role_required", None) == refused.error
    if not suffix:
        refused = await api.ask(TEAM_ADMIN, method, "/admin/users/user_root", body)
        assert (403, "role_required", None) == refused.error
    refused = await api.ask(
        TEAM_ADMIN, "POST", "/admin/keys", {"name": "as root", "user_id": "user_root"}
    )
    assert (403, "role_required", None) == refused.error
    assert before == await snapshot(api.directory)


async def test_keys_of_who_lost_a_role_can_be_managed(api: API) -> None:
    """Their role counts for no more than the user's; renaming and rotating goes on."""
    await api.ask(ADMIN, "PATCH", "/admin/users/user_a_boss", {"role": "member"})
    path = "/admin/keys/key_a_boss"
    for method, suffix, body in (
        ("PATCH", "", {"name": "renamed"}),
        ("PATCH", "", {"active": False}),
        ("PATCH", "", {"active": True}),
        ("POST", "/rotate", {}),
    ):
        assert 200 == (await api.ask(ADMIN, method, path + suffix, body)).status
    refused = await api.ask(ADMIN, "PATCH", path, {"role": "admin"})
    assert (422, "invalid_value", "role") == refused.error


async def test_cve_2026_47101_switching_a_wide_key_on_again_is_giving_it(api: API) -> None:
    """An admin's wide key that was set inactive stays so for the team's admin."""
    await add_key(
        api.directory, "key_wide", team_id="team_a", models=("*",), tier="pro", active=False
    )
    refused = await api.ask(TEAM_ADMIN, "PATCH", "/admin/keys/key_wide", {"active": True})
    assert (403, "beyond_own_grant", "models") == refused.error
    renamed = await api.ask(TEAM_ADMIN, "PATCH", "/admin/keys/key_wide", {"name": "wide"})
    assert (200, "wide") == (renamed.status, renamed.json["name"])


async def test_limits_of_ones_tier_bound_what_one_sets(directory: Directory) -> None:
    """Where all limits are known, a new one may be set up to the tier's."""
    await fill(directory)
    tier = Limit(unit="tokens", amount=1000, window_seconds=60)

    async def limits_of(principal: Principal) -> list[LimitState]:
        return [LimitState(limit=limit) for limit in (*principal.limits, tier)]

    api = API(directory, limit_state=limits_of)
    for text, status in (
        ("1000 tokens/minute", 201),
        ("1001 tokens/minute", 403),
        ("1000 tokens/minute burst 2000", 403),
        ("7 concurrent requests", 201),
        ("7 concurrent requests per team", 403),
    ):
        limits = ["60 requests/minute", text]
        answer = await api.ask(TEAM_ADMIN, "POST", "/admin/keys", {"name": text, "limits": limits})
        assert status == answer.status, text


async def test_a_user_moves_with_an_admin_only_and_without_keys(api: API) -> None:
    """Active keys are in the team; they would stay there."""
    path = "/admin/users/user_a_member"
    refused = await api.ask(TEAM_ADMIN, "PATCH", path, {"team_id": None})
    assert (403, "role_required", "team_id") == refused.error
    refused = await api.ask(ADMIN, "PATCH", path, {"team_id": "team_a2"})
    assert (409, "conflict", None) == refused.error
    refused = await api.ask(ADMIN, "PATCH", path, {"team_id": "team_b"})
    assert (422, "invalid_value", "team_id") == refused.error
    await api.ask(ADMIN, "POST", "/admin/keys/key_a_member/revoke")
    moved = await api.ask(ADMIN, "PATCH", path, {"team_id": "team_a2"})
    assert (200, "team_a2") == (moved.status, moved.json["team_id"])


PATTERNS = ["*", "a*", "*a", "a*b", "ab*", "a?", "a[bc]", "a[*]b", "ab", "a", "", "*b", "a**b", "?"]
TEXTS = ["".join(some) for size in range(5) for some in itertools.product("ab*]", repeat=size)]


@pytest.mark.parametrize("outer", PATTERNS)
@pytest.mark.parametrize("inner", PATTERNS)
def test_patterns_said_to_be_covered_are(outer: str, inner: str) -> None:
    """No text matches the inner pattern and not the outer one that is said to cover it."""
    from fnmatch import fnmatchcase

    if covers((outer,), (inner,)):
        assert [] == [
            text for text in TEXTS if fnmatchcase(text, inner) and not fnmatchcase(text, outer)
        ]


@pytest.mark.parametrize(
    ("own", "wanted", "expected"),
    [
        (None, None, True),
        (None, ("x",), True),
        (("*",), None, False),
        (("*",), ("openai/*",), True),
        (("openai/*",), ("openai/gpt-?",), True),
        (("openai/*-mini",), ("openai/gpt-*-mini",), True),
        (("openai/*",), ("openai*",), False),
        (("a", "b"), ("b", "a"), True),
        (("a",), ("a", "b"), False),
        ((), ("a",), False),
        ((), (), True),
    ],
)
def test_covers(
    own: tuple[str, ...] | None, wanted: tuple[str, ...] | None, expected: bool
) -> None:
    """All models is more than any list; a list is covered pattern by pattern."""
    assert expected == covers(own, wanted)
