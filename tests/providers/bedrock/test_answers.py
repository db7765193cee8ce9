"""Answers of Converse and ConverseStream: each test reads the same answer whole and streamed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from asgi_llm.errors import ProviderError
from asgi_llm.providers.base import StreamDecoder

Both = Callable[..., dict[str, Any]]
Whole = Callable[..., dict[str, Any]]
Streamed = Callable[..., list[dict[str, Any]]]
Decoded = Callable[..., tuple[bytes, StreamDecoder]]
Framed = Callable[..., bytes]

FUNCTION = {"name": "look", "parameters": {"type": "object", "properties": {}}}
TOOLS = {"tools": [{"type": "function", "function": FUNCTION}]}
FORMAT = {
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "a", "schema": {"type": "object"}},
    }
}


def call(name: str = "look", id: str = "tooluse_1", **arguments: Any) -> dict[str, Any]:
    return {"toolUse": {"toolUseId": id, "name": name, "input": arguments}}


def test_a_text_is_the_content(both: Both) -> None:
    """With its finish reason, and no word of Bedrock's where OpenAI's says the same."""
    found = both([{"text": "Grüße!"}])
    assert {"role": "assistant", "content": "Grüße!", "refusal": None} == found["message"]
    assert ("stop", False) == (found["finish_reason"], "native_finish_reason" in found)


def test_case_34_35_calls_have_indexes_of_their_own(both: Both) -> None:
    """Through the whole stream, in order, beside a text."""
    found = both([{"text": "So."}, call(a=1), call("go", "tooluse_2", b="x")], "tool_use", TOOLS)
    assert "tool_calls" == found["finish_reason"]
    assert [("tooluse_1", "look", {"a": 1}), ("tooluse_2", "go", {"b": "x"})] == [
        (one["id"], one["function"]["name"], json.loads(one["function"]["arguments"]))
        for one in found["message"]["tool_calls"]
    ]


def test_case_37_a_call_without_arguments_has_an_empty_object(both: Both) -> None:
    """Where its stream has no delta at all, too."""
    found = both([call()], "tool_use", TOOLS)
    assert "{}" == found["message"]["tool_calls"][0]["function"]["arguments"]
    assert found["message"]["content"] is None


def test_case_39_calls_finish_as_calls(both: Both) -> None:
    """Whatever the model says."""
    assert "tool_calls" == both([call()], "end_turn", TOOLS)["finish_reason"]


def test_case_27_names_are_turned_back(both: Both) -> None:
    """To those that the client uses."""
    odd = "my.tool/" + "x" * 80
    tools = [{"type": "function", "function": {"name": odd}}]
    there = "my_tool_" + "x" * 47
    document = {"tools": tools}
    message = both([call("look")], "tool_use", document)["message"]
    assert "look" == message["tool_calls"][0]["function"]["name"]
    digest = hashlib.sha256(odd.encode()).hexdigest()[:8]
    message = both([call(f"{there}_{digest}")], "tool_use", document)["message"]
    assert odd == message["tool_calls"][0]["function"]["name"]


@pytest.mark.parametrize(
    ("reason", "finish", "native"),
    [
        ("end_turn", "stop", None),
        ("stop_sequence", "stop", None),
        ("max_tokens", "length", None),
        ("model_context_window_exceeded", "length", "model_context_window_exceeded"),
        ("guardrail_intervened", "content_filter", "guardrail_intervened"),
        ("content_filtered", "content_filter", "content_filtered"),
        ("one_of_tomorrow", "stop", "one_of_tomorrow"),
    ],
)
def test_case_42_45_46_stop_reasons(
    both: Both, reason: str, finish: str, native: str | None
) -> None:
    """In OpenAI's words; Bedrock's stands beside where it says more."""
    found = both([{"text": "a"}], reason)
    assert (finish, native) == (found["finish_reason"], found.get("native_finish_reason"))


@pytest.mark.parametrize("reason", ["malformed_model_output", "malformed_tool_use"])
def test_what_the_model_wrote_badly_is_an_error(
    whole: Whole, streamed: Streamed, reason: str
) -> None:
    """Never a finish reason as if all were well."""
    answer = {"output": {"message": {"content": []}}, "stopReason": reason, "usage": {}}
    events: list[tuple[str, Any]] = [("messageStop", {"stopReason": reason}), ("metadata", {})]
    for read in (lambda: whole(answer), lambda: streamed(events)):
        with pytest.raises(ProviderError) as caught:
            read()
        assert (502, reason) == (caught.value.status, caught.value.code)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"null",
        b'{"output":{},"stopReason":"end_turn"}',
        b"<html>",
        b"\xff",
        b'{"output',
    ],
)
def test_case_45_no_output_is_an_error(whole: Whole, body: bytes) -> None:
    """With status 502, though Bedrock said 200."""
    with pytest.raises(ProviderError) as caught:
        whole(body)
    assert (502, "invalid_provider_response") == (caught.value.status, caught.value.code)


def test_case_45_an_empty_stream_is_an_error(decoded: Decoded) -> None:
    """Nothing of a finish leaves."""
    out, decoder = decoded(b"")
    assert (b"", "stream_truncated") == (out, decoder.error and decoder.error.code)


def test_case_45_a_guardrails_trace_is_kept(both: Both) -> None:
    """As it came."""
    trace = {"guardrail": {"actionReason": "masked"}}
    found = both([{"text": "no"}], "guardrail_intervened", more={"trace": trace})
    assert trace == found["message"]["trace"]


def test_case_47_the_stop_sequence_that_was_met_is_told(both: Both) -> None:
    """Where the client asked for it, as Claude tells it."""
    fields = {"additionalModelResponseFields": {"stop_sequence": "END"}}
    found = both([{"text": "a"}], "stop_sequence", more=fields)
    assert "END" == found["stop_reason"]
    assert {"stop_sequence": "END"} == found["message"]["additional_model_response_fields"]


# Usage


def test_case_48_input_excludes_what_was_cached(both: Both) -> None:
    """So the parts are added up to OpenAI's total."""
    counts = {
        "inputTokens": 10,
        "outputTokens": 7,
        "totalTokens": 117,
        "cacheReadInputTokens": 60,
        "cacheWriteInputTokens": 40,
    }
    usage = both([{"text": "a"}], usage=counts)["usage"]
    assert (110, 7, 117) == tuple(
        usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    assert (60, 40) == (
        usage["prompt_tokens_details"]["cached_tokens"],
        usage["prompt_tokens_details"]["cache_write_tokens"],
    )


@pytest.mark.parametrize(
    ("details", "minutes", "hours"),
    [
        ([{"ttl": "1h", "inputTokens": 30}, {"ttl": "5m", "inputTokens": 10}], 10, 30),
        ([{"ttl": "1h", "inputTokens": 300}], 0, 40),
        ([], 40, 0),
        (None, 40, 0),
        ("odd", 40, 0),
    ],
)
def test_case_51_cache_writes_are_kept_apart(
    decoded: Decoded, framed: Framed, details: Any, minutes: int, hours: int
) -> None:
    """Of five minutes and of an hour, which cost differently."""
    counts = {"inputTokens": 1, "outputTokens": 1, "cacheWriteInputTokens": 40}
    data = framed(
        ("contentBlockDelta", {"delta": {"text": "a"}, "contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {"usage": {**counts, "cacheDetails": details}}),
    )
    usage = decoded(data)[1].usage
    assert usage is not None
    assert (minutes, hours, False) == (usage.cache_write_5m, usage.cache_write_1h, usage.estimated)


@pytest.mark.parametrize("odd", [-5, "many", None, 1e30, True])
def test_case_56_counts_that_cannot_be_are_an_estimate(
    decoded: Decoded, framed: Framed, odd: Any
) -> None:
    """Never negative, and no reason to lose the answer; zero is a count."""
    events: list[tuple[str, Any]] = [
        ("contentBlockDelta", {"delta": {"text": "a"}, "contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
    ]
    counts = {"inputTokens": odd, "outputTokens": 0}
    usage = decoded(framed(*events, ("metadata", {"usage": counts})))[1].usage
    assert usage is not None
    assert (0, 0, True) == (usage.input_tokens, usage.output_tokens, usage.estimated)
    counts = {"inputTokens": 0, "outputTokens": 0}
    usage = decoded(framed(*events, ("metadata", {"usage": counts})))[1].usage
    assert usage is not None
    assert not usage.estimated


def test_a_stream_without_its_usage_is_whole(decoded: Decoded, framed: Framed) -> None:
    """Its message has ended, and its body as HTTP says; a lost connection would prove nothing."""
    data = framed(
        ("contentBlockDelta", {"delta": {"text": "a"}, "contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
    )
    out, decoder = decoded(data)
    assert (True, None) == (decoder.done, decoder.usage)
    assert out.endswith(b"data: [DONE]\n\n")
    out, decoder = decoded(data, is_whole=False)
    assert decoder.error is not None
    assert b'"stop"' not in out


# Thoughts


def test_case_60_61_thoughts_come_with_their_signatures(both: Both) -> None:
    """As text, and as blocks to be sent back, byte for byte."""
    signature = "EqQBCkYIBxgCKkC+/x=="
    redacted = "RXU4RUNrZ0lCeA=="
    message = both(
        [
            {"reasoningContent": {"reasoningText": {"text": "Hm, so.", "signature": signature}}},
            {"reasoningContent": {"redactedContent": redacted}},
            {"text": "Yes."},
        ]
    )["message"]
    assert ("Yes.", "Hm, so.") == (message["content"], message["reasoning_content"])
    assert [
        {"type": "thinking", "thinking": "Hm, so.", "signature": signature},
        {"type": "redacted_thinking", "data": redacted},
    ] == message["thinking_blocks"]


def test_thoughts_without_a_signature_have_none(both: Both) -> None:
    """As other models' than Claude's have."""
    thought = {"reasoningContent": {"reasoningText": {"text": "Let me see."}}}
    message = both([thought, {"text": "a"}])["message"]
    assert [{"type": "thinking", "thinking": "Let me see."}] == message["thinking_blocks"]


def test_redacted_thoughts_in_pieces_are_put_together(streamed: Streamed) -> None:
    """As bytes: each piece has been encoded by itself."""
    events: list[tuple[str, Any]] = [
        (
            "contentBlockDelta",
            {"delta": {"reasoningContent": {"redactedContent": piece}}, "contentBlockIndex": 0},
        )
        for piece in ("YQ==", "Yg==")
    ]
    events += [("messageStop", {"stopReason": "end_turn"}), ("metadata", {"usage": {}})]
    (first, *_) = streamed(events)
    assert [{"type": "redacted_thinking", "data": "YWI="}] == first["choices"][0]["delta"][
        "thinking_blocks"
    ]


@pytest.mark.parametrize("wrong", ["?", "é"])
def test_redacted_thoughts_that_are_no_base64_are_an_error(
    decoded: Decoded, framed: Framed, wrong: str
) -> None:
    """Where they would have to be put together."""
    events = [
        (
            "contentBlockDelta",
            {"delta": {"reasoningContent": {"redactedContent": piece}}, "contentBlockIndex": 0},
        )
        for piece in ("YQ==", wrong)
    ]
    _, decoder = decoded(framed(*events, ("contentBlockStop", {"contentBlockIndex": 0})))
    assert decoder.error is not None
    assert "invalid_provider_response" == decoder.error.code


# Sources, pictures, and what Bedrock runs itself


def test_sources_are_annotations_where_they_have_an_address(both: Both) -> None:
    """And in their own words in any case."""
    page = {"title": "d", "location": {"documentPage": {"documentIndex": 0, "start": 1, "end": 2}}}
    web = {"title": "w", "location": {"web": {"url": "https://example.com/a"}}}
    content = [
        {"text": "So: "},
        {"citationsContent": {"content": [{"text": "it is."}], "citations": [page, web]}},
        {"text": " Yes."},
    ]
    message = both(content)["message"]
    assert "So: it is. Yes." == message["content"]
    assert [page, web] == message["citations"]
    cited = {"url": "https://example.com/a", "title": "w", "start_index": 4, "end_index": 10}
    assert [{"type": "url_citation", "url_citation": cited}] == message["annotations"]


def test_pictures_are_images(both: Both) -> None:
    """As data URLs."""
    picture = {"image": {"format": "png", "source": {"bytes": "iVBORw0KGgo="}}}
    message = both([{"text": "Here."}, picture])["message"]
    assert ["data:image/png;base64,iVBORw0KGgo="] == [
        one["image_url"]["url"] for one in message["images"]
    ]


def test_case_33_what_bedrock_ran_is_no_call_of_the_clients(both: Both) -> None:
    """It comes as blocks that can be sent back."""
    ran = {
        "toolUseId": "s1",
        "name": "nova_grounding",
        "type": "server_tool_use",
        "input": {"q": 1},
    }
    got = {"toolUseId": "s1", "status": "success", "content": [{"text": "found"}]}
    found = both([{"toolUse": ran}, {"toolResult": got}, {"text": "Yes."}])
    message = found["message"]
    assert ("stop", "Yes.", False) == (
        found["finish_reason"],
        message["content"],
        "tool_calls" in message,
    )
    assert [
        {"type": "toolUse", "toolUse": ran},
        {"type": "toolResult", "toolResult": got},
    ] == message["provider_blocks"]


@pytest.mark.parametrize("reason", ["max_tokens", "end_turn"])
def test_case_33_42_what_bedrock_runs_may_be_cut(
    decoded: Decoded, framed: Framed, reason: str
) -> None:
    """By the end of the answer; it was never run, so there is nothing to be sent back."""
    start = {"toolUse": {"toolUseId": "s1", "name": "n", "type": "server_tool_use"}}
    data = framed(
        ("contentBlockStart", {"start": start, "contentBlockIndex": 0}),
        ("contentBlockDelta", {"delta": {"toolUse": {"input": '{"q'}}, "contentBlockIndex": 0}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": reason}),
        ("metadata", {}),
    )
    out, decoder = decoded(data)
    if reason == "max_tokens":
        assert (True, None) == (decoder.done, decoder.error)
        assert b'"finish_reason":"length"' in out
        assert b"provider_blocks" not in out
    else:
        assert decoder.error is not None
        assert "invalid_provider_response" == decoder.error.code


# Formats by a tool


def test_case_68_a_forced_call_is_the_text_again(both: Both) -> None:
    """With the finish reason that a text has."""
    found = both([call("json_response", a=[1, "ü"])], "tool_use", FORMAT)
    assert ({"a": [1, "ü"]}, "stop") == (
        json.loads(found["message"]["content"]),
        found["finish_reason"],
    )
    assert "tool_calls" not in found["message"]
    assert "{}" == both([call("json_response")], "tool_use", FORMAT)["message"]["content"]


def test_case_68_the_clients_own_tools_stay_calls(both: Both) -> None:
    """Beside the one that stands for the format."""
    found = both([call(a=1)], "tool_use", {**FORMAT, **TOOLS})
    assert ("tool_calls", "look") == (
        found["finish_reason"],
        found["message"]["tool_calls"][0]["function"]["name"],
    )


# The wire


def test_case_85_the_first_delta_has_the_role_and_the_last_is_empty(streamed: Streamed) -> None:
    """And usage comes behind them, alone."""
    chunks = streamed(
        [
            ("contentBlockDelta", {"delta": {"text": "a"}, "contentBlockIndex": 0}),
            ("messageStop", {"stopReason": "end_turn"}),
            ("metadata", {"usage": {"inputTokens": 1, "outputTokens": 1}}),
        ]
    )
    first, last, usage = chunks
    assert {"role": "assistant", "content": "a"} == first["choices"][0]["delta"]
    assert ({}, "stop") == (
        last["choices"][0]["delta"],
        last["choices"][0]["finish_reason"],
    )
    assert ([], 2) == (usage["choices"], usage["usage"]["total_tokens"])


def test_case_96_arguments_are_the_very_characters(whole: Whole) -> None:
    """Big integers, escapes, and the order of keys."""
    arguments = rb'{"b":12345678901234567890123,"a":"\u00fc\ud83d\ude00","b2":1.50}'
    body = (
        rb'{"output":{"message":{"content":[{"toolUse":{"toolUseId":"t","name":"look","input":'
        + arguments
        + rb'}}]}},"stopReason":"tool_use","usage":{}}'
    )
    (choice,) = whole(body, TOOLS)["choices"]
    assert arguments.decode() == choice["message"]["tool_calls"][0]["function"]["arguments"]


def test_events_of_tomorrow_say_nothing(streamed: Streamed) -> None:
    """They do no harm either."""
    events: list[tuple[str, Any]] = [
        ("somethingNew", {"a": 1}),
        ("contentBlockDelta", {"delta": {"something": 1}, "contentBlockIndex": 5}),
        ("contentBlockStop", {"contentBlockIndex": 9}),
        ("contentBlockDelta", {"contentBlockIndex": 0}),
        ("contentBlockDelta", {"delta": {"text": "a"}, "contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {}),
    ]
    assert "a" == streamed(events)[0]["choices"][0]["delta"]["content"]


@pytest.mark.parametrize("start", [{}, {"start": {}}])
def test_a_block_may_start_without_a_word(streamed: Streamed, start: dict[str, Any]) -> None:
    """Its deltas say what it is."""
    events: list[tuple[str, Any]] = [
        ("contentBlockStart", {**start, "contentBlockIndex": 0}),
        ("contentBlockDelta", {"delta": {"text": "a"}, "contentBlockIndex": 0}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {}),
    ]
    deltas = [choice["delta"] for chunk in streamed(events) for choice in chunk["choices"]]
    assert [{"role": "assistant", "content": "a"}, {}] == deltas


def test_arguments_of_no_call_are_an_error(decoded: Decoded, framed: Framed) -> None:
    """They would be lost."""
    event = {"delta": {"toolUse": {"input": "{}"}}, "contentBlockIndex": 0}
    _, decoder = decoded(framed(("contentBlockDelta", event)))
    assert decoder.error is not None
    assert "invalid_provider_response" == decoder.error.code
