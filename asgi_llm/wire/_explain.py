"""Turns what msgspec says of a document into what a client can act on: path, value, expectation.

Runs on the error path only. The definitions are read through ``msgspec.inspect``, so that what a
message says is accepted is what is accepted.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple, get_args

import msgspec
from msgspec import inspect

from asgi_llm.errors import InvalidRequestError
from asgi_llm.wire._fields import Rule
from asgi_llm.wire.content import ContentPart

_STEP = re.compile(r"\.([A-Za-z_]\w*)|\[(\d+|\.\.\.)\]")
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_SHORT = re.compile(r"[\w.:+/-]{1,40}", re.ASCII)
_MAX_SHOWN = 10**15
_WORDS = (inspect.IntType, inspect.FloatType, inspect.BoolType)
_PART_TYPES = frozenset(part.__struct_config__.tag for part in get_args(ContentPart))


class _Place(NamedTuple):
    """A place in a document: what is there, and what the definition has for it.

    Attributes:
        param: Its path, as clients write it.
        value: What the document holds.
        node: The definition's type.
        choices: The tags to choose from, where this is the field that tells kinds apart.
        in_map: Whether it is one of the values of a map, which has no path of its own: its keys
            are the client's.
    """

    param: str
    value: Any
    node: inspect.Type
    choices: tuple[str, ...] = ()
    in_map: bool = False


def explain(
    error: msgspec.ValidationError, definition: type[msgspec.Struct], document: Any
) -> InvalidRequestError:
    """The error that tells the client of ``error``, which ``definition`` raised for ``document``.

    Nothing of the client's text is repeated but a short word where a word or a number is expected.
    """
    text, _, path = str(error).rpartition(" - at `$")
    if not text:
        text, path = path, ""
    place = _find(path.rstrip("`"), definition, document)
    cause = error.__cause__
    if isinstance(cause, Rule):
        return _refuse(_below(place.param, cause.field), cause.problem, cause.code)
    if missing := _MISSING.match(text):
        param = _below(place.param, missing[1])
        return _refuse(param, "required field is missing", "missing_field")
    if place.choices:
        if not isinstance(place.value, str):
            problem = f"got {name_kind(place.value)}, expected a string"
            return _refuse(place.param, problem, "invalid_type")
        code = "invalid_value"
        if _PART_TYPES.issuperset(place.choices):
            code = "unknown_content_part"
        problem = f"got {_show(place.value)}, expected one of: {', '.join(place.choices)}"
        return _refuse(place.param, problem, code)
    code = "invalid_type" if ", got `" in text else "invalid_value"
    expected = _describe(place.node)
    problem = f"got {_got(place)}, expected {expected}"
    if place.in_map:
        problem = f"got an object with another value than {expected}"
    return _refuse(place.param, problem, code)


def name_kind(value: Any) -> str:
    """What kind of JSON value ``value`` is, with its article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"


def _refuse(param: str, problem: str, code: str) -> InvalidRequestError:
    return InvalidRequestError(f"{param}: {problem}", param=param, code=code)


def _below(param: str, field: str) -> str:
    return f"{param}.{field}" if param else field


@lru_cache(maxsize=16)
def _inspected(definition: type[msgspec.Struct]) -> inspect.Type:
    return inspect.type_info(definition)


def _find(path: str, definition: type[msgspec.Struct], document: Any) -> _Place:
    place = _Place("", document, _inspected(definition))
    for name, index in _STEP.findall(path):
        if name:
            place = _field(place, name)
        elif index == "...":
            (node,) = (kind for kind in _members(place.node) if isinstance(kind, inspect.DictType))
            return _Place(place.param, None, node.value_type, in_map=True)
        else:
            (items,) = (kind for kind in _members(place.node) if isinstance(kind, inspect.ListType))
            param, value = f"{place.param}[{index}]", place.value[int(index)]
            place = _Place(param, value, items.item_type)
    return place


def _field(place: _Place, name: str) -> _Place:
    """The field ``name`` of the object at ``place``."""
    param, value = _below(place.param, name), place.value[name]
    kinds = [kind for kind in _members(place.node) if isinstance(kind, inspect.StructType)]
    if any(kind.tag_field == name for kind in kinds):
        tags = tuple(str(kind.tag) for kind in kinds if kind.tag_field == name)
        return _Place(param, value, place.node, choices=tags)
    if len(kinds) > 1:
        kinds = [kind for kind in kinds if place.value[kind.tag_field] == kind.tag]
    (node,) = (field.type for field in kinds[0].fields if field.encode_name == name)
    return _Place(param, value, node)


def _members(node: inspect.Type) -> tuple[inspect.Type, ...]:
    if isinstance(node, inspect.Metadata):
        return _members(node.type)
    return node.types if isinstance(node, inspect.UnionType) else (node,)


def _got(place: _Place) -> str:
    value = place.value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value) if abs(value) < _MAX_SHOWN else "a number"
    if value == "" or value == []:
        return "an empty string" if value == "" else "an empty list"
    wants_word = any(isinstance(kind, _WORDS) for kind in _members(place.node))
    return _show(value) if isinstance(value, str) and wants_word else name_kind(value)


def _show(value: str) -> str:
    """A client's word, if it is one: a longer text may be a prompt."""
    return f'"{value}"' if _SHORT.fullmatch(value) else f"a string of {len(value)} characters"


def _describe(node: inspect.Type) -> str:
    kinds = [kind for kind in _members(node) if not isinstance(kind, inspect.NoneType)]
    texts = [_describe_one(kind) for kind in kinds]
    return " or ".join(dict.fromkeys(texts))


def _describe_one(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        noun = "an integer" if isinstance(kind, inspect.IntType) else "a number"
        return noun if kind.ge is None else f"{noun} from {kind.ge} to {kind.le}"
    if isinstance(kind, inspect.ListType):
        return f"a list of at least one {_noun(kind.item_type)}" if kind.min_length else "a list"
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    return "a string" if isinstance(kind, inspect.StrType) else "an object"


def _noun(node: inspect.Type) -> str:
    tag_fields = {getattr(kind, "tag_field", None) for kind in _members(node)}
    return "message" if tag_fields == {"role"} else "element"
