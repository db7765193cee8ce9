"""Limits that all processes share, counted in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import Any

import msgspec

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.stores._redis_client import connect, disconnect
from asgi_llm.stores._redis_pipeline import Batch, ScriptPipeline
from asgi_llm.stores.base import Decision, Demand, LimitStatus

__all__ = ["RedisLimits"]

MAX_KNOWN = 10_000
_encode = msgspec.msgpack.Encoder().encode
SCRIPT = Path(__file__).with_name("limits.lua")


class RedisLimits:
    """A ``LimitStore`` in Redis: each decision is part of one script call, in Redis' own time.

    All decisions of a loop turn, of however many limits, share one round trip. The algorithm is
    the token bucket held to its window, as in ``MemoryLimits``. Keys expire by themselves; after a
    flush all limits begin fresh.

    Args:
        server: An address (see ``asgi_llm.stores._redis_client.connect``), or a client of
            ``redis.asyncio``: ``Redis``, one of Sentinel's ``master_for``, or ``RedisCluster``.
            A client stays open when the store is closed.
        timeout_seconds: After this a call fails with StoreError. Above 0.
        prefix: What every key begins with.
        tag: The hash tag of every key, so that all limits of a request lie on one node of a
            Cluster; or what gives it for a demand, the same for all demands of a request. Limits
            with different tags are counted apart.
    """

    def __init__(
        self,
        server: Any,
        *,
        timeout_seconds: float = 0.05,
        prefix: str = "asgi-llm:limit",
        tag: str | Callable[[Demand], str] = "asgi-llm",
    ) -> None:
        if not 0 < timeout_seconds < inf:
            raise ConfigurationError("timeout_seconds must be above 0", param="timeout_seconds")
        self.timeout_seconds = timeout_seconds
        self._owned = isinstance(server, str)
        self._client = connect(server) if isinstance(server, str) else server
        self._pipeline = ScriptPipeline(
            self._client, SCRIPT.read_text(encoding="utf-8"), timeout_seconds=timeout_seconds
        )
        self._prefix = prefix
        self._tag = (lambda demand: tag) if isinstance(tag, str) else tag
        self._start = f"{prefix}:{{{tag}}}:" if isinstance(tag, str) else None
        # By the identity of the demands, which a layer keeps for each caller.
        self._known: dict[int, tuple[Sequence[Demand], list[str], msgspec.Raw]] = {}

    async def take(
        self, demands: Sequence[Demand], *, lease: str, lease_seconds: float, enforce: bool = True
    ) -> Decision:
        """Take all of ``demands``, or none of them, in one round trip.

        A caller that is cancelled, or gets no answer in time, holds nothing: what Redis may have
        reserved for it is given back as soon as it can be told so, and by the lease's end at last.

        Raises:
            StoreError: Redis refused, failed, or did not answer in time.
        """
        keys, packed = self._packed_once(demands)
        batch = self._pipeline.batch()
        place = len(batch.operations)
        if lease:
            lease_us = int(lease_seconds * 1e6)
            operation: Any = ("t", batch.places(keys), packed, lease, lease_us, enforce)
        else:
            operation = _take_nothing_held(batch, keys, packed, enforce)
        try:
            reply = await batch.call(operation)
        except (asyncio.CancelledError, StoreError):
            self._release(batch, place, demands, lease)
            raise
        numbers = iter(reply)
        if next(numbers) == 1:
            return Decision(
                True,
                tuple(
                    [
                        LimitStatus(left, reset / 1e6, 0.0)
                        for left, reset in zip(numbers, numbers, strict=True)
                    ]
                ),
            )
        return Decision(
            False,
            tuple(
                [
                    LimitStatus(left, reset / 1e6, wait / 1e6 if wait >= 0 else inf)
                    for left, reset, wait in zip(numbers, numbers, numbers, strict=True)
                ]
            ),
        )

    async def renew(self, demands: Sequence[Demand], *, lease: str, lease_seconds: float) -> None:
        """Keep the held demands of ``lease``; one that has run out stays out.

        Raises:
            StoreError: Redis refused, failed, or did not answer in time.
        """
        held = [demand for demand in demands if demand.held]
        if held:
            keys, packed = self._packed(held, [0] * len(held))
            await self._answer("r", keys, packed, lease, int(lease_seconds * 1e6))

    async def settle(self, demands: Sequence[Demand], *, lease: str, costs: Sequence[int]) -> None:
        """End the held demands of ``lease`` with what they really cost.

        Raises:
            StoreError: Redis refused, failed, or did not answer in time.
        """
        held = [pair for pair in zip(demands, costs, strict=True) if pair[0].held]
        if held:
            keys, packed = self._packed([demand for demand, _ in held], [cost for _, cost in held])
            await self._answer("s", keys, packed, lease)

    async def aclose(self) -> None:
        """Close the connection, and the client if it was made here."""
        await self._pipeline.aclose()
        if self._owned:
            await disconnect(self._client)

    async def _answer(self, name: str, keys: list[str], packed: Any, *arguments: Any) -> None:
        batch = self._pipeline.batch()
        await batch.call((name, batch.places(keys), packed, *arguments))

    def _packed_once(self, demands: Sequence[Demand]) -> tuple[list[str], Any]:
        """``_packed`` for ``take``; of demands that come again and again it is kept, encoded."""
        known = self._known.get(id(demands))
        if known is not None and known[0] is demands:
            return known[1], known[2]
        keys, packed = self._packed(demands, [demand.cost for demand in demands])
        if type(demands) is tuple and not any(demand.held for demand in demands):
            # What is held differs in its cost from request to request.
            raw = msgspec.Raw(_encode(packed))
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[id(demands)] = (demands, keys, raw)
            return keys, raw
        return keys, packed

    def _packed(self, demands: Sequence[Demand], costs: Sequence[int]) -> tuple[list[str], Any]:
        """The keys of demands, and the demands as the script reads them."""
        keys: list[str] = []
        packed = []
        for demand, cost in zip(demands, costs, strict=True):
            limit = demand.limit
            key = (self._start or self._tagged(demand)) + demand.key
            keys.append(key)
            state = len(keys)
            if limit.unit == "concurrent_requests":
                packed.append((state, 0, limit.amount, 0, -1, cost, True))
                continue
            if limit.window_seconds <= 0:
                raise ConfigurationError(
                    f"a limit of {limit.unit} needs a window of at least 1 second",
                    param="window_seconds",
                )
            deadlines = 0
            if demand.held or limit.unit != "requests":
                keys.append(key + ":leases")
                deadlines = state + 1
            burst = -1 if limit.burst is None else limit.burst
            window_us = limit.window_seconds * 1_000_000
            packed.append((state, deadlines, limit.amount, window_us, burst, cost, demand.held))
        return keys, packed

    def _tagged(self, demand: Demand) -> str:
        return f"{self._prefix}:{{{self._tag(demand)}}}:"

    def _release(self, batch: Batch, place: int, demands: Sequence[Demand], lease: str) -> None:
        """Give back what a call reserved that nobody waits for any more."""
        held = [demand for demand in demands if demand.held]
        if not batch.is_sent:
            batch.operations[place] = ("s", (), (), lease)
        elif held:
            keys, packed = self._packed(held, [0] * len(held))
            later = self._pipeline.batch()
            later.tell(("s", later.places(keys), packed, lease))


def _take_nothing_held(batch: Batch, keys: list[str], packed: Any, enforce: bool) -> msgspec.Raw:
    """The operation, encoded once for all requests of a caller in one batch: they are the same."""
    place = id(keys) if enforce else -id(keys)
    known = batch.repeated.get(place)
    # Whoever is known is kept, so that its id is not another's.
    if known is not None and known[0] is keys:
        return known[1]
    operation = msgspec.Raw(_encode(("t", batch.places(keys), packed, "", 0, enforce)))
    batch.repeated[place] = (keys, operation)
    return operation
