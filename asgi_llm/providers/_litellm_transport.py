"""litellm behind the Transport protocol: it makes the calls, and we see an OpenAI endpoint."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from asgi_llm import _json, _sse
from asgi_llm._optional import require
from asgi_llm.errors import RawHeaders
from asgi_llm.providers._scrub import scrub
from asgi_llm.transports.base import (
    ConnectionLostError,
    Phase,
    ResponseTooLargeError,
    Timeouts,
    TransportTimeoutError,
    UpstreamRequest,
    UpstreamResponse,
)
from asgi_llm.types import Document

__all__ = ["ENVIRONMENT", "LiteLLMTransport", "import_litellm"]

logger = logging.getLogger(__name__)

# Text completions are left out: it opens a client for each of them and never closes it.
_FUNCTIONS: Final = {
    "chat": "acompletion",
    "embeddings": "aembedding",
    "moderation": "amoderation",
    "image_generation": "aimage_generation",
    "rerank": "arerank",
}

_FIXED: Final[Mapping[str, Any]] = {
    "num_retries": 0,
    "max_retries": 0,
    "drop_params": False,
    "caching": False,
    "no-log": True,
}
"""Told to every call: each is one attempt, of what was asked, that nobody else hears of."""

ENVIRONMENT: Final[Mapping[str, str]] = {
    # It would fetch a price list when it is imported, and a list of headers at the first call.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    # Otherwise it reads a .env file.
    "LITELLM_MODE": "PRODUCTION",
}
"""Variables that litellm has to find when it is imported, unless they are set already."""

_NO_DEADLINE_SECONDS: Final = 86_400.0
"""litellm has a deadline of its own unless it is told one; ours are kept here."""

_SECRET: Final = re.compile(r"key|token|secret|password|credential", re.IGNORECASE)
_PREFIX: Final = re.compile(r"(?:(?:litellm\.)?\w*(?:Error|Exception)\s*[:-]\s+)+")

T = TypeVar("T")


def import_litellm() -> Any:
    """The package, set up so that it asks nobody but the providers.

    Raises:
        ConfigurationError: It is not installed.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    litellm = require("litellm", extra="litellm")
    # Otherwise it prints advice for each error.
    litellm.suppress_debug_info = True
    return litellm


class LiteLLMTransport:
    """Makes each call with litellm.

    Args:
        litellm: The package.
        options: Arguments of every call, which win over the request's.
        secrets: Texts that no error may show.
    """

    # litellm shares its clients between all calls of a process, so the last one out closes them.
    _users: Final[set[int]] = set()

    def __init__(self, litellm: Any, options: Mapping[str, Any], secrets: Iterable[str]) -> None:
        self._litellm = litellm
        self._options = dict(options)
        self._secrets = tuple(secrets)

    async def send(self, request: UpstreamRequest, timeouts: Timeouts) -> UpstreamResponse:
        """Make the call that the last part of the URL names, with the document as arguments."""
        if not isinstance(request.body, bytes):
            raise TypeError("only JSON bodies are sent here")
        document = msgspec.json.decode(request.body)
        operation = request.url.rpartition("/")[2]
        function = getattr(self._litellm, _FUNCTIONS[operation])
        arguments = {**document, **self._options, **_FIXED}
        if operation == "chat":
            # Only functions come here; to look for other tools it would import a package that it
            # does not depend on.
            arguments["_skip_mcp_handler"] = True
        arguments["timeout"] = timeouts.total_seconds or _NO_DEADLINE_SECONDS
        self._users.add(id(self))
        deadline = _Deadline(timeouts)
        try:
            answer = await deadline.wait(
                function(**arguments), "first_byte", timeouts.first_byte_seconds
            )
        except (asyncio.CancelledError, TransportTimeoutError):
            raise
        except Exception as error:  # litellm's callers have to expect any
            return self._failed(error)
        if document.get("stream") and hasattr(answer, "__aiter__"):
            return _Answer(200, _SSE, self._events(answer, deadline), close=_closer(answer))
        return _Answer(200, _JSON, _once(_json.encode(_whole(answer.model_dump(warnings=False)))))

    async def aclose(self) -> None:
        """Close litellm's clients, unless another provider uses them."""
        if id(self) in self._users:
            self._users.discard(id(self))
            if not self._users:
                await self._litellm.close_litellm_async_clients()
                self._litellm.in_memory_llm_clients_cache.flush_cache()

    async def _events(self, stream: Any, deadline: _Deadline) -> AsyncIterator[bytes]:
        chunks = aiter(stream)
        while True:
            try:
                chunk = await deadline.wait(anext(chunks), "idle", deadline.timeouts.idle_seconds)
            except StopAsyncIteration:
                break
            except (asyncio.CancelledError, TransportTimeoutError):
                raise
            except Exception as error:  # as above
                _, document = self._error(error)
                yield _sse.encode(_json.encode(document))
                return
            event = _chunk(chunk.model_dump(warnings=False), stream)
            if event is not None:
                yield _sse.encode(_json.encode(event))
        yield _sse.DONE

    def _failed(self, error: Exception) -> _Answer:
        status, document = self._error(error)
        headers = [*_JSON, *_retry_headers(error)]
        return _Answer(status, headers, _once(_json.encode(document)))

    def _error(self, error: Exception) -> tuple[int, Document]:
        """The status, and an error of the OpenAI format without secrets."""
        litellm = self._litellm
        status = getattr(error, "status_code", None)
        # It appends the trace of an error of its own.
        message = str(getattr(error, "message", error)).partition("Traceback (most recent")[0]
        if type(status) is not int or not 400 <= status <= 599:
            # No answer of a provider, so its text may hold anything.
            logger.warning("litellm raised %s", type(error).__name__)
            status, message = 500, "The call failed in litellm."
        code = getattr(error, "code", None)
        if isinstance(error, litellm.ContextWindowExceededError):
            code = "context_length_exceeded"
        elif isinstance(error, litellm.ContentPolicyViolationError):
            code = "content_filter"
        elif isinstance(error, litellm.UnsupportedParamsError):
            code = "unsupported_parameter"
        elif not isinstance(code, str) or code.isdigit():
            code = None
        inner = {
            "message": scrub(_PREFIX.sub("", message, count=1), self._known_secrets()),
            "type": _text(getattr(error, "type", None)),
            "param": _text(getattr(error, "param", None)),
            "code": code,
            # Within a stream there is no other place for it.
            "status_code": status,
        }
        return status, {"error": inner}

    def _known_secrets(self) -> list[str]:
        """Ours, and those in the environment variables that litellm reads keys from."""
        named = (value for name, value in os.environ.items() if _SECRET.search(name))
        return [*self._secrets, *(value for value in named if len(value) >= 8)]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _retry_headers(error: Exception) -> RawHeaders:
    """``retry-after`` of the provider's answer, from wherever litellm keeps its headers."""
    responses = (error, error.__cause__, error.__context__)
    for response in (getattr(one, "response", None) for one in responses):
        value = getattr(response, "headers", {}).get("retry-after")
        if value:
            return [(b"retry-after", str(value).encode("latin-1", "replace"))]
    headers = getattr(error, "litellm_response_headers", None) or {}
    value = headers.get("retry-after")
    return [(b"retry-after", str(value).encode("latin-1", "replace"))] if value else []


class _Deadline:
    """The deadlines of one call."""

    def __init__(self, timeouts: Timeouts) -> None:
        self.timeouts = timeouts
        self._begun = asyncio.get_running_loop().time()

    async def wait(self, awaited: Awaitable[T], phase: Phase, seconds: float | None) -> T:
        """What ``awaited`` gives within ``seconds``, and within what is left of the whole.

        Raises:
            TransportTimeoutError: Not in time.
        """
        total = self.timeouts.total_seconds
        if total is not None:
            left = self._begun + total - asyncio.get_running_loop().time()
            if seconds is None or left < seconds:
                phase, seconds = "total", left
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                return await awaited
        except TimeoutError:
            if not scope.expired():
                raise
            length = total if phase == "total" else seconds
            raise TransportTimeoutError(phase, length or 0.0) from None


# Answers


def _without_nulls(fields: Document) -> Document:
    return {
        name: value
        for name, value in fields.items()
        if value is not None
        and not (name == "provider_specific_fields" and not any(map(_is_set, value.values())))
    }


def _is_set(value: Any) -> bool:
    return value is not None


def _whole(answer: Document) -> Document:
    """An answer without the fields that litellm leaves null, or makes up."""
    answer = _without_nulls(answer)
    if isinstance(answer.get("choices"), list):
        answer["choices"] = [_choice(choice, "message") for choice in answer["choices"]]
    usage = answer.get("usage")
    if isinstance(usage, dict):
        # Where the provider was silent it makes zeros of that.
        answer["usage"] = _without_nulls(usage) if usage.get("total_tokens") else None
    return answer


def _choice(choice: Document, name: str) -> Document:
    found = {**_without_nulls(choice), "finish_reason": choice.get("finish_reason")}
    said = choice.get(name)
    if isinstance(said, dict):
        found[name] = _without_nulls(said)
        if name == "message":
            found[name].setdefault("content", None)
    return found


def _chunk(chunk: Document, stream: Any) -> Document | None:
    """A chunk as the provider meant it; None where litellm made it up.

    Raises:
        ConnectionLostError: It says "stop" although the provider never did.
    """
    choices = [_choice(choice, "delta") for choice in chunk.get("choices") or ()]
    if any(choice["finish_reason"] for choice in choices) and not _has_ended(stream):
        raise ConnectionLostError("the provider's stream ended before it was finished")
    event = {**_without_nulls(chunk), "choices": choices}
    if event.get("usage") is None:
        return event
    # Usage is a chunk of its own, after the last one; without any from the provider it is counted
    # by litellm, which must not look like a report.
    reported = any(getattr(one, "usage", None) for one in getattr(stream, "chunks", (event,)))
    if not any(choice.get("delta") or choice["finish_reason"] for choice in choices):
        event["choices"] = []
        return event if reported else None
    if not reported:
        del event["usage"]
    return event


def _has_ended(stream: Any) -> bool:
    """Whether the provider gave a finish reason, as far as litellm can say."""
    said = [
        getattr(stream, name, "unknown")
        for name in ("received_finish_reason", "intermittent_finish_reason")
    ]
    return any(said)


def _closer(stream: Any) -> Callable[[], Awaitable[None]] | None:
    close: Callable[[], Awaitable[None]] | None = getattr(stream, "aclose", None)
    return close


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


_JSON: Final[RawHeaders] = [(b"content-type", b"application/json")]
_SSE: Final[RawHeaders] = [(b"content-type", b"text/event-stream; charset=utf-8")]


class _Answer:
    """What came of one call."""

    def __init__(
        self,
        status: int,
        headers: RawHeaders,
        body: AsyncIterator[bytes],
        *,
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.status = status
        self.headers = list(headers)
        self.framed = True
        self._body = body
        self._close = close

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._body

    async def read(self, max_bytes: int) -> bytes:
        """The whole body."""
        parts: list[bytes] = []
        size = 0
        async for part in self:
            size += len(part)
            if size > max_bytes:
                raise ResponseTooLargeError(f"the body is larger than {max_bytes} bytes")
            parts.append(part)
        return b"".join(parts)

    async def aclose(self) -> None:
        """Close litellm's stream, and with it the connection to the provider."""
        close, self._close = self._close, None
        if close is not None:
            await close()
