"""Figures as a scraper reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as read_text

from asgi_llm.integrations.prometheus import PrometheusMetrics

Read = Callable[[str], Iterable[Any]]


class Figures:
    """All samples of one exposition.

    Attributes:
        samples: Values by name and labels.
        families: Types by name, as the exposition gives them.
        helps: Help texts by name.
    """

    def __init__(self, text: str, *, openmetrics: bool = False) -> None:
        read: Read = read_openmetrics if openmetrics else read_text
        self.samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        self.families: dict[str, str] = {}
        self.helps: dict[str, str] = {}
        for family in read(text):
            self.families[family.name] = family.type
            self.helps[family.name] = family.documentation
            for one in family.samples:
                place = (one.name, frozenset(one.labels.items()))
                assert place not in self.samples
                self.samples[place] = one.value

    def __call__(self, name: str, **labels: str) -> float | None:
        """The value with exactly these labels; None: there is no such sample."""
        return self.samples.get((name, frozenset(labels.items())))

    def sum(self, name: str, **labels: str) -> float:
        """The sum of all values whose labels hold these."""
        return sum(self.all(name, **labels).values())

    def all(self, name: str, **labels: str) -> dict[frozenset[tuple[str, str]], float]:
        """All values whose labels hold these."""
        wanted = set(labels.items())
        return {
            place: value
            for (found, place), value in self.samples.items()
            if found == name and wanted <= place
        }

    def values_of(self, label: str) -> set[str]:
        """All values of a label, in all metrics."""
        return {value for _, place in self.samples for name, value in place if name == label}


def figures_of(metrics: PrometheusMetrics) -> Figures:
    """What ``metrics`` tells now."""
    _, text = metrics.exposition()
    return Figures(text.decode())
