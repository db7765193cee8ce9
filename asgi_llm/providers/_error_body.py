"""What an upstream's error body says, in any of the shapes that OpenAI-format servers use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from asgi_llm import _json

__all__ = ["ErrorDetail", "read", "read_body"]

_MAX_BODY_BYTES: Final = 256 * 1024
_MAX_PLAIN_TEXT: Final = 300
_DELAY = re.compile(r"(\d+(?:\.\d+)?)s")


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorDetail:
    """What an error body says, still unscrubbed."""

    message: str = ""
    type: str | None = None
    code: str | None = None
    param: str | None = None
    status: int | None = None
    """A status that the body names, as OpenRouter and Groq do within a stream."""
    inner_code: str | None = None
    retry_after_seconds: float | None = None

    def says(self, words: frozenset[str]) -> bool:
        """Whether the code, the inner code or the type is one of ``words`` (lower case)."""
        return any(
            word is not None and word.lower() in words
            for word in (self.code, self.inner_code, self.type)
        )


def read_body(body: bytes) -> ErrorDetail:
    """Read a body: JSON, or one line of text. Anything else says nothing."""
    if len(body) > _MAX_BODY_BYTES:
        return ErrorDetail()
    try:
        return read(_json.decode_unchecked(body))
    except (ValueError, RecursionError):
        # Not JSON: a proxy's HTML page, or a line of text.
        pass
    text = body[: _MAX_PLAIN_TEXT + 1].decode("utf-8", "replace").strip()
    if len(text) > _MAX_PLAIN_TEXT or "<" in text or "{" in text or "\x00" in text:
        return ErrorDetail()
    return ErrorDetail(message=text)


def read(data: Any) -> ErrorDetail:
    """Read any of the shapes that OpenAI-format servers use."""
    if isinstance(data, list) and data:
        # Gemini's OpenAI endpoint wraps its error in a list.
        data = data[0]
    if isinstance(data, str):
        return ErrorDetail(message=data)
    if not isinstance(data, dict):
        return ErrorDetail()
    inner = data.get("error")
    if isinstance(inner, dict):
        return _read_object(inner)
    if isinstance(inner, str) and inner:
        # {"error": "text"}; with a message beside it the former is the short name.
        if isinstance(data.get("message"), str):
            return _read_object({"code": inner, **data})
        return _read_object({**data, "message": inner})
    return _read_object(data)


def _read_object(error: dict[str, Any]) -> ErrorDetail:
    message, param = _message(error)
    status = _number(error.get("status_code")) or _number(error.get("status"))
    code = error.get("code")
    if (number := _number(code)) is not None and 100 <= number <= 599:
        # OpenRouter, vLLM and Azure put the status where OpenAI has a word.
        status, code = status or number, None
    inner = error.get("innererror")
    return ErrorDetail(
        message=message,
        type=_text(error.get("type")),
        code=_text(code) or _text(error.get("error_type")),
        param=_text(error.get("param")) or param,
        status=status,
        inner_code=_text(inner.get("code")) if isinstance(inner, dict) else None,
        retry_after_seconds=_retry_delay(error.get("details")),
    )


def _message(error: dict[str, Any]) -> tuple[str, str | None]:
    """The text, and the path of the field where a validation list names one."""
    metadata = error.get("metadata")
    if isinstance(metadata, dict) and (raw := _text(metadata.get("raw"))):
        # OpenRouter's own text says only "Provider returned error".
        return _unwrapped(raw)
    for name in ("message", "detail", "msg", "errors"):
        value = error.get(name)
        if isinstance(value, str) and value:
            return _unwrapped(value)
        if isinstance(value, dict):
            return _message(value)
        if isinstance(value, list) and value:
            return _validation(value)
    return "", None


def _unwrapped(text: str) -> tuple[str, str | None]:
    """The message and path within ``text``, where that is the JSON body of yet another server."""
    if text.lstrip().startswith(("{", "[")):
        inner = read_body(text.encode())
        if inner.message:
            return inner.message, inner.param
    return text, None


def _validation(rows: list[Any]) -> tuple[str, str | None]:
    """FastAPI's and Mistral's lists of ``{"loc": [...], "msg": ...}``; the first three rows."""
    texts: list[str] = []
    param: str | None = None
    for row in rows[:3]:
        if isinstance(row, str):
            texts.append(row)
        elif isinstance(row, dict):
            text = _text(row.get("msg")) or _text(row.get("message")) or ""
            path = _path(row.get("loc"))
            param = param or path
            texts.append(f"{path}: {text}" if path else text)
    return "; ".join(text for text in texts if text), param


def _path(loc: Any) -> str | None:
    if not isinstance(loc, list):
        return None
    path = ""
    for part in loc[1:] if loc[:1] == ["body"] else loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif isinstance(part, str):
            path += f".{part}" if path else part
    return path or None


def _text(value: Any) -> str | None:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def _number(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
        return int(value)
    return None


def _retry_delay(details: Any) -> float | None:
    """Google's ``RetryInfo``: ``{"retryDelay": "7s"}`` among the details."""
    for row in details if isinstance(details, list) else ():
        delay = row.get("retryDelay") if isinstance(row, dict) else None
        if isinstance(delay, str) and (found := _DELAY.fullmatch(delay)):
            return float(found[1])
    return None
