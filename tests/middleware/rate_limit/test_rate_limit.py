"""What the limits let through, whom they concern, and what clients are told."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from asgi_llm.errors import ConfigurationError, RateLimitError
from asgi_llm.middleware._limit_plan import MAX_PLANS, Plan
from asgi_llm.middleware.rate_limit import RateLimitMiddleware
from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.openai import OpenAI
from asgi_llm.state import FAILURE, LIMIT_STATUS, State, enter
from asgi_llm.stores.limits_memory import MemoryLimits
from asgi_llm.testing import (
    Exchange,
    ManualClock,
    Upstream,
    call,
    chat_answer,
    http_scope,
    json_reply,
)
from asgi_llm.types import Limit, LimitReport, Principal
from tests.middleware.rate_limit.conftest import HELLO, App, As, Watched, ask, told


async def test_requests_over_the_limit_are_refused_until_they_come_back() -> None:
    """The app is not called beyond the limit; after exactly Retry-After the next one passes."""
    clock, app = ManualClock(), App()
    layer = RateLimitMiddleware(app, limits="2 requests/minute", clock=clock)
    assert [200, 200] == [(await ask(layer)).status for _ in range(2)]
    clock.advance(19.5)
    refused = await ask(layer)
    assert (429, 2) == (refused.status, app.calls)
    assert b"41" == refused.header("retry-after")
    assert b"40500" == refused.header("retry-after-ms")
    clock.advance(40.4)
    assert 429 == (await ask(layer)).status
    clock.advance(0.1)
    assert 200 == (await ask(layer)).status


async def test_the_refusal_says_which_limit_of_whom_and_when_to_come_back() -> None:
    """The body is OpenAI's error object, with the limit in words and no id of anybody."""
    app = As(RateLimitMiddleware(App(), limits="1 request/minute per team"), team_id="team-7")
    await ask(app)
    refused = await ask(app)
    assert {
        "error": {
            "message": "Rate limit reached: the limit is 1 request per minute for this team. "
            "Try again in 60 seconds.",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
        }
    } == refused.json()
    assert b"team-7" not in repr((refused.headers, refused.body)).encode()


async def test_the_headers_are_those_of_the_tightest_limit_of_each_kind() -> None:
    """Of two limits of requests the one with less left is told; resets are written as OpenAI's."""
    layer = RateLimitMiddleware(
        App(), limits=["10 requests/minute", "3 requests/hour", "5000 tokens/6 seconds"]
    )
    answer = await ask(layer, {**HELLO, "max_tokens": 100})
    assert (b"3", b"2", b"1h0m0s") == told(answer, "requests")
    limit, remaining, reset = told(answer, "tokens")
    assert (b"5000", b"6s") == (limit, reset)
    assert 4700 < int(remaining or 0) < 4900


async def test_a_refusal_has_the_headers_too() -> None:
    """What is left is told by the answer that refuses, and it is nothing."""
    layer = RateLimitMiddleware(App(), limits="1 request/6 seconds")
    await ask(layer)
    assert (b"1", b"0", b"6s") == told(await ask(layer), "requests")


async def test_our_headers_stand_in_the_place_of_a_providers() -> None:
    """What the provider says of its own account is not told beside the caller's limits."""
    provider = ((b"x-ratelimit-limit-requests", b"9999"), (b"x-ratelimit-limit-tokens", b"8888"))
    app = App(headers=(*provider, (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")))
    answer = await ask(RateLimitMiddleware(app, limits="5 requests/minute"))
    assert [b"5"] == answer.header_values("x-ratelimit-limit-requests")
    assert [] == answer.header_values("x-ratelimit-limit-tokens")
    assert [b"a=1", b"b=2"] == answer.header_values("set-cookie")


async def test_b14_200_requests_at_once_at_a_limit_of_100() -> None:
    """Exactly 100 reach the app, and the others are told when to come back."""
    app = App()
    layer = RateLimitMiddleware(app, limits="100 requests/minute")
    answers = await asyncio.gather(*(ask(layer) for _ in range(200)))
    assert 100 == app.calls
    refused = [answer for answer in answers if answer.status == 429]
    assert 100 == len(refused)
    assert all(0 < int(answer.header("retry-after") or 0) <= 60 for answer in refused)


async def test_all_limits_are_taken_or_none() -> None:
    """A request that one limit refuses costs nothing of the others."""
    clock = ManualClock()
    store = MemoryLimits(clock=clock)
    layer = RateLimitMiddleware(
        App(), limits=["1 request/second", "3 requests/hour"], store=store, clock=clock
    )
    statuses = []
    for _ in range(4):
        statuses += [(await ask(layer)).status for _ in range(3)]
        clock.advance(1)
    assert [200, 429, 429] * 3 + [429, 429, 429] == statuses


async def test_d_a_key_at_its_limit_does_not_reach_the_provider() -> None:
    """Counted at the provider: none of the refused calls arrives, and a reset restores."""
    clock = ManualClock()
    async with Upstream(lambda _: json_reply(chat_answer())) as upstream:
        gateway = ProviderApp([OpenAI(api_key="sk-upstream", base_url=f"{upstream.url}/v1")])
        layer = RateLimitMiddleware(gateway, limits="2 requests/minute per key", clock=clock)
        app = As(layer, key_id="k1")
        document = {**HELLO, "model": "openai/gpt-4o"}
        statuses = [(await ask(app, document)).status for _ in range(5)]
        assert ([200, 200, 429, 429, 429], 2) == (statuses, len(upstream.ledger))
        clock.advance(60)
        assert (200, 3) == ((await ask(app, document)).status, len(upstream.ledger))
        await gateway.aclose()


WHO: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "key": ({"key_id": "a"}, {"key_id": "b"}, False),
    "user": ({"key_id": "a", "user_id": "u"}, {"key_id": "b", "user_id": "u"}, True),
    "team": ({"key_id": "a", "team_id": "t"}, {"key_id": "b", "team_id": "t"}, True),
    "organization": ({"organization_id": "o"}, {"organization_id": "p"}, False),
    "everyone": ({"key_id": "a"}, {"key_id": "b"}, True),
    "caller": ({"key_id": "a", "user_id": "u"}, {"key_id": "b", "user_id": "u"}, False),
}


@pytest.mark.parametrize("scope", WHO)
async def test_those_of_one_scope_share_a_limit(scope: str) -> None:
    """Two callers share exactly what the scope says that they share."""
    first, second, shared = WHO[scope]
    layer = RateLimitMiddleware(App(), limits=f"1 request/minute per {scope}")
    assert 200 == (await ask(As(layer, **first))).status
    assert (429 if shared else 200) == (await ask(As(layer, **second))).status
    assert 429 == (await ask(As(layer, **first))).status


async def test_no_id_is_taken_for_another() -> None:
    """Ids that would be joined to one text, or stand for a key and a user alike, stay apart."""
    layer = RateLimitMiddleware(
        App(), limits=["1 request/minute", "1 request/minute per key and model"]
    )
    callers: list[tuple[dict[str, str], str]] = [
        ({"key_id": "a"}, "b:c"),
        ({"key_id": "a:b"}, "c"),
        ({"key_id": "1:a"}, "c"),
        ({"user_id": "a"}, "c"),
        ({"key_id": "127.0.0.1"}, "c"),
        ({"key_id": "x" * 5000}, "c"),
        ({"key_id": "x" * 4999 + "y"}, "c"),
        ({"key_id": "\u00e9"}, "c"),
        ({"key_id": "e\u0301"}, "c"),
        ({}, "c"),
    ]
    statuses = [
        (await ask(As(layer, **who), {**HELLO, "model": model})).status for who, model in callers
    ]
    assert [200] * len(callers) == statuses


async def test_keys_of_the_store_are_short_and_plain() -> None:
    """However long an id or a model is, a key has at most 512 printable ASCII characters."""
    store = Watched()
    layer = RateLimitMiddleware(
        App(),
        limits=["1 request/minute per key and model", "1 request/minute per team"],
        model_limits={"*": "1 request/minute per model"},
        store=store,
    )
    who = {"key_id": "k\n" * 900, "team_id": "\U0001f600" * 900}
    await ask(As(layer, **who), {**HELLO, "model": "m" * 250})
    keys = [key for _, keys, _ in store.calls for key in keys]
    assert 3 == len(set(keys))
    assert all(len(key) <= 512 and key.isascii() and key.isprintable() for key in keys)


async def test_a_scope_without_an_id_does_not_concern_the_request() -> None:
    """Not known is not everyone: callers of no team do not share a limit of teams."""
    layer = RateLimitMiddleware(App(), limits="1 request/minute per team")
    assert [200, 200] == [(await ask(As(layer, key_id="a"))).status for _ in range(2)]


TIERS: dict[str, Any] = {"free": "1 request/minute", "pro": {"requests_per_minute": 2}}


async def passed(layer: Any, tries: int = 4) -> int:
    """How many of so many requests get through."""
    return [(await ask(layer)).status for _ in range(tries)].count(200)


async def test_tiers_have_limits_of_their_own() -> None:
    """A caller's tier decides; without one, or with one that is not there, the default does."""
    layer = RateLimitMiddleware(App(), tiers=TIERS, default_tier="free")
    assert 2 == await passed(As(layer, key_id="a", tier="pro"))
    assert 1 == await passed(As(layer, key_id="b", tier="free"))
    assert 1 == await passed(As(layer, key_id="c"))
    assert 1 == await passed(As(layer, key_id="d", tier="platinum"))
    assert 1 == await passed(layer)


async def test_without_a_default_tier_callers_without_one_have_no_tiers_limit() -> None:
    """Nobody is put into a tier that was not chosen."""
    layer = RateLimitMiddleware(App(), tiers=TIERS)
    assert 4 == await passed(As(layer, key_id="a"))


async def test_a_callers_own_limit_stands_in_the_place_of_the_tiers() -> None:
    """Only of the same scope, unit and window; the others, and those for all, stay."""
    own = (Limit(unit="requests", amount=3, window_seconds=60),)
    layer = RateLimitMiddleware(App(), tiers=TIERS, default_tier="free")
    assert 3 == await passed(As(layer, key_id="a", limits=own))
    wide = (Limit(unit="requests", amount=50, window_seconds=3600),)
    assert 1 == await passed(As(layer, key_id="b", limits=wide))
    under = RateLimitMiddleware(App(), limits="2 requests/minute", tiers=TIERS)
    assert 2 == await passed(As(under, key_id="c", limits=own))


async def test_a_change_of_tier_or_limits_holds_at_once_and_keeps_the_count() -> None:
    """The same key with another tier has the other amount, and what it used stays used."""
    layer = RateLimitMiddleware(App(), tiers=TIERS)
    assert 1 == await passed(As(layer, key_id="a", tier="free"))
    assert 1 == await passed(As(layer, key_id="a", tier="pro"))


async def test_a_callers_own_limit_that_cannot_be_is_no_way_through() -> None:
    """A limit that no store could count is a 500 without detail, and the app is not called."""
    app = App()
    own = (Limit(unit="requests", amount=-5, window_seconds=60),)
    answer = await ask(As(RateLimitMiddleware(app), key_id="a", limits=own))
    assert (500, 0) == (answer.status, app.calls)
    assert "internal_error" == answer.json()["error"]["code"]


async def test_models_that_fit_a_pattern_share_its_limit() -> None:
    """Another spelling of a model is no second helping; other models are not concerned."""
    layer = RateLimitMiddleware(App(), model_limits={"*gpt-4*": "1 request/minute"})

    async def status(model: Any) -> int:
        return (await ask(layer, {**HELLO, "model": model})).status

    assert [200, 429, 200] == [await status(name) for name in ("gpt-4o", "openai/gpt-4", "llama")]
    refused = await ask(layer, {**HELLO, "model": "gpt-4"})
    assert (
        "1 request per minute for this caller on this model." in refused.json()["error"]["message"]
    )


async def test_each_model_has_its_own_where_the_scope_says_so() -> None:
    """``per model`` counts every model apart, and all names that no model has as one."""
    store = MemoryLimits()
    layer = RateLimitMiddleware(App(), limits="1 request/minute per model", store=store)
    names: list[Any] = ["a", "b", "a", "bad name", "worse\nname", "x" * 300, 5, None]
    statuses = [(await ask(layer, {**HELLO, "model": name})).status for name in names]
    assert [200, 200, 429, 200, 429, 429, 429, 429] == statuses
    assert 3 == len(store)


async def test_the_model_of_an_upload_counts() -> None:
    """A form is no way around a limit of models, and its body arrives as it was."""
    app = App()
    layer = RateLimitMiddleware(app, model_limits={"whisper*": "1 request/minute"})
    form = (
        b'--xx\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
        b'--xx\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
        b"Content-Type: audio/wav\r\n\r\n\x00\x01\xff\r\n--xx--\r\n"
    )
    scope = http_scope(
        path="/v1/audio/transcriptions",
        headers={"content-type": "multipart/form-data; boundary=xx"},
    )
    statuses = [(await call(layer, scope, body=form)).status for _ in range(2)]
    assert ([200, 429], [form]) == (statuses, app.bodies)


@pytest.mark.parametrize(("mode", "statuses"), (("enforce", [400]), ("observe", [200])))
async def test_a_form_that_breaks_off_is_refused(mode: Any, statuses: list[int]) -> None:
    """It is not let through uncounted, unless nothing is refused at all."""
    layer = RateLimitMiddleware(App(), model_limits={"*": "1 request/minute"}, mode=mode)
    scope = http_scope(
        path="/v1/audio/transcriptions",
        headers={"content-type": "multipart/form-data; boundary=xx"},
    )
    form = b'--xx\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhis'
    assert statuses == [(await call(layer, scope, body=form)).status]


async def test_an_upload_passes_unread_where_no_model_counts() -> None:
    """Its tokens are not known before the answer says them."""
    store, app = Watched(), App()
    layer = RateLimitMiddleware(app, limits="100 tokens/minute", store=store, max_body_bytes=1)
    scope = http_scope(
        path="/v1/audio/transcriptions",
        headers={"content-type": "multipart/form-data; boundary=xx"},
    )
    assert 200 == (await call(layer, scope, body=b"a form, no matter which")).status
    assert ([(0,)], [(11,)]) == (store.named("take"), store.named("settle"))


async def test_a_client_that_leaves_in_its_body_is_not_counted() -> None:
    """Nothing is taken, and the app is not called."""
    store, app = Watched(), App()
    layer = RateLimitMiddleware(app, limits="100 tokens/minute", store=store)
    async with Exchange(layer, body=None) as exchange:
        exchange.send_body(b'{"model":', more=True)
        await exchange.until_receiving()
        exchange.disconnect()
        await exchange.finish()
    assert ([], 0) == (store.calls, app.calls)


def plans_alive() -> int:
    """All plans in the process, those of other tests too."""
    return sum(type(one) is Plan for one in gc.get_objects())


async def test_what_is_remembered_of_callers_is_bounded() -> None:
    """Plans are made anew for those that were forgotten; their counts are the store's."""
    gc.collect()
    before = plans_alive()
    layer = RateLimitMiddleware(App(), limits="1 request/minute per model")
    for number in range(MAX_PLANS + 300):
        assert 200 == (await ask(layer, {**HELLO, "model": f"m-{number}"})).status
    assert MAX_PLANS >= plans_alive() - before
    assert 429 == (await ask(layer, {**HELLO, "model": "m-0"})).status


async def test_per_key_and_model_needs_a_key() -> None:
    """Callers without one are not joined to one."""
    layer = RateLimitMiddleware(App(), limits="1 request/minute per key and model")
    assert [200, 200] == [(await ask(layer)).status for _ in range(2)]
    keyed = As(layer, key_id="a")
    assert [200, 429] == [(await ask(keyed)).status for _ in range(2)]
    assert 200 == (await ask(keyed, {**HELLO, "model": "other"})).status


async def test_limits_of_requests_do_not_read_the_body() -> None:
    """A body that could not be read passes as it is where nothing depends on it."""
    app = App()
    layer = RateLimitMiddleware(app, limits="5 requests/minute", max_body_bytes=1)
    assert 200 == (await call(layer, body=b"\xff not JSON")).status
    assert [b"\xff not JSON"] == app.bodies


@pytest.mark.parametrize(
    ("method", "path"), (("GET", "/v1/chat/completions"), ("POST", "/v1/files"), ("POST", "/"))
)
async def test_other_requests_are_not_counted(method: str, path: str) -> None:
    """What is no POST to an inference path costs nothing and is told nothing."""
    store = Watched()
    layer = RateLimitMiddleware(App(), limits="0 requests/minute", store=store)
    answer = await call(layer, http_scope(method, path))
    assert (200, []) == (answer.status, store.calls)
    assert (None, None, None) == told(answer, "requests")


async def test_an_app_of_ones_own_has_paths_of_its_own() -> None:
    """``inference_paths`` says what counts, in any mount."""
    layer = RateLimitMiddleware(App(), limits="0 requests/minute", inference_paths=["/ask"])
    assert 429 == (await call(layer, http_scope(path="/llm/ask/", root_path="/llm"))).status
    assert 200 == (await call(layer, http_scope(path="/v1/chat/completions"))).status


async def test_a_limit_of_nothing_says_so_without_retry_after() -> None:
    """Who is never let through is not asked to come back."""
    refused = await ask(RateLimitMiddleware(App(), limits="0 requests/minute"))
    assert 429 == refused.status
    assert refused.header("retry-after") is refused.header("retry-after-ms") is None
    assert b"false" == refused.header("x-should-retry")
    assert refused.json()["error"]["message"].startswith("Nothing is let through")


async def test_how_a_caller_stands_can_be_asked_for() -> None:
    """What is left of each limit of theirs; to look takes nothing, and models are left out."""
    layer = RateLimitMiddleware(
        App(),
        limits=["5 requests/minute", "9 requests/hour per address", "3 requests/day per model"],
        tiers={"pro": ["900 tokens/minute per team", "2 concurrent requests per user"]},
    )
    who: dict[str, Any] = {"key_id": "k", "team_id": "t", "user_id": "u", "tier": "pro"}
    assert 200 == (await ask(As(layer, **who), {**HELLO, "max_tokens": 5})).status
    for _ in range(3):
        standing = await layer.standing(Principal(**who))
    assert [("requests", 4), ("tokens", 889), ("concurrent_requests", 2)] == [
        (limit.unit, status.remaining) for limit, status in standing
    ]
    nobody = await layer.standing(Principal())
    assert [] == nobody


async def test_observe_counts_and_refuses_nothing() -> None:
    """Everything passes untold, and the state says what would have become of it."""
    app = App()
    layer = RateLimitMiddleware(app, limits="1 request/minute", mode="observe")
    answers = [await ask(layer) for _ in range(3)]
    assert [200] * 3 == [answer.status for answer in answers]
    assert (None, None, None) == told(answers[2], "requests")
    reports = [state.get(LIMIT_STATUS) for state in app.states]
    assert ["admitted", "would_refuse", "would_refuse"] == [
        report.verdict for report in reports if report is not None
    ]
    assert 2 == layer.refusals


@pytest.mark.parametrize("body", (b"not JSON", b"[]", b'{"model": "m", "max_tokens": -1}'))
async def test_observe_refuses_no_body_either(body: bytes) -> None:
    """What a limit of tokens could not read goes on to the app as it came."""
    app = App()
    layer = RateLimitMiddleware(app, limits="100 tokens/minute", mode="observe")
    assert 200 == (await call(layer, body=body)).status
    assert [body] == app.bodies


async def test_the_state_says_what_the_limits_said() -> None:
    """The report names the limit with the least left; a refusal is the failure of the request."""
    clock, app = ManualClock(), App()
    layer = RateLimitMiddleware(app, limits="2 requests/minute", clock=clock)
    limit = Limit(unit="requests", amount=2, window_seconds=60)
    await ask(layer)
    assert LimitReport("admitted", limit, 1, 60.0, 0.0) == app.states[0].get(LIMIT_STATUS)
    await ask(layer)
    states: list[State] = []

    async def host(scope: Scope, receive: Receive, send: Send) -> None:
        scope, state = enter(scope)
        states.append(state)
        await layer(scope, receive, send)

    await ask(host)
    assert LimitReport("refused", limit, 0, 60.0, 60.0) == states[0].get(LIMIT_STATUS)
    failure = states[0].get(FAILURE)
    assert isinstance(failure, RateLimitError)
    assert 60 == failure.retry_after_seconds


@pytest.mark.parametrize(
    ("options", "param"),
    (
        ({"limits": "nonsense"}, "limits"),
        ({"tiers": {"free": ["1 request/minute", "x"]}}, "tiers.free[1]"),
        ({"model_limits": {"gpt*": {"requests": 1}}}, "model_limits.gpt*.requests"),
        ({"default_tier": "free"}, "default_tier"),
        ({"mode": "watch"}, "mode"),
        ({"on_store_error": "ignore"}, "on_store_error"),
        ({"store_timeout_seconds": 0}, "store_timeout_seconds"),
        ({"lease_seconds": -1}, "lease_seconds"),
        ({"max_body_bytes": 0}, "max_body_bytes"),
        ({"body_timeout_seconds": float("nan")}, "body_timeout_seconds"),
        ({"trusted_proxies": ["not a network"]}, "trusted_proxies"),
        ({"default_output_tokens": -1}, "default_output_tokens"),
        ({"default_output_tokens": True}, "default_output_tokens"),
        ({"max_output_tokens": {"gpt*": 1.5}}, "max_output_tokens.gpt*"),
    ),
)
def test_a_bad_option_is_named(options: dict[str, Any], param: str) -> None:
    """What could not work is refused when the layer is made."""
    with pytest.raises(ConfigurationError) as caught:
        RateLimitMiddleware(App(), **options)
    assert param == caught.value.param
