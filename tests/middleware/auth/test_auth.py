"""Who is let in, and what everybody else is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from asgi_llm.errors import ConfigurationError, LLMError
from asgi_llm.middleware.auth import AuthMiddleware
from asgi_llm.state import FAILURE, enter
from asgi_llm.stores.base import KeyRecord
from asgi_llm.stores.keys_cached import CachedKeys
from asgi_llm.stores.keys_memory import MemoryKeys
from asgi_llm.testing import ManualClock, Recorder, call, http_scope, websocket_scope
from asgi_llm.types import Principal
from tests.middleware.auth.probes import (
    CALLER,
    KEY,
    MASTER_KEY,
    Inside,
    Table,
    ask,
    away,
    bearer,
    code,
    table,
)

REVOKED = "sk-revoked-000000000000000000000000000000000"
EXPIRED = "sk-expired-000000000000000000000000000000000"
UNKNOWN = "sk-unknown-000000000000000000000000000000000"
EXPIRES_AT = 1_800_000_000.0


def all_kinds() -> Table:
    return Table(
        {
            KEY: KeyRecord(principal=CALLER, expires_at=EXPIRES_AT),
            REVOKED: KeyRecord(principal=CALLER, active=False),
            EXPIRED: KeyRecord(principal=CALLER, expires_at=EXPIRES_AT - 10),
        }
    )


async def test_the_principal_reaches_the_app() -> None:
    """With a good key the app is called once and told who it is; the answer is the app's own."""
    inside = Inside(b'{"ok":true}')
    recorder = await ask(AuthMiddleware(inside, keys=table()), body=b"\0data", method="POST")
    assert (200, b'{"ok":true}') == (recorder.status, recorder.body)
    assert ([CALLER], [b"\0data"]) == (inside.principals, inside.bodies)


async def test_b1_one_answer_for_what_is_no_key() -> None:
    """Unknown, revoked and malformed keys: the same bytes, the same headers, the same look-ups."""
    answers = set()
    for headers in (
        bearer(UNKNOWN),
        bearer(REVOKED),
        [("authorization", "Bearer x y z")],
        [("authorization", "Basic YTpi")],
        [("x-api-key", "\0")],
        [("api-key", "x" * 10_000)],
    ):
        keys, inside = all_kinds(), Inside()
        recorder = await ask(AuthMiddleware(inside, keys=keys, master_key=MASTER_KEY), headers)
        assert (401, 0, 1) == (recorder.status, inside.calls, len(keys.asked))
        kept = tuple(pair for pair in recorder.headers if pair[0] != b"x-request-id")
        answers.add((recorder.body, kept))
    assert 1 == len(answers)
    ((body, sent),) = answers
    assert b'"code":"invalid_api_key"' in body
    assert (b"www-authenticate", b"Bearer") in sent


async def test_b1_a_missing_key() -> None:
    """No key at all is looked up like a bad one, and told apart from it by its code alone."""
    keys = all_kinds()
    recorder = await ask(AuthMiddleware(Inside(), keys=keys), [])
    assert (401, "missing_api_key", 1) == (recorder.status, code(recorder), len(keys.asked))
    assert b"Bearer" == recorder.header("www-authenticate")
    error = recorder.json()["error"]
    assert ("authentication_error", None) == (error["type"], error["param"])
    assert recorder.header("x-request-id") is not None


async def test_b3_an_expired_key() -> None:
    """Who holds the very key is told that it has expired, from the second on in which it has."""
    wall, clock = ManualClock(EXPIRES_AT - 5), ManualClock()
    keys = all_kinds()
    layer = AuthMiddleware(Inside(), keys=keys, wall_clock=wall, clock=clock)
    recorder = await ask(layer, bearer(EXPIRED))
    assert (401, "expired_api_key") == (recorder.status, code(recorder))
    assert 200 == (await ask(layer)).status
    wall.advance(5)
    assert (401, "expired_api_key") == ((late := await ask(layer)).status, code(late))


async def test_b3_a_clock_turned_back_revives_no_key() -> None:
    """What has expired by either clock stays expired, in warm caches too."""
    for turn_back in (5.0, 3600.0, 10.0**9):
        for seconds_pass in (1.0, 0.0):
            await expire_and_turn_back(turn_back, seconds_pass)


async def expire_and_turn_back(turn_back: float, seconds_pass: float) -> None:
    wall, mono = EXPIRES_AT - 1, 0.0
    layer = AuthMiddleware(
        Inside(),
        keys=CachedKeys(all_kinds(), clock=lambda: mono),
        wall_clock=lambda: wall,
        clock=lambda: mono,
    )
    assert 200 == (await ask(layer)).status
    wall += 1
    mono += seconds_pass
    assert 401 == (await ask(layer)).status
    wall -= turn_back
    for _ in range(3):
        assert 401 == (await ask(layer)).status
        mono += 10


async def test_b3_a_clock_that_is_turned_back_first_does_not_lengthen_a_life() -> None:
    """A key that is good for a minute ends a minute later, also by a clock that runs backwards."""
    wall, mono = [EXPIRES_AT - 60], [0.0]
    layer = AuthMiddleware(
        Inside(), keys=all_kinds(), wall_clock=lambda: wall[0], clock=lambda: mono[0]
    )
    wall[0] -= 3600
    mono[0] += 59
    assert 200 == (await ask(layer)).status
    mono[0] += 1
    assert 401 == (await ask(layer)).status


@pytest.mark.parametrize(
    "error", [away(), RuntimeError("boom"), TimeoutError(), KeyError(KEY), RecursionError()]
)
async def test_cve_2026_59822_a_check_that_fails_is_no_identity(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a key store raises: 503, no identity, and no word of it, or of the key, outside."""
    keys, inside = table(), Inside()
    keys.error = error
    recorder = await ask(AuthMiddleware(inside, keys=keys))
    assert (503, "store_unavailable", 0) == (recorder.status, code(recorder), inside.calls)
    assert b"1" == recorder.header("retry-after")
    assert b"hunter2" not in recorder.body
    assert KEY not in caplog.text
    assert "hunter2" not in caplog.text


async def test_b28_an_unknown_key_while_the_store_is_away() -> None:
    """A 503 and never a 401 for who cannot be looked up; a request without any key is a 401."""
    keys = table()
    keys.error = away()
    layer = AuthMiddleware(Inside(), keys=keys)
    assert [503, 503, 503, 503, 503] == [(await ask(layer)).status for _ in range(5)]
    recorder = await ask(layer, [])
    assert (401, "missing_api_key") == (recorder.status, code(recorder))


def bad_keys() -> dict[str, tuple[Any, int]]:
    """Checks that go wrong, and the status that each deserves."""

    def raising(error: BaseException) -> Callable[[object], object]:
        def check(credential: object) -> object:
            raise error

        return check

    async def unready(credential: object) -> object:
        raise away()

    return {
        "nobody": (lambda credential: None, 401),
        "a store's error": (raising(away()), 503),
        "a late store's error": (unready, 503),
        "a bug": (raising(ZeroDivisionError()), 503),
        "a wrong option": (raising(ConfigurationError("x")), 503),
        "an empty dict": (lambda credential: {}, 503),
        "true": (lambda credential: True, 503),
        "a name": (lambda credential: "admin", 503),
        "the class": (lambda credential: Principal, 503),
    }


@pytest.mark.parametrize("name", bad_keys())
@pytest.mark.parametrize("option", ["keys", "principal"])
async def test_cve_2026_59822_callables_that_go_wrong(option: str, name: str) -> None:
    """No answer of a callable but a Principal or a record is an identity."""
    check, status = bad_keys()[name]
    inside = Inside()
    layer = AuthMiddleware(inside, **{option: check})
    recorder = await ask(layer)
    assert (status, 0) == (recorder.status, inside.calls)
    assert layer.refusals[code(recorder)] == 1


async def test_a_callable_gets_the_credential() -> None:
    """A plain callable, async or not, is given the text; what no header carries is kept from it."""
    seen: list[str] = []

    async def check(credential: str) -> Principal | KeyRecord | None:
        seen.append(credential)
        return CALLER if credential == KEY else None

    def record(credential: str) -> KeyRecord:
        return KeyRecord(principal=CALLER, active=False)

    inside = Inside()
    layer = AuthMiddleware(inside, keys=check)
    assert 200 == (await ask(layer)).status
    assert 401 == (await ask(layer, [(b"x-api-key", b"sk-\xff")])).status
    assert 401 == (await ask(layer, bearer("x" * 9000))).status
    assert ([KEY], [CALLER]) == (seen, inside.principals)
    assert 401 == (await ask(AuthMiddleware(inside, keys=record))).status


async def test_a_cancelled_check_is_cancelled() -> None:
    """A request that is cancelled while its key is looked up ends there."""
    keys, inside = table(), Inside()
    keys.gate = asyncio.Event()
    asking = asyncio.create_task(ask(AuthMiddleware(inside, keys=keys)))
    async with asyncio.timeout(5):
        await keys.entered.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert 0 == inside.calls


async def test_refusals_are_told_to_the_layers_outside() -> None:
    """A refusal is in the state, for logs and meters."""
    scope, state = enter(http_scope("GET", "/v1/files"))
    await call(AuthMiddleware(Inside(), keys=table()), scope)
    failure = state.get(FAILURE)
    assert isinstance(failure, LLMError)
    assert "missing_api_key" == failure.code


async def test_observing_refuses_nobody() -> None:
    """In ``observe`` mode the request passes without an identity, and is counted."""
    keys, inside = all_kinds(), Inside()
    layer = AuthMiddleware(inside, keys=keys, mode="observe")
    for headers in ([], bearer(UNKNOWN), bearer(REVOKED), [*bearer(), *bearer()]):
        scope, state = enter(http_scope("GET", "/v1/files", headers=headers))
        assert 200 == (await call(layer, scope)).status
        assert None is state.get(FAILURE)
    keys.error = away()
    assert 200 == (await ask(layer, bearer(UNKNOWN[:-1]))).status
    assert [None] * 5 == inside.principals
    assert {
        "missing_api_key": 1,
        "invalid_api_key": 2,
        "ambiguous_credentials": 1,
        "store_unavailable": 1,
    } == layer.refusals


# Paths

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW")
PATHS = (
    "/",
    "/v1/chat/completions",
    "/v1/models",
    "/admin/keys",
    "/health",
    "/openapi.json",
    "//health/live",
    "/health//live",
    "/./health/live",
    "/health/./live",
    "/v1/../health/live",
    "/health/live/..",
    "/health/live/x",
    "/health/live;a=b",
    "/health/live%00",
    "/health/live//",
    "/HEALTH/LIVE",
    "/health/livex",
    "/health%5clive",
    "/health/live%20",
    "/%c0%afhealth/live",
    "/llm/health/live",
)


@pytest.mark.parametrize("path", PATHS)
async def test_a5_a8_every_method_and_path_needs_a_key(path: str) -> None:
    """What is not a public path in its plain form is refused, whatever the method and the host."""
    for method in METHODS:
        inside = Inside()
        layer = AuthMiddleware(inside, keys=table())
        for headers in ([], [("host", "a/#@b")], [("x-http-method-override", "GET")]):
            recorder = await ask(layer, headers, path=path, method=method)
            assert (401, 0) == (recorder.status, inside.calls), (method, path)


@pytest.mark.parametrize(
    "path", ["/health/live", "/health/ready", "/health/live/", "/health%2flive", "/%68ealth/live"]
)
async def test_a5_public_paths_need_none(path: str) -> None:
    """A public path passes; what a server decodes to it, or ends with a slash, is that path."""
    inside = Inside()
    layer = AuthMiddleware(inside, keys=table())
    for headers in ([], bearer(UNKNOWN), [*bearer(), *bearer()]):
        assert 200 == (await ask(layer, headers, path=path)).status
    assert [None] * 3 == inside.principals


async def test_a6_public_paths_under_a_mount() -> None:
    """The mount's prefix is not part of the path; a prefix that is not there is not taken off."""
    inside = Inside()
    layer = AuthMiddleware(inside, keys=table())
    assert 200 == (await ask(layer, [], path="/llm/health/live", root_path="/llm")).status
    assert 401 == (await ask(layer, [], path="/llmx/health/live", root_path="/llm")).status
    assert 401 == (await ask(layer, [], path="/llm/llm/health/live", root_path="/llm")).status


async def test_a5_scopes_of_a_path() -> None:
    """A path may ask for a scope; other forms of it ask for it too, and an admin has all."""
    member = Principal(scopes=frozenset({"chat"}))
    admin = Principal(role="admin")
    keys = MemoryKeys({"sk-m": member, "sk-a": admin, KEY: Principal(scopes=frozenset({"files"}))})
    layer = AuthMiddleware(Inside(), keys=keys, required_scopes={"/v1/files": "files"})
    for path in ("/v1/files", "/v1/files/1", "//v1/files", "/v1/x/../files", "/V1/Files/1"):
        recorder = await ask(layer, bearer("sk-m"), path=path)
        assert (403, "scope_required") == (recorder.status, code(recorder)), path
        assert 200 == (await ask(layer, bearer("sk-a"), path=path)).status
        assert 200 == (await ask(layer, path=path)).status
    assert 200 == (await ask(layer, bearer("sk-m"), path="/v1/filesystem")).status


# The master key


async def test_a5_the_master_key_opens_the_management_alone() -> None:
    """At and below its prefix it is the admin; anywhere else, in any other form, an unknown key."""
    inside = Inside()
    layer = AuthMiddleware(inside, keys=table(), master_key=MASTER_KEY)
    headers = bearer(MASTER_KEY)
    for path in ("/admin", "/admin/", "/admin/keys"):
        assert 200 == (await ask(layer, headers, path=path)).status
    assert [Principal(role="admin", key_name="master")] * 3 == inside.principals
    for path in (
        "/",
        "/v1/models",
        "/administrator",
        "//admin",
        "/x/../admin",
        "/ADMIN",
        "/%00admin",
    ):
        assert 401 == (await ask(layer, headers, path=path)).status, path
    assert 200 == (await ask(layer, path="/admin/keys")).status
    assert CALLER == inside.principals[-1]


async def test_the_master_key_alone() -> None:
    """A gateway may have no other key, and take it everywhere."""
    inside = Inside()
    layer = AuthMiddleware(inside, master_key=MASTER_KEY, management_prefix="/")
    assert 200 == (await ask(layer, bearer(MASTER_KEY), path="/v1/models")).status
    for wrong in (MASTER_KEY[:-1], MASTER_KEY + "x", MASTER_KEY.swapcase(), ""):
        assert 401 == (await ask(layer, bearer(wrong), path="/v1/models")).status


async def test_the_master_key_while_the_store_is_away() -> None:
    """The gateway can be managed then too."""
    keys = table()
    keys.error = away()
    layer = AuthMiddleware(Inside(), keys=keys, master_key=MASTER_KEY)
    assert 200 == (await ask(layer, bearer(MASTER_KEY), path="/admin/keys")).status


@pytest.mark.parametrize(
    "key",
    [
        "",
        "sk-1234",
        "changeme",
        "sk-master",
        "0123456789abcde",
        "sk-1234567890abcdef",
        "changeme-changeme-changeme",
        "sk-your-master-key-here",
        "ASGI_LLM_MASTER_KEY",
        "aaaaaaaaaaaaaaaaaaaaaaaa",
        "sk-example-sk-example",
        "MyPassword-is-so-long",
        "a key with spaces in it",
        "sk-ключ-ключ-ключ-ключ",
        "x" * 600,
    ],
)
def test_b38_master_keys_that_are_refused(key: str) -> None:
    """Empty, short and example master keys stop the start, and are not shown."""
    with pytest.raises(ConfigurationError, match="master_key is refused") as raised:
        AuthMiddleware(Inside(), keys=table(), master_key=key)
    assert "master_key" == raised.value.param
    assert not key or key not in raised.value.message


async def test_b38_an_insecure_master_key() -> None:
    """Only by option, and even then an empty one lets nobody in."""
    layer = AuthMiddleware(Inside(), master_key="sk-1234", insecure=True)
    assert 200 == (await ask(layer, bearer("sk-1234"), path="/admin")).status
    layer = AuthMiddleware(Inside(), keys=table(), master_key="", insecure=True)
    for headers in ([], bearer(""), [("x-api-key", "")]):
        assert 401 == (await ask(layer, headers, path="/admin")).status


# The host's identity


async def test_the_host_says_who_it_is() -> None:
    """With ``principal`` alone the host decides, and no header is looked at."""
    seen: list[object] = []

    def host(scope: Any) -> Principal | None:
        seen.append(scope.get("user"))
        return CALLER if scope.get("user") == "ada" else None

    inside = Inside()
    layer = AuthMiddleware(inside, principal=host)
    headers = [*bearer(), *bearer(UNKNOWN)]
    assert 200 == (await ask(layer, headers, path="/x?key=1", user="ada")).status
    recorder = await ask(layer, [], user="eve")
    assert (401, "missing_api_key") == (recorder.status, code(recorder))
    assert (["ada", "eve"], [CALLER]) == (seen, inside.principals)


async def test_a_bad_key_does_not_fall_back_to_the_host() -> None:
    """The host is asked only where there is no credential; a failed check stays one."""
    asked: list[object] = []

    async def host(scope: Any) -> Principal:
        asked.append(scope)
        return Principal(user_id="host")

    keys, inside = table(), Inside()
    layer = AuthMiddleware(inside, keys=keys, principal=host)
    assert 401 == (await ask(layer, bearer(UNKNOWN))).status
    assert 401 == (await ask(layer, [("authorization", "Basic YTpi")])).status
    keys.error = away()
    assert 503 == (await ask(layer, bearer(UNKNOWN[:-1]))).status
    assert [] == asked
    assert 200 == (await ask(layer, [])).status
    assert [Principal(user_id="host")] == inside.principals


# WebSockets and the rest


async def closed(layer: AuthMiddleware, **changes: Any) -> tuple[list[Any], int]:
    """What leaves on a WebSocket, and how often the app was called."""
    sent: list[Any] = []
    connects = [{"type": "websocket.connect"}]

    async def receive() -> Any:
        return connects.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    await layer(websocket_scope("/v1/realtime", **changes), receive, send)
    return sent, cast("Inside", layer.app).calls


async def test_a8_a_websocket_needs_a_key() -> None:
    """Without a good key it is closed before it is accepted; with one the app gets it."""
    keys = table()
    layer = AuthMiddleware(Inside(), keys=keys)
    cases: list[tuple[list[tuple[str, str]], int]] = [
        ([], 4401),
        (bearer(UNKNOWN), 4401),
        ([*bearer(), *bearer()], 4400),
    ]
    for headers, expected in cases:
        sent, calls = await closed(layer, headers=headers)
        assert ["websocket.close"] == [message["type"] for message in sent]
        assert (expected, 0) == (sent[0]["code"], calls)
    keys.error = away()
    sent, calls = await closed(layer, headers=bearer(UNKNOWN[:-1]))
    assert (1013, 0) == (sent[0]["code"], calls)
    keys.error = None
    sent, calls = await closed(layer, headers=bearer())
    assert ("websocket.accept", 1) == (sent[0]["type"], calls)


async def test_a_public_websocket() -> None:
    """A public path is public for a WebSocket too."""
    layer = AuthMiddleware(Inside(), keys=table(), public_paths=["/v1/realtime"])
    sent, _ = await closed(layer)
    assert "websocket.accept" == sent[0]["type"]


async def test_a_websocket_in_a_stack_is_told_who_calls() -> None:
    """Where a layer outside has made a state, the principal is in it."""
    inside = Inside()
    scope, _ = enter(websocket_scope("/v1/realtime", headers=bearer()))

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        assert "websocket.accept" == message["type"]

    await AuthMiddleware(inside, keys=table())(scope, receive, send)
    assert [CALLER] == inside.principals


async def test_a_websocket_of_some_models_only() -> None:
    """It must name a model in its query, once and for all, that the caller may use."""
    keys = MemoryKeys({KEY: Principal(models=("gpt-*",))})
    for query, accepted in {
        b"model=gpt-4o": True,
        b"": False,
        b"model=claude": False,
        b"model=gpt-4o&model=claude": False,
        b"model=": False,
    }.items():
        layer = AuthMiddleware(Inside(), keys=keys)
        sent, calls = await closed(layer, headers=bearer(), query_string=query)
        assert accepted == (sent[0]["type"] == "websocket.accept") == bool(calls), query
        assert accepted or sent[0]["code"] == 4403


async def test_a_websocket_in_observe_mode() -> None:
    """It passes, and is counted."""
    layer = AuthMiddleware(Inside(), keys=table(), mode="observe")
    sent, _ = await closed(layer)
    assert "websocket.accept" == sent[0]["type"]
    assert {"missing_api_key": 1} == layer.refusals


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({}, "keys"),
        ({"master_key": "", "insecure": True}, "keys"),
        ({"keys": 3}, "keys"),
        ({"keys": table(), "mode": "off"}, "mode"),
        ({"keys": table(), "max_body_bytes": 0}, "max_body_bytes"),
        ({"keys": table(), "body_timeout_seconds": -1}, "body_timeout_seconds"),
        ({"keys": table(), "public_paths": ["health"]}, "public_paths"),
        ({"keys": table(), "public_paths": ["/health/"]}, "public_paths"),
        ({"keys": table(), "public_paths": ["/a//b"]}, "public_paths"),
        ({"keys": table(), "public_paths": ["/a/../b"]}, "public_paths"),
        ({"keys": table(), "public_paths": ["/a?b"]}, "public_paths"),
        ({"keys": table(), "public_paths": [""]}, "public_paths"),
        ({"keys": table(), "management_prefix": "admin"}, "management_prefix"),
        ({"keys": table(), "required_scopes": {"/v1/": "x"}}, "required_scopes"),
        ({"keys": table(), "inference_paths": ["v1"]}, "inference_paths"),
    ],
)
def test_wrong_options(options: dict[str, Any], param: str) -> None:
    """A layer that could let nobody in, or that is set up wrongly, is not made."""
    with pytest.raises(ConfigurationError) as raised:
        AuthMiddleware(Inside(), **options)
    assert param == raised.value.param


async def test_hosts_see_no_body_read() -> None:
    """For a caller of all models no body is read by the layer, and nothing is wrapped."""
    seen: list[tuple[object, object]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((receive, send))

    async def receive() -> Any:
        raise AssertionError("nobody asked for the body")

    send = Recorder()
    layer = AuthMiddleware(app, keys=table())
    await layer(http_scope(headers=bearer()), receive, send)
    assert [(receive, send)] == seen
