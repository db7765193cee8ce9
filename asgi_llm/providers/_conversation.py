"""A chat request taken apart: what every adapter to another format builds its own request from.

The turns alternate between the two sides, tool results belong to the user's side and stand right
after the calls that they answer, and whatever the format of the document allows to be written in
two ways is here written in one. Each value carries its path in the document, for errors and losses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers._losses import Losses
from asgi_llm.providers._part_reading import (
    assistant_parts,
    content_parts,
    provider_blocks,
    report_unknown,
    tool_result,
)
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
from asgi_llm.providers._tool_choice import ToolChoice, read_choice
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
    "field_groups",
]

Role = Literal["user", "assistant"]


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
    own: dict[str, Any] | None = None
    """Fields of the provider's own, which stood beside ``function``."""


class JSONFormat(msgspec.Struct, kw_only=True, gc=False):
    """The answer has to be JSON."""

    path: str
    schema: dict[str, Any] | None = None
    """None: any JSON object."""
    name: str = "response"
    description: str | None = None
    strict: bool | None = None


_USER_FIELDS: Final = frozenset(("role", "content", "name"))
_TOOL_FIELDS: Final = frozenset(("type", "function", "cache_control"))
_FUNCTION_FIELDS: Final = frozenset(
    ("name", "description", "parameters", "strict", "cache_control")
)
_SYSTEM_ROLES: Final = frozenset(("system", "developer"))
_SETTLED: Final = frozenset(("model", "messages", "stream", "stream_options", "asgi_llm"))
_TRUE_ONLY_IF: Final = {"n": 1, "logprobs": False, "parallel_tool_calls": True, "store": False}
"""Fields whose one value asks for nothing: to leave it out loses nothing."""


def field_groups(groups: Mapping[int, Iterable[str]]) -> dict[str, int]:
    """The groups of each field, as bits, for ``ChatRequest.groups``; a field may be in several."""
    found: dict[str, int] = {}
    for bit, names in groups.items():
        for name in names:
            found[name] = found.get(name, 0) | bit
    return found


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

    def groups(self, group_of: Mapping[str, int]) -> int:
        """The groups of fields, as bits, of which one is there; none of them is taken by it."""
        found = 0
        for name in self._document:
            found |= group_of.get(name, 0)
        return found

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

    def functions(
        self,
        native: Callable[[dict[str, Any]], bool] | None = None,
        *,
        own: frozenset[str] = frozenset(),
    ) -> list[Function]:
        """The tools, those in the form before tools included.

        Args:
            native: Whether a tool that is no function is one of the provider's own; those are put
                into ``native_tools`` as they are.
            own: Fields beside ``function`` that the provider has for its own tools.

        Raises:
            InvalidRequestError: A tool is neither: another provider's own, or a custom one.
        """
        found: list[Function] = []
        for index, tool in enumerate(self.take("tools") or ()):
            path = f"tools[{index}]"
            kind = tool.get("type", "function")
            if kind != "function":
                if native is not None and native(tool):
                    self.native_tools.append(tool)
                    continue
                raise InvalidRequestError(
                    f"{path}.type: a tool of the type {kind!r} cannot be carried to this provider",
                    param=f"{path}.type",
                    code="unsupported_tool",
                )
            report_unknown(tool, _TOOL_FIELDS | own if own else _TOOL_FIELDS, path, self.losses)
            function = self._function(tool["function"], f"{path}.function", tool)
            if not own.isdisjoint(tool):
                function.own = {
                    name: tool[name] for name in tool if name in own and tool[name] is not None
                }
            found.append(function)
        for index, function in enumerate(self.take("functions") or ()):
            found.append(self._function(function, f"functions[{index}]", function))
        return found

    def _function(self, function: dict[str, Any], path: str, holder: dict[str, Any]) -> Function:
        report_unknown(function, _FUNCTION_FIELDS, path, self.losses)
        return Function(
            path=path,
            name=function["name"],
            description=function.get("description"),
            parameters=function.get("parameters"),
            strict=function.get("strict"),
            cache_control=holder.get("cache_control") or function.get("cache_control"),
        )

    def tool_choice(self) -> ToolChoice | None:
        """Which tools are to be called, in either form; None: nothing is said."""
        return read_choice(self.take("tool_choice"), self.take("function_call"))

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
            if role == "user" and type(content) is str and len(message) == 2:
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
                parts = list(assistant_parts(message, path, self.losses))
                if "provider_blocks" in message:
                    self._read_own(message["provider_blocks"], f"{path}.provider_blocks", parts)
                self._say("assistant", parts, path)
                for part in parts:
                    if isinstance(part, ToolCall):
                        waiting[part.id] = part.name, part.path
                results_of = None
            elif role == "user":
                _all_answered(waiting)
                report_unknown(message, _USER_FIELDS, path, self.losses)
                self._say("user", content_parts(content, f"{path}.content", self.losses), path)
            else:
                result = tool_result(message, path, waiting, self.losses)
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
        parts[at:at] = provider_blocks(blocks, path)

    def _read_system(self, message: dict[str, Any], path: str) -> None:
        if message.get("name") is not None:
            self.losses.add(f"{path}.name")
        if self.turns:
            self.losses.add(f"{path}.role", "instructions amid the conversation are moved ahead")
        report_unknown(message, _USER_FIELDS, path, self.losses)
        for part in content_parts(message["content"], f"{path}.content", self.losses):
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
