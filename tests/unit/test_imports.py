"""The order of the house: who may import whom, and what an import costs."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from math import inf
from pathlib import Path
from typing import NamedTuple

import pytest

import asgi_llm

ROOT = Path(asgi_llm.__file__).parent

LEVELS: dict[str, int] = {
    "errors": 0,
    "types": 0,
    "_semconv": 0,
    "_optional": 0,
    "_ids": 0,
    "_tasks": 0,
    "_traceback": 0,
    "state": 1,
    "_asgi": 1,
    "_body": 1,
    "_first_step": 1,
    "_sending": 1,
    "_sse": 1,
    "_json": 1,
    "wire": 2,
    "pricing": 2,
    "stores": 3,
    "embedders": 3,
    "guards": 3,
    "transports": 3,
    "middleware": 4,
    "routing": 4,
    "providers": 4,
    "dialects": 4,
    "_client": 5,
    "gateway": 5,
    "integrations": 5,
    "testing": 5,
    "__main__": 6,
}
SIBLINGS_APART = ("middleware", "providers", "dialects")
REQUIRED = {"starlette", "msgspec", "httptools"}
# Modules that stand for an optional package and are only imported by those who use it.
OPTIONAL = {
    "asgi_llm.gateway._database_option": {"click"},
    "asgi_llm.gateway._protocol": {"uvicorn"},
    "asgi_llm.gateway._reload_manager": {"uvicorn"},
    "asgi_llm.gateway.access_log": {"structlog"},
    "asgi_llm.gateway.budgets_commands": {"click"},
    "asgi_llm.gateway.cache_commands": {"click"},
    "asgi_llm.gateway.commands": {"click"},
    "asgi_llm.gateway.db_commands": {"click"},
    "asgi_llm.gateway.embedder_commands": {"click"},
    "asgi_llm.gateway.guard_commands": {"click"},
    "asgi_llm.gateway.keys_commands": {"click"},
    "asgi_llm.gateway.reconcile_command": {"click"},
    "asgi_llm.gateway.usage_commands": {"click"},
    "asgi_llm.gateway.worker_commands": {"click"},
    "asgi_llm.gateway.serve": {"uvicorn"},
    "asgi_llm.gateway.storage": {"sqlalchemy"},
    "asgi_llm.integrations.prometheus": {"prometheus_client"},
    "asgi_llm.stores.sql": {"alembic", "sqlalchemy"},
}


class Import(NamedTuple):
    """One import statement that runs."""

    importer: str
    imported: str
    line: int
    inside_function: bool


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ["asgi_llm", *path.relative_to(ROOT).with_suffix("").parts]
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def imports_of(module: str) -> Iterator[Import]:
    """Every import of ``module`` outside TYPE_CHECKING blocks, resolved to a module's name."""

    def walk(node: ast.AST, inside: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and is_type_checking(node.test):
            for child in node.orelse:
                yield from walk(child, inside)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno, inside)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield Import(
                    module, inner if inner in MODULES else node.module, node.lineno, inside
                )
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for part in ast.iter_child_nodes(node):
            yield from walk(part, inside)

    yield from walk(ast.parse(MODULES[module].read_text(encoding="utf-8")), False)


IMPORTS = [found for module in MODULES for found in imports_of(module)]
INTERNAL = [found for found in IMPORTS if found.imported.split(".")[0] == "asgi_llm"]


def level(module: str) -> int:
    """The level of a module; the package itself is below all, for its version."""
    parts = module.split(".")
    return LEVELS[parts[1]] if len(parts) > 1 else -1


def where(found: Import) -> str:
    return f"{found.importer}:{found.line} imports {found.imported}"


def test_every_module_has_a_level() -> None:
    """A new part of the house is placed here before it is built."""
    assert [] == [name for name in MODULES if "." in name and name.split(".")[1] not in LEVELS]


def test_imports_point_to_the_same_level_or_a_lower_one() -> None:
    """Nothing knows of what stands above it."""
    assert [] == [
        where(found) for found in INTERNAL if level(found.imported) > level(found.importer)
    ]


def test_siblings_do_not_import_each_other() -> None:
    """Layers, providers and dialects know no neighbour, but their ``base`` and private parts.

    The app and the table of capabilities are no providers.
    """
    wrong = []
    for found in INTERNAL:
        ours, theirs = found.importer.split("."), found.imported.split(".")
        if len(theirs) < 3 or ours[1:2] != theirs[1:2] or theirs[1] not in SIBLINGS_APART:
            continue
        is_app = ours[1] == "providers" and ours[2] in ("app", "capabilities")
        if theirs[2] != "base" and not theirs[2].startswith("_") and not is_app:
            wrong.append(where(found))
    assert [] == wrong


def test_the_provider_app_knows_no_provider() -> None:
    """``providers.app`` is no adapter; what it imports beside it is shared or private."""
    beside = {
        found.imported.split(".")[2]
        for found in INTERNAL
        if found.importer == "asgi_llm.providers.app"
        and found.imported.startswith("asgi_llm.providers.")
    }
    assert [] == [name for name in beside if name != "base" and not name.startswith("_")]


def test_there_are_no_cycles() -> None:
    """The modules can be put in an order in which each imports only earlier ones.

    Else ``prepare`` raises a CycleError that names them.
    """
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for found in INTERNAL:
        graph[found.importer].add(found.imported)
    TopologicalSorter(graph).prepare()


def test_no_import_hides_in_a_function() -> None:
    """Optional packages come through ``_optional``; everything else stands at the top."""
    assert [] == [where(found) for found in IMPORTS if found.inside_function]


def may_import(module: str) -> set[str]:
    """The optional packages that a module, or the package that it is in, stands for."""
    parts = module.split(".")
    around = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((OPTIONAL[name] for name in around if name in OPTIONAL), set())


def test_optional_packages_are_imported_where_they_are_allowed() -> None:
    """Outside the modules that stand for them, only what is always installed is imported."""
    wrong = []
    for found in IMPORTS:
        package = found.imported.split(".")[0]
        if package == "asgi_llm" or package in sys.stdlib_module_names or package in REQUIRED:
            continue
        if package not in may_import(found.importer):
            wrong.append(where(found))
    assert [] == wrong


# In a fresh interpreter

HEAVY = (
    "alembic",
    "bpe_openai",
    "joserfc",
    "limits",
    "sqlalchemy",
    "redis",
    "torch",
    "numpy",
    "onnxruntime",
    "qdrant_client",
    "sentence_transformers",
    "tokenizers",
    "opentelemetry",
    "httpx2",
    "httpx",
    "genai_prices",
    "botocore",
    "google.auth",
    "litellm",
    "uvicorn",
    "click",
    "structlog",
    "yaml",
)
ALONE = sorted(
    name
    for name in MODULES
    if re.match(r"asgi_llm\.(middleware|providers|dialects|wire)\.", name)
    or name in ("asgi_llm", "asgi_llm.transports.http1")
)


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    return done.stdout


def test_importing_the_package_imports_nothing_else() -> None:
    """``import asgi_llm`` loads one module of ours, no package, and no costly part of Python."""
    code = (
        "import sys, json; before = set(sys.modules); import asgi_llm; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    loaded = json.loads(run(code))
    ours = [name for name in loaded if name.split(".")[0] not in sys.stdlib_module_names]
    assert ["asgi_llm"] == ours
    assert "typing" not in loaded


def test_no_part_imports_what_it_does_not_need() -> None:
    """Each layer, adapter and wire module alone loads none of the optional packages."""
    code = f"""
import sys, json
heavy = {HEAVY!r}
wrong = {{}}
for name in {ALONE!r}:
    for loaded in [one for one in sys.modules if one.split(".")[0] in ("asgi_llm", *heavy)]:
        del sys.modules[loaded]
    __import__(name)
    found = [one for one in heavy if one in sys.modules]
    if found:
        wrong[name] = found
print(json.dumps(wrong))
"""
    assert {} == json.loads(run(code))


def test_all_names_are_there_and_sorted() -> None:
    """``__all__`` is sorted, each name of it loads, ``dir`` shows it, and no other name does."""
    assert sorted(asgi_llm.__all__) == asgi_llm.__all__
    for name in asgi_llm.__all__:
        assert getattr(asgi_llm, name) is not None
        assert name in dir(asgi_llm)
    with pytest.raises(AttributeError, match="nothing"):
        asgi_llm.nothing  # noqa: B018


ROUNDS = 10
STARLETTE = "starlette.applications"


def seconds(modules: str, compiled: Path) -> float:
    """CPU time of an import in a fresh interpreter, without the interpreter's own start.

    Args:
        modules: What is imported.
        compiled: Where the bytecode of all of it is kept, as an installed package has its own.
    """
    code = (
        "import time; began = time.process_time(); "
        f"import {modules}; print(time.process_time() - began)"
    )
    return float(run(code, PYTHONPYCACHEPREFIX=str(compiled), PYTHONDONTWRITEBYTECODE=""))


def test_an_import_costs_less_than_one_and_a_half_starlettes(tmp_path: Path) -> None:
    """The package with any one public part costs under 1.5 times ``starlette.applications``.

    The least of up to ten measurements each, in turns: other work on the machine only adds.
    """
    costs = {name: inf for name in (STARLETTE, *ALONE) if "._" not in name}
    dear = list(costs)
    # What seems dear is measured again, with what it is compared to.
    for _ in range(ROUNDS):
        for name in dear:
            what = name if name == STARLETTE else f"asgi_llm, {name}"
            costs[name] = min(costs[name], seconds(what, tmp_path))
        dear = [name for name, cost in costs.items() if cost >= 1.5 * costs[STARLETTE]]
        if not dear:
            break
        dear.append(STARLETTE)
    assert [] == dear
