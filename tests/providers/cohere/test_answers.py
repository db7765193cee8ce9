"""Cohere's answers, whole and streamed, part by part."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from asgi_llm.errors import ProviderError, ProviderTimeoutError, ProviderUnavailableError
from asgi_llm.providers.base import Translation
from asgi_llm.providers.cohere import Cohere
from asgi_llm.types import Usage

Translate = Callable[..., Translation]
Whole = Callable[..., dict[str, Any]]
Streamed = Callable[..., list[dict[str, Any]]]

USAGE = {
    "billed_units": {"input_tokens": 10, "output_tokens": 7.0},
    "tokens": {"input_tokens": 505, "output_tokens": 9, "reasoning_tokens": 3},
    "cached_tokens": 448,
}
START = {
    "id": "a1",
    "type": "message-start",
    "delta": {
        "message": {
            "role": "assistant",
            "content": [],
            "tool_plan": "",
            "tool_calls": [],
            "citations": [],
        }
    },
}
CITATION = {
    "start": 0,
    "end": 5,
    "text": "Hello",
    "type": "TEXT_CONTENT",
    "sources": [
        {"type": "tool", "id": "t:0", "tool_output": {"content": "x"}},
        {
            "type": "document",
            "id": "d",
            "document": {"url": "https://a.example/", "title": "A", "snippet": "Hello"},
        },
    ],
}


def event(type_: str, message: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    made = {"type": type_, **fields}
    if message is not None:
        made["delta"] = {"message": message}
    return made


def text(piece: str, **fields: Any) -> dict[str, Any]:
    return event("content-delta", {"content": {"text": piece}}, index=0, **fields)


def end(reason: str | None = "COMPLETE", **delta: Any) -> dict[str, Any]:
    return event("message-end", delta={"finish_reason": reason, "usage": USAGE, **delta})


def started(index: int, call_id: str, name: str, arguments: str = "") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    made = {"id": call_id, "type": "function", "function": function}
    return event("tool-call-start", {"tool_calls": made}, index=index)


def more(index: int, arguments: str) -> dict[str, Any]:
    message = {"tool_calls": {"function": {"arguments": arguments}}}
    return event("tool-call-delta", message, index=index)


def folded(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """One message of the deltas of one choice."""
    made: dict[str, Any] = {"content": "", "reasoning_content": "", "calls": []}
    for chunk in chunks:
        for choice in chunk["choices"]:
            delta = choice["delta"]
            made["content"] += delta.get("content") or ""
            made["reasoning_content"] += delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls") or ():
                if "id" in call:
                    assert len(made["calls"]) == call["index"]
                    made["calls"].append([call["id"], call["function"]["name"], ""])
                made["calls"][call["index"]][2] += call["function"]["arguments"]
            for name in ("citations", "annotations"):
                made[name] = made.get(name, []) + delta.get(name, [])
            if choice["finish_reason"]:
                made["finish"] = choice
    return made


def test_a_text(whole: Whole) -> None:
    """With the provider's id and our model's name."""
    found = whole({"content": [{"type": "text", "text": "Hello."}]}, usage=USAGE)
    assert ("a1", "command-a-03-2025") == (found["id"], found["model"])
    (choice,) = found["choices"]
    assert ("Hello.", "stop") == (choice["message"]["content"], choice["finish_reason"])


@pytest.mark.parametrize("size", [1, 13, 100_000])
def test_a_streamed_text(streamed: Streamed, size: int) -> None:
    """At any cut; the role comes first and the usage last."""
    chunks = streamed(
        [
            START,
            event("content-start", {"content": {"type": "text", "text": ""}}, index=0),
            text("Grüße"),
            text(" 世界"),
            event("content-end", index=0),
            end(),
        ],
        size=size,
    )
    assert "assistant" == chunks[0]["choices"][0]["delta"]["role"]
    assert {"a1"} == {chunk["id"] for chunk in chunks}
    found = folded(chunks)
    assert ("Grüße 世界", "stop") == (found["content"], found["finish"]["finish_reason"])
    assert (10, 7) == (
        chunks[-1]["usage"]["prompt_tokens"],
        chunks[-1]["usage"]["completion_tokens"],
    )


def test_case_55_billed_units_are_the_usage(translate: Translate) -> None:
    """Thoughts are a part of the output; the tokens count where nothing is billed."""
    adapter = Cohere(api_key="k")
    message = {"role": "assistant", "content": [{"type": "text", "text": "x"}]}
    bodies = [
        USAGE,
        {"tokens": {**USAGE["tokens"], "image_tokens": 5}, "cached_tokens": 448},  # type: ignore[dict-item]
        {"billed_units": {"input_tokens": 0, "output_tokens": 0}},
        {},
    ]
    found = [
        adapter.parse_response(
            translate(),
            json.dumps({"message": message, "finish_reason": "COMPLETE", "usage": one}).encode(),
        ).usage
        for one in bodies
    ]
    assert [
        Usage(input_uncached=10, output_text=4, reasoning=3),
        Usage(input_uncached=62, input_cached=448, output_text=6, reasoning=3),
        Usage(),
        None,
    ] == found


def test_case_61_thoughts_and_plans_are_reasoning(whole: Whole, streamed: Streamed) -> None:
    """Both come before a call."""
    content = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hello."}]
    found = whole({"content": content, "tool_plan": "I will. "})["choices"][0]["message"]
    assert ("I will. hm", "Hello.") == (found["reasoning_content"], found["content"])
    chunks = streamed(
        [
            START,
            event("tool-plan-delta", {"tool_plan": "I "}),
            event("tool-plan-delta", {"tool_plan": "will. "}),
            event("content-start", {"content": {"type": "thinking", "thinking": "h"}}, index=0),
            event("content-delta", {"content": {"thinking": "m"}}, index=0),
            event("content-end", index=0),
            event("content-start", {"content": {"type": "text", "text": "Hel"}}, index=1),
            text("lo."),
            end(),
        ]
    )
    made = folded(chunks)
    assert ("I will. hm", "Hello.") == (made["reasoning_content"], made["content"])


def test_case_34_to_37_calls(whole: Whole, streamed: Streamed) -> None:
    """Each with an index of its own, big numbers untouched, and {} where nothing is given."""
    calls = [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"n":1e400}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}},
    ]
    message = whole({"tool_calls": calls}, "TOOL_CALL")["choices"][0]["message"]
    assert message["content"] is None
    assert [("a", "f", '{"n":1e400}'), ("b", "g", "{}")] == [
        (one["id"], one["function"]["name"], one["function"]["arguments"])
        for one in message["tool_calls"]
    ]
    made = folded(
        streamed(
            [
                START,
                started(0, "a", "f"),
                more(0, '{"n":'),
                more(0, "1e400}"),
                event("tool-call-end", index=0),
                started(1, "b", "g"),
                event("tool-call-end", index=1),
                end("TOOL_CALL"),
            ]
        )
    )
    assert [["a", "f", '{"n":1e400}'], ["b", "g", "{}"]] == made["calls"]
    assert "tool_calls" == made["finish"]["finish_reason"]


def test_pieces_of_a_call_that_has_not_begun_are_an_error(streamed: Streamed) -> None:
    """No call is made up."""
    with pytest.raises(ProviderUnavailableError) as caught:
        streamed([START, more(3, "{}"), end()])
    assert "invalid_provider_response" == caught.value.code


@pytest.mark.parametrize(
    ("word", "calls", "expected", "native"),
    [
        ("COMPLETE", False, "stop", None),
        ("COMPLETE", True, "tool_calls", None),
        ("TOOL_CALL", True, "tool_calls", None),
        ("STOP_SEQUENCE", False, "stop", None),
        ("MAX_TOKENS", True, "length", None),
        ("ERROR_TOXIC", False, "content_filter", "ERROR_TOXIC"),
        ("NEW_WORD", False, "stop", "NEW_WORD"),
    ],
)
def test_case_39_and_46_finish_reasons(
    whole: Whole, streamed: Streamed, word: str, calls: bool, expected: str, native: str | None
) -> None:
    """Calls make the difference; a word that is not OpenAI's is kept."""
    made = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    message: dict[str, Any] = {"content": [{"type": "text", "text": "x"}]}
    if calls:
        message = {"tool_calls": made}
    (choice,) = whole(message, word)["choices"]
    begun = started(0, "a", "f", "{}") if calls else text("x")
    finish = folded(streamed([START, begun, end(word)]))["finish"]
    for one in (choice, finish):
        assert (expected, native) == (one["finish_reason"], one.get("native_finish_reason"))


@pytest.mark.parametrize(
    ("word", "cls"), [("ERROR", ProviderUnavailableError), ("TIMEOUT", ProviderTimeoutError)]
)
def test_an_answer_that_ends_with_an_error_is_one(
    whole: Whole, streamed: Streamed, word: str, cls: type[ProviderError]
) -> None:
    """Whole and streamed; what Cohere says of it is told."""
    with pytest.raises(cls):
        whole({"content": [{"type": "text", "text": "x"}]}, word)
    with pytest.raises(cls):
        streamed([START, text("x"), end(word)])
    with pytest.raises(ProviderUnavailableError, match="out of luck"):
        streamed([START, text("x"), end(None, error="out of luck")])


def test_case_81_an_error_in_the_stream_is_one(translate: Translate) -> None:
    """In the form of Cohere's errors, without a type."""
    (decoder,) = Cohere(api_key="k").stream_decoders(translate({"stream": True}))
    assert b"" == decoder.feed(b'data: {"id":"x","message":"too many tokens"}\n\n')
    assert decoder.error is not None
    assert "too many tokens" == str(decoder.error)


def test_citations_are_kept_in_both_forms(whole: Whole, streamed: Streamed) -> None:
    """Cohere's for all, and OpenAI's for documents with an address."""
    annotation = {
        "type": "url_citation",
        "url_citation": {
            "start_index": 0,
            "end_index": 5,
            "url": "https://a.example/",
            "title": "A",
        },
    }
    content = [{"type": "text", "text": "Hello."}]
    message = whole({"content": content, "citations": [CITATION, CITATION]})["choices"][0][
        "message"
    ]
    assert [CITATION] * 2 == message["citations"]
    assert [annotation] * 2 == message["annotations"]
    cited = event("citation-start", {"citations": CITATION}, index=0)
    over = event("citation-end", index=0)
    made = folded(streamed([START, text("Hello."), cited, over, cited, over, end()]))
    assert ([CITATION] * 2, [annotation] * 2) == (made["citations"], made["annotations"])


def test_case_71_log_probabilities(whole: Whole, streamed: Streamed) -> None:
    """Of each piece of text; that of a piece of several tokens is the sum."""
    rows = [
        {"text": "Hel", "token_ids": [1], "logprobs": [-0.5]},
        {"text": "ü", "token_ids": [2, 3], "logprobs": [-0.25, -0.5]},
    ]
    expected = [
        {"token": "Hel", "logprob": -0.5, "bytes": [72, 101, 108], "top_logprobs": []},
        {"token": "ü", "logprob": -0.75, "bytes": [195, 188], "top_logprobs": []},
    ]
    found = whole({"content": [{"type": "text", "text": "Helü"}]}, logprobs=rows)
    assert expected == found["choices"][0]["logprobs"]["content"]
    chunks = streamed([START, *(text(row["text"], logprobs=row) for row in rows), end()])  # type: ignore[arg-type]
    assert expected == [
        row
        for chunk in chunks
        for choice in chunk["choices"]
        for row in (choice.get("logprobs") or {"content": []})["content"]
    ]


def test_case_69_choices_are_counted_and_usage_is_summed(translate: Translate) -> None:
    """Two answers make one."""
    message = {"role": "assistant", "content": [{"type": "text", "text": "x"}]}
    body = json.dumps({"message": message, "finish_reason": "COMPLETE", "usage": USAGE}).encode()
    answer = Cohere(api_key="k").parse_response(translate({"n": 2}), body, body)
    found = json.loads(answer.body)
    assert [0, 1] == [choice["index"] for choice in found["choices"]]
    assert 20 == found["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    "data",
    [b"", b"event: message-start\n", b'data: {"type":"content-delta","index":0}\n\n'],
)
def test_case_82_a_stream_without_its_end_is_truncated(translate: Translate, data: bytes) -> None:
    """A finish reason comes with the end mark or not at all."""
    (decoder,) = Cohere(api_key="k").stream_decoders(translate({"stream": True}))
    decoder.feed(data)
    decoder.close()
    assert decoder.error is not None
    assert "stream_truncated" == decoder.error.code


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"message":{"content":"x"}}', b'{"message":{}}'])
def test_an_answer_that_is_none_is_a_502(translate: Translate, body: bytes) -> None:
    """Empty, of another form, or unfinished."""
    with pytest.raises(ProviderUnavailableError) as caught:
        Cohere(api_key="k").parse_response(translate(), body)
    assert "invalid_provider_response" == caught.value.code


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"id": "x", "message": "invalid request: no"}, (400, "provider_rejected")),
        (
            400,
            {"error_type": "TOO_MANY_TOKENS", "id": "x", "message": "too many tokens: size limit"},
            (400, "context_length_exceeded"),
        ),
        (401, {"message": "invalid api token"}, (502, "provider_authentication_failed")),
        (498, {"message": "invalid token"}, (502, "provider_authentication_failed")),
        (404, {"message": "model 'x' not found"}, (404, "model_not_found")),
        (429, {"message": "trial key limit"}, (429, "rate_limit_exceeded")),
        (503, {"message": "busy"}, (503, "model_overloaded")),
        (504, {"message": "late"}, (504, "provider_timeout")),
    ],
)
def test_case_89_and_90_errors(status: int, body: Any, expected: Any) -> None:
    """In Cohere's form."""
    error = Cohere(api_key="k").parse_error(status, [], json.dumps(body).encode())
    assert expected == (error.status, error.code)


def test_models() -> None:
    """Their list, and what is none."""
    adapter = Cohere(api_key="k")
    request = adapter.build_models_request()
    assert request is not None
    assert "https://api.cohere.com/v1/models?page_size=1000" == request.url
    body = b'{"models":[{"name":"command-r","endpoints":["chat"]},{"name":""}]}'
    assert ["command-r"] == [card.id for card in adapter.parse_models(body)]
    with pytest.raises(ProviderUnavailableError):
        adapter.parse_models(b"{}")


def test_sources_that_are_no_list_are_an_error(whole: Whole, streamed: Streamed) -> None:
    """Of the provider."""
    wrong = {**CITATION, "sources": 3}
    content = [{"type": "text", "text": "Hello"}]
    with pytest.raises(ProviderError):
        whole({"content": content, "citations": [wrong]})
    with pytest.raises(ProviderError):
        streamed([{"type": "citation-start", "delta": {"message": {"citations": wrong}}}])
