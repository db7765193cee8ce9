"""Layers of a stack, as a configuration file describes them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from asgi_llm.gateway._definition_types import Definition, Text

__all__ = [
    "LAYERS",
    "PLANNED_LAYERS",
    "AccessLogDefinition",
    "CORSDefinition",
    "LayerDefinition",
]


class LayerDefinition(Definition, frozen=True, kw_only=True):
    """A layer of the stack."""


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


LAYERS: dict[str, type[LayerDefinition]] = {
    "access_log": AccessLogDefinition,
    "cors": CORSDefinition,
}
"""The definition of each layer that this version has."""

PLANNED_LAYERS = frozenset(
    (
        "telemetry",
        "auth",
        "rate_limit",
        "cost",
        "guardrails",
        "prompt",
        "exact_cache",
        "semantic_cache",
        "router",
    )
)
"""Layers that a file may name one day, so that naming one now gets a plain answer."""
