"""The layer ``router`` of a configuration, and the breakers behind it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from starlette.middleware import Middleware

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._cost_targets import CostTargets
from asgi_llm.gateway._definitions import Configuration
from asgi_llm.gateway._prices import make_prices, prices_of
from asgi_llm.gateway._reload_carried import Hold
from asgi_llm.gateway._router_definitions import (
    FALLBACKS,
    ModelDefinition,
    RouterDefinition,
    TargetDefinition,
)
from asgi_llm.gateway.compose import Resource
from asgi_llm.gateway.health import Health
from asgi_llm.middleware.router import RouterMiddleware
from asgi_llm.providers.capabilities import PROVIDER_TYPES
from asgi_llm.routing.eligibility import Policy
from asgi_llm.routing.retries import Backoff, RetryBudget
from asgi_llm.routing.strategies import Load
from asgi_llm.routing.targets import Fallbacks, Route, Target
from asgi_llm.stores.breakers import BreakerPolicy, BreakerStore
from asgi_llm.stores.breakers_memory import MemoryBreakers
from asgi_llm.types import Deployment, Principal, Usage

__all__ = ["RouterLayer"]

_EVERYONE: Final = "*"
_MILLION: Final = 1_000_000
_OPTIONS: Final = (
    "attempts",
    "deadline_seconds",
    "attempt_seconds",
    "hedge_after_seconds",
    "stream_peek_bytes",
)


class RouterLayer:
    """Makes the layer and its breakers. Opens no connection.

    Args:
        configuration: The whole of it.
        definition: The layer in it.
        health: Gets the targets that are left alone, and a check where there is a Redis.
        hold: Gives the breakers of an earlier build.

    Attributes:
        resources: What is to be closed after the layers, in this order.
    """

    def __init__(
        self,
        configuration: Configuration,
        definition: RouterDefinition,
        health: Health,
        hold: Hold,
    ) -> None:
        self._configuration = configuration
        self._definition = definition
        self._health = health
        self._hold = hold
        self.resources: list[Resource] = []

    def make(self, definition: RouterDefinition) -> Middleware:
        """The layer.

        Raises:
            ConfigurationError: An option is wrong; ``param`` is its path below the layer.
        """
        if definition is not self._definition:
            raise ConfigurationError("one layer router is enough")
        server = self._configuration.server
        budget = definition.retry_budget
        return Middleware(
            RouterMiddleware,
            routes=tuple(self._routes()),
            resolve=self._resolve,
            policy=_Policies(definition.regions, fetch_images=server.fetch_images.enabled),
            **{name: getattr(definition, name) for name in _OPTIONS},
            backoff=_of(definition.backoff, Backoff, "backoff"),
            retry_budget=self._hold.take(
                "router.budget", budget, lambda: RetryBudget(**msgspec.structs.asdict(budget))
            ),
            breakers=self._breakers(),
            load=self._hold.take("router.load", None, Load),
            max_body_bytes=server.max_body_bytes,
            body_timeout_seconds=server.body_timeout_seconds,
        )

    def _routes(self) -> Iterator[Route]:
        """The aliases, and the models of providers that they fall back to."""
        models = self._configuration.models
        direct: set[str] = set()
        for alias, model in models.items():
            fallbacks = [getattr(model, key) for key in FALLBACKS]
            direct.update(other for others in fallbacks for other in others)
            prices = self._prices(alias) if model.strategy == "cheapest" else {}
            yield Route(
                name=alias,
                targets=tuple([self._target(target, prices) for target in model.targets]),
                strategy=model.strategy or _usual_strategy(model),
                fallbacks=Fallbacks(
                    errors=model.fallbacks,
                    context_length=model.context_fallbacks,
                    content_filter=model.filter_fallbacks,
                ),
            )
        for name in sorted(direct - models.keys()):
            target = self._resolve(name)
            if target is not None:
                yield Route(name=name, targets=(target,))

    def _target(self, definition: TargetDefinition, prices: Mapping[str, float]) -> Target:
        provider, model = definition.provider, definition.model
        price = definition.price
        return Target(
            deployment=Deployment(
                provider=provider,
                model=model,
                quirks=frozenset(definition.quirks),
                strict=definition.strict,
            ),
            weight=definition.weight,
            region=definition.region,
            capabilities=self._capabilities(provider),
            context_tokens=definition.context_tokens,
            max_output_tokens=definition.max_output_tokens,
            price=prices.get(f"{provider}/{model}") if price is None else price,
        )

    def _resolve(self, name: str) -> Target | None:
        """The target of ``provider/model``."""
        provider, _, model = name.partition("/")
        if not model or provider not in self._configuration.providers:
            return None
        return Target(
            deployment=Deployment(provider=provider, model=model),
            capabilities=self._capabilities(provider),
        )

    def _capabilities(self, provider: str) -> Any:
        return PROVIDER_TYPES[self._configuration.providers[provider].type].capabilities

    def _prices(self, alias: str) -> dict[str, float]:
        """What a million tokens in and as many out cost at each target, where that is known."""
        table = make_prices(prices_of(self._configuration))
        usage = Usage(input_uncached=_MILLION, output_text=_MILLION)
        prices: dict[str, float] = {}
        for target in CostTargets(self._configuration)(alias):
            price = table.find(
                target.provider,
                target.model,
                provider_type=target.provider_type,
                base_url=target.base_url,
            )
            if price is None:
                continue
            amount = price.cost(usage, at=datetime.now(UTC)).amount_usd
            if amount is not None:
                prices[f"{target.provider}/{target.model}"] = float(amount)
        return prices

    def _breakers(self) -> BreakerStore:
        definition = self._definition
        policy: BreakerPolicy = _of(definition.breaker, BreakerPolicy, "breaker")
        redis = None if definition.store == "memory" else self._configuration.storage.redis
        if definition.store == "redis" and redis is None:
            raise ConfigurationError("redis needs storage.redis", param="store")
        breakers: Any
        if redis is None:
            breakers = self._hold.take(
                "router.breakers", policy, lambda: MemoryBreakers(policy=policy)
            )
        else:
            breakers = self._shared(redis.reveal(), policy)
            self._health.checks["breakers"] = lambda: _is_well(breakers)
            # Each process goes by what it sees itself.
            self._health.dispensable.add("breakers")
        self.resources.append(breakers)
        self._health.facts["router"] = lambda: _facts(breakers)
        store: BreakerStore = breakers
        return store

    def _shared(self, url: str, policy: BreakerPolicy) -> Any:
        # Imported here, because only those who have a Redis pay for it.
        module = importlib.import_module("asgi_llm.stores.breakers_redis")
        try:
            return self._hold.take(
                "router.breakers", (url, policy), lambda: module.RedisBreakers(url, policy=policy)
            )
        except ConfigurationError as error:
            raise ConfigurationError(error.message, param="storage.redis") from None


class _Policies:
    """What is allowed, by who asks: all that is said of any of a caller's ids holds."""

    def __init__(self, regions: Mapping[str, tuple[str, ...]], *, fetch_images: bool) -> None:
        self._regions = {name: frozenset(places) for name, places in regions.items()}
        everyone = self._regions.get(_EVERYONE)
        self._usual = Policy(regions=everyone, fetch_images=fetch_images)

    def __call__(self, principal: Principal | None) -> Policy:
        if not self._regions or principal is None:
            return self._usual
        ids = (
            principal.key_id,
            principal.user_id,
            principal.team_id,
            principal.organization_id,
        )
        held = [self._regions[one] for one in ids if one is not None and one in self._regions]
        if not held:
            return self._usual
        regions = frozenset.intersection(*held)
        return msgspec.structs.replace(self._usual, regions=regions)


def _usual_strategy(model: ModelDefinition) -> str:
    """By weights, where any were given."""
    same = len({target.weight for target in model.targets}) == 1
    return "ordered" if same else "weighted"


def _of(definition: Any, cls: Any, option: str) -> Any:
    """What ``cls`` makes of a definition with the same fields."""
    try:
        return cls(**msgspec.structs.asdict(definition))
    except ConfigurationError as error:
        raise ConfigurationError(error.message, param=f"{option}.{error.param}") from None


def _is_well(breakers: Any) -> bool:
    state: str = breakers.health()["store"]["state"]
    return state == "closed"


def _facts(breakers: Any) -> dict[str, object]:
    """The targets that are left alone; nothing where there are none."""
    left_alone: dict[str, object] = breakers.health()["not_closed"]
    return {"left_alone": left_alone} if left_alone else {}
