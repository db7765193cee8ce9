"""The ledger: rows, and their sums by the hour and by the day."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_TIME = sa.DateTime(timezone=True)
_TOKENS = (
    "input_uncached",
    "input_cached",
    "cache_write_5m",
    "cache_write_1h",
    "audio_in",
    "output_text",
    "reasoning",
    "audio_out",
)
_MONEY = ("cost_micros", "cost_picos", "saved_micros", "saved_picos")
_CALLERS = ("user_id", "key_id", "team_id", "organization_id")


def _texts(longest: int, *names: str, nullable: bool) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.String(longest), nullable=nullable) for name in names]


def _numbers(*names: str, nullable: bool = False) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.BigInteger(), nullable=nullable) for name in names]


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))


def upgrade() -> None:
    op.create_table(
        "llm_ledger",
        *_texts(64, "id", nullable=False),
        *_texts(200, "request_id", nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        *_texts(200, "operation", nullable=False),
        *_texts(200, *_CALLERS, nullable=True),
        sa.Column("tags", _JSON, nullable=False),
        *_texts(1000, "requested_model", nullable=False),
        *_texts(200, "model", "provider", nullable=True),
        *_texts(1000, "deployment", nullable=True),
        *_numbers(*_TOKENS),
        sa.Column("usage_estimated", sa.Boolean(), nullable=False),
        *_numbers(*_MONEY, nullable=True),
        sa.Column("cost", _JSON, nullable=False),
        sa.Column("cached", sa.Boolean(), nullable=False),
        *_texts(200, "cache_type", nullable=True),
        sa.Column("status", sa.Integer()),
        *_texts(200, "error_code", nullable=True),
        sa.Column("latency_seconds", sa.Double()),
        sa.Column("time_to_first_token_seconds", sa.Double()),
        sa.Column("streamed", sa.Boolean(), nullable=False),
        *_texts(32, "outcome", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_llm_ledger")),
    )
    _index("llm_ledger", "at", "id")
    _index("llm_ledger", "request_id")
    for caller in _CALLERS:
        _index("llm_ledger", caller, "at", "id")
    for table in ("llm_usage_hourly", "llm_usage_daily"):
        op.create_table(
            table,
            sa.Column("at", _TIME, nullable=False),
            *_texts(32, "digest", nullable=False),
            *_texts(200, *_CALLERS, "provider", "model", "operation", nullable=False),
            sa.Column("cached", sa.Boolean(), nullable=False),
            *_numbers("requests", "attempts", "errors", "estimated", "unknown_costs"),
            *_numbers(*_TOKENS, *_MONEY),
            sa.PrimaryKeyConstraint("at", "digest", name=op.f(f"pk_{table}")),
        )
        for caller in _CALLERS:
            _index(table, caller, "at")


def downgrade() -> None:
    for table in ("llm_usage_daily", "llm_usage_hourly", "llm_ledger"):
        op.drop_table(table)
