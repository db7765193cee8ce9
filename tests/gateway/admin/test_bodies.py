"""What bodies and queries may hold; all else is a 422 that names it, and nothing is stored."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_llm.gateway.admin._routes import ROUTES
from asgi_llm.stores.directory import Directory, Key, Organization, Team, User
from asgi_llm.stores.directory_memory import MemoryDirectory
from tests.gateway.admin.world import ADMIN, API, TEAM_ADMIN, fill, snapshot

# What a directory's structs have and no body may set.
READ_ONLY = [
    "created_at",
    "hint",
    "last_used_at",
    "revoked_at",
    "digest",
    "key_hash",
    "token",
    "user_role",
    "spend",
    "__class__",
    "asgi_llm",
]
WRITES = [
    ("POST", "/admin/organizations", {"name": "n"}),
    ("PATCH", "/admin/organizations/org_a", {}),
    ("POST", "/admin/teams", {"name": "n"}),
    ("PATCH", "/admin/teams/team_a", {}),
    ("POST", "/admin/users", {"name": "n"}),
    ("PATCH", "/admin/users/user_a_member", {}),
    ("POST", "/admin/keys", {"name": "n"}),
    ("PATCH", "/admin/keys/key_a_member", {}),
    ("POST", "/admin/keys/import", {"name": "n", "key": "vk_9f2Kx7QpLw3ZtB8mRc5YdN1s"}),
    ("POST", "/admin/keys/key_a_member/rotate", {}),
    ("POST", "/admin/keys/key_a_member/revoke", {}),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
@pytest.mark.parametrize("field", READ_ONLY)
async def test_b35_fields_that_are_not_ones_to_set_are_refused(
    memory_api: API, method: str, path: str, body: dict[str, Any], field: str
) -> None:
    """Mass assignment: 422, the field is named, nothing is stored, whoever asks."""
    before = await snapshot(memory_api.directory)
    for caller in (ADMIN, TEAM_ADMIN):
        answer = await memory_api.ask(caller, method, path, {**body, field: "x"})
        if "organizations" in path or ("teams" in path and caller is TEAM_ADMIN):
            assert answer.status in (403, 422)
        else:
            assert (422, "unknown_field", field) == answer.error
    assert before == await snapshot(memory_api.directory)


@pytest.mark.parametrize(
    ("method", "path"),
    [("PATCH", path.path) for path in ROUTES if path.method == "PATCH"],
)
@pytest.mark.parametrize("field", ["id", "organization_id", "user_id", "key"])
async def test_b35_what_one_belongs_to_does_not_change(
    memory_api: API, method: str, path: str, field: str
) -> None:
    """Nothing moves to another organization, no key to another user, no id is given anew."""
    id = {"organizations": "org_a", "teams": "team_a", "users": "user_a_boss"}.get(
        path.split("/")[2], "key_a_boss"
    )
    answer = await memory_api.ask(ADMIN, method, path.replace("{id}", id), {field: "org_b"})
    assert (422, "unknown_field", field) == answer.error


RAW = [
    (b'{"name":"n","budgets":[{"amount_usd":1e309,"period":"day"}]}', None),
    (b'{"name":"n","budgets":[{"amount_usd":NaN,"period":"day"}]}', None),
    (b'{"name":"n","budgets":[{"amount_usd":Infinity,"period":"day"}]}', None),
    (b'{"name":"n","budgets":[{"amount_usd":-1,"period":"day"}]}', "budgets[0].amount_usd"),
    (b'{"name":"n","budgets":[{"amount_usd":-0.01,"period":"day"}]}', "budgets[0].amount_usd"),
    (b'{"name":"n","budgets":[{"amount_usd":"-1","period":"day"}]}', "budgets[0].amount_usd"),
    (b'{"name":"n","budgets":[{"amount_usd":"NaN","period":"day"}]}', "budgets[0].amount_usd"),
    (b'{"name":"n","budgets":[{"amount_usd":"1e309","period":"day"}]}', "budgets[0].amount_usd"),
    (b'{"name":"n","budgets":[{"amount_usd":"Infinity","period":"day"}]}', "budgets[0].amount_usd"),
    (b'{"name":"n","budgets":[{"amount_usd":"1\\n","period":"day"}]}', "budgets[0].amount_usd"),
    (b'{"name":"n","budgets":[{"amount_usd":1e300,"period":"day"}]}', "budgets[0].amount_usd"),
    (b'{"name":"n","budgets":[{"amount_usd":true,"period":"day"}]}', "budgets[0].amount_usd"),
    (b'{"name":"n","budgets":[{"amount_usd":null,"period":"day"}]}', "budgets[0].amount_usd"),
    (b'{"name":"n","budgets":[{"amount_usd":"1","period":"year"}]}', "budgets[0].period"),
    (b'{"name":"n","budgets":[{"period":"day"}]}', "budgets[0].amount_usd"),
    (
        b'{"name":"n","budgets":[{"amount_usd":"1","period":"day"},'
        b'{"amount_usd":"2","period":"day"}]}',
        "budgets[1]",
    ),
    (b'{"name":"n","budgets":{}}', "budgets"),
    (b'{"name":"n","expires_at":"9999-12-31T23:59:59Z"}', "expires_at"),
    (b'{"name":"n","expires_at":"9999-12-31T23:59:59-23:59"}', "expires_at"),
    (b'{"name":"n","expires_at":"0001-01-01T00:00:00+23:59"}', "expires_at"),
    (b'{"name":"n","expires_at":"2027-01-01T00:00:00"}', "expires_at"),
    (b'{"name":"n","expires_at":"2037-01-01T00:00:00Z"}', "expires_at"),
    (b'{"name":"n","expires_at":"2020-01-01T00:00:00Z"}', "expires_at"),
    (b'{"name":"n","expires_at":4102444800}', "expires_at"),
    (b'{"name":"n","limits":["-1 requests/minute"]}', "limits[0]"),
    (b'{"name":"n","limits":["1e9 requests/minute"]}', "limits[0]"),
    (
        b'{"name":"n","limits":[{"unit":"requests","amount":-1,"window_seconds":60}]}',
        "limits[0].amount",
    ),
    (
        b'{"name":"n","limits":[{"unit":"requests","amount":1.5,"window_seconds":60}]}',
        "limits[0].amount",
    ),
    (b'{"name":"n","limits":[{"unit":"requests","amount":1e309,"window_seconds":60}]}', None),
    (
        b'{"name":"n","limits":[{"unit":"requests","amount":1000000000001,"window_seconds":60}]}',
        "limits[0].amount",
    ),
    (b'{"name":"n","limits":[{"unit":"requests","amount":1}]}', "limits[0].window_seconds"),
    (
        b'{"name":"n","limits":[{"unit":"concurrent_requests","amount":1,"window_seconds":60}]}',
        "limits[0].window_seconds",
    ),
    (b'{"name":"n","limits":[{"unit":"dollars","amount":1}]}', "limits[0].unit"),
    (
        b'{"name":"n","limits":["1 requests/minute","2 requests/minute"]}',
        "limits[1]",
    ),
    (b'{"name":"n","role":"owner"}', "role"),
    (b'{"name":"n","role":null}', "role"),
    (b'{"name":"n","active":"true"}', "active"),
    (b'{"name":"n","active":1}', "active"),
    (b'{"name":"n","models":"*"}', "models"),
    (b'{"name":"n","models":["a b"]}', "models[0]"),
    (b'{"name":"n","models":["x\\n"]}', "models[0]"),
    (b'{"name":"n","tier":"a b"}', "tier"),
    (b'{"name":"n","tier":""}', "tier"),
    (b'{"name":"n","scopes":["a b"]}', "scopes[0]"),
    (b'{"name":"n","metadata":{"a":1}}', "metadata"),
    (b'{"name":"n","metadata":{"a":{"b":"c"}}}', "metadata"),
    (b'{"name":"n","metadata":{"":"x"}}', "metadata"),
    (b'{"name":"n","metadata":{"a":"\\u0000"}}', "metadata"),
    (b'{"name":"n","team_id":"../x"}', "team_id"),
    (b'{"name":"n","team_id":"t\\n"}', "team_id"),
    (b'{"name":"n","team_id":7}', "team_id"),
    (b'{"name":""}', "name"),
    (b'{"name":"   "}', "name"),
    (b'{"name":"a\\u0000b"}', "name"),
    (b'{"name":"a\\u202eb"}', "name"),
    (b'{"name":"' + b"x" * 201 + b'"}', "name"),
    (b'{"name":["n"]}', "name"),
    (b"{}", "name"),
    (b"[]", None),
    (b"null", None),
    (b'"name"', None),
    (b"{", None),
    (b'{"name":"\xff"}', None),
    (b'{"name":"\\ud800"}', None),
    (b"", "name"),
    (b"[" * 1000 + b"]" * 1000, None),
]


@pytest.mark.parametrize(("body", "param"), RAW, ids=lambda value: str(value)[:70])
async def test_b35_values_out_of_range_are_refused(
    memory_api: API, body: bytes, param: str | None
) -> None:
    """422 with the field's path; nothing is stored."""
    before = await snapshot(memory_api.directory)
    answer = await memory_api.ask(ADMIN, "POST", "/admin/keys", body=body)
    assert 422 == answer.status, answer.body
    assert param == answer.error[2]
    assert "invalid_request_error" == answer.json["error"]["type"]
    assert before == await snapshot(memory_api.directory)
    # The same in a change of what is there.
    if param not in (None, "name", "team_id"):
        answer = await memory_api.ask(ADMIN, "PATCH", "/admin/keys/key_a_member", body=body)
        assert 422 == answer.status
        assert before == await snapshot(memory_api.directory)


@pytest.mark.parametrize("grace", [-1, 2_592_001, 1.5, "60", None, True, 10**30])
async def test_b35_a_grace_is_a_number_of_seconds(memory_api: API, grace: Any) -> None:
    """From 0 to 30 days, and the key stays as it was otherwise."""
    before = await snapshot(memory_api.directory)
    path = "/admin/keys/key_a_member/rotate"
    answer = await memory_api.ask(ADMIN, "POST", path, {"grace_seconds": grace})
    assert 422 == answer.status
    assert before == await snapshot(memory_api.directory)


async def test_null_zero_and_empty_are_not_left_out(api: API) -> None:
    """A change says what it says: null takes off, absent leaves, empty empties, 0 is 0."""
    path = "/admin/keys/key_a_boss"
    full = {
        "tier": "pro",
        "models": ["echo/*"],
        "expires_at": "2027-01-31T00:00:00Z",
        "limits": ["0 requests/minute"],
        "budgets": [{"amount_usd": 0, "period": "day"}],
        "scopes": ["x"],
        "metadata": {"a": ""},
    }
    set_ = (await api.ask(ADMIN, "PATCH", path, full)).json
    assert ("pro", ["echo/*"], 0, "0", ["x"], {"a": ""}) == (
        set_["tier"],
        set_["models"],
        set_["limits"][0]["amount"],
        set_["budgets"][0]["amount_usd"],
        set_["scopes"],
        set_["metadata"],
    )
    left = (await api.ask(ADMIN, "PATCH", path, {"name": "renamed"})).json
    assert {**set_, "name": "renamed"} == left
    empty: dict[str, Any] = {
        "tier": None,
        "models": [],
        "expires_at": None,
        "limits": [],
        "budgets": [],
        "scopes": [],
        "metadata": {},
        "active": False,
    }
    cleared = (await api.ask(ADMIN, "PATCH", path, empty)).json
    assert empty == {name: cleared[name] for name in empty}
    assert cleared == (await api.ask(ADMIN, "GET", path)).json
    assert None is (await api.ask(ADMIN, "PATCH", path, {"models": None})).json["models"]


async def test_an_empty_change_changes_nothing(api: API) -> None:
    """Nor is it written down; nor what is as it was."""
    before = await snapshot(api.directory)
    for body in ({}, {"name": "key_a_boss"}, {"active": True}):
        assert 200 == (await api.ask(ADMIN, "PATCH", "/admin/keys/key_a_boss", body)).status
    assert before == await snapshot(api.directory)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=1e1", "limit"),
        ("limit=٣", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("after=nonsense", "after"),
        ("after=", "after"),
        ("after=%00", "after"),
        ("active=1", "active"),
        ("active=True", "active"),
        ("team_id=%27%20OR%201%3D1", "team_id"),
        ("team_id=a%00b", "team_id"),
        ("team_id=", "team_id"),
        ("name=%0a", "name"),
        ("role=admin", "role"),
        ("key=sk-123", "key"),
        ("digest=x", "digest"),
        ("order_by=name;drop", "order_by"),
        ("a%20b=1", "(another name)"),
    ],
)
async def test_b35_queries_are_checked(api: API, query: str, param: str) -> None:
    """Unknown, repeated and senseless parameters are a 422 that names them."""
    encoded = query.encode("utf-8").decode("latin-1") if query.isascii() else "limit=%D9%A3"
    answer = await api.ask(ADMIN, "GET", f"/admin/keys?{encoded}")
    assert (422, param) == (answer.status, answer.error[2])


async def test_other_paths_take_no_query(api: API) -> None:
    """Else a misspelt filter would be taken for none."""
    answer = await api.ask(ADMIN, "GET", "/admin/keys/key_a_boss?limit=1")
    assert (422, "unknown_parameter", None) == answer.error


INJECTIONS = [
    "' OR '1'='1",
    "'; DROP TABLE llm_keys; --",
    '" OR ""="',
    "1) UNION SELECT digest FROM llm_credentials --",
    "%27%20OR%201=1",
    "{{7*7}}",
    "{{''.__class__.__mro__[1].__subclasses__()}}",
    "${jndi:ldap://127.0.0.1/x}",
    "$(touch /tmp/x)",
    "`id`",
    "os:system",
    "antigravity:fly",
    "antigravity",
    "subprocess.Popen",
    "file:///etc/passwd",
    "\\x41%s%n",
    "<script>alert(1)</script>",
]
_STARTED: list[str] = []
_PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn")
_watching = False


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if _watching and event.startswith(_PROCESSES):
        _STARTED.append(event)


sys.addaudithook(_watch)


@pytest.mark.parametrize("text", INJECTIONS)
async def test_issue_12402_text_stays_text(api: API, text: str) -> None:
    """In ids, names, labels and filters of every call: nothing runs, is rendered or is lost."""
    global _watching
    _STARTED.clear()
    counts = [len(kind) for kind in (await snapshot(api.directory))[:4]]
    quoted = "".join(f"%{byte:02x}" for byte in text.encode())
    _watching = True
    try:
        made = await api.ask(
            ADMIN, "POST", "/admin/keys", {"name": text, "metadata": {text[:64]: text}}
        )
        for operation in ROUTES:
            path = operation.path.replace("{id}", quoted)
            body: Any = None
            if operation.body is not None:
                body = dict.fromkeys(operation.body.__struct_fields__, text)
            for query in ("", *(f"?{name}={quoted}" for name in operation.filters or ())):
                answer = await api.ask(ADMIN, operation.method, path + query, body)
                assert answer.status in (200, 201, 404, 405, 409, 422), (path, answer.body)
                if operation.filters is not None and query and answer.status == 200:
                    found = answer.json["data"]
                    assert all(one["name"] == text for one in found if "name" in one)
    finally:
        _watching = False
    assert [] == _STARTED
    assert "antigravity" not in sys.modules
    assert (201, text, text) == (
        made.status,
        made.json["name"],
        made.json["metadata"][text[:64]],
    )
    shown = await api.ask(ADMIN, "GET", f"/admin/keys/{made.json['id']}")
    assert (text, {text[:64]: text}) == (shown.json["name"], shown.json["metadata"])
    now = [len(kind) for kind in (await snapshot(api.directory))[:4]]
    assert all(after >= before for before, after in zip(counts, now, strict=True))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=4,
)
FIELDS = sorted({name for one in ROUTES if one.body for name in one.body.__struct_fields__})


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4))
async def test_b35_no_body_is_a_failure_of_ours(body: dict[str, Any]) -> None:
    """Whatever JSON comes: an answer below 500, and a refused one leaves nothing."""
    directory: Directory = MemoryDirectory()
    await fill(directory)
    api = API(directory)
    data = json.dumps(body).encode()
    for method, path, _ in WRITES:
        before = await snapshot(directory)
        answer = await api.ask(TEAM_ADMIN, method, path, body=data)
        assert answer.status is not None and answer.status < 500, answer.body
        if answer.status >= 400:
            assert before == await snapshot(directory)


def test_every_kind_is_covered() -> None:
    """The routes are about the four kinds of members and the log."""
    kinds = {operation.kind for operation in ROUTES}
    assert {Organization, Team, User, Key} <= kinds
