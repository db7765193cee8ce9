"""JSON Schemas in the part of the language that Claude can be held to.

Its objects are closed, and bounds on numbers, lengths and counts are not known. What is not known
is told in the description, where the model reads it without being held to it.

Source: Anthropic, "Structured outputs", "JSON Schema limitations"; November 2026.
"""

from __future__ import annotations

import graphlib
from typing import Any, Final

import msgspec

from asgi_llm import _json

__all__ = ["HeldSchema", "held_schema"]

_KEPT: Final = frozenset(("type", "const", "title", "default", "required"))
_NOTES: Final = frozenset(
    ("$schema", "$id", "$anchor", "$comment", "examples", "readOnly", "writeOnly", "deprecated")
)
"""Keywords that no value breaks."""
_FORMATS: Final = frozenset(
    (
        "date",
        "date-time",
        "duration",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "time",
        "uri",
        "uuid",
    )
)
_DEFINITIONS: Final = ("$defs", "definitions")
_TYPED: Final = frozenset(("type", "enum", "const", "anyOf", "allOf"))


_DEEPEST: Final = 100
"""Containers inside one another; what is deeper is not gone through."""


class HeldSchema(msgspec.Struct, frozen=True):
    """What Claude is held to.

    Attributes:
        schema: All that it allows is allowed by the schema that it was made of, unless
            ``is_looser``; where ``is_open`` it does not allow all that is meant.
        is_looser: It leaves out bounds, which stand in descriptions.
        is_open: What was meant cannot be held to: objects with any keys, any value, recursion.
    """

    schema: dict[str, Any]
    is_looser: bool
    is_open: bool


def held_schema(schema: dict[str, Any]) -> HeldSchema:
    """The schema that Claude can be held to in place of ``schema``."""
    if _json.is_deeper_than(schema, _DEEPEST):
        return HeldSchema(schema, is_looser=False, is_open=True)
    reading = _Reading()
    held = reading.read(schema, "#")
    is_open = reading.is_open or reading.is_recursive()
    return HeldSchema(held, is_looser=reading.is_looser, is_open=is_open)


class _Reading:
    """Goes through one schema."""

    __slots__ = ("_references", "is_looser", "is_open")

    def __init__(self) -> None:
        self.is_looser = False
        self.is_open = False
        self._references: dict[str, set[str]] = {}
        """For the root and each definition: what it refers to."""

    def read(self, schema: Any, within: str) -> dict[str, Any]:
        if not isinstance(schema, dict):
            self.is_open = True  # `true`, or what is no schema
            return {}
        if "$ref" in schema:
            return self._reference(schema, within)
        held: dict[str, Any] = {}
        bounds: dict[str, Any] = {}
        for name, value in schema.items():
            if name in _KEPT:
                held[name] = value
            elif name == "properties" and isinstance(value, dict):
                held[name] = {key: self.read(one, within) for key, one in value.items()}
            elif name == "items":
                held[name] = self.read(value, within)
            elif name in ("anyOf", "oneOf") and isinstance(value, list) and "anyOf" not in held:
                held["anyOf"] = [self.read(one, within) for one in value]
                self.is_looser |= name == "oneOf"
            elif name == "allOf" and isinstance(value, list):
                held[name] = [self.read(one, within) for one in value]
                # Closed one by one, objects would exclude each other.
                self.is_open |= len(value) > 1
            elif name == "additionalProperties":
                self.is_open |= value is not False
            elif name in _DEFINITIONS and isinstance(value, dict):
                held[name] = {key: self.read(one, f"#/{name}/{key}") for key, one in value.items()}
            elif _is_known(name, value):
                held[name] = value
            elif name not in _NOTES and name != "description":
                bounds[name] = value
        self._close(schema, held)
        self._describe(schema, held, bounds)
        return held

    def _reference(self, schema: dict[str, Any], within: str) -> dict[str, Any]:
        held: dict[str, Any] = {"$ref": schema["$ref"]}
        self._references.setdefault(within, set()).add(str(schema["$ref"]))
        for name in _DEFINITIONS:
            if isinstance(schema.get(name), dict):
                held[name] = {
                    key: self.read(one, f"#/{name}/{key}") for key, one in schema[name].items()
                }
        known = {"$ref", "title", "description", "default", *_DEFINITIONS, *_NOTES}
        self.is_looser |= not schema.keys() <= known
        return held

    def _close(self, schema: dict[str, Any], held: dict[str, Any]) -> None:
        kind = held.get("type")
        kinds = kind if isinstance(kind, list) else [kind]
        if "object" in kinds or "properties" in held:
            held.setdefault("type", "object")
            held["additionalProperties"] = False
            # An object that names no keys may have any, unless it says otherwise.
            self.is_open |= "properties" not in held and "additionalProperties" not in schema
        elif "items" in held:
            held.setdefault("type", "array")
        elif not _TYPED & held.keys():
            self.is_open = True

    def _describe(
        self, schema: dict[str, Any], held: dict[str, Any], bounds: dict[str, Any]
    ) -> None:
        description = schema.get("description")
        said = [description] if isinstance(description, str) and description else []
        if bounds:
            self.is_looser = True
            said.append(msgspec.json.encode(bounds).decode())
        if said:
            held["description"] = "\n\n".join(said)

    def is_recursive(self) -> bool:
        """Whether a definition refers to itself, or to what stands elsewhere."""
        references = self._references
        if any(one[:1] != "#" for names in references.values() for one in names):
            return True
        try:
            graphlib.TopologicalSorter(references).prepare()
        except graphlib.CycleError:
            return True
        return False


def _is_known(name: str, value: Any) -> bool:
    if name == "enum":
        return isinstance(value, list) and not any(isinstance(one, dict | list) for one in value)
    if name == "format":
        return isinstance(value, str) and value in _FORMATS
    return name == "minItems" and type(value) is int and value in (0, 1)
