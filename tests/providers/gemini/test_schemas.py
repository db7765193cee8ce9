"""JSON Schemas in the words of models from before they took them as they are."""

from __future__ import annotations

from typing import Any

import pytest
from google.genai import types

from asgi_llm.errors import InvalidRequestError
from asgi_llm.providers._gemini_schema import schema_subset
from asgi_llm.providers._losses import Losses


def told(schema: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The subset, which the API's own type reads, and the keywords that are lost."""
    losses = Losses("gemini", strict=False)
    subset = schema_subset(schema, "p", losses)
    types.Schema.model_validate(subset)
    return subset, losses.names


POINT = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}


@pytest.mark.parametrize(
    ("schema", "expected", "lost"),
    [
        ({"type": "string", "minLength": 1, "pattern": "a"}, None, ()),
        ({**POINT, "additionalProperties": False, "$schema": "x"}, POINT, ()),
        ({**POINT, "additionalProperties": True}, POINT, ("p.additionalProperties",)),
        ({"type": ["string", "null"]}, {"type": "string", "nullable": True}, ()),
        (
            {"type": ["string", "integer"]},
            {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            (),
        ),
        (
            {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "A"},
            {"type": "string", "nullable": True, "title": "A"},
            (),
        ),
        (
            {"oneOf": [{"type": "string"}, POINT]},
            {"anyOf": [{"type": "string"}, POINT]},
            (),
        ),
        (
            {"anyOf": [{"type": "string"}, POINT], "oneOf": [POINT]},
            {"anyOf": [{"type": "string"}, POINT]},
            ("p.oneOf",),
        ),
        ({"const": "a"}, {"type": "string", "enum": ["a"]}, ()),
        ({"enum": ["a", None]}, {"type": "string", "enum": ["a"], "nullable": True}, ()),
        ({"type": "integer", "enum": [1, 2]}, {"type": "integer"}, ("p.enum",)),
        ({"const": None}, {"nullable": True}, ("p.const",)),
        ({"type": "string", "format": "date-time"}, None, ()),
        ({"type": "string", "format": "uuid"}, {"type": "string"}, ("p.format",)),
        ({"type": "string", "format": ["uuid"]}, {"type": "string"}, ("p.format",)),
        ({"allOf": [POINT], "description": "d"}, {**POINT, "description": "d"}, ()),
        ({"allOf": [POINT, POINT]}, {}, ("p.allOf",)),
        (
            {"type": "number", "exclusiveMinimum": 0, "multipleOf": 2},
            {"type": "number"},
            ("p.exclusiveMinimum", "p.multipleOf"),
        ),
        ({"type": "object", "patternProperties": {}}, {"type": "object"}, ("p.patternProperties",)),
        (
            {"type": "array", "items": {"$ref": "#/$defs/P"}, "$defs": {"P": POINT}},
            {"type": "array", "items": POINT},
            (),
        ),
        (
            {
                "type": "array",
                "items": {"$ref": "#/definitions/a~1b", "description": "d"},
                "definitions": {"a/b": {"type": "string", "description": "e"}},
            },
            {"type": "array", "items": {"type": "string", "description": "d"}},
            (),
        ),
        (
            {"type": "array", "items": {"$ref": "https://a.example/b.json"}},
            {"type": "array", "items": {"type": "object"}},
            ("p.$ref",),
        ),
        (
            {"type": "object", "properties": {"const": {"type": "string"}, "b": True}},
            {"type": "object", "properties": {"const": {"type": "string"}, "b": {}}},
            (),
        ),
    ],
)
def test_case_21_a_schema_in_the_subset(
    schema: dict[str, Any], expected: dict[str, Any] | None, lost: tuple[str, ...]
) -> None:
    """What means the same is told; the rest is named."""
    assert (schema if expected is None else expected, lost) == told(schema)


def test_case_21_few_definitions_that_stand_for_millions_are_refused() -> None:
    """Each holds the next twice."""
    definitions: dict[str, Any] = {
        f"d{at}": {
            "type": "object",
            "properties": {name: {"$ref": f"#/$defs/d{at + 1}"} for name in "ab"},
        }
        for at in range(30)
    }
    definitions["d30"] = {"type": "string"}
    with pytest.raises(InvalidRequestError) as caught:
        told({"$ref": "#/$defs/d0", "$defs": definitions})
    assert "p" == caught.value.param


@pytest.mark.parametrize("definition", [{"$ref": "#/$defs/A"}, {"anyOf": [{"$ref": "#"}]}])
def test_case_21_what_refers_to_itself_alone_ends(definition: dict[str, Any]) -> None:
    """And is reported."""
    _, lost = told({"$ref": "#/$defs/A", "$defs": {"A": definition}})
    assert ("p.$ref",) == lost
