"""Which transport to use when nobody has chosen one."""

from __future__ import annotations

from asgi_llm._optional import require
from asgi_llm.errors import ConfigurationError
from asgi_llm.transports._tls import context_of
from asgi_llm.transports.base import Transport
from asgi_llm.transports.http1 import Http1Transport
from asgi_llm.transports.httpx import HttpxTransport

__all__ = ["default_transport"]


def default_transport(
    proxy: str | None = None, *, ca_file: str | None = None, max_connections_per_origin: int = 1000
) -> Transport:
    """Our own HTTP/1.1 transport, or one over httpx2 where a proxy is configured.

    Args:
        proxy: URL of an HTTP or SOCKS proxy. The environment's proxy variables are not read.
        ca_file: A PEM file of authorities to trust in place of the system's.
        max_connections_per_origin: At least 1. Over a proxy, of all origins together.

    Raises:
        ConfigurationError: The proxy's URL is none, httpx2 is not installed, or another option is
            wrong.
    """
    if proxy is None:
        return Http1Transport(
            ca_file=ca_file, max_connections_per_origin=max_connections_per_origin
        )
    httpx2 = require("httpx2", extra="httpx")
    try:
        client = httpx2.AsyncClient(
            proxy=proxy,
            verify=True if ca_file is None else context_of(ca_file),
            trust_env=False,
            limits=httpx2.Limits(max_connections=max_connections_per_origin),
        )
    except (ValueError, httpx2.InvalidURL) as error:
        raise ConfigurationError("proxy is not the URL of a proxy", param="proxy") from error
    except ImportError as error:
        raise ConfigurationError(f"proxy: {error}", param="proxy") from error
    return HttpxTransport(client, close_client=True)
