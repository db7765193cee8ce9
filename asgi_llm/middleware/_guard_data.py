"""Data URLs, and the bytes of pictures, sounds and files that stand in a document as base64."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final
from urllib.parse import quote, unquote_to_bytes

__all__ = ["CARRIERS", "as_data_url", "is_binary", "text_of_data_url"]

CARRIERS: Final = frozenset(
    (
        "audio", "b64_json", "data", "file_data", "image", "image_url", "images", "mask",
        "partial_image_b64", "result", "url", "video",
    )
)  # fmt: skip
"""Fields in which the API has such bytes."""

_LONGEST_HEAD: Final = 128
_LEAST_DATA: Final = 256
_LEAST_LINE: Final = 60
_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
# What else stands in a head may be a text, and so may what is of another type.
_TEXT_HEAD: Final = re.compile(
    r"data:(?:text/(?:plain|html|css|csv|markdown|xml|javascript|tab-separated-values|yaml|rtf)"
    r"|application/(?:json|xml|yaml|x-yaml|javascript|csv|x-ndjson|rtf)|image/svg\+xml)?"
    r"(?:;charset=(?:utf-?8|us-ascii))?(?:;base64)?",
    re.IGNORECASE,
)
_BINARY_HEAD: Final = re.compile(
    r"data:(?:image/(?:png|jpe?g|gif|webp|bmp|tiff?|hei[cf]|avif)"
    r"|(?:audio|video)/(?:x-)?(?:wav|wave|mpeg|mp3|mp4|m4a|mpga|ogg|opus|flac|webm|aac|aiff"
    r"|pcm(?:16)?|quicktime)(?:;codecs=opus)?"
    r"|application/(?:pdf|zip|octet-stream|msword|vnd\.ms-(?:excel|powerpoint)"
    r"|vnd\.openxmlformats-officedocument\.(?:wordprocessingml\.document|spreadsheetml\.sheet"
    r"|presentationml\.presentation)));base64",
    re.IGNORECASE,
)


def is_binary(value: str) -> bool:
    """Whether ``value`` is base64, or a data URL, of what is no text, from its start to its end."""
    if value.startswith("data:"):
        head, comma, value = value.partition(",")
        if not comma or len(head) > _LONGEST_HEAD or _BINARY_HEAD.fullmatch(head) is None:
            return False
    elif len(value) < _LEAST_DATA:
        return False
    if not value.isascii():
        return False
    lines = value.encode().rstrip().rstrip(b"=").replace(b"\r\n", b"\n").split(b"\n")
    # Words in lines are no base64, as far as anybody can tell.
    if any(len(line) < _LEAST_LINE for line in lines[:-1]):
        return False
    return not any(line.translate(None, _BASE64) for line in lines) and not _says_text(lines[0])


def _says_text(packed: bytes) -> bool:
    """Whether what a run of base64 begins with can be read."""
    packed = packed[:128]
    data = base64.b64decode(packed[: len(packed) // 4 * 4])
    return bool(data) and _as_text(data[:-3] if len(data) > 3 else data) is not None


def text_of_data_url(value: str) -> str | None:
    """What a data URL of text holds; None where it is none, or cannot be read."""
    head, comma, rest = value.partition(",")
    if not comma or len(head) > _LONGEST_HEAD or _TEXT_HEAD.fullmatch(head) is None:
        return None
    if not head.lower().endswith(";base64"):
        return unquote_to_bytes(rest).decode("utf-8", "replace")
    try:
        return _as_text(base64.b64decode(rest, validate=True))
    except (binascii.Error, ValueError):
        return None


def _as_text(data: bytes) -> str | None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return text if all(one >= " " or one in "\t\r\n" for one in text) else None


def as_data_url(before: str, text: str) -> str:
    """The data URL ``before``, with ``text`` for what it held."""
    head = before.partition(",")[0]
    if head.lower().endswith(";base64"):
        return f"{head},{base64.b64encode(text.encode()).decode()}"
    return f"{head},{quote(text)}"
