"""Circuit breakers of what may be called: their policy, and what a layer asks of their store.

A breaker is *closed* while calls pass; *open* after too many failures, so that nothing is called
until a cool-down has passed; then *half-open*: one call is let through as a trial, and its outcome
closes the breaker or opens it again for longer.
"""

from __future__ import annotations

from collections.abc import Awaitable
from math import inf
from typing import Any, Literal, Protocol

import msgspec

from asgi_llm.errors import ConfigurationError

__all__ = ["BreakerPolicy", "BreakerStore", "Standing"]


class BreakerPolicy(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """When a breaker opens, and for how long. All three conditions must hold.

    Raises:
        ConfigurationError: A figure is out of its range.
    """

    failures: int = 5
    """So many in the window, at least 1."""
    failure_rate: float = 0.5
    """So large a share of the window's calls, from above 0 to 1."""
    minimum_calls: int = 5
    """So many calls in the window, at least 1."""
    window_seconds: float = 30.0
    """How long an outcome counts, above 0."""
    cool_down_seconds: float = 5.0
    """How long it is open at first, above 0. Each further time is twice as long."""
    max_cool_down_seconds: float = 120.0
    """The longest that it is open for failures, at least ``cool_down_seconds``. When it was closed
    for so long, earlier times are forgotten."""
    jitter: float = 0.2
    """By how much of itself a cool-down may be shorter, from 0 to below 1: what opened at once is
    not all tried again at once."""
    max_retry_after_seconds: float = 300.0
    """The longest that it is open because the provider asked for it, at least 0."""
    trial_seconds: float = 60.0
    """After so long without an outcome a trial is given up and another one let through, above 0."""

    def __post_init__(self) -> None:
        for name in ("failures", "minimum_calls"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1", param=name)
        for name in ("window_seconds", "cool_down_seconds", "trial_seconds"):
            if not 0 < getattr(self, name) < inf:
                raise ConfigurationError(f"{name} must be above 0", param=name)
        if not 0 < self.failure_rate <= 1:
            raise ConfigurationError("failure_rate is from above 0 to 1", param="failure_rate")
        if not self.cool_down_seconds <= self.max_cool_down_seconds < inf:
            raise ConfigurationError(
                "max_cool_down_seconds must be at least cool_down_seconds",
                param="max_cool_down_seconds",
            )
        if not 0 <= self.jitter < 1:
            raise ConfigurationError("jitter is from 0 to below 1", param="jitter")
        if not 0 <= self.max_retry_after_seconds < inf:
            raise ConfigurationError(
                "max_retry_after_seconds must be at least 0", param="max_retry_after_seconds"
            )


class Standing(msgspec.Struct, frozen=True, gc=False):
    """A breaker that is not closed, as this process knows it."""

    state: Literal["open", "half_open"]
    """``half_open``: the cool-down is over; ``claim`` may give leave for the trial."""
    retry_after_seconds: float
    """Until ``claim`` may succeed; 0 where it may now."""


class BreakerStore(Protocol):
    """The breakers of all targets, by id. Only ``claim`` and what ``refresh`` gives ever wait.

    No method raises because a shared store fails: each process then goes by what it sees itself.
    An id may be any text; how many are remembered is bounded.
    """

    def standing(self, target: str) -> Standing | None:
        """How the breaker of ``target`` stands; None: closed, call it. One look-up as a rule."""
        ...

    def refresh(self) -> Awaitable[None] | None:
        """Learn what other processes know, for each request before it looks at standings.

        None as a rule: what is known is of the last second, or is being asked for. Else, after a
        time without requests, what to await first; it has a deadline and raises nothing.
        """
        ...

    async def claim(self, target: str) -> str | None:
        """Leave to call a target that is not closed.

        Returns:
            The lease of the trial: pass it to ``succeeded``, ``failed`` or ``released``, one of
            which must follow. Empty: closed by now. None: no leave, it is open or another has it.
        """
        ...

    def succeeded(self, target: str, lease: str = "") -> None:
        """``target`` has answered. Closes the breaker where ``lease`` is the trial's."""
        ...

    def failed(
        self,
        target: str,
        lease: str = "",
        *,
        counts: bool = True,
        cool_down_seconds: float | None = None,
    ) -> None:
        """``target`` has failed. Opens the breaker again where ``lease`` is the trial's.

        Args:
            target: The id.
            lease: The trial's; empty for a call while it was closed.
            counts: Whether it counts as a failure of the window.
            cool_down_seconds: Open at once, for so long as the provider asked for, within
                ``max_retry_after_seconds``.
        """
        ...

    def released(self, target: str, lease: str) -> None:
        """The trial has no outcome, such as when the client left: another may have one."""
        ...

    def health(self) -> dict[str, Any]:
        """For ``/health/ready``: the targets that are not closed, and the shared store's state."""
        ...

    async def aclose(self) -> None:
        """Give back what is held."""
        ...
