"""The layer ``semantic_cache`` of a configuration: its embedder, its index, and how they do."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from asgi_llm.embedders.base import Embedder
from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._cache_definitions import (
    IndexDefinition,
    MemoryIndexDefinition,
    PostgresIndexDefinition,
    QdrantIndexDefinition,
    RedisIndexDefinition,
    SemanticCacheDefinition,
    ShadowDefinition,
    SharedIndexDefinition,
)
from asgi_llm.gateway._cache_layers import SHARED_OPTIONS
from asgi_llm.gateway._definition_types import Secret
from asgi_llm.gateway._definitions import Configuration
from asgi_llm.gateway._reload_carried import Hold
from asgi_llm.gateway._timed_calls import TimedCalls
from asgi_llm.gateway._tree import nearest
from asgi_llm.gateway._watched_embedder import WatchedEmbedder
from asgi_llm.gateway.compose import Resource
from asgi_llm.gateway.health import Health
from asgi_llm.middleware._agreement import GUARDS
from asgi_llm.middleware._semantic_counts import SemanticCounts
from asgi_llm.middleware._semantic_policy import DecisionPolicy
from asgi_llm.middleware._semantic_shadow import ShadowFile
from asgi_llm.middleware.semantic_cache import SemanticCacheMiddleware
from asgi_llm.stores.semantic_index import SemanticIndex
from asgi_llm.stores.semantic_index_memory import MemorySemanticIndex

__all__ = ["SemanticCacheLayer"]

_OWN_OPTIONS: Final = (
    "policy",
    "threshold",
    "max_error_rate",
    "confidence",
    "mode",
    "conversation_turns",
    "max_temperature",
    "max_text_characters",
    "candidates",
    "embed_timeout_seconds",
    "index_timeout_seconds",
)
_EMBEDDERS: Final[Mapping[str, tuple[str, str, str]]] = {
    "sentence_transformers": (
        "asgi_llm.embedders.sentence_transformers",
        "SentenceTransformerEmbedder",
        "model",
    ),
    "onnx": ("asgi_llm.embedders.onnx", "OnnxEmbedder", "folder"),
    "http": ("asgi_llm.embedders.http", "HttpEmbedder", "base_url"),
}
"""Module, class, and the option that comes first."""

_NOBODY: Final = "health"


class SemanticCacheLayer:
    """Makes the layer, its embedder and its index. Opens no connection, loads no model.

    Args:
        configuration: The whole of it.
        definition: The layer in it.
        health: Gets a check of the embedder, and of the index.
        hold: Gives both of an earlier build.
        open_database: Gives the database of the gateway.

    Attributes:
        resources: What is to be started and closed after the layers, in this order.
    """

    def __init__(
        self,
        configuration: Configuration,
        definition: SemanticCacheDefinition,
        health: Health,
        hold: Hold,
        open_database: Callable[[], Any],
    ) -> None:
        self._configuration = configuration
        self._definition = definition
        self._health = health
        self._hold = hold
        self._open_database = open_database
        self.resources: list[Resource] = []
        self._made: SemanticCacheMiddleware
        self._watched: WatchedEmbedder
        self._on_lookup: Callable[[float], None] | None = None

    def make(self, definition: SemanticCacheDefinition) -> Middleware:
        """The layer.

        Raises:
            ConfigurationError: An option is wrong; ``param`` is its path below the layer.
        """
        if definition is not self._definition:
            raise ConfigurationError("one layer semantic_cache is enough")
        embedder = self._hold.take(
            "embedder",
            (definition.embedder, definition.embed_timeout_seconds),
            lambda: self._embedder(definition),
        )
        index = self._hold.take(
            "semantic_index", self._index_key(), lambda: self._index(definition.index, embedder)
        )
        self._watched = embedder
        self.resources += [embedder, index]
        self._watch(embedder, index)
        server = self._configuration.server
        headers = definition.credential_headers
        guards = definition.guards
        return Middleware(
            self._make,
            embedder=embedder,
            index=index,
            counts=self._hold.take("semantic_cache.counts", None, SemanticCounts),
            **{name: getattr(definition, name) for name in (*SHARED_OPTIONS, *_OWN_OPTIONS)},
            **({} if headers is None else {"credential_headers": headers}),
            **({} if guards is None else {"guards": _known(guards)}),
            **self._shadow(definition.shadow),
            max_body_bytes=server.max_body_bytes,
            body_timeout_seconds=server.body_timeout_seconds,
        )

    def _make(self, app: ASGIApp, /, **options: Any) -> SemanticCacheMiddleware:
        if self._on_lookup is not None:
            options["index"] = TimedCalls(options["index"], ("search",), self._on_lookup)
        self._made = SemanticCacheMiddleware(app, **options)
        return self._made

    @property
    def layer(self) -> SemanticCacheMiddleware:
        """The layer, once the stack is put together."""
        return self._made

    @property
    def index(self) -> SemanticIndex:
        """Where answers are kept."""
        return self.layer.index

    @property
    def counts(self) -> SemanticCounts:
        """What the layer has done."""
        return self.layer.counts

    @property
    def policy(self) -> DecisionPolicy:
        """What decides on candidates."""
        return self.layer.policy

    def time_lookups(self, on_seconds: Callable[[float], None]) -> None:
        """Tell how long each search of the index takes.

        For whoever has made the layer, before the stack is put together.
        """
        self._on_lookup = on_seconds

    def time_embeddings(self, on_seconds: Callable[[float], None]) -> None:
        """Tell how long each call of the embedder takes; for whoever has made the layer."""
        self._watched.on_seconds = on_seconds

    def _watch(self, embedder: WatchedEmbedder, index: SemanticIndex) -> None:
        async def check() -> bool:
            if not isinstance(index, MemorySemanticIndex):
                await index.get(_NOBODY)
            return True

        self._health.checks["embedder"] = lambda: not embedder.is_failing
        self._health.checks["semantic_cache"] = check
        # Without an embedder every request misses, and with `deny` so it does.
        self._health.dispensable.add("embedder")
        if self._definition.on_store_error == "allow":
            self._health.dispensable.add("semantic_cache")

    def _embedder(self, definition: SemanticCacheDefinition) -> WatchedEmbedder:
        kind, inner = _one_of(definition.embedder, _EMBEDDERS, "embedder")
        module, name, first = _EMBEDDERS[kind]
        options = {
            option: _revealed(value)
            for option, value in msgspec.structs.asdict(inner).items()
            if value is not None
        }
        # Imported here: torch, onnxruntime and their likes are for those who have chosen them.
        adapter = getattr(importlib.import_module(module), name)
        try:
            embedder = adapter(options.pop(first), **options)
        except ConfigurationError as error:
            raise _below(f"embedder.{kind}", error, inner) from None
        return WatchedEmbedder(embedder, timeout_seconds=definition.embed_timeout_seconds)

    def _index_key(self) -> tuple[object, ...]:
        """All that the index is made from. Vectors of one model say nothing to another."""
        definition, storage = self._definition, self._configuration.storage
        key: tuple[object, ...] = (definition.index, definition.embedder)
        if definition.index.postgresql is not UNSET:
            self._open_database()
            key = (*key, storage.database)
        elif definition.index.redis is not UNSET:
            key = (*key, storage.redis)
        elif definition.index.qdrant is UNSET:
            return key
        return (*key, definition.index_timeout_seconds)

    def _index(self, definition: IndexDefinition, embedder: Embedder) -> SemanticIndex:
        if all(getattr(definition, kind) is UNSET for kind in definition.__struct_fields__):
            return MemorySemanticIndex()
        kind, inner = _one_of(definition, definition.__struct_fields__, "index")
        try:
            return self._opened_index(inner, embedder)
        except ConfigurationError as error:
            if (error.param or "").startswith("storage."):
                raise
            raise _below(f"index.{kind}", error, inner) from None

    def _opened_index(self, definition: Any, embedder: Embedder) -> SemanticIndex:
        options = {name: _revealed(value) for name, value in _given(definition)}
        if isinstance(definition, MemoryIndexDefinition):
            if definition.snapshot_path is not None and self._configuration.server.workers > 1:
                raise ConfigurationError(
                    f"there are {self._configuration.server.workers} workers, and each would need "
                    "a file of its own; take postgresql, redis or qdrant",
                    param="snapshot_path",
                )
            return MemorySemanticIndex(**options)
        options["dimension"] = _dimension(definition, embedder)
        options["timeout_seconds"] = self._definition.index_timeout_seconds
        match definition:
            case PostgresIndexDefinition():
                return self._in_database(options)
            case RedisIndexDefinition():
                redis = self._configuration.storage.redis
                if redis is None:
                    raise ConfigurationError("redis needs storage.redis")
                module = importlib.import_module("asgi_llm.stores.semantic_index_redis")
                index: SemanticIndex = module.RedisSemanticIndex(redis.reveal(), **options)
                return index
            case QdrantIndexDefinition():
                module = importlib.import_module("asgi_llm.stores.semantic_index_qdrant")
                index = module.QdrantSemanticIndex(options.pop("url"), **options)
                return index
        raise TypeError(f"no index for {definition!r}")

    def _in_database(self, options: dict[str, Any]) -> SemanticIndex:
        module = importlib.import_module("asgi_llm.stores.sql.semantic_index")
        try:
            index: SemanticIndex = module.SQLSemanticIndex(self._open_database().engine, **options)
        except ConfigurationError as error:
            if error.param == "database":
                raise ConfigurationError(error.message, param="storage.database") from None
            raise
        return index

    def _shadow(self, definition: ShadowDefinition | None) -> dict[str, Any]:
        if definition is None:
            return {}
        try:
            opened = self._hold.take(
                "shadow",
                (definition.file, definition.max_bytes),
                lambda: _Closed(ShadowFile(definition.file, max_bytes=definition.max_bytes)),
            )
        except ConfigurationError as error:
            raise ConfigurationError(error.message, param="shadow.file") from None
        self.resources.append(opened)
        return {"shadow": opened.file, "shadow_texts": definition.texts}


class _Closed:
    def __init__(self, file: ShadowFile) -> None:
        self.file = file
        self._is_open = True

    async def aclose(self) -> None:
        """Close the file. Idempotent."""
        if self._is_open:
            self._is_open = False
            self.file.close()


def _one_of(definition: Any, kinds: Any, option: str) -> tuple[str, Any]:
    given = [kind for kind in kinds if getattr(definition, kind) is not UNSET]
    if len(given) != 1:
        what = "the key is missing" if not given else f"{' and '.join(given)} cannot go together"
        raise ConfigurationError(f"{what}; give one of {', '.join(kinds)}", param=option)
    return given[0], getattr(definition, given[0])


def _known(guards: Sequence[str]) -> tuple[str, ...]:
    for index, name in enumerate(guards):
        if name not in GUARDS:
            hint = nearest(name, GUARDS) or f"; there are {', '.join(GUARDS)}"
            raise ConfigurationError(f"unknown guard{hint}", param=f"guards.{index}")
    return tuple(guards)


def _dimension(definition: SharedIndexDefinition, embedder: Embedder) -> int:
    given = definition.dimension or embedder.dimension
    if given is None:
        raise ConfigurationError(
            "the length of the model's vectors is needed, as in 384", param="dimension"
        )
    return given


def _given(definition: Any) -> list[tuple[str, Any]]:
    every = msgspec.structs.asdict(definition).items()
    return [(name, value) for name, value in every if value is not None]


def _below(path: str, error: ConfigurationError, definition: Any) -> ConfigurationError:
    """``error``, with its place below the layer."""
    message = error.message
    if error.param in definition.__struct_fields__:
        path = f"{path}.{error.param}"
        message = message.removeprefix(f"{error.param}: ")
    return ConfigurationError(message, param=path)


def _revealed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _revealed(one) for name, one in value.items()}
    return value.reveal() if isinstance(value, Secret) else value
