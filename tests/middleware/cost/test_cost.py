"""What a call costs, where it is said, and the row that is written of it."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from fastapi import FastAPI, Request

from asgi_llm.errors import ConfigurationError, PermissionDeniedError
from asgi_llm.middleware.cost import CostMiddleware, CostTarget
from asgi_llm.pricing import PriceTable
from asgi_llm.state import (
    ATTEMPTS,
    CACHE_STATUS,
    COST,
    FAILURE,
    OPERATION,
    USAGE,
    State,
    StateKey,
    enter,
)
from asgi_llm.testing import chat_answer, usage_of
from asgi_llm.types import Attempt, CacheReport, Usage
from tests.middleware.cost.conftest import HELLO, PRICES, App, As, NineTokens, Notes, ask, usd


def layer(app: Any, notes: Notes, **options: Any) -> CostMiddleware:
    """The layer with a journal and prices of 1 and 10 USD for a million tokens."""
    given: dict[str, Any] = {"prices": PRICES, "journal": notes, "token_counter": NineTokens()}
    return CostMiddleware(app, **{**given, **options})


def attempt(provider: str = "openai", model: str = "gpt-4o", **fields: Any) -> Attempt:
    """An attempt that went well, but for what is given."""
    given: dict[str, Any] = {
        "status": 200,
        "error_code": None,
        "duration_seconds": 0.5,
        "time_to_first_byte_seconds": 0.25,
    }
    return Attempt(provider=provider, model=model, **{**given, **fields})


def leaves(*pairs: tuple[StateKey[Any], Any]) -> Any:
    """An app's part: what it leaves in the state."""

    def write(state: State) -> None:
        for key, value in pairs:
            state.set(key, value)

    return write


async def test_a_whole_answer_has_its_cost_in_a_header_and_a_row() -> None:
    """9 tokens of input at 1 USD and 2 of output at 10 USD a million are 29 millionths."""
    notes = Notes()
    answer = await ask(As(layer(App(), notes), key_id="k1", user_id="u1", team_id="t1"))
    assert (200, b"0.000029") == (answer.status, answer.header("x-cost"))
    assert chat_answer() == answer.json()
    row = notes.row
    assert usd("0.000029") == row.cost.amount_usd
    assert {"input_uncached": usd("0.000009"), "output_text": usd("0.00002")} == row.cost.parts
    assert Usage(input_uncached=9, output_text=2) == row.usage
    assert ("k1", "u1", "t1", None) == (
        row.key_id,
        row.user_id,
        row.team_id,
        row.organization_id,
    )
    assert ("openai", "gpt-4o", "gpt-4o", "openai/gpt-4o") == (
        row.provider,
        row.model,
        row.requested_model,
        row.deployment,
    )
    assert ("chat", 1, 200, "complete", False) == (
        row.operation,
        row.attempt,
        row.status,
        row.outcome,
        row.streamed,
    )
    assert row.cost.source is not None
    assert "overrides" == row.cost.source.table


async def test_the_intent_is_written_before_the_call_and_closed_after_it() -> None:
    """Whoever finds the intent alone knows who called what, with the input as counted."""
    notes = Notes()
    seen: list[int] = []
    app = App(before=lambda state: seen.append(len(notes.intents) - len(notes.rows)))
    await ask(As(layer(app, notes), key_id="k1"))
    (intent,) = notes.intents
    assert [1] == seen
    assert "unknown_after_crash" == intent.outcome
    assert Usage(input_uncached=9, estimated=True) == intent.usage
    assert (None, "no_usage") == (intent.cost.amount_usd, intent.cost.unknown)
    assert [intent.id] == notes.settled
    assert (intent.id, intent.request_id) == (notes.row.id, notes.row.request_id)


async def test_usage_in_the_state_is_believed_before_the_answer() -> None:
    """What the app inside knows is more than its answer can say: cache writes, for one."""
    notes = Notes()
    usage = Usage(input_uncached=5, cache_write_1h=4, output_text=1, reasoning=1)
    app = App(before=leaves((USAGE, usage), (ATTEMPTS, (attempt(),)), (OPERATION, "chat")))
    answer = await ask(layer(app, notes))
    assert usage == notes.row.usage
    assert b"0.000029" == answer.header("x-cost")


@pytest.mark.parametrize(
    "usage",
    (
        None,
        {},
        {"prompt_tokens": -5, "completion_tokens": -7, "total_tokens": -12},
        {"prompt_tokens": "many", "completion_tokens": None},
        {"prompt_tokens": 1e308, "completion_tokens": True, "total_tokens": []},
        [],
        "none",
    ),
    ids=str,
)
async def test_b42_nonsense_for_usage_is_estimated_and_never_negative(usage: Any) -> None:
    """Whatever a provider says of its tokens, the row is flagged and no part is below zero."""
    notes = Notes()
    answer = chat_answer("One two three.")
    answer["usage"] = usage
    told = await ask(layer(App(answer), notes))
    assert 200 == told.status
    row = notes.row
    assert row.usage.estimated
    assert row.cost.estimated
    assert row.cost.amount_usd is not None
    assert row.cost.amount_usd >= 0
    assert all(part >= 0 for part in row.cost.parts.values())
    assert sum(row.cost.parts.values()) == row.cost.amount_usd


async def test_all_choices_and_tool_calls_are_counted_where_the_provider_is_silent() -> None:
    """The estimate is of everything that the model said, whichever choice it is in."""
    notes = Notes()
    calls = [("look_up", {"query": "one two three"})]
    answer = chat_answer("Four words in all", usage=None, n=3, tool_calls=calls)
    await ask(layer(App(answer), notes, token_counter=None))
    plain = Notes()
    await ask(layer(App(chat_answer("Four words in all", usage=None)), plain, token_counter=None))
    assert notes.row.usage.output_tokens >= 3 * plain.row.usage.output_tokens > 0


async def test_one_row_an_attempt_linked_to_its_request() -> None:
    """A provider that timed out may have worked: its row stands beside that of the fallback."""
    notes = Notes()
    tried = (
        attempt("openai", "gpt-4o", status=500, error_code="provider_unavailable"),
        attempt("openai", "gpt-4o", status=None, error_code="provider_timeout"),
        attempt("openai", "gpt-4o", status=None, error_code="provider_unavailable"),
        attempt("free", "small"),
    )
    app = App(before=leaves((ATTEMPTS, tried), (USAGE, Usage(input_uncached=9, output_text=2))))
    answer = await ask(layer(app, notes))
    assert [
        (1, "openai", 500, "failed", Usage(), usd("0")),
        (
            2,
            "openai",
            None,
            "failed",
            Usage(input_uncached=9, estimated=True),
            usd("0.000009"),
        ),
        (3, "free", 200, "complete", Usage(input_uncached=9, output_text=2), usd("0")),
    ] == [
        (row.attempt, row.provider, row.status, row.outcome, row.usage, row.cost.amount_usd)
        for row in notes.rows
    ]
    assert 1 == len({row.request_id for row in notes.rows})
    assert 3 == len({row.id for row in notes.rows})
    assert b"0.000009" == answer.header("x-cost")


async def test_choices_that_are_calls_of_their_own_share_the_usage() -> None:
    """Rows of calls that made one answer sum to what it took."""
    notes = Notes()
    usage = Usage(input_uncached=31, output_text=7)
    app = App(before=leaves((ATTEMPTS, (attempt(), attempt(), attempt())), (USAGE, usage)))
    await ask(layer(app, notes))
    assert (31, 7) == (
        sum(row.usage.input_tokens for row in notes.rows),
        sum(row.usage.output_tokens for row in notes.rows),
    )
    assert [1, 2, 3] == [row.attempt for row in notes.rows]


async def test_rows_are_numbered_from_one_whatever_was_tried_before_them() -> None:
    """The first one is the request in the sums, and has its intent's id.

    What is paid for beside tokens is paid for with the first attempt that made the answer.
    """
    notes = Notes()
    prices = {"input": 1, "output": 10, "per_thousand_web_searches": 10}
    tried = (
        attempt(status=None, error_code="provider_unavailable"),
        attempt(status=503, error_code="provider_unavailable"),
        attempt(),
        attempt(),
    )
    answer = chat_answer(usage=usage_of(9, 2, server_tool_use={"web_search_requests": 3}))
    app = App(answer, before=leaves((ATTEMPTS, tried)))
    await ask(layer(app, notes, prices=PriceTable(overrides={"openai": {"*": prices}})))
    assert [(1, 503, None), (2, 200, usd("0.03")), (3, 200, None)] == [
        (row.attempt, row.status, row.cost.parts.get("web_searches")) for row in notes.rows
    ]
    assert [notes.rows[0].id] == notes.settled
    assert 3 == len({row.id for row in notes.rows})


async def test_what_reached_no_provider_has_no_row() -> None:
    """A refusal of a layer further in closes the intent with nothing."""
    notes = Notes()
    app = App(
        {"error": {}},
        status=403,
        before=leaves((FAILURE, PermissionDeniedError("no"))),
    )
    assert 403 == (await ask(layer(app, notes))).status
    assert ([], 1) == (notes.rows, len(notes.settled))


async def test_an_error_of_an_app_that_says_nothing_of_attempts_is_free() -> None:
    """The row has the status and no cost, whether the body claims usage or not."""
    for status, outcome in ((429, "refused"), (500, "failed")):
        notes = Notes()
        answer = await ask(layer(App(status=status), notes))
        assert (status, None) == (answer.status, answer.header("x-cost"))
        assert (outcome, status, usd("0"), Usage()) == (
            notes.row.outcome,
            notes.row.status,
            notes.row.cost.amount_usd,
            notes.row.usage,
        )


async def test_a_cache_hit_is_a_row_that_costs_nothing_and_says_what_it_saved() -> None:
    """Attempt 0, no usage, and the price of the stored answer as what was saved."""
    notes = Notes()
    report = CacheReport(
        status="hit",
        type="exact",
        provider="openai",
        model="gpt-4o",
        usage=Usage(input_uncached=9, output_text=2),
    )
    app = App(before=leaves((CACHE_STATUS, report)))
    answer = await ask(layer(app, notes))
    assert (b"0", b"0.000029") == (answer.header("x-cost"), answer.header("x-cost-saved"))
    row = notes.row
    assert (0, True, "exact", "cache_hit", usd("0"), usd("0.000029"), Usage()) == (
        row.attempt,
        row.cached,
        row.cache_type,
        row.outcome,
        row.cost.amount_usd,
        row.saved_usd,
        row.usage,
    )


async def test_a_miss_is_paid_for() -> None:
    """Only a hit is free; what a cache says of a miss changes nothing."""
    notes = Notes()
    await ask(layer(App(before=leaves((CACHE_STATUS, CacheReport(status="miss")))), notes))
    assert ("complete", False, usd("0.000029")) == (
        notes.row.outcome,
        notes.row.cached,
        notes.row.cost.amount_usd,
    )


async def test_the_state_has_the_cost_before_the_last_byte_leaves() -> None:
    """A layer further out reads it when the answer ends."""
    seen: list[Any] = []

    class Outside:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            scope, state = enter(scope)

            async def watch(message: Any) -> None:
                if message["type"] == "http.response.body":
                    cost = state.get(COST)
                    seen.append(None if cost is None else cost.amount_usd)
                await send(message)

            await self.app(scope, receive, watch)

    await ask(Outside(layer(App(), Notes())))
    assert [usd("0.000029")] == seen


async def test_b15_a_price_that_is_not_known_is_flagged_and_not_zero() -> None:
    """The default: the call passes, the row says that nobody knows, and no header lies."""
    notes = Notes()
    answer = await ask(layer(App(), notes, prices=PriceTable()))
    assert (200, None) == (answer.status, answer.header("x-cost"))
    assert (None, "no_price") == (notes.row.cost.amount_usd, notes.row.cost.unknown)
    assert Usage(input_uncached=9, output_text=2) == notes.row.usage


async def test_b15_a_price_that_is_not_known_can_block() -> None:
    """Nothing is called, and the client learns why."""
    notes, app = Notes(), App()
    answer = await ask(layer(app, notes, prices=PriceTable(), unknown_price="block"))
    assert (400, "unknown_price", "model") == (
        answer.status,
        answer.json()["error"]["code"],
        answer.json()["error"]["param"],
    )
    assert ([], []) == (app.documents, notes.intents)


@pytest.mark.parametrize(
    ("stand_in", "amount"),
    ((Decimal("0.25"), "0.25"), ({"input": 2, "output": 20}, "0.000058"), ("0.5", "0.5")),
    ids=str,
)
async def test_b15_a_price_that_is_not_known_can_have_a_stand_in(
    stand_in: Any, amount: str
) -> None:
    """A figure for the request or a price for its tokens, flagged as an estimate."""
    notes = Notes()
    answer = await ask(layer(App(), notes, prices=PriceTable(), unknown_price=stand_in))
    assert amount.encode() == answer.header("x-cost")
    assert (usd(amount), True) == (notes.row.cost.amount_usd, notes.row.cost.estimated)


async def test_b15_a_price_of_zero_is_a_price() -> None:
    """Free is known to be free."""
    free = Notes()
    answer = await ask(layer(App(), free, provider="free"))
    assert b"0" == answer.header("x-cost")
    assert (usd("0"), None) == (free.row.cost.amount_usd, free.row.cost.unknown)


async def test_a_provider_of_ones_own_is_found_by_its_prices() -> None:
    """A name before the slash that no table knows is part of the model's."""
    answer = await ask(layer(App(), Notes()), {**HELLO, "model": "free/small"})
    assert b"0" == answer.header("x-cost")
    answer = await ask(layer(App(), Notes()), {**HELLO, "model": "nobody/small"})
    assert b"0.000029" == answer.header("x-cost")


async def test_targets_say_who_serves_a_model() -> None:
    """The row has the first of them, at its price."""
    notes = Notes()
    app = layer(App(), notes, targets=lambda _: [CostTarget(provider="free", model="small")])
    answer = await ask(app, {**HELLO, "model": "fast"})
    assert b"0" == answer.header("x-cost")
    assert ("free", "small", "fast") == (
        notes.row.provider,
        notes.row.model,
        notes.row.requested_model,
    )


async def test_tags_come_from_metadata_and_the_callers_own_cannot_be_changed() -> None:
    """Texts within OpenAI's bounds are tags; what is none is left out."""
    notes = Notes()
    metadata = {"job": "nightly", "team": "mine", "n": 5, "long": "x" * 600, "": ""}
    app = As(layer(App(), notes), key_id="k1", metadata={"team": "search"})
    await ask(app, {**HELLO, "metadata": metadata})
    assert {"job": "nightly", "team": "search", "": ""} == notes.row.tags
    some = Notes()
    await ask(layer(App(), some, tag_names=["job"]), {**HELLO, "metadata": metadata})
    assert {"job": "nightly"} == some.row.tags


async def test_a4_the_same_client_request_id_twice_is_two_rows() -> None:
    """Ids are minted inside: nobody can make two charges one."""
    notes = Notes()
    app = layer(App(), notes)
    for _ in range(2):
        await ask(app, headers=[(b"x-request-id", b"mine")])
    assert 2 == len({row.id for row in notes.rows})
    assert 2 == len({row.request_id for row in notes.rows})


async def test_rows_go_to_the_ledger_where_there_is_no_journal() -> None:
    """And those that it refused go with the next, once each."""
    notes = Notes()
    app = CostMiddleware(App(), prices=PRICES, ledger=notes)
    notes.fails = {"record"}
    assert 200 == (await ask(app)).status
    assert (1, 1, []) == (app.pending, app.store_failures, notes.rows)
    notes.fails = set()
    assert 200 == (await ask(app)).status
    assert (0, 2) == (app.pending, len(notes.rows))
    await app.aclose()
    assert 2 == len(notes.rows)


async def test_a_journal_that_cannot_be_written_lets_through_or_denies() -> None:
    """As declared: the call is made without its intent, or 503 and no call."""
    notes, app = Notes(), App()
    notes.fails = {"intend"}
    assert 200 == (await ask(layer(app, notes))).status
    assert (1, 1) == (len(app.documents), len(notes.rows))
    answer = await ask(layer(app, notes, on_store_error="deny"))
    assert (503, "store_unavailable") == (answer.status, answer.json()["error"]["code"])
    assert 1 == len(app.documents)


async def test_a_journal_that_loses_an_outcome_fails_no_answer() -> None:
    """The client has what it paid for; the failure is counted."""
    notes = Notes()
    notes.fails = {"settle"}
    app = layer(App(), notes)
    assert 200 == (await ask(app)).status
    assert 1 == app.store_failures


async def test_other_operations_are_priced_by_what_they_are_billed_by() -> None:
    """Embeddings by tokens of input, speech by characters, images one by one."""
    prices = PriceTable(
        overrides={
            "openai": {
                "embed": {"input": 2},
                "voice": {"per_million_characters": 15},
                "draw": {"per_image": "0.04"},
            }
        }
    )
    cases: list[tuple[str, dict[str, Any], App, str, str]] = [
        (
            "/v1/embeddings",
            {"model": "embed", "input": "Hello"},
            App({"object": "list", "data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}}),
            "embeddings",
            "0.000016",
        ),
        (
            "/v1/audio/speech",
            {"model": "voice", "input": "Hello", "voice": "alloy"},
            App(b"\xff\xfb\x90\x00", media=b"audio/mpeg"),
            "speech",
            "0.000075",
        ),
        (
            "/v1/images/generations",
            {"model": "draw", "prompt": "A cat", "n": 2},
            App({"created": 1, "data": [{"url": "x"}, {"url": "y"}]}),
            "image_generation",
            "0.08",
        ),
    ]
    for path, document, app, operation, amount in cases:
        notes = Notes()
        answer = await ask(layer(app, notes, prices=prices), document, path=path)
        assert (amount.encode(), operation, usd(amount)) == (
            answer.header("x-cost"),
            notes.row.operation,
            notes.row.cost.amount_usd,
        )


async def test_around_a_plain_fastapi_endpoint() -> None:
    """An app of one's own that answers in OpenAI's shape is metered like any."""
    notes = Notes()
    inside = FastAPI()

    @inside.post("/v1/chat/completions")
    async def complete(request: Request) -> dict[str, Any]:
        document = await request.json()
        text = document["messages"][0]["content"]
        return chat_answer(text, usage=usage_of(100, 50))

    answer = await ask(layer(inside, notes))
    assert (b"0.0006", "Hello there.") == (
        answer.header("x-cost"),
        answer.json()["choices"][0]["message"]["content"],
    )
    assert (usd("0.0006"), "complete") == (notes.row.cost.amount_usd, notes.row.outcome)


async def test_latency_and_time_are_those_of_the_clocks() -> None:
    """The time of a row is the begin of its request, in UTC."""
    notes = Notes()
    ticks = iter(range(100))
    app = layer(App(), notes, clock=lambda: float(next(ticks)), wall_clock=lambda: 1_800_000_000.5)
    await ask(app)
    assert datetime.datetime(2027, 1, 15, 8, 0, 0, 500000, datetime.UTC) == notes.row.at
    assert notes.row.latency_seconds is not None
    assert notes.row.time_to_first_token_seconds is not None
    assert notes.row.latency_seconds > notes.row.time_to_first_token_seconds > 0


@pytest.mark.parametrize(
    "options",
    (
        {"mode": "watch"},
        {"on_store_error": "ignore"},
        {"on_max_cost": "cut"},
        {"refusal_status": 418},
        {"store_timeout_seconds": 0},
        {"lease_seconds": -1},
        {"max_body_bytes": 0},
        {"body_timeout_seconds": 0},
        {"input_margin": 0.5},
        {"max_cost_usd": Decimal("-1")},
        {"max_cost_usd": Decimal("NaN")},
        {"default_output_tokens": -1},
        {"on_disconnect": "linger"},
        {"on_disconnect": -1},
        {"on_disconnect": True},
        {"unknown_price": "guess"},
        {"unknown_price": -1},
    ),
    ids=str,
)
def test_wrong_options_are_refused_by_name(options: dict[str, Any]) -> None:
    """At construction, with the option's name as the parameter."""
    with pytest.raises(ConfigurationError) as caught:
        CostMiddleware(App(), prices=PRICES, **options)
    assert next(iter(options)) == (caught.value.param or "").partition(".")[0]


async def test_answers_pass_as_the_bytes_that_came() -> None:
    """A header is all that is added to a whole answer."""
    body = msgspec.json.format(msgspec.json.encode(chat_answer()), indent=3)
    assert body == (await ask(layer(App(body), Notes()))).body
