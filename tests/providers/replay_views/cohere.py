"""Cohere's v2 chat, embed and rerank, as a test reads them."""

from __future__ import annotations

import json
from typing import Any

import cohere
from cohere.core.unchecked_base_model import construct_type

from asgi_llm.providers.base import Provider
from asgi_llm.providers.cohere import Cohere
from tests.providers.replay_views.exchanges import (
    Choice,
    Counts,
    Exchange,
    Reading,
    expected_error,
    parsed,
    refuse,
    sse_data,
    without_none,
)

_FINISHES = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
}
_SAME = ("temperature", "max_tokens", "seed", "frequency_penalty", "presence_penalty", "thinking")
_PATHS = {"chat": "/v2/chat", "embeddings": "/v2/embed", "rerank": "/v2/rerank"}


class CohereView:
    """See ``View``."""

    def adapter(self, exchange: Exchange, root: str, name: str) -> Provider:
        return Cohere(api_key="recorded-key-0123456789", base_url=root, name=name)

    def model(self, exchange: Exchange) -> str:
        return str((exchange.sent or {}).get("model", "command-recorded"))

    def path(self, exchange: Exchange) -> str:
        return _PATHS[exchange.operation]

    # The request in OpenAI's words

    def document(self, exchange: Exchange) -> dict[str, Any]:
        sent = without_none(exchange.sent)
        if exchange.operation == "embeddings":
            return _embedding_document(sent)
        if exchange.operation == "rerank":
            return {name: sent[name] for name in ("query", "documents", "top_n")}
        document: dict[str, Any] = {"messages": sent["messages"], "stream": exchange.stream}
        for name in _SAME:
            if name in sent:
                document[name] = sent[name]
        if "tools" in sent:
            document["tools"] = sent["tools"]
        if choice := sent.get("tool_choice"):
            document["tool_choice"] = {"REQUIRED": "required", "NONE": "none"}[choice]
        if format_ := sent.get("response_format"):
            told = {"name": "answer", "schema": format_["json_schema"]}
            document["response_format"] = {"type": "json_schema", "json_schema": told}
        return document

    # What a request means

    def meaning(self, body: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
        said = without_none(body)
        if exchange.operation == "chat":
            said["stream"] = bool(said.get("stream"))
            said["messages"] = [_plain_message(message) for message in said["messages"]]
        elif exchange.operation == "embeddings":
            said.setdefault("embedding_types", ["float"])
            said.setdefault("truncate", "END")
        return dict(said)

    # The answer

    def read(self, exchange: Exchange) -> Reading:
        if exchange.status >= 400:
            return Reading(error=expected_error(exchange.status))
        if exchange.stream:
            return _streamed(exchange)
        body = json.loads(exchange.body)
        if exchange.operation == "embeddings":
            return _read_embeddings(body)
        if exchange.operation == "rerank":
            ranked: Any = _made(cohere.V2RerankResponse, body)
            rows = tuple((row.index, row.relevance_score) for row in ranked.results)
            return Reading(ranking=rows)
        answer: Any = _made(cohere.V2ChatResponse, body)
        message = answer.message
        calls = tuple(
            (call.function.name, parsed(call.function.arguments))
            for call in message.tool_calls or ()
        )
        choice = Choice(
            text="".join(one.text for one in message.content or () if one.type == "text"),
            reasoning=(message.tool_plan or "")
            + "".join(one.thinking for one in message.content or () if one.type == "thinking"),
            calls=calls,
            finish=_finish(answer.finish_reason, bool(calls)),
        )
        return Reading(choices=(choice,), counts=_counts(answer.usage))


def _made(type_: Any, value: Any) -> Any:
    return construct_type(type_=type_, object_=value)


def _finish(reason: str, has_calls: bool) -> str:
    finish = _FINISHES.get(reason, "stop")
    return "tool_calls" if has_calls and finish == "stop" else finish


def _counts(usage: Any) -> Counts | None:
    """What is charged for, where that is said: the rest is Cohere's own prompt around the chat."""
    if usage is None:
        return None
    units = usage.billed_units or usage.tokens
    if units is None:
        return None
    return Counts(input=int(units.input_tokens or 0), output=int(units.output_tokens or 0))


def _streamed(exchange: Exchange) -> Reading:
    text = reasoning = ""
    calls: list[list[str]] = []
    finish: str | None = None
    counts: Counts | None = None
    for data in sse_data(exchange.body):
        if data == "[DONE]":
            break
        event = _made(cohere.V2ChatStreamResponse, json.loads(data))
        kind = event.type
        if kind in ("content-start", "content-delta"):
            content = event.delta.message.content
            text += getattr(content, "text", None) or ""
            reasoning += getattr(content, "thinking", None) or ""
        elif kind == "tool-plan-delta":
            reasoning += event.delta.message.tool_plan or ""
        elif kind == "tool-call-start":
            function = event.delta.message.tool_calls.function
            calls.append([function.name, function.arguments or ""])
        elif kind == "tool-call-delta":
            calls[-1][1] += event.delta.message.tool_calls.function.arguments or ""
        elif kind == "message-end":
            finish = event.delta.finish_reason
            counts = _counts(event.delta.usage)
    choice = Choice(
        text=text,
        reasoning=reasoning,
        calls=tuple((name, parsed(arguments)) for name, arguments in calls),
        finish=_finish(finish, bool(calls)) if finish else None,
    )
    return Reading(choices=(choice,), counts=counts)


def _plain_message(message: dict[str, Any]) -> dict[str, Any]:
    plain = dict(message)
    content = plain.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if content is not None:
        content = [one for one in content if one.get("type") != "text" or one["text"].strip()]
        plain["content"] = content
    if not content:
        plain.pop("content", None)
    if calls := plain.get("tool_calls"):
        plain["tool_calls"] = [
            {
                **call,
                "function": {
                    **call["function"],
                    "arguments": parsed(call["function"]["arguments"]),
                },
            }
            for call in calls
        ]
    return plain


def _embedding_document(sent: dict[str, Any]) -> dict[str, Any]:
    if "images" in sent or "inputs" in sent:
        raise refuse("pictures to embed")
    document: dict[str, Any] = {"input": sent["texts"], "encoding_format": "float"}
    # Cohere cuts a text that is too long unless it is told not to; OpenAI never does.
    document["truncate"] = sent.get("truncate", "END")
    if "output_dimension" in sent:
        document["dimensions"] = sent["output_dimension"]
    if "input_type" in sent:
        document["input_type"] = sent["input_type"]
    return document


def _read_embeddings(body: dict[str, Any]) -> Reading:
    if isinstance(body["embeddings"], list):
        vectors = body["embeddings"]
    else:
        vectors = _made(cohere.EmbedByTypeResponse, body).embeddings.float_
    units = body.get("meta", {}).get("billed_units", {}).get("input_tokens")
    counts = None if units is None else Counts(input=int(units))
    return Reading(vectors=tuple(tuple(one) for one in vectors), counts=counts)
