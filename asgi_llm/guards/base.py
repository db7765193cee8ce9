"""What a guard is: text in, findings out."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Literal, Protocol, runtime_checkable

import msgspec

__all__ = ["Finding", "Guard", "GuardContext", "GuardCost", "RepairingGuard"]

GuardCost = Literal["inline", "thread", "remote"]
"""Where a check may run: on the event loop (microseconds a KB), in a thread, or as a coroutine that
waits for somebody else."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Something that a guard has found in a text."""

    start: int
    """Offset of its first character in the text that was checked."""
    end: int
    """Offset behind its last character. Equal to ``start``: the finding is about the whole text."""
    category: str
    """What it is, in dotted words from the general to the special, such as ``pii.email``."""
    score: float = 1.0
    """From 0 to 1: how sure the guard is."""
    reason: str = ""
    """Why, in a few words that never hold any of the text."""
    is_open: bool = False
    """True, only where the text is a piece of a stream: it reaches the end of the piece and may go
    on behind it, longer than the guard's window, or turn out to be nothing. The guard is asked
    again, with ``start`` still in the text, before anything is done about it."""


class GuardContext(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a text stands."""

    direction: Literal["input", "output"]
    role: str
    """Whose text it is: ``system``, ``user``, ``assistant``, ``tool``, or empty where no role is
    told. ``developer`` counts as ``system``."""
    path: str
    """Where in the document, as in ``messages[2].content[0].text``."""
    model: str = ""
    """The model's name as the client gave it."""
    system: Sequence[str] = ()
    """The conversation's system texts, for guards that compare with them."""
    is_final: bool = True
    """False for a piece of a stream: what comes next is not known yet."""


class Guard(Protocol):
    """Finds what must not pass. What becomes of it is the layer's business.

    Attributes:
        name: Names it in verdicts, metrics and the configuration.
        cost: Where ``check`` may run. ``remote`` ones return an awaitable, all others their
            findings.
        window: The most characters that one finding can span, with what the guard looks at around
            it: so much of a stream is held back, and so much of what has gone on is given again.
            None: only whole texts can be checked, and a stream is held back to its end.
    """

    @property
    def name(self) -> str: ...

    @property
    def cost(self) -> GuardCost: ...

    @property
    def window(self) -> int | None: ...

    def check(
        self, text: str, context: GuardContext
    ) -> Sequence[Finding] | Awaitable[Sequence[Finding]]:
        """What is found in ``text``, in the order of ``start``; overlaps are allowed.

        Raises:
            StoreError: It cannot be told, because a service that is needed does not answer.
        """
        ...


@runtime_checkable
class RepairingGuard(Protocol):
    """A guard that can put right what it finds, as one that wants JSON can."""

    def repair(self, text: str, context: GuardContext) -> str | None:
        """The text as it should be, which is checked again; None: there is no telling."""
        ...
