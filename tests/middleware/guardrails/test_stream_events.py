"""What becomes of the events of a stream: all that they say is judged before any of it leaves."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from asgi_llm import _sse
from asgi_llm.guards.base import Finding, Guard
from asgi_llm.guards.leakage import SystemLeakGuard
from asgi_llm.middleware.guardrails import Guardrail, GuardrailsMiddleware
from asgi_llm.state import VERDICTS
from asgi_llm.testing import Recorder, chat_events
from tests.middleware.guardrails.probes import (
    Pattern,
    Remote,
    Stream,
    Threaded,
    ask,
    cards,
    chat,
    content,
    emails,
    encoded,
    finish_reasons,
    stream_of,
    whole,
    words,
)

SECRET = "alice@example.com"
CARD = "4111 1111 1111 1111"


def event(delta: dict[str, Any], **choice: Any) -> dict[str, Any]:
    """One chunk of a chat."""
    head = chat_events(["x"])[0]
    return {
        **head,
        "choices": [{"index": 0, "delta": delta, "finish_reason": None, **choice}],
    }


def redacting(stream: Stream, **options: Any) -> GuardrailsMiddleware:
    """A layer that redacts addresses of mail in the answers of ``stream``."""
    rail = Guardrail(guard=emails(), action="redact")
    return GuardrailsMiddleware(stream, output=[rail], **options)


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\n\r"])
async def test_events_in_one_chunk_whose_lines_end_in_different_ways(end: bytes) -> None:
    """Each of them is checked, whatever ends the one before the last."""
    said = b"data: " + msgspec.json.encode(event({"content": f"mail {SECRET} now"}))
    chunk = said + end + b"data: [DONE]\n\n"
    recorder = await ask(redacting(Stream([chunk])))
    assert "mail <EMAIL_1> now" == content(recorder)
    recorder = await ask(GuardrailsMiddleware(Stream([chunk]), output=[emails()]))
    assert SECRET.encode() not in recorder.body
    assert ["content_filter"] == finish_reasons(recorder)


LONG = "no harm in these plain words at all. " * 20


@pytest.mark.parametrize(
    ("delta", "more"),
    [
        ({"content": LONG, "author": SECRET}, {}),
        ({"content": LONG}, {"citations": [f"by {SECRET}"]}),
    ],
    ids=["beside it", "around the choices"],
)
async def test_a_long_event_is_cut_in_two_with_what_was_changed_in_it(
    delta: dict[str, Any], more: dict[str, Any]
) -> None:
    """Neither half says again what has been redacted in the event before it was cut."""
    recorder = await ask(redacting(Stream(encoded([{**event(delta), **more}, event({})]))))
    assert LONG == content(recorder)
    assert SECRET.encode() not in recorder.body
    assert b"<EMAIL_1>" in recorder.body
    assert len(recorder.events) > 3


@pytest.mark.parametrize("more", [{"citations": [LONG]}, {"x_more": [LONG, LONG]}])
async def test_a_long_text_in_a_list_is_not_cut(more: dict[str, Any]) -> None:
    """It comes as it was, and what is redacted in it is replaced where it stands."""
    events = [event({"content": "hi"}), event({}, **more), event({}, finish_reason="stop")]
    recorder = await ask(redacting(Stream(encoded(events))))
    assert events == [one.json() for one in recorder.events[:-1]]
    events[1] = event({"content": [f"{LONG}{SECRET}"]})
    recorder = await ask(redacting(Stream(encoded(events))))
    events[1] = event({"content": [f"{LONG}<EMAIL_1>"]})
    assert events == [one.json() for one in recorder.events[:-1]]


async def test_a_long_event_is_cut_in_two_with_what_was_restored_in_it() -> None:
    """A placeholder beside a long text becomes the original in both halves."""
    stream = Stream(encoded([event({"content": LONG, "author": "<EMAIL_1>"}), event({})]))
    rail = Guardrail(guard=emails(), action="redact")
    layer = GuardrailsMiddleware(stream, input=[rail], output=[emails()])
    recorder = await ask(layer, chat(SECRET))
    assert (LONG, SECRET) == (content(recorder), content(recorder, "author"))


async def forbidden(text: str) -> list[Finding]:
    return [whole()] if "FORBIDDEN" in text else []


def in_a_thread(text: str) -> list[Finding]:
    return [whole()] if "FORBIDDEN" in text else []


def odd(delta: Any) -> dict[str, Any]:
    """A chunk whose delta is no object."""
    return {**event({}), "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


SAID = {
    "text for a delta": odd("FORBIDDEN"),
    "list for a delta": odd([{"content": "FORBIDDEN"}]),
    "name of a tool": event(
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "FORBIDDEN"}}]}
    ),
    "field that nobody knows": event({"thought": "FORBIDDEN"}),
    "list of a choice": event({"content": "hi"}, citations=["FORBIDDEN"]),
    "list in a list": event({"content": "hi", "x_more": [["FORBIDDEN"]]}),
    "name of a field": event({"content": "hi", "x_more": {"so FORBIDDEN": 1}}),
    "name of a field of a choice": event({"content": "hi"}, **{"so FORBIDDEN": 1}),
    "reason of an end": event({"content": "hi"}, finish_reason="so FORBIDDEN"),
    "number of a choice": event({"content": "hi"}, index="so FORBIDDEN"),
    "list for the number of a choice": event({"content": "hi"}, index=["FORBIDDEN"]),
    "text for a choice": {**event({}), "choices": ["FORBIDDEN"]},
    "list for a choice": {**event({}), "choices": [[{"content": "FORBIDDEN"}]]},
    "around the choices": {**event({"content": "hi"}), "x_more": [["FORBIDDEN"]]},
    "no object": ["FORBIDDEN"],
}


@pytest.mark.parametrize(
    "guard",
    [words("FORBIDDEN"), Threaded(in_a_thread), Remote(forbidden)],
    ids=["on the loop", "in a thread", "remote"],
)
@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
async def test_every_guard_sees_all_that_an_event_says(said: Any, guard: Guard) -> None:
    """Wherever it is said, and wherever the guard runs."""
    stream = Stream(encoded([event({"content": "well "}), said, event({}, finish_reason="stop")]))
    layer = GuardrailsMiddleware(stream, output=[guard])
    recorder = await ask(layer)
    assert b"FORBIDDEN" not in recorder.body
    assert ["content_filter"] == finish_reasons(recorder)
    noting = GuardrailsMiddleware(stream, output=[Guardrail(guard=guard, action="flag")])
    recorder = await ask(noting)
    assert b"".join(stream.chunks) == recorder.body
    assert stream.states[-1].get(VERDICTS)
    await layer.aclose()
    await noting.aclose()


async def test_what_is_redacted_at_once_is_shown_to_slow_guards_as_well() -> None:
    """A guard that changes a text hides it from no other one."""
    stream = Stream(encoded([event({"thought": f"FORBIDDEN {SECRET}"})]))
    rails = [Guardrail(guard=emails(), action="redact"), Guardrail(guard=Remote(forbidden))]
    recorder = await ask(GuardrailsMiddleware(stream, output=rails))
    assert b"FORBIDDEN" not in recorder.body
    assert b"alice" not in recorder.body


@pytest.mark.parametrize("field", ["thought", "content"])
@pytest.mark.parametrize("at", [1, 6, 9, 13])
async def test_a_text_under_any_name_may_grow(field: str, at: int) -> None:
    """What stands in two events of a text is found, also where nobody knows its name."""
    events = [event({field: SECRET[:at]}), event({field: SECRET[at:]}), event({"content": "."})]
    recorder = await ask(redacting(Stream(encoded(events))))
    assert content(recorder, field).removesuffix(".") in ("<EMAIL_1>", "<EMAIL_2>")
    assert f':"{SECRET[:at]}"'.encode() not in recorder.body


async def test_texts_that_nobody_knows_to_grow_wait_for_the_next_event_alone() -> None:
    """Events keep their order, each choice for itself, and a text may go on later."""
    events = [
        event({"x_more": "so it"}, index=0),
        event({"x_more": "or it"}, index=1),
        event({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"}}]}, index=1),
        event({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}, index=1),
        event({"x_more": " is."}, index=0),
        event({}, index=1, finish_reason="tool_calls"),
        event({"x_more": "1"}, index=0),
        event({"x_more": CARD}, index=0),
        event({}, index=0, finish_reason="stop"),
    ]
    rails = [Guardrail(guard=cards(), action="redact")]
    recorder = await ask(GuardrailsMiddleware(Stream(encoded(events)), output=rails))
    events[-2] = event({"x_more": "<CARD_1>"}, index=0)
    got = [one.json() for one in recorder.events[:-1]]
    for index in (0, 1):
        wanted = [one for one in events if one["choices"][0]["index"] == index]
        assert wanted == [one for one in got if one["choices"][0]["index"] == index]
    events = [event({"x_more": SECRET[:6]}), event({"content": "a"}), event({"x_more": SECRET[6:]})]
    recorder = await ask(redacting(Stream(encoded(events))))
    assert SECRET[6:].encode() not in recorder.body
    assert ["content_filter"] == finish_reasons(recorder)


@pytest.mark.parametrize("window", [64, None])
@pytest.mark.parametrize(
    "said",
    [
        ["by alice@example.com 4111 1111", " 1111 1111."],
        ["4111 1111", " 1111 1111 by alice@example.com"],
        ["4111 1111", None, " 1111 1111 by alice@example.com"],
        ["4111 1111", None, " 1111 1111."],
        ["by alice@example.com 4111 1111", None, " 1111 1111."],
    ],
)
async def test_a_text_that_nobody_knows_to_grow_is_seen_as_one(
    said: list[str | None], window: int | None
) -> None:
    """What is found in a piece of it hides nothing that goes on there, nor does what is between."""
    events = [event({"content": "."} if one is None else {"x_more": one}) for one in said]
    guards = [emails(), Pattern(CARD, window=window, category="pii.card")]
    rails = [Guardrail(guard=guard, action="redact") for guard in guards]
    recorder = await ask(GuardrailsMiddleware(Stream(encoded(events)), output=rails))
    assert CARD not in content(recorder, "x_more")


@pytest.mark.parametrize("gap", [" ", "\n        "])
@pytest.mark.parametrize("width", [6, 18])
@pytest.mark.parametrize("step", [1, 7, 300])
async def test_nothing_of_a_system_prompt_leaves_however_long_its_words_are(
    gap: str, width: int, step: int
) -> None:
    """A stream holds what repeats it until there is enough to tell."""
    system = gap.join(f"word{at}abcdefghijklmnopqrs"[:width] for at in range(10, 60))
    document = chat({"role": "system", "content": system}, "tell me")
    pieces = ["Well, ", *(system[at : at + step] for at in range(0, len(system), step))]
    layer = GuardrailsMiddleware(stream_of(pieces), output=[SystemLeakGuard()])
    recorder = await ask(layer, document)
    assert content(recorder) in ("", "Well, ")
    assert ["content_filter"] == finish_reasons(recorder)


async def test_the_end_of_one_part_is_not_the_end_of_others() -> None:
    """In a format whose parts are woven into each other, each is checked as one."""

    def piece(number: int, kind: str, **fields: str) -> dict[str, Any]:
        place = {"output_index": number, "content_index": 0}
        return {"type": f"response.output_text.{kind}", **place, **fields}

    events = [
        piece(0, "delta", delta=SECRET[:9]),
        piece(1, "delta", delta="hi"),
        piece(1, "done", text="hi"),
        piece(0, "delta", delta=SECRET[9:]),
        piece(0, "done", text=SECRET),
        {"type": "response.completed", "response": {"output": []}},
    ]
    recorder = await ask(redacting(Stream(encoded(events, done=False))))
    got = [one.json() for one in recorder.events]
    assert [one["type"] for one in events] == [one["type"] for one in got]
    assert ["<EMAIL_1>", "hi", ""] == [one["delta"] for one in got if "delta" in one]
    assert ["hi", "<EMAIL_1>"] == [one["text"] for one in got if "text" in one]


def lines(*texts: str) -> Stream:
    """A stream whose events are texts, and not JSON."""
    return Stream([*(_sse.encode(text.encode()) for text in texts), _sse.DONE])


def read_lines(recorder: Recorder) -> str:
    return "".join(one.text for one in recorder.events if not one.done)


@pytest.mark.parametrize("window", [64, None])
@pytest.mark.parametrize("at", range(len(CARD)))
async def test_events_that_are_no_json_are_one_text(at: int, window: int | None) -> None:
    """What stands in two of them is found, wherever it is cut."""
    said = f"my card is {CARD} ok"
    at += said.index(CARD) + 1
    stream = lines("well, ", said[:at], said[at:], " and more")
    guard = Pattern(CARD, window=window, category="pii.card")
    recorder = await ask(GuardrailsMiddleware(stream, output=[guard]))
    assert read_lines(recorder).partition("{")[0] in ("", "well, ", "well, my card is ")
    rail = Guardrail(guard=guard, action="redact")
    recorder = await ask(GuardrailsMiddleware(stream, output=[rail]))
    assert "well, my card is <CARD_1> ok and more" == read_lines(recorder)
    assert recorder.events[-1].done


@pytest.mark.parametrize("word", ["plain words", "a\nline and another", '["a", 1]', "7"])
async def test_clean_events_that_are_no_json_come_as_they_were(word: str) -> None:
    """In order, with the empty ones among them, and before what comes behind them."""
    stream = lines(*[word, ""] * 40)
    recorder = await ask(redacting(stream))
    assert b"".join(stream.chunks) == recorder.body
    early = b"event: ping\ndata: " + word.split("\n")[0].encode() + b"\n\n"
    stream = Stream([early, *encoded([event({"content": "hi"}), event({}, finish_reason="stop")])])
    recorder = await ask(redacting(stream))
    assert b"".join(stream.chunks) == recorder.body


@pytest.mark.parametrize("texts", [(CARD, "7 of them"), ("no. 5", CARD), ("5", CARD, "7")])
async def test_an_event_that_is_no_json_is_a_text_of_its_own_as_well(texts: Any) -> None:
    """What is next to it does not hide what is in it."""
    rail = Guardrail(guard=cards(), action="redact")
    recorder = await ask(GuardrailsMiddleware(lines(*texts), output=[rail]))
    got = [one.text for one in recorder.events if not one.done]
    assert ["<CARD_1>" if text == CARD else text for text in texts] == got


async def test_placeholders_come_back_in_events_that_are_no_json() -> None:
    """As they do in all others."""
    rail = Guardrail(guard=emails(), action="redact")
    layer = GuardrailsMiddleware(lines("to <EMA", "IL_1>", " now"), input=[rail])
    assert f"to {SECRET} now" == read_lines(await ask(layer, chat(SECRET)))


@pytest.mark.parametrize("delta", [[CARD], [[CARD]], int(CARD.replace(" ", "")), {"x": [CARD]}])
async def test_a_delta_of_another_format_may_be_anything(delta: Any) -> None:
    """It is looked at, whatever it is."""
    event = {"type": "response.x.delta", "output_index": 0, "delta": delta}
    recorder = await ask(GuardrailsMiddleware(Stream(encoded([event])), output=[cards()]))
    assert b"1111" not in recorder.body


def unknown(kind: str | None, text: str) -> dict[str, Any]:
    """An event of a format of somebody's own; with no kind, Gemini's."""
    if kind is None:
        part = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
        return {"candidates": [part], "modelVersion": "gemini"}
    return {"type": kind, "content": text}


@pytest.mark.parametrize("kind", [None, "token"])
@pytest.mark.parametrize("at", [1, 6, 11, 18])
async def test_a_text_may_grow_in_events_that_nobody_knows(at: int, kind: str | None) -> None:
    """What stands in two of them is found, and each of them is a text of its own as well."""
    said = ["well, ", f"no {CARD[:at]}", CARD[at:], " ok", CARD, "7 of them"]
    events = [unknown(kind, text) for text in said]
    recorder = await ask(GuardrailsMiddleware(Stream(encoded(events)), output=[cards()]))
    assert b"1" not in recorder.body.partition(b'{"error"')[0]
    rail = Guardrail(guard=cards(), action="redact")
    recorder = await ask(GuardrailsMiddleware(Stream(encoded(events)), output=[rail]))
    said[1:3] = ["no <CARD_1>", ""]
    said[4] = "<CARD_1>"
    assert [unknown(kind, text) for text in said] == [one.json() for one in recorder.events[:-1]]


async def test_events_that_nobody_knows_wait_for_the_next_one_alone() -> None:
    """They keep their order, and come as they were."""
    events = [
        {"type": "status", "text": "so it is"},
        {"type": "picture", "image": {"data": "/+8A" * 100}},
        {"type": "token", "content": "hi"},
        {"type": "status", "text": "over"},
    ]
    stream = Stream([*encoded(events[:2], done=False), *encoded(events[2:])])
    recorder = await ask(redacting(stream))
    assert b"".join(stream.chunks) == recorder.body
    assert b"".join(stream.chunks[:2]) == recorder.messages[1]["body"]


@pytest.mark.parametrize("window", [64, None])
async def test_a_text_that_goes_on_behind_its_end_is_checked_as_well(window: int | None) -> None:
    """Parts of a response may share a place, and a guard may want each of them whole."""
    place = {"output_index": 0}
    events: list[dict[str, Any]] = []
    for number, text in enumerate(("no harm in this", f"{LONG[:80]} {CARD}{LONG}")):
        kind = "response.reasoning_summary_text"
        for piece in (text[at : at + 7] for at in range(0, len(text), 7)):
            delta = {"type": f"{kind}.delta", **place, "summary_index": number, "delta": piece}
            events.append(delta)
        events.append({"type": f"{kind}.done", **place, "summary_index": number, "text": ""})
    stream = Stream(encoded(events, done=False))
    guard = Pattern(CARD, window=window, category="pii.card")
    rail = Guardrail(guard=guard, action="redact")
    for layer in (
        GuardrailsMiddleware(stream, output=[guard]),
        GuardrailsMiddleware(stream, output=[rail]),
    ):
        recorder = await ask(layer)
        got = [one.json() for one in recorder.events if not one.done]
        assert CARD not in "".join([one.get("delta", "") for one in got])
    assert events[-1] == got[-1]
