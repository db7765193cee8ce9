"""Whether a target may serve a request: what it can, and what a policy allows."""

from __future__ import annotations

import msgspec

from asgi_llm._semconv import Operation
from asgi_llm.errors import ConfigurationError
from asgi_llm.middleware._model_access import model_allowed
from asgi_llm.providers.capabilities import lacking
from asgi_llm.routing.targets import Target
from asgi_llm.types import Document, Principal
from asgi_llm.wire.estimate import estimate_usage

__all__ = ["Policy", "max_price", "route_allowed", "why_not"]

_LIMITS = ("max_completion_tokens", "max_tokens")


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What is allowed for one request, or for all of a route."""

    regions: frozenset[str] | None = None
    """Where its data may go; None: anywhere."""
    max_price: float | None = None
    """In the figure of ``Target.price``; what has no price is refused. None: any."""
    fetch_images: bool = False
    """Images are fetched here for providers that cannot do so."""


def why_not(target: Target, operation: Operation, document: Document, policy: Policy) -> str | None:
    """Why ``target`` may not serve the request, in words for the list of attempts; None: it may.

    Args:
        target: Where it would go.
        operation: What is asked for.
        document: The request, valid for ``operation``. It is measured, at some four characters a
            token, only for a target whose context is known.
        policy: What is allowed.
    """
    if policy.regions is not None and target.region not in policy.regions:
        return f"its region ({target.region or 'not known'}) is not allowed"
    if policy.max_price is not None:
        if target.price is None:
            return "its price is not known"
        if target.price > policy.max_price:
            return "it costs too much"
    if target.capabilities is not None:
        what = lacking(target.capabilities, operation, document, fetch_images=policy.fetch_images)
        if what is not None:
            return f"it has no {what}"
    if target.max_output_tokens is None and target.context_tokens is None:
        return None
    return _too_long(target, document)


def max_price(first: Target, ratio: float) -> float | None:
    """The most that a fallback may cost: ``ratio`` times what ``first`` does; None: not known.

    Raises:
        ConfigurationError: ``ratio`` is not above 0.
    """
    if not ratio > 0:
        raise ConfigurationError("the ratio of prices must be above 0", param="max_price_ratio")
    return None if first.price is None else ratio * first.price


def route_allowed(principal: Principal | None, route: str, target: Target) -> bool:
    """Whether a caller may be served by ``target`` of a route that was not asked for.

    Either the route's name or the target's id must be the caller's to use. The name that was asked
    for is for the layer that knows the caller to judge, and covers the route's own targets.
    """
    return (
        principal is None or model_allowed(principal, route) or model_allowed(principal, target.id)
    )


def _too_long(target: Target, document: Document) -> str | None:
    asked = next((found for name in _LIMITS if isinstance(found := document.get(name), int)), 0)
    if target.max_output_tokens is not None and asked > target.max_output_tokens:
        return f"it writes at most {target.max_output_tokens} tokens"
    if target.context_tokens is not None:
        needed = asked + estimate_usage(document, 0).input_tokens
        if needed > target.context_tokens:
            return f"its context of {target.context_tokens} tokens is too small for some {needed}"
    return None
