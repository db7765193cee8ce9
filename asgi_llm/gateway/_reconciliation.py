"""What a provider says that was used, beside what the ledger says."""

from __future__ import annotations

import datetime
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

import msgspec

from asgi_llm.gateway._provider_exports import FIELDS, ExportLine
from asgi_llm.stores.ledger_reports import LedgerReports

__all__ = ["Comparison", "Measured", "Reconciliation", "reconcile"]

MEASURES: Final = FIELDS[2:]
_DAY: Final = datetime.timedelta(days=1)
_MOST_GROUPS: Final = 10_000
_DATED: Final = re.compile(r"-(latest|\d{8}|\d{4}-\d\d-\d\d)(?=$|@|-v\d)", re.ASCII)
_WIDE: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)

_Cell = defaultdict[str, Decimal]
_Sums = defaultdict[tuple[datetime.date, str | None], _Cell]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One figure on both sides."""

    ledger: Decimal
    export: Decimal
    agrees: bool

    @property
    def difference(self) -> Decimal:
        """What the ledger has more than the provider."""
        return _WIDE.subtract(self.ledger, self.export)

    @property
    def share(self) -> Decimal:
        """The difference as a share of the larger of both."""
        larger = max(abs(self.ledger), abs(self.export))
        return _WIDE.divide(abs(self.difference), larger) if larger else Decimal(0)


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A day and a model; a model of None is what the provider has no model for."""

    day: datetime.date
    model: str | None
    measures: Mapping[str, Measured]

    @property
    def agrees(self) -> bool:
        """Whether all figures do."""
        return all(one.agrees for one in self.measures.values())


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """All comparisons, by day and model, and their sums."""

    start: datetime.date
    end: datetime.date
    """Included."""
    lines: Sequence[Comparison]
    totals: Mapping[str, Measured]

    @property
    def agrees(self) -> bool:
        """Whether every line does, and the sums do."""
        return all(line.agrees for line in self.lines) and all(
            one.agrees for one in self.totals.values()
        )


async def reconcile(
    ledger: LedgerReports,
    lines: Sequence[ExportLine],
    *,
    providers: Sequence[str],
    models: Mapping[str, str],
    exact: bool,
    tolerance: Decimal,
    tolerance_usd: Decimal,
    start: datetime.date | None,
    end: datetime.date | None,
) -> Reconciliation:
    """Compare an export with the ledger.

    Only what the export tells is compared. A request of the ledger is an attempt that the provider
    neither refused nor failed; answers out of a cache are none.

    Args:
        ledger: Its sums by the day are read.
        lines: Of the export, at least one.
        providers: What the provider is called in the ledger.
        models: The ledger's name for a name of the export.
        exact: Whether versions of a model that differ by their date are told apart.
        tolerance: Share by which two figures may differ.
        tolerance_usd: USD by which two costs may differ all the same.
        start: First day; None: the first of the export.
        end: Last day; None: the last of the export.

    Raises:
        ValueError: A day of the ledger has more models than can be compared.
        StoreError: The database did not answer in time, or with an error.
    """
    first = start or min(line.day for line in lines)
    last = end or max(line.day for line in lines)
    lines = [line for line in lines if first <= line.day <= last]
    told = [name for name in MEASURES if any(getattr(line, name) is not None for line in lines)]
    by_model = any(line.model is not None for line in lines)

    def named(model: str | None) -> str | None:
        if model is None or not by_model:
            return None
        model = models.get(model, model)
        return model if exact else _DATED.sub("", model)

    theirs: _Sums = defaultdict(_cell)
    for line in lines:
        cell = theirs[line.day, named(line.model)]
        for name in told:
            cell[name] += getattr(line, name) or 0
    ours = await _sums(ledger, first, last, providers, named)

    def measure(name: str, left: _Cell, right: _Cell) -> Measured:
        pair = Measured(ledger=left[name], export=right[name], agrees=True)
        allowed = tolerance_usd if name == "cost_usd" else Decimal(0)
        within = pair.share <= tolerance or abs(pair.difference) <= allowed
        return msgspec.structs.replace(pair, agrees=within)

    compared = [
        Comparison(
            day=place[0],
            model=place[1],
            measures={name: measure(name, ours[place], theirs[place]) for name in told},
        )
        for place in sorted(ours.keys() | theirs.keys(), key=lambda one: (one[0], one[1] or ""))
    ]
    left, right = _all(ours.values()), _all(theirs.values())
    return Reconciliation(
        start=first,
        end=last,
        lines=compared,
        totals={name: measure(name, left, right) for name in told},
    )


def _cell() -> _Cell:
    return defaultdict(Decimal)


def _all(cells: Iterable[_Cell]) -> _Cell:
    total = _cell()
    for cell in cells:
        for name, amount in cell.items():
            total[name] += amount
    return total


async def _sums(
    ledger: LedgerReports,
    first: datetime.date,
    last: datetime.date,
    providers: Sequence[str],
    named: Callable[[str | None], str | None],
) -> _Sums:
    """The ledger's figures by day and model, a day at a time."""
    sums: _Sums = defaultdict(_cell)
    day = first
    while day <= last:
        start = datetime.datetime.combine(day, datetime.time(), datetime.UTC)
        for provider in providers:
            found = await ledger.summary(
                start=start,
                end=start + _DAY,
                where={"provider": provider, "cached": False},
                group_by=("model",),
                max_groups=_MOST_GROUPS,
            )
            if found.truncated:
                raise ValueError(f"{day} has more than {_MOST_GROUPS} models")
            for group in found.groups:
                totals = group.totals
                cell = sums[day, named(_text(group.by["model"]))]
                cell["requests"] += totals.attempts - totals.errors
                cell["input_tokens"] += totals.usage.input_tokens
                cell["output_tokens"] += totals.usage.output_tokens
                cell["cost_usd"] += totals.cost_usd
        day += _DAY
    return sums


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
