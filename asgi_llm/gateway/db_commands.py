"""``asgi-llm db``: the schema of the database."""

from __future__ import annotations

import click

from asgi_llm.gateway._database_option import database_options, find_stores, run
from asgi_llm.stores import sql

__all__ = ["db"]


@click.group()
def db() -> None:
    """The schema of the database.

    The gateway makes it at its first start; after that it is changed by these commands alone.
    """


@db.command()
@click.option(
    "--revision", metavar="REVISION", default="head", help="How far. Default: head, the newest."
)
@database_options
def upgrade(revision: str, database: str | None, config: str | None) -> None:
    """Bring the database up to date."""
    url = find_stores(database, config).database

    async def work() -> str | None:
        await sql.upgrade(url, revision)
        return await sql.current(url)

    click.echo(run(work()))


@db.command()
@database_options
def current(database: str | None, config: str | None) -> None:
    """Print the revision of the database, or none."""
    url = find_stores(database, config).database

    async def work() -> str | None:
        return await sql.current(url)

    click.echo(run(work()) or "none")
