"""The table of capabilities says what the adapters do, and what the reference says."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import openai.types
import pytest

from asgi_llm._semconv import Operation
from asgi_llm.errors import InvalidRequestError
from asgi_llm.gateway.build import build, load_gateway
from asgi_llm.gateway.config import load
from asgi_llm.providers.base import Provider, Translation
from asgi_llm.providers.capabilities import PROVIDER_TYPES, Capabilities, lacks
from asgi_llm.providers.compatible import COMPATIBLE
from asgi_llm.testing import call, http_scope
from asgi_llm.types import Deployment
from asgi_llm.wire.responses import ModelCapabilities
from asgi_llm.wire.validation import validate

PAGES = Path(__file__).parents[2] / "docs" / "reference"

OTHERS: dict[str, dict[str, Any]] = {
    "azure": {"endpoint": "https://x.openai.azure.com", "api_version": "2024-10-21"},
    "bedrock": {"region": "us-east-1"},
    "vertex": {"project": "p", "location": "global"},
    "litellm": {"models": ["openai/*"]},
    "local_embeddings": {"model": "all-MiniLM-L6-v2", "engine": "sentence_transformers"},
}
"""Options that a type needs besides its key."""

NATIVE = [
    name
    for name in PROVIDER_TYPES
    if name not in COMPATIBLE
    and name not in ("openai", "azure", "echo", "litellm", "local_embeddings")
]
CHATTING = [name for name in NATIVE if "chat" in PROVIDER_TYPES[name].capabilities.operations]
EMBEDDING = [name for name in NATIVE if PROVIDER_TYPES[name].capabilities.embeddings]


def made(type_name: str) -> Provider:
    """A provider of this type, as the gateway makes it."""
    if type_name == "litellm":
        pytest.importorskip("litellm", reason="litellm is not installed: tox run -e litellm")
    row = PROVIDER_TYPES[type_name]
    options: dict[str, Any] = {"type": type_name, **OTHERS.get(type_name, {})}
    if row.key_variables:
        options["api_key"] = "key"
    if type_name in COMPATIBLE and COMPATIBLE[type_name].base_url is None:
        options["base_url"] = "https://account.example.com/v1"
    return build(load({"providers": {"p": options}}, environ={})).providers["p"]


def translated(type_name: str, operation: Operation, fields: dict[str, Any]) -> Translation:
    """What the provider is asked for a request with ``fields``."""
    document = validate(operation, {"model": "p/some-model", **fields})
    deployment = Deployment(provider="p", model="some-model")
    return made(type_name).translate(operation, document, deployment)


@pytest.mark.parametrize("type_name", PROVIDER_TYPES)
def test_an_adapter_has_the_operations_of_its_row(type_name: str) -> None:
    """Neither more nor fewer."""
    assert PROVIDER_TYPES[type_name].capabilities.operations == made(type_name).operations


@pytest.mark.parametrize("type_name", PROVIDER_TYPES)
def test_a_row_is_complete(type_name: str) -> None:
    """It has a title and a source, and says of vectors what it says of operations."""
    row = PROVIDER_TYPES[type_name]
    assert row.title
    assert row.source
    assert ("embeddings" in row.capabilities.operations) is (
        row.capabilities.embeddings is not None
    )


FUNCTION = {"name": "look", "parameters": {"type": "object", "properties": {}}}
TOOL = {
    "type": "function",
    "function": FUNCTION,
}
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


def asking(part: dict[str, Any]) -> list[dict[str, Any]]:
    """Messages with a part beside a text."""
    return [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]}]


PLAIN = [{"role": "user", "content": "Hello"}]
PNG = "data:image/png;base64,iVBORw0KGgo="
PDF = "data:application/pdf;base64,JVBERi0xLjQK"

PROBES: dict[str, dict[str, Any]] = {
    "streaming": {"stream": True},
    "tools": {"tools": [TOOL]},
    "image_data": {"messages": asking({"type": "image_url", "image_url": {"url": PNG}})},
    "image_urls": {
        "messages": asking({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}})
    },
    "documents": {
        "messages": asking({"type": "file", "file": {"filename": "a.pdf", "file_data": PDF}})
    },
    "audio_in": {
        "messages": asking(
            {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
        )
    },
    "audio_out": {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
    "structured_output": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
        }
    },
    "thinking": {"reasoning_effort": "high", "max_completion_tokens": 60_000},
    "logprobs": {"logprobs": True},
    "seed": {"seed": 7},
}
"""A request that needs just this field of the table."""


@pytest.mark.parametrize("type_name", CHATTING)
@pytest.mark.parametrize("field", PROBES)
def test_what_a_row_says_of_a_chat_is_what_its_adapter_does(field: str, type_name: str) -> None:
    """What it has is told to the provider; what it has not is refused or reported as lost."""
    probe = {"messages": PLAIN, **PROBES[field]}
    said = getattr(PROVIDER_TYPES[type_name].capabilities, field)
    try:
        losses = translated(type_name, "chat", probe).losses
    except InvalidRequestError as error:
        losses = (error.param or error.message,)
    assert (said not in (False, "none")) is (losses == ()), losses


@pytest.mark.parametrize("type_name", CHATTING)
@pytest.mark.parametrize("mode", ["auto", "none", "required", "named"])
def test_each_way_to_choose_a_tool_is_told_or_lost(mode: str, type_name: str) -> None:
    """As the row has it."""
    choice: Any = mode
    if mode == "named":
        choice = {"type": "function", "function": {"name": "look"}}
    probe = {"messages": PLAIN, "tools": [TOOL], "tool_choice": choice}
    try:
        losses = translated(type_name, "chat", probe).losses
    except InvalidRequestError as error:
        losses = (error.param or error.message,)
    told = PROVIDER_TYPES[type_name].capabilities.tool_choice or ()
    assert (mode in told) is (losses == ()), losses


@pytest.mark.parametrize("type_name", CHATTING)
def test_who_cannot_fetch_images_says_so_to_the_app(type_name: str) -> None:
    """So that they can be fetched here."""
    fetches = getattr(made(type_name), "fetches_urls", True)
    assert PROVIDER_TYPES[type_name].capabilities.image_urls is fetches


@pytest.mark.parametrize("type_name", CHATTING)
def test_several_choices_are_one_call_or_several(type_name: str) -> None:
    """``fan_out`` asks once for each of them."""
    calls = 1 + len(translated(type_name, "chat", {"messages": PLAIN, "n": 3}).more)
    assert PROVIDER_TYPES[type_name].capabilities.choices == {3: "fan_out", 1: "native"}[calls]


@pytest.mark.parametrize("type_name", EMBEDDING)
def test_a_batch_is_split_above_its_limit(type_name: str) -> None:
    """And not below; where there is no limit, it never is."""
    vectors = PROVIDER_TYPES[type_name].capabilities.embeddings
    assert vectors is not None
    limit = vectors.batch_limit
    counts = [
        1 + len(translated(type_name, "embeddings", {"input": ["text"] * size}).more)
        for size in (limit or 2000, (limit or 2000) + 1)
    ]
    assert counts == ([1, 2] if limit else [1, 1])


@pytest.mark.parametrize("type_name", EMBEDDING)
def test_dimensions_are_told_or_lost(type_name: str) -> None:
    """As the row has it."""
    vectors = PROVIDER_TYPES[type_name].capabilities.embeddings
    assert vectors is not None
    try:
        losses = translated(type_name, "embeddings", {"input": "a", "dimensions": 256}).losses
    except InvalidRequestError as error:
        losses = (error.param or error.message,)
    assert vectors.dimensions is (losses == ())


# Readers


LACKING = [
    ("anthropic", "chat", {"logprobs": True}, "log probabilities"),
    ("anthropic", "chat", {"logprobs": False}, None),
    ("anthropic", "chat", {"n": 2}, None),
    ("anthropic", "chat", {"n": None, "tools": [], "response_format": None}, None),
    ("anthropic", "chat", PROBES["seed"], "a seed"),
    ("anthropic", "chat", PROBES["audio_in"], "audio input"),
    ("anthropic", "chat", PROBES["audio_out"], "audio output"),
    ("anthropic", "embeddings", {"input": "a"}, "embeddings"),
    ("ollama", "chat", PROBES["image_data"], None),
    ("ollama", "chat", PROBES["image_urls"], "images by URL"),
    ("ollama", "chat", PROBES["documents"], "documents"),
    ("ollama", "chat", {"tools": [TOOL], "tool_choice": "required"}, "tool_choice required"),
    ("ollama", "chat", {"tools": [TOOL], "tool_choice": "auto"}, None),
    (
        "ollama",
        "chat",
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "look"}}},
        "tool_choice named",
    ),
    ("groq", "chat", {"n": 2}, "several choices"),
    ("groq", "chat", PROBES["tools"], None),
    ("echo", "chat", PROBES["thinking"], "thinking"),
    ("vllm", "chat", PROBES["audio_in"], None),
    ("voyage", "chat", {}, "chat"),
    ("openai", "rerank", {"query": "a", "documents": ["b"]}, "rerank"),
    ("openai", "embeddings", {"input": "a", "dimensions": 2}, None),
    ("openai", "image_generation", {"prompt": "a"}, None),
]


@pytest.mark.parametrize(("type_name", "operation", "probe", "expected"), LACKING)
def test_lacks_names_what_is_missing(
    type_name: str, operation: Operation, probe: dict[str, Any], expected: str | None
) -> None:
    """In words, and only what is known to be missing."""
    document = {"messages": PLAIN, **probe} if operation == "chat" else probe
    assert expected == lacks(type_name, operation, document)


def test_images_that_are_fetched_here_are_not_lacking() -> None:
    """Where the gateway fetches them, the provider need not."""
    document = {"messages": PLAIN, **PROBES["image_urls"]}
    assert lacks("ollama", "chat", document, fetch_images=True) is None


async def models_of(mapping: dict[str, Any]) -> list[dict[str, Any]]:
    """What ``/v1/models`` of such a gateway lists."""
    gateway = load_gateway(mapping)
    answer = await call(gateway, http_scope(method="GET", path="/v1/models"))
    listed = json.loads(answer.body)["data"]
    for model in listed:
        one = await call(gateway, http_scope(method="GET", path=f"/v1/models/{model['id']}"))
        assert json.loads(one.body) == model
    return list(listed)


async def test_models_tell_what_their_provider_can_be_asked_for() -> None:
    """Each of them, aliases too; the OpenAI SDK reads them as it does OpenAI's."""
    mapping = {
        "providers": {"e": {"type": "echo"}},
        "models": {"fast": {"targets": [{"provider": "e", "model": "echo"}]}},
    }
    listed = await models_of(mapping)
    expected = PROVIDER_TYPES["echo"].capabilities.document()
    assert {"fast", "e/echo"} <= {model["id"] for model in listed}
    for model in listed:
        assert json.loads(json.dumps(expected)) == model["capabilities"]
        parsed = openai.types.Model.model_validate(model, strict=True)
        assert (parsed.id, parsed.owned_by) == (model["id"], model["owned_by"])


def test_the_published_schema_has_the_fields_of_the_table() -> None:
    """OpenAPI describes what ``/v1/models`` shows."""
    assert {one.name for one in fields(Capabilities)} == set(ModelCapabilities.__struct_fields__)
    chat = PROVIDER_TYPES["openai"].capabilities.document()
    assert set(chat) == set(ModelCapabilities.__struct_fields__)
    assert set(PROVIDER_TYPES["voyage"].capabilities.document()) == {"operations", "embeddings"}


# The reference


def words(value: Any) -> str:
    """A cell."""
    known = {True: "yes", False: "no", None: "passed on", "fan_out": "several calls"}
    return str(known.get(value, value))


def several(**found: Any) -> str:
    """A cell about several kinds of one thing."""
    if all(value is None for value in found.values()):
        return "passed on"
    shown = {name: name if value else f"{name} passed on" for name, value in found.items()}
    return ", ".join(shown[name] for name, value in found.items() if value is not False) or "no"


def line(name: str) -> str:
    """The row of a type in the overview."""
    row = PROVIDER_TYPES[name]
    known = row.capabilities
    page = (
        f"[`{name}`](providers/{name}.md)" if name in NATIVE or name == "litellm" else f"`{name}`"
    )
    cells = [page, row.title, ", ".join(one.replace("_", " ") for one in sorted(known.operations))]
    if "chat" in known.operations:
        cells += [
            words(known.tools),
            "passed on" if known.tool_choice is None else ", ".join(known.tool_choice),
            several(data=known.image_data, URL=known.image_urls),
            words(known.documents),
            several(**{"in": known.audio_in, "out": known.audio_out}),
            words(known.structured_output),
            words(known.thinking),
            words(known.logprobs),
            words(known.choices),
            words(known.seed),
        ]
    else:
        cells += [""] * 10
    if known.embeddings is None:
        cells += ["", ""]
    else:
        limit = known.embeddings.batch_limit
        cells += [words(known.embeddings.dimensions), str(limit or "as given")]
    return "| " + " | ".join(cells) + " |"


def test_the_reference_has_the_overview() -> None:
    """Row for row what the table says; the endpoints of OpenAI's format have a table of their own.

    Where this fails, put the lines that it shows into docs/reference/providers.md.
    """
    page = (PAGES / "providers.md").read_text().splitlines()
    wanted = [line(name) for name in PROVIDER_TYPES if name not in COMPATIBLE]
    assert [one for one in wanted if one not in page] == []


@pytest.mark.parametrize("type_name", [*NATIVE, "litellm"])
def test_each_format_of_its_own_has_a_page(type_name: str) -> None:
    """Of its options, its policies and what it cannot carry."""
    assert (PAGES / "providers" / f"{type_name}.md").read_text().startswith("# ")


CALL: dict[str, Any] = {
    "id": "call_000001",
    "type": "function",
    "function": {"name": "look", "arguments": "{}"},
}
CALLED = {
    "role": "assistant",
    "tool_calls": [CALL],
}
RESULT = {"role": "tool", "tool_call_id": "call_000001", "content": "found"}
NESTED: dict[str, tuple[str, dict[str, Any]]] = {
    "a message": ("messages.x_new", {"messages": [{**PLAIN[0], "x_new": 1}]}),
    "instructions": (
        "messages.x_new",
        {"messages": [{"role": "system", "content": "Be brief.", "x_new": 1}, *PLAIN]},
    ),
    "an answer": (
        "messages.x_new",
        {"messages": [*PLAIN, {"role": "assistant", "content": "Hi", "x_new": 1}, *PLAIN]},
    ),
    "a part": (
        "messages.content.x_new",
        {"messages": asking({"type": "text", "text": "Now?", "x_new": 1})},
    ),
    "a call": (
        "messages.tool_calls.x_new",
        {
            "messages": [
                *PLAIN,
                {**CALLED, "tool_calls": [{**CALL, "x_new": 1}]},
                RESULT,
            ],
            "tools": [TOOL],
        },
    ),
    "a result": (
        "messages.x_new",
        {"messages": [*PLAIN, CALLED, {**RESULT, "x_new": 1}], "tools": [TOOL]},
    ),
    "a tool": ("tools.x_new", {"tools": [{**TOOL, "x_new": 1}]}),
    "a function": (
        "tools.function.x_new",
        {"tools": [{**TOOL, "function": {**FUNCTION, "x_new": 1}}]},
    ),
}
"""A field that no adapter knows, in each thing that a request holds, and its name."""

TAKEN_APART = [name for name in CHATTING if name not in ("litellm", "mistral")]
"""Formats that are built anew; Mistral's and litellm's are near enough to take what is unknown."""


@pytest.mark.parametrize("type_name", TAKEN_APART)
@pytest.mark.parametrize("thing", NESTED)
def test_case_95_a_field_that_is_not_known_is_reported_wherever_it_stands(
    thing: str, type_name: str
) -> None:
    """Nothing that a client wrote is dropped without a word; null and empty ask for nothing."""
    name, fields = NESTED[thing]
    assert name in translated(type_name, "chat", {"messages": PLAIN, **fields}).losses
    empty = json.loads(json.dumps(fields).replace('"x_new": 1', '"x_new": null'))
    assert name not in translated(type_name, "chat", {"messages": PLAIN, **empty}).losses
