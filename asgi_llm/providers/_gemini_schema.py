"""JSON Schemas for Gemini models from before it took them as they are.

Source: Gemini API reference, "Schema" (a subset of OpenAPI 3.0); November 2026.
"""

from __future__ import annotations

from typing import Any, Final

from asgi_llm.providers._losses import Losses
from asgi_llm.types import Document

__all__ = ["schema_subset"]

_KEPT: Final = frozenset(
    (
        "anyOf",
        "default",
        "description",
        "enum",
        "example",
        "format",
        "items",
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
        "properties",
        "propertyOrdering",
        "required",
        "title",
        "type",
    )
)
_MEANINGLESS: Final = frozenset(
    ("$schema", "$id", "$defs", "definitions", "$comment", "additionalProperties")
)
"""What is left out without a word: it constrains nothing, or Gemini acts as if it were there."""
_DEEPEST: Final = 32


def schema_subset(schema: Document, path: str, losses: Losses) -> Document:
    """``schema`` in the words that older models know; references are put in place.

    Args:
        schema: As the client wrote it.
        path: Where it stands in the document.
        losses: Where keywords go that have no counterpart.
    """
    definitions = {
        f"#/{name}/{key}": value
        for name in ("$defs", "definitions")
        for key, value in (schema.get(name) or {}).items()
    }
    told = _Subset(definitions, path, losses).of(schema, 0)
    return told if isinstance(told, dict) else {"type": "object"}


class _Subset:
    def __init__(self, definitions: dict[str, Any], path: str, losses: Losses) -> None:
        self._definitions = definitions
        self._path = path
        self._losses = losses

    def of(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, dict):
            return schema
        if depth > _DEEPEST:
            # A schema that refers to itself has no end.
            self._losses.add(f"{self._path}.$ref", "it goes too deep")
            return {"type": "object"}
        if (reference := schema.get("$ref")) is not None:
            target = self._definitions.get(reference)
            if target is None:
                self._losses.add(f"{self._path}.$ref", "it leads nowhere")
                return {"type": "object"}
            rest = {name: value for name, value in schema.items() if name != "$ref"}
            return self.of({**target, **rest}, depth + 1)
        told: Document = {}
        for name, value in schema.items():
            if name == "type" and isinstance(value, list):
                self._types(value, told)
            elif name in ("oneOf", "anyOf"):
                told["anyOf"] = [self.of(one, depth + 1) for one in value]
            elif name == "const":
                told["enum"] = [value]
            elif name == "properties" and isinstance(value, dict):
                told[name] = {key: self.of(one, depth + 1) for key, one in value.items()}
            elif name == "items":
                told[name] = self.of(value, depth + 1)
            elif name in _KEPT:
                told[name] = value
            elif name not in _MEANINGLESS:
                self._losses.add(f"{self._path}.{name}")
        return told

    def _types(self, types: list[Any], told: Document) -> None:
        plain = [one for one in types if one != "null"]
        if len(plain) < len(types):
            told["nullable"] = True
        if len(plain) == 1:
            told["type"] = plain[0]
        elif plain:
            told["anyOf"] = [{"type": one} for one in plain]
