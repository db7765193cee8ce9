"""Chats in Anthropic's words: what each translation case says of the request."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError, InvalidRequestError
from asgi_llm.providers._conversation import ChatRequest
from asgi_llm.providers._losses import Losses
from asgi_llm.providers.anthropic import Anthropic
from asgi_llm.providers.base import Translation
from asgi_llm.types import Deployment

pydantic = pytest.importorskip("pydantic")
types = pytest.importorskip("anthropic.types")

KEY = "sk-ant-0123456789"
CLAUDE = Anthropic(api_key=KEY)
MODEL = "claude-opus-9"
SAMPLED = "claude-opus-4-6"
"""A model that is told a temperature."""

PNG = "iVBORw0KGgo="
PDF = base64.b64encode(b"%PDF-1.7").decode()

_FIELDS = set(types.message_create_params.MessageCreateParamsNonStreaming.__annotations__) | {
    # Of the newest types no more, but of the models before them.
    "temperature",
    "top_p",
    "top_k",
}
_BLOCKS = {
    "text": types.TextBlockParam,
    "image": types.ImageBlockParam,
    "document": types.DocumentBlockParam,
    "thinking": types.ThinkingBlockParam,
    "redacted_thinking": types.RedactedThinkingBlockParam,
    "tool_use": types.ToolUseBlockParam,
    "tool_result": types.ToolResultBlockParam,
    "server_tool_use": types.ServerToolUseBlockParam,
    "web_search_tool_result": types.WebSearchToolResultBlockParam,
}
_AS_THE_SERVER = pydantic.TypeAdapter(types.message_create_params.MessageCreateParamsNonStreaming)


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def call(name: str = "look", arguments: str = "{}", id: str = "call_1") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def tool(name: str = "look", **more: Any) -> dict[str, Any]:
    function = {"name": name, "parameters": {"type": "object", "properties": {}}, **more}
    return {"type": "function", "function": function}


def translate(
    *messages: dict[str, Any], model: str = MODEL, adapter: Anthropic = CLAUDE, **more: Any
) -> tuple[Any, Translation]:
    document = {"model": "x", "messages": list(messages) or [user("hi")], **more}
    translation = adapter.translate("chat", document, Deployment(provider="anthropic", model=model))
    assert isinstance(translation.request.body, bytes)
    return json.loads(translation.request.body), translation


def body_of(*messages: dict[str, Any], **more: Any) -> Any:
    body, translation = translate(*messages, **more)
    assert () == translation.losses
    # As the server would: no field that the API lacks, each of the right type.
    _AS_THE_SERVER.validate_python(body)
    assert set(body) <= _FIELDS
    for message in body["messages"]:
        for block in message["content"] if isinstance(message["content"], list) else ():
            assert set(block) <= set(_BLOCKS[block["type"]].__annotations__)
    for one in body.get("tools", ()):
        if "type" not in one:
            assert set(one) <= set(types.ToolParam.__annotations__)
    return body


def lost(*messages: dict[str, Any], **more: Any) -> tuple[str, ...]:
    strict = Anthropic(api_key=KEY, strict=True)
    losses = translate(*messages, **more)[1].losses
    with pytest.raises(InvalidRequestError) as caught:
        translate(*messages, adapter=strict, **more)
    assert "unsupported_field" == caught.value.code
    return losses


def refusal(*messages: dict[str, Any], **more: Any) -> str | None:
    with pytest.raises(InvalidRequestError) as caught:
        translate(*messages, **more)
    assert 400 == caught.value.status
    return caught.value.param


def test_a_call_goes_to_the_messages_endpoint_with_the_key_in_a_header() -> None:
    """The URL names no model and no key."""
    _, translation = translate()
    assert "https://api.anthropic.com/v1/messages" == translation.request.url
    headers = dict(translation.request.headers)
    assert (KEY.encode(), b"2023-06-01") == (headers[b"x-api-key"], headers[b"anthropic-version"])


def test_case_01_02_instructions_become_the_system_text_in_order() -> None:
    """Both roles, several of them; one alone is a plain string."""
    assert "Be brief." == body_of({"role": "system", "content": "Be brief."}, user("hi"))["system"]
    several = body_of(
        {"role": "system", "content": "a"}, {"role": "developer", "content": "b"}, user("hi")
    )
    assert ["a", "b"] == [block["text"] for block in several["system"]]


def test_case_03_instructions_amid_a_chat_are_moved_ahead_and_reported() -> None:
    """Nothing of them is lost but their place."""
    messages = (user("hi"), {"role": "system", "content": "late"}, user("again"))
    body, _ = translate(*messages)
    assert "late" == body["system"]
    assert ("messages.role",) == lost(*messages)


def test_case_04_blank_text_is_dropped_and_never_replaced() -> None:
    """A blank part goes, and a message of nothing else goes with it."""
    body = body_of(
        user([{"type": "text", "text": " \n"}, {"type": "text", "text": "hi"}]),
        {"role": "assistant", "content": ""},
        user("again"),
    )
    assert [{"role": "user", "content": [text_of("hi"), text_of("again")]}] == body["messages"]


def test_case_04_87_the_marker_of_a_blank_text_moves_to_what_stands_before_it() -> None:
    """Where nothing does, or it has one, the marker is reported."""
    marker = {"type": "ephemeral"}
    marked = {**text_of("\n"), "cache_control": marker}
    body = body_of(user([text_of("long"), marked, text_of("hi")]))
    kept = [{**text_of("long"), "cache_control": marker}, text_of("hi")]
    assert kept == body["messages"][0]["content"]
    assert ("messages.content.cache_control",) == lost(user([marked, text_of("hi")]))
    assert ("messages.content.cache_control",) == lost(user([text_of("long"), marked, marked]))


def text_of(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def test_case_05_calls_without_text_are_calls_alone() -> None:
    """Whether the content is empty, null or left out."""
    for said in ({"content": ""}, {"content": None}, {}):
        body = body_of(
            user("hi"),
            {"role": "assistant", "tool_calls": [call()], **said},
            {"role": "tool", "tool_call_id": "call_1", "content": "ok"},
            tools=[tool()],
        )
        assert ["tool_use"] == [block["type"] for block in body["messages"][1]["content"]]


def test_case_06_turns_of_one_side_are_merged() -> None:
    """Claude's sides alternate."""
    body = body_of(user("a"), user("b"), {"role": "assistant", "content": "c"}, user("d"))
    assert ["user", "assistant", "user"] == [one["role"] for one in body["messages"]]


def test_case_07_a_chat_that_the_assistant_begins_is_refused() -> None:
    """Nothing is put before it."""
    assert "messages[0].role" == refusal({"role": "assistant", "content": "hi"}, user("a"))
    assert "messages" == refusal({"role": "system", "content": "alone"})


def test_case_08_a_prefill_stays() -> None:
    """The last turn of the assistant goes as it came."""
    body = body_of(user("hi"), {"role": "assistant", "content": "The best answer is ("})
    assert {"role": "assistant", "content": "The best answer is ("} == body["messages"][-1]


def test_case_09_names_are_reported() -> None:
    """Claude has no place for them."""
    assert ("messages.name",) == lost(user("hi", name="ann"))


def test_case_10_text_goes_in_the_simplest_form() -> None:
    """A string, also where the client wrote a list of one part."""
    for content in ("hi", [{"type": "text", "text": "hi"}]):
        assert "hi" == body_of(user(content))["messages"][0]["content"]


def test_case_11_12_images_go_as_base64_or_as_a_url() -> None:
    """With the media type of the data URL."""
    parts = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]
    blocks = body_of(user(parts))["messages"][0]["content"]
    assert {"type": "base64", "media_type": "image/png", "data": PNG} == blocks[0]["source"]
    assert {"type": "url", "url": "https://example.com/a.png"} == blocks[1]["source"]


def test_case_11_an_image_that_claude_does_not_read_is_refused() -> None:
    """The part is named."""
    part = {"type": "image_url", "image_url": {"url": f"data:image/tiff;base64,{PNG}"}}
    assert "messages[0].content[1]" == refusal(user([text_of("a"), part]))


def test_case_13_the_detail_of_an_image_is_reported() -> None:
    """Unless it is the default."""
    url = f"data:image/png;base64,{PNG}"
    part = {"type": "image_url", "image_url": {"url": url, "detail": "high"}}
    assert ("messages.content.image_url.detail",) == lost(user([part]))


def test_case_14_31_tool_results_keep_images_and_errors() -> None:
    """Claude has blocks for both."""
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    result = {
        "role": "tool",
        "tool_call_id": "call_1",
        "content": [text_of("seen"), image],
        "is_error": True,
    }
    body = body_of(user("hi"), {"role": "assistant", "tool_calls": [call()]}, result)
    (block,) = body["messages"][2]["content"]
    assert ["text", "image"] == [inner["type"] for inner in block["content"]]
    assert block["is_error"]


@pytest.mark.parametrize("data", ["?", "é", "/w=="])
def test_case_15_a_text_that_is_no_base64_of_utf_8_is_refused(data: str) -> None:
    """By its part."""
    part = {"type": "file", "file": {"file_data": f"data:text/plain;base64,{data}"}}
    with pytest.raises(InvalidRequestError) as caught:
        body_of(user([part]))
    assert "messages[0].content[0]" == caught.value.param


def test_case_15_documents_go_as_documents() -> None:
    """PDF in base64 or by URL, and plain text as text."""
    parts = [
        {
            "type": "file",
            "file": {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"},
        },
        {"type": "file_url", "file_url": {"url": "https://example.com/b.pdf"}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,aGV5"}},
    ]
    blocks = body_of(user(parts))["messages"][0]["content"]
    assert ["base64", "url", "text"] == [block["source"]["type"] for block in blocks]
    assert ("a.pdf", "hey") == (blocks[0]["title"], blocks[2]["source"]["data"])


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "aaaa", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}},
    ],
)
def test_case_17_19_what_claude_cannot_take_is_refused_by_its_place(part: Any) -> None:
    """Audio, films, and the ids of files that lie elsewhere."""
    assert "messages[0].content[0]" == refusal(user([part]))


def test_case_18_an_answer_in_sound_is_reported() -> None:
    """Modalities and the voice."""
    audio = {"format": "wav", "voice": "alloy"}
    assert ("modalities", "audio") == lost(modalities=["text", "audio"], audio=audio)


def test_case_20_22_tools_have_a_schema_of_an_object() -> None:
    """Also where the client gave none; ``strict`` stays."""
    bare = {"type": "function", "function": {"name": "now"}}
    tools = body_of(tools=[bare, tool("look", description="d", strict=True)])["tools"]
    assert {"name": "now", "input_schema": {"type": "object", "properties": {}}} == tools[0]
    assert ("d", True) == (tools[1]["description"], tools[1]["strict"])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("auto", {"type": "auto"}),
        ("required", {"type": "any"}),
        ("none", {"type": "none"}),
        ({"type": "function", "function": {"name": "look"}}, {"type": "tool", "name": "look"}),
    ],
)
def test_case_23_tool_choice(given: Any, expected: Any) -> None:
    """Each mode has its word."""
    assert expected == body_of(tools=[tool()], tool_choice=given)["tool_choice"]


def test_case_24_calls_one_at_a_time_is_part_of_the_choice() -> None:
    """One is set where the client gave none."""
    body = body_of(tools=[tool()], parallel_tool_calls=False)
    assert {"type": "auto", "disable_parallel_tool_use": True} == body["tool_choice"]


def test_case_25_37_96_arguments_are_passed_as_they_were_written() -> None:
    """Big integers, escapes and the order of keys survive; nothing at all is an empty object."""
    written = '{"b":123456789012345678901234567890,"a":"\\u00e9\\ud83d\\ude00"}'
    messages = (
        user("hi"),
        {"role": "assistant", "tool_calls": [call(arguments=written), call(arguments="", id="b")]},
        {"role": "tool", "tool_call_id": "call_1", "content": "ok"},
        {"role": "tool", "tool_call_id": "b", "content": "ok"},
    )
    _, translation = translate(*messages)
    assert isinstance(translation.request.body, bytes)
    assert b'"input":' + written.encode() in translation.request.body
    assert b'"input":{}' in translation.request.body


@pytest.mark.parametrize("arguments", ["[1]", "{", '"a"', "nil"])
def test_case_25_arguments_that_are_no_object_are_refused(arguments: str) -> None:
    """The call is named, not dropped."""
    path = "messages[1].tool_calls[0].function.arguments"
    said = {"role": "assistant", "tool_calls": [call(arguments=arguments)]}
    assert path == refusal(user("hi"), said)


def test_case_26_27_ids_and_names_that_claude_does_not_take_are_mapped() -> None:
    """Both sides of a call get the same id, and tools keep apart what is alike."""
    long = "files." + "x" * 150
    body = body_of(
        user("hi"),
        {"role": "assistant", "tool_calls": [call(long, id="functions.x:0")]},
        {"role": "tool", "tool_call_id": "functions.x:0", "content": "ok"},
        tools=[tool(long), tool(long + "y")],
    )
    used, result = body["messages"][1]["content"][0], body["messages"][2]["content"][0]
    assert used["id"] == result["tool_use_id"]
    names = [one["name"] for one in body["tools"]]
    assert used["name"] == names[0] != names[1]
    assert all(len(name) <= 128 and name.replace("_", "").isalnum() for name in names)


def test_case_28_results_stand_in_one_turn_right_after_their_calls() -> None:
    """What the user says beside them comes after."""
    body = body_of(
        user("hi"),
        {"role": "assistant", "tool_calls": [call(id="a"), call(id="b")]},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        user("go on"),
    )
    kinds = [block["type"] for block in body["messages"][2]["content"]]
    assert ["tool_result", "tool_result", "text"] == kinds


def test_case_29_a_call_without_a_result_is_refused() -> None:
    """The call is named."""
    said = {"role": "assistant", "tool_calls": [call()]}
    assert "messages[1].tool_calls[0]" == refusal(user("hi"), said, user("well?"))
    stray = {"role": "tool", "tool_call_id": "call_9", "content": "x"}
    assert "messages[1].tool_call_id" == refusal(user("hi"), stray)


def test_case_32_functions_of_the_old_form_become_tools() -> None:
    """With their choice, calls and results."""
    body = body_of(
        user("hi"),
        {"role": "assistant", "function_call": {"name": "look", "arguments": "{}"}},
        {"role": "function", "name": "look", "content": "ok"},
        functions=[{"name": "look"}],
        function_call={"name": "look"},
    )
    assert ("look", "tool") == (body["tools"][0]["name"], body["tool_choice"]["type"])
    used, result = body["messages"][1]["content"][0], body["messages"][2]["content"][0]
    assert used["id"] == result["tool_use_id"]


def test_case_33_tools_of_the_providers_own_pass_in_the_family_only() -> None:
    """Claude's by their dated types; another's is refused."""
    search = {"type": "web_search_20250305", "name": "web_search"}
    assert [search] == body_of(tools=[search])["tools"]
    assert "tools[0].type" == refusal(tools=[{"type": "file_search"}])


def test_case_33_41_blocks_of_the_providers_own_go_back_to_it() -> None:
    """A paused turn goes on: thoughts, then the blocks, then the text."""
    blocks = [
        {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": []},
    ]
    said = {
        "role": "assistant",
        "content": "found",
        "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s"}],
        "provider_blocks": blocks,
    }
    content = body_of(user("hi"), said)["messages"][1]["content"]
    assert blocks == content[1:3]
    assert ["thinking", "text"] == [content[0]["type"], content[3]["type"]]
    elsewhere = ChatRequest({"messages": [user("hi"), said]}, Losses("other", strict=False))
    assert ("messages.provider_blocks",) == elsewhere.losses.names


@pytest.mark.parametrize("field", ["provider_blocks", "thinking_blocks"])
@pytest.mark.parametrize("value", ["x", 5, {"a": 1}, ["x"], [{"type": 5}]])
def test_blocks_that_no_answer_had_are_refused(field: str, value: Any) -> None:
    """By their place, and not by a crash."""
    param = refusal(user("hi"), {"role": "assistant", "content": "a", field: value})
    assert param is not None
    assert param.startswith(f"messages[1].{field}")


def test_case_33_a_functions_fields_that_only_claude_has_pass() -> None:
    """They stand beside it; a custom tool, which is OpenAI's alone, is refused."""
    own = {
        "allowed_callers": ["code_execution_20250825"],
        "defer_loading": True,
        "eager_input_streaming": True,
        "input_examples": [{"place": "Rome"}],
    }
    function = {"name": "look", "parameters": {"type": "object"}}
    body = body_of(tools=[{"type": "function", "function": function, **own}])
    assert [{"name": "look", "input_schema": {"type": "object"}, **own}] == body["tools"]
    assert "tools[0].type" == refusal(tools=[{"type": "custom", "custom": {"name": "look"}}])


def test_case_47_blank_stop_sequences_are_left_out() -> None:
    """The others go."""
    assert ["END"] == body_of(stop="END")["stop_sequences"]
    body, _ = translate(stop=["\n", "END"])
    assert ["END"] == body["stop_sequences"]
    assert ("stop",) == lost(stop=["\n", "END"])


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("claude-opus-9", ({"type": "adaptive"}, {"effort": "high"}, 100)),
        ("claude-opus-4-8", ({"type": "adaptive"}, {"effort": "high"}, 100)),
        (
            "claude-sonnet-4-5-20250929",
            ({"type": "enabled", "budget_tokens": 24_576}, None, 24_676),
        ),
    ],
)
def test_case_58_effort_is_told_in_the_models_own_way(model: str, expected: Any) -> None:
    """A model that nobody knows is taken for a new one; a budget raises what it would exceed."""
    body, _ = translate(model=model, reasoning_effort="high", max_tokens=100)
    assert expected == (body["thinking"], body.get("output_config"), body["max_tokens"])


def test_case_58_thinking_in_claudes_own_words_wins() -> None:
    """It is passed as it is."""
    own = {"type": "enabled", "budget_tokens": 2048}
    assert own == body_of(thinking=own, max_tokens=4096)["thinking"]
    assert ("reasoning_effort",) == lost(thinking=own, reasoning_effort="low")


def test_case_59_what_does_not_go_with_thinking_is_reported() -> None:
    """Temperature, top_k, and with a budget a forced call."""
    options: dict[str, Any] = {
        "model": SAMPLED,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "temperature": 0.2,
        "top_k": 5,
        "tools": [tool()],
        "tool_choice": "required",
    }
    body, translation = translate(**options)
    assert {"type": "auto"} == body["tool_choice"]
    assert not {"temperature", "top_k"} & body.keys()
    assert {"temperature", "top_k", "tool_choice"} == set(translation.losses)
    body, translation = translate(**{**options, "thinking": {"type": "adaptive"}})
    assert {"type": "any"} == body["tool_choice"]
    assert {"temperature", "top_k"} == set(translation.losses)


def test_case_60_61_signed_thoughts_go_back_byte_for_byte() -> None:
    """First in their turn, with the redacted ones in their place."""
    blocks = [
        {"type": "thinking", "thinking": "hm \u00e9", "signature": "EqQBCgIYAh=="},
        {"type": "redacted_thinking", "data": "EmwKAhgB"},
    ]
    said = {"role": "assistant", "content": "well", "thinking_blocks": blocks}
    body = body_of(user("hi"), said, user("go on"))
    assert [*blocks, text_of("well")] == body["messages"][1]["content"]


def test_case_64_thoughts_of_others_are_reported_and_left_out() -> None:
    """Without a signature of Claude's they would be refused."""
    said = {"role": "assistant", "content": "well", "reasoning_content": "hm"}
    body, _ = translate(user("hi"), said, user("go on"))
    assert [text_of("well")] == body["messages"][1]["content"]
    assert ("messages.reasoning_content",) == lost(user("hi"), said, user("go on"))


@pytest.mark.parametrize(
    "block",
    [
        {"type": "thinking", "thinking": "hm", "signature": "google:AbC="},
        {"type": "redacted_thinking", "data": "google:AbC="},
    ],
)
def test_case_64_thoughts_with_the_mark_of_others_are_reported(block: dict[str, Any]) -> None:
    """Claude's signatures are base64, which has no colon."""
    said = {"role": "assistant", "content": "well", "thinking_blocks": [block]}
    body, _ = translate(user("hi"), said, user("go on"))
    assert [text_of("well")] == body["messages"][1]["content"]
    assert ("messages.thinking_blocks",) == lost(user("hi"), said, user("go on"))


def test_case_64_signed_thoughts_that_name_a_provider_are_reported() -> None:
    """Claude's name none."""
    block = {"type": "thinking", "thinking": "hm", "signature": "AbC=", "provider": "mistral"}
    said = {"role": "assistant", "content": "well", "thinking_blocks": [block]}
    body, _ = translate(user("hi"), said, user("go on"))
    assert "well" == body["messages"][1]["content"]
    assert ("messages.thinking_blocks",) == lost(user("hi"), said, user("go on"))


def test_case_64_blocks_of_others_are_reported_and_leave_no_gap() -> None:
    """What stood around a turn of nothing else is merged."""
    block = {"type": "executableCode", "executableCode": {"code": "1"}}
    said = {"role": "assistant", "content": None, "provider_blocks": [block]}
    body, _ = translate(user("hi"), said, user("go on"))
    assert [{"role": "user", "content": [text_of("hi"), text_of("go on")]}] == body["messages"]
    assert ("messages.provider_blocks",) == lost(user("hi"), said, user("go on"))


def test_case_33_who_called_goes_back_with_the_call() -> None:
    """Claude's own code, which waits for the result; what others have there is reported."""
    caller = {"type": "code_execution_20250825", "tool_id": "srvtoolu_1"}

    def conversation(extra: Any) -> tuple[dict[str, Any], ...]:
        called = {"role": "assistant", "tool_calls": [{**call(), "extra_content": extra}]}
        return user("hi"), called, {"role": "tool", "tool_call_id": "call_1", "content": "ok"}

    body = body_of(*conversation({"anthropic": {"caller": caller}}))
    assert caller == body["messages"][1]["content"][0]["caller"]
    others: list[Any] = [{"google": {}}, {"anthropic": {}}, {"anthropic": {"caller": "x"}}]
    for extra in others:
        body, _ = translate(*conversation(extra))
        assert "caller" not in body["messages"][1]["content"][0]
        assert ("messages.tool_calls.extra_content",) == lost(*conversation(extra))
    both = {"anthropic": {"caller": caller}, "google": {"thought_signature": "x"}}
    assert ("messages.tool_calls.extra_content",) == lost(*conversation(both))


def test_case_66_a_cap_on_the_answer_is_always_sent() -> None:
    """The client's under either name, else the option's, else one that suits the model."""
    assert 7 == body_of(max_tokens=7)["max_tokens"]
    assert 8 == body_of(max_tokens=7, max_completion_tokens=8)["max_tokens"]
    assert 32_000 == body_of()["max_tokens"]
    assert 4096 == body_of(model="claude-3-haiku-20240307")["max_tokens"]
    adapter = Anthropic(api_key=KEY, default_max_tokens=99)
    assert 99 == body_of(adapter=adapter)["max_tokens"]


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "A", "schema": SCHEMA}}


def test_case_67_a_schema_is_told_natively() -> None:
    """Also to a model that nobody knows."""
    config = body_of(response_format=FORMAT)["output_config"]
    closed = {**SCHEMA, "additionalProperties": False}
    assert {"format": {"type": "json_schema", "schema": closed}} == config


def test_case_67_json_without_a_schema_is_asked_for_in_words() -> None:
    """Which is no promise, and so is reported."""
    body, _ = translate(response_format={"type": "json_object"})
    assert "JSON" in body["system"]
    assert ("response_format.type",) == lost(response_format={"type": "json_object"})


@pytest.mark.parametrize("tools", [[], [tool()]])
def test_case_68_older_models_are_made_to_call_a_tool(tools: list[Any]) -> None:
    """The caller's own tools stay callable."""
    body = body_of(model="claude-3-7-sonnet-20250219", tools=tools, response_format=FORMAT)
    assert SCHEMA == body["tools"][-1]["input_schema"]
    forced = {"type": "any"} if tools else {"type": "tool", "name": "json_response"}
    assert forced == body["tool_choice"]


def test_case_69_several_choices_are_several_calls() -> None:
    """Claude gives one at a time."""
    _, translation = translate(n=3)
    assert (translation.request,) * 2 == translation.more
    assert () == translation.losses


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 1),
        ("logprobs", True),
        ("frequency_penalty", 0.5),
        ("presence_penalty", 0.5),
        ("logit_bias", {"1": 1}),
        ("store", True),
        ("metadata", {"a": "b"}),
        ("prediction", {"type": "content", "content": "x"}),
        ("service_tier", "flex"),
        ("some_new_field", 1),
    ],
)
def test_case_70_71_73_74_95_what_claude_cannot_be_told_is_reported(name: str, value: Any) -> None:
    """By its name."""
    assert (name,) == lost(**{name: value})


def test_case_72_a_temperature_above_1_is_cut_and_reported() -> None:
    """OpenAI's go to 2."""
    body, _ = translate(model=SAMPLED, temperature=1.7)
    assert 1 == body["temperature"]
    assert ("temperature",) == lost(model=SAMPLED, temperature=1.7)
    assert ("top_p",) == lost(model=SAMPLED, temperature=0.5, top_p=0.9)
    both = body_of(model="claude-3-5-haiku-20241022", temperature=0.5, top_p=0.9)
    assert (0.5, 0.9) == (both["temperature"], both["top_p"])


def test_case_72_models_that_are_not_sampled_so_are_told_nothing_of_it() -> None:
    """They refuse any value but the default; models that nobody knows are told it."""
    newest = "claude-opus-4-8"
    body, _ = translate(model=newest, temperature=0.7, top_p=0.9, top_k=5)
    assert not {"temperature", "top_p", "top_k"} & body.keys()
    named = ("temperature", "top_p", "top_k")
    assert named == lost(model=newest, temperature=0.7, top_p=0.9, top_k=5)
    assert "temperature" not in body_of(model=newest, temperature=1, top_p=1)
    for unknown in ("glm-5", "claude-opus-9"):
        assert 0.7 == body_of(model=unknown, temperature=0.7)["temperature"]


def test_case_74_a_user_is_told_by_a_digest() -> None:
    """Never by name; Claude's own field goes as it is."""
    told = body_of(user=None, safety_identifier="ann@example.com")["metadata"]["user_id"]
    assert 64 == len(told)
    assert "ann" not in told
    assert {"user_id": "u1"} == body_of(metadata={"user_id": "u1"})["metadata"]
    assert ("user",) == lost(metadata={"user_id": "u1"}, user="ann")
    body, translation = translate(metadata={"user_id": "u1", "team": "a"})
    assert ({"user_id": "u1"}, ("metadata",)) == (body["metadata"], translation.losses)


def test_case_87_cache_markers_stay_where_they_are() -> None:
    """On instructions, parts, tools and results."""
    marker = {"type": "ephemeral", "ttl": "1h"}
    body = body_of(
        {"role": "system", "content": [{**text_of("s"), "cache_control": marker}]},
        user([{**text_of("u"), "cache_control": marker}]),
        {"role": "assistant", "tool_calls": [call()]},
        {"role": "tool", "tool_call_id": "call_1", "content": "ok", "cache_control": marker},
        tools=[{**tool(), "cache_control": marker}],
    )
    marked = (
        body["system"][0],
        body["messages"][0]["content"][0],
        body["messages"][2]["content"][0],
        body["tools"][0],
    )
    assert [marker] * 4 == [block["cache_control"] for block in marked]


def test_case_87_a_marker_on_the_text_of_a_result_stays_on_it() -> None:
    """The text is then a block."""
    marker = {"type": "ephemeral"}
    said = [{**text_of("ok"), "cache_control": marker}]
    body = body_of(
        user("hi"),
        {"role": "assistant", "tool_calls": [call()]},
        {"role": "tool", "tool_call_id": "call_1", "content": said},
    )
    assert said == body["messages"][2]["content"][0]["content"]


def test_case_88_betas_come_from_the_configuration_alone() -> None:
    """What a client sends under that name is not passed on."""
    adapter = Anthropic(api_key=KEY, betas=["a-2025-01-01", "b-2025-01-01"])
    _, translation = translate(adapter=adapter)
    assert b"a-2025-01-01,b-2025-01-01" == dict(translation.request.headers)[b"anthropic-beta"]
    assert ("betas",) == lost(betas=["c"])


def test_the_models_call_asks_for_all_at_once() -> None:
    """And its answer is read with its times."""
    assert "limit=1000" in CLAUDE.build_models_request().url
    (card,) = CLAUDE.parse_models(
        b'{"data":[{"id":"claude-x","created_at":"2025-02-19T00:00:00Z","type":"model"}]}'
    )
    assert ("claude-x", 1739923200, "anthropic") == (card.id, card.created, card.owned_by)


@pytest.mark.parametrize(
    ("option", "value"),
    [("default_max_tokens", 0), ("structured_output", "maybe"), ("api_key", "")],
)
def test_a_bad_option_is_named(option: str, value: Any) -> None:
    """At construction."""
    with pytest.raises(ConfigurationError) as caught:
        Anthropic(**{"api_key": KEY, option: value})
    assert option == caught.value.param
