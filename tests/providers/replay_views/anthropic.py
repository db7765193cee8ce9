"""Anthropic's Messages API, as a test reads it."""

from __future__ import annotations

import base64
import json
from typing import Any

import anthropic
import httpx2

from asgi_llm.providers.anthropic import Anthropic
from asgi_llm.providers.base import Provider
from tests.providers.replay_views.exchanges import (
    Choice,
    Counts,
    Exchange,
    Reading,
    expected_error,
    refuse,
    without_none,
)

_FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_OWN = (
    "container",
    "max_tokens",
    "mcp_servers",
    "metadata",
    "output_config",
    "temperature",
    "thinking",
    "top_k",
    "top_p",
)
_PLACES = {"thinking": 0, "redacted_thinking": 0, "text": 2, "tool_use": 3}
"""Where a block stands in an answer in OpenAI's words; those of Claude's own tools are at 1."""


class AnthropicView:
    """See ``View``."""

    def adapter(self, exchange: Exchange, root: str, name: str) -> Provider:
        return Anthropic(api_key="sk-ant-recorded-01234", base_url=root, name=name)

    def model(self, exchange: Exchange) -> str:
        return str((exchange.sent or {}).get("model", "claude-recorded"))

    def path(self, exchange: Exchange) -> str:
        return "/v1/messages"

    # The request in OpenAI's words

    def document(self, exchange: Exchange) -> dict[str, Any]:
        sent = without_none(exchange.sent)
        document: dict[str, Any] = {"messages": [], "stream": exchange.stream}
        for name in _OWN:
            if name in sent:
                document[name] = sent[name]
        if system := sent.get("system"):
            document["messages"].append({"role": "system", "content": system})
        for message in sent["messages"]:
            document["messages"] += _messages(message)
        if tools := sent.get("tools"):
            document["tools"] = [_tool(tool) for tool in tools]
        if choice := sent.get("tool_choice"):
            _choice(choice, document)
        if format_ := document.get("output_config", {}).get("format"):
            document["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": format_["schema"]},
            }
            config = {k: v for k, v in document.pop("output_config").items() if k != "format"}
            if config:
                document["output_config"] = config
        return document

    # What a request means

    def meaning(self, body: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
        said = without_none(body)
        said["stream"] = bool(said.get("stream"))
        said["system"] = _blocks(said.get("system", []))
        turns: list[dict[str, Any]] = []
        for message in said.pop("messages"):
            blocks = _blocks(message["content"])
            if turns and turns[-1]["role"] == message["role"]:
                turns[-1]["content"] += blocks
            else:
                turns.append({"role": message["role"], "content": blocks})
        said["messages"] = turns
        said["tools"] = [
            {k: v for k, v in tool.items() if v not in ("", False) and (k, v) != ("type", "custom")}
            for tool in said.get("tools", ())
        ]
        if said.get("tool_choice") == {"type": "auto"}:
            del said["tool_choice"]
        return dict(said)

    # The answer

    def read(self, exchange: Exchange) -> Reading:
        if exchange.status >= 400:
            return Reading(error=expected_error(exchange.status))
        message: Any = _message(exchange)
        calls = tuple(
            (block.name, block.input) for block in message.content if block.type == "tool_use"
        )
        finish = _FINISHES.get(message.stop_reason, "stop")
        choice = Choice(
            text="".join(block.text for block in message.content if block.type == "text"),
            reasoning="".join(b.thinking for b in message.content if b.type == "thinking"),
            calls=calls,
            finish="tool_calls" if calls and finish == "stop" else finish,
        )
        usage = message.usage
        cached = usage.cache_read_input_tokens or 0
        written = usage.cache_creation_input_tokens or 0
        counts = Counts(
            input=usage.input_tokens + cached + written, cached=cached, output=usage.output_tokens
        )
        return Reading(choices=(choice,), counts=counts)


def _message(exchange: Exchange) -> Any:
    """What the SDK's client makes of the recorded bytes; a stream as what it adds up to."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(exchange.status, headers=exchange.headers, content=exchange.body)

    with anthropic.Anthropic(
        api_key="none", http_client=httpx2.Client(transport=httpx2.MockTransport(answer))
    ) as client:
        asked: Any = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
        if not exchange.stream:
            return client.beta.messages.create(**asked)
        with client.beta.messages.stream(**asked) as stream:
            return stream.get_final_message()


def _blocks(content: Any) -> list[dict[str, Any]]:
    """Content in its long form, without blank texts and without what is the default anyway."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    found = []
    for block in content:
        if block["type"] == "text" and not block["text"].strip():
            continue
        if block["type"] == "tool_result":
            block = {k: v for k, v in block.items() if (k, v) != ("is_error", False)}
            block["content"] = _blocks(block.get("content", []))
        found.append(block)
    return found


def _messages(message: dict[str, Any]) -> list[dict[str, Any]]:
    role, content = message["role"], message["content"]
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    if role == "assistant":
        return [_assistant(content)]
    messages: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    for block in content:
        if block["type"] == "tool_result":
            messages.append(_result(block))
        else:
            parts.append(_part(block))
    if parts:
        messages.append({"role": role, "content": parts})
    return messages


def _assistant(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None}
    places = [_PLACES.get(block["type"], 1) for block in blocks]
    if places != sorted(places):
        raise refuse("blocks of Claude's own tools amid the text of an earlier answer")
    for block in blocks:
        kind = block["type"]
        if kind == "text":
            message["content"] = [*(message["content"] or []), block]
        elif kind in ("thinking", "redacted_thinking"):
            message.setdefault("thinking_blocks", []).append(block)
        elif kind == "tool_use":
            function = {"name": block["name"], "arguments": json.dumps(block["input"])}
            call = {"id": block["id"], "type": "function", "function": function}
            message.setdefault("tool_calls", []).append(call)
        else:
            message.setdefault("provider_blocks", []).append(block)
    return message


def _result(block: dict[str, Any]) -> dict[str, Any]:
    content = block.get("content", "")
    message = {"role": "tool", "tool_call_id": block["tool_use_id"], "content": content}
    if not isinstance(content, str):
        message["content"] = [_part(one) for one in content]
    if block.get("is_error"):
        message["is_error"] = True
    return message


def _part(block: dict[str, Any]) -> dict[str, Any]:
    kind = block["type"]
    if kind == "text":
        return block
    if block.get("citations"):
        raise refuse("citations")
    if kind not in ("image", "document"):
        raise refuse(f"a {kind} block")
    source = block["source"]
    if source["type"] == "url":
        field = "image_url" if kind == "image" else "document_url"
        return {"type": field, field: {"url": source["url"]}}
    if source["type"] == "text":
        data = base64.b64encode(source["data"].encode()).decode()
    else:
        data = source["data"]
    url = f"data:{source['media_type']};base64,{data}"
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": url}}
    file = {"file_data": url}
    if "title" in block:
        file["filename"] = block["title"]
    return {"type": "file", "file": file}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool.get("type") not in (None, "custom"):
        return tool
    function = {"name": tool["name"], "parameters": tool["input_schema"]}
    for name in ("description", "strict"):
        if name in tool:
            function[name] = tool[name]
    found = {"type": "function", "function": function}
    if "defer_loading" in tool:
        found["defer_loading"] = tool["defer_loading"]
    return found


def _choice(choice: dict[str, Any], document: dict[str, Any]) -> None:
    named = {"type": "function", "function": {"name": choice.get("name")}}
    words = {"auto": "auto", "any": "required", "none": "none", "tool": named}
    document["tool_choice"] = words[choice["type"]]
    if choice.get("disable_parallel_tool_use"):
        document["parallel_tool_calls"] = False
