"""Which requests are the same, and who shares."""

from __future__ import annotations

import copy
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_llm.errors import ConfigurationError
from asgi_llm.middleware._cache_controls import NO_CONTROLS
from asgi_llm.middleware._cache_request import (
    DENIED_FIELDS,
    CacheRequest,
    canonical,
    digest_request,
    read_request,
)
from asgi_llm.middleware._cache_scope import Partitioner
from asgi_llm.middleware.exact_cache import ExactCacheMiddleware
from asgi_llm.state import DEPLOYMENT, PRINCIPAL, State, enter
from asgi_llm.stores.cache_memory import MemoryCache
from asgi_llm.testing import call, http_scope
from asgi_llm.types import Deployment, Principal
from tests.middleware.exact_cache.conftest import (
    BYPASS,
    CHAT,
    HIT,
    MISS,
    App,
    As,
    ask,
    cache_of,
    text_of,
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ("temperature", "seed", "top_p", "n", "max_tokens", "tools", "tool_choice", "stop", "x_new")
) | st.text(min_size=1, max_size=8).filter(lambda name: name not in DENIED_FIELDS)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=6).map(
    lambda fields: {**fields, "model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
)


def request(document: dict[str, Any], **changes: Any) -> CacheRequest:
    made = read_request(
        document, "/v1/chat/completions", b"", "organization:acme", NO_CONTROLS, None
    )
    assert made is not None
    names = (
        "operation",
        "route",
        "query",
        "document",
        "model",
        "streams",
        "tells_usage",
        "partition",
        "controls",
        "deployment",
    )
    return CacheRequest(*(changes.get(name, getattr(made, name)) for name in names))


def digest(document: dict[str, Any], **changes: Any) -> bytes:
    """The key of a document that came over the wire."""
    read = msgspec.json.decode(msgspec.json.encode(document))
    return digest_request(request(read, **changes), canonical(read))


def same(one: Any, other: Any) -> bool:
    """Whether two documents are the same JSON, numbers by their text."""
    return msgspec.json.encode(one, order="deterministic") == msgspec.json.encode(
        other, order="deterministic"
    )


@settings(deadline=None)
@given(DOCUMENTS, NAMES, VALUES)
def test_any_field_that_differs_gives_another_key(
    document: dict[str, Any], name: str, value: Any
) -> None:
    """Known or not, added, changed or taken away; and null is not "left out"."""
    changed = {**document, name: value}
    if name not in document or not same(document[name], value):
        if name == "model" and type(value) is not str:
            return
        assert digest(document) != digest(changed)
    without = {key: one for key, one in document.items() if key != name}
    if name in document and name != "model":
        assert digest(document) != digest(without)


def nested(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for name in value:
            found += nested(value[name], (*path, name))
    elif isinstance(value, list):
        for place, one in enumerate(value):
            found += nested(one, (*path, place))
    return found


RICH: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "name": "anna", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "f"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "12 miles"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": {"b": 1}}}}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
    "logit_bias": {"50256": -100},
    "asgi_llm": {"top_k": 5},
    "stream_options": {"include_usage": True, "x_new": 1},
}


@pytest.mark.parametrize("path", [path for path in nested(RICH) if path != ("model",)], ids=str)
def test_any_place_of_a_document_counts(path: tuple[Any, ...]) -> None:
    """However deep: another value there, or none, is another request."""
    changed, removed = copy.deepcopy(RICH), copy.deepcopy(RICH)
    at, taken = changed, removed
    for step in path[:-1]:
        at, taken = at[step], taken[step]
    at[path[-1]] = {"another": "value"}
    taken.pop(path[-1])
    delivery = path == ("stream_options", "include_usage")
    assert delivery == (digest(RICH) == digest(removed))
    assert delivery == (digest(RICH) == digest(changed))


@settings(deadline=None)
@given(DOCUMENTS, st.randoms(use_true_random=False))
def test_order_spaces_and_escapes_do_not_count(
    document: dict[str, Any], shuffle: random.Random
) -> None:
    """One that says the same in other bytes is the same."""

    def mixed(value: Any) -> Any:
        if isinstance(value, dict):
            names = list(value)
            shuffle.shuffle(names)
            return {name: mixed(value[name]) for name in names}
        return [mixed(one) for one in value] if isinstance(value, list) else value

    spaced = msgspec.json.format(msgspec.json.encode(mixed(document)), indent=3)
    escaped = spaced.replace(b'"model"', b'"mod\\u0065l"')
    read = msgspec.json.decode(escaped)
    assert digest(document) == digest_request(request(read), canonical(read))


@settings(deadline=None)
@given(DOCUMENTS, st.sampled_from(sorted(DENIED_FIELDS)), VALUES)
def test_how_and_to_whom_does_not_count(document: dict[str, Any], name: str, value: Any) -> None:
    """The fields of the deny-list change nothing."""
    if name == "stream_options":
        value = {"include_usage": value, "include_obfuscation": value}
    changed = {**document, name: value}
    assert canonical(document) == canonical(changed)


@pytest.mark.parametrize(
    "change",
    [
        {"partition": "organization:other"},
        {"partition": "team:acme"},
        {"controls": msgspec.structs.replace(NO_CONTROLS, namespace="tests")},
        {"route": "/v1/completions"},
        {"query": b"api-version=2"},
        {"deployment": "openai/gpt-4o"},
    ],
    ids=str,
)
def test_what_stands_beside_the_document_counts(change: dict[str, Any]) -> None:
    """Who shares, the namespace, the path with its query, and where it is called."""
    assert digest(CHAT) != digest(CHAT, **change)


def test_fields_do_not_run_into_each_other() -> None:
    """The border between two of them is part of the key."""
    assert digest(CHAT, partition="key:a", deployment="b") != digest(
        CHAT, partition="key:", deployment="ab"
    )


async def test_a_deployment_that_is_known_counts() -> None:
    """Inside of a router two deployments of one model share nothing."""
    app, store = App(), MemoryCache()
    layer = ExactCacheMiddleware(app, store=store)

    async def at(provider: str) -> Any:
        scope, state = enter(http_scope(headers={"content-type": "application/json"}))
        state.set(DEPLOYMENT, Deployment(provider=provider, model="gpt-4o"))
        return await call(layer, scope, json=CHAT)

    answers = [await at(provider) for provider in ("openai", "azure", "openai")]
    assert [MISS, MISS, HIT] == [cache_of(answer) for answer in answers]


async def test_b4_twenty_tenants_share_nothing_and_each_with_itself() -> None:
    """Random requests of twenty organizations: no answer crosses, and every one has hits."""
    rng = random.Random(6)
    store = MemoryCache()

    def tenant(name: str) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await App(lambda number: answer_of(name))(scope, receive, send)

        return As(ExactCacheMiddleware(app, store=store), organization_id=name, key_id=f"k{name}")

    def answer_of(name: str) -> dict[str, Any]:
        return {
            "choices": [{"index": 0, "message": {"content": name}, "finish_reason": "stop"}],
            "usage": None,
        }

    tenants = {f"org{number}": tenant(f"org{number}") for number in range(20)}
    hits = dict.fromkeys(tenants, 0)
    for _ in range(1500):
        name = rng.choice(list(tenants))
        document = {**CHAT, "seed": rng.randrange(8), "user": rng.choice("abc")}
        headers = {"x-cache-namespace": rng.choice("xy")}
        answer = await ask(tenants[name], document, headers)
        assert name == text_of(answer)
        hits[name] += cache_of(answer) == HIT
    assert min(hits.values()) > 0


PRINCIPALS = {
    "organization": Principal(organization_id="o", team_id="t", user_id="u", key_id="k"),
    "team": Principal(team_id="t", user_id="u", key_id="k"),
    "user": Principal(user_id="u", key_id="k"),
    "key": Principal(key_id="k"),
}


@pytest.mark.parametrize(
    ("scope", "found"),
    [
        ("organization", ["organization:o", "team:t", "user:u", "key:k"]),
        ("team", ["team:t", "team:t", "user:u", "key:k"]),
        ("user", ["user:u", "user:u", "user:u", "key:k"]),
        ("key", ["key:k", "key:k", "key:k", "key:k"]),
        ("shared", ["shared", "shared", "shared", "shared"]),
    ],
)
def test_a_caller_without_the_id_shares_more_narrowly(scope: Any, found: list[str]) -> None:
    """Never more widely than was asked for."""
    partitioner = Partitioner(scope)

    def of(principal: Principal) -> str | None:
        state = State()
        state.set(PRINCIPAL, principal)
        return partitioner.partition({"headers": []}, state.get(PRINCIPAL))

    assert found == [of(principal) for principal in PRINCIPALS.values()]


def test_callers_of_whom_nothing_is_known_share_by_their_credentials() -> None:
    """Two keys are two partitions; only those without any share; the key is not in the name."""
    partitioner = Partitioner("organization")
    names = [
        partitioner.partition({"headers": headers}, None)
        for headers in (
            [(b"authorization", b"Bearer a")],
            [(b"authorization", b"Bearer b")],
            [(b"x-api-key", b"Bearer a")],
            [(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")],
            [(b"cookie", b"session=1")],
            [(b"accept", b"*/*")],
            [],
        )
    ]
    assert "anonymous" == names[5] == names[6]
    assert 6 == len(set(names))
    assert not any("Bearer" in str(name) for name in names)


@pytest.mark.parametrize(
    ("option", "told"),
    [("by_credentials", [MISS, MISS, HIT]), ("share", [MISS, HIT, HIT]), ("bypass", [BYPASS] * 3)],
)
async def test_without_a_principal(option: Any, told: list[Any]) -> None:
    """What becomes of callers that nobody has told apart is an option."""
    layer = ExactCacheMiddleware(App(), without_principal=option)
    answers = [await ask(layer, headers={"authorization": key}) for key in ("a", "b", "a")]
    assert told == [cache_of(answer) for answer in answers]


async def test_a_principal_without_ids_is_a_stranger() -> None:
    """The holder of a master key shares with nobody who has another credential."""
    layer = As(ExactCacheMiddleware(App()), role="admin")
    answers = [await ask(layer, headers={"authorization": key}) for key in ("a", "b", "a")]
    assert [MISS, MISS, HIT] == [cache_of(answer) for answer in answers]


async def test_b34_a_model_that_is_not_the_caller_s_is_not_served_to_them() -> None:
    """Where a host said who is calling, and what they may use, the app gets to refuse it."""
    app, store = App(), MemoryCache()
    told = []
    for models in (("gpt-*",), None, ("other",)):
        layer = ExactCacheMiddleware(app, store=store)
        told.append(cache_of(await ask(As(layer, organization_id="acme", models=models))))
    assert ([MISS, HIT, BYPASS], 2) == (told, app.calls)


async def test_a_function_finds_the_partition() -> None:
    """By what it likes; None is not cached."""
    layer = ExactCacheMiddleware(
        App(),
        scope=lambda principal, scope: (
            dict(scope["headers"]).get(b"x-tenant", b"").decode() or None
        ),
    )
    answers = [await ask(layer, headers={"x-tenant": name}) for name in ("a", "b", "a", "")]
    assert [MISS, MISS, HIT, BYPASS] == [cache_of(answer) for answer in answers]


@pytest.mark.parametrize(
    "options", [{"scope": "planet"}, {"without_principal": "guess"}], ids=lambda one: str(one)
)
def test_bad_options_are_named(options: Any) -> None:
    """A choice that is none names its option."""
    with pytest.raises(ConfigurationError) as caught:
        ExactCacheMiddleware(App(), **options)
    assert next(iter(options)) == caught.value.param
