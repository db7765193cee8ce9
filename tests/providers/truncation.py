"""Recorded streams that do not end as they did: none of them may look whole to a client.

Every recorded stream of every provider is broken in three ways: the connection is lost at a random
byte; the body ends as it should, but at the border of an event before the one that finishes the
answer; and an error comes half way, in the provider's own form. Each has to end as an error in the
client's form, with usage that is marked an estimate.

``python tests/providers/replay.py`` prints how many of them do.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import openai
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.base import Provider
from asgi_llm.state import USAGE, State, enter
from asgi_llm.testing import Close, ReceivedRequest, Reply, Reset, Upstream
from asgi_llm.testing.serving import serve
from asgi_llm.types import Usage
from tests.providers import replay
from tests.providers.native_replay import PROVIDERS, prepare
from tests.providers.replay_views.borders import events
from tests.providers.replay_views.exchanges import aws_frame, dump, load_native, sse_data

Way = Literal["whole", "dropped", "ended", "error"]

CONCURRENCY = 8
DONE: Final = b"data: [DONE]\n\n"

_FINISHES: Final[dict[str, Callable[[Any], Any]]] = {
    "anthropic": lambda event: (
        event["type"] == "message_delta" or event.get("message", {}).get("stop_reason")
    ),
    "cohere": lambda event: event["type"] == "message-end",
    "ollama": lambda event: event["done"],
    "google": lambda event: (
        event.get("promptFeedback", {}).get("blockReason")
        or any(one.get("finishReason") for one in event.get("candidates", ()))
    ),
    "openai": lambda event: any(one.get("finish_reason") for one in event.get("choices", ())),
}
"""Whether an event finishes the answer, by the format."""

_ERRORS: Final[dict[str, bytes]] = {
    "anthropic": b"event: error\ndata: "
    + dump({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    + b"\n\n",
    "bedrock": aws_frame(
        {":exception-type": "modelStreamErrorException", ":message-type": "exception"},
        {"message": "The system encountered an unexpected error.", "originalStatusCode": 500},
    ),
    "cohere": b"event: message-end\ndata: "
    + dump({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "went wrong"}})
    + b"\n\n",
    "google": b"data: "
    + dump({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}})
    + b"\r\n\r\n",
    "mistral": b"data: "
    + dump({"object": "error", "message": "Service unavailable.", "type": "service_unavailable"})
    + b"\n\n",
    "ollama": dump({"error": "an error was encountered while running the model"}) + b"\n",
    "openai": b"data: "
    + dump({"error": {"message": "The server had an error.", "type": "server_error", "code": None}})
    + b"\n\n",
    "groq": b"event: error\ndata: "
    + dump({"error": {"message": "Over capacity.", "type": "internal_server_error"}})
    + b"\n\n",
    "openrouter": b"data: "
    + dump(
        {
            "id": "gen-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "error": {"code": 502, "message": "Provider disconnected"},
            "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
        }
    )
    + b"\n\n",
}
"""An error within a stream, as each format has it."""

_NATIVE_FORMATS: Final = {"gemini": "google", "vertex": "google"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """One recorded stream that ended well."""

    id: str
    provider: str
    format: str
    body: bytes
    headers: dict[str, str]
    pieces: list[bytes]
    """Its events."""
    finish: int
    """Which of them finishes the answer."""
    choices: int
    document: dict[str, Any]
    model: str
    adapter: Callable[[str, str], Provider]
    """Makes an adapter that calls an address, under a name."""
    quirks: frozenset[str]

    @property
    def end(self) -> int:
        """The length of a body that still lacks a byte of what ends it."""
        before = sum(map(len, self.pieces[: self.finish]))
        finished = before + len(self.pieces[self.finish].rstrip()) - 1
        if "done_optional" in self.quirks or self.format in ("cohere", "ollama"):
            return finished
        for mark in (b"[DONE]", b'"type":"message_stop"', b'"type": "message_stop"'):
            if (place := self.body.rfind(mark)) >= 0:
                return place
        return len(self.body) - 1

    @property
    def is_array(self) -> bool:
        """Whether the events are the elements of a JSON array."""
        return self.body.lstrip()[:1] == b"["


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How one of them reached the client."""

    stream: Stream
    way: Way
    problem: str | None


def recorded_streams(folder: Path, providers: Iterable[str] = PROVIDERS) -> list[Stream]:
    """All recorded streams that ended well, in formats of providers' own and in OpenAI's."""
    return [*_native_streams(folder, providers), *_openai_streams(folder)]


def _native_streams(folder: Path, providers: Iterable[str]) -> Iterable[Stream]:
    for case in prepare(load_native(folder), providers):
        exchange, view = case.exchange, case.view
        expected = case.expected
        if not exchange.stream or expected is None or expected.error is not None:
            continue
        format_ = _NATIVE_FORMATS.get(exchange.provider, exchange.provider)
        pieces = events(exchange.provider, exchange.body)
        finish = _finish_of(format_, pieces)
        if finish is None:
            continue
        yield Stream(
            id=exchange.id,
            provider=exchange.provider,
            format=format_,
            body=exchange.body,
            headers=exchange.headers,
            pieces=pieces,
            finish=finish,
            choices=1,
            document={"messages": [{"role": "user", "content": "x"}]},
            model=view.model(exchange),
            adapter=lambda root, name, view=view, exchange=exchange: view.adapter(  # type: ignore[misc]
                exchange, root, name
            ),
            quirks=frozenset(),
        )


def _openai_streams(folder: Path) -> Iterable[Stream]:
    for recording in replay.load(folder):
        if not recording.stream or recording.status != 200 or b'"error":{' in recording.body:
            continue
        pieces = events("openai", recording.body)
        finish = _finish_of("openai", pieces)
        if finish is None:
            continue
        adapter, model = replay.adapter_for(recording, "http://unused")

        def made(root: str, name: str, recording: replay.Recording = recording) -> Provider:
            found, _ = replay.adapter_for(recording, root)
            found.name = name
            return found

        is_chat = recording.endpoint == "chat"
        asked: dict[str, Any] = (
            {"messages": [{"role": "user", "content": "x"}]} if is_chat else {"prompt": "x"}
        )
        choices = recording.sent.get("n") or 1
        yield Stream(
            id=recording.id,
            provider=f"{recording.dialect} (OpenAI's format)",
            format="openai",
            body=recording.body,
            headers=recording.headers,
            pieces=pieces,
            finish=finish,
            choices=choices,
            document={**asked, "n": choices} if choices > 1 else asked,
            model=model,
            adapter=made,
            quirks=frozenset(adapter.quirks),
        )


def _finish_of(format_: str, pieces: list[bytes]) -> int | None:
    """Which event is the first to finish the answer, or a choice of it; None: none does."""
    for place, piece in enumerate(pieces):
        if format_ == "bedrock":
            if b"messageStop" in piece:
                return place
            continue
        values = [json.loads(one) for one in _data_of(piece) if one != "[DONE]"]
        if any(_FINISHES.get(format_, _FINISHES["openai"])(one) for one in values):
            return place
    # OpenRouter has streams that only their end mark finishes.
    return len(pieces) - 1 if pieces[-1] == DONE else None


def _data_of(piece: bytes) -> list[str]:
    """The JSON of an event, whatever its framing."""
    plain = piece.strip()
    if plain[:1] in (b"[", b",", b"{"):
        return [plain.strip(b"[],").decode()]
    return sse_data(piece)


def broken(stream: Stream, way: Way, seed: int) -> Reply:
    """The reply that serves ``stream`` so that it ends in that way."""
    chance = random.Random(f"{way} {seed} {stream.id}")
    split = chance.choice([None, random.Random(seed)])
    if way == "dropped":
        cut = chance.randrange(stream.end + 1)
        ending = chance.choice([Close(), Reset()])
        framing: Literal["chunked", "close"] = chance.choice(["chunked", "close"])
        body: Any = [stream.body[:cut], ending] if cut else [ending]
        return Reply(headers=stream.headers, body=body, framing=framing, split=split)
    if way == "ended":
        data = b"".join(stream.pieces[: chance.randrange(stream.finish + 1)])
        data = data + b"]" if data and stream.is_array else data
        data += chance.choice([b"", _end_mark(stream)])
    elif way == "error":
        data = _with_error(stream, b"".join(stream.pieces[: (stream.finish + 1) // 2]))
    else:
        data = stream.body
    return Reply(headers=stream.headers, body=data, framing="chunked", split=split)


def _end_mark(stream: Stream) -> bytes:
    """What ends a stream of this kind and does not by itself say that the answer is finished."""
    if stream.format == "anthropic":
        return b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    if stream.format in ("openai", "mistral") and "finish_reason_optional" not in stream.quirks:
        return DONE
    return b""


def _with_error(stream: Stream, before: bytes) -> bytes:
    dialect = stream.provider.partition(" ")[0]
    error = _ERRORS.get(dialect if stream.format == "openai" else stream.format, _ERRORS["openai"])
    if not stream.is_array:
        return before + error
    return (before + b"," if before else b"[") + error.removeprefix(b"data: ").strip() + b"]"


class _Watched:
    """Keeps the state of each request for the test to look at. Entered like any layer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.states: dict[str, asyncio.Future[State]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope, state = enter(scope)
        try:
            await self._app(scope, receive, send)
        finally:
            self.states[state.headers[b"x-run"].decode()].set_result(state)


async def endings(
    streams: list[Stream], ways: Iterable[Way], seeds: Iterable[int] = (1,)
) -> list[Ending]:
    """Serve every stream in each of the ways, and see what a client gets."""
    runs = [(stream, way, seed) for stream in streams for way in ways for seed in seeds]

    def handler(request: ReceivedRequest) -> Reply:
        return broken(*runs[int(request.target.split("/")[1])])

    async with Upstream(handler, record_bodies=False) as upstream:
        app = _Watched(
            ProviderApp(
                [
                    stream.adapter(f"{upstream.url}/{place}", f"s{place}")
                    for place, (stream, _, _) in enumerate(runs)
                ]
            )
        )
        async with (
            serve(app, "uvicorn", log_level="critical") as url,
            openai.AsyncOpenAI(
                api_key="none", base_url=url + "/v1", max_retries=0, timeout=60.0
            ) as client,
        ):
            turns = asyncio.Semaphore(CONCURRENCY)

            async def run(place: int) -> Ending:
                stream, way, _ = runs[place]
                async with turns, asyncio.timeout(60):
                    app.states[str(place)] = asyncio.get_running_loop().create_future()
                    status, body = await _ask(client, stream, place)
                    state = await app.states[str(place)]
                problem = _problem(stream, way, status, body, state.get(USAGE))
                return Ending(stream=stream, way=way, problem=problem)

            return await asyncio.gather(*map(run, range(len(runs))))


async def _ask(client: openai.AsyncOpenAI, stream: Stream, place: int) -> tuple[int, bytes]:
    chats = "messages" in stream.document
    create: Any = (
        client.chat.completions.with_streaming_response.create
        if chats
        else client.completions.with_streaming_response.create
    )
    try:
        async with create(
            **stream.document,
            model=f"s{place}/{stream.model}",
            stream=True,
            stream_options={"include_usage": True},
            extra_headers={"x-run": str(place)},
        ) as response:
            return response.status_code, b"".join([part async for part in response.iter_bytes()])
    except openai.APIStatusError as error:
        return error.status_code, error.response.content


def _problem(stream: Stream, way: Way, status: int, body: bytes, usage: Usage | None) -> str | None:
    """What is wrong with what the client got; None: nothing."""
    if status != 200:
        if way == "whole":
            return f"a stream that is whole is answered {status}"
        error = json.loads(body).get("error")
        if not isinstance(error, dict) or not error.get("message"):
            return f"the answer {status} is no error in OpenAI's form"
        return _whole_usage(usage)
    data = sse_data(body)
    chunks = [json.loads(one) for one in data if one != "[DONE]"]
    ends_without = way == "whole" and b"[DONE]" not in stream.body
    if not ends_without and (data[-1:] != ["[DONE]"] or "[DONE]" in data[:-1]):
        return "[DONE] is not the end"
    finished = {
        choice["index"]
        for chunk in chunks
        for choice in chunk.get("choices", ())
        if choice.get("finish_reason")
    }
    if way == "whole":
        if "error" in chunks[-1]:
            return f"a stream that is whole ends with {chunks[-1]}"
        optional = "finish_reason_optional" in stream.quirks
        all_finished = len(finished) == stream.choices or (optional and not finished)
        return None if all_finished else "not every choice is finished"
    error = chunks[-1].get("error") if chunks else None
    if not isinstance(error, dict) or not error.get("message") or not error.get("type"):
        return "no error event in OpenAI's form"
    if len(finished) == stream.choices:
        return "a finish reason as if it was whole"
    if any(chunk.get("usage") for chunk in chunks):
        return "usage as if it was whole"
    if usage is None:
        return "no estimate of the usage"
    return _whole_usage(usage)


def _whole_usage(usage: Usage | None) -> str | None:
    if usage is not None and not usage.estimated:
        return f"the state has usage as if it was whole: {usage}"
    return None


def endings_table(found: list[Ending]) -> str:
    """Passed and total of each provider, and what is wrong with the rest."""
    ways = list(dict.fromkeys(ending.way for ending in found))
    lines = [f"{'provider':<34}{'streams':>8}" + "".join(f"{way:>12}" for way in ways)]
    for provider in [*sorted({one.stream.provider for one in found}), "all"]:
        rows = [one for one in found if provider in (one.stream.provider, "all")]
        cells = ""
        for way in ways:
            of_way = [one for one in rows if one.way == way]
            good = sum(one.problem is None for one in of_way)
            cells += f"{f'{good}/{len(of_way)}':>12}"
        streams = len({(one.stream.provider, one.stream.id) for one in rows})
        lines.append(f"{provider:<34}{streams:>8}{cells}")
    passed = sum(one.problem is None for one in found)
    lines.append(f"passed {passed} of {len(found)}")
    lines += [
        f"- {one.stream.id} ({one.way}): {one.problem}" for one in found if one.problem is not None
    ]
    return "\n".join(lines)
