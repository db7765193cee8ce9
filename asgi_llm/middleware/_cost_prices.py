"""What a model's name can come to cost: where it may be served, at which price, and at worst."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from math import inf
from typing import Any, Final, Literal, NamedTuple

import msgspec

from asgi_llm.errors import ConfigurationError
from asgi_llm.pricing import CompiledPrice, PriceTable, Quantities, upper_bound
from asgi_llm.pricing._card import BUCKETS, INPUT_BUCKETS, Card
from asgi_llm.pricing.compiled import CompiledRow, CompiledTier
from asgi_llm.pricing.names import split_model
from asgi_llm.pricing.rows import ONE_REQUEST
from asgi_llm.stores.budgets import to_pico
from asgi_llm.types import Cost, Document, Usage

__all__ = ["CostTarget", "Pricer", "Resolved", "UnknownPrice", "read_unknown_price"]

MAX_RESOLVED: Final = 4096

UnknownPrice = Literal["flag", "block"] | Mapping[str, Any] | Decimal | int | str
"""``flag``, ``block``, USD per request, or a price as in ``asgi_llm.pricing.Overrides``."""

_SPECIAL: Final = frozenset(("cache_write_1h", "audio_in", "image_in", "audio_out", "image_out"))
_BESIDE_TOKENS: Final = frozenset(("requests", "web_searches"))
_UNUSUAL: Final = frozenset(("service_tier", "speed", "prediction", "modalities"))
"""Fields that make more of a request than its tokens."""
_BY_TOKENS: Final = frozenset(
    (
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/moderations",
        "/v1/responses",
        "/v1/messages",
    )
)
_USUAL_TIERS: Final = frozenset(("flex", "priority"))


class CostTarget(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One place where a request for a model may be served, as ``PriceTable.find`` asks for it."""

    provider: str
    model: str
    provider_type: str | None = None
    base_model: str | None = None
    base_url: str | None = None
    fan_out: bool = False
    """Whether each choice is a call of its own, which pays for the input again."""


class _Step(NamedTuple):
    """The dearest rates of requests with more tokens than ``above``, in pico-USD a token."""

    above: int
    input: int
    output: int


class TierBound(NamedTuple):
    """The dearest rates of one service tier."""

    steps: tuple[_Step, ...]
    per_request: int
    is_marginal: bool

    def amount(self, input_tokens: int, output_tokens: int) -> int:
        """The most that so many tokens cost in it."""
        steps = self.steps
        found = steps[0]
        if len(steps) > 1:
            size = input_tokens + output_tokens if self.is_marginal else input_tokens
            for step in steps:
                if step.above >= size:
                    break
                found = step
        return found.input * input_tokens + found.output * output_tokens + self.per_request


class _Priced:
    """A target and its price."""

    __slots__ = ("price", "target")

    def __init__(self, target: CostTarget, price: CompiledPrice | None) -> None:
        self.target = target
        self.price = price


class Resolved:
    """Where requests for one model's name may be served; the first is where they are as a rule.

    Args:
        priced: The places.
        service_tiers: See ``Pricer``.
    """

    __slots__ = ("_bounds", "_service_tiers", "priced")

    def __init__(self, priced: tuple[_Priced, ...], service_tiers: Collection[str] | None) -> None:
        self.priced = priced
        self._service_tiers = service_tiers
        # From when to when they hold (Unix time), and the bounds.
        self._bounds: tuple[float, float, tuple[TierBound, ...] | None] = (inf, -inf, None)

    def bounds(self, seconds: float) -> tuple[TierBound, ...] | None:
        """What usual requests can cost at a Unix time: the dearest of these.

        None: at one of the places that depends on more than on tokens, or is not known.
        """
        return self.span(seconds)[2]

    def span(self, seconds: float) -> tuple[float, float, tuple[TierBound, ...] | None]:
        """From when to when ``bounds`` are the same as at a Unix time, for sure, and they."""
        span = self._bounds
        if not span[0] <= seconds < span[1]:
            span = self._bounds = self._found(seconds)
        return span

    def _found(self, seconds: float) -> tuple[float, float, tuple[TierBound, ...] | None]:
        found: list[TierBound] = []
        first, last = -inf, inf
        for priced in self.priced:
            row = None
            if priced.price is not None:
                since, until, row = priced.price.span(seconds)
                first, last = max(first, since), min(last, until)
            bounds = None if row is None else _row_bounds(row, self._service_tiers)
            if bounds is None or priced.target.fan_out:
                return first, last, None
            found += bounds
        return first, last, _undercut(found)


class Pricer:
    """Finds prices by the names of models.

    Args:
        prices: The table.
        targets: Where a model's name may be served; None takes ``provider/model`` apart.
        provider: The provider of a name that says none.
        unknown: The policy for what has no price.
        service_tiers: See ``asgi_llm.pricing.upper_bound``.
    """

    def __init__(
        self,
        prices: PriceTable,
        *,
        targets: Callable[[str], Sequence[CostTarget]] | None,
        provider: str,
        unknown: UnknownPrice,
        service_tiers: Collection[str] | None,
    ) -> None:
        self._prices = prices
        self._targets = targets
        self._provider = provider
        self._service_tiers = service_tiers
        self._resolved: dict[str, Resolved] = {}
        self._fallback = read_unknown_price(unknown)
        self.blocks_unknown = unknown == "block"

    def resolve(self, model: str) -> Resolved:
        """Where requests for ``model`` may be served."""
        found = self._resolved.get(model)
        if found is None:
            places = tuple([self._priced(target) for target in self._places(model)])
            found = Resolved(places, self._service_tiers)
            if len(self._resolved) >= MAX_RESOLVED:
                self._resolved.pop(next(iter(self._resolved)), None)
            self._resolved[model] = found
        return found

    def _places(self, model: str) -> Sequence[CostTarget]:
        found = () if self._targets is None else self._targets(model)
        if found:
            return found
        named = split_model(model)
        if named is None:
            # A provider of one's own may have prices under a name that is nobody else's.
            provider, slash, name = model.partition("/")
            if slash and self._prices.find(provider, name) is not None:
                named = provider, name
        provider, name = named or (self._provider, model)
        return (CostTarget(provider=provider, model=name),)

    def _priced(self, target: CostTarget) -> _Priced:
        price = self._prices.find(
            target.provider,
            target.model,
            provider_type=target.provider_type,
            base_model=target.base_model,
            base_url=target.base_url,
        )
        return _Priced(target, price)

    def worst(
        self,
        resolved: Resolved,
        document: Document,
        path: str,
        *,
        seconds: float,
        input_tokens: int,
        output_tokens: int,
        choice_tokens: int,
    ) -> tuple[int, bool]:
        """The most that a request can cost, in pico-USD, and whether all prices are known.

        Where one is not, the amount is that of the others.

        Args:
            resolved: Where it may be served.
            document: The request.
            path: Its route.
            seconds: When it began, in Unix time.
            input_tokens: Of one call.
            output_tokens: Of all choices.
            choice_tokens: Of one choice, where the request does not say.
        """
        bounds = resolved.bounds(seconds)
        if bounds is not None and path in _BY_TOKENS and _UNUSUAL.isdisjoint(document):
            return max([bound.amount(input_tokens, output_tokens) for bound in bounds]), True
        at = datetime.fromtimestamp(seconds, UTC)
        most, is_known = 0, True
        for priced in resolved.priced:
            price = priced.price
            if price is None or price.row(at) is None:
                price = self._fallback
            found = None
            if price is not None:
                found = upper_bound(
                    document,
                    price,
                    input_tokens=input_tokens,
                    max_output_tokens=choice_tokens,
                    at=at,
                    fan_out=priced.target.fan_out,
                    service_tiers=self._service_tiers,
                )
            if found is None:
                is_known = False
            else:
                most = max(most, to_pico(found))
        return most, is_known

    def cost(
        self,
        price: CompiledPrice | None,
        usage: Usage | None,
        seconds: float,
        service_tier: str | None = None,
        quantities: Quantities = ONE_REQUEST,
    ) -> Cost:
        """What one call cost.

        Args:
            price: Of the one who served it, as ``price_of`` gives it.
            usage: Tokens; None where they are not known.
            seconds: When the request began, in Unix time.
            service_tier: As the provider says.
            quantities: What was used beside tokens.
        """
        cost = (price or _NO_PRICE).cost_at(seconds, usage, service_tier, quantities)
        if cost.amount_usd is None and self._fallback is not None:
            found = self._fallback.cost_at(seconds, usage, None, quantities)
            if found.amount_usd is not None:
                return msgspec.structs.replace(found, estimated=True)
        return cost

    def price_of(
        self, resolved: Resolved, provider: str | None, model: str | None
    ) -> CompiledPrice | None:
        """The price of a place; None where it is not known.

        Args:
            resolved: Where a request may be served.
            provider: Who served it; None is the first of ``resolved``.
            model: The provider's name for the model.
        """
        first = resolved.priced[0]
        if provider is None or model is None:
            return first.price
        for priced in resolved.priced:
            target = priced.target
            if target.provider == provider and target.model == model:
                return priced.price
        # Served where its name did not lead: whoever knows the targets knows that one too.
        named = self.resolve(f"{provider}/{model}").priced[0]
        if named.target.provider == provider and named.target.model == model:
            return named.price
        return self._prices.find(provider, model)


_NO_PRICE: Final = CompiledPrice(())


def read_unknown_price(unknown: UnknownPrice) -> CompiledPrice | None:
    """The price that stands in for one that is not known; None for ``flag`` and ``block``.

    Raises:
        ConfigurationError: It is none of them, nor a price.
    """
    if isinstance(unknown, str) and unknown in ("flag", "block"):
        return None
    row = unknown if isinstance(unknown, Mapping) else {"per_request": unknown}
    try:
        return PriceTable(overrides={"*": {"*": dict(row)}}).find("any", "any")
    except ConfigurationError as error:
        raise ConfigurationError(
            f"unknown_price must be flag, block, a number of USD per request or a price: {error}",
            param="unknown_price",
        ) from error


def _row_bounds(
    row: CompiledRow, service_tiers: Collection[str] | None
) -> tuple[TierBound, ...] | None:
    """The dearest rates of usual requests; None where they depend on more than on tokens."""
    names = _USUAL_TIERS if service_tiers is None else frozenset(service_tiers)
    bounds = []
    for tier in (row.standard, *[tier for name, tier in row.others.items() if name in names]):
        bound = _tier_bound(tier)
        if bound is None:
            return None
        bounds.append(bound)
    return tuple(bounds)


def _undercut(bounds: list[TierBound]) -> tuple[TierBound, ...]:
    """Those of ``bounds`` that can be the dearest."""
    kept: list[TierBound] = []
    for number, one in enumerate(bounds):
        rivals = [*kept, *bounds[number + 1 :]]
        if not any(_is_dearer(rival, one) for rival in rivals):
            kept.append(one)
    return tuple(kept)


def _is_dearer(one: TierBound, other: TierBound) -> bool:
    """Whether ``one`` costs as much as ``other``, or more, for each request."""
    return (
        len(one.steps) == len(other.steps) == 1
        and one.steps[0].input >= other.steps[0].input
        and one.steps[0].output >= other.steps[0].output
        and one.per_request >= other.per_request
    )


def _tier_bound(tier: CompiledTier) -> TierBound | None:
    steps: list[_Step] = []
    most_in = most_out = 0
    for above, card in tier.cards:
        rates_in, rates_out = _plain_rates(card, is_input=True), _plain_rates(card, is_input=False)
        if rates_in is None or rates_out is None:
            return None
        # Which card a size pays is known; the dearest of those below it is never less.
        most_in, most_out = max(most_in, rates_in), max(most_out, rates_out)
        steps.append(_Step(above, most_in, most_out))
    per_request = 0
    for name, rate in tier.cards[0][1].units:
        if rate is None or (name not in _BESIDE_TOKENS and rate):
            return None
        if name == "requests":
            per_request = to_pico(rate)
    return TierBound(tuple(steps), per_request, tier.is_marginal)


def _plain_rates(card: Card, *, is_input: bool) -> int | None:
    """The dearest rate of one side, in pico-USD a token; None where what a request holds decides.

    A bucket without a price leaves the others standing, but one of them has to have one.
    """
    plain: list[int] = []
    special: list[int] = []
    for name, rate in zip(BUCKETS, card.tokens, strict=True):
        if rate is not None and (name in INPUT_BUCKETS) is is_input:
            (special if name in _SPECIAL else plain).append(to_pico(rate))
    if not plain or max(special, default=0) > max(plain):
        return None
    return max(plain)
