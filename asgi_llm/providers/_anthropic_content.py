"""Turns in the blocks of Anthropic's Messages API.

Source: Anthropic API reference, "Create a Message", "Vision", "PDF support", "Extended thinking";
November 2026.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Final

from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers._conversation import (
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
)
from asgi_llm.providers._tool_names import ToolNames, safe_id
from asgi_llm.types import Document

__all__ = ["is_signed", "message_list", "text_block"]

_IMAGES: Final = frozenset(("image/jpeg", "image/png", "image/gif", "image/webp"))
_PDF: Final = "application/pdf"
_OWN_BLOCKS: Final = frozenset(
    ("compaction", "container_upload", "mcp_tool_use", "server_tool_use", "tool_reference")
)
"""Types of ``provider_blocks``, beside results, whose types all end alike."""
_RESULTS: Final = "_tool_result"
_OTHERS_MARK: Final = ":"
"""Stands in signatures that other providers' answers have here; Claude's are base64."""


def message_list(request: ChatRequest, names: ToolNames) -> list[Document]:
    """The turns of a chat.

    Args:
        request: Whose.
        names: Of its tools.

    Raises:
        InvalidRequestError: It holds what Claude cannot be told.
    """
    turns = request.turns
    if not turns:
        raise InvalidRequestError(
            "messages: Claude needs a message of the user that is not blank",
            param="messages",
            code="invalid_value",
        )
    if turns[0].role != "user":
        raise InvalidRequestError(
            f"{turns[0].path}.role: Claude needs a message of the user first",
            param=f"{turns[0].path}.role",
            code="invalid_value",
        )
    messages: list[Document] = []
    for turn in turns:
        parts = turn.parts
        content: str | list[Document]
        if len(parts) == 1 and type(parts[0]) is Text and parts[0].cache_control is None:
            content = parts[0].text
        else:
            content = [block for part in parts for block in _blocks(part, request, names)]
        if messages and messages[-1]["role"] == turn.role:
            # What stood between them was of another provider.
            messages[-1]["content"] = [*_listed(messages[-1]["content"]), *_listed(content)]
        elif content:
            messages.append({"role": turn.role, "content": content})
    return messages


def is_signed(part: Thinking | RedactedThinking) -> bool:
    """Whether thoughts can go back: they are signed, and by Claude."""
    signature = part.data if isinstance(part, RedactedThinking) else part.signature
    return bool(signature) and _OTHERS_MARK not in (signature or "")


def _listed(content: str | list[Document]) -> list[Document]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def text_block(text: Text | Refusal) -> Document:
    """A text with its cache marker."""
    block: Document = {"type": "text", "text": text.text}
    if text.cache_control:
        block["cache_control"] = text.cache_control
    return block


def _blocks(part: Part, request: ChatRequest, names: ToolNames) -> Iterable[Document]:
    if isinstance(part, Text | Refusal):
        return (text_block(part),)
    block: Document
    if isinstance(part, ToolCall):
        block = {
            "type": "tool_use",
            "id": safe_id(part.id),
            "name": names.there(part.name),
            "input": part.raw_arguments,
        }
        if part.extra:
            _tell_caller(part, request, block)
    elif isinstance(part, ToolResult):
        block = {"type": "tool_result", "tool_use_id": safe_id(part.id)}
        only = part.parts[0] if len(part.parts) == 1 else None
        if type(only) is Text and only.cache_control is None:
            block["content"] = only.text
        elif part.parts:
            block["content"] = [
                inner for one in part.parts for inner in _blocks(one, request, names)
            ]
        if part.is_error:
            block["is_error"] = True
    elif isinstance(part, Thinking):
        if not is_signed(part):
            request.losses.add(part.path, "thoughts without a signature of Claude's")
            return ()
        return ({"type": "thinking", "thinking": part.text, "signature": part.signature},)
    elif isinstance(part, RedactedThinking):
        if not is_signed(part):
            request.losses.add(part.path, "thoughts of another provider")
            return ()
        return ({"type": "redacted_thinking", "data": part.data},)
    elif isinstance(part, ProviderBlock):
        kind = part.block["type"]
        if kind not in _OWN_BLOCKS and not kind.endswith(_RESULTS):
            request.losses.add(part.path, "a block of another provider")
            return ()
        return (part.block,)
    elif isinstance(part, Image):
        if part.detail not in (None, "auto"):
            request.losses.add(f"{part.path}.image_url.detail")
        block = _image(part)
    elif isinstance(part, File):
        block = _file(part)
    else:
        raise _unsupported(part, "Claude takes text, images and documents")
    if part.cache_control:
        block["cache_control"] = part.cache_control
    return (block,)


def _tell_caller(part: ToolCall, request: ChatRequest, block: Document) -> None:
    """Tell Claude which code of its own made the call; the rest is of another provider."""
    extra = part.extra or {}
    own = extra.get("anthropic")
    caller = own.get("caller") if isinstance(own, dict) else None
    if isinstance(caller, dict):
        block["caller"] = caller
    if not isinstance(caller, dict) or extra.keys() != {"anthropic"}:
        request.losses.add(f"{part.path}.extra_content")


def _image(part: Media) -> Document:
    if part.url is not None:
        return {"type": "image", "source": _from_url(part)}
    if part.media_type not in _IMAGES:
        raise _unsupported(part, "Claude takes images in " + ", ".join(sorted(_IMAGES)))
    source = {"type": "base64", "media_type": part.media_type, "data": part.data}
    return {"type": "image", "source": source}


def _from_url(part: Media) -> Document:
    if part.url is None or not part.url.lower().startswith(("http://", "https://")):
        raise _unsupported(part, "Claude takes https URLs and data URLs")
    return {"type": "url", "url": part.url}


def _file(part: File) -> Document:
    if part.file_id is not None or (part.data is None and part.url is None):
        raise _unsupported(part, "an uploaded file belongs to the provider that it was uploaded to")
    if part.url is None and part.media_type in _IMAGES:
        return _image(part)
    block: Document = {"type": "document"}
    if part.url is not None:
        block["source"] = _from_url(part)
    elif part.media_type == _PDF or (part.media_type is None and _is_pdf(part)):
        block["source"] = {"type": "base64", "media_type": _PDF, "data": part.data}
    elif part.media_type is not None and part.media_type.startswith("text/"):
        text = _decoded_text(part)
        block["source"] = {"type": "text", "media_type": "text/plain", "data": text}
    else:
        raise _unsupported(part, "Claude takes documents in application/pdf and text")
    if part.name:
        block["title"] = part.name
    return block


def _is_pdf(part: File) -> bool:
    return (part.name or "").lower().endswith(".pdf") or (part.data or "").startswith("JVBERi")


def _decoded_text(part: File) -> str:
    try:
        return base64.b64decode(part.data or "", validate=True).decode("utf-8")
    except ValueError as error:  # of either, or of characters beyond ASCII in base64
        raise _unsupported(part, "expected UTF-8 text in base64") from error


def _unsupported(part: Part | Media, why: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{part.path}: {why}", param=part.path, code="unsupported_content_part"
    )
