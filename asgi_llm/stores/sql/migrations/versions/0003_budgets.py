"""Budgets: what was spent, and what is reserved."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_AMOUNT = "usd >= 0 AND pico >= 0 AND pico < 1000000000000"


def _numbers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def upgrade() -> None:
    op.create_table(
        "llm_budget_accounts",
        sa.Column("key", sa.String(200), nullable=False),
        *_numbers("start"),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_llm_budget_accounts")),
    )
    op.create_table(
        "llm_budget_spending",
        sa.Column("key", sa.String(200), nullable=False),
        *_numbers("start", "usd", "pico"),
        sa.PrimaryKeyConstraint("key", "start", name=op.f("pk_llm_budget_spending")),
        sa.CheckConstraint(_AMOUNT, name=op.f("ck_llm_budget_spending_amount")),
    )
    op.create_table(
        "llm_budget_holds",
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("lease", sa.String(64), nullable=False),
        *_numbers("start", "usd", "pico", "deadline"),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("key", "lease", name=op.f("pk_llm_budget_holds")),
        sa.CheckConstraint(_AMOUNT, name=op.f("ck_llm_budget_holds_amount")),
    )
    op.create_index(op.f("ix_llm_budget_holds_deadline"), "llm_budget_holds", ["deadline"])


def downgrade() -> None:
    for table in ("llm_budget_holds", "llm_budget_spending", "llm_budget_accounts"):
        op.drop_table(table)
