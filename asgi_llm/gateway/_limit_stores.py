"""The store behind a layer ``rate_limit``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._definition_types import Secret
from asgi_llm.gateway._layer_definitions import RateLimitDefinition
from asgi_llm.stores.base import LimitStore
from asgi_llm.stores.limits_guarded import GuardedLimits
from asgi_llm.stores.limits_memory import MemoryLimits
from asgi_llm.stores.limits_package import PackageLimits, Strategy
from asgi_llm.stores.limits_redis import RedisLimits

__all__ = ["open_limits"]

_STRATEGIES: dict[str, Strategy] = {
    "fixed_window": "fixed-window",
    "moving_window": "moving-window",
    "sliding_window": "sliding-window-counter",
}


def open_limits(
    definition: RateLimitDefinition, redis: Secret | None, *, workers: int
) -> LimitStore:
    """The store; a ``GuardedLimits`` where it is not in memory. Opens no connection.

    Args:
        definition: The layer.
        redis: URL of the server that counts; None: this process does.
        workers: How many share a limit that each counts for itself.

    Raises:
        ConfigurationError: An option is wrong; ``param`` is its path below the layer.
    """
    share = 1 / workers
    counted: LimitStore
    if redis is None:
        counted = MemoryLimits(share=share)
    else:
        counted = _at("storage.redis", RedisLimits, redis.reveal())
    strategy = _STRATEGIES.get(definition.algorithm)
    if strategy is not None:
        storage = definition.storage or redis
        uri = "memory://" if storage is None else storage.reveal()
        counted = _at("storage", PackageLimits, uri, strategy=strategy, leases=counted)
    elif definition.storage is not None:
        raise ConfigurationError(
            f"only the algorithms {', '.join(_STRATEGIES)} can be counted there",
            param="storage",
        )
    if redis is None and definition.storage is None:
        return counted
    return GuardedLimits(
        counted,
        on_store_error=definition.on_store_error,
        share=MemoryLimits(share=share) if definition.on_store_error == "share" else None,
    )


def _at(option: str, make: Callable[..., LimitStore], *args: Any, **options: Any) -> LimitStore:
    """What ``make`` makes; what it refuses is about ``option``."""
    try:
        return make(*args, **options)
    except ConfigurationError as error:
        raise ConfigurationError(error.message, param=option) from None
