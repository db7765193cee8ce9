"""Chats as Mistral takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError, InvalidRequestError
from asgi_llm.providers.base import Translation
from asgi_llm.providers.mistral import Mistral
from asgi_llm.types import Deployment

Translate = Callable[..., Translation]
Sent = Callable[..., dict[str, Any]]

PIXEL = "data:image/png;base64,iVBORw0KGgo="
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}


def called(call_id: str, **more: Any) -> dict[str, Any]:
    function = {"name": "weather", "arguments": '{"city": "Paris"}'}
    return {"id": call_id, "type": "function", "function": function, **more}


def conversation(*ids: str, **message: Any) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [called(i) for i in ids], **message},
        *({"role": "tool", "tool_call_id": i, "content": "sunny"} for i in ids),
    ]


def test_a_plain_chat_goes_out_as_it_came(sent: Sent) -> None:
    """All but the name of the model."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": [{"type": "text", "text": "Who?"}]},
    ]
    found = sent({"messages": messages, "temperature": 0.3, "top_p": 1, "stop": ["x"], "n": 2})
    assert {
        "model": "mistral-small-latest",
        "messages": messages,
        "temperature": 0.3,
        "top_p": 1,
        "stop": ["x"],
        "n": 2,
    } == found


def test_case_02_developer_becomes_system(sent: Sent) -> None:
    """In its place."""
    messages = [{"role": "user", "content": "hi"}, {"role": "developer", "content": "Be brief."}]
    assert {"role": "system", "content": "Be brief."} == sent({"messages": messages})["messages"][1]


def test_case_03_instructions_stay_amid_the_chat(translate: Translate, sent: Sent) -> None:
    """Mistral takes them anywhere."""
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "go"},
    ]
    assert messages == sent({"messages": messages})["messages"]
    assert () == translate({"messages": messages}).losses


def test_case_04_a_message_that_says_nothing_is_dropped(sent: Sent) -> None:
    """Mistral refuses an assistant without content and calls, and empty parts."""
    messages = [
        {"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "a"}]},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": [{"type": "text", "text": ""}]},
    ]
    expected = [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
    assert expected == sent({"messages": messages})["messages"]
    with pytest.raises(InvalidRequestError, match="they hold nothing"):
        sent({"messages": messages[1:]})


def test_case_05_calls_go_with_empty_content(sent: Sent) -> None:
    """Null content is none."""
    told = sent({"messages": conversation("abcdefghi")})["messages"][1]
    assert ("", [called("abcdefghi")]) == (told["content"], told["tool_calls"])


def test_case_08_a_last_assistant_turn_is_a_prefix(sent: Sent) -> None:
    """Mistral refuses it without the flag; what the client says of it counts."""
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "He"}]
    assert sent({"messages": messages})["messages"][1]["prefix"] is True
    messages[1]["prefix"] = False  # type: ignore[assignment]
    assert sent({"messages": messages})["messages"][1]["prefix"] is False
    asked = [*messages, {"role": "user", "content": "go"}]
    assert "prefix" not in sent({"messages": asked[:1] + asked[2:]})["messages"][0]


def test_case_09_names_are_reported(translate: Translate, sent: Sent) -> None:
    """Mistral refuses a request with them."""
    asked = {"messages": [{"role": "user", "content": "hi", "name": "Ann"}]}
    assert ("messages.name",) == translate(asked).losses
    assert [{"role": "user", "content": "hi"}] == sent(asked)["messages"]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        pytest.param(
            {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
            {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
            id="case 11: image data",
        ),
        pytest.param(
            {"type": "image_url", "image_url": "https://a.example/x.png"},
            {"type": "image_url", "image_url": "https://a.example/x.png"},
            id="case 12: image address, Mistral's form",
        ),
        pytest.param(
            {"type": "file", "file": {"file_data": "JVBERi0=", "filename": "a.pdf"}},
            {
                "type": "document_url",
                "document_url": "data:application/pdf;base64,JVBERi0=",
                "document_name": "a.pdf",
            },
            id="case 15: bare PDF",
        ),
        pytest.param(
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0="}},
            {"type": "document_url", "document_url": "data:application/pdf;base64,JVBERi0="},
            id="case 15: PDF",
        ),
        pytest.param(
            {"type": "file", "file": {"file_id": "f1"}},
            {"type": "file", "file_id": "f1"},
            id="case 19: file id",
        ),
        pytest.param(
            {"type": "file", "file_id": "f1"}, {"type": "file", "file_id": "f1"}, id="its own file"
        ),
        pytest.param(
            {"type": "document_url", "document_url": {"url": "https://a.example/x.pdf"}},
            {"type": "document_url", "document_url": "https://a.example/x.pdf"},
            id="document address",
        ),
        pytest.param(
            {"type": "file_url", "file_url": "https://a.example/x.pdf"},
            {"type": "document_url", "document_url": "https://a.example/x.pdf"},
            id="file address",
        ),
        pytest.param(
            {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
            {"type": "input_audio", "input_audio": "UklGRg=="},
            id="case 17: audio",
        ),
        pytest.param(
            {"type": "audio_url", "audio_url": {"url": "https://a.example/x.mp3"}},
            {"type": "input_audio", "input_audio": "https://a.example/x.mp3"},
            id="audio address",
        ),
        pytest.param(
            {"type": "reference", "reference_ids": [1, "b"]},
            {"type": "reference", "reference_ids": [1, "b"]},
            id="its own reference",
        ),
    ],
)
def test_parts_take_their_form_there(
    translate: Translate, sent: Sent, part: dict[str, Any], expected: dict[str, Any]
) -> None:
    """In Mistral's own form or OpenAI's, and nothing is lost."""
    asked = {"messages": [{"role": "user", "content": [part]}]}
    assert [expected] == sent(asked)["messages"][0]["content"]
    assert () == translate(asked).losses


@pytest.mark.parametrize("kind", ["video_url"])
def test_a_part_that_it_has_not_is_refused(sent: Sent, kind: str) -> None:
    """With its path."""
    part = {"type": kind, kind: {"url": "https://a.example/x"}}
    with pytest.raises(InvalidRequestError) as caught:
        sent({"messages": [{"role": "user", "content": [part]}]})
    assert ("messages[0].content[0].type", "unsupported_content_part") == (
        caught.value.param,
        caught.value.code,
    )
    image = {"type": "image_url", "image_url": PIXEL}
    with pytest.raises(InvalidRequestError, match="instructions can only be text"):
        sent({"messages": [{"role": "system", "content": [image]}]})


def test_case_14_an_image_in_a_tool_result_stays_there(translate: Translate, sent: Sent) -> None:
    """Mistral's tool messages take parts."""
    content = [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
    ]
    messages = conversation("abcdefghi")
    messages[-1]["content"] = content
    assert content == sent({"messages": messages})["messages"][-1]["content"]
    assert () == translate({"messages": messages}).losses


def test_case_20_and_22_tools(translate: Translate, sent: Sent) -> None:
    """Parameters are needed there; strict is kept, and cache markers are reported."""
    tools = [
        {"type": "function", "function": {"name": "now", "strict": True}},
        {**WEATHER, "cache_control": {"type": "ephemeral"}},
        {"type": "document_library", "library_ids": ["x"]},
    ]
    found = sent({"tools": tools})["tools"]
    now = {"name": "now", "parameters": {"type": "object", "properties": {}}, "strict": True}
    assert [{"type": "function", "function": now}, WEATHER, tools[2]] == found
    assert ("tools.cache_control",) == translate({"tools": tools}).losses


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "any"),
        ("any", "any"),
        (
            {"type": "function", "function": {"name": "weather"}},
            {"type": "function", "function": {"name": "weather"}},
        ),
    ],
)
def test_case_23_tool_choice(sent: Sent, choice: Any, expected: Any) -> None:
    """Required is called any."""
    assert expected == sent({"tools": [WEATHER], "tool_choice": choice})["tool_choice"]


def test_case_23_allowed_tools_are_the_only_ones(sent: Sent) -> None:
    """With the mode of the choice."""
    other = {"type": "function", "function": {"name": "other", "parameters": {}}}
    allowed = {"mode": "required", "tools": [WEATHER]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    found = sent({"tools": [other, WEATHER], "tool_choice": choice})
    assert ([WEATHER], "any") == (found["tools"], found["tool_choice"])
    with pytest.raises(InvalidRequestError, match="none of the allowed tools"):
        sent({"tools": [other], "tool_choice": choice})


def test_case_24_parallel_calls(sent: Sent) -> None:
    """The same field."""
    assert sent({"parallel_tool_calls": False})["parallel_tool_calls"] is False


def test_case_26_ids_are_nine_letters_and_digits(sent: Sent) -> None:
    """Mistral's own stay, others are the same for a call and its result, and all differ."""
    ids = ("call_aaaaaaaaaaaaaaaaaaaaaaaa", "toolu_01", "AbCdEfGh9", "x")
    messages = sent({"messages": conversation(*ids)})["messages"]
    short = [call["id"] for call in messages[1]["tool_calls"]]
    assert short == [message["tool_call_id"] for message in messages[2:]]
    assert "AbCdEfGh9" == short[2]
    assert 4 == len(set(short))
    assert all(len(one) == 9 and one.isalnum() and one.isascii() for one in short)
    again = sent({"messages": conversation("other", *ids)})["messages"][1]["tool_calls"]
    assert short == [call["id"] for call in again[1:]]


def test_case_26_ids_that_meet_are_kept_apart(sent: Sent) -> None:
    """An id of the client's that another one is already told as gets one of its own."""
    first = sent({"messages": conversation("call_1")})["messages"][2]["tool_call_id"]
    found = sent({"messages": conversation("call_1", first)})["messages"]
    assert first == found[2]["tool_call_id"]
    assert first != found[3]["tool_call_id"]
    assert [call["id"] for call in found[1]["tool_calls"]] == [
        message["tool_call_id"] for message in found[2:]
    ]


def test_case_29_a_missing_result_is_refused(sent: Sent) -> None:
    """As is a result without a call."""
    with pytest.raises(InvalidRequestError) as caught:
        sent({"messages": conversation("a", "b")[:-1]})
    assert ("messages[1].tool_calls[1]", "missing_tool_result") == (
        caught.value.param,
        caught.value.code,
    )
    with pytest.raises(InvalidRequestError) as caught:
        sent({"messages": [*conversation("a")[:1], *conversation("a")[2:]]})
    assert ("messages[1].tool_call_id", "unknown_tool_call") == (
        caught.value.param,
        caught.value.code,
    )


def test_case_31_a_failed_result_is_marked(sent: Sent) -> None:
    """By a word before it."""
    messages = conversation("a")
    messages[-1]["is_error"] = True
    assert "Error: sunny" == sent({"messages": messages})["messages"][-1]["content"]


def test_case_32_functions_become_tools(sent: Sent) -> None:
    """Definitions, the choice, calls and results."""
    messages = [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": None,
            "function_call": {"name": "weather", "arguments": ""},
        },
        {"role": "function", "name": "weather", "content": "sunny"},
    ]
    asked = {
        "messages": messages,
        "functions": [WEATHER["function"]],
        "function_call": {"name": "weather"},
    }
    found = sent(asked)
    call, result = found["messages"][1]["tool_calls"][0], found["messages"][2]
    assert {"name": "weather", "arguments": "{}"} == call["function"]
    assert (call["id"], "weather") == (result["tool_call_id"], result["name"])
    assert [WEATHER] == found["tools"]
    assert {"type": "function", "function": {"name": "weather"}} == found["tool_choice"]


@pytest.mark.parametrize("tool", [{"type": "custom", "custom": {"name": "x"}}, {"type": "web"}])
def test_case_33_tools_of_others_are_refused(sent: Sent, tool: dict[str, Any]) -> None:
    """By the path of their type."""
    with pytest.raises(InvalidRequestError) as caught:
        sent({"tools": [tool]})
    assert ("tools[0].type", "unsupported_tool") == (caught.value.param, caught.value.code)


def test_case_52_usage_needs_not_be_asked_for(translate: Translate, sent: Sent) -> None:
    """Mistral refuses stream_options, and sends usage unasked."""
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    assert "stream_options" not in sent(asked)
    assert () == translate(asked).losses


def test_case_58_efforts_and_modes_pass(sent: Sent) -> None:
    """They are Mistral's own words."""
    found = sent({"reasoning_effort": "high", "prompt_mode": "reasoning"})
    assert ("high", "reasoning") == (found["reasoning_effort"], found["prompt_mode"])


def test_case_61_thoughts_go_back_in_their_form(sent: Sent) -> None:
    """As a part before the text, from either field, or as the part that they came as."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    text = {"type": "text", "text": "Hello."}
    own = {"type": "thinking", "thinking": "hm", "signature": "s", "provider": "mistral"}
    for message, expected in (
        ({"content": "Hello.", "reasoning_content": "hm"}, [thought, text]),
        ({"content": [text], "reasoning_content": "hm"}, [thought, text]),
        ({"content": [thought, text]}, [thought, text]),
        ({"content": [{"type": "thinking", "thinking": "hm"}, text]}, [thought, text]),
        ({"content": [{"type": "reasoning", "text": "hm"}, text]}, [thought, text]),
        (
            {"content": "Hello.", "thinking_blocks": [own], "reasoning_content": "hm"},
            [{**thought, "signature": "s"}, text],
        ),
    ):
        messages = [{"role": "user", "content": "hi"}, {"role": "assistant", **message}]
        found = sent({"messages": [*messages, {"role": "user", "content": "go"}]})["messages"]
        assert {"role": "assistant", "content": expected} == found[1]


def test_case_64_thoughts_of_others_are_dropped(translate: Translate, sent: Sent) -> None:
    """Their signatures mean nothing here; what is dropped is reported."""
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "anthropic's"},
        {"type": "redacted_thinking", "data": "x"},
    ]
    for message in ({"thinking_blocks": blocks}, {"content": [blocks[1]]}):
        asked = {
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": "Hello.", **message},
                {"role": "user", "content": "go"},
            ]
        }
        (loss,) = translate(asked).losses
        assert f"messages.{next(iter(message))}" == loss
        assert "hm" not in str(sent(asked)["messages"])


def test_case_66_the_newer_limit_counts(sent: Sent) -> None:
    """Under the older name."""
    found = sent({"max_completion_tokens": 5, "max_tokens": 9})
    assert 5 == found["max_tokens"]
    assert "max_completion_tokens" not in found
    assert 9 == sent({"max_tokens": 9})["max_tokens"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"type": "text"}, {"type": "text"}),
        ({"type": "json_object"}, {"type": "json_object"}),
        (
            {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
            },
            {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
            },
        ),
        (
            {"type": "json_object", "schema": {"type": "array"}},
            {
                "type": "json_schema",
                "json_schema": {"name": "response", "schema": {"type": "array"}},
            },
        ),
    ],
)
def test_case_67_response_format(sent: Sent, wanted: Any, expected: Any) -> None:
    """A schema is native."""
    assert expected == sent({"response_format": wanted})["response_format"]


def test_a_grammar_of_others_is_refused(sent: Sent) -> None:
    """By its path."""
    with pytest.raises(InvalidRequestError) as caught:
        sent({"response_format": {"type": "grammar"}})
    assert "response_format.type" == caught.value.param


def test_case_70_the_seed_has_another_name(sent: Sent) -> None:
    """Its own name wins."""
    assert 7 == sent({"seed": 7})["random_seed"]
    assert 8 == sent({"seed": 7, "random_seed": 8})["random_seed"]
    assert "seed" not in sent({"seed": 7})


def test_case_71_log_probabilities_pass(sent: Sent) -> None:
    """The fields are Mistral's, too."""
    found = sent({"logprobs": True, "top_logprobs": 2})
    assert (True, 2) == (found["logprobs"], found["top_logprobs"])


def test_case_72_temperature_is_clamped(translate: Translate, sent: Sent) -> None:
    """And the change reported."""
    assert 1.5 == sent({"temperature": 2})["temperature"]
    assert ("temperature",) == translate({"temperature": 2}).losses
    assert () == translate({"temperature": 1.5}).losses


def test_case_73_and_95_fields_pass_that_are_known(translate: Translate, sent: Sent) -> None:
    """Mistral answers any other with a 422, so those are left out and reported."""
    own = {
        "frequency_penalty": 0.5,
        "guardrails": [],
        "metadata": {"a": "b"},
        "presence_penalty": 0.5,
        "prompt_cache_key": "k",
        "safe_prompt": True,
        "top_k": 40,
    }
    other = {"logit_bias": {"1": 1}, "user": "u", "verbosity": "low", "xyz": 1, "min_p": 0.1}
    asked = {**own, **other, "store": False, "top_k": 40, "audio": None}
    found = sent(asked)
    assert own == {name: found[name] for name in own}
    assert not other.keys() & found.keys()
    assert ("logit_bias", "user", "verbosity", "xyz", "min_p") == translate(asked).losses
    assert "top_k" not in sent({"top_k": -1})


def test_case_74_service_tiers_that_it_has(translate: Translate, sent: Sent) -> None:
    """OpenAI's default is called standard_only."""
    assert "standard_only" == sent({"service_tier": "default"})["service_tier"]
    assert "auto" == sent({"service_tier": "auto"})["service_tier"]
    assert ("service_tier",) == translate({"service_tier": "flex"}).losses


def test_case_75_a_refusal_is_told_as_text(translate: Translate, sent: Sent) -> None:
    """Reported, in either place."""
    earlier: list[dict[str, Any]] = [
        {"content": None, "refusal": "No."},
        {"content": [{"type": "refusal", "refusal": "No."}]},
    ]
    for message in earlier:
        asked = {
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", **message},
                {"role": "user", "content": "go"},
            ]
        }
        assert [{"type": "text", "text": "No."}] == sent(asked)["messages"][1]["content"]
        assert 1 == len(translate(asked).losses)


def test_a_message_of_an_earlier_answer_goes_back_without_its_empty_fields(
    translate: Translate, sent: Sent
) -> None:
    """Clients send back what they got; nulls and empty lists say nothing."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "Hello.",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
    }
    asked = {"messages": [message, {"role": "user", "content": "go"}]}
    assert {"role": "assistant", "content": "Hello."} == sent(asked)["messages"][0]
    assert () == translate(asked).losses


def test_a_prediction_is_a_text(sent: Sent) -> None:
    """Parts are joined."""
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    found = sent({"prediction": {"type": "content", "content": parts}})
    assert {"type": "content", "content": "ab"} == found["prediction"]


def test_case_87_cache_markers_are_reported(translate: Translate, sent: Sent) -> None:
    """Mistral has none."""
    part = {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}
    asked = {"messages": [{"role": "user", "content": [part]}]}
    assert ("messages.content.cache_control",) == translate(asked).losses
    assert [{"type": "text", "text": "hi"}] == sent(asked)["messages"][0]["content"]


def test_strict_refuses_what_would_be_lost(translate: Translate) -> None:
    """By the adapter's option and by the deployment's."""
    with pytest.raises(InvalidRequestError) as caught:
        translate({"user": "u"}, strict=True)
    assert ("user", "unsupported_field") == (caught.value.param, caught.value.code)
    at = Deployment(provider="mistral", model="m", strict=True)
    with pytest.raises(InvalidRequestError):
        Mistral(api_key="k").translate(
            "chat", {"messages": [{"role": "user", "content": "hi"}], "user": "u"}, at
        )


@pytest.mark.parametrize("option", [{"api_key": ""}, {"base_url": "ftp://x"}])
def test_options_are_checked(option: dict[str, Any]) -> None:
    """By their names."""
    with pytest.raises(ConfigurationError) as caught:
        Mistral(**{"api_key": "k", **option})
    assert next(iter(option)) == caught.value.param
