"""The layer ``cost``, as a configuration file describes it."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from asgi_llm.gateway._definition_types import (
    Definition,
    LayerDefinition,
    Mode,
    Seconds,
    Secret,
    Share,
    Text,
    Usd,
)
from asgi_llm.types import BudgetPeriod, BudgetScope

__all__ = [
    "BudgetDefinition",
    "CostDefinition",
    "JournalDefinition",
    "LedgerDefinition",
    "OwnBudgetDefinition",
    "PricesDefinition",
    "WebhookDefinition",
]

Days = Annotated[int, Meta(ge=1, le=36_600)]
Tokens = Annotated[int, Meta(ge=0, le=2_147_483_647)]


class PricesDefinition(Definition, frozen=True, kw_only=True):
    """Where prices come from: overrides, then a file of LiteLLM's, then genai-prices."""

    overrides: Annotated[
        dict[Text, dict[Text, Any]],
        Meta(description="Prices by provider and model, in USD per million tokens."),
    ] = field(default_factory=dict)
    litellm_file: Annotated[
        Text | None,
        Meta(description="A file in the format of LiteLLM's model_prices_and_context_window.json."),
    ] = None
    genai_prices: Annotated[
        bool, Meta(description="Whether the installed release of genai-prices is used.")
    ] = True


class OwnBudgetDefinition(Definition, frozen=True, kw_only=True):
    """A budget of one key of the file."""

    amount_usd: Annotated[Usd, Meta(description="How much.")]
    period: Annotated[
        Literal["day", "week", "month", "total"], Meta(description="Of the calendar, in UTC.")
    ] = "month"
    hard: Annotated[bool, Meta(description="Whether it refuses; else it only tells.")] = True


class BudgetDefinition(Definition, frozen=True, kw_only=True):
    """So much money in a period, for all who share the scope."""

    scope: Annotated[BudgetScope, Meta(description="Who shares it.")]
    amount_usd: Annotated[Usd, Meta(description="How much.")]
    period: Annotated[
        BudgetPeriod,
        Meta(description="day, week and month are the calendar's; total never begins anew."),
    ] = "month"
    days: Annotated[
        Annotated[int, Meta(ge=1, le=3660)] | None,
        Meta(description="Length of a rolling period."),
    ] = None
    time_zone: Annotated[
        Text, Meta(description="Where the calendar's periods begin, as in Europe/Berlin.")
    ] = "UTC"
    of: Annotated[
        Text | None,
        Meta(
            description="The one id, or pattern of models or of a tag's values, that it is for; "
            "left out, each has a budget of its own."
        ),
    ] = None
    tag: Annotated[Text | None, Meta(description="Name of the tag, for the scope tag.")] = None
    hard: Annotated[bool, Meta(description="Whether it refuses; else it only tells.")] = True
    alert_shares: Annotated[
        tuple[Share, ...] | None,
        Meta(description="Shares at which somebody is told; the layer's when left out."),
    ] = None


class WebhookDefinition(Definition, frozen=True, kw_only=True):
    """Somebody who is told of budgets by HTTP."""

    url: Annotated[Secret, Meta(description="Where alerts are posted, as JSON that Slack takes.")]
    secret: Annotated[
        Secret | None,
        Meta(description="Signs them, at least 16 characters; left out, they are not signed."),
    ] = None
    max_attempts: Annotated[
        int, Meta(ge=1, le=20, description="How often one is posted where nobody takes it.")
    ] = 5
    private: Annotated[
        bool,
        Meta(description="Whether it may be at an address that is not public, and plain http."),
    ] = False


class JournalDefinition(Definition, frozen=True, kw_only=True):
    """What each worker writes on its disk before a call and after it."""

    enabled: Annotated[
        bool,
        Meta(description="Without it, rows go to the database before an answer's last byte."),
    ] = True
    folder: Annotated[
        Text | None,
        Meta(
            description="Shared by all workers of a machine that have the same database; left "
            "out, it is beside a SQLite file, or asgi-llm.journal in this directory."
        ),
    ] = None
    fsync: Annotated[
        Literal["always", "group", "never"],
        Meta(description="What the death of the machine may cost; see the ledger."),
    ] = "group"
    fsync_interval_seconds: Annotated[
        float, Meta(gt=0, le=60, description="How long group gathers writes.")
    ] = 0.05
    map_segments: Annotated[
        bool,
        Meta(
            description="Whether files are written through memory; false for file systems that "
            "copy on write or are remote, such as ZFS or NFS."
        ),
    ] = True


class LedgerDefinition(Definition, frozen=True, kw_only=True):
    """A row for each attempt that reached a provider, in ``storage.database``."""

    enabled: Annotated[bool, Meta(description="Whether rows are kept.")] = True
    delivery: Annotated[
        Literal["direct", "redis"],
        Meta(description="Who writes them: each worker, or `asgi-llm worker` by way of Redis."),
    ] = "direct"
    retention_days: Annotated[
        Days | None,
        Meta(description="How long rows are kept; for good when left out. Sums stay."),
    ] = None
    sums_retention_days: Annotated[
        Days | None,
        Meta(description="How long sums are kept, and at most rows; for good when left out."),
    ] = None
    upkeep_seconds: Annotated[
        Seconds, Meta(description="How often what is too old is deleted.")
    ] = 3600.0


class CostDefinition(LayerDefinition, frozen=True, kw_only=True):
    """What calls cost: prices, budgets, and a ledger that loses nothing."""

    prices: Annotated[PricesDefinition, Meta(description="Where prices come from.")] = field(
        default_factory=PricesDefinition
    )
    unknown_price: Annotated[
        Any,
        Meta(
            description="What becomes of a model without a price: flag, block, USD per request, or "
            "a price that stands in."
        ),
    ] = "flag"
    ledger: Annotated[LedgerDefinition, Meta(description="What is kept of each call.")] = field(
        default_factory=LedgerDefinition
    )
    journal: Annotated[
        JournalDefinition, Meta(description="What is on disk until the ledger has it.")
    ] = field(default_factory=JournalDefinition)
    budgets: Annotated[
        tuple[BudgetDefinition, ...], Meta(description="What may be spent, by anyone concerned.")
    ] = ()
    budget_store: Annotated[
        Literal["auto", "memory", "redis", "database"],
        Meta(
            description="Where spending is counted; auto is Redis where storage.redis is given, "
            "else the database."
        ),
    ] = "auto"
    alert_shares: Annotated[
        tuple[Share, ...],
        Meta(description="Shares of budgets at which somebody is told: 0.8 is four fifths."),
    ] = (Decimal("0.8"), Decimal(1))
    webhooks: Annotated[
        tuple[WebhookDefinition, ...], Meta(description="Who is told, beside the log.")
    ] = ()
    max_cost_usd: Annotated[Usd | None, Meta(description="The most that one request may cost.")] = (
        None
    )
    on_max_cost: Annotated[
        Literal["refuse", "clamp"],
        Meta(description="What becomes of one that may cost more: clamp lowers its max_tokens."),
    ] = "refuse"
    refusal_status: Annotated[
        Literal[400, 402, 429], Meta(description="Status of a refusal by a budget.")
    ] = 400
    on_disconnect: Annotated[
        Literal["cancel", "drain"],
        Meta(description="What becomes of a call whose client leaves: drain lets it end."),
    ] = "cancel"
    drain_up_to_seconds: Annotated[
        Seconds | None, Meta(description="The most that drain waits; to the end when left out.")
    ] = None
    on_store_error: Annotated[
        Literal["allow", "deny"],
        Meta(description="While budgets cannot be checked, or the journal cannot be written."),
    ] = "allow"
    store_timeout_seconds: Annotated[
        Seconds | None,
        Meta(description="For one decision on budgets: 0.05 with Redis, 2 with the database."),
    ] = None
    tell_cost: Annotated[
        bool, Meta(description="Whether answers say what they cost, as in X-Cost.")
    ] = True
    tag_names: Annotated[
        tuple[Text, ...] | None,
        Meta(description="Entries of metadata that are kept as tags; all when left out."),
    ] = None
    default_output_tokens: Annotated[
        Tokens, Meta(description="Reserved for a choice where a request sets no cap.")
    ] = 4096
    max_output_tokens: Annotated[
        dict[Text, Tokens], Meta(description="The same by a pattern of models' names.")
    ] = field(default_factory=dict)
    service_tiers: Annotated[
        tuple[Text, ...],
        Meta(description="Tiers that accounts may be set to, whose prices are reserved too."),
    ] = ("flex", "priority")
    count: Annotated[
        Literal["estimate", "exact"],
        Meta(description="How input is counted; exact needs the extra tokens."),
    ] = "estimate"
    input_margin: Annotated[
        float, Meta(ge=1, le=100, description="An estimate of the input is reserved times this.")
    ] = 1.5
    lease_seconds: Annotated[
        float,
        Meta(ge=1, le=3600, description="How long what a worker that dies had reserved is kept."),
    ] = 60.0
    mode: Mode = "enforce"
