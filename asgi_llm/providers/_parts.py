"""The parts that messages are made of. ``_part_reading`` reads them from an OpenAI document."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = [
    "Audio",
    "File",
    "Image",
    "Media",
    "Part",
    "ProviderBlock",
    "RedactedThinking",
    "Refusal",
    "Text",
    "Thinking",
    "ToolCall",
    "ToolResult",
    "Video",
]


class _Value(msgspec.Struct, kw_only=True, gc=False):
    path: str
    """Where it stands in the document."""
    cache_control: dict[str, Any] | None = None
    """Anthropic's prompt-cache marker, where the client set one on this part."""
    marked_behind: str = ""
    """The blank text behind this part that had the marker, where it was on one."""


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
