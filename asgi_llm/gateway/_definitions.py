"""What a configuration file may hold.

One set of definitions validates a file, is printed by ``asgi-llm schema``, and says what each key
means.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from asgi_llm.gateway._definition_types import (
    Definition,
    Megabytes,
    Name,
    Port,
    Seconds,
    Secret,
    Text,
    TimeoutsDefinition,
)
from asgi_llm.gateway._layer_definitions import AccessLogDefinition, LayerDefinition
from asgi_llm.gateway._provider_definitions import ProviderDefinition
from asgi_llm.gateway._router_definitions import ModelDefinition, TargetDefinition

__all__ = [
    "Configuration",
    "FetchImagesDefinition",
    "ModelDefinition",
    "ReloadDefinition",
    "ServerDefinition",
    "StorageDefinition",
    "TargetDefinition",
]


class FetchImagesDefinition(Definition, frozen=True, kw_only=True):
    """Images and documents by URL, for providers that cannot fetch them themselves."""

    enabled: Annotated[
        bool,
        Meta(description="Whether they are fetched; a URL is refused otherwise."),
    ] = False
    max_bytes: Annotated[
        int, Meta(ge=1, le=1024 * Megabytes, description="Cap on one of them.")
    ] = 10 * Megabytes
    max_total_bytes: Annotated[
        int, Meta(ge=1, le=1024 * Megabytes, description="Cap on all of one request together.")
    ] = 20 * Megabytes
    max_images: Annotated[
        int, Meta(ge=1, le=10_000, description="Cap on their number in one request.")
    ] = 20
    max_at_once: Annotated[
        int, Meta(ge=1, le=1000, description="How many of one request are fetched together.")
    ] = 4
    timeout_seconds: Annotated[Seconds, Meta(description="For all of one request.")] = 10.0
    media_types: Annotated[
        tuple[
            Literal["image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf"], ...
        ],
        Meta(min_length=1, description="Those that are taken."),
    ] = ("image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf")
    allow_http: Annotated[
        bool, Meta(description="Whether http URLs are taken too, which anyone on the way can read.")
    ] = False
    allowed_ports: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=65535)], ...],
        Meta(min_length=1, description="Those that a URL may name."),
    ] = (80, 443)


class ReloadDefinition(Definition, frozen=True, kw_only=True):
    """How a changed file is taken while the gateway runs."""

    enabled: Annotated[
        bool,
        Meta(description="Whether the file is watched; else a change waits for SIGHUP."),
    ] = True
    interval_seconds: Annotated[
        float,
        Meta(
            gt=0,
            le=3600,
            description="Between two looks at it; it is read when two in a row find the same.",
        ),
    ] = 1.0
    drain_seconds: Annotated[
        Annotated[float, Meta(ge=0, le=86_400)] | None,
        Meta(
            description="For requests under way to end with the configuration that they began "
            "with, before they are ended; left out, graceful_shutdown_seconds.",
        ),
    ] = None


class ServerDefinition(Definition, frozen=True, kw_only=True):
    """Where ``asgi-llm serve`` listens, and its limits."""

    host: Annotated[
        Text,
        Meta(description="Address or host name to listen on."),
    ] = "127.0.0.1"
    port: Annotated[Port, Meta(description="TCP port; 0 takes a free one.")] = 4000
    workers: Annotated[int, Meta(ge=1, le=512, description="Processes that share the port.")] = 1
    max_connections: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Open connections per process; a further one is answered 503 and closed.",
        ),
    ] = 2000
    max_body_bytes: Annotated[
        int, Meta(ge=1, le=1024 * Megabytes, description="Cap on a request's body.")
    ] = 32 * Megabytes
    body_timeout_seconds: Annotated[
        Seconds, Meta(description="For the whole body of a request to arrive.")
    ] = 60.0
    header_timeout_seconds: Annotated[
        Seconds,
        Meta(description="For the head of a request to arrive, from the connection's opening on."),
    ] = 10.0
    write_timeout_seconds: Annotated[
        Seconds,
        Meta(description="For a client that does not read to read on, before it is cut off."),
    ] = 60.0
    keep_alive_seconds: Annotated[
        int, Meta(ge=0, le=86_400, description="For an idle connection to be used again.")
    ] = 75
    graceful_shutdown_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=86_400,
            description="For requests under way to end after SIGTERM, before they are ended.",
        ),
    ] = 30.0
    trusted_proxies: Annotated[
        tuple[Text, ...],
        Meta(
            description="Addresses or networks whose X-Forwarded-For and -Proto are believed; "
            "left out, nobody's are."
        ),
    ] = ()
    log_format: Annotated[
        Literal["console", "json"],
        Meta(description="How log lines look; json is one object a line."),
    ] = "console"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least that is logged."),
    ] = "info"
    docs: Annotated[bool, Meta(description="Whether /docs and /openapi.json are served.")] = True
    timeouts: Annotated[
        TimeoutsDefinition, Meta(description="Deadlines of calls to all providers.")
    ] = field(default_factory=TimeoutsDefinition)
    fetch_images: Annotated[
        FetchImagesDefinition,
        Meta(description="Images by URL, for providers that cannot fetch them themselves."),
    ] = field(default_factory=FetchImagesDefinition)
    reload: Annotated[
        ReloadDefinition, Meta(description="What becomes of a file that is changed.")
    ] = field(default_factory=ReloadDefinition)


class StorageDefinition(Definition, frozen=True, kw_only=True):
    """Where everything that lasts is kept."""

    database: Annotated[
        Secret | None,
        Meta(
            description="URL of a SQLite or PostgreSQL database; left out, the file asgi-llm.db in "
            "this directory."
        ),
    ] = None
    redis: Annotated[
        Secret | None,
        Meta(description="URL of a Redis server that all workers share; none when left out."),
    ] = None


class Configuration(Definition, frozen=True, kw_only=True):
    """A whole file."""

    server: Annotated[
        ServerDefinition, Meta(description="Where `asgi-llm serve` listens, and its limits.")
    ] = field(default_factory=ServerDefinition)
    storage: Annotated[
        StorageDefinition, Meta(description="Where keys and all else that lasts are kept.")
    ] = field(default_factory=StorageDefinition)
    providers: Annotated[
        dict[Name, ProviderDefinition], Meta(description="Accounts at providers, by a name.")
    ] = field(default_factory=dict)
    models: Annotated[
        dict[Name, ModelDefinition],
        Meta(description="Aliases; provider/model works as a name without one."),
    ] = field(default_factory=dict)
    stack: Annotated[
        tuple[LayerDefinition, ...],
        Meta(description="Layers, outermost first; left out, it is the access log alone."),
    ] = (AccessLogDefinition(),)
