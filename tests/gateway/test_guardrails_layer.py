"""The layer ``guardrails`` of the prebuilt gateway: before the caches, over what it calls."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asgi_llm.gateway.build import load_gateway
from asgi_llm.gateway.compose import Gateway
from asgi_llm.testing import (
    ReceivedRequest,
    Recorder,
    Reply,
    Upstream,
    call,
    http_scope,
    json_reply,
)

JSON = (b"content-type", b"application/json")
SECRET = "0123456789abcdef"


@asynccontextmanager
async def gateway_of(*stack: Any) -> AsyncIterator[Gateway]:
    """The offline provider, which answers with what it was asked."""
    gateway = load_gateway({"providers": {"e": {"type": "echo"}}, "stack": list(stack)})
    async with asyncio.timeout(60), gateway.lifespan():
        yield gateway


async def ask(gateway: Gateway, text: str, key: str | None = None, **fields: Any) -> Recorder:
    """A chat about ``text``."""
    headers = [JSON] if key is None else [JSON, (b"authorization", f"Bearer {key}".encode())]
    document = {
        "model": "e/echo",
        "temperature": 0,
        "messages": [{"role": "user", "content": text}],
        **fields,
    }
    scope = http_scope(path="/v1/chat/completions", headers=headers)
    return await call(gateway, scope, json=document)


def told(answer: Recorder) -> dict[str, str]:
    """The headers of an answer that tell what was done."""
    names = (b"x-guardrail", b"x-cache-status")
    return {name.decode(): value.decode() for name, value in answer.headers if name in names}


def streamed(answer: Recorder) -> tuple[str, str | None]:
    """The text of a stream, and why it ended."""
    assert 200 == answer.status, answer.body
    events = [line[6:] for line in answer.body.decode().splitlines() if line.startswith("data: ")]
    choices = [
        choice
        for event in events
        if event != "[DONE]"
        for choice in json.loads(event).get("choices", ())
    ]
    reasons = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    return text, reasons[-1] if reasons else None


async def test_answers_out_of_the_cache_are_looked_at_too() -> None:
    """What is redacted comes back for each caller, and what is kept holds a placeholder."""
    rails = {
        "input": [{"pii": {}, "action": "redact"}, {"words": {"words": ["forbidden"]}}],
        "output": [{"words": {"words": ["hush"]}, "scopes": ["key:child"]}],
    }
    keys = [
        {"name": name, "key": f"sk-{name}-7f3b9c2e8a1d", "organization": "o"}
        for name in ("adult", "child")
    ]
    stack = ({"auth": {"keys": keys, "database": False}}, {"guardrails": rails}, "exact_cache")
    async with gateway_of(*stack) as gateway:
        first, other = keys[0]["key"], keys[1]["key"]
        answer = await ask(gateway, "Write to ada@example.com", first)
        assert {"x-guardrail": "pii.email=redact", "x-cache-status": "MISS"} == told(answer)
        answer = await ask(gateway, "Write to bob@example.com", other)
        # The same question to the provider, and the answer is about one's own.
        assert {"x-guardrail": "pii.email=redact", "x-cache-status": "HIT"} == told(answer)
        assert b"bob@example.com" in answer.body
        assert b"ada@example.com" not in answer.body
        answer = await ask(gateway, "This is forbidden", first)
        assert (400, {"x-guardrail": "words=block"}) == (answer.status, told(answer))
        assert 200 == (await ask(gateway, "Now hush", first)).status
        assert 400 == (await ask(gateway, "Now hush", other)).status


@pytest.mark.parametrize("stack", ["before", "behind"])
async def test_a_stream_is_guarded_on_either_side_of_the_cache(stack: str) -> None:
    """A blocked one ends, is not kept, and a redacted one comes whole."""
    rails = {
        "guardrails": {
            "input": [{"pii": {}, "action": "redact"}],
            "output": [{"words": {"words": ["forbidden"]}}],
        }
    }
    layers = (rails, "exact_cache") if stack == "before" else ("exact_cache", rails)
    async with gateway_of(*layers) as gateway:
        for _ in range(2):
            text, reason = streamed(await ask(gateway, "It is so forbidden here", stream=True))
            assert "content_filter" == reason
            assert "forbidden" not in text
            text, reason = streamed(await ask(gateway, "Write to ada@example.com", stream=True))
            assert ("Write to ada@example.com", "stop") == (text, reason)


async def test_the_log_says_how_many_and_not_what(caplog: pytest.LogCaptureFixture) -> None:
    """Counts by what became of the findings."""
    rails = {
        "input": [
            {"pii": {}, "action": "redact"},
            {"words": {"words": ["draft"]}, "mode": "observe"},
        ]
    }
    with caplog.at_level(logging.INFO, "asgi_llm.access"):
        async with gateway_of("access_log", {"guardrails": rails}) as gateway:
            await ask(gateway, "A draft to ada@example.com and bob@example.com")
            await ask(gateway, "Hello")
    first, second = [record.getMessage() for record in caplog.records]
    assert first.endswith("guardrails={'redact': 1, 'observe': 1}")
    assert "guardrails" not in second
    assert "@example" not in first


async def test_an_audit_is_logged_and_posted_signed(caplog: pytest.LogCaptureFixture) -> None:
    """With a digest that is the same for the same value, and nothing of the text."""
    posts: list[ReceivedRequest] = []

    def take(request: ReceivedRequest) -> Reply:
        posts.append(request)
        return json_reply({})

    async with Upstream(take) as service:
        rails = {
            "input": [{"pii": {}, "action": "redact"}],
            "digest_key": SECRET,
            "audit": {"webhook": {"url": f"{service.url}/", "secret": SECRET, "private": True}},
        }
        with caplog.at_level(logging.INFO, "asgi_llm.audit"):
            async with gateway_of({"guardrails": rails}) as gateway:
                for _ in range(2):
                    await ask(gateway, "Write to ada@example.com")
    records = [json.loads(post.body) for post in posts]
    assert [record.getMessage().encode() for record in caplog.records] == [
        post.body for post in posts
    ]
    findings = [verdict for record in records for verdict in record["verdicts"]]
    assert {("pii", "pii.email", "redact")} == {
        (one["guard"], one["category"], one["action"]) for one in findings
    }
    [digest] = {one["digest"] for one in findings}
    assert digest
    assert b"@example" not in b"".join(post.body for post in posts)
    signature = next(value for name, value in posts[0].headers if name.lower() == b"x-signature")
    moment, _, mac = signature.decode().partition(",v1=")
    signed = moment.removeprefix("t=").encode() + b"." + posts[0].body
    assert hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest() == mac


@pytest.mark.parametrize(("on_error", "status"), [("allow", 200), ("deny", 400)])
async def test_a_service_that_is_away_is_a_policy(on_error: str, status: int) -> None:
    """And the gateway is degraded until it answers again."""
    statuses = [500, 200]

    def moderate(request: ReceivedRequest) -> Reply:
        if statuses.pop(0) == 500:
            return json_reply({}, 500)
        clean = {"flagged": False, "categories": {}, "category_scores": {}}
        return json_reply({"id": "modr-1", "model": "m", "results": [clean]})

    async with Upstream(moderate) as service:
        rail = {
            "moderation": {"url": f"{service.url}/v1/moderations", "private": True},
            "on_error": on_error,
            "timeout_seconds": 10,
        }
        async with gateway_of({"guardrails": {"input": [rail]}}) as gateway:

            async def state() -> Any:
                answer = await call(gateway, http_scope(method="GET", path="/health/ready"))
                return answer.status, json.loads(answer.body)["status"]

            assert status == (await ask(gateway, "Hello")).status
            assert (200, "degraded") == await state()
            assert 200 == (await ask(gateway, "Hello")).status
            assert (200, "ready") == await state()


async def test_a_service_that_is_not_public_has_to_be_called_so() -> None:
    """Its address is refused when it is called, and the request gets what ``on_error`` says."""
    rail = {"webhook": {"url": "https://127.0.0.1:1/", "secret": SECRET}}
    async with gateway_of({"guardrails": {"input": [rail]}}) as gateway:
        assert 400 == (await ask(gateway, "Hello")).status
