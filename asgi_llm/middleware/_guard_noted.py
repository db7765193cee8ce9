"""The guards that change nothing, and the texts of a stream that they see when they are whole."""

from __future__ import annotations

from typing import Final

from asgi_llm.middleware._guard_checks import Place, look, look_slowly
from asgi_llm.middleware._guard_guarding import Blocked, Guarding, LaneKey
from asgi_llm.middleware._guard_lane import ARGUMENTS, path_of
from asgi_llm.middleware._guard_panel import Panel

__all__ = ["NotedTexts"]

_MAX_CHARACTERS: Final = 1024 * 1024


class NotedTexts:
    """Texts of one stream that are kept for the guards that only note.

    Args:
        guarding: What all texts of the stream share.
        panel: The guards.

    Attributes:
        are_wanted: Whether there is such a guard.
    """

    __slots__ = ("_guarding", "_panel", "_seen", "_size", "are_wanted")

    def __init__(self, guarding: Guarding, panel: Panel) -> None:
        self._guarding = guarding
        self._panel = panel
        self._seen: dict[LaneKey, list[str]] = {}
        self._size = 0
        self.are_wanted = bool(panel.rails)

    def add(self, key: LaneKey, text: str) -> None:
        """A piece of a text has come, or a text that comes whole."""
        if self._size < _MAX_CHARACTERS:
            self._size += len(text)
            self._seen.setdefault(key, []).append(text)

    async def look(self, choice: int | None) -> None:
        """Look at the texts of a choice, or at all of them, each once.

        Raises:
            Blocked: A guard could not tell, and nothing more may pass.
        """
        guarding, panel = self._guarding, self._panel
        for key in list(self._seen):
            if choice is not None and key[0] != choice:
                continue
            text = "".join(self._seen.pop(key))
            path = path_of(key)
            place = Place("output", "assistant", path, key[-1] in ARGUMENTS)
            hits = look(panel, text, place, guarding.asked)
            if panel.slow:
                hits += await look_slowly(panel.slow, text, place, guarding.asked, guarding.threads)
            for hit in hits:
                guarding.notes.add(hit, "output", path, text[hit.start : hit.end])
                if hit.blocks:
                    raise Blocked(hit, path)
