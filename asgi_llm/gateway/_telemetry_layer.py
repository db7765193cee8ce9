"""The layer ``telemetry`` of a configuration, and ``/metrics`` inside of all layers."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from starlette.middleware import Middleware

from asgi_llm._optional import require
from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._definitions import Configuration
from asgi_llm.gateway._layer_definitions import AuthDefinition
from asgi_llm.gateway._reload_carried import Hold
from asgi_llm.gateway._telemetry_definitions import TelemetryDefinition
from asgi_llm.gateway.compose import Resource
from asgi_llm.gateway.config import metrics_are_closed
from asgi_llm.gateway.metrics import MetricsEndpoint, Reading, Readings, ReadingsTask
from asgi_llm.middleware._model_access import normal_form
from asgi_llm.middleware._telemetry_metrics import (
    CACHE_LOOKUP,
    CONFIGURATION_RELOADS,
    EMBEDDING_DURATION,
    LEDGER_PENDING,
    STORE_ERRORS,
    Add,
)
from asgi_llm.middleware.telemetry import Learned, TelemetryMiddleware

__all__ = ["TelemetryLayer"]

_MIN_TOKEN_LENGTH: Final = 16
_TAKEN: Final = ("/v1", "/admin", "/health", "/docs", "/openapi.json")

Facts = Callable[[], Mapping[str, Any]]


class _Figures(NamedTuple):
    """What goes on counting when the configuration changes."""

    metrics: Any
    learned: Learned
    readings: Readings


class TelemetryLayer:
    """Makes the layer, and the endpoint that tells its figures.

    Args:
        configuration: The whole of it.
        definition: The layer in it.
        hold: Gives the figures of an earlier build.

    Attributes:
        resources: What is to be started and closed with the gateway.
    """

    def __init__(
        self, configuration: Configuration, definition: TelemetryDefinition, hold: Hold
    ) -> None:
        self._configuration = configuration
        self._definition = definition
        self._hold = hold
        self._readings: list[Reading] = []
        self._failing: dict[tuple[str, str], list[Facts]] = {}
        self._figures: _Figures | None = None
        self._turn = 0
        self.resources: list[Resource] = []

    @property
    def path(self) -> str:
        """Where the figures are told; that needs no key of the layer auth."""
        return self._definition.path

    def make(self, definition: TelemetryDefinition) -> Middleware:
        """The layer.

        Raises:
            ConfigurationError: An option is wrong; ``param`` is its path below the layer.
        """
        if definition is not self._definition:
            raise ConfigurationError("one layer telemetry is enough: two would count twice")
        _check(definition)
        require("prometheus_client", extra="prometheus")
        # Imported here, because it imports that package and may be left out of a stack.
        module = importlib.import_module("asgi_llm.integrations.prometheus")

        def make_figures() -> _Figures:
            metrics = module.PrometheusMetrics()
            return _Figures(metrics, Learned(), Readings(metrics))

        # With users told apart, one metric has other labels. They outlive the layer: what several
        # workers have told stays in their files, where others would begin at nothing again.
        figures = self._hold.take("metrics", definition.max_users > 0, make_figures, lasting=True)
        self._figures = figures
        self._turn = figures.readings.next_turn()
        if figures.metrics.folder is not None:
            self.resources.append(ReadingsTask(self._refresh))
        configuration = self._configuration
        return Middleware(
            TelemetryMiddleware,
            metrics=figures.metrics,
            models=tuple(configuration.models),
            max_models=definition.max_models,
            providers=tuple(configuration.providers),
            max_users=definition.max_users,
            learned=figures.learned,
        )

    def endpoint(self) -> Middleware:
        """Tells the figures. For when the layer is made."""
        assert self._figures is not None  # noqa: S101 - what `make` has set
        definition = self._definition
        return Middleware(
            MetricsEndpoint,
            exposition=self._figures.metrics.exposition,
            refresh=self._refresh,
            path=definition.path,
            tokens=self._tokens(),
            open_to_all=definition.public,
            closed=(
                "Nobody may read the metrics: give the layer telemetry a token."
                if metrics_are_closed(self._configuration)
                else None
            ),
        )

    def time_lookups(self, cache_type: str) -> Add:
        """Takes the seconds of each look into a cache. For when the layer is made."""
        assert self._figures is not None  # noqa: S101 - what `make` has set
        add: Add = self._figures.metrics.instrument(CACHE_LOOKUP)((cache_type,))
        return add

    def time_embeddings(self) -> Add:
        """Takes the seconds of each call of an embedder. For when the layer is made."""
        assert self._figures is not None  # noqa: S101 - what `make` has set
        add: Add = self._figures.metrics.instrument(EMBEDDING_DURATION)(())
        return add

    def read_failures(self, store: str, layer: str, health: Facts) -> None:
        """Tell the ``failures`` of a store, if it counts any; of several with one name, the sum."""
        stores = self._failing.setdefault((store, layer), [])
        stores.append(health)
        if len(stores) == 1:
            self._readings.append(Reading(STORE_ERRORS, (store, layer), lambda: _failures(stores)))

    def read_pending(self, ledger: Facts) -> None:
        """Tell the ``pending_rows`` of the ledger."""
        self._readings.append(
            Reading(LEDGER_PENDING, (), lambda: float(ledger().get("pending_rows", 0)))
        )

    def read_reloads(self, configuration: Facts) -> None:
        """Tell how often the configuration was taken and ``refused``, where it can change."""
        for outcome, fact in (("taken", "reloads"), ("refused", "refused")):
            self._readings.append(
                Reading(
                    CONFIGURATION_RELOADS,
                    (outcome,),
                    partial(_count, configuration, fact),
                )
            )

    def _refresh(self) -> None:
        if self._figures is not None:
            self._figures.readings.refresh(self._readings, self._turn)

    def _tokens(self) -> Collection[str]:
        if self._definition.token is not None:
            return (self._definition.token.reveal(),)
        return [
            layer.master_key.reveal()
            for layer in self._configuration.stack
            if isinstance(layer, AuthDefinition) and layer.master_key and layer.master_key.reveal()
        ]


def _count(facts: Facts, fact: str) -> float:
    return float(facts().get(fact, 0))


def _failures(stores: Sequence[Facts]) -> float:
    return float(sum(health().get("failures", 0) for health in stores))


def _check(definition: TelemetryDefinition) -> None:
    token, path = definition.token, definition.path
    if token is not None:
        if definition.public:
            raise ConfigurationError("a token, or public, but not both", param="public")
        if len(token.reveal()) < _MIN_TOKEN_LENGTH:
            raise ConfigurationError(
                f"it has fewer than {_MIN_TOKEN_LENGTH} characters", param="token"
            )
    if normal_form(path) != path.lower():
        raise ConfigurationError("expected a plain path such as /metrics", param="path")
    for taken in _TAKEN:
        if f"{path.lower()}/".startswith(taken + "/"):
            raise ConfigurationError(f"{taken} is taken", param="path")
