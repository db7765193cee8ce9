"""For any text, cut in any way, a stream says what the whole answer would, and not a byte too much.

The texts have findings planted in them; the cuts go through events, characters and escapes.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asgi_llm import _sse
from asgi_llm.middleware.guardrails import Guardrail, GuardrailsMiddleware
from asgi_llm.testing import Recorder, call, chat_answer, chat_events
from tests.middleware.guardrails.probes import (
    App,
    Stream,
    arguments,
    ask,
    cards,
    chat,
    content,
    emails,
    encoded,
    finish_reasons,
    fused,
    stream_of,
    words,
)

SECRETS = (
    "alice@example.com",
    "bob.b@mail.org",
    "4111 1111 1111 1111",
    "4111-1111-1111-1111",
    "5500000000000004",
)
PLAIN = st.text(
    alphabet=st.sampled_from('abcdefgh .,:-0123456789@<>_\n"\\/%éß漢😀\u200b'), max_size=60
)
TEXTS = st.lists(st.one_of(PLAIN, st.sampled_from(SECRETS), st.just(" ")), max_size=12).map("".join)
SETTINGS = settings(max_examples=150, deadline=None)


def cut(text: str, sizes: list[int]) -> list[str]:
    """``text`` in pieces of the given sizes, over and over."""
    pieces, at, number = [], 0, 0
    while at < len(text):
        size = sizes[number % len(sizes)]
        pieces.append(text[at : at + size])
        at += size
        number += 1
    return pieces


def chunks_of(data: bytes, sizes: list[int]) -> list[bytes]:
    """The bytes of a stream in chunks of the given sizes."""
    pieces, at, number = [], 0, 0
    while at < len(data):
        size = sizes[number % len(sizes)]
        pieces.append(data[at : at + size])
        at += size
        number += 1
    return pieces


SIZES = st.lists(st.integers(1, 50), min_size=1, max_size=6)
BYTE_SIZES = st.lists(st.integers(1, 400), min_size=1, max_size=5)


FUSED = fused()


def redacting(app: Any, *, by_patterns: bool = False) -> GuardrailsMiddleware:
    guards: list[Any] = [FUSED] if by_patterns else [emails(), cards()]
    rails = [Guardrail(guard=guard, action="redact") for guard in guards]
    return GuardrailsMiddleware(app, output=rails)


async def whole(text: str, *, by_patterns: bool = False) -> str:
    recorder = await ask(redacting(App(chat_answer(text)), by_patterns=by_patterns))
    said = recorder.json()["choices"][0]["message"]["content"]
    return str(said)


@SETTINGS
@given(text=TEXTS, sizes=SIZES, byte_sizes=BYTE_SIZES, by_patterns=st.booleans())
@example(text="4111 1111 1111 1111", sizes=[1], byte_sizes=[7], by_patterns=False)
@example(text="x alice@example.com y" * 20, sizes=[3], byte_sizes=[1], by_patterns=True)
async def test_a_stream_says_what_the_whole_answer_says(
    text: str, sizes: list[int], byte_sizes: list[int], by_patterns: bool
) -> None:
    """What is redacted in a stream is what is redacted in the whole answer, however it is cut."""
    data = b"".join(encoded(chat_events(cut(text, sizes))))
    layer = redacting(Stream(chunks_of(data, byte_sizes)), by_patterns=by_patterns)
    recorder = await ask(layer)
    assert await whole(text, by_patterns=by_patterns) == content(recorder)
    assert ["stop"] == finish_reasons(recorder)
    assert recorder.events[-1].done


@SETTINGS
@given(text=TEXTS, sizes=SIZES, secrets=st.booleans())
async def test_events_one_by_one(text: str, sizes: list[int], secrets: bool) -> None:
    """The same where each event is a chunk, as from most apps, and long texts are swallowed."""
    text = ("no harm in these words " * 12 + text) if secrets else "plain words " * 40
    recorder = await ask(redacting(stream_of(cut(text, sizes)), by_patterns=True))
    assert await whole(text, by_patterns=True) == content(recorder)
    assert ["stop"] == finish_reasons(recorder)


@SETTINGS
@given(text=TEXTS, sizes=SIZES, groups=st.lists(st.integers(1, 3), min_size=1, max_size=4))
@example(text="0" * 17 + "alice@example.com" * 3, sizes=[49], groups=[1])
async def test_some_events_in_one_chunk(text: str, sizes: list[int], groups: list[int]) -> None:
    """The same where a chunk of several events begins and ends as one of a single event does."""
    text = "no harm in these words " * 12 + text + " and no harm in these" * 8
    events = encoded(chat_events(cut(text, sizes)))
    chunks, number = [], 0
    while events:
        size = groups[number % len(groups)]
        chunks.append(b"".join(events[:size]))
        del events[:size]
        number += 1
    recorder = await ask(redacting(Stream(chunks), by_patterns=True))
    assert await whole(text, by_patterns=True) == content(recorder)
    assert ["stop"] == finish_reasons(recorder)


@SETTINGS
@given(text=TEXTS, sizes=SIZES, byte_sizes=BYTE_SIZES)
async def test_what_needs_no_change_passes_as_the_bytes_it_was(
    text: str, sizes: list[int], byte_sizes: list[int]
) -> None:
    """Where no guard finds anything the bytes are those of the app, in their order."""
    data = b"".join(encoded(chat_events(cut(text, sizes))))
    app = GuardrailsMiddleware(
        Stream(chunks_of(data, byte_sizes)), output=[words("no such words", window=40)]
    )
    assert data == (await ask(app)).body


@SETTINGS
@given(before=PLAIN, secret=st.sampled_from(SECRETS), after=PLAIN, sizes=SIZES)
async def test_no_byte_of_a_blocked_finding_leaves(
    before: str, secret: str, after: str, sizes: list[int]
) -> None:
    """Of what is blocked the client gets what stands before it at most, and a proper end."""
    text = f"{before} {secret} {after}"
    stream = Stream(encoded(chat_events(cut(text, sizes))))
    app = GuardrailsMiddleware(stream, output=[emails(), cards()])
    recorder = await ask(app)
    said = content(recorder)
    assert text.startswith(said)
    assert len(said) <= len(before) + 1
    assert ["content_filter"] == finish_reasons(recorder)
    assert recorder.events[-1].done
    assert 1 == stream.refused


@SETTINGS
@given(
    values=st.lists(st.one_of(st.sampled_from(SECRETS), PLAIN), min_size=1, max_size=4),
    sizes=SIZES,
    ascii_only=st.booleans(),
)
@example(
    values=['000000"000000000000', "alice@example.com", "alice@example.com"],
    sizes=[2],
    ascii_only=False,
)
async def test_arguments_of_tools(values: list[str], sizes: list[int], ascii_only: bool) -> None:
    """The arguments of a tool stay JSON, and say in a stream what they say in a whole answer."""
    written = json.dumps({"to": values, "n": 1}, ensure_ascii=ascii_only)
    answer = await ask(redacting(App(chat_answer(None, tool_calls=[("send", written)]))))
    call_ = answer.json()["choices"][0]["message"]["tool_calls"][0]
    expected = call_["function"]["arguments"]
    events = chat_events(None, tool_calls=[("send", "{}")])
    head, *_, end, usage = events
    pieces = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in (
            {"tool_calls": [{"index": 0, "id": "call_1", "type": "function",
                             "function": {"name": "send", "arguments": ""}}]},
            *[{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
              for piece in cut(written, sizes)],
        )
    ]  # fmt: skip
    recorder = await ask(redacting(Stream(encoded([head, *pieces, end, usage]))))
    streamed = arguments(recorder)
    assert expected == streamed
    said = json.loads(streamed)["to"]
    for value, now in zip(values, said, strict=True):
        if value in SECRETS:
            assert value not in now


@SETTINGS
@given(
    text=TEXTS, sizes=SIZES, byte_sizes=BYTE_SIZES, style=st.sampled_from(["numbered", "digest"])
)
@example(text="<EMAIL_1> alice@example.com", sizes=[1], byte_sizes=[3], style="numbered")
async def test_redaction_then_restoration_is_the_identity(
    text: str, sizes: list[int], byte_sizes: list[int], style: Any
) -> None:
    """What a model repeats of a redacted request comes back as it was, whole and streamed."""
    rails = [Guardrail(guard=guard, action="redact") for guard in (emails(), cards())]
    told: list[str] = []

    def echo(document: Any) -> Any:
        told.append(document["messages"][0]["content"])
        return chat_answer(told[-1])

    app = GuardrailsMiddleware(App(echo), input=rails, placeholders=style)
    answer = await ask(app, chat(text))
    assert text == answer.json()["choices"][0]["message"]["content"]
    data = b"".join(encoded(chat_events(cut(told[0], sizes))))
    chunks = chunks_of(data, byte_sizes)
    app = GuardrailsMiddleware(
        Stream(chunks), input=rails, placeholders=style, digest_key=b"k" * 16
    )
    if style == "numbered":
        recorder = await ask(app, chat(text))
        assert text == content(recorder)


@SETTINGS
@given(text=TEXTS, sizes=SIZES)
async def test_restoration_in_arguments(text: str, sizes: list[int]) -> None:
    """An original that comes back inside JSON is escaped there."""
    value = f'say "{text}" to alice@example.com'
    rails = [Guardrail(guard=words(value, window=400), action="redact")]
    written = '{"a":"<SECRET_1>","b":"\\u003cSECRET_1\\u003e"}'
    pieces = cut(written, sizes)
    events = chat_events(None, tool_calls=[("send", "{}")])
    head, *_, end, usage = events
    deltas = [
        {**head, "choices": [{"index": 0, "finish_reason": None, "delta": {
            "tool_calls": [{"index": 0, "function": {"arguments": piece}}]}}]}
        for piece in pieces
    ]  # fmt: skip
    app = GuardrailsMiddleware(Stream(encoded([head, *deltas, end, usage])), input=rails)
    recorder = await ask(app, chat(value))
    assert {"a": value, "b": value} == json.loads(arguments(recorder))


@pytest.mark.parametrize("by_patterns", [False, True])
@pytest.mark.parametrize("secret", SECRETS)
async def test_every_cut_of_a_finding(secret: str, by_patterns: bool) -> None:
    """A finding that two events share is found wherever the border between them is."""
    text = f"It is {secret}, he said. {'And so on. ' * 30}"
    expected = await whole(text, by_patterns=by_patterns)
    assert secret not in expected
    for at in range(40):
        stream = Stream(encoded(chat_events([text[:at], text[at:100], text[100:]])))
        assert expected == content(await ask(redacting(stream, by_patterns=by_patterns)))


@pytest.mark.parametrize("secret", SECRETS)
async def test_a_finding_over_forty_chunks(secret: str) -> None:
    """Empty events and events of one character each between the parts make no difference."""
    pieces: list[str] = []
    for letter in f"{secret} and no more":
        pieces += [letter, "", ""]
    assert len(pieces) > 40
    stream = Stream(encoded(chat_events(pieces)))
    assert await whole(f"{secret} and no more") == content(await ask(redacting(stream)))


def test_the_cuts_go_through_characters() -> None:
    """The chunks of these tests break UTF-8 and events, else they would prove less."""
    data = b"".join(encoded(chat_events(["é😀"])))
    assert any(not _is_utf8(chunk) for chunk in chunks_of(data, [1]))
    assert data == b"".join(chunks_of(data, [1, 7]))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


async def test_two_choices_do_not_mix() -> None:
    """Each choice has a window of its own, however the events of two are woven."""
    text = "mail alice@example.com or 4111 1111 1111 1111 now"
    stream = Stream(encoded(chat_events(cut(text, [3]), n=2)))
    recorder = await ask(redacting(stream))
    expected = await whole(text)
    assert [expected, expected] == [content(recorder, index=index) for index in (0, 1)]
    assert ["stop", "stop"] == finish_reasons(recorder)


async def test_every_other_event_of_another_text() -> None:
    """Text, thoughts and arguments are woven into each other and each is checked as one."""
    secret = "alice@example.com"
    head, *_, end, usage = chat_events(["x"])
    events = [head]
    for at in range(0, len(secret), 2):
        piece = secret[at : at + 2]
        for delta in (
            {"content": piece},
            {"reasoning_content": piece},
            {"refusal": piece},
            {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]},
            {"x_unknown": {"text": piece}},
        ):
            events.append({**head, "choices": [{"index": 0, "delta": delta}]})
    recorder = await ask(redacting(Stream(encoded([*events, end, usage]))))
    for field in ("content", "reasoning_content", "refusal"):
        assert "<EMAIL_1>" == content(recorder, field)
    assert '"<EMAIL_1>"' == arguments(recorder)
    assert secret[:6].encode() not in recorder.body


def parsed(recorder: Recorder) -> list[Any]:
    """Every event of a stream but the last."""
    return [event.json() for event in recorder.events if not event.done]


async def test_other_fields_of_a_changed_event_stay() -> None:
    """Of an event that is changed all else stays as it was, its unknown fields included."""
    events = chat_events(["to alice@example.com", " now"])
    for event in events:
        event["x_key"] = {"big": 2**70, "list": [1.5, None]}
    recorder = await ask(redacting(Stream(encoded(events))))
    for event in events:
        for choice in event["choices"]:
            if choice["delta"].get("content", "").startswith("to"):
                choice["delta"]["content"] = "to <EMAIL_1>"
    assert json.loads(json.dumps(events)) == parsed(recorder)


async def test_a_long_event_is_cut_in_two() -> None:
    """What is known to be clean of a long event leaves before the rest is."""
    text = "word " * 200
    head = chat_events(["x"])[0]
    event = {**head, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    stream = Stream(encoded([head, event]))
    stream.chunks = stream.chunks[:2]
    recorder = await ask(redacting(stream))
    assert text == content(recorder)
    first = [one.json() for one in recorder.events[1:]]
    assert 2 == len(first)
    assert first[0]["id"] == first[1]["id"] == head["id"]
    assert [0, 0] == [one["choices"][0]["index"] for one in first]


async def test_events_in_another_format() -> None:
    """Streams of other formats are checked alike: what grows is in their ``delta``."""
    pieces = cut("mail alice@example.com now", [4])
    anthropic = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
        for piece in pieces
    ]
    responses = [
        {"type": "response.output_text.delta", "output_index": 0, "delta": piece}
        for piece in pieces
    ]
    for events, path in ((anthropic, ("delta", "text")), (responses, ("delta",))):
        data = [_sse.encode(msgspec.json.encode(event), str(event["type"])) for event in events]
        recorder = await call(redacting(Stream(data)), json=chat("hi"))
        said = []
        for one in recorder.events:
            value = one.json()
            for step in path:
                value = value[step]
            said.append(value)
        assert "mail <EMAIL_1> now" == "".join(said)
        assert {one["type"] for one in events} == {one.type for one in recorder.events}
