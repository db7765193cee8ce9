"""The layers ``exact_cache`` and ``semantic_cache``, as a configuration file describes them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType, field

from asgi_llm.gateway._definition_types import (
    Definition,
    LayerDefinition,
    Megabytes,
    Mode,
    Seconds,
    Secret,
    Text,
    Url,
)

__all__ = [
    "EmbedderDefinition",
    "ExactCacheDefinition",
    "HttpEmbedderDefinition",
    "IndexDefinition",
    "MemoryIndexDefinition",
    "OnnxEmbedderDefinition",
    "PostgresIndexDefinition",
    "QdrantIndexDefinition",
    "RedisIndexDefinition",
    "SemanticCacheDefinition",
    "SentenceTransformersDefinition",
    "ShadowDefinition",
    "SharedIndexDefinition",
]

LongSeconds = Annotated[float, Meta(gt=0, le=31_622_400)]
SomeSeconds = Annotated[float, Meta(ge=0, le=31_622_400)]
Share = Annotated[float, Meta(ge=0, le=1)]
Dimension = Annotated[int, Meta(ge=1, le=65_536)]
Entries = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Threads = Annotated[
    Annotated[int, Meta(ge=1, le=256)] | None, Meta(description="For one run of the model.")
]
Truncate = Annotated[
    bool, Meta(description="Cut texts that are too long, in place of not looking them up.")
]


class _CacheDefinition(LayerDefinition, frozen=True, kw_only=True):
    """What both caches have."""

    scope: Annotated[
        Literal["organization", "team", "user", "key", "shared"],
        Meta(description="Who shares answers; whoever has none shares with the next narrower."),
    ] = "organization"
    without_principal: Annotated[
        Literal["by_credentials", "share", "bypass"],
        Meta(description="Callers that no layer has told apart."),
    ] = "by_credentials"
    credential_headers: Annotated[
        Annotated[tuple[Text, ...], Meta(min_length=1)] | None,
        Meta(description="What by_credentials goes by; the usual ones when left out."),
    ] = None
    client_controls: Annotated[
        bool,
        Meta(
            description="Whether clients may say of caching what Cache-Control, X-Cache-TTL and "
            "X-Cache-Namespace say."
        ),
    ] = True
    ttl_seconds: Annotated[LongSeconds, Meta(description="How long an answer is fresh.")] = 3600.0
    max_ttl_seconds: Annotated[LongSeconds, Meta(description="What X-Cache-TTL is cut to.")] = (
        30 * 86_400.0
    )
    replay_event_seconds: Annotated[
        float, Meta(ge=0, le=60, description="Between two events of a stored stream; 0: at once.")
    ] = 0.0
    on_store_error: Annotated[
        Literal["allow", "deny"],
        Meta(description="While the store does not answer: allow asks the provider."),
    ] = "allow"


class ExactCacheDefinition(_CacheDefinition, frozen=True, kw_only=True):
    """Answers that were given before, for requests that ask exactly the same."""

    store: Annotated[
        Literal["auto", "memory", "redis", "levels"],
        Meta(
            description="Where they are kept; levels is memory before Redis, which is auto where "
            "storage.redis is given."
        ),
    ] = "auto"
    max_memory_bytes: Annotated[
        int, Meta(ge=1, le=1024 * 1024 * Megabytes, description="Of one process's memory.")
    ] = 256 * Megabytes
    near_seconds: Annotated[
        Seconds, Meta(description="How long levels keeps in memory what Redis had.")
    ] = 10.0
    store_timeout_seconds: Annotated[Seconds, Meta(description="For one call of Redis.")] = 0.05
    compress_over_bytes: Annotated[
        Annotated[int, Meta(ge=0, le=1024 * Megabytes)] | None,
        Meta(description="What is larger goes to Redis compressed; needs the extra cache."),
    ] = None
    max_value_bytes: Annotated[
        int, Meta(ge=1, le=1024 * Megabytes, description="The most that is sent to Redis.")
    ] = 1 * Megabytes
    encryption_keys: Annotated[
        Secret | None,
        Meta(
            description="AES keys of 16, 24 or 32 bytes in base64, as NEW:BASE64,OLD:BASE64; the "
            "first encrypts what lies in Redis. Needs the extra cache."
        ),
    ] = None
    cache_when: Annotated[
        Literal["deterministic", "always"],
        Meta(description="deterministic: temperature 0, or a seed; embeddings always are."),
    ] = "deterministic"
    stale_while_revalidate_seconds: Annotated[
        SomeSeconds, Meta(description="So much longer it is served while it is made anew.")
    ] = 0.0
    stale_if_error_seconds: Annotated[
        SomeSeconds, Meta(description="So much longer it is served where the provider fails.")
    ] = 0.0
    max_refreshes: Annotated[
        int, Meta(ge=1, le=10_000, description="How many are made anew at once.")
    ] = 16
    max_entry_bytes: Annotated[
        int, Meta(ge=1, le=1024 * Megabytes, description="A longer answer is not kept.")
    ] = 8 * Megabytes
    share_calls: Annotated[
        bool, Meta(description="Whether requests that ask the same at a time share a call.")
    ] = True
    share_wait_seconds: Annotated[
        Seconds, Meta(description="How long one waits for another's answer.")
    ] = 300.0
    lease_seconds: Annotated[
        float, Meta(ge=0.1, le=3600, description="How long a call of a worker that dies is held.")
    ] = 5.0


class SentenceTransformersDefinition(Definition, frozen=True, kw_only=True):
    """A model that sentence-transformers loads; needs the extra sentence-transformers."""

    model: Annotated[Text, Meta(description="A folder, or the name of a model on this machine.")]
    device: Annotated[Text, Meta(description="Where it runs, in torch's words.")] = "cpu"
    threads: Threads = None
    allow_download: Annotated[
        bool, Meta(description="Whether a model that is not on this machine is fetched.")
    ] = False
    truncate: Truncate = False


class OnnxEmbedderDefinition(Definition, frozen=True, kw_only=True):
    """A model that `asgi-llm embedder export` made; needs the extra onnx."""

    folder: Annotated[Text, Meta(description="Where its files are.")]
    threads: Threads = None
    truncate: Truncate = False


class HttpEmbedderDefinition(Definition, frozen=True, kw_only=True):
    """Any endpoint that has /embeddings in OpenAI's format."""

    base_url: Annotated[Url, Meta(description="Up to and with /v1.")]
    model: Annotated[Text, Meta(description="As the endpoint calls it.")]
    api_key: Annotated[Secret | None, Meta(description="Sent as the bearer's token.")] = None
    dimensions: Annotated[
        Dimension | None, Meta(description="Asked of it; the model's own when left out.")
    ] = None
    headers: Annotated[dict[Text, Secret], Meta(description="More of them, for each call.")] = (
        field(default_factory=dict)
    )


class EmbedderDefinition(Definition, frozen=True, kw_only=True):
    """What turns texts into vectors: one of these."""

    sentence_transformers: Annotated[
        SentenceTransformersDefinition | UnsetType, Meta(description="By sentence-transformers.")
    ] = UNSET
    onnx: Annotated[OnnxEmbedderDefinition | UnsetType, Meta(description="By onnxruntime.")] = UNSET
    http: Annotated[HttpEmbedderDefinition | UnsetType, Meta(description="By an endpoint.")] = UNSET


class MemoryIndexDefinition(Definition, frozen=True, kw_only=True):
    """In this process."""

    max_entries_per_partition: Annotated[Entries, Meta(description="Cap of one partition.")] = (
        10_000
    )
    max_bytes: Annotated[
        int,
        Meta(ge=1 * Megabytes, le=1024 * 1024 * Megabytes, description="Of memory, roughly."),
    ] = 256 * Megabytes
    snapshot_path: Annotated[
        Text | None,
        Meta(description="A file that outlives the process; it holds prompts and answers."),
    ] = None
    snapshot_seconds: Annotated[
        float, Meta(ge=1, le=86_400, description="How long after a change it is written.")
    ] = 300.0


class SharedIndexDefinition(Definition, frozen=True, kw_only=True):
    """What all that several workers share have."""

    dimension: Annotated[
        Dimension | None,
        Meta(description="Length of the model's vectors; needed where it is not known at start."),
    ] = None
    max_entries_per_partition: Annotated[Entries, Meta(description="Cap of one partition.")] = (
        10_000
    )
    max_entries: Annotated[Entries | None, Meta(description="Cap of all; none.")] = None


class PostgresIndexDefinition(SharedIndexDefinition, frozen=True, kw_only=True):
    """In ``storage.database``, which has to be PostgreSQL with pgvector."""

    method: Annotated[
        Literal["exact", "hnsw"], Meta(description="hnsw is for tens of thousands of entries.")
    ] = "exact"
    ef_search: Annotated[int, Meta(ge=1, le=1000, description="Candidates of a step of hnsw.")] = (
        100
    )


class RedisIndexDefinition(SharedIndexDefinition, frozen=True, kw_only=True):
    """In ``storage.redis``, which has to be Redis 8 or later."""

    method: Annotated[
        Literal["exact", "hnsw"], Meta(description="hnsw is for tens of thousands of entries.")
    ] = "exact"
    ef: Annotated[int, Meta(ge=1, le=1_000_000, description="Candidates of hnsw.")] = 200


class QdrantIndexDefinition(SharedIndexDefinition, frozen=True, kw_only=True):
    """In a Qdrant; needs the extra qdrant."""

    url: Annotated[
        Text, Meta(description="http:// or https:// address, or a folder for development.")
    ]
    api_key: Annotated[Secret | None, Meta(description="For a server that wants one.")] = None
    collection: Annotated[Text, Meta(description="Its name there.")] = "asgi-llm-semantic"
    method: Annotated[
        Literal["exact", "hnsw"], Meta(description="exact compares all vectors of a partition.")
    ] = "hnsw"
    ef: Annotated[int, Meta(ge=1, le=100_000, description="Candidates of hnsw.")] = 256


class IndexDefinition(Definition, frozen=True, kw_only=True):
    """Where answers are kept and found by similarity: one of these."""

    memory: Annotated[MemoryIndexDefinition | UnsetType, Meta(description="In this process.")] = (
        UNSET
    )
    postgresql: Annotated[
        PostgresIndexDefinition | UnsetType, Meta(description="In PostgreSQL.")
    ] = UNSET
    redis: Annotated[RedisIndexDefinition | UnsetType, Meta(description="In Redis.")] = UNSET
    qdrant: Annotated[QdrantIndexDefinition | UnsetType, Meta(description="In Qdrant.")] = UNSET


class ShadowDefinition(Definition, frozen=True, kw_only=True):
    """A file of what was found, for `asgi-llm cache calibrate`."""

    file: Annotated[Text, Meta(description="In a folder that exists; lines of JSON are added.")]
    max_bytes: Annotated[
        int, Meta(ge=1, le=1024 * 1024 * Megabytes, description="At which it gets no more.")
    ] = 256 * Megabytes
    texts: Annotated[
        bool, Meta(description="Whether it holds prompts; without them only similarities.")
    ] = False


class SemanticCacheDefinition(_CacheDefinition, frozen=True, kw_only=True):
    """Answers that were given before, for requests that ask the same in other words."""

    embedder: Annotated[EmbedderDefinition, Meta(description="Turns texts into vectors.")]
    index: Annotated[
        IndexDefinition, Meta(description="Where answers are kept; in memory when left out.")
    ] = field(default_factory=IndexDefinition)
    policy: Annotated[
        Literal["threshold", "verified"],
        Meta(description="verified learns for each entry how far its answer carries."),
    ] = "threshold"
    threshold: Annotated[
        Share | None,
        Meta(description="Least similarity; the layer's own for the policy and guards."),
    ] = None
    max_error_rate: Annotated[
        float, Meta(gt=0, le=0.499, description="For verified: the share of wrong answers allowed.")
    ] = 0.01
    confidence: Annotated[
        float, Meta(ge=0.5, le=0.9999, description="For verified: how sure that is.")
    ] = 0.95
    guards: Annotated[
        tuple[Text, ...] | None, Meta(description="Which have to agree; all when left out.")
    ] = None
    mode: Mode = "enforce"
    shadow: Annotated[
        ShadowDefinition | None, Meta(description="Records what was found; none.")
    ] = None
    conversation_turns: Annotated[
        int, Meta(ge=1, le=100, description="How many user turns are compared by meaning.")
    ] = 1
    max_temperature: Annotated[float, Meta(ge=0, le=10, description="Requests above it pass.")] = (
        1.0
    )
    max_text_characters: Annotated[
        int, Meta(ge=1, le=10_000_000, description="Longer texts pass.")
    ] = 8000
    candidates: Annotated[
        int, Meta(ge=1, le=1000, description="How many of the nearest entries are looked at.")
    ] = 8
    max_entry_bytes: Annotated[
        int, Meta(ge=1, le=1024 * Megabytes, description="A longer answer is not kept.")
    ] = 1 * Megabytes
    embed_timeout_seconds: Annotated[
        Seconds, Meta(description="Of the embedder; after it the provider is asked.")
    ] = 0.25
    index_timeout_seconds: Annotated[Seconds, Meta(description="Of one call of the index.")] = 0.1
