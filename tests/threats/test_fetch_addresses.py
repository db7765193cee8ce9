"""B9: a URL in a request leads to public addresses only, whatever it looks like."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers._fetch import FetchImages, ImageFetcher
from asgi_llm.testing import Reply, Upstream
from asgi_llm.transports._addresses import IPAddress, is_public, safe_url, system_addresses

PNG = b"\x89PNG\r\n\x1a\n"
PICTURE = Reply(headers={"content-type": "image/png"}, body=PNG)
PATH = "messages[0].content[0].image_url.url"

NOT_PUBLIC = (
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.1",
    "127.1.2.3",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.255",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd12:3456::1",
    "fe80::1",
    "febf::1",
    "fec0::1",
    "feff::1",
    "ff02::1",
    "4000::1",
)

PUBLIC = (
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.1",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.1",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2003::1",
    "2606:4700::1111",
    "2a00::1",
    "3ffe::1",
)


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_b9_an_address_that_is_not_public(text: str) -> None:
    """Private, shared, local, mapped, translated, tunnelled, reserved, or a cloud's own."""
    assert is_public(ipaddress.ip_address(text)) is False


@pytest.mark.parametrize("text", PUBLIC)
def test_b9_an_address_that_is_public(text: str) -> None:
    """Also next to the borders of those that are not."""
    assert is_public(ipaddress.ip_address(text)) is True


@given(st.ip_addresses())
@settings(deadline=None, max_examples=500)
def test_b9_nothing_passes_that_python_knows_not_to_be_global(address: IPAddress) -> None:
    """The standard library's own table is a floor."""
    assert address.is_global or not is_public(address)
    assert not (address.is_multicast and is_public(address))


@given(st.ip_addresses(v=4), st.integers(0, 2**64 - 1))
@settings(deadline=None, max_examples=300)
def test_b9_no_form_of_ipv6_around_an_ipv4_address_passes(inner: Any, low: int) -> None:
    """Whatever is inside: mapped, compatible, NAT64, 6to4, Teredo from either end."""
    number = int(inner)
    forms = (
        number,
        (0xFFFF << 32) | number,
        (0xFFFF << 48) | number,
        (0x64FF9B << 96) | number,
        (0x64FF9B0001 << 80) | number,
        (0x2002 << 112) | (number << 80) | low,
        (0x20010000 << 96) | (number << 64) | low,
        (0x20010000 << 96) | (low & (2**64 - 2**32)) | (number ^ 0xFFFFFFFF),
    )
    for form in forms:
        assert is_public(ipaddress.IPv6Address(form)) is False


def document(*urls: str) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"model": "ollama/m", "messages": [{"role": "user", "content": parts}]}


async def refusal(options: FetchImages, *urls: str) -> InvalidRequestError:
    fetcher = ImageFetcher(options)
    try:
        with pytest.raises(InvalidRequestError) as caught:
            await fetcher.inline(document(*urls))
    finally:
        await fetcher.aclose()
    assert ("image_fetch_failed", PATH) == (caught.value.code, caught.value.param)
    return caught.value


@pytest.fixture
async def canary() -> AsyncIterator[Upstream]:
    """A server on loopback that nothing may reach, and that would give a picture."""
    async with asyncio.timeout(30), Upstream(lambda _: PICTURE) as canary:
        yield canary
        assert (0, []) == (canary.connections, canary.ledger)


LOOPBACK = (
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0X7F.1",
    "0x7f.0x0.0x0.0x1",
    "0177.0.0.1",
    "0177.1",
    "017700000001",
    "00000000000000000177.0.0.1",
    "127.0.0.0x1",
    "127.0.0.1.0",
    "127\u30020\u30020\u30021",
    "\uff11\uff12\uff17.0.0.1",
    "\u2460\u2461\u2466.0.0.1",
    "127%2e0%2e0%2e1",
    "%31%32%37.0.0.1",
    "0",
    "0.0.0.0",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "\u24dbocalhost",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[2002:7f00:1::]",
    "[fe80::1%25lo]",
    "[::1%25lo]",
    "[::1",
    "::1",
    "a@127.0.0.1",
    "a:b@127.0.0.1",
    "images.example@127.0.0.1",
    "127.0.0.1\\@images.example",
    "images.example\\@127.0.0.1",
    "127.0.0.1\t",
    "127.0.\n0.1",
    "127.0.0.1 ",
    "127.0.0.1\x00",
    "",
    ".",
    "-",
    "a" * 254,
)


@pytest.mark.parametrize("scheme", ["http", "https", "HTTP"])
@pytest.mark.parametrize("host", LOOPBACK)
async def test_b9_no_spelling_of_a_local_host_is_asked(
    host: str, scheme: str, canary: Upstream
) -> None:
    """With the real resolver, on a port that is allowed."""
    options = FetchImages(allow_http=True, allowed_ports=(canary.port,), timeout_seconds=2)
    await refusal(options, f"{scheme}://{host}:{canary.port}/a.png")


@pytest.mark.parametrize("address", NOT_PUBLIC)
async def test_b9_no_name_leads_to_an_address_that_is_not_public(
    address: str, canary: Upstream
) -> None:
    """Alone, and among public ones: one is enough."""
    for addresses in ([address], ["93.184.215.14", address], [address, "93.184.215.14"]):

        async def resolver(host: str, /, found: Sequence[str] = tuple(addresses)) -> Sequence[str]:
            return found

        options = FetchImages(
            allow_http=True,
            allowed_ports=(canary.port,),
            resolver=resolver,
            timeout_seconds=2,
        )
        caught = await refusal(options, f"http://images.example:{canary.port}/")
        assert caught.message == f"{PATH}: nothing could be fetched from this URL"


@pytest.mark.parametrize(
    "url",
    [
        "http://images.example:22/",
        "http://images.example:0/",
        "http://images.example:65536/",
        "http://images.example:-1/",
        "http://images.example:x/",
        "https://images.example:6379/",
        "http://user@images.example/",
        "http://images.example/a b",
        "http://images.example/\r\nHost: x",
        "http://images.example/" + "a" * 9000,
        "http:///etc/passwd",
        "https://",
        "http://%00/",
        "http://[v1.a]/",
        "http://[images.example]/",
        "http://[2606:4700::1111].images.example/",
        "http://images.example[2606:4700::1111]/",
        "http://exa\u00admple.com/",
    ],
)
async def test_b9_urls_that_are_refused_unasked(url: str) -> None:
    """Nothing is looked up for them."""

    async def resolver(host: str, /) -> list[str]:
        raise AssertionError(f"{host} was looked up")

    await refusal(FetchImages(allow_http=True, resolver=resolver), url)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "FILE:///etc/passwd", "ftp://h/a", "gopher://h/a", "data:,x", "//h/a"],
)
async def test_b9_only_http_is_ever_fetched(url: str) -> None:
    """Others stay as they are, for the adapter to refuse."""

    async def resolver(host: str, /) -> list[str]:
        raise AssertionError(f"{host} was looked up")

    fetcher = ImageFetcher(FetchImages(allow_http=True, resolver=resolver))
    asked = document(url)
    assert asked is await fetcher.inline(asked)
    await fetcher.aclose()
    with pytest.raises(ValueError, match="has to begin with"):
        safe_url(url, schemes=("http", "https"), ports=(80, 443))


@given(st.text(max_size=40), st.text(max_size=20))
@settings(deadline=None, max_examples=300)
def test_b9_what_passes_reads_the_same_again(host: str, rest: str) -> None:
    """A URL that is taken is printable ASCII and its own normal form."""
    options: dict[str, Any] = {"schemes": ("https",), "ports": (443,)}
    try:
        url = safe_url(f"https://{host}/{rest}", **options)
    except ValueError:
        return
    assert url.isascii()
    assert url.isprintable()
    assert " " not in url
    assert url == safe_url(url, **options)


def only_first(address: IPAddress) -> bool:
    """The test's stand-in for "public": one loopback address, and not its neighbour."""
    return str(address) == "127.0.0.1"


async def test_b9_a_name_that_changes_its_mind_gains_nothing() -> None:
    """DNS rebinding: it is asked once a connection, and the answer that was checked is used."""
    asked: list[str] = []

    async def rebinding(host: str, /) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    async with (
        asyncio.timeout(10),
        Upstream(lambda _: PICTURE) as outside,
        # The same port on another address: where a second look-up would lead.
        Upstream(lambda _: PICTURE, host="127.0.0.2", port=outside.port) as inside,
    ):
        options = FetchImages(
            allow_http=True,
            allowed_ports=(outside.port,),
            resolver=rebinding,
            address_policy=only_first,
        )
        fetcher = ImageFetcher(options)
        url = f"http://images.example:{outside.port}/"
        told = await fetcher.inline(document(url))
        assert told["messages"][0]["content"][0]["image_url"]["url"].startswith("data:")
        assert (["images.example"], 1) == (asked, outside.connections)
        with pytest.raises(InvalidRequestError):
            await fetcher.inline(document(url))
        assert (2, 1, 0) == (len(asked), outside.connections, inside.connections)
        await fetcher.aclose()


async def test_b9_a_redirect_leads_nowhere(canary: Upstream) -> None:
    """Neither to a local address nor anywhere else."""
    async with Upstream() as outside:

        async def resolver(host: str, /) -> list[str]:
            return ["127.0.0.1"]

        options = FetchImages(
            allow_http=True,
            allowed_ports=(outside.port, canary.port),
            resolver=resolver,
            address_policy=only_first,
        )
        for status in (301, 302, 303, 307, 308):
            location = f"http://127.0.0.1:{canary.port}/"
            outside.script(Reply(status=status, headers={"location": location}))
            caught = await refusal(options, f"http://images.example:{outside.port}/")
            assert "redirects" in caught.message
        assert 5 == len(outside.ledger)


async def test_b9_no_proxy_of_the_environment_is_used(
    canary: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would connect to addresses that nobody checked."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, canary.url)

    async def resolver(host: str, /) -> list[str]:
        return ["127.0.0.1"]

    async with asyncio.timeout(10), Upstream(lambda _: PICTURE) as outside:
        options = FetchImages(
            allow_http=True,
            allowed_ports=(outside.port,),
            resolver=resolver,
            address_policy=only_first,
        )
        fetcher = ImageFetcher(options)
        await fetcher.inline(document(f"http://images.example:{outside.port}/"))
        await fetcher.aclose()
        assert 1 == outside.connections


async def test_the_systems_resolver_is_the_default() -> None:
    """What it finds is checked like anything else."""
    found = await system_addresses("localhost")
    assert found
    assert all(ipaddress.ip_address(text).is_loopback for text in found)
    assert FetchImages().resolver is system_addresses
