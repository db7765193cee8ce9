"""Which guards look at what, and what becomes of their findings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

import msgspec

from asgi_llm.errors import ConfigurationError
from asgi_llm.guards.base import Guard, RepairingGuard
from asgi_llm.guards.patterns import PatternGuard, Scanner, scan_together
from asgi_llm.middleware._guard_quick import NEAR_BORDER, PanelLook, QuickLook
from asgi_llm.types import GuardAction, Principal

__all__ = ["Guardrail", "Panel", "Panels", "Rail", "read_rules"]

_MAX_PANELS: Final = 256
_COSTS: Final = ("inline", "thread", "remote")


class Guardrail(msgspec.Struct, frozen=True, kw_only=True):
    """One guard, and what becomes of what it finds.

    Args:
        guard: Finds it.
        action: ``block`` answers 400 or ends the stream; ``redact`` puts a placeholder in its
            place; ``flag`` lets it pass and says so in the state.
        on_error: What becomes of a text that the guard could not judge, because it failed or was
            too late: ``deny`` blocks it, ``allow`` lets it pass, flagged.
        timeout_seconds: Deadline of one check, above 0; None: it needs none. Inline guards have
            none.
        mode: ``observe`` notes what would have been done, and does nothing.
        min_score: Findings below it are left out, from 0 to 1.
        roles: Whose texts of a request are looked at (``system``, ``user``, ``assistant``,
            ``tool``, or empty for what has no role); none is all.
        models: Patterns (as in ``fnmatch``, case kept) of the models as the client names them;
            none is all.
        scopes: Patterns of callers, such as ``team:blue*``, ``tier:free``, ``user:*``, ``key:*``,
            ``organization:*`` or ``scope:*``; none is all, also those that nobody knows.
        retry: Whether a whole answer that this guard blocks is asked for once more.
        repair: Whether a whole answer that this guard blocks is repaired by its ``repair`` first.

    Raises:
        ConfigurationError: An option is wrong; ``param`` names it.
    """

    guard: Guard
    action: GuardAction = "block"
    on_error: Literal["allow", "deny"] = "deny"
    timeout_seconds: float | None = 2.0
    mode: Literal["enforce", "observe"] = "enforce"
    min_score: float = 0.0
    roles: Collection[str] = ()
    models: Collection[str] = ()
    scopes: Collection[str] = ()
    retry: bool = False
    repair: bool = False

    def __post_init__(self) -> None:
        for option, value, choices in (
            ("action", self.action, ("block", "redact", "flag")),
            ("on_error", self.on_error, ("allow", "deny")),
            ("mode", self.mode, ("enforce", "observe")),
            ("guard.cost", self.guard.cost, _COSTS),
        ):
            if value not in choices:
                raise ConfigurationError(
                    f"{option} must be {', '.join(choices[:-1])} or {choices[-1]}, not {value!r}",
                    param=option,
                )
        if self.timeout_seconds is not None and not self.timeout_seconds > 0:
            raise ConfigurationError("timeout_seconds must be above 0", param="timeout_seconds")
        if not 0 <= self.min_score <= 1:
            raise ConfigurationError("min_score must be from 0 to 1", param="min_score")
        window = self.guard.window
        if window is not None and window < 1:
            raise ConfigurationError("guard.window must be at least 1", param="guard.window")
        for option in ("roles", "models", "scopes"):
            if isinstance(getattr(self, option), str):
                raise ConfigurationError(f"{option} must be a list of texts", param=option)
        if self.repair and not isinstance(self.guard, RepairingGuard):
            raise ConfigurationError(
                f"repair: the guard {self.guard.name!r} has no method repair", param="repair"
            )
        if (self.retry or self.repair) and self.action != "block":
            option = "retry" if self.retry else "repair"
            raise ConfigurationError(f"{option} needs the action block", param=option)


class Rail:
    """A guardrail as it is used.

    Attributes:
        acts: Whether texts are held and changed for it, and not only noted.
    """

    __slots__ = (
        "action",
        "acts",
        "blocks",
        "cost",
        "denies",
        "guard",
        "is_fused",
        "min_score",
        "models",
        "name",
        "repairer",
        "retries",
        "roles",
        "scopes",
        "timeout",
        "window",
    )

    def __init__(self, rule: Guardrail, *, observe: bool) -> None:
        guard = rule.guard
        enforced = rule.mode == "enforce" and not observe
        self.guard = guard
        self.name = guard.name
        self.cost = guard.cost
        self.window = guard.window
        self.action: GuardAction = rule.action
        self.acts = enforced and rule.action != "flag"
        self.blocks = enforced and rule.action == "block"
        self.denies = enforced and rule.on_error == "deny"
        self.timeout = rule.timeout_seconds
        self.min_score = rule.min_score
        self.roles = frozenset(rule.roles)
        self.models = tuple(rule.models)
        self.scopes = tuple(rule.scopes)
        self.retries = rule.retry
        self.repairer = guard if rule.repair and isinstance(guard, RepairingGuard) else None
        # A subclass with a check of its own has to be asked itself.
        self.is_fused = isinstance(guard, PatternGuard) and (
            type(guard).check is PatternGuard.check
        )

    def concerns(self, model: str, names: Sequence[str]) -> bool:
        """Whether it looks at requests for ``model`` of a caller with these names."""
        if self.models and not any(fnmatchcase(model, pattern) for pattern in self.models):
            return False
        return not self.scopes or any(
            fnmatchcase(name, pattern) for pattern in self.scopes for name in names
        )


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
        quick: QuickLook | None = None,
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


# A word in base64 is told from others when it has so many characters.
_LEAST_HOLD: Final = 17


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
        self._quick: QuickLook | None = None
        if guards:
            if other is not None and other._quick is not None:
                self._quick = other._quick.narrowed(guards)
            if self._quick is None:
                near = max(rail.window or 1 for rail in self._fused)
                quick = QuickLook(guards, min(near, NEAR_BORDER))
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
