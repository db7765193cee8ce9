"""Texts of plain words: what they are, and the proof that rules which rely on them find nothing."""

from __future__ import annotations

import importlib
import importlib.util
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_llm.guards import _plain_words
from asgi_llm.guards._plain_stems import STEMS
from asgi_llm.guards._plain_words import is_plain_words
from asgi_llm.guards.injection import InjectionGuard
from asgi_llm.guards.patterns import PatternGuard
from asgi_llm.guards.pii import PiiGuard
from asgi_llm.guards.secrets import SecretsGuard
from asgi_llm.middleware._guard_quick import PanelLook
from asgi_llm.middleware._guard_quick_rules import DISGUISED, QuickRules

PLAIN = [
    "",
    "The quick brown fox jumps over the lazy dog.",
    'Well, she said: "I don\'t know (yet)!" ... and left - at 7, with 2 dogs; why?',
    "a" * 15,
    "A" * 8,
    "1 2 3 4 5",
]
NOT_PLAIN = [
    "a" * 16,
    "A" * 9,
    "abcdefghijklmno-",
    "1 2 3 4 5 6",
    "my Passport is red",
    "xPASSx",
    "a3",
    "3a",
    "end.Next",
    "a.3",
    "a:b",
    "::",
    "well-known",
    "--",
    "caf\N{LATIN SMALL LETTER E WITH ACUTE}",
    "a\tb",
    "a_b",
    "a@b",
    "100%",
    "a\0",
]
CHARACTERS = st.sampled_from(string.ascii_letters + "  \n.,:;!?'\"()--0123456789_@/")


@pytest.mark.parametrize("text", PLAIN)
def test_plain_words(text: str) -> None:
    """Words, and punctuation where sentences have it."""
    assert is_plain_words(text.encode())


@pytest.mark.parametrize("text", [*NOT_PLAIN, *STEMS, *(f"(a{stem.upper()}b)" for stem in STEMS)])
def test_other_texts(text: str) -> None:
    """All else is for the rules."""
    assert not is_plain_words(text.encode())


def _from_source() -> Any:
    path = Path(_plain_words.__file__).with_name("_plain_words.py")
    spec = importlib.util.spec_from_file_location("plain_words_from_source", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOURCE = _from_source()


@given(st.lists(st.one_of(CHARACTERS, st.sampled_from([*STEMS, *PLAIN, *NOT_PLAIN]))))
@example(["senator", " passenger"])
def test_compiled_it_says_the_same(parts: list[str]) -> None:
    """Character by character, as by expressions."""
    data = "".join(parts).encode()
    assert SOURCE.is_plain_words(data) == is_plain_words(data)


# The proof. Plain words are read by an automaton, the trigger by another one; no text can be read
# by both to the trigger's end. What stands before a match is anything, so that it begins where the
# automaton of plain words forbids least.

ALPHABET = string.ascii_letters + string.digits + " \n.,:;!?'\"()-"
PREFIXES = {stem[:length] for stem in STEMS for length in range(len(stem) + 1)}


class Seen(NamedTuple):
    """What is known of the plain text so far."""

    before: str = " "
    word: str = ""
    run: int = 0
    capitals: int = 0
    digits: int = 0

    def read(self, character: str) -> Seen | None:
        """One character more; None: it is not plain."""
        before, word, run, capitals, digits = self
        if before in ":-" and character not in " \n":
            return None
        if character.isalpha():
            if before.isdigit() or before == ".":
                return None
            word += character.lower()
            while word not in PREFIXES:
                word = word[1:]
            if any(word.endswith(stem) for stem in STEMS):
                return None
        else:
            word = ""
        if character.isdigit():
            digits += 1
            if digits > 5 or before.isalpha() or before == ".":
                return None
        run = run + 1 if character.isalnum() or character == "-" else 0
        capitals = capitals + 1 if character.isupper() else 0
        if run > 15 or capitals > 8:
            return None
        kind = "a" if character.isalpha() else "0" if character.isdigit() else character
        return Seen(kind if kind in "a0.:-" else " ", word, run, capitals, digits)


@given(st.lists(st.one_of(CHARACTERS, st.sampled_from([*STEMS, *PLAIN, *NOT_PLAIN]))))
def test_the_proof_reads_what_is_plain(parts: list[str]) -> None:
    """Its automaton is that of the function."""
    text = "".join(parts)
    seen: Seen | None = Seen()
    for character in text:
        seen = seen.read(character) if seen is not None and character in ALPHABET else None
    assert (seen is not None) == is_plain_words(text.encode())


class Automaton:
    """A pattern's, without its assertions: it takes more than the pattern does."""

    def __init__(self, pattern: str) -> None:
        parser: Any = importlib.import_module("re._parser")
        # RE2's words for what is ASCII here.
        for theirs, ours in ((r"\pL", "A-Za-z"), (r"\pN", "0-9"), (r"\x{2019}", "\u2019")):
            pattern = pattern.replace(theirs, ours)
        self.steps: list[list[tuple[frozenset[str] | None, int]]] = []
        self.start, self.end = self._new(), self._new()
        parsed = parser.parse(pattern)
        self._add(parsed, self.start, self.end, folds=False)

    def _new(self) -> int:
        self.steps.append([])
        return len(self.steps) - 1

    def _add(self, nodes: Any, start: int, end: int, *, folds: bool) -> None:
        at = start
        for name, value in nodes:
            after = self._new()
            self._node(str(name), value, at, after, folds=folds)
            at = after
        self.steps[at].append((None, end))

    def _node(self, name: str, value: Any, start: int, end: int, *, folds: bool) -> None:
        if name == "AT":
            self.steps[start].append((None, end))
        elif name == "BRANCH":
            for nodes in value[1]:
                self._add(nodes, start, end, folds=folds)
        elif name == "SUBPATTERN":
            _, flags, _, nodes = value
            self._add(nodes, start, end, folds=folds or bool(flags & 2))
        elif name in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, nodes = value
            at = start
            for number in range(least if str(most) == "MAXREPEAT" else most):
                after = self._new()
                self._add(nodes, at, after, folds=folds)
                if number >= least:
                    self.steps[at].append((None, end))
                at = after
            if str(most) == "MAXREPEAT":
                self._add(nodes, at, at, folds=folds)
            self.steps[at].append((None, end))
        else:
            self.steps[start].append((_characters(name, value, folds=folds), end))

    def after(self, at: int) -> Iterator[int]:
        """``at``, and where it leads without a character."""
        seen, waiting = {at}, [at]
        while waiting:
            state = waiting.pop()
            yield state
            for characters, target in self.steps[state]:
                if characters is None and target not in seen:
                    seen.add(target)
                    waiting.append(target)


def _characters(name: str, value: Any, *, folds: bool) -> frozenset[str]:
    """Those of the alphabet that a node takes."""
    if name == "LITERAL":
        found = {chr(value)}
    elif name == "NOT_LITERAL":
        return frozenset(ALPHABET) - {chr(value)}
    elif name == "RANGE":
        found = {chr(code) for code in range(value[0], min(value[1], 127) + 1)}
    elif name == "CATEGORY":
        space = set(string.whitespace)
        of = {"SPACE": space, "DIGIT": set(string.digits)}
        of["WORD"] = {*string.ascii_letters, *string.digits, "_"}
        kind = str(value).removeprefix("CATEGORY_")
        if kind.startswith("NOT_"):
            return frozenset(set(ALPHABET) - of[kind.removeprefix("NOT_")])
        found = of[kind]
    elif name == "IN":
        negated = str(value[0][0]) == "NEGATE"
        parts = [_characters(str(one), what, folds=folds) for one, what in value[negated:]]
        found = set().union(*parts)
        if negated:
            return frozenset(set(ALPHABET) - found)
    else:
        raise NotImplementedError(name)
    if folds:
        found |= {one.swapcase() for one in found}
    return frozenset(found & set(ALPHABET))


def plain_text_with(pattern: str) -> str | None:
    """A text of plain words in which ``pattern`` is; None: there is none."""
    automaton = Automaton(pattern)
    waiting = [
        (state, Seen(before), "")
        for before in " a0.:-"
        for state in automaton.after(automaton.start)
    ]
    known = {(state, seen) for state, seen, _ in waiting}
    while waiting:
        state, seen, text = waiting.pop()
        if state == automaton.end:
            return text
        for characters, target in automaton.steps[state]:
            for character in characters or ():
                if (read := seen.read(character)) is None:
                    continue
                for reached in automaton.after(target):
                    if (reached, read) not in known:
                        known.add((reached, read))
                        waiting.append((reached, read, text + character))
    return None


def test_the_proof_finds_what_there_is() -> None:
    """A pattern that plain words can have is not taken for one that they cannot."""
    assert "fox" == plain_text_with(r"\bfox|[_]fox")
    assert plain_text_with(r"(?i:FO+)[ ,]{2,3}[^\pL]") is not None
    assert None is plain_text_with(r"[A-Za-z0-9_-]{16}|passw?|[0-9]{3,}(?: [0-9]){3}|\.\w|x_")


SILENT: list[PatternGuard] = [PiiGuard(), SecretsGuard()]


@pytest.mark.parametrize("guard", SILENT, ids=lambda guard: guard.name)
def test_no_trigger_is_in_plain_words(guard: PatternGuard) -> None:
    """What the guards say of themselves is so."""
    assert guard.silent_on_plain_words
    assert [None] == [plain_text_with(trigger) for trigger in guard.triggers]


def test_nothing_disguised_is_in_plain_words() -> None:
    """Nor what other guards would have to look for under it."""
    assert plain_text_with(DISGUISED) is None


@given(st.lists(st.sampled_from(["the ", "fox ", "fo-x ", "ignore ", "all. ", "a@b.de ", "\n"])))
def test_a_look_at_plain_words_says_what_the_rules_say(words: list[str]) -> None:
    """With and without the shorter look."""
    text = "".join(words)
    guards = [*SILENT, InjectionGuard()]
    quick = QUICK.setdefault("all", QuickRules(guards, 512))
    look = PanelLook(quick, [Anyone() for _ in guards])
    hits = quick.match(text.encode())
    judged = look.judge(text)
    assert judged == "clean" or hits
    if is_plain_words(text.encode()):
        assert all(quick.owners[hit] == 2 for hit in hits)


class Anyone:
    """A rail of every role."""

    roles: frozenset[str] = frozenset()


QUICK: dict[str, QuickRules] = {}
