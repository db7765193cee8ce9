"""The pieces of a stream: one event each, as the bytes that came, until something in it changes."""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from asgi_llm import _json, _sse
from asgi_llm.middleware._guard_echoes import without_echoes
from asgi_llm.middleware._guard_texts import Path, Text, with_texts
from asgi_llm.types import Document

__all__ = [
    "ENVELOPE",
    "Piece",
    "indexes_of",
    "read_simple_chunk",
    "refusal_events",
    "split_piece",
]

ENVELOPE: Final = frozenset(
    (
        "id", "object", "created", "model", "system_fingerprint", "service_tier", "usage",
        "choices", "obfuscation", "provider",
    )
)  # fmt: skip
"""Fields of a chunk that hold no text of the answer, but for the choices."""

_ENDS: Final = frozenset(("usage", "choices", "obfuscation"))


class Piece(msgspec.Struct, gc=False, eq=False):
    """One event on its way.

    Attributes:
        raw: Its bytes.
        known: Its data; None where nobody has needed all of it yet.
        type: As in its ``event:`` field.
        waits: Texts in it that have not been cleared.
        lanes: Keys of the texts that it carries pieces of.
        edits: What it says otherwise, and where.
        is_text: Whether it is no JSON: its data is a text, and stands in ``data`` of ``known``.
    """

    raw: bytes
    known: Document | None = None
    type: str = "message"
    waits: int = 0
    lanes: tuple[Any, ...] = ()
    edits: tuple[tuple[Path, str | None], ...] = ()
    is_text: bool = False

    @property
    def document(self) -> Document:
        """Its data. It is an object, or it would be no piece."""
        if self.known is None:
            self.known = cast("Document", _json.decode_unchecked(self.raw[6:]))
        return self.known

    def change(self, path: Path, new: str | None) -> None:
        """Let it say ``new`` at ``path``, or nothing."""
        self.edits = (*self.edits, (path, new))

    def encoded(self) -> bytes:
        """What to send for it."""
        if not self.edits:
            return self.raw
        kind = None if self.type == "message" else self.type
        said = self.edited()
        return _sse.encode(said["data"].encode() if self.is_text else _json.encode(said), kind)

    def edited(self) -> Document:
        """Its data, with what it says otherwise."""
        if not self.edits:
            return self.document
        document = with_texts(
            self.document, [(Text(path, "", ""), new) for path, new in self.edits]
        )
        return without_echoes(document, [path for path, _ in self.edits])


def indexes_of(choices: Any) -> set[int] | None:
    """Of the choices that an event is about; None: it is not about choices."""
    if type(choices) is not list:
        return None
    found: set[int] = set()
    for position, choice in enumerate(choices):
        index = choice.get("index") if type(choice) is dict else None
        found.add(index if type(index) is int else position)
    return found


class _Delta(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    content: str
    role: Any = None
    refusal: None = None


class _Choice(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    delta: _Delta
    index: int = 0
    finish_reason: None = None
    logprobs: None = None


class _Chunk(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    choices: tuple[_Choice]
    id: Any = None
    object: Any = None
    created: Any = None
    model: Any = None
    usage: Any = None
    service_tier: Any = None
    system_fingerprint: Any = None
    obfuscation: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode
_OTHERS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def read_simple_chunk(chunk: bytes) -> tuple[int, str] | None:
    """The choice and the content of one chat event that has nothing else to say; None: it has."""
    if not chunk.startswith(b"data: {") or chunk.find(b"\n") != len(chunk) - 2:
        return None
    try:
        choice = _decode(chunk[6:]).choices[0]
    except _OTHERS:
        return None
    return choice.index, choice.delta.content


def split_piece(piece: Piece, path: Path, at: int) -> tuple[Piece, Piece]:
    """Two events in place of one: its text up to ``at`` with what stands beside it, and the rest.

    What ends a choice or an answer stays with the second one.
    """
    document = piece.edited()
    choice = document["choices"][path[1]]
    text = _at(document, path)
    first = with_texts(document, [(Text(path, "", ""), text[:at])])
    first["choices"][path[1]].update(
        {key: None for key in ("finish_reason", "logprobs") if key in choice}
    )
    if first.get("usage") is not None:
        first["usage"] = None
    rest: Document = {key: value for key, value in choice.items() if type(value) is not dict}
    if "logprobs" in choice:
        rest["logprobs"] = None
    _put(rest, choice, path[2:], text[at:])
    second = {**document, "choices": [rest]}
    return _made(first, piece), _made(second, piece)


def _made(document: Document, piece: Piece) -> Piece:
    return Piece(_sse.encode(_json.encode(document)), document)


def _at(document: Any, path: Path) -> Any:
    for step in path:
        document = document[step]
    return document


def _put(target: Any, source: Any, path: tuple[Any, ...], text: str) -> None:
    """Build in ``target`` no more of ``source`` than leads to the text at ``path``."""
    step = path[0]
    inner = source[step]
    if len(path) == 1:
        target[step] = text
        return
    if type(inner) is list:
        one = inner[path[1]]
        entry = {"index": one["index"]} if type(one) is dict and "index" in one else {}
        target[step] = [entry]
        _put(entry, one, path[2:], text)
        return
    target[step] = {}
    _put(target[step], inner, path[1:], text)


def refusal_events(template: Document | None, open_choices: list[int]) -> bytes:
    """The last chunks of an answer that a guard has cut off, one for each choice."""
    if template is None:
        return b""
    envelope = {key: value for key, value in template.items() if key in ENVELOPE - _ENDS}
    is_text = template.get("object") == "text_completion"
    body: Document = {"text": ""} if is_text else {"delta": {}}
    out = b""
    for index in open_choices:
        choice = {"index": index, **body, "logprobs": None, "finish_reason": "content_filter"}
        out += _sse.encode(_json.encode({**envelope, "choices": [choice]}))
    return out
