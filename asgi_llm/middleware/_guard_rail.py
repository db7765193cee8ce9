"""A guard, and what becomes of what it finds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from typing import Final, Literal

import msgspec

from asgi_llm.errors import ConfigurationError
from asgi_llm.guards.base import Guard, RepairingGuard
from asgi_llm.guards.patterns import PatternGuard
from asgi_llm.types import GuardAction

__all__ = ["Guardrail", "Rail"]

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
