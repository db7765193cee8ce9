"""Images and documents by URL, fetched for a provider that cannot do so, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme

from asgi_llm.errors import ConfigurationError, InvalidRequestError
from asgi_llm.providers._fetch import ImageFetcher
from asgi_llm.providers.anthropic import Anthropic
from asgi_llm.providers.app import FetchImages, ProviderApp
from asgi_llm.providers.ollama import Ollama
from asgi_llm.testing import (
    Exchange,
    Recorder,
    Reply,
    Reset,
    Step,
    Upstream,
    Wait,
    call,
    http_scope,
    json_reply,
)
from asgi_llm.transports._addresses import IPAddress

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
JPEG = b"\xff\xd8\xff\xe0" + b"j" * 60
GIF = b"GIF89a" + b"g" * 60
WEBP = b"RIFF\x10\x00\x00\x00WEBPVP8 " + b"w" * 60
PDF = b"%PDF-1.7\n" + b"p" * 60

HOST = "images.example"
ANSWER = {
    "model": "llava",
    "message": {"role": "assistant", "content": "a picture"},
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 3,
    "eval_count": 2,
}


def picture(
    data: bytes | Iterable[Step] = PNG, media_type: str = "image/png", **more: Any
) -> Reply:
    return Reply(**{"headers": {"content-type": media_type}, "body": data, **more})


def data_url(data: bytes = PNG, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


async def here(host: str, /) -> list[str]:
    return ["127.0.0.1"]


def is_here(address: IPAddress) -> bool:
    """Lets the test's own server through, and nothing else."""
    return str(address) == "127.0.0.1"


def options(server: Upstream, **more: Any) -> FetchImages:
    return FetchImages(
        **{
            "allow_http": True,
            "allowed_ports": (server.port,),
            "resolver": here,
            "address_policy": is_here,
            "timeout_seconds": 5.0,
            **more,
        }
    )


def url(server: Upstream, path: str = "/a.png") -> str:
    return f"http://{HOST}:{server.port}{path}"


def image(address: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": address, **more}}


def document(*parts: Any, **more: Any) -> dict[str, Any]:
    text = {"type": "text", "text": "What is this?"}
    return {
        "model": "ollama/llava",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [text, *parts]},
        ],
        **more,
    }


@pytest.fixture
async def server() -> AsyncIterator[Upstream]:
    async with asyncio.timeout(30), Upstream() as server:
        yield server


@asynccontextmanager
async def fetcher(options: FetchImages) -> AsyncIterator[ImageFetcher]:
    fetcher = ImageFetcher(options)
    yield fetcher
    await fetcher.aclose()


@asynccontextmanager
async def app(
    fetch_images: FetchImages | None, answer: dict[str, Any] = ANSWER
) -> AsyncIterator[tuple[ProviderApp, Upstream]]:
    async with Upstream() as upstream:
        upstream.script(json_reply(answer))
        app = ProviderApp(
            [
                Ollama(base_url=upstream.url),
                Anthropic(api_key="sk-ant-0123456789", base_url=upstream.url),
            ],
            fetch_images=fetch_images,
        )
        yield app, upstream
        await app.aclose()


def error(answer: Recorder) -> tuple[int, str, str]:
    told = json.loads(answer.body)["error"]
    return answer.status, told["code"], told["param"]


async def refusal(server: Upstream, *parts: Any, **more: Any) -> InvalidRequestError:
    async with fetcher(options(server, **more)) as fetching:
        with pytest.raises(InvalidRequestError) as caught:
            await fetching.inline(document(*(parts or (image(url(server)),))))
    assert (400, "image_fetch_failed") == (caught.value.status, caught.value.code)
    return caught.value


# What comes through


async def test_case_12_an_image_reaches_a_provider_that_cannot_fetch(server: Upstream) -> None:
    """As data, in the provider's own form; the client's words about it stay."""
    server.script(picture())
    async with app(options(server)) as (gateway, upstream):
        answer = await call(gateway, json=document(image(url(server), detail="low")))
        assert 200 == answer.status
        sent = upstream.ledger[0].request.json()["messages"][1]
    assert [base64.b64encode(PNG).decode()] == sent["images"]
    assert "/a.png" == server.ledger[0].request.target


async def test_case_12_off_by_default(server: Upstream) -> None:
    """A 400 that names the part, and nothing is asked."""
    async with app(None) as (gateway, upstream):
        answer = await call(gateway, json=document(image(url(server))))
        assert (400, "unsupported_content_part", "messages[1].content[1]") == error(answer)
        assert [] == upstream.ledger
    assert 0 == server.connections


async def test_case_12_a_provider_that_fetches_gets_the_url(server: Upstream) -> None:
    """Also where fetching is turned on."""
    body = {
        "type": "message",
        "id": "msg_1",
        "content": [{"type": "text", "text": "a picture"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    async with app(options(server), body) as (gateway, upstream):
        asked = document(image("https://x.example/a.png"), model="anthropic/claude-opus-9")
        answer = await call(gateway, json=asked)
        assert 200 == answer.status
        source = upstream.ledger[0].request.json()["messages"][0]["content"][1]["source"]
    assert {"type": "url", "url": "https://x.example/a.png"} == source
    assert 0 == server.connections


async def test_every_place_of_an_address(server: Upstream) -> None:
    """Images as object and as string, files in all their forms, results of tools; no other part."""
    server.script(picture(), picture(PDF, "application/pdf"), picture(JPEG, "image/jpeg"))
    one, two, three = (url(server, path) for path in ("/1", "/2", "/3"))
    asked = document(
        image(one, detail="low"),
        {"type": "file", "file": {"file_data": two, "filename": "a.pdf"}},
        {"type": "file_url", "file_url": {"url": two}},
        {"type": "document_url", "document_url": two},
        image("data:image/png;base64,AAAA"),
        {"type": "video_url", "video_url": {"url": "https://x.example/v.mp4"}},
        {"type": "file", "file": {"file_id": "file-1"}},
    )
    result = {
        "role": "tool",
        "tool_call_id": "c1",
        "content": [{"type": "image_url", "image_url": three}],
    }
    asked["messages"] += [{"role": "assistant", "content": None}, result]
    before = json.dumps(asked)
    async with fetcher(options(server, max_at_once=1)) as fetching:
        told = await fetching.inline(asked)
    pdf = data_url(PDF, "application/pdf")
    parts = told["messages"][1]["content"]
    assert {"url": data_url(), "detail": "low"} == parts[1]["image_url"]
    assert {"file_data": pdf, "filename": "a.pdf"} == parts[2]["file"]
    assert {"url": pdf} == parts[3]["file_url"]
    assert pdf == parts[4]["document_url"]
    assert asked["messages"][1]["content"][5:] == parts[5:]
    assert data_url(JPEG, "image/jpeg") == told["messages"][3]["content"][0]["image_url"]
    assert before == json.dumps(asked), "the document of the request is not changed"
    assert asked["messages"][0] is told["messages"][0]
    assert 3 == len(server.ledger), "one address is asked once"


async def test_a_document_without_addresses_is_the_same_object(server: Upstream) -> None:
    """Nothing is copied for it."""
    asked = document(image("data:image/png;base64,AAAA"))
    async with fetcher(options(server)) as fetching:
        assert asked is await fetching.inline(asked)


@pytest.mark.parametrize(
    ("data", "media_type", "told"),
    [
        (PNG, "image/png", "image/png"),
        (JPEG, "IMAGE/JPEG; charset=binary", "image/jpeg"),
        (JPEG, "image/jpg", "image/jpeg"),
        (GIF, "image/gif", "image/gif"),
        (WEBP, "image/webp", "image/webp"),
    ],
)
async def test_the_types_that_are_taken(
    data: bytes, media_type: str, told: str, server: Upstream
) -> None:
    """By their names and by their first bytes."""
    server.script(picture(data, media_type))
    async with fetcher(options(server)) as fetching:
        got = await fetching.inline(document(image(url(server))))
    assert data_url(data, told) == got["messages"][1]["content"][1]["image_url"]["url"]


async def test_nothing_of_the_gateways_own_is_sent(server: Upstream) -> None:
    """No credential, no cookie; the fragment stays here, and letters beyond ASCII are escaped."""
    server.script(picture())
    async with fetcher(options(server)) as fetching:
        await fetching.inline(document(image(url(server, "/bild-ä.png?q=%20ö#part"))))
    request = server.ledger[0].request
    assert "/bild-%C3%A4.png?q=%20%C3%B6" == request.target
    assert {b"host", b"accept", b"accept-encoding", b"user-agent"} == {
        n for n, _ in request.headers
    }
    assert f"{HOST}:{server.port}".encode() == request.header("host")


async def test_so_many_are_fetched_at_once(server: Upstream) -> None:
    """The next begins when one is there."""
    under_way = most = 0
    full = asyncio.Event()

    async def reply(_: Any) -> Reply:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if most == 3:
            full.set()
        await full.wait()
        under_way -= 1
        return picture()

    async with Upstream(reply) as busy, fetcher(options(busy, max_at_once=3)) as fetching:
        await fetching.inline(document(*(image(url(busy, f"/{n}")) for n in range(9))))
        assert (9, 3) == (len(busy.ledger), most)


# What does not


def endless() -> Iterator[bytes]:
    yield PNG
    while True:
        yield b"x" * 1000


REFUSED: dict[str, tuple[Reply, str]] = {
    "a redirect": (
        Reply(status=302, headers={"location": "http://images.example/b.png"}),
        "redirects elsewhere, which is not followed",
    ),
    "not found": (picture(status=404), "answers with the status 404"),
    "nothing": (Reply(status=204), "answers with the status 204"),
    "a part": (picture(status=206), "answers with the status 206"),
    "a page": (picture(b"<html>", "text/html"), "content type is not one of"),
    "a drawing with scripts": (picture(b"<svg/>", "image/svg+xml"), "content type is not one of"),
    "a document for an image": (picture(PDF, "application/pdf"), "content type is not one of"),
    "no type": (Reply(body=PNG), "content type is not one of"),
    "two types": (
        Reply(headers=[("content-type", "image/png")] * 2, body=PNG),
        "content type is not one of",
    ),
    "another type than it says": (picture(JPEG), "is not of the type image/png"),
    "a page that says image": (picture(b"<html>"), "is not of the type image/png"),
    "a sound that says image": (
        picture(b"RIFF\x10\x00\x00\x00WAVEfmt ", "image/webp"),
        "is not of the type image/webp",
    ),
    "an empty body": (picture(b""), "is not of the type image/png"),
    "compressed": (picture(gzip=True, framing="chunked"), "is compressed"),
    "too large, as it says": (picture(PNG + b"x" * 5000), "larger than 5000 bytes"),
    "endless": (picture(endless(), framing="chunked"), "larger than 5000 bytes"),
    "without a length": (picture(framing="close"), "does not say how long it is"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_there_is_refused(name: str, server: Upstream) -> None:
    """With the place of the address and the reason."""
    reply, why = REFUSED[name]
    server.script(reply)
    caught = await refusal(server, max_bytes=5000)
    assert "messages[1].content[1].image_url.url" == caught.param
    assert caught.message.startswith("messages[1].content[1].image_url.url: ")
    assert why in caught.message
    assert 1 == len(server.ledger)


UNREACHABLE: dict[str, Reply] = {
    "reset": Reply(body=[Reset()], before=[Reset()]),
    "silent": picture(before=[Wait(asyncio.Event())]),
    "stalls": picture([PNG, Wait(asyncio.Event())], framing="chunked"),
    "breaks off": picture([PNG, Reset()], framing="chunked"),
    "no HTTP": Reply(raw=True, body=b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    "endless headers": Reply(raw=True, body=b"HTTP/1.1 200 OK\r\nx: " + b"x" * 20_000),
}


@pytest.mark.parametrize("name", UNREACHABLE)
async def test_the_network_is_not_told_of(name: str, server: Upstream) -> None:
    """One sentence for a host that refuses, is silent, or speaks another protocol."""
    server.script(UNREACHABLE[name])
    caught = await refusal(server, timeout_seconds=0.3)
    assert SILENT == caught.message


SILENT = "messages[1].content[1].image_url.url: nothing could be fetched from this URL"


async def test_an_address_that_is_refused_looks_like_one_where_nobody_is(
    server: Upstream,
) -> None:
    """And like a name that does not exist, and a port where nothing listens."""

    async def nobody(host: str, /) -> list[str]:
        raise OSError("no such name")

    async def nothing(host: str, /) -> list[str]:
        return []

    async def inside(host: str, /) -> list[str]:
        return ["10.0.0.1"]

    for resolver in (nobody, nothing, inside):
        assert SILENT == (await refusal(server, resolver=resolver)).message
    for literal in ("127.0.0.2", "[::1]"):
        part = image(f"http://{literal}:{server.port}/")
        assert SILENT == (await refusal(server, part)).message
    assert 0 == server.connections
    server.stop_listening()
    assert SILENT == (await refusal(server)).message


async def test_the_deadline_is_one_for_all(server: Upstream) -> None:
    """Addresses that wait for a place do not begin it anew."""
    server.script(picture(before=[Wait(asyncio.Event())]))
    parts = [image(url(server, f"/{n}")) for n in range(6)]
    async with asyncio.timeout(2):
        await refusal(server, *parts, timeout_seconds=0.3, max_at_once=1)
    assert 1 == len(server.ledger)


async def test_the_caps_on_a_request(server: Upstream) -> None:
    """On the number of places, and on the bytes in all of them, however often one is asked for."""
    server.script(picture())
    caught = await refusal(server, *(image(url(server)) for _ in range(3)), max_images=2)
    assert ("messages[1].content[3].image_url.url", 0) == (caught.param, server.connections)
    assert "a request may have 2 of these" in caught.message
    size = len(PNG)
    twice = [image(url(server)) for _ in range(2)]
    caught = await refusal(server, *twice, max_total_bytes=2 * size - 1)
    assert f"a request may take {2 * size - 1} bytes" in caught.message
    async with fetcher(options(server, max_total_bytes=2 * size)) as fetching:
        await fetching.inline(document(*twice))


async def test_types_that_are_not_wanted_are_refused(server: Upstream) -> None:
    """By the option, for images and for files."""
    server.script(picture(), picture(PDF, "application/pdf"))
    wanted = ("image/jpeg",)
    assert "one of: image/jpeg" in (await refusal(server, media_types=wanted)).message
    file = {"type": "file", "file": {"file_data": url(server)}}
    caught = await refusal(server, file, media_types=wanted)
    assert ("messages[1].content[1].file.file_data", True) == (
        caught.param,
        "one of: nothing" in caught.message,
    )


async def test_a_refusal_reaches_the_client_and_no_provider(server: Upstream) -> None:
    """As a 400 in the common form."""
    server.script(picture(status=404))
    async with app(options(server)) as (gateway, upstream):
        answer = await call(gateway, json=document(image(url(server))))
        place = "messages[1].content[1].image_url.url"
        assert (400, "image_fetch_failed", place) == error(answer)
        assert [] == upstream.ledger


async def test_a_client_that_leaves_ends_the_fetching(server: Upstream) -> None:
    """Within a second, and nothing is asked of the provider."""
    server.script(picture(before=[Wait(asyncio.Event())]))
    body = json.dumps(document(image(url(server)))).encode()
    scope = http_scope(headers={"content-type": "application/json"})
    async with app(options(server)) as (gateway, upstream):
        async with Exchange(gateway, scope, body=body) as exchange:
            await server.arrived(1)
            exchange.disconnect()
            async with asyncio.timeout(1):
                (row,) = await server.served(1)
            await exchange.finish()
        assert (True, []) == (row.client_left, upstream.ledger)


# TLS


@pytest.mark.parametrize(("name", "is_taken"), [(HOST, True), ("other.example", False)])
async def test_the_certificate_is_the_names_though_the_address_is_pinned(
    name: str, is_taken: bool
) -> None:
    """The name is asked for and verified; an address of the wrong server is worth nothing."""
    authority = trustme.CA()
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(theirs)
    asked: list[str | None] = []
    theirs.sni_callback = lambda _, server_name, __: asked.append(server_name)
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    async with asyncio.timeout(10), Upstream(ssl_context=theirs) as server:
        server.script(picture())
        part = image(f"https://{HOST}:{server.port}/a.png")
        if is_taken:
            async with fetcher(options(server, ssl_context=ours, allow_http=False)) as fetching:
                told = await fetching.inline(document(part))
            assert data_url() == told["messages"][1]["content"][1]["image_url"]["url"]
        else:
            assert SILENT == (await refusal(server, part, ssl_context=ours)).message
        assert [HOST] == asked


async def test_plain_http_is_off_by_default(server: Upstream) -> None:
    """It is refused before anything is asked."""
    caught = await refusal(server, allow_http=False)
    assert "the URL has to begin with https://" in caught.message
    assert 0 == server.connections


@pytest.mark.parametrize(
    ("wrong", "option"),
    [
        ({"max_bytes": 0}, "max_bytes"),
        ({"max_total_bytes": -1}, "max_total_bytes"),
        ({"max_images": 0}, "max_images"),
        ({"max_at_once": 0}, "max_at_once"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": float("inf")}, "timeout_seconds"),
        ({"media_types": ()}, "media_types"),
        ({"media_types": ("image/svg+xml",)}, "media_types"),
        ({"allowed_ports": ()}, "allowed_ports"),
        ({"allowed_ports": (0,)}, "allowed_ports"),
        ({"allowed_ports": (443, 65536)}, "allowed_ports"),
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any], option: str) -> None:
    """At construction, by name."""
    with pytest.raises(ConfigurationError) as caught:
        FetchImages(**wrong)
    assert option == caught.value.param
