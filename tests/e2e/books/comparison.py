"""The upstream's own count against the rows of the ledger, row by row."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal

from asgi_llm.stores.ledger import LedgerRow
from asgi_llm.stores.sql.engine import open_engine
from asgi_llm.stores.sql.ledger import SQLLedger
from asgi_llm.testing.upstream import Served
from tests.e2e.books.served import Traffic, call_of

__all__ = ["INPUT_USD", "OUTPUT_USD", "compare", "differences", "read_rows", "report"]

INPUT_USD = Decimal(1)
OUTPUT_USD = Decimal(10)
"""Of a million tokens."""
_MILLION = Decimal(10) ** 6


async def read_rows(database: str) -> list[LedgerRow]:
    """All rows of a ledger."""
    engine = open_engine(database)
    try:
        ledger = SQLLedger(engine)
        page = await ledger.rows(limit=1000)
        rows = list(page.rows)
        while page.next is not None:
            page = await ledger.rows(limit=1000, after=page.next)
            rows += page.rows
    finally:
        await engine.dispose()
    return rows


def compare(
    served: Iterable[Served], rows: Iterable[LedgerRow], traffic: Iterable[Traffic]
) -> dict[str, int]:
    """What the upstream counted, what the rows say, and where they differ (in capitals)."""
    answered = set[str]().union(*(one.answered for one in traffic))
    left = {call: tokens for one in traffic for call, tokens in one.left.items()}
    statuses = {call: status for one in traffic for call, status in one.statuses.items()}
    by_call: dict[str, list[LedgerRow]] = defaultdict(list)
    for row in rows:
        by_call[row.tags["call"]].append(row)
    count: Counter[str] = Counter()
    for one in served:
        if not one.request.complete:
            # Its body broke off with the worker: there was nothing to serve.
            count["not heard whole"] += 1
            continue
        call = call_of(one.request)
        count["served"] += 1
        count["served whole"] += one.complete
        found = by_call.pop(call, [])
        count["MISSING rows"] += not found
        count["DOUBLED rows"] += max(0, len(found) - 1)
        for row in found[:1]:
            count[f"rows {row.outcome}"] += 1
            count["ANSWERED but unknown"] += call in answered and _is_unknown(row)
            count["WRONG usage"] += not _is_right(row, one)
            if not _is_unknown(row):
                count["READ but not counted"] += row.usage.output_tokens < left.get(call, 0)
            count["WRONG cost"] += not _is_priced(row)
            count["UNFLAGGED estimates"] += _is_estimate(row) and not row.usage.estimated
    for call, found in by_call.items():
        # What never reached the upstream can only be an intent of a worker that died.
        count["intents never served"] += all(map(_is_unknown, found))
        count["INVENTED rows"] += not all(map(_is_unknown, found))
        count["ANSWERED but unknown"] += call in answered and statuses[call] < 300
    return {name: count[name] for name in [*_ALWAYS, *sorted(count.keys() - _ALWAYS)]}


_ALWAYS = (
    "served",
    "served whole",
    "MISSING rows",
    "DOUBLED rows",
    "INVENTED rows",
    "WRONG usage",
    "WRONG cost",
    "UNFLAGGED estimates",
    "ANSWERED but unknown",
    "READ but not counted",
)


def _is_unknown(row: LedgerRow) -> bool:
    return row.outcome == "unknown_after_crash"


def _is_estimate(row: LedgerRow) -> bool:
    return _is_unknown(row) or (row.outcome == "client_disconnect" and row.usage.total_tokens > 0)


def _is_right(row: LedgerRow, served: Served) -> bool:
    """Whether the row says what was served, or no more than that where nobody knows the end."""
    usage = row.usage
    if _is_unknown(row):
        return True
    if served.status is not None and served.status >= 400:
        return usage.total_tokens == 0
    if served.complete and served.usage is not None and row.outcome == "complete":
        said = (served.usage["prompt_tokens"], served.usage["completion_tokens"])
        return said == (usage.input_tokens, usage.output_tokens) and not usage.estimated
    if row.outcome == "complete":
        return False
    return usage.output_tokens <= served.output_tokens


def _is_priced(row: LedgerRow) -> bool:
    usage = row.usage
    if _is_unknown(row) and row.cost.amount_usd is None:
        return row.cost.estimated or row.cost.unknown is not None
    tokens = usage.input_tokens * INPUT_USD + usage.output_tokens * OUTPUT_USD
    return row.cost.amount_usd == tokens / _MILLION


def differences(found: Mapping[str, int]) -> dict[str, int]:
    """Where they differ."""
    return {name: count for name, count in found.items() if count and name.split()[0].isupper()}


def report(title: str, found: Mapping[str, int]) -> str:
    """The comparison as a table."""
    lines = [title, *(f"  {name:<28}{count:>9,}" for name, count in found.items())]
    lines.append("  THE ROWS DIFFER" if differences(found) else "  the rows equal what was served")
    return "\n".join(lines)
