"""Budgets that are made while a gateway runs."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_TIME = sa.DateTime(timezone=True)
_AMOUNT = "usd >= 0 AND pico >= 0 AND pico < 1000000000000"


def _text(name: str, longest: int, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.String(longest), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "llm_budget_rules",
        _text("id", 64),
        _text("name", 200, nullable=True),
        _text("identity", 200),
        _text("scope", 16),
        _text("owner", 256, nullable=True),
        _text("tag", 64, nullable=True),
        _text("period", 16),
        sa.Column("days", sa.Integer()),
        _text("time_zone", 64),
        sa.Column("usd", sa.BigInteger(), nullable=False),
        sa.Column("pico", sa.BigInteger(), nullable=False),
        sa.Column("hard", sa.Boolean(), nullable=False),
        sa.Column("alert_shares", _JSON, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_llm_budget_rules")),
        sa.UniqueConstraint("identity", name=op.f("uq_llm_budget_rules_identity")),
        sa.CheckConstraint(_AMOUNT, name=op.f("ck_llm_budget_rules_amount")),
    )
    for columns in (["created_at", "id"], ["scope", "owner"]):
        op.create_index(
            op.f(f"ix_llm_budget_rules_{'_'.join(columns)}"), "llm_budget_rules", columns
        )
    op.create_table(
        "llm_budget_rules_revision",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_llm_budget_rules_revision")),
        sa.CheckConstraint("id = 1", name=op.f("ck_llm_budget_rules_revision_single")),
    )


def downgrade() -> None:
    for table in ("llm_budget_rules_revision", "llm_budget_rules"):
        op.drop_table(table)
