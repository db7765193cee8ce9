"""Each case of translation is proved where the reference says so."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgi_llm.providers.capabilities import PROVIDER_TYPES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "translation.md").read_text()
LAST = 98

FOLDERS = {"rerank": {"jina", "voyage"}}
"""Folders whose tests are about several adapters."""


def sections() -> dict[str, list[list[str]]]:
    """The rows of each table, by the heading above it."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in PAGE.splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        elif re.match(r"\| \d\d \|", line):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            found.setdefault(heading, []).append(cells)
    return found


def functions_of(path: Path) -> list[str]:
    """Names of the test functions in a file."""
    return [
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    ]


def cases_in(name: str) -> list[int]:
    """The numbers in a name such as ``test_case_12_and_15_what_cannot_be_taken_is_refused``."""
    found = []
    for word in name.removeprefix("test_case_").split("_"):
        if re.fullmatch(r"\d\d", word):
            found.append(int(word))
        elif word != "and":
            break
    return found


def cases_of(path: Path) -> Iterator[int]:
    """The numbers in the names of a file's tests, and in the ids of their parameters."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                if re.match(r"test_case_\d", name):
                    yield from cases_in(name)
            case ast.Constant(value=str(text)) if re.fullmatch(r"(\d\d-)+[a-z][a-z0-9-]*", text):
                yield from (int(word) for word in text.split("-") if re.fullmatch(r"\d\d", word))


def proved() -> dict[int, set[str]]:
    """Which adapters have tests for each case, by the folders that the tests are in.

    What is in no adapter's folder is about all of them.
    """
    found: dict[int, set[str]] = defaultdict(set)
    for path in (ROOT / "tests").rglob("test_*.py"):
        folder = path.parent.name
        for case in cases_of(path):
            found[case] |= FOLDERS.get(folder, {folder} if folder in PROVIDER_TYPES else {"all"})
    return found


A, B, C, G, M, L = "anthropic", "bedrock", "cohere", "gemini", "mistral", "ollama"
VECTORS = {B, C, G, M, L, "jina", "voyage"}

CONCERNED: dict[int, set[str]] = {
    1: {A, B, G},
    2: {A, B, G, M, L},
    3: {A, B, G},
    4: {A, B},
    5: {A, B},
    6: {A, B},
    7: {A, B},
    8: {A, G},
    9: {A, G},
    10: {A, L},
    11: {A, B, G},
    12: {A, B, G, L},
    13: {A, G},
    14: {A},
    15: {A, B, G},
    16: {B},
    17: {A, G},
    19: {A},
    20: {A, B, G},
    21: {G},
    22: {A},
    23: {A, B, G},
    24: {A},
    25: {A, B, G, L},
    26: {G, M},
    27: {B},
    28: {A, B},
    29: {A, B},
    30: {B},
    31: {A, B},
    32: {A},
    33: {A, B},
    34: {A},
    35: {A},
    37: {A},
    38: {G},
    39: {C, G, L},
    40: {A},
    41: {A},
    42: {A, B},
    43: {G},
    44: {G},
    45: {B},
    46: {A},
    47: {A, G},
    48: {A, B, G},
    49: {A},
    50: {A},
    51: {A},
    54: {G},
    55: {G},
    58: {A},
    59: {A},
    60: {A},
    61: {A},
    62: {G},
    64: {A, G},
    66: {A},
    67: {A, G},
    68: {A},
    69: {A, B, G, L},
    70: {A, G, M, L},
    71: {A, G},
    72: {A},
    73: {A},
    74: {A},
    76: {A},
    80: {A},
    81: {A},
    82: {A, B, C, G, M, L},
    83: {B},
    85: {A},
    87: {A, B, G},
    88: {A},
    89: {A, B, G},
    90: {A, G},
    91: {A},
    92: VECTORS,
    93: VECTORS,
    94: VECTORS,
    95: {A},
    96: {A},
}
"""Which adapters each case is about at least, because their providers are why it is one."""

TABLES = sections()
PROVED = proved()


def test_every_case_has_one_row() -> None:
    """All of them, in order."""
    assert list(range(1, LAST + 1)) == [int(row[0]) for row in TABLES["Cases"]]


def test_the_adapters_of_a_row_are_those_with_functions_of_that_number() -> None:
    """Neither more nor fewer."""
    wrong = {}
    for number, _, adapters, _ in TABLES["Cases"]:
        said = set(re.findall(r"`(\w+)`", adapters))
        if said != PROVED[int(number)]:
            wrong[number] = (sorted(said), sorted(PROVED[int(number)]))
    assert wrong == {}


@pytest.mark.parametrize("case", CONCERNED)
def test_a_case_is_proved_where_it_comes_from(case: int) -> None:
    """Of each adapter that it is about."""
    assert CONCERNED[case] - PROVED[case] == set()


def test_a_case_without_an_adapter_is_proved_elsewhere_or_not_here() -> None:
    """Nothing is left without a test or a reason."""
    shared = {row[0] for row in TABLES["Proved elsewhere"]}
    absent = {row[0] for row in TABLES["Not in this version"]}
    alone = {row[0] for row in TABLES["Cases"] if not PROVED[int(row[0])]}
    assert shared & absent == set()
    assert [number for number in sorted(alone) if number not in shared | absent] == []
    assert [number for number in sorted(absent) if number not in alone] == []


def test_what_is_proved_elsewhere_is_there() -> None:
    """Each test that the page names."""
    missing = []
    for _, cell in TABLES["Proved elsewhere"]:
        path, _, name = cell.strip("`").partition("::")
        if name not in functions_of(ROOT / path):
            missing.append(cell)
    assert missing == []


def test_no_test_has_the_number_of_no_case() -> None:
    """A name that is mistyped would prove nothing."""
    names = [
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in functions_of(path)
        if re.match(r"test_case_\d", name)
    ]
    assert [name for name in names if not cases_in(name)] == []
    assert [name for name in names if not set(cases_in(name)) <= set(range(1, LAST + 1))] == []


def test_numbers_are_read_from_names() -> None:
    """One, several, and those that belong to the sentence."""
    assert cases_in("test_case_07_and_08_first_and_last") == [7, 8]
    assert cases_in("test_case_12_15_17_what_it_cannot_take") == [12, 15, 17]
    assert cases_in("test_case_66_4_tokens") == [66]
    assert cases_in("test_case_ids") == []
