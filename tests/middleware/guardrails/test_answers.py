"""What becomes of answers: whole ones, streams, and those of guards that fail or are slow."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from asgi_llm.errors import ContentFilterError, StoreError
from asgi_llm.guards.base import Finding, Guard, GuardContext, GuardCost
from asgi_llm.middleware.guardrails import Guardrail, GuardrailsMiddleware
from asgi_llm.state import FAILURE, UNCACHEABLE, VERDICTS
from asgi_llm.testing import Exchange, Recorder, call, chat_answer, chat_events, http_scope
from tests.middleware.guardrails.probes import (
    App,
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
    fused,
    read,
    stream_of,
    whole,
    words,
)

SECRET = "alice@example.com"
CARD = "4111 1111 1111 1111"


def said(recorder: Recorder) -> Any:
    return recorder.json()["choices"][0]["message"]["content"]


# Whole answers

ANSWERS: dict[str, Any] = {
    "content": chat_answer(f"it is {SECRET}"),
    "tool arguments": chat_answer(None, tool_calls=[("f", {"to": SECRET})]),
    "second choice": {"choices": [{"message": {"content": "a"}}, {"message": {"content": SECRET}}]},
    "refusal": {"choices": [{"message": {"content": None, "refusal": SECRET}}]},
    "thoughts": {"choices": [{"message": {"content": "a", "reasoning_content": SECRET}}]},
    "legacy call": {
        "choices": [
            {"message": {"function_call": {"name": "f", "arguments": json.dumps([SECRET])}}}
        ]
    },
    "content parts": {"choices": [{"message": {"content": [{"type": "text", "text": SECRET}]}}]},
    "completion": {"choices": [{"text": SECRET, "index": 0}]},
    "annotations": {
        "choices": [{"message": {"annotations": [{"url_citation": {"title": SECRET}}]}}]
    },
    "error": {"error": {"message": f"cannot mail {SECRET}", "code": "x"}},
    "transcription": {"text": SECRET},
    "unknown": {"x_more": [{"deep": SECRET}]},
    "text": f"plain text with {SECRET} in it".encode(),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_whole_answers(answer: Any) -> None:
    """Wherever a text stands in an answer it is blocked, with nothing of it, or redacted."""
    app = App(answer)
    recorder = await ask(GuardrailsMiddleware(app, output=[emails()]))
    assert (400, "content_filter") == (recorder.status, recorder.json()["error"]["code"])
    assert b"alice" not in recorder.body
    assert b"pii.email=block" == recorder.header("x-guardrail")
    assert ContentFilterError is type(app.states[0].get(FAILURE))
    assert ("guardrail", 0) == (app.states[0].get(UNCACHEABLE), app.completed)
    app = App(answer)
    rail = Guardrail(guard=emails(), action="redact")
    recorder = await ask(GuardrailsMiddleware(app, output=[rail]))
    assert 200 == recorder.status
    assert b"alice" not in recorder.body
    assert b"<EMAIL_1>" in recorder.body
    assert b"%d" % len(recorder.body) == recorder.header("content-length")
    assert ("guardrail", 1) == (app.states[0].get(UNCACHEABLE), app.completed)
    assert b"pii.email=redact" == recorder.header("x-guardrail")


async def test_an_answer_in_which_nothing_is_found_is_the_apps_own() -> None:
    """Its bytes, its headers and its length stay; the state says nothing."""
    body = json.dumps(chat_answer("Grüße!"), indent=2).encode()
    app = App(body, headers=[(b"x-own", b"1")])
    recorder = await ask(GuardrailsMiddleware(app, output=[emails()]))
    assert (body, b"1") == (recorder.body, recorder.header("x-own"))
    assert app.states[0].get(VERDICTS) is None
    assert app.states[0].get(UNCACHEABLE) is None


async def test_tokens_and_sound_do_not_say_it_again() -> None:
    """Of a choice that is redacted, the tokens and the sound go as well."""
    answer = chat_answer(SECRET)
    answer["choices"][0]["logprobs"] = {"content": [{"token": SECRET, "logprob": 0}]}
    answer["choices"][0]["message"]["audio"] = {"id": "a", "data": "AAAA", "transcript": SECRET}
    rail = Guardrail(guard=emails(), action="redact")
    recorder = await ask(GuardrailsMiddleware(App(answer), output=[rail]))
    choice = recorder.json()["choices"][0]
    assert (None, None) == (choice["logprobs"], choice["message"]["audio"])


@pytest.mark.parametrize(("on_error", "status"), [("deny", 400), ("allow", 200)])
@pytest.mark.parametrize(
    "options",
    [
        {"headers": [(b"content-encoding", b"gzip")]},
        {"headers": [(b"Content-Encoding", b"br")]},
        {"headers": [(b"content-encoding", b"identity"), (b"content-encoding", b"gzip")]},
        {"answer": chat_answer("x" * 2000)},
    ],
    ids=["compressed", "in capitals", "named twice", "too long"],
)
async def test_answers_that_cannot_be_read(
    options: dict[str, Any], on_error: Any, status: int
) -> None:
    """What cannot be read passes only if the guards let pass what they cannot judge."""
    app = App(**options)
    rail = Guardrail(guard=emails(), on_error=on_error)
    recorder = await ask(GuardrailsMiddleware(app, output=[rail], max_answer_bytes=1000))
    assert status == recorder.status
    verdicts = app.states[0].get(VERDICTS)
    assert verdicts is not None
    assert ["unreadable"] == [one.category for one in verdicts]


@pytest.mark.parametrize(
    "media",
    ["application/x-subrip", "application/yaml", "application/javascript", "text/vtt", "a/b+XML"],
)
async def test_what_may_hold_text_is_checked_as_a_whole(media: str) -> None:
    """Subtitles, and whatever else somebody can read."""
    app = App(f"1\n00:00 --> 00:01\nwrite to {SECRET}\n".encode(), content_type=media.encode())
    recorder = await ask(GuardrailsMiddleware(app, output=[emails()]))
    assert 400 == recorder.status
    assert SECRET.encode() not in recorder.body


async def test_sounds_and_vectors_pass() -> None:
    """What is no text passes as it comes, without being held."""
    app = App(b"\xff\xfb" + SECRET.encode(), content_type=b"audio/mpeg")
    recorder = await ask(GuardrailsMiddleware(app, output=[emails()]))
    assert b"\xff\xfb" + SECRET.encode() == recorder.body
    app = App({"data": [{"embedding": [0.5], "note": SECRET}]})
    scope = http_scope(path="/v1/embeddings")
    recorder = await call(
        GuardrailsMiddleware(app, output=[emails()]), scope, json={"model": "m", "input": "a"}
    )
    assert 200 == recorder.status


class Json:
    """A guard that wants JSON, and can put a missing brace right."""

    name = "json"
    cost: GuardCost = "inline"
    window: int | None = None

    def check(self, text: str, context: GuardContext) -> Sequence[Finding]:
        try:
            json.loads(text)
        except ValueError:
            return [whole("format.json")] if context.path.endswith("content") else []
        return []

    def repair(self, text: str, context: GuardContext) -> str | None:
        return text + "}" if text.startswith('{"a"') else None


@pytest.mark.parametrize(
    ("answers", "status", "calls"),
    [
        (['{"a":1}'], 200, 1),
        (["no", '{"a":1}'], 200, 2),
        (["no", "no", '{"a":1}'], 400, 2),
    ],
)
async def test_an_answer_is_asked_for_once_more(
    answers: list[str], status: int, calls: int
) -> None:
    """An answer that a guard with ``retry`` blocks is asked for again, once, by the same body."""
    left = list(answers)
    app = App(lambda document: chat_answer(left.pop(0)))
    rail = Guardrail(guard=Json(), retry=True)
    recorder = await ask(GuardrailsMiddleware(app, output=[rail]))
    assert (status, calls) == (recorder.status, app.calls)
    assert 1 == len(set(app.bodies))


async def test_an_answer_is_repaired() -> None:
    """What a guard can put right is put right, and checked once more by all guards."""
    app = App(chat_answer('{"a":1'))
    rail = Guardrail(guard=Json(), repair=True)
    recorder = await ask(GuardrailsMiddleware(app, output=[rail]))
    assert '{"a":1}' == said(recorder)
    assert app.states[0].get(UNCACHEABLE)
    for text in ("{", f'{{"a":"{SECRET}"'):
        layer = GuardrailsMiddleware(App(chat_answer(text)), output=[rail, emails()])
        assert 400 == (await ask(layer)).status


@pytest.mark.parametrize("guard", [emails(), fused()], ids=["alone", "with others"])
@pytest.mark.parametrize("streams", [True, False])
async def test_roles_are_those_of_requests(guard: Guard, streams: bool) -> None:
    """An answer is looked at whatever roles a guardrail names."""
    app = stream_of(["to ", SECRET, "."]) if streams else App(chat_answer(SECRET))
    rail = Guardrail(guard=guard, roles=["user"])
    recorder = await ask(GuardrailsMiddleware(app, output=[rail]))
    assert SECRET.encode() not in recorder.body


# Streams


async def test_a_block_ends_the_stream() -> None:
    """The client gets what came before, the finish reason and the end; the app stops."""
    pieces = [*(["word "] * 50), SECRET, *([" more"] * 50)]
    stream = stream_of(pieces)
    recorder = await ask(GuardrailsMiddleware(stream, output=[emails()]))
    assert "word " * 50 == content(recorder)
    assert ["content_filter"] == finish_reasons(recorder)
    assert (True, True) == (recorder.complete, recorder.events[-1].done)
    assert 1 == stream.refused
    assert 50 < stream.sent < 100
    assert ContentFilterError is type(stream.states[0].get(FAILURE))
    assert stream.states[0].get(UNCACHEABLE)
    last = recorder.events[-2].json()
    assert ("chatcmpl-test", "chat.completion.chunk") == (last["id"], last["object"])


async def test_a_block_may_end_with_an_error_event() -> None:
    """By option the stream ends with an error object, which SDKs raise."""
    layer = GuardrailsMiddleware(stream_of([SECRET]), output=[emails()], stream_error_event=True)
    recorder = await ask(layer)
    assert ["content_filter"] == finish_reasons(recorder)
    assert "content_filter" == recorder.events[-2].json()["error"]["code"]
    assert recorder.events[-1].done
    assert b"alice" not in recorder.body


async def test_a_block_ends_all_choices() -> None:
    """Each choice that was open ends with the reason; one that had ended keeps its own."""
    events = chat_events(["a"], n=2)
    text = {**events[0], "choices": [{"index": 1, "delta": {"content": SECRET}}]}
    end = next(one for one in events if one["choices"] and one["choices"][0]["finish_reason"])
    stream = Stream(encoded([events[0], events[1], end, text, *events[-2:]]))
    recorder = await ask(GuardrailsMiddleware(stream, output=[emails()]))
    assert ["stop", "content_filter"] == finish_reasons(recorder)


async def test_text_completions() -> None:
    """Streams of the older kind are checked, and end in their own form."""
    events = [
        {"id": "c", "object": "text_completion", "choices": [{"index": 0, "text": piece}]}
        for piece in ("to ", "alice@", "example.com", " now")
    ]
    recorder = await ask(GuardrailsMiddleware(Stream(encoded(events)), output=[emails()]))
    assert {"index": 0, "text": "", "logprobs": None, "finish_reason": "content_filter"} == (
        recorder.events[-2].json()["choices"][0]
    )
    rail = Guardrail(guard=emails(), action="redact")
    recorder = await ask(GuardrailsMiddleware(Stream(encoded(events)), output=[rail]))
    texts = [one.json()["choices"][0]["text"] for one in recorder.events[:-1]]
    assert "to <EMAIL_1> now" == "".join(texts)


async def test_the_first_words_leave_after_the_window() -> None:
    """Of a text no more waits than the longest window and half of it, and one event."""
    stream = stream_of(["1234567 "] * 100)
    async with Exchange(
        GuardrailsMiddleware(stream, output=[words("never", window=64)]),
        body=json.dumps(chat("hi")).encode(),
    ) as exchange:
        sent = 0
        for _ in range(5):
            await exchange.next_chunk()
            sent = len(content(exchange.recorder))
            assert 8 * (stream.sent + 1) - sent <= 65 + 32 + 16
        await exchange.finish()
    assert "1234567 " * 100 == content(exchange.recorder)


async def test_events_without_text_are_not_held() -> None:
    """Comments, and events that carry no text, leave at once, whatever else waits."""
    head, *_, usage = chat_events(["x"])
    text = {**head, "choices": [{"index": 0, "delta": {"content": "waits"}}]}
    chunks = [*encoded([head, text], done=False), b": alive\n\n", *encoded([usage], done=False)]
    stream = Stream(chunks)
    gate = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def halting(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                await gate.wait()
            await send(message)

        await stream(scope, receive, halting)

    layer = GuardrailsMiddleware(app, output=[emails()])
    async with Exchange(layer, body=json.dumps(chat("hi")).encode()) as exchange:
        got = b"".join([await exchange.next_chunk() for _ in range(3)])
        assert b"waits" not in got
        assert b": alive" in got
        assert b'"total_tokens"' in got
        gate.set()
        await exchange.finish()
    assert "waits" == content(exchange.recorder)


async def test_a_guard_for_whole_texts_holds_a_stream_to_its_end() -> None:
    """Nothing leaves before such a guard has seen all, and then all does, or nothing."""
    cases: list[tuple[Guard, str]] = [
        (words("never", window=None), "one two three"),
        (Json(), ""),
    ]
    for guard, expected in cases:
        recorder = await ask(
            GuardrailsMiddleware(stream_of(["one ", "two ", "three"]), output=[guard])
        )
        assert expected == content(recorder)


async def test_flags_hold_nothing_back() -> None:
    """A guard that only flags lets each chunk pass at once, and says what it found at the end."""
    stream = stream_of(["to alice@", "example.com", " now"])
    rail = Guardrail(guard=emails(), action="flag")
    recorder = await ask(GuardrailsMiddleware(stream, output=[rail]))
    assert b"".join(stream.chunks) == recorder.body
    verdicts = stream.states[0].get(VERDICTS)
    assert verdicts is not None
    assert [("flag", "choices[0].content")] == [(one.action, one.path) for one in verdicts]


async def test_too_much_that_waits_blocks() -> None:
    """A stream that would hold back more than is allowed ends."""
    stream = stream_of(["x" * 50] * 100)
    layer = GuardrailsMiddleware(
        stream, output=[words("never", window=None)], max_held_characters=1000
    )
    recorder = await ask(layer)
    assert ("", ["content_filter"]) == (content(recorder), finish_reasons(recorder))
    assert stream.sent < 30


class Key:
    """A guard whose findings have no length that is known before, as private keys."""

    name = "key"
    cost: GuardCost = "inline"
    window: int | None = 16

    def check(self, text: str, context: GuardContext) -> Sequence[Finding]:
        start = text.find("BEGIN")
        if start < 0:
            return []
        end = text.find("END", start)
        is_open = end < 0 and not context.is_final
        return [
            Finding(
                start=start,
                end=len(text) if end < 0 else end + 3,
                category="secret.key",
                is_open=is_open,
            )
        ]


async def test_an_open_finding_is_held_to_its_end() -> None:
    """A finding that goes on is held, however long it gets, and redacted as one."""
    pieces = ["a ", "BEG", "IN ", *(["0123456789 "] * 40), "EN", "D b ", "c " * 30]
    rail = Guardrail(guard=Key(), action="redact")
    recorder = await ask(GuardrailsMiddleware(stream_of(pieces), output=[rail]))
    assert "a <KEY_1> b " + "c " * 30 == content(recorder)
    recorder = await ask(GuardrailsMiddleware(stream_of(pieces[:-3]), output=[rail]))
    assert "a <KEY_1>" == content(recorder)


async def test_placeholders_come_back_in_streams_at_once() -> None:
    """Without guards on the output only what may be a placeholder is held."""
    rail = Guardrail(guard=emails(), action="redact")
    stream = stream_of(["Dear <EM", "AIL", "_1", ">, a < b, <EMAIL_9>", " bye"])
    recorder = await ask(GuardrailsMiddleware(stream, input=[rail]), chat(f"I am {SECRET}"))
    assert f"Dear {SECRET}, a < b, <EMAIL_9> bye" == content(recorder)
    assert "I am <EMAIL_1>" == stream.documents[0]["messages"][0]["content"]
    assert stream.states[0].get(UNCACHEABLE) is None


async def test_output_guards_do_not_see_what_is_restored() -> None:
    """What the user said themselves comes back; what the model says itself does not pass."""
    rails = [Guardrail(guard=emails(), action="redact")]
    answer = chat_answer("you are <EMAIL_1>, I am bob@mail.org")
    layer = GuardrailsMiddleware(App(answer), input=rails, output=rails)
    assert f"you are {SECRET}, I am <EMAIL_2>" == said(await ask(layer, chat(SECRET)))


async def test_a_broken_off_stream_stays_broken_off() -> None:
    """Where the app fails, what waited is not sent, and no end is made up."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for chunk in stream_of(["one ", "two "]).chunks[:3]:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        raise RuntimeError("broken")

    layer = GuardrailsMiddleware(app, output=[emails()])
    async with Exchange(layer, body=json.dumps(chat("hi")).encode()) as exchange:
        with pytest.raises(RuntimeError, match="broken"):
            await exchange.finish()
    assert ("", False) == (content(exchange.recorder), exchange.recorder.complete)


async def test_around_fastapi() -> None:
    """Around an endpoint of somebody's own it blocks, redacts and restores, whole and streamed."""
    api = FastAPI()

    @api.post("/v1/chat/completions")
    async def complete(request: Request) -> Any:
        document = await request.json()
        text = document["messages"][-1]["content"]
        if not document.get("stream"):
            return chat_answer(text)
        chunks = encoded(chat_events([text[:5], text[5:], f" {CARD}"]))

        async def events() -> Any:
            for chunk in chunks:
                yield chunk

        return StreamingResponse(events(), media_type="text/event-stream")

    rail = Guardrail(guard=emails(), action="redact")
    api.add_middleware(GuardrailsMiddleware, input=[rail], output=[cards()])
    assert f"I am {SECRET}" == said(await ask(api, chat(f"I am {SECRET}")))
    assert 400 == (await ask(api, chat(CARD))).status
    recorder = await ask(api, chat(f"I am {SECRET}", stream=True))
    assert f"I am {SECRET}" == content(recorder).strip()
    assert ["content_filter"] == finish_reasons(recorder)


# Guards that are slow, or fail


async def never(text: str) -> list[Finding]:
    await asyncio.Event().wait()
    return []


async def down(text: str) -> list[Finding]:
    raise StoreError("no answer")


async def broken(text: str) -> list[Finding]:
    raise ValueError(text)


FAILING = {"hangs": never, "is down": down, "is broken": broken}


@pytest.mark.parametrize(("on_error", "passes"), [("deny", False), ("allow", True)])
@pytest.mark.parametrize("judge", FAILING.values(), ids=FAILING)
async def test_a_remote_guard_that_fails(
    judge: Any, on_error: Any, passes: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It follows its ``on_error`` within its deadline: for requests, answers and streams."""
    guard = Remote(judge)
    rail = Guardrail(guard=guard, on_error=on_error, timeout_seconds=0.01)
    before = asyncio.all_tasks()
    app = App(chat_answer(SECRET))
    layer = GuardrailsMiddleware(app, input=[rail])
    recorder = await ask(layer, chat(SECRET))
    assert (200 if passes else 400) == recorder.status
    assert passes == bool(app.calls)
    assert 1 == layer.failures
    recorder = await ask(GuardrailsMiddleware(app, output=[rail]))
    assert (200 if passes else 400) == recorder.status
    stream = stream_of([SECRET] * 20)
    recorder = await ask(GuardrailsMiddleware(stream, output=[rail]))
    assert (SECRET * 20 if passes else "") == content(recorder)
    assert (["stop"] if passes else ["content_filter"]) == finish_reasons(recorder)
    verdicts = stream.states[0].get(VERDICTS)
    assert verdicts is not None
    assert [("unavailable", "flag" if passes else "block")] == [
        (one.category, one.action) for one in verdicts
    ]
    assert before == asyncio.all_tasks()
    assert SECRET not in caplog.text


@pytest.mark.parametrize("on_error", ["deny", "allow"])
async def test_an_inline_guard_that_fails(on_error: Any) -> None:
    """An exception of a guard is no exception of the request."""

    class Broken:
        name = "broken"
        cost: GuardCost = "inline"
        window = 16

        def check(self, text: str, context: GuardContext) -> Sequence[Finding]:
            raise ValueError(text)

    rail = Guardrail(guard=Broken(), on_error=on_error)
    status = 200 if on_error == "allow" else 400
    assert status == (await ask(GuardrailsMiddleware(App(), input=[rail]))).status
    assert status == (await ask(GuardrailsMiddleware(App(), output=[rail]))).status


async def test_a_guard_in_a_thread() -> None:
    """Guards of cost ``thread`` do not run on the loop."""
    threads: list[str] = []

    def judge(text: str) -> list[Finding]:
        threads.append(threading.current_thread().name)
        at = text.find("bad")
        return [Finding(start=at, end=at + 3, category="x.bad")] if at >= 0 else []

    rail = Guardrail(guard=Threaded(judge), action="redact")
    app = App(chat_answer("so bad"))
    layer = GuardrailsMiddleware(app, input=[rail], output=[rail], threads=2)
    recorder = await ask(layer, chat("a bad word"))
    assert "a <BAD_1> word" == app.documents[0]["messages"][0]["content"]
    assert "so <BAD_1>" == msgspec.json.decode(recorder.body)["choices"][0]["message"]["content"]
    recorder = await ask(GuardrailsMiddleware(stream_of(["it is b", "ad, is it"]), output=[rail]))
    assert "it is <BAD_1>, is it" == content(recorder)
    assert {"asgi-llm-guard"} == set(threads)
    await layer.aclose()
    assert 400 == (await ask(layer, chat("hello"))).status


async def test_a_thread_that_hangs_is_not_waited_for() -> None:
    """A guard that hangs in its thread is given up at its deadline; others go on meanwhile."""
    release = threading.Event()

    def judge(text: str) -> list[Finding]:
        if "hang" in text:
            release.wait(5)
        return []

    rail = Guardrail(guard=Threaded(judge), timeout_seconds=0.05)
    layer = GuardrailsMiddleware(App(), input=[rail], threads=2)
    try:
        assert 400 == (await ask(layer, chat("hang"))).status
        assert 200 == (await ask(layer, chat("go on"))).status
    finally:
        release.set()
    await layer.aclose()


@pytest.mark.parametrize(("on_error", "passes"), [("deny", False), ("allow", True)])
@pytest.mark.parametrize("where", ["request", "answer", "stream"])
async def test_a_large_text_for_which_no_thread_is_free(
    where: str, on_error: Any, passes: bool
) -> None:
    """It counts as one that its guards could not judge."""
    text = "plain words " * 4000
    guard = Pattern("never", window=None)
    rail = Guardrail(guard=guard, on_error=on_error)
    app = stream_of([text]) if where == "stream" else App(chat_answer(text))
    of_requests, of_answers = ([rail], []) if where == "request" else ([], [rail])
    layer = GuardrailsMiddleware(app, input=of_requests, output=of_answers)
    # Threads that are closed take no more calls, as busy ones do.
    await layer.aclose()
    recorder = await ask(layer, chat(text if where == "request" else "hi"))
    if passes:
        assert text == (content(recorder) if where == "stream" else said(recorder))
    else:
        assert text[:100].encode() not in recorder.body
        assert b"content_filter" in recorder.body
    verdicts = app.states[-1].get(VERDICTS) if app.states else None
    assert where == "request" or ["unavailable"] == [one.category for one in verdicts or ()]
    assert [] == guard.texts


async def test_remote_guards_run_at_once() -> None:
    """All remote guards of a request wait together, for all of its roles."""
    barrier = asyncio.Barrier(4)

    async def judge(text: str) -> list[Finding]:
        await barrier.wait()
        return []

    rails = [Guardrail(guard=Remote(judge, name)) for name in ("one", "two")]
    document = chat({"role": "system", "content": "a"}, "b", "c")
    layer = GuardrailsMiddleware(App(), input=rails)
    assert 200 == (await ask(layer, document)).status


# Beside the call


class Held:
    """A remote guard whose verdict the test gives."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.verdict: asyncio.Future[list[Finding]] = asyncio.get_running_loop().create_future()

    async def __call__(self, text: str) -> list[Finding]:
        self.asked.set()
        return await self.verdict


@pytest.mark.parametrize("streams", [False, True])
async def test_nothing_leaves_before_the_verdict(streams: bool) -> None:
    """In parallel the app is called at once, and the client gets nothing before the verdict."""
    held = Held()
    app = stream_of(["one ", "two"]) if streams else App()
    layer = GuardrailsMiddleware(app, input=[Guardrail(guard=Remote(held))], parallel=True)
    async with Exchange(layer, body=json.dumps(chat("hi")).encode()) as exchange:
        await held.asked.wait()
        await exchange.settle()
        assert (1, 0) == (len(app.states), exchange.pending)
        held.verdict.set_result([])
        await exchange.finish()
    assert 200 == exchange.recorder.status
    if streams:
        assert "one two" == content(exchange.recorder)


async def test_a_block_cancels_the_call() -> None:
    """The app is cancelled, the client gets 400, and no task is left."""
    held = Held()
    cancelled = asyncio.Event()
    begun = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    before = asyncio.all_tasks()
    layer = GuardrailsMiddleware(app, input=[Guardrail(guard=Remote(held))], parallel=True)
    async with Exchange(layer, body=json.dumps(chat("hi")).encode()) as exchange:
        async with asyncio.timeout(5):
            await begun.wait()
            await held.asked.wait()
        held.verdict.set_result([whole("topic.bad")])
        await exchange.finish()
    assert 400 == exchange.recorder.status
    assert "topic.bad" in exchange.recorder.json()["error"]["message"]
    assert cancelled.is_set()
    assert before == asyncio.all_tasks()


async def test_an_app_that_answers_before_a_block() -> None:
    """What an app has sent by then is thrown away."""
    held = Held()
    app = App()
    layer = GuardrailsMiddleware(app, input=[Guardrail(guard=Remote(held))], parallel=True)
    async with Exchange(layer, body=json.dumps(chat("hi")).encode()) as exchange:
        await held.asked.wait()
        await exchange.settle()
        held.verdict.set_result([whole()])
        await exchange.finish()
    assert (400, 0) == (exchange.recorder.status, app.completed)


async def test_an_app_that_fails_beside_the_guards() -> None:
    """Its exception comes out once the guards are done."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("broken")

    held = Held()
    held.verdict.set_result([])
    layer = GuardrailsMiddleware(app, input=[Guardrail(guard=Remote(held))], parallel=True)
    with pytest.raises(RuntimeError, match="broken"):
        await ask(layer)


async def test_a_cancelled_request_ends_both() -> None:
    """Where the host cancels the request, neither the guard nor the app goes on."""
    asked, ended = asyncio.Event(), asyncio.Event()

    async def judge(text: str) -> list[Finding]:
        asked.set()
        return await never(text)

    remote = Remote(judge)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    before = asyncio.all_tasks()
    rail = Guardrail(guard=remote, timeout_seconds=None)
    layer = GuardrailsMiddleware(app, input=[rail], parallel=True)
    task = asyncio.create_task(ask_forever(layer))
    async with asyncio.timeout(5):
        await asked.wait()
        task.cancel()
        await asyncio.wait({task})
    assert (1, True) == (remote.cancelled, ended.is_set())
    assert before == asyncio.all_tasks()


async def ask_forever(layer: Any) -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": json.dumps(chat("hi")).encode()}

    await layer(http_scope(), receive, Recorder())


async def test_what_redacts_goes_first() -> None:
    """In parallel a remote guard that redacts has its say before the app is called."""

    async def judge(text: str) -> list[Finding]:
        return [Finding(start=0, end=3, category="x.word")]

    app = App()
    rail = Guardrail(guard=Remote(judge), action="redact")
    await ask(GuardrailsMiddleware(app, input=[rail], parallel=True), chat("bad word"))
    assert "<WORD_1> word" == app.documents[0]["messages"][0]["content"]
