"""Metrics by prometheus-client, of one process or of all workers of a gateway. Needs that package.

Source: prometheus_client 0.26, "Multiprocess Mode (E.g. Gunicorn)" and "Custom Collectors";
OpenMetrics 1.0; Prometheus "Exposition formats", version 0.0.4.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import Metric as Family
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from asgi_llm.errors import ConfigurationError
from asgi_llm.middleware._telemetry_metrics import Add, Instrument, Metric

__all__ = ["PrometheusMetrics"]

_FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
_KINDS: Final = ("counter", "gauge", "histogram", "summary")
_PLAIN_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


class PrometheusMetrics:
    """Keeps figures for Prometheus to scrape. For one event loop at a time.

    Where ``PROMETHEUS_MULTIPROC_DIR`` was set when prometheus-client was first imported, the
    figures of all processes with the same directory are told together: sums, and of gauges those
    of processes that still run.

    Args:
        registry: Where the metrics are told. None: one of its own, so that nothing else is told.

    Attributes:
        folder: Where all processes keep their figures; None: this process's are all there are.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        shared = values.ValueClass is not values.MutexValue
        named = os.environ.get(_FOLDER_VARIABLE) if shared else None
        self.folder = None if named is None else Path(named)
        self._instruments: dict[str, tuple[Metric, Instrument]] = {}

    def instrument(self, metric: Metric) -> Instrument:
        """The series of ``metric``: the same ones whenever it is asked for.

        Raises:
            ConfigurationError: There is another metric of that name.
        """
        known = self._instruments.get(metric.name)
        if known is not None:
            if known[0] != metric:
                raise ConfigurationError(
                    f"{metric.name} is kept already, with other labels", param="metrics"
                )
            return known[1]
        try:
            made = self._make(metric)
        except ValueError as error:
            raise ConfigurationError(
                f"the registry has a {metric.name} already", param="registry"
            ) from error
        self._instruments[metric.name] = metric, made
        return made

    def exposition(self, accept: str = "") -> tuple[str, bytes]:
        """Content type and text of all figures.

        Args:
            accept: The ``Accept`` header: OpenMetrics where it is named there, else Prometheus's
                own text format.
        """
        told = self.registry if self.folder is None else _Gathered(self.folder)
        text: bytes
        if _wants_openmetrics(accept):
            text = openmetrics.generate_latest(told)  # type: ignore[no-untyped-call]
            return openmetrics.CONTENT_TYPE_LATEST, text
        text = generate_latest(told)
        return _PLAIN_TEXT, text

    def _make(self, metric: Metric) -> Instrument:
        if self.folder is not None:
            return _shared(metric, self.registry)
        kept = _Kept(metric)
        self.registry.register(kept)
        return kept.series


class _Total:
    """A counter or a gauge."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, amount: float) -> None:
        self.value += amount


class _Spread:
    """A histogram."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class _Kept(Collector):
    """One metric of this process alone.

    Adding to it takes a fraction of what the package's own classes take, which hold a lock for
    each figure and look through all buckets.
    """

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._les = [*map(floatToGoString, metric.buckets), "+Inf"]
        self._totals: dict[tuple[str, ...], _Total] = {}
        self._spreads: dict[tuple[str, ...], _Spread] = {}

    def series(self, labels: tuple[str, ...]) -> Add:
        """The series of some label values."""
        if self._metric.kind == "histogram":
            spread = self._spreads.get(labels)
            if spread is None:
                spread = self._spreads[labels] = _Spread(self._metric.buckets)
            return spread.add
        total = self._totals.get(labels)
        if total is None:
            total = self._totals[labels] = _Total()
        return total.add

    def describe(self) -> Iterable[Family]:
        """What it is called, for the registry."""
        metric = self._metric
        classes = {
            "counter": CounterMetricFamily,
            "gauge": GaugeMetricFamily,
            "histogram": HistogramMetricFamily,
        }
        yield classes[metric.kind](metric.name, metric.help, labels=metric.labels)

    def collect(self) -> Iterator[Family]:
        """All series. May be called in another thread than the one that adds."""
        (family,) = self.describe()
        # Of values that are added to meanwhile: one look at each.
        for labels, total in list(self._totals.items()):
            family.add_metric(labels, total.value)  # type: ignore[attr-defined]
        for labels, spread in list(self._spreads.items()):
            counts = accumulate(list(spread.counts))
            buckets = list(zip(self._les, counts, strict=True))
            family.add_metric(labels, buckets, spread.total)  # type: ignore[attr-defined]
        yield family


def _shared(metric: Metric, registry: CollectorRegistry) -> Instrument:
    """One metric of all processes, by the package's own classes, which keep it in files."""
    name, text, labels = metric.name, metric.help, metric.labels
    kept: Any
    if metric.kind == "counter":
        kept = Counter(name, text, labels, registry=registry)
    elif metric.kind == "gauge":
        kept = Gauge(name, text, labels, registry=registry, multiprocess_mode="livesum")
    else:
        kept = Histogram(name, text, labels, registry=registry, buckets=metric.buckets)
    made: dict[tuple[str, ...], Add] = {}

    def series(of: tuple[str, ...]) -> Add:
        add = made.get(of)
        if add is None:
            one = kept.labels(*of) if labels else kept
            if metric.kind == "gauge":
                # What a dead process with the same number has left is not this one's.
                one.set(0)
            add = made[of] = one.observe if metric.kind == "histogram" else one.inc
        return add

    return series


class _Gathered(Collector):
    """The figures of all processes, with the gauges of those alone that still run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Family]:
        """All that the files hold. Others may lie beside them."""
        folder = self._folder
        for process in {_process_of(file) for file in folder.glob("gauge_live*.db")}:
            if process is not None and not _runs(process):
                # Another scrape at the same time may be the first to take its files away.
                with suppress(FileNotFoundError):
                    mark_process_dead(process, str(folder))  # type: ignore[no-untyped-call]
        files = [str(file) for kind in _KINDS for file in folder.glob(f"{kind}_*.db")]
        merged: Iterable[Family] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return merged


def _process_of(file: Path) -> int | None:
    number = file.stem.rpartition("_")[2]
    return int(number) if number.isdigit() else None


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, PermissionError):
        # Or it is somebody else's, who has the number now.
        return False
    return True


def _wants_openmetrics(accept: str) -> bool:
    for one in accept.lower().split(","):
        media, *parameters = [part.strip() for part in one.split(";")]
        if media == "application/openmetrics-text":
            return not any(_is_zero(part) for part in parameters)
    return False


def _is_zero(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name == "q" and not value.strip("0.")
