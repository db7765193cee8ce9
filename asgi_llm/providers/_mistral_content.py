"""What the messages of a chat hold, as Mistral takes it: parts, and the ids of calls.

Source: Mistral AI API reference, "Chat", and the types of its Python SDK 3.7; November 2026.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers._losses import Losses
from asgi_llm.types import Document

__all__ = [
    "ShortIds",
    "cannot",
    "content_of",
    "put",
    "report_rest",
    "thought",
    "unsupported_tool",
]


def put(target: Document, name: str, value: Any) -> None:
    """Set a field, unless there is nothing to say."""
    if value is not None:
        target[name] = value


def report_rest(given: dict[str, Any], known: Iterable[str], path: str, losses: Losses) -> None:
    """Report every field that is not among the ``known`` and says something."""
    if len(given) > 1:
        for name, value in given.items():
            if name not in known and value is not None and value != []:
                losses.add(f"{path}.{name}")


def unsupported_tool(path: str, kind: Any) -> InvalidRequestError:
    """The error for a tool of another provider's own."""
    return InvalidRequestError(
        f"{path}: a tool of the type {kind!r} cannot be carried to this provider",
        param=path,
        code="unsupported_tool",
    )


def content_of(given: Any, path: str, losses: Losses) -> Any:
    """A message's content: the string, or the parts that say something."""
    if isinstance(given, str):
        return given
    parts = (_part(part, f"{path}[{index}]", losses) for index, part in enumerate(given))
    return [part for part in parts if part is not None]


def _part(part: dict[str, Any], path: str, losses: Losses) -> Document | None:
    kind = part["type"]
    if kind == "text":
        if len(part) == 2:
            return part if part["text"] else None
        report_rest(part, ("text", "type"), path, losses)
        return {"type": "text", "text": part["text"]} if part["text"] else None
    read = _PARTS.get(kind)
    if read is None:
        raise cannot(path, kind, "Mistral has no such part")
    told = read(part, path, losses)
    report_rest(part, (*(told or ()), *_READ, kind), path, losses)
    return told


def cannot(path: str, kind: str, why: str) -> InvalidRequestError:
    """The error for a part that there is no way to tell."""
    return InvalidRequestError(
        f"{path}.type: a part of the type {kind!r} cannot be carried to this provider: {why}",
        param=f"{path}.type",
        code="unsupported_content_part",
    )


def _address(value: Any) -> str:
    """Plain addresses are Mistral's form, ``{"url": ...}`` is that of others."""
    return str(value["url"] if isinstance(value, dict) else value)


def _image(part: dict[str, Any], path: str, losses: Losses) -> Document:
    given = part["image_url"]
    if isinstance(given, dict):
        url: Document = {"url": given["url"]}
        put(url, "detail", given.get("detail"))
        return {"type": "image_url", "image_url": url}
    return {"type": "image_url", "image_url": given}


def _audio(part: dict[str, Any], path: str, losses: Losses) -> Document:
    """Base64 or an address alone: Mistral finds out about the format by itself."""
    given = part["input_audio"]
    if isinstance(given, dict):
        if given.get("format") not in (None, "mp3", "wav"):
            losses.add(f"{path}.input_audio.format")
        given = given["data"]
    return {"type": "input_audio", "input_audio": given}


def _file(part: dict[str, Any], path: str, losses: Losses) -> Document:
    given = part.get("file") or {}
    data = given.get("file_data")
    if data is None:
        return {"type": "file", "file_id": given.get("file_id") or part.get("file_id")}
    if data[:5].lower() != "data:" and "://" not in data:
        data = f"data:application/pdf;base64,{data}"
    told: Document = {"type": "document_url", "document_url": data}
    put(told, "document_name", given.get("filename"))
    return told


def _document(part: dict[str, Any], path: str, losses: Losses) -> Document:
    told: Document = {"type": "document_url", "document_url": _address(part[part["type"]])}
    put(told, "document_name", part.get("document_name"))
    return told


def _thinking(part: dict[str, Any], path: str, losses: Losses) -> Document:
    given = part["thinking"]
    if isinstance(given, str):
        given = [{"type": "text", "text": given}]
    told: Document = {"type": "thinking", "thinking": given}
    put(told, "closed", part.get("closed"))
    if isinstance(part["thinking"], list):
        put(told, "signature", part.get("signature"))
    return told


def _reasoning(part: dict[str, Any], path: str, losses: Losses) -> Document:
    return thought(part.get("reasoning") or part.get("text") or "")


def _refusal(part: dict[str, Any], path: str, losses: Losses) -> Document:
    losses.add(path, "it is told as text")
    return {"type": "text", "text": part["refusal"]}


def _redacted(part: dict[str, Any], path: str, losses: Losses) -> None:
    losses.add(path, "it is another provider's")


# Fields that the functions below look at; "file_id" is not among them, for it may go unused.
_READ: Final = ("data", "file", "reasoning", "text", "thinking", "type")

_PARTS: Final[Mapping[str, Callable[[dict[str, Any], str, Losses], Document | None]]] = {
    "audio_url": lambda part, path, losses: {
        "type": "input_audio",
        "input_audio": _address(part["audio_url"]),
    },
    "document_url": _document,
    "file": _file,
    "file_url": _document,
    "image_url": _image,
    "input_audio": _audio,
    "reasoning": _reasoning,
    "redacted_thinking": _redacted,
    "reference": lambda part, path, losses: {
        "type": "reference",
        "reference_ids": part["reference_ids"],
    },
    "refusal": _refusal,
    "thinking": _thinking,
}


def thought(text: str, signature: Any = None) -> Document:
    """A part of thoughts."""
    told: Document = {"type": "thinking", "thinking": [{"type": "text", "text": text}]}
    if signature:
        told["signature"] = signature
    return told


# Ids of calls

_SHORT: Final = re.compile(r"[A-Za-z0-9]{9}")
_ALPHABET: Final = string.digits + string.ascii_letters


class ShortIds:
    """The ids of one conversation's calls as Mistral takes them: nine letters and digits.

    Its own stay as they are; any other has the same one in every request, which keeps the prompt
    the same for its cache. No two are alike.
    """

    __slots__ = ("_known", "_taken")

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._taken: set[str] = set()

    def short(self, call_id: str) -> str:
        """What Mistral is told for the client's ``call_id``."""
        known = self._known.get(call_id)
        if known is None:
            known, salted = call_id, call_id
            while not _SHORT.fullmatch(known) or known in self._taken:
                known = _digest(salted)
                salted += "+"
            self._known[call_id] = known
            self._taken.add(known)
        return known


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    number = int.from_bytes(digest[:8])
    letters = ""
    for _ in range(9):
        number, place = divmod(number, len(_ALPHABET))
        letters += _ALPHABET[place]
    return letters
