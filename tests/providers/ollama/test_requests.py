"""Chat requests as Ollama's native API takes them. Numbers are those of the translation cases."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError, InvalidRequestError
from asgi_llm.providers.base import Translation
from asgi_llm.providers.ollama import Ollama
from asgi_llm.types import Deployment

Translate = Callable[..., Translation]
Sent = Callable[..., dict[str, Any]]

PIXEL = "iVBORw0KGgo="
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "d",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def call(call_id: str, arguments: str = "{}", name: str = "weather") -> dict[str, Any]:
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def messages(*given: dict[str, Any]) -> dict[str, Any]:
    return {"messages": list(given)}


def test_a_chat_goes_to_the_native_endpoint(translate: Translate) -> None:
    """With the deployment's model, JSON headers and no credentials where none are given."""
    request = translate(base_url="http://gpu:11434/").request
    assert ("POST", "http://gpu:11434/api/chat") == (request.method, request.url)
    assert {b"user-agent", b"accept-encoding", b"content-type"} == {n for n, _ in request.headers}
    body = {
        "model": "llama3.2:3b",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": False,
    }
    assert isinstance(request.body, bytes)
    assert body == json.loads(request.body)


def test_a_key_is_a_bearer_token(translate: Translate) -> None:
    """As Ollama's cloud wants it."""
    request = translate(api_key="oll-0123456789", base_url="https://ollama.com").request
    assert (b"authorization", b"Bearer oll-0123456789") in request.headers
    assert "https://ollama.com/api/chat" == request.url


def test_case_01_and_02_instructions_are_one_system_message(sent: Sent) -> None:
    """Several are joined in order; those of a developer are among them."""
    body = sent(
        messages(
            {"role": "system", "content": "a"},
            {"role": "developer", "content": [text("b"), text("c")]},
            {"role": "user", "content": "hi"},
        )
    )
    assert [
        {"role": "system", "content": "a\n\nb\n\nc"},
        {"role": "user", "content": "hi"},
    ] == body["messages"]


def test_case_03_instructions_amid_the_chat_are_moved_ahead_and_reported(
    translate: Translate,
) -> None:
    """The order of the rest stays."""
    found = translate(
        messages({"role": "user", "content": "hi"}, {"role": "system", "content": "now"})
    )
    assert ("messages.role",) == found.losses
    assert isinstance(found.request.body, bytes)
    assert ["system", "user"] == [m["role"] for m in json.loads(found.request.body)["messages"]]


def test_case_04_blank_texts_and_empty_messages_are_left_out(sent: Sent) -> None:
    """And what is left is not padded."""
    body = sent(
        messages(
            {"role": "user", "content": [text(" "), text("hi")]},
            {"role": "assistant", "content": "\n"},
        )
    )
    assert [{"role": "user", "content": "hi"}] == body["messages"]


def test_case_04_a_chat_of_blank_texts_is_refused(sent: Sent) -> None:
    """Ollama would take it for an order to load or unload the model."""
    with pytest.raises(InvalidRequestError) as caught:
        sent(messages({"role": "user", "content": " "}) | {"keep_alive": 0})
    assert "messages" == caught.value.param


@pytest.mark.parametrize("content", ["", None])
def test_case_05_a_call_without_text_is_only_a_call(sent: Sent, content: str | None) -> None:
    """The content is empty, as Ollama's own answers have it."""
    body = sent(
        messages(
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": content, "tool_calls": [call("c1", '{"a": 1}')]},
            {"role": "tool", "tool_call_id": "c1", "content": "r"},
        )
    )
    assert {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "c1", "function": {"index": 0, "name": "weather", "arguments": {"a": 1}}}
        ],
    } == body["messages"][1]


def test_case_06_neighbouring_messages_of_a_role_become_one(sent: Sent) -> None:
    """Joined as Ollama joins them."""
    body = sent(messages({"role": "user", "content": "a"}, {"role": "user", "content": "b"}))
    assert [{"role": "user", "content": "a\n\nb"}] == body["messages"]


def test_case_07_and_08_an_assistants_first_and_last_turn_are_sent_as_they_are(sent: Sent) -> None:
    """Ollama takes both, and goes on from the last."""
    given = [
        {"role": "assistant", "content": "welcome"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Once upon"},
    ]
    assert given == sent(messages(*given))["messages"]


def test_case_09_names_are_dropped_and_reported(translate: Translate) -> None:
    """There is no slot for them."""
    assert ("messages.name",) == translate(
        messages({"role": "user", "name": "ann", "content": "hi"})
    ).losses


def test_case_10_parts_of_text_become_a_string(sent: Sent) -> None:
    """Ollama takes no other form."""
    body = sent(messages({"role": "user", "content": [text("a"), text("b")]}))
    assert "a\n\nb" == body["messages"][0]["content"]


def test_case_11_an_image_is_bare_base64(sent: Sent) -> None:
    """Beside the text."""
    body = sent(messages({"role": "user", "content": [text("what?"), IMAGE]}))
    assert [{"role": "user", "content": "what?", "images": [PIXEL]}] == body["messages"]


def test_case_11_texts_between_images_keep_the_order(sent: Sent) -> None:
    """Ollama shows a message's images before its text, so the next image begins a message."""
    content = [text("first"), IMAGE, IMAGE, text("second"), IMAGE, text("third")]
    assert [
        {"role": "user", "content": "first", "images": [PIXEL, PIXEL]},
        {"role": "user", "content": "second", "images": [PIXEL]},
        {"role": "user", "content": "third"},
    ] == sent(messages({"role": "user", "content": content}))["messages"]


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, id="12-url"
        ),
        pytest.param({"type": "file", "file": {"file_data": "data:application/pdf;base64,AA=="}}),
        pytest.param({"type": "file", "file": {"file_id": "file-1"}}, id="19-file-id"),
        pytest.param({"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}),
        pytest.param({"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}),
    ],
)
def test_case_12_15_17_19_what_ollama_cannot_take_is_refused_by_name(
    sent: Sent, part: dict[str, Any]
) -> None:
    """Addresses, documents, uploaded files, sound and films: a 400 with the part's path."""
    with pytest.raises(InvalidRequestError) as caught:
        sent(messages({"role": "user", "content": [text("look"), part]}))
    assert (400, "messages[0].content[1]", "unsupported_content_part") == (
        caught.value.status,
        caught.value.param,
        caught.value.code,
    )
    assert Ollama.fetches_urls is False


def test_case_14_an_image_in_a_tool_result_is_lifted_and_reported(translate: Translate) -> None:
    """Into a user message right after the results, with words that point to it."""
    found = translate(
        messages(
            {"role": "user", "content": "hi"},
            {"role": "assistant", "tool_calls": [call("c1"), call("c2")]},
            {"role": "tool", "tool_call_id": "c1", "content": [text("see"), IMAGE]},
            {"role": "tool", "tool_call_id": "c2", "content": "r"},
            {"role": "user", "content": "well?"},
        )
    )
    assert isinstance(found.request.body, bytes)
    first, second, lifted, said = json.loads(found.request.body)["messages"][2:]
    assert ("tool", "c1", "weather") == (first["role"], first["tool_call_id"], first["tool_name"])
    assert first["content"].startswith("see\n\n(An image")
    assert ("tool", "c2", "r") == (second["role"], second["tool_call_id"], second["content"])
    assert [PIXEL] == lifted["images"]
    assert "c1" in lifted["content"]
    assert {"role": "user", "content": "well?"} == said
    assert ("messages.content",) == found.losses


def test_case_20_tools_are_told_with_an_object_where_there_is_no_schema(sent: Sent) -> None:
    """The schema itself goes as it is."""
    bare = {"type": "function", "function": {"name": "now"}}
    body = sent({"tools": [TOOL, bare]})
    empty = {"name": "now", "parameters": {"type": "object", "properties": {}}}
    assert [TOOL, {"type": "function", "function": empty}] == body["tools"]


def test_case_22_strict_tools_are_reported(translate: Translate) -> None:
    """Only where it is asked for."""
    strict = {**TOOL, "function": {**TOOL["function"], "strict": True}}  # type: ignore[dict-item]
    lax = {**TOOL, "function": {**TOOL["function"], "strict": False}}  # type: ignore[dict-item]
    assert ("tools.function.strict",) == translate({"tools": [strict]}).losses
    assert () == translate({"tools": [lax]}).losses


OTHER = {"type": "function", "function": {"name": "other"}}


@pytest.mark.parametrize(
    ("choice", "offered", "losses"),
    [
        ("auto", ["weather", "other"], ()),
        ("none", [], ()),
        ("required", ["weather", "other"], ("tool_choice",)),
        ({"type": "function", "function": {"name": "other"}}, ["other"], ("tool_choice",)),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [OTHER]}},
            ["other"],
            (),
        ),
    ],
)
def test_case_23_a_tool_choice_decides_which_tools_are_offered(
    translate: Translate, choice: Any, offered: list[str], losses: tuple[str, ...]
) -> None:
    """Ollama cannot be made to call one, which is reported."""
    found = translate({"tools": [TOOL, OTHER], "tool_choice": choice})
    assert isinstance(found.request.body, bytes)
    tools = json.loads(found.request.body).get("tools", [])
    assert offered == [tool["function"]["name"] for tool in tools]
    assert losses == found.losses


def test_case_24_calls_one_at_a_time_cannot_be_asked_for(translate: Translate) -> None:
    """It is reported; the default is not."""
    assert ("parallel_tool_calls",) == translate({"parallel_tool_calls": False}).losses
    assert () == translate({"parallel_tool_calls": True}).losses


@pytest.mark.parametrize(
    "arguments",
    [
        '{"n": 123456789012345678901234567890, "s": "\\u00e9\\ud83d\\ude00"}',
        '{"b":1,  "a":{"x":[1.50]}}',
    ],
)
def test_case_25_and_96_arguments_keep_their_characters(
    translate: Translate, arguments: str
) -> None:
    """Large integers, escapes, order and spaces: the object is the client's text."""
    request = translate(
        messages(
            {"role": "user", "content": "hi"},
            {"role": "assistant", "tool_calls": [call("c1", arguments)]},
            {"role": "tool", "tool_call_id": "c1", "content": "r"},
        )
    ).request
    assert isinstance(request.body, bytes)
    assert b'"arguments":%b}' % arguments.encode() in request.body


def test_case_25_broken_arguments_are_refused(sent: Sent) -> None:
    """And an empty string is an empty object."""
    history: list[dict[str, Any]] = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [call("c1", "")]},
        {"role": "tool", "tool_call_id": "c1", "content": "r"},
    ]
    body = sent(messages(*history))
    assert {} == body["messages"][1]["tool_calls"][0]["function"]["arguments"]
    history[1]["tool_calls"] = [call("c1", "{")]
    with pytest.raises(InvalidRequestError) as caught:
        sent(messages(*history))
    assert "messages[1].tool_calls[0].function.arguments" == caught.value.param


def test_case_26_and_28_results_follow_their_calls_with_id_and_name(sent: Sent) -> None:
    """In the order of the client, each a message."""
    body = sent(
        messages(
            {"role": "user", "content": "hi"},
            {
                "role": "assistant",
                "tool_calls": [call("call_A"), call("call_B", name="other")],
            },
            {"role": "tool", "tool_call_id": "call_B", "content": "b"},
            {"role": "tool", "tool_call_id": "call_A", "content": [text("a")]},
        )
    )
    assert [
        {"role": "tool", "content": "b", "tool_name": "other", "tool_call_id": "call_B"},
        {"role": "tool", "content": "a", "tool_name": "weather", "tool_call_id": "call_A"},
    ] == body["messages"][2:]
    assert [(0, "call_A"), (1, "call_B")] == [
        (one["function"]["index"], one["id"]) for one in body["messages"][1]["tool_calls"]
    ]


def test_case_29_a_call_without_a_result_is_refused(sent: Sent) -> None:
    """With its path."""
    with pytest.raises(InvalidRequestError) as caught:
        sent(
            messages(
                {"role": "user", "content": "hi"},
                {"role": "assistant", "tool_calls": [call("c1")]},
                {"role": "user", "content": "well?"},
            )
        )
    assert "messages[1].tool_calls[0]" == caught.value.param


def test_case_31_a_failed_tool_says_so_in_its_text(sent: Sent) -> None:
    """There is no field for it."""
    body = sent(
        messages(
            {"role": "user", "content": "hi"},
            {"role": "assistant", "tool_calls": [call("c1")]},
            {"role": "tool", "tool_call_id": "c1", "content": "boom", "is_error": True},
        )
    )
    assert "Error: boom" == body["messages"][2]["content"]


def test_case_32_functions_of_old_are_tools(sent: Sent) -> None:
    """Definitions, a call and its result."""
    body = sent(
        {
            "functions": [TOOL["function"]],
            **messages(
                {"role": "user", "content": "hi"},
                {"role": "assistant", "function_call": {"name": "weather", "arguments": "{}"}},
                {"role": "function", "name": "weather", "content": "r"},
            ),
        }
    )
    assert [TOOL] == body["tools"]
    assert ("tool", "weather") == (body["messages"][2]["role"], body["messages"][2]["tool_name"])


def test_case_33_tools_of_other_providers_are_refused(sent: Sent) -> None:
    """A 400 that names the tool."""
    with pytest.raises(InvalidRequestError) as caught:
        sent({"tools": [TOOL, {"type": "web_search_20250305", "name": "web_search"}]})
    assert "tools[1].type" == caught.value.param


def test_case_47_and_66_stop_and_the_limit_are_options(sent: Sent) -> None:
    """The newer name of the limit counts."""
    body = sent({"stop": ["", "END"], "max_tokens": 5, "max_completion_tokens": 7})
    assert {"num_predict": 7, "stop": ["END"]} == body["options"]
    assert {"stop": ["x"]} == sent({"stop": "x"})["options"]


@pytest.mark.parametrize(
    ("given", "think", "losses"),
    [
        ({"reasoning_effort": "none"}, False, ()),
        ({"reasoning_effort": "medium"}, "medium", ()),
        ({"reasoning_effort": "minimal"}, "low", ("reasoning_effort",)),
        ({"reasoning_effort": "xhigh"}, "high", ("reasoning_effort",)),
        ({"think": True}, True, ()),
        ({"think": "high", "reasoning_effort": "low"}, "high", ()),
        ({"think": False, "reasoning_effort": "high"}, False, ()),
    ],
)
def test_case_58_effort_becomes_think_and_ollamas_own_field_wins(
    translate: Translate, given: dict[str, Any], think: Any, losses: tuple[str, ...]
) -> None:
    """Levels that Ollama does not have become the nearest, which is reported."""
    found = translate(given)
    assert isinstance(found.request.body, bytes)
    assert think == json.loads(found.request.body)["think"]
    assert losses == found.losses


@pytest.mark.parametrize(("field", "value"), [("reasoning_effort", "huge"), ("think", 3)])
def test_case_58_a_level_that_nobody_knows_is_refused(sent: Sent, field: str, value: Any) -> None:
    """By the name of the field."""
    with pytest.raises(InvalidRequestError) as caught:
        sent({field: value})
    assert field == caught.value.param


def test_case_60_and_64_only_unsigned_thoughts_go_back(translate: Translate) -> None:
    """Signed ones are another provider's: dropped and reported."""
    found = translate(
        messages(
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "a", "reasoning_content": "hmm"},
            {"role": "user", "content": "and?"},
            {
                "role": "assistant",
                "content": "b",
                "thinking_blocks": [
                    {"type": "thinking", "thinking": "signed", "signature": "c2ln"},
                    {"type": "redacted_thinking", "data": "AA=="},
                ],
            },
            {"role": "user", "content": "so?"},
        )
    )
    assert isinstance(found.request.body, bytes)
    sent_messages = json.loads(found.request.body)["messages"]
    assert {"role": "assistant", "content": "a", "thinking": "hmm"} == sent_messages[1]
    assert {"role": "assistant", "content": "b"} == sent_messages[3]
    assert ("messages.thinking_blocks",) == found.losses


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("wanted", "format_"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, "json"),
        ({"type": "json_schema", "json_schema": {"name": "r", "schema": SCHEMA}}, SCHEMA),
    ],
)
def test_case_67_a_response_format_is_a_format(
    translate: Translate, wanted: dict[str, Any], format_: Any
) -> None:
    """The word json, or the schema itself; nothing is lost."""
    found = translate({"response_format": wanted})
    assert isinstance(found.request.body, bytes)
    assert format_ == json.loads(found.request.body).get("format")
    assert () == found.losses


def test_case_69_several_choices_are_several_calls(translate: Translate) -> None:
    """Of the same request."""
    found = translate({"n": 3})
    assert (found.request, found.request) == found.more
    assert () == found.losses


def test_case_70_71_72_and_73_sampling_is_told_in_options(translate: Translate) -> None:
    """OpenAI's fields and Ollama's own, with their values as they are; logprobs beside them."""
    options = {
        "temperature": 1.9,
        "top_p": 0.5,
        "top_k": 40,
        "min_p": 0.05,
        "typical_p": 0.9,
        "seed": 42,
        "presence_penalty": 0.1,
        "frequency_penalty": -0.2,
        "repeat_penalty": 1.1,
        "repeat_last_n": 32,
        "num_ctx": 8192,
    }
    found = translate({**options, "logprobs": True, "top_logprobs": 3})
    assert isinstance(found.request.body, bytes)
    body = json.loads(found.request.body)
    assert options == body["options"]
    assert (True, 3) == (body["logprobs"], body["top_logprobs"])
    assert () == found.losses


def test_native_options_of_the_client_win_over_its_others_and_over_the_adapters(sent: Sent) -> None:
    """The adapter's are defaults."""
    body = sent(
        {"temperature": 0.1, "options": {"temperature": 0.9, "num_gpu": 1}, "keep_alive": "5m"},
        options={"num_ctx": 16384, "temperature": 0.3, "num_gpu": 9},
        keep_alive="1h",
    )
    assert {"num_ctx": 16384, "temperature": 0.9, "num_gpu": 1} == body["options"]
    assert "5m" == body["keep_alive"]
    assert -1 == sent(keep_alive=-1)["keep_alive"]


def test_options_that_are_no_object_are_refused(sent: Sent) -> None:
    """By name."""
    with pytest.raises(InvalidRequestError) as caught:
        sent({"options": [1]})
    assert "options" == caught.value.param


def test_case_74_87_and_95_what_ollama_has_no_words_for_is_reported(translate: Translate) -> None:
    """Fields, cache markers, and what another provider put beside a call."""
    marked = {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}
    found = translate(
        {
            "logit_bias": {"1": 2},
            "user": "u",
            "metadata": {},
            "service_tier": "flex",
            "x_unknown": 1,
            **messages(
                {"role": "system", "content": [marked]},
                {"role": "user", "content": [marked]},
                {
                    "role": "assistant",
                    "tool_calls": [{**call("c1"), "extra_content": {"google": {}}}],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "r"},
            ),
        }
    )
    assert {
        "logit_bias",
        "user",
        "metadata",
        "service_tier",
        "x_unknown",
        "messages.content.cache_control",
        "messages.tool_calls.extra_content",
    } == set(found.losses)


def test_case_75_an_earlier_refusal_is_told_as_text_and_reported(translate: Translate) -> None:
    """It is not left out."""
    found = translate(
        messages(
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": None, "refusal": "No."},
            {"role": "user", "content": "why?"},
        )
    )
    assert isinstance(found.request.body, bytes)
    assert "No." == json.loads(found.request.body)["messages"][1]["content"]
    assert ("messages.refusal",) == found.losses


def test_case_95_strict_translation_refuses_the_first_loss() -> None:
    """From the adapter's option, and from the deployment's."""
    document = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "user": "u"}
    for adapter, strict in ((Ollama(strict=True), False), (Ollama(), True)):
        at = Deployment(provider="ollama", model="m", strict=strict)
        with pytest.raises(InvalidRequestError) as caught:
            adapter.translate("chat", document, at)
        assert (400, "user") == (caught.value.status, caught.value.param)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"base_url": "ollama:11434"}, "base_url"),
        ({"base_url": "http://127.0.0.1:11434/v1"}, "base_url"),
        ({"base_url": "http://127.0.0.1:11434/api/"}, "base_url"),
        ({"api_key": "a\nb"}, "api_key"),
        ({"quirks": ["max_tokens_only"]}, "quirks"),
        ({"options": [1]}, "options"),
        ({"options": {1: 2}}, "options"),
        ({"keep_alive": True}, "keep_alive"),
        ({"keep_alive": ""}, "keep_alive"),
    ],
)
def test_a_bad_option_is_refused_by_name(options: dict[str, Any], param: str) -> None:
    """At construction."""
    with pytest.raises(ConfigurationError) as caught:
        Ollama(**options)
    assert param == caught.value.param


def test_operations_that_the_native_api_lacks_are_refused() -> None:
    """The OpenAI-compatible endpoint has text completions."""
    adapter = Ollama()
    at = Deployment(provider="ollama", model="m")
    assert {"chat", "embeddings"} == adapter.operations
    with pytest.raises(InvalidRequestError) as caught:
        adapter.translate("text_completion", {"model": "m", "prompt": "p"}, at)
    assert "unsupported_operation" == caught.value.code
