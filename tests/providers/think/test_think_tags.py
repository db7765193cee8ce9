"""Case 65: thoughts between tags become reasoning_content, where that is configured."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asgi_llm.providers._passthrough import OpenAIFormat
from asgi_llm.providers._quirks import THINK_TAGS
from asgi_llm.providers._think_tags import ThinkSplitter
from asgi_llm.providers.base import StreamDecoder
from asgi_llm.providers.compatible import compatible
from asgi_llm.providers.ollama import Ollama
from asgi_llm.providers.openai import OpenAI
from asgi_llm.types import Deployment, Usage

KEY = "sk-test-0123456789"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}

TEXTS = [
    ("<think>\nOkay.\n</think>\n\nYes.", "Okay.\n", "Yes."),
    (" \n<think>a</think>b", "a", "b"),
    ("<think></think>b", "", "b"),
    ("<think>\n\n</think>\n\nb", "", "b"),
    ("<think>a</think>", "a", ""),
    ("<think>a", "a", ""),
    ("<think>a</thi", "a</thi", ""),
    ("<think>a < b </ c</think>d", "a < b </ c", "d"),
    ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
    ("<think>a<think>b</think>c", "a<think>b", "c"),
    ("plain", "", "plain"),
    ("  plain ", "", "  plain "),
    ("<b>bold</b>", "", "<b>bold</b>"),
    ("<thinking>a</thinking>", "", "<thinking>a</thinking>"),
    ("say <think>a</think>", "", "say <think>a</think>"),
    ("<thi", "", "<thi"),
    (" " * 64 + "<think>a</think>b", "a", "b"),
    (" " * 65 + "<think>a</think>b", "", " " * 65 + "<think>a</think>b"),
    (" \n", "", " \n"),
    ("", "", ""),
]


def split(pieces: list[str]) -> tuple[str, str]:
    splitter = ThinkSplitter()
    found = [splitter.feed(piece) for piece in pieces] + [splitter.close()]
    return "".join(thoughts for thoughts, _ in found), "".join(text for _, text in found)


@pytest.mark.parametrize(("text", "thoughts", "rest"), TEXTS)
def test_a_text_is_split_at_every_cut(text: str, thoughts: str, rest: str) -> None:
    """Whole, in two, and in single characters."""
    for pieces in [[text], list(text), *([text[:at], text[at:]] for at in range(len(text)))]:
        assert (thoughts, rest) == split(pieces)


letters = st.text(st.sampled_from("<>/thinkab \n"), max_size=24)
tagged = st.tuples(letters, letters).map(lambda parts: f"<think>{parts[0]}</think>{parts[1]}")


@settings(max_examples=400, deadline=None)
@given(text=letters | tagged, cuts=st.lists(st.integers(0, 60), max_size=8))
@example(text="<think>a</think></think>", cuts=[8, 9, 17])
def test_any_cut_gives_what_the_whole_gives(text: str, cuts: list[int]) -> None:
    """And what that is can be said without a machine of states."""
    begun = text.lstrip()
    if begun.startswith("<think>"):
        inside, _, rest = begun.removeprefix("<think>").partition("</think>")
        # White space before the closing tag is a part of the thoughts, unless there are none.
        thoughts = inside.lstrip()
        expected = thoughts, rest.lstrip()
    else:
        expected = "", text
    borders = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(borders)]
    assert expected == split(pieces)


def event(content: Any = None, finish: str | None = None, index: int = 0, **delta: Any) -> bytes:
    if content is not None:
        delta["content"] = content
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    chunk = {"id": "c", "object": "chat.completion.chunk", "x": 1, "choices": [choice]}
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
USAGE = (
    b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}\n\n'
)


def decoder_of(adapter: OpenAIFormat | Ollama, *quirks: str, **document: Any) -> StreamDecoder:
    at = Deployment(provider=adapter.name, model="m", quirks=frozenset(quirks))
    asked = {**CHAT, "stream": True, **document}
    (decoder,) = adapter.stream_decoders(adapter.translate("chat", asked, at))
    return decoder


def message_of(data: bytes) -> dict[int, list[str]]:
    """For each choice: its thoughts, its text, and its finish reason."""
    found: dict[int, list[str]] = {}
    for block in data.split(b"\n\n")[:-1]:
        if block == b"data: [DONE]" or block.startswith(b":"):
            continue
        for choice in json.loads(block.removeprefix(b"data: "))["choices"]:
            row = found.setdefault(choice["index"], ["", "", ""])
            row[0] += choice["delta"].get("reasoning_content") or ""
            row[1] += choice["delta"].get("content") or ""
            row[2] += choice["finish_reason"] or ""
    return found


@pytest.mark.parametrize(("text", "thoughts", "rest"), TEXTS)
def test_a_stream_is_split_at_every_cut_of_text_and_bytes(
    text: str, thoughts: str, rest: str
) -> None:
    """The tags may be spread over events, and the events over chunks."""
    for step in (1, 3, 100):
        pieces = [text[at : at + step] for at in range(0, len(text), step)]
        data = event(role="assistant", content="") + b"".join(event(piece) for piece in pieces)
        data += b": ping\n\n" + event(finish="stop") + USAGE + DONE
        for size in (11, len(data)):
            decoder = decoder_of(compatible("vllm", quirks=[THINK_TAGS]))
            out = b"".join(decoder.feed(data[at : at + size]) for at in range(0, len(data), size))
            out += decoder.close()
            assert {0: [thoughts, rest, "stop"]} == message_of(out)
            assert (True, None, 10) == (
                decoder.done,
                decoder.error,
                decoder.usage and decoder.usage.total_tokens,
            )
            assert out.endswith(USAGE + DONE)
            assert b": ping\n\n" in out


def test_each_choice_is_split_for_itself() -> None:
    """Also when they come interleaved."""
    data = b"".join(
        (
            event("<thi", index=0),
            event("plain", index=1),
            event("nk>a</think>", index=0),
            event(" <think>", index=1),
            event("b", index=0),
            event(finish="stop", index=1),
            event(finish="length", index=0),
            DONE,
        )
    )
    decoder = decoder_of(OpenAI(api_key=KEY, quirks=[THINK_TAGS]), n=2)
    out = decoder.feed(data) + decoder.close()
    assert {0: ["a", "b", "length"], 1: ["", "plain <think>", "stop"]} == message_of(out)


def test_after_the_tags_events_pass_as_the_bytes_that_came() -> None:
    """The very object that was fed, as without the quirk."""
    decoder = decoder_of(OpenAI(api_key=KEY, quirks=[THINK_TAGS]))
    decoder.feed(event("<think>a</think>b"))
    chunk = event("c", x_other=[1])
    assert chunk is decoder.feed(chunk)


def test_other_fields_of_a_changed_event_keep_their_bytes() -> None:
    """Large numbers, escapes and unknown fields."""
    data = (
        b'data: {"id":"c","big":123456789012345678901234567890,"s":"\\u00e9","choices":[{"index":0,'
        b'"delta":{"role":"assistant","content":"<think>a","y":1.50},"finish_reason":null}]}\n\n'
    )
    decoder = decoder_of(OpenAI(api_key=KEY, quirks=[THINK_TAGS]))
    assert (
        b'data: {"id":"c","big":123456789012345678901234567890,"s":"\\u00e9","choices":[{"index":0,'
        b'"delta":{"role":"assistant","content":"","y":1.50,"reasoning_content":"a"},'
        b'"finish_reason":null}]}\n\n'
    ) == decoder.feed(data)


def test_thoughts_come_after_those_that_the_server_has_told_itself() -> None:
    """In the same delta."""
    decoder = decoder_of(OpenAI(api_key=KEY, quirks=[THINK_TAGS]))
    out = decoder.feed(event("<think>b</think>c", reasoning_content="a"))
    assert {0: ["ab", "c", ""]} == message_of(out)


def test_text_in_the_finishing_event_is_split_too() -> None:
    """With what was held back before."""
    decoder = decoder_of(OpenAI(api_key=KEY, quirks=[THINK_TAGS]))
    out = decoder.feed(event("<think>a</th") + event("en", finish="stop") + DONE)
    assert {0: ["a</then", "", "stop"]} == message_of(out)


def test_what_is_held_back_comes_out_where_a_finish_reason_is_optional() -> None:
    """Before the end mark, in an event of the same answer."""
    for text, thoughts, rest in (("<thi", "", "<thi"), ("<think>a<", "a<", "")):
        decoder = decoder_of(compatible("openrouter", api_key=KEY, quirks=[THINK_TAGS]))
        out = decoder.feed(event(text) + DONE)
        assert {0: [thoughts, rest, ""]} == message_of(out)
        assert out.endswith(DONE)
        assert all(b'"id":"c"' in block for block in out.split(b"\n\n") if b"choices" in block)


def test_a_stream_that_breaks_off_is_still_an_error() -> None:
    """Within the thoughts or after them."""
    for text in ("<think>a", "<think>a</think>b"):
        decoder = decoder_of(OpenAI(api_key=KEY, quirks=[THINK_TAGS]))
        out = decoder.feed(event(text)) + decoder.close()
        assert decoder.error is not None
        assert ("stream_truncated", False) == (decoder.error.code, decoder.done)
        assert b'"finish_reason": "' not in out
        assert decoder.output_characters > 0


def test_an_event_that_is_no_chunk_passes_as_it_came() -> None:
    """The quirk is about chats."""
    decoder = decoder_of(OpenAI(api_key=KEY, quirks=[THINK_TAGS]))
    for data in (b'data: {"choices":[{"index":"x","delta":{"content":"<think>"}}]}\n\n', USAGE):
        assert data == decoder.feed(data)


def whole(content: Any, **message: Any) -> bytes:
    said = {"role": "assistant", "content": content, **message}
    rows = [{"index": 0, "message": said, "finish_reason": "stop", "seed": 10583536942961263000}]
    document = {"id": "c", "choices": rows, "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    return json.dumps(document).encode()


def parsed(adapter: OpenAIFormat, body: bytes, *quirks: str) -> tuple[bytes, Usage | None]:
    at = Deployment(provider=adapter.name, model="m", quirks=frozenset(quirks))
    return adapter.parse_response(adapter.translate("chat", CHAT, at), body)


@pytest.mark.parametrize(("text", "thoughts", "rest"), TEXTS)
def test_a_whole_answer_is_split_as_a_stream_is(text: str, thoughts: str, rest: str) -> None:
    """By a quirk of the provider, or of the deployment alone."""
    body = whole(text)
    for adapter, quirks in (
        (OpenAI(api_key=KEY, quirks=[THINK_TAGS]), ()),
        (OpenAI(api_key=KEY), (THINK_TAGS,)),
    ):
        found, usage = parsed(adapter, body, *quirks)
        message = json.loads(found)["choices"][0]["message"]
        assert (thoughts, rest) == (message.get("reasoning_content", ""), message["content"])
        assert Usage(input_uncached=1) == usage
        assert b"10583536942961263000" in found
        if rest == text:
            assert body is found


@pytest.mark.parametrize(
    "body",
    [
        whole(None, tool_calls=[]),
        whole([{"type": "text", "text": "<think>a</think>b"}]),
        b'{"choices":[]}',
        b'{"choices":[{"text":"<think>a</think>b"}]}',
        b'{"choices":[3]}',
        b'{"choices":3}',
    ],
)
def test_an_answer_without_a_text_passes_as_it_came(body: bytes) -> None:
    """Whatever it is in place of one."""
    found, _ = parsed(OpenAI(api_key=KEY, quirks=[THINK_TAGS]), body)
    assert body is found


def test_tags_are_text_where_nothing_is_configured() -> None:
    """Whole and streamed, the bytes are those that came."""
    adapter = OpenAI(api_key=KEY)
    body = whole("<think>a</think>b")
    assert body is parsed(adapter, body)[0]
    data = event("<think>a</think>b")
    assert data is decoder_of(adapter).feed(data)


def test_text_completions_have_no_thoughts() -> None:
    """The quirk is about chats alone."""
    adapter = OpenAI(api_key=KEY, quirks=[THINK_TAGS])
    at = Deployment(provider="openai", model="m")
    translation = adapter.translate("text_completion", {"model": "m", "prompt": "p"}, at)
    body = b'{"choices":[{"text":"<think>a</think>b","message":{"content":"<think>a"}}]}'
    assert body is adapter.parse_response(translation, body).body


@pytest.mark.parametrize(("text", "thoughts", "rest"), TEXTS)
def test_ollamas_native_api_has_the_quirk_too(text: str, thoughts: str, rest: str) -> None:
    """For models that Ollama does not take apart itself."""
    for adapter, quirks in ((Ollama(quirks=[THINK_TAGS]), ()), (Ollama(), (THINK_TAGS,))):
        at = Deployment(provider="ollama", model="m", quirks=frozenset(quirks))
        answer = {"message": {"content": text}, "done": True, "done_reason": "stop"}
        translation = adapter.translate("chat", CHAT, at)
        body = adapter.parse_response(translation, json.dumps(answer).encode()).body
        message = json.loads(body)["choices"][0]["message"]
        assert (thoughts, rest) == (message.get("reasoning_content", ""), message["content"])
        decoder = decoder_of(adapter, *quirks)
        out = b"".join(
            decoder.feed(json.dumps({"message": {"content": piece}}).encode() + b"\n")
            for piece in text
        )
        out += decoder.feed(b'{"message":{"content":""},"done":true}\n')
        assert {0: [thoughts, rest, "stop"]} == message_of(out)


def test_recorded_answers_of_hugging_face_are_split(recorded: Path) -> None:
    """DeepSeek's thoughts, which the router leaves in the text."""
    rows = [
        json.loads(row)["response"]["json"]
        for row in (recorded / "huggingface.chat.jsonl").read_text().splitlines()
    ]
    adapter = compatible("huggingface", api_key=KEY, quirks=[THINK_TAGS])
    for row in rows:
        content = row["choices"][0]["message"]["content"]
        inside, _, rest = content.removeprefix("<think>").partition("</think>")
        found, _ = parsed(adapter, json.dumps(row).encode())
        message = json.loads(found)["choices"][0]["message"]
        assert (inside.lstrip(), rest.lstrip()) == (
            message["reasoning_content"],
            message["content"],
        )
    assert 3 == len(rows)
