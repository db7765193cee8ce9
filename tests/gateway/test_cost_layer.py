"""The layer ``cost`` of the prebuilt gateway, from the request to the row."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import hmac
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from asgi_llm.gateway.build import load_gateway
from asgi_llm.gateway.compose import Gateway
from asgi_llm.stores.journal import FileJournal
from asgi_llm.stores.key_material import new_key
from asgi_llm.stores.ledger import LedgerRow
from asgi_llm.testing import Recorder, Upstream, call, chat_answer, http_scope, json_reply
from asgi_llm.types import Cost, Usage

MASTER = new_key()
KEY = new_key()
JSON = (b"content-type", b"application/json")
SAYING: dict[str, Any] = {
    "model": "e/echo",
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 10,
}
DEAR = {"overrides": {"e": {"*": {"input": 0, "output": 0, "per_request": 1}}}}
"""Each call costs a USD."""


def configuration(folder: Path, cost: Any, *outer: Any, **more: Any) -> dict[str, Any]:
    """The offline provider at a USD a call, with a database in ``folder``."""
    return {
        "providers": {"e": {"type": "echo"}},
        "storage": {"database": f"sqlite:///{folder}/gateway.db"},
        "stack": [*outer, {"cost": {"prices": DEAR, **cost}}],
        **more,
    }


@asynccontextmanager
async def gateway_of(mapping: dict[str, Any]) -> AsyncIterator[Gateway]:
    """The gateway that ``mapping`` describes, started and ended."""
    gateway = load_gateway(mapping)
    async with asyncio.timeout(60), gateway.lifespan():
        yield gateway


async def ask(
    gateway: Gateway,
    key: str | None = None,
    path: str = "/v1/chat/completions",
    document: dict[str, Any] | None = None,
) -> Recorder:
    """A POST with ``key``: a chat, unless it says otherwise."""
    headers = [JSON] if key is None else [JSON, (b"authorization", b"Bearer " + key.encode())]
    scope = http_scope(path=path, headers=headers)
    return await call(gateway, scope, json=SAYING if document is None else document)


async def health(gateway: Gateway) -> tuple[int | None, Any]:
    """Status and body of ``/health/ready``."""
    answer = await call(gateway, http_scope(method="GET", path="/health/ready"))
    return answer.status, json.loads(answer.body)


def told(answer: Recorder) -> tuple[int | None, str | None]:
    """Status and code of an answer."""
    error = json.loads(answer.body).get("error")
    return answer.status, None if error is None else error["code"]


def rows_of(database: Path) -> list[dict[str, Any]]:
    """The rows of a ledger, oldest first."""
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute("SELECT * FROM llm_ledger ORDER BY at, id").fetchall()
    return [dict(row) for row in rows]


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Let everything else go on until ``is_so()``, for at most 20 seconds."""
    deadline = time.monotonic() + 20
    while not await is_so():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def make(gateway: Gateway, kind: str, **fields: Any) -> Any:
    """A member of the directory."""
    answer = await ask(gateway, MASTER, f"/admin/{kind}", fields)
    assert 201 == answer.status, answer.body
    return json.loads(answer.body)


async def test_budgets_of_keys_users_teams_and_organizations_hold_besides(tmp_path: Path) -> None:
    """Each is shared by all who belong to it, and the first without room refuses."""

    def budget(amount: int) -> list[dict[str, Any]]:
        return [{"amount_usd": str(amount), "period": "total"}]

    mapping = configuration(tmp_path, {}, {"auth": {"master_key": MASTER}})
    async with gateway_of(mapping) as gateway:
        organization = await make(gateway, "organizations", name="o", budgets=budget(9))
        inside = {"organization_id": organization["id"]}
        team = await make(gateway, "teams", name="t", budgets=budget(4), **inside)
        user = await make(gateway, "users", name="u", budgets=budget(3), **inside)
        first = await make(gateway, "keys", name="1", user_id=user["id"], budgets=budget(2))
        second = await make(gateway, "keys", name="2", user_id=user["id"], team_id=team["id"])
        third = await make(gateway, "keys", name="3", team_id=team["id"])
        refusals = {}
        for key, times in ((first, 3), (second, 2), (third, 4)):
            answers = [await ask(gateway, key["key"]) for _ in range(times)]
            statuses = [answer.status for answer in answers]
            assert [200] * (times - 1) + [400] == statuses
            refusals[key["name"]] = json.loads(answers[-1].body)["error"]["message"]
    assert [
        "The budget of this API key",
        "The budget of this user",
        "The budget of this team",
    ] == [refusals[name].partition(" has ")[0] for name in ("1", "2", "3")]
    rows = rows_of(tmp_path / "gateway.db")
    assert 6 == len(rows)
    assert {organization["id"]} == {row["organization_id"] for row in rows}
    assert {first["id"], second["id"], third["id"]} == {row["key_id"] for row in rows}


async def test_a_key_of_the_file_has_budgets_of_its_own(tmp_path: Path) -> None:
    """With no database for keys."""
    keys = [
        {"name": "poor", "key": KEY, "budgets": [{"amount_usd": 1, "period": "day"}]},
        {"name": "rich", "key": (other := new_key())},
    ]
    auth = {"auth": {"keys": keys, "database": False}}
    async with gateway_of(configuration(tmp_path, {}, auth)) as gateway:
        assert [200, 400] == [(await ask(gateway, KEY)).status for _ in range(2)]
        assert [200, 200] == [(await ask(gateway, other)).status for _ in range(2)]


async def test_what_was_spent_is_known_after_a_restart(tmp_path: Path) -> None:
    """In the database, which is where budgets are kept without Redis; memory forgets."""
    budgets = {"budgets": [{"scope": "everyone", "amount_usd": 1}]}
    for store, expected in (("auto", [200, 400]), ("memory", [200, 200])):
        statuses = []
        for _ in range(2):
            mapping = configuration(tmp_path, {**budgets, "budget_store": store})
            async with gateway_of(mapping) as gateway:
                statuses.append((await ask(gateway)).status)
        assert expected == statuses


def is_mapped(folder: Path) -> bool:
    """Whether this process has a file of the folder in its memory."""
    return str(folder) in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("maps", [True, False])
async def test_the_journal_lies_beside_the_database(tmp_path: Path, maps: bool) -> None:
    """And is empty when a gateway has ended well, for all its rows are in the ledger."""
    async with gateway_of(configuration(tmp_path, {"journal": {"map_segments": maps}})) as gateway:
        await ask(gateway)
        (lane,) = (tmp_path / "gateway.journal").iterdir()
        assert lane.is_dir()
        assert maps is is_mapped(lane)
    assert [] == list((tmp_path / "gateway.journal").iterdir())
    assert 1 == len(rows_of(tmp_path / "gateway.db"))


async def test_without_a_journal_the_row_is_there_with_the_answer(tmp_path: Path) -> None:
    """Nothing else is written to disk."""
    mapping = configuration(tmp_path, {"journal": {"enabled": False}})
    async with gateway_of(mapping) as gateway:
        answer = await ask(gateway)
        assert b"1" == answer.header("x-cost")
        assert ["complete"] == [row["outcome"] for row in rows_of(tmp_path / "gateway.db")]
        assert {"ledger": {"pending_rows": 0, "lost_rows": 0}} == (await health(gateway))[1][
            "details"
        ]
    assert not (tmp_path / "gateway.journal").exists()


async def test_prices_and_budgets_need_no_ledger(tmp_path: Path) -> None:
    """With it off, and budgets in memory, no database is made."""
    cost = {
        "ledger": {"enabled": False},
        "budget_store": "memory",
        "budgets": [{"scope": "everyone", "amount_usd": 1}],
    }
    async with gateway_of(configuration(tmp_path, cost)) as gateway:
        assert [200, 400] == [(await ask(gateway)).status for _ in range(2)]
    assert not (tmp_path / "gateway.db").exists()


async def test_b28_while_the_database_is_away_calls_go_on_and_rows_wait(tmp_path: Path) -> None:
    """The gateway is degraded, says how much waits, and catches up by itself."""
    folder = tmp_path / "away"
    mapping = configuration(folder, {"journal": {"folder": str(tmp_path / "journal")}})
    async with gateway_of(mapping) as gateway:
        assert [200] * 3 == [(await ask(gateway)).status for _ in range(3)]

        async def is_told() -> bool:
            return "ledger" in (await health(gateway))[1].get("failing", ())

        await until(is_told)
        status, body = await health(gateway)
        assert (200, ["budgets", "ledger"]) == (status, body["failing"])
        assert 3 == body["details"]["ledger"]["pending_rows"]
        folder.mkdir()

        async def is_well() -> bool:
            body = (await health(gateway))[1]
            return body["status"] == "ready" and not body["details"]["ledger"]["pending_rows"]

        await until(is_well)
    assert 3 == len(rows_of(folder / "gateway.db"))


@pytest.mark.parametrize(
    ("policy", "answer", "ready"),
    [
        ("allow", (200, None), (200, "degraded")),
        ("deny", (503, "store_unavailable"), (503, "not_ready")),
    ],
)
async def test_b29_a_journal_that_cannot_be_written_is_a_policy(
    tmp_path: Path, policy: str, answer: Any, ready: Any
) -> None:
    """Calls go on, or none is made; readiness says which, and recovers without a call."""
    obstacle = tmp_path / "obstacle"
    obstacle.write_text("no folder")
    cost = {"journal": {"folder": str(obstacle / "journal")}, "on_store_error": policy}
    async with gateway_of(configuration(tmp_path, cost)) as gateway:
        assert (200, "ready") == (lambda pair: (pair[0], pair[1]["status"]))(await health(gateway))
        assert answer == told(await ask(gateway))
        status, body = await health(gateway)
        assert ready == (status, body["status"])
        assert ["journal"] == body["failing"]
        obstacle.unlink()
        assert 200 == (await health(gateway))[0]
        assert (200, None) == told(await ask(gateway))
    # With allow what was not on disk is in the ledger all the same.
    assert {"allow": 2, "deny": 1}[policy] == len(rows_of(tmp_path / "gateway.db"))


@pytest.mark.parametrize(
    ("policy", "answer", "ready"),
    [("allow", 200, "degraded"), ("deny", 503, "not_ready")],
)
async def test_b28_budgets_that_cannot_be_asked_are_a_policy(
    tmp_path: Path, policy: str, answer: int, ready: str
) -> None:
    """Nobody listens at the address of Redis."""
    cost = {
        "budgets": [{"scope": "everyone", "amount_usd": 1}],
        "on_store_error": policy,
        "ledger": {"enabled": False},
    }
    mapping = configuration(tmp_path, cost)
    mapping["storage"]["redis"] = "redis://127.0.0.1:1/0"
    async with gateway_of(mapping) as gateway:
        assert [answer] * 4 == [(await ask(gateway)).status for _ in range(4)]
        body = (await health(gateway))[1]
        assert (ready, ["budgets"]) == (body["status"], body["failing"])
        assert 0 <= body["details"]["budgets"]["away_seconds"] < 20


async def test_an_alert_is_posted_signed_and_to_everybody(tmp_path: Path) -> None:
    """As JSON that Slack takes; a webhook that leads inside without leave is not called."""
    secret = "0123456789abcdef"
    async with Upstream() as upstream:
        upstream.script(json_reply({"ok": True}))
        inside = upstream.url.replace("http://", "https://")
        cost = {
            "budgets": [{"scope": "tag", "tag": "project", "amount_usd": 2, "alert_shares": [0.5]}],
            "webhooks": [
                {"url": f"{upstream.url}/signed", "secret": secret, "private": True},
                {"url": f"{upstream.url}/slack", "private": True},
                {"url": f"{inside}/not-called", "max_attempts": 1},
            ],
        }
        async with gateway_of(configuration(tmp_path, cost)) as gateway:
            document = {**SAYING, "metadata": {"project": "<!channel> & co"}}
            assert 200 == (await ask(gateway, document=document)).status

            async def are_told() -> bool:
                return len([row for row in upstream.ledger if row.complete]) == 2

            await until(are_told)
    requests = {row.request.path: row.request for row in upstream.ledger}
    assert {"/signed", "/slack"} == set(requests)
    signed = requests["/signed"]
    stamp, _, given = (signed.header("x-signature") or b"").decode().partition(",v1=")
    text = stamp.removeprefix("t=").encode() + b"." + signed.body
    assert hmac.new(secret.encode(), text, hashlib.sha256).hexdigest() == given
    assert requests["/slack"].header("x-signature") is None
    posted = requests["/slack"].json()
    assert (
        "50 % of the budget of tag project=&lt;!channel&gt; &amp; co is spent: 1 of 2 USD (month)"
        == posted["text"]
    )
    assert "<!channel> & co" == posted["budget"]["owner"]


async def test_where_a_name_is_resolved_late_the_price_is_that_of_who_served(
    tmp_path: Path,
) -> None:
    """A bare name whose provider is only known once it was asked for its list."""
    async with Upstream() as upstream:
        models = {"object": "list", "data": [{"id": "late", "object": "model", "created": 0}]}
        upstream.script(json_reply(models), json_reply(chat_answer(model="late")))
        mapping = configuration(
            tmp_path,
            {"prices": {"overrides": {"up": {"late": {"input": 1, "output": 10}}}}},
            providers={
                "up": {"type": "openai", "base_url": f"{upstream.url}/v1", "api_key": "k"},
                "e": {"type": "echo"},
            },
        )
        async with gateway_of(mapping) as gateway:
            answer = await ask(gateway, document={**SAYING, "model": "late"})
    assert b"0.000029" == answer.header("x-cost")
    assert [("up", "late")] == [
        (row["provider"], row["model"]) for row in rows_of(tmp_path / "gateway.db")
    ]


async def test_budgets_are_made_and_reports_read_while_it_runs(tmp_path: Path) -> None:
    """A budget of the admin API holds in the process that made it, and says how it stands."""
    auth = {"auth": {"master_key": MASTER, "keys": [{"name": "file", "key": KEY, "user": "ada"}]}}
    async with gateway_of(configuration(tmp_path, {}, auth)) as gateway:
        assert 200 == (await ask(gateway, KEY)).status
        made = await make(gateway, "budgets", scope="user", of="ada", amount_usd="1", period="day")
        statuses: list[int | None] = []
        async with asyncio.timeout(20):
            # The budget is new, so that what was spent before does not count.
            while not statuses or statuses[-1] == 200:
                statuses.append((await ask(gateway, KEY)).status)
                await asyncio.sleep(0.01)
        assert 400 == statuses[-1]

        async def look(path: str) -> Any:
            headers = [(b"authorization", b"Bearer " + MASTER.encode())]
            answer = await call(gateway, http_scope(method="GET", path=path, headers=headers))
            assert 200 == answer.status, answer.body
            return json.loads(answer.body)

        shown = await look(f"/admin/budgets/{made['id']}")
        assert ("1", "0") == (shown["use"]["spent_usd"], shown["use"]["reserved_usd"])
        served = statuses.count(200) + 1

        async def are_summed() -> bool:
            return bool((await look("/admin/costs/summary"))["totals"]["requests"] == served)

        await until(are_summed)
        document = await look("/openapi.json")
        assert {"/admin/costs/summary", "/admin/budgets/{id}"} < set(document["paths"])


async def test_without_the_layer_the_admin_api_has_nothing_of_it(tmp_path: Path) -> None:
    """Neither the paths nor their description."""
    mapping = configuration(tmp_path, {}, {"auth": {"master_key": MASTER}})
    mapping["stack"] = mapping["stack"][:1]
    async with gateway_of(mapping) as gateway:
        assert 404 == (await ask(gateway, MASTER, "/admin/budgets", {})).status
        described = await call(gateway, http_scope(method="GET", path="/openapi.json"))
        paths = json.loads(described.body)["paths"]
        assert [] == [path for path in paths if "budgets" in path or "costs" in path]


async def test_budgets_that_were_never_read_let_nothing_pass_where_that_is_declared(
    tmp_path: Path,
) -> None:
    """The database is away at the start; what is spent is in memory, and would be let through."""
    folder = tmp_path / "away"
    cost = {
        "on_store_error": "deny",
        "budget_store": "memory",
        "journal": {"folder": str(tmp_path / "journal")},
    }
    async with gateway_of(configuration(folder, cost)) as gateway:
        assert (503, "store_unavailable") == told(await ask(gateway))
        assert "not_ready" == (await health(gateway))[1]["status"]
        folder.mkdir()

        async def is_ready() -> bool:
            return (await health(gateway))[0] == 200

        await until(is_ready)
        assert (200, None) == told(await ask(gateway))


async def test_a_host_that_starts_nothing_gets_the_same(tmp_path: Path) -> None:
    """The first request waits for the tables, and is held to the budgets in them."""
    auth = {"auth": {"keys": [{"name": "file", "key": KEY}], "master_key": MASTER}}
    mapping = configuration(tmp_path, {"on_store_error": "deny"}, auth)
    async with gateway_of(mapping) as gateway:
        await make(gateway, "budgets", scope="everyone", amount_usd="0.5", period="total")
    gateway = load_gateway(mapping)
    async with asyncio.timeout(30):
        assert (400, "budget_exceeded") == told(await ask(gateway, KEY))
        await gateway.aclose()


async def test_a_host_that_starts_nothing_finds_what_others_left(tmp_path: Path) -> None:
    """With the first request: rows of a worker that is gone; at the end the journal is empty."""
    left = LedgerRow(
        id="left",
        request_id="of-another",
        attempt=1,
        at=datetime.datetime(2026, 11, 20, tzinfo=datetime.UTC),
        operation="chat",
        requested_model="m",
        usage=Usage(),
        cost=Cost(amount_usd=Decimal(2)),
        outcome="complete",
    )
    journal = FileJournal(tmp_path / "gateway.journal")
    journal.settle([left], intent=left.id)
    journal.close()
    gateway = load_gateway(configuration(tmp_path, {}))
    async with asyncio.timeout(30):
        assert (200, None) == told(await ask(gateway))

        async def are_both_there() -> bool:
            return len(rows_of(tmp_path / "gateway.db")) == 2

        await until(are_both_there)
        await gateway.aclose()
    assert "of-another" == rows_of(tmp_path / "gateway.db")[0]["request_id"]
    assert not any((tmp_path / "gateway.journal").iterdir())
