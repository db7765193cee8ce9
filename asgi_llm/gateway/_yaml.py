"""YAML to a tree that knows its lines; small, safe, and strict about what YAML lets pass.

Read from PyYAML's events, so that nesting and aliases are bounded while they are read: an alias is
the node that it names, counted at its full size, and never a copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from asgi_llm._optional import require
from asgi_llm.gateway._interpolation import MissingVariableError, References
from asgi_llm.gateway._tree import (
    ConfigurationProblems,
    Items,
    Node,
    Path,
    Place,
    Problem,
    Scalar,
    Table,
    path_text,
)

if TYPE_CHECKING:
    import yaml

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_NODES", "parse"]

MAX_BYTES = 10 * 1024 * 1024
MAX_DEPTH = 40
MAX_NODES = 100_000
"""Values in one file, those behind aliases counted each time that they are used."""

_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_CORE_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")
)


def parse(data: bytes, source: str, environ: Mapping[str, str]) -> tuple[Node, list[Problem]]:
    """The tree of a YAML document, and what is wrong with single values of it.

    Args:
        data: The file's bytes, UTF-8 (or what its byte order mark says).
        source: The file's name, for messages.
        environ: Where ``${NAME}`` is looked up.

    Raises:
        ConfigurationProblems: It is not YAML at all, or over a bound.
    """
    if len(data) > MAX_BYTES:
        raise _problem(Place(source), f"the file is larger than {MAX_BYTES // 1024 // 1024} MB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _problem(Place(source), f"the file is not UTF-8 (byte {error.start})") from error
    references = References(environ)
    yaml = require("yaml", extra="gateway")
    try:
        hidden = references.hide(text)
        return _Reader(yaml.parse(hidden, yaml.SafeLoader), source, references).read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(source, mark.line + 1, mark.column + 1)
        cause = references.show(str(error.problem or error.context)).partition(", but ")[0]
        if error.context and error.context_mark:
            cause += f", {error.context} that begins on line {error.context_mark.line + 1}"
        raise _problem(place, f"not valid YAML: {cause}") from None
    except (yaml.YAMLError, ValueError) as error:
        # The text of other errors may quote the file, secrets included.
        cause = str(error) if isinstance(error, ValueError) else "a character is not allowed"
        raise _problem(Place(source), f"not valid YAML: {cause}") from None


def _problem(place: Place, message: str, path: Path = ()) -> ConfigurationProblems:
    return ConfigurationProblems([Problem(place, path_text(path), message)])


class _Reader:
    """Builds the tree of one document; collects what is wrong with its values on the way."""

    def __init__(self, events: Iterator[yaml.Event], source: str, references: References) -> None:
        self._events = events
        self._source = source
        self._references = references
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._problems: list[Problem] = []
        self._nodes = 0

    def read(self) -> tuple[Node, list[Problem]]:
        node: Node = Table(Place(self._source), {}, {})
        documents = 0
        for event in self._events:
            match type(event).__name__:
                case "DocumentStartEvent":
                    documents += 1
                    if documents > 1:
                        raise _problem(self._place(event), "the file holds more than one document")
                case "StreamStartEvent" | "DocumentEndEvent" | "StreamEndEvent":
                    pass
                case _:
                    node = self._node(event, (), 0)
        if isinstance(node, Scalar) and node.value is None:
            node = Table(node.place, {}, {})
        return node, self._problems

    def _node(self, event: Any, path: Path, depth: int) -> Node:
        place = self._place(event)
        before = self._nodes
        self._count(1, place, path)
        if depth > MAX_DEPTH:
            raise _problem(place, f"nested more than {MAX_DEPTH} deep", path)
        kind = type(event).__name__
        if kind == "AliasEvent":
            if event.anchor not in self._anchors:
                raise _problem(place, f"the anchor *{event.anchor} is not defined above", path)
            node, size = self._anchors[event.anchor]
            self._count(size, place, path)
            return node
        if event.tag is not None and event.tag not in _CORE_TAGS and event.tag != "!":
            self._problems.append(
                Problem(place, path_text(path), "tags such as !x are not supported")
            )
        if kind == "ScalarEvent":
            node = self._scalar(event, place, path)
        elif kind == "SequenceStartEvent":
            node = self._items(place, path, depth)
        else:
            node = self._table(place, path, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node, self._nodes - before
        return node

    def _scalar(self, event: Any, place: Place, path: Path) -> Scalar:
        try:
            text, from_environment = self._references.resolve(event.value)
        except MissingVariableError as error:
            self._problems.append(Problem(place, path_text(path), str(error)))
            return Scalar(place, None, broken=True)
        plain = event.implicit[0]
        value = None if plain and text in _NULLS else text
        return Scalar(place, value, plain=plain, quotable=not from_environment)

    def _items(self, place: Place, path: Path, depth: int) -> Items:
        items: list[Node] = []
        for event in self._events:
            if type(event).__name__ == "SequenceEndEvent":
                break
            items.append(self._node(event, (*path, len(items)), depth + 1))
        return Items(place, items)

    def _table(self, place: Place, path: Path, depth: int) -> Table:
        table = Table(place, {}, {})
        merged: list[Table] = []
        event: Any
        for event in self._events:
            if type(event).__name__ == "MappingEndEvent":
                break
            key_place = self._place(event)
            if type(event).__name__ != "ScalarEvent":
                raise _problem(key_place, "a key must be a plain name", path)
            key = self._references.show(event.value)
            value = self._node(next(self._events), (*path, key), depth + 1)
            if key == "<<" and event.implicit[0]:
                merged += self._merged(value, key_place, path)
            elif key in table.items:
                first = table.keys[key].line
                self._problems.append(
                    Problem(
                        key_place, path_text((*path, key)), f"the key stands on line {first} too"
                    )
                )
            else:
                table.items[key] = value
                table.keys[key] = key_place
        for other in merged:
            for key, value in other.items.items():
                if key not in table.items:
                    table.items[key] = value
                    table.keys[key] = other.keys[key]
        return table

    def _merged(self, value: Node, place: Place, path: Path) -> list[Table]:
        values = value.items if isinstance(value, Items) else [value]
        tables = [one for one in values if isinstance(one, Table)]
        if len(tables) != len(values):
            raise _problem(place, "<< takes a mapping, or a list of mappings", path)
        return tables

    def _count(self, nodes: int, place: Place, path: Path) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _problem(place, f"more than {MAX_NODES} values, aliases counted in full", path)

    def _place(self, event: Any) -> Place:
        mark = event.start_mark
        return Place(self._source, mark.line + 1, mark.column + 1)
