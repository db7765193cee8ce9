"""Chats in the words of Cohere's v2 API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError, InvalidRequestError
from asgi_llm.providers.base import Translation
from asgi_llm.providers.cohere import Cohere

Translate = Callable[..., Translation]
Sent = Callable[..., dict[str, Any]]

PIXEL = "data:image/png;base64,iVBORw0KGgo="


def tool(name: str = "weather", **function: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    return {"type": "function", "function": {"name": name, "parameters": parameters, **function}}


def call(call_id: str = "c1", name: str = "weather") -> dict[str, Any]:
    function = {"name": name, "arguments": '{"n":12345678901234567890}'}
    return {"id": call_id, "type": "function", "function": function}


def conversation(**message: Any) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "tool_calls": [call()], **message},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]


def test_case_01_and_02_instructions_come_first(translate: Translate, sent: Sent) -> None:
    """System and developer messages are one, in order."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "hi"},
    ]
    texts = [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}]
    assert [{"role": "system", "content": texts}, messages[2]] == sent({"messages": messages})[
        "messages"
    ]
    assert () == translate({"messages": messages}).losses


def test_case_03_instructions_amid_the_chat_are_moved(translate: Translate) -> None:
    """And reported."""
    messages = [{"role": "user", "content": "hi"}, {"role": "system", "content": "Be brief."}]
    assert ("messages.role",) == translate({"messages": messages}).losses


def test_case_04_and_06_blank_texts_go_and_turns_are_joined(sent: Sent) -> None:
    """A chat of nothing else is refused."""
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": " "},
        {"role": "user", "content": "b"},
    ]
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert [{"role": "user", "content": content}] == sent({"messages": messages})["messages"]
    with pytest.raises(InvalidRequestError, match="blank text"):
        sent({"messages": messages[1:2]})


def test_case_05_and_25_calls_go_alone_with_their_own_arguments(sent: Sent) -> None:
    """No content beside them, and the text of the arguments as the model wrote it."""
    found = sent({"messages": conversation()})["messages"]
    assert {"role": "assistant", "tool_calls": [call()]} == found[1]
    assert {"role": "tool", "tool_call_id": "c1", "content": "sunny"} == found[2]
    broken = {
        "messages": conversation(
            tool_calls=[{**call(), "function": {"name": "a", "arguments": "{"}}]
        )
    }
    with pytest.raises(InvalidRequestError, match="expected a JSON object"):
        sent(broken)


def test_case_07_and_08_an_assistant_may_be_first_and_last(sent: Sent) -> None:
    """They go out as they are."""
    messages = [
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "He"},
    ]
    assert messages == sent({"messages": messages})["messages"]


def test_case_09_and_13_names_are_reported_and_detail_is_told(
    translate: Translate, sent: Sent
) -> None:
    """Cohere knows how closely to look."""
    image = {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}
    asked = {"messages": [{"role": "user", "content": [image], "name": "Ann"}]}
    assert [image] == sent(asked)["messages"][0]["content"]
    assert ("messages.name",) == translate(asked).losses


def test_case_11_and_12_images(sent: Sent) -> None:
    """As data or by address."""
    for url in (PIXEL, "https://a.example/x.png"):
        asked = {
            "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": url}]}]
        }
        expected = [{"type": "image_url", "image_url": {"url": url}}]
        assert expected == sent(asked)["messages"][0]["content"]


def test_case_14_an_image_in_a_tool_result_is_lifted(translate: Translate, sent: Sent) -> None:
    """Into the user's words after the results, with texts that point to it."""
    messages = conversation()
    messages[-1]["content"] = [{"type": "image_url", "image_url": {"url": PIXEL}}]
    asked = {"messages": [*messages, {"role": "user", "content": "And?"}]}
    *_, result, user = sent(asked)["messages"]
    assert "(An image, which the next message of the user shows.)" == result["content"]
    assert ["text", "image_url", "text"] == [part["type"] for part in user["content"]]
    assert ("messages.content",) == translate(asked).losses


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0="}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "video_url", "video_url": {"url": "https://a.example/x"}},
    ],
)
def test_case_15_and_17_other_media_are_refused(sent: Sent, part: dict[str, Any]) -> None:
    """By their path."""
    with pytest.raises(InvalidRequestError) as caught:
        sent({"messages": [{"role": "user", "content": [part]}]})
    assert ("messages[0].content[0]", "unsupported_content_part") == (
        caught.value.param,
        caught.value.code,
    )


def test_case_20_tools(sent: Sent) -> None:
    """Parameters are needed there."""
    found = sent(
        {"tools": [tool(description="d"), {"type": "function", "function": {"name": "a"}}]}
    )
    empty = {"name": "a", "parameters": {"type": "object", "properties": {}}}
    assert [tool(description="d"), {"type": "function", "function": empty}] == found["tools"]


def test_case_22_strict_is_for_all_tools(translate: Translate, sent: Sent) -> None:
    """Where only some are, it is reported; Cohere's own field wins."""
    assert sent({"tools": [tool(strict=True)]})["strict_tools"] is True
    mixed = {"tools": [tool(strict=True), tool("b")]}
    assert "strict_tools" not in sent(mixed)
    assert ("tools.function.strict",) == translate(mixed).losses
    assert sent({**mixed, "strict_tools": True})["strict_tools"] is True


@pytest.mark.parametrize(
    ("choice", "names", "expected"),
    [
        ("auto", ["weather", "b"], None),
        ("none", ["weather", "b"], "NONE"),
        ("required", ["weather", "b"], "REQUIRED"),
        ({"type": "function", "function": {"name": "b"}}, ["b"], "REQUIRED"),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool("b")]}},
            ["b"],
            None,
        ),
    ],
)
def test_case_23_tool_choice(
    translate: Translate, sent: Sent, choice: Any, names: list[str], expected: str | None
) -> None:
    """A named tool is the only one there is, and has to be called."""
    asked = {"tools": [tool(), tool("b")], "tool_choice": choice}
    found = sent(asked)
    assert names == [one["function"]["name"] for one in found["tools"]]
    assert expected == found.get("tool_choice")
    assert () == translate(asked).losses


def test_case_23_a_choice_of_no_tool_is_refused(sent: Sent) -> None:
    """By its path; without tools a choice says nothing."""
    choice = {"type": "function", "function": {"name": "x"}}
    with pytest.raises(InvalidRequestError, match="there is no tool 'x'"):
        sent({"tools": [tool()], "tool_choice": choice})
    assert not {"tools", "tool_choice"} & sent({"tool_choice": "none"}).keys()


def test_case_24_parallel_calls_are_reported(translate: Translate) -> None:
    """Only where they are forbidden."""
    assert ("parallel_tool_calls",) == translate({"parallel_tool_calls": False}).losses
    assert () == translate({"parallel_tool_calls": True}).losses


def test_case_27_names_of_tools_are_mapped_and_restored(sent: Sent, whole: Any) -> None:
    """Letters, digits and underscores, and no digit first; the client sees its own."""
    names = ["a-b", "1st", "ok_2"]
    asked = {
        "tools": [tool(name) for name in names],
        "messages": conversation(tool_calls=[call(name="a-b")]),
    }
    found = sent(asked)
    there = [one["function"]["name"] for one in found["tools"]]
    assert "ok_2" == there[2]
    assert all(name.isidentifier() for name in there)
    assert there[0] == found["messages"][1]["tool_calls"][0]["function"]["name"]
    made = {"id": "x", "type": "function", "function": {"name": there[1], "arguments": "{}"}}
    answer = whole({"tool_calls": [made]}, "TOOL_CALL", asked)
    assert "1st" == answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"]


def test_case_28_and_31_results_are_messages_of_their_own(sent: Sent) -> None:
    """In order, and a failed one is marked."""
    messages = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "tool_calls": [call("a"), call("b")]},
        {"role": "tool", "tool_call_id": "b", "content": "sunny"},
        {
            "role": "tool",
            "tool_call_id": "a",
            "content": [{"type": "text", "text": "no"}],
            "is_error": True,
        },
    ]
    *_, first, second = sent({"messages": messages})["messages"]
    assert ("b", "sunny") == (first["tool_call_id"], first["content"])
    texts = [{"type": "text", "text": "Error:"}, {"type": "text", "text": "no"}]
    assert ("a", texts) == (second["tool_call_id"], second["content"])


def test_case_29_a_missing_result_is_refused(sent: Sent) -> None:
    """By the path of the call."""
    with pytest.raises(InvalidRequestError) as caught:
        sent({"messages": conversation()[:-1]})
    assert "messages[1].tool_calls[0]" == caught.value.param


def test_case_33_tools_of_others_are_refused(sent: Sent) -> None:
    """By the path of their type."""
    with pytest.raises(InvalidRequestError) as caught:
        sent({"tools": [{"type": "web_search"}]})
    assert "tools[0].type" == caught.value.param


def test_case_47_stop_sequences(translate: Translate, sent: Sent) -> None:
    """At most five."""
    assert ["a"] == sent({"stop": "a"})["stop_sequences"]
    six = {"stop": list("abcdef")}
    assert list("abcde") == sent(six)["stop_sequences"]
    assert ("stop",) == translate(six).losses


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"reasoning_effort": "none"}, {"type": "disabled"}),
        ({"reasoning_effort": "low"}, {"type": "enabled", "token_budget": 2048}),
        ({"reasoning_effort": "high"}, {"type": "enabled"}),
        (
            {"thinking": {"type": "enabled", "token_budget": 7}},
            {"type": "enabled", "token_budget": 7},
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 7}},
            {"type": "enabled", "token_budget": 7},
        ),
    ],
)
def test_case_58_thinking(sent: Sent, asked: Any, expected: Any) -> None:
    """An effort is a budget."""
    assert expected == sent(asked)["thinking"]


def test_case_58_the_providers_own_field_wins(translate: Translate, sent: Sent) -> None:
    """What it overrides is reported; nonsense is refused."""
    asked = {"thinking": {"type": "disabled"}, "reasoning_effort": "high"}
    assert {"type": "disabled"} == sent(asked)["thinking"]
    assert ("reasoning_effort",) == translate(asked).losses
    for wrong in ({"thinking": True}, {"reasoning_effort": "huge"}):
        with pytest.raises(InvalidRequestError):
            sent(wrong)


def test_case_61_thoughts_go_back(sent: Sent) -> None:
    """As the plan where calls follow, else as a part before the text."""
    found = sent({"messages": conversation(reasoning_content="hm")})["messages"][1]
    assert {"role": "assistant", "tool_plan": "hm", "tool_calls": [call()]} == found
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Hello.", "reasoning_content": "hm"},
        {"role": "user", "content": "go"},
    ]
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hello."}]
    assert parts == sent({"messages": messages})["messages"][1]["content"]


def test_case_64_and_75_thoughts_of_others_and_refusals(translate: Translate, sent: Sent) -> None:
    """The former are dropped, the latter told as text; both are reported."""
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
    ]
    message = {"role": "assistant", "content": None, "refusal": "No.", "thinking_blocks": blocks}
    asked = {
        "messages": [{"role": "user", "content": "hi"}, message, {"role": "user", "content": "go"}]
    }
    assert {"role": "assistant", "content": "No."} == sent(asked)["messages"][1]
    assert ("messages.thinking_blocks", "messages.refusal") == translate(asked).losses


def test_case_66_limits(sent: Sent) -> None:
    """Both names."""
    assert 5 == sent({"max_completion_tokens": 5, "max_tokens": 9})["max_tokens"]
    assert 9 == sent({"max_tokens": 9})["max_tokens"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "json_object"}),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
            {"type": "json_object", "json_schema": {"type": "object"}},
        ),
    ],
)
def test_case_67_response_format(sent: Sent, wanted: Any, expected: Any) -> None:
    """A schema is native."""
    assert expected == sent({"response_format": wanted}).get("response_format")


def test_case_69_several_choices_are_several_calls(translate: Translate) -> None:
    """All alike."""
    translation = translate({"n": 3})
    assert (translation.request,) * 2 == translation.more
    assert () == translation.losses


@pytest.mark.parametrize(
    ("asked", "expected", "losses"),
    [
        ({"seed": 7}, {"seed": 7}, ()),
        ({"seed": -7}, {}, ("seed",)),
        ({"temperature": 0.3}, {"temperature": 0.3}, ()),
        ({"top_p": 0.5}, {"p": 0.5}, ()),
        ({"top_p": 1}, {"p": 0.99}, ("top_p",)),
        ({"top_p": 0}, {"p": 0.01}, ("top_p",)),
        ({"top_p": 0.5, "p": 0.7}, {"p": 0.7}, ()),
        ({"top_k": 5}, {"k": 5}, ()),
        ({"top_k": -1}, {"k": 0}, ()),
        ({"top_k": 501}, {"k": 500}, ("top_k",)),
        ({"frequency_penalty": 0.5}, {"frequency_penalty": 0.5}, ()),
        ({"frequency_penalty": 2}, {"frequency_penalty": 1}, ("frequency_penalty",)),
        ({"presence_penalty": -1}, {"presence_penalty": 0}, ("presence_penalty",)),
        ({"logprobs": True, "top_logprobs": 2}, {"logprobs": True}, ("top_logprobs",)),
        ({"logprobs": False}, {}, ()),
        (
            {"documents": ["d"], "safety_mode": "OFF", "citation_options": {"mode": "FAST"}},
            {"documents": ["d"], "safety_mode": "OFF", "citation_options": {"mode": "FAST"}},
            (),
        ),
        ({"priority": 1, "k": 3}, {"priority": 1, "k": 3}, ()),
        ({"user": "u", "logit_bias": {"1": 1}}, {}, ("user", "logit_bias")),
    ],
)
def test_case_70_to_74_fields(
    translate: Translate, sent: Sent, asked: Any, expected: Any, losses: tuple[str, ...]
) -> None:
    """What Cohere has, in its ranges; the rest is reported."""
    found = sent(asked)
    rest = {n: v for n, v in found.items() if n not in ("model", "messages", "stream")}
    assert expected == rest
    assert losses == translate(asked).losses


def test_case_87_cache_markers_are_reported(translate: Translate) -> None:
    """Everywhere."""
    part = {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}
    asked = {
        "messages": [{"role": "system", "content": [part]}, {"role": "user", "content": [part]}],
        "tools": [{**tool(), "cache_control": {"type": "ephemeral"}}],
    }
    assert {"messages.content.cache_control", "tools.function.cache_control"} == set(
        translate(asked).losses
    )


def test_strict_refuses_what_would_be_lost(translate: Translate) -> None:
    """With the field."""
    with pytest.raises(InvalidRequestError) as caught:
        translate({"top_p": 1}, strict=True)
    assert ("top_p", "unsupported_field") == (caught.value.param, caught.value.code)


@pytest.mark.parametrize(
    "option", [{"api_key": " "}, {"base_url": "https://api.cohere.com/v2"}, {"input_type": ""}]
)
def test_options_are_checked(option: dict[str, Any]) -> None:
    """By their names."""
    with pytest.raises(ConfigurationError) as caught:
        Cohere(**{"api_key": "k", **option})
    assert next(iter(option)) == caught.value.param
