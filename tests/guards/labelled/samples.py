"""Labelled texts from hand-written templates: slots are filled, and where they stand is kept."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping

from asgi_llm.guards.quality import Label, Sample

__all__ = ["Fill", "fill", "fill_all", "plain"]

Fill = Callable[[random.Random], str]
"""Makes a value for a slot."""

_SLOT = re.compile(r"\{([a-z_0-9.]+)\}")


def fill(
    template: str,
    values: Mapping[str, Fill],
    rng: random.Random,
    *,
    label: Callable[[str], str | None],
) -> Sample:
    """``template`` with a value in each ``{slot}``; those that ``label`` names are labelled."""
    text, at = "", 0
    labels = []
    for slot in _SLOT.finditer(template):
        text += template[at : slot.start()]
        value = values[slot[1]](rng)
        category = label(slot[1])
        if category is not None:
            labels.append(Label(category=category, start=len(text), end=len(text) + len(value)))
        text += value
        at = slot.end()
    return Sample(text=text + template[at:], labels=labels)


def fill_all(
    templates: Iterable[str],
    values: Mapping[str, Fill],
    rng: random.Random,
    *,
    count: int,
    label: Callable[[str], str | None],
) -> list[Sample]:
    """``count`` samples, the templates in turn."""
    known = list(templates)
    return [fill(known[n % len(known)], values, rng, label=label) for n in range(count)]


def plain(texts: Iterable[str]) -> list[Sample]:
    """Texts in which nothing is to be found."""
    return [Sample(text=text) for text in texts]
