"""Layers of a stack, as a configuration file describes them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from asgi_llm.gateway._cache_definitions import ExactCacheDefinition, SemanticCacheDefinition
from asgi_llm.gateway._cost_definitions import CostDefinition, OwnBudgetDefinition
from asgi_llm.gateway._definition_types import (
    Definition,
    LayerDefinition,
    Mode,
    Secret,
    Text,
    Url,
)
from asgi_llm.gateway._guardrails_definitions import GuardrailsDefinition
from asgi_llm.gateway._router_definitions import RouterDefinition
from asgi_llm.gateway._telemetry_definitions import TelemetryDefinition
from asgi_llm.types import LimitScope, Role

__all__ = [
    "LAYERS",
    "PLANNED_LAYERS",
    "AccessLogDefinition",
    "AuthDefinition",
    "CORSDefinition",
    "CostDefinition",
    "ExactCacheDefinition",
    "GuardrailsDefinition",
    "JWTDefinition",
    "KeyDefinition",
    "LayerDefinition",
    "RateLimitDefinition",
    "RouterDefinition",
    "SemanticCacheDefinition",
    "TelemetryDefinition",
    "TierDefinition",
]


Amount = Annotated[int, Meta(ge=0, le=1_000_000_000_000)]


class AccessLogDefinition(LayerDefinition, frozen=True, kw_only=True):
    """One structured line a request, never with prompt text."""


class CORSDefinition(LayerDefinition, frozen=True, kw_only=True):
    """Lets pages of other origins call the gateway from a browser."""

    allow_origins: Annotated[
        tuple[Text, ...],
        Meta(description='Origins such as https://app.example.com; "*" is any.'),
    ] = ()
    allow_origin_regex: Annotated[
        Text | None, Meta(description="Matched against a whole origin.")
    ] = None
    allow_methods: Annotated[
        tuple[Text, ...] | None, Meta(description="GET, HEAD and POST when left out.")
    ] = None
    allow_headers: Annotated[
        tuple[Text, ...] | None,
        Meta(description="Request headers; those that the official clients send when left out."),
    ] = None
    expose_headers: Annotated[
        tuple[Text, ...] | None,
        Meta(description="Response headers; those that the gateway sends when left out."),
    ] = None
    allow_credentials: Annotated[bool, Meta(description="Whether a page may send cookies.")] = False
    max_age_seconds: Annotated[
        int, Meta(ge=0, le=86_400, description="How long a browser keeps the permission.")
    ] = 600


class KeyDefinition(Definition, frozen=True, kw_only=True):
    """A key that is written in the file, with no database."""

    name: Annotated[Text, Meta(description="What logs and reports call it; also its id.")]
    key: Annotated[Secret | None, Meta(description="The key itself, as in ${TEAM_A_KEY}.")] = None
    sha256: Annotated[
        Annotated[
            str,
            Meta(
                pattern=r"^[0-9a-fA-F]{64}$",
                extra={"is": "a SHA-256 digest of 64 hexadecimal digits"},
            ),
        ]
        | None,
        Meta(description="Its SHA-256 digest, in place of the key."),
    ] = None
    user: Annotated[Text | None, Meta(description="Id of the user whose key it is.")] = None
    team: Annotated[Text | None, Meta(description="Id of the team.")] = None
    organization: Annotated[Text | None, Meta(description="Id of the organization.")] = None
    role: Annotated[Role, Meta(description="What it may manage.")] = "member"
    tier: Annotated[Text | None, Meta(description="A tier of the rate_limit layer.")] = None
    models: Annotated[
        tuple[Text, ...] | None,
        Meta(description="Patterns of the models that it may call; all when left out."),
    ] = None
    scopes: Annotated[tuple[Text, ...], Meta(description="What else it may do, by name.")] = ()
    limits: Annotated[
        tuple[Text, ...],
        Meta(description="Limits of its own, such as 60 requests/minute."),
    ] = ()
    budgets: Annotated[
        tuple[OwnBudgetDefinition, ...],
        Meta(description="Budgets of its own, for the layer cost."),
    ] = ()
    metadata: Annotated[
        dict[Text, Text], Meta(description="Labels, handed on to logs and reports.")
    ] = field(default_factory=dict)
    expires: Annotated[
        Text | None, Meta(description="When it ends, as in 2027-01-31T00:00:00Z.")
    ] = None


class JWTDefinition(Definition, frozen=True, kw_only=True):
    """Web tokens of one issuer; needs the extra auth."""

    issuer: Annotated[Text, Meta(description="The iss claim that a token has to have.")]
    audience: Annotated[Text, Meta(description="The aud claim that it has to have.")]
    algorithms: Annotated[
        tuple[Text, ...], Meta(min_length=1, description="Signatures that are accepted.")
    ] = ("RS256", "ES256")
    jwks_url: Annotated[
        Url | None,
        Meta(description="Where its keys are; as its OpenID configuration says, if left out."),
    ] = None
    leeway_seconds: Annotated[
        float, Meta(ge=0, le=300, description="How far its clock may be off.")
    ] = 30.0
    claims: Annotated[
        dict[Text, Text],
        Meta(description="Field of the caller to claim; user_id is sub when left out."),
    ] = field(default_factory=dict)
    role_claim: Annotated[Text | None, Meta(description="The claim that holds roles.")] = None
    roles: Annotated[
        dict[Text, Role], Meta(description="The issuer's word for a role to ours.")
    ] = field(default_factory=dict)


class AuthDefinition(LayerDefinition, frozen=True, kw_only=True):
    """Who is calling: keys of the file and of the database, web tokens, the master key."""

    master_key: Annotated[
        Secret | None,
        Meta(
            description="Opens /admin, and the metrics where telemetry has no token; at least 16 "
            "characters."
        ),
    ] = None
    keys: Annotated[
        tuple[KeyDefinition, ...], Meta(description="Keys that are known without a database.")
    ] = ()
    database: Annotated[
        bool,
        Meta(description="Whether keys of storage.database are accepted, and /admin is served."),
    ] = True
    jwt: Annotated[tuple[JWTDefinition, ...], Meta(description="Issuers of web tokens.")] = ()
    public_paths: Annotated[
        tuple[Text, ...], Meta(description="Further paths that are open to anyone.")
    ] = ()
    required_scopes: Annotated[
        dict[Text, Text],
        Meta(description="Beginning of a path to the scope that a key needs there."),
    ] = field(default_factory=dict)
    fresh_seconds: Annotated[
        float,
        Meta(gt=0, le=5, description="How long a looked-up key is used without asking again."),
    ] = 4.0
    stale_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=86_400,
            description="How long it is used while the database does not answer.",
        ),
    ] = 600.0
    max_cached_keys: Annotated[
        int, Meta(ge=1, le=10_000_000, description="How many are kept in memory.")
    ] = 50_000
    mode: Mode = "enforce"


class TierDefinition(Definition, frozen=True, kw_only=True):
    """Limits that go together."""

    requests_per_minute: Annotated[Amount | None, Meta(description="Requests in a minute.")] = None
    requests_per_hour: Annotated[Amount | None, Meta(description="Requests in an hour.")] = None
    requests_per_day: Annotated[Amount | None, Meta(description="Requests in a day.")] = None
    tokens_per_minute: Annotated[
        Amount | None, Meta(description="Input and output tokens in a minute.")
    ] = None
    tokens_per_day: Annotated[
        Amount | None, Meta(description="Input and output tokens in a day.")
    ] = None
    input_tokens_per_minute: Annotated[
        Amount | None, Meta(description="Input tokens in a minute.")
    ] = None
    input_tokens_per_day: Annotated[Amount | None, Meta(description="Input tokens in a day.")] = (
        None
    )
    output_tokens_per_minute: Annotated[
        Amount | None, Meta(description="Output tokens in a minute.")
    ] = None
    output_tokens_per_day: Annotated[Amount | None, Meta(description="Output tokens in a day.")] = (
        None
    )
    concurrent_requests: Annotated[
        Amount | None, Meta(description="Requests under way at the same time.")
    ] = None
    scope: Annotated[LimitScope, Meta(description="Who shares them.")] = "caller"
    limits: Annotated[
        tuple[Text, ...],
        Meta(description="Further ones, such as 5 requests/second per user burst 10."),
    ] = ()


class RateLimitDefinition(LayerDefinition, frozen=True, kw_only=True):
    """How much: requests, tokens and concurrency, by caller, tier and model."""

    limits: Annotated[
        tuple[Text, ...],
        Meta(description="For all, such as 60 requests/minute per address."),
    ] = ()
    tiers: Annotated[
        dict[Text, TierDefinition], Meta(description="Limits of callers, by their tier.")
    ] = field(default_factory=dict)
    default_tier: Annotated[
        Text | None, Meta(description="The tier of callers that have none.")
    ] = None
    models: Annotated[
        dict[Text, TierDefinition], Meta(description="Limits of models, by a pattern of names.")
    ] = field(default_factory=dict)
    store: Annotated[
        Literal["auto", "memory", "redis"],
        Meta(description="Where they are counted; auto is Redis where storage.redis is given."),
    ] = "auto"
    algorithm: Annotated[
        Literal["token_bucket", "fixed_window", "moving_window", "sliding_window"],
        Meta(description="How; all but the first need the extra limits."),
    ] = "token_bucket"
    storage: Annotated[
        Secret | None,
        Meta(
            description="Another place for the windows, as the package limits addresses it, such "
            "as memcached://HOST:11211."
        ),
    ] = None
    on_store_error: Annotated[
        Literal["allow", "deny", "share"],
        Meta(description="While that does not answer: share counts a worker's share in memory."),
    ] = "share"
    default_output_tokens: Annotated[
        int,
        Meta(ge=0, le=10_000_000, description="Reserved where a request sets no cap."),
    ] = 1024
    max_output_tokens: Annotated[
        dict[Text, Amount], Meta(description="The same by a pattern of models' names.")
    ] = field(default_factory=dict)
    count: Annotated[
        Literal["estimate", "exact"],
        Meta(description="How input is counted; exact needs the extra tokens."),
    ] = "estimate"
    lease_seconds: Annotated[
        float,
        Meta(ge=1, le=3600, description="How long what a worker that dies had reserved is kept."),
    ] = 60.0
    mode: Mode = "enforce"


LAYERS: dict[str, type[LayerDefinition]] = {
    "access_log": AccessLogDefinition,
    "telemetry": TelemetryDefinition,
    "auth": AuthDefinition,
    "rate_limit": RateLimitDefinition,
    "cost": CostDefinition,
    "guardrails": GuardrailsDefinition,
    "exact_cache": ExactCacheDefinition,
    "semantic_cache": SemanticCacheDefinition,
    "router": RouterDefinition,
    "cors": CORSDefinition,
}
"""The definition of each layer that this version has."""

PLANNED_LAYERS = frozenset(("prompt",))
"""Layers that a file may name one day, so that naming one now gets a plain answer."""
