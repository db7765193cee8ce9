"""How the parts that messages are made of are read from an OpenAI document."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers._losses import Losses
from asgi_llm.providers._parts import (
    Audio,
    File,
    Image,
    Media,
    Part,
    ProviderBlock,
    RedactedThinking,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Video,
)

__all__ = [
    "assistant_parts",
    "content_parts",
    "provider_blocks",
    "report_unknown",
    "told_thoughts",
    "tool_result",
]

_DATA_URL = re.compile(r"data:([^;,]*)(?:;[^,]*)?;base64,", re.IGNORECASE)

_ALWAYS: Final = frozenset(("role", "content"))
_ASSISTANT_FIELDS: Final = _ALWAYS | {
    # An answer's sources, which clients send back with it: no provider wants them told.
    "annotations",
    "function_call",
    "name",
    "provider_blocks",
    "reasoning_content",
    "refusal",
    "thinking_blocks",
    "tool_calls",
}
_RESULT_FIELDS: Final = _ALWAYS | {"cache_control", "is_error", "name", "tool_call_id"}
_CALL_FIELDS: Final = frozenset(
    ("cache_control", "extra_content", "function", "id", "index", "type")
)
_MARKED: Final = frozenset(("cache_control", "type"))


def report_unknown(given: dict[str, Any], known: frozenset[str], path: str, losses: Losses) -> None:
    """Report fields that no adapter is told of, unless they hold nothing."""
    if given.keys() <= known:
        return
    for field, value in given.items():
        if field not in known and value is not None and value != [] and value != {}:
            losses.add(f"{path}.{field}")


def tool_result(
    message: dict[str, Any], path: str, waiting: dict[str, tuple[str, str]], losses: Losses
) -> ToolResult:
    """The result of one of the calls that wait for one; it waits no longer.

    Raises:
        InvalidRequestError: No call waits for it.
    """
    report_unknown(message, _RESULT_FIELDS, path, losses)
    if message["role"] == "function":
        call_id = next((i for i, (name, _) in waiting.items() if name == message["name"]), None)
        field = f"{path}.name"
    else:
        call_id, field = message["tool_call_id"], f"{path}.tool_call_id"
    if call_id is None or call_id not in waiting:
        raise InvalidRequestError(
            f"{field}: no call of the message before has this "
            + ("name" if field.endswith("name") else f"id, {call_id!r}"),
            param=field,
            code="unknown_tool_call",
        )
    name, _ = waiting.pop(call_id)
    return ToolResult(
        path=path,
        id=call_id,
        name=name,
        parts=content_parts(message.get("content"), f"{path}.content", losses),
        is_error=bool(message.get("is_error")),
        cache_control=message.get("cache_control"),
    )


def assistant_parts(message: dict[str, Any], path: str, losses: Losses) -> Iterator[Part]:
    """Thoughts first, then what was said, then the calls: the order that providers insist on."""
    report_unknown(message, _ASSISTANT_FIELDS, path, losses)
    blocks = message.get("thinking_blocks")
    if blocks:
        for index, block in enumerate(_blocks(blocks, f"{path}.thinking_blocks")):
            yield from _thinking(block, f"{path}.thinking_blocks[{index}]", losses)
    elif thoughts := told_thoughts(message, path):
        yield Thinking(path=f"{path}.reasoning_content", text=thoughts)
    yield from content_parts(message.get("content"), f"{path}.content", losses)
    if refusal := message.get("refusal"):
        yield Refusal(path=f"{path}.refusal", text=refusal)
    for index, call in enumerate(message.get("tool_calls") or ()):
        where = f"{path}.tool_calls[{index}]"
        if "function" not in call:
            raise InvalidRequestError(
                f"{where}.type: only calls of functions can be carried to this provider",
                param=f"{where}.type",
                code="unsupported_tool",
            )
        report_unknown(call, _CALL_FIELDS, where, losses)
        function = call["function"]
        yield ToolCall(
            path=where,
            id=call["id"],
            name=function["name"],
            arguments=_arguments(function["arguments"], f"{where}.function.arguments"),
            extra=_extra(call, where, losses),
            cache_control=call.get("cache_control"),
        )
    if legacy := message.get("function_call"):
        where = f"{path}.function_call"
        yield ToolCall(
            path=where,
            # The form has no ids; two calls of one function must not have the same.
            id="function_call_" + path.removeprefix("messages[").rstrip("]"),
            name=legacy["name"],
            arguments=_arguments(legacy["arguments"], f"{where}.arguments"),
            extra=_extra(legacy, where, losses),
        )


def told_thoughts(message: dict[str, Any], path: str) -> str | None:
    """Thoughts that are told as text alone, which nobody has checked; None: there are none.

    Raises:
        InvalidRequestError: They are no text.
    """
    thoughts = message.get("reasoning_content")
    if not thoughts:
        return None
    if isinstance(thoughts, str):
        return thoughts
    where = f"{path}.reasoning_content"
    raise InvalidRequestError(f"{where}: expected a string", param=where, code="invalid_type")


def _thinking(block: Any, path: str, losses: Losses) -> Iterator[Part]:
    if isinstance(block, dict):
        if block.get("type") == "redacted_thinking" and isinstance(block.get("data"), str):
            yield RedactedThinking(path=path, data=block["data"])
            return
        text, signature = block.get("thinking"), block.get("signature")
        if isinstance(text, str):
            if signature and block.get("provider") is not None:
                # Only the adapters that do not read this mark what they signed.
                losses.add(path, "thoughts of another provider")
            elif isinstance(signature, str | None):
                yield Thinking(path=path, text=text, signature=signature)
            else:
                losses.add(path, "its signature is nothing that an answer of this API had")
            return
    raise _no_block(path)


def _blocks(blocks: Any, path: str) -> list[Any]:
    if isinstance(blocks, list):
        return blocks
    raise _no_block(path)


def provider_blocks(blocks: Any, path: str) -> list[Part]:
    """Blocks of the provider's own that an earlier answer had, as they were.

    Raises:
        InvalidRequestError: They are not blocks.
    """
    own: list[Part] = []
    for index, block in enumerate(_blocks(blocks, path)):
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            raise _no_block(f"{path}[{index}]")
        own.append(ProviderBlock(path=f"{path}[{index}]", block=block))
    return own


def _no_block(path: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{path}: expected a block as an earlier answer had it", param=path, code="invalid_value"
    )


def _extra(call: dict[str, Any], path: str, losses: Losses) -> dict[str, Any] | None:
    extra = call.get("extra_content")
    if isinstance(extra, dict | None):
        return extra
    losses.add(f"{path}.extra_content", "it is nothing that an answer of this API had")
    return None


def _arguments(text: str, path: str) -> str:
    """A call's arguments, checked: another format has an object in their place."""
    if not text.strip():
        return "{}"
    try:
        value = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise InvalidRequestError(
            f"{path}: expected a JSON object in a string", param=path, code="invalid_value"
        ) from error
    return text if value else "{}"


def content_parts(content: Any, path: str, losses: Losses) -> list[Part]:
    """The parts of a message's content, without blank texts."""
    if isinstance(content, str):
        blank = not content or content.isspace()
        return [] if blank else [Text(path=path, text=content)]
    return [] if content is None else list(_each_part(content, path, losses))


def _each_part(content: list[dict[str, Any]], path: str, losses: Losses) -> Iterator[Part]:
    last: Media | Text | None = None
    for index, part in enumerate(content):
        where = f"{path}[{index}]"
        kind = part["type"]
        marker = part.get("cache_control")
        if len(part) > 2 and (known := _FIELDS.get(kind)) is not None:
            report_unknown(part, known, where, losses)
        if kind == "text":
            if part["text"] and not part["text"].isspace():
                last = Text(path=where, text=part["text"], cache_control=marker)
                yield last
            elif marker and last is not None and last.cache_control is None:
                # The text is dropped; its marker means all that stands before it.
                last.cache_control = marker
                last.marked_behind = part["text"]
            elif marker:
                losses.add(f"{where}.cache_control", "its text is blank")
        elif kind == "refusal":
            yield Refusal(path=where, text=part["refusal"])
        elif kind in ("thinking", "redacted_thinking"):
            yield from _thinking(part, where, losses)
        elif (read := _MEDIA.get(kind)) is not None:
            media = read(part, where)
            media.cache_control = marker
            last = media
            yield media
        else:
            raise InvalidRequestError(
                f"{where}.type: a part of the type {kind!r} cannot be carried to this provider",
                param=f"{where}.type",
                code="unsupported_content_part",
            )


def _address(value: Any) -> dict[str, Any]:
    """``{"url": ...}``, or the plain string that some formats have in its place."""
    return {"url": value} if isinstance(value, str) else value


def _split_url(url: str, path: str) -> dict[str, Any]:
    """A data URL taken apart, or any other as it is.

    Raises:
        InvalidRequestError: It is a data URL without base64, or no URL at all.
    """
    if url[:5].lower() == "data:":
        found = _DATA_URL.match(url)
        if found is None:
            raise InvalidRequestError(
                f"{path}: expected data:<media type>;base64,<data>",
                param=path,
                code="invalid_value",
            )
        media_type = found[1].lower()
        if media_type == "image/jpg":  # what many write, and no provider's name for it
            media_type = "image/jpeg"
        return {"media_type": media_type or None, "data": url[found.end() :]}
    if "://" not in url:
        raise InvalidRequestError(
            f"{path}: expected a https or a data URL", param=path, code="invalid_value"
        )
    return {"url": url}


def _image(part: dict[str, Any], path: str) -> Media:
    given = _address(part["image_url"])
    where = f"{path}.image_url.url"
    return Image(path=path, detail=given.get("detail"), **_split_url(given["url"], where))


def _audio(part: dict[str, Any], path: str) -> Media:
    given = part["input_audio"]
    if isinstance(given, str):
        if given[:5].lower() == "data:" or "://" in given:
            return Audio(path=path, **_split_url(given, f"{path}.input_audio"))
        given = {"data": given}
    data, format_ = given["data"], given.get("format")
    if data[:5].lower() == "data:":
        return Audio(path=path, format=format_, **_split_url(data, f"{path}.input_audio.data"))
    media_type = _AUDIO_TYPES.get(format_ or "", f"audio/{format_}" if format_ else None)
    return Audio(path=path, format=format_, media_type=media_type, data=data)


_AUDIO_TYPES: Final = {"mp3": "audio/mpeg", "wav": "audio/wav", "pcm16": "audio/pcm"}


def _file(part: dict[str, Any], path: str) -> Media:
    given = part.get("file") or {}
    name = given.get("filename")
    data = given.get("file_data")
    if data is None:
        file_id = given.get("file_id") or part.get("file_id")
        return File(path=path, name=name, file_id=file_id)
    where = f"{path}.file.file_data"
    if data[:5].lower() != "data:" and "://" not in data:
        return File(path=path, name=name, data=data)
    return File(path=path, name=name, **_split_url(data, where))


def _addressed(kind: type[Media], field: str) -> Any:
    def read(part: dict[str, Any], path: str) -> Media:
        url = _address(part[field])["url"]
        return kind(path=path, **_split_url(url, f"{path}.{field}.url"))

    return read


_MEDIA: Final[dict[str, Any]] = {
    "image_url": _image,
    "input_audio": _audio,
    "file": _file,
    "file_url": _addressed(File, "file_url"),
    "document_url": _addressed(File, "document_url"),
    "video_url": _addressed(Video, "video_url"),
    "audio_url": _addressed(Audio, "audio_url"),
}

_FIELDS: Final[dict[str, frozenset[str]]] = {
    "text": _MARKED | {"text", "annotations"},
    "refusal": _MARKED | {"refusal"},
    "file": _MARKED | {"file", "file_id"},
    **{kind: _MARKED | {kind} for kind in _MEDIA if kind != "file"},
}
"""What is read of a part, by its type."""
