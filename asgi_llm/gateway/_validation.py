"""From a tree to the definitions, with everything that is wrong told at once."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from msgspec import inspect

from asgi_llm.gateway._definition_types import Secret
from asgi_llm.gateway._definitions import Configuration
from asgi_llm.gateway._layer_definitions import LAYERS, PLANNED_LAYERS, LayerDefinition
from asgi_llm.gateway._provider_definitions import PROVIDERS, ProviderDefinition
from asgi_llm.gateway._tree import (
    ConfigurationProblems,
    Items,
    Node,
    Path,
    Place,
    Problem,
    Scalar,
    Table,
    nearest,
    path_text,
)

__all__ = ["validate"]

_INTEGER = re.compile(r"[-+]?[0-9][0-9_]{0,17}")
_NUMBER = re.compile(r"[-+]?(?:[0-9][0-9_]{0,17})?(?:\.[0-9]{1,18})?(?:[eE][-+]?[0-9]{1,3})?")
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_LONGEST_QUOTE = 16
_LARGEST_AMOUNT = Decimal(10) ** 12
_BAD = object()
"""Stands for a value whose problem is already noted."""


def validate(node: Node, problems: Iterable[Problem] = ()) -> Configuration:
    """The configuration that ``node`` describes.

    Args:
        node: The tree.
        problems: What is known to be wrong with it already.

    Raises:
        ConfigurationProblems: All that is wrong with it.
    """
    validator = _Validator(problems)
    value = validator.convert(node, inspect.type_info(Configuration), ())
    if validator.problems:
        raise ConfigurationProblems(sorted(validator.problems, key=_position))
    return value  # type: ignore[no-any-return]


def _position(problem: Problem) -> tuple[int, int]:
    return problem.place.line or 0, problem.place.column or 0


class _Validator:
    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)

    def problem(self, place: Place, path: Path, message: str) -> Any:
        self.problems.append(Problem(place, path_text(path), message))
        return _BAD

    def convert(self, node: Node, kind: inspect.Type, path: Path, expected: str = "") -> Any:
        """``node`` as a value of ``kind``, or ``_BAD`` with a problem noted."""
        if isinstance(node, Scalar) and node.broken:
            return _BAD
        match kind:
            case inspect.Metadata():
                return self.convert(node, kind.type, path, (kind.extra or {}).get("is", expected))
            case inspect.UnionType():
                return self.union(node, kind, path, expected)
            case inspect.StructType():
                return self.struct(node, kind.cls, path)
            case inspect.VarTupleType():
                return self.items(node, kind, path)
            case inspect.DictType():
                return self.mapping(node, kind, path)
            case inspect.AnyType():
                return _plain(node)
            case _:
                return self.scalar(node, kind, path, expected)

    def union(self, node: Node, kind: inspect.UnionType, path: Path, expected: str) -> Any:
        """Only unions with null are defined; the rest is one type."""
        if isinstance(node, Scalar) and node.value is None:
            return None
        inner = [one for one in kind.types if not isinstance(one, inspect.NoneType)]
        return self.convert(node, inner[0], path, expected)

    def struct(self, node: Node, cls: type[Any], path: Path) -> Any:
        """A mapping with known keys. A null section is an empty one."""
        if isinstance(node, Scalar) and node.value is None:
            node = Table(node.place, {}, {})
        if cls is LayerDefinition:
            return self.layer(node, path)
        if not isinstance(node, Table):
            return self.problem(node.place, path, f"expected a mapping, got {_kind(node)}")
        if cls is ProviderDefinition:
            chosen = self.provider_class(node, path)
            if chosen is None:
                return _BAD
            cls = chosen
        fields = {one.name: one for one in inspect.type_info(cls).fields}  # type: ignore[attr-defined]
        values: dict[str, Any] = {}
        for key, value in node.items.items():
            if key in fields:
                values[key] = self.convert(value, fields[key].type, (*path, key))
            else:
                self.unknown_key(node, key, fields, path)
        for name, one in fields.items():
            if one.required and name not in node.items:
                values[name] = self.problem(node.place, (*path, name), "the key is missing")
        if any(value is _BAD for value in values.values()):
            return _BAD
        return cls(**values)

    def unknown_key(self, node: Table, key: str, known: dict[str, Any], path: Path) -> None:
        hint = nearest(key, known)
        if not hint and len(known) <= 8:
            hint = f"; known are {', '.join(known)}"
        self.problem(node.keys[key], (*path, key), f"unknown key{hint}")

    def provider_class(self, node: Table, path: Path) -> type[ProviderDefinition] | None:
        kind = node.items.get("type")
        if kind is None:
            self.problem(node.place, (*path, "type"), f"the key is missing; {_one_of(PROVIDERS)}")
            return None
        if isinstance(kind, Scalar) and kind.broken:
            return None
        if not isinstance(kind, Scalar) or not isinstance(kind.value, str):
            self.problem(kind.place, (*path, "type"), _one_of(PROVIDERS))
            return None
        if kind.value not in PROVIDERS:
            hint = nearest(kind.value, PROVIDERS) or f"; {_one_of(PROVIDERS)}"
            shown = kind.quotable and len(kind.value) <= _LONGEST_QUOTE
            name = f" {kind.value!r}" if shown else ""
            self.problem(kind.place, (*path, "type"), f"unknown provider type{name}{hint}")
            return None
        return PROVIDERS[kind.value]

    def layer(self, node: Node, path: Path) -> Any:
        """``- name: {options}``, or ``- name`` for a layer with none."""
        if isinstance(node, Scalar) and isinstance(node.value, str):
            name, options, place = node.value, Table(node.place, {}, {}), node.place
        elif isinstance(node, Table) and len(node.items) == 1:
            ((name, inner),) = node.items.items()
            options, place = inner, node.keys[name]  # type: ignore[assignment]
        else:
            return self.problem(
                node.place, path, f"expected one layer, as in - cors: {{...}}, got {_kind(node)}"
            )
        if name in PLANNED_LAYERS:
            return self.problem(
                place,
                (*path, name),
                f"this version has no layer {name}; it has {', '.join(LAYERS)}",
            )
        if name not in LAYERS:
            hint = nearest(name, LAYERS) or f"; the layers are {', '.join(LAYERS)}"
            return self.problem(place, (*path, name), f"unknown layer{hint}")
        return self.struct(options, LAYERS[name], (*path, name))

    def items(self, node: Node, kind: inspect.VarTupleType, path: Path) -> Any:
        if isinstance(node, Scalar) and node.value is None:
            node = Items(node.place, [])
        if not isinstance(node, Items):
            return self.problem(node.place, path, f"expected a list, got {_kind(node)}")
        if kind.min_length and len(node.items) < kind.min_length:
            return self.problem(node.place, path, "the list is empty")
        values = [
            self.convert(one, kind.item_type, (*path, index))
            for index, one in enumerate(node.items)
        ]
        return _BAD if any(value is _BAD for value in values) else tuple(values)

    def mapping(self, node: Node, kind: inspect.DictType, path: Path) -> Any:
        if isinstance(node, Scalar) and node.value is None:
            node = Table(node.place, {}, {})
        if not isinstance(node, Table):
            return self.problem(node.place, path, f"expected a mapping, got {_kind(node)}")
        values: dict[str, Any] = {}
        for key, one in node.items.items():
            name = self.convert(Scalar(node.keys[key], key), kind.key_type, (*path, key))
            value = self.convert(one, kind.value_type, (*path, key))
            values[key] = _BAD if name is _BAD else value
        return _BAD if any(value is _BAD for value in values.values()) else values

    def scalar(self, node: Node, kind: inspect.Type, path: Path, expected: str) -> Any:
        secret = isinstance(kind, inspect.CustomType)
        what = expected or _what(kind)
        if not isinstance(node, Scalar) or node.value is None:
            return self.problem(node.place, path, f"expected {what}, got {_kind(node)}")
        value = _read(node.value, kind)
        if value is not _BAD:
            return value
        if secret and node.value == "":
            got = "an empty one"
        elif isinstance(kind, inspect.StrType | inspect.CustomType) or not node.quotable:
            # Text may be a secret in the wrong place, or what the environment holds.
            got = "another value"
        else:
            got = repr(node.value)
            got = got if len(got) <= _LONGEST_QUOTE else "another value"
        return self.problem(node.place, path, f"expected {what}, got {got}")


def _plain(node: Node) -> Any:
    """``node`` as it would stand in JSON."""
    match node:
        case Table():
            return {key: _plain(one) for key, one in node.items.items()}
        case Items():
            return [_plain(one) for one in node.items]
        case Scalar(value=str(text), plain=True):
            if _INTEGER.fullmatch(text):
                return int(text)
            if _NUMBER.fullmatch(text) and text.strip("+-.eE_"):
                return float(text)
            return _BOOLEANS.get(text.lower(), text)
    return node.value


def _read(value: str | int | float | bool, kind: inspect.Type) -> Any:
    """``value`` as ``kind``. Text is read as what it is put to, as in ``port: ${PORT}``."""
    match kind:
        case inspect.CustomType():
            return Secret(value) if isinstance(value, str) and value else _BAD
        case inspect.StrType():
            return value if isinstance(value, str) and _fits_text(value, kind) else _BAD
        case inspect.BoolType():
            return value if isinstance(value, bool) else _BOOLEANS.get(str(value).lower(), _BAD)
        case inspect.LiteralType():
            same = (one for one in kind.values if one == value or str(one) == value)
            return next(same, _BAD)
        case inspect.DecimalType():
            return _decimal(value)
        case inspect.IntType():
            return _number(value, kind, _INTEGER, int)
        case inspect.FloatType():
            return _number(value, kind, _NUMBER, float)
    raise TypeError(f"no reader for {kind!r}")


def _fits_text(value: str, kind: inspect.StrType) -> bool:
    if kind.min_length is not None and len(value) < kind.min_length:
        return False
    if kind.max_length is not None and len(value) > kind.max_length:
        return False
    return kind.pattern is None or re.search(kind.pattern, value) is not None


def _number(
    value: Any,
    kind: inspect.IntType | inspect.FloatType,
    pattern: re.Pattern[str],
    read: type[int] | type[float],
) -> Any:
    if isinstance(value, bool):
        return _BAD
    if isinstance(value, str):
        if not pattern.fullmatch(value) or not any(character.isdigit() for character in value):
            return _BAD
        value = read(value)
    elif isinstance(value, float) and read is int:
        return _BAD
    number = read(value)
    if not math.isfinite(number):
        return _BAD
    low = number if kind.ge is None else kind.ge
    high = number if kind.le is None else kind.le
    if not low <= number <= high or (kind.gt is not None and number <= kind.gt):
        return _BAD
    return number


def _decimal(value: Any) -> Any:
    """``value`` as it was written, digit by digit, if it is an amount."""
    # The shortest notation of a float is what was written.
    text = value if isinstance(value, str) else repr(value)
    if isinstance(value, bool) or not _NUMBER.fullmatch(text) or not re.search("[0-9]", text):
        return _BAD
    number = Decimal(text)
    return number if 0 <= number <= _LARGEST_AMOUNT else _BAD


def _what(kind: inspect.Type) -> str:
    """What is accepted, in words."""
    match kind:
        case inspect.CustomType():
            return "a text"
        case inspect.StrType():
            cap = kind.max_length
            return "a text" if cap is None else f"a text of 1 to {cap} characters"
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType():
            return f"one of {', '.join(map(str, kind.values))}"
        case inspect.IntType() | inspect.FloatType():
            noun = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
            low = f"above {kind.gt:g}" if kind.gt is not None else f"from {kind.ge}"
            return f"{noun} {low} to {kind.le}"
    raise TypeError(f"no words for {kind!r}")


def _one_of(names: Any) -> str:
    return f"expected one of {', '.join(names)}"


def _kind(node: Node) -> str:
    if isinstance(node, Table):
        return "a mapping"
    if isinstance(node, Items):
        return "a list"
    if node.value is None:
        return "nothing"
    return "a text" if isinstance(node.value, str) else f"a {type(node.value).__name__}"
