"""What admins see of the caches, and how they make them forget."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import msgspec

from asgi_llm.gateway.admin._cache_bodies import CacheEntry, CachePurge, CacheState, PurgeCaches
from asgi_llm.gateway.admin._reading import Listing, unprocessable
from asgi_llm.gateway.admin._records import Caller
from asgi_llm.gateway.admin._requests import Act, Request
from asgi_llm.gateway.admin._routes import Operation
from asgi_llm.stores import cache, semantic_index
from asgi_llm.stores.directory import AuditEntry, Directory

__all__ = ["CacheManagement", "ExactSource", "SemanticSource", "cache_actions"]

_COUNTED = ("hits", "misses", "bypasses", "writes", "saved_input_tokens", "saved_output_tokens")


class ExactSource(Protocol):
    """The exact cache of a gateway."""

    @property
    def store(self) -> cache.CacheStore:
        """Where its answers are kept."""
        ...

    @property
    def counts(self) -> Any:
        """Its ``CacheCounts``."""
        ...


class SemanticSource(Protocol):
    """The semantic cache of a gateway."""

    @property
    def index(self) -> semantic_index.SemanticIndex:
        """Where its answers are kept."""
        ...

    @property
    def counts(self) -> Any:
        """Its ``SemanticCounts``."""
        ...

    @property
    def policy(self) -> Any:
        """Its ``DecisionPolicy``."""
        ...


class CacheManagement:
    """The caches as admins may see and empty them.

    Args:
        directory: Keeps the log of who has purged what.
        exact: The exact cache; None: there is none.
        semantic: The semantic cache; None: there is none.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        directory: Directory,
        *,
        exact: ExactSource | None,
        semantic: SemanticSource | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._exact = exact
        self._semantic = semantic
        self._clock = clock

    async def states(self) -> list[CacheState]:
        """How each of them is doing."""
        states = []
        if self._exact is not None:
            states.append(await _exact_state(self._exact))
        if self._semantic is not None:
            states.append(await _semantic_state(self._semantic))
        return states

    async def entries(self, listing: Listing) -> tuple[list[CacheEntry], str | None]:
        """Answers of the semantic cache by the order of their ids, and where to go on from."""
        source = self._semantic
        if source is None:
            return [], None
        where = dict(listing.where)
        id = where.pop("id", None)
        selection = semantic_index.Selection(ids=None if id is None else (id,), **where)
        found = await source.index.find(selection, limit=listing.limit + 1, after=listing.after)
        shown = found[: listing.limit]
        following = shown[-1].id if len(found) > listing.limit else None
        return [_entry(one, source.policy) for one in shown], following

    async def purge(self, caller: Caller, body: PurgeCaches) -> CachePurge:
        """Forget the answers that fit; it is noted in the log before it is done.

        Raises:
            InvalidRequestError: 422: nothing is selected, or something that no cache can select by.
        """
        given = {
            name: value
            for name, value in msgspec.structs.asdict(body).items()
            if value is not None and name not in ("cache", "everything")
        }
        if bool(given) == body.everything:
            raise unprocessable("everything", "say what is to be forgotten, or that everything is")
        exact = self._exact if body.cache != "semantic" and body.id is None else None
        semantic = self._semantic if body.cache != "exact" and body.key_id is None else None
        if exact is None and semantic is None:
            raise unprocessable("cache", "there is no cache that can select by this")
        now = self._clock()
        names = [
            name for name, one in (("exact", exact), ("semantic", semantic)) if one is not None
        ]
        await self._directory.note(
            AuditEntry(
                at=datetime.datetime.fromtimestamp(now, datetime.UTC),
                actor=caller.actor,
                action="cache.purge",
                target=f"cache:{names[0] if len(names) == 1 else 'all'}",
                request_id=caller.request_id,
                changes=given or {"everything": True},
            )
        )
        removed: dict[str, int] = {}
        if exact is not None:
            removed["exact"] = await exact.store.purge(
                cache.Selection(
                    scope=body.scope,
                    namespace=body.namespace,
                    model=body.model,
                    written_by=body.key_id,
                    older_than_seconds=body.older_than_seconds,
                )
            )
        if semantic is not None:
            age = body.older_than_seconds
            removed["semantic"] = await semantic.index.remove(
                semantic_index.Selection(
                    ids=None if body.id is None else (body.id,),
                    namespace=body.namespace,
                    model=body.model,
                    scope=body.scope,
                    created_before=None if age is None else now - age,
                )
            )
        return CachePurge(removed=removed)


def cache_actions(management: CacheManagement) -> Mapping[str, Act]:
    """What is done for the routes of caches."""

    async def list_caches(operation: Operation, request: Request) -> Any:
        states = await management.states()
        data = [{"object": "cache", **msgspec.to_builtins(state)} for state in states]
        return {"object": "list", "data": data, "next": None}

    async def list_entries(operation: Operation, request: Request) -> Any:
        entries, following = await management.entries(request.listing)
        data = [{"object": "cache.entry", **msgspec.to_builtins(entry)} for entry in entries]
        return {"object": "list", "data": data, "next": following}

    async def purge(operation: Operation, request: Request) -> Any:
        done = await management.purge(request.caller, cast("PurgeCaches", request.body))
        return {"object": "cache.purge", **msgspec.to_builtins(done)}

    return {
        "list_caches": list_caches,
        "list_cache_entries": list_entries,
        "purge_caches": purge,
    }


async def _exact_state(source: ExactSource) -> CacheState:
    found = await source.store.statistics()
    counts = source.counts
    return CacheState(
        name="exact",
        entries=found.entries,
        bytes=found.bytes,
        evictions=found.evictions,
        failures=found.failures,
        details={name: getattr(counts, name) for name in ("shared", "stale", "refreshes")},
        **{name: getattr(counts, name) for name in _COUNTED},
    )


async def _semantic_state(source: SemanticSource) -> CacheState:
    found = await source.index.statistics()
    counts = source.counts
    return CacheState(
        name="semantic",
        entries=found.entries,
        bytes=found.size_bytes,
        evictions=found.evicted,
        failures=counts.failures,
        details={
            **{name: getattr(counts, name) for name in ("explored", "confirmed", "reported")},
            **{f"refused_{guard}": count for guard, count in sorted(counts.refusals.items())},
        },
        **{name: getattr(counts, name) for name in _COUNTED},
    )


def _entry(entry: semantic_index.IndexEntry, policy: Any) -> CacheEntry:
    learned = policy.experience(entry.learning.state) if policy.learns else None
    return CacheEntry(
        id=entry.id,
        scope=entry.scope,
        model=entry.model,
        namespace=entry.namespace,
        created_at=_time(entry.created),
        expires_at=_time(entry.expires) if math.isfinite(entry.expires) else None,
        last_used_at=_time(entry.last_used or entry.created),
        uses=entry.uses,
        observations=None if learned is None else learned.observations,
        correct=None if learned is None else learned.correct,
        boundary=None if learned is None else learned.boundary,
    )


def _time(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
