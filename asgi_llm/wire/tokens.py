"""How many tokens a request holds, counted before it is sent.

Exact where a vocabulary is public and the request is plain text, else an estimate that says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final, Protocol

import msgspec

from asgi_llm._optional import require
from asgi_llm.errors import ConfigurationError
from asgi_llm.types import Document
from asgi_llm.wire._plain_texts import measure_texts

__all__ = [
    "IMAGE_TOKENS",
    "LOW_DETAIL_IMAGE_TOKENS",
    "MEDIA_TOKENS",
    "UNUSUAL_FIELDS",
    "BPETokens",
    "EstimatedTokens",
    "TokenCount",
    "TokenCounter",
    "estimate_messages",
]

IMAGE_TOKENS: Final = 1000
"""For an image, whose size nobody looks up. OpenAI's run from 85 to some 1,500."""
LOW_DETAIL_IMAGE_TOKENS: Final = 85
"""For an image that is asked for with ``"detail": "low"``."""
MEDIA_TOKENS: Final = 1000
"""For a file, a sound or a video."""

_MESSAGE_TOKENS: Final = 4
"""What a message costs besides its text: its borders and its role."""
_ANSWER_TOKENS: Final = 3
"""What the beginning of the answer costs."""
_BYTES_A_TOKEN: Final = 4
"""OpenAI's rule of thumb. In UTF-8 it also comes near for scripts with several bytes a letter."""
_LARGE_CHARACTERS: Final = 1024 * 1024

_TEXTS: Final = ("prompt", "input", "query", "instructions", "suffix", "documents")
_SCHEMAS: Final = ("tools", "functions", "response_format")
UNUSUAL_FIELDS: Final = frozenset((*_TEXTS, *_SCHEMAS))
"""Fields beside the messages whose tokens count."""
_MEDIA: Final = frozenset(
    ("input_audio", "file", "file_url", "document_url", "video_url", "audio_url")
)


class TokenCount(msgspec.Struct, frozen=True, gc=False):
    """Tokens of a request."""

    tokens: int
    """At least 0."""
    exact: bool
    """False where it is an estimate."""


class TokenCounter(Protocol):
    """Counts the tokens of a request."""

    async def count(self, document: Document, model: str) -> TokenCount:
        """The input tokens of ``document`` for ``model``, as the client names it.

        The document need not be valid; what makes no sense in it counts as nothing.
        """
        ...


class EstimatedTokens:
    """A token for every four bytes of text: cheap, for any model, and always an estimate."""

    async def count(self, document: Document, model: str) -> TokenCount:
        """The estimate; ``model`` makes no difference."""
        if UNUSUAL_FIELDS.isdisjoint(document):
            tokens = estimate_messages(document.get("messages"))
            if tokens >= 0:
                return TokenCount(tokens, False)
        found = _Contents(document)
        return TokenCount(found.fixed + estimate_text(found.texts), False)


class BPETokens:
    """Counts with the vocabularies of OpenAI's models (the extra ``tokens``).

    Exact for chats, prompts and inputs of plain text, within a token or two a message. An estimate
    for images, sounds, files and tool definitions, and for all models of other makers: Claude and
    Gemini have no public vocabulary.

    Loading them takes some 0.1 s and 140 MB, here in the constructor.

    Args:
        thread_bytes: Requests with more text are counted in a thread, at least 0. Counting takes
            some 20 us a KB.
        max_bytes: Requests with more text are estimated, at least 1.

    Raises:
        ConfigurationError: The package is not installed, or a number is out of range.
    """

    def __init__(self, *, thread_bytes: int = 50_000, max_bytes: int = 2_000_000) -> None:
        if thread_bytes < 0:
            raise ConfigurationError("thread_bytes must be at least 0", param="thread_bytes")
        if max_bytes < 1:
            raise ConfigurationError("max_bytes must be at least 1", param="max_bytes")
        package = require("bpe_openai", extra="tokens")
        self._encodings = {
            name: package.get_encoding(name) for name in ("o200k_base", "cl100k_base")
        }
        self._thread_bytes = thread_bytes
        self._max_bytes = max_bytes

    async def count(self, document: Document, model: str) -> TokenCount:
        """The tokens in the vocabulary of the model's family; others are counted in the newest."""
        found = _Contents(document)
        size = sum(map(_size, found.texts))
        if size > self._max_bytes:
            return TokenCount(found.fixed + estimate_text(found.texts), False)
        name = vocabulary(model)
        encoding = self._encodings[name or "o200k_base"]
        if size > self._thread_bytes:
            tokens = await asyncio.to_thread(_count_texts, encoding, found.texts)
        else:
            tokens = _count_texts(encoding, found.texts)
        return TokenCount(found.fixed + tokens, found.plain and name is not None)


def vocabulary(model: str) -> str | None:
    """The vocabulary of a model, as far as its name says; None: it is not an OpenAI model."""
    name = model.rpartition("/")[2].lower().removeprefix("ft:")
    if name.startswith(_O200K):
        return "o200k_base"
    return "cl100k_base" if name.startswith(_CL100K) else None


_O200K: Final = (
    *("gpt-4o", "chatgpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "gpt-oss"),
    *("o1", "o3", "o4", "codex", "computer-use", "omni-moderation"),
)
_CL100K: Final = ("gpt-4", "gpt-3.5", "gpt-35", "text-embedding-3", "text-embedding-ada-002")


_PIECE_CHARACTERS: Final = 16_384


def _count_texts(encoding: Any, texts: list[str]) -> int:
    # The tokenizer keeps the interpreter to itself while it runs: piece by piece, others get
    # their turn in between.
    encode = encoding.encode_ordinary
    return sum(len(encode(piece)) for text in texts for piece in _pieces(text))


def _pieces(text: str) -> Iterator[str]:
    """``text`` in pieces, cut before a space where there is one: no token goes across that."""
    start = 0
    while len(text) - start > _PIECE_CHARACTERS:
        end = text.rfind(" ", start + 1, start + _PIECE_CHARACTERS)
        end = start + _PIECE_CHARACTERS if end < 0 else end
        yield text[start:end]
        start = end
    yield text[start:] if start else text


def estimate_messages(messages: Any) -> int:
    """The tokens of a chat whose messages are but a role and a plain text each; else -1."""
    if not messages:
        return -1
    size = measure_texts(messages)
    if size < 0:
        return -1
    text_tokens = (size + _BYTES_A_TOKEN - 1) // _BYTES_A_TOKEN
    return _ANSWER_TOKENS + _MESSAGE_TOKENS * len(messages) + text_tokens


def estimate_text(texts: list[str]) -> int:
    """Tokens of ``texts`` by their bytes in UTF-8."""
    return -(-sum(map(_size, texts)) // _BYTES_A_TOKEN)


def _size(text: str) -> int:
    """Bytes of ``text`` in UTF-8; of a large one with other than ASCII letters, about."""
    if text.isascii():
        return len(text)
    if len(text) > _LARGE_CHARACTERS:
        return 3 * len(text)
    return len(text.encode("utf-8", "surrogatepass"))


class _Contents:
    """What of a document is counted.

    Attributes:
        texts: All of its texts.
        fixed: Tokens of what is no text.
        plain: Whether there is nothing in it whose tokens cannot be told exactly.
    """

    __slots__ = ("fixed", "plain", "texts")

    def __init__(self, document: Document) -> None:
        self.texts: list[str] = []
        self.fixed = 0
        self.plain = True
        messages = document.get("messages")
        if isinstance(messages, list):
            self.fixed = _ANSWER_TOKENS
            for message in messages:
                if isinstance(message, dict):
                    self._message(message)
        for name in _TEXTS:
            value = document.get(name)
            if value is not None:
                self._value(value)
        for name in _SCHEMAS:
            value = document.get(name)
            if isinstance(value, dict | list) and value:
                self._encoded(value)

    def _message(self, message: dict[str, Any]) -> None:
        self.fixed += _MESSAGE_TOKENS
        content = message.get("content")
        if isinstance(content, str):
            self.texts.append(content)
        elif content is not None:
            self._value(content)
        if len(message) > 2:
            name = message.get("name")
            if isinstance(name, str):
                self.texts.append(name)
                self.fixed += 1
            for field in ("tool_calls", "function_call", "audio"):
                value = message.get(field)
                if isinstance(value, dict | list) and value:
                    self._encoded(value)
            for field in ("refusal", "reasoning_content", "reasoning"):
                value = message.get(field)
                if isinstance(value, str):
                    self.texts.append(value)

    def _value(self, value: Any) -> None:
        """A text, tokens, parts, or lists of these, however deep."""
        left = [value]
        while left:
            one = left.pop()
            if isinstance(one, str):
                self.texts.append(one)
            elif isinstance(one, dict):
                self._part(one, left)
            elif isinstance(one, list):
                kinds = set(map(type, one))
                if kinds == {int}:
                    self.fixed += len(one)
                elif kinds == {str}:
                    self.texts += one
                else:
                    left += one
            elif type(one) is int:
                self.fixed += 1

    def _part(self, part: dict[str, Any], left: list[Any]) -> None:
        image = part.get("image_url")
        if image is not None:
            low = isinstance(image, dict) and image.get("detail") == "low"
            self.fixed += LOW_DETAIL_IMAGE_TOKENS if low else IMAGE_TOKENS
            self.plain = False
        elif not _MEDIA.isdisjoint(part):
            self.fixed += MEDIA_TOKENS
            self.plain = False
        else:
            for name, value in part.items():
                if name != "type":
                    left.append(value)

    def _encoded(self, value: Any) -> None:
        """What the provider writes out in a form of its own, of about the length of its JSON."""
        self.texts.append(msgspec.json.encode(value).decode())
        self.plain = False
