"""Embeddings, item by item: of a batch only what is not known is asked for.

Source: OpenAI API reference, "Create embeddings".
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_llm import _json
from asgi_llm._asgi import BufferedBody, RawHeaders, send_error
from asgi_llm.errors import ProviderUnavailableError
from asgi_llm.middleware._cache_answer import AnswerHead, read_head
from asgi_llm.middleware._cache_replay import LARGE_BYTES
from asgi_llm.middleware._cache_request import (
    DENIED_FIELDS,
    CacheRequest,
    canonical,
    digest_request,
)
from asgi_llm.middleware._cache_scope import author
from asgi_llm.state import DEPLOYMENT, FAILURE, UNCACHEABLE, USAGE, State, enter
from asgi_llm.stores.cache import Found, StoredAnswer
from asgi_llm.types import Usage
from asgi_llm.wire.usage import usage_from_openai

__all__ = ["EmbeddingBatch", "read_items"]

_MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
_APART: Final = DENIED_FIELDS | {"input"}

_encode = msgspec.json.Encoder().encode


class _Vector(msgspec.Struct, gc=False):
    embedding: msgspec.Raw
    index: int = -1


class _Answer(msgspec.Struct, gc=False):
    data: list[_Vector]
    model: str = ""
    usage: Any = None
    error: Any = None


_read_answer = msgspec.json.Decoder(_Answer).decode


class _ToldVector(msgspec.Struct, gc=False):
    object: str
    index: int
    embedding: msgspec.Raw


def read_items(value: Any) -> list[Any] | None:
    """The items of ``input``: texts, or lists of tokens; None: it is neither.

    A text, or one list of tokens, is one item.
    """
    if type(value) is str:
        return [value]
    if type(value) is not list or not value:
        return None
    if type(value[0]) is int:
        return [value] if all(type(token) is int for token in value) else None
    kind = type(value[0])
    if kind not in (str, list) or any(type(item) is not kind for item in value):
        return None
    return value


class EmbeddingBatch:
    """One request for embeddings, as an app around the real one.

    Args:
        app: The real one.
        request: The request.
        items: From ``read_items``.

    Attributes:
        keys: Of the different items, in their order.
        entries: What came of the items that were asked for, to be kept.
    """

    def __init__(
        self, app: ASGIApp, request: CacheRequest, items: list[Any], *, fresh_seconds: float
    ) -> None:
        self._app = app
        self._request = request
        self._fresh_seconds = fresh_seconds
        base = digest_request(
            request, canonical(request.document, without=_APART), purpose="embedding"
        )
        sha256 = hashlib.sha256
        self._order = [sha256(base + _encode(item)).digest() for item in items]
        self._items = dict(zip(self._order, items, strict=True))
        self.keys: list[bytes] = list(self._items)
        self.entries: list[tuple[bytes, StoredAnswer]] = []
        self._found: dict[bytes, StoredAnswer] = {}
        self._age_seconds = 0.0

    @property
    def found(self) -> int:
        """How many different items are known."""
        return len(self._found)

    @property
    def age_seconds(self) -> float:
        """Age of the oldest item that is known."""
        return self._age_seconds

    def know(self, found: Sequence[Found | None]) -> None:
        """Take what a store had, in the order of ``keys``; what is not fresh is not known."""
        controls = self._request.controls
        for key, one in zip(self.keys, found, strict=True):
            if (
                one is not None
                and one.age_seconds <= one.answer.fresh_seconds
                and controls.allow(one.age_seconds)
            ):
                self._found[key] = one.answer
                self._age_seconds = max(self._age_seconds, one.age_seconds)

    def answer(self) -> StoredAnswer | None:
        """The whole answer, where all items are known; None: some are not."""
        if len(self._found) < len(self.keys):
            return None
        first = self._found[self.keys[0]]
        tokens = self._tokens(self.keys)
        return msgspec.structs.replace(
            first,
            body=self._body(first.response_model or "", tokens, None),
            usage=None if tokens is None else Usage(input_uncached=tokens),
            tells_usage=tokens is not None,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask the app for what is not known, and answer the request with all of it."""
        scope, state = enter(scope)
        missing = [key for key in self.keys if key not in self._found]
        whole = len(missing) == len(self._order)
        asked_scope = scope
        if not whole:
            # What the request's own body says is read, so that its end is; another is sent on.
            message = await receive()
            if message["type"] != "http.request":
                return
            document = {**self._request.document}
            document["input"] = [self._items[key] for key in missing]
            body = BufferedBody(b"", receive)
            asked_scope = body.replace(scope, _json.encode(document))
            receive = body.receive
        collected = _Collected(send, passes_on=whole)
        await self._app(asked_scope, receive, collected)
        if collected.head is None or not collected.is_whole:
            return
        data = collected.body()  # empty where it is too long, which fits nothing
        vectors = await self._vectors(data, missing)
        if vectors is None:
            if not whole:
                error = ProviderUnavailableError(
                    "The embeddings that came are not those that were asked for."
                )
                state.set(FAILURE, error)
                await send_error(send, state, error)
            return
        model, usage = self._note(vectors, missing, collected.head, state)
        if not whole:
            if state.get(USAGE) is None and usage is not None:
                state.set(USAGE, usage)
            await self._tell(send, collected, model, frozenset(missing))

    async def _vectors(self, data: bytes, missing: list[bytes]) -> _Answer | None:
        """What came, in the order of ``missing``; None: it does not fit."""
        read = asyncio.to_thread(_decoded, data) if len(data) > LARGE_BYTES else None
        answer = _decoded(data) if read is None else await read
        if answer is None or answer.error is not None or len(answer.data) != len(missing):
            return None
        if all(vector.index == -1 for vector in answer.data):
            return answer
        answer.data.sort(key=lambda vector: vector.index)
        if [vector.index for vector in answer.data] != list(range(len(missing))):
            return None
        return answer

    def _note(
        self, answer: _Answer, missing: list[bytes], head: AnswerHead, state: State
    ) -> tuple[str, Usage | None]:
        """Take in what came; its model and what it took."""
        usage = state.get(USAGE) or usage_from_openai(answer.usage)
        total = 0 if usage is None else usage.input_tokens
        shares = _shared_out(total, [len(self._items[key]) for key in missing])
        deployment = state.get(DEPLOYMENT)
        request = self._request
        fresh_seconds = request.controls.ttl_seconds or self._fresh_seconds
        for key, vector, tokens in zip(missing, answer.data, shares, strict=True):
            self._found[key] = StoredAnswer(
                body=bytes(vector.embedding),
                operation="embeddings",
                scope=request.partition,
                model=request.model,
                fresh_seconds=fresh_seconds,
                keep_seconds=fresh_seconds,
                headers=head.headers,
                namespace=request.controls.namespace,
                written_by=author(state),
                provider=None if deployment is None else deployment.provider,
                response_model=answer.model or None,
                usage=None if usage is None else Usage(input_uncached=tokens),
            )
        if (
            head.may_be_stored
            and state.get(FAILURE) is None
            and state.get(UNCACHEABLE) is None
            and request.controls.stores
        ):
            self.entries = [(key, self._found[key]) for key in missing]
        return answer.model, usage

    async def _tell(
        self, send: Send, collected: _Collected, model: str, missing: frozenset[bytes]
    ) -> None:
        known = self._tokens([key for key in self.keys if key not in missing])
        body = self._body(model, self._tokens(self.keys), known)
        headers: RawHeaders = [
            pair for pair in collected.headers if pair[0].lower() != b"content-length"
        ]
        headers.append((b"content-length", b"%d" % len(body)))
        await send({**collected.start, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _tokens(self, keys: Sequence[bytes]) -> int | None:
        """What these items took; None where nobody said."""
        usages = [self._found[key].usage for key in keys]
        if None in usages:
            return None
        return sum(usage.input_tokens for usage in usages if usage is not None)

    def _body(self, model: str, tokens: int | None, cached: int | None) -> bytes:
        data = [
            _ToldVector("embedding", place, msgspec.Raw(self._found[key].body))
            for place, key in enumerate(self._order)
        ]
        document: dict[str, Any] = {"object": "list", "data": data, "model": model}
        if tokens is not None:
            usage: dict[str, Any] = {"prompt_tokens": tokens, "total_tokens": tokens}
            if cached is not None:
                usage["prompt_tokens_details"] = {"cached_tokens": cached}
            document["usage"] = usage
        return _encode(document)


class _Collected:
    """The ``send`` of an app whose answer is taken in whole; what is no such answer passes."""

    def __init__(self, send: Send, *, passes_on: bool) -> None:
        self._send = send
        self._passes_on = passes_on
        self._parts: list[bytes] = []
        self._size = 0
        self.start: Message = {}
        self.headers: RawHeaders = []
        self.head: AnswerHead | None = None
        self.is_whole = False

    def body(self) -> bytes:
        """All that came."""
        return b"".join(self._parts)

    async def __call__(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self.headers = list(message.get("headers", ()))
            self.start = message = {**message, "headers": self.headers}
            head = read_head(message["status"], self.headers)
            if head is None or head.is_stream:
                self._passes_on = True
            else:
                self.head = head
        elif kind == "http.response.body" and self.head is not None:
            chunk = message.get("body", b"")
            self._size += len(chunk)
            self.is_whole = not message.get("more_body", False)
            if self._size <= _MAX_ANSWER_BYTES:
                self._parts.append(chunk)
            else:
                self._parts.clear()
        if self._passes_on:
            await self._send(message)


def _decoded(data: bytes) -> _Answer | None:
    try:
        return _read_answer(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _shared_out(total: int, weights: list[int]) -> list[int]:
    """``total`` by ``weights``, in whole numbers that sum to it."""
    whole = sum(weights) or len(weights)
    shares, given, so_far = [], 0, 0
    for weight in weights:
        so_far += weight if sum(weights) else 1
        share = total * so_far // whole - given
        given += share
        shares.append(share)
    return shares
