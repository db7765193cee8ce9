"""A ledger in a database that may be away, or empty."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from asgi_llm.errors import StoreError
from asgi_llm.stores.ledger import Ledger, LedgerRow

__all__ = ["PreparedLedger"]


class PreparedLedger:
    """A ledger whose tables are made before its first row, and of which it is known how it does.

    Args:
        ledger: Gets the rows.
        prepare: Awaited before them; None: there is nothing to prepare.

    Attributes:
        is_failing: Whether the last rows were not taken.
    """

    def __init__(
        self, ledger: Ledger, prepare: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._ledger = ledger
        self._prepare = prepare
        self.is_failing = False

    async def record(self, rows: Sequence[LedgerRow]) -> None:
        """See ``Ledger``."""
        try:
            if self._prepare is not None:
                await self._prepare()
            await self._ledger.record(rows)
        except StoreError:
            self.is_failing = True
            raise
        self.is_failing = False
