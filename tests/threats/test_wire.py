"""Abuse of the wire, over real sockets under uvicorn: each row is answered as it should be."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import logging
import resource
import time
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.middleware import Middleware

from asgi_llm.gateway.access_log import LOGGER_NAME, AccessLogMiddleware, write_to
from asgi_llm.gateway.compose import compose
from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.echo import Echo
from asgi_llm.testing import Upstream
from asgi_llm.testing.serving import serve
from tests.threats.conftest import CHAT, MAX_BODY_BYTES, SECRET, Door


def chat(**fields: Any) -> dict[str, Any]:
    return {**CHAT, **fields}


# A1: two readings of one message.
SMUGGLING = {
    "length and chunked": b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET ",
    "two lengths": b"content-length: 4\r\ncontent-length: 5\r\n\r\nabcde",
    "unknown coding": b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "space before colon": b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "folded header": b"x-a: 1\r\n folded\r\ncontent-length: 0\r\n\r\n",
    "bare line feed ends a chunk": b"transfer-encoding: chunked\r\n\r\n3\nabc\n0\n\n",
    "negative length": b"content-length: -1\r\n\r\n",
    "length in hex": b"content-length: 0x4\r\n\r\nabcd",
}


@pytest.mark.parametrize("case", SMUGGLING)
async def test_a1_ambiguous_framing_never_reaches_the_upstream(door: Door, case: str) -> None:
    """The server answers 400 or closes, and nothing is called."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    answer = await door.send(head + SMUGGLING[case])
    assert answer.status in (0, 400)
    assert door.upstream.ledger == []


CREDENTIALS = ("authorization: Bearer client-key", "x-api-key: client-key", "api-key: client-key")


async def test_a2_a3_no_credential_of_the_client_reaches_the_provider(door: Door) -> None:
    """Whatever a client sends, in whatever spelling, the upstream sees only its own key."""
    spelled = (
        *CREDENTIALS,
        *CREDENTIALS[:1],
        "x_api_key: client-key",
        "x-goog-api-key: client-key",
    )
    answer = await door.post(
        chat(model="up/m"),
        headers=(
            "content-type: application/json",
            "connection: authorization, x-tenant",
            "cookie: a=client-key",
            *spelled,
        ),
    )
    assert answer.status == 200
    (row,) = door.upstream.ledger
    assert [v for k, v in row.request.headers if k == b"authorization"] == [
        f"Bearer {SECRET}".encode()
    ]
    assert not [pair for pair in row.request.headers if b"client-key" in pair[1]]


async def test_a4_internal_headers_of_a_client_mean_nothing(door: Door) -> None:
    """The request id is minted inside; the client's is echoed as a label; the rest is dropped."""
    answer = await door.post(
        chat(model="up/m"),
        headers=(
            "content-type: application/json",
            "x-request-id: mine",
            "x-tenant: admin",
            "x-cost: 0",
            "x-cache-status: HIT",
            "x-provider: other",
            "x-forwarded-for: 1.2.3.4",
        ),
    )
    assert answer.header("x-client-request-id") == "mine"
    assert (answer.header("x-request-id") or "").startswith("req_")
    assert answer.header("x-provider") == "up"
    assert answer.header("x-cache-status") is None
    names = {name for name, _ in door.upstream.ledger[0].request.headers}
    assert names == {
        b"host", b"authorization", b"user-agent", b"accept-encoding", b"content-type",
        b"content-length",
    }  # fmt: skip


async def test_a4_an_insane_request_id_is_not_echoed(door: Door) -> None:
    """Only a short id of harmless characters comes back."""
    for insane in ("a" * 129, "a b", "<script>", 'a"b'):
        answer = await door.post(
            CHAT, headers=("content-type: application/json", f"x-request-id: {insane}")
        )
        assert answer.status == 200
        assert answer.header("x-client-request-id") is None


ODD_PATHS = [
    "//v1/chat/completions",
    "/v1//chat/completions",
    "/v1/./chat/completions",
    "/v1/../v1/chat/completions",
    "/v1/%2e%2e/v1/chat/completions",
    "/v1/chat/completions%00",
    "/v1/chat/completions;a=b",
    "/V1/chat/completions",
    "/v1/chat/Completions",
    "/v1/chat/completions//",
    "/v1/chat%252fcompletions",
    "/v1/chat/completions%20",
    "/v1/chat/c%C0%AFompletions",
    "/chat/completions",
    "/admin",
    "*",
    "/",
    "/v1",
]


@pytest.mark.parametrize("path", ODD_PATHS)
async def test_a5_a_path_that_is_not_normal_is_no_route(door: Door, path: str) -> None:
    """Anything but the plain form, one trailing slash apart, is a 404 or a 400."""
    answer = await door.post(CHAT, path=path)
    assert answer.status in (400, 404)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/chat/completions/"])
async def test_a5_the_plain_form_is_the_route(door: Door, path: str) -> None:
    """With or without one trailing slash."""
    assert (await door.post(CHAT, path=path)).status == 200


@pytest.mark.parametrize("host", ["a/#@b", "[::1", "x:99999", "x y", "v1/models?", "", "127.0.0.1"])
async def test_a7_the_host_header_decides_nothing(door: Door, host: str) -> None:
    """Any Host gives the plain form's decision, or the server refuses it whole."""
    assert (await door.post(CHAT, host=host)).status in (200, 400)
    assert (await door.post(CHAT, host=host, path="/admin")).status in (404, 400)


async def test_a7_an_absolute_target_is_its_path(door: Door) -> None:
    """``POST http://other/v1/...`` is a request to us, or refused; it is never forwarded there."""
    target = f"{door.upstream.url}/v1/chat/completions"
    assert (await door.post(CHAT, path=target)).status in (200, 400, 404)
    assert door.upstream.ledger == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PATCH"])
async def test_a8_other_methods_are_refused(door: Door, method: str) -> None:
    """405 with the allowed method; an override header changes nothing."""
    answer = await door.post(b"", method=method, headers=("x-http-method-override: POST",))
    assert answer.status == 405
    assert answer.header("allow") == "POST"


async def test_a8_a_websocket_upgrade_is_refused(door: Door) -> None:
    """No connection is accepted on a route that is not one."""
    answer = await door.send(
        b"GET /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\n"
        b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert answer.status == 403


@pytest.mark.parametrize("key", ['"model"', '"\\u006dodel"'])
async def test_a9_a_repeated_key_means_the_same_to_all(door: Door, key: str) -> None:
    """The last one wins for every check, and it alone is sent."""
    messages = json.dumps(CHAT["messages"])
    body = f'{{"model": "echo/echo", "messages": {messages}, {key}: "up/m2"}}'
    answer = await door.post(body.encode())
    assert answer.status == 200
    assert answer.header("x-provider") == "up"
    (row,) = door.upstream.ledger
    assert row.request.body.count(b'"model"') == 1
    assert json.loads(row.request.body)["model"] == "m2"


JSON_BOMBS = {
    "nested arrays": b"[" * 100_000 + b"]" * 100_000,
    "nested in a field": b'{"messages":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_001,
    "a number of many digits": b'{"seed": ' + b"9" * 200_000 + b"}",
    "NaN": b'{"model": "echo/echo", "temperature": NaN}',
    "Infinity": b'{"model": "echo/echo", "temperature": -Infinity}',
    "a lone surrogate": b'{"model": "\\ud800", "messages": []}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": json.dumps(CHAT).encode("utf-16"),
    "not UTF-8": b'{"model": "\xff\xfe"}',
    "an array": b"[]",
    "a string": b'"hi"',
    "empty": b"",
    "two documents": b"{}{}",
}


@pytest.mark.parametrize("case", JSON_BOMBS)
async def test_a10_malformed_json_is_a_clear_400(door: Door, case: str) -> None:
    """Quickly refused, in the error shape, without naming our parser's innards."""
    begun = time.process_time()
    answer = await door.post(JSON_BOMBS[case])
    assert time.process_time() - begun < 1.0
    assert answer.status == 400
    error = answer.json["error"]
    assert error["type"] == "invalid_request_error"
    assert "msgspec" not in error["message"]


async def test_a11_a_large_body_is_refused_by_its_length(door: Door) -> None:
    """Unread, with the connection closed."""
    answer = await door.send(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: 99999999999\r\n\r\n{"
    )
    assert answer.status == 413
    assert answer.header("connection") == "close"


async def test_a11_an_endless_chunked_body_is_refused(door: Door) -> None:
    """At the limit and one message, and without growing beyond it."""
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    )
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = await door.send(head, *[chunk] * (MAX_BODY_BYTES // 0x10000 + 2))
    assert answer.status == 413
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "gzip, gzip", "deflate"])
async def test_a12_compressed_bodies_are_refused(door: Door, coding: str) -> None:
    """Nothing is inflated, so there is no bomb."""
    answer = await door.post(
        gzip.compress(b"0" * 100_000),
        headers=("content-type: application/json", f"content-encoding: {coding}"),
    )
    assert answer.status == 415
    assert answer.json["error"]["code"] == "unsupported_content_encoding"


@pytest.mark.parametrize(
    "header",
    ["x-none: 1", "content-type: text/plain", "content-type: application/x-www-form-urlencoded"],
)
async def test_a_body_that_is_not_said_to_be_json_is_refused(door: Door, header: str) -> None:
    """A web page cannot reach a gateway on loopback without a preflight."""
    answer = await door.post(CHAT, headers=(header,))
    assert answer.status == 415


@pytest.mark.parametrize("media", ["application/json; charset=utf-8", "Application/JSON"])
async def test_other_spellings_of_json_are_taken(door: Door, media: str) -> None:
    """Parameters and case do not matter."""
    assert (await door.post(CHAT, headers=(f"content-type: {media}",))).status == 200


async def test_a14_a_body_that_trickles_is_given_up(door: Door) -> None:
    """The deadline is for the whole body; the answer says so and closes."""
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: 100\r\n\r\n"
    )
    answer = await door.send(head, b"{")
    assert answer.status == 408
    assert answer.header("connection") == "close"


NAMES = [
    "up/a\r\nx-evil: 1",
    "up/a\x00b",
    "up/../../admin",
    "up/" + "a" * 100_000,
    "up/\u202eevil",
    "\u0435cho/echo",
    "",
    " ",
    "up/a b",
    "up/{0.__class__}",
    "up/%s%n",
    "/",
    "up/",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
async def test_a17_odd_model_names_are_refused(door: Door, name: str) -> None:
    """Before they are used in any header, URL, log or label; and they are not echoed at length."""
    answer = await door.post(chat(model=name))
    assert answer.status in (400, 404)
    assert answer.header("x-evil") is None
    assert len(answer.body) < 2_000
    assert door.upstream.ledger == []


@pytest.mark.parametrize("model", [None, 7, ["a"], {"a": 1}, True])
async def test_a17_a_model_that_is_no_string_is_named(door: Door, model: Any) -> None:
    """The error says which field and what was expected."""
    answer = await door.post(chat(model=model))
    assert answer.status == 400
    assert answer.json["error"]["param"] == "model"


@pytest.mark.parametrize("query", ["key=sk-x", "api_key=sk-x", "a=1&API_KEY=x", "%6bey=x"])
async def test_a20_a_key_in_the_url_is_refused(door: Door, query: str) -> None:
    """It would stand in the logs of everything on the way."""
    answer = await door.post(CHAT, path=f"/v1/chat/completions?{query}")
    assert answer.status == 400
    assert answer.json["error"]["code"] == "key_in_url"
    assert b"sk-x" not in answer.body


async def test_other_query_parameters_do_not_matter(door: Door) -> None:
    """Azure's clients send an api-version."""
    answer = await door.post(CHAT, path="/v1/chat/completions?api-version=2024-10-21")
    assert answer.status == 200


async def test_fifty_requests_at_once_get_their_own_answers(door: Door) -> None:
    """Nothing of one request is seen in another."""
    answers = await asyncio.gather(
        *(
            door.post(chat(messages=[{"role": "user", "content": f"number {n} of them"}]))
            for n in range(50)
        )
    )
    for n, answer in enumerate(answers):
        assert f"number {n} of them" in answer.json["choices"][0]["message"]["content"]
    assert len({answer.header("x-request-id") for answer in answers}) == 50


async def test_a6_a_mounted_gateway_decides_as_one_that_is_not() -> None:
    """Below the prefix the same routes, and the host's own are untouched."""
    app = ProviderApp([Echo()])
    host = FastAPI()
    host.mount("/llm", app)

    @host.get("/v1/models")
    async def own() -> dict[str, str]:
        return {"own": "route"}

    async with serve(host, server="uvicorn", http="httptools") as url:
        door = Door(url, Upstream())
        assert (await door.post(CHAT, path="/llm/v1/chat/completions")).status == 200
        assert (await door.post(CHAT, path="/llm/llm/v1/chat/completions")).status == 404
        assert (await door.post(CHAT, path="/v1/chat/completions")).status == 404
        assert (await door.post(CHAT, path="/llmx/v1/chat/completions")).status == 404
        assert (await door.post(b"", path="/v1/models", method="GET")).json == {"own": "route"}
    await app.aclose()


def form(*parts: bytes, boundary: bytes = b"b") -> bytes:
    return b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + (
        b"--" + boundary + b"--\r\n"
    )


MODEL_PART = b'content-disposition: form-data; name="model"\r\n\r\necho/echo'
FILE_PART = (
    b'content-disposition: form-data; name="file"; filename="../../x"\r\n'
    b"content-type: audio/wav\r\n\r\nRIFF"
)
FORMS = {
    "a huge boundary": (b"x" * 1_000_000, b""),
    "a million parts": (
        b"b",
        b'--b\r\ncontent-disposition: form-data; name="a"\r\n\r\n\r\n' * 4_000,
    ),
    "no end": (b"b", form(MODEL_PART, FILE_PART)[:-10]),
    "no file": (b"b", form(MODEL_PART)),
    "no model": (b"b", form(FILE_PART)),
    "not a form": (b"b", b"hello"),
}


@pytest.mark.parametrize("case", FORMS)
async def test_a16_a_bad_form_is_refused(door: Door, case: str) -> None:
    """With a clear 400 and within a bound of memory and time."""
    boundary, body = FORMS[case]
    begun = time.process_time()
    answer = await door.post(
        body,
        path="/v1/audio/transcriptions",
        headers=(f"content-type: multipart/form-data; boundary={boundary.decode()}",),
    )
    assert answer.status in (0, 400, 413, 431)
    assert time.process_time() - begun < 1.0


@pytest.mark.parametrize("parts", [(MODEL_PART, FILE_PART), (FILE_PART, MODEL_PART)])
async def test_a16_a_file_name_is_no_path(door: Door, parts: tuple[bytes, bytes]) -> None:
    """The file passes, in either order of the fields; its name loses every directory."""
    body = form(*parts).replace(b"echo/echo", b"up/whisper-1")
    answer = await door.post(
        body,
        path="/v1/audio/transcriptions",
        headers=("content-type: multipart/form-data; boundary=b",),
    )
    assert answer.status == 200
    (row,) = door.upstream.ledger
    assert b"RIFF" in row.request.body
    assert b"whisper-1" in row.request.body
    assert b"../" not in row.request.body


async def test_a18_nothing_forges_a_log_line() -> None:
    """Line feeds, escapes and quotes in every field that a client fills stay within one line."""
    stream = io.StringIO()
    handler = write_to(stream)
    app = ProviderApp([Echo()])
    stack = compose([Middleware(AccessLogMiddleware)], app)
    evil = 'x\n{"forged": 1}\r\x1b[31m\u2028"'
    try:
        async with serve(stack, server="uvicorn", http="httptools") as url:
            door = Door(url, Upstream())
            await door.post(chat(model=evil, user=evil, metadata={"a": evil}))
            await door.post(chat(user=evil), path="/v1/chat/completions?x=%0aforged")
            await door.post(CHAT, path="/%0aforged%1b[31m")
    finally:
        logging.getLogger(LOGGER_NAME).removeHandler(handler)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert [json.loads(line)["route"] for line in lines] == [
        "/v1/chat/completions",
        "/v1/chat/completions",
        "other",
    ]
    assert "forged" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
