"""``asgi-llm reconcile``: a provider's export or invoice beside the ledger."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, BinaryIO, Final

import click

from asgi_llm.gateway._database_option import BAD_INPUT, database_options, fail, find_stores, run
from asgi_llm.gateway._listing import columns
from asgi_llm.gateway._money_listing import safe
from asgi_llm.gateway._provider_exports import (
    FIELDS,
    FORMATS,
    ExportError,
    ExportLine,
    read_export,
)
from asgi_llm.gateway._reconciliation import Measured, Reconciliation, reconcile
from asgi_llm.pricing import format_usd
from asgi_llm.stores import sql

__all__ = ["reconcile_command"]

_MOST_BYTES: Final = 200_000_000
_DIFFERS: Final = 1
_MOST_DAYS: Final = 3660
_MILLIONTH: Final = Decimal("0.000001")


@click.command("reconcile")
@click.argument("export", type=click.File("rb"))
@click.option(
    "--provider",
    required=True,
    metavar="NAME",
    help="What the provider is called in the configuration, and so in the ledger; more than one by "
    "commas.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Whose export it is. Default: the provider's, if it is called so; else columns.",
)
@click.option(
    "--column",
    "given_columns",
    metavar="FIELD=COLUMN",
    multiple=True,
    help="For any CSV: the column of day, model, requests, input_tokens, output_tokens or "
    "cost_usd; several with + between them are added up.",
)
@click.option(
    "--model",
    "given_models",
    metavar="EXPORT=LEDGER",
    multiple=True,
    help="What a model of the export is called in the ledger.",
)
@click.option(
    "--exact", is_flag=True, help="Tell versions of a model apart that differ by their date."
)
@click.option(
    "--tolerance",
    default="1%",
    metavar="SHARE",
    help="By how much two figures may differ, as in 0.5% or 0.005. Default: 1%.",
)
@click.option(
    "--tolerance-usd",
    default="0.01",
    metavar="USD",
    help="By how much two costs may differ all the same, for exports in cents. Default: 0.01.",
)
@click.option("--start-date", metavar="DAY", help="First day, in UTC. Default: the export's.")
@click.option("--end-date", metavar="DAY", help="Last day, included. Default: the export's.")
@click.option("--all", "show_all", is_flag=True, help="Show what agrees, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@database_options
def reconcile_command(
    export: BinaryIO,
    provider: str,
    form: str | None,
    given_columns: tuple[str, ...],
    given_models: tuple[str, ...],
    exact: bool,
    tolerance: str,
    tolerance_usd: str,
    start_date: str | None,
    end_date: str | None,
    show_all: bool,
    as_json: bool,
    database: str | None,
    config: str | None,
) -> None:
    """Compare EXPORT, a provider's usage or costs, with the ledger, by day and model.

    Takes the JSON of OpenAI's and Anthropic's usage and cost APIs, their CSV exports, and any CSV
    whose columns are named. Ends with 1 where the two differ by more than the tolerance.
    """
    providers = [part.strip() for part in provider.split(",") if part.strip()]
    if form is None:
        form = providers[0] if providers and providers[0] in FORMATS[:2] else "columns"
    if given_columns:
        form = "columns"
    chosen = _columns(given_columns)
    if form == "columns" and not ("day" in chosen and len(chosen.keys() - {"day", "model"}) > 0):
        fail("name the columns: --column day=... and one of what is compared", BAD_INPUT)
    share = _amount("--tolerance", tolerance)
    floor = _amount("--tolerance-usd", tolerance_usd)
    start, end = _day("--start-date", start_date), _day("--end-date", end_date)
    lines = _read(export, form, chosen)
    days = [line.day for line in lines]
    first, last = start or min(days), end or max(days)
    if first > last:
        fail("--start-date is behind the last day", BAD_INPUT)
    if (last - first).days > _MOST_DAYS:
        fail(f"these are more than {_MOST_DAYS} days: {first} to {last}", BAD_INPUT)
    if not any(first <= day <= last for day in days):
        fail(f"{export.name}: no line is of {first} to {last}", BAD_INPUT)
    models = dict(_pair("--model", one, "EXPORT=LEDGER") for one in given_models)

    async def work() -> Reconciliation:
        engine = sql.open_engine(find_stores(database, config).database)
        try:
            return await reconcile(
                sql.SQLLedger(engine),
                lines,
                providers=providers,
                models=models,
                exact=exact,
                tolerance=share,
                tolerance_usd=floor,
                start=first,
                end=last,
            )
        finally:
            await engine.dispose()

    found = run(work())
    if as_json:
        click.echo(json.dumps(_document(found, providers), indent=2))
    else:
        _print(found, show_all=show_all)
    sys.exit(0 if found.agrees else _DIFFERS)


def _read(export: BinaryIO, form: str, chosen: dict[str, Sequence[str]]) -> list[ExportLine]:
    data = export.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        fail(f"{export.name}: more than {_MOST_BYTES} bytes", BAD_INPUT)
    try:
        lines = read_export(data, format=form, columns=chosen)
    except ExportError as error:
        fail(f"{export.name}: {safe(str(error))}", BAD_INPUT)
    if not lines:
        fail(f"{export.name}: there is no usage in it", BAD_INPUT)
    return lines


def _pair(option: str, text: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        fail(f"{option}: expected {form}", BAD_INPUT)
    return name.strip(), value.strip()


def _columns(given: Sequence[str]) -> dict[str, Sequence[str]]:
    chosen: dict[str, Sequence[str]] = {}
    for text in given:
        field, column = _pair("--column", text, "FIELD=COLUMN")
        if field not in FIELDS:
            fail(f"--column: {field} is none of {', '.join(FIELDS)}", BAD_INPUT)
        names = [column] if field in ("day", "model") else column.split("+")
        chosen[field] = [name.strip() for name in names]
    return chosen


def _amount(option: str, text: str) -> Decimal:
    percent = option == "--tolerance" and text.endswith("%")
    try:
        amount = Decimal(text.removesuffix("%") if percent else text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or not 0 <= amount <= 1_000_000:
        fail(f"{option}: expected a number of at least 0, got {safe(text)}", BAD_INPUT)
    return amount / 100 if percent else amount


def _day(option: str, text: str | None) -> datetime.date | None:
    if text is None:
        return None
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError:
        fail(f"{option}: expected a day, as in 2027-01-31", BAD_INPUT)
    if not 1970 <= day.year < 3000:
        fail(f"{option}: expected a year from 1970 to 2999", BAD_INPUT)
    return day


def _print(found: Reconciliation, *, show_all: bool) -> None:
    rows = [("DAY", "MODEL", "FIGURE", "LEDGER", "PROVIDER", "DIFFERENCE", "SHARE")]
    for line in found.lines:
        for name, one in line.measures.items():
            if show_all or not one.agrees:
                rows.append((str(line.day), safe(line.model or "-"), name, *_figures(name, one)))
    for name, one in found.totals.items():
        rows.append(("TOTAL", "", name, *_figures(name, one)))
    for text in columns(rows):
        click.echo(text)
    differing = sum(not line.agrees for line in found.lines)
    click.echo(
        f"{found.start} to {found.end}: "
        + (
            "the ledger and the provider agree."
            if found.agrees
            else f"{differing} of {len(found.lines)} lines differ by more than the tolerance."
        )
    )


def _figures(name: str, one: Measured) -> tuple[str, str, str, str]:
    def shown(amount: Decimal) -> str:
        return f"{amount.quantize(_MILLIONTH):f}" if name == "cost_usd" else f"{amount:f}"

    sign = "+" if one.difference > 0 else ""
    return (
        shown(one.ledger),
        shown(one.export),
        sign + shown(one.difference),
        f"{one.share * 100:.2f}%",
    )


def _document(found: Reconciliation, providers: Sequence[str]) -> dict[str, Any]:
    def measures(given: Any) -> dict[str, Any]:
        return {
            name: {
                "ledger": format_usd(one.ledger),
                "export": format_usd(one.export),
                "difference": format_usd(one.difference),
                "agrees": one.agrees,
            }
            for name, one in given.items()
        }

    return {
        "object": "reconciliation",
        "providers": list(providers),
        "start": found.start.isoformat(),
        "end": found.end.isoformat(),
        "agrees": found.agrees,
        "totals": measures(found.totals),
        "data": [
            {
                "day": line.day.isoformat(),
                "model": line.model,
                "agrees": line.agrees,
                "measures": measures(line.measures),
            }
            for line in found.lines
        ],
    }
