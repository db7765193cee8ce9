"""What was redacted is not said again beside it: by tokens, by words, by a sound."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from asgi_llm.middleware._guard_echoes import tokens_say
from asgi_llm.middleware.guardrails import Guardrail, GuardrailsMiddleware
from asgi_llm.testing import Recorder, call, chat_events, http_scope
from tests.middleware.guardrails.probes import (
    HELLO,
    App,
    Stream,
    ask,
    cards,
    content,
    encoded,
    finish_reasons,
)

CARD = "4111 1111 1111 1111"
PIECES = ["4111", " 1111", " 1111", " 1111"]
TOKENS = [{"token": piece, "logprob": -0.5} for piece in PIECES]
SOUND = base64.b64encode(bytes(range(128, 256)) * 3).decode()
REDACT = Guardrail(guard=cards(), action="redact")


def event(delta: dict[str, Any], **choice: Any) -> dict[str, Any]:
    """One chunk of a chat."""
    head = chat_events(["x"])[0]
    return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None, **choice}]}


async def redacted(app: App | Stream, path: str = "/v1/responses") -> Recorder:
    layer = GuardrailsMiddleware(app, output=[REDACT])
    return await call(layer, http_scope(path=path), json=HELLO)


async def test_a_transcription() -> None:
    """Its words, its segments and its tokens go with its text; others stay."""
    answer = {
        "text": f"card {CARD} ok",
        "words": [{"word": piece, "start": 0.5} for piece in PIECES],
        "segments": [{"text": f"card {CARD[:9]}"}, {"text": f"{CARD[9:]} ok"}],
        "logprobs": TOKENS,
    }
    recorder = await redacted(App(answer))
    gone = {"words": None, "segments": None, "logprobs": None}
    assert {"text": "card <CARD_1> ok", **gone} == recorder.json()
    answer["text"] = "no card"
    assert answer == (await redacted(App(answer))).json()


async def test_a_part_of_a_response() -> None:
    """The tokens of the part go, and those of its neighbour stay."""
    parts = [{"type": "output_text", "text": text, "logprobs": TOKENS} for text in (CARD, "hi")]
    recorder = await redacted(App({"output": [{"type": "message", "content": parts}]}))
    first, second = recorder.json()["output"][0]["content"]
    assert ("<CARD_1>", None) == (first["text"], first["logprobs"])
    assert parts[1] == second


async def test_events_of_a_response() -> None:
    """The tokens of every event that says a part of it go, and those of the others stay."""
    place = {"item_id": "i", "output_index": 0, "content_index": 0}
    events = [
        {
            "type": "response.output_text.delta",
            **place,
            "delta": piece,
            "logprobs": [{"token": piece, "logprob": -0.5}],
        }
        for piece in ("card ", *PIECES, " ok")
    ]
    done = {"type": "response.output_text.done", **place, "text": f"card {CARD} ok"}
    events.append({**done, "logprobs": TOKENS})
    recorder = await redacted(Stream(encoded(events, done=False)))
    got = [one.json() for one in recorder.events]
    assert "card <CARD_1> ok" == "".join(one["delta"] for one in got[:-1])
    assert [True, *[False] * 4, True] == [bool(one["logprobs"]) for one in got[:-1]]
    assert ("card <CARD_1> ok", None) == (got[-1]["text"], got[-1]["logprobs"])


async def test_tokens_that_come_before_their_text() -> None:
    """Those of another text than the one beside them go; those of the same are judged with it."""
    ahead = {"content": TOKENS}
    own = {"content": [{"token": "ok", "logprob": -0.5}], "refusal": None}
    events = [
        event({"content": ""}, logprobs=ahead),
        event({"content": "ok"}, logprobs=own),
        event({"content": f" {CARD}"}, logprobs={"content": [{"token": f" {CARD}"}]}),
        event({}, finish_reason="stop", logprobs=None),
    ]
    recorder = await ask(GuardrailsMiddleware(Stream(encoded(events)), output=[REDACT]))
    assert "ok <CARD_1>" == content(recorder)
    got = [one.json()["choices"][0]["logprobs"] for one in recorder.events[:-1]]
    assert [None, own, None, None] == got


@pytest.mark.parametrize(
    ("logprobs", "said", "expected"),
    [
        (None, {}, True),
        ([], {}, True),
        ([{"token": "a"}, {"token": "b"}], {"delta": "ab"}, True),
        ([{"token": "a"}], {"text": "a"}, True),
        ([{"token": "a"}], {"delta": "b"}, False),
        ([{"token": 1}], {}, False),
        ("a", {"delta": "a"}, False),
        ({"content": [{"token": "a"}], "refusal": None}, {"content": "a"}, True),
        ({"content": [], "refusal": []}, {}, True),
        ({"content": [{"token": "a"}]}, {"content": None}, False),
        ({"content": "a"}, {}, False),
        ({"x": [{"token": "a"}]}, {"content": "a"}, False),
        (
            {"tokens": ["a", "b"], "token_logprobs": [-1.0], "top_logprobs": [{"a": -1.0}]},
            {"text": "ab"},
            True,
        ),
        ({"tokens": ["a", "b"]}, {"text": "a"}, False),
    ],
)
def test_tokens_are_compared_with_their_text(
    logprobs: Any, said: dict[str, Any], expected: bool
) -> None:
    """They are one by one what it is in one piece, in each of the formats."""
    assert expected is tokens_say(logprobs, said)


def spoken(*words: str) -> Stream:
    """A chat whose sound comes before what it says, and between."""
    events = [event({"role": "assistant", "audio": {"id": "a", "data": SOUND}})]
    for word in words:
        events.append(event({"audio": {"transcript": word}}))
        events.append(event({"audio": {"data": "UklGRgAAAA=="}}))
    return Stream(encoded([*events, event({}, finish_reason="stop")]))


def heard(recorder: Recorder, field: str) -> str:
    said = [one.json()["choices"][0]["delta"] for one in recorder.events[:-1]]
    return "".join(one.get("audio", {}).get(field, "") for one in said)


@pytest.mark.parametrize("action", ["redact", "block"])
async def test_a_sound_waits_for_what_is_said_in_it(action: Any) -> None:
    """Nothing of it leaves where something is found at last."""
    stream = spoken("my card is 4111 1111 ", "1111 1111 ok")
    rail = Guardrail(guard=cards(), action=action)
    recorder = await ask(GuardrailsMiddleware(stream, output=[rail]))
    assert "" == heard(recorder, "data")
    assert b"4111" not in recorder.body
    if action == "redact":
        assert "my card is <CARD_1> ok" == heard(recorder, "transcript")
        assert ["stop"] == finish_reasons(recorder)


async def test_a_sound_in_which_nothing_is_found_comes_as_it_was() -> None:
    """It leaves at the end of its choice, and before that."""
    stream = spoken("no card", " at all")
    recorder = await ask(GuardrailsMiddleware(stream, output=[REDACT]))
    assert SOUND + 2 * "UklGRgAAAA==" == heard(recorder, "data")
    assert "no card at all" == heard(recorder, "transcript")
    wanted = [msgspec.json.decode(chunk[6:]) for chunk in stream.chunks[:-1]]
    got = [one.json() for one in recorder.events[:-1]]
    assert all(one in got for one in wanted)
    assert wanted[-1] == got[-1]


async def test_a_sound_that_is_too_long_to_wait() -> None:
    """It counts with all that is held back."""
    layer = GuardrailsMiddleware(spoken("hi"), output=[REDACT], max_held_characters=len(SOUND) - 1)
    recorder = await ask(layer)
    assert "" == heard(recorder, "data")
    assert ["content_filter"] == finish_reasons(recorder)


SHORT = "UklGRgAAAA=="
PLACE = {"item_id": "i", "output_index": 0, "content_index": 0}
LAST = {"type": "response.completed", "response": {"output": []}}


def sound(data: str = SOUND, **place: Any) -> dict[str, Any]:
    """An event of a response with a part of its sound."""
    return {"type": "response.audio.delta", **place, "delta": data}


def transcript(text: str, **place: Any) -> dict[str, Any]:
    """An event of a response with what is said in its sound."""
    return {"type": "response.audio.transcript.delta", **place, "delta": text}


def spoken_response(*words: str, last: dict[str, Any] = LAST) -> Stream:
    """A response whose sound comes before what it says, and between."""
    events = [sound()]
    for word in words:
        events += [transcript(word), sound(SHORT)]
    events += [{"type": "response.audio.done"}, {"type": "response.audio.transcript.done"}, last]
    return Stream(encoded(events, done=False))


def deltas(recorder: Recorder, kind: str) -> str:
    got = [one.json() for one in recorder.events if not one.done]
    return "".join(one["delta"] for one in got if one.get("type") == kind)


@pytest.mark.parametrize("action", ["redact", "block"])
async def test_the_sound_of_a_response_waits_for_what_is_said_in_it(action: Any) -> None:
    """Nothing of it leaves where something is found at last."""
    rail = Guardrail(guard=cards(), action=action)
    stream = spoken_response("my card is 4111 1111 ", "1111 1111 ok")
    recorder = await ask(GuardrailsMiddleware(stream, output=[rail]))
    assert "" == deltas(recorder, "response.audio.delta")
    assert b"4111" not in recorder.body
    if action == "redact":
        assert "my card is <CARD_1> ok" == deltas(recorder, "response.audio.transcript.delta")
        assert LAST == recorder.events[-1].json()


async def test_the_sound_of_a_response_in_which_nothing_is_found_comes_as_it_was() -> None:
    """It leaves with what stands behind it, in order, when the answer has ended."""
    stream = spoken_response("no card", " at all")
    recorder = await ask(GuardrailsMiddleware(stream, output=[REDACT]))
    assert b"".join(stream.chunks) == recorder.body


async def test_a_sound_waits_for_what_is_said_at_the_end_alone() -> None:
    """The last event may be the first that has the words."""
    said = {"type": "output_audio", "data": "", "transcript": f"card {CARD}"}
    last = {"type": "response.completed", "response": {"output": [{"content": [said]}]}}
    recorder = await ask(GuardrailsMiddleware(spoken_response(last=last), output=[cards()]))
    assert SHORT.encode() not in recorder.body
    assert SOUND.encode() not in recorder.body


@pytest.mark.parametrize("place", [{}, PLACE], ids=["without a place", "with a place"])
async def test_the_end_of_a_sound_is_not_the_end_of_its_words(place: dict[str, Any]) -> None:
    """A text that is split around it is found."""
    end = {"type": "response.audio.done", **place}
    said = [transcript("card 4111 1111", **place), end, transcript(" 1111 1111", **place), LAST]
    stream = Stream(encoded(said, done=False))
    recorder = await ask(GuardrailsMiddleware(stream, output=[cards()]))
    assert b"4111" not in recorder.body
    recorder = await ask(GuardrailsMiddleware(stream, output=[REDACT]))
    assert "card <CARD_1>" == deltas(recorder, "response.audio.transcript.delta")


async def test_the_end_of_a_text_without_a_place_is_not_the_end_of_others() -> None:
    """It ends the texts of its own kind."""
    place = {"output_index": 0, "content_index": 0}
    text = {"type": "response.output_text.delta", **place}
    events = [
        {**text, "delta": "card 4111 1111"},
        transcript("hi"),
        {"type": "response.audio.transcript.done"},
        {**text, "delta": " 1111 1111"},
        LAST,
    ]
    layer = GuardrailsMiddleware(Stream(encoded(events, done=False)), output=[cards()])
    assert b"4111" not in (await ask(layer)).body


async def test_what_waits_behind_the_sound_of_a_response_is_bounded() -> None:
    """The sound counts, and so does all that is behind it."""
    stream = spoken_response(*["no harm in these plain words at all "] * 40)
    size = sum(map(len, stream.chunks))
    for most, passes in ((size, True), (size // 2, False), (len(SOUND) - 1, False)):
        layer = GuardrailsMiddleware(stream, output=[REDACT], max_held_characters=most)
        recorder = await ask(layer)
        assert passes is (b"".join(stream.chunks) == recorder.body)
        assert passes is (SOUND.encode() in recorder.body)
        assert passes is (b'"error"' not in recorder.body)


@pytest.mark.parametrize(
    "around",
    [
        lambda audio: event({}, message={"audio": audio}),
        lambda audio: event({"content": [{"type": "audio", "audio": audio}]}),
    ],
    ids=["message", "part of a content"],
)
async def test_a_sound_waits_wherever_it_stands_in_a_choice(around: Any) -> None:
    """In a message of a choice, and in a part of its content."""
    events = [around({"data": SOUND}), around({"transcript": CARD}), event({})]
    stream = Stream(encoded(events))
    recorder = await ask(GuardrailsMiddleware(stream, output=[cards()]))
    assert SOUND.encode() not in recorder.body
    assert ["content_filter"] == finish_reasons(recorder)
