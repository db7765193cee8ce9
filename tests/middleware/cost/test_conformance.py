"""The layer keeps what every layer promises: alone, with budgets and books, and in every mode.

Where it tells a client the cost of a stream, or drains, it breaks a promise on purpose: the event
of the usage gets longer or is taken out, and an app is not told at once of a client that has left.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from asgi_llm.middleware.cost import CostMiddleware
from asgi_llm.stores.budgets import BudgetRule
from asgi_llm.testing.conformance import Check, Example, checks
from tests.middleware.cost.conftest import PRICES, Notes

PLENTY = BudgetRule(scope="everyone", amount_usd=Decimal(10**9))
OF_MODEL = BudgetRule(scope="model", amount_usd=Decimal(10**9), period="day")
EMPTY = BudgetRule(scope="everyone", amount_usd=Decimal(0))
ASKS_USAGE = Example(
    document={
        "model": "echo",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream_options": {"include_usage": True},
    }
)

SETTINGS: dict[str, dict[str, Any]] = {
    "alone": {},
    "budgets": {"budgets": [PLENTY, OF_MODEL]},
    "journal": {"journal": Notes()},
    "ledger": {"ledger": Notes()},
    "observed": {"budgets": [EMPTY], "mode": "observe", "max_cost_usd": Decimal(0)},
    "capped": {"max_cost_usd": Decimal(1000)},
    "drained": {"on_disconnect": 0.01},
}
REWRITTEN = ("chunks_leave_before_the_next_is_asked_for", "a_slow_client_slows_the_app")
DRAINED = "errors_of_send_reach_the_app"


@pytest.mark.parametrize(
    ("name", "check"),
    [
        (name, check)
        for name in SETTINGS
        for check in checks
        if (name, check.__name__) != ("drained", DRAINED)
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
async def test_untold(name: str, check: Check) -> None:
    """A layer that tells no client of costs passes the whole suite, but for what drains."""
    settings = SETTINGS[name]
    await check(
        lambda app: CostMiddleware(app, prices=PRICES, tell_cost=False, **settings), ASKS_USAGE
    )


@pytest.mark.parametrize(
    "check",
    [check for check in checks if check.__name__ not in REWRITTEN],
    ids=lambda check: check.__name__,
)
async def test_telling(check: Check) -> None:
    """With its defaults it passes all of it, but for the one event that it rewrites."""
    await check(lambda app: CostMiddleware(app, prices=PRICES))
