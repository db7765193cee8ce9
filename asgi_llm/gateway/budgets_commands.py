"""``asgi-llm budgets``: budgets, managed in the database itself, whether a gateway runs or not."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeVar

import click
import msgspec

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._database_option import BAD_INPUT, database_options, fail, find_stores, run
from asgi_llm.gateway._listing import columns
from asgi_llm.gateway._money_listing import budget_facts, budget_table
from asgi_llm.gateway.admin._budgets import BudgetManagement
from asgi_llm.gateway.admin._money_answers import budget_document, budget_listing
from asgi_llm.gateway.admin._money_bodies import CreateBudget, UpdateBudget, rule_of
from asgi_llm.gateway.admin._reading import MAX_PAGE, Listing, convert_body
from asgi_llm.gateway.admin._records import Caller
from asgi_llm.gateway.config import find_cost, load
from asgi_llm.stores import sql
from asgi_llm.stores.budget_rules import StoredBudget
from asgi_llm.stores.budgets import BudgetStore, demand_of
from asgi_llm.stores.budgets_redis import RedisBudgets
from asgi_llm.types import Principal

__all__ = ["budgets"]

T = TypeVar("T")

_CALLER: Final = Caller(principal=Principal(role="admin"), actor="command-line")
_REDIS_SECONDS: Final = 5.0


@click.group()
def budgets() -> None:
    """Budgets that stand beside those of the configuration and of keys, users and teams.

    A running gateway notices within seconds.
    """


_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@budgets.command("list")
@click.option("--scope", metavar="SCOPE", help="Of this scope, such as team.")
@click.option("--of", metavar="ID", help="For this id or pattern.")
@click.option(
    "--limit", type=click.IntRange(1, MAX_PAGE), default=50, help="How many. Default: 50."
)
@click.option("--after", metavar="CURSOR", help="Go on from where an earlier list ended.")
@_json_option
@database_options
def list_budgets(
    scope: str | None,
    of: str | None,
    limit: int,
    after: str | None,
    as_json: bool,
    database: str | None,
    config: str | None,
) -> None:
    """List budgets, newest first."""
    where = {name: value for name, value in (("scope", scope), ("of", of)) if value is not None}
    listing = Listing(where=where, limit=limit, after=after)
    page = run(_manage(database, config, lambda management: management.list(_CALLER, listing)))
    if as_json:
        _print_json(budget_listing(page.items, page.next))
        return
    for line in columns(budget_table(page.items)):
        click.echo(line)
    if page.next is not None:
        click.echo(f"There are more: --after {page.next}", err=True)


@budgets.command()
@click.argument("id")
@click.option("--of", metavar="ID", help="Whose it is, of a budget that each id has for itself.")
@_json_option
@database_options
def show(id: str, of: str | None, as_json: bool, database: str | None, config: str | None) -> None:
    """Show the budget of that ID and how it stands."""
    budget, status = run(
        _manage(database, config, lambda management: management.get(_CALLER, id, of))
    )
    if as_json:
        _print_json(budget_document(budget, status))
        return
    for line in columns(budget_facts(budget, status)):
        click.echo(line)


@budgets.command("set")
@click.option(
    "--scope",
    required=True,
    metavar="SCOPE",
    help="Who shares it: key, user, team, organization, model, tag or everyone.",
)
@click.option(
    "--of",
    metavar="ID",
    help="The one id, or pattern of models or of a tag's values. Default: each has its own.",
)
@click.option("--tag", metavar="NAME", help="Name of the tag, for the scope tag.")
@click.option("--amount", required=True, metavar="USD", help="US dollars, such as 100.")
@click.option(
    "--period",
    default="month",
    metavar="PERIOD",
    help="day, week, month, rolling or total. Default: month.",
)
@click.option("--days", type=int, metavar="NUMBER", help="Length of a rolling period.")
@click.option("--time-zone", metavar="ZONE", help="Where periods begin. Default: UTC.")
@click.option("--hard/--soft", default=None, help="Whether it refuses, or only tells.")
@click.option("--alerts", metavar="SHARES", help="Shares at which somebody is told, such as 0.8,1.")
@click.option("--name", metavar="NAME", help="What people call it.")
@_json_option
@database_options
def set_budget(as_json: bool, database: str | None, config: str | None, **given: Any) -> None:
    """Make a budget, or change the one for the same callers and period.

    What was spent stays spent.
    """
    shares = [part.strip() for part in (given.pop("alerts") or "").split(",") if part.strip()]
    given["amount_usd"] = given.pop("amount")
    fields = {name: value for name, value in given.items() if value is not None}
    if shares:
        fields["alert_shares"] = shares
    body, changes = run(_checked(fields))

    async def work(management: BudgetManagement) -> StoredBudget:
        found = await _same(management, body)
        if found is None:
            return await management.create(_CALLER, body)
        return await management.update(_CALLER, found.id, changes)

    budget = run(_manage(database, config, work, make_schema=True))
    if as_json:
        _print_json(budget_document(budget))
        return
    for line in columns(budget_facts(budget, None)):
        click.echo(line)


@budgets.command()
@click.argument("id")
@database_options
def remove(id: str, database: str | None, config: str | None) -> None:
    """Remove the budget of that ID."""
    run(_manage(database, config, lambda management: management.remove(_CALLER, id)))
    click.echo(f"{id} is removed.")


class _Bodies(NamedTuple):
    create: CreateBudget
    update: UpdateBudget


async def _checked(fields: dict[str, Any]) -> _Bodies:
    body = convert_body(fields, CreateBudget)
    rule_of(body)
    changeable = UpdateBudget.__struct_fields__
    changes = {name: value for name, value in fields.items() if name in changeable}
    return _Bodies(body, convert_body(changes, UpdateBudget))


async def _same(management: BudgetManagement, body: CreateBudget) -> StoredBudget | None:
    """The budget for the same callers and period."""
    wanted = rule_of(body)
    where = {"scope": wanted.scope, "period": wanted.period, "of": wanted.of, "tag": wanted.tag}
    after = None
    while True:
        listing = Listing(where=where, limit=MAX_PAGE, after=after)
        page = await management.list(_CALLER, listing)
        for one in page.items:
            if demand_of(one.rule, "").key == demand_of(wanted, "").key:
                found: StoredBudget = one
                return found
        if (after := page.next) is None:
            return None


class _Places(NamedTuple):
    """Where budgets are kept, and where spending is: the URL of a Redis, or the database."""

    database: str
    redis: str | None
    counts: bool
    """False where only the gateway's own memory knows what is spent."""


def _find_places(database: str | None, config: str | None) -> _Places:
    stores = find_stores(database, config)
    if database is not None:
        return _Places(stores.database, None, True)
    try:
        cost = find_cost(load(config).configuration)
    except ConfigurationError as error:
        fail(error.message, BAD_INPUT)
    kind = "auto" if cost is None else cost.budget_store
    redis = stores.redis if kind in ("auto", "redis") else None
    return _Places(stores.database, redis, kind != "memory")


async def _manage(
    database: str | None,
    config: str | None,
    work: Callable[[BudgetManagement], Awaitable[T]],
    *,
    make_schema: bool = False,
) -> T:
    """Do ``work`` in the database; one without tables gets them for ``make_schema``."""
    places = _find_places(database, config)
    engine = sql.open_engine(places.database)
    store: BudgetStore | None = None
    try:
        # An older schema is not touched: that is for `asgi-llm db upgrade`.
        if make_schema and await sql.current(places.database) is None:
            await sql.create_schema(engine)
        if places.redis is not None:
            store = RedisBudgets(places.redis, timeout_seconds=_REDIS_SECONDS)
        elif places.counts:
            store = sql.SQLBudgets(engine)
        return await work(BudgetManagement(sql.StoredBudgets(engine), store=store))
    finally:
        if store is not None:
            await store.aclose()
        await engine.dispose()


def _print_json(document: dict[str, Any]) -> None:
    click.echo(json.dumps(msgspec.to_builtins(document), indent=2))
