"""The published JSON Schema: valid, complete, and true of what was recorded."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from asgi_llm.errors import InvalidRequestError, error_document
from asgi_llm.wire.schema import components
from asgi_llm.wire.validation import validate
from tests.wire.conftest import Recorded
from tests.wire.test_validation import ACCEPTED, BAD_NAMES, GOOD_NAMES, REFUSED

jsonschema = pytest.importorskip("jsonschema")

REQUEST_NAMES = {
    "chat": "ChatCompletionRequest",
    "text_completion": "CompletionRequest",
    "embeddings": "EmbeddingRequest",
    "moderation": "ModerationRequest",
    "image_generation": "ImageRequest",
    "speech": "SpeechRequest",
}
ANSWER_NAMES = {
    "chat": ("ChatCompletion", "ChatCompletionChunk"),
    "text_completion": ("Completion", "Completion"),
    "embeddings": ("EmbeddingList", "EmbeddingList"),
    "moderation": ("Moderation", "Moderation"),
}


def validator(name: str) -> Any:
    schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": components()}}
    return jsonschema.Draft202012Validator(schema)


def test_every_schema_is_valid_and_every_reference_leads_somewhere() -> None:
    """The set is closed, and each is a 2020-12 schema with a description."""
    schemas = components()
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["description"]
    text = json.dumps(schemas)
    names = {piece.partition('"')[0] for piece in text.split("#/components/schemas/")[1:]}
    assert names <= set(schemas)


def test_the_operations_are_all_there() -> None:
    """Requests, answers and the error have their names in the set."""
    wanted = {"TranscriptionRequest", "Transcription", "ImageList", "Model", "ModelList", "Error"}
    wanted.update(REQUEST_NAMES.values(), *ANSWER_NAMES.values())
    assert wanted <= set(components())


def test_the_upload_has_its_file() -> None:
    """The form of a transcription needs a file besides its fields."""
    form = components()["TranscriptionRequest"]
    assert {"file", "model"} == set(form["required"])
    assert "string" == form["properties"]["file"]["type"]


def test_each_call_gives_a_set_of_its_own() -> None:
    """Whoever edits the result edits nobody else's."""
    components()["Error"]["properties"].clear()
    assert components()["Error"]["properties"]


def test_the_schema_accepts_what_validation_accepts() -> None:
    """The published schema refuses no request that is served."""
    for operation, document in ACCEPTED:
        if operation in REQUEST_NAMES:
            validator(REQUEST_NAMES[operation]).validate(document)


# What a definition's own rules refuse, no schema says; and JSON Schema takes 1.0 for an integer.
_BEYOND_SCHEMA = {"messages[0].tool_calls[0].function", "messages[0].tool_calls[0].custom",
                  "tools[0].function", "tools[0].custom", "tool_choice.allowed_tools",
                  "tool_choice.allowed_tools.tools[0].function",
                  "response_format.json_schema", "messages[1].content[0].file", "asgi_llm",
                  "prompt", "input", "n", "max_completion_tokens"}  # fmt: skip


def test_the_schema_refuses_what_validation_refuses() -> None:
    """Types, ranges, names and missing fields are in the schema, not only in the code."""
    for operation, document, _, param, _ in REFUSED:
        if operation in REQUEST_NAMES and param not in _BEYOND_SCHEMA:
            assert not validator(REQUEST_NAMES[operation]).is_valid(document), param


@pytest.mark.parametrize("name", [*GOOD_NAMES, *BAD_NAMES])
def test_the_schema_knows_model_names(name: str) -> None:
    """The pattern in the schema decides as validation does."""
    document = {"model": name, "messages": [{"role": "user", "content": "x"}]}
    try:
        validate("chat", document)
    except InvalidRequestError:
        assert not validator("ChatCompletionRequest").is_valid(document)
    else:
        assert validator("ChatCompletionRequest").is_valid(document)


def test_our_errors_follow_their_schema() -> None:
    """The body of an error is what the description says."""
    validator("Error").validate(error_document(InvalidRequestError("x", param="model")))


def test_recorded_requests_follow_the_schema(recorded: list[Recorded]) -> None:
    """What was sent to a provider and accepted is valid by the published schema."""
    validators = {name: validator(schema) for name, schema in REQUEST_NAMES.items()}
    for row in recorded:
        validators[row.operation].validate(row.request)


# Azure sends an event with its filter's verdict on the prompt before the first chunk (no object),
# and one answer there was cut in the recording; Groq and Writer leave fields out.
_DEPARTURES = {"azure.chat.jsonl": 6, "groq.chat.jsonl": 1, "writer.completions.jsonl": 59}


def test_recorded_answers_follow_the_schema(recorded: list[Recorded]) -> None:
    """Answers of all providers fit the published shapes, but for those known to depart."""
    validators = {name: validator(name) for pair in ANSWER_NAMES.values() for name in pair}
    seen, departures = 0, Counter[str]()
    for row in recorded:
        whole, chunk = ANSWER_NAMES[row.operation]
        for answer in row.answers:
            seen += 1
            if not validators[chunk if row.streamed else whole].is_valid(answer):
                departures[row.file] += 1
    assert _DEPARTURES == dict(departures)
    assert seen > 1600
