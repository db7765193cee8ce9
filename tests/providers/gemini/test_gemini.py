"""Gemini: chats in its words, and its answers in OpenAI's, case by case."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.genai import types
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from asgi_llm.errors import InvalidRequestError, ModelNotFoundError, ProviderError
from asgi_llm.providers.base import StreamDecoder, Translation
from asgi_llm.providers.gemini import Gemini
from asgi_llm.types import Deployment

KEY = "AIza-0123456789"
GEMINI = Gemini(api_key=KEY, clock=lambda: 1_700_000_000.5)
MODEL = "gemini-9-pro"
SCHEMA = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/A"}, "b": {"type": ["string", "null"]}},
    "$defs": {"A": {"const": 1, "exclusiveMinimum": 0}},
}


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def call(name: str = "look", arguments: str = "{}", **more: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": "call_1", "type": "function", "function": function, **more}


def result(content: Any = "ok", **more: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "call_1", "content": content, **more}


def tool(name: str = "look", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


def translate(
    *messages: dict[str, Any], model: str = MODEL, adapter: Gemini = GEMINI, **more: Any
) -> tuple[Any, Translation]:
    document = {"model": "x", "messages": list(messages) or [user("hi")], **more}
    translation = adapter.translate("chat", document, Deployment(provider="gemini", model=model))
    assert isinstance(translation.request.body, bytes)
    return json.loads(translation.request.body), translation


def body_of(*messages: dict[str, Any], **more: Any) -> Any:
    body, translation = translate(*messages, **more)
    assert () == translation.losses
    # As the server would read it: no field that the API lacks.
    for content in [*body["contents"], body.get("systemInstruction", {})]:
        types.Content.model_validate(content)
    types.GenerateContentConfig.model_validate(body.get("generationConfig", {}))
    for one in body.get("tools", ()):
        types.Tool.model_validate(one)
    types.ToolConfig.model_validate(body.get("toolConfig", {}))
    return body


def lost(*messages: dict[str, Any], **more: Any) -> tuple[str, ...]:
    with pytest.raises(InvalidRequestError) as caught:
        translate(*messages, adapter=Gemini(api_key=KEY, strict=True), **more)
    assert "unsupported_field" == caught.value.code
    return translate(*messages, **more)[1].losses


def test_the_key_is_in_a_header_and_the_model_in_the_path() -> None:
    """A stream has a method of its own."""
    _, translation = translate()
    root = "https://generativelanguage.googleapis.com/v1beta"
    assert f"{root}/models/gemini-9-pro:generateContent" == translation.request.url
    assert KEY.encode() == dict(translation.request.headers)[b"x-goog-api-key"]
    _, streamed = translate(stream=True)
    assert streamed.request.url.endswith(":streamGenerateContent?alt=sse")
    _, tuned = translate(model="tunedModels/mine")
    assert f"{root}/tunedModels/mine:generateContent" == tuned.request.url


@pytest.mark.parametrize("model", ["../x", "a?b", "a#b", "a/b", "models/../x", "a%2fb", "a:b"])
def test_a_name_that_would_lead_elsewhere_is_no_model(model: str) -> None:
    """It never reaches a URL."""
    with pytest.raises(ModelNotFoundError):
        translate(model=model)


def test_case_01_02_06_instructions_and_sides() -> None:
    """Both roles go to the system instruction; turns of one side are merged."""
    body = body_of(
        {"role": "system", "content": "a"},
        {"role": "developer", "content": "b"},
        user("c"),
        user("d"),
        {"role": "assistant", "content": "e"},
        user("f"),
    )
    assert [{"text": "a"}, {"text": "b"}] == body["systemInstruction"]["parts"]
    assert ["user", "model", "user"] == [one["role"] for one in body["contents"]]


def test_case_11_12_15_17_media_go_inline_or_by_address() -> None:
    """With the media type that is said, else one by the ending, else the usual one."""
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aaaa"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.webp?x=1"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,aaaa"}},
        {"type": "input_audio", "input_audio": {"data": "aaaa", "format": "mp3"}},
        {"type": "video_url", "video_url": {"url": "gs://bucket/a.mov"}},
    ]
    told = body_of(user(parts))["contents"][0]["parts"]
    assert [
        ("inlineData", "image/png"),
        ("fileData", "image/webp"),
        ("fileData", "image/jpeg"),
        ("inlineData", "application/pdf"),
        ("inlineData", "audio/mpeg"),
        ("fileData", "video/mov"),
    ] == [(key, value["mimeType"]) for part in told for key, value in part.items()]


def test_case_19_the_id_of_a_file_elsewhere_is_refused() -> None:
    """The part is named."""
    with pytest.raises(InvalidRequestError) as caught:
        translate(user([{"type": "file", "file": {"file_id": "file-1"}}]))
    assert "messages[0].content[0]" == caught.value.param


def test_case_14_28_results_are_objects_after_their_calls() -> None:
    """A JSON object as it is, any text in one; pictures with newer models, after it with older."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aaaa"}}
    said = {"role": "assistant", "tool_calls": [call()]}
    for content, response in (('{"a":1}', {"a": 1}), ("ok", {"result": "ok"})):
        body = body_of(user("hi"), said, result(content))
        (part,) = body["contents"][2]["parts"]
        told = {"name": "look", "response": response, "id": "call_1"}
        assert told == part["functionResponse"]
    failed = body_of(user("hi"), said, result("no", is_error=True))
    assert {"error": "no"} == failed["contents"][2]["parts"][0]["functionResponse"]["response"]
    seen = (user("hi"), said, result([{"type": "text", "text": "x"}, image]))
    assert "parts" in body_of(*seen)["contents"][2]["parts"][0]["functionResponse"]
    older, _ = translate(*seen, model="gemini-2.5-flash")
    assert ["functionResponse", "text", "inlineData"] == [
        next(iter(part)) for part in older["contents"][2]["parts"]
    ]
    assert ("messages.content",) == lost(*seen, model="gemini-2.5-flash")


def test_case_20_21_schemas_go_as_they_are_or_in_a_subset_for_older_models() -> None:
    """References are put in place, and what has no word is reported."""
    newer = body_of(tools=[tool(parameters=SCHEMA)])
    assert SCHEMA == newer["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"]
    older, translation = translate(model="gemini-1.5-flash", tools=[tool(parameters=SCHEMA)])
    told = older["tools"][0]["functionDeclarations"][0]["parameters"]
    assert {"a": {}, "b": {"type": "string", "nullable": True}} == told["properties"]
    path = "tools.function.parameters"
    assert (f"{path}.const", f"{path}.exclusiveMinimum") == translation.losses


def test_case_21_a_schema_that_refers_to_itself_ends() -> None:
    """And is reported."""
    loop = {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {}}
    loop["$defs"] = {"A": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}}}
    _, translation = translate(model="gemini-1.5-pro", tools=[tool(parameters=loop)])
    assert ("tools.function.parameters.$ref",) == translation.losses


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        (
            {"type": "function", "function": {"name": "look"}},
            {"mode": "ANY", "allowedFunctionNames": ["look"]},
        ),
    ],
)
def test_case_23_tool_choice(choice: Any, expected: Any) -> None:
    """Each mode has its word."""
    body = body_of(tools=[tool()], tool_choice=choice)
    assert expected == body["toolConfig"]["functionCallingConfig"]


def test_case_25_62_96_calls_keep_their_arguments_and_signatures() -> None:
    """The first call of a turn has one; Google's own stand-in where the client kept none."""
    written = '{"b":123456789012345678901234567890,"a":"\\u00e9"}'
    signed = call(arguments=written, extra_content={"google": {"thought_signature": "c2ln"}})
    body, translation = translate(
        user("hi"), {"role": "assistant", "tool_calls": [signed]}, result()
    )
    assert isinstance(translation.request.body, bytes)
    assert b'"args":' + written.encode() in translation.request.body
    assert "c2ln" == body["contents"][1]["parts"][0]["thoughtSignature"]
    bare, _ = translate(user("hi"), {"role": "assistant", "tool_calls": [call()]}, result())
    stand_in = "skip_thought_signature_validator"
    assert stand_in == bare["contents"][1]["parts"][0]["thoughtSignature"]
    old, _ = translate(
        user("hi"),
        {"role": "assistant", "tool_calls": [call()]},
        result(),
        model="gemini-2.5-pro",
    )
    assert "thoughtSignature" not in old["contents"][1]["parts"][0]


def test_case_33_googles_own_tools_pass() -> None:
    """Another's are refused."""
    search = {"type": "google_search", "google_search": {}}
    assert [{"googleSearch": {}}] == body_of(tools=[search])["tools"]
    with pytest.raises(InvalidRequestError):
        translate(tools=[{"type": "web_search_20250305"}])


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        (MODEL, "high", {"thinkingLevel": "high", "includeThoughts": True}),
        ("gemini-2.5-flash", "low", {"thinkingBudget": 1024, "includeThoughts": True}),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
    ],
)
def test_case_58_effort(model: str, effort: str, expected: Any) -> None:
    """A level, or a budget for older models."""
    config = body_of(model=model, reasoning_effort=effort)["generationConfig"]
    assert expected == config["thinkingConfig"]


def test_case_47_66_67_69_70_71_73_options_have_their_words() -> None:
    """All of them that Gemini has."""
    config = body_of(
        max_completion_tokens=9,
        stop=["a", "b"],
        n=2,
        seed=3,
        top_k=4,
        temperature=1.5,
        top_p=0.5,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        logprobs=True,
        top_logprobs=2,
        response_format={"type": "json_schema", "json_schema": {"name": "A", "schema": SCHEMA}},
    )["generationConfig"]
    assert {
        "maxOutputTokens": 9,
        "stopSequences": ["a", "b"],
        "candidateCount": 2,
        "seed": 3,
        "topK": 4,
        "temperature": 1.5,
        "topP": 0.5,
        "presencePenalty": 0.1,
        "frequencyPenalty": 0.2,
        "responseLogprobs": True,
        "logprobs": 2,
        "responseMimeType": "application/json",
        "responseJsonSchema": SCHEMA,
    } == config
    assert ("stop",) == lost(stop=list("abcdef"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("logit_bias", {"1": 1}), ("user", "u"), ("parallel_tool_calls", False), ("verbosity", "low")],
)
def test_case_73_74_95_what_gemini_cannot_be_told_is_reported(name: str, value: Any) -> None:
    """By its name."""
    assert (name,) == lost(**{name: value})


def test_case_64_thoughts_of_others_are_reported() -> None:
    """Whatever their form."""
    blocks = [{"type": "thinking", "thinking": "hm", "signature": "s"}]
    said = {"role": "assistant", "content": "so", "thinking_blocks": blocks}
    assert ("messages.thinking_blocks",) == lost(user("hi"), said, user("go on"))


def test_case_87_cache_markers_are_reported() -> None:
    """Gemini caches by itself, or by content that was stored before."""
    part = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
    assert ("messages.content.cache_control",) == lost(user([part]))


# Answers


def candidate(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"content": {"role": "model", "parts": list(parts)}, "index": 0, **more}


def response(*candidates: Any, **more: Any) -> dict[str, Any]:
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 4, "totalTokenCount": 14}
    return {
        "candidates": list(candidates),
        "usageMetadata": usage,
        "modelVersion": "gemini-9-pro-001",
        "responseId": "r1",
        **more,
    }


def sse(*responses: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(one).encode() + b"\r\n\r\n" for one in responses)


def read_stream(data: bytes, size: int = 10**9, **more: Any) -> tuple[list[Any], StreamDecoder]:
    _, translation = translate(stream=True, stream_options={"include_usage": True}, **more)
    (decoder,) = GEMINI.stream_decoders(translation)
    out = b"".join(decoder.feed(data[at : at + size]) for at in range(0, len(data), size))
    out += decoder.close()
    events = [block.removeprefix("data: ") for block in out.decode().split("\n\n") if block]
    chunks = [json.loads(event) for event in events if event != "[DONE]"]
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    return chunks, decoder


def read(whole: Any, **more: Any) -> tuple[Any, Any]:
    _, translation = translate(**more)
    answer = GEMINI.parse_response(translation, json.dumps(whole).encode())
    document = json.loads(answer.body)
    ChatCompletion.model_validate(document, strict=True)
    return document, answer.usage


def test_text_comes_whole_and_in_chunks() -> None:
    """With id, model and usage; cut anywhere."""
    document, usage = read(response(candidate({"text": "h\u00e9y"}, finishReason="STOP")))
    (choice,) = document["choices"]
    assert ("h\u00e9y", "stop") == (choice["message"]["content"], choice["finish_reason"])
    assert ("r1", "gemini-9-pro-001", 14) == (
        document["id"],
        document["model"],
        usage.total_tokens,
    )
    data = sse(
        response(candidate({"text": "h\u00e9"})),
        response(candidate({"text": "y"}, finishReason="STOP")),
    )
    for size in (10**9, 1):
        chunks, decoder = read_stream(data, size)
        said = [c["delta"].get("content") for chunk in chunks for c in chunk["choices"]]
        assert "h\u00e9y" == "".join(one or "" for one in said)
        assert decoder.done
        # Counts on each event are of all so far.
        assert 14 == chunks[-1]["usage"]["total_tokens"]


def test_case_26_38_39_calls_come_whole_with_ids_and_signatures() -> None:
    """The finish is ``tool_calls`` though Gemini says STOP; ids are made where it has none."""
    signed = {"functionCall": {"name": "look", "args": {"a": 1}}, "thoughtSignature": "c2ln"}
    plain = {"functionCall": {"name": "now", "id": "given"}}
    document, _ = read(response(candidate(signed, plain, finishReason="STOP")))
    (choice,) = document["choices"]
    one, two = choice["message"]["tool_calls"]
    assert "tool_calls" == choice["finish_reason"]
    assert ('{"a": 1}', "{}") == (one["function"]["arguments"], two["function"]["arguments"])
    assert {"google": {"thought_signature": "c2ln"}} == one["extra_content"]
    assert one["id"].startswith("call_")
    assert "given" == two["id"]
    chunks, _ = read_stream(
        sse(response(candidate(signed)), response(candidate(plain, finishReason="STOP")))
    )
    calls = [
        (one["index"], one["function"]["name"])
        for chunk in chunks
        for c in chunk["choices"]
        for one in c["delta"].get("tool_calls", ())
    ]
    assert [(0, "look"), (1, "now")] == calls
    ends = [c["finish_reason"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"]]
    assert ["tool_calls"] == ends


@pytest.mark.parametrize(
    ("reason", "expected", "native"),
    [
        ("STOP", "stop", None),
        (1, "stop", None),
        ("MAX_TOKENS", "length", None),
        ("SAFETY", "content_filter", "SAFETY"),
        ("RECITATION", "content_filter", "RECITATION"),
        ("SPII", "content_filter", "SPII"),
        ("IMAGE_SAFETY", "content_filter", "IMAGE_SAFETY"),
        ("SOMETHING_NEW", "stop", "SOMETHING_NEW"),
    ],
)
def test_case_43_46_finish_reasons(reason: Any, expected: str, native: str | None) -> None:
    """Google's word stands beside OpenAI's where it says more."""
    (choice,) = read(response(candidate({"text": "x"}, finishReason=reason)))[0]["choices"]
    assert (expected, native) == (choice["finish_reason"], choice.get("native_finish_reason"))


def test_case_43_a_malformed_call_is_an_error() -> None:
    """Whole and streamed."""
    broken = response(candidate(finishReason="MALFORMED_FUNCTION_CALL"))
    with pytest.raises(ProviderError) as caught:
        read(broken)
    assert (502, "malformed_function_call") == (caught.value.status, caught.value.code)
    assert read_stream(sse(broken))[1].error is not None


def test_case_44_a_blocked_prompt_is_a_filtered_answer() -> None:
    """With one empty choice, and no error."""
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}}
    (choice,) = read(blocked)[0]["choices"]
    assert ("", "content_filter", "SAFETY") == (
        choice["message"]["content"],
        choice["finish_reason"],
        choice["native_finish_reason"],
    )
    chunks, decoder = read_stream(sse(blocked))
    assert decoder.done
    assert "content_filter" == chunks[-1]["choices"][0]["finish_reason"]


def test_case_48_54_55_usage_is_in_disjoint_parts() -> None:
    """The cached part is in the prompt, the thoughts are not in the candidates."""
    usage = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 40,
        "candidatesTokenCount": 7,
        "thoughtsTokenCount": 5,
        "toolUsePromptTokenCount": 3,
        "totalTokenCount": 115,
        "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 10}],
    }
    whole = response(candidate({"text": "x"}, finishReason="STOP"), usageMetadata=usage)
    _, found = read(whole)
    assert (53, 40, 10, 7, 5) == (
        found.input_uncached,
        found.input_cached,
        found.audio_in,
        found.output_text,
        found.reasoning,
    )
    assert 115 == found.total_tokens


def test_case_61_thoughts_are_reasoning() -> None:
    """Apart from the text."""
    parts = ({"text": "hm", "thought": True}, {"text": "so"})
    message = read(response(candidate(*parts, finishReason="STOP")))[0]["choices"][0]["message"]
    assert ("hm", "so") == (message["reasoning_content"], message["content"])


def test_case_71_logprobs() -> None:
    """In OpenAI's form, with the bytes of each token."""
    token = {"token": "h\u00e9", "tokenId": 1, "logProbability": -0.5}
    found = {"chosenCandidates": [token], "topCandidates": [{"candidates": [token]}]}
    whole = response(candidate({"text": "h\u00e9"}, finishReason="STOP", logprobsResult=found))
    row = read(whole)[0]["choices"][0]["logprobs"]["content"][0]
    assert ("h\u00e9", -0.5, [104, 195, 169]) == (row["token"], row["logprob"], row["bytes"])
    assert 1 == len(row["top_logprobs"])


def test_grounding_becomes_annotations_in_characters() -> None:
    """Google counts bytes."""
    metadata = {
        "groundingChunks": [{"web": {"uri": "https://example.com", "title": "E"}}],
        "groundingSupports": [
            {"segment": {"startIndex": 2, "endIndex": 5}, "groundingChunkIndices": [0]}
        ],
    }
    whole = response(
        candidate({"text": "\u00e9abc"}, finishReason="STOP", groundingMetadata=metadata)
    )
    message = read(whole)[0]["choices"][0]["message"]
    citation = message["annotations"][0]["url_citation"]
    assert (1, 4) == (citation["start_index"], citation["end_index"])
    assert metadata == message["grounding_metadata"]


def test_case_82_a_stream_cut_before_its_finish_is_no_success() -> None:
    """At any byte, and at the borders of events."""
    data = sse(
        response(candidate({"text": "hello"})),
        response(candidate({"text": " there"})),
        response(candidate({"text": "!"}, finishReason="STOP")),
    )
    last = data.rindex(b"data: ")
    for end in range(last + 1):
        chunks, decoder = read_stream(data[:end])
        assert decoder.error is not None
        assert not any(c["finish_reason"] for chunk in chunks for c in chunk["choices"])
        assert not any(chunk.get("usage") for chunk in chunks)


def test_case_80_81_89_errors() -> None:
    """In a stream, with status 200, and with Google's own time to come back."""
    error = {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}
    _, decoder = read_stream(sse(response(candidate({"text": "x"})), error))
    assert decoder.error is not None
    with pytest.raises(ProviderError):
        read(error)
    retry = {
        "error": {
            "code": 429,
            "message": "quota",
            "status": "RESOURCE_EXHAUSTED",
            "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37s"}],
        }
    }
    told = GEMINI.parse_error(429, [], json.dumps(retry).encode())
    assert (429, 37) == (told.status, told.retry_after_seconds)


# Embeddings


def test_case_92_93_embeddings_are_split_and_put_together() -> None:
    """In order, a hundred texts a call; base64 where it is asked for."""
    document = {"model": "x", "input": [str(n) for n in range(101)], "dimensions": 2}
    deployment = Deployment(provider="gemini", model="gemini-embedding-001")
    translation = GEMINI.translate(
        "embeddings", {**document, "encoding_format": "base64"}, deployment
    )
    sizes = [
        len(json.loads(bytes(request.body))["requests"])  # type: ignore[arg-type]
        for request in (translation.request, *translation.more)
    ]
    assert [100, 1] == sizes
    bodies = [
        json.dumps({"embeddings": [{"values": [float(at), 0.5]} for at in range(size)]}).encode()
        for size in sizes
    ]
    answer = GEMINI.parse_response(translation, *bodies)
    rows = json.loads(answer.body)["data"]
    assert list(range(101)) == [row["index"] for row in rows]
    assert "AACAPwAAAD8=" == rows[1]["embedding"]
    assert answer.usage is not None
    assert answer.usage.estimated


def test_case_94_token_ids_are_refused() -> None:
    """They mean something else to every model."""
    with pytest.raises(InvalidRequestError) as caught:
        GEMINI.translate(
            "embeddings",
            {"model": "x", "input": [[1, 2]]},
            Deployment(provider="gemini", model="e"),
        )
    assert "input[0]" == caught.value.param
