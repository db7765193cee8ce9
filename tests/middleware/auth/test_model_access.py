"""Callers who may use some models only: in the body, in the list, and in no other way round."""

from __future__ import annotations

import gzip
from typing import Any

import msgspec
import pytest
from starlette.middleware import Middleware
from starlette.types import Receive, Scope, Send

from asgi_llm import client, compose
from asgi_llm.middleware._model_access import INFERENCE_PATHS, model_allowed, normal_form
from asgi_llm.middleware.auth import AuthMiddleware
from asgi_llm.providers.app import ROUTES, ProviderApp
from asgi_llm.providers.echo import Echo
from asgi_llm.state import PRINCIPAL, enter
from asgi_llm.stores.keys_memory import MemoryKeys
from asgi_llm.testing import Exchange, Recorder, call, http_scope
from asgi_llm.types import Principal
from tests.middleware.auth.probes import KEY, Inside, ask, bearer, code

SOME = Principal(key_id="key_1", models=("fast", "gpt-4o*", "azure/?pt"))
NONE = Principal(key_id="key_2", models=())
CHAT = "/v1/chat/completions"
ALLOWED = ("fast", "gpt-4o", "gpt-4o-mini", "azure/gpt")
FORBIDDEN = (
    *("Fast", "FAST", "fast ", "gpt-4", "GPT-4o", "openai/gpt-4o", "azure/gppt", "slow", "", "*"),
    *("fast\n", "fast\0", "\uff46ast", "gpt-4o" + "x" * 600),
)


def restricted(inside: Any, principal: Principal = SOME, **options: Any) -> AuthMiddleware:
    return AuthMiddleware(inside, keys=MemoryKeys({KEY: principal}), **options)


def test_patterns() -> None:
    """Patterns match whole names with their case; no pattern is no model, None is all."""
    assert [True] * 4 == [model_allowed(SOME, model) for model in ALLOWED]
    assert [False] * len(FORBIDDEN) == [model_allowed(SOME, model) for model in FORBIDDEN]
    for model in (*ALLOWED, *FORBIDDEN):
        assert not model_allowed(NONE, model)
        assert model_allowed(Principal(), model)


def test_every_route_that_names_a_model_is_covered() -> None:
    """What the provider app serves with a model is checked here."""
    assert set(ROUTES) <= INFERENCE_PATHS


@pytest.mark.parametrize("path", sorted(INFERENCE_PATHS))
async def test_the_model_of_a_body(path: str) -> None:
    """On each route an allowed model passes byte for byte, and another is a 403 before the app."""
    for model in ALLOWED:
        inside = Inside()
        body = b'{ "model" : %s, "x":1}' % msgspec.json.encode(model)
        recorder = await ask(restricted(inside), path=path, method="POST", body=body)
        assert (200, [body]) == (recorder.status, inside.bodies)
    for model in FORBIDDEN:
        inside = Inside()
        recorder = await ask(
            restricted(inside), path=path, method="POST", document={"model": model}
        )
        assert (403, "model_not_allowed") == (recorder.status, code(recorder))
        assert ("model", 0) == (recorder.json()["error"]["param"], inside.calls)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{}", 400),
        (b"[]", 400),
        (b"null", 400),
        (b'"fast"', 400),
        (b'{"model":null}', 400),
        (b'{"model":["fast"]}', 400),
        (b'{"model":1}', 400),
        (b"not json", 400),
        (gzip.compress(b'{"model":"slow"}', mtime=0), 400),
        (b'\xef\xbb\xbf{"model":"fast"}', 400),
        ('{"model":"fast"}'.encode("utf-16"), 400),
        (b'{"model":"fast","model":"slow"}', 403),
        (b'{"model":"fast","\\u006dodel":"slow"}', 403),
        (b'{"model":"fast","asgi_llm":{}}', 400),
    ],
)
async def test_bodies_that_name_no_model(body: bytes, status: int) -> None:
    """A body that names no model, or hides one, is refused: an app's default must not decide."""
    for content_type in ("application/json", "text/plain", "multipart/form-data; boundary=x"):
        inside = Inside()
        headers = [*bearer(), ("content-type", content_type)]
        recorder = await ask(restricted(inside), headers, path=CHAT, method="POST", body=body)
        assert (status, 0) == (recorder.status, inside.calls), content_type


@pytest.mark.parametrize(
    "path",
    [
        "/V1/chat/completions",
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/./chat/completions",
        "/v1/x/../chat/completions",
        "/v1/chat/completions;a=b",
        "/v1/chat%5ccompletions",
        "/v1/chat/completions//",
        "/v1/models/../chat/completions",
        "/v1/chat/completions%20",
        "//v1/models",
        "/v1/MODELS",
        "/v1//models/slow",
    ],
)
async def test_a5_other_forms_of_a_path(path: str) -> None:
    """A path that a router may take for a checked one is refused, whoever may use what."""
    inside = Inside(b'{"object":"list","data":[{"id":"slow"}]}')
    for method in ("GET", "POST"):
        recorder = await ask(
            restricted(inside), path=path, method=method, document={"model": "slow"}
        )
        assert recorder.status in (400, 403, 404)
    assert 0 == inside.calls


async def test_other_requests_pass_unread() -> None:
    """What is no inference passes without a look at its body; GET too."""
    inside = Inside()
    layer = restricted(inside)
    for method, path in (("POST", "/v1/files"), ("POST", "/upload"), ("GET", CHAT)):
        recorder = await ask(layer, path=path, method=method, body=b"\0 no JSON")
        assert 200 == recorder.status
    assert [b"\0 no JSON"] * 3 == inside.bodies


async def test_paths_of_an_app_of_ones_own() -> None:
    """``inference_paths`` names other routes, and those alone."""
    inside = Inside()
    layer = restricted(inside, inference_paths=("/api/Ask",))
    document = {"model": "slow"}
    assert 403 == (await ask(layer, path="/api/Ask", method="POST", document=document)).status
    assert 404 == (await ask(layer, path="/api/ask", method="POST", document=document)).status
    assert 200 == (await ask(layer, path=CHAT, method="POST", document=document)).status


@pytest.mark.parametrize("mode", ["enforce", "observe"])
async def test_a_body_that_is_too_large(mode: Any) -> None:
    """A body over the cap, announced or not, is a 413 in any mode: it cannot be handed on."""
    inside = Inside()
    layer = restricted(inside, max_body_bytes=100, mode=mode)
    body = b'{"model":"fast","x":"%s"}' % (b"x" * 200)
    announced = [*bearer(), ("content-length", str(len(body)))]
    for headers in (bearer(), announced):
        recorder = await ask(layer, headers, path=CHAT, method="POST", body=body)
        assert (413, 0) == (recorder.status, inside.calls)


async def test_a_body_that_is_slow() -> None:
    """A body that does not come is a 408 at the deadline."""
    inside = Inside()
    layer = restricted(inside, body_timeout_seconds=0.01)
    async with Exchange(layer, http_scope(headers=bearer()), body=None) as exchange:
        exchange.send_body(b"{", more=True)
        recorder = await exchange.finish()
    assert (408, 0) == (recorder.status, inside.calls)


async def test_observing_a_forbidden_model() -> None:
    """In ``observe`` mode the request reaches the app whole, with its identity, and is counted."""
    inside = Inside(b'{"data":[{"id":"slow"}]}')
    layer = restricted(inside, mode="observe")
    body = b'{"model": "slow"}'
    assert 200 == (await ask(layer, path=CHAT, method="POST", body=body)).status
    assert ([SOME], [body]) == (inside.principals, inside.bodies)
    assert {"model_not_allowed": 1} == layer.refusals
    assert b"slow" in (await ask(layer, path="/v1/models")).body
    assert 200 == (await ask(layer, path="/v1/models/slow")).status


# The list of models

LISTED = [{"id": name, "object": "model", "x": [1]} for name in (*ALLOWED, *FORBIDDEN)]
LIST = msgspec.json.encode({"object": "list", "data": LISTED, "has_more": False})


async def test_the_list_shows_what_may_be_used() -> None:
    """``/v1/models`` has the caller's models, whole and in order, and its own length."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(LIST)),
               (b"etag", b'"all"'), (b"x-a", b"1"), (b"x-a", b"2")]  # fmt: skip
    inside = Inside(LIST, headers)
    for path in ("/v1/models", "/v1/models/", "/v1/models?limit=1000"):
        recorder = await ask(restricted(inside), path=path)
        assert {"object": "list", "data": LISTED[:4], "has_more": False} == recorder.json()
        assert [b"%d" % len(recorder.body)] == recorder.header_values("content-length")
        assert [b"1", b"2"] == recorder.header_values("x-a")
        assert None is recorder.header("etag")
    recorder = await ask(restricted(inside, NONE), path="/v1/models")
    assert [] == recorder.json()["data"]


async def test_the_list_in_pieces() -> None:
    """A list that comes byte by byte is filtered like one that comes whole."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for at in range(len(LIST)):
            piece = LIST[at : at + 1]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    recorder = await ask(restricted(app), path="/v1/models")
    assert LISTED[:4] == recorder.json()["data"]


async def test_the_cursors_of_a_list() -> None:
    """First and last are those of what is shown."""
    inside = Inside(msgspec.json.encode({"data": LISTED[::-1], "first_id": "slow", "last_id": "x"}))
    shown = (await ask(restricted(inside), path="/v1/models")).json()
    assert ("azure/gpt", "fast") == (shown["first_id"], shown["last_id"])
    shown = (await ask(restricted(inside, NONE), path="/v1/models")).json()
    assert (None, None) == (shown["first_id"], shown["last_id"])


@pytest.mark.parametrize(
    "body",
    [b"", b"slow", b"[]", b'{"data":{}}', b'{"models":[{"name":"slow"}]}', b"\xff", b"[" * 10**5],
)
async def test_a_list_that_cannot_be_read(body: bytes) -> None:
    """What is no list cannot be filtered and is not shown."""
    recorder = await ask(restricted(Inside(body)), path="/v1/models")
    assert (500, "internal_error") == (recorder.status, code(recorder))
    assert b"slow" not in recorder.body


async def test_a_list_that_is_encoded() -> None:
    """The app is asked for a plain answer; if it compresses all the same, nothing is shown."""
    inside = Inside(gzip.compress(LIST), [(b"Content-Encoding", b"gzip")])
    headers = [*bearer(), ("accept-encoding", "gzip, br")]
    recorder = await ask(restricted(inside), headers, path="/v1/models")
    assert 500 == recorder.status
    asked = [value for name, value in inside.scopes[0]["headers"] if name == b"accept-encoding"]
    assert [b"identity"] == asked


async def test_a_list_that_is_too_long() -> None:
    """Over the cap nothing is held back any more, and nothing is shown."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(17):
            await send({"type": "http.response.body", "body": b" " * 2**20, "more_body": True})
        raise AssertionError("the answer was refused by now")

    recorder = await ask(restricted(app), path="/v1/models")
    assert (500, "internal_error") == (recorder.status, code(recorder))


async def test_a_list_from_a_file() -> None:
    """The ways past ``send`` are not offered to the app, and the other extensions are."""
    inside = Inside(LIST)
    extensions: dict[str, Any] = {
        "http.response.pathsend": {}, "http.response.zerocopysend": {}, "tls": {"a": 1},
    }  # fmt: skip
    await ask(restricted(inside), path="/v1/models", extensions=extensions)
    assert {"tls": {"a": 1}} == inside.scopes[0]["extensions"]
    assert 3 == len(extensions)


@pytest.mark.parametrize("status", [304, 404, 500, 503])
async def test_errors_of_the_list_pass(status: int) -> None:
    """What is no list because it is an error passes as it is."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"so it is"})

    recorder = await ask(restricted(app), path="/v1/models")
    assert (status, b"so it is") == (recorder.status, recorder.body)


async def test_the_head_of_a_list() -> None:
    """HEAD tells nothing of the length of the whole list."""
    inside = Inside(b"", [(b"content-length", b"%d" % len(LIST)), (b"x-a", b"1")])
    recorder = await ask(restricted(inside), path="/v1/models", method="HEAD")
    assert (200, b"") == (recorder.status, recorder.body)
    assert b"%d" % len(LIST) != recorder.header("content-length")
    assert b"1" == recorder.header("x-a")


async def test_one_model() -> None:
    """A model that may not be used is a 404, whether there is one or not; others are the app's."""
    inside = Inside()
    for name in ("slow", "openai/gpt-4o", "..", "x/../fast", "%2e%2e%2fx", "GPT-4o"):
        recorder = await ask(restricted(inside), path=f"/v1/models/{name}")
        assert (404, "model_not_found") == (recorder.status, code(recorder))
    assert 0 == inside.calls
    for name in ("fast", "azure/gpt", "gpt-4o%2fx"):
        assert 200 == (await ask(restricted(inside), path=f"/v1/models/{name}")).status


async def test_callers_of_all_models_see_the_app_itself() -> None:
    """Without a restriction the list is the app's own message, unread."""
    inside = Inside(b"whatever")
    recorder: Recorder = await ask(restricted(inside, Principal()), path="/v1/models")
    assert (200, b"whatever") == (recorder.status, recorder.body)


def test_normal_forms() -> None:
    """What routers make equal is made equal, and nothing else."""
    assert "/a/b" == normal_form("//A/./x/..//b;c=d/") == normal_form("/a\\b ")
    assert "/" == normal_form("") == normal_form("/") == normal_form("//") == normal_form("/..")
    assert "/a/b.c-d" == normal_form("/a/b.c-d")


# In front of the provider app

BOUNDARY = "b0"
AUDIO = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="model"\r\n\r\n%s\r\n'
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
    "Content-Type: audio/wav\r\n\r\nRIFF\r\n"
    f"--{BOUNDARY}--\r\n"
)


async def test_with_the_provider_app() -> None:
    """The whole of it in a gateway: list, model, chat."""
    gateway = compose(
        [Middleware(AuthMiddleware, keys=MemoryKeys({KEY: Principal(models=("echo/echo",))}))],
        app=ProviderApp([Echo()]),
    )
    async with client(gateway) as http:
        http.headers["authorization"] = f"Bearer {KEY}"
        listed = (await http.get("http://gateway/v1/models")).json()
        assert ["echo/echo"] == [model["id"] for model in listed["data"]]
        messages = [{"role": "user", "content": "Hello"}]
        statuses = [
            (
                await http.post(
                    "http://gateway" + CHAT, json={"model": model, "messages": messages}
                )
            ).status_code
            for model in ("echo/echo", "echo", "echo/other")
        ]
        assert [200, 403, 403] == statuses
        assert 404 == (await http.get("http://gateway/v1/models/echo/other")).status_code
        assert 200 == (await http.get("http://gateway/v1/models/echo/echo")).status_code


@pytest.mark.parametrize(("model", "status"), [("echo/echo", 200), ("echo/other", 403)])
async def test_an_upload_is_checked_by_its_reader(model: str, status: int) -> None:
    """The provider app, which reads the form, refuses a model that the caller may not use."""
    layer = restricted(ProviderApp([Echo()]), Principal(models=("echo/echo",)))
    headers = [*bearer(), ("content-type", f"multipart/form-data; boundary={BOUNDARY}")]
    scope = http_scope("POST", "/v1/audio/transcriptions", headers=headers)
    recorder = await call(layer, scope, body=(AUDIO % model).encode())
    assert status == recorder.status, recorder.body
    if status == 403:
        assert "model_not_allowed" == code(recorder)


async def test_the_provider_app_keeps_to_a_host_s_principal() -> None:
    """Where a host has said who is calling and no layer has looked, the provider app looks."""
    scope, state = enter(http_scope(headers=[("content-type", "application/json")]))
    state.set(PRINCIPAL, Principal(models=("echo/echo",)))
    messages = [{"role": "user", "content": "Hello"}]
    for model, status in (("echo/echo", 200), ("echo/other", 403)):
        document = {"model": model, "messages": messages}
        assert status == (await call(ProviderApp([Echo()]), scope, json=document)).status


async def test_a_model_that_a_layer_puts_in_place_of_an_allowed_one() -> None:
    """What was judged is the name that the client gave; what layers make of it is theirs."""

    async def renaming(scope: Scope, receive: Receive, send: Send) -> None:
        async def other() -> Any:
            message = await receive()
            document = msgspec.json.decode(message["body"])
            return {**message, "body": msgspec.json.encode({**document, "model": "echo/other"})}

        await ProviderApp([Echo()])(scope, other, send)

    layer = restricted(renaming, Principal(models=("support",)))
    document = {"model": "support", "messages": [{"role": "user", "content": "Hello"}]}
    headers = [*bearer(), ("content-type", "application/json")]
    recorder = await ask(layer, headers, path=CHAT, method="POST", document=document)
    assert (200, "other") == (recorder.status, recorder.json()["model"])
