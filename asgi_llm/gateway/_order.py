"""Which orders of a stack lose money, or leak."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

__all__ = ["misplaced"]

CACHES: Final = ("exact_cache", "semantic_cache")
ANSWERING: Final = frozenset(("auth", "rate_limit", "cost", "guardrails", *CACHES))
"""Layers that answer requests themselves, be it with a refusal."""
COUNTING: Final = frozenset(("rate_limit", "cost", *CACHES))
"""Layers to which each request they meet is one of its own."""


def misplaced(
    layers: Sequence[str], *, asks_who: Collection[int] = ()
) -> Iterator[tuple[int, str]]:
    """What stands where it does harm: its index, and why, as a sentence about it.

    Args:
        layers: Names of layers, outermost first, as in a configuration.
        asks_who: Which of them judge by who is calling, beside those that always do.
    """
    auth = layers.index("auth") if "auth" in layers else -1
    cache: str | None = None
    outer: str | None = None
    for index, name in enumerate(layers):
        if name == "router":
            inner = next((one for one in reversed(layers[index:]) if one in COUNTING), None)
            if inner is not None:
                yield (
                    index,
                    f"stands outside of {inner}, which takes each attempt for a request of its "
                    f"own: put it after {inner}",
                )
        if outer is not None and name == "telemetry":
            yield (
                index,
                f"stands inside of {outer}, and counts nothing of what that answers itself: put it "
                f"before {outer}",
            )
        elif outer is None and name in ANSWERING:
            outer = name
        if index < auth:
            if name == "cost" or index in asks_who:
                yield (
                    index,
                    "stands outside of auth, and does not know who is calling: put it after auth",
                )
            elif name in CACHES:
                yield (
                    index,
                    "stands outside of auth, and answers whoever was not let in: put it after auth",
                )
        if cache is not None and name == "cost":
            yield (
                index,
                f"stands inside of {cache}, and books nothing of what that answers: put it before "
                f"{cache}",
            )
        elif cache is not None and name == "rate_limit":
            yield (
                index,
                f"stands inside of {cache}, and does not limit what that answers: put it before "
                f"{cache}",
            )
        elif cache is None and name in CACHES:
            cache = name
