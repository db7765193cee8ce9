"""Alerts: raised once for each share that is reached, logged, and posted with a signature."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import hmac
import logging
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from asgi_llm.errors import ConfigurationError, RawHeaders, StoreError
from asgi_llm.middleware.cost import BudgetAlert, CostMiddleware, SignedWebhook
from asgi_llm.stores.budgets import BudgetRule
from tests.middleware.cost.conftest import PRICES, App, As, NineTokens, ask, until, usd

SECRET = "a secret of some length"
ALERT = BudgetAlert(
    scope="team",
    owner="team_1",
    tag=None,
    period="month",
    share=Decimal("0.8"),
    amount_usd=Decimal("50"),
    spent_usd=Decimal("40.0123456"),
    hard=True,
    at=datetime.datetime(2026, 11, 21, 12, 0, tzinfo=datetime.UTC),
)


class Posted:
    """Takes posts, and answers with what it is told to: a status, or an exception to raise."""

    def __init__(self, *answers: int | Exception) -> None:
        self.answers = list(answers)
        self.posts: list[tuple[str, RawHeaders, bytes]] = []

    async def __call__(self, url: str, *, headers: RawHeaders, body: bytes) -> int:
        self.posts.append((url, headers, body))
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        return answer


def layer(told: list[BudgetAlert], *budgets: BudgetRule) -> CostMiddleware:
    async def notify(alert: BudgetAlert) -> None:
        told.append(alert)

    return CostMiddleware(
        App(), prices=PRICES, token_counter=NineTokens(), budgets=budgets, notify=notify
    )


def rule(amount: str, *shares: str, **fields: Any) -> BudgetRule:
    given: dict[str, Any] = {"scope": "key", "amount_usd": Decimal(amount), **fields}
    return BudgetRule(alert_shares=tuple(map(Decimal, shares)), **given)


async def test_each_share_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Calls of 29 millionths against 0.01 USD pass a tenth, then a fifth; at no other call."""
    told: list[BudgetAlert] = []
    inside = As(layer(told, rule("0.01", "0.2", "0.1", "0.9")), key_id="k1")
    shares = []
    with caplog.at_level(logging.WARNING, logger="asgi_llm.middleware.cost"):
        for _ in range(100):
            await ask(inside)
            await asyncio.sleep(0)
            shares.append([alert.share for alert in told])
    assert [usd("0.1"), usd("0.2")] == shares[-1]
    assert [] == shares[33]
    assert [usd("0.1")] == shares[34] == shares[67]
    assert (usd("0.001015"), "k1") == (told[0].spent_usd, told[0].owner)
    assert [
        "10 % of the budget of key k1 is spent: 0 of 0.01 USD (month)",
        "20 % of the budget of key k1 is spent: 0 of 0.01 USD (month)",
    ] == [record.getMessage() for record in caplog.records]


async def test_one_call_can_reach_several_shares() -> None:
    """Each of them is told."""
    told: list[BudgetAlert] = []
    given: list[BudgetRule] = [rule("0.002", "0.005", "0.01")]
    await ask(As(layer(told, *given), key_id="k1"))
    await until(lambda: len(told) == 2)
    assert [usd("0.005"), usd("0.01")] == sorted(alert.share for alert in told)


async def test_whoever_fails_to_tell_fails_no_request(caplog: pytest.LogCaptureFixture) -> None:
    """The failure is logged by its kind alone: the address of a webhook can be a secret."""

    async def notify(alert: BudgetAlert) -> None:
        raise RuntimeError("https://hooks.example/secret")

    inside = CostMiddleware(
        App(),
        prices=PRICES,
        token_counter=NineTokens(),
        budgets=[rule("0.002", "0.01")],
        notify=notify,
    )
    assert 200 == (await ask(As(inside, key_id="k1"))).status
    await until(lambda: len(caplog.records) == 2)
    assert "nobody was told of an alert: RuntimeError" == caplog.records[1].getMessage()


async def test_a_slow_webhook_keeps_no_client_waiting() -> None:
    """And is given up when the layer is closed."""
    begun = asyncio.Event()

    async def notify(alert: BudgetAlert) -> None:
        begun.set()
        await asyncio.Event().wait()

    inside = CostMiddleware(
        App(),
        prices=PRICES,
        token_counter=NineTokens(),
        budgets=[rule("0.002", "0.01")],
        notify=notify,
    )
    assert 200 == (await ask(As(inside, key_id="k1"))).status
    await begun.wait()
    async with asyncio.timeout(5):
        await inside.aclose()


async def test_b36_a_webhook_is_signed_with_its_time() -> None:
    """Whoever has the secret can tell that it is ours, and how old it is."""
    posted = Posted()
    await SignedWebhook(
        "https://hooks.example/budgets",
        secret=SECRET,
        post=posted,
        wall_clock=lambda: 1_800_000_000.9,
    )(ALERT)
    ((url, headers, body),) = posted.posts
    assert "https://hooks.example/budgets" == url
    signature = hmac.new(SECRET.encode(), b"1800000000." + body, hashlib.sha256).hexdigest()
    assert f"t=1800000000,v1={signature}".encode() == dict(headers)[b"x-signature"]
    document = msgspec.json.decode(body)
    assert "80 % of the budget of team team_1 is spent: 40.01 of 50 USD (month)" == document["text"]
    assert {
        "scope": "team",
        "owner": "team_1",
        "tag": None,
        "period": "month",
        "share": "0.8",
        "amount_usd": "50",
        "spent_usd": "40.0123456",
        "hard": True,
        "at": "2026-11-21T12:00:00Z",
    } == document["budget"]


async def test_b36_a_webhook_that_does_not_answer_is_asked_again() -> None:
    """With a wait that doubles up to its cap, and is cut at random; each attempt is signed anew."""
    posted = Posted(500, OSError("no"), 429, 503, 200)
    waits: list[float] = []
    now = iter(range(100))

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    await SignedWebhook(
        "https://hooks.example/",
        secret=SECRET,
        post=posted,
        base_delay_seconds=2.0,
        max_delay_seconds=5.0,
        sleep=sleep,
        draw=lambda: 0.5,
        wall_clock=lambda: float(next(now)),
    )(ALERT)
    assert [1.5, 3.0, 3.75, 3.75] == waits
    assert 5 == len({dict(headers)[b"x-signature"] for _, headers, _ in posted.posts})
    assert 1 == len({msgspec.json.decode(body)["id"] for _, _, body in posted.posts})


@pytest.mark.parametrize(("answers", "posts"), (([404], 1), ([301], 1), ([500] * 3, 3)))
async def test_b36_a_webhook_is_given_up(answers: list[int], posts: int) -> None:
    """At once where asking again is of no use, else after its attempts."""
    posted = Posted(*answers)

    async def sleep(seconds: float) -> None:
        return

    webhook = SignedWebhook(
        "https://hooks.example/", secret=SECRET, post=posted, max_attempts=3, sleep=sleep
    )
    with pytest.raises(StoreError):
        await webhook(ALERT)
    assert posts == len(posted.posts)


@pytest.mark.parametrize(
    "options",
    (
        {"url": "ftp://hooks.example/"},
        {"secret": "short"},
        {"max_attempts": 0},
        {"base_delay_seconds": 0},
        {"max_delay_seconds": float("inf")},
    ),
    ids=str,
)
def test_wrong_options_are_refused_by_name(options: dict[str, Any]) -> None:
    """At construction."""
    given = {"url": "https://hooks.example/", "secret": SECRET, "post": Posted(), **options}
    with pytest.raises(ConfigurationError) as caught:
        SignedWebhook(given.pop("url"), **given)
    assert next(iter(options)) == caught.value.param
