"""Replays recorded provider traffic through the provider app, and compares what the SDK reads.

``python tests/providers/replay.py`` prints for each provider how many of its recorded exchanges
come out as they were recorded, and every miss with its reason; ``--thorough`` tries more cuts. The
folder of recordings is named by the environment variable ASGI_LLM_RECORDED.

What is in OpenAI's format is compared here; ``native_replay`` has the formats of providers' own,
and ``truncation`` the streams that break off.

For each recording a real upstream server serves the recorded answer. The OpenAI SDK reads it once
straight from there and then, at several cuts of the bytes, through the app. What it reads has to be
the same: every field of every object or chunk, in order, or the error.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import random
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import openai

# As a command, this file is started from its own folder, whose names hide those of the SDKs.
if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from asgi_llm.providers._passthrough import OpenAIFormat
from asgi_llm.providers._quirks import apply_quirks
from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.azure import Azure
from asgi_llm.providers.compatible import compatible
from asgi_llm.providers.openai import OpenAI
from asgi_llm.testing import ReceivedRequest, Reply, Upstream
from asgi_llm.testing.serving import serve
from tests.providers.replay_views.report import Row, report

KEY = "sk-recorded-0123456789"
CONCURRENCY = 8
EVERY_BYTE_LIMIT = 12_000
RANDOM_SEEDS = (1, 2, 3)

_FILES = re.compile(r"\w+\.(chat|completions|embeddings|moderations)\.jsonl")
_PATHS = {
    "/chat/completions": "chat",
    "/completions": "completions",
    "/embeddings": "embeddings",
    "/moderations": "moderations",
}
_OTHER_FORMATS = re.compile(r"//(api\.cohere\.com|api\.voyageai\.com)/|/v1/completions$|/api/\w+$")
"""URLs that are no OpenAI endpoint: Cohere's and Voyage's own APIs, Ollama's own, and the text
completions of Writer (those of OpenAI are told apart by their host)."""

_REALLY_OPENROUTER = re.compile(rb'"id":"gen-\d+')
"""Recordings under OpenAI's URL whose answers are OpenRouter's, by the form of their ids."""

_MALFORMED = ("chat-bad-request.yaml", "test_writer_async_streaming_chat_tool_calls_legacy.yaml")
"""Recorded requests that break the format: a content part of no known type, which OpenAI refused
too, and a tool call without an id, which Writer takes."""

_HOP_HEADERS = frozenset(
    ("connection", "content-encoding", "content-length", "date", "server", "transfer-encoding")
)

NOT_OPENAIS = {
    "error with status 200": "the provider answered 200 with an error object; the app makes it an "
    "error, as it does in a stream",
    "error after the finish": "the provider reported an error after its finish reason; the app "
    "had held the finish back, and sends the error in its place",
    "refused here": "the request breaks the OpenAI format; the app refuses it itself with a 400 "
    "that names the field",
}
"""Exchanges that are not in OpenAI's format, and what the app makes of them, which is checked as
well. The reference lists them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """One recorded exchange."""

    index: int
    id: str
    dialect: str
    endpoint: str
    url: str
    sent: dict[str, Any]
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def stream(self) -> bool:
        return bool(self.sent.get("stream"))


@dataclass(slots=True)
class Reading:
    """What the SDK made of one answer."""

    objects: list[Any] = field(default_factory=list)
    """The answer, or the chunks of the stream."""
    error: tuple[str, int | None, str | None] | None = None
    """Class, status and code of the SDK's exception."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """One recording replayed at one cut."""

    recording: Recording
    cut: str
    departure: str | None
    problem: str | None


def load(folder: Path) -> list[Recording]:
    """The recordings of OpenAI-format endpoints, in a fixed order."""
    found: list[Recording] = []
    for path in sorted(folder.glob("*.jsonl")):
        if not _FILES.fullmatch(path.name):
            continue
        for line in path.read_text().splitlines():
            row = json.loads(line)
            url = row["request"]["url"]
            endpoint = _endpoint(url)
            sent = row["request"].get("json")
            if endpoint is None or not isinstance(sent, dict):
                continue
            response = row["response"]
            body = response["text"].encode() if "text" in response else _dump(response["json"])
            found.append(
                Recording(
                    index=len(found),
                    id=row["id"],
                    dialect=path.name.split(".")[0],
                    endpoint=endpoint,
                    url=url,
                    sent=sent,
                    status=response["status"],
                    headers={
                        name: value
                        for name, value in response["headers"].items()
                        if name.lower() not in _HOP_HEADERS
                    },
                    body=body,
                )
            )
    return found


def _endpoint(url: str) -> str | None:
    parts = urlsplit(url)
    if parts.hostname == "api.writer.com":
        return "chat" if parts.path == "/v1/chat" else None
    if _OTHER_FORMATS.search(url) and parts.hostname != "api.openai.com":
        return None
    for path, endpoint in _PATHS.items():
        if parts.path.endswith(path):
            return endpoint
    return None


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def adapter_for(recording: Recording, root: str) -> tuple[OpenAIFormat, str]:
    """The adapter that would have made the recorded call, at ``root``, and its model's name."""
    parts = urlsplit(recording.url)
    name = f"r{recording.index}"
    model = str(recording.sent.get("model") or "unnamed")
    if recording.dialect in ("azure", "azure_ai"):
        version = parse_qs(parts.query).get("api-version", ["2024-10-21"])[0]
        if found := re.match(r"/openai/deployments/([^/]+)/", parts.path):
            adapter = Azure(endpoint=root, api_key=KEY, api_version=version, name=name)
            return adapter, found[1]
        api = "v1" if parts.path.startswith("/openai/v1/") else "models"
        azure = Azure(
            endpoint=root,
            api_key=KEY,
            api_version=None if api == "v1" else version,
            api="v1" if api == "v1" else "models",
            name=name,
        )
        return azure, model
    suffix = "/chat" if recording.dialect == "writer" else _suffix(parts.path)
    base_url = root + parts.path.removesuffix(suffix)
    dialect = recording.dialect
    if dialect == "openai" and _REALLY_OPENROUTER.search(recording.body[:200]):
        dialect = "openrouter"
    if dialect in ("cohere", "mistral", "ollama"):
        dialect += "_openai"
    if dialect == "openai":
        return OpenAI(api_key=KEY, name=name, base_url=base_url), model
    return compatible(dialect, api_key=KEY, name=name, base_url=base_url), model


def _suffix(path: str) -> str:
    return next(suffix for suffix in _PATHS if path.endswith(suffix))


def cuts_for(recording: Recording) -> list[str]:
    """The cuts of the bytes at which a recording is replayed."""
    names = ["whole", *(f"random {seed}" for seed in RANDOM_SEEDS)]
    if recording.stream:
        names.append("event")
    if len(recording.body) <= EVERY_BYTE_LIMIT:
        names.append("byte")
    return names


def _reply(recording: Recording, cut: str) -> Reply:
    body: bytes | list[bytes] = recording.body
    split: Any = None
    if cut == "event":
        body = [e + b"\n\n" for e in recording.body.split(b"\n\n") if e]
    elif cut == "byte":
        split = "every"
    elif cut.startswith("random"):
        split = random.Random(f"{cut} {recording.index}")
    return Reply(
        status=recording.status,
        headers=recording.headers,
        body=body,
        framing="chunked" if recording.stream else "length",
        split=split,
    )


class Replay:
    """The upstream, the app and the SDK clients of one run; made by ``replaying``."""

    def __init__(self, recordings: list[Recording], upstream: Upstream, app_url: str) -> None:
        self.recordings = recordings
        self._upstream = upstream
        self._app = openai.AsyncOpenAI(
            api_key="none", base_url=app_url + "/v1", max_retries=0, timeout=60.0
        )
        self._straight: dict[int, Reading] = {}
        self._turns = asyncio.Semaphore(CONCURRENCY)

    async def aclose(self) -> None:
        await self._app.close()

    async def straight(self, recording: Recording) -> Reading:
        """What the SDK reads from the upstream itself."""
        found = self._straight.get(recording.index)
        if found is None:
            client = self._app.with_options(
                base_url=f"{self._upstream.url}/whole/{recording.index}/straight"
            )
            found = await _read(client, recording, str(recording.sent.get("model")))
            self._straight[recording.index] = found
        return found

    async def run(self, recording: Recording, cut: str) -> Outcome:
        """Replay ``recording`` through the app and compare."""
        async with self._turns, asyncio.timeout(120):
            straight = await self.straight(recording)
            _, model = adapter_for(recording, "http://unused")
            name = f"{cut.replace(' ', '-')}-r{recording.index}/{model}"
            through = await _read(self._app, recording, name)
        miss = _departure(recording, straight)
        problem = difference(recording, straight, through, miss)
        if problem is None and miss != "refused here":
            problem = self._request_difference(recording, cut)
        return Outcome(recording=recording, cut=cut, departure=miss, problem=problem)

    async def run_all(self, chosen: Callable[[Recording], bool] = lambda _: True) -> list[Outcome]:
        """Replay all chosen recordings at all of their cuts."""
        runs = [
            self.run(recording, cut)
            for recording in self.recordings
            if chosen(recording)
            for cut in cuts_for(recording)
        ]
        return await asyncio.gather(*runs)

    def _request_difference(self, recording: Recording, cut: str) -> str | None:
        """How the request that reached the upstream differs from the recorded one."""
        path = f"/{cut.replace(' ', '-')}/{recording.index}/"
        received = [
            served.request
            for served in self._upstream.ledger
            if served.request.target.startswith(path)
            and not served.request.target.endswith("straight" + _paths_of(recording))
        ]
        if not received:
            return "nothing reached the upstream"
        request = received[-1]
        adapter, model = adapter_for(recording, "http://unused")
        wanted = apply_quirks({**recording.sent, "model": model}, adapter.quirks)
        got = json.loads(request.body)
        if recording.endpoint == "embeddings" and "encoding_format" not in wanted:
            # The SDK adds it to every call.
            got.pop("encoding_format", None)
        if wanted != got:
            keys = sorted(k for k in wanted.keys() | got.keys() if wanted.get(k) != got.get(k))
            return f"the upstream got other values of {keys}"
        parts = urlsplit(recording.url)
        target = urlsplit(request.target)
        if path.rstrip("/") + parts.path != target.path:
            return f"the upstream was called at {target.path}"
        if parts.query and parse_qs(parts.query) != parse_qs(target.query):
            return f"the upstream was called with the query {target.query}"
        return None


def _paths_of(recording: Recording) -> str:
    return next(path for path, endpoint in _PATHS.items() if endpoint == recording.endpoint)


@asynccontextmanager
async def replaying(folder: Path) -> AsyncIterator[Replay]:
    """An upstream that serves the recordings, and the app in front of it, on real sockets."""
    recordings = load(folder)

    def handler(request: ReceivedRequest) -> Reply:
        _, cut, index, *_ = request.target.split("/")
        return _reply(recordings[int(index)], cut.replace("-", " "))

    async with Upstream(handler) as upstream:
        providers: list[OpenAIFormat] = []
        for recording in recordings:
            for cut in cuts_for(recording):
                slug = cut.replace(" ", "-")
                adapter, _ = adapter_for(recording, f"{upstream.url}/{slug}/{recording.index}")
                adapter.name = f"{slug}-r{recording.index}"
                providers.append(adapter)
        app = ProviderApp(providers)
        async with serve(app, "uvicorn", log_level="warning") as url:
            replay = Replay(recordings, upstream, url)
            try:
                yield replay
            finally:
                await replay.aclose()


async def _read(client: openai.AsyncOpenAI, recording: Recording, model: str) -> Reading:
    reading = Reading()
    sent = {k: v for k, v in recording.sent.items() if k not in ("model", "stream")}
    stream: Any = recording.sent.get("stream", openai.omit)
    try:
        answer: Any
        if recording.endpoint == "chat":
            answer = await client.chat.completions.create(
                model=model, messages=sent.pop("messages"), stream=stream, extra_body=sent
            )
        elif recording.endpoint == "completions":
            answer = await client.completions.create(
                model=model, prompt=sent.pop("prompt"), stream=stream, extra_body=sent
            )
        elif recording.endpoint == "embeddings":
            answer = await client.embeddings.create(
                model=model,
                input=sent.pop("input"),
                encoding_format=sent.pop("encoding_format", "float"),
                extra_body=sent,
            )
        else:
            answer = await client.moderations.create(
                model=model, input=sent.pop("input"), extra_body=sent
            )
        if not recording.stream:
            reading.objects.append(answer.model_dump(warnings=False))
            return reading
        async for chunk in answer:
            reading.objects.append(chunk.model_dump(warnings=False))
    except openai.APIError as error:
        status = getattr(error, "status_code", None)
        reading.error = (type(error).__name__, status, error.code)
    return reading


def _departure(recording: Recording, straight: Reading) -> str | None:
    if recording.id.partition("#")[0].endswith(_MALFORMED):
        return "refused here"
    if not recording.stream and straight.error is None and straight.objects[0].get("error"):
        return "error with status 200"
    if recording.stream and straight.error is not None:
        finishes = [
            choice["finish_reason"] for chunk in straight.objects for choice in chunk["choices"]
        ]
        if any(finishes):
            return "error after the finish"
    return None


_CLASSES = {
    400: "BadRequestError",
    404: "NotFoundError",
    429: "RateLimitError",
    502: "InternalServerError",
}


def difference(
    recording: Recording, straight: Reading, through: Reading, miss: str | None
) -> str | None:
    """How the two readings differ; None where they are as they should be."""
    if miss == "error with status 200":
        right = through.error == ("BadRequestError", 400, "content_filter")
        return None if right else f"expected the content filter's 400, got {through.error}"
    if miss == "refused here":
        right = through.error is not None and through.error[:2] == ("BadRequestError", 400)
        return None if right else f"expected a 400 of our own, got {through.error}"
    wanted = straight.objects
    if miss == "error after the finish":
        first = next(
            place
            for place, chunk in enumerate(wanted)
            if any(choice["finish_reason"] for choice in chunk["choices"])
        )
        wanted = wanted[:first]
    if wanted != through.objects:
        counts = f"{len(wanted)} and {len(through.objects)} objects"
        return f"the SDK reads other objects ({counts}; error {through.error})"
    if (straight.error is None) != (through.error is None):
        return f"error {straight.error} became {through.error}"
    if straight.error is None or through.error is None:
        return None
    if recording.stream:
        code = straight.error[2]
        # A number is a status, as OpenRouter writes it.
        if isinstance(code, str) and not code.isdigit() and code != through.error[2]:
            return f"error {straight.error} became {through.error}"
        return None
    status = 502 if straight.error[1] in (401, 403) else straight.error[1]
    if (_CLASSES.get(status or 0), status) != through.error[:2]:
        return f"error {straight.error} became {through.error}"
    return None


def rows_of(outcomes: list[Outcome]) -> list[Row]:
    """Each recording over all of its cuts."""
    found = []
    for index in dict.fromkeys(outcome.recording.index for outcome in outcomes):
        of_it = [outcome for outcome in outcomes if outcome.recording.index == index]
        problems = dict.fromkeys(o.problem for o in of_it if o.problem is not None)
        departures = [o.departure for o in of_it if o.departure is not None]
        found.append(
            Row(
                provider=of_it[0].recording.dialect,
                id=of_it[0].recording.id,
                replays=len(of_it),
                out_of_scope=NOT_OPENAIS[departures[0]] if departures else None,
                reasons=tuple(problems),
                expected=not problems,
            )
        )
    return found


async def _main(folder: Path, *, thorough: bool) -> int:
    # Not at the top: the formats of providers' own need the SDKs of all of them.
    native_replay = importlib.import_module("tests.providers.native_replay")
    truncation = importlib.import_module("tests.providers.truncation")
    async with replaying(folder) as replay:
        rows = rows_of(await replay.run_all())
    print(f"In OpenAI's format\n\n{report(rows)}\n")
    async with native_replay.replaying_native(folder, thorough=thorough) as native:
        native_rows = native_replay.rows_of(native.cases, await native.run_all())
    print(f"In formats of providers' own\n\n{report(native_rows)}\n")
    endings = await truncation.endings(
        truncation.recorded_streams(folder),
        ("whole", "dropped", "ended", "error"),
        range(10 if thorough else 2),
    )
    print(f"Streams that end as they should not\n\n{truncation.endings_table(endings)}")
    unexpected = [row for row in (*rows, *native_rows) if row.reasons and not row.expected]
    return 1 if unexpected or any(one.problem for one in endings) else 0


if __name__ == "__main__":
    where = os.environ.get("ASGI_LLM_RECORDED")
    if not where:
        sys.exit("ASGI_LLM_RECORDED is not set: no recorded traffic to replay")
    sys.exit(asyncio.run(_main(Path(where), thorough="--thorough" in sys.argv[1:])))
