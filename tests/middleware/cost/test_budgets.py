"""Budgets around calls: reserved before, settled after, refused without a word of others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from starlette.types import Receive, Scope, Send

from asgi_llm.errors import StoreError
from asgi_llm.middleware.cost import BudgetAlert, CostMiddleware
from asgi_llm.stores.budgets import (
    BudgetDecision,
    BudgetDemand,
    BudgetRule,
    BudgetStatus,
    BudgetUse,
    demand_of,
    to_pico,
)
from asgi_llm.stores.budgets_memory import MemoryBudgets
from asgi_llm.testing import chat_answer, http_scope, usage_of
from asgi_llm.types import Principal
from tests.middleware.cost.conftest import (
    HELLO,
    PRICES,
    App,
    As,
    NineTokens,
    Notes,
    ask,
    read,
    until,
    usd,
)

WORST = usd("0.001009")
"""Of HELLO: 9 tokens of input at 1 USD and 100 of output at 10 USD a million."""
NOON = 1_795_262_400.0
"""2026-11-21, 12:00 UTC."""


def rule(amount: Any, scope: Any = "key", **fields: Any) -> BudgetRule:
    """A budget by the month, unless it says otherwise."""
    return BudgetRule(scope=scope, amount_usd=Decimal(str(amount)), **fields)


def layer(app: Any, *budgets: BudgetRule, **options: Any) -> CostMiddleware:
    """The layer with ``budgets``, at noon."""
    given: dict[str, Any] = {
        "prices": PRICES,
        "token_counter": NineTokens(),
        "budgets": budgets,
        "wall_clock": lambda: NOON,
    }
    return CostMiddleware(app, **{**given, **options})


class Watched:
    """A store in memory that notes every call, and fails or hangs where it is told to."""

    def __init__(self) -> None:
        self.store = MemoryBudgets(clock=lambda: NOON)
        self.calls: list[tuple[str, int]] = []
        self.fails: set[str] = set()
        self.hangs: set[str] = set()
        self.go_on = asyncio.Event()

    async def _note(self, name: str, amount: int) -> None:
        self.calls.append((name, amount))
        if name in self.hangs:
            await self.go_on.wait()
        if name in self.fails:
            raise StoreError("the store is away")

    async def reserve(
        self, demands: Sequence[BudgetDemand], amount: int, **options: Any
    ) -> BudgetDecision:
        await self._note("reserve", amount)
        return await self.store.reserve(demands, amount, **options)

    async def renew(self, demands: Sequence[BudgetDemand], **options: Any) -> None:
        await self._note("renew", 0)
        await self.store.renew(demands, **options)

    async def settle(
        self, demands: Sequence[BudgetDemand], *, lease: str, actual: int
    ) -> tuple[BudgetUse, ...]:
        await self._note("settle", actual)
        return await self.store.settle(demands, lease=lease, actual=actual)

    async def spent(self, demands: Sequence[BudgetDemand]) -> tuple[BudgetStatus, ...]:
        return await self.store.spent(demands)

    async def aclose(self) -> None:
        await self.store.aclose()

    async def of(self, one: BudgetRule, owner: str) -> tuple[int, int]:
        """What is spent and reserved of a budget."""
        (status,) = await self.store.spent([demand_of(one, owner)])
        return status.spent, status.reserved


class Slow:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.inside += 1
        await self.gate.wait()
        await App()(scope, receive, send)


async def test_the_worst_case_is_reserved_and_the_cost_is_settled() -> None:
    """While the call is under way it holds the most it can cost, and then what it did."""
    store, app, budget = Watched(), Slow(), rule(1)
    task = asyncio.create_task(ask(As(layer(app, budget, budget_store=store), key_id="k1")))
    await until(lambda: app.inside)
    assert (0, to_pico(WORST)) == await store.of(budget, "k1")
    app.gate.set()
    assert 200 == (await task).status
    assert (29_000_000, 0) == await store.of(budget, "k1")


async def test_b15_200_at_once_never_spend_more_than_there_is() -> None:
    """With room for 100 of them at their worst, 100 are let through and 100 are not."""
    app = App(chat_answer(usage=usage_of(9, 100)))
    budget = rule(WORST * 100)
    costly = As(layer(app, budget), key_id="k1")
    answers = await asyncio.gather(*(ask(costly) for _ in range(200)))
    assert (100, 100) == (
        sum(answer.status == 200 for answer in answers),
        sum(answer.status == 400 for answer in answers),
    )
    assert 100 == len(app.documents)


async def test_a_refusal_names_the_budget_and_when_it_begins_anew() -> None:
    """Scope, amount, period and reset; no id, and nothing of what others have spent."""
    budget = rule("0.001", "team", time_zone="Europe/Berlin")
    refused = await ask(As(layer(App(), budget), key_id="k1", team_id="team-secret"))
    assert (400, b"false") == (refused.status, refused.header("x-should-retry"))
    assert {
        "message": (
            "The budget of this team has no room for this request: the budget is 0.001 USD a "
            "month, and the request may cost up to 0.001009 USD. It begins anew at "
            "2026-12-01T00:00:00+01:00."
        ),
        "type": "budget_exceeded",
        "param": None,
        "code": "budget_exceeded",
    } == refused.json()["error"]


@pytest.mark.parametrize("status", (400, 402, 429))
async def test_the_status_of_a_refusal_is_an_option(status: Any) -> None:
    """With a 429 there is a time to come back."""
    refused = await ask(As(layer(App(), rule(0, period="day"), refusal_status=status), key_id="k1"))
    assert status == refused.status
    assert (b"43200" if status == 429 else None) == refused.header("retry-after")


@pytest.mark.parametrize(
    ("budget", "words"),
    (
        (
            rule(0, period="week"),
            "this API key has no room for this request: the budget is 0 USD a week",
        ),
        (rule(0, period="total"), "0 USD in all"),
        (rule(0, period="rolling", days=30), "0 USD in 30 days"),
        (rule(0, "user"), "this user"),
        (rule(0, "organization"), "this organization"),
        (rule(0, "model"), "this model"),
        (rule(0, "everyone"), "all callers together"),
        (rule(0, "tag", tag="job"), "requests tagged job"),
    ),
    ids=lambda value: value if isinstance(value, str) else value.scope,
)
async def test_every_scope_refuses_in_its_words(budget: BudgetRule, words: str) -> None:
    """Each of them concerns a caller who has all there is to have."""
    app = As(layer(App(), budget), key_id="k1", user_id="u1", team_id="t1", organization_id="o1")
    refused = await ask(app, {**HELLO, "metadata": {"job": "nightly"}})
    assert 400 == refused.status
    assert words in refused.json()["error"]["message"]


@pytest.mark.parametrize("scope", ("key", "user", "team", "organization", "tag"))
async def test_a_budget_does_not_concern_who_has_no_such_id(scope: Any) -> None:
    """None is not everyone: nobody shares a budget by lacking an id."""
    budget = rule(0, scope, tag="job" if scope == "tag" else None)
    assert 200 == (await ask(layer(App(), budget))).status


async def test_each_owner_has_a_budget_of_their_own() -> None:
    """What one spends is not taken from another; of a pattern all share one."""
    inside = layer(App(chat_answer(usage=usage_of(9, 100))), rule(WORST))
    for key in ("k1", "k2"):
        assert 200 == (await ask(As(inside, key_id=key))).status
        assert 400 == (await ask(As(inside, key_id=key))).status
    shared = layer(App(chat_answer(usage=usage_of(9, 100))), rule(WORST, "model", of="gpt-4*"))
    for model, status in (("gpt-4o", 200), ("gpt-4.1", 400), ("o3", 200)):
        assert status == (await ask(shared, {**HELLO, "model": model})).status


async def test_a_tags_value_has_a_budget_that_its_caller_cannot_leave() -> None:
    """The tag of the key's own metadata stands, whatever the request says."""
    inside = layer(App(chat_answer(usage=usage_of(9, 100))), rule(WORST, "tag", tag="project"))
    app = As(inside, key_id="k1", metadata={"project": "a"})
    assert 200 == (await ask(app)).status
    for metadata in ({}, {"project": "b"}, {"project": None}):
        assert 400 == (await ask(app, {**HELLO, "metadata": metadata})).status


async def test_a_callers_own_budgets_hold_besides() -> None:
    """As the directory has them; the lower of two for the same account counts."""
    own = {"k1": (rule(0),), "k2": (rule(5),)}

    def find(principal: Principal) -> Sequence[BudgetRule]:
        return own.get(principal.key_id or "", ())

    inside = layer(App(), rule(1), budgets_of=find)
    assert [400, 200, 200] == [
        (await ask(As(inside, key_id=key))).status for key in ("k1", "k2", "k3")
    ]


@pytest.mark.parametrize("own_is_hard", (False, True))
async def test_a_soft_budget_lifts_no_hard_one_of_the_same_account(own_is_hard: bool) -> None:
    """Whichever is the caller's own, and though the soft one is lower: both count, both tell."""
    told: list[BudgetAlert] = []

    async def notify(alert: BudgetAlert) -> None:
        told.append(alert)

    hard = rule("0.0011", alert_shares=(usd("0.03"),))
    soft = rule("0.00002", hard=False)
    given, own = (soft, hard) if own_is_hard else (hard, soft)
    inside = layer(App(), given, budgets_of=lambda _: (own,), notify=notify)
    statuses = [(await ask(As(inside, key_id="k1"))).status for _ in range(5)]
    assert [200, 200, 200, 200, 400] == statuses
    await until(lambda: len(told) == 2)
    assert [(usd("0.00002"), usd("1"), False), (usd("0.0011"), usd("0.03"), True)] == [
        (alert.amount_usd, alert.share, alert.hard) for alert in told
    ]


async def test_two_alike_budgets_of_an_account_tell_once() -> None:
    """As where the directory repeats what the configuration says."""
    told: list[BudgetAlert] = []

    async def notify(alert: BudgetAlert) -> None:
        told.append(alert)

    alike = rule("0.00002", hard=False)
    inside = layer(App(), alike, budgets_of=lambda _: (alike,), notify=notify)
    await ask(As(inside, key_id="k1"))
    await inside.aclose()
    assert 1 == len(told)


async def test_a_callers_own_budget_that_makes_no_sense_is_no_excuse() -> None:
    """500, and no call: it is not taken for no budget."""
    app = App()
    wrong = rule(1, time_zone="Nowhere/Else")
    inside = layer(app, budgets_of=lambda _: [wrong])
    assert 500 == (await ask(As(inside, key_id="k1"))).status
    assert [] == app.documents


async def test_all_budgets_or_none() -> None:
    """What the key's budget has room for is not held where the team's has none."""
    store, mine, ours = Watched(), rule(1), rule(0, "team")
    refused = await ask(As(layer(App(), mine, ours, budget_store=store), key_id="k1", team_id="t1"))
    assert 400 == refused.status
    assert (0, 0) == await store.of(mine, "k1")


async def test_a_soft_budget_tells_and_does_not_refuse() -> None:
    """Once, when it is passed."""
    told: list[BudgetAlert] = []

    async def notify(alert: BudgetAlert) -> None:
        told.append(alert)

    inside = layer(App(), rule("0.00005", hard=False), notify=notify)
    for _ in range(4):
        assert 200 == (await ask(As(inside, key_id="k1"))).status
    await until(lambda: told)
    (alert,) = told
    assert ("key", "k1", usd("1"), usd("0.000058")) == (
        alert.scope,
        alert.owner,
        alert.share,
        alert.spent_usd,
    )


async def test_observed_budgets_refuse_nobody_and_count() -> None:
    """The layer says how many it would have refused."""
    store, budget = Watched(), rule(0)
    inside = layer(App(), budget, budget_store=store, mode="observe", max_cost_usd=Decimal(0))
    assert 200 == (await ask(As(inside, key_id="k1"))).status
    assert 2 == inside.refusals
    assert (29_000_000, 0) == await store.of(budget, "k1")


async def test_a_store_that_is_away_lets_through_or_denies() -> None:
    """As declared; what was let through is settled when the store is back."""
    store, budget = Watched(), rule(1)
    store.fails = {"reserve", "settle"}
    inside = layer(App(), budget, budget_store=store)
    assert 200 == (await ask(As(inside, key_id="k1"))).status
    assert (1, 2) == (inside.pending, inside.store_failures)
    store.fails = set()
    await inside.aclose()
    assert (0, (29_000_000, 0)) == (inside.pending, await store.of(budget, "k1"))
    strict = layer(App(), budget, budget_store=store, on_store_error="deny")
    store.fails = {"reserve"}
    refused = await ask(As(strict, key_id="k1"))
    assert (503, "store_unavailable") == (refused.status, refused.json()["error"]["code"])


async def test_a_store_that_hangs_is_given_up_after_its_deadline() -> None:
    """And the request goes on."""
    store = Watched()
    store.hangs = {"reserve", "settle"}
    inside = layer(App(), rule(1), budget_store=store, store_timeout_seconds=0.02)
    assert 200 == (await ask(As(inside, key_id="k1"))).status
    assert 2 == inside.store_failures


async def test_b15_what_was_not_settled_is_settled_by_itself() -> None:
    """A second later, without another request."""
    store, budget = Watched(), rule(1)
    store.fails = {"settle"}
    inside = layer(App(), budget, budget_store=store)
    await ask(As(inside, key_id="k1"))
    store.fails = set()
    async with asyncio.timeout(5):
        while inside.pending:  # noqa: ASYNC110  the layer's own timer
            await asyncio.sleep(0.05)
    assert (29_000_000, 0) == await store.of(budget, "k1")


async def test_a_request_that_is_cancelled_while_it_reserves_holds_nothing() -> None:
    """Whatever the store had taken by then comes back."""
    store, budget = Watched(), rule(1)
    store.hangs = {"reserve"}
    inside = As(layer(App(), budget, budget_store=store, store_timeout_seconds=5), key_id="k1")
    task = asyncio.create_task(ask(inside))
    await until(lambda: store.calls)
    store.hangs = set()
    task.cancel()
    await asyncio.wait({task})
    assert [("reserve", to_pico(WORST)), ("settle", 0)] == store.calls
    assert (0, 0) == await store.of(budget, "k1")


class Late(Watched):
    """Reserves first, and then hangs or fails: its answer is lost."""

    async def reserve(
        self, demands: Sequence[BudgetDemand], amount: int, **options: Any
    ) -> BudgetDecision:
        decision = await self.store.reserve(demands, amount, **options)
        await self._note("reserve", amount)
        return decision


@pytest.mark.parametrize("trouble", ("cancelled", "no answer", "not written"))
async def test_what_is_not_called_holds_nothing_however_often_it_is_cancelled(trouble: str) -> None:
    """What was reserved is freed to the end, though the request is cancelled again meanwhile."""
    store, notes, budget = Late(), Notes(), rule(1)
    store.hangs = {"settle"}
    if trouble == "cancelled":
        store.hangs.add("reserve")
    elif trouble == "no answer":
        store.fails = {"reserve"}
    else:
        notes.fails = {"intend"}
    inside = layer(App(), budget, budget_store=store, journal=notes, on_store_error="deny")

    async def receive() -> Any:
        return {"type": "http.request", "body": msgspec.json.encode(HELLO), "more_body": False}

    async def send(message: Any) -> None:
        return

    scope = http_scope(headers=[(b"content-type", b"application/json")])
    task = asyncio.create_task(As(inside, key_id="k1")(scope, receive, send))
    await until(lambda: store.calls)
    if trouble == "cancelled":
        task.cancel()
    await until(lambda: ("settle", 0) in store.calls)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    store.go_on.set()
    await asyncio.wait({task})
    assert task.cancelled()
    assert (0, 0) == await store.of(budget, "k1")


async def test_a_long_call_keeps_its_reservation() -> None:
    """It is renewed as long as the call lives, and not after."""
    store, app = Watched(), Slow()
    inside = layer(app, rule(1), budget_store=store, lease_seconds=0.06)
    task = asyncio.create_task(ask(As(inside, key_id="k1")))
    await until(lambda: store.calls.count(("renew", 0)) >= 2)
    app.gate.set()
    await task
    renewals = store.calls.count(("renew", 0))
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, later.set)
    await later.wait()
    assert renewals == store.calls.count(("renew", 0))


async def test_a_journal_that_denies_gives_the_reservation_back() -> None:
    """Nothing is held for a call that is not made."""
    store, notes, budget = Watched(), Notes(), rule(1)
    notes.fails = {"intend"}
    inside = layer(App(), budget, budget_store=store, journal=notes, on_store_error="deny")
    assert 503 == (await ask(As(inside, key_id="k1"))).status
    assert (0, 0) == await store.of(budget, "k1")


@pytest.mark.parametrize("way", ("header", "field"))
async def test_a_client_can_cap_what_its_request_costs(way: str) -> None:
    """It is refused, with the figure, and the field does not go on to the provider."""
    app = App()

    async def capped(cap: Any) -> Any:
        if way == "header":
            return await ask(layer(app), headers=[(b"x-max-cost", str(cap).encode())])
        return await ask(layer(app), {**HELLO, "max_cost_usd": cap})

    refused = await capped("0.001008")
    assert (400, "max_cost_exceeded", "max_cost_usd") == (
        refused.status,
        refused.json()["error"]["code"],
        refused.json()["error"]["param"],
    )
    assert (
        "This request may cost up to 0.001009 USD, and it is to cost no more than 0.001008 USD."
        == refused.json()["error"]["message"]
    )
    assert 200 == (await capped("0.001009")).status
    assert [HELLO] == app.documents


async def test_a_cap_can_lower_the_limit_of_the_output() -> None:
    """To the last token that fits; where none does, the request is refused."""
    app = App()
    inside = layer(app, on_max_cost="clamp")
    assert 200 == (await ask(inside, {**HELLO, "max_cost_usd": "0.000509"})).status
    assert 50 == app.documents[0]["max_tokens"]
    plain = {name: value for name, value in HELLO.items() if name != "max_tokens"}
    assert 200 == (await ask(inside, {**plain, "max_cost_usd": 0.000509})).status
    assert 50 == app.documents[1]["max_completion_tokens"]
    assert 200 == (await ask(inside, {**HELLO, "n": 5, "max_cost_usd": "0.000509"})).status
    assert 10 == app.documents[2]["max_tokens"]
    assert 400 == (await ask(inside, {**HELLO, "max_cost_usd": "0.000009"})).status


async def test_the_layers_own_cap_holds_for_everybody() -> None:
    """A client can lower it, and not raise it."""
    inside = layer(App(), max_cost_usd=usd("0.001"))
    assert 400 == (await ask(inside)).status
    assert 400 == (await ask(inside, {**HELLO, "max_cost_usd": 5})).status
    assert 200 == (await ask(inside, {**HELLO, "max_tokens": 10})).status


@pytest.mark.parametrize(
    "cap", (-1, "NaN", "1e309", "Infinity", True, [], {}, "1 USD", "", 1e300, "9" * 50), ids=str
)
async def test_a_cap_that_is_no_amount_is_refused(cap: Any) -> None:
    """By name, and nothing is called."""
    app = App()
    refused = await ask(layer(app), {**HELLO, "max_cost_usd": cap})
    assert (400, "max_cost_usd") == (refused.status, refused.json()["error"]["param"])
    assert [] == app.documents


@pytest.mark.parametrize(
    "document",
    (
        {"max_tokens": -1},
        {"max_tokens": "many"},
        {"max_tokens": 1.5},
        {"n": 0},
        {"n": 10**9},
        {"n": True},
        {"max_completion_tokens": 2**40},
    ),
    ids=str,
)
async def test_b14_b15_numbers_that_would_make_a_reservation_too_small_are_refused(
    document: Any,
) -> None:
    """What is reserved is what the provider can charge, or the request is not made."""
    app = App()
    refused = await ask(layer(app, rule(1)), {**HELLO, **document})
    assert (400, next(iter(document))) == (refused.status, refused.json()["error"]["param"])
    assert [] == app.documents


@pytest.mark.parametrize(
    ("document", "amount"),
    (
        ({}, "0.001009"),
        ({"n": 3}, "0.003009"),
        ({"max_tokens": 10, "max_completion_tokens": 200}, "0.002009"),
        ({"max_tokens": 0}, "0.000009"),
        ({"max_tokens": None}, "0.001009"),
        ({"service_tier": "flex"}, "0.001009"),
        ({"prediction": {"type": "content", "content": "x" * 100}}, "0.002009"),
    ),
    ids=str,
)
async def test_the_worst_case_is_that_of_the_request(document: Any, amount: str) -> None:
    """All choices at their limit, and what is predicted and rejected."""
    store = Watched()
    inside = layer(App(), rule(1), budget_store=store, default_output_tokens=100)
    await ask(As(inside, key_id="k1"), {**HELLO, **document})
    assert ("reserve", to_pico(usd(amount))) == store.calls[0]


async def test_an_estimate_of_the_input_is_reserved_with_a_margin() -> None:
    """Four bytes a token is a rule of thumb: half as much again is held."""
    store = Watched()
    await ask(As(layer(App(), rule(1), budget_store=store, token_counter=None), key_id="k1"))
    counted = 10
    assert ("reserve", to_pico(usd("0.001")) + (int(counted * 1.5) + 1) * 10**6) == store.calls[0]


async def test_the_models_own_most_bounds_what_is_reserved() -> None:
    """Where the client names no limit, and where it names more than the model gives."""
    plain = {name: value for name, value in HELLO.items() if name != "max_tokens"}
    for document in (plain, {**HELLO, "max_tokens": 10**6}):
        store = Watched()
        inside = layer(App(), rule(1), budget_store=store, max_output_tokens={"gpt-4*": 50, "*": 7})
        await ask(As(inside, key_id="k1"), document)
        assert ("reserve", to_pico(usd("0.000509"))) == store.calls[0]


async def test_b15_a_budget_of_nothing_lets_pass_what_is_free() -> None:
    """A price of zero spends nothing, and is no unknown price."""
    inside = layer(App(), rule(0), provider="free")
    assert 200 == (await ask(As(inside, key_id="k1"))).status


async def test_the_body_is_read_once_and_handed_on_whole() -> None:
    """Nothing of a request without a cap is changed."""
    bodies: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        bodies.append(await read(receive))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    await ask(As(layer(app, rule(1)), key_id="k1"))
    assert [msgspec.json.encode(HELLO)] == bodies


@pytest.mark.parametrize(
    "fields",
    (
        {"scope": "address"},
        {"period": "year"},
        {"period": "rolling"},
        {"period": "rolling", "days": 0},
        {"days": 7},
        {"amount_usd": Decimal("-1")},
        {"amount_usd": Decimal("NaN")},
        {"amount_usd": Decimal("1e309")},
        {"amount_usd": 5},
        {"tag": "job"},
        {"scope": "tag"},
        {"scope": "everyone", "of": "x"},
        {"time_zone": "Mars/Olympus"},
        {"time_zone": "../../etc/passwd"},
        {"alert_shares": (Decimal(0),)},
        {"alert_shares": (0.5,)},
    ),
    ids=str,
)
def test_rules_that_make_no_sense_are_refused_by_name(fields: Any) -> None:
    """At construction, with the field."""
    given = {"scope": "key", "amount_usd": Decimal(1), **fields}
    with pytest.raises(Exception, match="budgets: ") as caught:
        layer(App(), BudgetRule(**given))
    assert str(getattr(caught.value, "param", "")).startswith("budgets.")


def test_two_rules_for_one_budget_are_refused() -> None:
    """Which of the amounts counts would be anybody's guess."""
    with pytest.raises(Exception, match="two for the same key and period"):
        layer(App(), rule(1), rule(2))
