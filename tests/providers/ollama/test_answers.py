"""Answers of Ollama's native API, whole and streamed. Numbers are the translation cases'."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from asgi_llm.errors import InvalidRequestError, ProviderError
from asgi_llm.providers.base import StreamDecoder, Translation
from asgi_llm.providers.ollama import Ollama
from asgi_llm.types import Deployment, Usage

Translate = Callable[..., Translation]
Whole = Callable[..., dict[str, Any]]
Streamed = Callable[..., list[dict[str, Any]]]

COUNTS: dict[str, Any] = {
    "prompt_eval_count": 26,
    "eval_count": 9,
    "total_duration": 5,
    "eval_duration": 3,
}
END: dict[str, Any] = {"done": True, "done_reason": "stop", **COUNTS}


def line(message: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "model": "llama3.2:3b",
        "created_at": "2025-10-26T17:21:21.196249Z",
        "message": {"role": "assistant", "content": "", **(message or {})},
        "done": False,
        **fields,
    }


def tool(name: str, arguments: Any, **more: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}, **more}


def message_of(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """What the deltas of a stream add up to."""
    found: dict[str, Any] = {"content": "", "reasoning_content": "", "calls": []}
    for chunk in chunks:
        for choice in chunk["choices"]:
            delta = choice["delta"]
            found["content"] += delta.get("content") or ""
            found["reasoning_content"] += delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls", ()):
                assert call["index"] == len(found["calls"])
                found["calls"].append((call["function"]["name"], call["function"]["arguments"]))
            if choice["finish_reason"]:
                found["finish"] = choice["finish_reason"]
                found["native"] = choice.get("native_finish_reason")
        found["usage"] = chunk.get("usage")
    return found


def summary_of(answer: dict[str, Any]) -> dict[str, Any]:
    """The same of a whole answer."""
    (choice,) = answer["choices"]
    message = choice["message"]
    return {
        "content": message["content"] or "",
        "reasoning_content": message.get("reasoning_content", ""),
        "calls": [
            (call["function"]["name"], call["function"]["arguments"])
            for call in message.get("tool_calls", ())
        ],
        "finish": choice["finish_reason"],
        "native": choice.get("native_finish_reason"),
        "usage": answer.get("usage"),
    }


ANSWERS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "text": (
        [line({"content": "Grüße"}), line({"content": ", 世界"}), line(**END)],
        {"content": "Grüße, 世界", "finish": "stop"},
    ),
    "58-thinking": (
        [
            line({"thinking": "Let me"}),
            line({"thinking": " see."}),
            line({"content": "Four."}),
            line(**END),
        ],
        {"reasoning_content": "Let me see.", "content": "Four.", "finish": "stop"},
    ),
    "34-38-39-tools": (
        [
            line({"tool_calls": [tool("a", {"x": 1}), tool("b", {})]}),
            line({"tool_calls": [tool("c", {"y": [True, None]})]}),
            line(**END),
        ],
        {"calls": [("a", '{"x":1}'), ("b", "{}"), ("c", '{"y":[true,null]}')]}
        | {"finish": "tool_calls"},
    ),
    "37-no-arguments": (
        [line({"tool_calls": [tool("a", None)]}), line(**END)],
        {"calls": [("a", "{}")], "finish": "tool_calls"},
    ),
    "25-arguments-in-a-string": (
        [line({"tool_calls": [tool("a", '{"x": 1}')]}), line(**END)],
        {"calls": [("a", '{"x": 1}')], "finish": "tool_calls"},
    ),
    "40-length": (
        [line({"content": "Once"}), line(**{**END, "done_reason": "length"})],
        {"content": "Once", "finish": "length"},
    ),
    "39-length-amid-calls": (
        [line({"tool_calls": [tool("a", {})]}), line(**{**END, "done_reason": "length"})],
        {"calls": [("a", "{}")], "finish": "length"},
    ),
    "46-load": (
        [line(done=True, done_reason="load")],
        {"finish": "stop", "native": "load", "usage": None},
    ),
    "46-unload": (
        [line(done=True, done_reason="unload")],
        {"finish": "stop", "native": "unload", "usage": None},
    ),
    "46-unknown": (
        [line({"content": "a"}), line(**{**END, "done_reason": "tired"})],
        {"content": "a", "finish": "stop", "native": "tired"},
    ),
    "40-no-reason": (
        [line({"content": "a"}), line(done=True, **COUNTS)],
        {"content": "a", "finish": "stop"},
    ),
    "05-empty": ([line(**END)], {"finish": "stop"}),
    "65-tags-are-text-unless-configured": (
        [line({"content": "<think>a</think>b"}), line(**END)],
        {"content": "<think>a</think>b", "finish": "stop"},
    ),
}

NOTHING: dict[str, Any] = {
    "content": "",
    "reasoning_content": "",
    "calls": [],
    "native": None,
    "usage": {
        "prompt_tokens": 26,
        "completion_tokens": 9,
        "total_tokens": 35,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    },
}


def as_one(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole answer that Ollama would have given in place of ``lines``."""
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    for one in lines:
        message["content"] += one["message"]["content"]
        if thoughts := one["message"].get("thinking"):
            message["thinking"] = message.get("thinking", "") + thoughts
        if calls := one["message"].get("tool_calls"):
            message["tool_calls"] = message.get("tool_calls", []) + calls
    return {**lines[-1], "message": message}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_reads_the_same_whole(name: str, whole: Whole) -> None:
    """Text, thoughts, calls, the finish and usage."""
    lines, expected = ANSWERS[name]
    compact = json.loads(json.dumps(as_one(lines)))
    found = summary_of(whole(compact))
    found["calls"] = [(called, squeezed(arguments)) for called, arguments in found["calls"]]
    expected = {**NOTHING, **expected}
    expected["calls"] = [(called, squeezed(given)) for called, given in expected["calls"]]
    assert expected == found


def squeezed(arguments: str) -> str:
    return json.dumps(json.loads(arguments), separators=(",", ":"))


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_reads_the_same_in_a_stream(name: str, size: int, streamed: Streamed) -> None:
    """Case 76: cut anywhere, also within a character."""
    lines, expected = ANSWERS[name]
    found = message_of(streamed(lines, size=size))
    found["calls"] = [(called, squeezed(arguments)) for called, arguments in found["calls"]]
    expected = {**NOTHING, **expected}
    expected["calls"] = [(called, squeezed(given)) for called, given in expected["calls"]]
    assert expected == found


def test_case_77_lines_may_end_in_crlf_and_the_last_in_nothing(translate: Translate) -> None:
    """Blank lines between them say nothing."""
    data = b"\r\n\r\n".join(json.dumps(one).encode() for one in ANSWERS["text"][0])
    (decoder,) = Ollama().stream_decoders(translate({"stream": True}))
    out = decoder.feed(data) + decoder.close()
    assert decoder.done
    assert out.endswith(b"data: [DONE]\n\n")


def test_case_85_the_first_delta_has_the_role_and_the_last_only_the_finish(
    streamed: Streamed,
) -> None:
    """Usage comes after it, in a chunk without choices (case 53)."""
    first, _, last, usage = streamed(ANSWERS["text"][0])
    assert {"role": "assistant", "content": "Grüße"} == first["choices"][0]["delta"]
    assert ({}, "stop") == (last["choices"][0]["delta"], last["choices"][0]["finish_reason"])
    assert [] == usage["choices"]


def test_case_52_usage_is_shown_only_if_it_is_asked_for(translate: Translate) -> None:
    """The app learns of it all the same."""
    data = b"".join(json.dumps(one).encode() + b"\n" for one in ANSWERS["text"][0])
    (decoder,) = Ollama().stream_decoders(translate({"stream": True}))
    assert b'"usage"' not in decoder.feed(data)
    assert Usage(input_uncached=26, output_text=9) == decoder.usage


def test_case_26_calls_without_an_id_get_a_stable_one(whole: Whole, streamed: Streamed) -> None:
    """Different for each call; an id of Ollama's own is kept."""
    calls = {"tool_calls": [tool("a", {}), tool("b", {}, id="call_own")]}
    (choice,) = whole(line(calls, **END))["choices"]
    first, second = (call["id"] for call in choice["message"]["tool_calls"])
    assert first.startswith("call_")
    assert ("call_own", True) == (second, first != second)
    chunks = streamed([line(calls), line(**END)])
    ids = [
        call["id"]
        for chunk in chunks
        for choice in chunk["choices"]
        for call in choice["delta"].get("tool_calls", ())
    ]
    assert (2, "call_own") == (len(ids), ids[1])


def test_case_71_log_probabilities_have_openais_form(whole: Whole, streamed: Streamed) -> None:
    """Bytes are null where Ollama leaves them out."""
    given = [
        {
            "token": "Hi",
            "logprob": -0.1,
            "bytes": [72, 105],
            "top_logprobs": [{"token": "Ho", "logprob": -2.5}],
        },
        {"token": "!", "logprob": -0.2},
    ]
    expected = [
        {
            "token": "Hi",
            "logprob": -0.1,
            "bytes": [72, 105],
            "top_logprobs": [{"token": "Ho", "logprob": -2.5, "bytes": None}],
        },
        {"token": "!", "logprob": -0.2, "bytes": None, "top_logprobs": []},
    ]
    (choice,) = whole(line({"content": "Hi!"}, logprobs=given, **END))["choices"]
    assert {"content": expected, "refusal": None} == choice["logprobs"]
    chunks = streamed(
        [
            line({"content": "Hi"}, logprobs=given[:1]),
            line({"content": "!"}, logprobs=given[1:]),
            line(**END),
        ]
    )
    found = [
        one
        for chunk in chunks
        for choice in chunk["choices"]
        for one in (choice.get("logprobs") or {}).get("content", ())
    ]
    assert expected == found


def usage_of(translate: Translate, counts: dict[str, Any]) -> Usage | None:
    answer = line({"content": "a"}, done=True, done_reason="stop", **counts)
    return Ollama().parse_response(translate(), json.dumps(answer).encode()).usage


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        (COUNTS, Usage(input_uncached=26, output_text=9)),
        ({}, None),
        ({"prompt_eval_count": 26}, Usage(input_uncached=26)),
        ({"prompt_eval_count": 0, "eval_count": 9}, Usage(output_text=9)),
        ({"eval_count": 9}, Usage(input_uncached=2, output_text=9, estimated=True)),
        ({"prompt_eval_count": 26, "eval_count": -1}, Usage(input_uncached=26, estimated=True)),
        ({"prompt_eval_count": "26", "eval_count": None}, None),
    ],
)
def test_case_56_counts_that_ollama_leaves_out_are_zero_or_an_estimate(
    translate: Translate, counts: dict[str, Any], usage: Usage | None
) -> None:
    """The prompt's is an estimate, since Ollama may only have kept it; none at all is None."""
    found = usage_of(translate, counts)
    assert usage == found


def test_case_97_the_answer_has_ollamas_name_of_the_model(whole: Whole) -> None:
    """The app puts the client's name in its place where it has to."""
    assert "other:7b" == whole(line({"content": "a"}, **{**END, "model": "other:7b"}))["model"]


def test_case_69_the_answers_to_several_calls_are_choices_of_one(translate: Translate) -> None:
    """Their usage is summed."""
    bodies = [json.dumps(line({"content": text}, **END)).encode() for text in "ab"]
    answer = Ollama().parse_response(translate({"n": 2}), *bodies)
    choices = json.loads(answer.body)["choices"]
    assert [(0, "a"), (1, "b")] == [(one["index"], one["message"]["content"]) for one in choices]
    assert Usage(input_uncached=52, output_text=18) == answer.usage


def feed_all(decoder: StreamDecoder, lines: list[dict[str, Any]]) -> bytes:
    return b"".join(decoder.feed(json.dumps(one).encode() + b"\n") for one in lines)


def test_case_69_the_streams_of_several_calls_end_together(translate: Translate) -> None:
    """The last one says so, with the usage of both."""
    asked = {"n": 2, "stream": True, "stream_options": {"include_usage": True}}
    first, second = Ollama().stream_decoders(translate(asked))
    out = feed_all(first, ANSWERS["text"][0])
    assert b"[DONE]" not in out
    out = feed_all(second, ANSWERS["text"][0])
    assert out.endswith(b"data: [DONE]\n\n")
    assert b'"prompt_tokens":52' in out
    assert b'"index":1' in out


@pytest.mark.parametrize("cut", range(len(ANSWERS["58-thinking"][0])))
def test_case_82_a_stream_without_its_end_mark_is_an_error(cut: int, translate: Translate) -> None:
    """However well it is framed: no finish, no usage, no [DONE]."""
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    (decoder,) = Ollama().stream_decoders(translate(asked))
    out = feed_all(decoder, ANSWERS["58-thinking"][0][:cut]) + decoder.close(framed=True)
    assert decoder.error is not None
    assert "stream_truncated" == decoder.error.code
    assert not any(word in out for word in (b'"finish_reason":"', b'"usage"', b"[DONE]"))
    assert decoder.usage is None


@pytest.mark.parametrize("at", [0, 2])
def test_case_80_and_81_an_error_line_ends_the_stream(at: int, translate: Translate) -> None:
    """What came before has been sent; nothing that follows is."""
    lines = [*ANSWERS["58-thinking"][0]]
    lines.insert(at, {"error": "an error was encountered while running the model"})
    (decoder,) = Ollama().stream_decoders(translate({"stream": True}))
    out = feed_all(decoder, lines) + decoder.close()
    assert decoder.error is not None
    assert (502, "an error was encountered while running the model") == (
        decoder.error.status,
        decoder.error.message,
    )
    assert at == out.count(b"data: ")
    assert b"[DONE]" not in out


@pytest.mark.parametrize(
    "data", [b"{\n", b'{"message":{"content":1}}\n', b"[]\n", b"\xff\n", b'{"message":{"content":']
)
def test_case_76_a_line_that_cannot_be_read_is_an_error(data: bytes, translate: Translate) -> None:
    """Not an exception, and not an answer."""
    (decoder,) = Ollama().stream_decoders(translate({"stream": True}))
    assert b"" == decoder.feed(data) + decoder.close()
    assert decoder.error is not None
    assert 502 == decoder.error.status


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"<html>", b'{"message":{"content":"a"},"done":false}', b"\xff"]
)
def test_a_body_that_is_no_answer_is_an_error(body: bytes, translate: Translate) -> None:
    """A 502, with status 200 or not."""
    with pytest.raises(ProviderError) as caught:
        Ollama().parse_response(translate(), body)
    assert (502, "invalid_provider_response") == (caught.value.status, caught.value.code)


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        (404, "model 'nope' not found", (404, "model_not_found")),
        (400, '"llama3" does not support thinking', (400, "provider_rejected")),
        (400, "the input length exceeds the context length", (400, "context_length_exceeded")),
        (401, "unauthorized", (502, "provider_authentication_failed")),
        (429, "rate limited", (429, "rate_limit_exceeded")),
        (500, "llama runner process has terminated", (502, "provider_unavailable")),
        (503, "server busy, please try again", (503, "model_overloaded")),
    ],
)
def test_case_89_and_90_errors_keep_their_sense(
    status: int, text: str, expected: tuple[int, str]
) -> None:
    """In OpenAI's words, without the key."""
    adapter = Ollama(api_key="oll-secret-0123")
    body = json.dumps({"error": text + " oll-secret-0123"}).encode()
    error = adapter.parse_error(status, [], body)
    assert expected == (error.status, error.code)
    assert "oll-secret" not in error.message


# Embeddings

AT = Deployment(provider="ollama", model="all-minilm")
VECTORS = [[0.5, -1.25, 0.0], [1.0, 2.0, -0.0]]


def embed(document: dict[str, Any], **options: Any) -> tuple[Translation, dict[str, Any]]:
    adapter = Ollama(**options)
    translation = adapter.translate("embeddings", {"model": "m", **document}, AT)
    assert isinstance(translation.request.body, bytes)
    assert translation.request.url.endswith("/api/embed")
    return translation, json.loads(translation.request.body)


def test_embeddings_are_asked_in_one_call() -> None:
    """A text that is too long is an error unless the client says that it may be cut."""
    translation, body = embed({"input": ["a", "b"], "dimensions": 3, "user": "u"})
    assert {
        "model": "all-minilm",
        "input": ["a", "b"],
        "truncate": False,
        "dimensions": 3,
    } == body
    assert ("user",) == translation.losses
    _, body = embed(
        {"input": "a", "truncate": True, "options": {"num_ctx": 9}, "keep_alive": 0},
        options={"num_ctx": 1, "seed": 2},
    )
    assert (["a"], True, {"num_ctx": 9, "seed": 2}, 0) == (
        body["input"],
        body["truncate"],
        body["options"],
        body["keep_alive"],
    )


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_case_92_vectors_are_encoded_as_asked(encoding: str | None) -> None:
    """Base64 is little-endian and of 32 bits, as openai-python reads it."""
    translation, _ = embed({"input": ["a", "b"], "encoding_format": encoding})
    answer = Ollama().parse_response(
        translation, json.dumps({"embeddings": VECTORS, "prompt_eval_count": 4}).encode()
    )
    document = json.loads(answer.body)
    rows = [row["embedding"] for row in document["data"]]
    if encoding == "base64":
        packed = b"\x00\x00\x00\x3f\x00\x00\xa0\xbf\x00\x00\x00\x00"
        assert packed == base64.b64decode(rows[0])
    else:
        assert VECTORS == rows
    assert ([0, 1], {"prompt_tokens": 4, "total_tokens": 4}) == (
        [row["index"] for row in document["data"]],
        document["usage"],
    )
    assert Usage(input_uncached=4) == answer.usage


def test_case_93_another_number_of_dimensions_than_asked_for_is_an_error() -> None:
    """Old versions do not know the field and would give whole vectors."""
    translation, _ = embed({"input": "a", "dimensions": 2})
    with pytest.raises(ProviderError) as caught:
        Ollama().parse_response(translation, json.dumps({"embeddings": VECTORS[:1]}).encode())
    assert (400, "dimensions") == (caught.value.status, caught.value.param)


def test_case_94_token_ids_are_refused() -> None:
    """They are OpenAI's."""
    with pytest.raises(InvalidRequestError) as caught:
        embed({"input": [[1, 2]]})
    assert "input[0]" == caught.value.param


@pytest.mark.parametrize(
    "body",
    [b"{}", b'{"embeddings":[]}', b'{"embeddings":[["a"]]}', b'{"embeddings":[[1],[2]]}', b"no"],
)
def test_a_list_of_vectors_of_another_length_is_an_error(body: bytes) -> None:
    """One for each text, or none."""
    translation, _ = embed({"input": "a"})
    with pytest.raises(ProviderError) as caught:
        Ollama().parse_response(translation, body)
    assert "invalid_provider_response" == caught.value.code


def test_an_error_with_status_200_is_an_error() -> None:
    """With its text."""
    translation, _ = embed({"input": "a"})
    with pytest.raises(ProviderError, match="no such thing"):
        Ollama().parse_response(translation, b'{"error":"no such thing"}')


# Models


def test_models_are_those_of_the_server() -> None:
    """With the time of their last change."""
    adapter = Ollama(base_url="http://gpu:11434")
    request = adapter.build_models_request()
    assert request is not None
    assert ("GET", "http://gpu:11434/api/tags") == (request.method, request.url)
    rows = [
        {"name": "a:latest", "model": "a:latest", "modified_at": "2025-05-24T20:57:43.123456789Z"},
        {"name": "b", "modified_at": "2025-05-24T22:57:43+02:00", "size": 7, "details": {}},
        {"name": "c", "modified_at": "soon"},
        {"digest": "sha256:0"},
    ]
    cards = adapter.parse_models(json.dumps({"models": rows}).encode())
    assert [("a:latest", 1748120263), ("b", 1748120263), ("c", 0)] == [
        (card.id, card.created) for card in cards
    ]
    for body in (b"[]", b"{}", b"\xff"):
        with pytest.raises(ProviderError):
            adapter.parse_models(body)
