"""The gateway's paths in its host's OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["NAME", "merge_openapi"]

NAME = "AsgiLLM"
"""The tag of our operations, and what the names of our components begin with."""

_METHODS = frozenset(("get", "put", "post", "delete", "options", "head", "patch", "trace", "query"))
_REFERENCE = "#/components/"


def merge_openapi(
    host_document: Mapping[str, Any], gateway_document: Mapping[str, Any], prefix: str
) -> dict[str, Any]:
    """A document with the host's paths and, under ``prefix``, the gateway's.

    Names of components and security schemes get the prefix ``AsgiLLM``, operation ids that of the
    mount; all operations carry one tag. What the gateway asks for at its top level (security) is
    asked for by each of its operations. A path that the host has itself stays the host's. Neither
    argument is changed.

    Args:
        host_document: OpenAPI 3.1, as ``FastAPI.openapi()`` gives it.
        gateway_document: OpenAPI 3.1.
        prefix: Such as ``/llm``.

    Source: OpenAPI 3.1.1, sections 4.8.1, 4.8.7 and 4.8.10.
    """
    security = gateway_document.get("security")
    paths = dict(host_document.get("paths", {}))
    for path, item in gateway_document.get("paths", {}).items():
        paths.setdefault(prefix + path, _path_item(item, security, prefix))
    components = {name: dict(part) for name, part in host_document.get("components", {}).items()}
    for section, part in gateway_document.get("components", {}).items():
        components.setdefault(section, {}).update(
            {NAME + name: _renamed(value) for name, value in part.items()}
        )
    info = gateway_document.get("info", {})
    tag = {"name": NAME, "description": info.get("description") or info.get("title") or NAME}
    tags = [one for one in host_document.get("tags", ()) if one["name"] != NAME]
    return {**host_document, "paths": paths, "components": components, "tags": [*tags, tag]}


def _path_item(item: Mapping[str, Any], security: Any, prefix: str) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for key, value in item.items():
        value = _renamed(value)
        if key in _METHODS:
            value["tags"] = [NAME]
            if "operationId" in value:
                value["operationId"] = _slug(prefix) + value["operationId"]
            asked = value.get("security", security)
            if asked is not None:
                value["security"] = [
                    {NAME + scheme: scopes for scheme, scopes in one.items()} for one in asked
                ]
        merged[key] = value
    return merged


def _slug(prefix: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in prefix.strip("/")) + "_"


def _renamed(value: Any) -> Any:
    """A copy of ``value`` whose references lead to the renamed components."""
    if isinstance(value, Mapping):
        copy = {key: _renamed(item) for key, item in value.items()}
        if "$ref" in copy:
            copy["$ref"] = _reference(copy["$ref"])
        mapping = copy.get("mapping")
        if "propertyName" in copy and isinstance(mapping, dict):  # a discriminator
            copy["mapping"] = {name: _reference(item) for name, item in mapping.items()}
        return copy
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    return value


def _reference(reference: Any) -> Any:
    if isinstance(reference, str) and reference.startswith(_REFERENCE):
        section, slash, name = reference.removeprefix(_REFERENCE).partition("/")
        return f"{_REFERENCE}{section}{slash}{NAME}{name}"
    return reference
