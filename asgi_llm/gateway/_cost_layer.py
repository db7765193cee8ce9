"""The layer ``cost`` of a configuration, and what it shares with other parts of the gateway."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.middleware import Middleware
from starlette.types import ASGIApp

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._cost_definitions import BudgetDefinition, CostDefinition
from asgi_llm.gateway._cost_targets import CostTargets
from asgi_llm.gateway._definition_types import Secret
from asgi_llm.gateway._definitions import Configuration
from asgi_llm.gateway._layer_definitions import AuthDefinition
from asgi_llm.gateway._own_budgets import OwnBudgets, WhenReady
from asgi_llm.gateway._prepared_ledger import PreparedLedger
from asgi_llm.gateway._prices import make_prices
from asgi_llm.gateway._reload_carried import Hold
from asgi_llm.gateway._upkeep import make_upkeep
from asgi_llm.gateway._webhooks import Webhooks
from asgi_llm.gateway.compose import Resource, Starting
from asgi_llm.gateway.health import Health
from asgi_llm.middleware.cost import CostMiddleware
from asgi_llm.stores.budgets import BudgetRule, BudgetStore, check_budget
from asgi_llm.stores.budgets_guarded import GuardedBudgets
from asgi_llm.stores.budgets_memory import MemoryBudgets
from asgi_llm.stores.budgets_redis import RedisBudgets
from asgi_llm.wire.tokens import BPETokens

__all__ = ["CostLayer"]


_REDIS_SECONDS: Final = 0.05
_DATABASE_SECONDS: Final = 2.0
"""Above what a busy database takes."""


class CostLayer:
    """Makes the layer and the stores behind it, each once. Opens no connection.

    Args:
        configuration: The whole of it.
        definition: The layer in it.
        health: Gets a check for each part.
        hold: Gives the stores of an earlier build.
        open_database: Gives the database of the gateway.

    Attributes:
        resources: What is to be started and closed, in this order.
    """

    def __init__(
        self,
        configuration: Configuration,
        definition: CostDefinition,
        health: Health,
        hold: Hold,
        open_database: Callable[[], Any],
    ) -> None:
        self._configuration = configuration
        self._definition = definition
        self._health = health
        self._hold = hold
        self._open_database = open_database
        self._budgets: BudgetStore | None = None
        self._made: CostMiddleware | None = None
        self._options: dict[str, Any] = {}
        self.resources: list[Resource] = []

    @property
    def ledger(self) -> Any:
        """What answers reports, once its tables are made; None: no rows are kept."""
        return self._open_database().ledger if self._definition.ledger.enabled else None

    @property
    def budgets(self) -> BudgetStore:
        """Where spending is counted."""
        if self._budgets is None:
            self._budgets = self._budget_store(self._definition)
        return self._budgets

    def make(self, definition: CostDefinition) -> Middleware:
        """The layer.

        Raises:
            ConfigurationError: An option is wrong; ``param`` is its path below the layer.
        """
        if definition is not self._definition:
            raise ConfigurationError("one layer cost is enough: two would count every call twice")
        rules = [_rule(one, index, definition) for index, one in enumerate(definition.budgets)]
        for index, share in enumerate(definition.alert_shares):
            if not 0 < share <= 10:
                raise ConfigurationError(
                    "expected a share above 0 to 10", param=f"alert_shares.{index}"
                )
        server = self._configuration.server
        self._options = dict(
            prices=make_prices(definition.prices),
            targets=CostTargets(self._configuration),
            unknown_price="flag" if definition.unknown_price is None else definition.unknown_price,
            budgets=rules,
            budgets_of=OwnBudgets(
                self._storage,
                alert_shares=definition.alert_shares,
                deny=definition.on_store_error == "deny" and definition.mode == "enforce",
            ),
            budget_store=self.budgets,
            **self._books(definition),
            on_disconnect=_on_disconnect(definition),
            on_store_error=definition.on_store_error,
            mode=definition.mode,
            max_cost_usd=definition.max_cost_usd,
            on_max_cost=definition.on_max_cost,
            refusal_status=definition.refusal_status,
            tell_cost=definition.tell_cost,
            tag_names=definition.tag_names,
            notify=self._notify(definition),
            default_output_tokens=definition.default_output_tokens,
            max_output_tokens=definition.max_output_tokens,
            service_tiers=definition.service_tiers,
            token_counter=BPETokens() if definition.count == "exact" else None,
            input_margin=definition.input_margin,
            lease_seconds=definition.lease_seconds,
            max_body_bytes=server.max_body_bytes,
            body_timeout_seconds=server.body_timeout_seconds,
        )
        return Middleware(self._make, **self._options)

    def around(self, app: ASGIApp) -> CostMiddleware:
        """A meter like the layer around another app, for calls that no client waits for.

        For whoever has made the layer; it is closed by whoever asked for it.
        """
        return CostMiddleware(app, **self._options)

    def _make(self, app: ASGIApp, /, **options: Any) -> ASGIApp:
        made = self._made = CostMiddleware(app, **options)
        storage = self._storage
        if storage is None:
            return made
        return WhenReady(
            made,
            is_ready=lambda: storage.is_ready,
            prepare=storage.prepare,
            start=self._start,
        )

    def _start(self) -> None:
        for resource in self.resources:
            if isinstance(resource, Starting):
                resource.start()

    @property
    def _storage(self) -> Any:
        """The database, where anything of the layer is in it; None: nothing is."""
        definition = self._definition
        in_database = definition.budget_store == "database" or (
            definition.budget_store == "auto" and self._configuration.storage.redis is None
        )
        managed = any(
            isinstance(layer, AuthDefinition) and layer.database
            for layer in self._configuration.stack
        )
        if not (definition.ledger.enabled or in_database or managed):
            return None
        return self._open_database()

    # Budgets

    def _budget_store(self, definition: CostDefinition) -> BudgetStore:
        redis, workers = self._configuration.storage.redis, self._configuration.server.workers
        seconds = definition.store_timeout_seconds
        kind = definition.budget_store
        if kind == "auto":
            kind = "database" if redis is None else "redis"
        if kind == "memory":
            if workers > 1:
                raise ConfigurationError(
                    f"memory is one process's own, and there are {workers} workers: each would "
                    "spend all of every budget; take database or redis",
                    param="budget_store",
                )
            if self._storage is not None:
                self._watch(lambda: True, definition)
            return self._hold.take("budgets", "memory", MemoryBudgets)
        if kind == "redis":
            if redis is None:
                raise ConfigurationError("redis needs storage.redis", param="budget_store")
            key: tuple[object, ...] = (kind, redis, seconds)
            store = self._hold.take("budgets", key, lambda: _in_redis(redis, seconds))
        else:
            storage = self._open_database()
            key = (kind, self._configuration.storage.database, seconds)
            store = self._hold.take("budgets", key, lambda: _in_database(storage, seconds))
        self.resources.append(store)
        self._watch(lambda: not store.is_open, definition)

        def facts() -> dict[str, object]:
            since = store.health()["since_seconds"]
            return {"away_seconds": round(since, 1)} if store.is_open else {}

        self._health.facts["budgets"] = facts
        return store

    def _watch(self, answers: Callable[[], bool], definition: CostDefinition) -> None:
        """Whether budgets are known and can be checked is part of the gateway's health."""
        storage = self._storage

        async def check() -> bool:
            if storage is not None:
                await storage.prepare()
            return answers()

        self._health.checks["budgets"] = check
        if definition.on_store_error == "allow":
            self._health.dispensable.add("budgets")

    def _notify(self, definition: CostDefinition) -> Webhooks | None:
        if not definition.webhooks:
            return None
        hooks = definition.webhooks
        webhooks = self._hold.take("webhooks", hooks, lambda: Webhooks(hooks))
        self.resources.append(webhooks)
        return webhooks

    # The books

    def _books(self, definition: CostDefinition) -> dict[str, Any]:
        """The journal and the ledger, as the layer takes them."""
        kept = definition.ledger
        if kept.delivery == "redis" and self._configuration.storage.redis is None:
            raise ConfigurationError("redis needs storage.redis", param="ledger.delivery")
        rows, sums = kept.retention_days, kept.sums_retention_days
        if sums is not None and (rows is None or rows > sums):
            raise ConfigurationError(
                "rows cannot outlive the sums over them: give retention_days, of no more days",
                param="ledger.sums_retention_days",
            )
        if not kept.enabled:
            return {}
        storage = self._open_database()
        destination = self._destination(definition, storage)
        place = (kept.delivery, self._configuration.storage)
        ledger = self._hold.take("ledger", place, lambda: PreparedLedger(*destination))
        self._health.checks["ledger"] = lambda: not ledger.is_failing
        self._health.dispensable.add("ledger")
        if not definition.journal.enabled:
            self._health.facts["ledger"] = self._unrecorded
            return {"ledger": ledger}
        # Imported here, because it needs POSIX.
        module = importlib.import_module("asgi_llm.gateway.bookkeeping")
        # A worker has one journal as long as it lives, whose shipper knows one ledger.
        books = self._hold.take(
            "books",
            (definition.journal, *place),
            lambda: module.Bookkeeping(
                module.open_journal(definition.journal, folder=storage.journal_folder), ledger
            ),
        )
        journal = books.journal
        self._hold.change(lambda: setattr(journal, "on_full", definition.on_store_error))
        self._health.checks["journal"] = books.check_journal
        if definition.on_store_error == "allow":
            self._health.dispensable.add("journal")
        self._health.facts |= {"ledger": books.facts, "journal": books.journal_facts}
        # Before the database and the stream, which take the last rows at the end.
        self.resources.insert(0, books)
        return {"journal": journal}

    def _destination(self, definition: CostDefinition, storage: Any) -> tuple[Any, ...]:
        """Where rows go, and what is to be prepared there."""
        redis = self._configuration.storage.redis
        if definition.ledger.delivery == "redis" and redis is not None:
            module = importlib.import_module("asgi_llm.stores.ledger_stream")
            try:
                stream = self._hold.take(
                    "ledger_stream", redis, lambda: module.StreamLedger(redis.reveal())
                )
            except ConfigurationError as error:
                raise ConfigurationError(error.message, param="storage.redis") from None
            self.resources.append(stream)
            return (stream,)
        upkeep = self._hold.take(
            "upkeep",
            (definition.ledger, self._configuration.storage.database),
            lambda: make_upkeep(definition.ledger, storage),
        )
        if upkeep is not None:
            self.resources.append(upkeep)
        return (storage.ledger, storage.prepare)

    def _unrecorded(self) -> Mapping[str, object]:
        made = self._made
        return {} if made is None else {"pending_rows": made.pending, "lost_rows": made.lost}


def _in_redis(redis: Secret, seconds: float | None) -> GuardedBudgets:
    try:
        counted = RedisBudgets(redis.reveal(), timeout_seconds=seconds or _REDIS_SECONDS)
    except ConfigurationError as error:
        raise ConfigurationError(error.message, param="storage.redis") from None
    return GuardedBudgets(counted, timeout_seconds=counted.timeout_seconds)


def _in_database(storage: Any, seconds: float | None) -> GuardedBudgets:
    seconds = seconds or _DATABASE_SECONDS
    return GuardedBudgets(
        storage.open_budgets(timeout_seconds=seconds),
        timeout_seconds=seconds,
        prepare=storage.prepare,
    )


def _rule(one: BudgetDefinition, index: int, definition: CostDefinition) -> BudgetRule:
    """A budget of the file.

    Raises:
        ConfigurationError: It makes no sense; ``param`` is the path of what is wrong.
    """
    shares = definition.alert_shares if one.alert_shares is None else one.alert_shares
    rule = BudgetRule(
        scope=one.scope,
        amount_usd=one.amount_usd,
        period=one.period,
        days=one.days,
        time_zone=one.time_zone,
        of=one.of,
        tag=one.tag,
        hard=one.hard,
        alert_shares=shares,
    )
    try:
        check_budget(rule)
    except ConfigurationError as error:
        field = (error.param or "").partition(".")[2]
        message = error.message.removeprefix("budgets: ")
        raise ConfigurationError(message, param=f"budgets.{index}.{field}") from None
    return rule


def _on_disconnect(definition: CostDefinition) -> Any:
    seconds = definition.drain_up_to_seconds
    if definition.on_disconnect == "drain":
        return "drain" if seconds is None else seconds
    if seconds is not None:
        raise ConfigurationError(
            "it is for on_disconnect: drain, and the layer cancels", param="drain_up_to_seconds"
        )
    return "cancel"
