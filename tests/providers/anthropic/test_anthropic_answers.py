"""Claude's answers as OpenAI's: what each translation case says, whole and streamed alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from asgi_llm.errors import ProviderError
from asgi_llm.providers.anthropic import Anthropic
from asgi_llm.providers.base import StreamDecoder, Translation
from asgi_llm.types import Deployment, Usage

CLAUDE = Anthropic(api_key="sk-ant-0123456789", clock=lambda: 1_700_000_000.5)
USAGE = {"input_tokens": 10, "output_tokens": 5}
LONG_NAME = "files.read everything"


def asked(**more: Any) -> Translation:
    document = {"model": "x", "messages": [{"role": "user", "content": "hi"}], **more}
    deployment = Deployment(provider="anthropic", model="claude-opus-9")
    return CLAUDE.translate("chat", document, deployment)


def message(*content: Any, stop_reason: str | None = "end_turn", **more: Any) -> dict[str, Any]:
    return {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "model": "claude-opus-9-20270101",
        "content": list(content),
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": USAGE,
        **more,
    }


def events_of(whole: dict[str, Any], pieces: int = 3) -> list[dict[str, Any]]:
    """The stream in which Claude would have sent ``whole``."""
    begun = {**whole, "content": [], "stop_reason": None, "stop_sequence": None}
    begun["usage"] = {**whole["usage"], "output_tokens": 1}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": begun},
        {"type": "ping"},
    ]
    for index, block in enumerate(whole["content"]):
        events += block_events(index, block, pieces)
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": whole["stop_sequence"]}
    delta |= {name: whole[name] for name in ("stop_details", "container") if name in whole}
    output = {"output_tokens": whole["usage"]["output_tokens"]}
    events.append({"type": "message_delta", "delta": delta, "usage": output})
    return [*events, {"type": "message_stop"}]


def block_events(index: int, block: dict[str, Any], pieces: int) -> list[dict[str, Any]]:
    start, deltas = dict(block), []
    if block["type"] == "text":
        start["text"] = ""
        start.pop("citations", None)
        deltas = [{"type": "text_delta", "text": part} for part in cut(block["text"], pieces)]
        for citation in block.get("citations", ()):
            deltas.append({"type": "citations_delta", "citation": citation})
    elif block["type"] == "thinking":
        start |= {"thinking": "", "signature": ""}
        deltas = [
            {"type": "thinking_delta", "thinking": part} for part in cut(block["thinking"], pieces)
        ]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    elif "input" in block:
        start["input"] = {}
        text = json.dumps(block["input"]) if block["input"] else ""
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in cut(text, pieces)]
    elif block["type"] == "compaction":
        start = {"type": "compaction", "content": None}
        deltas = [{**block, "type": "compaction_delta"}]
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def cut(text: str, pieces: int) -> list[str]:
    size = max(1, -(-len(text) // pieces))
    return [text[at : at + size] for at in range(0, len(text), size)] or [""]


def sse(events: list[dict[str, Any]]) -> bytes:
    return b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events
    )


def read_stream(
    data: bytes, translation: Translation, size: int = 10**9
) -> tuple[list[Any], StreamDecoder]:
    (decoder,) = CLAUDE.stream_decoders(translation)
    out = b"".join(decoder.feed(data[at : at + size]) for at in range(0, len(data), size))
    out += decoder.close()
    events = [block.removeprefix("data: ") for block in out.decode().split("\n\n") if block]
    if decoder.done:
        assert "[DONE]" == events.pop()
    chunks = [json.loads(event) for event in events]
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    return chunks, decoder


def gathered(chunks: list[Any]) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """The message, the choice's end and the usage that a stream adds up to."""
    said: dict[str, Any] = {}
    end: dict[str, Any] = {}
    usage = None
    for chunk in chunks:
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            if choice["finish_reason"]:
                end = {k: v for k, v in choice.items() if k not in ("delta", "index")}
            for name, value in choice["delta"].items():
                if name == "tool_calls":
                    calls = said.setdefault(name, [])
                    for call in value:
                        if call["index"] == len(calls):
                            calls.append({**call, "function": dict(call["function"])})
                            del calls[-1]["index"]
                        else:
                            calls[call["index"]]["function"]["arguments"] += call["function"][
                                "arguments"
                            ]
                elif isinstance(value, str) and name != "role":
                    said[name] = said.get(name, "") + value
                elif isinstance(value, list):
                    said[name] = said.get(name, []) + value
                elif isinstance(value, dict):
                    said[name] = value
    return said, end, usage


def both(whole: dict[str, Any], **asked_more: Any) -> tuple[dict[str, Any], dict[str, Any], Usage]:
    """The message, its end and its usage; the same from the whole answer and from the stream."""
    answer = CLAUDE.parse_response(asked(**asked_more), json.dumps(whole).encode())
    document = json.loads(answer.body)
    ChatCompletion.model_validate(document, strict=True)
    (choice,) = document["choices"]
    said = {k: v for k, v in choice["message"].items() if v is not None and k != "role"}
    end = {k: v for k, v in choice.items() if k not in ("message", "index", "logprobs")}
    options = {**asked_more, "stream": True, "stream_options": {"include_usage": True}}
    data = sse(events_of(whole))
    for size in (10**9, 1):
        chunks, decoder = read_stream(data, asked(**options), size)
        assert decoder.error is None
        streamed, streamed_end, usage = gathered(chunks)
        if not streamed.get("content"):
            streamed.pop("content", None)
        assert {k: v for k, v in said.items() if v != ""} == streamed
        assert end == streamed_end
        assert document["usage"] == usage
        assert answer.usage == decoder.usage
    assert answer.usage is not None
    return said, end, answer.usage


def test_text_and_its_frame() -> None:
    """Id and model are Claude's; the time is ours."""
    answer = CLAUDE.parse_response(
        asked(), json.dumps(message({"type": "text", "text": "hey"})).encode()
    )
    document = json.loads(answer.body)
    assert ("msg_1", "claude-opus-9-20270101", 1_700_000_000) == (
        document["id"],
        document["model"],
        document["created"],
    )
    said, end, _ = both(message({"type": "text", "text": "h\u00e9y \U0001f600"}))
    assert ({"content": "h\u00e9y \U0001f600"}, {"finish_reason": "stop"}) == (said, end)


def test_case_34_35_37_calls_are_numbered_over_the_whole_answer() -> None:
    """Id, type and name first; then arguments; none at all is an empty object."""
    whole = message(
        {"type": "text", "text": "looking"},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"a": 1}},
        {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
        stop_reason="tool_use",
    )
    said, end, _ = both(whole)
    calls = [
        (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in said["tool_calls"]
    ]
    assert [("toolu_1", "look", {"a": 1}), ("toolu_2", "now", {})] == calls
    assert {"finish_reason": "tool_calls"} == end
    chunks, _ = read_stream(sse(events_of(whole)), asked(stream=True))
    firsts = [
        call
        for chunk in chunks
        for choice in chunk["choices"]
        for call in choice["delta"].get("tool_calls", ())
        if "id" in call
    ]
    assert [(0, ""), (1, "")] == [(one["index"], one["function"]["arguments"]) for one in firsts]


def test_case_27_a_mapped_tool_name_is_put_back() -> None:
    """The client reads the name that it gave."""
    tools = [{"type": "function", "function": {"name": LONG_NAME}}]
    sent = json.loads(bytes(asked(tools=tools).request.body))  # type: ignore[arg-type]
    block = {"type": "tool_use", "id": "t", "name": sent["tools"][0]["name"], "input": {}}
    said, _, _ = both(message(block, stop_reason="tool_use"), tools=tools)
    assert LONG_NAME == said["tool_calls"][0]["function"]["name"]


@pytest.mark.parametrize(
    ("reason", "expected", "native"),
    [
        ("end_turn", "stop", None),
        ("stop_sequence", "stop", None),
        ("max_tokens", "length", None),
        ("refusal", "content_filter", "refusal"),
        ("pause_turn", "stop", "pause_turn"),
        ("model_context_window_exceeded", "length", "model_context_window_exceeded"),
        ("something_new", "stop", "something_new"),
    ],
)
def test_case_40_41_42_46_stop_reasons(reason: str, expected: str, native: str | None) -> None:
    """What OpenAI has no word for is kept beside the word that is nearest."""
    _, end, _ = both(message({"type": "text", "text": "x"}, stop_reason=reason))
    told = {"finish_reason": expected}
    assert (told if native is None else {**told, "native_finish_reason": native}) == end


def test_case_75_the_reason_of_a_refusal_is_its_text() -> None:
    """Where there is one; the category stands beside it."""
    details = {"type": "refusal", "category": "bio", "explanation": "This could do harm."}
    said, end, _ = both(message(stop_reason="refusal", stop_details=details))
    assert ("This could do harm.", details) == (said["refusal"], said["stop_details"])
    assert {"finish_reason": "content_filter", "native_finish_reason": "refusal"} == end
    bare = {**details, "explanation": None}
    said, _, _ = both(message(stop_reason="refusal", stop_details=bare))
    assert "refusal" not in said


def test_case_33_the_container_is_named_for_the_next_request() -> None:
    """Where Claude ran code of its own."""
    container = {"id": "container_1", "expires_at": "2026-11-21T00:00:00Z"}
    said, _, _ = both(message({"type": "text", "text": "x"}, container=container))
    assert container == said["container"]


def test_case_33_who_called_is_told_where_it_is_claudes_own_code() -> None:
    """A call of the model itself needs no word."""
    caller = {"type": "code_execution_20250825", "tool_id": "srvtoolu_1"}
    calls = [
        {"type": "tool_use", "id": f"t{n}", "name": "roll", "input": {"n": n}, "caller": by}
        for n, by in enumerate([caller, {"type": "direct"}])
    ]
    said, _, _ = both(message(*calls, stop_reason="tool_use"))
    told = [one.get("extra_content") for one in said["tool_calls"]]
    assert [{"anthropic": {"caller": caller}}, None] == told


def test_case_33_a_stream_may_begin_with_the_whole_message() -> None:
    """As it does when Claude's own code goes on and calls again."""
    blocks = [
        {"type": "text", "text": "well"},
        {"type": "bash_code_execution_tool_result", "tool_use_id": "s", "content": {"n": 1}},
        {"type": "tool_use", "id": "t", "name": "roll", "input": {"n": 2}},
    ]
    whole = message(*blocks, stop_reason="tool_use", container={"id": "container_1"})
    begun = sse([{"type": "message_start", "message": whole}])
    for size in (10**9, 1):
        chunks, decoder = read_stream(begun + sse([{"type": "message_stop"}]), asked(), size)
        assert decoder.error is None
        said, end, _ = gathered(chunks)
        (document,) = json.loads(CLAUDE.parse_response(asked(), json.dumps(whole).encode()).body)[
            "choices"
        ]
        told = {k: v for k, v in document["message"].items() if v is not None and k != "role"}
        assert told == said
        assert "tool_calls" == document["finish_reason"] == end["finish_reason"]
    chunks, decoder = read_stream(begun, asked())
    assert decoder.error is not None
    assert {} == gathered(chunks)[1]


def test_blocks_that_are_never_ended_count() -> None:
    """Other servers of the format leave out the end of a block."""
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "tool_use", "id": "t", "name": "now", "input": {}},
    ]
    events = events_of(message(*blocks, stop_reason="tool_use"))
    kept = [event for event in events if event["type"] != "content_block_stop"]
    assert gathered(read_stream(sse(events), asked())[0]) == gathered(
        read_stream(sse(kept), asked())[0]
    )


def test_case_47_the_stop_sequence_that_was_met_is_kept() -> None:
    """In the field that vLLM uses for it."""
    whole = message({"type": "text", "text": "x"}, stop_reason="stop_sequence", stop_sequence="END")
    assert {"finish_reason": "stop", "stop_reason": "END"} == both(whole)[1]


def test_case_48_51_usage_is_told_in_disjoint_parts_and_in_openais_totals() -> None:
    """Claude's input counts neither cache reads nor writes; both lives of a write are kept."""
    usage = {
        "input_tokens": 10,
        "output_tokens": 7,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10},
        "output_tokens_details": {"thinking_tokens": 3},
    }
    _, _, found = both(message({"type": "text", "text": "x"}, usage=usage))
    assert (10, 100, 20, 10) == (
        found.input_uncached,
        found.input_cached,
        found.cache_write_5m,
        found.cache_write_1h,
    )
    assert (140, 7, 3) == (found.input_tokens, found.output_tokens, found.reasoning)


def test_case_49_50_later_counts_of_a_stream_replace_the_first() -> None:
    """Also those of the input, which grow where the provider's own tools loop."""
    events = events_of(message({"type": "text", "text": "x"}))
    events[0]["message"]["usage"] = {
        "input_tokens": 10,
        "output_tokens": 1,
        "cache_creation_input_tokens": 5,
        "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 0},
    }
    events[-2]["usage"] = {
        "input_tokens": 50,
        "cache_creation_input_tokens": 9,
        "cache_read_input_tokens": 4,
        "output_tokens": 20,
    }
    _, decoder = read_stream(sse(events), asked(stream=True))
    usage = decoder.usage
    assert usage is not None
    assert (63, 9, 20) == (usage.input_tokens, usage.cache_write_5m, usage.output_tokens)


def test_case_52_usage_is_hidden_from_a_client_that_did_not_ask() -> None:
    """The gateway knows it all the same."""
    chunks, decoder = read_stream(sse(events_of(message())), asked(stream=True))
    assert all(chunk["choices"] and "usage" not in chunk for chunk in chunks)
    assert decoder.usage is not None


@pytest.mark.parametrize("count", [-1, 10**12, 10**30])
def test_counts_that_cannot_be_are_clipped(count: int) -> None:
    """What is left of them is an estimate."""
    usage = {"input_tokens": count, "output_tokens": 5, "cache_read_input_tokens": 1}
    _, _, found = both(message(usage=usage))
    assert (True, 5, 1) == (found.estimated, found.output_text, found.input_cached)
    assert 0 <= found.input_uncached <= 100_000_000


def test_case_56_explicit_zeros_are_real_and_silence_is_an_estimate() -> None:
    """The two are told apart."""
    _, _, zero = both(message(usage={"input_tokens": 0, "output_tokens": 0}))
    assert not zero.estimated
    silent = message(usage={"output_tokens": 3})
    answer = CLAUDE.parse_response(asked(), json.dumps(silent).encode())
    assert answer.usage is not None
    assert answer.usage.estimated


def test_case_60_61_thoughts_come_with_their_signatures() -> None:
    """As text for people, and as blocks to be sent back."""
    blocks = [
        {"type": "thinking", "thinking": "let me see \u00e9", "signature": "EqQBCgIYAhIM=="},
        {"type": "redacted_thinking", "data": "EmwKAhgB"},
    ]
    said, _, _ = both(message(*blocks, {"type": "text", "text": "so"}))
    assert "let me see \u00e9" == said["reasoning_content"]
    assert blocks == said["thinking_blocks"]
    assert "so" == said["content"]


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "A", "schema": SCHEMA}}


@pytest.mark.parametrize("input_", [{}, {"a": 1}])
def test_case_68_an_empty_object_is_an_answer_too(input_: dict[str, Any]) -> None:
    """Claude sends no fragment of it."""
    adapter = Anthropic(api_key="sk-ant-0123456789", structured_output="tool")
    document = {
        "model": "x",
        "messages": [{"role": "user", "content": "hi"}],
        "response_format": FORMAT,
    }
    deployment = Deployment(provider="anthropic", model="claude-opus-9")
    translation = adapter.translate("chat", document, deployment)
    block = {"type": "tool_use", "id": "t", "name": "json_response", "input": input_}
    whole = message(block, stop_reason="tool_use")
    answer = adapter.parse_response(translation, json.dumps(whole).encode())
    (choice,) = json.loads(answer.body)["choices"]
    said, _, _ = gathered(read_stream(sse(events_of(whole)), translation)[0])
    assert [input_, input_] == [
        json.loads(content) for content in (choice["message"]["content"], said["content"])
    ]


@pytest.mark.parametrize("with_tools", [False, True])
def test_case_68_a_forced_tool_is_turned_back_into_text(with_tools: bool) -> None:
    """The finish is ``stop``; a call of the client's own tool stays one."""
    adapter = Anthropic(api_key="sk-ant-0123456789", structured_output="tool")
    tools = [{"type": "function", "function": {"name": "look"}}] if with_tools else None
    document = {
        "model": "x",
        "messages": [{"role": "user", "content": "hi"}],
        "response_format": FORMAT,
        "tools": tools,
    }
    deployment = Deployment(provider="anthropic", model="claude-opus-9")
    blocks = [{"type": "tool_use", "id": "t", "name": "json_response", "input": {"a": 1}}]
    if with_tools:
        blocks.append({"type": "tool_use", "id": "u", "name": "look", "input": {}})
    whole = message(*blocks, stop_reason="tool_use")
    translation = adapter.translate("chat", document, deployment)
    answer = adapter.parse_response(translation, json.dumps(whole).encode())
    (choice,) = json.loads(answer.body)["choices"]
    chunks, _ = read_stream(sse(events_of(whole)), translation)
    said, end, _ = gathered(chunks)
    for content, finish in (
        (choice["message"]["content"], choice["finish_reason"]),
        (said["content"], end["finish_reason"]),
    ):
        assert {"a": 1} == json.loads(content)
        assert ("tool_calls" if with_tools else "stop") == finish


def test_case_69_several_answers_become_the_choices_of_one() -> None:
    """Their usage is added up."""
    bodies = [
        json.dumps(message({"type": "text", "text": text})).encode() for text in ("a", "b", "c")
    ]
    answer = CLAUDE.parse_response(asked(n=3), *bodies)
    document = json.loads(answer.body)
    assert [(0, "a"), (1, "b"), (2, "c")] == [
        (choice["index"], choice["message"]["content"]) for choice in document["choices"]
    ]
    assert answer.usage is not None
    assert (30, 15) == (answer.usage.input_tokens, answer.usage.output_tokens)
    assert 45 == document["usage"]["total_tokens"]


def test_case_33_blocks_of_the_providers_own_tools_are_kept_and_are_no_calls() -> None:
    """In an extension, with the input that came in fragments."""
    blocks = [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
    ]
    said, end, _ = both(message(*blocks, {"type": "text", "text": "found"}))
    assert blocks == said["provider_blocks"]
    assert "tool_calls" not in said
    assert {"finish_reason": "stop"} == end


@pytest.mark.parametrize("more", [{}, {"encrypted_content": "EqQB"}])
def test_case_33_a_summary_of_the_conversation_is_kept(more: dict[str, Any]) -> None:
    """As the block that has to be sent back."""
    block = {"type": "compaction", "content": "All before.", **more}
    said, _, _ = both(message(block, {"type": "text", "text": "Hello"}))
    assert ([block], "Hello") == (said["provider_blocks"], said["content"])


def cut_call(reason: str) -> list[dict[str, Any]]:
    """A stream that ends amid the input of a call that Claude makes itself."""
    ran = {"type": "server_tool_use", "id": "s", "name": "bash_code_execution", "input": {"a": "b"}}
    text = {"type": "text", "text": "I compute."}
    events = events_of(message(text, ran, stop_reason=reason), pieces=2)
    last = max(at for at, event in enumerate(events) if event["type"] == "content_block_delta")
    return [*events[:last], *events[last + 1 :]]


@pytest.mark.parametrize(
    ("reason", "finish"), [("max_tokens", "length"), ("refusal", "content_filter")]
)
def test_case_33_40_a_call_of_claudes_own_may_be_cut(reason: str, finish: str) -> None:
    """It was never made, so there is nothing to be sent back."""
    chunks, decoder = read_stream(sse(cut_call(reason)), asked(stream=True))
    said, end, _ = gathered(chunks)
    assert (True, None) == (decoder.done, decoder.error)
    assert ("I compute.", finish) == (said["content"], end["finish_reason"])
    assert "provider_blocks" not in said


def test_case_33_a_call_of_claudes_own_that_is_no_json_is_an_error() -> None:
    """Where nothing cut it: its result would stand alone."""
    _, decoder = read_stream(sse(cut_call("end_turn")), asked(stream=True))
    assert decoder.error is not None
    assert "invalid_provider_response" == decoder.error.code


def test_citations_with_an_address_become_annotations() -> None:
    """They span the text that they are of; all of them are kept as they came."""
    found = {
        "type": "web_search_result_location",
        "url": "https://example.com/a",
        "title": "A",
        "cited_text": "x",
    }
    page = {"type": "page_location", "document_index": 0, "cited_text": "y"}
    whole = message(
        {"type": "text", "text": "one "},
        {"type": "text", "text": "two", "citations": [found, page]},
    )
    said, _, _ = both(whole)
    span = {"url": "https://example.com/a", "title": "A", "start_index": 4, "end_index": 7}
    assert [{"type": "url_citation", "url_citation": span}] == said["annotations"]
    assert [found, page] == said["citations"]


OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


def test_case_80_81_89_an_error_in_a_stream_is_an_error() -> None:
    """As the first event, and after content; 529 is 503 here."""
    events = events_of(message({"type": "text", "text": "hello"}))
    for before in (0, 5):
        chunks, decoder = read_stream(sse([*events[:before], OVERLOADED]), asked(stream=True))
        assert decoder.error is not None
        assert (503, "model_overloaded") == (decoder.error.status, decoder.error.code)
        assert not any(c["finish_reason"] for chunk in chunks for c in chunk["choices"])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("request_too_large", (413, "provider_rejected")),
        ("billing_error", (502, "provider_quota_exhausted")),
        ("rate_limit_error", (429, "rate_limit_exceeded")),
        ("api_error", (502, "provider_unavailable")),
    ],
)
def test_case_81_89_an_error_with_status_200_has_the_status_of_its_kind(
    kind: str, expected: tuple[int, str]
) -> None:
    """In a whole answer as in a stream."""
    data = {"type": "error", "error": {"type": kind, "message": "no"}}
    with pytest.raises(ProviderError) as caught:
        CLAUDE.parse_response(asked(), json.dumps(data).encode())
    _, decoder = read_stream(sse([data]), asked(stream=True))
    assert decoder.error is not None
    for error in (caught.value, decoder.error):
        assert expected == (error.status, error.code or error.type)


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (529, "overloaded_error", (503, "model_overloaded")),
        (429, "rate_limit_error", (429, "rate_limit_exceeded")),
        (401, "authentication_error", (502, "provider_authentication_failed")),
        (413, "request_too_large", (413, "request_too_large")),
    ],
)
def test_case_89_statuses(status: int, kind: str, expected: tuple[int, str]) -> None:
    """The client's own 401 never looks like the provider's."""
    body = json.dumps({"type": "error", "error": {"type": kind, "message": "no"}}).encode()
    error = CLAUDE.parse_error(status, [(b"retry-after", b"7")], body)
    assert expected[0] == error.status
    if status == 429:
        assert 7 == error.retry_after_seconds


def test_case_90_a_context_that_is_too_long_has_openais_code() -> None:
    """Whatever the wording."""
    for text in (
        "prompt is too long: 210000 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 190000 + 32000 > 200000, decrease it",
    ):
        body = {"type": "error", "error": {"type": "invalid_request_error", "message": text}}
        error = CLAUDE.parse_error(400, [], json.dumps(body).encode())
        assert (400, "context_length_exceeded") == (error.status, error.code)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"type":"message","content":"x"}',
        json.dumps(OVERLOADED).encode(),
        json.dumps(message({"type": "text", "text": "x"}, stop_reason=None)).encode(),
    ],
)
def test_case_81_no_answer_with_status_200_is_an_error(body: bytes) -> None:
    """Empty, malformed, an error object, or an answer that is not finished."""
    with pytest.raises(ProviderError) as caught:
        CLAUDE.parse_response(asked(), body)
    assert caught.value.status in (502, 503)


def test_case_76_82_85_a_stream_cut_anywhere_before_its_end_is_no_success() -> None:
    """Nor where it ends at the border of an event; no finish reason is ever seen of it."""
    whole = message(
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "h\u00e9llo"},
        {"type": "tool_use", "id": "t", "name": "look", "input": {"a": "\u00e9"}},
        stop_reason="tool_use",
    )
    data = sse(events_of(whole))
    last = data.rindex(b"event: message_stop")
    borders = [at for at in range(last + 1) if data[:at].endswith(b"\n\n")]
    for end in {*range(0, last, 7), *borders}:
        chunks, decoder = read_stream(data[:end], asked(stream=True))
        assert decoder.error is not None
        assert not decoder.done
        assert not any(c["finish_reason"] for chunk in chunks for c in chunk["choices"])


@pytest.mark.parametrize(
    "damage", [lambda d: d.replace(b"\n", b"\r\n"), lambda d: b"\xef\xbb\xbf" + d]
)
def test_case_77_78_line_ends_and_marks_make_no_difference(
    damage: Callable[[bytes], bytes],
) -> None:
    """CRLF, a byte order mark, comments and pings."""
    data = sse(events_of(message({"type": "text", "text": "hey"})))
    expected, _ = read_stream(data, asked(stream=True))
    found, decoder = read_stream(damage(b": hello\n\n" + data), asked(stream=True))
    assert decoder.done
    assert gathered(expected) == gathered(found)


def test_case_85_the_first_delta_has_the_role_and_the_last_is_empty() -> None:
    """Also of an answer without content."""
    chunks, _ = read_stream(sse(events_of(message({"type": "text", "text": "x"}))), asked())
    assert "assistant" == chunks[0]["choices"][0]["delta"]["role"]
    assert {} == chunks[-1]["choices"][0]["delta"]
    empty, decoder = read_stream(sse(events_of(message())), asked())
    assert decoder.done
    assert ("assistant", "") == (
        empty[0]["choices"][0]["delta"]["role"],
        empty[0]["choices"][0]["delta"]["content"],
    )


def test_a_stream_that_is_malformed_is_an_error() -> None:
    """An event that is no JSON, a delta of a block that never began, and no finish at all."""
    stop = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    orphan = (
        b'data: {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta"}}\n\n'
    )
    for data in (b"data: {nope\n\n", orphan, stop):
        _, decoder = read_stream(data, asked(stream=True))
        assert decoder.error is not None
        assert 502 == decoder.error.status
