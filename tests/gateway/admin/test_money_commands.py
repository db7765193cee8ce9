"""``asgi-llm usage`` and ``asgi-llm budgets``: what they print, where, and their exit status."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import subprocess
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pytest
from click.testing import CliRunner, Result
from sqlalchemy.ext.asyncio import AsyncEngine

from asgi_llm.gateway.budgets_commands import budgets
from asgi_llm.gateway.usage_commands import usage
from asgi_llm.stores import sql
from asgi_llm.stores.budgets import demand_of, to_pico
from asgi_llm.stores.directory import Page
from asgi_llm.types import BudgetRule
from tests.e2e.gateway_process import COMMAND, clean_environment
from tests.gateway.admin.money import fill_money, rule
from tests.services.postgres_server import PostgresServer, postgres_server, postgres_url
from tests.stores.ledger.rows import make_row

__all__ = ["PostgresServer", "postgres_server", "postgres_url"]

T = TypeVar("T")

SPAN = ("--start-date", "2026-09-01", "--end-date", "2026-09-30")


def work_on(url: str, work: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    """The result of ``work`` on a database."""

    async def run() -> T:
        engine = sql.open_engine(url)
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    return asyncio.run(run())


async def fill(engine: AsyncEngine) -> None:
    await sql.create_schema(engine)
    await fill_money(engine)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with the rows and budgets of two tenants, once of each kind."""
    found = f"sqlite:///{tmp_path}/money.db"
    if request.param == "postgres":
        found = request.getfixturevalue("postgres_url")
    work_on(found, fill)
    return found


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """The same in SQLite alone."""
    found = f"sqlite:///{tmp_path}/money.db"
    work_on(found, fill)
    return found


def invoke(command: Any, *arguments: str) -> Result:
    environ = {name: None for name in os.environ if name.startswith("ASGI_LLM")}
    return CliRunner().invoke(command, arguments, env=environ)


def cells(result: Result) -> list[list[str]]:
    assert 0 == result.exit_code, result.stderr
    return [line.split() for line in result.stdout.splitlines()]


# usage


def test_sums_by_group(url: str) -> None:
    """In columns, the dearest first, with the total below."""
    table = cells(invoke(usage, "--database", url, *SPAN, "--group-by", "team_id,model"))
    assert ["TEAM", "MODEL", "REQUESTS", "ERRORS"] == table[0][:4]
    assert ["team_a", "gpt-4o", "4", "0", "480", "200", "1.000000", "1.000000"] == table[1]
    assert ["TOTAL", "12", "0", "1440", "600", "3.000000", "2.000000"] == table[-1]
    assert 6 == len(table)
    one = cells(invoke(usage, "--database", url, *SPAN, "--user", "user_a_boss", "--group-by", ""))
    assert [["TOTAL", "3", "0", "360", "150", "0.750000", "0.500000"]] == one[1:]


def test_sums_as_json_are_those_of_the_api(url: str) -> None:
    """One object, with exact amounts."""
    result = invoke(usage, "--database", url, *SPAN, "--tag", "project=apollo", "--json")
    found = json.loads(result.stdout)
    assert ("costs.summary", 8, "2", [{"model": "gpt-4o"}]) == (
        found["object"],
        found["totals"]["requests"],
        found["totals"]["cost_usd"],
        [group["by"] for group in found["data"]],
    )


def test_rows_and_csv(url: str) -> None:
    """A page of rows with the cursor behind it; all of them as CSV."""
    result = invoke(usage, "--database", url, "--rows", "--team", "team_a", "--limit", "4")
    table = cells(result)
    assert 5 == len(table) and {"0.250000"} == {row[-2] for row in table[1:]}
    cursor = result.stderr.split()[-1]
    more = ("--rows", "--team", "team_a", "--limit", "4", "--after", cursor, "--json")
    rest = json.loads(invoke(usage, "--database", url, *more).stdout)
    assert (2, None) == (len(rest["data"]), rest["next"])
    lines = invoke(usage, "--database", url, "--csv", "--user", "user_b_boss").stdout
    rows = list(csv.DictReader(io.StringIO(lines)))
    assert 3 == len(rows) and {"user_b_boss"} == {row["user_id"] for row in rows}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--start-date", "9999-12-31"), "start_date: expected a year"),
        (("--start-date", "yesterday"), "start_date: expected a day"),
        (("--group-by", "password"), "group_by: expected of"),
        (("--tag", "apollo"), "tag: expected NAME=VALUE"),
        (("--limit", "5"), "limit: unknown parameter"),
        (("--rows", "--group-by", "model"), "group_by: unknown parameter"),
        (("--csv", "--json"), "--csv goes with neither"),
        (("--after", "x", "--rows"), "after: expected the next"),
    ],
)
def test_bad_questions(sqlite: str, arguments: tuple[str, ...], problem: str) -> None:
    """Status 2, and what is wrong on standard error alone."""
    result = invoke(usage, "--database", sqlite, *arguments)
    assert (2, "") == (result.exit_code, result.stdout)
    assert problem in result.stderr


def test_a_database_without_tables(tmp_path: Path) -> None:
    """Status 1 and what to do."""
    result = invoke(usage, "--database", f"sqlite:///{tmp_path}/empty.db")
    assert (1, "") == (result.exit_code, result.stdout)
    assert "asgi-llm db upgrade" in result.stderr


def test_nothing_reaches_the_terminal_that_it_would_act_on(tmp_path: Path) -> None:
    """Names that callers choose are shown without control characters."""

    async def evil(engine: AsyncEngine) -> None:
        await sql.create_schema(engine)
        await sql.SQLLedger(engine).record([make_row("1", user_id="a\x1b[2Jb", model="m\rx")])

    url = f"sqlite:///{tmp_path}/evil.db"
    work_on(url, evil)
    span = ("--start-date", "2026-03-01", "--end-date", "2026-03-31")
    for arguments in ((*span, "--group-by", "user_id,model"), ("--rows",)):
        shown = invoke(usage, "--database", url, *arguments).stdout
        assert "a?[2Jb" in shown and "\x1b" not in shown and "\r" not in shown


# budgets


def test_set_makes_a_budget_and_then_changes_it(url: str) -> None:
    """One for the same callers and period, with an entry in the log for each change."""
    where = ("--database", url, "--scope", "user", "--of", "ada", "--period", "day")
    made = json.loads(
        invoke(budgets, "set", *where, "--amount", "10", "--alerts", "0.5,1", "--json").stdout
    )
    changed = json.loads(invoke(budgets, "set", *where, "--amount", "20", "--json").stdout)
    assert (made["id"], "10", "20", ["0.5", "1"]) == (
        changed["id"],
        made["amount_usd"],
        changed["amount_usd"],
        changed["alert_shares"],
    )
    table = cells(invoke(budgets, "list", "--database", url, "--of", "ada"))
    assert [made["id"], "-", "user", "ada", "20", "day", "hard"] == table[1] and 2 == len(table)
    gone = invoke(budgets, "remove", made["id"], "--database", url)
    assert (0, f"{made['id']} is removed.\n") == (gone.exit_code, gone.stdout)
    again = invoke(budgets, "remove", made["id"], "--database", url)
    assert (1, "error: There is no such budget.\n") == (again.exit_code, again.stderr)

    async def log(engine: AsyncEngine) -> Page:
        target = f"budget:{made['id']}"
        return await sql.SQLDirectory(engine).audit_log(where={"target": target}, limit=10)

    assert [
        ("command-line", "budget.delete"),
        ("command-line", "budget.update"),
        ("command-line", "budget.create"),
    ] == [(entry.actor, entry.action) for entry in work_on(url, log).items]


def test_show_says_what_is_spent(url: str) -> None:
    """Out of the database, where the gateway counts by default."""

    async def spend(engine: AsyncEngine) -> None:
        store = sql.SQLBudgets(engine)
        for one, owner in ((rule(scope="team", of="team_a"), ""), (rule(scope="user"), "ada")):
            demands = [demand_of(one, owner)]
            await store.settle(demands, lease="l", actual=to_pico(Decimal("1.5")))
        await store.aclose()

    work_on(url, spend)
    lines = cells(invoke(budgets, "show", "budget_team_a", "--database", url))
    assert ["spent", "usd", "1.500000"] in lines and ["remaining", "usd", "98.500000"] in lines
    made = json.loads(
        invoke(
            budgets, "set", "--database", url, "--scope", "user", "--amount", "100", "--json"
        ).stdout
    )
    shown = invoke(budgets, "show", made["id"], "--of", "ada", "--database", url, "--json")
    assert "98.5" == json.loads(shown.stdout)["use"]["remaining_usd"]
    assert (
        None
        is json.loads(invoke(budgets, "show", made["id"], "--database", url, "--json").stdout)[
            "use"
        ]
    )


def test_the_first_set_makes_the_tables(tmp_path: Path) -> None:
    """As the first key does; the rule is what a gateway reads."""
    url = f"sqlite:///{tmp_path}/new.db"
    result = invoke(
        *(budgets, "set", "--database", url, "--scope", "model", "--of", "openai/*"),
        *("--amount", "5.5", "--period", "rolling", "--days", "7", "--soft"),
    )
    assert 0 == result.exit_code, result.stderr

    async def read(engine: AsyncEngine) -> list[BudgetRule]:
        stored = sql.StoredBudgets(engine)
        return [one.rule for one in (await stored.list(where={}, limit=10)).items]

    assert [
        rule(
            scope="model",
            of="openai/*",
            amount_usd=Decimal("5.5"),
            period="rolling",
            days=7,
            hard=False,
        )
    ] == work_on(url, read)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--scope", "tenant", "--amount", "1"), "scope: expected one of"),
        (("--scope", "user", "--amount", "-1"), "amount_usd: expected an amount"),
        (("--scope", "user", "--amount", "1e309"), "amount_usd: expected an amount"),
        (("--scope", "user", "--amount", "1", "--period", "rolling"), "days: it goes with"),
        (("--scope", "user", "--amount", "1", "--time-zone", "Mars"), "time_zone: expected"),
        (("--scope", "user", "--amount", "1", "--alerts", "x"), "alert_shares[0]: expected"),
        (("--scope", "tag", "--amount", "1"), "tag: it goes with"),
    ],
)
def test_bad_budgets(sqlite: str, arguments: tuple[str, ...], problem: str) -> None:
    """Status 2, and nothing is stored."""
    before = invoke(budgets, "list", "--database", sqlite, "--json").stdout
    result = invoke(budgets, "set", "--database", sqlite, *arguments)
    assert (2, "") == (result.exit_code, result.stdout)
    assert problem in result.stderr
    assert before == invoke(budgets, "list", "--database", sqlite, "--json").stdout


# As processes


def ask(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_as_processes_with_a_configuration(sqlite: str, tmp_path: Path) -> None:
    """The database is the one of the file; a gateway that counts in memory is not guessed at."""
    stack = "stack: [{cost: {budget_store: memory}}]"
    (tmp_path / "gateway.yaml").write_text(
        f"providers: {{e: {{type: echo}}}}\nstorage: {{database: '{sqlite}'}}\n{stack}\n"
    )
    summed = ask(tmp_path, "usage", *SPAN, "-c", "gateway.yaml", "--json")
    assert (0, 12) == (summed.returncode, json.loads(summed.stdout)["totals"]["requests"])
    shown = ask(tmp_path, "budgets", "show", "budget_team_a", "-c", "gateway.yaml", "--json")
    assert (0, None) == (shown.returncode, json.loads(shown.stdout)["use"])
    both = ask(tmp_path, "usage", "-c", "gateway.yaml", "--database", sqlite)
    assert (2, "error: --database and --config cannot go together\n") == (
        both.returncode,
        both.stderr,
    )
