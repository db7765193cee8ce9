"""What is served, in which form, and what clients are told of it."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.middleware._agreement import GuardName
from asgi_llm.middleware.exact_cache import ExactCacheMiddleware
from asgi_llm.middleware.semantic_cache import SemanticCacheMiddleware
from asgi_llm.state import CACHE_STATUS, enter
from asgi_llm.testing import chat_answer
from tests.middleware.exact_cache.conftest import App, ask, cache_of, text_of
from tests.middleware.semantic_cache.conftest import ALIKE, NEAR_MISS, WordEmbedder, asks

HIT = (b"HIT", b"SEMANTIC")
MISS = (b"MISS", None)
BYPASS = (b"BYPASS", None)


async def test_another_wording_is_a_hit() -> None:
    """A paraphrase gets the stored answer, its similarity, its age and the entry's id."""
    app, now = App(), [1000.0]
    cache = SemanticCacheMiddleware(app, embedder=WordEmbedder(), clock=lambda: now[0])
    first = await ask(cache, asks(ALIKE[0]))
    now[0] = 1012.0
    second = await ask(cache, asks(ALIKE[1]))
    assert (MISS, HIT) == (cache_of(first), cache_of(second))
    assert (1, first.body) == (app.calls, second.body)
    assert b"12" == second.header("age")
    similarity = float(second.header("x-cache-similarity") or b"")
    assert 0.8 <= similarity < 1
    assert (second.header("x-cache-entry") or b"").startswith(b"sem_")


async def test_b5_a_near_miss_is_none() -> None:
    """A negated question is more similar than many paraphrases, and goes to the model."""
    app = App()
    cache = SemanticCacheMiddleware(app, embedder=WordEmbedder())
    await ask(cache, asks(ALIKE[0]))
    second = await ask(cache, asks(NEAR_MISS))
    assert (MISS, 2) == (cache_of(second), app.calls)
    assert {"negation": 1} == dict(cache.counts.refusals)


async def test_b5_without_guards_the_near_miss_would_be_a_hit() -> None:
    """It is the guard that tells them apart, not the similarity."""
    app = App()
    cache = SemanticCacheMiddleware(app, embedder=WordEmbedder(), guards=(), threshold=0.8)
    await ask(cache, asks(ALIKE[0]))
    assert HIT == cache_of(await ask(cache, asks(NEAR_MISS)))


@pytest.mark.parametrize("stores_stream", [False, True])
@pytest.mark.parametrize("asks_stream", [False, True])
async def test_streams_and_whole_answers_serve_each_other(
    stores_stream: bool, asks_stream: bool
) -> None:
    """Whatever form was stored, each form is served with the same content."""
    app = App()
    cache = SemanticCacheMiddleware(app, embedder=WordEmbedder())
    options = {"include_usage": True}
    first, second = [
        await ask(
            cache, asks(text, **({"stream": True, "stream_options": options} if is_stream else {}))
        )
        for text, is_stream in ((ALIKE[0], stores_stream), (ALIKE[1], asks_stream))
    ]
    assert (HIT, 1) == (cache_of(second), app.calls)
    assert text_of(first) == text_of(second)
    kind = b"text/event-stream" if asks_stream else b"application/json"
    assert (second.header("content-type") or b"").startswith(kind)


async def test_the_meter_learns_of_the_hit() -> None:
    """The state says hit, of which kind, and what the answer took when it was made."""
    reports: list[Any] = []

    class Meter:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            scope, state = enter(scope)
            await self.app(scope, receive, send)
            reports.append(state.get(CACHE_STATUS))

    cache = Meter(SemanticCacheMiddleware(App(), embedder=WordEmbedder()))
    await ask(cache, asks(ALIKE[0]))
    await ask(cache, asks(ALIKE[1]))
    assert ["miss", "hit"] == [report.status for report in reports]
    assert ("semantic", 12) == (reports[1].type, reports[1].usage.total_tokens)


async def test_a_semantic_hit_is_not_kept_by_the_exact_cache() -> None:
    """An exact cache outside keeps what models said, not what was served for similar texts."""
    app = App()
    inner = SemanticCacheMiddleware(app, embedder=WordEmbedder())
    both = ExactCacheMiddleware(inner, cache_when="always")
    await ask(both, asks(ALIKE[0]))
    for _ in range(2):
        assert HIT == cache_of(await ask(both, asks(ALIKE[1])))
    assert (b"HIT", b"EXACT") == cache_of(await ask(both, asks(ALIKE[0])))
    assert 1 == app.calls


@pytest.mark.parametrize(
    "change",
    [
        {"model": "gpt-4o-mini"},
        {"temperature": 0.2},
        {"seed": 1},
        {"max_tokens": 5},
        {"response_format": {"type": "json_object"}},
        {"made_up": True},
        {"prompt": "You are a pirate."},
    ],
    ids=str,
)
async def test_all_else_has_to_be_equal(change: dict[str, Any]) -> None:
    """A request that differs in any field but the text of its last turn shares nothing."""
    app = App()
    cache = SemanticCacheMiddleware(app, embedder=WordEmbedder(), guards=(), threshold=0.0)
    await ask(cache, asks(ALIKE[0]))
    assert MISS == cache_of(await ask(cache, asks(ALIKE[0], **change)))


async def test_what_went_before_has_to_be_equal() -> None:
    """The same question after another turn, or under another system text, shares nothing."""
    app = App()
    cache = SemanticCacheMiddleware(app, embedder=WordEmbedder(), guards=(), threshold=0.0)
    last = {"role": "user", "content": ALIKE[0]}
    heads: list[list[dict[str, str]]] = [
        [],
        [{"role": "system", "content": "Be brief."}],
        [{"role": "system", "content": "Be long."}],
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
    ]
    for head in heads:
        answer = await ask(cache, asks("", messages=[*head, last]))
        assert MISS == cache_of(answer)
    assert len(heads) == app.calls


async def test_a_conversation_can_be_compared_by_meaning() -> None:
    """By option earlier user turns may be worded otherwise, but must agree one by one."""
    app = App()
    cache = SemanticCacheMiddleware(app, embedder=WordEmbedder(), conversation_turns=2)

    def talk(first: str, last: str) -> dict[str, Any]:
        turns = [("user", first), ("assistant", f"About {first}"), ("user", last)]
        return asks("", messages=[{"role": role, "content": text} for role, text in turns])

    await ask(cache, talk("What is ownership in Rust?", ALIKE[0]))
    same = await ask(cache, talk("What does ownership mean in Rust?", ALIKE[1]))
    other = await ask(cache, talk("What is ownership in Go?", ALIKE[1]))
    shorter = await ask(cache, asks(ALIKE[0]))
    assert [HIT, MISS, MISS] == [cache_of(one) for one in (same, other, shorter)]


@pytest.mark.parametrize("role", ["system", "developer", "context"])
async def test_only_what_assistants_said_may_differ_in_a_conversation(role: str) -> None:
    """What another role says between two turns has to be equal, whichever role it is."""
    cache = SemanticCacheMiddleware(App(), embedder=WordEmbedder(), conversation_turns=2)

    def talk(between: str) -> dict[str, Any]:
        turns = [("user", "Hi there"), (role, between), ("user", ALIKE[0])]
        return asks("", messages=[{"role": role, "content": text} for role, text in turns])

    await ask(cache, talk("The budget is 5."))
    for text, told in (("The budget is 5.", HIT), ("The budget is 900.", MISS)):
        assert told == cache_of(await ask(cache, talk(text)))


async def test_a_completion_shares_nothing_across_its_other_fields() -> None:
    """Its text is the prompt; messages are a field like any other there."""
    choice = {"index": 0, "text": "So.", "logprobs": None, "finish_reason": "stop"}
    answer = {"id": "c", "object": "text_completion", "created": 1, "choices": [choice]}
    app = App(lambda number: {**answer, "model": "gpt-3.5-turbo-instruct"})
    cache = SemanticCacheMiddleware(app, embedder=WordEmbedder(), guards=(), threshold=0.0)
    told = []
    fields: list[dict[str, Any]] = [{}, {"messages": []}, {"messages": [1]}, {}]
    for field in fields:
        document = {"model": "gpt-3.5-turbo-instruct", "prompt": ALIKE[0], **field}
        told.append(cache_of(await ask(cache, document, path="/v1/completions")))
    assert [MISS, MISS, MISS, HIT] == told


PICTURE = [
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


@pytest.mark.parametrize(
    "document",
    [
        asks("", messages=[{"role": "user", "content": PICTURE}]),
        asks(ALIKE[0], tools=[TOOL]),
        asks(ALIKE[0], functions=[{"name": "f"}]),
        asks(ALIKE[0], temperature=1.1),
        asks(ALIKE[0], temperature="hot"),
        asks(ALIKE[0], modalities=["text", "audio"]),
        asks(ALIKE[0], web_search_options={}),
        asks("", messages=[{"role": "assistant", "content": "Hi"}]),
        asks("", messages=[{"role": "tool", "content": "1"}, {"role": "user", "content": "x"}]),
        asks("   "),
        asks("x" * 8001),
        asks("", messages=[]),
    ],
    ids=lambda document: str(document)[-60:],
)
async def test_b5_bypass(document: dict[str, Any]) -> None:
    """Images, tools in play, temperature above the limit and the like are never looked up."""
    app, embedder = App(), WordEmbedder()
    cache = SemanticCacheMiddleware(app, embedder=embedder, guards=(), threshold=0.0)
    for _ in range(2):
        assert BYPASS == cache_of(await ask(cache, document))
    assert (2, []) == (app.calls, embedder.texts)


async def test_tools_that_are_out_of_play_are_no_hindrance() -> None:
    """With ``tool_choice: none`` no tool can be called, and tools are part of what is equal."""
    app = App()
    cache = SemanticCacheMiddleware(app, embedder=WordEmbedder())
    await ask(cache, asks(ALIKE[0], tools=[TOOL], tool_choice="none"))
    assert HIT == cache_of(await ask(cache, asks(ALIKE[1], tools=[TOOL], tool_choice="none")))


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_what_was_cut_off_is_not_kept(reason: str) -> None:
    """Only answers that ended by themselves are served again."""
    app = App(lambda number: chat_answer("So", finish_reason=reason))
    cache = SemanticCacheMiddleware(app, embedder=WordEmbedder())
    for _ in range(2):
        assert MISS == cache_of(await ask(cache, asks(ALIKE[0])))


async def test_errors_are_not_kept() -> None:
    """An answer with another status than 200 passes and is forgotten."""
    app = App(status=500)
    cache = SemanticCacheMiddleware(app, embedder=WordEmbedder())
    for _ in range(2):
        assert (500, MISS) == (
            (answer := await ask(cache, asks(ALIKE[0]))).status,
            cache_of(answer),
        )


async def test_what_clients_say() -> None:
    """``no-cache``, ``no-store``, ``only-if-cached``, ``max-age`` and a namespace are heeded."""
    app, now = App(), [0.0]
    cache = SemanticCacheMiddleware(app, embedder=WordEmbedder(), clock=lambda: now[0])
    none = await ask(cache, asks(ALIKE[0]), {"cache-control": "only-if-cached"})
    assert (504, "not_cached") == (none.status, none.json()["error"]["code"])
    await ask(cache, asks(ALIKE[0]), {"cache-control": "no-store"})
    assert MISS == cache_of(await ask(cache, asks(ALIKE[0])))
    assert HIT == cache_of(await ask(cache, asks(ALIKE[1]), {"cache-control": "only-if-cached"}))
    assert MISS == cache_of(await ask(cache, asks(ALIKE[1]), {"x-cache-namespace": "b"}))
    now[0] = 60.0
    assert MISS == cache_of(await ask(cache, asks(ALIKE[2]), {"cache-control": "max-age=30"}))
    assert MISS == cache_of(await ask(cache, asks(ALIKE[1]), {"cache-control": "no-cache"}))


async def test_entries_run_out() -> None:
    """After its time, the layer's or the client's, an entry is not served."""
    app, now = App(), [0.0]
    cache = SemanticCacheMiddleware(
        app, embedder=WordEmbedder(), ttl_seconds=60, clock=lambda: now[0]
    )
    await ask(cache, asks(ALIKE[0]))
    now[0] = 59.0
    assert HIT == cache_of(await ask(cache, asks(ALIKE[1])))
    now[0] = 61.0
    assert MISS == cache_of(await ask(cache, asks(ALIKE[1]), {"x-cache-ttl": "5"}))
    now[0] = 67.0
    assert MISS == cache_of(await ask(cache, asks(ALIKE[0])))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("threshold", 1.5),
        ("policy", "guess"),
        ("guards", ("numbers", "luck")),
        ("mode", "try"),
        ("candidates", 0),
        ("ttl_seconds", 0),
        ("embed_timeout_seconds", 0),
        ("max_temperature", -1),
        ("on_store_error", "ask"),
        ("conversation_turns", 0),
        ("scope", "planet"),
    ],
)
def test_wrong_options(option: str, value: Any) -> None:
    """A wrong option is named when the layer is made."""
    with pytest.raises(ConfigurationError) as caught:
        SemanticCacheMiddleware(App(), embedder=WordEmbedder(), **{option: value})
    assert option == caught.value.param


def test_the_default_threshold_depends_on_the_guards() -> None:
    """With every guard 0.80 is enough; without one of them it is 0.95."""
    every = SemanticCacheMiddleware(App(), embedder=WordEmbedder())
    names: tuple[GuardName, ...] = ("numbers",)
    fewer = SemanticCacheMiddleware(App(), embedder=WordEmbedder(), guards=names)
    assert (0.80, 0.95) == (every.policy.min_similarity, fewer.policy.min_similarity)
