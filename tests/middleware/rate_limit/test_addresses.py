"""Whose address a request counts for."""

from __future__ import annotations

import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.middleware._caller_address import AddressReader
from asgi_llm.middleware.rate_limit import RateLimitMiddleware
from asgi_llm.testing import http_scope
from tests.middleware.rate_limit.conftest import App, ask

TRUSTED = ("10.0.0.0/8", "192.0.2.7", "2001:db8:aaaa::/48")


def address(peer: str | None, *forwarded: str, trusted: tuple[str, ...] = TRUSTED) -> str:
    headers = [("x-forwarded-for", value) for value in forwarded]
    client = None if peer is None else (peer, 1234)
    return AddressReader(trusted).read(http_scope(headers=headers, client=client))


CASES: dict[str, tuple[str | None, tuple[str, ...], str]] = {
    "no proxy": ("198.51.100.1", (), "198.51.100.1"),
    "the client's own word": ("198.51.100.1", ("203.0.113.9",), "198.51.100.1"),
    "behind a proxy": ("10.1.1.1", ("203.0.113.9",), "203.0.113.9"),
    "behind two": ("10.1.1.1", ("203.0.113.9, 192.0.2.7",), "203.0.113.9"),
    "in two headers": ("10.1.1.1", ("1.1.1.1", "203.0.113.9"), "203.0.113.9"),
    "forged on the left": ("10.1.1.1", ("1.1.1.1, 203.0.113.9",), "203.0.113.9"),
    "all are proxies": ("10.1.1.1", ("10.2.2.2, 10.3.3.3",), "10.2.2.2"),
    "no header": ("10.1.1.1", (), "10.1.1.1"),
    "nonsense": ("10.1.1.1", ("unknown",), "10.1.1.1"),
    "nonsense in the middle": ("10.1.1.1", ("203.0.113.9, x, 10.2.2.2",), "10.2.2.2"),
    "with a port": ("10.1.1.1", ("203.0.113.9:8080",), "203.0.113.9"),
    "IPv6 with a port": ("10.1.1.1", ("[2001:db8::1]:80",), "2001:db8::/64"),
    "IPv6": ("2001:db8:1:2:3:4:5:6", (), "2001:db8:1:2::/64"),
    "IPv4 in IPv6": ("::ffff:198.51.100.1", (), "198.51.100.1"),
    "a proxy in IPv6": ("2001:db8:aaaa::1", ("203.0.113.9",), "203.0.113.9"),
    "a proxy, IPv4 in IPv6": ("::ffff:10.1.1.1", ("203.0.113.9",), "203.0.113.9"),
    "not an address": ("testclient", ("203.0.113.9",), "testclient"),
    "no client": (None, ("203.0.113.9",), ""),
    "a thousand hops": (
        "10.1.1.1",
        ("203.0.113.9, " + "10.2.2.2, " * 999 + "10.3.3.3",),
        "10.2.2.2",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a4_the_first_hop_from_the_right_that_is_no_proxy_is_the_client(case: str) -> None:
    """Only what a trusted proxy brought counts, and nobody can write an address of their own."""
    peer, forwarded, expected = CASES[case]
    assert expected == address(peer, *forwarded)


def test_a4_without_trusted_proxies_the_header_is_not_looked_at() -> None:
    """By default an address is the peer's."""
    assert "10.1.1.1" == address("10.1.1.1", "203.0.113.9", trusted=())


def test_a_single_network_is_one() -> None:
    """A text is not taken for a list of letters."""
    scope = http_scope(headers={"x-forwarded-for": "203.0.113.9"}, client=("10.1.1.1", 1))
    assert "203.0.113.9" == AddressReader("10.0.0.0/8").read(scope)


@pytest.mark.parametrize("network", ("10.0.0.1/8", "300.1.1.1", "", "proxy.internal"))
def test_what_is_no_network_is_refused(network: str) -> None:
    """A mistake here would open the limits or join all callers, so it is an error."""
    with pytest.raises(ConfigurationError, match="trusted_proxies"):
        AddressReader([network])


async def test_a4_a_forged_header_is_no_second_helping() -> None:
    """Whoever changes X-Forwarded-For with each request is counted as one."""
    layer = RateLimitMiddleware(App(), limits="2 requests/minute")
    statuses = [
        (await ask(layer, headers={"x-forwarded-for": f"203.0.113.{at}"})).status for at in range(4)
    ]
    assert [200, 200, 429, 429] == statuses


async def test_callers_without_a_key_are_counted_by_address() -> None:
    """Two addresses do not share a limit; two of one IPv6 network do."""
    layer = RateLimitMiddleware(App(), limits="1 request/minute")
    hosts = ("198.51.100.1", "198.51.100.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")
    statuses = [(await ask(layer, client=(host, 1))).status for host in hosts]
    assert [200, 200, 200, 429, 200] == statuses
