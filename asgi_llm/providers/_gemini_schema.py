"""JSON Schemas for Gemini models from before it took them as they are.

Source: Gemini API reference, "Schema" (a subset of OpenAPI 3.0); November 2026.
"""

from __future__ import annotations

from typing import Any, Final

from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers._losses import Losses
from asgi_llm.types import Document

__all__ = ["schema_subset"]

_KEPT: Final = frozenset(
    (
        "default",
        "description",
        "example",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "nullable",
        "pattern",
        "propertyOrdering",
        "required",
        "title",
        "type",
    )
)
_MEANINGLESS: Final = frozenset(("$schema", "$id", "$anchor", "$defs", "definitions", "$comment"))
"""Keywords that no value breaks."""
_FORMATS: Final = frozenset(("date-time", "enum", "float", "double", "int32", "int64"))
_NULL: Final = {"type": "null"}
_DEEPEST: Final = 32
_MOST_SCHEMAS: Final = 5000


def schema_subset(schema: Document, path: str, losses: Losses) -> Document:
    """``schema`` in the words that older models know; references are put in place.

    Args:
        schema: As the client wrote it.
        path: Where it stands in the document.
        losses: Where keywords go that have no counterpart.

    Raises:
        InvalidRequestError: It is too large once references are put in place.
    """
    return _Subset(schema, path, losses).of(schema, 0)


class _Subset:
    """Goes through one schema."""

    __slots__ = ("_left", "_losses", "_path", "_root")

    def __init__(self, root: Document, path: str, losses: Losses) -> None:
        self._root = root
        self._path = path
        self._losses = losses
        self._left = _MOST_SCHEMAS

    def of(self, schema: Any, depth: int) -> Document:
        self._left -= 1
        if self._left < 0:
            # A few definitions that refer to each other may stand for millions of schemas.
            raise InvalidRequestError(
                f"{self._path}: more than {_MOST_SCHEMAS} schemas once references are put in place",
                param=self._path,
                code="invalid_value",
            )
        if not isinstance(schema, dict):
            return {}  # `true`: anything goes
        if depth > _DEEPEST:
            # A schema that refers to itself has no end.
            self._lose("$ref", "it goes too deep")
            return {"type": "object"}
        if "$ref" in schema:
            rest = {name: value for name, value in schema.items() if name != "$ref"}
            return self.of({**self._target(schema["$ref"]), **rest}, depth + 1)
        told: Document = {}
        for name, value in schema.items():
            if name == "type" and isinstance(value, list):
                self._types(value, told)
            elif name in ("oneOf", "anyOf") and isinstance(value, list) and "anyOf" not in told:
                self._choose(value, told, depth)
            elif name == "allOf" and isinstance(value, list) and len(value) == 1:
                told = {**self.of(value[0], depth + 1), **told}
            elif name == "const":
                self._enum([value], name, told)
            elif name == "enum" and isinstance(value, list):
                self._enum(value, name, told)
            elif name == "properties" and isinstance(value, dict):
                if value:
                    told[name] = {key: self.of(one, depth + 1) for key, one in value.items()}
            elif name == "items":
                told[name] = self.of(value, depth + 1)
            elif name in _KEPT or (
                name == "format" and isinstance(value, str) and value in _FORMATS
            ):
                told[name] = value
            elif not (name in _MEANINGLESS or (name == "additionalProperties" and value is False)):
                self._lose(name)
        return told

    def _lose(self, keyword: str, why: str = "") -> None:
        self._losses.add(f"{self._path}.{keyword}", why)

    def _target(self, reference: Any) -> Document:
        found: Any = self._root if isinstance(reference, str) and reference[:1] == "#" else None
        for step in str(reference).split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            found = found.get(step) if isinstance(found, dict) else None
        if isinstance(found, dict):
            return found
        self._lose("$ref", "it leads nowhere")
        return {"type": "object"}

    def _choose(self, options: list[Any], told: Document, depth: int) -> None:
        plain = [one for one in options if one != _NULL]
        if len(plain) < len(options):
            told["nullable"] = True
        if len(plain) == 1:
            for name, value in self.of(plain[0], depth + 1).items():
                told.setdefault(name, value)
        elif plain:
            told["anyOf"] = [self.of(one, depth + 1) for one in plain]

    def _enum(self, values: list[Any], keyword: str, told: Document) -> None:
        """Only texts can be listed."""
        plain = [one for one in values if one is not None]
        if len(plain) < len(values):
            told["nullable"] = True
        if plain and all(isinstance(one, str) for one in plain):
            told["enum"] = plain
            told.setdefault("type", "string")
        else:
            self._lose(keyword)

    def _types(self, types: list[Any], told: Document) -> None:
        plain = [one for one in types if one != "null"]
        if len(plain) < len(types):
            told["nullable"] = True
        if len(plain) == 1:
            told["type"] = plain[0]
        elif plain:
            told["anyOf"] = [{"type": one} for one in plain]
