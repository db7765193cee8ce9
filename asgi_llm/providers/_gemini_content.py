"""The conversation and its media in the words of Gemini's ``contents``.

Source: Gemini API reference, "Content" and "Part"; "Thought signatures", "Function calling",
"File input methods"; November 2026.
"""

from __future__ import annotations

import re
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
    Video,
)
from asgi_llm.providers._gemini_models import ModelTraits
from asgi_llm.providers._tool_names import ToolNames
from asgi_llm.types import Document

__all__ = ["OWN_BLOCKS", "SIGNED_HERE", "content_list", "lose_marker"]

SIGNED_HERE: Final = "google:"
"""Stands before Gemini's signatures in thinking blocks, so that nobody takes them for another's."""

OWN_BLOCKS: Final = frozenset(
    ("executableCode", "codeExecutionResult", "toolCall", "toolResponse", "inlineData")
)
"""Parts for which the format of chats has no words; they travel in ``provider_blocks``."""

_NO_SIGNATURE: Final = "skip_thought_signature_validator"
"""What Google has callers send for a call whose signature they could not keep."""

_MADE_ID: Final = re.compile(r"call_[\w-]+_\d+_\d+")
"""An id that was made here, for a call to which Gemini gave none."""

_IN_RESULTS: Final = frozenset(
    ("image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain")
)
_TYPES_BY_ENDING: Final = {
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "heic": "image/heic",
    "heif": "image/heif",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "json": "application/json",
    "mp4": "video/mp4",
    "mpeg": "video/mpeg",
    "mov": "video/mov",
    "avi": "video/avi",
    "webm": "video/webm",
    "mp3": "audio/mp3",
    "wav": "audio/wav",
    "aac": "audio/aac",
    "ogg": "audio/ogg",
    "flac": "audio/flac",
}
_HELD_THERE: Final = ("https://generativelanguage.googleapis.com/", "gs://")
"""How addresses of files begin that were uploaded to Google."""
_USUAL_TYPES: Final[dict[type, str]] = {
    Image: "image/jpeg",
    File: "application/pdf",
    Video: "video/mp4",
    Audio: "audio/wav",
}


def content_list(request: ChatRequest, traits: ModelTraits, names: ToolNames) -> list[Document]:
    """The ``contents`` of a request.

    Raises:
        InvalidRequestError: Nothing is left of the conversation, or it holds what Gemini cannot be
            told.
    """
    contents: list[Document] = []
    before: list[Part] = []
    for turn in request.turns:
        role = "user" if turn.role == "user" else "model"
        parts = _Turn(request, traits, names).read(_in_order(turn.parts, before))
        before = turn.parts
        if not parts:
            continue
        if contents and contents[-1]["role"] == role:
            # What stood between them had no words here.
            contents[-1]["parts"] += parts
        else:
            contents.append({"role": role, "parts": parts})
    if not contents:
        raise InvalidRequestError(
            "messages: Gemini needs a message that is not blank",
            param="messages",
            code="invalid_value",
        )
    return contents


def _in_order(parts: list[Part], before: list[Part]) -> list[Part]:
    """Results in the order of the calls ``before`` them.

    Nothing else tells which call of one function each is of, where the ids were made here.
    """
    if len(parts) < 2 or type(parts[1]) is not ToolResult:
        return parts
    places = {part.id: place for place, part in enumerate(before) if type(part) is ToolCall}
    return sorted(
        parts, key=lambda part: places[part.id] if type(part) is ToolResult else len(before)
    )


def lose_marker(request: ChatRequest, part: Any) -> None:
    """Report a cache marker, where there is one."""
    if part.cache_control is not None:
        request.losses.add(f"{part.path}.cache_control")


class _Turn:
    """Tells one turn."""

    __slots__ = ("_calls", "_later", "_names", "_parts", "_request", "_signature", "_traits")

    def __init__(self, request: ChatRequest, traits: ModelTraits, names: ToolNames) -> None:
        self._request = request
        self._traits = traits
        self._names = names
        self._parts: list[Document] = []
        self._later: list[Document] = []
        """What of the results stands after them."""
        self._calls = 0
        self._signature: str | None = None
        """Of a thought, for the part that comes next."""

    def read(self, parts: list[Part]) -> list[Document]:
        for part in parts:
            if isinstance(part, Text | Refusal):
                lose_marker(self._request, part)
                self._say({"text": part.text})
            elif isinstance(part, ToolCall):
                self._call(part)
            elif isinstance(part, ToolResult):
                self._result(part)
            elif isinstance(part, Thinking):
                self._thought(part)
            elif isinstance(part, ProviderBlock):
                self._own(part)
            elif isinstance(part, RedactedThinking):
                self._request.losses.add(part.path, "thoughts of another provider")
            else:
                self._say(self._media(part))
        self._sign()
        return self._parts + self._later

    def _say(self, told: Document) -> None:
        if self._signature is not None:
            told["thoughtSignature"], self._signature = self._signature, None
        self._parts.append(told)

    def _sign(self) -> None:
        """Send back a signature that came with nothing but itself."""
        if self._signature is not None:
            self._say({"text": ""})

    def _thought(self, part: Thinking) -> None:
        signature = part.signature
        if not isinstance(signature, str) or not signature.startswith(SIGNED_HERE):
            self._request.losses.add(part.path, "thoughts without a signature of Gemini's")
            return
        self._sign()
        if part.text:
            self._parts.append({"text": part.text, "thought": True})
        self._signature = signature.removeprefix(SIGNED_HERE)

    def _own(self, part: ProviderBlock) -> None:
        kind = part.block["type"]
        if kind not in OWN_BLOCKS or kind not in part.block:
            self._request.losses.add(part.path, "a block of another provider")
            return
        told: Document = {kind: part.block[kind]}
        if isinstance(signature := part.block.get("thoughtSignature"), str):
            told["thoughtSignature"] = signature
        self._parts.append(told)

    # Calls and results

    def _call(self, part: ToolCall) -> None:
        self._sign()
        lose_marker(self._request, part)
        call: Document = {"name": self._names.there(part.name), "args": part.raw_arguments}
        if not _MADE_ID.fullmatch(part.id):
            call["id"] = part.id
        told: Document = {"functionCall": call}
        extra = part.extra if isinstance(part.extra, dict) else {}
        if part.extra and extra.keys() != {"google"}:
            self._request.losses.add(f"{part.path}.extra_content")
        google = extra.get("google")
        signature = google.get("thought_signature") if isinstance(google, dict) else None
        if isinstance(signature, str):
            told["thoughtSignature"] = signature
        elif not self._calls and self._traits.wants_signatures:
            told["thoughtSignature"] = _NO_SIGNATURE
        self._calls += 1
        self._parts.append(told)

    def _result(self, part: ToolResult) -> None:
        lose_marker(self._request, part)
        text = "\n".join(one.text for one in part.parts if isinstance(one, Text))
        told: Document = {
            "name": self._names.there(part.name),
            "response": {"error": text} if part.is_error else _as_object(text),
        }
        if not _MADE_ID.fullmatch(part.id):
            told["id"] = part.id
        within: list[Document] = []
        after: list[Document] = []
        for one in part.parts:
            if isinstance(one, Text):
                lose_marker(self._request, one)
            else:
                media = self._media(one)
                (within if self._fits(media) else after).append(media)
        if within:
            told["parts"] = within
        if after:
            self._request.losses.add(f"{part.path}.content", "its media stand after the results")
            self._later += [{"text": f"Of the result of {part.name}:"}, *after]
        self._parts.append({"functionResponse": told})

    def _fits(self, media: Document) -> bool:
        """Whether the model sees it within a result: bytes, and what was uploaded to Google."""
        (held,) = media.values()
        is_there = "data" in held or held["fileUri"].startswith(_HELD_THERE)
        return self._traits.sees_results and is_there and held["mimeType"] in _IN_RESULTS

    # Media

    def _media(self, part: Part) -> Document:
        if not isinstance(part, Media):
            raise _unsupported(part, "Gemini takes text, images, documents, sound and films here")
        if isinstance(part, Image) and part.detail not in (None, "auto"):
            self._request.losses.add(f"{part.path}.image_url.detail")
        lose_marker(self._request, part)
        kind = part.media_type or _guessed(part)
        if part.url is not None:
            return {"fileData": {"mimeType": kind, "fileUri": part.url}}
        if part.data is None:
            raise _unsupported(
                part, "an uploaded file belongs to the provider that it was uploaded to"
            )
        return {"inlineData": {"mimeType": kind, "data": part.data}}


def _as_object(text: str) -> Any:
    """A result that is a JSON object as it stands, and any other in one."""
    if text[:100].lstrip()[:1] == "{":
        try:
            msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            return {"result": text}
        return msgspec.Raw(text.encode())
    return {"result": text}


def _guessed(part: Media) -> str:
    """A media type by the ending of the address or the name, else the usual one of its kind."""
    name = (part.url or getattr(part, "name", None) or "").partition("?")[0].partition("#")[0]
    ending = name.rpartition(".")[2].lower()
    return _TYPES_BY_ENDING.get(ending) or _USUAL_TYPES[type(part)]


def _unsupported(part: Any, why: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{part.path}: {why}", param=part.path, code="unsupported_content_part"
    )
