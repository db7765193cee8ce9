"""Chats in Converse's words, checked against the service model that AWS gives to its own SDK."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError, InvalidRequestError, LLMError
from asgi_llm.providers.base import Translation
from asgi_llm.providers.bedrock import Bedrock

Sent = Callable[..., dict[str, Any]]
Translate = Callable[..., Translation]

OLD, MIDDLE, NEW = (
    "us.anthropic.claude-3-5-sonnet-20241022-v2:0",
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "global.anthropic.claude-opus-4-6-v1",
)
NOVA = "us.amazon.nova-2-lite-v1:0"
PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
MARK = {"cache_control": {"type": "ephemeral"}}
POINT = {"cachePoint": {"type": "default"}}


def tool(name: str = "look", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


def calling(*ids: str, name: str = "look", arguments: str = "{}", **more: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    calls = [{"id": one, "type": "function", "function": function} for one in ids]
    return {"role": "assistant", "tool_calls": calls, **more}


def result(of: str, content: Any = "ok", **more: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": of, "content": content, **more}


def user(content: Any = "hi") -> dict[str, Any]:
    return {"role": "user", "content": content}


def file(name: str | None, kind: str = "application/pdf", data: str = "JVBERi0=") -> dict[str, Any]:
    given = {"file_data": f"data:{kind};base64,{data}"}
    return {"type": "file", "file": given if name is None else {**given, "filename": name}}


# Conversation


def test_case_01_02_instructions_have_their_place(sent: Sent, translate: Translate) -> None:
    """Of either role, in order."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        user(),
    ]
    assert [{"text": "Be brief."}, {"text": "Be kind."}] == sent({"messages": messages})["system"]
    assert () == translate({"messages": messages}).losses


def test_case_03_instructions_amid_the_chat_are_moved_ahead(
    sent: Sent, translate: Translate
) -> None:
    """Which is reported, or refused."""
    messages = [user(), {"role": "system", "content": "Be brief."}, user("go")]
    body = sent({"messages": messages})
    assert [{"text": "Be brief."}] == body["system"]
    assert [{"role": "user", "content": [{"text": "hi"}, {"text": "go"}]}] == body["messages"]
    assert ("messages.role",) == translate({"messages": messages}).losses
    with pytest.raises(InvalidRequestError) as caught:
        translate({"messages": messages}, strict=True)
    assert "messages[1].role" == caught.value.param


def test_case_04_05_what_is_blank_is_not_sent(sent: Sent) -> None:
    """A turn of nothing else goes with it."""
    messages = [
        user(),
        {"role": "assistant", "content": " "},
        user([{"type": "text", "text": "\n"}]),
        calling("c1", content=""),
        result("c1"),
    ]
    assert [["text"], ["toolUse"], ["toolResult"]] == [
        [key for block in message["content"] for key in block]
        for message in sent({"messages": messages, "tools": [tool()]})["messages"]
    ]


@pytest.mark.parametrize("content", [" ", [{"type": "text", "text": ""}]])
def test_case_04_a_chat_of_nothing_is_refused(translate: Translate, content: Any) -> None:
    """Bedrock takes none without messages."""
    with pytest.raises(InvalidRequestError) as caught:
        translate({"messages": [user(content)]})
    assert "messages" == caught.value.param


def test_case_06_turns_of_one_side_are_merged(sent: Sent, translate: Translate) -> None:
    """Also around one that has no words here."""
    assert [{"role": "user", "content": [{"text": "a"}, {"text": "b"}]}] == sent(
        {"messages": [user("a"), user("b")]}
    )["messages"]
    thought = {"role": "assistant", "content": None, "reasoning_content": "hm"}
    document = {"messages": [user("a"), thought, user("b")]}
    assert [{"role": "user", "content": [{"text": "a"}, {"text": "b"}]}] == sent(document)[
        "messages"
    ]
    assert ("messages.reasoning_content",) == translate(document).losses


def test_case_07_and_08_first_and_last_turns(sent: Sent, translate: Translate) -> None:
    """The user has to begin; the assistant may end."""
    with pytest.raises(InvalidRequestError) as caught:
        translate({"messages": [{"role": "assistant", "content": "Hello"}, user()]})
    assert "messages[0].role" == caught.value.param
    messages = [user(), {"role": "assistant", "content": "{"}]
    assert {"role": "assistant", "content": [{"text": "{"}]} == sent({"messages": messages})[
        "messages"
    ][-1]


def test_case_09_names_of_speakers_are_lost(translate: Translate) -> None:
    """And reported."""
    document = {"messages": [{**user(), "name": "ann"}]}
    assert ("messages.name",) == translate(document).losses


# Media


@pytest.mark.parametrize(
    ("media_type", "word"),
    [("png", "png"), ("jpeg", "jpeg"), ("jpg", "jpeg"), ("gif", "gif"), ("webp", "webp")],
)
def test_case_11_images_are_bytes_with_a_word(sent: Sent, media_type: str, word: str) -> None:
    """The client's own base64."""
    part = {"type": "image_url", "image_url": {"url": f"data:image/{media_type};base64,aGk="}}
    assert [{"image": {"format": word, "source": {"bytes": "aGk="}}}] == sent(
        {"messages": [user([part])]}
    )["messages"][0]["content"]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/tiff;base64,aGk="}},
        {"type": "file_url", "file_url": {"url": "https://example.com/a.pdf"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {"file_data": "data:application/zip;base64,aGk="}},
        {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}},
    ],
)
def test_case_12_15_19_what_cannot_be_fetched_or_read_is_refused(
    translate: Translate, part: dict[str, Any]
) -> None:
    """With the path of the part."""
    with pytest.raises(InvalidRequestError) as caught:
        translate({"messages": [user([part])]})
    assert "messages[0].content[0]" == caught.value.param
    assert not Bedrock.fetches_urls


def test_case_12_addresses_in_s3_are_bedrocks_own(sent: Sent) -> None:
    """It reads them with the account's rights."""
    parts = [
        {"type": "image_url", "image_url": {"url": "s3://bucket/a.jpg"}},
        {"type": "video_url", "video_url": {"url": "s3://bucket/a.mov"}},
    ]
    assert [
        {"image": {"format": "jpeg", "source": {"s3Location": {"uri": "s3://bucket/a.jpg"}}}},
        {"video": {"format": "mov", "source": {"s3Location": {"uri": "s3://bucket/a.mov"}}}},
    ] == sent({"messages": [user(parts)]})["messages"][0]["content"]


def test_case_13_detail_of_an_image_is_lost(translate: Translate) -> None:
    """And reported; ``auto`` asks for nothing."""
    for detail, losses in (("low", ("messages.content.image_url.detail",)), ("auto", ())):
        part = {"type": "image_url", "image_url": {**PNG["image_url"], "detail": detail}}  # type: ignore[dict-item]
        assert losses == translate({"messages": [user([part])]}).losses


def test_case_14_images_in_results_stay_there(sent: Sent, translate: Translate) -> None:
    """With documents and text, in order."""
    content = [{"type": "text", "text": "two"}, PNG, file("a.pdf")]
    document = {"messages": [user(), calling("c1"), result("c1", content)], "tools": [tool()]}
    (block,) = sent(document)["messages"][2]["content"]
    assert ["text", "image", "document"] == [
        next(iter(one)) for one in block["toolResult"]["content"]
    ]
    assert () == translate(document).losses


@pytest.mark.parametrize(
    ("name", "kind", "format_"),
    [
        ("a.pdf", "application/pdf", "pdf"),
        (None, "application/pdf", "pdf"),
        (None, "application/octet-stream", "pdf"),
        ("a.csv", "text/csv", "csv"),
        ("a.md", "text/plain", "md"),
        ("a.HTM", "text/plain", "html"),
        ("a.log", "text/x-log", "txt"),
        (
            "a.docx",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "docx",
        ),
        ("a.xls", "application/octet-stream", "xls"),
    ],
)
def test_case_15_documents_have_a_word_for_their_format(
    sent: Sent, name: str | None, kind: str, format_: str
) -> None:
    """By the media type, the ending, or how the data begins."""
    (block,) = sent({"messages": [user([file(name, kind)])]})["messages"][0]["content"]
    assert format_ == block["document"]["format"]


def test_case_15_names_of_documents_are_plain_and_differ(sent: Sent, translate: Translate) -> None:
    """The ending is told elsewhere; other changes are reported."""
    names = ["a.pdf", "a.md", "John's  report_1.pdf", "分.pdf", None, "b" * 300 + ".pdf"]
    body = sent({"messages": [user([file(name) for name in names])]})
    found = [block["document"]["name"] for block in body["messages"][0]["content"]]
    assert ["a", "a 2", "John s report 1", "document", "document 2", "b" * 190] == found
    assert () == translate({"messages": [user([file("a.pdf"), file("a.pdf")])]}).losses
    assert ("messages.content.file.filename",) == translate(
        {"messages": [user([file("a_b.pdf")])]}
    ).losses


def test_case_16_a_blank_text_with_a_marker_parts_document_and_cache_point(
    sent: Sent, translate: Translate
) -> None:
    """It is sent behind a document alone, where Bedrock takes the point no other way."""
    blank = {"type": "text", "text": "\n", **MARK}
    document = {"messages": [user([file("a.pdf"), blank])]}
    content = sent(document)["messages"][0]["content"]
    assert ["document", "text", "cachePoint"] == [next(iter(block)) for block in content]
    assert {"text": "\n"} == content[1]
    assert () == translate(document).losses
    document = {"messages": [user([{"type": "text", "text": "Read."}, blank])]}
    content = sent(document)["messages"][0]["content"]
    assert [{"text": "Read."}, POINT] == content


def test_case_16_a_cache_point_stands_before_a_document(sent: Sent, translate: Translate) -> None:
    """Bedrock refuses it behind one; where nothing stands before, it is lost."""
    text = {"type": "text", "text": "Read."}
    document = {"messages": [user([text, file("a.pdf"), {**file("b.pdf"), **MARK}])]}
    assert ["text", "cachePoint", "document", "document"] == [
        next(iter(block)) for block in sent(document)["messages"][0]["content"]
    ]
    assert ("messages.content.cache_control",) == translate(document).losses
    document = {"messages": [user([{**file("a.pdf"), **MARK}, text])]}
    assert ["document", "text"] == [
        next(iter(block)) for block in sent(document)["messages"][0]["content"]
    ]
    assert ("messages.content.cache_control",) == translate(document).losses


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"data": "UklGRg==", "format": "wav"}, "wav"),
        ({"data": "UklGRg==", "format": "pcm16"}, "pcm"),
        ({"data": "data:audio/mpeg;base64,UklGRg=="}, "mp3"),
    ],
)
def test_case_17_sound_is_sent(sent: Sent, given: dict[str, str], word: str) -> None:
    """In the formats that Bedrock has a word for."""
    part = {"type": "input_audio", "input_audio": given}
    assert [{"audio": {"format": word, "source": {"bytes": "UklGRg=="}}}] == sent(
        {"messages": [user([part])]}
    )["messages"][0]["content"]


def test_case_17_sound_in_a_result_is_refused(translate: Translate) -> None:
    """Bedrock has no place for it there; an image that is called a file is one."""
    sound = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    messages = [user(), calling("c1"), result("c1", [sound])]
    with pytest.raises(InvalidRequestError) as caught:
        translate({"messages": messages})
    assert "messages[2].content[0]" == caught.value.param


def test_case_11_a_file_that_is_an_image_is_one(sent: Sent) -> None:
    """By its media type."""
    assert [{"image": {"format": "png", "source": {"bytes": "aGk="}}}] == sent(
        {"messages": [user([file("a.png", "image/png", "aGk=")])]}
    )["messages"][0]["content"]


def test_case_75_refusals_in_the_history_are_what_was_said(sent: Sent) -> None:
    """Bedrock has no other word for them."""
    said = {"role": "assistant", "content": None, "refusal": "I will not."}
    assert [{"text": "I will not."}] == sent({"messages": [user(), said, user()]})["messages"][1][
        "content"
    ]


def test_case_64_what_others_put_beside_a_call_is_lost(translate: Translate) -> None:
    """And reported."""
    messages = [user(), calling("c1"), result("c1")]
    messages[1]["tool_calls"][0]["extra_content"] = {"google": {"thought_signature": "x"}}
    assert ("messages.tool_calls.extra_content",) == translate({"messages": messages}).losses


def test_case_87_two_markers_before_one_document_are_one_point(sent: Sent) -> None:
    """Bedrock counts them."""
    text = {"type": "text", "text": "Read."}
    parts = [text, {**file("a.pdf"), **MARK}, {**file("b.pdf"), **MARK}]
    assert ["text", "cachePoint", "document", "document"] == [
        next(iter(block)) for block in sent({"messages": [user(parts)]})["messages"][0]["content"]
    ]


def test_films_are_sent(sent: Sent) -> None:
    """As data."""
    part = {"type": "video_url", "video_url": {"url": "data:video/3gpp;base64,aGk="}}
    assert [{"video": {"format": "three_gp", "source": {"bytes": "aGk="}}}] == sent(
        {"messages": [user([part])]}
    )["messages"][0]["content"]


# Tools


def test_case_20_a_tool_has_an_object(sent: Sent) -> None:
    """Whatever its schema lacks."""
    tools = [tool(), tool("go", description="Goes.", parameters={"properties": {}})]
    assert [
        {
            "toolSpec": {
                "name": "look",
                "inputSchema": {"json": {"type": "object", "properties": {}}},
            }
        },
        {
            "toolSpec": {
                "name": "go",
                "description": "Goes.",
                "inputSchema": {"json": {"type": "object", "properties": {}}},
            }
        },
    ] == sent({"tools": tools})["toolConfig"]["tools"]


CLOSED = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


def test_case_22_strict_tools_are_strict_where_the_model_can_be(
    sent: Sent, translate: Translate
) -> None:
    """Else it is reported."""
    tools = {"tools": [tool(strict=True, parameters=CLOSED)]}
    (told,) = sent(tools, model=MIDDLE)["toolConfig"]["tools"]
    assert (True, CLOSED) == (told["toolSpec"]["strict"], told["toolSpec"]["inputSchema"]["json"])
    assert () == translate(tools).losses
    for model in (OLD, NOVA):
        assert ("tools.function.strict",) == translate(tools, model=model).losses
    assert ("tools.function.strict",) == translate(
        {"tools": [tool(strict=True, parameters={"type": "object"})]}
    ).losses


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ("auto", None),
        ("required", {"any": {}}),
        ({"type": "function", "function": {"name": "look"}}, {"tool": {"name": "look"}}),
    ],
)
def test_case_23_choices_of_tools(
    sent: Sent, translate: Translate, choice: Any, told: dict[str, Any] | None
) -> None:
    """``auto`` is what happens unasked, and some models know no other."""
    document = {"tools": [tool()], "tool_choice": choice}
    assert told == sent(document)["toolConfig"].get("toolChoice")
    assert () == translate(document).losses


def test_case_23_no_tools_are_offered_where_none_may_be_called(
    sent: Sent, translate: Translate
) -> None:
    """Unless the history needs them, which is reported."""
    document: dict[str, Any] = {"tools": [tool()], "tool_choice": "none"}
    assert "toolConfig" not in sent(document)
    assert () == translate(document).losses
    document["messages"] = [user(), calling("c1"), result("c1")]
    assert ["look"] == [one["toolSpec"]["name"] for one in sent(document)["toolConfig"]["tools"]]
    assert ("tool_choice",) == translate(document).losses


def test_case_23_only_allowed_tools_are_offered(sent: Sent, translate: Translate) -> None:
    """And a choice without tools is lost."""
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "go"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    config = sent({"tools": [tool(), tool("go")], "tool_choice": choice})["toolConfig"]
    assert (["go"], {"any": {}}) == (
        [one["toolSpec"]["name"] for one in config["tools"]],
        config["toolChoice"],
    )
    assert ("tool_choice",) == translate({"tools": [], "tool_choice": "required"}).losses


def test_case_24_calls_one_by_one_cannot_be_asked_for(translate: Translate) -> None:
    """Which is reported."""
    document = {"tools": [tool()], "parallel_tool_calls": False}
    assert ("parallel_tool_calls",) == translate(document).losses
    assert () == translate({**document, "parallel_tool_calls": True}).losses


@pytest.mark.parametrize("arguments", ["[]", '"a"', "{", "nonsense"])
def test_case_25_arguments_that_are_no_object_are_refused(
    translate: Translate, arguments: str
) -> None:
    """And none are an empty one."""
    messages = [user(), calling("c1", arguments=arguments), result("c1")]
    with pytest.raises(InvalidRequestError) as caught:
        translate({"messages": messages})
    assert "messages[1].tool_calls[0].function.arguments" == caught.value.param


def test_case_25_96_arguments_are_sent_as_they_stand(translate: Translate) -> None:
    """Big integers, the order of keys, and nothing for nothing."""
    arguments = '{"b": 12345678901234567890123, "a": 1.50}'
    messages = [user(), calling("c1", arguments=arguments), result("c1")]
    body = translate({"messages": messages, "tools": [tool()]}).request.body
    assert f'"input":{arguments}'.encode() in bytes(body)  # type: ignore[arg-type]
    messages = [user(), calling("c1", arguments=""), result("c1")]
    body = translate({"messages": messages, "tools": [tool()]}).request.body
    assert b'"input":{}' in bytes(body)  # type: ignore[arg-type]


def test_case_26_ids_of_calls_are_mapped_alike(sent: Sent) -> None:
    """In the call and in its result; those that Bedrock takes stay."""
    odd = "call/" + "ä" * 70
    messages = [user(), calling(odd, "c1"), result(odd), result("c1")]
    body = sent({"messages": messages, "tools": [tool()]})
    called = [block["toolUse"]["toolUseId"] for block in body["messages"][1]["content"]]
    answered = [block["toolResult"]["toolUseId"] for block in body["messages"][2]["content"]]
    assert called == answered
    assert "c1" == called[1]


def test_case_27_names_of_tools_are_mapped_alike(sent: Sent) -> None:
    """In definitions, choices and calls."""
    odd = "my.tool/" + "x" * 80
    choice = {"type": "function", "function": {"name": odd}}
    document = {
        "messages": [user(), calling("c1", name=odd), result("c1")],
        "tools": [tool(odd)],
        "tool_choice": choice,
    }
    body = sent(document)
    (spec,) = body["toolConfig"]["tools"]
    names = {
        spec["toolSpec"]["name"],
        body["toolConfig"]["toolChoice"]["tool"]["name"],
        body["messages"][1]["content"][0]["toolUse"]["name"],
    }
    assert (1, 64) == (len(names), len(names.pop()))


def test_case_28_31_results_stand_together_behind_their_calls(sent: Sent) -> None:
    """In one turn, errors marked, and before what the user says."""
    messages = [
        user(),
        calling("c1", "c2"),
        result("c1", "boom", is_error=True),
        result("c2"),
        user("and?"),
    ]
    content = sent({"messages": messages, "tools": [tool()]})["messages"][2]["content"]
    assert [
        {"toolResult": {"toolUseId": "c1", "content": [{"text": "boom"}], "status": "error"}},
        {"toolResult": {"toolUseId": "c2", "content": [{"text": "ok"}]}},
        {"text": "and?"},
    ] == content


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1}', {"json": {"a": 1}}),
        ("[1]", {"text": "[1]"}),
        ("{not json", {"text": "{not json"}),
        ("7", {"text": "7"}),
    ],
)
def test_a_result_that_is_an_object_is_json(sent: Sent, text: str, expected: Any) -> None:
    """Bedrock takes nothing else under that name."""
    messages = [user(), calling("c1"), result("c1", text)]
    content = sent({"messages": messages, "tools": [tool()]})["messages"][2]["content"]
    assert [expected] == content[0]["toolResult"]["content"]


def test_case_29_a_missing_result_is_refused(translate: Translate) -> None:
    """With the id."""
    with pytest.raises(InvalidRequestError) as caught:
        translate({"messages": [user(), calling("c9"), user()]})
    assert "'c9'" in caught.value.message


def test_case_30_tools_of_the_history_are_declared_again(sent: Sent, translate: Translate) -> None:
    """Bedrock refuses calls without; nothing is lost by it."""
    messages = [user(), calling("c1"), result("c1"), calling("c2", name="a.b"), result("c2")]
    config = sent({"messages": messages})["toolConfig"]
    assert "look" == config["tools"][0]["toolSpec"]["name"]
    assert 2 == len(config["tools"])
    assert "toolChoice" not in config
    assert () == translate({"messages": messages}).losses


def test_case_32_functions_are_tools(sent: Sent) -> None:
    """In the older form."""
    document = {
        "messages": [
            user(),
            {
                "role": "assistant",
                "content": None,
                "function_call": {"name": "look", "arguments": "{}"},
            },
            {"role": "function", "name": "look", "content": "ok"},
        ],
        "functions": [{"name": "look"}],
        "function_call": {"name": "look"},
    }
    config = sent(document)["toolConfig"]
    assert ({"tool": {"name": "look"}}, 1) == (config["toolChoice"], len(config["tools"]))


def test_case_33_tools_of_bedrocks_own_pass_and_others_do_not(
    sent: Sent, translate: Translate
) -> None:
    """And so do the blocks that they left in an answer."""
    own = {"type": "systemTool", "systemTool": {"name": "nova_grounding"}}
    blocks = [
        {
            "type": "toolUse",
            "toolUse": {
                "toolUseId": "s1",
                "name": "nova_grounding",
                "input": {},
                "type": "server_tool_use",
            },
        },
        {"type": "toolResult", "toolResult": {"toolUseId": "s1", "content": [{"text": "x"}]}},
    ]
    said = {"role": "assistant", "content": "Yes.", "provider_blocks": blocks}
    body = sent({"messages": [user(), said, user()], "tools": [own]})
    assert [{"systemTool": {"name": "nova_grounding"}}] == body["toolConfig"]["tools"]
    assert ["toolUse", "toolResult", "text"] == [
        next(iter(block)) for block in body["messages"][1]["content"]
    ]
    with pytest.raises(InvalidRequestError) as caught:
        translate({"tools": [{"type": "web_search_20250305", "name": "web_search"}]})
    assert "tools[0].type" == caught.value.param


# Options


def test_case_47_66_limits_have_bedrocks_names(sent: Sent) -> None:
    """The newer name of the cap counts."""
    document = {
        "max_tokens": 5,
        "max_completion_tokens": 9,
        "stop": ["a", "\n"],
        "temperature": 0.5,
        "top_p": 0.9,
    }
    assert {
        "maxTokens": 9,
        "stopSequences": ["a", "\n"],
        "temperature": 0.5,
        "topP": 0.9,
    } == sent(document)["inferenceConfig"]
    assert "inferenceConfig" not in sent({})


def test_case_47_claude_takes_no_blank_stop_sequences(sent: Sent, translate: Translate) -> None:
    """They are left out and reported."""
    assert ["a"] == sent({"stop": ["a", "\n"]}, model=OLD)["inferenceConfig"]["stopSequences"]
    assert ("stop",) == translate({"stop": ["a", "\n"]}, model=OLD).losses


@pytest.mark.parametrize("model", [OLD, "vendor.m"])
def test_case_72_temperature_is_cut_to_what_is_taken(
    sent: Sent, translate: Translate, model: str
) -> None:
    """And reported."""
    assert 1 == sent({"temperature": 1.7}, model=model)["inferenceConfig"]["temperature"]
    assert ("temperature",) == translate({"temperature": 1.7}, model=model).losses


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (OLD, {"top_k": 9}),
        ("vendor.m", {"top_k": 9}),
        (NOVA, {"inferenceConfig": {"topK": 9}}),
    ],
)
def test_case_73_top_k_is_a_models_own(sent: Sent, model: str, expected: dict[str, Any]) -> None:
    """Under its name there."""
    assert expected == sent({"top_k": 9}, model=model)["additionalModelRequestFields"]


@pytest.mark.parametrize(
    "field",
    [
        {"seed": 7},
        {"logprobs": True},
        {"frequency_penalty": 0.5},
        {"logit_bias": {"1": 2}},
        {"user": "ann"},
        {"metadata": {"a": "b"}},
        {"store": True},
        {"min_p": 0.1},
        {"service_tier": "scale"},
        {"modalities": ["text", "audio"]},
        {"x_new": 1},
    ],
)
def test_case_18_70_71_73_74_95_what_has_no_counterpart_is_reported(
    translate: Translate, field: dict[str, Any]
) -> None:
    """By its name; strict translation refuses it."""
    (name,) = field
    assert (name,) == translate(field).losses
    with pytest.raises(InvalidRequestError) as caught:
        translate(field, strict=True)
    assert name == caught.value.param


def test_case_74_95_fields_of_bedrocks_own_pass(sent: Sent, translate: Translate) -> None:
    """Under either kind of name."""
    guard = {"guardrailIdentifier": "abc", "guardrailVersion": "1", "trace": "enabled"}
    document = {
        "guardrail_config": guard,
        "performanceConfig": {"latency": "optimized"},
        "requestMetadata": {"team": "a"},
        "additional_model_response_field_paths": ["/stop_sequence"],
        "service_tier": "flex",
        "additionalModelRequestFields": {"top_k": 3, "anthropic_beta": ["x-2025-01-01"]},
        "top_k": 9,
    }
    body = sent(document)
    assert (guard, {"latency": "optimized"}, {"team": "a"}, {"type": "flex"}) == (
        body["guardrailConfig"],
        body["performanceConfig"],
        body["requestMetadata"],
        body["serviceTier"],
    )
    assert {"top_k": 3, "anthropic_beta": ["x-2025-01-01"]} == body["additionalModelRequestFields"]
    assert () == translate(document).losses
    stream = {"streamProcessingMode": "async", **guard}
    assert stream == sent({"guardrailConfig": stream, "stream": True})["guardrailConfig"]


def test_case_58_74_fields_of_single_models_own_pass(sent: Sent, translate: Translate) -> None:
    """Whatever the model, and before what follows from OpenAI's."""
    reasoning = {"type": "enabled", "maxReasoningEffort": "medium"}
    document = {
        "reasoningConfig": reasoning,
        "reasoning_effort": "low",
        "serviceTier": {"type": "priority"},
        "service_tier": "flex",
    }
    body = sent(document, model=NOVA)
    assert ({"reasoningConfig": reasoning}, {"type": "priority"}) == (
        body["additionalModelRequestFields"],
        body["serviceTier"],
    )
    thinking = {"type": "enabled", "budget_tokens": 1024}
    document = {"thinking": thinking, "output_config": {"effort": "low"}}
    profile = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"
    assert document == sent(document, model=profile)["additionalModelRequestFields"]
    assert () == translate(document, model=profile).losses
    assert () == translate({"service_tier": "auto"}).losses


@pytest.mark.parametrize("name", ["additionalModelRequestFields", "outputConfig"])
def test_fields_of_bedrocks_own_have_to_be_objects(translate: Translate, name: str) -> None:
    """As they are taken apart."""
    with pytest.raises(InvalidRequestError) as caught:
        translate({name: "x"})
    assert name == caught.value.param


def test_case_69_several_choices_are_several_calls(translate: Translate) -> None:
    """Of the same words."""
    translation = translate({"n": 3})
    assert 2 == len(translation.more)
    assert {translation.request.body} == {one.body for one in translation.more}


# Thinking


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        (
            NEW,
            "high",
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
        ),
        (MIDDLE, "low", {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        (NEW, "none", {"thinking": {"type": "disabled"}}),
        ("openai.gpt-oss-120b-1:0", "high", {"reasoning_effort": "high"}),
        (
            NOVA,
            "low",
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}},
        ),
        (NOVA, "none", {"reasoningConfig": {"type": "disabled"}}),
    ],
)
def test_case_58_effort_in_the_models_words(
    sent: Sent, translate: Translate, model: str, effort: str, expected: dict[str, Any]
) -> None:
    """A budget for older Claudes, an effort for others."""
    document = {"reasoning_effort": effort}
    assert expected == sent(document, model=model)["additionalModelRequestFields"]
    assert () == translate(document, model=model).losses


def test_case_58_a_budget_fits_under_the_cap(sent: Sent, translate: Translate) -> None:
    """Which is raised where it has to be, and set where the client set none."""
    body = sent({"reasoning_effort": "high"}, model=MIDDLE)
    budget = body["additionalModelRequestFields"]["thinking"]["budget_tokens"]
    assert budget < body["inferenceConfig"]["maxTokens"]
    document = {"reasoning_effort": "low", "max_tokens": 100}
    body = sent(document, model=MIDDLE)
    assert 2048 < body["inferenceConfig"]["maxTokens"]
    assert ("max_tokens",) == translate(document, model=MIDDLE).losses
    own = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    body = sent(own, model=MIDDLE)
    assert (own, False) == (body["additionalModelRequestFields"], "inferenceConfig" in body)


def test_case_58_novas_hardest_thinking_stands_alone(sent: Sent, translate: Translate) -> None:
    """It takes neither cap nor sampling with it."""
    document = {"reasoning_effort": "xhigh", "max_tokens": 9, "temperature": 0.5, "top_p": 0.5}
    assert "inferenceConfig" not in sent(document, model=NOVA)
    assert ("reasoning_effort", "max_tokens", "temperature", "top_p") == translate(
        document, model=NOVA
    ).losses
    with pytest.raises(InvalidRequestError) as caught:
        translate({"reasoning_effort": "much"}, model=NOVA)
    assert "reasoning_effort" == caught.value.param


def test_case_59_what_claudes_thinking_rules_out(sent: Sent, translate: Translate) -> None:
    """Is left out and reported."""
    document = {
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "max_tokens": 9000,
        "temperature": 0.2,
        "top_k": 5,
        "tools": [tool()],
        "tool_choice": "required",
    }
    body = sent(document, model=MIDDLE)
    assert ({"maxTokens": 9000}, False) == (
        body["inferenceConfig"],
        "toolChoice" in body["toolConfig"],
    )
    assert {"thinking": document["thinking"]} == body["additionalModelRequestFields"]
    assert {"temperature", "top_k", "tool_choice"} == set(translate(document, model=MIDDLE).losses)


def test_case_60_thoughts_go_back_byte_for_byte(sent: Sent, translate: Translate) -> None:
    """Before what was said, signed, unsigned and redacted ones."""
    blocks = [
        {"type": "thinking", "thinking": " Hm.\n", "signature": "EqQB+/=="},
        {"type": "redacted_thinking", "data": "RXU4Ug=="},
        {"type": "thinking", "thinking": "So."},
    ]
    said = {"role": "assistant", "content": "Yes.", "thinking_blocks": blocks}
    document = {"messages": [user(), said, user()]}
    assert [
        {"reasoningContent": {"reasoningText": {"text": " Hm.\n", "signature": "EqQB+/=="}}},
        {"reasoningContent": {"redactedContent": "RXU4Ug=="}},
        {"reasoningContent": {"reasoningText": {"text": "So."}}},
        {"text": "Yes."},
    ] == sent(document)["messages"][1]["content"]
    assert () == translate(document).losses


def test_case_64_thoughts_of_others_do_not_go_back(sent: Sent, translate: Translate) -> None:
    """Nor do texts that nobody signed, nor what others ran themselves."""
    thought = {"type": "thinking", "thinking": "Hm."}
    for more in (
        {"thinking_blocks": [{**thought, "signature": "google:abc"}]},
        {"thinking_blocks": [{**thought, "signature": "abc", "provider": "mistral"}]},
        {"reasoning_content": "Hm."},
        {"provider_blocks": [{"type": "server_tool_use", "id": "s", "name": "web_search"}]},
        {"provider_blocks": [{"type": "executableCode", "executableCode": {"code": "1"}}]},
        {"provider_blocks": [{"type": "toolUse", "input": {}}]},
    ):
        document = {"messages": [user(), {"role": "assistant", "content": "a", **more}, user()]}
        assert [{"text": "a"}] == sent(document)["messages"][1]["content"]
        (name,) = more
        assert (f"messages.{name}",) == translate(document).losses


# Formats


def formatted(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    described = {"name": "answer", "schema": schema, **more}
    return {"response_format": {"type": "json_schema", "json_schema": described}}


def test_case_67_a_schema_is_told(sent: Sent, translate: Translate) -> None:
    """As the text that Bedrock wants it to be."""
    document = formatted(CLOSED, description="An answer.", strict=True)
    told = sent(document)["outputConfig"]["textFormat"]
    described = told["structure"]["jsonSchema"]
    assert ("json_schema", "answer", "An answer.", CLOSED) == (
        told["type"],
        described["name"],
        described["description"],
        json.loads(described["schema"]),
    )
    assert () == translate(document).losses


def test_case_67_a_schema_that_is_told_in_part_is_reported(translate: Translate) -> None:
    """Bounds are told in words; a tool takes any schema, which has to be an object's."""
    bounded = {**CLOSED, "properties": {"a": {"type": "string", "maxLength": 3}}}
    assert ("response_format.json_schema.schema",) == translate(formatted(bounded)).losses
    assert () == translate(formatted({"anyOf": [CLOSED]}), model=OLD).losses


@pytest.mark.parametrize("model", [OLD, NOVA, "meta.llama3-1-70b-instruct-v1:0"])
def test_case_67_68_a_tool_stands_for_a_schema_where_there_is_no_other_way(
    sent: Sent, model: str
) -> None:
    """By the model, by the option, or by a schema that nobody can be held to."""
    for document, options in (
        (formatted(CLOSED), {"model": model}),
        (formatted(CLOSED), {"structured_output": "tool"}),
        (formatted({"type": "object"}), {}),
    ):
        body = sent(document, **options)
        (spec,) = body["toolConfig"]["tools"]
        assert ("json_response", {"any": {}}, False) == (
            spec["toolSpec"]["name"],
            body["toolConfig"]["toolChoice"],
            "outputConfig" in body,
        )


def test_case_68_the_clients_tools_may_be_called_instead(sent: Sent) -> None:
    """Unless they are there for the history alone."""
    mine = {"tools": [tool(), tool("json_response")]}
    body = sent({**formatted(CLOSED), **mine}, model=OLD)
    assert ["look", "json_response", "json_response_"] == [
        one["toolSpec"]["name"] for one in body["toolConfig"]["tools"]
    ]
    assert {"any": {}} == body["toolConfig"]["toolChoice"]
    history = {"messages": [user(), calling("c1"), result("c1")]}
    body = sent({**formatted(CLOSED), **history}, model=OLD)
    assert {"tool": {"name": "json_response"}} == body["toolConfig"]["toolChoice"]
    named = {"type": "function", "function": {"name": "look"}}
    body = sent({**formatted(CLOSED), **mine, "tool_choice": named}, model=OLD)
    assert {"tool": {"name": "look"}} == body["toolConfig"]["toolChoice"]


def test_case_68_with_thinking_a_format_is_asked_for_and_not_forced(
    sent: Sent, translate: Translate
) -> None:
    """Which is reported."""
    model = "us.anthropic.claude-3-7-sonnet-20250219-v1:0"
    document = {**formatted(CLOSED), "reasoning_effort": "low"}
    assert "toolChoice" not in sent(document, model=model)["toolConfig"]
    assert ("response_format.json_schema",) == translate(document, model=model).losses


def test_case_67_json_without_a_schema_is_asked_for_in_words(
    sent: Sent, translate: Translate
) -> None:
    """Which is reported."""
    document = {"response_format": {"type": "json_object"}}
    assert [{"text": "Answer with one JSON object and nothing else."}] == sent(document)["system"]
    assert ("response_format.type",) == translate(document).losses


def test_case_67_bedrocks_own_field_says_more(sent: Sent, translate: Translate) -> None:
    """A format of the client's own wins; an effort stands beside it."""
    own = {
        "textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": "{}"}}},
        "effort": "low",
    }
    document = {**formatted(CLOSED), "outputConfig": own}
    assert own == sent(document)["outputConfig"]
    assert ("response_format",) == translate(document).losses
    both = sent({**formatted(CLOSED), "outputConfig": {"effort": "low"}})["outputConfig"]
    assert {"effort", "textFormat"} == both.keys()


# Caching


def test_case_87_markers_are_cache_points(sent: Sent, translate: Translate) -> None:
    """Behind what they mark: instructions, texts, tools, calls and results."""
    hour = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    text = {"type": "text", "text": "a"}
    marked = [{**text, **MARK}, text]
    document = {
        "messages": [
            {"role": "system", "content": [{**text, **hour}]},
            user(marked),
            calling("c1", "c2"),
            result("c1", **MARK),
            result("c2", marked),
        ],
        "tools": [{**tool(), **hour}, tool("go")],
    }
    body = sent(document)
    long = {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert [{"text": "a"}, long] == body["system"]
    assert [{"text": "a"}, POINT, {"text": "a"}] == body["messages"][0]["content"]
    assert ["toolResult", "cachePoint", "toolResult", "cachePoint"] == [
        next(iter(block)) for block in body["messages"][2]["content"]
    ]
    assert long == body["toolConfig"]["tools"][1]
    assert () == translate(document).losses


def test_case_87_a_time_that_bedrock_does_not_keep_is_reported(
    sent: Sent, translate: Translate
) -> None:
    """The point is there all the same."""
    odd = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "9d"}}
    document = {"messages": [user([odd])]}
    assert [{"text": "a"}, POINT] == sent(document)["messages"][0]["content"]
    assert ("messages.content.cache_control",) == translate(document).losses


# Targets


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("amazon.nova-lite-v1:0", "amazon.nova-lite-v1%3A0"),
        (
            "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123",
            "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fabc123",
        ),
    ],
)
def test_a_models_name_is_one_segment_of_the_path(
    translate: Translate, model: str, path: str
) -> None:
    """Escaped, also that of an inference profile."""
    root = "https://bedrock-runtime.us-east-1.amazonaws.com/model"
    assert f"{root}/{path}/converse" == translate(model=model).request.url
    assert f"{root}/{path}/converse-stream" == translate({"stream": True}, model=model).request.url


@pytest.mark.parametrize(
    "model",
    ["../../x", "%2e%2e", "a?b", "a#b", "a\r\nb: c", "..", ".", "a/../b", "", "a b", "ä", "/a"],
)
@pytest.mark.parametrize("operation", ["chat", "embeddings"])
def test_a_name_never_changes_the_target(translate: Translate, model: str, operation: str) -> None:
    """What leads elsewhere is no model's: a 404 before anything is sent."""
    document = {"input": "a"} if operation == "embeddings" else None
    with pytest.raises(LLMError) as caught:
        translate(document, operation=operation, model=model)
    assert 404 == caught.value.status


def test_an_unknown_model_keeps_everything(sent: Sent, translate: Translate) -> None:
    """Translation does not depend on knowing it."""
    document = {
        "messages": [{"role": "system", "content": "Be brief."}, user()],
        "tools": [tool()],
        "tool_choice": "required",
        "temperature": 0.3,
        "max_tokens": 5,
        "top_k": 4,
        "reasoning_effort": "low",
        **formatted(CLOSED),
    }
    body = sent(
        document, model="arn:aws:bedrock:us-east-1:123456789012:imported-model/abcdefghijkl"
    )
    assert {
        "messages",
        "system",
        "toolConfig",
        "inferenceConfig",
        "additionalModelRequestFields",
        "outputConfig",
    } == body.keys()
    assert () == translate(document).losses


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"region": "US"}, "region"),
        ({"region": "us-east-1.evil.example"}, "region"),
        ({"structured_output": "x"}, "structured_output"),
        ({"profile": "p"}, "profile"),
        ({"access_key_id": "a", "secret_access_key": "s"}, "access_key_id"),
        ({"api_key": None, "access_key_id": "a"}, "secret_access_key"),
        ({"api_key": None, "secret_access_key": "a"}, "access_key_id"),
        ({"session_token": "t"}, "session_token"),
        ({"api_key": "a\nb"}, "api_key"),
        (
            {"api_key": None, "access_key_id": "a", "secret_access_key": "b\nc"},
            "secret_access_key",
        ),
        ({"base_url": "ftp://x"}, "base_url"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], param: str) -> None:
    """By their names; no message shows a secret."""
    with pytest.raises(ConfigurationError) as caught:
        Bedrock(**{"region": "us-east-1", "api_key": "k", **options})
    assert param == caught.value.param
    assert "b\nc" not in caught.value.message


def test_the_endpoint_follows_the_region() -> None:
    """With the domain of its partition."""
    urls = [
        Bedrock(region=region, api_key="k").base_url
        for region in ("eu-central-1", "us-gov-west-1", "cn-north-1")
    ]
    assert [
        "https://bedrock-runtime.eu-central-1.amazonaws.com",
        "https://bedrock-runtime.us-gov-west-1.amazonaws.com",
        "https://bedrock-runtime.cn-north-1.amazonaws.com.cn",
    ] == urls
