"""What the gateway knows of its own state: alive, ready, or on its way out."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Literal

from asgi_llm._traceback import describe
from asgi_llm.errors import ConfigurationError

__all__ = ["Check", "Facts", "Health", "Status"]

logger = logging.getLogger(__name__)

Check = Callable[[], bool | Awaitable[bool]]
"""Says whether one part can do its work now."""

Facts = Callable[[], Mapping[str, object]]
"""Figures of one part: JSON values without secrets."""

Status = Literal["ready", "degraded", "not_ready", "draining"]


class Health:
    """Readiness of one gateway. One instance is shared by those who ask and those who decide.

    Args:
        checks: Parts that must be well for the gateway to be ready, by name. A check that raises,
            or takes longer than its deadline, has failed.
        dispensable: Names of parts without which the gateway still serves. What all instances
            share has to be one: else one failure takes all of them out of service.
        summary: Further facts for ``/health``: JSON values without secrets.
        check_timeout_seconds: Deadline of one check, above 0. All checks run at once.

    Attributes:
        facts: Figures of parts, by their names, for those who look after them.
    """

    def __init__(
        self,
        *,
        checks: Mapping[str, Check] | None = None,
        dispensable: Iterable[str] = (),
        summary: Mapping[str, object] | None = None,
        check_timeout_seconds: float = 1.0,
    ) -> None:
        if not check_timeout_seconds > 0:
            raise ConfigurationError(
                "check_timeout_seconds must be above 0", param="check_timeout_seconds"
            )
        self.checks = dict(checks or {})
        self.dispensable = set(dispensable)
        self.summary = dict(summary or {})
        self.facts: dict[str, Facts] = {}
        self.check_timeout_seconds = check_timeout_seconds
        self.draining = False
        self._failing: set[str] = set()
        self._successor: Health | None = None

    def drain(self) -> None:
        """From now on not ready: the process is ending, and new requests belong elsewhere."""
        self.draining = True
        if self._successor is not None:
            self._successor.drain()

    def hand_over(self, successor: Health) -> None:
        """From now on ``successor`` is asked: it ends with this one, and knows what was logged."""
        successor._failing = self._failing & successor.checks.keys()
        self._successor = successor
        if self.draining:
            successor.drain()

    async def parts(self) -> dict[str, bool]:
        """Each checked part, and whether it is well."""
        results = await asyncio.gather(*(self._run(name) for name in self.checks))
        return dict(zip(self.checks, results, strict=True))

    def details(self) -> dict[str, Mapping[str, object]]:
        """The figures of each part that has any."""
        found = {name: facts() for name, facts in self.facts.items()}
        return {name: figures for name, figures in found.items() if figures}

    def status(self, parts: Mapping[str, bool]) -> Status:
        """The state that follows from ``parts``."""
        if self.draining:
            return "draining"
        failing = {name for name, well in parts.items() if not well}
        if failing - self.dispensable:
            return "not_ready"
        return "degraded" if failing else "ready"

    async def _run(self, name: str) -> bool:
        try:
            async with asyncio.timeout(self.check_timeout_seconds):
                result = self.checks[name]()
                well = bool(await result if inspect.isawaitable(result) else result)
        except Exception as error:
            well = False
            if name not in self._failing:
                logger.warning("the health check %r failed:\n%s", name, describe(error))
        # Probes come every few seconds; the log gets the changes.
        (self._failing.discard if well else self._failing.add)(name)
        return well
