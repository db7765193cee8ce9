"""What becomes of the events of a stream: all that they say is judged before any of it leaves."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from asgi_llm.middleware.guardrails import Guardrail, GuardrailsMiddleware
from asgi_llm.testing import chat_events
from tests.middleware.guardrails.probes import (
    Stream,
    ask,
    chat,
    content,
    emails,
    encoded,
    finish_reasons,
)

SECRET = "alice@example.com"


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


async def test_a_long_event_is_cut_in_two_with_what_was_restored_in_it() -> None:
    """A placeholder beside a long text becomes the original in both halves."""
    stream = Stream(encoded([event({"content": LONG, "author": "<EMAIL_1>"}), event({})]))
    rail = Guardrail(guard=emails(), action="redact")
    layer = GuardrailsMiddleware(stream, input=[rail], output=[emails()])
    recorder = await ask(layer, chat(SECRET))
    assert (LONG, SECRET) == (content(recorder), content(recorder, "author"))
