"""Whether a rate of wrong answers is under a bound, told at any time from a growing sample.

Two bets are kept. One wins while the rate is below the bound, the other while it is above: each is
a mixture of likelihood ratios against a rate of exactly the bound. As long as the true rate is not
on its side a bet is a supermartingale, so that by Ville's inequality it ever grows to *n* times its
stake with a probability of at most 1/*n*, however often one looks.

Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (2023);
for the second bet, which begins anew whenever it falls below its stake: Page, "Continuous
inspection schemes" (1954).
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["Audit"]

_BELOW: Final = (0.05, 0.4)
_ABOVE: Final = (2.0, 4.0, 8.0, 16.0)
"""Rates that are bet on, as parts of the bound."""
_HIGHEST: Final = 0.95


class Audit:
    """Says whether the error rate was shown to be below a bound, and takes it back in time.

    Args:
        bound: Above 0 and below 0.5.
        doubt: Above 0 and below 1: at most this is the chance that a rate that stays at the bound,
            or above it, is ever taken for one below. A proof is taken back without cause once in
            ``1 / doubt**2`` observations at most.
    """

    def __init__(self, bound: float, doubt: float) -> None:
        self._below = _Bet(bound, [part * bound for part in _BELOW])
        rates = sorted({min(part * bound, _HIGHEST) for part in _ABOVE})
        self._above = _Bet(bound, rates)
        self._doubt = -math.log(doubt)
        self._attempts = 1
        self.proven = False
        """Whether the rate was shown to be below the bound, and nothing has spoken against it."""
        self.observations = 0
        """Since the start."""
        self.errors = 0

    def note(self, wrong: bool) -> None:
        """One observation more."""
        self.observations += 1
        self.errors += wrong
        if self.proven:
            wealth = self._above.note(wrong)
            if wealth >= 2 * self._doubt:
                self.proven = False
                self._attempt()
            elif wealth < 0:
                self._above.restart()
            return
        # The doubt is shared out over all attempts: 1/2 + 1/6 + 1/12 and so on are 1.
        needed = self._doubt + math.log(self._attempts * (self._attempts + 1))
        wealth = self._below.note(wrong)
        if wealth >= needed:
            self.proven = True
            self._above.restart()
        elif wealth < -self._doubt:
            # What went wrong long ago must not be in the way of a proof for ever.
            self._attempt()

    def _attempt(self) -> None:
        self._attempts += 1
        self._below.restart()


class _Bet:
    """A mixture of likelihood ratios against one rate."""

    def __init__(self, bound: float, rates: list[float]) -> None:
        self._right = [math.log((1 - rate) / (1 - bound)) for rate in rates]
        self._wrong = [math.log(rate / bound) for rate in rates]
        self.restart()

    def restart(self) -> None:
        """Begin with the stake."""
        self._logs = [0.0] * len(self._right)
        self.wealth = 0.0
        """The logarithm of what one unit has become."""

    def note(self, wrong: bool) -> float:
        """What one unit has become, as a logarithm."""
        steps = self._wrong if wrong else self._right
        self._logs = [one + step for one, step in zip(self._logs, steps, strict=True)]
        most = max(self._logs)
        total = sum([math.exp(one - most) for one in self._logs])
        self.wealth = most + math.log(total / len(self._logs))
        return self.wealth
