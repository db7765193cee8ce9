"""Where a model's price is looked for, in order, and why one was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol

from msgspec import Struct

from asgi_llm.pricing.compiled import CompiledPrice
from asgi_llm.pricing.genai import GenAIPrices
from asgi_llm.pricing.litellm import LiteLLMPrices
from asgi_llm.pricing.names import split_model
from asgi_llm.pricing.overrides import ANY, OVERRIDES, Overrides
from asgi_llm.pricing.rows import PriceRow

__all__ = ["ConsideredRow", "Consulted", "Explanation", "PriceTable", "Table", "load_prices"]

_MAX_COMPILED: Final = 4096


class Table(Protocol):
    """Prices of many models, as ``GenAIPrices`` and ``LiteLLMPrices`` are."""

    @property
    def name(self) -> str:
        """What costs say that they are from."""

    @property
    def version(self) -> str:
        """Release or digest."""

    def find(self, provider: str, model: str) -> tuple[str, tuple[PriceRow, ...]] | None:
        """The rule that found the model, and its rows, the latest first; None: not known."""

    def provider_at(self, base_url: str) -> str | None:
        """The provider whose API is at an address; None: not known."""


class Consulted(NamedTuple):
    """One place where a price was looked for."""

    table: str
    provider: str
    model: str
    rule: str | None
    """What made the name match; None where nothing did."""
    rows: tuple[PriceRow, ...]


class ConsideredRow(Struct, frozen=True, kw_only=True):
    """A row that was found."""

    row: PriceRow
    rule: str
    """What made the name match."""
    chosen: bool
    reason: str
    """Why it counts, or why it does not."""


class Explanation(Struct, frozen=True, kw_only=True):
    """How a model came by its price."""

    provider: str
    model: str
    consulted: tuple[Consulted, ...]
    """Every place that was looked at, in order."""
    rows: tuple[ConsideredRow, ...]
    """Every row that was found, in order."""
    chosen: PriceRow | None
    """The row that counts; None: the price is not known."""


class PriceTable:
    """The prices of all models: overrides first, then each table in turn.

    The first row that is in force at a call's time is its price. Compiled prices are kept for the
    last 4096 models that were asked for.

    Args:
        overrides: See ``Overrides``.
        tables: In order of precedence.
    """

    def __init__(
        self,
        *,
        overrides: Overrides | Mapping[str, Any] | None = None,
        tables: Sequence[Table] = (),
    ) -> None:
        if not isinstance(overrides, Overrides):
            overrides = Overrides(overrides or {})
        self._overrides = overrides
        self._tables = tuple(tables)
        self._compiled: dict[tuple[str | None, ...], CompiledPrice | None] = {}

    def find(
        self,
        provider: str,
        model: str,
        *,
        provider_type: str | None = None,
        base_model: str | None = None,
        base_url: str | None = None,
    ) -> CompiledPrice | None:
        """The price of a model; None where no table knows it.

        Args:
            provider: Name of the configured provider.
            model: Its name for the model.
            provider_type: Its type, by which tables know it; None takes its name for one.
            base_model: The model that it is in the tables, in place of its own name: with the
                same provider, or as ``provider/model``. Overrides go by its own name first.
            base_url: Where it is, if that is not where its type is: then a table is asked for the
                provider at that address, and for no other.
        """
        key = (provider, model, provider_type, base_model, base_url)
        try:
            return self._compiled[key]
        except KeyError:
            pass
        places = self._consult(provider, model, provider_type, base_model, base_url)
        rows = [row for place in places for row in place.rows]
        price = CompiledPrice(rows) if rows else None
        if len(self._compiled) >= _MAX_COMPILED:
            self._compiled.pop(next(iter(self._compiled)), None)
        self._compiled[key] = price
        return price

    def explain(
        self,
        provider: str,
        model: str,
        *,
        at: datetime,
        provider_type: str | None = None,
        base_model: str | None = None,
        base_url: str | None = None,
    ) -> Explanation:
        """What ``find`` does, step by step, and the row that counts at a time.

        Args:
            provider: See ``find``, as for the others.
            model: Its name.
            at: A time with a zone.
            provider_type: Its type.
            base_model: What it is in the tables.
            base_url: Where it is.
        """
        consulted = tuple(self._consult(provider, model, provider_type, base_model, base_url))
        chosen = CompiledPrice(row for place in consulted for row in place.rows).row(at)
        rows: list[ConsideredRow] = []
        is_past = False
        for place in consulted:
            for row in place.rows:
                reason = _reason(row, at.astimezone(UTC), is_past=is_past)
                is_chosen = row is chosen
                is_past = is_past or is_chosen
                rows.append(
                    ConsideredRow(row=row, rule=place.rule or "", chosen=is_chosen, reason=reason)
                )
        return Explanation(
            provider=provider, model=model, consulted=consulted, rows=tuple(rows), chosen=chosen
        )

    def _consult(
        self,
        provider: str,
        model: str,
        provider_type: str | None,
        base_model: str | None,
        base_url: str | None,
    ) -> Iterator[Consulted]:
        names = (provider,) if provider_type in (None, provider) else (provider, provider_type)
        for name, rule in (
            (model, "its own name"),
            (base_model, "its base model"),
            (ANY, "any model"),
        ):
            if name is not None:
                rows = self._overrides.find(names, name)
                yield Consulted(OVERRIDES, provider, name, rule if rows else None, rows)
        for table in self._tables:
            asked = base_model if base_model is not None else model
            known_as: str | None = provider_type or provider
            if base_url is not None:
                known_as = self._provider_at(base_url)
            place = None
            if known_as is not None:
                place = _ask(table, known_as, asked)
                yield place
            split = split_model(asked) if base_model is not None or _routes(known_as) else None
            if split is not None and (place is None or not place.rows):
                yield _ask(table, *split)

    def _provider_at(self, base_url: str) -> str | None:
        found = (table.provider_at(base_url) for table in self._tables)
        return next((one for one in found if one is not None), None)


def load_prices(
    *,
    overrides: Mapping[str, Any] | None = None,
    litellm: bytes | None = None,
    genai_prices: bool = True,
) -> PriceTable:
    """The usual table: overrides, then a price file of LiteLLM's, then genai-prices.

    Args:
        overrides: See ``Overrides``.
        litellm: The content of the file; None where there is none.
        genai_prices: Whether to use the installed release of ``genai-prices``.

    Raises:
        ConfigurationError: A price is wrong, or ``genai-prices`` is wanted and not installed.
    """
    tables: list[Table] = []
    if litellm is not None:
        tables.append(LiteLLMPrices(litellm))
    if genai_prices:
        tables.append(GenAIPrices())
    return PriceTable(overrides=overrides, tables=tables)


def _ask(table: Table, provider: str, model: str) -> Consulted:
    rule, rows = table.find(provider, model) or (None, ())
    return Consulted(table.name, provider, model, rule, rows)


def _routes(provider: str | None) -> bool:
    """Whether its models are written as ``provider/model`` and charged by that provider."""
    return provider == "litellm"


def _reason(row: PriceRow, at: datetime, *, is_past: bool) -> str:
    if is_past:
        return "an earlier row counts"
    if row.valid_from is not None and at.date() < row.valid_from:
        return f"it begins on {row.valid_from}"
    if row.valid_to is not None and at.date() >= row.valid_to:
        return f"it ended on {row.valid_to}"
    if row.hours is not None and not row.hours.include(at.time()):
        return f"it holds from {row.hours.start:%H:%M} to {row.hours.end:%H:%M} UTC"
    return "the first row in force"
