"""How far the debt of a bucket has sunk since each reservation that is under way."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

__all__ = ["Dips"]

MOST_ROWS: Final = 128


class Dips:
    """Tells how much of a reservation can still come back off the debt.

    A token that was taken too many raises the debt until time has brought the debt down to it: from
    then on the bucket would be as full without it. So of a reservation as much comes back as the
    debt never sank below since, and the bucket is as if only the rest had ever been taken.

    Debts are in token-microseconds. Where there are too many rows, some are told as the row before:
    less comes back then, never more.
    """

    __slots__ = ("latest", "rows")

    def __init__(self) -> None:
        self.latest = 0
        # (reservation, least debt since it was made, as far as that is noted), both rising; it
        # stands for all reservations up to the next row.
        self.rows: list[tuple[int, float]] = []

    def note(self, debt: float) -> None:
        """The debt has sunk to ``debt``, and is about to rise."""
        rows = self.rows
        first = 0
        while rows and rows[-1][1] >= debt:
            first, _ = rows.pop()
        if first:
            rows.append((first, debt))

    def reserve(self, debt: float) -> int:
        """The number of a reservation that has raised the debt to ``debt``."""
        self.latest += 1
        self.rows.append((self.latest, debt))
        if len(self.rows) > MOST_ROWS:
            del self.rows[1::2]
        return self.latest

    def give_back(self, number: int, amount: float, debt: float) -> float:
        """How much of ``amount`` comes off ``debt``; from now on it has never been taken."""
        rows = self.rows
        place = bisect_right(rows, number, key=_number) - 1
        if place < 0:
            return 0.0
        back = max(0.0, min(amount, rows[place][1], debt))
        if back:
            rows[place:] = [(first, least - back) for first, least in rows[place:]]
            while place and rows[place - 1][1] >= rows[place][1]:
                # Before it was made the debt was never as low as it now is since.
                rows[place - 1 : place + 1] = [(rows[place - 1][0], rows[place][1])]
                place -= 1
        return back


def _number(row: tuple[int, float]) -> int:
    return row[0]
