"""The metrics of the package: their names, what they count, and who keeps the figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, Protocol, TypeAlias

import msgspec

__all__ = [
    "ACTIVE",
    "API_DURATION",
    "CACHE_HITS",
    "CACHE_LOOKUP",
    "CACHE_MISSES",
    "CONFIGURATION_RELOADS",
    "COST",
    "COST_UNKNOWN",
    "DURATION",
    "EMBEDDING_DURATION",
    "FIRST_TOKEN",
    "LEDGER_PENDING",
    "LIMIT_CHECKS",
    "LIMIT_EXCEEDED",
    "METRICS",
    "REQUESTS",
    "STORE_ERRORS",
    "TOKENS",
    "VERDICTS",
    "Add",
    "Children",
    "Instrument",
    "Metric",
    "Metrics",
]

Add: TypeAlias = Callable[[float], None]
"""Adds to a counter or a gauge, or gives a histogram one more value."""

Instrument: TypeAlias = Callable[[tuple[str, ...]], Add]
"""Gives the series of some label values, in the order of the metric's labels."""


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """What a metric is called and what it means."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    """As scrapers see it; of a histogram without ``_bucket``, ``_sum`` and ``_count``."""
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets, rising, without the last one, which is infinite."""


class Metrics(Protocol):
    """Who keeps the figures and hands them out."""

    def instrument(self, metric: Metric) -> Instrument:
        """The series of ``metric``. Asked twice for the same one, it gives the same series."""
        ...


class Children(dict[tuple[str, ...], Add]):
    """Series by their label values, each looked up once.

    Bounded by whoever asks: label values are taken from closed sets only.
    """

    __slots__ = ("_instrument",)

    def __init__(self, instrument: Instrument) -> None:
        super().__init__()
        self._instrument = instrument

    def __missing__(self, labels: tuple[str, ...]) -> Add:
        add = self[labels] = self._instrument(labels)
        return add


# A stored answer takes a millisecond, a long one with reasoning some minutes.
_ANSWERS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
    *(10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0),
)
_FIRST_TOKENS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5),
    *(2.0, 3.0, 5.0, 10.0, 20.0, 60.0),
)
_EMBEDDINGS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LOOKUPS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
# OpenTelemetry's boundaries for tokens: powers of 4.
_TOKENS: Final = tuple([float(4**power) for power in range(12)])

REQUESTS: Final = Metric(
    kind="counter",
    name="llm_requests_total",
    help="Requests to the model endpoints, by how they ended.",
    labels=("model", "status", "cache_status", "provider"),
)
DURATION: Final = Metric(
    kind="histogram",
    name="llm_request_duration_seconds",
    help="Seconds from a request's arrival to the last byte of its answer.",
    labels=("model", "provider"),
    buckets=_ANSWERS,
)
FIRST_TOKEN: Final = Metric(
    kind="histogram",
    name="llm_time_to_first_token_seconds",
    help="Seconds from a request's arrival to the first event of a streamed answer.",
    labels=("model", "provider"),
    buckets=_FIRST_TOKENS,
)
TOKENS: Final = Metric(
    kind="histogram",
    name="llm_token_count",
    help="Tokens of an answer, as its provider counted them; the types do not overlap.",
    labels=("model", "type"),
    buckets=_TOKENS,
)
COST: Final = Metric(
    kind="counter",
    name="llm_cost_usd_total",
    help="What answers cost in USD, as far as it is known.",
    labels=("model",),
)
COST_UNKNOWN: Final = Metric(
    kind="counter",
    name="llm_cost_unknown_total",
    help="Answers of which it is not known what they cost, by the cause.",
    labels=("model", "cause"),
)
ACTIVE: Final = Metric(
    kind="gauge",
    name="llm_active_requests",
    help="Requests to the model endpoints that are under way.",
)
CACHE_HITS: Final = Metric(
    kind="counter",
    name="llm_cache_hits_total",
    help="Requests that were answered with a stored answer.",
    labels=("cache_type",),
)
CACHE_MISSES: Final = Metric(
    kind="counter",
    name="llm_cache_misses_total",
    help="Requests whose answer was looked for in a cache and was not there.",
)
CACHE_LOOKUP: Final = Metric(
    kind="histogram",
    name="llm_cache_lookup_duration_seconds",
    help="Seconds of one look into a cache's store or index, one that failed included.",
    labels=("cache_type",),
    buckets=_LOOKUPS,
)
EMBEDDING_DURATION: Final = Metric(
    kind="histogram",
    name="llm_embedding_generation_duration_seconds",
    help="Seconds that the semantic cache's embedder took for one call.",
    buckets=_EMBEDDINGS,
)
LIMIT_CHECKS: Final = Metric(
    kind="counter",
    name="llm_rate_limit_checks_total",
    help="Requests that came to the rate limits.",
)
LIMIT_EXCEEDED: Final = Metric(
    kind="counter",
    name="llm_rate_limit_exceeded_total",
    help="Requests that were over a rate limit, also where that is only observed.",
)
API_DURATION: Final = Metric(
    kind="histogram",
    name="llm_provider_api_duration_seconds",
    help="Seconds that one call of a provider took; a request may make several.",
    labels=("provider",),
    buckets=_ANSWERS,
)
VERDICTS: Final = Metric(
    kind="counter",
    name="llm_guardrail_verdicts_total",
    help="What guards found, by what became of it.",
    labels=("guard", "action"),
)
STORE_ERRORS: Final = Metric(
    kind="counter",
    name="llm_store_errors_total",
    help="Calls of a store, an embedder or a judge that failed or came too late.",
    labels=("store", "layer"),
)
LEDGER_PENDING: Final = Metric(
    kind="gauge",
    name="llm_ledger_pending",
    help="Rows that the ledger has not taken yet.",
)
CONFIGURATION_RELOADS: Final = Metric(
    kind="counter",
    name="llm_configuration_reloads_total",
    help="Changed configurations that were taken, or refused because they are wrong.",
    labels=("outcome",),
)

METRICS: Final = (
    REQUESTS,
    DURATION,
    FIRST_TOKEN,
    TOKENS,
    COST,
    COST_UNKNOWN,
    ACTIVE,
    CACHE_HITS,
    CACHE_MISSES,
    CACHE_LOOKUP,
    EMBEDDING_DURATION,
    LIMIT_CHECKS,
    LIMIT_EXCEEDED,
    API_DURATION,
    VERDICTS,
    STORE_ERRORS,
    LEDGER_PENDING,
    CONFIGURATION_RELOADS,
)
"""All of them."""
