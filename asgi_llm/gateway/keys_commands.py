"""``asgi-llm keys``: keys, managed in the database itself, whether a gateway runs or not."""

from __future__ import annotations

import datetime
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TextIO, TypeVar

import click

from asgi_llm.errors import InvalidRequestError, StoreError
from asgi_llm.gateway._database_option import (
    BAD_INPUT,
    FAILURE,
    Stores,
    database_options,
    fail,
    find_stores,
    run,
)
from asgi_llm.gateway._key_listing import key_facts, key_table
from asgi_llm.gateway._listing import columns
from asgi_llm.gateway.admin._answers import listing_document, member_document
from asgi_llm.gateway.admin._bodies import CreateKey, ImportKey
from asgi_llm.gateway.admin._forgetting import Invalidate
from asgi_llm.gateway.admin._management import Management
from asgi_llm.gateway.admin._reading import MAX_PAGE, Listing, convert_body, is_id
from asgi_llm.gateway.admin._records import Caller
from asgi_llm.gateway.admin._strength import check_key
from asgi_llm.stores import sql
from asgi_llm.stores.directory import ConflictError, Key
from asgi_llm.stores.keys_redis import RedisKeyCache
from asgi_llm.types import Principal

__all__ = ["keys"]

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])

_CALLER = Caller(principal=Principal(role="admin"), actor="command-line")
_DURATION = re.compile(r"([0-9]{1,6})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_MAX_IMPORT_BYTES = 10_000_000


@click.group()
def keys() -> None:
    """Keys of callers: made, listed, rotated and revoked in the database.

    A running gateway notices within seconds; at once where the configuration names a Redis.
    """


_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
_quiet_option = click.option("--quiet", "-q", is_flag=True, help="Print the key alone.")


def _grant_options(command: Command) -> Command:
    """What a key is made with, but for its name."""
    for option in reversed(
        (
            click.option("--organization", metavar="ID", help="The organization it belongs to."),
            click.option("--team", metavar="ID", help="The team it belongs to."),
            click.option("--user", metavar="ID", help="The user whose key it is."),
            click.option("--tier", metavar="NAME", help="A tier of the rate limits."),
            click.option(
                "--models",
                metavar="PATTERN",
                multiple=True,
                help="Models that it may call, such as 'openai/*'; more than one by commas, or by "
                "the option again. Default: all.",
            ),
            click.option(
                "--scopes", metavar="NAME", multiple=True, help="What else it may do, by name."
            ),
            click.option(
                "--role",
                type=click.Choice(("member", "team_admin", "admin")),
                default="member",
                help="What it may manage. Default: member.",
            ),
            click.option(
                "--expires",
                metavar="WHEN",
                help="A time with its zone, as in 2027-01-31T00:00:00Z, or from now, as in 30d "
                "(s, m, h, d or w). Default: never.",
            ),
            click.option(
                "--limits",
                metavar="LIMIT",
                multiple=True,
                help="Such as '60 requests/minute', in place of the tier's of the same kind.",
            ),
            click.option(
                "--budgets",
                metavar="AMOUNT/PERIOD",
                multiple=True,
                help="US dollars in a day, week, month or total, such as 100/month.",
            ),
            click.option(
                "--metadata", metavar="NAME=VALUE", multiple=True, help="A label for reports."
            ),
        )
    ):
        command = option(command)
    return command


@keys.command()
@click.option("--name", required=True, metavar="NAME", help="What people call it.")
@_grant_options
@_json_option
@_quiet_option
@database_options
def create(
    name: str,
    as_json: bool,
    quiet: bool,
    database: str | None,
    config: str | None,
    **given: Any,
) -> None:
    """Make a key and print it, this once."""
    body = run(_checked({"name": name, **_grants(given)}, CreateKey))
    key, text = run(
        _manage(
            find_stores(database, config),
            lambda management: management.create_key(_CALLER, body),
            make_schema=True,
        )
    )
    _print_new(key, text, as_json=as_json, quiet=quiet)


@keys.command("import")
@click.argument("file", type=click.File("r", encoding="utf-8"), default="-")
@click.option("--name", metavar="NAME", help="For a line that has no name of its own.")
@_grant_options
@_json_option
@database_options
def import_keys(
    file: TextIO,
    name: str | None,
    as_json: bool,
    database: str | None,
    config: str | None,
    **given: Any,
) -> None:
    """Take keys that exist elsewhere, from FILE or from standard input.

    Each line is a key, or a name, a space and a key. All lines are checked before any is taken.
    """
    common = _grants(given)
    bodies = []
    for number, line in enumerate(_lines(file), start=1):
        *words, text = line.split()
        document = {**common, "name": " ".join(words) or name, "key": text}
        if document["name"] is None:
            fail(f"line {number}: there is no name; give --name", BAD_INPUT)
        try:
            body = convert_body(document, ImportKey)
            check_key(text)
        except InvalidRequestError as error:
            fail(f"line {number}: {error.message}", BAD_INPUT)
        bodies.append((number, body))
    if not bodies:
        fail("there is no key to import", BAD_INPUT)

    async def take(management: Management) -> tuple[list[Key], list[str]]:
        taken, refused = [], []
        for number, body in bodies:
            try:
                key, _ = await management.create_key(_CALLER, body)
            except ConflictError as error:
                refused.append(f"line {number}: {error}")
            else:
                taken.append(key)
        return taken, refused

    taken, refused = run(_manage(find_stores(database, config), take, make_schema=True))
    _print_list(taken, None, as_json=as_json)
    if refused:
        fail("\n".join(refused), FAILURE)


@keys.command("list")
@click.option("--organization", metavar="ID", help="Of this organization.")
@click.option("--team", metavar="ID", help="Of this team.")
@click.option("--user", metavar="ID", help="Of this user.")
@click.option("--active/--inactive", default=None, help="Only those that are, or are not.")
@click.option(
    "--limit", type=click.IntRange(1, MAX_PAGE), default=50, help="How many. Default: 50."
)
@click.option("--after", metavar="CURSOR", help="Go on from where an earlier list ended.")
@_json_option
@database_options
def list_keys(
    organization: str | None,
    team: str | None,
    user: str | None,
    active: bool | None,
    limit: int,
    after: str | None,
    as_json: bool,
    database: str | None,
    config: str | None,
) -> None:
    """List keys, newest first."""
    filters = {
        "organization_id": organization,
        "team_id": team,
        "user_id": user,
        "active": active,
    }
    where = {field: value for field, value in filters.items() if value is not None}
    if any(isinstance(value, str) and not is_id(value) for value in where.values()):
        fail("an id has at most 64 letters, digits and . _ : @ | + = -", BAD_INPUT)
    listing = Listing(where=where, limit=limit, after=after)
    page = run(
        _manage(
            find_stores(database, config),
            lambda management: management.list(Key, _CALLER, listing),
        )
    )
    _print_list(page.items, page.next, as_json=as_json)


@keys.command()
@click.argument("id")
@_json_option
@database_options
def show(id: str, as_json: bool, database: str | None, config: str | None) -> None:
    """Show the key of that ID, without its text."""
    key = run(
        _manage(find_stores(database, config), lambda management: management.get(Key, _CALLER, id))
    )
    _print_one(key, as_json=as_json)


@keys.command()
@click.argument("id")
@click.option(
    "--grace",
    "grace_seconds",
    type=click.IntRange(0, 2_592_000),
    default=0,
    metavar="SECONDS",
    help="How long the old one works on. Default: 0, which ends it now.",
)
@_json_option
@_quiet_option
@database_options
def rotate(
    id: str,
    grace_seconds: int,
    as_json: bool,
    quiet: bool,
    database: str | None,
    config: str | None,
) -> None:
    """Give the key of that ID a new text, and print it, this once."""
    key, text = run(
        _manage(
            find_stores(database, config),
            lambda management: management.rotate(_CALLER, id, grace_seconds),
        )
    )
    _print_new(key, text, as_json=as_json, quiet=quiet)


@keys.command()
@click.argument("id")
@_json_option
@database_options
def revoke(id: str, as_json: bool, database: str | None, config: str | None) -> None:
    """End the key of that ID, for good."""
    key = run(
        _manage(find_stores(database, config), lambda management: management.revoke(_CALLER, id))
    )
    _print_one(key, as_json=as_json)


async def _manage(
    stores: Stores, work: Callable[[Management], Awaitable[T]], *, make_schema: bool = False
) -> T:
    """Do ``work`` in the database; one without tables gets them for ``make_schema``."""
    engine = sql.open_engine(stores.database)
    cache: RedisKeyCache | None = None
    try:
        # An older schema is not touched: that is for `asgi-llm db upgrade`.
        if make_schema and await sql.current(stores.database) is None:
            await sql.create_schema(engine)
        if stores.redis is not None:
            cache = RedisKeyCache(sql.SQLKeys(engine), redis=stores.redis)
        invalidate = _telling(cache) if cache else None
        return await work(Management(sql.SQLDirectory(engine), invalidate=invalidate))
    finally:
        if cache is not None:
            await cache.aclose()
        await engine.dispose()


def _telling(cache: RedisKeyCache) -> Invalidate:
    """Tells all workers of changed keys, and people if that fails."""

    async def tell(digests: Sequence[bytes]) -> None:
        try:
            await cache.invalidate(digests)
        except StoreError:
            click.echo("warning: Redis does not answer; gateways notice within seconds", err=True)

    return tell


async def _checked(document: dict[str, Any], definition: type[CreateKey]) -> CreateKey:
    return convert_body(document, definition)


def _grants(given: dict[str, Any]) -> dict[str, Any]:
    """The options of ``_grant_options`` as the fields of a body, those not given left out."""
    fields: dict[str, Any] = {
        "organization_id": given["organization"],
        "team_id": given["team"],
        "user_id": given["user"],
        "tier": given["tier"],
        "role": given["role"],
        "models": _split(given["models"]) or None,
        "scopes": _split(given["scopes"]) or None,
        "limits": _split(given["limits"]) or None,
        "budgets": [_budget(text) for text in _split(given["budgets"])] or None,
        "metadata": dict(_label(text) for text in given["metadata"]) or None,
        "expires_at": _expiry(given["expires"]) if given["expires"] else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _split(values: Iterable[str]) -> list[str]:
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def _budget(text: str) -> dict[str, str]:
    amount, _, period = text.partition("/")
    return {"amount_usd": amount.strip(), "period": period.strip()}


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        fail("--metadata: expected NAME=VALUE", BAD_INPUT)
    return name, value


def _expiry(text: str) -> str:
    """A duration as the time when it is over; anything else as it is."""
    found = _DURATION.fullmatch(text)
    if found is None:
        return text
    end = min(time.time() + int(found[1]) * _SECONDS[found[2]], 253e9)
    return datetime.datetime.fromtimestamp(end, datetime.UTC).isoformat()


def _lines(file: TextIO) -> list[str]:
    """The lines of ``file`` that hold something; one key, typed unseen, at a terminal."""
    if file.isatty():
        return [click.prompt("Key", hide_input=True, err=True)]
    try:
        text = file.read(_MAX_IMPORT_BYTES + 1)
    except UnicodeDecodeError:
        fail("the keys are not UTF-8 text", BAD_INPUT)
    if len(text) > _MAX_IMPORT_BYTES:
        fail(f"more than {_MAX_IMPORT_BYTES} characters to import", BAD_INPUT)
    return [line for line in text.splitlines() if line.strip()]


def _print_new(key: Key, text: str, *, as_json: bool, quiet: bool) -> None:
    if quiet:
        click.echo(text)
    elif as_json:
        click.echo(json.dumps(member_document(key, key=text), indent=2))
    else:
        for line in columns([*key_facts(key), ("key", text)]):
            click.echo(line)
        click.echo("The key is shown this once; keep it where secrets are kept.", err=True)


def _print_one(key: Key, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(member_document(key), indent=2))
        return
    for line in columns(key_facts(key)):
        click.echo(line)


def _print_list(items: Sequence[Key], following: str | None, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(listing_document(items, following), indent=2))
        return
    for line in columns(key_table(items)):
        click.echo(line)
    if following is not None:
        click.echo(f"There are more: --after {following}", err=True)
