"""Where a request comes from: the client's address, as far as the proxies before us are trusted."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable
from typing import Final

from starlette.types import Scope

from asgi_llm.errors import ConfigurationError

__all__ = ["AddressReader"]

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_MAX_HOPS: Final = 32
"""Proxies in a row that are looked through; who comes after more of them is one of them."""
_REMEMBERED: Final = 4096


class AddressReader:
    """Says who shares a limit by address: an IPv4 address, or an IPv6 network of 64 bits.

    ``X-Forwarded-For`` counts only if a trusted proxy brought it, and then from its right end: the
    first hop that is no trusted proxy is the client. What stands left of that, anyone can write.

    Args:
        trusted_proxies: Addresses and networks of the proxies before us.

    Raises:
        ConfigurationError: One of them is neither.
    """

    def __init__(self, trusted_proxies: Iterable[str] = ()) -> None:
        if isinstance(trusted_proxies, str):
            trusted_proxies = (trusted_proxies,)
        self._networks = tuple(map(_network, trusted_proxies))
        self._trusts = functools.lru_cache(_REMEMBERED)(self._is_trusted)

    def read(self, scope: Scope) -> str:
        """The client's address, or the empty text where the server does not know it."""
        client = scope.get("client")
        if not client:
            return ""
        host: str = client[0]
        if self._networks and self._trusts(host):
            host = self._forwarded(scope, host)
        # A plain IPv4 address is what it is.
        return _normal(host) if ":" in host else host

    def _forwarded(self, scope: Scope, peer: str) -> str:
        values = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        hops = b",".join(values).decode("latin-1").rsplit(",", _MAX_HOPS)
        # What is left of the cut is not one hop.
        for hop in reversed(hops[-_MAX_HOPS:]):
            host = _host(hop)
            if host is None:
                # A proxy that we trust wrote nonsense, or passed it on: the client is not known.
                return peer
            if not self._trusts(host):
                return host
            peer = host
        return peer

    def _is_trusted(self, host: str) -> bool:
        address = _parse(host)
        return address is not None and any(address in network for network in self._networks)


def _network(text: str) -> _Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigurationError(
            f"trusted_proxies: {text!r} is no address and no network: {error}",
            param="trusted_proxies",
        ) from None


def _host(hop: str) -> str | None:
    """The address of one hop, which may have a port; None where it is none."""
    hop = hop.strip()
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    return None if len(hop) > 45 or _parse(hop) is None else hop


def _parse(host: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


@functools.lru_cache(_REMEMBERED)
def _normal(host: str) -> str:
    address = _parse(host)
    if isinstance(address, ipaddress.IPv6Address):
        # One household or one server has the whole network, and an address for each request.
        return str(ipaddress.IPv6Address(int(address) >> 64 << 64)) + "/64"
    return host if address is None else str(address)
