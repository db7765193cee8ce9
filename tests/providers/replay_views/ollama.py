"""Ollama's native chat and embeddings, as a test reads them."""

from __future__ import annotations

import json
from typing import Any

import ollama

from asgi_llm.providers.base import Provider
from asgi_llm.providers.ollama import Ollama
from tests.providers.replay_views.exchanges import (
    Choice,
    Counts,
    Exchange,
    Reading,
    expected_error,
    refuse,
    without_none,
)

_FINISHES = {"length": "length"}


class OllamaView:
    """See ``View``."""

    def adapter(self, exchange: Exchange, root: str, name: str) -> Provider:
        return Ollama(base_url=root, name=name)

    def model(self, exchange: Exchange) -> str:
        return str((exchange.sent or {}).get("model", "recorded"))

    def path(self, exchange: Exchange) -> str:
        return "/api/chat" if exchange.operation == "chat" else "/api/embed"

    def document(self, exchange: Exchange) -> dict[str, Any]:
        sent = without_none(exchange.sent)
        document: dict[str, Any] = {"messages": [], "stream": exchange.stream}
        if options := sent.get("options"):
            document["options"] = options
        if sent.get("tools"):
            document["tools"] = sent["tools"]
        waiting: list[str] = []
        for place, message in enumerate(sent["messages"]):
            told = {"role": message["role"], "content": message["content"]}
            for index, call in enumerate(message.get("tool_calls", ())):
                function = dict(call["function"])
                function["arguments"] = json.dumps(function["arguments"])
                waiting.append(f"call_{place}_{index}")
                one = {"id": waiting[-1], "type": "function", "function": function}
                told.setdefault("tool_calls", []).append(one)
            if message["role"] == "tool":
                told["tool_call_id"] = waiting.pop(0)
            document["messages"].append(told)
        return document

    def meaning(self, body: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
        said = {k: v for k, v in without_none(body).items() if v not in ("", {}, [])}
        said["messages"] = [_plain_message(message) for message in said["messages"]]
        return said

    def read(self, exchange: Exchange) -> Reading:
        if exchange.status >= 400:
            return Reading(error=expected_error(exchange.status))
        if exchange.operation == "embeddings":
            raise refuse("/api/embeddings, which Ollama has replaced by /api/embed")
        text = reasoning = ""
        calls: list[tuple[str, Any]] = []
        finish: str | None = None
        counts: Counts | None = None
        for line in exchange.body.split(b"\n") if exchange.stream else [exchange.body]:
            if not line.strip():
                continue
            answer = ollama.ChatResponse.model_validate_json(line)
            text += answer.message.content or ""
            reasoning += answer.message.thinking or ""
            for call in answer.message.tool_calls or ():
                calls.append((call.function.name, dict(call.function.arguments)))
            if answer.done:
                finish = _FINISHES.get(answer.done_reason or "stop", "stop")
                if answer.prompt_eval_count is not None and answer.eval_count is not None:
                    counts = Counts(input=answer.prompt_eval_count, output=answer.eval_count)
        choice = Choice(
            text=text,
            reasoning=reasoning,
            calls=tuple(calls),
            finish="tool_calls" if calls and finish == "stop" else finish,
        )
        return Reading(choices=(choice,), counts=counts)


def _plain_message(message: dict[str, Any]) -> dict[str, Any]:
    """A message without what newer servers can be told beside: ids, and the name of a result."""
    plain = {k: v for k, v in message.items() if v and k not in ("tool_name", "tool_call_id")}
    if calls := plain.get("tool_calls"):
        plain["tool_calls"] = [
            {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}
            for call in calls
        ]
    return plain
