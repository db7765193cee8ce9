"""The definitions as JSON Schema, for an OpenAPI 3.1 description."""

from __future__ import annotations

from typing import Any

import msgspec

from asgi_llm.wire.requests import REQUESTS
from asgi_llm.wire.responses import RESPONSES

__all__ = ["components"]

_FILE = {
    "type": "string",
    "contentMediaType": "application/octet-stream",
    "description": "The audio itself, as a file of the form.",
}


def components() -> dict[str, Any]:
    """The value of ``components.schemas``: every request and answer, and what they are made of.

    JSON Schema 2020-12, from the definitions that validate. Fields that are not named are allowed
    everywhere, and a request's go on to the provider. References read
    ``#/components/schemas/{name}``.
    """
    _, schemas = msgspec.json.schema_components(
        (*REQUESTS.values(), *RESPONSES), ref_template="#/components/schemas/{name}"
    )
    # The file is no field that is checked: it streams through (see wire.upload).
    form = schemas["TranscriptionRequest"]
    form["properties"] = {"file": dict(_FILE), **form["properties"]}
    form["required"] = ["file", *form["required"]]
    return schemas
