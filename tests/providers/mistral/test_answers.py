"""Mistral's answers, whole and streamed: untouched where they are OpenAI's."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from asgi_llm.errors import ProviderUnavailableError
from asgi_llm.providers.base import Translation
from asgi_llm.providers.mistral import Mistral
from asgi_llm.types import Usage

Translate = Callable[..., Translation]
Whole = Callable[..., dict[str, Any]]
Passed = Callable[..., bytes]
Streamed = Callable[..., list[dict[str, Any]]]

THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True}
TEXT = {"type": "text", "text": "Hello."}
REFERENCE = {"type": "reference", "reference_ids": [1]}
STREAM = (
    b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
    b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"content":"say \\"type\\" \\u00fc"},"finish_reason":null}],"p":"ab"}\n\n'
    b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"content":""},"finish_reason":"stop"}],"usage":'
    b'{"prompt_tokens":5,"total_tokens":7,"completion_tokens":2}}\n\n'
    b"data: [DONE]\n\n"
)


def call(**fields: Any) -> dict[str, Any]:
    function = {"name": "weather", "arguments": '{"a": 1}'}
    return {"id": "AbCdEfGh9", "type": "function", "function": function, "index": 0, **fields}


def test_an_answer_of_openais_keeps_its_bytes(translate: Translate) -> None:
    """Odd spaces and unknown fields included; calls, too."""
    body = (
        b'{"id": "1",  "choices":[{"index":0,"message":{"role":"assistant","content":"[1]",'
        b'"tool_calls":[{"id":"AbCdEfGh9","type":"function","function":{"name":"a","arguments":'
        b'"{\\"n\\":12345678901234567890}"}}]},"finish_reason":"tool_calls"}],"x":1, '
        b'"usage":{"prompt_tokens":5,"total_tokens":7,"completion_tokens":2,'
        b'"num_cached_tokens":4}}'
    )
    answer = Mistral(api_key="k").parse_response(translate(), body)
    assert body is answer.body
    assert Usage(input_uncached=1, input_cached=4, output_text=2) == answer.usage


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_stream_of_openais_keeps_its_bytes(passed: Passed, size: int) -> None:
    """At any cut."""
    assert STREAM == passed(STREAM, size=size)


def test_a_chunk_of_plain_text_is_the_same_object(translate: Translate) -> None:
    """Nothing is copied."""
    (decoder,) = Mistral(api_key="k").stream_decoders(translate({"stream": True}))
    chunk = STREAM.split(b"\n\n")[1] + b"\n\n"
    assert chunk is decoder.feed(chunk)


def test_case_61_thoughts_come_apart(whole: Whole, streamed: Streamed) -> None:
    """From the text, whole and streamed."""
    choice = whole(
        {"message": {"role": "assistant", "content": [THOUGHT, TEXT]}, "finish_reason": "stop"}
    )
    message = choice["message"]
    assert ("Hello.", "hm") == (message["content"], message["reasoning_content"])
    choices = streamed(
        [
            {"delta": {"role": "assistant", "content": ""}},
            {"delta": {"content": [THOUGHT]}},
            {"delta": {"content": [{**THOUGHT, "thinking": "mm"}]}},
            {"delta": {"content": [TEXT]}},
            {"delta": {"content": " You."}},
            {"delta": {"content": ""}, "finish_reason": "stop"},
        ],
        size=11,
    )
    deltas = [one["delta"] for one in choices]
    assert "Hello. You." == "".join(delta.get("content") or "" for delta in deltas)
    assert ["hm", "mm"] == [
        delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta
    ]


def test_case_60_a_signature_comes_and_goes_as_it_is(
    whole: Whole, streamed: Streamed, translate: Translate
) -> None:
    """In a block that says whose it is."""
    signed = {**THOUGHT, "signature": "sig"}
    expected = {"type": "thinking", "thinking": "hm", "signature": "sig", "provider": "mistral"}
    choice = whole({"message": {"content": [signed, TEXT]}, "finish_reason": "stop"})
    assert [expected] == choice["message"]["thinking_blocks"]
    first, *_ = streamed([{"delta": {"content": [signed]}}, {"delta": {}, "finish_reason": "stop"}])
    assert [expected] == first["delta"]["thinking_blocks"]
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", **choice["message"]},
        {"role": "user", "content": "go"},
    ]
    again = translate({"messages": messages})
    assert () == again.losses
    assert isinstance(again.request.body, bytes)
    sent = json.loads(again.request.body)["messages"][1]["content"]
    assert ["sig", None] == [part.get("signature") for part in sent]


@pytest.mark.parametrize(
    "part",
    [{"type": "text", "text": 3}, {"type": "thinking", "thinking": [{"type": "text", "text": []}]}],
)
def test_a_part_whose_text_is_no_string_is_an_error(
    whole: Whole, streamed: Streamed, part: dict[str, Any]
) -> None:
    """Of the provider, so that another one may be asked."""
    for read, given in (
        (whole, {"message": {"content": [part]}}),
        (streamed, [{"delta": {"content": [part]}}]),
    ):
        with pytest.raises(ProviderUnavailableError) as caught:
            read(given)
        assert "invalid_provider_response" == caught.value.code


def test_other_parts_are_kept(whole: Whole, streamed: Streamed) -> None:
    """References and what is new, in a field of their own."""
    content = [TEXT, REFERENCE, {"type": "new", "x": 1}]
    found = whole({"message": {"content": content}, "finish_reason": "stop"})["message"]
    assert ("Hello.", content[1:]) == (found["content"], found["content_parts"])
    first, *_ = streamed([{"delta": {"content": content}}, {"delta": {}, "finish_reason": "stop"}])
    assert content[1:] == first["delta"]["content_parts"]


@pytest.mark.parametrize(
    ("word", "expected", "native"),
    [
        ("stop", "stop", None),
        ("length", "length", None),
        ("tool_calls", "tool_calls", None),
        ("model_length", "length", "model_length"),
        ("new_word", "stop", "new_word"),
    ],
)
def test_case_42_and_46_finish_reasons(
    whole: Whole, streamed: Streamed, word: str, expected: str, native: str | None
) -> None:
    """The provider's word is kept where it is not OpenAI's."""
    choice = whole({"message": {"content": "x"}, "finish_reason": word})
    assert (expected, native) == (choice["finish_reason"], choice.get("native_finish_reason"))
    *_, last = streamed([{"delta": {"content": "x"}}, {"delta": {}, "finish_reason": word}])
    assert (expected, native) == (last["finish_reason"], last.get("native_finish_reason"))


def test_the_finish_reason_error_is_an_error(whole: Whole, translate: Translate) -> None:
    """Also at the end of a stream, which then does not look finished."""
    with pytest.raises(ProviderUnavailableError, match="broke its answer off"):
        whole({"message": {"content": "x"}, "finish_reason": "error"})
    (decoder,) = Mistral(api_key="k").stream_decoders(translate({"stream": True}))
    out = decoder.feed(STREAM.replace(b'"finish_reason":"stop"', b'"finish_reason":"error"'))
    out += decoder.close()
    assert isinstance(decoder.error, ProviderUnavailableError)
    assert not decoder.done
    assert b"[DONE]" not in out
    assert b"error" not in out


def test_case_39_stop_with_calls_is_tool_calls(whole: Whole, streamed: Streamed) -> None:
    """Whatever Mistral says."""
    choice = whole({"message": {"content": "", "tool_calls": [call()]}, "finish_reason": "stop"})
    assert "tool_calls" == choice["finish_reason"]
    *_, last = streamed(
        [{"delta": {"tool_calls": [call()]}}, {"delta": {}, "finish_reason": "stop"}]
    )
    assert "tool_calls" == last["finish_reason"]


def test_case_32_who_sends_functions_gets_a_function_call(
    translate: Translate, streamed: Streamed
) -> None:
    """One, without an id, whole and streamed; a second has no place in that form."""
    asked = {"functions": [{"name": "weather"}]}
    function = {"name": "weather", "arguments": '{"a": 1}'}
    calls = [call(), call(id="bbbbbbbbb", function={"name": "b", "arguments": "{}"})]
    choices = [{"index": 0, "message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]
    body = json.dumps({"choices": choices}).encode()
    (found,) = json.loads(Mistral(api_key="k").parse_response(translate(asked), body).body)[
        "choices"
    ]
    assert {"function_call": function} == found["message"]
    assert "function_call" == found["finish_reason"]
    assert "native_finish_reason" not in found
    more = {"index": 0, "function": {"arguments": " "}}
    pieces = streamed(
        [
            {"delta": {"tool_calls": [calls[0]]}},
            {"delta": {"tool_calls": [more]}},
            {"delta": {"tool_calls": [calls[1]]}},
            {"delta": {}, "finish_reason": "tool_calls"},
        ],
        asked,
    )
    assert [{"function_call": function}, {"function_call": {"arguments": " "}}] == [
        one["delta"] for one in pieces if one["delta"].get("function_call")
    ]
    assert "tool_calls" not in str([one["delta"] for one in pieces])
    assert "function_call" == pieces[-1]["finish_reason"]


def test_calls_get_what_they_lack(whole: Whole, streamed: Streamed) -> None:
    """A type, an id, and arguments that are a string."""
    bare = {"function": {"name": "weather", "arguments": {"a": 12345678901234567890}}}
    nameless = call(id="null")
    choice = whole(
        {"message": {"content": "", "tool_calls": [bare, nameless]}, "finish_reason": "tool_calls"}
    )
    first, second = choice["message"]["tool_calls"]
    assert ("function", "function") == (first["type"], second["type"])
    assert '{"a": 12345678901234567890}' == first["function"]["arguments"]
    assert all(len(one["id"]) == 9 and one["id"].isalnum() for one in (first, second))
    chunk, *_ = streamed(
        [{"delta": {"tool_calls": [bare]}}, {"delta": {}, "finish_reason": "tool_calls"}]
    )
    (made,) = chunk["delta"]["tool_calls"]
    assert ("function", 0, 9) == (made["type"], made["index"], len(made["id"]))


def test_calls_of_a_whole_answer_that_have_no_ids_get_one_each(whole: Whole) -> None:
    """They stand apart, so that neither can be a piece of the other."""
    bare = {"function": {"name": "weather", "arguments": "{}"}}
    choice = whole(
        {"message": {"content": "", "tool_calls": [bare, bare]}, "finish_reason": "tool_calls"}
    )
    calls = choice["message"]["tool_calls"]
    assert [9, 9] == [len(one["id"]) for one in calls]
    assert calls[0]["id"] != calls[1]["id"]
    assert ["function", "function"] == [one["type"] for one in calls]


def test_case_34_and_35_each_call_has_an_index_of_its_own(streamed: Streamed) -> None:
    """Over the whole stream, where Mistral begins again or leaves it out; pieces follow theirs."""
    more = {"index": 0, "function": {"name": "", "arguments": "}"}}
    without = {name: value for name, value in call(id="ccccccccc").items() if name != "index"}
    choices = streamed(
        [
            {"delta": {"tool_calls": [call(id="aaaaaaaaa")]}},
            {"delta": {"tool_calls": [call(id="bbbbbbbbb")]}},
            {"delta": {"tool_calls": [more]}},
            {"delta": {"tool_calls": [without]}},
            {"delta": {}, "finish_reason": "tool_calls"},
        ]
    )
    calls = [one for choice in choices for one in choice["delta"].get("tool_calls") or ()]
    assert [("aaaaaaaaa", 0), ("bbbbbbbbb", 1), (None, 1), ("ccccccccc", 2)] == [
        (one.get("id"), one["index"]) for one in calls
    ]


def test_case_52_a_usage_chunk_for_who_asks_for_it(passed: Passed) -> None:
    """In OpenAI's place; for others it stays where Mistral has it."""
    asked = {"stream_options": {"include_usage": True}}
    *_, last, usage, done, _ = passed(STREAM, asked).split(b"\n\n")
    found = json.loads(usage[6:])
    assert ([], 7) == (found["choices"], found["usage"]["total_tokens"])
    assert "usage" not in json.loads(last[6:])
    assert b"data: [DONE]" == done


def test_several_choices_are_kept_apart(streamed: Streamed) -> None:
    """One with a call, one without, finished by one word."""
    choices = streamed(
        [
            {"index": 1, "delta": {"tool_calls": [call()]}},
            {"index": 0, "delta": {"content": "x"}},
            {"index": 1, "delta": {}, "finish_reason": "stop"},
            {"index": 0, "delta": {}, "finish_reason": "model_length"},
        ],
        {"n": 2},
    )
    assert {1: "tool_calls", 0: "length"} == {
        one["index"]: one["finish_reason"] for one in choices if one["finish_reason"]
    }


def test_case_82_a_stream_without_an_end_is_truncated(translate: Translate) -> None:
    """What came before has gone out."""
    (decoder,) = Mistral(api_key="k").stream_decoders(translate({"stream": True}))
    out = decoder.feed(b"\n\n".join(STREAM.split(b"\n\n")[:2]) + b"\n\n")
    decoder.close()
    assert decoder.error is not None
    assert ("stream_truncated", 2) == (decoder.error.code, out.count(b"data: "))


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (
            422,
            {
                "object": "error",
                "message": {"detail": [{"loc": ["body", "x"], "msg": "Extra inputs"}]},
                "type": "invalid_request_error",
                "param": None,
                "code": None,
            },
            (422, "x: Extra inputs", "x"),
        ),
        (
            400,
            {
                "object": "error",
                "message": "Prompt contains 33000 tokens, too large for model with 32768 maximum "
                "context length",
                "type": "invalid_request_prompt",
                "param": None,
                "code": "3051",
            },
            (400, None, None),
        ),
        (401, {"detail": "Unauthorized"}, (502, None, None)),
        (429, {"message": "Requests rate limit exceeded"}, (429, None, None)),
        (503, {"message": "Service unavailable."}, (503, None, None)),
    ],
)
def test_case_89_and_90_errors(status: int, body: Any, expected: Any) -> None:
    """In the forms that Mistral has for them."""
    error = Mistral(api_key="k").parse_error(status, [], json.dumps(body).encode())
    told, message, param = expected
    assert (told, param) == (error.status, error.param)
    if message is not None:
        assert message == str(error)
    if status == 400:
        assert "context_length_exceeded" == error.code
