"""Clients of Redis for the stores: one server, Sentinel or Cluster, by address."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from asgi_llm._optional import require
from asgi_llm.errors import ConfigurationError

__all__ = ["connect", "disconnect"]

SENTINEL_PORT = 26379


def connect(url: str) -> Any:
    """A client of ``redis.asyncio`` that opens nothing before it is used, and retries nothing.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) and ``unix://`` as ``redis.asyncio`` knows them;
            ``redis+cluster://host:port`` and ``rediss+cluster://``: any node of a cluster;
            ``redis+sentinel://user:password@host:port,host:port/service/0`` (``rediss+``): the
            credentials are the server's; those of the sentinels are the options
            ``sentinel_username`` and ``sentinel_password``.

    Raises:
        ConfigurationError: The address is none of these, or the package redis is missing.
    """
    redis = require("redis.asyncio", extra="redis")
    retry = require("redis.asyncio.retry", extra="redis").Retry(
        require("redis.backoff", extra="redis").NoBackoff(), 0
    )
    scheme, _, rest = url.partition("://")
    kind, _, mode = scheme.partition("+")
    try:
        if scheme in ("redis", "rediss", "unix"):
            return redis.Redis.from_url(url, retry=retry)
        if kind in ("redis", "rediss") and mode == "cluster":
            return redis.RedisCluster.from_url(f"{kind}://{rest}", retry=retry)
        if kind in ("redis", "rediss") and mode == "sentinel":
            return _sentinel(redis, url, retry, ssl=kind == "rediss")
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"the address of Redis is not valid: {error}", param="url"
        ) from error
    raise ConfigurationError(
        "the address of Redis begins with redis://, rediss://, unix://, redis+cluster://, "
        "rediss+cluster://, redis+sentinel:// or rediss+sentinel://",
        param="url",
    )


async def disconnect(client: Any) -> None:
    """Close a client that ``connect`` made, with its connections to sentinels."""
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    await client.aclose()
    for sentinel in getattr(manager, "sentinels", ()):
        await sentinel.aclose()


def _sentinel(redis: Any, url: str, retry: Any, *, ssl: bool) -> Any:
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    service, _, database = parts.path.strip("/").partition("/")
    if not hosts or not service:
        raise ValueError("redis+sentinel://host:port,host:port/service is meant")
    options = dict(parse_qsl(parts.query))
    sentinel_options = {
        name.removeprefix("sentinel_"): options.pop(name)
        for name in ("sentinel_username", "sentinel_password")
        if name in options
    }
    addresses = []
    for host in hosts.split(","):
        name, _, port = host.rpartition(":") if ":" in host else (host, "", "")
        addresses.append((name, int(port or SENTINEL_PORT)))
    sentinel = redis.Sentinel(
        addresses,
        sentinel_kwargs={"ssl": ssl, "retry": retry, **sentinel_options},
        ssl=ssl,
        retry=retry,
        username=unquote(username) or None,
        password=unquote(password) or None,
        db=int(database or 0),
        **options,
    )
    return sentinel.master_for(service)
