"""What a running process cannot change, and keeps as it was when it started."""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from asgi_llm.gateway._cost_definitions import CostDefinition
from asgi_llm.gateway._definitions import Configuration, ServerDefinition
from asgi_llm.gateway._telemetry_definitions import TelemetryDefinition
from asgi_llm.gateway.config import find_cost, find_telemetry

__all__ = ["keep_fixed", "keep_server"]

_SERVER: Final = (
    "host",
    "port",
    "workers",
    "max_connections",
    "header_timeout_seconds",
    "keep_alive_seconds",
    "graceful_shutdown_seconds",
    "trusted_proxies",
    "log_format",
    "log_level",
)
"""What the server was started with, and what was shared out among its processes."""


def keep_server(
    running: ServerDefinition, wanted: Configuration
) -> tuple[Configuration, tuple[str, ...]]:
    """``wanted`` as far as a server that was started with ``running`` can have it, and the keys."""
    server, names = _kept(running, wanted.server, _SERVER)
    return replace(wanted, server=server), tuple([f"server.{name}" for name in names])


def keep_fixed(
    running: Configuration,
    wanted: Configuration,
    *,
    has_database: bool,
    told: TelemetryDefinition | None,
) -> tuple[Configuration, tuple[str, ...]]:
    """``wanted`` as far as it can be had now, and the keys of what needs a restart.

    The books stay where they are: a journal is shipped to the ledger that its calls were begun
    with, and budgets are counted where they were counted. Figures go on under the labels that they
    have: begun anew under others, what several workers have told would be counted again.

    Args:
        running: What the process does now.
        wanted: What it is to do.
        has_database: Whether the database is in use.
        told: The layer that has told figures in this process, be it there or gone; None: none has.
    """
    wanted, of_server = keep_server(running.server, wanted)
    keys = list(of_server)
    storage = wanted.storage
    if has_database:
        storage, one = _kept(running.storage, storage, ("database",))
        keys += [f"storage.{name}" for name in one]
    before, after = find_cost(running), find_cost(wanted)
    stack = wanted.stack
    if before is not None and after is not None and before.ledger.enabled and after.ledger.enabled:
        cost, one = _books(before, after)
        keys += [f"stack.cost.{name}" for name in one]
        if cost.ledger.delivery == "redis":
            storage, one = _kept(running.storage, storage, ("redis",))
            keys += [f"storage.{name}" for name in one]
        stack = tuple([cost if layer is after else layer for layer in stack])
    tells = find_telemetry(wanted)
    if told is not None and tells is not None and (told.max_users > 0) != (tells.max_users > 0):
        telemetry, one = _kept(told, tells, ("max_users",))
        keys += [f"stack.telemetry.{name}" for name in one]
        stack = tuple([telemetry if layer is tells else layer for layer in stack])
    return replace(wanted, storage=storage, stack=stack), tuple(keys)


def _books(before: CostDefinition, after: CostDefinition) -> tuple[CostDefinition, list[str]]:
    cost, keys = _kept(before, after, ("journal",))
    ledger, inner = _kept(before.ledger, after.ledger, ("delivery",))
    return replace(cost, ledger=ledger), [*keys, *(f"ledger.{name}" for name in inner)]


def _kept(running: Any, wanted: Any, names: tuple[str, ...]) -> tuple[Any, list[str]]:
    """``wanted`` with those fields as they are in ``running``, and the names that differed."""
    changed = {
        name: getattr(running, name)
        for name in names
        if getattr(running, name) != getattr(wanted, name)
    }
    return replace(wanted, **changed), list(changed)
