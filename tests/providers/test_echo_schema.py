"""Instances that the echo provider makes are valid for their schemas."""

from __future__ import annotations

from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from asgi_llm.providers._echo_schema import instance

TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["value", "children", "next"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}

SCHEMAS: list[Any] = [
    {},
    True,
    {"type": "string"},
    {"type": "string", "minLength": 20},
    {"type": "string", "maxLength": 2},
    {"type": "string", "minLength": 3, "maxLength": 3},
    *({"type": "string", "format": f} for f in ("date", "date-time", "email", "uuid", "ipv4")),
    {"type": "string", "pattern": "^[A-Z]{3}-\\d{4}$"},
    {"type": "string", "pattern": "^(foo|bar)+\\.(?:js|ts)x?$"},
    {"type": "string", "pattern": "^[^a-z]+$", "minLength": 5},
    {"type": "string", "pattern": "^\\w*@\\w+$"},
    {"type": "string", "pattern": "^.[\\d]{2,}?[a-z]{1,3}-?$"},
    {"type": "string", "enum": ["celsius", "fahrenheit"]},
    {"const": {"a": [1, None]}},
    {"type": "integer", "minimum": 10},
    {"type": "integer", "maximum": -10},
    {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 3},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.1},
    {"type": "integer", "multipleOf": 7},
    {"type": "integer", "multipleOf": 7, "minimum": 50},
    {"type": "integer", "multipleOf": 5, "maximum": 3},
    {"type": "number", "minimum": 0, "maximum": 0.5},
    {"items": {"type": "integer"}},
    {"allOf": [True, {"type": "integer"}]},
    {"type": "boolean"},
    {"type": "null"},
    {"type": ["string", "null"]},
    {"type": "array", "items": {"type": "integer"}},
    {"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 3},
    {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
    {"type": "array", "maxItems": 0},
    {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False},
    {"type": "object", "required": ["b"], "properties": {"a": {"type": "integer"}}},
    {"type": "object", "required": ["b"], "additionalProperties": {"type": "integer"}},
    {"anyOf": [{"type": "integer"}, {"type": "string"}]},
    {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "anyOf": [{"required": ["a"]}],
    },
    {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            {"properties": {"b": {"type": "string"}}, "required": ["b"]},
        ]
    },
    {"type": "object", "properties": {"x": {"$ref": "#/properties/y"}, "y": {"type": "boolean"}}},
    TREE,
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_instance_is_valid(schema: Any) -> None:
    """As an independent validator sees it, formats included."""
    value = instance(schema)
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(value)


def test_an_instance_is_the_same_each_time_and_says_the_names_of_its_fields() -> None:
    """Deterministic, and readable in a demo."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    assert {"city": "city"} == instance(schema) == instance(schema)


@pytest.mark.parametrize(
    "schema", [{"$ref": "#"}, {"$ref": "#/$defs/gone"}, {"allOf": [{"$ref": "#"}]}]
)
def test_references_that_lead_nowhere_end(schema: Any) -> None:
    """A circle or a gap gives some value and no endless loop."""
    assert instance(schema) is not None


def test_a_schema_that_explodes_is_refused() -> None:
    """Twelve levels of thousand items each are not built."""
    schema: Any = {"type": "integer"}
    for _ in range(6):
        schema = {"type": "array", "minItems": 1000, "items": schema}
    with pytest.raises(ValueError, match="10000 values"):
        instance(schema)


def test_a_pattern_that_cannot_be_read_gives_itself() -> None:
    """Look-arounds and broken patterns are not followed; the answer is still a string."""
    for pattern in ("^(?=a).*$", "[a", "(?P<x>a)", "a\\"):
        assert pattern == instance({"type": "string", "pattern": pattern})


def test_a_schema_of_required_circles_ends() -> None:
    """Objects and arrays that need themselves are cut at a depth, though that is not valid."""
    circle = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    assert "{}" in str(instance(circle))
    arrays = {"type": "array", "minItems": 1, "items": {"$ref": "#"}}
    assert "[]" in str(instance(arrays))


def test_a_schema_that_is_nested_too_deeply_is_refused() -> None:
    """As an error of its own and not of Python's stack."""
    schema: Any = {"type": "integer"}
    for _ in range(3000):
        schema = {"anyOf": [schema]}
    with pytest.raises(ValueError, match="nested too deeply"):
        instance(schema)
