"""The worst that a request can cost, for a budget to hold back before the call."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from asgi_llm.pricing._card import BUCKETS, INPUT_BUCKETS, Card
from asgi_llm.pricing._money import EXACT, ZERO
from asgi_llm.pricing.compiled import STANDARD_TIERS, CompiledPrice, CompiledTier, sum_exactly
from asgi_llm.pricing.quantities import read_quantities
from asgi_llm.pricing.rows import Quantities
from asgi_llm.types import Document

__all__ = ["RequestBound", "bound_request", "dearest", "upper_bound"]

_LIMITS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_CHOICES: Final = ("n", "best_of")
_MAX_COUNT: Final = 10**9

_DEFAULT_TIERS: Final = ("flex", "priority")
"""What a provider may serve where the request leaves it to the account's settings."""

_SPECIAL: Final = frozenset(("cache_write_1h", "audio_in", "image_in", "audio_out", "image_out"))
"""Buckets that only some requests can come to use."""

_IMAGES: Final = frozenset(("image_in", "image_out"))

_PLAIN: Final = frozenset(BUCKETS) - _SPECIAL


class RequestBound(Struct, frozen=True, kw_only=True):
    """The most that one request can use."""

    input_tokens: int
    """Of all calls that its choices take."""
    context_tokens: int
    """Input of one call, by which a context tier is told."""
    output_tokens: int
    """Of all choices together, reasoning included."""
    buckets: frozenset[str] = _PLAIN
    """Buckets that can come to be used, of ``TokenBucket``."""
    service_tiers: frozenset[str] = frozenset()
    """Service tiers that can come to be served, beside the standard one."""
    quantities: Quantities = Quantities()


def upper_bound(
    document: Document,
    price: CompiledPrice,
    *,
    input_tokens: int,
    max_output_tokens: int,
    at: datetime,
    max_reasoning_tokens: int = 0,
    fan_out: bool = False,
    quantities: Quantities | None = None,
    service_tiers: Collection[str] | None = None,
) -> Decimal | None:
    """The most that the answer to a request can cost; None where a price is missing.

    No usage within the counts costs more. A budget that holds this back is never overdrawn.

    Args:
        document: The request.
        price: Its model's.
        input_tokens: See ``bound_request``, as for the others.
        max_output_tokens: 0 for an operation that makes no text.
        at: When the call begins, as for ``CompiledPrice.cost``.
        max_reasoning_tokens: 0 where the limit of the output holds for thoughts too.
        fan_out: False where one call gives all choices.
        quantities: None takes what the request says.
        service_tiers: None takes those that an account can be set to.
    """
    bound = bound_request(
        document,
        input_tokens=input_tokens,
        max_output_tokens=max_output_tokens,
        max_reasoning_tokens=max_reasoning_tokens,
        fan_out=fan_out,
        quantities=quantities,
        service_tiers=service_tiers,
    )
    return dearest(price, bound, at=at)


def bound_request(
    document: Document,
    *,
    input_tokens: int,
    max_output_tokens: int,
    max_reasoning_tokens: int = 0,
    fan_out: bool = False,
    quantities: Quantities | None = None,
    service_tiers: Collection[str] | None = None,
) -> RequestBound:
    """The most that a request can use, as far as the request tells.

    Args:
        document: The request: ``n``, ``best_of`` and several prompts, the limit of its output, a
            prediction (whose rejected tokens are billed as output), audio, images, cache
            lifetimes, service tier.
        input_tokens: Its input as counted for one call, at least what the provider will count.
        max_output_tokens: The most that one choice can have where the request does not say.
        max_reasoning_tokens: What a choice can have beyond the limit of its output.
        fan_out: Whether each choice is a call of its own, which pays for the input again.
        quantities: The most that is used beside tokens; None takes what the request says.
        service_tiers: What may be served where the request names no tier. None: ``flex`` and
            ``priority``, because an account can be set to them; empty: the standard one only.
    """
    choices = max(1, *(_count(document.get(name), 1) for name in _CHOICES))
    limits = [_count(document[name], max_output_tokens) for name in _LIMITS if name in document]
    limit = max(limits, default=max_output_tokens) + max_reasoning_tokens
    prediction = document.get("prediction")
    if isinstance(prediction, dict):
        # A token is at least one byte.
        limit += sum(len(text.encode()) for text in _strings(prediction.get("content")))
    prompts = document.get("prompt")
    answers = choices
    if isinstance(prompts, list) and not all(type(one) is int for one in prompts):
        answers *= len(prompts)
    if quantities is None:
        quantities = read_quantities(document, None)
    if fan_out:
        quantities = replace(quantities, requests=quantities.requests * choices)
    return RequestBound(
        input_tokens=max(0, input_tokens) * (choices if fan_out else 1),
        # A context tier goes by the input of one call.
        context_tokens=max(0, input_tokens),
        output_tokens=answers * limit,
        buckets=_buckets(document) | (_IMAGES if quantities.images else frozenset()),
        service_tiers=_service_tiers(document, service_tiers),
        quantities=quantities,
    )


def dearest(price: CompiledPrice, bound: RequestBound, *, at: datetime) -> Decimal | None:
    """The most that a call within ``bound`` can cost; None where a price is missing."""
    tiers = price.tiers(at)
    reached = [tier for name, tier in tiers.items() if name is None or name in bound.service_tiers]
    costs = [_dearest_in(tier, bound) for tier in reached]
    known = [cost for cost in costs if cost is not None]
    return max(known) if known and len(known) == len(costs) else None


def _dearest_in(tier: CompiledTier, bound: RequestBound) -> Decimal | None:
    size = bound.context_tokens + (bound.output_tokens if tier.is_marginal else 0)
    cards = [card for above, card in tier.cards if above < size] or [tier.cards[0][1]]
    parts: list[Decimal] = []
    for count, is_input in ((bound.input_tokens, True), (bound.output_tokens, False)):
        rates = list(_rates(cards, bound.buckets, is_input=is_input))
        if count and not rates:
            return None
        parts.append(EXACT.multiply(max(rates, default=ZERO), count))
    for name, rate in cards[0].units:
        quantity = getattr(bound.quantities, name)
        if quantity and rate is None:
            return None
        if name == "audio_seconds":
            quantity = max(quantity, cards[0].shortest_audio)
        parts.append(EXACT.multiply(rate or ZERO, quantity))
    return sum_exactly(parts)


def _rates(cards: Iterable[Card], buckets: frozenset[str], *, is_input: bool) -> Iterator[Decimal]:
    """Prices of tokens on one side. One bucket without a price leaves the others' standing."""
    for card in cards:
        for name, rate in zip(BUCKETS, card.tokens, strict=True):
            if rate is not None and name in buckets and (name in INPUT_BUCKETS) is is_input:
                yield rate


def _count(value: Any, default: int) -> int:
    is_count = type(value) is int and 0 <= value <= _MAX_COUNT
    return value if is_count else default


def _service_tiers(document: Document, settings: Collection[str] | None) -> frozenset[str]:
    tiers = []
    asked = document.get("service_tier")
    if isinstance(asked, str) and asked != "auto":
        tiers.append(asked.lower())
    else:
        tiers.extend(_DEFAULT_TIERS if settings is None else settings)
    speed = document.get("speed")
    if isinstance(speed, str):
        tiers.append(speed.lower())
    return frozenset(tiers) - STANDARD_TIERS


def _buckets(document: Document) -> frozenset[str]:
    """Buckets that this request can come to use; those of media by what is in it."""
    found = set(_PLAIN)
    modalities = document.get("modalities")
    if isinstance(modalities, list):
        found.update(f"{name}_out" for name in ("audio", "image") if name in modalities)
    left: list[Any] = [document.get(name) for name in ("messages", "input", "system", "tools")]
    while left:
        one = left.pop()
        if isinstance(one, list):
            left += one
        elif isinstance(one, dict):
            _note_part(one, found)
            left += one.values()
    return frozenset(found)


def _note_part(part: dict[str, Any], found: set[str]) -> None:
    kind = part.get("type")
    if part.get("ttl") == "1h":
        found.add("cache_write_1h")
    if kind in ("input_audio", "audio", "file", "input_file", "document", "video", "video_url"):
        found.add("audio_in")
    if kind in ("image_url", "input_image", "image", "file", "input_file", "document"):
        found.add("image_in")


def _strings(value: Any) -> Iterator[str]:
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            left += one.values()
        elif isinstance(one, list):
            left += one
