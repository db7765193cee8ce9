"""The layer ``telemetry`` of a configuration file."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from asgi_llm.gateway._definition_types import LayerDefinition, Secret

__all__ = ["TelemetryDefinition"]


class TelemetryDefinition(LayerDefinition, frozen=True, kw_only=True):
    """Metrics of all requests to models, for Prometheus; needs the extra prometheus."""

    path: Annotated[
        str,
        Meta(
            pattern=r"^/[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*$",
            description="Where they are told.",
            extra={"is": "a plain path such as /metrics"},
        ),
    ] = "/metrics"
    token: Annotated[
        Secret | None,
        Meta(
            description="Who sends it as a bearer token may read them; at least 16 characters. "
            "Left out, it is the master key of auth; without auth only this machine may read."
        ),
    ] = None
    public: Annotated[
        bool, Meta(description="Whether anyone who reaches the gateway may read them.")
    ] = False
    max_models: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="How many names of models that are no alias are told apart; the rest is "
            "other.",
        ),
    ] = 200
    max_users: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description="How many users are told apart in llm_cost_usd_total; 0 is no label.",
        ),
    ] = 0
