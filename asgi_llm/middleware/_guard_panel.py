"""The guardrails that look at one direction of one request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from asgi_llm.guards.patterns import Scanner
from asgi_llm.middleware._guard_quick import PanelLook
from asgi_llm.middleware._guard_quick_rules import QuickRules
from asgi_llm.middleware._guard_rail import Rail

__all__ = ["Panel"]

# A word in base64 is told from others when it has so many characters.
_LEAST_HOLD: Final = 17


class Panel:
    """The guardrails that look at one direction of one request.

    Args:
        rails: All of them.
        fused: Those whose patterns are one scanner, in its order.
        scanner: Of these.

    Attributes:
        rails: All of them.
        fused: The ones of the scanner, None where one does not concern the request.
        inline: The others that run on the loop.
        slow: Those that run in threads or wait for somebody.
        look: Tells of a text that none of them finds anything; None: they have to be asked.
        retries: Whether one of them may want another answer.
        hold: Characters that a stream holds back; None: to its end; 0: nothing.
    """

    __slots__ = (
        "_acting",
        "_noting",
        "_quick",
        "acts",
        "fused",
        "hold",
        "inline",
        "look",
        "rails",
        "retries",
        "scanner",
        "slow",
    )

    def __init__(
        self,
        rails: Iterable[Rail],
        fused: Sequence[Rail | None],
        scanner: Scanner | None,
        quick: QuickRules | None = None,
    ) -> None:
        self._quick = quick
        self.rails = tuple(rails)
        self.fused = tuple(rail if rail in self.rails else None for rail in fused)
        self.scanner = scanner if any(self.fused) else None
        self.inline = tuple(r for r in self.rails if r.cost == "inline" and not r.is_fused)
        self.slow = tuple(r for r in self.rails if r.cost != "inline")
        self.look: PanelLook | None = None
        if quick is not None and self.scanner is not None and not (self.inline or self.slow):
            self.look = PanelLook(quick, self.fused)
        self.retries = any(rail.retries for rail in self.rails)
        acting = [rail for rail in self.rails if rail.acts]
        self.acts = bool(acting)
        self._acting = self if len(acting) == len(self.rails) else None
        self._noting: Panel | None = None
        self.hold: int | None = 0
        for rail in acting:
            if rail.window is None:
                self.hold = None
                break
            self.hold = max(self.hold or 0, rail.window + 1, _LEAST_HOLD)

    @property
    def acting(self) -> Panel:
        """Those of them for which texts are held and changed."""
        if self._acting is None:
            self._acting = self._only(acts=True)
        return self._acting

    @property
    def noting(self) -> Panel:
        """Those of them that only note."""
        if self._noting is None:
            self._noting = self._only(acts=False)
        return self._noting

    def _only(self, *, acts: bool) -> Panel:
        kept = [rail for rail in self.rails if rail.acts is acts]
        fused = [rail if rail in kept else None for rail in self.fused]
        return Panel(kept, fused, self.scanner, self._quick)
