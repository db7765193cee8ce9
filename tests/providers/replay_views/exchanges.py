"""Recorded exchanges in formats of providers' own, and what two sides can make of one answer."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import unquote, urlsplit

import openai

from asgi_llm.providers.base import Provider

Operation = Literal["chat", "embeddings", "rerank"]

_HOP_HEADERS = frozenset(
    ("connection", "content-encoding", "content-length", "date", "server", "transfer-encoding")
)
_STREAM_TYPES = {
    "bedrock": "application/vnd.amazon.eventstream",
    "ollama": "application/x-ndjson",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """One recorded request with its answer, or an answer alone."""

    index: int
    id: str
    provider: str
    operation: Operation
    url: str
    """Empty where only the answer was recorded."""
    sent: dict[str, Any] | None
    stream: bool
    status: int
    headers: dict[str, str]
    body: bytes


class OutOfScopeError(Exception):
    """The recorded request says what the OpenAI format cannot say; the text says what."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One choice of an answer."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[tuple[str, Any], ...] = ()
    """Names and parsed arguments, in order."""
    finish: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Tokens in OpenAI's convention: totals hold their parts."""

    input: int = 0
    cached: int = 0
    output: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What one side makes of one answer."""

    choices: tuple[Choice, ...] = ()
    counts: Counts | None = None
    """None: nothing was said of it, and whatever is told is an estimate."""
    vectors: tuple[tuple[float, ...], ...] = ()
    ranking: tuple[tuple[int, float], ...] = ()
    error: tuple[str, int] | None = None
    """The class of the OpenAI SDK's exception and its status."""


class View(Protocol):
    """What a test knows of one provider's format, without the adapter's help."""

    def document(self, exchange: Exchange) -> dict[str, Any]:
        """The recorded request as an OpenAI document.

        Raises:
            OutOfScopeError: It cannot be one.
        """

    def meaning(self, body: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
        """A request without what makes no difference: defaults, aliases, spellings."""

    def read(self, exchange: Exchange) -> Reading:
        """The recorded answer, by the types of the provider's own SDK.

        Raises:
            OutOfScopeError: No call of ours is answered so.
        """

    def adapter(self, exchange: Exchange, root: str, name: str) -> Provider:
        """An adapter that calls ``root`` and everything below it."""

    def model(self, exchange: Exchange) -> str:
        """The model's name, as the adapter takes it."""

    def path(self, exchange: Exchange) -> str:
        """The path and query at which the recorded call was made, below ``root``."""


def load_native(folder: Path) -> list[Exchange]:
    """The exchanges in formats of providers' own, in a fixed order."""
    found: list[Exchange] = []
    for path in sorted(folder.glob("*.jsonl")):
        dialect = path.name.removesuffix(".jsonl")
        alone = dialect == "response_only_vercel"
        for line in path.read_text().splitlines():
            row = json.loads(line)
            url = "" if alone else row["request"]["url"]
            kind = _kind(row["dialect"] if alone else dialect, url, row)
            if kind is None:
                continue
            provider, operation, stream = kind
            response = row["response"]
            headers = {
                name: value
                for name, value in (response.get("headers") or {}).items()
                if name.lower() not in _HOP_HEADERS
            }
            if "content-type" not in {name.lower() for name in headers}:
                kind_of_stream = _STREAM_TYPES.get(provider, "text/event-stream")
                headers["content-type"] = kind_of_stream if stream else "application/json"
            bodies = _bodies(provider, response)
            for place, body in enumerate(bodies):
                found.append(
                    Exchange(
                        index=len(found),
                        id=row["id"] if len(bodies) == 1 else f"{row['id']}#{place}",
                        provider=provider,
                        operation=operation,
                        url=url,
                        sent=None if alone else row["request"]["json"],
                        stream=stream,
                        status=response.get("status") or 200,
                        headers=headers,
                        body=body,
                    )
                )
    return found


_DIALECTS: dict[str, tuple[str, Operation]] = {
    "anthropic.messages": ("anthropic", "chat"),
    "bedrock.converse": ("bedrock", "chat"),
    "bedrock.converse_stream": ("bedrock", "chat"),
    "bedrock.invoke": ("bedrock", "embeddings"),
    "cohere.chat": ("cohere", "chat"),
    "cohere.embed": ("cohere", "embeddings"),
    "cohere.rerank": ("cohere", "rerank"),
    "gemini.batchEmbedContents": ("gemini", "embeddings"),
    "gemini.generateContent": ("gemini", "chat"),
    "gemini.streamGenerateContent": ("gemini", "chat"),
    "mistral.chat": ("mistral", "chat"),
    "mistral.embeddings": ("mistral", "embeddings"),
    "ollama.chat": ("ollama", "chat"),
    "ollama.embeddings": ("ollama", "embeddings"),
    "vertex.generateContent": ("vertex", "chat"),
    "vertex.predict": ("vertex", "embeddings"),
    "vertex.streamGenerateContent": ("vertex", "chat"),
    "voyage": ("voyage", "embeddings"),
    "voyage.embeddings": ("voyage", "embeddings"),
    "voyage.rerank": ("voyage", "rerank"),
}


def _kind(dialect: str, url: str, row: dict[str, Any]) -> tuple[str, Operation, bool] | None:
    found = _DIALECTS.get(dialect)
    if found is None:
        return None
    provider, operation = found
    response = row["response"]
    if not url:
        if "embedding" in row["id"].rpartition("/")[2]:
            operation = "embeddings"
        return provider, operation, "sse_data_lines" in response
    sent = row["request"].get("json") or {}
    if dialect == "ollama.chat" and not urlsplit(url).path.startswith("/api/"):
        return None
    if dialect == "bedrock.invoke" and not re.search(r"/model/[^/]*embed", unquote(url)):
        return None
    stream = bool(sent.get("stream")) or "tream" in urlsplit(url).path
    return provider, operation, stream


def _bodies(provider: str, response: dict[str, Any]) -> list[bytes]:
    """The answer, or the answers: some files hold those of a whole conversation in a row."""
    if "text" in response:
        return [response["text"].encode()]
    if "b64" in response:
        return [base64.b64decode(response["b64"])]
    if "json" in response:
        return [dump(response["json"])]
    lines: list[str] = response["sse_data_lines"]
    if provider == "bedrock":
        return [b"".join(_converse_frame(json.loads(line)) for line in lines)]
    if provider in ("anthropic", "cohere"):
        bodies = [b""]
        for line in lines:
            kind = json.loads(line)["type"]
            if kind == "message_start" and bodies[-1]:
                bodies.append(b"")
            bodies[-1] += b"event: %b\ndata: %b\n\n" % (kind.encode(), line.encode())
        return bodies
    events = [b"data: %b\n\n" % line.encode() for line in lines]
    if provider == "mistral" and lines[-1] != "[DONE]":
        events.append(b"data: [DONE]\n\n")
    return [b"".join(events)]


def _converse_frame(event: dict[str, Any]) -> bytes:
    (name,) = event
    return aws_frame({":event-type": name, ":message-type": "event"}, event[name])


def aws_frame(headers: dict[str, str], payload: Any) -> bytes:
    """One message of an AWS event stream."""
    fields = b"".join(
        struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(value)) + value
        for name, value in (
            (name, text.encode())
            for name, text in {":content-type": "application/json", **headers}.items()
        )
    )
    data = dump(payload)
    prelude = struct.pack(">II", 16 + len(fields) + len(data), len(fields))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + fields + data
    return message + struct.pack(">I", zlib.crc32(message))


def dump(value: Any) -> bytes:
    """``value`` as JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def sse_data(body: bytes) -> list[str]:
    """The data of each event of a stream, by the OpenAI SDK's decoder."""
    decoder = openai._streaming.SSEDecoder()
    return [event.data for event in decoder.iter_bytes(iter([body])) if event.data]


def refuse(reason: str) -> OutOfScopeError:
    """The error for a request that cannot be expressed."""
    return OutOfScopeError(reason)


def without_none(value: Any) -> Any:
    """``value`` without the keys whose value is null, at any depth."""
    if isinstance(value, dict):
        return {name: without_none(one) for name, one in value.items() if one is not None}
    if isinstance(value, list):
        return [without_none(one) for one in value]
    return value


def parsed(arguments: str) -> Any:
    """What arguments of a call mean; text that is no JSON stays text."""
    try:
        return json.loads(arguments or "{}")
    except ValueError:
        return arguments


_ERRORS = {
    400: "BadRequestError",
    404: "NotFoundError",
    413: "APIStatusError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
}


def expected_error(status: int) -> tuple[str, int]:
    """What a client of ours gets for a provider's error status."""
    if status in (401, 402, 403):
        status = 502
    elif status == 529:
        status = 503
    return _ERRORS.get(status, "InternalServerError"), status
