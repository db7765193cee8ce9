"""Rows of the ledger for tests."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

from asgi_llm.stores.ledger import LedgerRow
from asgi_llm.types import Cost, PriceSource, Usage

__all__ = ["AT", "DAY", "make_row"]

AT = datetime.datetime(2026, 3, 14, 15, 9, 26, 535897, tzinfo=datetime.UTC)
DAY = datetime.datetime(2026, 3, 14, tzinfo=datetime.UTC)


def make_row(id: str, **fields: Any) -> LedgerRow:
    """A row of an ordinary call, with ``fields`` in the place of its own."""
    values: dict[str, Any] = {
        "id": id,
        "request_id": f"request-{id}",
        "attempt": 1,
        "at": AT,
        "operation": "chat",
        "key_id": "key-1",
        "user_id": "user-1",
        "team_id": "team-1",
        "organization_id": "organization-1",
        "tags": {"project": "apollo"},
        "requested_model": "fast",
        "model": "gpt-4o",
        "provider": "openai",
        "deployment": "openai/gpt-4o",
        "usage": Usage(input_uncached=100, input_cached=20, output_text=50),
        "cost": Cost(
            amount_usd=Decimal("0.000777"),
            parts={"input_uncached": Decimal("0.00025"), "output_text": Decimal("0.000527")},
            source=PriceSource(table="overrides", version="1", row="openai/gpt-4o"),
        ),
        "status": 200,
        "latency_seconds": 1.25,
        "time_to_first_token_seconds": 0.5,
        "streamed": True,
        "outcome": "complete",
    }
    return LedgerRow(**{**values, **fields})
