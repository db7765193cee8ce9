"""The short ways of usual requests come to what the ways for all requests come to."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from asgi_llm.errors import InternalError
from asgi_llm.middleware.cost import CostMiddleware
from asgi_llm.pricing import PriceTable
from asgi_llm.state import ATTEMPTS, CACHE_STATUS, DEPLOYMENT, FAILURE, OPERATION, USAGE, State
from asgi_llm.stores._journal_abandoned import unknown_row
from asgi_llm.stores.budgets import BudgetDecision, BudgetRule, demand_of, to_pico
from asgi_llm.stores.budgets_memory import MemoryBudgets
from asgi_llm.stores.journal import FileJournal
from asgi_llm.stores.ledger import LedgerRow
from asgi_llm.testing import chat_answer
from asgi_llm.types import Attempt, CacheReport, Deployment, Document, Usage
from asgi_llm.wire.tokens import EstimatedTokens, TokenCount
from tests.middleware.cost.conftest import HELLO, PRICES, App, As, Notes, Stream, ask


class Counted(EstimatedTokens):
    """The same counter by another name, for which the layer takes no short way."""

    async def count(self, document: Document, model: str) -> TokenCount:
        return await super().count(document, model)


class Held(MemoryBudgets):
    """Budgets that keep what was reserved. Not the layer's own class: it asks in the long way."""

    def __init__(self) -> None:
        super().__init__()
        self.amounts: list[int] = []

    async def reserve(
        self, demands: Any, amount: int, *, lease: str, lease_seconds: float, enforce: bool = True
    ) -> BudgetDecision:
        self.amounts.append(amount)
        return await super().reserve(
            demands, amount, lease=lease, lease_seconds=lease_seconds, enforce=enforce
        )


PLAIN: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi there"}]}


@pytest.mark.parametrize(
    "document",
    [
        PLAIN,
        {**PLAIN, "max_tokens": 0},
        {**PLAIN, "max_tokens": 77},
        {**PLAIN, "max_completion_tokens": 88},
        {**PLAIN, "max_completion_tokens": None},
        {**PLAIN, "max_tokens": None, "max_completion_tokens": 5},
        {**PLAIN, "max_tokens": 5, "max_completion_tokens": 9},
        {**PLAIN, "max_tokens": 10, "n": 3},
        {**PLAIN, "max_tokens": 10, "service_tier": "priority"},
        {**PLAIN, "max_tokens": 10, "tools": [{"type": "function"}]},
        {**PLAIN, "messages": [{"role": "user", "content": "Grüße"}]},
        {**PLAIN, "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
        {**PLAIN, "messages": [{"role": "user", "content": "Hi", "name": "ada"}]},
        {**PLAIN, "messages": ["Hi", {"content": 7}]},
        {**PLAIN, "messages": []},
        {**PLAIN, "messages": "Hi"},
        {"model": "gpt-4o"},
    ],
    ids=lambda document: msgspec.json.encode(document).decode(),
)
@pytest.mark.parametrize("model", ["gpt-4o", "free/any", "unheard/of"])
async def test_the_same_is_reserved(document: dict[str, Any], model: str) -> None:
    """Whether the layer goes the short way, or counts and bounds each request in full."""
    amounts = []
    for counter in (EstimatedTokens(), Counted()):
        store = Held()
        plenty = BudgetRule(scope="everyone", amount_usd=Decimal(1000))
        inside = CostMiddleware(
            App(), prices=PRICES, budgets=[plenty], budget_store=store, token_counter=counter
        )
        assert 200 == (await ask(inside, {**document, "model": model})).status
        amounts.append(store.amounts)
    assert amounts[0] == amounts[1]


@pytest.mark.parametrize("value", [-1, True, "9", 2**31])
async def test_a_limit_of_the_output_that_is_none_is_refused(value: object) -> None:
    """Also where nothing else about the request is unusual."""
    inside = CostMiddleware(App(), prices=PRICES)
    assert 400 == (await ask(inside, {**PLAIN, "max_tokens": value})).status


def sets(*pairs: Any) -> Callable[[State], None]:
    def write(state: State) -> None:
        for key, value in pairs:
            state.set(key, value)

    return write


def tried(**fields: Any) -> Attempt:
    given: dict[str, Any] = {
        "provider": "openai",
        "model": "gpt-4o",
        "status": 200,
        "error_code": None,
        "duration_seconds": 0.5,
        "time_to_first_byte_seconds": 0.25,
    }
    return Attempt(**{**given, **fields})


GPT = Deployment(provider="openai", model="gpt-5")
TEXT = Usage(input_uncached=5, output_text=2)
TOOK = Usage(input_uncached=5, input_cached=3, output_text=2)
HI = {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}
TOLD = {
    "choices": [],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}
CASES: dict[str, Any] = {
    "it says its usage": App(),
    "the app says its usage": App(before=sets((USAGE, TOOK), (ATTEMPTS, (tried(),)))),
    "the attempt is not noted yet": App(
        before=sets((USAGE, TOOK), (OPERATION, "chat"), (DEPLOYMENT, GPT))
    ),
    "nor is that it is one": App(before=sets((USAGE, TOOK), (DEPLOYMENT, GPT))),
    "none is noted": App(before=sets((USAGE, TOOK), (DEPLOYMENT, GPT), (ATTEMPTS, ()))),
    "text alone": App(before=sets((USAGE, TEXT), (ATTEMPTS, (tried(),)))),
    "text alone, not noted yet": App(
        before=sets((USAGE, TEXT), (OPERATION, "chat"), (DEPLOYMENT, GPT))
    ),
    "text alone, in other words": App(
        headers=[(b"Content-Encoding", b"identity")],
        media=b"Application/JSON; charset=utf-8",
        before=sets((USAGE, TEXT), (ATTEMPTS, (tried(),))),
    ),
    "text alone, counted": App(
        before=sets((USAGE, msgspec.structs.replace(TEXT, estimated=True)), (ATTEMPTS, (tried(),)))
    ),
    "text in alone": App(before=sets((USAGE, Usage(input_uncached=9)), (ATTEMPTS, (tried(),)))),
    "text and searches": App(
        {**chat_answer(), "usage": {"server_tool_use": {"web_search_requests": 1}}},
        before=sets((USAGE, TEXT), (ATTEMPTS, (tried(),))),
    ),
    "another place": App(before=sets((USAGE, TOOK), (ATTEMPTS, (tried(model="gpt-5"),)))),
    "a service tier": App(
        {**chat_answer(), "service_tier": "flex"},
        before=sets((USAGE, TOOK), (ATTEMPTS, (tried(),))),
    ),
    "no price": App(before=sets((USAGE, TOOK), (ATTEMPTS, (tried(provider="unheard"),)))),
    "several attempts": App(
        before=sets((USAGE, TOOK), (ATTEMPTS, (tried(status=500, error_code="x"), tried())))
    ),
    "refused": App({"error": {}}, status=429, before=sets((OPERATION, "chat"), (ATTEMPTS, ()))),
    "failed": App({"error": {}}, status=500),
    "out of a cache": App(
        before=sets(
            (
                CACHE_STATUS,
                CacheReport(
                    status="hit", type="exact", provider="openai", model="gpt-4o", usage=TOOK
                ),
            )
        )
    ),
    "a stream": Stream([HI]),
    "a stream of text alone": Stream(
        [HI, TOLD], before=sets((USAGE, TEXT), (OPERATION, "chat"), (DEPLOYMENT, GPT))
    ),
    "a stream of text alone, ends at once": Stream(
        [HI, TOLD],
        ends_apart=False,
        before=sets((USAGE, TEXT), (OPERATION, "chat"), (DEPLOYMENT, GPT)),
    ),
    "a stream in pieces": Stream(
        [HI, TOLD], size=17, before=sets((USAGE, TEXT), (ATTEMPTS, (tried(),)))
    ),
    "a stream of all sorts": Stream(
        [HI, TOLD], before=sets((USAGE, TOOK), (OPERATION, "chat"), (DEPLOYMENT, GPT))
    ),
    "a stream of a tier": Stream(
        [{**HI, "service_tier": "flex"}, TOLD], before=sets((USAGE, TEXT), (ATTEMPTS, (tried(),)))
    ),
    "a stream of the usual tier": Stream(
        [{**HI, "service_tier": "default"}, TOLD],
        before=sets((USAGE, TEXT), (ATTEMPTS, (tried(),))),
    ),
    "a stream that breaks off": Stream(
        [HI, {"error": {"code": "broken", "message": "no"}}],
        before=sets((USAGE, TEXT), (ATTEMPTS, (tried(),))),
    ),
    "a stream that failed": Stream(
        [HI, TOLD],
        before=sets((USAGE, TEXT), (ATTEMPTS, (tried(),)), (FAILURE, InternalError("no"))),
    ),
    "a stream after another attempt": Stream(
        [HI, TOLD],
        before=sets((USAGE, TEXT), (ATTEMPTS, (tried(status=500, error_code="x"), tried()))),
    ),
    "a stream without a price": Stream(
        [HI, TOLD], before=sets((USAGE, TEXT), (ATTEMPTS, (tried(provider="unheard"),)))
    ),
    "a stream that says more than the app": Stream(
        [HI, {**TOLD, "usage": {"prompt_tokens": 7, "completion_tokens": 1, "x": 2}}],
        before=sets((USAGE, TEXT), (ATTEMPTS, (tried(),))),
    ),
    "a stream that alone says its usage": Stream([HI, TOLD]),
}


def seen(row: LedgerRow) -> LedgerRow:
    """A row but for what no two requests have in common."""
    return msgspec.structs.replace(
        row, id="", request_id="", latency_seconds=None, time_to_first_token_seconds=None
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "principal",
    [{}, {"key_id": "k", "user_id": "ü", "metadata": {"project": "apollo"}}],
    ids=["nobody", "somebody"],
)
async def test_the_journal_on_disk_has_the_rows_of_any_journal(
    case: str, principal: dict[str, Any], tmp_path: Path
) -> None:
    """It gets bytes, others get rows, and a ledger is waited for: they are the same rows."""
    app, notes, ledger, journal = CASES[case], Notes(), Notes(), FileJournal(tmp_path)
    plain: dict[str, Any] = {**HELLO, "stream": case.startswith("a stream")}
    if plain["stream"] and case != "a stream":
        plain["stream_options"] = {"include_usage": True}
    tagged = {**plain, "metadata": {"team": "blue"}}
    options: dict[str, Any] = {"prices": PRICES, "wall_clock": lambda: 1_795_250_000.123456}
    spent, told = [], []
    for writer in ({"journal": notes}, {"journal": journal}, {"ledger": ledger}):
        store, plenty = MemoryBudgets(), BudgetRule(scope="everyone", amount_usd=Decimal(10**12))
        layer = CostMiddleware(app, budgets=[plenty], budget_store=store, **options, **writer)
        inside = As(layer, **principal)
        # What is asked for the second time is known.
        answers = [await ask(inside, document) for document in (tagged, plain, plain, plain)]
        told.append([(dict(one.headers).get(b"x-cost"), one.body) for one in answers])
        (status,) = await store.spent([demand_of(plenty, "")])
        spent.append((status.spent, status.reserved))
    assert 0 == journal.open_intents
    batch = journal.read(100)
    found = [] if batch is None else batch.rows
    journal.close()
    # In words, for amounts are equal that have not the same digits.
    assert [repr(seen(row)) for row in notes.rows] == [repr(seen(row)) for row in found]
    assert [repr(seen(row)) for row in ledger.rows] == [repr(seen(row)) for row in found]
    assert [spent[0]] * 3 == spent
    assert [told[0]] * 3 == told


async def test_a_known_request_that_cannot_be_written_holds_no_budget() -> None:
    """Where that is declared to end it: what was reserved for it is given back at once."""
    notes, store = Notes(), MemoryBudgets()
    plenty = BudgetRule(scope="everyone", amount_usd=Decimal(1000))
    options: dict[str, Any] = {"prices": PRICES, "budgets": [plenty], "budget_store": store}
    inside = CostMiddleware(App(), journal=notes, on_store_error="deny", **options)
    assert 200 == (await ask(inside, PLAIN)).status
    (before,) = await store.spent([demand_of(plenty, "")])
    notes.fails.add("intend")
    assert 503 == (await ask(inside, PLAIN)).status
    (after,) = await store.spent([demand_of(plenty, "")])
    assert (before.spent, 0) == (after.spent, after.reserved)


@pytest.mark.parametrize("price", ["0.0000001", "0.1234567", "2.5"])
async def test_budgets_are_charged_what_the_row_says(price: str, tmp_path: Path) -> None:
    """Also where a rate is no whole number of pico-USD: each call is rounded up by itself."""
    prices = PriceTable(overrides={"openai": {"*": {"input": Decimal(price), "output": 10}}})
    store, journal = MemoryBudgets(), FileJournal(tmp_path)
    plenty = BudgetRule(scope="everyone", amount_usd=Decimal(1000))
    app = App(before=sets((USAGE, TEXT), (ATTEMPTS, (tried(),))))
    inside = CostMiddleware(
        app, prices=prices, budgets=[plenty], budget_store=store, journal=journal
    )
    for _ in range(3):
        assert 200 == (await ask(inside, PLAIN)).status
    batch = journal.read(100)
    assert batch is not None
    amounts = [row.cost.amount_usd for row in batch.rows]
    journal.close()
    assert [(5 * Decimal(price) + 20) / 10**6] * 3 == amounts
    (status,) = await store.spent([demand_of(plenty, "")])
    assert sum(to_pico(amount) for amount in amounts if amount is not None) == status.spent


async def test_what_is_no_text_is_written_all_the_same(tmp_path: Path) -> None:
    """The id of a caller that UTF-8 has no bytes for loses that, and no row is lost by it."""
    journal = FileJournal(tmp_path)
    inside = As(CostMiddleware(App(), prices=PRICES, journal=journal), key_id="no \udcff text")
    assert 200 == (await ask(inside)).status
    batch = journal.read(100)
    assert batch is not None
    assert ["no \ufffd text"] == [(row.key_id or "")[:9] for row in batch.rows]
    assert 0 == journal.open_intents
    journal.close()


async def test_a_count_beyond_all_bounds_is_written_all_the_same(tmp_path: Path) -> None:
    """The row of a usual answer has the most that one can hold, and none is lost by it."""
    journal, beyond = FileJournal(tmp_path), Usage(input_uncached=2**64, output_text=1)
    app = App(before=sets((USAGE, beyond), (ATTEMPTS, (tried(),))))
    inside = CostMiddleware(app, prices=PRICES, journal=journal)
    for _ in range(2):
        assert 200 == (await ask(inside, PLAIN)).status
    batch = journal.read(100)
    assert batch is not None
    assert [1, 1] == [row.usage.output_text for row in batch.rows]
    assert all(10**9 < row.usage.input_uncached < 2**64 for row in batch.rows)
    assert 0 == journal.open_intents
    journal.close()


async def test_an_intent_on_disk_is_that_of_any_journal(tmp_path: Path) -> None:
    """What is found of a call whose worker dies does not depend on how it was written."""
    notes, journal = Notes(), FileJournal(tmp_path / "live")
    options: dict[str, Any] = {"prices": PRICES, "wall_clock": lambda: 1_795_250_000.5}

    def keep(state: State) -> None:
        shutil.copytree(tmp_path / "live", tmp_path / "dead")

    await ask(CostMiddleware(App(before=keep), journal=journal, **options))
    journal.close()
    await ask(CostMiddleware(App(), journal=notes, **options))
    found = list(FileJournal(tmp_path / "dead").replay())
    assert [seen(unknown_row(row)) for row in notes.intents] == [seen(row) for row in found]


async def test_a_failure_is_never_taken_for_a_usual_answer() -> None:
    """An app that says that its whole answer is wrong has a row that says so."""
    notes = Notes()
    failure = InternalError("no")
    app = App(before=sets((USAGE, TOOK), (ATTEMPTS, (tried(),)), (FAILURE, failure)))
    await ask(CostMiddleware(app, prices=PRICES, journal=notes))
    assert "failed" == notes.row.outcome


@pytest.mark.parametrize(("on_store_error", "status"), [("allow", 200), ("deny", 503)])
async def test_memory_that_is_full_is_a_store_that_fails(on_store_error: Any, status: int) -> None:
    """What becomes of a request is declared, also where nobody has to be waited for."""
    store = MemoryBudgets(max_entries=1)
    each = BudgetRule(scope="user", amount_usd=Decimal(1))
    inside = CostMiddleware(
        App(), prices=PRICES, budgets=[each], budget_store=store, on_store_error=on_store_error
    )
    assert 200 == (await ask(As(inside, user_id="ada"))).status
    assert status == (await ask(As(inside, user_id="bob"))).status
    assert 1 <= inside.store_failures
    await inside.aclose()


async def test_usual_requests_spend_to_the_limit_and_no_further() -> None:
    """The reservation that needs no coroutine refuses as the other does."""
    app, tight = App(), BudgetRule(scope="everyone", amount_usd=Decimal("0.0011"))
    inside = CostMiddleware(app, prices=PRICES, budgets=[tight])
    document = {**PLAIN, "max_tokens": 100}
    statuses = [(await ask(inside, document)).status for _ in range(40)]
    # Each reserves more than 100 tokens of output, 1 mUSD, and costs 29 uUSD.
    assert {200, 400} == set(statuses)
    passed = statuses.count(200)
    assert [200] * passed + [400] * (40 - passed) == statuses
    assert passed == len(app.documents)
