"""Several workers on real sockets: whichever is asked tells the figures of all."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from asgi_llm.testing import (
    ReceivedRequest,
    Reply,
    Upstream,
    Wait,
    chat_answer,
    chat_events,
    json_reply,
    sse_reply,
)
from tests.e2e.gateway_process import GatewayProcess
from tests.middleware.telemetry.figures import Figures

DEADLINE_SECONDS = 60
LABELS = {"model": "fast", "provider": "up", "cache_status": "none"}


class Gateway:
    """A gateway of two workers, and what it told."""

    def __init__(self, origin: str, folder: Path) -> None:
        self.origin = origin
        self._folder = folder

    async def ask(self) -> int:
        """One chat on a connection of its own, so that any worker may get it."""
        async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
            answer = await http.post(f"{self.origin}/v1/chat/completions", json=chat())
        return answer.status_code

    async def stream(self, began: asyncio.Semaphore) -> bool:
        """One stream; whether it came to its end."""
        async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE_SECONDS) as http:
            url = f"{self.origin}/v1/chat/completions"
            try:
                async with http.stream("POST", url, json=chat(stream=True)) as answer:
                    told = answer.aiter_bytes()
                    await anext(told)
                    began.release()
                    async for _ in told:
                        pass
            except httpx.TransportError:
                return False
        return True

    async def figures(self, accept: str = "text/plain") -> Figures:
        """What a worker tells, whichever it is."""
        async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
            answer = await http.get(f"{self.origin}/metrics", headers={"accept": accept})
        assert 200 == answer.status_code
        assert answer.headers["content-type"].startswith(accept)
        return Figures(answer.text, openmetrics="openmetrics" in accept)

    async def until(self, value: float, name: str, **labels: str) -> Figures:
        """What is told once that is: a client has its last byte before the worker counts it."""
        while (figures := await self.figures())(name, **labels) != value:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return figures

    def workers(self) -> set[int]:
        """Processes that have counted something."""
        files = self._folder.glob("counter_*.db")
        return {int(file.stem.partition("_")[2]) for file in files}


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "fast", "messages": [{"role": "user", "content": "hi"}], **fields}


@asynccontextmanager
async def two_workers(upstream: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    folder = tmp_path / "metrics"
    folder.mkdir()
    # What an earlier run has left, and what is none of ours.
    (folder / "counter_1.db").write_bytes(b"stale")
    (folder / "own.db").write_bytes(b"mine")
    config = {
        "providers": {"up": {"type": "openai", "api_key": "k", "base_url": f"{upstream.url}/v1"}},
        "models": {"fast": {"targets": [{"provider": "up", "model": "m"}]}},
        "stack": [{"telemetry": {}}],
    }
    (tmp_path / "asgi-llm.yaml").write_text(json.dumps(config))
    process = await asyncio.to_thread(
        GatewayProcess, tmp_path, "--workers", "2", PROMETHEUS_MULTIPROC_DIR=str(folder)
    )
    try:
        yield Gateway(process.origin, folder)
    finally:
        await asyncio.to_thread(process.stop)
    assert b"mine" == (folder / "own.db").read_bytes()


async def test_the_figures_of_all_workers_are_summed(tmp_path: Path) -> None:
    """Counts and tokens are those of the upstream, and fall neither with a worker nor after it.

    Requests that were under way in a worker that was killed are not under way any more.
    """
    release = asyncio.Event()

    def answer(request: ReceivedRequest) -> Reply:
        if b'"stream":true' in request.body:
            events = chat_events("one two")
            return sse_reply([*events[:2], Wait(release), *events[2:]])
        return json_reply(chat_answer("one two"))

    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        Upstream(answer) as upstream,
        two_workers(upstream, tmp_path) as gateway,
    ):
        asked = 0
        while len(gateway.workers()) < 2 or asked < 20:
            assert {200} == set(await asyncio.gather(*(gateway.ask() for _ in range(10))))
            asked += 10
        assert asked == len(upstream.ledger)
        await gateway.until(asked, "llm_requests_total", **LABELS, status="200")
        await gateway.until(0, "llm_active_requests")
        for _ in range(6):
            figures = await gateway.figures()
            assert asked == figures("llm_requests_total", **LABELS, status="200")
            assert asked == figures(
                "llm_request_duration_seconds_bucket", model="fast", provider="up", le="+Inf"
            )
            assert 2.0 * asked == figures("llm_token_count_sum", model="fast", type="output_text")
            assert 9.0 * asked == figures(
                "llm_token_count_sum", model="fast", type="input_uncached"
            )
            assert 0.0 == figures("llm_active_requests")

        other = await gateway.figures("application/openmetrics-text")
        assert figures.samples == other.samples

        began = asyncio.Semaphore(0)
        streams = [asyncio.create_task(gateway.stream(began)) for _ in range(12)]
        for _ in streams:
            await began.acquire()
        assert 12.0 == (await gateway.figures())("llm_active_requests")
        victim = min(gateway.workers())
        os.kill(victim, signal.SIGKILL)
        # The manager buries it, and makes another in its place.
        while is_there(victim):  # noqa: ASYNC110  there is no event for the end of a grandchild
            await asyncio.sleep(0.05)
        left = (await gateway.figures())("llm_active_requests")
        release.set()
        ended = await asyncio.gather(*streams)
        assert left == sum(ended)
        await gateway.until(0, "llm_active_requests")
        served = asked + sum(ended)
        figures = await gateway.until(served, "llm_requests_total", **LABELS, status="200")
        assert served == figures.sum("llm_requests_total")


def is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_folder_is_made_where_none_is_named(tmp_path: Path) -> None:
    """It is the gateway's own, and gone with it; its workers have it in common."""
    config = {"providers": {"e": {"type": "echo"}}, "stack": [{"telemetry": {}}]}
    (tmp_path / "asgi-llm.yaml").write_text(json.dumps(config))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = GatewayProcess(tmp_path, "--workers", "2", TMPDIR=str(temporary))
    try:
        for _ in range(8):
            answer = httpx.post(
                f"{process.origin}/v1/chat/completions",
                json=chat() | {"model": "e/echo"},
                trust_env=False,
            )
            assert 200 == answer.status_code
        deadline = time.monotonic() + DEADLINE_SECONDS
        told = 0.0
        while told != 8.0 and time.monotonic() < deadline:
            text = httpx.get(f"{process.origin}/metrics", trust_env=False).text
            told = Figures(text).sum("llm_requests_total", model="e/echo")
        assert 8.0 == told
        (folder,) = temporary.glob("asgi-llm-metrics-*")
        assert 0o700 == folder.stat().st_mode & 0o777
    finally:
        process.stop()
    assert [] == list(temporary.glob("asgi-llm-metrics-*"))
