"""The ``asgi-llm`` command, before anything is imported that may be missing."""

from __future__ import annotations

import importlib
import sys

from asgi_llm._optional import require
from asgi_llm.errors import ConfigurationError

__all__ = ["main"]

_NEEDED = ("click", "uvicorn", "yaml", "structlog")
_GROUPS = (
    ("asgi_llm.gateway.cache_commands", "cache"),
    ("asgi_llm.gateway.keys_commands", "keys"),
    ("asgi_llm.gateway.usage_commands", "usage"),
    ("asgi_llm.gateway.budgets_commands", "budgets"),
    ("asgi_llm.gateway.reconcile_command", "reconcile_command"),
    ("asgi_llm.gateway.db_commands", "db"),
    ("asgi_llm.gateway.embedder_commands", "embedder"),
    ("asgi_llm.gateway.guard_commands", "guard"),
    ("asgi_llm.gateway.worker_commands", "worker"),
)
"""Commands in modules of their own, most of them with commands within."""


def main() -> None:
    """Run the command line. Exits 0 when all is well, 1 on a failure, 2 on a wrong input."""
    try:
        for module in _NEEDED:
            require(module, extra="gateway")
    except ConfigurationError as error:
        sys.stderr.write(f"asgi-llm: {error.message}\n")
        sys.exit(2)
    # After the check above: these modules import what it looked for.
    commands = importlib.import_module("asgi_llm.gateway.commands")
    for module, group in _GROUPS:
        commands.commands.add_command(getattr(importlib.import_module(module), group))
    commands.run(sys.argv[1:])
