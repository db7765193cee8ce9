"""One look at plain text in which nothing is found, as in most: all rules in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, Protocol

import msgspec

from asgi_llm._optional import require
from asgi_llm.guards.patterns import PatternGuard
from asgi_llm.middleware._guard_views import RUN

__all__ = ["Judged", "QuickLook", "read_simple_answer"]

_MEMORY_BYTES: Final = 64 * 1024 * 1024
_DISGUISED: Final = rf"[A-Za-z0-9+/_-]{{{RUN}}}|%[0-9A-Fa-f]{{2}}|\\|&#"
_LOUD: Final = r"\x01\x02look\x02\x01"
_MOST: Final = 16 * 1024


Judged = Literal["clean", "plain", "unknown"]


class OfRoles(Protocol):
    """What looks at the texts of some roles; of all, where none is named."""

    @property
    def roles(self) -> frozenset[str]: ...


class QuickLook:
    """Tells of ASCII text that no rule can find anything in it, whichever part of it is a text.

    Args:
        guards: Whose rules.
        near: Characters on each side of a border between texts that a finding can span.

    Attributes:
        works: False where rules depend on where a text begins or ends, or are too many.
    """

    __slots__ = ("_disguised", "_match", "_near", "_owners", "works")

    def __init__(self, guards: Sequence[PatternGuard], near: int) -> None:
        re2 = require("re2", extra="guards")
        options = re2.Options()
        options.max_mem = _MEMORY_BYTES
        options.log_errors = False
        rules: Any = re2.Set.SearchSet(options)
        # What stands behind them is for pieces of streams alone.
        owned = [
            (number, one)
            for number, guard in enumerate(guards)
            for one in guard.triggers[: len(guard.rules)]
        ]
        self._owners = [number for number, _ in owned]
        patterns = [one for _, one in owned]
        self._disguised = len(patterns)
        for pattern in (*patterns, _DISGUISED, _LOUD):
            # Texts are looked at as lines of one, so that their ends are ends of lines.
            rules.Add(f"(?m:{pattern})")
        rules.Compile()
        self._match = rules.Match
        self._near = near
        # A Set that has no room for its automaton matches nothing, without a word.
        self.works = bool(rules.Match(b"\x01\x02look\x02\x01")) and not any(
            map(_is_anchored, patterns)
        )

    def judge(self, texts: Sequence[str], chains: Iterable[Iterable[int]] = ()) -> Judged:
        """What can be said of ``texts`` at one look.

        ``clean``: nothing can be found in any of them. ``plain``: there is nothing in them that
        means anything else than it says.

        Args:
            texts: In plain ASCII, or they are none that can be told of.
            chains: The orders in which they may be read as one.
        """
        if not texts:
            return "clean"
        if len(texts) == 1:
            return self._judge(texts[0])
        near = self._near
        parts = list(texts)
        for chain in chains:
            parts.append(
                "".join(
                    [
                        text if len(text) <= 2 * near else text[:near] + "\n" + text[-near:]
                        for text in [texts[number] for number in chain]
                    ]
                )
            )
        return self._judge("\n".join(parts))

    def concerns(self, text: str, role: str, rails: Sequence[OfRoles | None]) -> bool:
        """Whether a plain text may hold what one of ``rails`` looks for in texts of its role.

        Args:
            text: In plain ASCII.
            role: Whose it is.
            rails: Those of the guards, in their order.
        """
        for hit in self._match(text.encode()) or ():
            rail = rails[self._owners[hit]] if hit < len(self._owners) else None
            if rail is not None and (not rail.roles or role in rail.roles):
                return True
        return False

    def _judge(self, text: str) -> Judged:
        if len(text) > _MOST or not text.isascii():
            return "unknown"
        hits = self._match(text.encode())
        if not hits:
            return "clean"
        return "unknown" if self._disguised in hits else "plain"


def _is_anchored(pattern: str) -> bool:
    """Whether ``pattern`` names the ends of a text in a way that lines do not have."""
    bare = pattern.replace("\\\\", "")
    return "\\A" in bare or "\\z" in bare or "(?-" in bare


class _Message(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    content: str | None = None
    role: Any = None
    refusal: None = None
    annotations: Any = None


class _Choice(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    message: _Message
    index: int = 0
    finish_reason: Any = None
    logprobs: None = None


class _Answer(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    choices: list[_Choice]
    id: Any = None
    object: Any = None
    created: Any = None
    model: Any = None
    usage: Any = None
    service_tier: Any = None
    system_fingerprint: Any = None


_decode = msgspec.json.Decoder(_Answer).decode
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def read_simple_answer(data: bytes) -> list[str] | None:
    """The texts of a chat completion that has no more than its contents; None: it has more."""
    try:
        answer = _decode(data)
    except _UNREADABLE:
        return None
    texts: list[str] = []
    for choice in answer.choices:
        message = choice.message
        if message.annotations:
            return None
        if message.content:
            texts.append(message.content)
    return texts
