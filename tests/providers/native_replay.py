"""Replays recorded traffic in formats of providers' own, both ways, through the provider app.

The request: a recorded one is read back into an OpenAI document by a reader of the test's own, sent
through the app, and what reaches the upstream has to mean what was recorded. The answer: a real
server serves the recorded bytes at several cuts, the OpenAI SDK reads what comes out of the app,
and that has to be what the types of the provider's own SDK read from the recorded bytes.

``python tests/providers/replay.py`` prints the rates and every miss with its reason.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import random
import struct
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import openai

from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.base import Provider
from asgi_llm.testing import ReceivedRequest, Reply, Upstream
from asgi_llm.testing.serving import serve
from tests.providers.replay_views.borders import events
from tests.providers.replay_views.exchanges import (
    Exchange,
    OutOfScopeError,
    Reading,
    View,
    load_native,
)
from tests.providers.replay_views.openai_side import read_openai
from tests.providers.replay_views.report import Row

CONCURRENCY = 8
EVERY_BYTE_LIMIT = 4_000
EVERY_BYTE_LIMIT_THOROUGH = 100_000
RANDOM_SEEDS = (1, 2, 3)

_VIEWS = {
    "anthropic": ("anthropic", "AnthropicView"),
    "bedrock": ("bedrock", "BedrockView"),
    "cohere": ("cohere", "CohereView"),
    "gemini": ("google", "GoogleView"),
    "mistral": ("mistral", "MistralView"),
    "ollama": ("ollama", "OllamaView"),
    "vertex": ("google", "GoogleView"),
    "voyage": ("voyage", "VoyageView"),
}

PROVIDERS = tuple(_VIEWS)

EXPECTED_MISSES: Final[dict[str, tuple[str, ...]]] = {
    "instructions amid a conversation are moved ahead of it, which the header reports": (
        "test_mid_conversation_system_prompt_without_user_turn.yaml#0",
    ),
}
"""Where the app differs from the recording on purpose: the reason, and the endings of the ids. The
reference lists them."""


def view_of(provider: str) -> View | None:
    """The reader of a provider's format; None where its adapter is not there."""
    if importlib.util.find_spec(f"asgi_llm.providers.{provider}") is None:
        return None
    module, name = _VIEWS[provider]
    found: View = getattr(importlib.import_module(f"tests.providers.replay_views.{module}"), name)()
    return found


def providers_there() -> set[str]:
    """Those whose adapter is there."""
    return {name for name in PROVIDERS if view_of(name) is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One exchange, prepared to be replayed."""

    exchange: Exchange
    view: View
    document: dict[str, Any]
    out_of_scope: str | None
    """What of the request OpenAI's format cannot say; then only the answer is replayed."""
    expected: Reading | None
    """None: the answer is of a kind that no call of ours gets, and is not replayed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NativeOutcome:
    """One exchange replayed at one cut."""

    case: Case
    cut: str
    problems: tuple[str, ...]


def prepare(exchanges: Iterable[Exchange], providers: Iterable[str] = PROVIDERS) -> list[Case]:
    """The cases of those of ``providers`` whose adapter is there."""
    views = {name: view_of(name) for name in providers}
    found = []
    for exchange in exchanges:
        view = views.get(exchange.provider)
        if view is None:
            continue
        reason: str | None = None
        expected: Reading | None = None
        document: dict[str, Any] = {}
        try:
            expected = view.read(exchange)
            document = _any_document(exchange, expected)
            if exchange.sent is not None:
                document = view.document(exchange)
        except OutOfScopeError as error:
            reason = str(error)
        found.append(
            Case(
                exchange=exchange,
                view=view,
                document=document,
                out_of_scope=reason,
                expected=expected,
            )
        )
    return found


def _any_document(exchange: Exchange, expected: Reading) -> dict[str, Any]:
    """A request that the answer alone could be the answer to."""
    if exchange.operation == "embeddings":
        return {"input": ["x"] * max(1, len(expected.vectors)), "encoding_format": "float"}
    if exchange.operation == "rerank":
        size = 1 + max((index for index, _ in expected.ranking), default=0)
        return {"query": "x", "documents": ["x"] * size}
    return {"messages": [{"role": "user", "content": "x"}], "stream": exchange.stream}


def cuts_for(exchange: Exchange, *, thorough: bool = False) -> list[str]:
    """The cuts of the bytes at which an exchange is replayed."""
    names = ["whole"]
    if exchange.stream or thorough or len(exchange.body) < EVERY_BYTE_LIMIT:
        names += [f"random {seed}" for seed in RANDOM_SEEDS]
    else:
        names.append("random 1")
    if exchange.stream:
        names.append("event")
    if len(exchange.body) <= (EVERY_BYTE_LIMIT_THOROUGH if thorough else EVERY_BYTE_LIMIT):
        names.append("byte")
    return names


def _reply(exchange: Exchange, cut: str) -> Reply:
    body: bytes | list[bytes] = exchange.body
    split: Any = None
    if cut == "event":
        body = events(exchange.provider, exchange.body)
    elif cut == "byte":
        split = "every"
    elif cut.startswith("random"):
        split = random.Random(f"{cut} {exchange.index}")
    return Reply(
        status=exchange.status,
        headers=exchange.headers,
        body=body,
        framing="chunked" if exchange.stream else "length",
        split=split,
    )


class NativeReplay:
    """The upstream, the app and the SDK client of one run; made by ``replaying_native``."""

    def __init__(
        self, cases: list[Case], upstream: Upstream, app_url: str, *, thorough: bool
    ) -> None:
        self.cases = cases
        self._upstream = upstream
        self._thorough = thorough
        self._client = openai.AsyncOpenAI(
            api_key="none", base_url=app_url + "/v1", max_retries=0, timeout=60.0
        )
        self._turns = asyncio.Semaphore(CONCURRENCY)

    async def aclose(self) -> None:
        await self._client.close()

    async def run(self, case: Case, cut: str) -> NativeOutcome:
        """Replay ``case`` and compare both ways."""
        exchange = case.exchange
        name = f"{slug(cut)}-n{exchange.index}"
        async with self._turns, asyncio.timeout(120):
            reading = await read_openai(
                self._client,
                exchange.operation,
                case.document,
                model=f"{name}/{case.view.model(exchange)}",
                stream=exchange.stream,
            )
        problems = list(answer_differences(case.expected or Reading(), reading))
        if exchange.sent is not None and case.out_of_scope is None:
            problems += self._request_differences(case, cut)
        return NativeOutcome(case=case, cut=cut, problems=tuple(problems))

    async def run_all(self, chosen: Callable[[Case], bool] = lambda _: True) -> list[NativeOutcome]:
        """Replay all chosen cases at all of their cuts."""
        runs = [
            self.run(case, cut)
            for case in self.cases
            if case.expected is not None and chosen(case)
            for cut in cuts_for(case.exchange, thorough=self._thorough)
        ]
        return await asyncio.gather(*runs)

    def _request_differences(self, case: Case, cut: str) -> list[str]:
        """How the request that reached the upstream differs from the recorded one."""
        exchange, view = case.exchange, case.view
        prefix = f"/{slug(cut)}/{exchange.index}"
        received = [
            served.request
            for served in self._upstream.ledger
            if served.request.target.startswith(prefix + "/")
        ]
        if len(received) != 1:
            return [f"{len(received)} calls reached the upstream"]
        (request,) = received
        found = []
        target = unquote(request.target.removeprefix(prefix))
        if target != view.path(exchange):
            found.append(f"the upstream was called at {target}, not {view.path(exchange)}")
        wanted = view.meaning(json.loads(json.dumps(exchange.sent)), exchange)
        got = view.meaning(json.loads(request.body), exchange)
        wanted.pop("model", None)
        got.pop("model", None)
        for name in sorted(wanted.keys() | got.keys()):
            if wanted.get(name) != got.get(name):
                place = _first_difference(wanted.get(name), got.get(name), name)
                found.append(f"request: {place}")
        return found


def rows_of(cases: list[Case], outcomes: list[NativeOutcome]) -> list[Row]:
    """Each exchange over all of its cuts. An expected miss that does not occur is a miss, too."""
    found = []
    for case in cases:
        exchange = case.exchange
        of_it = [one for one in outcomes if one.case.exchange.index == exchange.index]
        problems = tuple(dict.fromkeys(problem for one in of_it for problem in one.problems))
        rule = expected_miss(exchange)
        expected = True
        if rule is not None:
            expected = bool(problems)
            problems = (rule,) if problems else (f"no longer so: {rule}",)
        elif problems:
            expected = False
        found.append(
            Row(
                provider=exchange.provider,
                id=exchange.id,
                replays=len(of_it),
                out_of_scope=case.out_of_scope,
                reasons=problems,
                expected=expected,
            )
        )
    return found


def expected_miss(exchange: Exchange) -> str | None:
    """Why an exchange is expected to differ."""
    for reason, ids in EXPECTED_MISSES.items():
        if exchange.id.endswith(ids):
            return reason
    return None


def slug(cut: str) -> str:
    """A cut's name for a URL."""
    return cut.replace(" ", "-")


def _first_difference(wanted: Any, got: Any, path: str) -> str:
    """Where two values begin to differ."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        for name in [*wanted, *got]:
            if wanted.get(name) != got.get(name):
                return _first_difference(wanted.get(name), got.get(name), f"{path}.{name}")
    if isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got):
        for index, pair in enumerate(zip(wanted, got, strict=True)):
            if pair[0] != pair[1]:
                return _first_difference(*pair, f"{path}[{index}]")
    return f"{path} was recorded as {_brief(wanted)} and sent as {_brief(got)}"


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 160 else text[:150] + "..."


def answer_differences(expected: Reading, got: Reading) -> Iterable[str]:
    """How what the OpenAI SDK read differs from what the provider's own reads."""
    if expected.error != got.error:
        yield f"answer: error {expected.error} became {got.error}"
        return
    if len(expected.choices) != len(got.choices):
        yield f"answer: {len(expected.choices)} choices became {len(got.choices)}"
    for index, pair in enumerate(zip(expected.choices, got.choices, strict=False)):
        for name in ("text", "reasoning", "calls", "finish"):
            wanted, found = (getattr(one, name) for one in pair)
            if wanted != found:
                yield (
                    f"answer: {name} of choice {index} is {_brief(wanted)} for the provider's SDK "
                    f"and {_brief(found)} for OpenAI's"
                )
    if expected.counts is not None and expected.counts != got.counts:
        yield f"answer: {expected.counts} became {got.counts}"
    if _rounded(expected.vectors) != _rounded(got.vectors):
        yield "answer: other vectors"
    if expected.ranking != got.ranking:
        yield f"answer: the ranking {expected.ranking} became {got.ranking}"


def _rounded(vectors: tuple[tuple[float, ...], ...]) -> list[bytes]:
    """Vectors as 32-bit floats: base64 carries no more, and no model gives more."""
    return [struct.pack(f"<{len(vector)}f", *vector) for vector in vectors]


@asynccontextmanager
async def replaying_native(
    folder: Path, *, thorough: bool = False, providers: Iterable[str] = PROVIDERS
) -> AsyncIterator[NativeReplay]:
    """An upstream that serves the recordings, and the app in front of it, on real sockets."""
    cases = prepare(load_native(folder), providers)
    exchanges = {case.exchange.index: case.exchange for case in cases}

    def handler(request: ReceivedRequest) -> Reply:
        _, cut, index, *_ = request.target.split("/")
        return _reply(exchanges[int(index)], cut.replace("-", " "))

    async with Upstream(handler) as upstream:
        adapters: list[Provider] = []
        for case in cases:
            for cut in cuts_for(case.exchange, thorough=thorough):
                root = f"{upstream.url}/{slug(cut)}/{case.exchange.index}"
                name = f"{slug(cut)}-n{case.exchange.index}"
                adapters.append(case.view.adapter(case.exchange, root, name))
        async with serve(ProviderApp(adapters), "uvicorn", log_level="warning") as url:
            replay = NativeReplay(cases, upstream, url, thorough=thorough)
            try:
                yield replay
            finally:
                await replay.aclose()
