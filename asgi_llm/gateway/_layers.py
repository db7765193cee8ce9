"""The layers of a stack, made from their definitions, and what they share."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, cast

import msgspec
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from asgi_llm._optional import require
from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._definitions import Configuration
from asgi_llm.gateway._file_keys import named_keys, open_verifier
from asgi_llm.gateway._layer_definitions import (
    AccessLogDefinition,
    AuthDefinition,
    CORSDefinition,
    CostDefinition,
    ExactCacheDefinition,
    GuardrailsDefinition,
    LayerDefinition,
    RateLimitDefinition,
    RouterDefinition,
    SemanticCacheDefinition,
    TelemetryDefinition,
    TierDefinition,
)
from asgi_llm.gateway._limit_stores import open_limits
from asgi_llm.gateway._mount import MountMiddleware
from asgi_llm.gateway._reload_carried import Hold
from asgi_llm.gateway.admin import LimitState, Part, build_admin_app
from asgi_llm.gateway.compose import Resource
from asgi_llm.gateway.config import DEFAULT_DATABASE, find_cost, find_telemetry
from asgi_llm.gateway.cors import CORSMiddleware
from asgi_llm.gateway.health import Health
from asgi_llm.middleware._limit_rules import LimitRules
from asgi_llm.middleware.auth import PUBLIC_PATHS, AuthMiddleware
from asgi_llm.middleware.rate_limit import RateLimitMiddleware
from asgi_llm.stores.base import LimitStore
from asgi_llm.stores.keys_cached import CachedKeys
from asgi_llm.stores.keys_chained import ChainedKeys, WarmKeys
from asgi_llm.stores.keys_memory import MemoryKeys
from asgi_llm.stores.limits_guarded import GuardedLimits
from asgi_llm.types import Principal
from asgi_llm.wire.tokens import BPETokens

__all__ = ["Layers"]

_SYSTEM_PATHS = ("/health", "/openapi.json", "/docs", "/docs/docs.js", "/docs/docs.css")


class Layers:
    """Makes the layers of one configuration. Opens no connection.

    Args:
        configuration: The whole of it.
        health: Gets a check for each store.
        hold: Gives the stores of an earlier build.
        insecure: Take keys that are easily guessed.

    """

    def __init__(
        self, configuration: Configuration, health: Health, hold: Hold, *, insecure: bool
    ) -> None:
        self._configuration = configuration
        self._hold = hold
        self._server = configuration.server
        self._storage = configuration.storage
        self._health = health
        self._insecure = insecure
        self._database: Any = None
        self._limits: RateLimitMiddleware | None = None
        self._rate_limits = 0
        self._cost: Any = None
        self._is_metered = False
        self._guardrails: Any = None
        self._exact: Any = None
        self._semantic: Any = None
        self._router: Any = None
        self._telemetry: Any = None
        telemetry = find_telemetry(configuration)
        if telemetry is not None:
            module = importlib.import_module("asgi_llm.gateway._telemetry_layer")
            self._telemetry = module.TelemetryLayer(configuration, telemetry, hold)
        cost = find_cost(configuration)
        if cost is not None:
            # Imported here, with all that it takes to price a call.
            module = importlib.import_module("asgi_llm.gateway._cost_layer")
            self._cost = module.CostLayer(configuration, cost, health, hold, self._open_database)
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
        inside = []
        if self._telemetry is not None:
            self._read_figures()
            inside.append(self._telemetry.endpoint())
        if self._admin is not None:
            inside.append(Middleware(MountMiddleware, prefix="/admin", mounted=self._admin()))
        return inside

    def _read_figures(self) -> None:
        """Let telemetry tell what the other layers count for themselves."""
        telemetry, facts = self._telemetry, self._health.facts
        # Whoever takes changed configurations says so when this one is built.
        telemetry.read_reloads(lambda: facts["configuration"]() if "configuration" in facts else {})
        ledger = self._health.facts.get("ledger")
        if ledger is not None:
            telemetry.read_pending(ledger)
        if self._is_metered and (health := getattr(self._cost.budgets, "health", None)):
            telemetry.read_failures("budgets", "cost", health)
        if self._exact is not None and (health := getattr(self._exact.store, "health", None)):
            telemetry.read_failures("answers", "exact_cache", health)
        if self._exact is not None:
            self._exact.time_lookups(telemetry.time_lookups("exact"))
        if self._semantic is not None:
            semantic = self._semantic
            telemetry.read_failures(
                "index_or_embedder",
                "semantic_cache",
                lambda: {"failures": semantic.counts.failures},
            )
            semantic.time_lookups(telemetry.time_lookups("semantic"))
            semantic.time_embeddings(telemetry.time_embeddings())

    @property
    def resources(self) -> list[Resource]:
        """What was opened for them, to be closed after them in this order: the database last."""
        database = [] if self._database is None else [self._database]
        books = [] if self._cost is None else self._cost.resources
        caches = (self._exact, self._semantic)
        others = [
            resource
            for part in (self._telemetry, self._guardrails, *caches, self._router)
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
            case TelemetryDefinition():
                return self._made(self._telemetry, definition)
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
                    self._guardrails = module.GuardrailsLayer(
                        self._server, self._health, self._hold
                    )
                return self._made(self._guardrails, definition)
            case ExactCacheDefinition():
                return self._exact_cache(definition)
            case SemanticCacheDefinition():
                return self._semantic_cache(definition)
            case RouterDefinition():
                if self._router is None:
                    module = importlib.import_module("asgi_llm.gateway._router_layer")
                    self._router = module.RouterLayer(
                        self._configuration, definition, self._health, self._hold
                    )
                return self._made(self._router, definition)
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
                self._hold,
                meter=self._cost.around if self._is_metered else None,
            )
        return self._made(self._exact, definition)

    def _semantic_cache(self, definition: SemanticCacheDefinition) -> Middleware:
        if self._semantic is None:
            module = importlib.import_module("asgi_llm.gateway._semantic_layer")
            self._semantic = module.SemanticCacheLayer(
                self._configuration, definition, self._health, self._hold, self._open_database
            )
        return self._made(self._semantic, definition)

    # Authentication

    def _auth(self, definition: AuthDefinition) -> Middleware:
        stores: list[WarmKeys] = []
        if definition.keys:
            stores.append(MemoryKeys(dict(named_keys(definition.keys, insecure=self._insecure))))
        if definition.database:
            stores.append(self._database_keys(definition))
        # The endpoint asks for a token of its own.
        own_paths = () if self._telemetry is None else (self._telemetry.path,)
        return Middleware(
            AuthMiddleware,
            keys=ChainedKeys(stores) if len(stores) > 1 else stores[0] if stores else None,
            master_key=definition.master_key.reveal() if definition.master_key else None,
            jwt=[self._hold.take("jwt", row, partial(open_verifier, row)) for row in definition.jwt]
            or None,
            public_paths=(*PUBLIC_PATHS, *_SYSTEM_PATHS, *own_paths, *definition.public_paths),
            required_scopes=definition.required_scopes,
            max_body_bytes=self._server.max_body_bytes,
            body_timeout_seconds=self._server.body_timeout_seconds,
            mode=definition.mode,
            insecure=self._insecure,
        )

    def _database_keys(self, definition: AuthDefinition) -> CachedKeys:
        """Keys of the database, with ``/admin`` to manage them."""
        storage = self._open_database()
        url = self._storage.redis
        key = (
            *(self._storage.database, url),
            *(definition.fresh_seconds, definition.stale_seconds, definition.max_cached_keys),
        )
        keys: Any = storage.keys
        if url is not None:
            module = importlib.import_module("asgi_llm.stores.keys_redis")
            keys = self._hold.take(
                "redis_keys",
                key,
                lambda: module.RedisKeyCache(
                    storage.keys,
                    redis=url.reveal(),
                    fresh_seconds=definition.fresh_seconds,
                    stale_seconds=max(definition.stale_seconds, definition.fresh_seconds),
                ),
            )
            self._opened.append(keys)
        cached = self._hold.take(
            "keys",
            key,
            lambda: CachedKeys(
                keys,
                fresh_seconds=definition.fresh_seconds,
                stale_seconds=definition.stale_seconds,
                max_entries=definition.max_cached_keys,
            ),
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
                self._database = self._hold.take(
                    "database",
                    url,
                    lambda: module.Storage(url.reveal() if url else DEFAULT_DATABASE),
                )
            except ConfigurationError as error:
                raise ConfigurationError(error.message, param="storage.database") from None
        return self._database

    # Limits

    def _rate_limit(self, definition: RateLimitDefinition) -> Middleware:
        store = self._limit_store(definition)
        self._opened.append(store)
        self._rate_limits += 1
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
        is_alone = redis is None and definition.storage is None
        store = self._hold.take(
            # Each layer counts for itself.
            f"limits.{self._rate_limits}",
            (
                *(redis, definition.algorithm, definition.storage, self._server.workers),
                None if is_alone else definition.on_store_error,
            ),
            partial(open_limits, definition, redis, workers=self._server.workers),
        )
        if is_alone:
            return store
        guarded = cast("GuardedLimits", store)
        if self._telemetry is not None:
            self._telemetry.read_failures("limits", "rate_limit", guarded.health)
        self._health.checks["limits"] = lambda: guarded.health()["state"] == "closed"
        if definition.on_store_error != "deny":
            self._health.dispensable.add("limits")
        return guarded


def _rules(tier: TierDefinition) -> LimitRules:
    options = msgspec.structs.asdict(tier)
    texts = options.pop("limits")
    scope = options.pop("scope")
    amounts = {name: amount for name, amount in options.items() if amount is not None}
    return [*([{**amounts, "scope": scope}] if amounts else []), *texts]
