"""Amazon Bedrock's Converse, ConverseStream and embeddings by InvokeModel, as a test reads them."""

from __future__ import annotations

import functools
import importlib
import io
import json
import re
from typing import Any
from urllib.parse import unquote, urlsplit

from asgi_llm.providers.base import Provider
from tests.providers.replay_views.exchanges import (
    Choice,
    Counts,
    Exchange,
    Reading,
    expected_error,
    parsed,
    refuse,
    without_none,
)

# It has no types.
_loaders: Any = importlib.import_module("botocore.loaders")
_model: Any = importlib.import_module("botocore.model")
_parsers: Any = importlib.import_module("botocore.parsers")
_eventstream: Any = importlib.import_module("botocore.eventstream")

_STOPS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
_TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "csv": "text/csv",
    "html": "text/html",
    "md": "text/markdown",
}


class BedrockView:
    """See ``View``."""

    def adapter(self, exchange: Exchange, root: str, name: str) -> Provider:
        module = importlib.import_module("asgi_llm.providers.bedrock")
        adapter: Provider = module.Bedrock(
            region="us-east-1", api_key="recorded-key-0123456789", base_url=root, name=name
        )
        return adapter

    def model(self, exchange: Exchange) -> str:
        found = re.search(r"/model/([^/]+)/", exchange.url)
        return unquote(found[1]) if found else "recorded.model-v1:0"

    def path(self, exchange: Exchange) -> str:
        return unquote(urlsplit(exchange.url).path)

    # The request in OpenAI's words

    def document(self, exchange: Exchange) -> dict[str, Any]:
        sent = without_none(exchange.sent or {})
        if exchange.operation == "embeddings":
            return _embedding_document(sent)
        document: dict[str, Any] = {"messages": [], "stream": exchange.stream}
        if system := [one for one in _parts(sent.get("system", [])) if one["type"] == "text"]:
            document["messages"].append({"role": "system", "content": system})
        for message in sent["messages"]:
            document["messages"] += _messages(message)
        config = sent.get("inferenceConfig", {})
        names = {"maxTokens": "max_tokens", "temperature": "temperature", "topP": "top_p"}
        for name, value in config.items():
            document[{**names, "stopSequences": "stop"}[name]] = value
        document.update(sent.get("additionalModelRequestFields", {}))
        if "guardrailConfig" in sent:
            document["guardrailConfig"] = sent["guardrailConfig"]
        if format_ := sent.get("outputConfig", {}).get("textFormat"):
            told = dict(format_["structure"]["jsonSchema"])
            told["schema"] = json.loads(told["schema"])
            document["response_format"] = {"type": "json_schema", "json_schema": told}
        _tools(sent.get("toolConfig", {}), document)
        return document

    # What a request means

    def meaning(self, body: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
        said = without_none(body)
        if exchange.operation == "embeddings":
            return dict(said)
        turns: list[dict[str, Any]] = []
        for message in said["messages"]:
            blocks = [_plain_block(block) for block in message["content"]]
            blocks = [one for one in blocks if one.get("text", "x").strip()]
            if turns and turns[-1]["role"] == message["role"]:
                turns[-1]["content"] += blocks
            else:
                turns.append({"role": message["role"], "content": blocks})
        said["messages"] = turns
        if format_ := said.get("outputConfig", {}).get("textFormat"):
            told = format_["structure"]["jsonSchema"]
            told["schema"] = json.loads(told["schema"])
        tools = said.get("toolConfig", {})
        if tools.get("toolChoice") == {"auto": {}}:
            del tools["toolChoice"]
        return {name: value for name, value in said.items() if value not in ({}, [])}

    # The answer

    def read(self, exchange: Exchange) -> Reading:
        if exchange.status >= 400:
            return Reading(error=expected_error(exchange.status))
        if exchange.operation == "embeddings":
            return _read_embeddings(exchange)
        try:
            return _reading(_converse_stream(exchange) if exchange.stream else _converse(exchange))
        except _parsers.ResponseParserError as error:
            raise refuse("no answer of Bedrock's: botocore does not read it") from error


@functools.cache
def _service() -> Any:
    loader = _loaders.create_loader()
    return _model.ServiceModel(loader.load_service_model("bedrock-runtime", "service-2"))


def _converse(exchange: Exchange) -> dict[str, Any]:
    response = {"status_code": 200, "headers": exchange.headers, "body": exchange.body}
    shape = _service().operation_model("Converse").output_shape
    return dict(_parsers.create_parser("rest-json").parse(response, shape))


class _Raw:
    """The body as botocore takes it."""

    def __init__(self, body: bytes) -> None:
        self._file = io.BytesIO(body)

    def stream(self) -> Any:
        return iter(lambda: self._file.read(512), b"")

    def close(self) -> None:
        self._file.close()


def _converse_stream(exchange: Exchange) -> dict[str, Any]:
    """A stream as the answer that it would have been."""
    output = _service().operation_model("ConverseStream").output_shape
    parser = _parsers.EventStreamJSONParser()
    shape = output.members["stream"]
    events = _eventstream.EventStream(_Raw(exchange.body), shape, parser, "ConverseStream")
    blocks: dict[int, dict[str, Any]] = {}
    answer: dict[str, Any] = {"usage": None, "stopReason": None}
    for event in events:
        if start := event.get("contentBlockStart"):
            if "toolUse" in start["start"]:
                tool = {**start["start"]["toolUse"], "input": ""}
                blocks[start["contentBlockIndex"]] = {"toolUse": tool}
        elif delta := event.get("contentBlockDelta"):
            _add(blocks.setdefault(delta["contentBlockIndex"], {}), delta["delta"])
        elif stop := event.get("messageStop"):
            answer["stopReason"] = stop["stopReason"]
        elif metadata := event.get("metadata"):
            answer["usage"] = metadata["usage"]
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = parsed(block["toolUse"]["input"])
    content = [block for _, block in sorted(blocks.items())]
    answer["output"] = {"message": {"content": content}}
    return answer


def _add(block: dict[str, Any], delta: dict[str, Any]) -> None:
    if "text" in delta:
        block["text"] = block.get("text", "") + delta["text"]
    elif "toolUse" in delta:
        block["toolUse"]["input"] += delta["toolUse"]["input"]
    elif "reasoningContent" in delta:
        known = block.setdefault("reasoningContent", {"reasoningText": {"text": ""}})
        known["reasoningText"]["text"] += delta["reasoningContent"].get("text", "")


def _reading(answer: dict[str, Any]) -> Reading:
    content = answer["output"]["message"]["content"]
    calls = tuple(
        (block["toolUse"]["name"], block["toolUse"]["input"])
        for block in content
        if "toolUse" in block
    )
    finish = _STOPS.get(answer["stopReason"], "stop")
    choice = Choice(
        text="".join(_text(block) for block in content),
        reasoning="".join(
            block["reasoningContent"].get("reasoningText", {}).get("text", "")
            for block in content
            if "reasoningContent" in block
        ),
        calls=calls,
        finish="tool_calls" if calls and finish == "stop" else finish,
    )
    usage = answer.get("usage")
    if usage is None:
        return Reading(choices=(choice,))
    cached = usage.get("cacheReadInputTokens", 0)
    written = usage.get("cacheWriteInputTokens", 0)
    counts = Counts(
        input=usage["inputTokens"] + cached + written, cached=cached, output=usage["outputTokens"]
    )
    return Reading(choices=(choice,), counts=counts)


def _text(block: dict[str, Any]) -> str:
    """What a block says, with its sources or without."""
    cited = block.get("citationsContent", {}).get("content", ())
    return str(block.get("text", "")) + "".join(one.get("text", "") for one in cited)


def _parts(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Content as OpenAI's parts; a cache point marks the part before it."""
    found: list[dict[str, Any]] = []
    for block in blocks:
        if "cachePoint" in block:
            found[-1] = {**found[-1], "cache_control": {"type": "ephemeral"}}
        elif "text" in block:
            found.append({"type": "text", "text": block["text"]})
        elif "json" in block:
            found.append({"type": "text", "text": json.dumps(block["json"])})
        elif "image" in block:
            url = _data_url(block["image"])
            found.append({"type": "image_url", "image_url": {"url": url}})
        elif "document" in block:
            if "citations" in block["document"]:
                raise refuse("citations")
            file = {"file_data": _data_url(block["document"])}
            file["filename"] = f"{block['document']['name']}.{block['document']['format']}"
            found.append({"type": "file", "file": file})
        else:
            raise refuse(f"a block {' and '.join(block)}")
    return found


def _data_url(media: dict[str, Any]) -> str:
    return f"data:{_TYPES[media['format']]};base64,{media['source']['bytes']}"


def _messages(message: dict[str, Any]) -> list[dict[str, Any]]:
    if message["role"] == "assistant":
        return [_assistant(message["content"])]
    messages: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    for block in message["content"]:
        result = block.get("toolResult")
        if result is None:
            said.append(block)
            continue
        told = {"role": "tool", "tool_call_id": result["toolUseId"]}
        told["content"] = _parts(result["content"])
        if result.get("status") == "error":
            told["is_error"] = True
        messages.append(told)
    if said:
        messages.append({"role": "user", "content": _parts(said)})
    return messages


def _assistant(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None}
    for block in blocks:
        if thought := block.get("reasoningContent"):
            if "redactedContent" in thought:
                told = {"type": "redacted_thinking", "data": thought["redactedContent"]}
            else:
                text = thought["reasoningText"]
                told = {"type": "thinking", "thinking": text["text"]}
                if "signature" in text:
                    told["signature"] = text["signature"]
            message.setdefault("thinking_blocks", []).append(told)
        elif call := block.get("toolUse"):
            function = {"name": call["name"], "arguments": json.dumps(call["input"])}
            one = {"id": call["toolUseId"], "type": "function", "function": function}
            message.setdefault("tool_calls", []).append(one)
        else:
            message["content"] = [*(message["content"] or []), *_parts([block])]
    return message


def _tools(config: dict[str, Any], document: dict[str, Any]) -> None:
    for tool in config.get("tools", ()):
        if "cachePoint" in tool:
            document["tools"][-1]["cache_control"] = {"type": "ephemeral"}
            continue
        spec = tool["toolSpec"]
        function = {"name": spec["name"], "parameters": spec["inputSchema"]["json"]}
        for name in ("description", "strict"):
            if name in spec:
                function[name] = spec[name]
        document.setdefault("tools", []).append({"type": "function", "function": function})
    choice = config.get("toolChoice")
    if choice is not None:
        (kind,) = choice
        named = {"type": "function", "function": {"name": choice[kind].get("name")}}
        document["tool_choice"] = {"auto": "auto", "any": "required", "tool": named}[kind]


def _plain_block(block: dict[str, Any]) -> dict[str, Any]:
    if "toolResult" in block:
        result = dict(block["toolResult"])
        if result.get("status") == "success":
            del result["status"]
        result["content"] = [_plain_result(one) for one in result["content"]]
        return {"toolResult": result}
    if "document" in block:
        # A name that tells documents apart; the same name would be refused.
        document = dict(block["document"])
        document["name"] = re.sub(r"[^A-Za-z0-9]+", " ", document["name"]).strip()
        return {"document": document}
    return block


def _plain_result(block: dict[str, Any]) -> dict[str, Any]:
    """A result as the value that it is, be it written as JSON or as a text that holds it."""
    if "text" in block:
        value = parsed(block["text"])
        return {"value": value}
    return {"value": block["json"]} if "json" in block else block


def _embedding_document(sent: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = {"input": sent["texts"]}
    if "output_dimension" in sent:
        document["dimensions"] = sent["output_dimension"]
    for name in ("input_type", "truncate"):
        if name in sent:
            document[name] = sent[name]
    return document


def _read_embeddings(exchange: Exchange) -> Reading:
    body = json.loads(exchange.body)
    vectors = body["embeddings"]
    if isinstance(vectors, dict):
        vectors = vectors["float"]
    told = {name.lower(): value for name, value in exchange.headers.items()}
    tokens = told.get("x-amzn-bedrock-input-token-count")
    counts = None if tokens is None else Counts(input=int(tokens))
    return Reading(vectors=tuple(tuple(one) for one in vectors), counts=counts)
