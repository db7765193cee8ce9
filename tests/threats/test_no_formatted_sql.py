"""No statement of the package is put together from strings: a lint over its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import asgi_llm

ROOT = Path(asgi_llm.__file__).parent
RUNS_SQL = {
    "text",
    "DDL",
    "literal_column",
    "execute",
    "executemany",
    "executescript",
    "exec_driver_sql",
    "execute_sql",
    "scalar",
    "scalars",
    "fetchrow",
    "fetchval",
    "prefix_with",
    "suffix_with",
    "with_hint",
}
"""Functions and methods whose first argument may be SQL as text."""


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def is_formatted(node: ast.expr) -> bool:
    """Whether ``node`` is text made of other values: f-string, %, +, format, join, replace."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod | ast.Add):
        return True
    if isinstance(node, ast.Call):
        return called(node) in {"format", "format_map", "join", "replace", "substitute"}
    return False


def assigned(tree: ast.AST) -> dict[str, list[ast.expr]]:
    """What each name of a module is set to, anywhere in it."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            names, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr) and node.value:
            names, value = [node.target], node.value
        else:
            continue
        for name in names:
            if isinstance(name, ast.Name):
                found.setdefault(name.id, []).append(value)
    return found


def formatted_sql(source: str) -> Iterator[int]:
    """Lines where text made of other values is given to a function that runs SQL."""
    tree = ast.parse(source)
    names = assigned(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or called(node) not in RUNS_SQL or not node.args:
            continue
        first = node.args[0]
        meant = names.get(first.id, []) if isinstance(first, ast.Name) else [first]
        if any(is_formatted(value) for value in meant):
            yield node.lineno


SOURCES = sorted(ROOT.rglob("*.py"))


def test_cve_2026_42208_no_statement_is_formatted() -> None:
    """Values reach the database as parameters, names of tables from the models."""
    assert [] == [
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCES
        for line in formatted_sql(path.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize(
    "source",
    [
        "connection.execute(f'SELECT {x}')",
        "connection.execute('SELECT ' + x)",
        "connection.execute('SELECT %s' % x)",
        "text('SELECT {}'.format(x))",
        "sa.text(' '.join(parts))",
        "await connection.exec_driver_sql(f'{x}')",
        "statement = f'SELECT {x}'\nconnection.execute(statement)",
        "if statement := 'a' + x:\n    cursor.executescript(statement)",
        "op.execute('DROP TABLE ' + name)",
    ],
)
def test_cve_2026_42208_the_lint_finds_what_it_is_for(source: str) -> None:
    """Each way to put a statement together is noticed."""
    assert 1 == len(list(formatted_sql(source)))
