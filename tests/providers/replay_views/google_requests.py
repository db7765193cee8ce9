"""Requests in the words of Google's generateContent: in OpenAI's, and what they mean."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.providers.replay_views.exchanges import refuse

_SNAKE = re.compile(r"_([a-z])")
_FREE = ("args", "response", "properties", "$defs")
_OWN_PARTS = ("codeExecutionResult", "executableCode", "toolCall", "toolResponse")
_SCHEMAS = ("parameters", "parametersJsonSchema", "responseSchema", "responseJsonSchema")


def spelled(value: Any) -> Any:
    """``value`` with the names of fields in camel case, as Google writes them, and without nulls.

    Google takes both spellings. Arguments, results and schemas hold names of the client's own.
    """
    if isinstance(value, list):
        return [spelled(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for name, one in value.items():
        if one is None:
            continue
        camel = _SNAKE.sub(lambda match: match[1].upper(), name)
        found[camel] = one if camel in _FREE or camel in _SCHEMAS else spelled(one)
    return found


def lowered(schema: Any) -> Any:
    """A schema with its types as JSON Schema writes them: Google's own writes ``STRING``."""
    if isinstance(schema, list):
        return [lowered(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {}
    for name, value in schema.items():
        if name == "type" and isinstance(value, str):
            found[name] = value.lower()
        elif name == "required" and value == []:
            continue
        else:
            found[name] = lowered(value)
    return found


def plain_declaration(declaration: dict[str, Any]) -> dict[str, Any]:
    """A function, under whichever of the two names its schema stands."""
    schema = declaration.get("parametersJsonSchema") or declaration.get("parameters")
    plain: dict[str, Any] = {"name": declaration["name"]}
    if declaration.get("description"):
        plain["description"] = declaration["description"]
    schema = lowered(schema or {})
    if schema.get("properties"):
        plain["parameters"] = schema
    return plain


def plain_part(part: dict[str, Any]) -> dict[str, Any]:
    """A part without the ids of calls, which the format can do without: order tells them apart."""
    found = dict(part)
    for name in ("functionCall", "functionResponse"):
        if name in found:
            found[name] = {k: v for k, v in found[name].items() if k != "id"}
    if "functionResponse" in found:
        answer = found["functionResponse"]
        answer["response"] = _plain_result(answer["name"], answer["response"])
    return found


def _plain_result(name: str, response: Any) -> Any:
    """What a tool said. Google leaves it to the caller under which key a text stands."""
    if isinstance(response, dict):
        if response.keys() == {"name", "content"} and response["name"] == name:
            response = "".join(one["text"] for one in response["content"])
        elif len(response) == 1 and response.keys() <= {"result", "return_value", "output"}:
            (response,) = response.values()
    if isinstance(response, str):
        try:
            return json.loads(response)
        except ValueError:
            return response
    return response


class CallIds:
    """Ids for calls that have none, and those of the calls that wait for their result."""

    def __init__(self) -> None:
        self.waiting: list[tuple[str, str]] = []
        self._count = 0

    def call(self, name: str, given: str | None) -> str:
        self._count += 1
        id_ = given or f"call_{self._count}"
        self.waiting.append((id_, name))
        return id_

    def result(self, name: str, given: str | None) -> str:
        for place, (id_, of) in enumerate(self.waiting):
            if given == id_ or (given is None and of == name):
                del self.waiting[place]
                return id_
        raise refuse("a result of a call that is not there")


def merged_turns(contents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The turns; those of one side in a row are one, which to Google makes no difference."""
    turns: list[dict[str, Any]] = []
    for content in contents:
        role = content.get("role", "user")
        if turns and turns[-1]["role"] == role:
            turns[-1]["parts"] += content["parts"]
        else:
            turns.append({"role": role, "parts": list(content["parts"])})
    return turns


def messages_of(content: dict[str, Any], ids: CallIds) -> list[dict[str, Any]]:
    """A turn as OpenAI's messages."""
    role = content["role"]
    if role not in ("user", "model"):
        raise refuse(f"the role {role}")
    if role == "model":
        return [_assistant(content["parts"], ids)]
    messages: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    for part in content["parts"]:
        if "functionResponse" in part:
            messages.append(_result(part["functionResponse"], ids))
        else:
            parts.append(_part(part))
    if parts:
        messages.append({"role": "user", "content": parts})
    return messages


def _assistant(parts: list[dict[str, Any]], ids: CallIds) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None}
    places = [_place_of(part) for part in parts]
    if places != sorted(places):
        raise refuse("code or calls of Google's own behind what an earlier answer said")
    for part in parts:
        call = part.get("functionCall")
        signature = part.get("thoughtSignature")
        if call is not None:
            function = {"name": call["name"], "arguments": json.dumps(call.get("args") or {})}
            told = {"id": ids.call(call["name"], call.get("id")), "type": "function"}
            told["function"] = function  # type: ignore[assignment]
            if signature:
                google = {"google": {"thought_signature": signature}}
                told["extra_content"] = google  # type: ignore[assignment]
            message.setdefault("tool_calls", []).append(told)
        elif part.get("thought"):
            raise refuse("a signature on the thoughts themselves of an earlier answer")
        elif "text" in part:
            if signature and message["content"]:
                raise refuse("a signature on a later text of an earlier answer")
            if signature:
                block = {"type": "thinking", "thinking": "", "signature": f"google:{signature}"}
                message["thinking_blocks"] = [block]
            text = {"type": "text", "text": part["text"]}
            message["content"] = [*(message["content"] or []), text]
        else:
            message.setdefault("provider_blocks", []).append({"type": _kind_of(part), **part})
    return message


def _place_of(part: dict[str, Any]) -> int:
    """Where a part stands in an answer in OpenAI's words."""
    if "functionCall" in part:
        return 3
    return 0 if part.get("thought") else 1 if _kind_of(part) in _OWN_PARTS else 2


def _kind_of(part: dict[str, Any]) -> str:
    return " and ".join(sorted(part.keys() - {"thoughtSignature"}))


def _result(answer: dict[str, Any], ids: CallIds) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "tool"}
    message["tool_call_id"] = ids.result(answer["name"], answer.get("id"))
    response = answer["response"]
    if response.keys() == {"error"} and isinstance(response["error"], str):
        message["is_error"] = True
        content: Any = response["error"]
    else:
        plain = _plain_result(answer["name"], response)
        texts = response.get("content") if "content" in response else None
        if plain is not response and texts is not None:
            content = "".join(one["text"] for one in texts)
        else:
            content = plain if isinstance(plain, str) else json.dumps(response)
    if media := answer.get("parts"):
        content = [{"type": "text", "text": content}, *(_part(one) for one in media)]
    message["content"] = content
    return message


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if "text" in part:
        return {"type": "text", "text": part["text"]}
    if inline := part.get("inlineData"):
        kind, url = inline["mimeType"], f"data:{inline['mimeType']};base64,{inline['data']}"
    elif file := part.get("fileData"):
        kind, url = file["mimeType"], file["fileUri"]
    else:
        raise refuse(f"a part {_kind_of(part)}")
    if kind.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url}}
    if kind.startswith("video/"):
        return {"type": "video_url", "video_url": {"url": url}}
    if kind.startswith("audio/"):
        return {"type": "audio_url", "audio_url": {"url": url}}
    if url.startswith("data:"):
        return {"type": "file", "file": {"file_data": url}}
    return {"type": "document_url", "document_url": {"url": url}}


def format_of(config: dict[str, Any]) -> dict[str, Any] | None:
    """What the answer has to look like, as OpenAI says it."""
    schema = config.get("responseJsonSchema") or config.get("responseSchema")
    if config.get("responseMimeType") not in (None, "application/json"):
        raise refuse("an answer that is neither text nor JSON")
    if schema is not None:
        if "responseSchema" in config:
            schema = lowered(schema)
        return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return {"type": "json_object"} if "responseMimeType" in config else None


def put_tools(said: dict[str, Any], document: dict[str, Any]) -> None:
    """Put the tools and the choice among them into a document."""
    for tool in said.get("tools", ()):
        for kind in tool:
            if kind != "functionDeclarations":
                document.setdefault("tools", []).append({"type": kind, kind: tool[kind]})
        for declaration in tool.get("functionDeclarations", ()):
            function = {"name": declaration["name"]}
            if "description" in declaration:
                function["description"] = declaration["description"]
            if "parametersJsonSchema" in declaration:
                function["parameters"] = declaration["parametersJsonSchema"]
            elif "parameters" in declaration:
                function["parameters"] = lowered(declaration["parameters"])
            document.setdefault("tools", []).append({"type": "function", "function": function})
    config = dict(said.get("toolConfig", {}))
    calling = config.get("functionCallingConfig")
    names = (calling or {}).get("allowedFunctionNames")
    if calling is not None and (names or calling["mode"] != "VALIDATED"):
        del config["functionCallingConfig"]
    else:
        calling = None
    if config:
        document["tool_config"] = config
    if calling is None:
        return
    if names:
        mode = "required" if calling["mode"] == "ANY" else "auto"
        tools = [{"type": "function", "function": {"name": name}} for name in names]
        document["tool_choice"] = (
            tools[0]
            if len(names) == 1 and mode == "required"
            else {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}
        )
    else:
        words = {"AUTO": "auto", "ANY": "required", "NONE": "none"}
        document["tool_choice"] = words[calling["mode"]]


def embedding_document(said: dict[str, Any]) -> dict[str, Any]:
    """A request for vectors in OpenAI's words."""
    document: dict[str, Any] = {}
    if "instances" in said:
        document["input"] = [one["content"] for one in said["instances"]]
        size = said.get("parameters", {}).get("outputDimensionality")
        # Vertex cuts a text that is too long unless it is told not to; OpenAI never does.
        document["auto_truncate"] = said.get("parameters", {}).get("autoTruncate", True)
    else:
        document["input"] = [one["content"]["parts"][0]["text"] for one in said["requests"]]
        size = said["requests"][0].get("outputDimensionality")
        if kind := said["requests"][0].get("taskType"):
            document["task_type"] = kind
    if size is not None:
        document["dimensions"] = size
    return document
