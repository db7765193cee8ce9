"""What says a text of an answer once more: its tokens, its words, and its sound."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from asgi_llm.middleware._guard_texts import Path
from asgi_llm.types import Document

__all__ = ["tokens_say", "without_echoes"]

_ECHOES: Final = ("logprobs", "words", "segments")
_NO_TOKENS: Final = frozenset(("token_logprobs", "top_logprobs", "text_offset"))


def without_echoes(document: Document, paths: Iterable[Path]) -> Document:
    """``document`` without what says the texts once more that were changed at ``paths``.

    All that leads to these is a copy already, and is changed.
    """
    for path in paths:
        holder: Any = document
        for step in path:
            if type(holder) is dict:
                for key in _ECHOES:
                    if key != step and holder.get(key) is not None:
                        holder[key] = None
                if step == "transcript" and type(holder.get("data")) is str:
                    holder["data"] = ""
            elif type(holder) is not list:
                # It is gone, or it has another name now.
                break
            holder = holder.get(step) if type(holder) is dict else holder[step]
        if len(path) > 2 and path[0] == "choices":
            choice = document["choices"][path[1]]
            message = choice.get("message") if type(choice) is dict else None
            if type(message) is dict and type(message.get("audio")) is dict:
                choice["message"] = {**message, "audio": None}
    return document


def tokens_say(logprobs: Any, said: dict[str, Any]) -> bool:
    """Whether tokens are no more than the texts that came with them.

    Args:
        logprobs: Of a choice, or of an event.
        said: What the tokens may be of: a delta, a choice of a text completion, an event.
    """
    if type(logprobs) is list:
        return _joined(logprobs) in (said.get("delta") or "", said.get("text") or "", "")
    if type(logprobs) is not dict:
        return logprobs is None
    for name, tokens in logprobs.items():
        field = "text" if name == "tokens" else name
        if tokens and name not in _NO_TOKENS and _joined(tokens) != (said.get(field) or ""):
            return False
    return True


def _joined(tokens: Any) -> str | None:
    """What tokens say together; None: there is no telling."""
    if type(tokens) is not list:
        return None
    out: list[str] = []
    for token in tokens:
        text = token.get("token") if type(token) is dict else token
        if type(text) is not str:
            return None
        out.append(text)
    return "".join(out)
