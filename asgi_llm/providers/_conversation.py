"""A chat request taken apart: what every adapter to another format builds its own request from.

The turns alternate between the two sides, tool results belong to the user's side and stand right
after the calls that they answer, and whatever the format of the document allows to be written in
two ways is here written in one. Each value carries its path in the document, for errors and losses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

import msgspec

from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers._losses import Losses
from asgi_llm.types import Document

__all__ = [
    "Audio",
    "ChatRequest",
    "File",
    "Function",
    "Image",
    "JSONFormat",
    "Media",
    "Part",
    "ProviderBlock",
    "RedactedThinking",
    "Refusal",
    "Text",
    "Thinking",
    "ToolCall",
    "ToolChoice",
    "ToolResult",
    "Turn",
    "Video",
]

Role = Literal["user", "assistant"]


class _Value(msgspec.Struct, kw_only=True, gc=False):
    path: str
    """Where it stands in the document."""
    cache_control: dict[str, Any] | None = None
    """Anthropic's prompt-cache marker, where the client set one on this part."""


class Text(_Value, kw_only=True, gc=False):
    """Text, never blank."""

    text: str


class Media(_Value, kw_only=True, gc=False):
    """Content that is no text: bytes in base64, or an address; exactly one of both is given."""

    media_type: str | None = None
    """As in ``image/png``; None where the document does not say."""
    data: str | None = None
    """Base64, as the client wrote it."""
    url: str | None = None
    """http, https, or a scheme of the provider's own such as ``gs``."""


class Image(Media, kw_only=True, gc=False):
    """A picture."""

    detail: str | None = None


class File(Media, kw_only=True, gc=False):
    """A document such as a PDF; or only the id of one that was uploaded to a provider."""

    name: str | None = None
    file_id: str | None = None


class Audio(Media, kw_only=True, gc=False):
    """Sound."""

    format: str | None = None
    """As in ``wav`` or ``mp3``."""


class Video(Media, kw_only=True, gc=False):
    """A film."""


class Thinking(_Value, kw_only=True, gc=False):
    """Earlier thoughts. The signature has to go back to the provider byte for byte."""

    text: str
    signature: str | None = None


class RedactedThinking(_Value, kw_only=True, gc=False):
    """Earlier thoughts that only the provider can read."""

    data: str


class Refusal(_Value, kw_only=True, gc=False):
    """An earlier refusal."""

    text: str


class ToolCall(_Value, kw_only=True, gc=False):
    """A call in an earlier answer."""

    id: str
    name: str
    arguments: str
    """A JSON object, as the model wrote it; ``{}`` where it wrote nothing."""
    extra: dict[str, Any] | None = None
    """``extra_content``: what another provider's format had beside the call (see the writer)."""

    @property
    def raw_arguments(self) -> msgspec.Raw:
        """The arguments as they stand, to be put into a larger object that is encoded."""
        return msgspec.Raw(self.arguments.encode())


class ProviderBlock(_Value, kw_only=True, gc=False):
    """A block of the provider's own that an earlier answer had, such as a search of its own."""

    block: dict[str, Any]


class ToolResult(_Value, kw_only=True, gc=False):
    """What a tool gave back; its parts are texts, images and files."""

    id: str
    """Of the call."""
    name: str
    """Of the tool that was called."""
    parts: list[Part]
    is_error: bool = False


Part = (
    Text
    | Image
    | File
    | Audio
    | Video
    | Thinking
    | RedactedThinking
    | Refusal
    | ProviderBlock
    | ToolCall
    | ToolResult
)


class Turn(msgspec.Struct, gc=False):
    """All that one side says before the other speaks; never without parts."""

    role: Role
    parts: list[Part]
    path: str


class Function(msgspec.Struct, kw_only=True, gc=False):
    """A tool that may be called."""

    path: str
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON Schema of the arguments."""
    strict: bool | None = None
    cache_control: dict[str, Any] | None = None


class ToolChoice(msgspec.Struct, kw_only=True, gc=False):
    """Whether tools are called."""

    path: str
    mode: Literal["auto", "none", "required", "named"]
    names: tuple[str, ...] = ()
    """With ``named`` the one tool; with others, unless empty, the only tools that are allowed."""


class JSONFormat(msgspec.Struct, kw_only=True, gc=False):
    """The answer has to be JSON."""

    path: str
    schema: dict[str, Any] | None = None
    """None: any JSON object."""
    name: str = "response"
    description: str | None = None
    strict: bool | None = None


_SYSTEM_ROLES: Final = frozenset(("system", "developer"))
_DATA_URL = re.compile(r"data:([^;,]*)(?:;[^,]*)?;base64,", re.IGNORECASE)
_SETTLED: Final = frozenset(("model", "messages", "stream", "stream_options", "asgi_llm"))
_TRUE_ONLY_IF: Final = {"n": 1, "logprobs": False, "parallel_tool_calls": True, "store": False}
"""Fields whose one value asks for nothing: to leave it out loses nothing."""


class ChatRequest:
    """A valid chat document, read field by field.

    Whatever was not taken when ``close`` is called is reported as lost.

    Args:
        document: Valid for the operation ``chat``.
        losses: Where everything goes that the target cannot be told.
        own_blocks: The target takes back ``provider_blocks``, as ``ProviderBlock`` parts.

    Attributes:
        system: The instructions, in order. Those that stood amid the conversation are moved here,
            which is reported.
        turns: The conversation, without the instructions. Blank texts and empty turns are dropped.
        native_tools: Tools of the provider's own, once ``functions`` has been called.

    Raises:
        InvalidRequestError: A tool call's arguments are no JSON object, a tool result has no call,
            or a call has no result.
    """

    __slots__ = (
        "_document",
        "_own_blocks",
        "_taken",
        "losses",
        "native_tools",
        "system",
        "turns",
    )

    def __init__(self, document: Document, losses: Losses, *, own_blocks: bool = False) -> None:
        self._document = document
        self._own_blocks = own_blocks
        self._taken: set[str] = set(_SETTLED)
        self.losses = losses
        self.system: list[Text] = []
        self.turns: list[Turn] = []
        self.native_tools: list[dict[str, Any]] = []
        self._read_messages(document["messages"])

    # Fields

    def take(self, name: str) -> Any:
        """The value of a top-level field, which the target is told; None where there is none."""
        self._taken.add(name)
        return self._document.get(name)

    def has_any(self, names: frozenset[str]) -> bool:
        """Whether one of the fields is there, without taking it."""
        return not names.isdisjoint(self._document)

    @property
    def stream(self) -> bool:
        """Whether a stream is asked for."""
        return bool(self._document.get("stream"))

    def max_tokens(self) -> int | None:
        """The cap on the answer, under either name; the newer one counts."""
        older: int | None = self.take("max_tokens")
        newer: int | None = self.take("max_completion_tokens")
        return older if newer is None else newer

    def stop(self) -> list[str]:
        """Stop sequences, without empty ones."""
        stop = self.take("stop")
        return [stop] if isinstance(stop, str) and stop else [s for s in stop or () if s]

    def choices(self) -> int:
        """How many answers are asked for, at least 1."""
        return self.take("n") or 1

    def functions(self, native: Callable[[dict[str, Any]], bool] | None = None) -> list[Function]:
        """The tools, those in the form before tools included.

        Args:
            native: Whether a tool that is no function is one of the provider's own; those are put
                into ``native_tools`` as they are.

        Raises:
            InvalidRequestError: A tool is neither: another provider's own, or a custom one.
        """
        found: list[Function] = []
        for index, tool in enumerate(self.take("tools") or ()):
            path = f"tools[{index}]"
            kind = tool.get("type") or "function"
            if kind != "function":
                if native is not None and native(tool):
                    self.native_tools.append(tool)
                    continue
                raise InvalidRequestError(
                    f"{path}.type: a tool of the type {kind!r} cannot be carried to this provider",
                    param=f"{path}.type",
                    code="unsupported_tool",
                )
            found.append(_function(tool["function"], f"{path}.function", tool))
        for index, function in enumerate(self.take("functions") or ()):
            found.append(_function(function, f"functions[{index}]", function))
        return found

    def tool_choice(self) -> ToolChoice | None:
        """Which tools are to be called, in either form; None: nothing is said."""
        choice, path = self.take("tool_choice"), "tool_choice"
        legacy = self.take("function_call")
        if choice is None:
            if legacy is None:
                return None
            choice, path = legacy, "function_call"
            if isinstance(choice, dict):
                return ToolChoice(path=path, mode="named", names=(choice["name"],))
        if isinstance(choice, str):
            if choice in ("auto", "none", "required"):
                return ToolChoice(path=path, mode=choice)  # type: ignore[arg-type]
            if choice == "any":  # Mistral's word
                return ToolChoice(path=path, mode="required")
            raise InvalidRequestError(
                f'{path}: got {choice!r}, expected "auto", "none", "required" or a tool',
                param=path,
                code="invalid_value",
            )
        if "allowed_tools" in choice:
            allowed = choice["allowed_tools"]
            names = tuple(
                tool["function"]["name"]
                for tool in allowed.get("tools") or ()
                if isinstance(tool, dict) and isinstance(tool.get("function"), dict)
            )
            mode = "required" if allowed.get("mode") == "required" else "auto"
            return ToolChoice(path=path, mode=mode, names=names)  # type: ignore[arg-type]
        named = choice.get("function") or choice.get("custom") or {}
        return ToolChoice(path=path, mode="named", names=(named["name"],))

    def json_format(self) -> JSONFormat | None:
        """What the answer has to look like; None: it is text."""
        wanted, path = self.take("response_format"), "response_format"
        if wanted is None or wanted["type"] == "text":
            return None
        if wanted["type"] == "json_object":
            return JSONFormat(path=path, schema=wanted.get("schema"))
        if wanted["type"] == "json_schema":
            described = wanted.get("json_schema") or {}
            return JSONFormat(
                path=f"{path}.json_schema",
                schema=described.get("schema") or wanted.get("schema") or {"type": "object"},
                name=described.get("name") or "response",
                description=described.get("description"),
                strict=described.get("strict"),
            )
        raise InvalidRequestError(
            f"{path}.type: the format {wanted['type']!r} cannot be carried to this provider",
            param=f"{path}.type",
            code="invalid_value",
        )

    def close(self) -> tuple[str, ...]:
        """Report what nobody took; the names of everything that is lost.

        Raises:
            InvalidRequestError: Something is, and losses are refused.
        """
        document = self._document
        # In the document's order.
        left = document.keys() - self._taken
        for name in [name for name in document if name in left] if left else ():
            value = document[name]
            if value is None:
                continue
            if name in _TRUE_ONLY_IF and value == _TRUE_ONLY_IF[name]:
                continue
            self.losses.add(name)
        return self.losses.names

    # Messages

    def _read_messages(self, messages: list[dict[str, Any]]) -> None:
        waiting: dict[str, tuple[str, str]] = {}  # id of a call without a result: name, path
        results_of: Turn | None = None  # the turn that the results of the last calls belong to
        for index, message in enumerate(messages):
            role, content = message["role"], message.get("content")
            if role == "user" and type(content) is str and "name" not in message:
                # Most messages are no more than this.
                if waiting:
                    _all_answered(waiting)
                if content and not content.isspace():
                    where = f"messages[{index}].content"
                    self._say("user", [Text(path=where, text=content)], where[:-8])
                continue
            path = f"messages[{index}]"
            if role in _SYSTEM_ROLES:
                self._read_system(message, path)
                continue
            if message.get("name") is not None and role != "function":
                self.losses.add(f"{path}.name")
            if role == "assistant":
                _all_answered(waiting)
                parts = list(_assistant_parts(message, path))
                if "provider_blocks" in message:
                    self._read_own(message["provider_blocks"], f"{path}.provider_blocks", parts)
                self._say("assistant", parts, path)
                for part in parts:
                    if isinstance(part, ToolCall):
                        waiting[part.id] = part.name, part.path
                results_of = None
            elif role == "user":
                _all_answered(waiting)
                self._say("user", _parts(content, f"{path}.content"), path)
            else:
                result = _tool_result(message, path, waiting)
                if results_of is None:
                    results_of = self._say("user", [result], path)
                else:
                    results_of.parts.append(result)
        _all_answered(waiting)

    def _read_own(self, blocks: Any, path: str, parts: list[Part]) -> None:
        """Put the blocks of the provider's own between the thoughts and what was said."""
        if not blocks:
            return
        if not self._own_blocks:
            self.losses.add(path)
            return
        at = 0
        while at < len(parts) and isinstance(parts[at], Thinking | RedactedThinking):
            at += 1
        own: list[Part] = []
        for index, block in enumerate(_blocks(blocks, path)):
            if not isinstance(block, dict) or not isinstance(block.get("type"), str):
                raise _no_block(f"{path}[{index}]")
            own.append(ProviderBlock(path=f"{path}[{index}]", block=block))
        parts[at:at] = own

    def _read_system(self, message: dict[str, Any], path: str) -> None:
        if message.get("name") is not None:
            self.losses.add(f"{path}.name")
        if self.turns:
            self.losses.add(f"{path}.role", "instructions amid the conversation are moved ahead")
        for part in _parts(message["content"], f"{path}.content"):
            if not isinstance(part, Text):
                raise InvalidRequestError(
                    f"{part.path}: instructions can only be text here",
                    param=part.path,
                    code="unsupported_content_part",
                )
            self.system.append(part)

    def _say(self, role: Role, parts: list[Part], path: str) -> Turn | None:
        if not parts:
            return None
        if self.turns and self.turns[-1].role == role:
            self.turns[-1].parts += parts
        else:
            self.turns.append(Turn(role, parts, path))
        return self.turns[-1]


def _all_answered(waiting: dict[str, tuple[str, str]]) -> None:
    for call_id, (_, path) in waiting.items():
        raise InvalidRequestError(
            f"{path}: the call {call_id!r} has no result; a message with the role 'tool' and this "
            "tool_call_id has to follow it",
            param=path,
            code="missing_tool_result",
        )


def _tool_result(
    message: dict[str, Any], path: str, waiting: dict[str, tuple[str, str]]
) -> ToolResult:
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
        parts=_parts(message.get("content"), f"{path}.content"),
        is_error=bool(message.get("is_error")),
        cache_control=message.get("cache_control"),
    )


def _assistant_parts(message: dict[str, Any], path: str) -> Iterator[Part]:
    """Thoughts first, then what was said, then the calls: the order that providers insist on."""
    blocks = message.get("thinking_blocks")
    if blocks:
        for index, block in enumerate(_blocks(blocks, f"{path}.thinking_blocks")):
            yield from _thinking(block, f"{path}.thinking_blocks[{index}]")
    elif thoughts := message.get("reasoning_content"):
        yield Thinking(path=f"{path}.reasoning_content", text=thoughts)
    yield from _parts(message.get("content"), f"{path}.content")
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
        function = call["function"]
        yield ToolCall(
            path=where,
            id=call["id"],
            name=function["name"],
            arguments=_arguments(function["arguments"], f"{where}.function.arguments"),
            extra=call.get("extra_content"),
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
            extra=legacy.get("extra_content"),
        )


def _thinking(block: Any, path: str) -> Iterator[Part]:
    if isinstance(block, dict):
        if block.get("type") == "redacted_thinking" and isinstance(block.get("data"), str):
            yield RedactedThinking(path=path, data=block["data"])
            return
        text = block.get("thinking")
        if isinstance(text, str):
            yield Thinking(path=path, text=text, signature=block.get("signature"))
            return
    raise _no_block(path)


def _blocks(blocks: Any, path: str) -> list[Any]:
    if isinstance(blocks, list):
        return blocks
    raise _no_block(path)


def _no_block(path: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{path}: expected a block as an earlier answer had it", param=path, code="invalid_value"
    )


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


def _parts(content: Any, path: str) -> list[Part]:
    if isinstance(content, str):
        blank = not content or content.isspace()
        return [] if blank else [Text(path=path, text=content)]
    return [] if content is None else list(_each_part(content, path))


def _each_part(content: list[dict[str, Any]], path: str) -> Iterator[Part]:
    for index, part in enumerate(content):
        where = f"{path}[{index}]"
        kind = part["type"]
        marker = part.get("cache_control")
        if kind == "text":
            if part["text"] and not part["text"].isspace():
                yield Text(path=where, text=part["text"], cache_control=marker)
        elif kind == "refusal":
            yield Refusal(path=where, text=part["refusal"])
        elif kind in ("thinking", "redacted_thinking"):
            yield from _thinking(part, where)
        elif (read := _MEDIA.get(kind)) is not None:
            media = read(part, where)
            media.cache_control = marker
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
        return {"media_type": found[1].lower() or None, "data": url[found.end() :]}
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


def _function(function: dict[str, Any], path: str, holder: dict[str, Any]) -> Function:
    return Function(
        path=path,
        name=function["name"],
        description=function.get("description"),
        parameters=function.get("parameters"),
        strict=function.get("strict"),
        cache_control=holder.get("cache_control") or function.get("cache_control"),
    )
