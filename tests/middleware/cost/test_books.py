"""The books and a journal on disk: whatever ids a request has, its row has the same."""

from __future__ import annotations

import datetime
import logging
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from asgi_llm.middleware._budget_alerts import Alerts
from asgi_llm.middleware._budget_calls import BudgetCalls
from asgi_llm.middleware._cost_bill import TextBill
from asgi_llm.middleware._cost_books import Books
from asgi_llm.middleware._cost_budgets import BudgetPlan
from asgi_llm.middleware._cost_kinds import Kind
from asgi_llm.middleware._cost_prices import Pricer
from asgi_llm.middleware._cost_quick import row_id
from asgi_llm.middleware._cost_rows import Asked
from asgi_llm.middleware.cost import CostMiddleware
from asgi_llm.state import ATTEMPTS, State
from asgi_llm.stores._ledger_values import fit_row_id
from asgi_llm.stores.budgets import BudgetRule, demand_of
from asgi_llm.stores.budgets_memory import MemoryBudgets
from asgi_llm.stores.journal import FileJournal
from asgi_llm.testing import chat_answer
from asgi_llm.types import Document, Usage
from asgi_llm.wire.tokens import TokenCount
from tests.middleware.cost.conftest import PRICES, App, NineTokens, Notes, ask

PRICE = {"targets": None, "provider": "openai", "unknown": "flag", "service_tiers": None}
LOGGER = logging.getLogger(__name__)


class OwnJournal(FileJournal):
    """A journal that takes rows as bytes, and is not ours."""


def make_books(journal: FileJournal, store: MemoryBudgets) -> Books:
    calls = BudgetCalls(
        store,
        timeout_seconds=None,
        lease_seconds=60,
        clock=lambda: 0.0,
        logger=LOGGER,
        on_settled=lambda plan, uses: None,
    )
    alerts = Alerts(None, now=lambda: datetime.datetime.now(datetime.UTC), logger=LOGGER)
    return Books(
        journal=journal, ledger=None, calls=calls, alerts=alerts, clock=lambda: 0.0, logger=LOGGER
    )


@pytest.mark.parametrize(
    ("id", "request_id"),
    [
        (row_id(), f"req_{1:032x}"),
        (row_id(), "the client's, and longer than any that is ours"),
        (row_id(), "ä" * 36),
        ("a row", f"req_{1:032x}"),
        ("\ud800" * 36, f"req_{1:032x}"),
    ],
    ids=["ours", "longer", "not ascii", "another form", "no text"],
)
@pytest.mark.parametrize("kind_of_journal", [FileJournal, OwnJournal])
async def test_every_id_is_the_rows(
    id: str, request_id: str, kind_of_journal: type[FileJournal], tmp_path: Path
) -> None:
    """Of an intent whose worker dies, and of the usual outcome; and budgets are settled.

    So it is with a journal of somebody's own, which is asked as the protocol has it.
    """
    store, journal = MemoryBudgets(), kind_of_journal(tmp_path / "live")
    books = make_books(journal, store)
    options: dict[str, Any] = PRICE
    kind = Kind(None, "/v1/chat/completions", "gpt-4o", {}, Pricer(PRICES, **options))
    demand = demand_of(BudgetRule(scope="everyone", amount_usd=Decimal(1)), "")
    plan = BudgetPlan((demand,), (), False)
    seconds = 1_795_250_000.5
    asked = Asked(id, request_id, seconds, int(seconds * 10**6), kind, plan, {}, False, 7)
    place = kind.first
    place.renew(seconds)
    assert store.hold_at_once((demand,), 10**8, id)
    books.intend(asked)
    shutil.copytree(tmp_path / "live", tmp_path / "dead")
    usage = Usage(input_uncached=7, output_text=3)
    assert place.rates is not None
    bill = TextBill(place.rates, place.source, 7, 3)
    books.close_usual(asked, place, usage, bill, 37_000_000, id, 0.5, None)
    batch = journal.read(10)
    assert batch is not None
    (row,) = batch.rows
    journal.acknowledge(batch)
    assert ("complete", usage, 0.5) == (row.outcome, row.usage, row.latency_seconds)
    assert bill().amount_usd == row.cost.amount_usd
    (unknown,) = FileJournal(tmp_path / "dead").replay()
    assert ("unknown_after_crash", 7) == (unknown.outcome, unknown.usage.input_uncached)
    stored = id if id.isascii() else fit_row_id(id)
    assert [(stored, request_id, asked.at)] * 2 == [
        (one.id, one.request_id, one.at) for one in (row, unknown)
    ]
    assert 0 == journal.open_intents
    (status,) = await store.spent((demand,))
    assert (37_000_000, 0) == (status.spent, status.reserved)
    journal.close()


class Broken(NineTokens):
    """Counts requests, and fails for answers."""

    async def count(self, document: Document, model: str) -> TokenCount:
        if "prompt" in document:
            raise RuntimeError("cannot count")
        return await super().count(document, model)


def say_nonsense(state: State) -> None:
    """What an app may leave in the state that knows no better."""
    nonsense: Any = ("an attempt",)
    state.set(ATTEMPTS, nonsense)


@pytest.mark.parametrize(
    "app",
    [App(chat_answer(usage=None)), App(before=say_nonsense)],
    ids=["cannot be counted", "cannot be read"],
)
async def test_a_call_whose_cost_cannot_be_found_out_leaves_nothing_open(app: App) -> None:
    """Its intent is closed by a row of unknown cost, and its reservation is given back."""
    notes, store = Notes(), MemoryBudgets()
    budget = BudgetRule(scope="everyone", amount_usd=Decimal(1))
    metered = CostMiddleware(
        app,
        prices=PRICES,
        journal=notes,
        token_counter=Broken(),
        budgets=[budget],
        budget_store=store,
    )
    with pytest.raises((RuntimeError, AttributeError, TypeError)):
        await ask(metered)
    row = notes.row
    assert (1, "failed", 200) == (row.attempt, row.outcome, row.status)
    assert (None, True, 9) == (row.cost.amount_usd, row.usage.estimated, row.usage.input_uncached)
    assert [row.id] == notes.settled == [one.id for one in notes.intents]
    (status,) = await store.spent([demand_of(budget, "")])
    assert (0, 0) == (status.spent, status.reserved)
