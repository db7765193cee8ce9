"""From the state of a request that is over to the figures."""

from __future__ import annotations

from collections.abc import Collection
from operator import attrgetter
from typing import Any, Final

import msgspec

from asgi_llm.middleware import _telemetry_metrics as metrics_
from asgi_llm.middleware._telemetry_answer import ForeignAnswer
from asgi_llm.middleware._telemetry_metrics import Add, Children, Metric, Metrics
from asgi_llm.middleware._telemetry_names import (
    NONE,
    OTHER,
    ClosedNames,
    Learned,
    status_label,
)
from asgi_llm.state import (
    ATTEMPTS,
    CACHE_STATUS,
    COST,
    DEPLOYMENT,
    LIMIT_STATUS,
    PRINCIPAL,
    REQUEST_MODEL,
    USAGE,
    VERDICTS,
    State,
)
from asgi_llm.types import CacheReport, Cost, Usage

__all__ = ["Ended", "Recorder", "is_hit"]

_MOST_PROVIDERS: Final = 100
_MOST_GUARDS: Final = 100
_EXCEEDED: Final = ("refused", "would_refuse")
_UNKNOWN: Final = frozenset(("no_price", "not_in_force", "no_usage", "unpriced"))


class Ended(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a request ended, as seen from outside."""

    status: int
    complete: bool
    """Whether the last byte of the answer was sent."""
    seconds: float
    first_token_seconds: float | None
    """Of a stream; None where nothing came."""
    foreign: ForeignAnswer | None
    """The answer of an app that tells nothing in the state."""


def is_hit(report: CacheReport | None) -> bool:
    """Whether the answer is a stored one."""
    return report is not None and report.status == "hit"


class Recorder:
    """Adds what is known of each request to the metrics.

    Args:
        metrics: Keeps the figures.
        models: See ``TelemetryMiddleware``, like the others.
        max_models: How many more.
        providers: Their names, or None.
        max_users: How many ids.
        learned: What was learned before.

    Attributes:
        active: Adds to the number of requests that are under way.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        models: Collection[str],
        max_models: int,
        providers: Collection[str] | None,
        max_users: int,
        learned: Learned,
    ) -> None:
        def children(metric: Metric) -> Children:
            return Children(metrics.instrument(metric))

        def single(metric: Metric) -> Add:
            return metrics.instrument(metric)(())

        self._models = ClosedNames(models, learned.models, max_learned=max_models)
        self._providers = ClosedNames(
            providers or (),
            learned.providers,
            max_learned=_MOST_PROVIDERS if providers is None else 0,
        )
        self._guards = ClosedNames((), learned.guards, max_learned=_MOST_GUARDS)
        self._users = ClosedNames((), learned.users, max_learned=max_users) if max_users else None
        self._requests = children(metrics_.REQUESTS)
        self._duration = children(metrics_.DURATION)
        self._first_token = children(metrics_.FIRST_TOKEN)
        self._tokens = children(metrics_.TOKENS)
        cost = metrics_.COST
        if self._users is not None:
            cost = msgspec.structs.replace(cost, labels=(*cost.labels, "user_id"))
        self._cost = children(cost)
        self._cost_unknown = children(metrics_.COST_UNKNOWN)
        self._hits = children(metrics_.CACHE_HITS)
        self._misses = single(metrics_.CACHE_MISSES)
        self._checks = single(metrics_.LIMIT_CHECKS)
        self._exceeded = single(metrics_.LIMIT_EXCEEDED)
        self._api = children(metrics_.API_DURATION)
        self._verdicts = children(metrics_.VERDICTS)
        self.active = single(metrics_.ACTIVE)

    def record(self, state: State, ended: Ended) -> None:
        """Add one request that is over."""
        # One look for the keys that a plain request has; the others are looked for by name below.
        values = state.values
        attempts = values.get(ATTEMPTS)
        report = values.get(CACHE_STATUS)
        usage = values.get(USAGE)
        name = values.get(REQUEST_MODEL)
        foreign = ended.foreign
        if name is None:
            name = _asked_model(state)
            if foreign is not None:
                name = name or foreign.model()
                usage = usage or foreign.usage()
        answered = ended.complete and ended.status < 300
        vouched = answered and (foreign is not None or (attempts and not attempts[-1].error_code))
        model = self._models.learn(name) if vouched else self._models.label(name)
        provider = NONE
        if attempts:
            provider = self._providers.learn(attempts[-1].provider)
            for attempt in attempts:
                self._api[(self._providers.learn(attempt.provider),)](attempt.duration_seconds)
        elif not is_hit(report):
            deployment = values.get(DEPLOYMENT)
            if deployment is not None:
                provider = self._providers.label(deployment.provider)
        cache = NONE if report is None else report.status
        self._requests[(model, status_label(ended.status), cache, provider)](1)
        place = (model, provider)
        self._duration[place](ended.seconds)
        if ended.first_token_seconds is not None and ended.status < 400:
            self._first_token[place](ended.first_token_seconds)
        if usage is not None:
            self._add_tokens(model, usage)
        if report is not None:
            self._add_cache(report)
        self._add_rest(values, model)

    def _add_tokens(self, model: str, usage: Usage) -> None:
        tokens = self._tokens
        for name, count in zip(_BUCKETS, _counts_of(usage), strict=True):
            if count:
                tokens[(model, name)](count)

    def _add_cache(self, report: CacheReport) -> None:
        if report.status == "hit":
            self._hits[(report.type or NONE,)](1)
        elif report.status == "miss":
            self._misses(1)

    def _add_rest(self, values: Any, model: str) -> None:
        """What only some layers tell."""
        cost = values.get(COST)
        if cost is not None:
            self._add_cost(cost, model, values)
        limited = values.get(LIMIT_STATUS)
        if limited is not None:
            self._checks(1)
            if limited.verdict in _EXCEEDED:
                self._exceeded(1)
        verdicts = values.get(VERDICTS)
        if verdicts:
            for one in verdicts:
                action = one.action if one.enforced else "observe"
                self._verdicts[(self._guards.learn(one.guard), action)](1)

    def _add_cost(self, cost: Cost, model: str, values: Any) -> None:
        amount = cost.amount_usd
        if amount is None:
            cause = cost.unknown if cost.unknown in _UNKNOWN else OTHER
            self._cost_unknown[(model, cause)](1)
        elif self._users is None:
            self._cost[(model,)](float(amount))
        else:
            principal = values.get(PRINCIPAL)
            user = self._users.learn(principal and principal.user_id)
            self._cost[(model, user)](float(amount))


_BUCKETS: Final = tuple(name for name in Usage.__struct_fields__ if name != "estimated")
_counts_of: Final = attrgetter(*_BUCKETS)


def _asked_model(state: State) -> str | None:
    """The model that the request names, where a layer has read it and nobody has served it."""
    document = state.last_document
    model = document.get("model") if type(document) is dict else None
    return model if type(model) is str else None
