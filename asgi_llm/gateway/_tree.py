"""A configuration as it was written: values that know where they stand, and what is wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from asgi_llm.errors import ConfigurationError

__all__ = [
    "ConfigurationProblems",
    "Items",
    "Node",
    "Path",
    "Place",
    "Problem",
    "Scalar",
    "Table",
    "from_python",
    "locate",
    "nearest",
    "path_of",
    "path_text",
]

Path = tuple[str | int, ...]
"""Keys and indices from the root, as ``("models", "fast", "targets", 0)``."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was written."""

    source: str = ""
    """A file, or an environment variable; empty for a mapping that a program handed over."""
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        parts = (part for part in (self.source, self.line, self.column) if part not in ("", None))
        return ":".join(str(part) for part in parts)


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value. Text from a file or the environment is read by the type that it is put to."""

    place: Place
    value: str | int | float | bool | None = field(repr=False)
    plain: bool = field(default=False, kw_only=True)
    """Whether it was written without quotes, so that text may mean a number where any value may
    stand."""
    quotable: bool = field(default=True, kw_only=True)
    """Whether a message may show it: False where it came out of the environment."""
    broken: bool = field(default=False, kw_only=True)
    """Whether it could not be read, which is noted already."""


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    place: Place
    items: list[Node]


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping, with the place of each key."""

    place: Place
    items: dict[str, Node]
    keys: dict[str, Place]


Node = Scalar | Items | Table


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, in one line."""

    place: Place
    path: str
    message: str

    def __str__(self) -> str:
        where = str(self.place)
        return ": ".join(part for part in (where, self.path, self.message) if part)


class ConfigurationProblems(ConfigurationError):
    """Everything that is wrong with a configuration, one line each.

    Args:
        problems: At least one, in the order in which they were written.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(
            "\n".join(str(problem) for problem in self.problems),
            param=self.problems[0].path or None,
        )


def path_text(path: Path) -> str:
    """``models.fast.targets[0].provider``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


_STEP = re.compile(r"\[?([^.\[\]]+)\]?")


def path_of(node: Node, text: str) -> Path:
    """The path below ``node`` that a dotted text means.

    A key that was written is taken whole, dots and all, as in ``openai.gpt-4.1.input``.
    """
    path: list[str | int] = []
    below: Node | None = node
    while text:
        keys = below.items if isinstance(below, Table) else {}
        known = [key for key in keys if re.match(re.escape(key) + r"(?![^.\[])", text)]
        if known:
            step: str | int = max(known, key=len)
            below, text = keys[str(step)], text[len(str(step)) :]
        else:
            found = _STEP.match(text)
            if found is None:
                break
            step = int(found[1]) if found[1].isdigit() else found[1]
            items = below.items if isinstance(below, Items) else []
            below = items[step] if isinstance(step, int) and step < len(items) else None
            text = text[found.end() :]
        path.append(step)
        text = text.removeprefix(".")
    return tuple(path)


def nearest(name: str, known: Iterable[str]) -> str:
    """``, did you mean x?`` where a known name is close to ``name``, else nothing."""
    names = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), names, n=1)
    return f", did you mean {names[close[0]]}?" if close else ""


def locate(node: Node, path: Path) -> Place:
    """The place of the key at ``path``, or of the nearest part above it that was written."""
    place = node.place
    for part in path:
        if isinstance(node, Table) and isinstance(part, str) and part in node.items:
            place, node = node.keys[part], node.items[part]
        elif isinstance(node, Items) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
            place = node.place
        else:
            break
    return place


def from_python(value: object, place: Place, path: Path = ()) -> Node:
    """A tree of what a program handed over, such as a Django setting.

    Raises:
        ConfigurationError: A value of a type that a file could not hold.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return Scalar(place, value)
    if isinstance(value, Mapping):
        items: dict[str, Node] = {}
        for key, one in value.items():
            if not isinstance(key, str):
                raise ConfigurationProblems(
                    [Problem(place, path_text(path), f"a key of type {type(key).__name__}")]
                )
            items[key] = from_python(one, place, (*path, key))
        return Table(place, items, dict.fromkeys(items, place))
    if isinstance(value, list | tuple):
        return Items(
            place, [from_python(one, place, (*path, index)) for index, one in enumerate(value)]
        )
    if hasattr(value, "__fspath__"):
        return Scalar(place, str(value))
    raise ConfigurationProblems(
        [
            Problem(
                place,
                path_text(path),
                f"cannot be a value of type {type(value).__name__}",
            )
        ]
    )
