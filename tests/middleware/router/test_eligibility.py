"""B26: a request goes only to what can serve it, and to what a policy and its key allow."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_llm._semconv import Operation
from asgi_llm.providers.capabilities import Capabilities
from asgi_llm.routing.eligibility import Policy
from asgi_llm.testing import chat_answer, error_answer, json_reply
from asgi_llm.types import Principal
from tests.middleware.cost.conftest import As
from tests.middleware.router.conftest import FAILS, HELLO, ask, route, target, told, upstreams

HI = json_reply(chat_answer("Hi."))
CHAT: frozenset[Operation] = frozenset(("chat",))
PLAIN: Any = Capabilities(operations=CHAT, tools=False, image_data=False)
ABLE: Any = Capabilities(operations=CHAT, tools=True, image_data=True)
TOOLS = {
    **HELLO,
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
}
EU = Policy(regions=frozenset(("eu",)))


async def test_b26_a_fallback_without_tools_is_not_asked_for_them() -> None:
    """The provider's own error is the answer; a request without tools does fall back."""
    async with upstreams(a=FAILS, b=HI) as up:
        router = up.router(
            route(target("a", capabilities=ABLE), fallbacks=("other",)),
            route(target("b", capabilities=PLAIN), name="other"),
            attempts=2,
        )
        assert 502 == (await ask(router, TOOLS)).status
        assert {"a": 2} == up.calls
        assert 200 == (await ask(router)).status
        assert {"a": 3, "b": 1} == up.calls


async def test_b26_the_able_target_is_called_at_once() -> None:
    """What the first cannot do is not tried there: there is no attempt to count."""
    async with upstreams(a=HI, b=HI) as up:
        router = up.router(route(target("a", capabilities=PLAIN), target("b", capabilities=ABLE)))
        answer = await ask(router, TOOLS)
        assert (b"b", b"1") == (answer.header("x-provider"), answer.header("x-attempts"))
        assert {"b": 1} == up.calls


async def test_b26_what_is_too_long_for_a_context_does_not_go_there() -> None:
    """Neither as a fallback nor at first; the route for long requests is asked instead."""
    long = {**HELLO, "messages": [{"role": "user", "content": "word " * 5000}]}
    async with upstreams(a=HI, b=HI) as up:
        router = up.router(
            route(target("a", context_tokens=1000), context_length=("large",)),
            route(target("b", context_tokens=100_000), name="large"),
        )
        assert b"b" == (await ask(router, long)).header("x-provider")
        assert b"a" == (await ask(router)).header("x-provider")


async def test_b26_nobody_can_serve_it() -> None:
    """The answer says why, target by target, and nobody is called."""
    async with upstreams(a=HI) as up:
        router = up.router(route(target("a", capabilities=PLAIN, context_tokens=9)))
        answer = await ask(router, TOOLS)
        assert (400, "no_eligible_target") == told(answer)
        assert "a/m: it has no tools" in answer.json()["error"]["message"]
        assert {} == up.calls


async def test_b26_data_stays_in_its_region() -> None:
    """A target elsewhere, or in a place that is not known, is none: not even for a failure."""
    async with upstreams(a=FAILS, b=HI, c=HI) as up:
        router = up.router(
            route(target("a", region="eu"), target("b", region="us"), "c"),
            policy=EU,
            attempts=3,
        )
        assert 502 == (await ask(router)).status
        assert {"a": 3} == up.calls


async def test_b26_the_policy_is_the_callers() -> None:
    """Some callers' data may go anywhere, others' may not."""

    def policy(principal: Principal | None) -> Policy:
        return EU if principal is not None and principal.team_id == "eu" else Policy()

    async with upstreams(a=HI, b=HI) as up:
        router = up.router(route("a", target("b", region="eu")), policy=policy)
        assert b"a" == (await ask(As(router, team_id="us"))).header("x-provider")
        assert b"b" == (await ask(As(router, team_id="eu"))).header("x-provider")


@pytest.mark.parametrize(
    ("model", "content_type"),
    (("a/m", b"application/json"), ("fast", b"multipart/form-data; boundary=x")),
    ids=["a model without a route", "an upload"],
)
async def test_b26_what_is_not_routed_does_not_leave_its_region(
    model: str, content_type: bytes
) -> None:
    """Where it would go is not known, so that it goes nowhere."""
    async with upstreams(a=HI) as up:
        router = up.router(route(target("a", region="eu")), policy=EU)
        document = {**HELLO, "model": model}
        answer = await ask(router, document, headers=[(b"content-type", content_type)])
        assert (403, "region_not_allowed") == told(answer)
        assert {} == up.calls


@pytest.mark.parametrize(
    ("models", "calls"),
    (
        (("fast",), {"a": 2}),
        (("fast", "slow"), {"a": 1, "b": 1}),
        (("fast", "b/*"), {"a": 1, "b": 1}),
        (("*",), {"a": 1, "b": 1}),
        (None, {"a": 1, "b": 1}),
    ),
    ids=str,
)
async def test_b26_a_key_is_served_by_its_own_models_alone(
    models: tuple[str, ...] | None, calls: dict[str, int]
) -> None:
    """A fallback is one of them by the route's name or by the target's; else it is not asked."""
    async with upstreams(a=FAILS, b=HI) as up:
        router = up.router(route("a", fallbacks=("slow",)), route("b", name="slow"), attempts=2)
        await ask(As(router, key_id="k", models=models))
        assert calls == up.calls


async def test_b26_a_model_that_is_not_the_keys_is_refused() -> None:
    """Also where the host said who is calling, and nobody has judged the model before."""
    async with upstreams(a=HI) as up:
        answer = await ask(As(up.router(route("a")), key_id="k", models=("other",)))
        assert (403, "model_not_allowed") == told(answer)
        assert {} == up.calls


async def test_a_request_that_is_not_valid_is_refused_by_the_app() -> None:
    """In its own words, once, and at no provider."""
    async with upstreams(a=HI) as up:
        router = up.router(route(target("a", capabilities=ABLE), "a/second"))
        for document in (
            {"model": "fast"},
            {"model": "fast", "messages": "hello"},
            {"model": "fast", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            {"model": 7, "messages": []},
        ):
            plain = await ask(up.app, document)
            routed = await ask(router, document)
            assert (plain.status, plain.json()) == (routed.status, routed.json())
            assert 400 == routed.status
        assert {} == up.calls


async def test_a_model_that_is_gone_is_looked_for_elsewhere() -> None:
    """A target that does not know its model is one to pass over, and not the client's mistake."""
    async with upstreams(a=error_answer(404, code="model_not_found"), b=HI) as up:
        answer = await ask(up.router(route("a", "b")))
        assert (200, {"a": 1, "b": 1}) == (answer.status, up.calls)
