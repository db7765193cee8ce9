"""Mistral's chat and embeddings, as a test reads them."""

from __future__ import annotations

import json
from typing import Any

from mistralai.client import models

from asgi_llm.providers.base import Provider
from asgi_llm.providers.mistral import Mistral
from tests.providers.replay_views.exchanges import (
    Choice,
    Counts,
    Exchange,
    Reading,
    expected_error,
    parsed,
    sse_data,
    without_none,
)

_FINISHES = {"model_length": "length", "error": "stop"}


class MistralView:
    """See ``View``."""

    def adapter(self, exchange: Exchange, root: str, name: str) -> Provider:
        return Mistral(api_key="recorded-key-0123456789", base_url=root + "/v1", name=name)

    def model(self, exchange: Exchange) -> str:
        return str((exchange.sent or {}).get("model", "mistral-recorded"))

    def path(self, exchange: Exchange) -> str:
        return "/v1/embeddings" if exchange.operation == "embeddings" else "/v1/chat/completions"

    def document(self, exchange: Exchange) -> dict[str, Any]:
        document = without_none(exchange.sent)
        if exchange.operation == "embeddings":
            return {**document, "encoding_format": "float"}
        document["stream"] = exchange.stream
        document["messages"] = [_message(message) for message in document["messages"]]
        for tool in document.get("tools", ()):
            tool["type"] = "function"
        if document.get("tool_choice") == "any":
            document["tool_choice"] = "required"
        return dict(document)

    def meaning(self, body: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
        said = without_none(body)
        if exchange.operation == "embeddings":
            said.pop("encoding_format", None)
            return dict(said)
        said["stream"] = bool(said.get("stream"))
        said["messages"] = [_plain_message(message) for message in said["messages"]]
        for tool in said.get("tools", ()):
            tool.setdefault("type", "function")
            if not tool["function"].get("description", "x"):
                del tool["function"]["description"]
        return dict(said)

    def read(self, exchange: Exchange) -> Reading:
        if exchange.status >= 400:
            return Reading(error=expected_error(exchange.status))
        if exchange.operation == "embeddings":
            answer = models.EmbeddingResponse.model_validate_json(exchange.body)
            vectors = tuple(tuple(row.embedding or ()) for row in answer.data)
            return Reading(vectors=vectors, counts=Counts(input=answer.usage.prompt_tokens or 0))
        if exchange.stream:
            return _streamed(exchange)
        whole = models.ChatCompletionResponse.model_validate_json(exchange.body)
        choices = []
        for choice in whole.choices:
            text, reasoning = _text(choice.message and choice.message.content)
            calls = [
                (call.function.name, _arguments(call.function.arguments))
                for call in (choice.message and choice.message.tool_calls) or ()
            ]
            choices.append(
                Choice(
                    text=text,
                    reasoning=reasoning,
                    calls=tuple(calls),
                    finish=_finish(choice.finish_reason, bool(calls)),
                )
            )
        return Reading(choices=tuple(choices), counts=_counts(whole.usage))


def _finish(reason: Any, has_calls: bool) -> str | None:
    finish = _FINISHES.get(reason, reason)
    return "tool_calls" if has_calls and finish == "stop" else finish


def _counts(usage: Any) -> Counts:
    details = getattr(usage, "prompt_tokens_details", None)
    details = details or (usage.model_extra or {}).get("prompt_tokens_details") or {}
    cached = details.get("cached_tokens") if isinstance(details, dict) else details.cached_tokens
    given, made = usage.prompt_tokens or 0, usage.completion_tokens or 0
    return Counts(input=given, cached=cached or 0, output=made)


def _arguments(arguments: Any) -> Any:
    return parsed(arguments) if isinstance(arguments, str) else arguments


def _text(content: Any) -> tuple[str, str]:
    """The text and the thoughts of content."""
    if isinstance(content, str) or content is None:
        return content or "", ""
    text = "".join(one.text for one in content if one.type == "text")
    thoughts = "".join(
        inner.text for one in content if one.type == "thinking" for inner in one.thinking
    )
    return text, thoughts


def _streamed(exchange: Exchange) -> Reading:
    text = reasoning = ""
    calls: dict[int, list[str]] = {}
    finish: str | None = None
    counts: Counts | None = None
    for data in sse_data(exchange.body):
        if data == "[DONE]":
            break
        chunk = models.CompletionChunk.model_validate_json(data)
        if chunk.usage is not None:
            counts = _counts(chunk.usage)
        for choice in chunk.choices:
            more, thoughts = _text(choice.delta.content)
            text, reasoning = text + more, reasoning + thoughts
            for call in choice.delta.tool_calls or ():
                known = calls.setdefault(call.index or 0, ["", ""])
                known[0] += call.function.name
                arguments = call.function.arguments
                known[1] += arguments if isinstance(arguments, str) else json.dumps(arguments)
            finish = choice.finish_reason or finish
    choice_ = Choice(
        text=text,
        reasoning=reasoning,
        calls=tuple((call[0], parsed(call[1])) for _, call in sorted(calls.items())),
        finish=_finish(finish, bool(calls)),
    )
    return Reading(choices=(choice_,), counts=counts)


def _message(message: dict[str, Any]) -> dict[str, Any]:
    told = {k: v for k, v in message.items() if k != "prefix" or v}
    if not told.get("tool_calls", True):
        del told["tool_calls"]
    content = told.get("content")
    if isinstance(content, list):
        thoughts = [one for one in content if one["type"] == "thinking"]
        texts = [one for one in content if one["type"] != "thinking"]
        if thoughts:
            told["reasoning_content"] = "".join(
                t["text"] for one in thoughts for t in one["thinking"]
            )
        told["content"] = texts or None
    return told


def _plain_message(message: dict[str, Any]) -> dict[str, Any]:
    """A message without what is the default, its content in the long form."""
    plain = {k: v for k, v in message.items() if v not in (None, [], False, "")}
    content = plain.get("content")
    if isinstance(content, str):
        plain["content"] = [{"type": "text", "text": content}]
    if message["role"] == "tool":
        # Which tool it was is known by the id of the call.
        plain.pop("name", None)
    if calls := plain.get("tool_calls"):
        plain["tool_calls"] = [{k: v for k, v in call.items() if k != "index"} for call in calls]
    return plain
