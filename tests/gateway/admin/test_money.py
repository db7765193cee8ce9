"""Costs, usage and budgets of the admin API: what is told, to whom, and what is refused."""

from __future__ import annotations

import asyncio
import csv
import datetime
import io
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import Message

from asgi_llm.errors import StoreError
from asgi_llm.gateway.admin import build_admin_app
from asgi_llm.state import PRINCIPAL, enter
from asgi_llm.stores.budgets import demand_of, to_pico
from asgi_llm.stores.directory_memory import MemoryDirectory
from asgi_llm.stores.sql.directory import SQLDirectory
from asgi_llm.stores.sql.engine import open_engine
from asgi_llm.stores.sql.ledger import SQLLedger
from asgi_llm.stores.sql.migrations import create_schema
from asgi_llm.testing import http_scope
from asgi_llm.types import Principal
from tests.gateway.admin.money import COST, fill_money, rule
from tests.gateway.admin.world import ADMIN, API, MEMBER, TEAM_ADMIN, fill, moment
from tests.services.postgres_server import PostgresServer, postgres_server, postgres_url
from tests.stores.ledger.rows import make_row

__all__ = ["PostgresServer", "postgres_server", "postgres_url"]

SPAN = "start_date=2026-09-01&end_date=2026-09-30"
PEOPLE = {"admin": ADMIN, "team_admin": TEAM_ADMIN, "member": MEMBER}
ROWS = {"admin": 12, "team_admin": 6, "member": 3}


@pytest_asyncio.fixture(params=["sqlite", "postgres"])
async def engine(request: pytest.FixtureRequest, tmp_path: Any) -> AsyncIterator[AsyncEngine]:
    """A database with the schema, once of each kind."""
    url = f"sqlite:///{tmp_path}/money.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    engine = open_engine(url)
    await create_schema(engine)
    yield engine
    await engine.dispose()


@pytest_asyncio.fixture
async def sql_api(engine: AsyncEngine) -> API:
    """The admin API with all that it has in one database."""
    directory = SQLDirectory(engine)
    await fill(directory)
    return API(directory, **await fill_money(engine))


# Costs


@pytest.mark.parametrize("caller", PEOPLE)
async def test_each_caller_sees_the_sums_of_their_own(sql_api: API, caller: str) -> None:
    """All rows for an admin, the team's for its admin, one's own for a member."""
    answer = await sql_api.ask(PEOPLE[caller], "GET", f"/admin/costs/summary?{SPAN}")
    found, count = answer.json, ROWS[caller]
    totals = found["totals"]
    assert (count, COST * count, Decimal("0.5") * count / 3) == (
        totals["requests"],
        Decimal(totals["cost_usd"]),
        Decimal(totals["saved_usd"]),
    )
    assert count * 170 == totals["total_tokens"]
    assert ["gpt-4o", "gpt-4o-mini"] == [group["by"]["model"] for group in found["data"]]
    assert count == sum(group["totals"]["requests"] for group in found["data"])
    assert ("2026-09-01T00:00:00Z", "2026-10-01T00:00:00Z") == (found["start"], found["end"])


@pytest.mark.parametrize(
    ("query", "requests", "groups"),
    [
        ("user_id=user_a_boss", 3, 2),
        ("key_id=key_b_member&group_by=", 3, 0),
        ("team_id=team_b&group_by=user_id,model", 6, 4),
        ("organization_id=org_a&group_by=day", 6, 3),
        ("model=gpt-4o&provider=openai&group_by=user_id", 8, 4),
        ("cached=true&group_by=cached", 4, 1),
        ("tag=project=apollo&group_by=user_id", 8, 4),
        ("tag=project=gemini&team_id=team_a&group_by=day", 2, 1),
        ("tag=project=gemini&group_by=hour", 4, 1),
        ("tag=project=none", 0, 0),
        ("provider=nobody", 0, 0),
    ],
)
async def test_filters_and_groups(sql_api: API, query: str, requests: int, groups: int) -> None:
    """By whose rows they are, by what was called, and by tags, which are read from the rows."""
    answer = await sql_api.ask(ADMIN, "GET", f"/admin/costs/summary?{SPAN}&{query}")
    assert (200, requests, groups) == (
        answer.status,
        answer.json["totals"]["requests"],
        len(answer.json["data"]),
    )


async def test_sums_by_tag_are_those_of_the_rows(sql_api: API) -> None:
    """The rows of both tags together are what the kept sums say, in every field."""
    path = f"/admin/costs/summary?{SPAN}&group_by=day"
    whole, *parts = [
        (await sql_api.ask(ADMIN, "GET", path + tag)).json
        for tag in ("", "&tag=project=apollo", "&tag=project=gemini")
    ]
    for name, value in whole["totals"].items():
        found = [part["totals"][name] for part in parts]
        if name == "usage":
            assert value == {key: sum(one[key] for one in found) for key in value}
        else:
            assert Decimal(value) == sum(map(Decimal, found)), name
    days = [group["by"]["day"] for part in parts for group in part["data"]]
    assert sorted(group["by"]["day"] for group in whole["data"]) == sorted(days)


async def test_without_a_span_it_is_this_month(memory_api: API) -> None:
    """From the first of the month until the end of today."""
    found = (await memory_api.ask(ADMIN, "GET", "/admin/costs/summary")).json
    assert ("2026-09-01T00:00:00Z", "2026-09-22T00:00:00Z") == (found["start"], found["end"])
    assert 12 == found["totals"]["requests"]
    until = (await memory_api.ask(ADMIN, "GET", "/admin/costs/summary?end_date=2026-08-10")).json
    assert ("2026-08-01T00:00:00Z", "2026-08-11T00:00:00Z") == (until["start"], until["end"])
    exact = "start_date=2026-09-20T05:00:00Z&end_date=2026-09-20T06:00:00Z"
    hours = (await memory_api.ask(ADMIN, "GET", f"/admin/costs/summary?{exact}")).json
    assert ("2026-09-20T05:00:00Z", "2026-09-20T06:00:00Z") == (hours["start"], hours["end"])


FOREIGN = [
    "user_id=user_b_member",
    "key_id=key_b_boss",
    "team_id=team_b",
    "organization_id=org_b",
    "team_id=team_a2",
]
LEDGER_PATHS = ["/admin/costs/summary", "/admin/usage", "/admin/usage.csv"]


@pytest.mark.parametrize("path", LEDGER_PATHS)
@pytest.mark.parametrize("caller", ["team_admin", "member"])
@pytest.mark.parametrize("query", FOREIGN)
async def test_b34_another_tenant_is_not_there(
    memory_api: API, path: str, caller: str, query: str
) -> None:
    """404, the same as for an id that nobody has; an admin sees it."""
    name = query.partition("=")[0]
    principal = PEOPLE[caller]
    answer = await memory_api.ask(principal, "GET", f"{path}?{query}")
    nobody = await memory_api.ask(principal, "GET", f"{path}?{name}=id_that_nobody_has")
    assert (404, "not_found", name) == answer.error
    assert nobody.json == answer.json
    assert 200 == (await memory_api.ask(ADMIN, "GET", f"{path}?{query}")).status


@pytest.mark.parametrize("path", LEDGER_PATHS)
async def test_one_names_what_is_ones_own(memory_api: API, path: str) -> None:
    """One's key, user, team and organization; a team's admin also its members and their rows."""
    for query in (
        "user_id=user_a_member&team_id=team_a",
        "key_id=key_a_member&organization_id=org_a",
    ):
        for principal in (MEMBER, TEAM_ADMIN):
            answer = await memory_api.ask(principal, "GET", f"{path}?{query}")
            assert 200 == answer.status, answer.body
    assert 404 == (await memory_api.ask(MEMBER, "GET", f"{path}?user_id=user_a_boss")).status
    keyless = await memory_api.ask(Principal(), "GET", path)
    assert (403, "role_required", None) == keyless.error


async def test_rows_of_a_user_that_no_directory_has(engine: AsyncEngine) -> None:
    """Users of web tokens: a team's admin finds them by the team's rows, another's does not."""
    ledger = SQLLedger(engine)
    mine = {"user_id": "auth0|ada", "team_id": "team_a", "key_id": None, "at": moment(-5)}
    await ledger.record([make_row("one", **mine)])
    api = API(MemoryDirectory(), ledger=ledger)
    path = f"/admin/costs/summary?{SPAN}&user_id=auth0|ada"
    assert 1 == (await api.ask(TEAM_ADMIN, "GET", path)).json["totals"]["requests"]
    other = replace(TEAM_ADMIN, team_id="team_b", organization_id="org_b", user_id="x")
    assert (404, "not_found", "user_id") == (await api.ask(other, "GET", path)).error


BAD_QUERIES = [
    ("start_date=9999-12-31", "start_date"),
    ("end_date=9999-12-31T23:59:59-23:59", "end_date"),
    ("start_date=0001-01-01T00:00:00%2B23:59", "start_date"),
    ("start_date=1e309", "start_date"),
    ("start_date=NaN", "start_date"),
    ("start_date=2026-02-30", "start_date"),
    ("start_date=2026-09-01T00:00:00", "start_date"),
    ("start_date=2026-09-01%20", "start_date"),
    ("start_date=1790000000", "start_date"),
    ("start_date=2026-09-02&end_date=2026-08-31", "start_date"),
    ("start_date=", "start_date"),
    ("start_date=2026-09-01&start_date=2026-09-01", "start_date"),
    ("tag=apollo", "tag"),
    ('tag="$.x=1', "tag"),
    ("tag==1", "tag"),
    ("cached=yes", "cached"),
    ("user_id=", "user_id"),
    ("user_id=a%00b", "user_id"),
    ("user=ada", "user"),
    ("spend=1", "spend"),
]
BAD_SUMMARIES = [
    ("start_date=2026-09-01T00:30:00Z", "start_date"),
    ("end_date=2026-09-21T01:00:00Z&group_by=day", "end_date"),
    ("group_by=password", "group_by"),
    ("group_by=day,hour", "group_by"),
    ("group_by=model,model", "group_by"),
    ("group_by=model,", "group_by"),
    ("limit=5", "limit"),
]
BAD_PAGES = [
    ("limit=0", "limit"),
    ("limit=201", "limit"),
    ("limit=1e2", "limit"),
    ("after=x", "after"),
    ("group_by=model", "group_by"),
]


@pytest.mark.parametrize(
    ("path", "query", "param"),
    [
        *((path, *case) for path in LEDGER_PATHS for case in BAD_QUERIES),
        *((LEDGER_PATHS[0], *case) for case in BAD_SUMMARIES),
        *((LEDGER_PATHS[1], *case) for case in BAD_PAGES),
        (LEDGER_PATHS[2], "limit=5", "limit"),
    ],
)
async def test_b35_bad_questions_are_refused(
    memory_api: API, path: str, query: str, param: str
) -> None:
    """422 that names the parameter, for whoever asks."""
    for caller in (ADMIN, MEMBER):
        answer = await memory_api.ask(caller, "GET", f"{path}?{query}")
        assert (422, param) == (answer.status, answer.error[2]), answer.body


# Usage


@pytest.mark.parametrize("caller", PEOPLE)
async def test_pages_hold_each_row_once(sql_api: API, caller: str) -> None:
    """Newest first, by the cursor, and none of another."""
    seen: list[dict[str, Any]] = []
    query = "?limit=2"
    while query:
        page = (await sql_api.ask(PEOPLE[caller], "GET", f"/admin/usage{query}")).json
        seen += page["data"]
        query = f"?limit=2&after={page['next']}" if page["next"] else ""
    assert ROWS[caller] == len({row["id"] for row in seen}) == len(seen)
    assert sorted((row["at"] for row in seen), reverse=True) == [row["at"] for row in seen]
    first = seen[0]
    assert ("usage.row", "0.25", "apollo" if first["model"] == "gpt-4o" else "gemini") == (
        first["object"],
        first["cost"]["amount_usd"],
        first["tags"]["project"],
    )
    if caller == "member":
        assert {"user_a_member"} == {row["user_id"] for row in seen}


async def test_rows_by_what_they_have(sql_api: API) -> None:
    """By time, request, outcome, cache and tag."""
    for query, count in (
        ("request_id=request-row_a_boss_0", 1),
        ("outcome=complete", 12),
        ("outcome=failed", 0),
        ("cached=true", 4),
        ("tag=project=gemini", 4),
        ("start_date=2026-09-21", 4),
        ("end_date=2026-09-19", 4),
        ("requested_model=fast&operation=chat", 12),
    ):
        page = (await sql_api.ask(ADMIN, "GET", f"/admin/usage?{query}")).json
        assert count == len(page["data"]), query


async def test_the_export_is_all_rows_as_csv(sql_api: API) -> None:
    """With a header, as an attachment that nobody keeps or sniffs; HEAD gives no body."""
    answer = await sql_api.ask(TEAM_ADMIN, "GET", "/admin/usage.csv")
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    assert 6 == len(rows) and {"team_a"} == {row["team_id"] for row in rows}
    assert {"0.25"} == {row["cost_usd"] for row in rows}
    for name, value in (
        ("content-type", "text/csv; charset=utf-8; header=present"),
        ("content-disposition", 'attachment; filename="usage.csv"'),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ):
        assert value == answer.headers[name]
    head = await sql_api.ask(TEAM_ADMIN, "HEAD", "/admin/usage.csv")
    assert (200, b"") == (head.status, head.body)


async def test_b37_no_cell_of_the_export_is_a_formula(engine: AsyncEngine) -> None:
    """Names that callers choose begin with an apostrophe where a spreadsheet would calculate."""
    ledger = SQLLedger(engine)
    evil = "=cmd|' /C calc'!A0"
    await ledger.record(
        [make_row("one", user_id=evil, requested_model="+1+1", tags={"@SUM(A1)": "-2"})]
    )
    answer = await API(MemoryDirectory(), ledger=ledger).ask(ADMIN, "GET", "/admin/usage.csv")
    [row] = csv.DictReader(io.StringIO(answer.body.decode()))
    assert ("'" + evil, "'+1+1") == (row["user_id"], row["requested_model"])
    assert [] == [cell for cell in row.values() if cell[:1] in tuple("=+-@\t\r")]


class Endless(SQLLedger):
    """Exports without end, and notes that it was closed."""

    closed = False
    parts = 0

    async def export_csv(self, **asked: Any) -> AsyncIterator[str]:
        try:
            while True:
                self.parts += 1
                yield f"{self.parts}\n"
                await asyncio.sleep(0)
        finally:
            self.closed = True


async def test_an_export_ends_when_its_client_leaves(engine: AsyncEngine) -> None:
    """It goes out in parts, and nothing more is read for a client that is gone."""
    ledger = Endless(engine)
    app = build_admin_app(MemoryDirectory(), ledger=ledger)
    sent: list[Message] = []
    left = asyncio.Event()

    async def receive() -> Message:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) == 20:
            left.set()

    scope, state = enter(http_scope("GET", "/admin/usage.csv"))
    state.set(PRINCIPAL, ADMIN)
    async with asyncio.timeout(10):
        await app(scope, receive, send)
    assert ledger.closed and 20 <= len(sent) <= 25
    assert [True] * (len(sent) - 1) == [message.get("more_body") for message in sent[1:]]


class Breaking(SQLLedger):
    """Fails at once, or after the first part."""

    after = 0

    async def export_csv(self, **asked: Any) -> AsyncIterator[str]:
        for part in range(self.after):
            yield f"{part}\n"
        raise StoreError("The database did not answer in time.")


async def test_an_export_that_breaks_off_is_no_whole_one(engine: AsyncEngine) -> None:
    """Before its begin it is a 503; later it is raised, so that the server cuts it off."""
    ledger = Breaking(engine)
    api = API(MemoryDirectory(), ledger=ledger)
    answer = await api.ask(ADMIN, "GET", "/admin/usage.csv")
    assert (503, "store_unavailable", None) == answer.error
    ledger.after = 3
    with pytest.raises(StoreError):
        await api.ask(ADMIN, "GET", "/admin/usage.csv")


# Budgets


async def test_the_life_of_a_budget(sql_api: API) -> None:
    """Made, shown with its use, changed, removed, each with its entry in the log."""
    body = {
        "name": "Ada's",
        "scope": "user",
        "of": "user_a_boss",
        "amount_usd": 12.5,
        "period": "week",
        "time_zone": "Europe/Berlin",
        "alert_shares": [0.8, "0.5"],
    }
    made = await sql_api.ask(ADMIN, "POST", "/admin/budgets", body)
    id = made.json["id"]
    assert (201, "12.5", ["0.5", "0.8"], None) == (
        made.status,
        made.json["amount_usd"],
        made.json["alert_shares"],
        made.json["use"],
    )
    path = f"/admin/budgets/{id}"
    use = {
        "spent_usd": "0",
        "reserved_usd": "0",
        "remaining_usd": "12.5",
        "resets_at": "2026-09-27T22:00:00Z",
    }
    assert use == (await sql_api.ask(ADMIN, "GET", path)).json["use"]
    changed = await sql_api.ask(ADMIN, "PATCH", path, {"amount_usd": "20", "hard": False})
    assert ("20", False, "Ada's") == tuple(
        changed.json[name] for name in ("amount_usd", "hard", "name")
    )
    same = await sql_api.ask(ADMIN, "PATCH", path, {"hard": False})
    assert changed.json["updated_at"] == same.json["updated_at"]
    gone = await sql_api.ask(ADMIN, "DELETE", path)
    assert {"object": "budget", "id": id, "deleted": True} == gone.json
    for method in ("GET", "DELETE"):
        assert (404, "not_found", None) == (await sql_api.ask(ADMIN, method, path)).error
    log = (await sql_api.ask(ADMIN, "GET", f"/admin/audit?target=budget:{id}")).json["data"]
    assert [
        ("master", "budget.delete", {}),
        ("master", "budget.update", {"amount_usd": "20", "hard": False}),
    ] == [(entry["actor"], entry["action"], entry["changes"]) for entry in log[:2]]
    assert ("budget.create", "12.5", "user_a_boss") == (
        log[2]["action"],
        log[2]["changes"]["amount_usd"],
        log[2]["changes"]["of"],
    )


async def test_a_budget_shows_what_is_spent(engine: AsyncEngine) -> None:
    """From the store where calls spend; of one that each id has, for the id that is asked for."""
    money = await fill_money(engine)
    api = API(SQLDirectory(engine), **money)
    store = money["budget_store"]
    team = [demand_of(rule(scope="team", of="team_a"), "")]
    each = [demand_of(rule(scope="user", period="day"), "ada")]
    for demands in (team, each):
        await store.reserve(demands, to_pico(Decimal(9)), lease="one", lease_seconds=60)
        await store.settle(demands, lease="one", actual=to_pico(Decimal("1.5")))
        await store.reserve(demands, to_pico(Decimal(2)), lease="two", lease_seconds=60)
    shown = (await api.ask(ADMIN, "GET", "/admin/budgets/budget_team_a")).json["use"]
    assert ("1.5", "2", "96.5", "2026-10-01T00:00:00Z") == tuple(shown.values())
    body = {"scope": "user", "amount_usd": "100", "period": "day"}
    path = f"/admin/budgets/{(await api.ask(ADMIN, 'POST', '/admin/budgets', body)).json['id']}"
    assert None is (await api.ask(ADMIN, "GET", path)).json["use"]
    assert "96.5" == (await api.ask(ADMIN, "GET", f"{path}?of=ada")).json["use"]["remaining_usd"]
    single = await api.ask(ADMIN, "GET", "/admin/budgets/budget_team_a?of=ada")
    assert (422, "invalid_value", "of") == single.error


async def test_who_sees_which_budgets(sql_api: API) -> None:
    """Admins all; a team's admin those of the team, its users and keys; a member their own."""
    for caller, expected in (
        (ADMIN, 9),
        (TEAM_ADMIN, {"budget_team_a", "budget_user_a", "budget_key_a"}),
        (MEMBER, {"budget_user_a", "budget_key_a"}),
        (Principal(key_id="key_a_member"), {"budget_key_a"}),
        (replace(MEMBER, user_id="user_b_boss", key_id=None), set()),
        (Principal(), set()),
    ):
        page = (await sql_api.ask(caller, "GET", "/admin/budgets")).json
        ids = {budget["id"] for budget in page["data"]}
        assert expected == (ids if isinstance(expected, set) else len(ids))
        for budget in (await sql_api.ask(ADMIN, "GET", "/admin/budgets")).json["data"]:
            answer = await sql_api.ask(caller, "GET", f"/admin/budgets/{budget['id']}")
            assert (200 if budget["id"] in ids else 404) == answer.status
    page = (await sql_api.ask(ADMIN, "GET", "/admin/budgets?scope=team&limit=1")).json
    assert 1 == len(page["data"]) and page["next"] is not None
    behind = f"/admin/budgets?scope=team&limit=1&after={page['next']}"
    rest = (await sql_api.ask(ADMIN, "GET", behind)).json
    assert ({"team_a", "team_b"}, None) == (
        {page["data"][0]["of"], rest["data"][0]["of"]},
        rest["next"],
    )
    assert [] == (await sql_api.ask(ADMIN, "GET", "/admin/budgets?of=nobody")).json["data"]


async def test_there_is_one_budget_for_the_same_callers_and_period(sql_api: API) -> None:
    """409 for a second, whatever its amount; another period or time zone is another."""
    body = {"scope": "team", "of": "team_a", "amount_usd": "5"}
    taken = await sql_api.ask(ADMIN, "POST", "/admin/budgets", body)
    assert (409, "conflict", None) == taken.error
    for more in ({"period": "day"}, {"time_zone": "Asia/Tokyo"}, {"of": "team_b2"}):
        made = await sql_api.ask(ADMIN, "POST", "/admin/budgets", {**body, **more})
        assert 201 == made.status


BAD_BUDGETS: list[tuple[bytes, str | None]] = [
    (b'{"scope":"user","amount_usd":1e309}', None),
    (b'{"scope":"user","amount_usd":NaN}', None),
    (b'{"scope":"user","amount_usd":-1}', "amount_usd"),
    (b'{"scope":"user","amount_usd":"-0.01"}', "amount_usd"),
    (b'{"scope":"user","amount_usd":"NaN"}', "amount_usd"),
    (b'{"scope":"user","amount_usd":"1e3"}', "amount_usd"),
    (b'{"scope":"user","amount_usd":"1\\n"}', "amount_usd"),
    (b'{"scope":"user","amount_usd":1e300}', "amount_usd"),
    (b'{"scope":"user","amount_usd":null}', "amount_usd"),
    (b'{"scope":"user","amount_usd":true}', "amount_usd"),
    (b'{"scope":"user"}', "amount_usd"),
    (b'{"amount_usd":1}', "scope"),
    (b'{"scope":"tenant","amount_usd":1}', "scope"),
    (b'{"scope":"user","amount_usd":1,"period":"year"}', "period"),
    (b'{"scope":"user","amount_usd":1,"period":"rolling"}', "days"),
    (b'{"scope":"user","amount_usd":1,"days":3}', "days"),
    (b'{"scope":"user","amount_usd":1,"period":"rolling","days":0}', "days"),
    (b'{"scope":"user","amount_usd":1,"period":"rolling","days":1e309}', None),
    (b'{"scope":"user","amount_usd":1,"period":"rolling","days":99999}', "days"),
    (b'{"scope":"user","amount_usd":1,"time_zone":"Mars/Base"}', "time_zone"),
    (b'{"scope":"user","amount_usd":1,"time_zone":"../../etc/passwd"}', "time_zone"),
    (b'{"scope":"user","amount_usd":1,"time_zone":"Europe"}', "time_zone"),
    (b'{"scope":"user","amount_usd":1,"tag":"x"}', "tag"),
    (b'{"scope":"tag","amount_usd":1}', "tag"),
    (b'{"scope":"everyone","amount_usd":1,"of":"ada"}', "of"),
    (b'{"scope":"user","amount_usd":1,"of":""}', "of"),
    (b'{"scope":"user","amount_usd":1,"of":"a\\u0000"}', "of"),
    (b'{"scope":"user","amount_usd":1,"hard":1}', "hard"),
    (b'{"scope":"user","amount_usd":1,"alert_shares":[0]}', "alert_shares[0]"),
    (b'{"scope":"user","amount_usd":1,"alert_shares":[0.5,11]}', "alert_shares[1]"),
    (b'{"scope":"user","amount_usd":1,"alert_shares":["0"]}', "alert_shares[0]"),
    (b'{"scope":"user","amount_usd":1,"alert_shares":["NaN"]}', "alert_shares[0]"),
    (b'{"scope":"user","amount_usd":1,"name":" "}', "name"),
    (b'{"scope":"user","amount_usd":1,"id":"mine"}', "id"),
    (b'{"scope":"user","amount_usd":1,"created_at":"2026-01-01T00:00:00Z"}', "created_at"),
    (b'{"scope":"user","amount_usd":1,"spent_usd":0}', "spent_usd"),
    (b'{"scope":"user","amount_usd":1,"__class__":"x"}', "__class__"),
    (b'[{"scope":"user","amount_usd":1}]', None),
]


@pytest.mark.parametrize(("body", "param"), BAD_BUDGETS, ids=lambda value: str(value)[:60])
async def test_b35_bad_budgets_are_refused(memory_api: API, body: bytes, param: str | None) -> None:
    """422 that names the field, and nothing is stored."""
    before = await memory_api.snapshot()
    answer = await memory_api.ask(ADMIN, "POST", "/admin/budgets", body=body)
    assert (422, param) == (answer.status, answer.error[2]), answer.body
    assert before == await memory_api.snapshot()


@pytest.mark.parametrize(
    "field", ["scope", "of", "tag", "period", "days", "time_zone", "id", "use"]
)
async def test_what_a_budget_is_for_does_not_change(memory_api: API, field: str) -> None:
    """Another budget is another one: 422, and nothing is stored."""
    before = await memory_api.snapshot()
    answer = await memory_api.ask(
        ADMIN, "PATCH", "/admin/budgets/budget_team_a", {field: "user", "amount_usd": "1"}
    )
    assert (422, "unknown_field", field) == answer.error
    assert before == await memory_api.snapshot()


@pytest.mark.parametrize("caller", ["team_admin", "member"])
async def test_only_admins_change_budgets(memory_api: API, caller: str) -> None:
    """Nobody raises what they have themselves."""
    before = await memory_api.snapshot()
    for method, path, body in (
        ("POST", "/admin/budgets", {"scope": "user", "amount_usd": "1"}),
        ("PATCH", "/admin/budgets/budget_user_a", {"amount_usd": "1000000"}),
        ("DELETE", "/admin/budgets/budget_user_a", None),
    ):
        answer = await memory_api.ask(PEOPLE[caller], method, path, body)
        assert (403, "role_required", None) == answer.error
    assert before == await memory_api.snapshot()


# What is not there


async def test_paths_of_what_was_not_given_are_not_there() -> None:
    """Without a ledger and budgets: 404 for whoever asks, and 401 for nobody."""
    api = API(MemoryDirectory())
    for path in ("/admin/costs/summary", "/admin/usage", "/admin/usage.csv", "/admin/budgets"):
        assert (404, "not_found", None) == (await api.ask(ADMIN, "GET", path)).error
        assert 401 == (await api.ask(None, "GET", path)).status


def test_the_day_of_the_rows_is_known() -> None:
    """The tests above count on it."""
    assert datetime.date(2026, 9, 21) == moment().date()
