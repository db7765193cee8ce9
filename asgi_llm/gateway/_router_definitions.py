"""The layer ``router`` and the models it routes, as a configuration file describes them."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, field

from asgi_llm.gateway._definition_types import Definition, LayerDefinition, Seconds, Text

__all__ = [
    "FALLBACKS",
    "BackoffDefinition",
    "BreakerDefinition",
    "ModelDefinition",
    "RetryBudgetDefinition",
    "RouterDefinition",
    "TargetDefinition",
]

Tokens = Annotated[int, Meta(ge=1, le=1_000_000_000)]


class TargetDefinition(Definition, frozen=True, kw_only=True):
    """One place where an alias can be served."""

    provider: Annotated[Text, Meta(description="A key of providers.")]
    model: Annotated[Text, Meta(description="The model's name there.")]
    weight: Annotated[
        float,
        Meta(
            ge=0,
            le=1_000_000,
            description="Its share of the requests, against the others; 0 is only when they fail.",
        ),
    ] = 1.0
    region: Annotated[
        Text | None,
        Meta(description="Where its data stays; see the regions of the layer router."),
    ] = None
    context_tokens: Annotated[
        Tokens | None,
        Meta(description="What input and output may have together; not known when left out."),
    ] = None
    max_output_tokens: Annotated[
        Tokens | None, Meta(description="The longest answer; not known when left out.")
    ] = None
    price: Annotated[
        Annotated[float, Meta(ge=0, le=1_000_000_000)] | None,
        Meta(
            description="Any figure to compare targets by; the sum of the prices of a million "
            "tokens in and out when left out."
        ),
    ] = None
    quirks: Annotated[
        tuple[Text, ...],
        Meta(description="Named departures of this model, on top of the provider's."),
    ] = ()
    strict: Annotated[
        bool,
        Meta(description="Refuse what a translation would lose, in place of reporting it."),
    ] = False


class ModelDefinition(Definition, frozen=True, kw_only=True):
    """An alias: a name for clients to use, and what stands behind it."""

    targets: Annotated[
        tuple[TargetDefinition, ...],
        Meta(
            min_length=1,
            description="Where it is served; without a router layer the first is called.",
        ),
    ]
    strategy: Annotated[
        Literal["ordered", "weighted", "round_robin", "least_busy", "lowest_latency", "cheapest"]
        | None,
        Meta(
            description="Which target is tried first; weighted when left out where weights "
            "differ, else ordered."
        ),
    ] = None
    fallbacks: Annotated[
        tuple[Text, ...],
        Meta(description="Aliases or provider/model to try, in order, when no target answers."),
    ] = ()
    context_fallbacks: Annotated[
        tuple[Text, ...],
        Meta(description="The same for a request that is too long for the model."),
    ] = ()
    filter_fallbacks: Annotated[
        tuple[Text, ...],
        Meta(description="The same for a request that the provider's content filter refuses."),
    ] = ()


FALLBACKS: Final = ("fallbacks", "context_fallbacks", "filter_fallbacks")
"""The keys of a model that name others."""


class BackoffDefinition(Definition, frozen=True, kw_only=True):
    """How long a target is left alone before it is tried again for the same request."""

    base_seconds: Annotated[
        Seconds, Meta(description="The longest first pause; each is drawn at random.")
    ] = 0.25
    factor: Annotated[
        float, Meta(ge=1, le=1000, description="What the longest pause grows by each time.")
    ] = 2.0
    cap_seconds: Annotated[Seconds, Meta(description="What it grows to at most.")] = 8.0
    max_retry_after_seconds: Annotated[
        float,
        Meta(ge=0, le=86_400, description="The longest wait that a provider may ask for."),
    ] = 20.0


class RetryBudgetDefinition(Definition, frozen=True, kw_only=True):
    """How many further attempts all requests of a process may make together."""

    share: Annotated[float, Meta(ge=0, le=1, description="Of all requests.")] = 0.1
    floor_per_second: Annotated[
        float,
        Meta(ge=0, le=1_000_000, description="Besides, so that few requests can be retried too."),
    ] = 0.2
    burst: Annotated[
        float, Meta(ge=1, le=1_000_000, description="So many at once, and at the start.")
    ] = 10.0


class BreakerDefinition(Definition, frozen=True, kw_only=True):
    """When a target that fails is left alone, and for how long."""

    failures: Annotated[
        int, Meta(ge=1, le=1_000_000, description="So many in the window open it.")
    ] = 5
    failure_rate: Annotated[
        float,
        Meta(gt=0, le=1, description="And so large a share of the window's calls."),
    ] = 0.5
    minimum_calls: Annotated[
        int, Meta(ge=1, le=1_000_000, description="And so many calls in the window.")
    ] = 5
    window_seconds: Annotated[Seconds, Meta(description="How long an outcome counts.")] = 30.0
    cool_down_seconds: Annotated[
        Seconds, Meta(description="How long it is open at first; twice as long each further time.")
    ] = 5.0
    max_cool_down_seconds: Annotated[Seconds, Meta(description="The longest of them.")] = 120.0
    max_retry_after_seconds: Annotated[
        float,
        Meta(ge=0, le=86_400, description="The longest because the provider asked for it."),
    ] = 300.0
    jitter: Annotated[
        float,
        Meta(ge=0, le=0.99, description="By how much of itself a cool-down may be shorter."),
    ] = 0.2
    trial_seconds: Annotated[
        Seconds, Meta(description="How long a trial may be without an outcome.")
    ] = 60.0


class RouterDefinition(LayerDefinition, frozen=True, kw_only=True):
    """Which target serves a request, and which others are tried when it fails."""

    attempts: Annotated[
        int, Meta(ge=1, le=20, description="Calls for one request, the first included.")
    ] = 3
    deadline_seconds: Annotated[
        Seconds | None,
        Meta(description="For all attempts until an answer begins; null is none."),
    ] = 600.0
    attempt_seconds: Annotated[
        Seconds | None,
        Meta(description="For one attempt until its answer begins; null is none."),
    ] = None
    hedge_after_seconds: Annotated[
        Seconds | None,
        Meta(
            description="After so long without the beginning of an answer another target is "
            "called as well; never when left out."
        ),
    ] = None
    stream_peek_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=16 * 1024 * 1024,
            description="How much of a stream may be held back until its first content.",
        ),
    ] = 64 * 1024
    backoff: Annotated[BackoffDefinition, Meta(description="Between attempts at one target.")] = (
        field(default_factory=BackoffDefinition)
    )
    retry_budget: Annotated[
        RetryBudgetDefinition, Meta(description="For the further attempts of all requests.")
    ] = field(default_factory=RetryBudgetDefinition)
    breaker: Annotated[
        BreakerDefinition, Meta(description="When a target is left alone, and for how long.")
    ] = field(default_factory=BreakerDefinition)
    store: Annotated[
        Literal["auto", "memory", "redis"],
        Meta(description="Where breakers stand; auto is Redis where storage.redis is given."),
    ] = "auto"
    regions: Annotated[
        dict[Text, tuple[Text, ...]],
        Meta(
            description="Regions that requests may go to, by the id of a key, user, team or "
            'organization; "*" is for those that have none here.'
        ),
    ] = field(default_factory=dict)
