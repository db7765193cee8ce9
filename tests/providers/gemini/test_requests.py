"""Chats in Gemini's words, read by the types of Google's own SDK."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from google.genai import types

from asgi_llm.errors import ConfigurationError, InvalidRequestError
from asgi_llm.providers.base import Translation
from asgi_llm.providers.gemini import Gemini

Sent = Callable[..., dict[str, Any]]
Translate = Callable[..., Translation]

FIRST, OLD = "gemini-1.5-flash", "gemini-2.0-flash"
MIDDLE, NEW = "gemini-2.5-flash", "gemini-9-flash"
PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
LINKED = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
GIF = {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lGODlh"}}


def tool(name: str = "look", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


def calling(*ids: str, **more: Any) -> dict[str, Any]:
    function = {"name": "look", "arguments": "{}"}
    calls = [{"id": one, "type": "function", "function": function, **more} for one in ids]
    return {"role": "assistant", "tool_calls": calls}


def result(of: str, content: Any = "ok") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": of, "content": content}


def user(content: Any = "hi") -> dict[str, Any]:
    return {"role": "user", "content": content}


# Conversation


def test_case_04_05_what_is_blank_is_not_sent(sent: Sent) -> None:
    """A turn of nothing else goes with it, and its neighbours become one."""
    said = {**calling("c1"), "content": ""}
    messages = [user(), user([{"type": "text", "text": " "}]), said, result("c1")]
    contents = sent({"messages": messages})["contents"]
    assert [["text"], ["functionCall", "thoughtSignature"], ["functionResponse"]] == [
        [key for part in content["parts"] for key in part] for content in contents
    ]


def test_case_04_a_chat_of_nothing_is_refused(translate: Translate) -> None:
    """Gemini takes none without contents."""
    with pytest.raises(InvalidRequestError) as caught:
        translate({"messages": [user(" ")]})
    assert "messages" == caught.value.param


def test_case_06_turns_around_one_that_has_no_words_here_are_merged(
    sent: Sent, translate: Translate
) -> None:
    """Sides go on to alternate where a turn held another provider's thoughts alone."""
    thought = {"role": "assistant", "content": None, "reasoning_content": "hm"}
    document = {"messages": [user("a"), thought, user("b")]}
    assert [{"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}] == sent(document)["contents"]
    assert ("messages.reasoning_content",) == translate(document).losses


def test_case_07_a_conversation_may_begin_with_the_model(sent: Sent) -> None:
    """Nothing is put before it."""
    messages = [{"role": "assistant", "content": "Hello!"}, user()]
    assert ["model", "user"] == [
        content["role"] for content in sent({"messages": messages})["contents"]
    ]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "file", "file": {"filename": "a.TXT", "file_data": "aGk="}}, "text/plain"),
        ({"type": "file", "file": {"file_data": "JVBERi0="}}, "application/pdf"),
        ({"type": "file_url", "file_url": "https://example.com/a.csv?b=c.d"}, "text/csv"),
        ({"type": "video_url", "video_url": {"url": "https://youtu.be/x"}}, "video/mp4"),
        ({"type": "input_audio", "input_audio": {"data": "aGk=", "format": "flac"}}, "audio/flac"),
        ({"type": "audio_url", "audio_url": {"url": "gs://b/a.ogg#t"}}, "audio/ogg"),
        ({"type": "image_url", "image_url": {"url": "gs://b/a"}}, "image/jpeg"),
    ],
)
def test_case_12_15_17_a_media_type_is_what_is_said_or_the_ending_or_the_usual(
    sent: Sent, part: dict[str, Any], expected: str
) -> None:
    """In this order; Gemini needs one for all that is not text."""
    (told,) = sent({"messages": [user([part])]})["contents"][0]["parts"]
    (value,) = told.values()
    assert expected == value["mimeType"]


def test_case_14_media_in_results_that_may_not_be_there_stand_behind_them(
    sent: Sent, translate: Translate
) -> None:
    """Addresses and odd types, with a text that points to their result; the rest is within it."""
    seen = [{"type": "text", "text": "two"}, PNG, LINKED, GIF]
    messages = [user(), calling("c1", "c2"), result("c1", seen), result("c2")]
    parts = sent({"messages": messages})["contents"][2]["parts"]
    assert ["functionResponse", "functionResponse", "text", "fileData", "inlineData"] == [
        next(iter(part)) for part in parts
    ]
    first = types.FunctionResponse.model_validate(parts[0]["functionResponse"])
    assert ("c1", {"result": "two"}, "image/png") == (
        first.id,
        first.response,
        first.parts[0].inline_data.mime_type,  # type: ignore[index, union-attr]
    )
    assert "Of the result of look:" == parts[2]["text"]
    assert ("messages.content",) == translate({"messages": messages}).losses


@pytest.mark.parametrize(
    ("url", "model", "is_within"),
    [
        ("https://generativelanguage.googleapis.com/v1beta/files/a", NEW, True),
        ("gs://bucket/a.pdf", NEW, True),
        ("https://a.example/a.pdf", NEW, False),
        ("gs://bucket/a.pdf", MIDDLE, False),
    ],
)
def test_case_14_a_result_may_hold_what_was_uploaded_to_google(
    sent: Sent, url: str, model: str, is_within: bool
) -> None:
    """Where the model sees results."""
    content = [{"type": "document_url", "document_url": {"url": url}}]
    turns = [user(), calling("c1"), result("c1", content)]
    parts = sent({"messages": turns}, model=model)["contents"][-1]["parts"]
    told = {"fileData": {"mimeType": "application/pdf", "fileUri": url}}
    if is_within:
        assert [told] == parts[0]["functionResponse"]["parts"]
    else:
        assert "parts" not in parts[0]["functionResponse"]
    assert (1 if is_within else 3) == len(parts)


def test_case_26_ids_go_back_unless_they_were_made_here(sent: Sent) -> None:
    """Gemini's own, and those of another provider, name the call and its result alike."""
    messages = [user(), calling("fc-1", "call_r1_0_1"), result("call_r1_0_1"), result("fc-1")]
    contents = sent({"messages": messages})["contents"]
    assert ["fc-1", None] == [part["functionCall"].get("id") for part in contents[1]["parts"]]
    assert ["fc-1", None] == [part["functionResponse"].get("id") for part in contents[2]["parts"]]


@pytest.mark.parametrize("name", ["1st", "-a", "a b", "x" * 65, "größe"])
def test_case_27_names_that_gemini_refuses_are_mapped(
    sent: Sent, translate: Translate, name: str
) -> None:
    """Everywhere alike, and back in the answer."""
    document = {
        "tools": [tool(name)],
        "tool_choice": {"type": "function", "function": {"name": name}},
    }
    body = sent(document)
    (told,) = body["tools"][0]["functionDeclarations"]
    assert told["name"][0].isalpha() or told["name"][0] == "_"
    assert len(told["name"]) <= 64
    assert told["name"].isascii()
    assert [told["name"]] == body["toolConfig"]["functionCallingConfig"]["allowedFunctionNames"]
    answer = {
        "candidates": [
            {
                "content": {"parts": [{"functionCall": {"name": told["name"]}}]},
                "finishReason": "STOP",
            }
        ]
    }
    found = Gemini(api_key="k").parse_response(translate(document), json.dumps(answer).encode())
    (call,) = json.loads(found.body)["choices"][0]["message"]["tool_calls"]
    assert name == call["function"]["name"]


def test_case_29_a_call_without_a_result_is_refused(translate: Translate) -> None:
    """By the path of the call."""
    with pytest.raises(InvalidRequestError) as caught:
        translate({"messages": [user(), calling("c1"), user()]})
    assert ("messages[1].tool_calls[0]", "missing_tool_result") == (
        caught.value.param,
        caught.value.code,
    )


@pytest.mark.parametrize("text", ["[1]", "3", "null", "{broken", ""])
def test_case_31_only_an_object_goes_as_it_is(sent: Sent, text: str) -> None:
    """A response has to be one."""
    messages = [user(), calling("c1"), result("c1", text)]
    (part,) = sent({"messages": messages})["contents"][2]["parts"]
    assert {"result": text} == part["functionResponse"]["response"]


def test_a_result_of_a_part_that_no_result_has_is_refused(translate: Translate) -> None:
    """By its path."""
    refused = [{"type": "refusal", "refusal": "no"}]
    with pytest.raises(InvalidRequestError) as caught:
        translate({"messages": [user(), calling("c1"), result("c1", refused)]})
    assert "messages[2].content[0]" == caught.value.param


def test_case_96_a_result_keeps_its_characters(translate: Translate) -> None:
    """Integers of any size, escapes, the order of its keys."""
    text = ' {"b":123456789012345678901234567890,"a":"\\u00e9","b2":1.10}'
    translation = translate({"messages": [user(), calling("c1"), result("c1", text)]})
    assert isinstance(translation.request.body, bytes)
    assert b'"response":' + text.encode() in translation.request.body


# Tools


def test_case_20_a_function_without_parameters_has_none(sent: Sent) -> None:
    """The subset has no empty objects either."""
    empty = {"type": "object", "properties": {}}
    assert {"name": "look"} == sent({"tools": [tool()]})["tools"][0]["functionDeclarations"][0]
    older = sent({"tools": [tool(parameters=empty)]}, model=FIRST)
    assert {"name": "look"} == older["tools"][0]["functionDeclarations"][0]


@pytest.mark.parametrize(
    ("schemas", "model", "field"),
    [
        ("auto", FIRST, "parameters"),
        ("auto", "models/gemini-1.5-pro", "parameters"),
        ("auto", OLD, "parametersJsonSchema"),
        ("auto", MIDDLE, "parametersJsonSchema"),
        ("auto", "tunedModels/mine", "parametersJsonSchema"),
        ("json", FIRST, "parametersJsonSchema"),
        ("subset", NEW, "parameters"),
    ],
)
def test_case_21_the_dialect_of_schemas_is_the_models_or_what_is_configured(
    sent: Sent, schemas: str, model: str, field: str
) -> None:
    """For functions and for answers alike."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    document = {"tools": [tool(parameters=schema)], "response_format": wanted}
    body = sent(document, model=model, schemas=schemas)
    assert schema == body["tools"][0]["functionDeclarations"][0][field]
    other = {"parameters": "responseSchema", "parametersJsonSchema": "responseJsonSchema"}[field]
    assert schema == body["generationConfig"][other]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("schemas", "xml"),
        ("base_url", "https://generativelanguage.googleapis.com/v1beta/openai/"),
        ("base_url", "https://a.example/?key=b"),
        ("api_key", "a\nb"),
        ("headers", [("a b", "c")]),
    ],
)
def test_a_wrong_option_is_refused(option: str, value: Any) -> None:
    """When the adapter is made, by its name."""
    with pytest.raises(ConfigurationError) as caught:
        Gemini(**{"api_key": "k", option: value})
    assert option == caught.value.param


def test_what_gemini_does_not_offer_is_refused(translate: Translate) -> None:
    """By its name."""
    with pytest.raises(InvalidRequestError) as caught:
        translate({"prompt": "a"}, operation="image_generation")
    assert "unsupported_operation" == caught.value.code


def test_case_22_24_what_functions_cannot_be_told_is_reported(translate: Translate) -> None:
    """``strict``, and one call at a time."""
    document = {"tools": [tool(strict=True)], "parallel_tool_calls": False}
    assert ("parallel_tool_calls", "tools.function.strict") == translate(document).losses


def test_case_23_allowed_tools(sent: Sent) -> None:
    """Names go with a forced call; where the choice is free the others are not offered."""
    names = [{"type": "function", "function": {"name": "a"}}]

    def asked(mode: str) -> dict[str, Any]:
        allowed = {"mode": mode, "tools": names}
        choice = {"type": "allowed_tools", "allowed_tools": allowed}
        return sent({"tools": [tool("a"), tool("b")], "tool_choice": choice})

    forced, free = asked("required"), asked("auto")
    assert {"mode": "ANY", "allowedFunctionNames": ["a"]} == (
        forced["toolConfig"]["functionCallingConfig"]
    )
    assert ["a", "b"] == [one["name"] for one in forced["tools"][0]["functionDeclarations"]]
    assert {"mode": "AUTO"} == free["toolConfig"]["functionCallingConfig"]
    assert ["a"] == [one["name"] for one in free["tools"][0]["functionDeclarations"]]


def test_case_23_a_forced_call_of_nothing_is_reported(translate: Translate) -> None:
    """There is no function to be called."""
    assert ("tool_choice",) == translate({"tools": [], "tool_choice": "required"}).losses


def test_case_32_functions_of_the_form_before_tools(sent: Sent) -> None:
    """Are declared as any other."""
    body = sent({"functions": [{"name": "look"}], "function_call": {"name": "look"}})
    assert [{"functionDeclarations": [{"name": "look"}]}] == body["tools"]
    assert {"mode": "ANY", "allowedFunctionNames": ["look"]} == (
        body["toolConfig"]["functionCallingConfig"]
    )


def test_case_33_googles_tools_stand_beside_functions_and_fall_silent_on_none(sent: Sent) -> None:
    """In either spelling, with what they are told; a mode is for functions alone."""
    own = [
        {"type": "google_search", "google_search": {"exclude_domains": ["a.example"]}},
        {"type": "codeExecution"},
    ]
    document = {"tools": [*own, tool()]}
    assert [
        {"functionDeclarations": [{"name": "look"}]},
        {"googleSearch": {"exclude_domains": ["a.example"]}},
        {"codeExecution": {}},
    ] == sent(document)["tools"]
    silent = sent({**document, "tool_choice": "none"})
    assert [{"functionDeclarations": [{"name": "look"}]}] == silent["tools"]
    assert {"mode": "NONE"} == silent["toolConfig"]["functionCallingConfig"]


# Settings


SAFETY = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
THINKING = {"thinking_budget": 100, "include_thoughts": True}


def test_case_95_googles_own_fields_pass_in_either_spelling(
    sent: Sent, translate: Translate
) -> None:
    """At the top, and where clients of its compatible endpoint put them; the top wins."""
    document = {
        "safety_settings": SAFETY,
        "speechConfig": {"languageCode": "de-DE"},
        "media_resolution": "MEDIA_RESOLUTION_LOW",
        "google": {"cached_content": "cachedContents/a", "labels": {"a": "b"}, "odd": 1},
        "extra_body": {"google": {"thinking_config": THINKING, "labels": {"c": "d"}}},
        "labels": {"e": "f"},
    }
    body = sent(document)
    assert (SAFETY, "cachedContents/a", {"e": "f"}) == (
        body["safetySettings"],
        body["cachedContent"],
        body["labels"],
    )
    assert {
        "speechConfig": {"languageCode": "de-DE"},
        "mediaResolution": "MEDIA_RESOLUTION_LOW",
        "thinkingConfig": THINKING,
    } == body["generationConfig"]
    assert ("google.odd",) == translate(document).losses


@pytest.mark.parametrize(
    ("document", "param"),
    [
        ({"safety_settings": {}}, "safety_settings"),
        ({"google": [1]}, "google"),
        ({"extra_body": {"google": {"cachedContent": 5}}}, "extra_body.google.cachedContent"),
        ({"thinking_config": "high"}, "thinking_config"),
    ],
)
def test_a_field_of_googles_own_of_the_wrong_kind_is_refused(
    translate: Translate, document: dict[str, Any], param: str
) -> None:
    """By its path."""
    with pytest.raises(InvalidRequestError) as caught:
        translate(document)
    assert param == caught.value.param


def test_extra_body_holds_more_than_googles_fields(sent: Sent, translate: Translate) -> None:
    """What is another's is reported; an empty place says nothing."""
    document = {"extra_body": {"google": None, "other": 1}}
    assert sent() == sent(document)
    assert ("extra_body.other",) == translate(document).losses


@pytest.mark.parametrize("field", ["streamFunctionCallArguments", "stream_function_call_arguments"])
def test_arguments_are_never_asked_for_in_pieces(
    sent: Sent, translate: Translate, field: str
) -> None:
    """A chunk has no words for them; what else stands there is told."""
    calling_config = {"mode": "VALIDATED", field: True}
    document = {"tools": [tool()], "tool_config": {"functionCallingConfig": calling_config}}
    told = sent(document)["toolConfig"]["functionCallingConfig"]
    assert {"mode": "VALIDATED"} == told
    assert ("tool_config",) == translate(document).losses


def test_tool_config_says_more_than_tool_choice(sent: Sent, translate: Translate) -> None:
    """Where both say how functions are called; other settings stand beside it."""
    place = {"retrieval_config": {"language_code": "de"}}
    document: dict[str, Any] = {"tools": [tool()], "tool_choice": "auto", "tool_config": place}
    assert {**place, "functionCallingConfig": {"mode": "AUTO"}} == sent(document)["toolConfig"]
    said = {"functionCallingConfig": {"mode": "VALIDATED"}}
    document["tool_config"] = said
    assert said == sent(document)["toolConfig"]
    assert ("tool_choice",) == translate(document).losses


@pytest.mark.parametrize(
    ("model", "effort", "expected", "is_lost"),
    [
        (NEW, "minimal", {"thinkingLevel": "minimal", "includeThoughts": True}, False),
        (NEW, "none", {"thinkingLevel": "minimal"}, True),
        (NEW, "max", {"thinkingLevel": "high", "includeThoughts": True}, True),
        ("gemini-3.1-pro-preview", "none", {"thinkingLevel": "low"}, True),
        ("gemini-3.1-pro-preview", "medium", {"thinkingLevel": "medium"}, False),
        ("gemini-3-pro-preview", "medium", {"thinkingLevel": "high"}, True),
        ("unheard-of", "low", {"thinkingLevel": "low"}, False),
        (MIDDLE, "none", {"thinkingBudget": 0}, False),
        (MIDDLE, "minimal", {"thinkingBudget": 512}, False),
        (MIDDLE, "xhigh", {"thinkingBudget": 24_576}, False),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}, True),
        ("gemini-2.5-pro", "xhigh", {"thinkingBudget": 32_768}, False),
        ("gemini-2.5-flash-lite", "none", {"thinkingBudget": 0}, False),
        (OLD, "none", None, False),
        (OLD, "high", None, True),
        ("gemini-2.5-flash-image", "high", None, True),
    ],
)
def test_case_58_effort_is_what_the_model_takes_or_reported(
    sent: Sent,
    translate: Translate,
    model: str,
    effort: str,
    expected: dict[str, Any] | None,
    is_lost: bool,
) -> None:
    """The nearest level or budget that it knows."""
    document = {"reasoning_effort": effort}
    config = sent(document, model=model).get("generationConfig", {}).get("thinkingConfig")
    if expected is not None and effort != "none":
        expected = {**expected, "includeThoughts": True}
    assert expected == config
    assert (("reasoning_effort",) if is_lost else ()) == translate(document, model=model).losses


def test_case_58_thinking_config_wins(sent: Sent, translate: Translate) -> None:
    """It says more; a word that is no effort is refused."""
    document = {"reasoning_effort": "low", "thinking_config": THINKING}
    assert THINKING == sent(document)["generationConfig"]["thinkingConfig"]
    assert ("reasoning_effort",) == translate(document).losses
    with pytest.raises(InvalidRequestError) as caught:
        translate({"reasoning_effort": "enormous"})
    assert "reasoning_effort" == caught.value.param


def test_case_18_modalities_are_told_and_audio_is_reported(
    sent: Sent, translate: Translate
) -> None:
    """Text alone goes without saying."""
    assert "generationConfig" not in sent({"modalities": ["text"]})
    document = {"modalities": ["text", "image"]}
    assert ["TEXT", "IMAGE"] == sent(document)["generationConfig"]["responseModalities"]
    spoken = {"modalities": ["audio"], "audio": {"voice": "alloy", "format": "wav"}}
    assert ("audio",) == translate(spoken).losses


def test_case_71_log_probabilities_without_alternatives(sent: Sent, translate: Translate) -> None:
    """Those of the text alone; a number of others asks for nothing by itself."""
    assert {"responseLogprobs": True} == sent({"logprobs": True})["generationConfig"]
    assert ("top_logprobs",) == translate({"top_logprobs": 3}).losses


def test_case_67_any_json_is_a_media_type(sent: Sent) -> None:
    """A schema goes beside it where there is one."""
    config = sent({"response_format": {"type": "json_object"}})["generationConfig"]
    assert {"responseMimeType": "application/json"} == config


def test_case_66_73_small_settings(sent: Sent) -> None:
    """The newer name of the cap counts; a ``top_k`` that asks for no limit is none."""
    assert {"maxOutputTokens": 7} == (
        sent({"max_tokens": 9, "max_completion_tokens": 7, "top_k": -1})["generationConfig"]
    )


def test_a_conversation_is_no_setting(translate: Translate) -> None:
    """What a client writes sets neither the target nor a header."""
    plain = translate().request
    asked = translate(
        {"base_url": "http://127.0.0.1", "google": {"url": "http://127.0.0.1"}, "api_key": "x"}
    )
    assert (plain.url, plain.headers) == (asked.request.url, asked.request.headers)
    assert ("google.url", "base_url", "api_key") == asked.losses
