from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_llm import client
from asgi_llm.errors import ConfigurationError

DEADLINE = 5.0


async def start(send: Send, *headers: tuple[bytes, bytes], status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def body(send: Send, data: bytes, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it was asked."""
    request = Request(scope, receive)
    data = await request.body()
    answer = b"%s %s?%s " % (scope["method"].encode(), scope["raw_path"], scope["query_string"])
    await PlainTextResponse(answer + data, headers={"x-host": scope["server"][0]})(
        scope, receive, send
    )


def others() -> set[asyncio.Task[Any]]:
    """Tasks other than the test's own."""
    return asyncio.all_tasks() - {asyncio.current_task()}


@pytest.mark.parametrize("module", [httpx2, httpx])
async def test_a_request_reaches_the_app_as_it_was_sent(module: ModuleType) -> None:
    """Method, raw path, query, body and host arrive; the answer comes back, with either module."""
    async with asyncio.timeout(DEADLINE), client(echo, module=module) as http:
        answer = await http.post("/a%2Fb?c=d%20e", content=b"data")
    assert isinstance(http, module.AsyncClient)
    assert (200, b"POST /a%2Fb?c=d%20e data") == (answer.status_code, answer.content)
    assert "asgi-llm.local" == answer.headers["x-host"]


async def test_the_scope_is_complete() -> None:
    """The scope holds what a server's holds, and declares that ``send`` raises after a leave."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await echo(scope, receive, send)

    options: dict[str, Any] = {"root_path": "/llm", "client_address": ("10.0.0.9", 99)}
    async with asyncio.timeout(DEADLINE), client(app, **options) as http:
        await http.get("https://other.test/llm/v1/models", headers={"X-A": "1"})
    (scope,) = seen
    expected = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": "/llm/v1/models",
        "raw_path": b"/llm/v1/models",
        "query_string": b"",
        "server": ("other.test", 443),
        "client": ("10.0.0.9", 99),
        "root_path": "/llm",
    }
    assert expected == {key: value for key, value in scope.items() if key != "headers"}
    assert (b"x-a", b"1") in scope["headers"]


async def test_chunks_arrive_as_they_are_sent() -> None:
    """The reader has chunk n before the app may go on to chunk n+1."""
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        for number in range(3):
            await body(send, b"%d" % number)
            await go_on.wait()
            go_on.clear()
        await body(send, b"", more=False)

    got = []
    async with (
        asyncio.timeout(DEADLINE),
        client(app) as http,
        http.stream("GET", "/") as response,
    ):
        async for chunk in response.aiter_raw():
            got.append(chunk)
            go_on.set()
    assert [b"0", b"1", b"2"] == got


async def test_a_slow_reader_slows_the_app_down() -> None:
    """The app is at most one chunk ahead of the reader."""
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await start(send)
        for number in range(10):
            await body(send, b"x", more=number < 9)
            sent += 1

    async with (
        asyncio.timeout(DEADLINE),
        client(app) as http,
        http.stream("GET", "/") as response,
    ):
        chunks = response.aiter_raw()
        for taken in range(1, 9):
            await anext(chunks)
            for _ in range(20):
                await asyncio.sleep(0)
            assert taken + 1 == sent
        await chunks.aclose()


async def test_leaving_early_disconnects_the_app_and_waits_for_it() -> None:
    """A response closed early gives ``http.disconnect``, and closing waits until the app ends."""
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await start(send)
        await body(send, b"one")
        seen.append((await receive())["type"])
        await asyncio.sleep(0)
        seen.append("cleaned up")

    async with asyncio.timeout(DEADLINE), client(app) as http:
        async with http.stream("GET", "/") as response:
            assert b"one" == await anext(response.aiter_raw())
        assert ["http.disconnect", "cleaned up"] == seen
        assert set() == others()


async def test_send_raises_once_the_reader_has_left() -> None:
    """``send`` raises OSError after the leave, also in an app that waits there."""
    raised: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        try:
            while True:
                await body(send, b"x")
        except OSError:
            raised.append("at once")
            try:
                await body(send, b"again")
            except OSError:
                raised.append("again")
            raise

    async with asyncio.timeout(DEADLINE), client(app) as http:
        async with http.stream("GET", "/") as response:
            await anext(response.aiter_raw())
        assert ["at once", "again"] == raised
        assert set() == others()


async def test_an_app_that_ignores_the_leave_is_cancelled() -> None:
    """After its grace the app is cancelled, and the cancellation is awaited."""
    ended: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await body(send, b"one")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async with asyncio.timeout(DEADLINE), client(app, grace_seconds=0.01) as http:
        async with http.stream("GET", "/") as response:
            await anext(response.aiter_raw())
        assert ["cancelled"] == ended
        assert set() == others()


async def test_a_cancelled_reader_leaves_nothing_behind() -> None:
    """Cancelling the caller ends the app, before the start as well as after it."""
    running = asyncio.Event()
    ended: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if scope["path"] == "/later":
            await start(send)
        running.set()
        ended.append((await receive())["type"])

    async with asyncio.timeout(DEADLINE), client(app) as http:
        for path in ("/before", "/later"):
            running.clear()
            task = asyncio.create_task(http.get(path))
            await running.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert ["http.disconnect"] * 2 == ended
        assert set() == others()


async def test_closing_the_client_ends_open_responses() -> None:
    """``aclose`` leaves every response that is still open and waits for its app."""
    ended: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await start(send)
        await body(send, b"one")
        ended.append((await receive())["type"])

    async with asyncio.timeout(DEADLINE):
        http = client(app)
        for _ in range(3):
            await http.send(http.build_request("GET", "/"), stream=True)
        await http.aclose()
    assert ["http.disconnect"] * 3 == ended
    assert set() == others()


async def test_a_request_body_streams() -> None:
    """The app reads piece n of the body before piece n+1 is asked of the caller."""
    produced: list[int] = []
    lead: list[int] = []

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(3):
            produced.append(number)
            yield b"%d" % number

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        read = 0
        while True:
            message = await receive()
            if message["body"]:
                read += 1
                lead.append(len(produced) - read)
            if not message["more_body"]:
                break
        await start(send)
        await body(send, b"%d" % read, more=False)

    async with asyncio.timeout(DEADLINE), client(app) as http:
        answer = await http.post("/", content=pieces())
    assert (b"3", [0, 0, 0]) == (answer.content, lead)


async def test_an_error_in_the_request_body_reaches_the_caller() -> None:
    """The app gets a disconnect, never half a body as a whole one; the caller gets its error."""
    seen: list[Message] = []

    async def pieces() -> AsyncIterator[bytes]:
        yield b"half"
        raise LookupError("no more")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([await receive(), await receive(), await receive()])

    async with asyncio.timeout(DEADLINE), client(app) as http:
        with pytest.raises(LookupError, match="no more"):
            await http.post("/", content=pieces())
    assert ["http.request", "http.disconnect", "http.disconnect"] == [one["type"] for one in seen]


async def test_an_error_in_the_request_body_ends_a_response_that_began() -> None:
    """The caller gets its own error also where the app had begun to answer."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"half"
        raise LookupError("no more")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        while (await receive())["type"] == "http.request":
            pass
        await asyncio.Event().wait()

    async with asyncio.timeout(DEADLINE), client(app, grace_seconds=0.01) as http:
        with pytest.raises(LookupError, match="no more"):
            await http.post("/", content=pieces())
        assert set() == others()


async def test_messages_of_other_kinds_are_ignored() -> None:
    """What an HTTP client cannot see, as trailers, does no harm."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await send({"type": "http.response.debug", "info": {}})
        await body(send, b"whole", more=False)

    async with asyncio.timeout(DEADLINE), client(app) as http:
        assert b"whole" == (await http.get("/")).content


async def test_an_interrupted_body_is_not_taken_for_a_whole_one() -> None:
    """An app that gives up on a slow body and asks again gets a disconnect at the end."""
    never = asyncio.Event()
    seen: list[str] = []

    async def pieces() -> AsyncIterator[bytes]:
        yield b"half"
        await never.wait()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(receive(), 0.01)
        await start(send, status=408)
        await body(send, b"", more=False)
        seen.append((await receive())["type"])

    async with asyncio.timeout(DEADLINE), client(app) as http:
        answer = await http.post("/", content=pieces())
    assert (408, ["http.disconnect"]) == (answer.status_code, seen)


async def test_an_error_before_the_start_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    """The caller gets our error form with a request id; the log has the place and no message."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("the prompt")

    async with asyncio.timeout(DEADLINE), client(app) as http:
        answer = await http.get("/")
    assert 500 == answer.status_code
    assert "internal_error" == answer.json()["error"]["code"]
    assert answer.headers["x-request-id"].startswith("req_")
    assert "ValueError" in caplog.text
    assert "test_client.py" in caplog.text
    assert "the prompt" not in caplog.text.replace('raise ValueError("the prompt")', "")


async def test_no_answer_at_all_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    """An app that returns without a response is reported as a server would."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    async with asyncio.timeout(DEADLINE), client(app) as http:
        answer = await http.get("/")
    assert 500 == answer.status_code
    assert "returned without an answer" in caplog.text


@pytest.mark.parametrize("fails", [True, False])
async def test_a_broken_answer_is_a_protocol_error(
    fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """An app that fails or returns in mid-body breaks the response off: never a clean end."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await body(send, b"half")
        if fails:
            raise ValueError

    got: list[bytes] = []
    async with (
        asyncio.timeout(DEADLINE),
        client(app) as http,
        http.stream("GET", "/") as response,
    ):
        with pytest.raises(httpx2.RemoteProtocolError):
            async for chunk in response.aiter_raw():
                got.append(chunk)
    assert [b"half"] == got
    assert fails == ("ValueError" in caplog.text)


@pytest.mark.parametrize("started", [True, False])
async def test_errors_can_be_raised(started: bool) -> None:
    """With ``raise_app_exceptions`` the app's own exception comes out, before and after start."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if started:
            await start(send)
        raise KeyError("mine")

    async with asyncio.timeout(DEADLINE), client(app, raise_app_exceptions=True) as http:
        with pytest.raises(KeyError, match="mine"):
            await http.get("/")


async def test_an_error_that_no_reader_meets_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What an app raises after its answer, or after the leave, is in the log."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await start(send)
        if scope["path"] == "/whole":
            await body(send, b"", more=False)
        else:
            await body(send, b"one")
            await receive()
        raise LookupError

    async with asyncio.timeout(DEADLINE), client(app) as http:
        await http.get("/whole")
        assert 1 == caplog.text.count("\nLookupError\n")
        async with http.stream("GET", "/left") as response:
            await anext(response.aiter_raw())
        assert 2 == caplog.text.count("\nLookupError\n")


async def test_background_work_goes_on_after_the_answer() -> None:
    """A whole answer is not held up for longer than the grace; closing the client ends the rest."""
    release = asyncio.Event()
    ended: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await body(send, b"done", more=False)
        await release.wait()
        ended.append("worked")

    async with asyncio.timeout(DEADLINE):
        http = client(app, grace_seconds=0.01)
        answer = await http.get("/")
        assert (b"done", []) == (answer.content, ended)
        release.set()
        await http.aclose()
    assert ["worked"] == ended


async def test_the_read_timeout_holds() -> None:
    """Httpx's read timeout covers the wait for the start and for each chunk."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if scope["path"] == "/body":
            await start(send)
        await receive()

    async with asyncio.timeout(DEADLINE), client(app, timeout=0.01) as http:
        for path in ("/start", "/body"):
            with pytest.raises(httpx2.ReadTimeout):
                await http.get(path)
        assert set() == others()


async def test_head_has_no_body() -> None:
    """What an app sends for HEAD beyond the headers is dropped."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, (b"content-length", b"4"))
        await body(send, b"data", more=False)

    async with asyncio.timeout(DEADLINE), client(app) as http:
        answer = await http.head("/")
    assert (b"", "4") == (answer.content, answer.headers["content-length"])


async def test_duplicate_headers_are_kept() -> None:
    """Two headers of one name arrive as two."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"))
        await body(send, b"", more=False)

    async with asyncio.timeout(DEADLINE), client(app) as http:
        answer = await http.get("/")
    assert ["a=1", "b=2"] == answer.headers.get_list("set-cookie")


async def test_an_app_that_breaks_the_protocol_is_told() -> None:
    """A second start, or a body before the start, raises in the app."""

    async def twice(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await start(send)

    async def headless(scope: Scope, receive: Receive, send: Send) -> None:
        await body(send, b"")

    for app, words in ((twice, "started already"), (headless, "has not started")):
        async with asyncio.timeout(DEADLINE), client(app, raise_app_exceptions=True) as http:
            with pytest.raises(RuntimeError, match=words):
                await http.get("/")


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests go to the app even where the environment names a proxy."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with asyncio.timeout(DEADLINE), client(echo) as http:
        answer = await http.get("https://api.test/x")
    assert b"GET /x? " == answer.content


async def test_options_reach_the_client() -> None:
    """Further options are those of ``AsyncClient``; the timeout defaults to ten minutes."""
    async with client(echo, headers={"x-a": "1"}, base_url="http://here/v1") as http:
        answer = await http.get("/x")
        assert b"GET /v1/x? " == answer.content
        assert ("1", 600.0) == (http.headers["x-a"], http.timeout.read)


def test_a_negative_grace_is_refused() -> None:
    """``grace_seconds`` below 0 is a configuration error that names the option."""
    with pytest.raises(ConfigurationError) as refused:
        client(echo, grace_seconds=-1)
    assert "grace_seconds" == refused.value.param


async def test_fifty_requests_do_not_mix() -> None:
    """Fifty streams at once each carry their own data to the end."""
    barrier = asyncio.Barrier(50)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        mine = (await receive())["body"]
        await barrier.wait()
        await start(send)
        for _ in range(20):
            await body(send, mine)
            await asyncio.sleep(0)
        await body(send, b"", more=False)

    async def one(http: httpx2.AsyncClient, number: int) -> bytes:
        return (await http.post("/", content=b"<%d>" % number)).content

    async with asyncio.timeout(DEADLINE), client(app) as http:
        answers = await asyncio.gather(*(one(http, number) for number in range(50)))
        assert [b"<%d>" % number * 20 for number in range(50)] == answers
        assert set() == others()


def test_any_asgi_app_will_do() -> None:
    """The parameter is an ASGI app, and one client may be used on one loop after another."""
    app: ASGIApp = echo
    http = client(app)

    async def once() -> int:
        return (await http.get("/")).status_code

    assert [200, 200] == [asyncio.run(once()), asyncio.run(once())]
    asyncio.run(http.aclose())
