# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""What the model of injection says of a text at most, in one pass over its bytes.

It gives what ``Model.highest_of`` gives, for the words of ``to_words``, without making them: they
are numbers, as ``WordReader`` reads them. Nothing of this is worth its while unless it is compiled.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from math import log2, sqrt
from typing import Final, NamedTuple

from asgi_llm.guards._injection_reader import Room, WordReader

__all__ = ["GROUPS", "IS_COMPILED", "STEMS", "Ceiling", "Limits", "WordScan"]

IS_COMPILED: Final = not __file__.endswith((".py", ".pyc"))

STEMS: Final = 20
"""Bits for the number of a stem; those of its class stand above them."""
GROUPS: Final = 64
"""More than there are classes."""

_SHIFT: Final = STEMS
_WIDTH: Final = GROUPS
_STEM: Final = (1 << STEMS) - 1
_ALL: Final = (1 << 64) - 1
_ODD: Final = 0x9E3779B97F4A7C15
_COLUMNS: Final = 4
_NEVER: Final = -(1 << 30)
_LATEST: Final = 1 << 29
_KEPT_ROOM: Final = 1 << 15


class Limits(NamedTuple):
    """How sums become margins.

    Attributes:
        biases: What a stretch begins with, for each scorer, at the highest.
        touched: What is added to the last one, by the number of words.
        spans: Words of the stretches.
        few: Words of a stretch in which features count in full.
        short: Words of a text for which no more is needed than for a shorter one.
        doubling: How much more is needed for twice as many.
        most: How much more at most.
        memory: Words within which what comes again counts once.
        reach: Words within which one class follows another.
    """

    biases: Sequence[float]
    touched: Sequence[float]
    spans: Sequence[int]
    few: int
    short: int
    doubling: float
    most: float
    memory: int
    reach: int


class WordScan:
    """The linear model as tables.

    Args:
        stems: By the number of a stem, one weight of each scorer, in thousandths.
        pairs: By the numbers of two stems, the first one above ``STEMS`` bits.
        groups: By the number of a class; of two that follow one another, the first one times
            ``GROUPS`` above it; of one in quotes, with the number 0 for the first one and
            ``GROUPS`` squared above that.
        resolve: The number of a word's stem, that of its class ``STEMS`` bits above.
        marks: What ``resolve`` gives of a quote, an end of a sentence, and a question.
        limits: What makes margins of sums.
        last_stem: The highest number of a stem.
    """

    __slots__ = (
        "_bias_of_guided", "_bias_of_injection", "_bias_of_jailbreak", "_bits", "_first_group",
        "_first_pair", "_keys", "_less", "_longest", "_memory", "_most_touched", "_now", "_quote",
        "_reach", "_reader", "_room", "_rows", "_shares", "_slots", "_spans", "_touched",
    )  # fmt: skip

    def __init__(
        self,
        stems: Mapping[int, Sequence[int]],
        pairs: Mapping[int, Sequence[int]],
        groups: Mapping[int, Sequence[int]],
        resolve: Callable[[bytes], int],
        marks: Sequence[int],
        limits: Limits,
        *,
        last_stem: int,
    ) -> None:
        self._reader = WordReader(resolve, marks)
        self._quote = marks[0]
        self._bias_of_jailbreak, self._bias_of_injection, self._bias_of_guided = limits.biases
        self._touched = array("d", limits.touched)
        self._spans = array("q", limits.spans)
        # What a sum in thousandths counts for in a stretch of so many words.
        self._shares = array(
            "d",
            [0.001 * sqrt(limits.few / max(n, limits.few)) for n in range(max(limits.spans) + 1)],
        )
        # How much more is needed, by the number of words, up to where it is the most.
        less = [0.0] * (limits.short + 1)
        most = 0.0
        while most < limits.most:
            most = min(limits.doubling * log2(len(less) / limits.short), limits.most)
            less.append(most)
        self._less = array("d", less)
        self._longest = len(less) - 1
        self._most_touched = len(limits.touched) - 1
        self._memory = limits.memory
        self._reach = limits.reach
        # Rows of the last place and three weights: of stems, of pairs by their slot, of classes.
        size = 64
        while size < 2 * len(pairs):
            size *= 2
        self._bits = 65 - size.bit_length()
        self._slots = size - 1
        self._first_pair = last_stem + 1
        self._first_group = self._first_pair + size
        count = self._first_group + 2 * GROUPS * GROUPS
        self._rows = array("i", bytes(4 * _COLUMNS * count))
        self._keys = array("q", bytes(8 * size))
        self._forget()
        for stem, weights in stems.items():
            self._put(stem, weights)
        for pair, weights in pairs.items():
            slot = ((pair * _ODD) & _ALL) >> self._bits
            while self._keys[slot]:
                slot = (slot + 1) & (size - 1)
            self._keys[slot] = pair
            self._put(self._first_pair + slot, weights)
        for group, weights in groups.items():
            self._put(self._first_group + group, weights)
        self._room: Room | None = Room(4096)

    def _put(self, row: int, weights: Sequence[int]) -> None:
        for place in range(3):
            self._rows[row * _COLUMNS + place + 1] = weights[place]

    def _forget(self) -> None:
        self._now = 0
        for row in range(0, len(self._rows), _COLUMNS):
            self._rows[row] = _NEVER

    def highest(self, data: bytes) -> float:
        """The most that the model says of a text, wherever it stands.

        Args:
            data: As UTF-8; beyond ASCII as ``prepare`` gives it.
        """
        return self.highest_of_part(data, 0, len(data))

    def highest_of_part(self, data: bytes, start: int, stop: int) -> float:
        """The same of the part of ``data`` that is from ``start`` to ``stop``."""
        # Other threads may come in between while a word is looked up that is new.
        room = self._room
        self._room = None
        if room is None or len(room.words) <= stop - start:
            room = Room(stop - start + 64)
        count = self._reader.read(data, start, stop, room)
        if len(room.sums) < 3 * count + 3:
            # Words are far fewer than bytes.
            room.sums = array("q", (0,)) * (3 * count + 64)
        highest = self._judge(room, count)
        if len(room.words) <= _KEPT_ROOM:
            self._room = room
        return highest

    def _judge(self, room: Room, count: int) -> float:
        """The highest margin of a stretch of words. Nothing of this runs other Python code."""
        memory, reach, bits = self._memory, self._reach, self._bits
        slots = self._slots
        if self._now > _LATEST:
            self._forget()
        now = self._now + memory
        self._now = now + count
        of_groups = self._first_group
        quote = self._quote & _STEM
        is_quoted = False
        before = 1
        jailbreak = injection = guided = 0
        # The classes that came last, and where.
        one = two = three = four = 0
        at_one = at_two = at_three = at_four = _NEVER
        room.sums[0] = room.sums[1] = room.sums[2] = 0
        for number in range(count):
            now += 1
            info = room.words[number]
            stem = info & _STEM
            group = info >> _SHIFT
            if stem:
                row = stem * _COLUMNS
                if self._rows[row] <= now - memory:
                    jailbreak += self._rows[row + 1]
                    injection += self._rows[row + 2]
                    guided += self._rows[row + 3]
                self._rows[row] = now
                if before:
                    key = before << _SHIFT | stem
                    slot = ((key * _ODD) & _ALL) >> bits
                    while self._keys[slot]:
                        if self._keys[slot] == key:
                            row = (self._first_pair + slot) * _COLUMNS
                            if self._rows[row] <= now - memory:
                                jailbreak += self._rows[row + 1]
                                injection += self._rows[row + 2]
                                guided += self._rows[row + 3]
                            self._rows[row] = now
                            break
                        slot = (slot + 1) & slots
                if stem == quote:
                    is_quoted = not is_quoted
            before = stem
            if group:
                for turn in range(6):
                    other = 0
                    if turn == 1:
                        other = _WIDTH if is_quoted else -1
                    elif turn == 2:
                        other = one if now - at_one <= reach else -1
                    elif turn == 3:
                        other = two if now - at_two <= reach else -1
                    elif turn == 4:
                        other = three if now - at_three <= reach else -1
                    elif turn == 5:
                        other = four if now - at_four <= reach else -1
                    if other < 0:
                        continue
                    row = (of_groups + other * _WIDTH + group) * _COLUMNS
                    if self._rows[row] <= now - memory:
                        jailbreak += self._rows[row + 1]
                        injection += self._rows[row + 2]
                        guided += self._rows[row + 3]
                    self._rows[row] = now
                four, three, two, one = three, two, one, group
                at_four, at_three, at_two, at_one = at_three, at_two, at_one, now
            row = 3 * number + 3
            room.sums[row] = jailbreak
            room.sums[row + 1] = injection
            room.sums[row + 2] = guided
        return self._highest(room, count)

    def _highest(self, room: Room, count: int) -> float:
        less = self._less[min(count, self._longest)]
        touched = min(count, self._most_touched)
        of_jailbreak = self._bias_of_jailbreak - less
        of_injection = self._bias_of_injection - less
        of_guided = self._bias_of_guided - less + self._touched[touched]
        highest = max(of_jailbreak, of_injection, of_guided) if not count else -1e300
        for number in range(len(self._spans)):
            span = self._spans[number]
            start = end = 0
            while end < count:
                end = min(start + span, count)
                share = self._shares[end - start]
                margin = of_jailbreak + (room.sums[3 * end] - room.sums[3 * start]) * share
                if margin > highest:
                    highest = margin
                margin = of_injection + (room.sums[3 * end + 1] - room.sums[3 * start + 1]) * share
                if margin > highest:
                    highest = margin
                margin = of_guided + (room.sums[3 * end + 2] - room.sums[3 * start + 2]) * share
                if margin > highest:
                    highest = margin
                start += span // 2
            if span >= count:
                break
        return highest


class Ceiling:
    """What the model says of a text at most, held against what it has to say.

    Args:
        scan: Tells the one.
        least: Less than this is nothing.
    """

    __slots__ = ("_least", "_scan")

    def __init__(self, scan: WordScan, least: float) -> None:
        self._scan = scan
        self._least = least

    def is_above(self, data: bytes, start: int, stop: int) -> bool:
        """Whether the model says less of a part of what is ASCII, wherever it stands."""
        return self._scan.highest_of_part(data, start, stop) < self._least
