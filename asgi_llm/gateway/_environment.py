"""What environment variables say: overrides of single keys, and providers when there is no file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from asgi_llm.gateway._tree import (
    ConfigurationProblems,
    Items,
    Node,
    Place,
    Problem,
    Scalar,
    Table,
)
from asgi_llm.providers.compatible import COMPATIBLE

__all__ = ["KEY_VARIABLES", "PREFIX", "Discovery", "discover", "key_for", "override"]

PREFIX = "ASGI_LLM__"

KEY_VARIABLES: dict[str, str] = {
    "openai": "OPENAI_API_KEY",
    "azure": "AZURE_OPENAI_API_KEY",
    **{name: row.key_variable for name, row in COMPATIBLE.items() if row.key_variable},
}
"""The variable that each provider type's own tools take the key from."""

# A token that opens much more than models is not sent anywhere unless a file says so.
_GENERAL_TOKENS = frozenset(("GITHUB_TOKEN",))
_AZURE_ENDPOINT = "AZURE_OPENAI_ENDPOINT"
_AZURE_VERSION = "OPENAI_API_VERSION"


class Discovery(NamedTuple):
    """Providers that the environment has the keys of.

    Attributes:
        node: A configuration with these providers and ``echo``.
        notes: What was found and cannot be used, one sentence each.
    """

    node: Table
    notes: tuple[str, ...]


def key_for(kind: str, environ: Mapping[str, str]) -> str | None:
    """The key of provider type ``kind`` from the variable of its own tools, if that is set."""
    variable = KEY_VARIABLES.get(kind)
    return (environ.get(variable) or None) if variable else None


def discover(environ: Mapping[str, str]) -> Discovery:
    """Providers from the well-known variables. ``OPENAI_BASE_URL`` is not among them.

    That one tells clients where to go. Where it names this gateway, which is what one would set it
    to, following it would send each request round in a circle.
    """
    providers: dict[str, dict[str, str]] = {"echo": {"type": "echo"}}
    notes: list[str] = []
    for kind, variable in KEY_VARIABLES.items():
        has_address = kind == "openai" or (kind in COMPATIBLE and COMPATIBLE[kind].base_url)
        if has_address and variable not in _GENERAL_TOKENS and key_for(kind, environ):
            providers[kind] = {"type": kind}
    if key_for("azure", environ):
        missing = [name for name in (_AZURE_ENDPOINT, _AZURE_VERSION) if not environ.get(name)]
        if missing:
            notes.append(
                f"azure is left out: {KEY_VARIABLES['azure']} is set, {' and '.join(missing)} not."
            )
        else:
            providers["azure"] = {
                "type": "azure",
                "endpoint": environ[_AZURE_ENDPOINT],
                "api_version": environ[_AZURE_VERSION],
            }
    tables: dict[str, Node] = {}
    for name, options in providers.items():
        place = Place(KEY_VARIABLES.get(name, ""))
        values: dict[str, Node] = {
            key: Scalar(place, value, quotable=False) for key, value in options.items()
        }
        tables[name] = Table(place, values, dict.fromkeys(values, place))
    nowhere = Place()
    inner = Table(nowhere, tables, {name: node.place for name, node in tables.items()})
    return Discovery(Table(nowhere, {"providers": inner}, {"providers": nowhere}), tuple(notes))


def override(node: Node, environ: Mapping[str, str]) -> Node:
    """``node`` with each ``ASGI_LLM__A__B=value`` put at ``a.b``.

    Segments find keys whatever their case, with ``_`` for ``-`` too; a list takes an index, and
    the index after its last is a new item. An empty value is null.

    Raises:
        ConfigurationProblems: Variables that lead nowhere.
    """
    problems: list[Problem] = []
    for variable in sorted(environ):
        if not variable.startswith(PREFIX):
            continue
        segments = variable.removeprefix(PREFIX).split("__")
        place = Place(variable)
        value = environ[variable]
        if not all(segments):
            problems.append(Problem(place, "", "expected names between double underscores"))
            continue
        try:
            node = _put(node, segments, Scalar(place, value or None, quotable=False), "")
        except _LeadsNowhereError as error:
            problems.append(Problem(place, "", str(error)))
    if problems:
        raise ConfigurationProblems(problems)
    return node


class _LeadsNowhereError(Exception):
    pass


def _put(node: Node | None, segments: list[str], value: Scalar, path: str) -> Node:
    """A copy of ``node`` with ``value`` in it: parts of a tree may be shared through aliases."""
    if not segments:
        return value
    segment, rest = segments[0], segments[1:]
    if isinstance(node, Items):
        if not segment.isdigit() or int(segment[:6]) > len(node.items):
            raise _LeadsNowhereError(
                f"{path} is a list of {len(node.items)}: expected an index, got {segment.lower()}"
            )
        index = int(segment)
        inner = node.items[index] if index < len(node.items) else None
        items = [*node.items[:index], _put(inner, rest, value, f"{path}[{index}]")]
        return Items(node.place, items + node.items[index + 1 :])
    if node is None or (isinstance(node, Scalar) and node.value is None):
        node = Table(value.place, {}, {})
    if isinstance(node, Scalar):
        raise _LeadsNowhereError(f"{path} is a single value, with nothing inside")
    key = next((key for key in node.items if _folded(key) == segment.lower()), segment.lower())
    inner = _put(node.items.get(key), rest, value, f"{path}.{key}" if path else key)
    place = value.place if not rest else node.keys.get(key, value.place)
    return Table(node.place, {**node.items, key: inner}, {**node.keys, key: place})


def _folded(key: str) -> str:
    return key.lower().replace("-", "_")
