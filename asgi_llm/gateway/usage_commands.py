"""``asgi-llm usage``: what was used and what it cost, read from the database itself."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import click
import msgspec

from asgi_llm.gateway._database_option import database_options, find_stores, run
from asgi_llm.gateway._listing import columns
from asgi_llm.gateway._money_listing import summary_table, usage_table
from asgi_llm.gateway.admin._money_answers import rows_document, summary_document
from asgi_llm.gateway.admin._reading import MAX_PAGE, Listing, read_query
from asgi_llm.gateway.admin._records import Caller
from asgi_llm.gateway.admin._routes import filters_of
from asgi_llm.gateway.admin._usage import UsageReports
from asgi_llm.stores import sql
from asgi_llm.types import Principal

__all__ = ["usage"]

T = TypeVar("T")

_CALLER: Final = Caller(principal=Principal(role="admin"), actor="command-line")


@click.command()
@click.option(
    "--start-date",
    metavar="DAY",
    help="A day in UTC, or a time with its zone. Default: the first of this month; for rows the "
    "first there is.",
)
@click.option(
    "--end-date", metavar="DAY", help="The last day, included; a time is not. Default: today."
)
@click.option(
    "--group-by",
    metavar="NAMES",
    help="By commas: user_id, key_id, team_id, organization_id, provider, model, operation, "
    "cached, and day or hour. Default: model.",
)
@click.option("--user", "user_id", metavar="ID", help="Of this user.")
@click.option("--key", "key_id", metavar="ID", help="Of the key of this id.")
@click.option("--team", "team_id", metavar="ID", help="Of this team.")
@click.option("--organization", "organization_id", metavar="ID", help="Of this organization.")
@click.option("--model", metavar="NAME", help="Of this model, in the provider's words.")
@click.option("--provider", metavar="NAME", help="Of this provider.")
@click.option("--tag", metavar="NAME=VALUE", help="Of requests with this tag; reads rows.")
@click.option("--rows", "as_rows", is_flag=True, help="List rows, newest first, and no sums.")
@click.option("--limit", type=click.IntRange(1, MAX_PAGE), help="Rows of a list. Default: 50.")
@click.option("--after", metavar="CURSOR", help="Go on from where an earlier list ended.")
@click.option("--csv", "as_csv", is_flag=True, help="Print all rows as CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@database_options
def usage(
    as_rows: bool,
    as_csv: bool,
    as_json: bool,
    database: str | None,
    config: str | None,
    **given: Any,
) -> None:
    """What was used and what it cost, in all and by group."""
    if as_csv and (as_rows or as_json):
        raise click.UsageError("--csv goes with neither --rows nor --json")
    action = "export" if as_csv else "rows" if as_rows else "summary"
    asked = {name: str(value) for name, value in given.items() if value is not None}
    listing = run(_read(action, asked))
    url = find_stores(database, config).database
    if as_csv:
        run(_ask(url, lambda reports: _print_csv(reports, listing)))
    elif as_rows:
        page = run(_ask(url, lambda reports: reports.rows(_CALLER, listing)))
        if as_json:
            _print_json(rows_document(page.rows, page.next))
            return
        _print_table(usage_table(page.rows))
        if page.next is not None:
            click.echo(f"There are more: --after {page.next}", err=True)
    else:
        summary = run(_ask(url, lambda reports: reports.summary(_CALLER, listing)))
        if as_json:
            _print_json(summary_document(summary))
            return
        _print_table(summary_table(summary, listing.where.get("group_by", ("model",))))
        if summary.truncated:
            click.echo("There are more groups; the total holds them all.", err=True)


async def _read(action: str, asked: dict[str, str]) -> Listing:
    """The options as the admin API reads them, so that both know the same."""
    filters, paged = filters_of(action)
    return read_query(urlencode(asked).encode(), filters, paged=paged)


async def _ask(url: str, work: Callable[[UsageReports], Awaitable[T]]) -> T:
    engine = sql.open_engine(url)
    try:
        return await work(UsageReports(sql.SQLLedger(engine), sql.SQLDirectory(engine)))
    finally:
        await engine.dispose()


async def _print_csv(reports: UsageReports, listing: Listing) -> None:
    async for lines in await reports.export(_CALLER, listing):
        click.echo(lines, nl=False)


def _print_table(rows: list[tuple[str, ...]]) -> None:
    for line in columns(rows):
        click.echo(line)


def _print_json(document: dict[str, Any]) -> None:
    click.echo(json.dumps(msgspec.to_builtins(document), indent=2))
