"""Alembic's entry: run the steps on the connection that ``migrations`` hands over."""

from __future__ import annotations

from alembic import context

from asgi_llm.stores.sql.budget_models import BudgetAccount
from asgi_llm.stores.sql.budget_rule_models import BudgetRuleRow
from asgi_llm.stores.sql.ledger_models import LedgerEntry
from asgi_llm.stores.sql.migrations import VERSION_TABLE

MODELS = (LedgerEntry, BudgetAccount, BudgetRuleRow)

context.configure(
    connection=context.config.attributes["connection"],
    # The same for all tables; only, those of every module must be imported.
    target_metadata=MODELS[0].metadata,
    version_table=VERSION_TABLE,
    # SQLite changes a table by making it anew.
    render_as_batch=True,
)
context.run_migrations()
