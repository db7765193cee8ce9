"""Organizations, teams, users, keys, the audit log and the ledger in SQLite or PostgreSQL.

The names below load SQLAlchemy when they are first used, and say how to install what is missing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from asgi_llm import _optional

if TYPE_CHECKING:
    from asgi_llm.stores.sql.directory import SQLDirectory
    from asgi_llm.stores.sql.engine import open_engine
    from asgi_llm.stores.sql.keys import SQLKeys
    from asgi_llm.stores.sql.ledger import SQLLedger
    from asgi_llm.stores.sql.migrations import create_schema, current, downgrade, upgrade

__all__ = [
    "SQLDirectory",
    "SQLKeys",
    "SQLLedger",
    "create_schema",
    "current",
    "downgrade",
    "open_engine",
    "upgrade",
]

_MODULES = {
    "SQLDirectory": ("asgi_llm.stores.sql.directory", "sqlalchemy"),
    "SQLKeys": ("asgi_llm.stores.sql.keys", "sqlalchemy"),
    "SQLLedger": ("asgi_llm.stores.sql.ledger", "sqlalchemy"),
    "create_schema": ("asgi_llm.stores.sql.migrations", "alembic"),
    "current": ("asgi_llm.stores.sql.migrations", "alembic"),
    "downgrade": ("asgi_llm.stores.sql.migrations", "alembic"),
    "open_engine": ("asgi_llm.stores.sql.engine", "sqlalchemy"),
    "upgrade": ("asgi_llm.stores.sql.migrations", "alembic"),
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, package = _MODULES[name]
    _optional.require(package, extra="sql")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value
