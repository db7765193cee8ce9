"""Which guards look at what, and what becomes of their findings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from asgi_llm.errors import ConfigurationError
from asgi_llm.guards.base import Guard
from asgi_llm.guards.patterns import scan_together
from asgi_llm.middleware._guard_panel import Panel
from asgi_llm.middleware._guard_quick import NEAR_BORDER
from asgi_llm.middleware._guard_quick_rules import QuickRules
from asgi_llm.middleware._guard_rail import Guardrail, Rail
from asgi_llm.types import Principal

__all__ = ["Panels", "names_of", "read_rules"]

_MAX_PANELS: Final = 256


class Panels:
    """One direction's guardrails, and those of them that concern a request.

    Args:
        rails: In the order in which they judge.
        other: The other direction's. Where it has the same guards, texts are looked at with the
            same automaton, which is then more often in the processor's cache.

    Attributes:
        rails: As given.
        every: All of them, where each one concerns every request; else None.
    """

    __slots__ = ("_by_choice", "_fused", "_quick", "_scanner", "every", "rails")

    def __init__(self, rails: Sequence[Rail], other: Panels | None = None) -> None:
        self.rails = tuple(rails)
        self._fused = [rail for rail in self.rails if rail.is_fused]
        guards: list[Any] = [rail.guard for rail in self._fused]
        self._scanner = scan_together(guards) if guards else None
        self._quick: QuickRules | None = None
        if guards:
            if other is not None and other._quick is not None:
                self._quick = other._quick.narrowed(guards)
            if self._quick is None:
                near = max(rail.window or 1 for rail in self._fused)
                quick = QuickRules(guards, min(near, NEAR_BORDER))
                self._quick = quick if quick.works else None
        self.every: Panel | None = None
        if not any(rail.models or rail.scopes for rail in self.rails):
            self.every = Panel(self.rails, self._fused, self._scanner, self._quick)
        self._by_choice: dict[tuple[bool, ...], Panel] = {}

    def choose(self, model: str, principal: Principal | None) -> Panel:
        """Those that concern a request for ``model``."""
        if self.every is not None:
            return self.every
        names = names_of(principal)
        choice = tuple(rail.concerns(model, names) for rail in self.rails)
        panel = self._by_choice.get(choice)
        if panel is None:
            kept = [rail for rail, wanted in zip(self.rails, choice, strict=True) if wanted]
            panel = Panel(kept, self._fused, self._scanner, self._quick)
            if len(self._by_choice) < _MAX_PANELS:
                self._by_choice[choice] = panel
        return panel


def names_of(principal: Principal | None) -> tuple[str, ...]:
    """What ``scopes`` can name a caller by."""
    if principal is None:
        return ()
    ids = (
        ("key", principal.key_id),
        ("user", principal.user_id),
        ("team", principal.team_id),
        ("organization", principal.organization_id),
        ("tier", principal.tier),
        ("role", principal.role),
    )
    return (
        *[f"{name}:{value}" for name, value in ids if value is not None],
        *[f"scope:{scope}" for scope in principal.scopes],
    )


def read_rules(rules: Iterable[Guardrail | Guard], option: str, *, observe: bool) -> list[Rail]:
    """The rails of an option; a bare guard blocks.

    Raises:
        ConfigurationError: Something is no guard.
    """
    rails: list[Rail] = []
    for rule in rules:
        if not isinstance(rule, Guardrail):
            if not callable(getattr(rule, "check", None)):
                raise ConfigurationError(
                    f"{option}: {type(rule).__name__} is neither a Guardrail nor a guard",
                    param=option,
                )
            rule = Guardrail(guard=rule)
        rails.append(Rail(rule, observe=observe))
    return rails
