"""What a request may be, and what a refusal says."""

from __future__ import annotations

import timeit
from typing import Any, get_args

import pytest

from asgi_llm._semconv import Operation
from asgi_llm.errors import InvalidRequestError
from asgi_llm.wire.requests import REQUESTS
from asgi_llm.wire.validation import model_name_error, validate
from tests.wire.conftest import Recorded

TEXT: dict[str, Any] = {"role": "user", "content": "hello"}
PARTS = (
    "text, image_url, input_audio, file, file_url, document_url, video_url, audio_url, refusal, "
    "thinking, redacted_thinking, reasoning, reference"
)


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [TEXT], **fields}


def allowed(tools: Any) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": tools}}


def part(content: Any) -> dict[str, Any]:
    return chat(messages=[TEXT, {"role": "user", "content": [content]}])


def refusal(operation: Operation, document: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        validate(operation, document)
    return caught.value


REFUSED: list[tuple[Operation, Any, str, str | None, str]] = [
    ("chat", [], "invalid_type", None, "The body has to be a JSON object, got a list."),
    ("chat", "x", "invalid_type", None, "The body has to be a JSON object, got a string."),
    ("chat", None, "invalid_type", None, "The body has to be a JSON object, got null."),
    ("chat", 1, "invalid_type", None, "The body has to be a JSON object, got a number."),
    ("chat", {}, "missing_field", "model", "required field is missing"),
    ("chat", {"model": "m"}, "missing_field", "messages", "required field is missing"),
    ("chat", chat(model=None), "invalid_type", "model", "got null, expected a string"),
    ("chat", chat(model=""), "invalid_value", "model", "got an empty string, expected the name "
     "of a model"),
    ("chat", chat(messages={}), "invalid_type", "messages",
     "got an object, expected a list of at least one message"),
    ("chat", chat(messages=[]), "invalid_value", "messages",
     "got an empty list, expected a list of at least one message"),
    ("chat", chat(messages=["hi"]), "invalid_type", "messages[0]",
     "got a string, expected an object"),
    ("chat", chat(messages=[{}]), "missing_field", "messages[0].role",
     "required field is missing"),
    ("chat", chat(messages=[TEXT, {"role": "robot", "content": ""}]), "invalid_value",
     "messages[1].role", 'got "robot", expected one of: system, developer, user, assistant, tool, '
     "function"),
    ("chat", chat(messages=[{"role": 5}]), "invalid_type", "messages[0].role",
     "got a number, expected a string"),
    ("chat", chat(messages=[{"role": "user"}]), "missing_field", "messages[0].content",
     "required field is missing"),
    ("chat", chat(messages=[{"role": "user", "content": 5}]), "invalid_type",
     "messages[0].content", "got 5, expected a string or a list"),
    ("chat", chat(messages=[{"role": "tool", "content": "x"}]), "missing_field",
     "messages[0].tool_call_id", "required field is missing"),
    ("chat", part({"type": "imge"}), "unknown_content_part", "messages[1].content[0].type",
     f'got "imge", expected one of: {PARTS}'),
    ("chat", part({"text": "x"}), "missing_field", "messages[1].content[0].type",
     "required field is missing"),
    ("chat", part({"type": "text"}), "missing_field", "messages[1].content[0].text",
     "required field is missing"),
    ("chat", part({"type": "text", "text": None}), "invalid_type", "messages[1].content[0].text",
     "got null, expected a string"),
    ("chat", part({"type": "image_url", "image_url": {}}), "missing_field",
     "messages[1].content[0].image_url.url", "required field is missing"),
    ("chat", part({"type": "image_url", "image_url": 3}), "invalid_type",
     "messages[1].content[0].image_url", "got 3, expected an object or a string"),
    ("chat", part({"type": "file"}), "missing_field", "messages[1].content[0].file",
     "required field is missing"),
    ("chat", part({"type": "thinking", "thinking": [{"type": "secret"}]}), "unknown_content_part",
     "messages[1].content[0].thinking[0].type", 'got "secret", expected one of: text, reference'),
    ("chat", chat(temperature=3), "invalid_value", "temperature",
     "got 3, expected a number from 0 to 2"),
    ("chat", chat(temperature=-0.1), "invalid_value", "temperature",
     "got -0.1, expected a number from 0 to 2"),
    ("chat", chat(temperature="0.5"), "invalid_type", "temperature",
     'got "0.5", expected a number from 0 to 2'),
    ("chat", chat(temperature=10**400), "invalid_value", "temperature",
     "got a number, expected a number from 0 to 2"),
    ("chat", chat(top_p=1.01), "invalid_value", "top_p", "got 1.01, expected a number from 0 to 1"),
    ("chat", chat(n=0), "invalid_value", "n", "got 0, expected an integer from 1 to 128"),
    ("chat", chat(n=129), "invalid_value", "n", "got 129, expected an integer from 1 to 128"),
    ("chat", chat(n=1.0), "invalid_type", "n", "got 1.0, expected an integer from 1 to 128"),
    ("chat", chat(n=True), "invalid_type", "n", "got true, expected an integer from 1 to 128"),
    ("chat", chat(n="2"), "invalid_type", "n", 'got "2", expected an integer from 1 to 128'),
    ("chat", chat(n=10**4000), "invalid_value", "n",
     "got a number, expected an integer from 1 to 128"),
    ("chat", chat(max_tokens=-1), "invalid_value", "max_tokens",
     "got -1, expected an integer from 0 to 2147483647"),
    ("chat", chat(max_completion_tokens=1e3), "invalid_type", "max_completion_tokens",
     "got 1000.0, expected an integer from 0 to 2147483647"),
    ("chat", chat(stop=["a", 1]), "invalid_type", "stop[1]", "got 1, expected a string"),
    ("chat", chat(stop=1), "invalid_type", "stop", "got 1, expected a string or a list"),
    ("chat", chat(stream="true"), "invalid_type", "stream", 'got "true", expected true or false'),
    ("chat", chat(stream_options={"include_usage": 1}), "invalid_type",
     "stream_options.include_usage", "got 1, expected true or false"),
    ("chat", chat(logit_bias={"5": 101}), "invalid_value", "logit_bias",
     "got an object with another value than a number from -100 to 100"),
    ("chat", chat(tools=[{"type": "function"}]), "missing_field", "tools[0].function",
     "required field is missing"),
    ("chat", chat(tools=[{"type": "custom"}]), "missing_field", "tools[0].custom",
     "required field is missing"),
    ("chat", chat(tools=[{"function": {}}]), "missing_field", "tools[0].function.name",
     "required field is missing"),
    ("chat", chat(messages=[{"role": "assistant", "tool_calls": [{"id": "c"}]}]), "missing_field",
     "messages[0].tool_calls[0].function", "required field is missing"),
    ("chat", chat(messages=[{"role": "assistant", "tool_calls": [{"id": "c", "type": "custom"}]}]),
     "missing_field", "messages[0].tool_calls[0].custom", "required field is missing"),
    ("chat", chat(tool_choice={"type": "allowed_tools"}), "missing_field",
     "tool_choice.allowed_tools", "required field is missing"),
    ("chat", chat(tool_choice=allowed(3)), "invalid_type", "tool_choice.allowed_tools.tools",
     "got 3, expected a list"),
    ("chat", chat(tool_choice=allowed([{"type": "function", "function": {}}])), "missing_field",
     "tool_choice.allowed_tools.tools[0].function.name", "required field is missing"),
    ("chat", chat(tool_choice=allowed([{}])), "missing_field",
     "tool_choice.allowed_tools.tools[0].function", "required field is missing"),
    ("chat", chat(response_format={"type": "json_schema"}), "missing_field",
     "response_format.json_schema", "required field is missing"),
    ("chat", chat(response_format="json"), "invalid_type", "response_format",
     "got a string, expected an object"),
    ("text_completion", {"model": "m"}, "missing_field", "prompt", "required field is missing"),
    ("text_completion", {"model": "m", "prompt": ["a", 1]}, "invalid_type", "prompt",
     "got values of several types in one list, expected all the same"),
    ("embeddings", {"model": "m", "input": []}, "invalid_value", "input",
     "got an empty list, expected a string or a list of at least one element"),
    ("embeddings", {"model": "m", "input": [[1, -1]]}, "invalid_value", "input[0][1]",
     "got -1, expected an integer from 0 to 2147483647"),
    ("embeddings", {"model": "m", "input": ["a", [1]]}, "invalid_type", "input",
     "got values of several types in one list, expected all the same"),
    ("moderation", {"model": "m", "input": [{"type": "video"}]}, "unknown_content_part",
     "input[0].type", 'got "video", expected one of: text, image_url'),
    ("image_generation", {"model": "m", "prompt": 1}, "invalid_type", "prompt",
     "got 1, expected a string"),
    ("speech", {"model": "m", "input": "x"}, "missing_field", "voice",
     "required field is missing"),
    ("speech", {"model": "m", "input": "x", "voice": "a", "speed": 5}, "invalid_value", "speed",
     "got 5, expected a number from 0.25 to 4"),
    ("transcription", {"model": "m", "temperature": "hot"}, "invalid_type", "temperature",
     'got "hot", expected a number from 0 to 1'),
    ("transcription", {"model": "m", "temperature": "1.5"}, "invalid_value", "temperature",
     'got "1.5", expected a number from 0 to 1'),
    ("transcription", {"model": ["a", "b"]}, "invalid_type", "model",
     "got a list, expected a string"),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "document", "code", "param", "problem"), REFUSED)
def test_a_refusal_names_path_value_and_expectation(
    operation: Operation, document: Any, code: str, param: str | None, problem: str
) -> None:
    """The path is OpenAI's, the message says what came and what is accepted."""
    error = refusal(operation, document)
    message = problem if param is None else f"{param}: {problem}"
    assert (400, code, param, message) == (error.status, error.code, error.param, error.message)


ACCEPTED: list[tuple[Operation, Any]] = [
    ("chat", chat()),
    ("chat", chat(temperature=0, top_p=1, n=128, max_tokens=0, seed=-(2**63), stop=None)),
    ("chat", chat(unknown={"deep": [1, None]}, thinking={"type": "enabled"}, top_k=-1)),
    ("chat", chat(reasoning_effort="ultra", service_tier="new", modalities=["smell"])),
    ("chat", chat(tools=[{"function": {"name": "f"}}], tool_choice="any")),
    ("chat", chat(tools=[{"type": "vendor:search", "anything": 1}])),
    ("chat", chat(tool_choice={"type": "function", "function": {"name": "f"}})),
    ("chat", chat(tool_choice={"type": "vendor:any"})),
    ("chat", chat(tool_choice=allowed([]))),
    ("chat", chat(tool_choice=allowed([{"type": "function", "name": "f"}, {"type": "vendor:x"}]))),
    ("chat", chat(tool_choice=allowed([{"type": "custom", "custom": {"name": "f"}}]))),
    ("chat", chat(response_format={"type": "json_schema", "schema": {}})),
    ("chat", chat(response_format={"type": "regex", "value": "a+"})),
    ("chat", chat(functions=[{"name": "f"}], function_call={"name": "f"})),
    ("chat", chat(logit_bias={"50256": -100, "1": 0.5})),
    ("chat", chat(audio={"format": "wav", "voice": {"id": "v"}})),
    ("chat", chat(messages=[{"role": "system", "content": "x", "name": None}, TEXT])),
    ("chat", chat(messages=[{"role": "developer", "content": [{"type": "text", "text": ""}]}])),
    ("chat", chat(messages=[{"role": "assistant"}])),
    ("chat", chat(messages=[{"role": "assistant", "content": None, "tool_calls": None}])),
    ("chat", chat(messages=[{"role": "tool", "content": [], "tool_call_id": "c"}])),
    ("chat", chat(messages=[{"role": "function", "content": None, "name": "f"}])),
    ("chat", part({"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}})),
    ("chat", part({"type": "image_url", "image_url": "https://x.test/a.png"})),
    ("chat", part({"type": "file", "file_id": "f"})),
    ("chat", part({"type": "file", "file": {"file_data": "x"}})),
    ("chat", part({"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}})),
    ("chat", part({"type": "thinking", "thinking": "hm"})),
    ("chat", part({"type": "redacted_thinking", "data": "x"})),
    ("chat", part({"type": "reasoning", "text": "hm"})),
    ("chat", part({"type": "reference", "reference_ids": [1, "a"]})),
    ("chat", part({"type": "refusal", "refusal": "no"})),
    ("chat", part({"type": "file_url", "file_url": {"url": "x"}})),
    ("chat", part({"type": "document_url", "document_url": "x"})),
    ("chat", part({"type": "video_url", "video_url": {"url": "x"}})),
    ("chat", part({"type": "audio_url", "audio_url": {"url": "x"}})),
    ("text_completion", {"model": "m", "prompt": None}),
    ("text_completion", {"model": "m", "prompt": [[1, 2], [3]], "logprobs": 5}),
    ("embeddings", {"model": "m", "input": [1, 2, 3], "encoding_format": None}),
    ("embeddings", {"model": "m", "input": ["a", "b"], "dimensions": 1}),
    ("moderation", {"model": "m", "input": ["a", "b"]}),
    ("moderation", {"model": "m", "input": [{"type": "text", "text": "x"}]}),
    ("image_generation", {"model": "m", "prompt": "x", "n": 2, "size": "1x1"}),
    ("speech", {"model": "m", "input": "x", "voice": {"id": "v"}, "speed": 0.25}),
    ("transcription", {"model": "m", "temperature": "0.5", "stream": "true"}),
    ("transcription", {"model": "m", "timestamp_granularities": ["word"]}),
]


@pytest.mark.parametrize(("operation", "document"), ACCEPTED)
def test_what_is_accepted_is_handed_on_as_the_same_object(
    operation: Operation, document: Any
) -> None:
    """Unknown fields, new words and null pass; the document is not copied."""
    assert validate(operation, document) is document


def test_every_operation_has_a_definition() -> None:
    """Nothing can be asked for that is not checked."""
    assert set(get_args(Operation)) == set(REQUESTS)


def test_every_recorded_request_is_valid(recorded: list[Recorded]) -> None:
    """Whatever a provider accepted on an OpenAI-format endpoint is accepted."""
    refused = []
    for row in recorded:
        try:
            validate(row.operation, row.request)
        except InvalidRequestError as error:
            refused.append((row.file, error.message))
    assert [] == refused
    assert len(recorded) > 250


SECRET = "my prompt\n\x1b[31m is long and private " * 20


@pytest.mark.parametrize(
    "document",
    [
        chat(temperature=SECRET),
        chat(model=SECRET),
        chat(messages=SECRET),
        chat(messages=[{"role": SECRET, "content": "x"}]),
        part({"type": SECRET}),
        chat(stop=[[SECRET]]),
        chat(logit_bias={SECRET: 1000}),
        chat(**{"response_format": {"type": SECRET, "json_schema": SECRET}}),
        chat(n="a b"),
        chat(n="\u202e1"),
    ],
)
def test_a_refusal_repeats_no_text_of_the_client(document: Any) -> None:
    """A message is one short line of printable ASCII with nothing of a prompt in it."""
    message = refusal("chat", document).message
    assert "prompt" not in message
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 300


GOOD_NAMES = [
    "gpt-4o",
    "openrouter/anthropic/claude-3.5-sonnet:beta",
    "ft:gpt-4o:org::id",
    "@cf/meta/llama-3",
    "accounts/fireworks/models/x",
    "gpt-4o@2024",
    "arn:aws:bedrock:us-east-1:1234:inference-profile/us.anthropic.claude",
    "/models/llama.gguf",
    "a..b",
    "x" * 256,
]
BAD_NAMES = [
    "",
    "x" * 257,
    "x" * 10**6,
    "a b",
    "a\n",
    "a\r\nx-header: 1",
    "a\x00",
    "\x1b[31m",
    "../x",
    "a/../b",
    "a/..",
    "..",
    ".",
    "a/./b",
    "/",
    "...",
    "{}",
    "{0}",
    "%s",
    "%2e%2e",
    'a"b',
    "a'b",
    "a`b",
    "a\\b",
    "<script>",
    "a?b",
    "a#b",
    "gpt-4\u043e",
    "a\u202eb",
    "\uff47pt",
    "a\u2028",
]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_name_that_providers_use_passes(name: str) -> None:
    """Names with slashes, colons, at signs and versions are names."""
    assert None is model_name_error(name)
    assert validate("chat", chat(model=name))


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a17_a_name_that_could_harm_is_refused(name: str) -> None:
    """Nothing that means something in a header, log, URL, template or path is a name."""
    problem = model_name_error(name)
    assert problem is not None
    error = refusal("chat", chat(model=name))
    assert ("model", "invalid_value", f"model: {problem}") == (
        error.param,
        error.code,
        error.message,
    )


def test_validation_costs_little() -> None:
    """A request of 1 KB is checked in microseconds; the bound leaves room for a busy machine."""
    document = chat(
        messages=[{"role": "system", "content": "x" * 400}, {"role": "user", "content": "y" * 500}],
        temperature=0.7,
        max_tokens=100,
        stream=True,
    )
    seconds = min(timeit.repeat(lambda: validate("chat", document), number=1000, repeat=20)) / 1000
    assert seconds < 10e-6
