"""Values that layers hand to each other through the state: frozen, and free of any I/O.

They are msgspec structs, which are made some five times faster than frozen dataclasses.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Literal

import msgspec

__all__ = [
    "Attempt",
    "BudgetPeriod",
    "BudgetRule",
    "BudgetScope",
    "CacheReport",
    "Cost",
    "Deployment",
    "Document",
    "GuardAction",
    "Limit",
    "LimitReport",
    "LimitScope",
    "LimitUnit",
    "Outcome",
    "PriceSource",
    "Principal",
    "Role",
    "Usage",
    "Verdict",
]

Document = dict[str, Any]
"""A parsed JSON object of the wire. Read-only by convention: an edit makes a new one."""


class Outcome(enum.Enum):
    """How a response ended."""

    COMPLETE = "complete"
    """The message with ``more_body=False`` was sent. Only this may be cached."""
    DISCONNECTED = "disconnected"
    """The client left first. What was delivered still counts."""
    FAILED = "failed"
    """An exception, or an observer that refused the answer."""


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Tokens of one answer in disjoint buckets, each at least 0, that sum to the totals.

    Providers disagree on what their totals include (OpenAI counts cached tokens into the input,
    Anthropic does not), so nothing is kept that could be counted twice.
    """

    input_uncached: int = 0
    input_cached: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    audio_in: int = 0
    output_text: int = 0
    reasoning: int = 0
    audio_out: int = 0
    estimated: bool = False
    """True where the provider was silent, or contradicted itself, and the figures were counted."""

    @property
    def input_tokens(self) -> int:
        """All input tokens, cached ones and cache writes included (OpenTelemetry's sense)."""
        return (
            self.input_uncached
            + self.input_cached
            + self.cache_write_5m
            + self.cache_write_1h
            + self.audio_in
        )

    @property
    def output_tokens(self) -> int:
        """All output tokens, reasoning and audio included."""
        return self.output_text + self.reasoning + self.audio_out

    @property
    def total_tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens


class PriceSource(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a price was read: enough to find the same row again."""

    table: str
    """``overrides``, ``genai-prices``, or the name that an imported price file was given."""
    version: str
    """The table's release, or a digest of the file."""
    row: str
    """The row in the table's own words, such as ``openai/gpt-4o``."""
    effective: date | None = None
    """First day (UTC) of the row; None where the table does not say."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one call costs, in USD, exactly: nothing is rounded before it is shown."""

    amount_usd: Decimal | None
    """None is "not known", which is not zero; ``unknown`` says why."""
    parts: Mapping[str, Decimal] = {}
    """USD by usage bucket or unit, for what was used and has a price. Where the amount is known
    they sum to it."""
    source: PriceSource | None = None
    """The row that the prices are from; None where there is none."""
    service_tier: str | None = None
    """The tier whose prices these are; None for the standard ones."""
    estimated: bool = False
    """True where the counts are an estimate, or a service tier without prices of its own was
    charged at the standard ones."""
    unknown: str | None = None
    """Why the amount is not known: ``no_price``, ``not_in_force``, ``no_usage`` or ``unpriced``
    (something was used that the row has no price for)."""


class CacheReport(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a cache did with one request."""

    status: Literal["hit", "miss", "bypass"]
    """``hit``: the answer is a stored one, and no provider was called for it."""
    type: Literal["exact", "semantic"] | None = None
    """Which cache had it; None without a hit."""
    provider: str | None = None
    """Who made the stored answer, and with which model; None where that is not known."""
    model: str | None = None
    usage: Usage | None = None
    """What the stored answer took when it was made."""


class Deployment(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One place where a model can be called: a configured provider and its name for the model."""

    provider: str
    """Name of a configured provider, as in ``provider/model``."""
    model: str
    """The model's name at that provider."""
    quirks: frozenset[str] = frozenset()
    """Named departures of this deployment, on top of the provider's own (see providers.quirks)."""
    strict: bool = False
    """Refuse what a translation would lose, in place of reporting it."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call that was made, or tried, at a provider."""

    provider: str
    model: str
    status: int | None
    """HTTP status of the upstream; None when no answer came."""
    error_code: str | None
    duration_seconds: float
    time_to_first_byte_seconds: float | None


LimitUnit = Literal["requests", "tokens", "input_tokens", "output_tokens", "concurrent_requests"]
"""What a limit counts."""

LimitScope = Literal[
    "caller", "key", "user", "team", "organization", "model", "key_and_model", "address", "everyone"
]
"""Who shares a limit. ``caller`` is the key, else the user, else the client's address."""


class Limit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """So much of one unit in a window, for all who share the scope."""

    unit: LimitUnit
    amount: int
    """At least 0; 0 lets nothing pass."""
    window_seconds: int = 0
    """60, 3600 or 86400 as a rule; 0 for ``concurrent_requests``, which have no window."""
    scope: LimitScope = "caller"
    burst: int | None = None
    """What a token bucket holds when it is full; None is ``amount``."""


class LimitReport(msgspec.Struct, frozen=True, gc=False):
    """What the limits said of one request."""

    verdict: Literal["admitted", "refused", "would_refuse", "unchecked"]
    """``would_refuse`` where limits are only observed; ``unchecked`` where their store failed."""
    limit: Limit | None = None
    """The limit that refuses, else the one with the least left; None where none was asked."""
    remaining: int = 0
    reset_seconds: float = 0.0
    retry_after_seconds: float = 0.0
    """Infinity: the request can never be met."""


BudgetScope = Literal["key", "user", "team", "organization", "model", "tag", "everyone"]
"""Who shares a budget."""

BudgetPeriod = Literal["day", "week", "month", "rolling", "total"]
"""``day``, ``week`` (from Monday) and ``month`` are the calendar's, in a time zone; ``rolling`` is
the last ``days`` days; ``total`` never begins anew."""


class BudgetRule(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """So much money in a period, for all who share the scope."""

    scope: BudgetScope
    amount_usd: Decimal
    """At least 0; 0 lets nothing pass that costs something."""
    period: BudgetPeriod = "month"
    days: int | None = None
    """Length of a ``rolling`` period, from 1."""
    time_zone: str = "UTC"
    """Where the calendar's periods begin, as in ``Europe/Berlin``."""
    of: str | None = None
    """The one id, or the pattern of models or of a tag's values (as in ``fnmatch``, case kept),
    that the budget is for. None: each id has one of its own, as does each model and each value.
    With a pattern all that fit it share one."""
    tag: str | None = None
    """Name of the tag, for the scope ``tag``."""
    hard: bool = True
    """Whether it refuses; a soft one only tells when its shares are reached."""
    alert_shares: tuple[Decimal, ...] = ()
    """Shares of the amount, above 0, at which somebody is told: 0.8 is four fifths."""


GuardAction = Literal["block", "redact", "flag"]
"""What becomes of what a guard finds: nothing passes, a placeholder stands in for it, or it passes
and is noted."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a guard found, and what became of it. Never holds any of the text."""

    guard: str
    """The guard's name."""
    action: GuardAction
    category: str
    """Dotted words, such as ``pii.email``; ``unavailable`` where the guard could not tell, and
    ``unreadable`` where there was nothing that it could read."""
    score: float
    """From 0 to 1."""
    reason: str
    direction: Literal["input", "output"]
    path: str
    """Where, as in ``messages[2].content``."""
    enforced: bool = True
    """False where it is only observed: the text passed as it was."""


Role = Literal["admin", "team_admin", "member"]
"""What a caller may manage: everything, their own team, or nothing but what is their own."""


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who is calling. Ids are opaque; None is "not known", never "everyone"."""

    key_id: str | None = None
    """Id of the virtual key; never the key, nor its digest."""
    key_name: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    organization_id: str | None = None
    role: Role = "member"
    tier: str | None = None
    models: tuple[str, ...] | None = None
    """Patterns (as in ``fnmatch``, case kept) of the models that may be called; None is all."""
    scopes: frozenset[str] = frozenset()
    limits: tuple[Limit, ...] = ()
    """Limits of this caller's own. They stand in the place of the tier's limits of the same scope,
    unit and window."""
    budgets: tuple[BudgetRule, ...] = ()
    """Budgets of this caller's own: those of the key, of its user, its team and its organization,
    each shared by all who belong to it. They hold beside the budgets of all."""
    metadata: Mapping[str, str] = {}
