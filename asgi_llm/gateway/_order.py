"""Which orders of a stack lose money, or leak."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

__all__ = ["misplaced"]

CACHES: Final = ("exact_cache", "semantic_cache")


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
    for index, name in enumerate(layers):
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
