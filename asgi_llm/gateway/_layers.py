"""The layers of a stack, made from their definitions, and what they share."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from asgi_llm._optional import require
from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._definitions import Configuration
from asgi_llm.gateway._layer_definitions import (
    AccessLogDefinition,
    AuthDefinition,
    CORSDefinition,
    CostDefinition,
    ExactCacheDefinition,
    GuardrailsDefinition,
    JWTDefinition,
    KeyDefinition,
    LayerDefinition,
    RateLimitDefinition,
    SemanticCacheDefinition,
    TierDefinition,
)
from asgi_llm.gateway._mount import MountMiddleware
from asgi_llm.gateway.admin import LimitState, Part, build_admin_app
from asgi_llm.gateway.compose import Resource
from asgi_llm.gateway.config import DEFAULT_DATABASE, find_cost
from asgi_llm.gateway.cors import CORSMiddleware
from asgi_llm.gateway.health import Health
from asgi_llm.middleware._jwt import JWTVerifier
from asgi_llm.middleware._limit_rules import LimitRules, parse_limit
from asgi_llm.middleware.auth import PUBLIC_PATHS, AuthMiddleware
from asgi_llm.middleware.rate_limit import RateLimitMiddleware
from asgi_llm.stores.base import KeyRecord, LimitStore
from asgi_llm.stores.keys_cached import CachedKeys
from asgi_llm.stores.keys_chained import ChainedKeys, WarmKeys
from asgi_llm.stores.keys_memory import DIGEST_PREFIX, MemoryKeys
from asgi_llm.stores.limits_guarded import GuardedLimits
from asgi_llm.stores.limits_memory import MemoryLimits
from asgi_llm.stores.limits_package import PackageLimits, Strategy
from asgi_llm.stores.limits_redis import RedisLimits
from asgi_llm.types import BudgetRule, Principal
from asgi_llm.wire.tokens import BPETokens

__all__ = ["Layers"]

_SYSTEM_PATHS = ("/health", "/openapi.json", "/docs", "/docs/docs.js", "/docs/docs.css")
_STRATEGIES: dict[str, Strategy] = {
    "fixed_window": "fixed-window",
    "moving_window": "moving-window",
    "sliding_window": "sliding-window-counter",
}


class Layers:
    """Makes the layers of one configuration. Opens no connection.

    Args:
        configuration: The whole of it.
        health: Gets a check for each store.
        insecure: Take a master key that is easily guessed.

    """

    def __init__(self, configuration: Configuration, health: Health, *, insecure: bool) -> None:
        self._configuration = configuration
        self._server = configuration.server
        self._storage = configuration.storage
        self._health = health
        self._insecure = insecure
        self._database: Any = None
        self._limits: RateLimitMiddleware | None = None
        self._cost: Any = None
        self._is_metered = False
        self._guardrails: Any = None
        self._exact: Any = None
        self._semantic: Any = None
        cost = find_cost(configuration)
        if cost is not None:
            # Imported here, with all that it takes to price a call.
            module = importlib.import_module("asgi_llm.gateway._cost_layer")
            self._cost = module.CostLayer(configuration, cost, health, self._open_database)
        self._admin: Callable[[], ASGIApp] | None = None
        self._opened: list[Resource] = []

    @property
    def admin(self) -> Collection[Part]:
        """The parts of the admin API that stand inside."""
        if self._admin is None:
            return ()
        parts: set[Part] = {"directory"}
        if self._cost is not None:
            parts |= {"budgets"} if self._cost.ledger is None else {"budgets", "ledger"}
        if self._exact is not None or self._semantic is not None:
            parts.add("caches")
        return parts

    @property
    def inside(self) -> list[Middleware]:
        """What stands inside of all layers, such as the admin API. For when they are all made."""
        if self._admin is None:
            return []
        return [Middleware(MountMiddleware, prefix="/admin", mounted=self._admin())]

    @property
    def resources(self) -> list[Resource]:
        """What was opened for them, to be closed after them in this order: the database last."""
        database = [] if self._database is None else [self._database]
        books = [] if self._cost is None else self._cost.resources
        others = [
            resource
            for part in (self._guardrails, self._exact, self._semantic)
            if part is not None
            for resource in part.resources
        ]
        # Caches before the books, which get what was still being made for them.
        return [*others, *books, *self._opened, *database]

    def make(self, definition: LayerDefinition) -> Middleware:
        """One layer.

        Raises:
            ConfigurationError: An option is wrong; ``param`` is its path below the layer.
        """
        match definition:
            case AccessLogDefinition():
                require("structlog", extra="gateway")
                # Imported here, because it imports structlog and may be left out of a stack.
                module = importlib.import_module("asgi_llm.gateway.access_log")
                return Middleware(module.AccessLogMiddleware, format=self._server.log_format)
            case CORSDefinition():
                options = msgspec.structs.asdict(definition)
                return Middleware(
                    CORSMiddleware,
                    **{name: value for name, value in options.items() if value is not None},
                )
            case AuthDefinition():
                return self._auth(definition)
            case RateLimitDefinition():
                return self._rate_limit(definition)
            case CostDefinition():
                self._is_metered = True
                return self._made(self._cost, definition)
            case GuardrailsDefinition():
                if self._guardrails is None:
                    # Imported here, like the next two, with all that such a layer needs.
                    module = importlib.import_module("asgi_llm.gateway._guardrails_layer")
                    self._guardrails = module.GuardrailsLayer(self._server, self._health)
                return self._made(self._guardrails, definition)
            case ExactCacheDefinition():
                return self._exact_cache(definition)
            case SemanticCacheDefinition():
                return self._semantic_cache(definition)
        raise TypeError(f"no layer for {definition!r}")

    @staticmethod
    def _made(part: Any, definition: LayerDefinition) -> Middleware:
        middleware: Middleware = part.make(definition)
        return middleware

    # Caches

    def _exact_cache(self, definition: ExactCacheDefinition) -> Middleware:
        if self._exact is None:
            module = importlib.import_module("asgi_llm.gateway._cache_layers")
            self._exact = module.ExactCacheLayer(
                self._configuration,
                definition,
                self._health,
                meter=self._cost.around if self._is_metered else None,
            )
        return self._made(self._exact, definition)

    def _semantic_cache(self, definition: SemanticCacheDefinition) -> Middleware:
        if self._semantic is None:
            module = importlib.import_module("asgi_llm.gateway._semantic_layer")
            self._semantic = module.SemanticCacheLayer(
                self._configuration, definition, self._health, self._open_database
            )
        return self._made(self._semantic, definition)

    # Authentication

    def _auth(self, definition: AuthDefinition) -> Middleware:
        stores: list[WarmKeys] = []
        if definition.keys:
            stores.append(MemoryKeys(dict(_named_keys(definition.keys))))
        if definition.database:
            stores.append(self._database_keys(definition))
        return Middleware(
            AuthMiddleware,
            keys=ChainedKeys(stores) if len(stores) > 1 else stores[0] if stores else None,
            master_key=definition.master_key.reveal() if definition.master_key else None,
            jwt=[_verifier(row) for row in definition.jwt] or None,
            public_paths=(*PUBLIC_PATHS, *_SYSTEM_PATHS, *definition.public_paths),
            required_scopes=definition.required_scopes,
            max_body_bytes=self._server.max_body_bytes,
            body_timeout_seconds=self._server.body_timeout_seconds,
            mode=definition.mode,
            insecure=self._insecure,
        )

    def _database_keys(self, definition: AuthDefinition) -> CachedKeys:
        """Keys of the database, with ``/admin`` to manage them."""
        storage = self._open_database()
        keys: Any = storage.keys
        url = self._storage.redis
        if url is not None:
            module = importlib.import_module("asgi_llm.stores.keys_redis")
            keys = module.RedisKeyCache(
                keys,
                redis=url.reveal(),
                fresh_seconds=definition.fresh_seconds,
                stale_seconds=max(definition.stale_seconds, definition.fresh_seconds),
            )
            self._opened.append(keys)
        cached = CachedKeys(
            keys,
            fresh_seconds=definition.fresh_seconds,
            stale_seconds=definition.stale_seconds,
            max_entries=definition.max_cached_keys,
        )
        self._health.checks["database"] = lambda: cached.available
        # Keys that were used lately go on without it.
        self._health.dispensable.add("database")
        self._admin = lambda: storage.prepared(self._admin_app(storage, cached))
        return cached

    def _admin_app(self, storage: Any, cached: CachedKeys) -> ASGIApp:
        money: dict[str, Any] = {}
        if self._cost is not None:
            money = {
                "ledger": self._cost.ledger,
                "budgets": storage.stored_budgets,
                "budget_store": self._cost.budgets,
            }
        return build_admin_app(
            storage.directory,
            invalidate=cached.invalidate,
            limit_state=self._limit_state,
            exact_cache=self._exact,
            semantic_cache=self._semantic,
            max_body_bytes=self._server.max_body_bytes,
            body_timeout_seconds=self._server.body_timeout_seconds,
            **money,
        )

    def _open_database(self) -> Any:
        if self._database is None:
            require("sqlalchemy", extra="sql")
            # Imported here, because it imports SQLAlchemy.
            module = importlib.import_module("asgi_llm.gateway.storage")
            url = self._storage.database
            try:
                self._database = module.Storage(url.reveal() if url else DEFAULT_DATABASE)
            except ConfigurationError as error:
                raise ConfigurationError(error.message, param="storage.database") from None
        return self._database

    # Limits

    def _rate_limit(self, definition: RateLimitDefinition) -> Middleware:
        store = self._limit_store(definition)
        self._opened.append(store)
        return Middleware(
            self._make_rate_limit,
            limits=definition.limits,
            tiers={name: _rules(tier) for name, tier in definition.tiers.items()},
            default_tier=definition.default_tier,
            model_limits={name: _rules(tier) for name, tier in definition.models.items()},
            store=store,
            on_store_error="deny" if definition.on_store_error == "deny" else "allow",
            trusted_proxies=self._server.trusted_proxies,
            default_output_tokens=definition.default_output_tokens,
            max_output_tokens=definition.max_output_tokens,
            token_counter=BPETokens() if definition.count == "exact" else None,
            lease_seconds=definition.lease_seconds,
            max_body_bytes=self._server.max_body_bytes,
            body_timeout_seconds=self._server.body_timeout_seconds,
            mode=definition.mode,
        )

    def _make_rate_limit(self, app: ASGIApp, /, **options: Any) -> RateLimitMiddleware:
        self._limits = RateLimitMiddleware(app, **options)
        return self._limits

    async def _limit_state(self, principal: Principal) -> Sequence[LimitState]:
        """How the limits of a caller stand, for the admin API."""
        if self._limits is None:
            return [LimitState(limit=limit) for limit in principal.limits]
        standing = await self._limits.standing(principal)
        return [LimitState(limit=limit, status=status) for limit, status in standing]

    def _limit_store(self, definition: RateLimitDefinition) -> LimitStore:
        redis = None if definition.store == "memory" else self._storage.redis
        if definition.store == "redis" and redis is None:
            raise ConfigurationError("redis needs storage.redis", param="store")
        share = 1 / self._server.workers
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
        guarded = GuardedLimits(
            counted,
            on_store_error=definition.on_store_error,
            share=MemoryLimits(share=share) if definition.on_store_error == "share" else None,
        )
        self._health.checks["limits"] = lambda: guarded.health()["state"] == "closed"
        if definition.on_store_error != "deny":
            self._health.dispensable.add("limits")
        return guarded


def _at(option: str, make: Callable[..., LimitStore], *args: Any, **options: Any) -> LimitStore:
    """What ``make`` makes; what it refuses is about ``option``."""
    try:
        return make(*args, **options)
    except ConfigurationError as error:
        raise ConfigurationError(error.message, param=option) from None


def _rules(tier: TierDefinition) -> LimitRules:
    options = msgspec.structs.asdict(tier)
    texts = options.pop("limits")
    scope = options.pop("scope")
    amounts = {name: amount for name, amount in options.items() if amount is not None}
    return [*([{**amounts, "scope": scope}] if amounts else []), *texts]


def _named_keys(definitions: Sequence[KeyDefinition]) -> Iterator[tuple[str, KeyRecord]]:
    names: set[str] = set()
    for index, definition in enumerate(definitions):
        path = f"keys.{index}"
        if (definition.key is None) == (definition.sha256 is None):
            raise ConfigurationError("give either key or sha256", param=path)
        if definition.name in names:
            raise ConfigurationError(
                f"two keys are named {definition.name!r}", param=f"{path}.name"
            )
        names.add(definition.name)
        credential = definition.key.reveal() if definition.key else ""
        yield credential or f"{DIGEST_PREFIX}{definition.sha256}", _record(definition, path)


def _record(definition: KeyDefinition, path: str) -> KeyRecord:
    limits = []
    for index, text in enumerate(definition.limits):
        try:
            limits.append(parse_limit(text))
        except ConfigurationError as error:
            raise ConfigurationError(error.message, param=f"{path}.limits.{index}") from error
    return KeyRecord(
        principal=Principal(
            key_id=definition.name,
            key_name=definition.name,
            user_id=definition.user,
            team_id=definition.team,
            organization_id=definition.organization,
            role=definition.role,
            tier=definition.tier,
            models=definition.models,
            scopes=frozenset(definition.scopes),
            limits=tuple(limits),
            budgets=tuple(
                [
                    BudgetRule(
                        scope="key", amount_usd=one.amount_usd, period=one.period, hard=one.hard
                    )
                    for one in definition.budgets
                ]
            ),
            metadata=definition.metadata,
        ),
        expires_at=None if definition.expires is None else _time(definition.expires, path),
    )


def _time(text: str, path: str) -> float:
    """Unix time of an ISO 8601 text; without a zone it is UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            "expected a date and time as in 2027-01-31T00:00:00Z", param=f"{path}.expires"
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _verifier(definition: JWTDefinition) -> Any:
    options = msgspec.structs.asdict(definition)
    if not options["claims"]:
        del options["claims"]
    return JWTVerifier(**options)
