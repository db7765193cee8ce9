"""What the guards see of a request, and what becomes of it."""
# ruff: noqa: RUF001  disguises are made of look-alikes

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from typing import Any
from urllib.parse import quote

import pytest

from asgi_llm.errors import ConfigurationError, ContentFilterError
from asgi_llm.guards.base import Guard
from asgi_llm.guards.pii import PiiGuard
from asgi_llm.guards.secrets import SecretsGuard
from asgi_llm.middleware.guardrails import AuditRecord, Guardrail, GuardrailsMiddleware
from asgi_llm.state import FAILURE, PRINCIPAL, UNCACHEABLE, VERDICTS, enter
from asgi_llm.testing import Exchange, call, http_scope
from asgi_llm.types import Principal, Verdict
from tests.middleware.guardrails.probes import (
    HELLO,
    App,
    ask,
    cards,
    chat,
    emails,
    fused,
    words,
)

SECRET = "alice@example.com"
CARD = "4111 1111 1111 1111"


KINDS: dict[str, list[Any]] = {"of the user's own": [emails(), cards()], "patterns": [fused()]}
BOTH = pytest.mark.parametrize("guards", KINDS.values(), ids=KINDS)


def tool_call(arguments: str) -> dict[str, Any]:
    function = {"name": "send", "arguments": arguments}
    calls = [{"id": "call_1", "type": "function", "function": function}]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def data_url(text: str, media: str = "text/plain") -> str:
    return f"data:{media};base64,{base64.b64encode(text.encode()).decode()}"


PLACES: dict[str, dict[str, Any]] = {
    "user": chat(f"mail {SECRET} now"),
    "system": chat({"role": "system", "content": f"mail {SECRET}"}, "hi"),
    "developer": chat({"role": "developer", "content": SECRET}, "hi"),
    "assistant": chat("hi", {"role": "assistant", "content": SECRET}, "and?"),
    "tool result": chat("hi", {"role": "tool", "tool_call_id": "c", "content": f"is {SECRET}"}),
    "function result": chat("hi", {"role": "function", "name": "f", "content": SECRET}),
    "content part": chat({"role": "user", "content": [{"type": "text", "text": f"it {SECRET}"}]}),
    "tool arguments": chat("hi", tool_call(json.dumps({"to": SECRET}))),
    "nested arguments": chat("hi", tool_call(json.dumps({"a": [{"to": f"x {SECRET}"}]}))),
    "escaped arguments": chat("hi", tool_call('{"to":"alice\\u0040example.com"}')),
    "arguments after an escape": chat("hi", tool_call('{"to":"\\nalice@example.com"}')),
    "arguments that are no JSON": chat("hi", tool_call(f"to: {SECRET}")),
    "name": chat({"role": "user", "content": "hi", "name": SECRET}),
    "tool description": chat(
        "hi", tools=[{"type": "function", "function": {"name": "f", "description": SECRET}}]
    ),
    "parameter description": chat(
        "hi",
        tools=[
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "parameters": {"properties": {"to": {"description": f"as {SECRET}"}}},
                },
            }
        ],
    ),
    "property name": chat(
        "hi",
        tools=[
            {
                "type": "function",
                "function": {"name": "f", "parameters": {"properties": {SECRET: {}}}},
            }
        ],
    ),
    "legacy function": chat("hi", functions=[{"name": "f", "description": SECRET}]),
    "legacy call": chat(
        "hi",
        {
            "role": "assistant",
            "content": None,
            "function_call": {"name": "f", "arguments": json.dumps({"to": SECRET})},
        },
    ),
    "schema": chat(
        "hi",
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "s", "schema": {"description": SECRET}},
        },
    ),
    "prediction": chat("hi", prediction={"type": "content", "content": SECRET}),
    "user field": chat("hi", user=SECRET),
    "metadata": chat("hi", metadata={"who": SECRET}),
    "stop": chat("hi", stop=[SECRET]),
    "unknown field": chat("hi", x_unknown={"deep": [[{"er": SECRET}]]}),
    "long id": chat({"role": "tool", "tool_call_id": f"{'x' * 60} {SECRET}", "content": "hi"}),
    "image address": chat(
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": f"https://x.org/?to={SECRET}"}}],
        }
    ),
    "file text": chat(
        {
            "role": "user",
            "content": [{"type": "file", "file": {"file_data": data_url(f"is {SECRET} ok")}}],
        }
    ),
    "file text without base64": chat(
        {
            "role": "user",
            "content": [{"type": "file", "file": {"file_data": "data:text/csv," + quote(SECRET)}}],
        }
    ),
    "svg image": chat(
        {
            "role": "user",
            "content": [
                {
                    "type": "image_url",
                    "image_url": {"url": data_url(f"<svg>{SECRET}</svg>", "image/svg+xml")},
                }
            ],
        }
    ),
    "prompt": {"model": "m", "prompt": f"mail {SECRET}"},
    "prompts": {"model": "m", "prompt": ["hi", SECRET]},
    "input": {"model": "m", "input": SECRET},
    "inputs": {"model": "m", "input": ["a", f"b {SECRET}"]},
    "documents": {"model": "m", "query": "q", "documents": ["d", {"text": SECRET}]},
}


def inside(document: Any) -> str:
    """All that a document says, its data URLs and escapes read."""
    said = json.dumps(document)
    for part in list(_strings(document)):
        if part.startswith("data:") and ";base64," in part:
            said += base64.b64decode(part.partition(",")[2]).decode()
        said += json.dumps(part.encode().decode("unicode_escape"))
    return said


def _strings(value: Any) -> Any:
    if isinstance(value, str):
        yield value
    for one in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from _strings(one)


@BOTH
@pytest.mark.parametrize("document", PLACES.values(), ids=PLACES)
async def test_every_place_is_checked(document: Any, guards: list[Guard]) -> None:
    """Wherever a text stands in a request, a guard that blocks lets it reach nobody."""
    app = App()
    recorder = await ask(GuardrailsMiddleware(app, input=guards), document)
    assert (400, 0) == (recorder.status, app.calls)
    error = recorder.json()["error"]
    assert "content_filter" == error["code"]
    assert "pii.email" in error["message"]
    assert b"alice" not in recorder.body
    assert b"pii.email=block" == recorder.header("x-guardrail")


@BOTH
@pytest.mark.parametrize("document", PLACES.values(), ids=PLACES)
async def test_every_place_is_redacted(document: Any, guards: list[Guard]) -> None:
    """Wherever it stands, the bytes that reach the app hold a placeholder in its place."""
    app = App()
    rails = [Guardrail(guard=guard, action="redact") for guard in guards]
    await ask(GuardrailsMiddleware(app, input=rails), document)
    said = inside(app.documents[0])
    assert "alice" not in said
    assert "EMAIL_1" in said
    assert b"alice" not in app.bodies[0]


async def test_redacted_arguments_stay_json() -> None:
    """A number among arguments becomes a string, and an escape before a finding stays whole."""
    app = App()
    rails = [Guardrail(guard=guard, action="redact") for guard in (emails(), cards())]
    written = '{"card": 4111111111111111, "to": "a\\nalice@example.com\\u0021", "q": "\\""}'
    await ask(GuardrailsMiddleware(app, input=rails), chat("hi", tool_call(written)))
    arguments = app.documents[0]["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert {"card": "<CARD_1>", "to": "a\n<EMAIL_1>!", "q": '"'} == json.loads(arguments)


async def test_a_long_number_is_a_text() -> None:
    """A card number that is written as a number of JSON is found."""
    app = App()
    document = chat("hi", metadata={"card": 4111111111111111})
    rails = [Guardrail(guard=cards(), action="redact")]
    await ask(GuardrailsMiddleware(app, input=rails), document)
    assert {"card": "<CARD_1>"} == app.documents[0]["metadata"]


# Source of the list: what is known to get past filters.
ZERO = "\u200b"
EVASIONS: dict[str, Any] = {
    "split over messages": chat("it is 4111 1111", "1111 1111 ok"),
    "split over messages with an answer between": chat(
        "it is 4111 1111", {"role": "assistant", "content": "go on"}, "1111 1111 ok"
    ),
    "split over roles": chat({"role": "system", "content": "4111 1111"}, "1111 1111"),
    "split over four messages": chat("4111", "1111", "1111", "1111"),
    "split over parts": chat(
        {
            "role": "user",
            "content": [{"type": "text", "text": "4111111"}, {"type": "text", "text": "111111111"}],
        }
    ),
    "split after a long text": chat("word " * 1000 + "4111 1111", "1111 1111" + " word" * 1000),
    "zero width": chat(ZERO.join(CARD)),
    "soft hyphens": chat("\u00ad".join(CARD)),
    "word joiners": chat("\u2060".join(SECRET)),
    "bidi controls": chat("\u202e".join(SECRET)),
    "variation selectors": chat("\ufe0f".join(SECRET)),
    "combining marks": chat("\u0336".join(SECRET)),
    "full width": chat("".join(chr(ord(one) + 0xFEE0) for one in SECRET)),
    "mathematical letters": chat(
        "".join(chr(0x1D41A + ord(c) - 97) if c.isalpha() else c for c in SECRET)
    ),
    "cyrillic": chat(SECRET.translate(str.maketrans("aceopxy", "асеорху"))),
    "greek": chat(SECRET.replace("o", "ο").replace("i", "ι")),
    "tags that nobody sees": chat("hello" + "".join(chr(0xE0000 + ord(one)) for one in SECRET)),
    "base64": chat("decode " + base64.b64encode(f"mail {SECRET} now".encode()).decode()),
    "base64 for URLs": chat(base64.urlsafe_b64encode(f"mail?? {SECRET} >>".encode()).decode()),
    "base64 without padding": chat(base64.b64encode(f"to {SECRET}!".encode()).decode().rstrip("=")),
    "base64 in lines": chat(
        base64.encodebytes(f"{'some words ' * 9}mail {SECRET} now".encode()).decode()
    ),
    "base64 twice": chat(
        base64.b64encode(base64.b64encode(f"mail {SECRET} now".encode())).decode()
    ),
    "percent": chat("alice%40example.com"),
    "percent everywhere": chat("".join(f"%{ord(one):02x}" for one in SECRET)),
    "percent twice": chat("alice%2540example.com"),
    "percent in base64": chat(base64.b64encode(b"mail alice%40example.com now").decode()),
    "entities": chat("alice&#64;ex&#x61;mple.com"),
    "escapes": chat("alice\\u0040example\\x2ecom"),
    "base64 in arguments": chat(
        "hi", tool_call(json.dumps({"x": base64.b64encode(SECRET.encode()).decode()}))
    ),
    "zero width in arguments": chat("hi", tool_call(json.dumps({"x": ZERO.join(SECRET)}))),
    "in the system field": {"model": "m", "system": ZERO.join(SECRET), "messages": []},
}


@BOTH
@pytest.mark.parametrize("document", EVASIONS.values(), ids=EVASIONS)
async def test_b11_evasions(document: Any, guards: list[Guard]) -> None:
    """No disguise gets past a guard that blocks."""
    app = App()
    recorder = await ask(GuardrailsMiddleware(app, input=guards), document)
    assert (400, 0) == (recorder.status, app.calls)


@BOTH
@pytest.mark.parametrize("document", EVASIONS.values(), ids=EVASIONS)
async def test_b11_evasions_are_redacted(document: Any, guards: list[Guard]) -> None:
    """What was disguised is gone from what the app gets: the same request passes the guards now."""
    app = App()
    rails = [Guardrail(guard=guard, action="redact") for guard in guards]
    await ask(GuardrailsMiddleware(app, input=rails), document)
    again = App()
    recorder = await ask(GuardrailsMiddleware(again, input=guards), app.documents[0])
    assert (200, 1) == (recorder.status, again.calls)
    assert "_1>" in json.dumps(app.documents[0])


def private_key(size: int = 1200) -> str:
    """A key as it stands in a file."""
    body = base64.b64encode(bytes((7 * at * at + at // 3) % 251 for at in range(size))).decode()
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    label = "EC PRIVATE KEY-----"
    return "\n".join([f"-----BEGIN {label}", *lines, f"-----END {label}", ""])


@pytest.mark.parametrize("behind", ["", "that was it. " * 100])
@pytest.mark.parametrize("cuts", [[5], [30], [60], [100], [700], [1300], [1630], [40, 400, 1000]])
async def test_a_key_over_several_parts_is_redacted_to_its_end(
    cuts: list[int], behind: str
) -> None:
    """However long it is in each of them, and whatever stands behind it."""
    key = private_key()
    borders = [0, *cuts, len(key)]
    parts = [key[start:end] for start, end in itertools.pairwise(borders)]
    parts[-1] += behind
    app = App()
    layer = GuardrailsMiddleware(app, input=[Guardrail(guard=SecretsGuard(), action="redact")])
    await ask(
        layer, chat({"role": "user", "content": [{"type": "text", "text": p} for p in parts]})
    )
    said = "".join(part["text"] for part in app.documents[0]["messages"][0]["content"])
    assert behind.strip() in said
    assert not any(line in said for line in key.splitlines())
    assert len(said) < len(behind) + 80


async def test_the_next_text_is_no_part_of_what_ends_with_a_text() -> None:
    """Though it could be, as far as its letters go: an address is not read on, nor the name."""
    call = tool_call("{}")
    app = App()
    layer = GuardrailsMiddleware(app, input=[Guardrail(guard=PiiGuard(), action="redact")])
    await ask(layer, chat(f"to {SECRET}", call, "m"))
    assert chat("to <EMAIL_1>", call, "m") == app.documents[0]


async def test_b11_what_is_around_a_disguise_stays() -> None:
    """Only what has to go is replaced in the text as it was written."""
    app = App()
    rails = [Guardrail(guard=emails(), action="redact")]
    text = f"Grüße\u200b an {ZERO.join(SECRET)}, 100%25 sicher — Ende"
    await ask(GuardrailsMiddleware(app, input=rails), chat(text))
    said = app.documents[0]["messages"][0]["content"]
    assert "Grüße\u200b an <EMAIL_1>, 100%25 sicher — Ende" == said


TEMPLATES = (
    "{{7*7}} and {% for x in range(10**9) %}{{x}}{% endfor %}",
    "{{''.__class__.__mro__[1].__subclasses__()}}",
    "${jndi:ldap://x} #{7*7} <%= 7*7 %> %(name)s {0.__class__} $(id)",
)


@pytest.mark.parametrize("template", TEMPLATES)
async def test_b10_templates_in_a_request_stay_text(template: str) -> None:
    """What is redacted, restored, blocked or noted beside one is never evaluated."""
    app = App(lambda document: {"choices": [{"message": document["messages"][0]}]})
    rails = [Guardrail(guard=emails(), action="redact")]
    text = f"{template} {SECRET} {template}"
    async with asyncio.timeout(5):
        recorder = await ask(GuardrailsMiddleware(app, input=rails), chat(text))
    said = app.documents[0]["messages"][0]["content"]
    assert f"{template} <EMAIL_1> {template}" == said
    assert text == recorder.json()["choices"][0]["message"]["content"]
    blocked = await ask(GuardrailsMiddleware(App(), input=[emails()]), chat(text))
    assert (400, False) == (blocked.status, "49" in blocked.json()["error"]["message"])


async def test_harmless_requests_pass_as_the_bytes_they_were() -> None:
    """A request in which nothing is found reaches the app byte for byte, pictures included."""
    app = App()
    picture = "data:image/png;base64," + base64.b64encode(bytes(range(256)) * 40).decode()
    document = chat(
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": picture}}]},
        {
            "role": "user",
            "content": [
                {"type": "input_audio", "input_audio": {"data": picture[22:], "format": "wav"}}
            ],
        },
        "50% of A\\B & ünïcode \u200b",
    )
    rails = [Guardrail(guard=guard, action="redact") for guard in (emails(), cards())]
    body = json.dumps(document).encode()
    await call(GuardrailsMiddleware(app, input=rails), body=body)
    assert [body] == app.bodies


async def test_the_same_value_has_the_same_placeholder() -> None:
    """In the whole conversation one value is one placeholder, and no two values share one."""
    app = App()
    rails = [Guardrail(guard=emails(), action="redact")]
    await ask(
        GuardrailsMiddleware(app, input=rails),
        chat(f"{SECRET} and bob@mail.org", tool_call(json.dumps({"to": SECRET}))),
    )
    first, second = app.documents[0]["messages"]
    assert "<EMAIL_1> and <EMAIL_2>" == first["content"]
    assert {"to": "<EMAIL_1>"} == json.loads(second["tool_calls"][0]["function"]["arguments"])


async def test_placeholders_that_stand_there_already_are_left_alone() -> None:
    """A text that has ``<EMAIL_1>`` in it keeps it, and it does not become somebody's address."""
    rails = [Guardrail(guard=emails(), action="redact")]
    app = App(lambda document: {"choices": [{"message": document["messages"][0]}]})
    text = f"<EMAIL_1> is not {SECRET}"
    recorder = await ask(GuardrailsMiddleware(app, input=rails), chat(text))
    assert "<EMAIL_1> is not <EMAIL_2>" == app.documents[0]["messages"][0]["content"]
    assert text == recorder.json()["choices"][0]["message"]["content"]


async def test_placeholders_that_stand_there_escaped_are_left_alone() -> None:
    """As in arguments of calls, where they would become originals as well."""
    app = App()
    layer = GuardrailsMiddleware(app, input=[Guardrail(guard=emails(), action="redact")])
    await ask(layer, chat(SECRET, tool_call(r'{"to":"\u003cEMAIL_1\u003E"}')))
    assert "<EMAIL_2>" == app.documents[0]["messages"][0]["content"]


async def test_placeholders_by_digest() -> None:
    """Under one key a value has one placeholder in every request, and another key has others."""
    rails = [Guardrail(guard=emails(), action="redact")]
    said = []
    for key, text in (
        (b"k" * 16, SECRET),
        (b"k" * 16, f"bob@mail.org {SECRET}"),
        (b"j" * 16, SECRET),
    ):
        app = App()
        layer = GuardrailsMiddleware(app, input=rails, placeholders="digest", digest_key=key)
        await ask(layer, chat(text))
        said.append(app.documents[0]["messages"][0]["content"].split()[-1])
    assert said[0] == said[1] != said[2]
    assert said[0].startswith("<EMAIL_")


async def test_without_restoration() -> None:
    """With ``reversible=False`` placeholders stay in the answer."""
    rails = [Guardrail(guard=emails(), action="redact")]
    app = App(lambda document: {"choices": [{"message": document["messages"][0]}]})
    recorder = await ask(GuardrailsMiddleware(app, input=rails, reversible=False), chat(SECRET))
    assert "<EMAIL_1>" == recorder.json()["choices"][0]["message"]["content"]


async def test_verdicts_and_failure() -> None:
    """What was found is in the state, with its place and without its text."""
    states = []

    async def outside(scope: Any, receive: Any, send: Any) -> None:
        scope, state = enter(scope)
        states.append(state)
        await layer(scope, receive, send)

    rails: list[Guardrail | Guard] = [Guardrail(guard=emails(), action="flag"), cards()]
    layer = GuardrailsMiddleware(App(), input=rails)
    recorder = await ask(outside, chat("hi", f"{SECRET} {CARD}"))
    assert 400 == recorder.status
    assert (
        Verdict(
            guard="pii",
            action="flag",
            category="pii.email",
            score=1.0,
            reason="",
            direction="input",
            path="messages[1].content",
        ),
        Verdict(
            guard="pattern",
            action="block",
            category="pii.card",
            score=1.0,
            reason="",
            direction="input",
            path="messages[1].content",
        ),
    ) == states[0].get(VERDICTS)
    assert ContentFilterError is type(states[0].get(FAILURE))
    assert states[0].get(UNCACHEABLE) is None
    assert b"pii.email=flag, pii.card=block" == recorder.header("x-guardrail")
    assert "messages[1].content" == recorder.json()["error"]["param"]
    assert 1 == layer.blocks


async def test_observing_changes_nothing() -> None:
    """Observed guards note what they would have done; the request and the answer pass."""
    app = App()
    rails: list[Guardrail | Guard] = [Guardrail(guard=emails(), action="redact"), cards()]
    layer = GuardrailsMiddleware(app, input=rails, output=[words("Hello")], mode="observe")
    recorder = await ask(layer, chat(f"{SECRET} {CARD}"))
    assert (200, None) == (recorder.status, recorder.header("x-guardrail"))
    assert b"Hello there." in recorder.body
    assert SECRET in app.documents[0]["messages"][0]["content"]
    verdicts = app.states[0].get(VERDICTS)
    assert verdicts is not None
    said = [(one.category, one.action, one.enforced) for one in verdicts]
    assert [
        ("pii.email", "redact", False),
        ("pii.card", "block", False),
        ("topic.secret", "block", False),
    ] == said
    assert 0 == layer.blocks


async def test_observing_lets_what_is_no_json_pass() -> None:
    """A body that cannot be read is refused where guards act, and passes where they watch."""
    app = App()
    recorder = await call(GuardrailsMiddleware(app, input=[emails()]), body=b"no JSON")
    assert (400, "invalid_json") == (recorder.status, recorder.json()["error"]["code"])
    await call(GuardrailsMiddleware(app, input=[emails()], mode="observe"), body=b"no JSON")
    assert [b"no JSON"] == app.bodies


async def test_one_guard_only_observes() -> None:
    """The mode of one guardrail is its own."""
    app = App()
    rails = [Guardrail(guard=emails(), mode="observe"), Guardrail(guard=cards(), action="redact")]
    await ask(GuardrailsMiddleware(app, input=rails), chat(f"{SECRET} {CARD}"))
    assert f"{SECRET} <CARD_1>" == app.documents[0]["messages"][0]["content"]


CHOICES: list[tuple[dict[str, Any], dict[str, Any], int]] = [
    ({"models": ["gpt-4*"]}, {}, 400),
    ({"models": ["claude*"]}, {}, 200),
    ({"scopes": ["team:blue*"]}, {"team_id": "blue-1"}, 400),
    ({"scopes": ["team:blue*"]}, {"team_id": "red"}, 200),
    ({"scopes": ["team:blue*"]}, {}, 200),
    ({"scopes": ["tier:free", "scope:beta"]}, {"scopes": frozenset({"beta"})}, 400),
    ({"scopes": ["user:*"]}, {"user_id": "u"}, 400),
    ({"roles": ["user"]}, {}, 400),
    ({"roles": ["tool", "system"]}, {}, 200),
    ({"min_score": 1.0}, {}, 400),
]


@BOTH
@pytest.mark.parametrize(("options", "principal", "status"), CHOICES)
async def test_whom_a_guard_concerns(
    options: dict[str, Any], principal: dict[str, Any], status: int, guards: list[Guard]
) -> None:
    """A guard looks at the models, callers and roles that it is chosen for."""
    layer = GuardrailsMiddleware(
        App(), input=[Guardrail(guard=guard, **options) for guard in guards]
    )

    async def outside(scope: Any, receive: Any, send: Any) -> None:
        scope, state = enter(scope)
        if principal:
            state.set(PRINCIPAL, Principal(**principal))
        await layer(scope, receive, send)

    for _ in range(2):
        assert status == (await ask(outside, chat(SECRET))).status


async def test_what_guards_are_told() -> None:
    """A guard learns where a text stands, of which model, and what the system texts are."""
    guard = words("nothing")
    document = chat({"role": "developer", "content": "Be kind."}, "hi")
    await ask(GuardrailsMiddleware(App(), input=[guard]), document)
    said = [(one.role, one.path, one.model, one.direction) for one in guard.contexts]
    assert ("system", "messages[0].content", "gpt-4o", "input") == said[0]
    assert ("user", "messages[1].content", "gpt-4o", "input") == said[1]
    assert {("Be kind.",)} == {tuple(one.system) for one in guard.contexts}


async def test_audit() -> None:
    """The audit gets digests in place of texts: equal values, equal digests, under one key."""
    records: list[AuditRecord] = []

    async def audit(record: AuditRecord) -> None:
        records.append(record)

    rails = [Guardrail(guard=emails(), action="redact")]
    layer = GuardrailsMiddleware(App(), input=rails, audit=audit, digest_key=b"k" * 16)
    for text in (SECRET, f"to {SECRET}", "bob@mail.org", "nothing"):
        await ask(layer, chat(text))
    assert 3 == len(records)
    digests = [record.digests[0] for record in records]
    assert digests[0] == digests[1] != digests[2]
    assert 32 == len(digests[0])
    assert ["pii.email"] == [one.category for one in records[0].verdicts]
    assert "alice" not in repr(records)
    assert records[0].request_id.startswith("req_")


async def test_an_audit_that_fails_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The answer is the client's whatever becomes of the audit, and the log has no text."""

    async def audit(record: AuditRecord) -> None:
        raise ValueError(SECRET)

    rails = [Guardrail(guard=emails(), action="redact")]
    recorder = await ask(GuardrailsMiddleware(App(), input=rails, audit=audit), chat(SECRET))
    assert 200 == recorder.status
    assert "the audit of guardrails failed: ValueError" in caplog.text
    assert "alice" not in caplog.text


async def test_a_large_text_is_checked_in_a_thread() -> None:
    """A text over 32 KiB is checked, and mapped, as any other."""
    app = App()
    text = "wörter " * 20_000 + ZERO.join(SECRET) + " end"
    rails = [Guardrail(guard=emails(), action="redact")]
    layer = GuardrailsMiddleware(app, input=rails)
    await ask(layer, chat(text))
    said = app.documents[0]["messages"][0]["content"]
    assert "wörter " * 20_000 + "<EMAIL_1> end" == said
    await layer.aclose()


async def send_form(
    app: App, guardrail: Guardrail, fields: dict[str, str], file_name: str = "a.wav", *, at: int = 9
) -> tuple[int, bytes]:
    """Send a form, with its file behind ``at`` of the fields; the status, and what was sent."""
    parts = [
        f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    file = f'Content-Disposition: form-data; name="file"; filename="{file_name}"\r\n'
    parts.insert(at, f"{file}Content-Type: audio/wav\r\n\r\nRIFF\r\n")
    body = ("".join(f"--xx\r\n{part}" for part in parts) + "--xx--\r\n").encode()
    headers = [
        (b"content-type", b"multipart/form-data; boundary=xx"),
        (b"content-length", b"%d" % len(body)),
    ]
    scope = http_scope(path="/v1/audio/transcriptions", headers=headers)
    recorder = await call(GuardrailsMiddleware(app, input=[guardrail]), scope, body=body)
    return recorder.status, body


FORM = {"model": "whisper", "prompt": f"as {SECRET} says"}


@pytest.mark.parametrize("at", [0, 1, 2])
async def test_a_form_is_checked_and_not_changed(at: int) -> None:
    """Its fields are checked, wherever the file stands; what would be redacted blocks it."""
    app = App()
    status, _ = await send_form(app, Guardrail(guard=emails(), action="redact"), FORM, at=at)
    assert (400, 0) == (status, app.calls)
    status, body = await send_form(app, Guardrail(guard=cards(), action="redact"), FORM, at=at)
    assert (200, [body]) == (status, app.bodies)


async def test_the_name_of_a_file_is_checked() -> None:
    """It goes to the provider like any field of a form."""
    app = App()
    rail = Guardrail(guard=emails())
    status, _ = await send_form(app, rail, {"model": "whisper"}, f"{SECRET}.wav")
    assert (400, 0) == (status, app.calls)


HEADS = [
    f"; by={SECRET}",
    f"\r\nContent-Type: audio/wav; by={SECRET}",
    f"\r\nContent-Type: {SECRET}",
    f"\r\nX-Author: {SECRET}",
]
NAMES = [f'; filename="{SECRET}/a.wav"', "; filename*=UTF-8''alice%40example.com"]


@pytest.mark.parametrize(
    ("of", "head"),
    [*(("prompt", head) for head in HEADS), *(("file", head) for head in (*HEADS, *NAMES))],
)
async def test_all_that_the_head_of_a_part_says_is_checked(of: str, head: str) -> None:
    """The app inside gets it as it came, also what is not sent on."""
    heads = {"model": "", "prompt": "", "file": '; filename="a.wav"', of: head}
    parts = [
        f'--xx\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\nwhisper\r\n'
        for name, more in heads.items()
    ]
    body = ("".join(parts) + "--xx--\r\n").encode()
    headers = [(b"content-type", b"multipart/form-data; boundary=xx")]
    scope = http_scope(path="/v1/audio/transcriptions", headers=headers)
    for guard, expected in ((emails(), (400, [])), (cards(), (200, [body]))):
        app = App()
        recorder = await call(GuardrailsMiddleware(app, input=[guard]), scope, body=body)
        assert expected == (recorder.status, app.bodies)
    assert SECRET not in recorder.body.decode()


@pytest.mark.parametrize(("model", "status"), [("whisper", 400), ("gpt-4o", 200)])
async def test_a_guard_for_some_models_looks_at_their_forms(model: str, status: int) -> None:
    """A form names its model in a field, which a guard is told as well."""
    guard = emails()
    rail = Guardrail(guard=guard, models=["whisper*"])
    assert status == (await send_form(App(), rail, {**FORM, "model": model}))[0]
    assert {"whisper"} >= {context.model for context in guard.contexts}


async def test_other_paths_and_methods_pass() -> None:
    """What is no POST to an inference path is not read."""
    app = App()
    scope = http_scope(path="/elsewhere")
    async with Exchange(
        GuardrailsMiddleware(app, input=[emails()]), scope, body=SECRET.encode()
    ) as exchange:
        await exchange.finish()
    assert [SECRET.encode()] == app.bodies


async def test_a_request_with_nothing_in_it_is_told_nothing() -> None:
    """Without verdicts there is no header, and no key in the state."""
    app = App()
    recorder = await ask(GuardrailsMiddleware(app, input=[emails()], output=[cards()]), HELLO)
    assert (200, None) == (recorder.status, recorder.header("x-guardrail"))
    assert app.states[0].get(VERDICTS) is None


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("mode", {"mode": "off"}),
    ("placeholders", {"placeholders": "secret"}),
    ("threads", {"threads": 0}),
    ("max_body_bytes", {"max_body_bytes": 0}),
    ("max_answer_bytes", {"max_answer_bytes": -1}),
    ("digest_key", {"digest_key": b"short"}),
    ("input", {"input": ["no guard"]}),
    ("output", {"output": [object()]}),
]


@pytest.mark.parametrize(("option", "options"), WRONG, ids=[option for option, _ in WRONG])
def test_wrong_options(option: str, options: dict[str, Any]) -> None:
    """A wrong option is refused at construction, by its name."""
    with pytest.raises(ConfigurationError) as caught:
        GuardrailsMiddleware(App(), **options)
    assert option == caught.value.param


WRONG_RAILS: list[tuple[str, dict[str, Any]]] = [
    ("action", {"action": "shout"}),
    ("on_error", {"on_error": "ignore"}),
    ("mode", {"mode": "off"}),
    ("timeout_seconds", {"timeout_seconds": 0}),
    ("min_score", {"min_score": 2}),
    ("models", {"models": "gpt-4o"}),
    ("repair", {"repair": True}),
    ("retry", {"retry": True, "action": "flag"}),
    ("guard.window", {"guard": words("x", window=0)}),
]


@pytest.mark.parametrize(("option", "options"), WRONG_RAILS, ids=[name for name, _ in WRONG_RAILS])
def test_wrong_guardrails(option: str, options: dict[str, Any]) -> None:
    """The same for the options of one guardrail."""
    with pytest.raises(ConfigurationError) as caught:
        Guardrail(**{"guard": emails(), **options})
    assert option == caught.value.param
