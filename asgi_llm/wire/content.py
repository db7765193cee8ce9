"""What a conversation is made of: content parts, tools, messages.

Unknown fields are not looked at; a part of an unknown type, or a role that does not exist, is an
error, since no layer could say what it holds.

Source: OpenAI API reference, "Create chat completion", and the additions of compatible servers
(Mistral, Perplexity, OpenRouter, vLLM) in their own references; November 2026.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from asgi_llm.wire._fields import Maybe, Rule, missing

__all__ = [
    "AssistantMessage",
    "AudioUrlPart",
    "ContentPart",
    "CustomCall",
    "CustomTool",
    "DeveloperMessage",
    "DocumentUrlPart",
    "FileData",
    "FilePart",
    "FileUrlPart",
    "FunctionCall",
    "FunctionDefinition",
    "FunctionMessage",
    "ImagePart",
    "InputAudio",
    "InputAudioPart",
    "Message",
    "ReasoningPart",
    "RedactedThinkingPart",
    "ReferencePart",
    "RefusalPart",
    "SystemMessage",
    "TextPart",
    "ThinkingPart",
    "Tool",
    "ToolCall",
    "ToolMessage",
    "Url",
    "UserMessage",
    "VideoUrlPart",
]


class Url(Struct, gc=False):
    """Where some content lies: a https or data URL."""

    url: str
    detail: Maybe[str] = UNSET


class InputAudio(Struct, gc=False):
    """Audio in base64."""

    data: str
    format: Maybe[str] = UNSET


class FileData(Struct, gc=False):
    """A file: an uploaded one by its id, or its content as a data URL."""

    file_id: Maybe[str] = UNSET
    file_data: Maybe[str] = UNSET
    filename: Maybe[str] = UNSET


class TextPart(Struct, tag_field="type", tag="text", gc=False):
    """Text."""

    text: str


class ImagePart(Struct, tag_field="type", tag="image_url", gc=False):
    """An image. Mistral takes a plain string."""

    image_url: Url | str


class InputAudioPart(Struct, tag_field="type", tag="input_audio", gc=False):
    """Audio. Mistral takes a plain string."""

    input_audio: InputAudio | str


class FilePart(Struct, tag_field="type", tag="file", gc=False):
    """A file. Mistral has the id beside the type."""

    file: FileData | UnsetType = UNSET
    file_id: Maybe[str] = UNSET

    def __post_init__(self) -> None:
        if self.file is UNSET and not isinstance(self.file_id, str):
            raise missing("file")


class FileUrlPart(Struct, tag_field="type", tag="file_url", gc=False):
    """A file by its address or in base64 (Perplexity)."""

    file_url: Url | str


class DocumentUrlPart(Struct, tag_field="type", tag="document_url", gc=False):
    """A document by its address (Mistral)."""

    document_url: Url | str


class VideoUrlPart(Struct, tag_field="type", tag="video_url", gc=False):
    """A video by its address (vLLM, OpenRouter)."""

    video_url: Url | str


class AudioUrlPart(Struct, tag_field="type", tag="audio_url", gc=False):
    """Audio by its address (vLLM)."""

    audio_url: Url | str


class RefusalPart(Struct, tag_field="type", tag="refusal", gc=False):
    """An earlier refusal of the assistant."""

    refusal: str


class ThinkingPart(Struct, tag_field="type", tag="thinking", gc=False):
    """Earlier thoughts of the assistant: a string, or a list of parts (Mistral)."""

    thinking: str | list[TextPart | ReferencePart]


class RedactedThinkingPart(Struct, tag_field="type", tag="redacted_thinking", gc=False):
    """Earlier thoughts that only the provider can read."""

    data: str


class ReasoningPart(Struct, tag_field="type", tag="reasoning", gc=False):
    """Earlier thoughts of the assistant, in either of two fields."""

    reasoning: Maybe[str] = UNSET
    text: Maybe[str] = UNSET


class ReferencePart(Struct, tag_field="type", tag="reference", gc=False):
    """Pointers to sources (Mistral)."""

    reference_ids: list[int | str]


ContentPart = (
    TextPart
    | ImagePart
    | InputAudioPart
    | FilePart
    | FileUrlPart
    | DocumentUrlPart
    | VideoUrlPart
    | AudioUrlPart
    | RefusalPart
    | ThinkingPart
    | RedactedThinkingPart
    | ReasoningPart
    | ReferencePart
)


class FunctionDefinition(Struct, gc=False):
    """A function that the model may call; ``parameters`` is a JSON Schema."""

    name: str
    description: Maybe[str] = UNSET
    parameters: Maybe[dict[str, Any]] = UNSET
    strict: Maybe[bool] = UNSET


class CustomTool(Struct, gc=False):
    """A tool whose input is free text or follows a grammar."""

    name: str
    description: Maybe[str] = UNSET
    format: Maybe[dict[str, Any]] = UNSET


class Tool(Struct, gc=False):
    """A tool. Types other than ``function`` and ``custom`` are the provider's own."""

    type: str = "function"
    function: FunctionDefinition | UnsetType = UNSET
    custom: CustomTool | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.function is UNSET and self.type == "function":
            raise missing("function")
        if self.custom is UNSET and self.type == "custom":
            raise missing("custom")


class FunctionCall(Struct, gc=False):
    """A call that the model made; ``arguments`` is JSON in a string, as the model wrote it."""

    name: str
    arguments: str


class CustomCall(Struct, gc=False):
    """A call of a custom tool."""

    name: str
    input: str


class ToolCall(Struct, gc=False):
    """A call in an earlier answer."""

    id: str
    type: str = "function"
    function: FunctionCall | UnsetType = UNSET
    custom: CustomCall | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.function is UNSET and self.type == "function":
            raise missing("function")
        if self.custom is UNSET and self.type == "custom":
            raise missing("custom")


class SystemMessage(Struct, tag_field="role", tag="system", gc=False):
    """Instructions."""

    content: str | list[ContentPart]
    name: Maybe[str] = UNSET


class DeveloperMessage(Struct, tag_field="role", tag="developer", gc=False):
    """Instructions, as the newer models call them."""

    content: str | list[ContentPart]
    name: Maybe[str] = UNSET


class UserMessage(Struct, tag_field="role", tag="user", gc=False):
    """What the user says."""

    content: str | list[ContentPart]
    name: Maybe[str] = UNSET


class AssistantMessage(Struct, tag_field="role", tag="assistant", gc=False):
    """An earlier answer."""

    content: Maybe[str | list[ContentPart]] = UNSET
    name: Maybe[str] = UNSET
    refusal: Maybe[str] = UNSET
    tool_calls: Maybe[list[ToolCall]] = UNSET
    function_call: Maybe[FunctionCall] = UNSET
    audio: Maybe[dict[str, Any]] = UNSET


class ToolMessage(Struct, tag_field="role", tag="tool", gc=False):
    """What a tool gave back."""

    content: str | list[ContentPart]
    tool_call_id: str


class FunctionMessage(Struct, tag_field="role", tag="function", gc=False):
    """What a function gave back, in the form before tools."""

    content: str | None
    name: str


Message = (
    SystemMessage
    | DeveloperMessage
    | UserMessage
    | AssistantMessage
    | ToolMessage
    | FunctionMessage
)


def same_kind(values: Any, field: str) -> None:
    """Refuse a list of values of several types.

    Raises:
        Rule: They are not all strings, all numbers or all lists.
    """
    if isinstance(values, list) and len({type(value) for value in values}) > 1:
        raise Rule(
            field, "got values of several types in one list, expected all the same", "invalid_type"
        )
