"""The layer ``cost`` of a configuration: every option has its place, and every mistake too."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._cost_definitions import CostDefinition
from asgi_llm.gateway._cost_targets import CostTargets
from asgi_llm.gateway._prices import make_prices, prices_of
from asgi_llm.gateway.build import build, load_gateway
from asgi_llm.gateway.config import ConfigurationProblems, load

ECHO = "providers: {e: {type: echo}}\n"


def first_problem(tmp_path: Path, text: str) -> str:
    """The first line of the error for a file with ``text`` behind the provider's line."""
    file = tmp_path / "gateway.yaml"
    file.write_text(ECHO + text)
    with pytest.raises(ConfigurationError) as caught:
        build(load(file, environ={"HOOK": "https://user:canary@example.com/"}))
    assert "canary" not in caught.value.message
    return caught.value.message.splitlines()[0].removeprefix(f"{tmp_path}/")


CASES = {
    "an amount": (
        "stack: [{cost: {budgets: [{scope: key, amount_usd: -1}]}}]\n",
        "gateway.yaml:2:52: stack[0].cost.budgets[0].amount_usd: expected an amount of USD from 0 "
        "to 1000000000000, got '-1'",
    ),
    "an amount that is no number": (
        "stack: [{cost: {max_cost_usd: NaN}}]\n",
        "gateway.yaml:2:31: stack[0].cost.max_cost_usd: expected an amount of USD from 0 to "
        "1000000000000, got 'NaN'",
    ),
    "a missing amount": (
        "stack: [{cost: {budgets: [{scope: key}]}}]\n",
        "gateway.yaml:2:27: stack[0].cost.budgets[0].amount_usd: the key is missing",
    ),
    "a scope": (
        "stack: [{cost: {budgets: [{scope: keys, amount_usd: 1}]}}]\n",
        "gateway.yaml:2:35: stack[0].cost.budgets[0].scope: expected one of everyone, key, model, "
        "organization, tag, team, user, got 'keys'",
    ),
    "days of a month": (
        "stack: [{cost: {budgets: [{scope: key, amount_usd: 1, days: 3}]}}]\n",
        "gateway.yaml:2:55: stack[0].cost.budgets[0].days: days must be there for a rolling "
        "period, and for no other, not 3",
    ),
    "a zone": (
        "stack:\n  - cost:\n      budgets:\n"
        "        - {scope: key, amount_usd: 1}\n"
        "        - {scope: user, amount_usd: 1, time_zone: Middle/Earth}\n",
        "gateway.yaml:6:40: stack[0].cost.budgets[1].time_zone: time_zone must be a name such as "
        "Europe/Berlin, not 'Middle/Earth'",
    ),
    "two for the same": (
        "stack: [{cost: {budgets: [{scope: key, amount_usd: 1}, {scope: key, amount_usd: 2}]}}]\n",
        "gateway.yaml:2:17: stack[0].cost.budgets: there are two for the same key and period",
    ),
    "a share": (
        "stack: [{cost: {alert_shares: [0.5, 0]}}]\n",
        "gateway.yaml:2:37: stack[0].cost.alert_shares[1]: expected a share above 0 to 10",
    ),
    "a status": (
        "stack: [{cost: {refusal_status: 403}}]\n",
        "gateway.yaml:2:33: stack[0].cost.refusal_status: expected one of 400, 402, 429, got '403'",
    ),
    "a price, whose model has a dot": (
        "stack:\n  - cost:\n      prices:\n        overrides:\n          openai:\n"
        "            gpt-4.1:\n              inputs: 2\n",
        "gateway.yaml:8:15: stack[0].cost.prices.overrides.openai.gpt-4.1.inputs: no such key; "
        "did you mean input?",
    ),
    "a price file": (
        "stack: [{cost: {prices: {litellm_file: /nowhere/prices.json}}}]\n",
        "gateway.yaml:2:26: stack[0].cost.prices.litellm_file: the file cannot be read: "
        "No such file or directory",
    ),
    "a price that stands in": (
        "stack: [{cost: {unknown_price: often}}]\n",
        "gateway.yaml:2:17: stack[0].cost.unknown_price: unknown_price must be flag, block, ",
    ),
    "a drain": (
        "stack: [{cost: {drain_up_to_seconds: 3}}]\n",
        "gateway.yaml:2:17: stack[0].cost.drain_up_to_seconds: it is for on_disconnect: drain, "
        "and the layer cancels",
    ),
    "a webhook with a password": (
        "stack: [{cost: {webhooks: [{url: '${HOOK}'}]}}]\n",
        "gateway.yaml:2:29: stack[0].cost.webhooks[0].url: the URL holds a user name or a password",
    ),
    "a webhook in the open": (
        "stack: [{cost: {webhooks: [{url: 'http://example.com/'}]}}]\n",
        "gateway.yaml:2:29: stack[0].cost.webhooks[0].url: the URL has to begin with https://",
    ),
    "a weak secret": (
        "stack: [{cost: {webhooks: [{url: 'https://example.com/', secret: s}]}}]\n",
        "gateway.yaml:2:58: stack[0].cost.webhooks[0].secret: secret must have at least 16 "
        "characters",
    ),
    "Redis that is not there": (
        "stack: [{cost: {budget_store: redis}}]\n",
        "gateway.yaml:2:17: stack[0].cost.budget_store: redis needs storage.redis",
    ),
    "a stream without Redis": (
        "stack: [{cost: {ledger: {delivery: redis}}}]\n",
        "gateway.yaml:2:26: stack[0].cost.ledger.delivery: redis needs storage.redis",
    ),
    "memory of several workers": (
        "server: {workers: 4}\nstack: [{cost: {budget_store: memory}}]\n",
        "gateway.yaml:3:17: stack[0].cost.budget_store: memory is one process's own, and there "
        "are 4 workers",
    ),
    "rows that outlive their sums": (
        "stack: [{cost: {ledger: {retention_days: 90, sums_retention_days: 30}}}]\n",
        "gateway.yaml:2:46: stack[0].cost.ledger.sums_retention_days: rows cannot outlive the sums",
    ),
    "a journal": (
        "stack: [{cost: {journal: {fsync: sometimes}}}]\n",
        "gateway.yaml:2:34: stack[0].cost.journal.fsync: expected one of always, group, never",
    ),
    "a margin": (
        "stack: [{cost: {input_margin: 0.5}}]\n",
        "gateway.yaml:2:31: stack[0].cost.input_margin: expected a number from 1 to 100",
    ),
    "two layers": (
        "stack: [cost, cost]\n",
        "gateway.yaml:2:15: stack[1].cost: one layer cost is enough: two would count every call "
        "twice",
    ),
    "the database": (
        "storage: {database: 'mysql://u:canary@h/d'}\nstack: [cost]\n",
        "gateway.yaml:2:11: storage.database: database: not a URL of the form ",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_mistake_has_its_place(tmp_path: Path, name: str) -> None:
    """File, line, column and key path, and no secret."""
    text, expected = CASES[name]
    assert first_problem(tmp_path, text)[: len(expected)] == expected


def test_amounts_are_what_is_written(tmp_path: Path) -> None:
    """0.1 is a tenth, however it is written; no binary fraction comes in between."""
    written = {"0.1": Decimal("0.1"), "'0.10'": Decimal("0.10"), "1e-7": Decimal("1E-7")}
    for text, amount in written.items():
        file = tmp_path / "gateway.yaml"
        file.write_text(ECHO + f"stack: [{{cost: {{max_cost_usd: {text}}}}}]\n")
        (layer,) = load(file, environ={}).configuration.stack
        assert isinstance(layer, CostDefinition)
        assert amount == layer.max_cost_usd
    (layer,) = load(
        {
            "providers": {"e": {"type": "echo"}},
            "stack": [{"cost": {"max_cost_usd": 0.1, "refusal_status": 402}}],
        }
    ).configuration.stack
    assert isinstance(layer, CostDefinition)
    assert (Decimal("0.1"), 402) == (layer.max_cost_usd, layer.refusal_status)


def test_every_option_reaches_the_layer(tmp_path: Path) -> None:
    """All of them together, each away from its default."""
    prices = tmp_path / "prices.json"
    prices.write_text('{"m": {"litellm_provider": "openai", "input_cost_per_token": 1e-6}}')
    cost = {
        "prices": {
            "overrides": {"e": {"echo": {"input": 1, "output": "2"}}},
            "litellm_file": str(prices),
            "genai_prices": False,
        },
        "unknown_price": {"input": 1, "output": 2},
        "ledger": {"retention_days": 30, "sums_retention_days": 400, "upkeep_seconds": 60},
        "journal": {"folder": str(tmp_path / "j"), "fsync": "always"},
        "budgets": [
            {
                "scope": "tag",
                "tag": "project",
                "of": "a*",
                "amount_usd": 5,
                "period": "rolling",
                "days": 7,
                "hard": False,
                "alert_shares": [0.5],
            },
            {"scope": "everyone", "amount_usd": 100, "time_zone": "Europe/Berlin"},
        ],
        "budget_store": "memory",
        "alert_shares": [0.9],
        "webhooks": [{"url": "https://hooks.example.com/x", "secret": "0123456789abcdef"}],
        "max_cost_usd": 1,
        "on_max_cost": "clamp",
        "refusal_status": 429,
        "on_disconnect": "drain",
        "drain_up_to_seconds": 5,
        "on_store_error": "deny",
        "store_timeout_seconds": 1,
        "tell_cost": False,
        "tag_names": ["project"],
        "default_output_tokens": 10,
        "max_output_tokens": {"gpt-4.1*": 20},
        "service_tiers": [],
        "input_margin": 2,
        "lease_seconds": 5,
        "mode": "observe",
    }
    load_gateway(
        {
            "providers": {"e": {"type": "echo"}},
            "storage": {"database": f"sqlite:///{tmp_path}/g.db"},
            "stack": [{"cost": cost}],
        }
    )
    # Nothing is opened before it is used.
    assert ["prices.json"] == [path.name for path in tmp_path.iterdir()]


def targets_of(**configuration: Any) -> CostTargets:
    return CostTargets(load(configuration).configuration)


PROVIDERS = {
    "main": {"type": "openai", "api_key": "k"},
    "spare": {"type": "anthropic", "api_key": "k"},
    "mine": {"type": "vllm", "base_url": "http://127.0.0.1:1/v1", "models": ["qwen"]},
}


def test_an_alias_may_be_served_at_all_its_targets_and_fallbacks() -> None:
    """The first is where it is as a rule; a ring of fallbacks ends."""
    targets = targets_of(
        providers=PROVIDERS,
        models={
            "fast": {
                "targets": [
                    {"provider": "main", "model": "gpt-4o-mini"},
                    {"provider": "mine", "model": "qwen"},
                ],
                "fallbacks": ["careful", "mine/other"],
            },
            "careful": {
                "targets": [{"provider": "spare", "model": "claude"}],
                "fallbacks": ["fast"],
            },
        },
    )
    found = [(one.provider, one.model) for one in targets("fast")]
    assert [
        ("main", "gpt-4o-mini"),
        ("mine", "qwen"),
        ("spare", "claude"),
        ("mine", "other"),
    ] == found
    (named,) = targets("mine/qwen")
    assert ("vllm", "http://127.0.0.1:1/v1") == (named.provider_type, named.base_url)
    # With aliases a bare name is one of them, or nothing.
    assert () == targets("gpt-4o")


def test_a_bare_name_is_served_by_whoever_lists_it_or_may_know_it() -> None:
    """Where there are no aliases."""
    targets = targets_of(providers=PROVIDERS)
    assert [("mine", "qwen")] == [(one.provider, one.model) for one in targets("qwen")]
    assert ["main", "spare", "mine"] == [one.provider for one in targets("gpt-4o")]


def test_the_offline_provider_is_free_and_a_namesake_is_not() -> None:
    """It calls nobody; a provider that is only named like it has prices of its type."""
    mapping = {"providers": {"e": {"type": "echo"}}, "stack": [{"cost": {}}]}
    prices = make_prices(prices_of(load(mapping).configuration))
    free = prices.find("e", "any", provider_type="echo")
    assert free is not None
    (row,) = free.rows
    assert ("asgi-llm", "echo/*") == (row.source.table, row.source.row)
    assert prices.find("echo", "no-such-model", provider_type="openai") is None


def test_a_layer_that_cannot_know_who_calls_is_noted() -> None:
    """It stands outside of authentication; nothing is said of one inside."""
    auth = {"auth": {"keys": [{"name": "a", "key": "sk-7f3b9c2e8a1d4560"}], "database": False}}
    noted = {}
    for stack in ((auth, "cost"), ("cost", auth)):
        loaded = load({"providers": {"e": {"type": "echo"}}, "stack": list(stack)})
        noted[stack[0] == "cost"] = loaded.notes
    assert () == noted[False]
    assert (
        "stack[0].cost: stands outside of auth, and does not know who is calling: "
        "put it after auth",
    ) == noted[True]


def test_all_mistakes_of_the_definition_come_at_once() -> None:
    """Those that need no other part to be seen."""
    with pytest.raises(ConfigurationProblems) as caught:
        load(
            {
                "providers": {"e": {"type": "echo"}},
                "stack": [{"cost": {"refusal_status": 1, "budgets": [{"scope": 1}], "mod": 1}}],
            }
        )
    assert [
        "stack[0].cost.refusal_status",
        "stack[0].cost.budgets[0].scope",
        "stack[0].cost.budgets[0].amount_usd",
        "stack[0].cost.mod",
    ] == [problem.path for problem in caught.value.problems]
