"""The commands of ``asgi-llm``."""

from __future__ import annotations

import json
import logging
import socket
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import BinaryIO, NoReturn

import click

import asgi_llm
from asgi_llm import _json
from asgi_llm.errors import ConfigurationError, InvalidRequestError
from asgi_llm.gateway._listing import capability_rows, columns, fitting_rows, model_rows
from asgi_llm.gateway._metrics_folder import metrics_folder
from asgi_llm.gateway._price_listing import UnknownNameError, price_rows
from asgi_llm.gateway._prices import make_prices, prices_of
from asgi_llm.gateway._schema import schema
from asgi_llm.gateway._welcome import welcome
from asgi_llm.gateway.build import Build, build
from asgi_llm.gateway.config import (
    CONFIG_VARIABLE,
    DEFAULT_FILE,
    Loaded,
    authenticates,
    hand_down,
    load,
    say_workers,
)
from asgi_llm.gateway.reload import ReloadingGateway
from asgi_llm.gateway.serve import ListenError, ServerConfig, is_loopback, listen
from asgi_llm.gateway.serve import run as run_server

__all__ = ["commands", "run"]

logger = logging.getLogger(__name__)

BAD_INPUT = 2
FAILURE = 1

_config_option = click.option(
    "--config",
    "-c",
    "config",
    metavar="FILE",
    help=f"Configuration file. Default: ${CONFIG_VARIABLE}, or {DEFAULT_FILE} in this directory, "
    "or else the providers whose keys are in the environment.",
)


def run(arguments: Sequence[str]) -> NoReturn:
    """Run one command and exit."""
    commands.main(args=list(arguments), prog_name="asgi-llm")
    sys.exit(0)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def commands() -> None:
    """An OpenAI-compatible LLM gateway.

    Without a configuration file `asgi-llm serve` offers the providers whose keys are in the
    environment, and an offline one named echo, which needs no key.
    """


@commands.command()
@_config_option
@click.option("--host", metavar="HOST", help="Address to listen on. Default: 127.0.0.1.")
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="PORT", help="Default: 4000; 0 takes any."
)
@click.option(
    "--workers", type=click.IntRange(1, 512), metavar="NUMBER", help="Processes. Default: 1."
)
@click.option(
    "--insecure",
    is_flag=True,
    help="Listen on an address that others can reach, though callers are not authenticated; and "
    "take keys that are easily guessed.",
)
def serve(
    config: str | None, host: str | None, port: int | None, workers: int | None, insecure: bool
) -> None:
    """Start the gateway."""
    if workers is not None:
        # Before it is built: limits that each process counts for itself are shared out.
        say_workers(workers)
    try:
        gateway = ReloadingGateway(config, insecure=insecure)
    except ConfigurationError as error:
        _fail(error.message, BAD_INPUT)
    loaded, built = gateway.loaded, gateway.built
    server = loaded.configuration.server
    host = host if host is not None else server.host
    port = port if port is not None else server.port
    workers = server.workers
    exposed = not (is_loopback(host) or authenticates(loaded.configuration))
    if exposed and not insecure:
        _fail(
            f"refusing to listen on {host}: callers are not authenticated, so anyone who can "
            "reach this address could spend your keys. Put auth into the stack, listen on "
            "127.0.0.1 behind a proxy that authenticates, or pass --insecure.",
            BAD_INPUT,
        )
    try:
        bound = listen(host, port)
    except ListenError as error:
        _fail(str(error), FAILURE)
    url = _url(host, bound)
    console = server.log_format == "console"
    text = welcome(loaded, built, url=url, workers=workers, exposed=exposed)

    def announce() -> None:
        if console:
            click.echo(text, err=True)
        else:
            logger.info("serving %s/v1", url)

    if workers > 1:
        hand_down(loaded.source, insecure=insecure)
    app = gateway if workers == 1 else "asgi_llm.gateway.serve:application"
    must_authenticate = not (insecure or is_loopback(host))
    serving = ServerConfig(app, server, workers=workers, must_authenticate=must_authenticate)
    with metrics_folder() if workers > 1 else nullcontext():
        status = run_server(serving, bound, announce)
    if console and status == 0:
        click.echo("Stopped.", err=True)
    sys.exit(status)


@commands.command()
@_config_option
def check(config: str | None) -> None:
    """Check the configuration without starting."""
    loaded, built = _load(config)
    for note in loaded.notes:
        click.echo(f"warning: {note}", err=True)
    providers, models = len(built.providers), len(built.models)
    click.echo(
        f"{loaded.source or 'The environment'} is valid: "
        f"{_count(providers, 'provider')}, {_count(models, 'model alias', 'model aliases')}."
    )


@commands.command()
@_config_option
@click.option(
    "--capabilities",
    is_flag=True,
    help="Say what each provider can be asked for, in place of its models.",
)
@click.option(
    "--for",
    "request",
    type=click.File("rb"),
    metavar="FILE",
    help="Say which of them can serve the request in this JSON file, and what others lack.",
)
def models(config: str | None, capabilities: bool, request: BinaryIO | None) -> None:
    """List the model names that clients can use."""
    loaded, built = _load(config)
    rows: Sequence[Sequence[str]]
    if request is not None:
        try:
            rows = fitting_rows(loaded, built, _json.decode(request.read()))
        except InvalidRequestError as error:
            _fail(f"{request.name}: {error.message}", BAD_INPUT)
    else:
        rows = capability_rows(loaded) if capabilities else model_rows(built)
    for line in columns(rows):
        click.echo(line)


@commands.command()
@_config_option
@click.argument("names", nargs=-1, required=True, metavar="MODEL...")
def prices(config: str | None, names: tuple[str, ...]) -> None:
    """Say what a model costs, and where that price is from.

    A MODEL is an alias, or PROVIDER/MODEL with a configured provider.
    """
    loaded, built = _load(config)
    now = datetime.now(UTC)
    try:
        table = make_prices(prices_of(loaded.configuration))
        rows = [row for name in names for row in price_rows(loaded, built, table, name, at=now)]
    except ConfigurationError as error:
        _fail(error.message, BAD_INPUT)
    except UnknownNameError as error:
        _fail(f"{error} is neither an alias nor PROVIDER/MODEL of this configuration", BAD_INPUT)
    for line in columns(rows):
        click.echo(line)


@commands.command("schema")
def print_schema() -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    click.echo(json.dumps(schema(), indent=2))


@commands.command()
def version() -> None:
    """Print the version."""
    click.echo(asgi_llm.__version__)


def _load(config: str | None) -> tuple[Loaded, Build]:
    try:
        loaded = load(config)
        return loaded, build(loaded)
    except ConfigurationError as error:
        _fail(error.message, BAD_INPUT)


def _fail(message: str, status: int) -> NoReturn:
    for line in message.splitlines():
        click.echo(f"error: {line}", err=True)
    sys.exit(status)


def _url(host: str, bound: socket.socket) -> str:
    address, port = bound.getsockname()[:2]
    if address in ("0.0.0.0", "::"):  # noqa: S104 - recognised, not bound
        address = "127.0.0.1" if address == "0.0.0.0" else "::1"  # noqa: S104
    elif host == "localhost":
        address = host
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
