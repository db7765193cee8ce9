"""The JSON Schema of a configuration file, made from the definitions that validate it."""

from __future__ import annotations

from typing import Any

import msgspec

from asgi_llm.gateway._definition_types import Secret
from asgi_llm.gateway._definitions import Configuration
from asgi_llm.gateway._layer_definitions import LAYERS, LayerDefinition
from asgi_llm.gateway._provider_definitions import (
    PROVIDERS,
    CompatibleDefinition,
    KeyedDefinition,
    ProviderDefinition,
)

__all__ = ["schema"]

_REFERENCE = {"type": "string", "pattern": r"\$\{"}
"""A value that is still to be put in, as in ``port: ${PORT}``."""

_AMOUNT = {"type": "string", "pattern": r"^[0-9][0-9_]*(\.[0-9]+)?$|\$\{"}
"""An amount that is written as a text, so that no reader makes a binary fraction of it."""


def schema() -> dict[str, Any]:
    """JSON Schema 2020-12 for editors."""
    kinds = {**PROVIDERS, **LAYERS}
    (_,), parts = msgspec.json.schema_components(
        [Configuration], schema_hook=_hook, ref_template="#/$defs/{name}"
    )
    _, more = msgspec.json.schema_components(
        list(dict.fromkeys(kinds.values())), schema_hook=_hook, ref_template="#/$defs/{name}"
    )
    parts = {**parts, **more}
    for shared in (CompatibleDefinition, KeyedDefinition):
        parts[shared.__name__]["properties"]["type"] = {
            "enum": [name for name, cls in PROVIDERS.items() if cls is shared]
        }
    parts[ProviderDefinition.__name__] = {
        "type": "object",
        "required": ["type"],
        "anyOf": [_reference(cls) for cls in dict.fromkeys(PROVIDERS.values())],
    }
    parts[LayerDefinition.__name__] = {
        "anyOf": [
            {"enum": [name for name, cls in LAYERS.items() if not _has_required(parts, cls)]},
            *(
                {
                    "type": "object",
                    "properties": {name: {"anyOf": [_reference(cls), {"type": "null"}]}},
                    "required": [name],
                    "additionalProperties": False,
                }
                for name, cls in LAYERS.items()
            ),
        ]
    }
    root = parts.pop(Configuration.__name__)
    root["title"] = "asgi-llm configuration"
    root["properties"]["stack"].pop("default", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_with_references(root),
        "$defs": {name: _with_references(part) for name, part in sorted(parts.items())},
    }


def _hook(kind: type) -> dict[str, Any]:
    if kind is not Secret:
        raise NotImplementedError(kind)  # msgspec's word for a type without a schema
    return {"type": "string", "minLength": 1}


def _reference(cls: type) -> dict[str, str]:
    return {"$ref": f"#/$defs/{cls.__name__}"}


def _has_required(parts: dict[str, Any], cls: type) -> bool:
    return bool(parts[cls.__name__].get("required"))


def _with_references(part: Any) -> Any:
    """``part``, with ``${NAME}`` accepted wherever a number or a boolean or a choice is."""
    if isinstance(part, list):
        return [_with_references(one) for one in part]
    if not isinstance(part, dict):
        return part
    part = {
        # Names of properties are no words of the schema, such as one that is called pattern.
        key: {name: _with_references(inner) for name, inner in one.items()}
        if key == "properties"
        else _with_references(one)
        for key, one in part.items()
    }
    if part.get("format") == "decimal":
        outer = {key: part[key] for key in ("description", "default") if key in part}
        return {**outer, "anyOf": [{"type": "number", "minimum": 0}, _AMOUNT]}
    if part.get("type") in ("integer", "number", "boolean") or "enum" in part or "pattern" in part:
        outer = {key: part.pop(key) for key in ("description", "default") if key in part}
        return {**outer, "anyOf": [part, _REFERENCE]}
    return part
