"""Schemas that Claude is held to, and what becomes of those that it cannot be held to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_llm.providers._anthropic_schema import held_schema
from asgi_llm.providers.anthropic import Anthropic
from asgi_llm.providers.base import Translation
from asgi_llm.types import Deployment

jsonschema = pytest.importorskip("jsonschema")

KEY = "sk-ant-0123456789"
STRING = {"type": "string"}
CLOSED = {"additionalProperties": False}


def obj(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def translate(schema: Any, *, how: str = "auto", **more: Any) -> tuple[Any, Translation]:
    adapter = Anthropic(api_key=KEY, structured_output=how)  # type: ignore[arg-type]
    document = {
        "model": "x",
        "messages": [{"role": "user", "content": "hi"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "A", "schema": schema}},
        **more,
    }
    deployment = Deployment(provider="anthropic", model="claude-opus-9")
    translation = adapter.translate("chat", document, deployment)
    assert isinstance(translation.request.body, bytes)
    return json.loads(translation.request.body), translation


def test_objects_are_closed_at_every_depth() -> None:
    """Also within lists, alternatives and definitions; nothing else changes."""
    schema = {
        **obj(
            a={"type": "array", "items": obj(b=STRING), "minItems": 1},
            c={"anyOf": [obj(d={"type": ["string", "null"]}), {"type": "null"}]},
            e={"$ref": "#/$defs/E"},
        ),
        "required": ["a"],
        "$defs": {"E": obj(f={"enum": ["x", 1]}, g={"type": "string", "format": "date"})},
    }
    held = held_schema(schema)
    assert not held.is_open
    assert not held.is_looser
    properties = held.schema["properties"]
    assert {**obj(b=STRING), **CLOSED} == properties["a"]["items"]
    assert 1 == properties["a"]["minItems"]
    assert CLOSED.items() <= properties["c"]["anyOf"][0].items()
    assert CLOSED.items() <= held.schema["$defs"]["E"].items()
    assert ["a"] == held.schema["required"]
    assert {"$ref": "#/$defs/E"} == properties["e"]


def test_bounds_become_words() -> None:
    """They stand in the description, after what the client wrote there."""
    held = held_schema(obj(n={"type": "integer", "minimum": 1, "description": "How many."}))
    assert held.is_looser
    expected = {"type": "integer", "description": 'How many.\n\n{"minimum":1}'}
    assert expected == held.schema["properties"]["n"]


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        obj(m={"type": "object", "additionalProperties": STRING}),
        obj(m={"type": "object", "additionalProperties": True}),
        obj(any={}),
        obj(any=True),
        {**obj(c={"$ref": "#"})},
        {"$ref": "#/$defs/A", "$defs": {"A": obj(next={"$ref": "#/$defs/A"})}},
        obj(r={"$ref": "https://example.com/schema.json"}),
        {"allOf": [obj(a=STRING), obj(b=STRING)]},
    ],
)
def test_open_schemas_are_known(schema: Any) -> None:
    """Maps, anything at all, recursion, references elsewhere, objects that add up."""
    assert held_schema(schema).is_open


def test_a_schema_of_any_depth_is_read_without_harm() -> None:
    """Far deeper than the stack."""
    schema: dict[str, Any] = STRING
    for _ in range(5000):
        schema = obj(a=schema)
    assert held_schema(schema).is_open
    definitions = {f"D{n}": {"$ref": f"#/$defs/D{n + 1}"} for n in range(5000)}
    chain = {"$ref": "#/$defs/D0", "$defs": {**definitions, "D5000": STRING}}
    assert not held_schema(chain).is_open


def test_case_67_a_closed_schema_is_native_and_loses_nothing() -> None:
    """Closing its objects keeps to what the client asked for."""
    body, translation = translate(obj(a=STRING))
    assert {**obj(a=STRING), **CLOSED} == body["output_config"]["format"]["schema"]
    assert () == translation.losses


def test_case_67_bounds_are_reported() -> None:
    """The model reads them, and is not held to them."""
    _, translation = translate(obj(a={"type": "string", "maxLength": 3}))
    assert ("response_format.json_schema.schema",) == translation.losses


def test_case_67_an_open_schema_is_asked_for_with_a_tool() -> None:
    """As it was written; unless the configuration says native."""
    schema = obj(m={"type": "object", "additionalProperties": STRING})
    body, translation = translate(schema)
    assert schema == body["tools"][0]["input_schema"]
    assert "output_config" not in body
    assert () == translation.losses
    body, translation = translate(schema, how="native")
    assert "tools" not in body
    assert ("response_format.json_schema.schema",) == translation.losses


def test_case_67_claudes_own_format_wins() -> None:
    """The other one is reported."""
    own = {"format": {"type": "json_schema", "schema": {**obj(), **CLOSED}}}
    body, translation = translate(obj(a=STRING), output_config=own)
    assert own == body["output_config"]
    assert ("response_format",) == translation.losses


def test_case_22_strict_tools_are_held_where_they_can_be() -> None:
    """Else the schema goes as it is, and the flag is reported."""
    fits = {"name": "fits", "strict": True, "parameters": obj(a=STRING)}
    bound = {"name": "bound", "strict": True, "parameters": obj(a={**STRING, "maxLength": 3})}
    tools = [{"type": "function", "function": function} for function in (fits, bound)]
    body, translation = translate({**obj(), **CLOSED}, tools=tools)
    assert (True, False) == (
        body["tools"][0]["strict"],
        body["tools"][0]["input_schema"]["additionalProperties"],
    )
    assert bound["parameters"] == body["tools"][1]["input_schema"]
    assert "strict" not in body["tools"][1]
    assert ("tools.function.strict",) == translation.losses


_leaf: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [STRING, {"type": "integer"}, {"type": "integer", "minimum": 0}, {"enum": ["a", "b"]}, {}]
)
_schemas: st.SearchStrategy[dict[str, Any]] = st.recursive(
    _leaf,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from("abc"), inner, max_size=2).map(lambda p: obj(**p)),
        inner.map(lambda one: {"type": "array", "items": one}),
        st.lists(inner, min_size=1, max_size=2).map(lambda some: {"anyOf": some}),
        inner.map(lambda one: {"type": "object", "additionalProperties": one}),
    ),
    max_leaves=6,
)
_values = st.recursive(
    st.none() | st.integers(-2, 2) | st.sampled_from(["a", "b", "c"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=2)
    ),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(_schemas, _values)
def test_whatever_is_held_to_was_asked_for(schema: dict[str, Any], value: Any) -> None:
    """A value of the held schema is one of the client's, unless it is said to be looser."""
    held = held_schema(schema)
    if jsonschema.Draft202012Validator(held.schema).is_valid(value) and not held.is_looser:
        assert jsonschema.Draft202012Validator(schema).is_valid(value)
