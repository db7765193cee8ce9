"""The tables of budgets that are made while a gateway runs."""

from __future__ import annotations

import datetime

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from asgi_llm.stores.sql.budget_models import AMOUNT
from asgi_llm.stores.sql.models import Base, Json, UTCTime

__all__ = ["BudgetRuleRow", "BudgetRulesRevision"]


class BudgetRuleRow(Base):
    """One ``asgi_llm.stores.budget_rules.StoredBudget``; ``owner`` is the rule's ``of``."""

    __tablename__ = "llm_budget_rules"
    __table_args__ = (
        CheckConstraint(AMOUNT, name="amount"),
        Index(None, "created_at", "id"),
        Index(None, "scope", "owner"),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(200))
    # Two rules of the same identity would be one account with two amounts.
    identity: Mapped[str] = mapped_column(String(200), unique=True)
    scope: Mapped[str] = mapped_column(String(16))
    owner: Mapped[str | None] = mapped_column(String(256))
    tag: Mapped[str | None] = mapped_column(String(64))
    period: Mapped[str] = mapped_column(String(16))
    days: Mapped[int | None] = mapped_column(Integer)
    time_zone: Mapped[str] = mapped_column(String(64))
    usd: Mapped[int] = mapped_column(BigInteger)
    pico: Mapped[int] = mapped_column(BigInteger)
    hard: Mapped[bool]
    alert_shares: Mapped[list[str]] = mapped_column(Json)
    created_at: Mapped[datetime.datetime] = mapped_column(UTCTime)
    updated_at: Mapped[datetime.datetime] = mapped_column(UTCTime)


class BudgetRulesRevision(Base):
    """One row, which every write adds one to: workers read it to see whether to read the rest."""

    __tablename__ = "llm_budget_rules_revision"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger)
