"""Where a URL that comes with a request may lead: to public addresses, and nowhere else.

A name is resolved once. All of its addresses have to pass, and the connection goes to one of those
very addresses, so that a name that changes its mind in between (DNS rebinding) gains nothing.

Source: IANA IPv4 and IPv6 Special-Purpose Address Registries; WHATWG URL, "host parsing".
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Collection, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Final, Protocol
from urllib.parse import quote, urlsplit, urlunsplit

from asgi_llm.transports._dial import Address, resolve

__all__ = [
    "AddressPolicy",
    "CheckedResolver",
    "IPAddress",
    "Resolver",
    "is_public",
    "safe_url",
    "system_addresses",
]

IPAddress = IPv4Address | IPv6Address

AddressPolicy = Callable[[IPAddress], bool]
"""Whether an address may be connected to."""


class Resolver(Protocol):
    """Looks up the addresses of a host's name."""

    async def __call__(self, host: str, /) -> Sequence[str]:
        """Literal addresses, the preferred one first.

        Raises:
            OSError: There is none.
        """
        ...


_NOT_PUBLIC_V4: Final = tuple(
    IPv4Network(block)
    for block in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; the metadata service of one cloud
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host, from inside a virtual machine
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)

# All that is assigned to hosts of the Internet. What lies outside needs no list: loopback, mapped
# and translated IPv4 (::ffff:0:0/96, 64:ff9b::/96), unique local, link and site local, multicast.
_GLOBAL_V6: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_V6: Final = tuple(
    IPv6Network(block)
    for block in (
        "2001::/23",  # Teredo, benchmarks, identifiers
        "2001:db8::/32",
        "2002::/16",  # 6to4, which leads to the IPv4 address inside
        "3fff::/20",
    )
)


def is_public(address: IPAddress) -> bool:
    """Whether ``address`` is one that a host of the public Internet has."""
    if isinstance(address, IPv4Address):
        return not any(address in block for block in _NOT_PUBLIC_V4)
    return address in _GLOBAL_V6 and not any(address in block for block in _NOT_PUBLIC_V6)


async def system_addresses(host: str, /) -> list[str]:
    """The addresses that the operating system's resolver has for ``host``."""
    found = await resolve(asyncio.get_running_loop(), host, 0)
    return [address for address, _ in found]


class CheckedResolver:
    """Gives a transport the addresses to connect to, if all of them may be connected to.

    Args:
        resolver: Asked once for each connection.
        policy: Which addresses may be connected to.
    """

    __slots__ = ("_policy", "_resolver")

    def __init__(self, resolver: Resolver, policy: AddressPolicy) -> None:
        self._resolver = resolver
        self._policy = policy

    async def __call__(self, host: str, port: int) -> list[Address]:
        """The addresses of ``host`` and their families.

        Raises:
            OSError: There is none, or one that may not be connected to.
        """
        literal = _literal(host)
        texts = await self._resolver(host) if literal is None else [host]
        found: list[Address] = []
        for text in texts:
            address = _literal(text)
            if address is None or not self._policy(address):
                raise OSError("the name has an address that is not allowed")
            family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
            found.append((str(address), family))
        if not found:
            raise OSError("the name has no address")
        return found


def _literal(text: str) -> IPAddress | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


_MAX_URL_CHARACTERS: Final = 8192
_MAX_HOST_CHARACTERS: Final = 253
# Parsers disagree on what these mean; some drop them, some take a backslash for a slash.
_AMBIGUOUS: Final = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029]")
_NAME: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?")
_PORT: Final = re.compile(r"(?::[0-9]*)?")
_NUMBER: Final = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\.?\Z")
_KEPT: Final = "%/:@!$&'()*+,;=~?"


def safe_url(url: str, *, schemes: Collection[str], ports: Collection[int]) -> str:
    """``url`` in the one form in which it can be read in one way only, without its fragment.

    Letters beyond ASCII are escaped in the path and the query. A host is a name, or an address in
    its usual form: other forms (``2130706433``, ``0177.1``, ``0x7f.1``) are refused.

    Args:
        url: As the client wrote it.
        schemes: In lower case.
        ports: Those that may be asked.

    Raises:
        ValueError: It is refused; the text is the end of a sentence that begins with the URL's
            place, and does not repeat the URL, which may hold a key.
    """
    if len(url) > _MAX_URL_CHARACTERS:
        raise ValueError(f"the URL has more than {_MAX_URL_CHARACTERS} characters")
    if _AMBIGUOUS.search(url) is not None:
        raise ValueError("the URL holds a space, a backslash or a control character")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname or ""
    except ValueError as error:
        raise ValueError("the URL is malformed") from error
    if parts.scheme not in schemes:
        raise ValueError(f"the URL has to begin with {' or '.join(sorted(schemes))}://")
    if "@" in parts.netloc:
        raise ValueError("the URL holds a user name or a password")
    if (443 if parts.scheme == "https" else 80) not in ports if port is None else port not in ports:
        raise ValueError("the URL names a port that is not allowed")
    _check_host(host, parts.netloc)
    place = f"[{host}]" if ":" in host else host
    if port is not None:
        place += f":{port}"
    path = quote(parts.path or "/", safe=_KEPT)
    return urlunsplit((parts.scheme, place, path, quote(parts.query, safe=_KEPT), ""))


def _check_host(host: str, netloc: str) -> None:
    in_brackets = "[" in netloc
    place = f"[{host}]" if in_brackets else host
    is_all = netloc.lower().startswith(place) and _PORT.fullmatch(netloc, len(place)) is not None
    is_address = isinstance(_literal(host), IPv6Address if in_brackets else IPv4Address)
    is_name = (
        not in_brackets
        and len(host) <= _MAX_HOST_CHARACTERS
        and _NAME.fullmatch(host) is not None
        and _NUMBER.match(host[host.rstrip(".").rfind(".") + 1 :]) is None
    )
    # A zone ("fe80::1%eth0") chooses an interface of this machine.
    if "%" in host or not is_all or not (is_address or is_name):
        raise ValueError("the URL's host is neither a name nor an address in its usual form")
