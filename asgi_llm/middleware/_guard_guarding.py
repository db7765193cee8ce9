"""What all texts of one streamed answer share, and what ends it."""

from __future__ import annotations

from typing import Any, Final

from asgi_llm.middleware._guard_checks import Asked, Hit, Notes, Place, to_context
from asgi_llm.middleware._guard_panel import Panel
from asgi_llm.middleware._guard_threads import Threads
from asgi_llm.middleware._guard_vault import Vault

__all__ = ["Blocked", "Guarding", "LaneKey"]

_LEAST_STEP: Final = 32
_STEPS_PER_WINDOW: Final = 2

LaneKey = tuple[Any, ...]


class Blocked(Exception):
    """A guard has found what lets nothing more pass."""

    def __init__(self, hit: Hit, path: str) -> None:
        super().__init__(hit.category)
        self.hit = hit
        self.path = path


class Guarding:
    """What all texts of one answer share.

    Attributes:
        panel: The guards that hold texts back.
        hold: So many characters of each text wait; None: all, to its end.
        step: Characters after which a text is looked at again.
        is_fast: Whether one scanner does it all, and nothing is to be restored.
        restores: Whether placeholders become the originals.
    """

    __slots__ = (
        "asked",
        "context",
        "far",
        "hold",
        "is_fast",
        "look",
        "notes",
        "panel",
        "restores",
        "scan",
        "step",
        "threads",
        "vault",
    )

    def __init__(
        self, panel: Panel, asked: Asked, notes: Notes, vault: Vault, threads: Threads
    ) -> None:
        self.panel = panel
        self.asked = asked
        self.notes = notes
        self.vault = vault
        self.threads = threads
        self.hold = panel.hold
        self.restores = vault.restores
        hold = panel.hold or 0
        # Whom to ask costs more, is asked less often.
        self.far = hold
        self.look = panel.look
        self.is_fast = panel.look is not None and panel.hold is not None and not self.restores
        if panel.scanner is not None:
            self.scan = panel.scanner.scan
            self.context = to_context(Place("output", "assistant", "", is_final=False), asked)
        self.step = max(_LEAST_STEP, hold if panel.slow else hold // _STEPS_PER_WINDOW)
