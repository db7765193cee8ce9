"""Turns in the content blocks of Bedrock's Converse.

Source: Amazon Bedrock API reference, "ContentBlock" and the types that it leads to; "Prompt caching
for faster model inference"; November 2026.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers._conversation import (
    Audio,
    ChatRequest,
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
    Turn,
    Video,
)
from asgi_llm.providers._gemini_content import SIGNED_HERE as SIGNED_BY_GEMINI
from asgi_llm.providers._losses import Losses
from asgi_llm.providers._tool_names import ToolNames, safe_id
from asgi_llm.types import Document

__all__ = ["cache_point", "message_list", "system_list"]

_IMAGES: Final = {
    "image/gif": "gif",
    "image/jpeg": "jpeg",
    "image/png": "png",
    "image/webp": "webp",
}
_VIDEOS: Final = {
    "video/3gpp": "three_gp",
    "video/mp4": "mp4",
    "video/mpeg": "mpeg",
    "video/quicktime": "mov",
    "video/webm": "webm",
    "video/x-flv": "flv",
    "video/x-matroska": "mkv",
    "video/x-ms-wmv": "wmv",
}
_AUDIO: Final = {
    "audio/aac": "aac",
    "audio/flac": "flac",
    "audio/m4a": "m4a",
    "audio/mp3": "mp3",
    "audio/mp4": "mp4",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
    "audio/opus": "opus",
    "audio/pcm": "pcm",
    "audio/wav": "wav",
    "audio/webm": "webm",
    "audio/x-m4a": "m4a",
    "audio/x-wav": "wav",
}
_DOCUMENTS: Final = {
    "application/msword": "doc",
    "application/pdf": "pdf",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "text/csv": "csv",
    "text/html": "html",
    "text/markdown": "md",
    "text/plain": "txt",
}
_ENDINGS: Final = {**{name: name for name in _DOCUMENTS.values()}, "htm": "html", "markdown": "md"}

_OUTSIDE_NAMES: Final = re.compile(r"[^A-Za-z0-9 ()\[\]-]+")
_SPACES: Final = re.compile(r" {2,}")
_MAX_NAME: Final = 190
"""Of the 200 characters that a document's name may have; the rest is for a number."""

_OWN_BLOCKS: Final = frozenset(
    ("audio", "document", "guardContent", "searchResult", "toolResult", "toolUse", "video")
)
"""Types of ``provider_blocks``: blocks of Converse that answers have no words for here."""

_NO_CACHE_BEHIND: Final = ("document", "video")

_decode_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def cache_point(marker: Any, path: str, losses: Losses) -> Document:
    """The block that stands for a marker of Anthropic's."""
    point: Document = {"type": "default"}
    ttl = marker.get("ttl") if isinstance(marker, dict) else None
    if ttl == "1h":
        point["ttl"] = ttl
    elif ttl not in (None, "5m"):
        losses.add(f"{path}.cache_control", "it is kept for five minutes")
    return {"cachePoint": point}


def system_list(request: ChatRequest) -> list[Document]:
    """The instructions."""
    blocks: list[Document] = []
    for text in request.system:
        blocks.append({"text": text.text})
        if text.cache_control:
            blocks.append(cache_point(text.cache_control, text.path, request.losses))
    return blocks


def message_list(request: ChatRequest, names: ToolNames) -> list[Document]:
    """The turns of a chat.

    Args:
        request: Whose.
        names: Of its tools.

    Raises:
        InvalidRequestError: It holds what Bedrock cannot be told.
    """
    turns = request.turns
    if not turns:
        raise InvalidRequestError(
            "messages: Bedrock needs a message of the user that is not blank",
            param="messages",
            code="invalid_value",
        )
    if turns[0].role != "user":
        raise InvalidRequestError(
            f"{turns[0].path}.role: Bedrock needs a message of the user first",
            param=f"{turns[0].path}.role",
            code="invalid_value",
        )
    writing = _Writing(request.losses, names)
    messages: list[Document] = []
    for turn in turns:
        blocks = writing.blocks(turn)
        if not blocks:
            continue
        if messages and messages[-1]["role"] == turn.role:
            # The turn between them held nothing that can be told here.
            messages[-1]["content"] += blocks
        else:
            messages.append({"role": turn.role, "content": blocks})
    return messages


class _Writing:
    """The blocks of one request; the names of its documents have to differ."""

    __slots__ = ("_documents", "_losses", "_names")

    def __init__(self, losses: Losses, names: ToolNames) -> None:
        self._losses = losses
        self._names = names
        self._documents: set[str] | None = None

    def blocks(self, turn: Turn) -> list[Document]:
        """All that the turn says."""
        blocks: list[Document] = []
        for part in turn.parts:
            self._add(blocks, part)
            if part.cache_control:
                self._mark(blocks, part)
        return blocks

    def _mark(self, blocks: list[Document], part: Part) -> None:
        """Put a cache point behind the last block, or before documents, where it is refused."""
        at = len(blocks)
        while at and not blocks[at - 1].keys().isdisjoint(_NO_CACHE_BEHIND):
            at -= 1
        path = f"{part.path}.cache_control"
        if at < len(blocks) and part.marked_behind:
            # Who wrote a blank text between a document and the marker knows what Bedrock takes.
            blocks.append({"text": part.marked_behind})
            at = len(blocks)
        if not at:
            self._losses.add(path, "no cache point can stand behind a document alone")
            return
        if at < len(blocks):
            self._losses.add(path, "the cache point stands before the document")
        if "cachePoint" not in blocks[at - 1]:
            blocks.insert(at, cache_point(part.cache_control, part.path, self._losses))

    def _add(self, blocks: list[Document], part: Part) -> None:
        if isinstance(part, Text | Refusal):
            blocks.append({"text": part.text})
        elif isinstance(part, ToolCall):
            if part.extra:
                self._losses.add(f"{part.path}.extra_content")
            call = {
                "toolUseId": safe_id(part.id),
                "name": self._names.there(part.name),
                "input": part.raw_arguments,
            }
            blocks.append({"toolUse": call})
        elif isinstance(part, ToolResult):
            blocks.append({"toolResult": self._result(part)})
            for inner in part.parts:
                if inner.cache_control and not part.cache_control:
                    # Within a result there are no cache points.
                    self._mark(blocks, inner)
        elif isinstance(part, Thinking):
            self._thought(blocks, part)
        elif isinstance(part, RedactedThinking):
            blocks.append({"reasoningContent": {"redactedContent": part.data}})
        elif isinstance(part, ProviderBlock):
            kind = part.block["type"]
            if kind in _OWN_BLOCKS and kind in part.block:
                blocks.append({kind: part.block[kind]})
            else:
                self._losses.add(part.path, "a block of another provider")
        else:
            blocks.append(self._media(part))

    def _thought(self, blocks: list[Document], part: Thinking) -> None:
        if part.path.endswith(".reasoning_content"):
            self._losses.add(part.path, "thoughts go back as thinking_blocks")
        elif (part.signature or "").startswith(SIGNED_BY_GEMINI):
            self._losses.add(part.path, "another provider's thoughts cannot go back")
        else:
            thought = {"text": part.text}
            if part.signature:
                thought["signature"] = part.signature
            blocks.append({"reasoningContent": {"reasoningText": thought}})

    def _result(self, part: ToolResult) -> Document:
        content: list[Document] = []
        for inner in part.parts:
            if isinstance(inner, Text | Refusal):
                content.append(_result_text(inner.text))
            elif isinstance(inner, Image | File | Video):
                content.append(self._media(inner))
            else:
                raise _unsupported(inner, "a result is text, images, documents and films here")
        result: Document = {"toolUseId": safe_id(part.id), "content": content}
        if part.is_error:
            result["status"] = "error"
        return result

    # Media

    def _media(self, part: Image | File | Video | Audio) -> Document:
        if isinstance(part, Image):
            if part.detail not in (None, "auto"):
                self._losses.add(f"{part.path}.image_url.detail")
            return _image(part)
        if isinstance(part, File):
            return self._file(part)
        if isinstance(part, Video):
            format_ = _format(part, _VIDEOS, "films")
            return {"video": {"format": format_, "source": _source(part)}}
        known = part.format if part.format in _AUDIO.values() else None
        format_ = known or _format(part, _AUDIO, "sound")
        return {"audio": {"format": format_, "source": _source(part)}}

    def _file(self, part: File) -> Document:
        if part.file_id is not None or (part.data is None and part.url is None):
            raise _unsupported(
                part, "an uploaded file belongs to the provider that it was uploaded to"
            )
        media_type = (part.media_type or "").partition(";")[0]
        if media_type in _IMAGES:
            return _image(part)
        stem, _, ending = (part.name or "").rpartition(".")
        format_ = _DOCUMENTS.get(media_type)
        if format_ in (None, "txt"):
            # Markdown and tables are often called plain text; the ending knows better.
            format_ = _ENDINGS.get(ending.lower(), format_)
        if format_ is None and media_type.startswith("text/"):
            format_ = "txt"
        if format_ is None and (part.data or "").startswith("JVBERi"):
            format_ = "pdf"
        if format_ is None:
            raise _unsupported(
                part, "Bedrock takes documents in " + ", ".join(sorted(set(_DOCUMENTS.values())))
            )
        given = stem if stem and ending.lower() in _ENDINGS else part.name or ""
        name = self._document_name(given, f"{part.path}.file.filename")
        return {"document": {"format": format_, "name": name, "source": _source(part)}}

    def _document_name(self, given: str, path: str) -> str:
        """A name in the characters that Bedrock takes, that no other document has."""
        name = _SPACES.sub(" ", _OUTSIDE_NAMES.sub(" ", given)).strip()[:_MAX_NAME].strip()
        if given and name != given:
            self._losses.add(path, "in characters that Bedrock takes")
        name = name or "document"
        if self._documents is None:
            self._documents = set()
        found, number = name, 1
        while found in self._documents:
            number += 1
            found = f"{name} {number}"
        self._documents.add(found)
        return found


def _result_text(text: str) -> Document:
    """A result that is a JSON object as one, in its very characters; any other as text."""
    if text[:1] == "{":
        try:
            _decode_object(text)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return {"text": text}
        return {"json": msgspec.Raw(text.encode())}
    return {"text": text}


def _image(part: Media) -> Document:
    return {"image": {"format": _format(part, _IMAGES, "images"), "source": _source(part)}}


def _format(part: Media, known: Mapping[str, str], what: str) -> str:
    """Bedrock's word for the media type, or for the ending of an address."""
    media_type = (part.media_type or "").partition(";")[0]
    ending = (part.url or "").rpartition(".")[2].lower()
    found = known.get(media_type) or (ending if ending in known.values() else None)
    if found is None and ending == "jpg":
        found = known.get("image/jpeg")
    if found is None:
        taken = ", ".join(sorted(set(known.values())))
        raise _unsupported(part, f"Bedrock takes {what} in {taken}")
    return found


def _source(part: Media) -> Document:
    if part.data is not None:
        return {"bytes": part.data}
    if part.url is not None and part.url.startswith("s3://"):
        return {"s3Location": {"uri": part.url}}
    raise _unsupported(part, "Bedrock cannot fetch it; send a data URL, or one of S3")


def _unsupported(part: Part | Media, why: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{part.path}: {why}", param=part.path, code="unsupported_content_part"
    )
