"""The collection of a semantic index in Qdrant, and the client that it is reached by."""

from __future__ import annotations

from typing import Any

from asgi_llm.errors import ConfigurationError

__all__ = ["is_local", "make_collection", "open_client"]


def open_client(library: Any, server: str, api_key: str | None) -> Any:
    """A client for an address, for ``:memory:``, or for the folder of a database in process."""
    if server == ":memory:":
        return library.AsyncQdrantClient(location=server)
    if server.startswith(("http://", "https://")):
        return library.AsyncQdrantClient(url=server, api_key=api_key, check_compatibility=False)
    return library.AsyncQdrantClient(path=server)


def is_local(client: Any) -> bool:
    """Whether the database is in process."""
    options = client.init_options
    return options.get("location") == ":memory:" or options.get("path") is not None


async def make_collection(
    client: Any, models: Any, name: str, dimension: int, *, has_indexes: bool
) -> None:
    """Make the collection and its indexes, where they are not there yet.

    Args:
        client: Of Qdrant's library.
        models: The library's module of that name.
        name: Of the collection.
        dimension: Length of a vector.
        has_indexes: Whether fields of payloads have indexes; in process there are none.

    Raises:
        ConfigurationError: It is there, for vectors of another length.
    """
    if not await client.collection_exists(name):
        try:
            await client.create_collection(
                name,
                vectors_config=models.VectorParams(size=dimension, distance=models.Distance.COSINE),
            )
        except Exception:
            # Another process may have made it in between.
            if not await client.collection_exists(name):
                raise
    found = await client.get_collection(name)
    size = found.config.params.vectors.size
    if size != dimension:
        raise ConfigurationError(
            f"the collection {name} is for vectors of {size} numbers, not {dimension}",
            param="dimension",
        )
    if not has_indexes:
        return
    kinds = {
        "partition": models.KeywordIndexParams(type="keyword", is_tenant=True),
        "namespace": "keyword",
        "model": "keyword",
        "scope": "keyword",
        "created": "float",
        "expires": "float",
        "last_used": "float",
    }
    for field, kind in kinds.items():
        await client.create_payload_index(name, field, kind, wait=True)
