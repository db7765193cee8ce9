"""What a layer asks of the place where it keeps things.

Every method may raise ``StoreError`` (the store did not answer in time, or answered nonsense); no
driver lets an exception of its client library out. What to do then is the layer's to decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from asgi_llm.types import Limit, Principal

__all__ = ["Decision", "Demand", "KeyRecord", "KeyStore", "LimitStatus", "LimitStore"]


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a key store knows of one credential."""

    principal: Principal
    active: bool = True
    """False once the key is revoked."""
    expires_at: float | None = None
    """Unix time in seconds. After a rotation the old credential has the end of its grace here."""


class KeyStore(Protocol):
    """Where credentials are looked up."""

    async def find(self, digest: bytes) -> KeyRecord | None:
        """The record of the key whose SHA-256 digest (32 bytes) is ``digest``; None: no such key.

        Raises:
            StoreError: It is not known whether there is such a key.
        """
        ...


class Demand(msgspec.Struct, frozen=True, gc=False):
    """What one request asks of one limit."""

    key: str
    """Who shares the limit and which limit it is; opaque to the store, at most 512 characters."""
    limit: Limit
    cost: int
    """How much to take, at least 0; 0 only looks."""
    held: bool
    """Whether the cost is a reservation: settled at the end, or given back by the store itself when
    its lease runs out. Demands of ``concurrent_requests`` are always held."""


class LimitStatus(msgspec.Struct, frozen=True, gc=False):
    """How one limit stands after a decision."""

    remaining: int
    """At least 0."""
    reset_seconds: float
    """Until the limit is whole again, if nobody takes more."""
    retry_after_seconds: float
    """Until the demand can be met; 0 where it was, infinity where it never can be."""


class Decision(msgspec.Struct, frozen=True, gc=False):
    """One answer for all demands of a request."""

    admitted: bool
    """Whether all demands were taken; if not, none was (unless the caller did not enforce)."""
    statuses: tuple[LimitStatus, ...]
    """In the order of the demands."""


class LimitStore(Protocol):
    """Where limits are counted.

    A decision is atomic: of all demands either all are taken or none, whoever else asks at the same
    time.
    """

    async def take(
        self, demands: Sequence[Demand], *, lease: str, lease_seconds: float, enforce: bool = True
    ) -> Decision:
        """Take all of ``demands``, or none of them.

        Args:
            demands: One per limit that concerns the request, each with another key.
            lease: Id of this request's reservations, unlike any other.
            lease_seconds: How long the held ones last without ``renew`` or ``settle``.
            enforce: False takes them even where a limit is passed, and says that it was.
        """
        ...

    async def renew(self, demands: Sequence[Demand], *, lease: str, lease_seconds: float) -> None:
        """Keep the held demands of ``lease`` for ``lease_seconds`` from now."""
        ...

    async def settle(self, demands: Sequence[Demand], *, lease: str, costs: Sequence[int]) -> None:
        """End the held demands of ``lease`` with what they really cost, in the demands' order.

        What was reserved above that comes back; what was used beyond it is taken, even where the
        limit is passed. A lease that has run out, or was settled, takes the cost alone.
        """
        ...

    async def aclose(self) -> None:
        """Close what the store itself opened."""
        ...
