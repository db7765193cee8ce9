"""Gemini's answers in OpenAI's words: whole and streamed say the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from google.genai import types

from asgi_llm.errors import ProviderError
from asgi_llm.providers.base import StreamDecoder, Translation
from asgi_llm.providers.gemini import Gemini

Whole = Callable[..., dict[str, Any]]
Streamed = Callable[..., list[dict[str, Any]]]
Decoded = Callable[..., tuple[bytes, StreamDecoder]]
Translate = Callable[..., Translation]

COUNTS = {"promptTokenCount": 10, "candidatesTokenCount": 4, "totalTokenCount": 14}


def response(*parts: Any, reason: Any = "STOP", **more: Any) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": reason}
    for name in [name for name in more if name not in ("usageMetadata", "promptFeedback")]:
        candidate[name] = more.pop(name)
    return {
        "candidates": [candidate],
        "usageMetadata": COUNTS,
        "modelVersion": "gemini-9-flash-001",
        "responseId": "r-1",
        **more,
    }


def merged(chunks: list[dict[str, Any]], choice: int = 0) -> dict[str, Any]:
    """The message that a client makes of the chunks, with how it ended."""
    message: dict[str, Any] = {}
    for chunk in chunks:
        for row in chunk["choices"]:
            if row["index"] != choice:
                continue
            for name, value in row["delta"].items():
                if name == "tool_calls":
                    for call in value:
                        calls = message.setdefault("tool_calls", [])
                        if len(calls) == call["index"]:
                            calls.append({k: v for k, v in call.items() if k != "index"})
                        else:
                            arguments = call["function"]["arguments"]
                            calls[call["index"]]["function"]["arguments"] += arguments
                elif isinstance(value, (str, list)) and name in message and message[name]:
                    message[name] = message[name] + value if name != "role" else value
                else:
                    message[name] = value
            for name in ("finish_reason", "native_finish_reason"):
                if row.get(name):
                    message[name] = row[name]
    return message


CODE = {"language": "PYTHON", "code": "print(1)"}
OUTPUT = {"outcome": "OUTCOME_OK", "output": "1\n"}
SEARCH = {"toolType": "GOOGLE_SEARCH_WEB", "args": {"queries": ["a"]}, "id": "s1"}
EVERYTHING: list[dict[str, Any]] = [
    {"text": "let me ", "thought": True},
    {"text": "see", "thought": True},
    {"text": "Grü"},
    {"text": "ße", "thoughtSignature": "c2lnMQ=="},
    {"executableCode": CODE, "thoughtSignature": "c2lnMg=="},
    {"codeExecutionResult": OUTPUT},
    {"toolCall": SEARCH},
    {"toolResponse": {"id": "s1"}},
    {"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}},
    {"inlineData": {"mimeType": "audio/L16;rate=24000", "data": "AAAA"}},
    {"functionCall": {"name": "look", "args": {"a": [1, {"b": None}]}}, "thoughtSignature": "c2ln"},
    {"functionCall": {"id": "own", "name": "now"}},
]


def test_a_stream_says_what_the_whole_answer_says(whole: Whole, streamed: Streamed) -> None:
    """Part by part, at any cut; nothing of it is left out."""
    types.GenerateContentResponse.model_validate(response(*EVERYTHING))
    (choice,) = whole(response(*EVERYTHING))["choices"]
    expected = {
        "role": "assistant",
        "content": "Grüße",
        "reasoning_content": "let me see",
        "thinking_blocks": [
            {"type": "thinking", "thinking": "let me see", "signature": "google:c2lnMQ=="}
        ],
        "provider_blocks": [
            {"type": "executableCode", "executableCode": CODE, "thoughtSignature": "c2lnMg=="},
            {"type": "codeExecutionResult", "codeExecutionResult": OUTPUT},
            {"type": "toolCall", "toolCall": SEARCH},
            {"type": "toolResponse", "toolResponse": {"id": "s1"}},
            {
                "type": "inlineData",
                "inlineData": {"mimeType": "audio/L16;rate=24000", "data": "AAAA"},
            },
        ],
        "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}}],
        "tool_calls": [
            {
                "id": "call_r-1_0_0",
                "type": "function",
                "function": {"name": "look", "arguments": '{"a": [1, {"b": null}]}'},
                "extra_content": {"google": {"thought_signature": "c2ln"}},
            },
            {"id": "own", "type": "function", "function": {"name": "now", "arguments": "{}"}},
        ],
    }
    assert {**expected, "refusal": None} == choice["message"]
    assert "tool_calls" == choice["finish_reason"]
    events = [response(part, reason=None) for part in EVERYTHING]
    events[-1]["candidates"][0]["finishReason"] = "STOP"
    for size in (1, 7, 1_000_000):
        assert {**expected, "finish_reason": "tool_calls"} == merged(streamed(events, size=size))


def test_case_96_arguments_keep_their_characters(whole: Whole) -> None:
    """Big integers, escapes, doubled keys: what Gemini wrote is what the client reads."""
    arguments = '{"b":123456789012345678901234567890,"a":"\\u00e9","b2":1.10,"a":2}'
    body = json.dumps(response({"functionCall": {"name": "look", "args": "HERE"}}))
    message = whole(body.replace('"HERE"', arguments).encode())["choices"][0]["message"]
    assert arguments == message["tool_calls"][0]["function"]["arguments"]


def test_case_34_calls_are_counted_through_the_stream(streamed: Streamed) -> None:
    """In events of their own, and for each choice; made ids differ."""

    def calls(choice: int, reason: str | None = None) -> dict[str, Any]:
        call = {"functionCall": {"name": "look", "args": {}}}
        return response(call, reason=reason, index=choice)

    chunks = streamed([calls(0), calls(1), calls(0, "STOP"), calls(1, "STOP")], {"n": 2})
    found = [
        (row["index"], call["index"], call["id"])
        for chunk in chunks
        for row in chunk["choices"]
        for call in row["delta"].get("tool_calls", ())
    ]
    assert [
        (0, 0, "call_r-1_0_0"),
        (1, 0, "call_r-1_1_0"),
        (0, 1, "call_r-1_0_1"),
        (1, 1, "call_r-1_1_1"),
    ] == found


def test_case_69_candidates_are_choices(whole: Whole, streamed: Streamed) -> None:
    """Whatever their order; the stream ends when all of them have."""
    one, other = response({"text": "a"}, index=0), response({"text": "b"}, index=1)
    both = {**one, "candidates": [*other["candidates"], *one["candidates"]]}
    assert [(0, "a"), (1, "b")] == [
        (choice["index"], choice["message"]["content"])
        for choice in whole(both, {"n": 2})["choices"]
    ]
    chunks = streamed([other, one], {"n": 2})
    assert ("a", "b") == (merged(chunks)["content"], merged(chunks, 1)["content"])


REASONS = [
    ("IMAGE_PROHIBITED_CONTENT", "content_filter"),
    ("IMAGE_OTHER", "content_filter"),
    ("MODEL_ARMOR", "content_filter"),
    ("BLOCKLIST", "content_filter"),
    ("LANGUAGE", "content_filter"),
    ("OTHER", "stop"),
    ("NO_IMAGE", "stop"),
]


@pytest.mark.parametrize(("reason", "expected"), REASONS)
def test_case_43_a_finish_that_is_no_plain_one_says_why(
    whole: Whole, streamed: Streamed, reason: str, expected: str
) -> None:
    """In Google's own words, beside OpenAI's; streamed too."""
    ratings = [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "HIGH"}]
    cut = response(reason=reason, finishMessage="It was cut.", safetyRatings=ratings)
    (choice,) = whole(cut)["choices"]
    assert (expected, reason, "") == (
        choice["finish_reason"],
        choice["native_finish_reason"],
        choice["message"]["content"],
    )
    for message in (choice["message"], merged(streamed([cut]))):
        assert ("It was cut.", ratings) == (message["finish_message"], message["safety_ratings"])
    assert reason == merged(streamed([cut]))["native_finish_reason"]


@pytest.mark.parametrize(
    "reason",
    [
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
        "TOO_MANY_TOOL_CALLS",
        "UNEXPECTED_TOOL_CALL",
    ],
)
def test_case_43_an_answer_that_failed_is_an_error(
    whole: Whole, decoded: Decoded, reason: str
) -> None:
    """With Google's word as its code, and no finish."""
    failed = response({"text": "x"}, reason=reason)
    with pytest.raises(ProviderError) as caught:
        whole(failed)
    assert (502, reason.lower()) == (caught.value.status, caught.value.code)
    out, decoder = decoded(b"data: " + json.dumps(failed).encode() + b"\n\n")
    assert decoder.error is not None
    assert reason.lower() == decoder.error.code
    assert b'"finish_reason":"' not in out


@pytest.mark.parametrize("reason", ["TOO_MANY_TOOL_CALLS", "UNEXPECTED_TOOL_CALL"])
def test_case_39_43_a_call_that_google_did_not_expect_is_told(
    whole: Whole, streamed: Streamed, reason: str
) -> None:
    """The client can answer that there is no such tool; Google's word stands beside it."""
    call = {"functionCall": {"name": "list_files", "args": {"a": 1}}}
    failed = response(call, reason=reason, finishMessage="It is undeclared.")
    (choice,) = whole(failed)["choices"]
    (told,) = choice["message"]["tool_calls"]
    assert ("list_files", '{"a": 1}') == (told["function"]["name"], told["function"]["arguments"])
    assert ("tool_calls", reason) == (choice["finish_reason"], choice["native_finish_reason"])
    assert "It is undeclared." == choice["message"]["finish_message"]
    message = merged(streamed([failed]))
    assert ("tool_calls", reason) == (message["finish_reason"], message["native_finish_reason"])


def test_case_39_a_call_may_come_behind_the_finish(streamed: Streamed) -> None:
    """Of the stream's events; the answer finishes as one with calls."""
    late = {"candidates": [{"content": {"parts": [{"functionCall": {"name": "look"}}]}}]}
    for document, word in (
        ({}, "tool_calls"),
        ({"functions": [{"name": "look"}]}, "function_call"),
    ):
        chunks = streamed([response({"text": "a"}), late], document)
        found = [one["finish_reason"] for chunk in chunks for one in chunk["choices"]]
        assert [word] == [reason for reason in found if reason]


@pytest.mark.parametrize(
    "call",
    [
        {"name": "look", "willContinue": True},
        {"partialArgs": [{"jsonPath": "$.a", "stringValue": "x"}]},
    ],
)
def test_a_call_in_pieces_is_an_error_and_never_a_call_of_less(
    decoded: Decoded, call: dict[str, Any]
) -> None:
    """It is never asked for, and has no words in a chunk."""
    event = response({"functionCall": call})
    out, decoder = decoded(b"data: " + json.dumps(event).encode() + b"\n\n")
    assert decoder.error is not None
    assert "invalid_provider_response" == decoder.error.code
    assert b"tool_calls" not in out


def test_case_44_a_prompt_that_is_blocked_says_why(whole: Whole, streamed: Streamed) -> None:
    """One choice and no text; what is told of the reason stands beside it."""
    blocked = {
        "promptFeedback": {"blockReason": "MODEL_ARMOR", "blockReasonMessage": "Injection."},
        "usageMetadata": {"trafficType": "ON_DEMAND"},
    }
    document = whole(blocked)
    (choice,) = document["choices"]
    assert ("", "content_filter", "MODEL_ARMOR", "Injection.") == (
        choice["message"]["content"],
        choice["finish_reason"],
        choice["native_finish_reason"],
        choice["message"]["finish_message"],
    )
    assert "usage" not in document
    message = merged(streamed([blocked]))
    assert ("", "content_filter") == (message["content"], message["finish_reason"])


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"candidates":[]}',
        b'{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}',
        b'{"candidates":[{"finishReason":"FINISH_REASON_UNSPECIFIED"}]}',
        b'{"candidates":{}}',
        b"[]",
        b"",
        b"\xff",
    ],
)
def test_case_82_an_answer_that_is_not_whole_is_an_error(whole: Whole, body: bytes) -> None:
    """Never an empty success."""
    with pytest.raises(ProviderError) as caught:
        whole(body)
    assert (502, "invalid_provider_response") == (caught.value.status, caught.value.code)


def test_case_82_an_end_that_proves_nothing_is_no_success(decoded: Decoded) -> None:
    """The format has no end mark: where HTTP has none either the stream may go on."""
    data = b"data: " + json.dumps(response({"text": "x"})).encode() + b"\n\n"
    assert decoded(data)[1].done
    out, decoder = decoded(data, framed=False)
    assert decoder.error is not None
    assert (False, False) == (decoder.done, b'"finish_reason":"' in out)


# Usage


def test_case_54_the_last_counts_hold(streamed: Streamed) -> None:
    """Those without any figure change nothing."""
    first = response({"text": "a"}, reason=None)
    last = response({"text": "b"})
    last["usageMetadata"] = {
        "promptTokenCount": 9,
        "candidatesTokenCount": 5,
        "thoughtsTokenCount": 2,
    }
    silent = response({"text": "c"}, usageMetadata={"trafficType": "ON_DEMAND"})
    usage = streamed([first, last, silent])[-1]["usage"]
    assert (9, 7, 16, 2) == (
        usage["prompt_tokens"],
        usage["completion_tokens"],
        usage["total_tokens"],
        usage["completion_tokens_details"]["reasoning_tokens"],
    )


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (
            {
                "promptTokenCount": 100,
                "cachedContentTokenCount": 60,
                "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 50}],
                "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 40}],
                "candidatesTokenCount": 8,
                "candidatesTokensDetails": [{"modality": 4, "tokenCount": 6}],
            },
            {"input_uncached": 30, "input_cached": 60, "audio_in": 10, "output_text": 2}
            | {"audio_out": 6},
        ),
        (
            {"promptTokenCount": 5, "cachedContentTokenCount": 9, "thoughtsTokenCount": -4},
            {"input_cached": 5, "estimated": True},
        ),
        (
            {"candidatesTokenCount": 10**15},
            {"output_text": 100_000_000, "estimated": True},
        ),
        ({"promptTokenCount": 0, "candidatesTokenCount": 0}, {}),
    ],
    ids=["48-55-audio", "48-what-cannot-be", "48-too-many", "56-zero"],
)
def test_counts_are_disjoint_and_sane(
    translate: Translate, counts: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Nothing that Gemini says makes one negative; zero is a count."""
    body = json.dumps(response({"text": "x"}, usageMetadata=counts)).encode()
    usage = Gemini(api_key="k").parse_response(translate(), body).usage
    assert usage is not None
    assert expected == {
        name: getattr(usage, name)
        for name in usage.__struct_fields__
        if getattr(usage, name) not in (0, False)
    }


# Sources


def test_sources_are_annotations(whole: Whole, streamed: Streamed) -> None:
    """Of searches and quotations, streamed too; Google's own words stand beside them."""
    grounding = {
        "groundingChunks": [
            {"web": {"uri": "https://a.example", "title": "A"}},
            {"maps": {"uri": "https://b.example"}},
            {"retrievedContext": {"text": "no address"}},
        ],
        "groundingSupports": [
            {"segment": {"endIndex": 3}, "groundingChunkIndices": [0, 2, 7]},
            {"segment": {"startIndex": 3, "endIndex": 5}, "groundingChunkIndices": [1]},
        ],
    }
    quoted = {"citationSources": [{"startIndex": 0, "endIndex": 5, "uri": "https://c.example"}]}
    more = {"groundingMetadata": grounding, "citationMetadata": quoted}
    message = whole(response({"text": "\u00e9abc"}, **more))["choices"][0]["message"]
    assert [
        ("https://a.example", "A", 0, 2),
        ("https://b.example", "", 2, 4),
        ("https://c.example", "", 0, 4),
    ] == [tuple(one["url_citation"].values()) for one in message["annotations"]]
    assert (grounding, quoted) == (message["grounding_metadata"], message["citation_metadata"])
    events = [response({"text": "\u00e9a"}, reason=None), response({"text": "bc"}, **more)]
    assert message["annotations"] == merged(streamed(events))["annotations"]


def test_pages_that_were_read_are_named(whole: Whole) -> None:
    """In Google's own words."""
    read = {"urlMetadata": [{"retrievedUrl": "https://a.example"}]}
    message = whole(response({"text": "a"}, urlContextMetadata=read))["choices"][0]["message"]
    assert read == message["url_context_metadata"]


@pytest.mark.parametrize("metadata", [{"groundingChunks": 3}, [1], {"groundingSupports": [None]}])
def test_sources_that_cannot_be_read_are_none(whole: Whole, metadata: Any) -> None:
    """The answer is whole without them."""
    message = whole(response({"text": "a"}, groundingMetadata=metadata, citationMetadata=[2]))[
        "choices"
    ][0]["message"]
    assert (metadata, False) == (message["grounding_metadata"], "annotations" in message)


# Errors


def test_case_89_a_wrong_key_is_not_the_clients_fault() -> None:
    """Google answers 400; the client gets what it would for any other provider's 401."""
    reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    error = {
        "code": 400,
        "message": "API key not valid. Please pass a valid API key.",
        "status": "INVALID_ARGUMENT",
        "details": [reason],
    }
    found = Gemini(api_key="k").parse_error(400, [], json.dumps({"error": error}).encode())
    assert (502, "provider_authentication_failed") == (found.status, found.code)


def test_case_89_an_error_may_stand_in_an_array() -> None:
    """As it does for streams; the time to come back is told."""
    error = {
        "code": 429,
        "message": "quota",
        "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7.5s"}],
    }
    found = Gemini(api_key="k").parse_error(429, [], json.dumps([{"error": error}]).encode())
    assert (429, 7.5, "rate_limit_error") == (found.status, found.retry_after_seconds, found.type)


def test_case_80_89_an_error_amid_a_stream_ends_it(decoded: Decoded) -> None:
    """With its own status, and no finish."""
    error = {"error": {"code": 503, "message": "The model is overloaded", "status": "UNAVAILABLE"}}
    data = b"".join(
        b"data: " + json.dumps(one).encode() + b"\r\n\r\n"
        for one in (response({"text": "x"}, reason=None), error, response({"text": "y"}))
    )
    out, decoder = decoded(data)
    assert decoder.error is not None
    assert (503, "model_overloaded") == (decoder.error.status, decoder.error.code)
    assert (False, False) == (b'"y"' in out, b'"finish_reason":"' in out)
