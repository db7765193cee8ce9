"""Budgets in SQL: what requests are told of them, without asking, and when."""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.middleware._cost_budgets import BudgetPlanner
from asgi_llm.stores.budget_rules import StoredBudget
from asgi_llm.stores.directory import ConflictError
from asgi_llm.stores.sql.budget_rules import StoredBudgets
from asgi_llm.stores.sql.directory import SQLDirectory
from asgi_llm.stores.sql.engine import open_engine
from asgi_llm.types import BudgetRule, Principal
from tests.stores.sql.members import entry

NOW = datetime.datetime(2026, 9, 21, 12, tzinfo=datetime.UTC)
ADA = Principal(key_id="k", user_id="ada", team_id="t", organization_id="o")


class Time:
    """Seconds that tests let pass."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest_asyncio.fixture
async def budgets(engine: AsyncEngine, time: Time) -> AsyncIterator[StoredBudgets]:
    """Budgets that are asked for again after two seconds."""
    found = StoredBudgets(engine, clock=time)
    await found.ready()
    yield found
    await found.aclose()


def rule(**fields: Any) -> BudgetRule:
    return BudgetRule(**{"scope": "user", "amount_usd": Decimal(10), **fields})


async def add(budgets: StoredBudgets, id: str, **fields: Any) -> None:
    budget = StoredBudget(id=id, rule=rule(**fields), created_at=NOW, updated_at=NOW)
    await budgets.add(budget, entry())


async def settled(budgets: StoredBudgets, principal: Principal = ADA) -> list[BudgetRule]:
    """What ``rules_for`` gives once what it has begun is done."""
    budgets.rules_for(principal)
    begun = [task for task in asyncio.all_tasks() if task.get_name() == "refresh-budgets"]
    if begun:
        await asyncio.wait(begun, timeout=10)
    return list(budgets.rules_for(principal))


async def test_a_caller_gets_their_own_and_those_of_all(budgets: StoredBudgets) -> None:
    """Of the ids that are named those that fit; models and tags whatever the request is."""
    all_rules = [
        rule(scope="key", of="k"),
        rule(scope="user", of="ada"),
        rule(scope="team", of="t"),
        rule(scope="organization", of="o"),
        rule(scope="user"),
        rule(scope="everyone"),
        rule(scope="model", of="openai/*"),
        rule(scope="tag", tag="project", of="apollo"),
    ]
    for number, one in enumerate(all_rules):
        await budgets.add(
            StoredBudget(id=str(number), rule=one, created_at=NOW, updated_at=NOW), entry()
        )
    await budgets.refresh()
    assert {*all_rules} == {*budgets.rules_for(ADA)}
    common = {one for one in all_rules if one.of is None or one.scope in ("model", "tag")}
    assert common == {*budgets.rules_for(Principal(key_id="other", user_id="bob"))}
    assert common == {*budgets.rules_for(Principal())}


async def test_another_process_is_noticed_after_two_seconds(
    budgets: StoredBudgets, engine: AsyncEngine, time: Time
) -> None:
    """In the background, without a request that waits; what is new, changed, and gone."""
    other = StoredBudgets(engine)
    await add(other, "one", of="ada")
    time.now = 1.9
    assert [] == await settled(budgets)
    time.now = 2.0
    assert [] == list(budgets.rules_for(ADA))
    assert [rule(of="ada")] == await settled(budgets)
    await other.update("one", {"amount_usd": Decimal("2.5"), "hard": False}, NOW, entry())
    time.now = 4.0
    assert [rule(of="ada", amount_usd=Decimal("2.5"), hard=False)] == await settled(budgets)
    assert await other.remove("one", entry())
    time.now = 6.0
    assert [] == await settled(budgets)


async def test_ones_own_changes_are_noticed_by_the_next_request(budgets: StoredBudgets) -> None:
    """No need to wait for two seconds in the process that made them."""
    await add(budgets, "one", of="ada")
    assert [rule(of="ada")] == await settled(budgets)


async def test_budgets_are_read_again_only_when_they_changed(
    budgets: StoredBudgets, time: Time, engine: AsyncEngine
) -> None:
    """Asking costs one row: what changes without the number is not looked at."""
    await add(budgets, "one", of="ada")
    await budgets.refresh()
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE llm_budget_rules SET usd = 7"))
    time.now = 10
    assert [rule(of="ada")] == await settled(budgets)


async def test_writers_at_once_are_all_counted(engine: AsyncEngine, time: Time) -> None:
    """Twenty at the same time: no change is lost to those who look in between."""
    reader = StoredBudgets(engine, clock=time)
    await reader.ready()
    writers = [StoredBudgets(engine) for _ in range(4)]

    async def look() -> None:
        for _ in range(20):
            await reader.refresh()

    async with asyncio.timeout(60):
        await asyncio.gather(
            look(),
            *(add(writers[n % 4], str(n), scope="key", of=f"k{n}") for n in range(20)),
        )
    await reader.refresh()
    for number in range(20):
        assert 1 == len(reader.rules_for(Principal(key_id=f"k{number}")))
    await reader.aclose()


async def test_a_database_that_is_away_changes_nothing(
    budgets: StoredBudgets, time: Time, engine: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """The last known budgets hold; it is said once, and over when the database is back."""
    await add(budgets, "one", of="ada")
    await budgets.refresh()
    async with engine.begin() as connection:
        await connection.execute(
            text("ALTER TABLE llm_budget_rules_revision RENAME TO llm_elsewhere")
        )
    with caplog.at_level(logging.WARNING):
        for now in (10.0, 20.0, 30.0):
            time.now = now
            assert [rule(of="ada")] == await settled(budgets)
    assert not budgets.available
    assert 1 == len([one for one in caplog.records if "last known" in one.getMessage()])
    async with engine.begin() as connection:
        await connection.execute(
            text("ALTER TABLE llm_elsewhere RENAME TO llm_budget_rules_revision")
        )
    time.now = 40
    assert [rule(of="ada")] == await settled(budgets)
    assert budgets.available


async def test_without_tables_nothing_is_ready() -> None:
    """StoreError that says what to do."""
    engine = open_engine("sqlite://")
    with pytest.raises(StoreError, match="asgi-llm db upgrade"):
        await StoredBudgets(engine).ready()
    await engine.dispose()


async def test_nonsense_of_others_stops_nobody(
    budgets: StoredBudgets, engine: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """A row that something else wrote is left out, and said in the log."""
    await add(budgets, "good", of="ada")
    await add(budgets, "bad", of="bob")
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE llm_budget_rules SET time_zone = 'Mars' WHERE id = 'bad'")
        )
    reader = StoredBudgets(engine)
    await reader.ready()
    assert [rule(of="ada")] == list(reader.rules_for(ADA))
    assert "bad" in caplog.text
    await reader.aclose()


async def test_one_rule_for_the_same_callers_and_period(
    budgets: StoredBudgets, engine: AsyncEngine
) -> None:
    """A second is refused with its audit entry; another period is another rule."""
    await add(budgets, "one", of="ada")
    log = SQLDirectory(engine)
    before = await log.audit_log(where={}, limit=10)
    with pytest.raises(ConflictError, match="same callers and period"):
        await add(budgets, "two", of="ada", amount_usd=Decimal(5), hard=False)
    assert before == await log.audit_log(where={}, limit=10)
    await add(budgets, "two", of="ada", period="day")
    assert None is await budgets.update("nobody", {"name": "x"}, NOW, entry())
    assert not await budgets.remove("nobody", entry())
    assert 2 == len((await log.audit_log(where={}, limit=10)).items)


async def test_bad_values_are_refused(budgets: StoredBudgets, engine: AsyncEngine) -> None:
    """Rules that make no sense, fields that are not ones, options out of range."""
    with pytest.raises(ConfigurationError):
        await add(budgets, "one", amount_usd=Decimal(-1))
    with pytest.raises(ValueError, match="scope is none of"):
        await budgets.update("one", {"scope": "key"}, NOW, entry())
    with pytest.raises(ValueError, match="id is none of"):
        await budgets.list(where={"id": "one"}, limit=1)
    assert None is await budgets.get("a\0b")
    for seconds in (0, float("inf"), float("nan")):
        with pytest.raises(ConfigurationError) as caught:
            StoredBudgets(engine, fresh_seconds=seconds)
        assert "fresh_seconds" == caught.value.param
    with pytest.raises(ConfigurationError, match="max_budgets"):
        StoredBudgets(engine, max_budgets=0)


async def test_there_are_so_many_at_most(engine: AsyncEngine) -> None:
    """Every worker has all of them in memory."""
    few = StoredBudgets(engine, max_budgets=2)
    for id in ("one", "two"):
        await add(few, id, of=id)
    with pytest.raises(ConflictError, match="There are 2 budgets already"):
        await add(few, "three", of="three")
    assert 2 == len((await few.list(where={}, limit=10)).items)


async def test_a_rule_of_a_tag_counts_for_requests_with_that_tag(budgets: StoredBudgets) -> None:
    """As the layer plans: the same caller with another value has another plan."""
    await add(budgets, "one", scope="tag", tag="project", of="apollo")
    await budgets.refresh()
    planner = BudgetPlanner((), budgets.rules_for)
    own = tuple(budgets.rules_for(ADA))
    plans = [
        len(planner.find(ADA, "gpt-4o", {"project": name} if name else {}, own).demands)
        for name in ("apollo", "gemini", "", "apollo")
    ]
    assert [1, 0, 0, 1] == plans
