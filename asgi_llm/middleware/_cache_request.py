"""Which requests caches look at, and the digest by which two of them are the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final, Literal

import msgspec

from asgi_llm._semconv import Operation
from asgi_llm.errors import ConfigurationError
from asgi_llm.middleware._cache_controls import CacheControls
from asgi_llm.types import Deployment, Document

__all__ = [
    "CACHED_ROUTES",
    "DENIED_FIELDS",
    "CacheRequest",
    "CacheWhen",
    "cache_rule",
    "canonical",
    "digest_request",
    "is_any",
    "is_deterministic",
    "is_json",
    "name_of",
    "read_request",
]

CACHED_ROUTES: Final[Mapping[str, Operation]] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
"""The paths of a POST, as ``route_path`` gives them, that caches know."""

DENIED_FIELDS: Final = frozenset(
    ("stream", "stream_options", "user", "metadata", "safety_identifier", "prompt_cache_key")
)
"""Fields that say how an answer is delivered, or to whom, and not what is in it. All others, known
or not, are part of the key. Of ``stream_options`` only ``include_usage`` and
``include_obfuscation`` are left out."""

_DELIVERY_OPTIONS: Final = frozenset(("include_usage", "include_obfuscation"))

CacheWhen = Literal["deterministic", "always"] | Callable[[Document], bool]

_VERSION: Final = "asgi-llm cache 1"


class CacheRequest:
    """A request that a cache may look up.

    Args:
        operation: What is asked for.
        route: One of ``CACHED_ROUTES``.
        query: Of the URL.
        document: What was sent; empty where that was read as bytes alone, for its ``key``.
        model: As the client named it.
        streams: Whether the client wants events.
        tells_usage: Whether the client wants to be told the usage: always, but in a stream that
            does not ask.
        partition: Who shares.
        controls: What the client says of caching.
        deployment: Where it will be called, if a layer further out has said so.

    Attributes:
        key: ``digest_request`` of it, if that is known.
    """

    __slots__ = (
        "controls",
        "deployment",
        "document",
        "key",
        "model",
        "operation",
        "partition",
        "query",
        "route",
        "streams",
        "tells_usage",
    )

    def __init__(
        self,
        operation: Operation,
        route: str,
        query: bytes,
        document: Document,
        model: str,
        streams: bool,
        tells_usage: bool,
        partition: str,
        controls: CacheControls,
        deployment: str,
    ) -> None:
        self.operation = operation
        self.route = route
        self.query = query
        self.document = document
        self.model = model
        self.streams = streams
        self.tells_usage = tells_usage
        self.partition = partition
        self.controls = controls
        self.deployment = deployment
        self.key: bytes | None = None


_sorted_json: Callable[[Any], bytes] = msgspec.json.Encoder(order="deterministic").encode
_packed: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode


def canonical(document: Document, *, without: frozenset[str] = DENIED_FIELDS) -> bytes:
    """One encoding for all that mean the same: keys sorted, without spaces, escapes resolved.

    Args:
        document: A parsed request.
        without: Top-level fields to leave out.
    """
    kept = {name: value for name, value in document.items() if name not in without}
    options = document.get("stream_options")
    if options is not None and "stream_options" in without:
        rest = options
        if type(options) is dict:
            rest = {name: options[name] for name in options if name not in _DELIVERY_OPTIONS}
        if rest:
            kept["stream_options"] = rest
    return _sorted_json(kept)


def digest_request(
    request: CacheRequest, content: bytes | None = None, *, purpose: str = "exact"
) -> bytes:
    """SHA-256 over ``content`` and everything beside the document that keeps requests apart.

    That is: the partition, the namespace, the route with its query, and the deployment.

    Args:
        request: The request.
        content: What of the document counts; None: ``canonical`` of it.
        purpose: Keeps the digests of different caches apart.
    """
    if content is None:
        document = request.document
        if DENIED_FIELDS.isdisjoint(document):
            content = _sorted_json(document)
        else:
            content = canonical(document)
    head = _packed(
        (
            _VERSION,
            purpose,
            request.partition,
            request.controls.namespace,
            request.route,
            request.query,
            request.deployment,
        )
    )
    return sha256(head + content).digest()


def read_request(
    document: Any,
    route: str,
    query: bytes,
    partition: str,
    controls: CacheControls,
    deployment: Deployment | None,
) -> CacheRequest | None:
    """What a cache has to know of a request; None: nothing that it could be asked for."""
    if type(document) is not dict:
        return None
    fields: Document = document
    model = fields.get("model")
    if type(model) is not str:
        return None
    stream = fields.get("stream")
    streams = False
    tells_usage = True
    if stream is not None:
        if type(stream) is not bool:
            # The app will refuse it.
            return None
        # Vectors are never streamed, whatever is asked for.
        streams = stream and CACHED_ROUTES[route] != "embeddings"
        if streams:
            options = fields.get("stream_options")
            tells_usage = type(options) is dict and options.get("include_usage") is True
    return CacheRequest(
        CACHED_ROUTES[route],
        route,
        query,
        fields,
        model,
        streams,
        tells_usage,
        partition,
        controls,
        "" if deployment is None else name_of(deployment),
    )


def name_of(deployment: Deployment) -> str:
    """A deployment as it is in the digest."""
    return f"{deployment.provider}/{deployment.model}"


def is_json(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the body is said to be JSON, and is not compressed.

    Apps refuse other types for good reasons, and a stored answer would go round that.
    """
    media = headers.get(b"content-type", b"")
    if media == b"application/json":
        if b"content-encoding" not in headers:
            return True
    else:
        kind = media.partition(b";")[0].strip().lower()
        if kind != b"application/json" and not (
            kind.startswith(b"application/") and kind.endswith(b"+json")
        ):
            return False
    return headers.get(b"content-encoding", b"identity").lower() == b"identity"


def is_deterministic(document: Document) -> bool:
    """Whether a model would answer the same again: at temperature 0, or with a seed."""
    temperature = document.get("temperature")
    if type(temperature) in _NUMBERS and temperature == 0:
        return True
    return type(document.get("seed")) is int


_NUMBERS: Final = frozenset((int, float))


def cache_rule(when: CacheWhen) -> Callable[[Document], bool]:
    """The rule that ``cache_when`` names.

    Raises:
        ConfigurationError: It names none.
    """
    if callable(when):
        return when
    if when == "deterministic":
        return is_deterministic
    if when == "always":
        return is_any
    raise ConfigurationError(
        f"cache_when must be deterministic, always or a function, not {when!r}",
        param="cache_when",
    )


def is_any(document: Document) -> bool:
    """That of every document."""
    return True
