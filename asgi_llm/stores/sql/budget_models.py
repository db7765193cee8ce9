"""The tables of budgets. An amount is two integers: whole USD, and the pico-USD beyond them.

Times are whole microseconds of Unix time.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from asgi_llm.stores.sql.models import Base

__all__ = ["BudgetAccount", "BudgetHold", "BudgetSpending"]

AMOUNT = "usd >= 0 AND pico >= 0 AND pico < 1000000000000"


class BudgetAccount(Base):
    """A budget of one owner; who spends from it holds the lock of this row."""

    __tablename__ = "llm_budget_accounts"

    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    # Where its latest period begins: a clock that went back does not bring an older one back.
    start: Mapped[int] = mapped_column(BigInteger)


class BudgetSpending(Base):
    """What was spent in one period, or in one part of a rolling one."""

    __tablename__ = "llm_budget_spending"
    __table_args__ = (CheckConstraint(AMOUNT, name="amount"),)

    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    usd: Mapped[int] = mapped_column(BigInteger)
    pico: Mapped[int] = mapped_column(BigInteger)


class BudgetHold(Base):
    """What one request reserved. A settled one stays for a minute, so that it is settled once."""

    __tablename__ = "llm_budget_holds"
    __table_args__ = (CheckConstraint(AMOUNT, name="amount"), Index(None, "deadline"))

    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    lease: Mapped[str] = mapped_column(String(64), primary_key=True)
    start: Mapped[int] = mapped_column(BigInteger)
    usd: Mapped[int] = mapped_column(BigInteger)
    pico: Mapped[int] = mapped_column(BigInteger)
    deadline: Mapped[int] = mapped_column(BigInteger)
    settled: Mapped[bool]
