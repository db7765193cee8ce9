"""A look at a socket that the loop owns; the ``.pyx`` file asks the system itself."""

from __future__ import annotations

import select

__all__ = ["SocketLook"]


class SocketLook:
    """Tells what a socket has to say now, which its loop may not have heard yet.

    Args:
        fileno: Of the socket; -1 where it has none, which is news for ever. Whoever asks sees to
            it that it is still open.
    """

    __slots__ = ("_fileno", "_poll")

    def __init__(self, fileno: int) -> None:
        self._fileno = fileno
        self._poll = None
        if fileno >= 0 and hasattr(select, "poll"):
            # Kept, for to make one costs as much as to ask it.
            self._poll = select.poll()
            self._poll.register(fileno, select.POLLIN)

    def has_come(self) -> bool:
        """Whether there is something to read, such as the end."""
        if self._fileno < 0:
            return True
        if self._poll is None:
            return bool(select.select([self._fileno], [], [], 0)[0])
        return bool(self._poll.poll(0))

    def takes_more(self) -> bool:
        """Whether something could be written."""
        if self._fileno < 0:
            return False
        if self._poll is None:
            return bool(select.select([], [self._fileno], [], 0)[1])
        poll = select.poll()
        poll.register(self._fileno, select.POLLOUT)
        return bool(poll.poll(0))
