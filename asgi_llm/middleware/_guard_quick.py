"""One look at the texts of a request or an answer, which tells that nothing is in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, Protocol

from asgi_llm.guards._injection_scan import Ceiling
from asgi_llm.guards._plain_words import READS_WORDS, is_plain_words
from asgi_llm.guards.patterns import SHORTEST_RUN
from asgi_llm.middleware._guard_lines import ascii_of, is_ascii, join_two
from asgi_llm.middleware._guard_quick_rules import QuickRules

__all__ = ["NEAR_BORDER", "Judged", "PanelLook", "chains_among", "join_near"]

_OF_TWO: Final = ((0, 1),)
_MOST: Final = 32 * 1024
NEAR_BORDER: Final = 512
"""Characters on each side of a border between texts that are read as one."""


Judged = Literal["clean", "plain", "unknown"]


class OfRoles(Protocol):
    """What looks at the texts of some roles; of all, where none is named."""

    @property
    def roles(self) -> frozenset[str]: ...


class PanelLook:
    """A quick look for the guardrails of one panel, each of which has its roles.

    Args:
        quick: Their rules.
        rails: Of the guards, in their order; None where one does not belong to the panel.
    """

    __slots__ = (
        "_all",
        "_ceilings",
        "_disguised",
        "_group_of",
        "_is_for_pieces",
        "_match",
        "_near",
        "_near_of_several",
        "_of_several",
        "_owners",
        "_reads_words",
        "_roles",
        "_rules",
        "_wordy",
    )

    def __init__(self, quick: QuickRules, rails: Sequence[OfRoles | None]) -> None:
        self._match = quick.match
        self._near = quick.near
        self._disguised = len(quick.owners)
        of_hits = [rails[number] if number >= 0 else None for number in quick.owners]
        # Whose rules they are; None: of a guard that does not belong to the panel.
        self._owners = [
            quick.guards[place] if rail is not None else None
            for place, rail in zip(quick.places, of_hits, strict=True)
        ]
        # What some of these guards can be asked without more ado.
        self._ceilings: list[Ceiling | None] = [
            None if guard is None else guard.ceiling for guard in self._owners
        ]
        # The rules of which plain words may be full. Their guards know of most texts that nothing
        # is in them, so that these rules need not be looked for.
        self._wordy = [
            hit
            for hit, guard in enumerate(self._owners)
            if guard is not None and not guard.silent_on_plain_words
        ]
        self._reads_words = READS_WORDS and all(
            self._ceilings[hit] is not None for hit in self._wordy
        )
        self._roles = [frozenset[str]() if rail is None else rail.roles for rail in of_hits]
        self._is_for_pieces = quick.is_for_pieces
        owners = [(hit, rail) for hit, rail in enumerate(of_hits) if rail is not None]
        self._all = frozenset([hit for hit, _ in owners])
        # The rules that count in texts of roles that no rail names, then those of each that one
        # does, and which of these is for a role.
        self._rules = [frozenset([hit for hit, rail in owners if not rail.roles])]
        self._group_of: dict[str, int] = {}
        for role in sorted({role for _, rail in owners for role in rail.roles}):
            rules = frozenset([hit for hit, rail in owners if not rail.roles or role in rail.roles])
            if rules not in self._rules:
                self._rules.append(rules)
            self._group_of[role] = self._rules.index(rules)
        # What stands in texts of several roles is a text of none, and is looked at by fewer guards,
        # whose findings are shorter.
        self._of_several = self._group_of.get("", 0)
        windows = [
            guard.window or quick.near
            for hit, guard in enumerate(self._owners)
            if guard is not None and hit in self._rules[self._of_several]
        ]
        self._near_of_several = min(quick.near, max(windows, default=1))

    def judge(self, text: str) -> Judged:
        """What can be said of a text of an answer at one look.

        ``clean``: nothing can be found in it. ``plain``: there is nothing in it that means anything
        else than it says. ``unknown``: it has to be looked at.
        """
        data = ascii_of(text, _MOST)
        return "unknown" if data is None else self.judge_line(data)

    def judge_line(self, data: bytes) -> Judged:
        """The same of a text as UTF-8."""
        if len(data) > _MOST or not is_ascii(data):
            return "unknown"
        if self._says_nothing(data):
            return "clean"
        hits = self._match(data)
        if not hits:
            return "clean"
        if self._disguised in hits:
            return "unknown"
        return "clean" if self._are_false_alarms(hits, data) else "plain"

    def judge_request(
        self,
        texts: list[str],
        roles: list[str],
        chains: Iterable[Sequence[int]] | None = None,
    ) -> Judged:
        """The same of all texts of a request, and of what stands across their borders.

        Args:
            texts: In their order.
            roles: Whose they are.
            chains: The orders in which they may be read as one. Default: those of
                ``chains_among`` all of them.
        """
        known: Sequence[Sequence[int]]
        count = len(texts)
        if chains is None and count == 2:
            known = _OF_TWO
            near = self._near if roles[0] == roles[1] else self._near_of_several
            data = join_two(texts[0], texts[1], near, _MOST)
        elif chains is None and count == 1:
            known = ()
            data = ascii_of(texts[0], _MOST)
        else:
            known = list(chains_among(range(count), roles) if chains is None else chains)
            lines = [self._ends_of([texts[number] for number in chain]) for chain in known]
            data = ascii_of("\n".join([*texts, *lines]), _MOST)
        if data is None:
            return "unknown"
        if self._reads_words and is_plain_words(data):
            for hit in self._wordy:
                if not self._is_quiet(hit, data, texts, roles, known):
                    break
            else:
                return "clean"
        hits = self._match(data)
        if not hits:
            return "clean"
        if self._disguised in hits:
            return "unknown"
        for hit in hits:
            if self._owners[hit] is not None and not self._is_quiet(hit, data, texts, roles, known):
                # It may have been in a text that the guard does not look at.
                return self._judge_by_role(texts, roles, known)
        return "clean"

    def _says_nothing(self, data: bytes) -> bool:
        """Whether a text is of plain words, and the guards that look for such find nothing."""
        return (
            self._reads_words and is_plain_words(data) and self._are_false_alarms(self._wordy, data)
        )

    def _ends_of(self, texts: list[str]) -> str:
        """The texts as one, as far as what stands across their borders can reach."""
        near = self._near
        # Of the first one its end counts alone, and of the last one its start. What is longer than
        # any guard's window has no spaces.
        text = texts[0]
        if len(text) > near:
            texts[0] = text[max(0, text.rfind(" ", 0, -near)) :]
        text = texts[-1]
        if len(text) > near and (end := text.find(" ", near)) > 0:
            texts[-1] = text[:end]
        for number in range(1, len(texts) - 1):
            text = texts[number]
            if len(text) > 2 * near:
                texts[number] = f"{text[:near]}\n{text[-near:]}"
        return "".join(texts)

    def _is_quiet(
        self,
        hit: int,
        data: bytes,
        texts: list[str],
        roles: list[str],
        chains: Sequence[Sequence[int]],
    ) -> bool:
        """Whether a rule's guard finds nothing in any text, nor across their borders, as it knows.

        Args:
            hit: The rule.
            data: All that was looked at, the first text in front.
            texts: As they were given.
            roles: Whose they are.
            chains: The orders in which they may be read as one.
        """
        of_roles, ceiling = self._roles[hit], self._ceilings[hit]
        text: str
        for number in range(len(texts)):
            if of_roles and roles[number] not in of_roles:
                continue
            text = texts[number]
            if ceiling is not None:
                if number == 0 and ceiling.is_above(data, 0, len(text)):
                    continue
                # Of two the other one stands at the end.
                at = len(data) - len(text)
                if number == 1 and chains is _OF_TWO and ceiling.is_above(data, at, len(data)):
                    continue
            if not self._is_false_alarm(hit, text.encode()):
                return False
        for chain in chains:
            if of_roles and _role_of(chain, roles) not in of_roles:
                continue
            joined = join_near([texts[number] for number in chain])
            if not self._is_false_alarm(hit, joined.encode()):
                return False
        return True

    def _is_false_alarm(self, hit: int, data: bytes) -> bool:
        """Whether a rule's guard knows that it finds nothing in a text."""
        ceiling = self._ceilings[hit]
        if ceiling is not None and ceiling.is_above(data, 0, len(data)):
            return True
        guard = self._owners[hit]
        return guard is None or guard.is_false_alarm(data)

    def _judge_by_role(
        self, texts: Sequence[str], roles: Sequence[str], chains: Iterable[Sequence[int]]
    ) -> Judged:
        """Whether any guard has something to look at in the texts of its roles."""
        groups: dict[int, list[str]] = {}
        for number in range(len(texts)):
            group = self._group_of.get(roles[number], 0)
            groups.setdefault(group, []).append(texts[number])
        for chain in chains:
            group = self._group_of.get(_role_of(chain, roles), 0)
            joined = self._ends_of([texts[number] for number in chain])
            groups.setdefault(group, []).append(joined)
        for group, lines in groups.items():
            if not self._rules[group].isdisjoint(self._match("\n".join(lines).encode())):
                return "plain"
        return "clean"

    def passes(self, text: str) -> bool:
        """Whether it is certain that nothing can be found in a piece of a stream, nor begins there.

        Args:
            text: The piece, with what came before.
        """
        if not self._is_for_pieces or not text.isascii():
            return False
        # As ``ends_with_gap`` has it.
        tail = text[-SHORTEST_RUN:]
        if len(tail) == SHORTEST_RUN and " " not in tail and "\n" not in tail:
            return False
        data = text.encode()
        if self._says_nothing(data):
            return True
        hits = self._match(data)
        if not hits:
            return True
        return self._disguised not in hits and self._are_false_alarms(hits, data)

    def concerns(self, text: str, role: str) -> bool:
        """Whether a plain text may hold what is looked for in texts of its role.

        Args:
            text: In plain ASCII.
            role: Whose it is.
        """
        hits = self._match(text.encode())
        return bool(hits) and not self._rules[self._group_of.get(role, 0)].isdisjoint(hits)

    def _are_false_alarms(self, hits: Sequence[int], data: bytes) -> bool:
        """Whether the guards whose rules are in a text know that they find nothing there."""
        for hit in hits:
            if hit < self._disguised and not self._is_false_alarm(hit, data):
                return False
        return True


def join_near(texts: Iterable[str]) -> str:
    """Texts as one; of a long one no more than what stands near its ends."""
    return "".join(
        [
            text if len(text) <= 2 * NEAR_BORDER else f"{text[:NEAR_BORDER]}\n{text[-NEAR_BORDER:]}"
            for text in texts
        ]
    )


def _role_of(chain: Sequence[int], roles: Sequence[str]) -> str:
    """Whose texts are read as one; those of several are nobody's."""
    if chain is _OF_TWO[0]:
        return roles[0] if roles[0] == roles[1] else ""
    role = roles[chain[0]]
    for number in chain:
        if roles[number] != role:
            return ""
    return role


def chains_among(numbers: Sequence[int], roles: Sequence[str]) -> Sequence[Sequence[int]]:
    """The orders in which texts may be read as one: all of them, and those of each role.

    Args:
        numbers: Of the texts.
        roles: Of all texts, by number.
    """
    if len(numbers) < 2:
        return ()
    if len(numbers) == 2:
        return (numbers,)
    by_role: dict[str, list[int]] = {}
    for number in numbers:
        by_role.setdefault(roles[number], []).append(number)
    if len(by_role) < 2:
        return (numbers,)
    # What stands next to each other has been read together already.
    apart = [one for one in by_role.values() if len(one) > 1 and one[-1] - one[0] >= len(one)]
    return (numbers, *apart)
