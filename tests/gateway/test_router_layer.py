"""The layer ``router`` of the prebuilt gateway: its options, its notes, and what it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._reload_carried import Carried
from asgi_llm.gateway.build import build, load_gateway
from asgi_llm.gateway.compose import Gateway
from asgi_llm.gateway.config import load
from asgi_llm.testing import (
    Recorder,
    Reply,
    Signal,
    Upstream,
    Wait,
    call,
    chat_answer,
    error_answer,
    http_scope,
    json_reply,
)
from tests.services.redis_server import RedisServer, redis_server

__all__ = ["redis_server"]

JSON = (b"content-type", b"application/json")
HELLO: dict[str, Any] = {"model": "fast", "messages": [{"role": "user", "content": "Hello"}]}
HI = json_reply(chat_answer("Hi."))
FAILS = error_answer(500)


@asynccontextmanager
async def two(a: Reply, b: Reply) -> AsyncIterator[dict[str, Upstream]]:
    """Two upstreams that answer the same again and again."""
    async with Upstream() as first, Upstream() as second:
        first.script(a)
        second.script(b)
        yield {"a": first, "b": second}


def providers(up: dict[str, Upstream]) -> dict[str, Any]:
    """A provider for each upstream."""
    return {
        name: {"type": "openai", "base_url": f"{one.url}/v1", "api_key": "sk-test"}
        for name, one in up.items()
    }


def mapping(
    up: dict[str, Upstream], models: Any, router: Any = None, **more: Any
) -> dict[str, Any]:
    """A configuration with that layer alone."""
    return {
        "providers": providers(up),
        "models": models,
        "stack": [{"router": router or {}}],
        **more,
    }


@asynccontextmanager
async def running(configuration: dict[str, Any]) -> AsyncIterator[Gateway]:
    """The gateway, from its start to its end."""
    gateway = load_gateway(configuration)
    async with asyncio.timeout(30), gateway.lifespan():
        yield gateway


async def ask(gateway: Gateway, document: Any = None, *headers: tuple[bytes, bytes]) -> Recorder:
    """A chat."""
    scope = http_scope(headers=[JSON, *headers])
    return await call(gateway, scope, json=HELLO if document is None else document)


async def ready(gateway: Gateway) -> dict[str, Any]:
    """What ``/health/ready`` says."""
    answer = await call(gateway, http_scope(method="GET", path="/health/ready"))
    document: dict[str, Any] = answer.json()
    return document


FAST: dict[str, Any] = {
    "fast": {"targets": [{"provider": "a", "model": "one"}], "fallbacks": ["careful"]},
    "careful": {"targets": [{"provider": "b", "model": "two"}]},
}


async def test_an_alias_falls_back_and_the_client_learns_who_answered() -> None:
    """With no option at all: the second model answers for the first."""
    async with two(FAILS, HI) as up, running(mapping(up, FAST)) as gateway:
        answer = await ask(gateway)
        assert (200, b"b", b"two", b"2") == (
            answer.status,
            answer.header("x-provider"),
            answer.header("x-model"),
            answer.header("x-attempts"),
        )


async def test_a_fallback_may_be_a_model_of_a_provider() -> None:
    """It needs no alias of its own."""
    models = {"fast": {"targets": [{"provider": "a", "model": "x"}], "fallbacks": ["b/any"]}}
    async with two(FAILS, HI) as up, running(mapping(up, models)) as gateway:
        answer = await ask(gateway)
        assert (200, b"any") == (answer.status, answer.header("x-model"))


async def test_targets_that_are_left_alone_are_told_by_readiness() -> None:
    """As a detail: the gateway itself is ready."""
    async with two(FAILS, HI) as up, running(mapping(up, FAST)) as gateway:
        assert {"status": "ready"} == await ready(gateway)
        for _ in range(6):
            assert 200 == (await ask(gateway)).status
        assert 5 == len(up["a"].ledger)
        told = await ready(gateway)
        assert "ready" == told["status"]
        (name, state) = next(iter(told["details"]["router"]["left_alone"].items()))
        assert ("a/one", "open") == (name, state["state"])
        assert 0 < state["retry_after_seconds"] <= 5
        # By its own name it is the same target.
        direct = await ask(gateway, {**HELLO, "model": "a/one"})
        assert (503, "provider_unavailable") == (direct.status, direct.json()["error"]["code"])
        assert 5 == len(up["a"].ledger)


async def test_weights_share_the_requests() -> None:
    """Where they differ; a weight of 0 gets nothing as long as another answers."""
    targets = [
        {"provider": "a", "model": "x", "weight": 0},
        {"provider": "b", "model": "x", "weight": 1},
    ]
    async with two(HI, HI) as up, running(mapping(up, {"fast": {"targets": targets}})) as gateway:
        for _ in range(10):
            await ask(gateway)
        assert (0, 10) == (len(up["a"].ledger), len(up["b"].ledger))


async def test_the_cheapest_goes_by_the_price_table() -> None:
    """Prices that are written with a target win over it."""
    prices = {
        "overrides": {
            "a": {"*": {"input": 5, "output": 5}},
            "b": {"*": {"input": 1, "output": 1}},
        },
        "genai_prices": False,
    }
    cost = {"cost": {"prices": prices, "ledger": {"enabled": False}, "budget_store": "memory"}}
    targets: list[Any] = [{"provider": "a", "model": "x"}, {"provider": "b", "model": "x"}]
    for price, expected in ((None, b"b"), (0.5, b"a")):
        targets[0]["price"] = price
        models = {"fast": {"strategy": "cheapest", "targets": targets}}
        async with two(HI, HI) as up:
            configuration = mapping(up, models, stack=[cost, "router"])
            async with running(configuration) as gateway:
                assert expected == (await ask(gateway)).header("x-provider")


async def test_regions_by_key_and_for_everyone_else() -> None:
    """A key that is held to a region gets the target there, and no other when that fails."""
    keys = [{"name": one, "key": f"sk-7f3b9c2e8a1d-{one}", "team": f"team-{one}"} for one in "pq"]
    targets = [
        {"provider": "a", "model": "x", "region": "us"},
        {"provider": "b", "model": "x", "region": "eu"},
    ]
    regions = {"team-p": ["eu"], "*": ["eu", "us"]}
    stack = [{"auth": {"keys": keys, "database": False}}, {"router": {"regions": regions}}]
    async with two(HI, HI) as up:
        configuration = mapping(up, {"fast": {"targets": targets}}, stack=stack)
        async with running(configuration) as gateway:
            for name, provider in (("p", b"b"), ("q", b"a")):
                key = (b"authorization", f"Bearer sk-7f3b9c2e8a1d-{name}".encode())
                answer = await ask(gateway, None, key)
                assert provider == answer.header("x-provider")
            up["b"].script(FAILS)
            answer = await ask(gateway, None, (b"authorization", b"Bearer sk-7f3b9c2e8a1d-p"))
            assert 502 == answer.status
            assert 1 == len(up["a"].ledger)


async def test_b25_one_redis_two_gateways(redis_server: RedisServer) -> None:
    """What one gateway has found failing the other one leaves alone, and one of both tries it."""
    breaker = {"cool_down_seconds": 0.4, "jitter": 0}
    shared = {"storage": {"redis": redis_server.url}}
    go, arrived = asyncio.Event(), asyncio.Event()
    models = {"fast": {"targets": [{"provider": "a", "model": "x"}]}}
    async with two(FAILS, HI) as up:
        configuration = mapping(up, models, {"breaker": breaker, "attempts": 1}, **shared)
        async with running(configuration) as one, running(configuration) as other:
            for _ in range(5):
                assert 502 == (await ask(one)).status
            # Nobody has asked the other one for anything that failed.
            while (await ask(other)).status != 503:
                assert len(up["a"].ledger) < 100
            up["a"].script(Reply(before=(Signal(arrived), Wait(go)), body=HI.body), HI)
            trial = asyncio.ensure_future(_until_called(one, other))
            await arrived.wait()
            before = len(up["a"].ledger)
            answers = await asyncio.gather(*(ask(gateway) for gateway in (one, other) * 20))
            assert {503} == {answer.status for answer in answers}
            assert before == len(up["a"].ledger)
            go.set()
            assert 200 == (await trial).status
            assert 200 == (await _until_called(one)).status
            assert 200 == (await _until_called(other)).status


async def _until_called(*gateways: Gateway) -> Recorder:
    """Ask, first the one and then the other, until somebody is called."""
    while True:
        for gateway in gateways:
            answer = await ask(gateway)
            if answer.status != 503:
                return answer


async def test_b25_a_tenants_own_mistakes_open_nothing(redis_server: RedisServer) -> None:
    """Bad requests, and a model that is not there, leave the target open to all."""
    async with two(error_answer(400, code="bad"), HI) as up:
        models = {"fast": {"targets": [{"provider": "a", "model": "x"}]}}
        shared = {"storage": {"redis": redis_server.url}}
        async with running(mapping(up, models, **shared)) as gateway:
            for reply in (error_answer(400), error_answer(404), error_answer(422)):
                up["a"].script(reply)
                for _ in range(10):
                    assert (await ask(gateway)).status < 500
            assert {"status": "ready"} == await ready(gateway)
            up["a"].script(HI)
            assert 200 == (await ask(gateway)).status


async def test_without_redis_each_process_goes_by_what_it_sees(
    redis_server: RedisServer,
) -> None:
    """Requests go on, and readiness says that the breakers are not shared."""
    async with two(HI, HI) as up:
        shared = {"storage": {"redis": redis_server.url}}
        async with running(mapping(up, FAST, **shared)) as gateway:
            assert 200 == (await ask(gateway)).status
            redis_server.stop()
            async with asyncio.timeout(10):
                while (await ready(gateway))["status"] != "degraded":
                    assert 200 == (await ask(gateway)).status
            assert ["breakers"] == (await ready(gateway))["failing"]


async def test_uploads_pass_to_the_first_target() -> None:
    """A form is not kept for a second attempt: its alias means its first target."""
    form = (
        b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nfast\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF'
        b"\r\n--x--\r\n"
    )
    scope = http_scope(
        path="/v1/audio/transcriptions",
        headers=[(b"content-type", b"multipart/form-data; boundary=x")],
    )
    answers = two(json_reply({"text": "Hi."}), HI)
    async with answers as up, running(mapping(up, FAST)) as gateway:
        answer = await call(gateway, scope, body=form)
        assert (200, {"text": "Hi."}) == (answer.status, answer.json())
        assert (1, 0) == (len(up["a"].ledger), len(up["b"].ledger))


async def test_what_a_fallback_answered_is_cached_and_booked() -> None:
    """The caches and the meter outside see one request that went well, and both attempts' cost."""
    prices = {
        "overrides": {name: {"*": {"input": 1, "output": 10}} for name in "ab"},
        "genai_prices": False,
    }
    cost = {"cost": {"prices": prices, "ledger": {"enabled": False}, "budget_store": "memory"}}
    stack = [cost, {"rate_limit": {"limits": ["2 requests/minute"]}}, "exact_cache", "router"]
    asked = {**HELLO, "temperature": 0}
    async with two(FAILS, HI) as up, running(mapping(up, FAST, stack=stack)) as gateway:
        first, second, third = [await ask(gateway, asked) for _ in range(3)]
        assert (200, b"MISS", b"2", b"0.000019") == (
            first.status,
            first.header("x-cache-status"),
            first.header("x-attempts"),
            first.header("x-cost"),
        )
        assert (b"HIT", first.body) == (second.header("x-cache-status"), second.body)
        # Attempts are no requests of their own.
        assert 429 == third.status
        assert (1, 1) == (len(up["a"].ledger), len(up["b"].ledger))


async def test_a_reload_keeps_what_is_known_of_targets() -> None:
    """A target that is left alone stays so, when another model is added to the file."""
    async with two(FAILS, HI) as up:
        models = {"fast": {"targets": [{"provider": "a", "model": "one"}]}}
        carried = Carried()
        before = build(load(mapping(up, models, {"attempts": 1})), hold=carried.hold()).gateway
        async with asyncio.timeout(30), before.lifespan():
            for _ in range(6):
                status = (await ask(before)).status
            assert 503 == status
            more = {**models, "slow": {"targets": [{"provider": "b", "model": "two"}]}}
            after = build(load(mapping(up, more, {"attempts": 1})), hold=carried.hold()).gateway
            async with after.lifespan():
                assert 503 == (await ask(after)).status
                assert 200 == (await ask(after, {**HELLO, "model": "slow"})).status
                assert 5 == len(up["a"].ledger)


async def test_a_slow_target_gets_company() -> None:
    """With hedge_after_seconds the next target of the alias is called as well."""
    stuck = Reply(before=(Wait(asyncio.Event()),), body=b"{}")
    targets = [{"provider": "a", "model": "x"}, {"provider": "b", "model": "x"}]
    async with two(stuck, HI) as up:
        configuration = mapping(up, {"fast": {"targets": targets}}, {"hedge_after_seconds": 0.02})
        async with running(configuration) as gateway:
            answer = await ask(gateway)
            assert (b"b", b"2") == (answer.header("x-provider"), answer.header("x-attempts"))


BASE = "providers: {e: {type: echo}, f: {type: echo}}\n"

MISTAKES: dict[str, tuple[str, str]] = {
    "a fallback to itself": (
        "models:\n  a: {targets: [{provider: e, model: x}], filter_fallbacks: [a]}\n",
        "f:3:62: models.a.filter_fallbacks[0]: a model cannot fall back to itself",
    ),
    "a fallback that is none": (
        "models:\n  careful: {targets: [{provider: e, model: x}], context_fallbacks: [carefull]}\n",
        "f:3:69: models.careful.context_fallbacks[0]: no model 'carefull' is configured, did you "
        "mean careful?",
    ),
    "a provider with no model": (
        "models:\n  a: {targets: [{provider: e, model: x}], fallbacks: [e]}\n",
        "f:3:55: models.a.fallbacks[0]: no model 'e' is configured",
    ),
    "a target twice": (
        "models:\n  a: {targets: [{provider: e, model: x}, {provider: e, model: x, weight: 2}]}\n",
        "f:3:42: models.a.targets[1]: the target e/x is there already",
    ),
    "no weight at all": (
        "models:\n  a: {targets: [{provider: e, model: x, weight: 0}]}\n",
        "f:3:41: models.a.targets[0].weight: no target has a weight above 0",
    ),
    "a strategy that is none": (
        "models:\n  a: {strategy: fastest, targets: [{provider: e, model: x}]}\n",
        "f:3:17: models.a.strategy: expected one of cheapest, least_busy, lowest_latency, ordered, "
        "round_robin, weighted, got 'fastest'",
    ),
    "an unknown option": (
        "stack: [{router: {attemps: 3}}]\n",
        "f:2:19: stack[0].router.attemps: unknown key, did you mean attempts?",
    ),
    "an option out of range": (
        "stack: [{router: {retry_budget: {share: 2}}}]\n",
        "f:2:41: stack[0].router.retry_budget.share: expected a number from 0 to 1, got '2'",
    ),
    "options that do not fit": (
        "stack: [{router: {backoff: {base_seconds: 9, cap_seconds: 1}}}]\n",
        "f:2:46: stack[0].router.backoff.cap_seconds: cap_seconds must be at least base_seconds",
    ),
    "a breaker that does not fit": (
        "stack: [{router: {breaker: {cool_down_seconds: 500}}}]\n",
        "f:2:19: stack[0].router.breaker.max_cool_down_seconds: max_cool_down_seconds must be at "
        "least cool_down_seconds",
    ),
    "a store that is not there": (
        "stack: [{router: {store: redis}}]\n",
        "f:2:19: stack[0].router.store: redis needs storage.redis",
    ),
    "the layer twice": (
        "stack: [router, router]\n",
        "f:2:17: stack[1].router: one layer router is enough",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_has_its_message(name: str, tmp_path: Path) -> None:
    """File, line, column and key of what is wrong, before anything is served."""
    text, expected = MISTAKES[name]
    file = tmp_path / "gateway.yaml"
    file.write_text(BASE + text)
    with pytest.raises(ConfigurationError) as caught:
        load_gateway(file)
    lines = [line.replace(str(file), "f") for line in str(caught.value).splitlines()]
    assert expected in lines


OUTSIDE: dict[str, tuple[list[Any], list[str]]] = {
    "where it belongs": (["exact_cache", "router"], []),
    "outside of a cache": (
        ["router", "exact_cache"],
        [
            "stack[0].router: stands outside of exact_cache, which takes each attempt for a "
            "request of its own: put it after exact_cache"
        ],
    ),
    "outside of several": (
        ["router", "rate_limit", "exact_cache"],
        [
            "stack[0].router: stands outside of exact_cache, which takes each attempt for a "
            "request of its own: put it after exact_cache"
        ],
    ),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_router_that_stands_wrong_is_told(name: str) -> None:
    """Whatever counts requests has to see one, and not its attempts."""
    stack, expected = OUTSIDE[name]
    assert expected == list(load({"providers": {"e": {"type": "echo"}}, "stack": stack}).notes)


def test_a_router_uses_all_that_models_say() -> None:
    """With the layer nothing is noted as left unused."""
    models = {
        "a": {
            "strategy": "weighted",
            "targets": [{"provider": "e", "model": "x"}, {"provider": "e", "model": "y"}],
            "fallbacks": ["b"],
        },
        "b": {"targets": [{"provider": "e", "model": "z"}]},
    }
    base = {"providers": {"e": {"type": "echo"}}, "models": models}
    assert () == load({**base, "stack": ["router"]}).notes
    assert 3 == len(load({**base, "stack": []}).notes)
