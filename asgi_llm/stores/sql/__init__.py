"""Members, keys, the audit log, budgets and the ledger in SQLite or PostgreSQL.

The names below load SQLAlchemy when they are first used, and say how to install what is missing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from asgi_llm import _optional

if TYPE_CHECKING:
    from asgi_llm.stores.sql.budget_rules import StoredBudgets
    from asgi_llm.stores.sql.budgets import SQLBudgets
    from asgi_llm.stores.sql.directory import SQLDirectory
    from asgi_llm.stores.sql.engine import open_engine
    from asgi_llm.stores.sql.keys import SQLKeys
    from asgi_llm.stores.sql.ledger import SQLLedger
    from asgi_llm.stores.sql.migrations import create_schema, current, downgrade, upgrade
    from asgi_llm.stores.sql.semantic_index import SQLSemanticIndex

__all__ = [
    "SQLBudgets",
    "SQLDirectory",
    "SQLKeys",
    "SQLLedger",
    "SQLSemanticIndex",
    "StoredBudgets",
    "create_schema",
    "current",
    "downgrade",
    "open_engine",
    "upgrade",
]

_MODULES = {
    "SQLBudgets": ("asgi_llm.stores.sql.budgets", "sqlalchemy"),
    "SQLDirectory": ("asgi_llm.stores.sql.directory", "sqlalchemy"),
    "SQLKeys": ("asgi_llm.stores.sql.keys", "sqlalchemy"),
    "SQLLedger": ("asgi_llm.stores.sql.ledger", "sqlalchemy"),
    "StoredBudgets": ("asgi_llm.stores.sql.budget_rules", "sqlalchemy"),
    "SQLSemanticIndex": ("asgi_llm.stores.sql.semantic_index", "sqlalchemy"),
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
