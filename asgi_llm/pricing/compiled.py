"""A model's price, compiled once, and what a call costs by it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from math import inf
from typing import Final

from msgspec import Struct
from msgspec.structs import astuple

from asgi_llm.pricing._card import BUCKETS, IMAGE_IN, IMAGE_OUT, INPUT_BUCKETS, Card, cards_of
from asgi_llm.pricing._money import EXACT, ZERO, exact_pico, price_text
from asgi_llm.pricing.rows import ONE_REQUEST, Price, PriceRow, Quantities
from asgi_llm.types import Cost, Usage

__all__ = [
    "STANDARD_TIERS",
    "UNKNOWN_PRICE",
    "CompiledPrice",
    "CompiledRow",
    "CompiledTier",
    "TextRates",
]

STANDARD_TIERS: Final = frozenset(("default", "standard", "standard_only", "auto", "on_demand"))
"""Words of providers for the service tier that is not a special one."""

UNKNOWN_PRICE: Final = Cost(amount_usd=None, unknown="no_price")
"""The cost of a call whose model no table knows."""

_multiply: Final = EXACT.multiply
_add: Final = EXACT.add
_COUNTED: Final = Quantities.__struct_fields__
_NO_TOKENS: Final = (0,) * len(BUCKETS)
_TEXT_IN: Final = BUCKETS.index("input_uncached")
_TEXT_OUT: Final = BUCKETS.index("output_text")
_NO_OTHER_INPUT: Final = (0, 0, 0, 0)
_NO_OTHER_OUTPUT: Final = (0, 0)
_OF_USAGE: Final = BUCKETS[: len(Usage.__struct_fields__) - 1]

# The places of tokens in a context: a prompt's cached part is its beginning.
_PLACES: Final = tuple(
    BUCKETS.index(name)
    for name in (
        "input_cached",
        "cache_write_1h",
        "cache_write_5m",
        "input_uncached",
        "audio_in",
        "image_in",
        "reasoning",
        "output_text",
        "audio_out",
        "image_out",
    )
)
_INPUT_PLACES: Final = tuple(n for n, name in enumerate(BUCKETS) if name in INPUT_BUCKETS)


_PlainRates = tuple[tuple[int, str, Decimal | None], ...]
"""Place among the fields of ``Usage``, name and rate of each bucket."""


class TextRates(Struct, frozen=True, gc=False):
    """What text costs where nothing else decides, by the token."""

    usd: tuple[Decimal, Decimal]
    """Of what goes in, and of what comes out."""
    pico: tuple[int, int] | None
    """The same in pico-USD; None where these are no whole numbers."""


class CompiledTier(Struct, frozen=True):
    """One service tier of a row."""

    name: str | None
    cards: tuple[tuple[int, Card], ...]
    is_marginal: bool

    def card(self, input_tokens: int) -> Card:
        """The rates for all tokens of a request of this size."""
        found = self.cards[0][1]
        for above, card in self.cards:
            if input_tokens <= above:
                break
            found = card
        return found


class CompiledRow:
    """One row with its tiers resolved.

    Attributes:
        row: The row.
        standard: The tier of requests that name none.
        others: The other tiers, by name.
        plain: What each bucket of ``Usage`` costs a token in the standard tier, where tokens are
            all that decides; None where the size of a request does, or each one has its price.
        text: The same of text alone; None where a rate of it is not known either.
    """

    __slots__ = ("others", "plain", "row", "standard", "text")

    def __init__(self, row: PriceRow) -> None:
        self.row = row
        self.standard = _tier(None, row.standard)
        self.others = {name: _tier(name, price) for name, price in row.service_tiers.items()}
        card = self.standard.cards[0][1]
        is_plain = (
            len(self.standard.cards) == 1
            and not card.is_free
            and all(name != "requests" for name, _ in card.units)
        )
        buckets = enumerate(zip(_OF_USAGE, card.tokens, strict=False))
        self.plain: _PlainRates | None = (
            tuple([(place, name, rate) for place, (name, rate) in buckets]) if is_plain else None
        )
        self.text = _text_rates(card.tokens[_TEXT_IN], card.tokens[_TEXT_OUT]) if is_plain else None

    def in_force(self, day: date, at: datetime) -> bool:
        """Whether it holds at a moment of a day, both in UTC."""
        row = self.row
        return (
            (row.valid_from is None or row.valid_from <= day)
            and (row.valid_to is None or day < row.valid_to)
            and (row.hours is None or row.hours.include(at.time()))
        )


def _text_rates(rate_in: Decimal | None, rate_out: Decimal | None) -> TextRates | None:
    if rate_in is None or rate_out is None:
        return None
    pico_in, pico_out = exact_pico(rate_in), exact_pico(rate_out)
    pico = None if pico_in is None or pico_out is None else (pico_in, pico_out)
    return TextRates((rate_in, rate_out), pico)


def _tier(name: str | None, price: Price) -> CompiledTier:
    cards = cards_of(price)
    return CompiledTier(
        name=name, cards=cards, is_marginal=price.tiering == "marginal" and len(cards) > 1
    )


class CompiledPrice:
    """What calls to one model cost. It never changes; any number of requests may share it.

    Args:
        rows: In order of precedence: the first that is in force at a time counts.
    """

    __slots__ = ("_now", "_rows")

    def __init__(self, rows: Iterable[PriceRow]) -> None:
        self._rows = tuple(CompiledRow(row) for row in rows)
        # The row that was looked for last, and from when to when it is that one (Unix time). One
        # tuple, so that a thread beside this one never sees the half of it.
        self._now: tuple[float, float, CompiledRow | None] = (inf, -inf, None)

    @property
    def rows(self) -> tuple[PriceRow, ...]:
        """The rows, in order of precedence."""
        return tuple(row.row for row in self._rows)

    def row(self, at: datetime) -> PriceRow | None:
        """The row that is in force at a time; None where there is none.

        Args:
            at: A time with a zone.
        """
        found = self._in_force(at)
        return None if found is None else found.row

    def span(self, seconds: float) -> tuple[float, float, CompiledRow | None]:
        """From when to when the same row is in force as at a Unix time, for sure, and the row."""
        span = self._now
        if not span[0] <= seconds < span[1]:
            span = self._now = self._span(seconds)
        return span

    def tiers(self, at: datetime) -> Mapping[str | None, CompiledTier]:
        """The service tiers in force at a time, by name; None is the standard one."""
        found = self._in_force(at)
        if found is None:
            return {}
        tiers: dict[str | None, CompiledTier] = {None: found.standard}
        tiers.update(found.others)
        return tiers

    def cost(
        self,
        usage: Usage | None,
        *,
        at: datetime,
        service_tier: str | None = None,
        quantities: Quantities = ONE_REQUEST,
    ) -> Cost:
        """What one call costs, exactly.

        Args:
            usage: Its tokens; None where they are not known. A count below 0 is taken for 0, and
                the cost is an estimate.
            at: When the call began, with a zone: it picks the row, also where a price changes
                before the answer is over.
            service_tier: The tier that the provider says it served, or else the one asked for. One
                that the row has no prices for pays the standard ones, and the cost is an estimate.
            quantities: What it used beside tokens.
        """
        if at.tzinfo is None:
            raise ValueError("at: a time without a zone")
        return self.cost_at(at.timestamp(), usage, service_tier, quantities)

    def cost_at(
        self,
        seconds: float,
        usage: Usage | None,
        service_tier: str | None = None,
        quantities: Quantities = ONE_REQUEST,
    ) -> Cost:
        """``cost`` at a Unix time."""
        since, until, found = self._now
        if not since <= seconds < until:
            _, _, found = self.span(seconds)
        if found is None:
            return Cost(amount_usd=None, unknown="not_in_force" if self._rows else "no_price")
        if (
            usage is not None
            and quantities is ONE_REQUEST
            and (service_tier is None or service_tier in STANDARD_TIERS)
            and found.plain is not None
        ):
            cost = _plain_cost(found, found.plain, usage)
            if cost is not None:
                return cost
        tier, estimated = found.standard, False
        if service_tier is not None and (name := service_tier.lower()) not in STANDARD_TIERS:
            tier = found.others.get(name, tier)
            estimated = tier.name is None
        counts: tuple[int, ...] = _NO_TOKENS
        if usage is not None:
            counts = (*astuple(usage)[:-1], 0, 0)
            if min(counts) < 0:
                counts, estimated = tuple(max(0, count) for count in counts), True
            estimated = estimated or usage.estimated
        if quantities is not ONE_REQUEST:
            if min(astuple(quantities)) < 0:
                quantities, estimated = _clipped(quantities), True
            counts = _with_images(counts, quantities)

        parts: dict[str, Decimal] = {}
        unknown = None
        card = tier.cards[0][1]
        if tier.is_marginal:
            unknown = _price_by_place(counts, tier, parts)
        else:
            if len(tier.cards) > 1:
                card = tier.card(sum([counts[place] for place in _INPUT_PLACES]))
            for name, count, rate in zip(BUCKETS, counts, card.tokens, strict=True):
                if count:
                    if rate is None:
                        unknown = "unpriced"
                    else:
                        parts[name] = EXACT.multiply(rate, count)
        for name, rate in card.units:
            quantity = getattr(quantities, name)
            if quantity:
                if rate is None:
                    unknown = "unpriced"
                else:
                    if name == "audio_seconds":
                        quantity = max(quantity, card.shortest_audio)
                    parts[name] = EXACT.multiply(rate, quantity)

        if unknown is None and (usage is None or card.is_free):
            unknown = _silent(card, usage, parts)
        amount = None if unknown is not None else sum_exactly(parts.values())
        return Cost(
            amount_usd=amount,
            parts=parts,
            source=found.row.source,
            service_tier=tier.name,
            estimated=estimated,
            unknown=unknown,
        )

    def _in_force(self, at: datetime) -> CompiledRow | None:
        if at.tzinfo is None:
            raise ValueError("at: a time without a zone")
        return self.span(at.timestamp())[2]

    def _span(self, seconds: float) -> tuple[float, float, CompiledRow | None]:
        """From when to when, within the day of a Unix time, the same row is in force, and which."""
        at = datetime.fromtimestamp(seconds, UTC)
        day = at.date()
        found = next((row for row in self._rows if row.in_force(day, at)), None)
        midnight = datetime(at.year, at.month, at.day, tzinfo=UTC)
        begin = midnight.timestamp()
        borders = [begin, begin + 86400]
        for row in self._rows:
            if row.row.hours is not None:
                for border in (row.row.hours.start, row.row.hours.end):
                    past = timedelta(
                        hours=border.hour,
                        minutes=border.minute,
                        seconds=border.second,
                        microseconds=border.microsecond,
                    )
                    borders.append(begin + past.total_seconds())
        since = max(border for border in borders if border <= seconds)
        return since, min(border for border in borders if border > seconds), found


def _plain_cost(found: CompiledRow, plain: _PlainRates, usage: Usage) -> Cost | None:
    """What tokens cost, where nothing else is to be looked at; None: something is.

    It comes to what the way for all cases comes to, in a fraction of its steps.
    """
    counts = astuple(usage)
    if counts[1:5] == _NO_OTHER_INPUT and counts[6:8] == _NO_OTHER_OUTPUT:
        # Text and nothing else, as most of it is.
        text_in, text_out, rates = counts[_TEXT_IN], counts[_TEXT_OUT], found.text
        if text_in > 0 and text_out > 0 and rates is not None:
            total, each = price_text(rates.usd, text_in, text_out)
            return Cost(
                amount_usd=total,
                parts=each,
                source=found.row.source,
                estimated=usage.estimated,
            )
    parts: dict[str, Decimal] = {}
    amount = ZERO
    for place, name, rate in plain:
        count = counts[place]
        if count:
            if rate is None or count < 0:
                return None
            part = _multiply(rate, count)
            # Equal to a sum that begins with zero, but for the digits that zero would bring along.
            amount = _add(amount, part) if parts else part
            parts[name] = part
    return Cost(amount_usd=amount, parts=parts, source=found.row.source, estimated=usage.estimated)


def sum_exactly(amounts: Iterable[Decimal]) -> Decimal:
    """The sum, not rounded."""
    total = ZERO
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


def _silent(card: Card, usage: Usage | None, parts: Mapping[str, Decimal]) -> str | None:
    """Why the parts are not the cost, where what is billed was not told."""
    if card.is_free:
        return "no_usage" if card.billed_units and card.billed_units.isdisjoint(parts) else None
    return "no_usage" if usage is None else None


def _clipped(quantities: Quantities) -> Quantities:
    return Quantities(**{name: max(0, getattr(quantities, name)) for name in _COUNTED})


def _with_images(counts: tuple[int, ...], quantities: Quantities) -> tuple[int, ...]:
    """The counts with tokens of images told apart, as far as they can be among the others."""
    split = list(counts)
    for whole, image, tokens in (
        ("input_uncached", IMAGE_IN, quantities.image_tokens_in),
        ("output_text", IMAGE_OUT, quantities.image_tokens_out),
    ):
        place = BUCKETS.index(whole)
        split[image] = min(tokens, split[place])
        split[place] -= split[image]
    return tuple(split)


def _price_by_place(
    counts: tuple[int, ...], tier: CompiledTier, parts: dict[str, Decimal]
) -> str | None:
    """Price each token by its place in the context; what is left unpriced, if anything is."""
    unknown = None
    start = 0
    for bucket in _PLACES:
        end = start + counts[bucket]
        for size, rate in _spans(tier, bucket, start, end):
            if rate is None:
                unknown = "unpriced"
                continue
            name = BUCKETS[bucket]
            parts[name] = EXACT.add(parts.get(name, ZERO), EXACT.multiply(rate, size))
        start = end
    return unknown


def _spans(
    tier: CompiledTier, bucket: int, start: int, end: int
) -> Iterator[tuple[int, Decimal | None]]:
    """How many of the tokens from ``start`` to ``end`` lie in each context tier, and their rate."""
    for n, (above, card) in enumerate(tier.cards):
        first = max(start, above if n else 0)
        last = min(end, tier.cards[n + 1][0]) if n + 1 < len(tier.cards) else end
        if last > first:
            yield last - first, card.tokens[bucket]
