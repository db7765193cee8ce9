"""``asgi-llm serve`` as a process: its answers, its limits, and its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httptools
import httpx
import pytest
from openai import APIError, AsyncOpenAI, InternalServerError

from asgi_llm.gateway.reload import ReloadingGateway
from asgi_llm.gateway.serve import application
from asgi_llm.testing import (
    Reply,
    Upstream,
    Wait,
    chat_answer,
    chat_events,
    json_reply,
    sse_reply,
)
from tests.e2e.gateway_process import running_gateway

DEADLINE_SECONDS = 30.0
QUESTION: Any = [{"role": "user", "content": "one two three"}]


class Served:
    """A running ``asgi-llm serve``.

    Attributes:
        url: Its base URL, with /v1.
        log: What it has written to standard error so far.
        client: An official client of it, without retries.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.url = ""
        self.log = ""
        self.client = AsyncOpenAI(base_url="http://127.0.0.1", api_key="none", max_retries=0)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.split(":")[2].split("/")[0])

    async def logged(self, text: str) -> None:
        """Read on until ``text`` is in the log."""
        assert self.process.stderr is not None
        while text not in self.log:
            line = await self.process.stderr.readline()
            assert line, f"the process ended without {text!r}:\n{self.log}"
            self.log += line.decode()

    async def ended(self) -> int:
        """The exit status."""
        assert self.process.stderr is not None
        self.log += (await self.process.stderr.read()).decode()
        return await self.process.wait()


@asynccontextmanager
async def serving(
    tmp_path: Path, config: dict[str, Any] | None = None, *arguments: str
) -> AsyncIterator[Served]:
    """``asgi-llm serve`` on a free port in a directory of its own."""
    if config is not None:
        (tmp_path / "asgi-llm.yaml").write_text(json.dumps(config))
    environ = {"PATH": os.environ["PATH"], "PYTHONWARNINGS": "error"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "asgi_llm", "serve", "--port", "0", *arguments),
        cwd=tmp_path,
        env=environ,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    served = Served(process)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await served.logged("/v1")
            line = next(line for line in served.log.splitlines() if "/v1" in line)
            served.url = "http://" + line.partition("http://")[2].split('"')[0]
            served.client.base_url = served.url
            yield served
    finally:
        await served.client.close()
        # The whole session: workers too. Where it ended by itself there is none.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def through(upstream: Upstream, **server: Any) -> dict[str, Any]:
    """A configuration with one provider, behind which is ``upstream``."""
    return {
        "server": server,
        "providers": {"up": {"type": "openai", "base_url": f"{upstream.url}/v1"}},
    }


async def test_the_first_request_works_with_no_key_and_no_file(tmp_path: Path) -> None:
    """The official client gets its answer from echo; SIGTERM ends the process with status 0."""
    async with serving(tmp_path) as served:
        answer = await served.client.chat.completions.create(model="echo/echo", messages=QUESTION)
        assert answer.choices[0].message.content == "one two three"
        served.process.send_signal(signal.SIGTERM)
        assert await served.ended() == 0
        assert served.log.startswith("asgi-llm ")
        assert "route=/v1/chat/completions status=200" in served.log
        assert served.log.endswith("Stopped.\n")
        assert "Traceback" not in served.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stream_under_way_ends_properly(tmp_path: Path, number: signal.Signals) -> None:
    """After the signal no connection is taken, the stream goes on to its end, the status is 0."""
    go_on = asyncio.Event()
    async with Upstream() as upstream:
        upstream.script(paused(go_on))
        async with serving(tmp_path, through(upstream)) as served:
            stream = await served.client.chat.completions.create(
                model="up/m", messages=QUESTION, stream=True
            )
            first = await anext(aiter(stream))
            served.process.send_signal(number)
            await served.logged("stopping: 1 request under way, ended in 30 seconds at the latest")
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", served.port)
            go_on.set()
            chunks = [first, *[chunk async for chunk in stream]]
            text = "".join(
                chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices
            )
            assert text == "one two three"
            assert await served.ended() == 0
            assert "Traceback" not in served.log


def paused(go_on: asyncio.Event) -> Reply:
    """A stream that waits after its second event."""
    events = chat_events("one two three")
    return sse_reply([*events[:2], Wait(go_on), *events[2:]])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_while_it_starts_is_not_lost(tmp_path: Path, number: signal.Signals) -> None:
    """From the moment when it says where it listens, a signal ends it with status 0."""
    async with serving(tmp_path) as served:
        served.process.send_signal(number)
        assert await served.ended() == 0
        assert "Traceback" not in served.log


async def test_a_stream_over_the_deadline_ends_in_an_error(tmp_path: Path) -> None:
    """The client gets an error event, never a finish reason; the status is 0, the log clean."""
    async with Upstream() as upstream:
        upstream.script(paused(asyncio.Event()))
        config = through(upstream, graceful_shutdown_seconds=0.3)
        async with serving(tmp_path, config) as served:
            stream = await served.client.chat.completions.create(
                model="up/m", messages=QUESTION, stream=True
            )
            chunks = [await anext(aiter(stream))]
            served.process.send_signal(signal.SIGTERM)
            with pytest.raises(APIError) as caught:
                chunks += [chunk async for chunk in stream]
            assert caught.value.code == "server_shutting_down"
            finishes = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
            assert set(finishes) == {None}
            assert await served.ended() == 0
            assert "ending 1 request" in served.log
            assert "Traceback" not in served.log
            assert "ERROR" not in served.log.upper().replace("ERROR=", "")


async def test_an_answer_over_the_deadline_is_a_503(tmp_path: Path) -> None:
    """A request without an answer yet is refused so that the client may try elsewhere."""
    async with Upstream() as upstream:
        upstream.script(json_reply(chat_answer("late"), before=[Wait(asyncio.Event())]))
        config = through(upstream, graceful_shutdown_seconds=0)
        async with serving(tmp_path, config) as served:
            asking = asyncio.create_task(
                served.client.chat.completions.create(model="up/m", messages=QUESTION)
            )
            await upstream.arrived(1)
            served.process.send_signal(signal.SIGTERM)
            with pytest.raises(InternalServerError) as caught:
                await asking
            assert caught.value.status_code == 503
            assert caught.value.code == "server_shutting_down"
            assert caught.value.response.headers["retry-after"] == "1"
            assert await served.ended() == 0


async def test_a_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    """Ctrl+C twice ends at once what is under way, and nothing looks like a crash."""
    async with Upstream() as upstream:
        upstream.script(paused(asyncio.Event()))
        async with serving(tmp_path, through(upstream)) as served:
            stream = await served.client.chat.completions.create(
                model="up/m", messages=QUESTION, stream=True
            )
            await anext(aiter(stream))
            served.process.send_signal(signal.SIGINT)
            await served.logged("stopping: 1 request under way")
            served.process.send_signal(signal.SIGINT)
            with pytest.raises(APIError) as caught:
                async for _ in stream:
                    pass
            assert caught.value.code == "server_shutting_down"
            assert await served.ended() == 0
            assert "Traceback" not in served.log
            assert "Exception" not in served.log


async def test_workers_share_the_port_and_end_together(tmp_path: Path) -> None:
    """Two processes serve the same file, whatever is on the command line; SIGTERM ends both."""
    config = {"providers": {"echo": {"type": "echo"}}, "server": {"log_format": "json"}}
    (tmp_path / "other.yaml").write_text(json.dumps(config))
    options = ("--workers", "2", "--config", "other.yaml")
    async with serving(tmp_path, None, *options) as served:
        for _ in range(4):
            answer = await served.client.chat.completions.create(
                model="echo/echo", messages=QUESTION
            )
            assert answer.choices[0].message.content == "one two three"
        served.process.send_signal(signal.SIGTERM)
        assert await served.ended() == 0
        assert "Traceback" not in served.log
        records = [json.loads(line) for line in served.log.splitlines()]
        assert [r["status"] for r in records if r["event"] == "request"] == [200] * 4


def test_a_limit_is_shared_out_among_as_many_as_there_are(tmp_path: Path) -> None:
    """By the command line, where that and the file name different numbers."""
    config = {
        "server": {"workers": 4},
        "providers": {"echo": {"type": "echo"}},
        "stack": [{"rate_limit": {"store": "memory", "limits": ["4 requests/hour"]}}],
    }
    (tmp_path / "asgi-llm.yaml").write_text(json.dumps(config))
    asked = {"model": "echo/echo", "messages": QUESTION}
    with running_gateway(tmp_path, "--workers", "1") as origin:
        url = f"{origin}/v1/chat/completions"
        told = [httpx.post(url, json=asked, trust_env=False).status_code for _ in range(5)]
    assert [200, 200, 200, 200, 429] == told


async def _exchange(port: int, data: bytes) -> tuple[bytes, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    return await reader.read(), writer


class _Answer:
    """One answer as it came over the wire."""

    def __init__(self, data: bytes) -> None:
        self.body = b""
        parser = httptools.HttpResponseParser(self)
        parser.feed_data(data)
        self.status = parser.get_status_code()
        self.code = json.loads(self.body)["error"]["code"]

    def on_body(self, data: bytes) -> None:
        self.body += data


def test_a15_no_search_for_cycles_looks_at_what_was_there_at_the_start() -> None:
    """In a worker, whose thousands of connections would make each search long."""
    code = (
        "import asyncio, gc\n"
        "from asgi_llm.gateway._definitions import ServerDefinition\n"
        "from asgi_llm.gateway.serve import ServerConfig\n"
        "app = 'asgi_llm.gateway.serve:application'\n"
        "config = ServerConfig(app, ServerDefinition(), workers=1)\n"
        "async def main():\n"
        "    config.load_app()()\n"
        "asyncio.run(main())\n"
        "print(gc.get_freeze_count() > 10_000, gc.get_threshold()[0] >= 10_000)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "True True\n" == done.stdout


async def test_a15_a_connection_too_many_is_refused(tmp_path: Path) -> None:
    """Idle connections up to the cap stay; the next gets a 503 in the usual form."""
    config = {"providers": {"echo": {"type": "echo"}}, "server": {"max_connections": 2}}
    async with serving(tmp_path, config) as served:
        idle = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(2)]
        data, writer = await _exchange(served.port, b"")
        answer = _Answer(data)
        assert (answer.status, answer.code) == (503, "too_many_connections")
        for _, one in [*idle, (None, writer)]:
            one.close()


@pytest.mark.parametrize("data", [b"", b"GET /health", b"GET /health HTTP/1.1\r\nhost: a\r\nx: "])
async def test_a14_a_head_that_does_not_come_is_given_up(tmp_path: Path, data: bytes) -> None:
    """A connection that sends no whole head in time is answered and closed."""
    config = {
        "providers": {"echo": {"type": "echo"}},
        "server": {"header_timeout_seconds": 0.2},
    }
    async with serving(tmp_path, config) as served:
        got, writer = await _exchange(served.port, data)
        answer = _Answer(got)
        assert (answer.status, answer.code) == (408, "request_timeout")
        writer.close()


async def test_a14_a_second_head_must_come_in_time_too(tmp_path: Path) -> None:
    """On a connection that is kept alive the deadline counts from the head's first byte."""
    config = {
        "providers": {"echo": {"type": "echo"}},
        "server": {"header_timeout_seconds": 0.2},
    }
    async with serving(tmp_path, config) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        await reader.readexactly(len(b'{"status":"alive"}'))
        writer.write(b"GET /health/live HTTP/1.1\r\nx: ")
        answer = _Answer(await reader.read())
        assert (answer.status, answer.code) == (408, "request_timeout")
        writer.close()


async def test_an_endless_head_is_cut(tmp_path: Path) -> None:
    """More than 64 KiB of head are not kept."""
    async with serving(tmp_path) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n")
        for _ in range(70):
            writer.write(b"x: " + b"y" * 1021)
            await asyncio.sleep(0)
        answer = _Answer(await reader.readuntil(b"}}"))
        assert (answer.status, answer.code) == (431, "headers_too_large")
        writer.close()


async def test_a_server_says_nothing_of_itself(tmp_path: Path) -> None:
    """No header names the server's software."""
    async with serving(tmp_path) as served:
        data, writer = await _exchange(
            served.port, b"GET /health/live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        )
        assert b"\r\nserver:" not in data.lower()
        writer.close()


async def test_a_worker_that_cannot_start_ends_all(tmp_path: Path) -> None:
    """The status says so, and no worker is started for ever."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "asgi_llm", "serve", "--port", "0", "--workers", "2"),
        *("--config", "/dev/stdin"),
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    # The first reader takes all that there is, so that the workers find an empty file.
    async with asyncio.timeout(DEADLINE_SECONDS):
        _, log = await process.communicate(b"providers: {echo: {type: echo}}")
    assert process.returncode == 3
    assert b"/dev/stdin: providers: no provider is configured" in log
    assert b"Traceback" not in log


def test_the_application_of_another_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A factory that reads what ASGI_LLM_CONFIG names, and ends the process where that is wrong."""
    file = tmp_path / "gateway.yaml"
    monkeypatch.setenv("ASGI_LLM_CONFIG", str(file))
    file.write_text("providers: {echo: {type: echo}}")
    assert isinstance(application(), ReloadingGateway)
    file.write_text("providers: {echo: {type: ecko}}")
    with pytest.raises(SystemExit) as caught:
        application()
    assert caught.value.code == 3
    assert capsys.readouterr().err == (
        f"{file}:1:26: providers.echo.type: unknown provider type 'ecko', did you mean echo?\n"
    )
