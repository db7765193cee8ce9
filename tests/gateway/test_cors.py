from __future__ import annotations

from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway.cors import CORSMiddleware
from asgi_llm.testing import Exchange, Recorder, call, http_scope

ORIGIN = (b"origin", b"https://app.test")


async def streaming(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"x-request-id", b"req_1")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in range(3):
        await send({"type": "http.response.body", "body": b"%d" % number, "more_body": number < 2})


def layer(**options: Any) -> CORSMiddleware:
    return CORSMiddleware(streaming, **{"allow_origins": ["https://app.test"], **options})


async def preflight(app: CORSMiddleware, *headers: tuple[bytes, bytes]) -> Recorder:
    method = (b"access-control-request-method", b"POST")
    return await call(app, http_scope("OPTIONS", headers=[ORIGIN, method, *headers]))


async def test_a_preflight_grants_what_the_official_client_sends() -> None:
    """POST with key, JSON and the headers of the JavaScript SDK is granted without the app."""
    asked = b"authorization,content-type,x-stainless-lang,x-stainless-retry-count,x-request-id"
    answer = await preflight(layer(), (b"access-control-request-headers", asked))
    assert (200, b"OK") == (answer.status, answer.body)
    assert b"https://app.test" == answer.header("access-control-allow-origin")
    assert b"600" == answer.header("access-control-max-age")


async def test_a_preflight_of_another_origin_or_header_is_refused() -> None:
    """What was not granted is refused, and no origin is named."""
    stranger = http_scope(
        "OPTIONS",
        headers=[(b"origin", b"https://evil.test"), (b"access-control-request-method", b"POST")],
    )
    answer = await call(layer(), stranger)
    assert (400, None) == (answer.status, answer.header("access-control-allow-origin"))
    answer = await preflight(layer(), (b"access-control-request-headers", b"x-other"))
    assert 400 == answer.status


async def test_our_headers_can_be_read_by_a_page() -> None:
    """The answer exposes our headers and keeps its own, duplicates too."""
    answer = await call(layer(), http_scope(headers=[ORIGIN]))
    exposed = (answer.header("access-control-expose-headers") or b"").lower().split(b", ")
    assert {b"x-request-id", b"x-cost", b"retry-after", b"x-provider"} <= set(exposed)
    assert [b"a=1", b"b=2"] == answer.header_values("set-cookie")
    assert b"https://app.test" == answer.header("access-control-allow-origin")


async def test_nothing_needs_to_be_exposed() -> None:
    """Without headers to expose the response names none, and the app's own grant is replaced."""
    answer = await call(layer(expose_headers=()), http_scope(headers=[ORIGIN]))
    assert None is answer.header("access-control-expose-headers")
    assert [b"https://app.test"] == answer.header_values("access-control-allow-origin")


async def test_another_origin_gets_no_grant() -> None:
    """The request is served, since CORS is the browser's affair; the page may not read it."""
    answer = await call(layer(), http_scope(headers=[(b"origin", b"https://evil.test")]))
    assert None is answer.header("access-control-allow-origin")


async def test_caches_are_told_that_answers_differ() -> None:
    """``Vary`` names the origin once, with or without an origin; for any origin there is none."""
    assert [b"Origin"] == (await call(layer(), http_scope())).header_values("vary")
    answer = await call(layer(allow_credentials=True), http_scope(headers=[ORIGIN]))
    assert [b"Origin"] == answer.header_values("vary")
    assert b"true" == answer.header("access-control-allow-credentials")
    answer = await call(layer(allow_origins=["*"]), http_scope(headers=[ORIGIN]))
    assert ([], b"*") == (
        answer.header_values("vary"),
        answer.header("access-control-allow-origin"),
    )


async def test_a_stream_passes_chunk_by_chunk() -> None:
    """Nothing is held back."""
    async with Exchange(layer(), http_scope(headers=[ORIGIN])) as exchange:
        for number in range(3):
            assert b"%d" % number == await exchange.next_chunk()
            assert exchange.pending <= 1
        await exchange.finish()


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"allow_origins": []}, "allow_origins"),
        ({"allow_origins": "https://app.test"}, "allow_origins"),
        ({"allow_origins": ["*"], "allow_credentials": True}, "allow_credentials"),
        ({"max_age_seconds": -1}, "max_age_seconds"),
        ({"allow_origin_regex": "("}, "allow_origin_regex"),
    ],
)
def test_a_bad_option_is_refused(options: dict[str, Any], param: str) -> None:
    """The error names the option."""
    with pytest.raises(ConfigurationError) as refused:
        layer(**options)
    assert param == refused.value.param


async def test_origins_by_pattern() -> None:
    """A regex must match the whole origin."""
    app = layer(allow_origins=[], allow_origin_regex=r"https://[a-z]+\.test")
    assert 200 == (await preflight(app)).status
    other = http_scope(headers=[(b"origin", b"https://app.test.evil.org")])
    assert None is (await call(app, other)).header("access-control-allow-origin")
