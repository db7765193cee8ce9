"""The JSON Schema accepts what the validation accepts, and refuses what an editor should mark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from asgi_llm.gateway._definitions import Configuration
from asgi_llm.gateway._layer_definitions import LAYERS
from asgi_llm.gateway._provider_definitions import PROVIDERS
from asgi_llm.gateway._schema import schema
from asgi_llm.gateway.config import load

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "gateway.yaml"
REFERENCE = ROOT / "docs" / "reference" / "configuration.md"

VALIDATOR = jsonschema.Draft202012Validator(schema())


def test_it_is_a_schema() -> None:
    """It is valid by its own meta-schema."""
    jsonschema.Draft202012Validator.check_schema(schema())


def test_the_example_is_valid_by_both() -> None:
    """examples/gateway.yaml loads, and an editor marks nothing in it."""
    environ = {"OPENAI_API_KEY": "k", "GROQ_API_KEY": "k"}
    assert load(EXAMPLE, environ=environ).configuration.providers
    # As an editor sees it: references are texts, quoted so that they stand in braces.
    document = yaml.safe_load(EXAMPLE.read_text())
    assert [error.message for error in VALIDATOR.iter_errors(document)] == []


BOTH: list[tuple[Any, bool]] = [
    ({"providers": {"e": {"type": "echo"}}}, True),
    ({"providers": {"e": {"type": "echo"}}, "server": {"port": 1}}, True),
    ({"providers": {"e": {"type": "echo"}}, "server": {"port": 70000}}, False),
    ({"providers": {"e": {"type": "echo"}}, "server": {"prt": 1}}, False),
    ({"providers": {"e": {"type": "nothing"}}}, False),
    ({"providers": {"e": {}}}, False),
    ({"providers": {"e": {"type": "groq", "api_key": "k"}}}, True),
    ({"providers": {"e": {"type": "groq", "api_key": ""}}}, False),
    ({"providers": {"e": {"type": "vllm", "base_url": "ftp://x"}}}, False),
    ({"providers": {"e": {"type": "vllm", "timeouts": {"idle_seconds": None}}}}, True),
    ({"providers": {"a": {"type": "anthropic", "api_key": "k", "betas": ["b"]}}}, True),
    ({"providers": {"a": {"type": "anthropic", "api_key": "k", "betas": "b"}}}, False),
    ({"providers": {"a": {"type": "mistral", "api_key": "k", "strict": True}}}, True),
    ({"providers": {"a": {"type": "mistral", "api_key": "k", "betas": ["b"]}}}, False),
    ({"providers": {"a": {"type": "ollama", "options": {"num_ctx": 1, "stop": ["a"]}}}}, True),
    ({"providers": {"a": {"type": "ollama", "options": 1}}}, False),
    ({"providers": {"a": {"type": "litellm", "options": {"api_key": "k"}}}}, True),
    ({"providers": {"a": {"type": "litellm", "options": {"api_key": 1}}}}, False),
    ({"providers": {"a": {"type": "bedrock", "region": "r", "access_key_id": "i"}}}, True),
    ({"providers": {"e": {"type": "echo"}}, "stack": ["access_log", {"cors": None}]}, True),
    ({"providers": {"e": {"type": "echo"}}, "stack": [{"prompt": {}}]}, False),
    ({"providers": {"e": {"type": "echo"}}, "stack": [{"telemetry": {"path": "/m/x"}}]}, True),
    ({"providers": {"e": {"type": "echo"}}, "stack": [{"telemetry": {"path": "/m/"}}]}, False),
    ({"providers": {"e": {"type": "echo"}}, "stack": ["cost", {"rate_limit": {}}]}, True),
    ({"providers": {"e": {"type": "echo"}}, "stack": [{"cors": {"x": 1}}]}, False),
    ({"providers": {"e": {"type": "echo"}}, "models": {"m": {"targets": []}}}, False),
    (
        {
            "providers": {"e": {"type": "echo"}},
            "models": {"m": {"targets": [{"provider": "e", "model": "x"}]}},
        },
        True,
    ),
]


@pytest.mark.parametrize(("document", "good"), BOTH)
def test_schema_and_validation_agree(document: dict[str, Any], good: bool) -> None:
    """One set of definitions, two readers."""
    accepted = True
    try:
        load(document)
    except Exception:
        accepted = False
    assert (VALIDATOR.is_valid(document), accepted) == (good, good)


def test_references_may_stand_for_numbers_and_choices() -> None:
    """An editor does not mark ``port: ${PORT}``."""
    document: dict[str, Any] = {
        "server": {"port": "${PORT}", "log_format": "${LOG:-json}"},
        "providers": {"v": {"type": "vllm", "base_url": "http://${HOST}/v1"}},
    }
    assert VALIDATOR.is_valid(document)
    document["server"]["port"] = "many"
    assert not VALIDATOR.is_valid(document)


def test_every_key_is_described_and_documented() -> None:
    """Each key of each definition has a description, and a place in the reference."""
    whole = schema()
    text = REFERENCE.read_text()
    parts = {"Configuration": whole, **whole["$defs"]}
    missing = [
        f"{name}.{key}"
        for name, part in parts.items()
        for key, value in part.get("properties", {}).items()
        if key != "type" and "description" not in value
    ]
    unmentioned = [
        f"{name}.{key}"
        for name, part in parts.items()
        for key in part.get("properties", {})
        if f"`{key}`" not in text
    ]
    assert (missing, unmentioned) == ([], [])


def test_every_layer_and_provider_type_is_documented() -> None:
    """The reference names each of them."""
    text = REFERENCE.read_text()
    assert [name for name in (*LAYERS, *PROVIDERS) if f"`{name}`" not in text] == []
    assert Configuration.__struct_fields__ == (
        "server",
        "storage",
        "providers",
        "models",
        "stack",
    )
