"""The tables that prices are read from: each figure as its table means it, each name by a rule."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from genai_prices import types as genai_types
from genai_prices.data import providers as genai_providers

from asgi_llm.errors import ConfigurationError
from asgi_llm.pricing import CompiledPrice, GenAIPrices, LiteLLMPrices, PriceTable, load_prices
from asgi_llm.pricing.names import model_names, split_model
from asgi_llm.types import Usage
from asgi_llm.wire.usage import usage_from_openai
from tests.pricing.strategies import AT

SMALL = Usage(
    input_uncached=1003, input_cached=211, cache_write_5m=57, cache_write_1h=13, output_text=307
)
LARGE = Usage(input_uncached=300_001, input_cached=4000, cache_write_5m=11, output_text=99)
TIMES = (
    datetime(2025, 1, 1, 12, tzinfo=UTC),
    datetime(2026, 8, 17, tzinfo=UTC),
    datetime(2026, 10, 13, 2, tzinfo=UTC),
    AT,
    datetime(2027, 2, 1, 9, 59, tzinfo=UTC),
)
BY_TOKENS = {
    "input_mtok",
    "output_mtok",
    "cache_read_mtok",
    "cache_write_mtok",
    "cache_write_1h_mtok",
    # Of these the usages have none.
    "input_audio_mtok",
    "output_audio_mtok",
    "cache_audio_read_mtok",
    "input_image_mtok",
    "output_image_mtok",
    "cache_image_read_mtok",
    "input_video_mtok",
    "output_video_mtok",
    "output_reasoning_mtok",
    "output_citation_mtok",
    "web_searches_kcount",
    "storage_searches_kcount",
}


def theirs(model: Any, usage: Usage, at: datetime, context: dict[str, str] | None) -> Decimal:
    """The bill by the package's own arithmetic."""
    given = genai_types.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.input_cached,
        cache_write_tokens=usage.cache_write_5m + usage.cache_write_1h,
        cache_write_1h_tokens=usage.cache_write_1h,
    )
    return Decimal(model.get_prices(at, context).calc_price(given)["total_price"])


def by_tokens() -> Iterator[tuple[Any, Any]]:
    """Models whose prices are all by tokens, for input and output."""
    for provider in genai_providers:
        for model in provider.models:
            prices = (
                [model.prices]
                if not isinstance(model.prices, list)
                else [one.prices for one in model.prices]
            )
            fields = [
                {name for name, value in one.__dict__.items() if value is not None}
                for one in prices
            ]
            if all({"input_mtok", "output_mtok"} <= one <= BY_TOKENS for one in fields):
                yield provider, model


def test_every_model_of_genai_prices_costs_what_it_says_itself() -> None:
    """All providers, days, hours, sizes and service tiers, by the package's own arithmetic."""
    table = GenAIPrices()
    checked = 0
    for provider, model in by_tokens():
        price = CompiledPrice(table._rows(provider, model))
        contexts: list[tuple[str | None, dict[str, str] | None]] = [(None, None)]
        for variant in model.price_variants or ():
            ((word, value),) = variant.when.items()
            if word in ("service_tier", "processing", "speed"):
                contexts.append((value, {word: value}))
        for at in TIMES:
            for tier, context in contexts:
                for usage in (SMALL, LARGE):
                    cost = price.cost(usage, at=at, service_tier=tier)
                    assert theirs(model, usage, at, context) == cost.amount_usd, (model.id, at)
                    checked += 1
    assert checked > 10_000


def test_a_row_names_its_table_its_release_and_its_first_day() -> None:
    """What is charged can be found again."""
    price = load_prices().find("openai", "o3")
    assert price is not None
    row = price.row(datetime(2025, 7, 1, tzinfo=UTC))
    assert row is not None
    assert ("genai-prices", version("genai-prices"), "openai/o3", date(2025, 6, 10)) == (
        row.source.table,
        row.source.version,
        row.source.row,
        row.source.effective,
    )


def test_a_model_of_another_maker_is_charged_by_its_makers_row() -> None:
    """Azure's table falls back to OpenAI's, and the cost says so."""
    price = load_prices().find("azure", "gpt-4o")
    assert price is not None
    assert "openai/gpt-4o" == price.rows[0].source.row


def test_the_pricing_package_imports_no_optional_package() -> None:
    """Until a table is made."""
    code = "import sys, asgi_llm.pricing; print([m for m in sys.modules if 'genai_prices' in m])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "[]" == done.stdout.strip()


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("gpt-4o", ["gpt-4o"]),
        ("GPT-4o", ["GPT-4o", "gpt-4o"]),
        ("gpt-4o-2024-08-06", ["gpt-4o-2024-08-06", "gpt-4o"]),
        ("claude-sonnet-4-5-20250929", ["claude-sonnet-4-5-20250929", "claude-sonnet-4-5"]),
        ("claude-x@20250929", ["claude-x@20250929", "claude-x-20250929", "claude-x"]),
        ("claude-x@default", ["claude-x@default", "claude-x"]),
        ("models/gemini-x", ["models/gemini-x", "gemini-x"]),
        (
            "projects/p/locations/eu/publishers/google/models/gemini-x",
            ["projects/p/locations/eu/publishers/google/models/gemini-x", "gemini-x"],
        ),
        ("us.anthropic.claude-x-v1:0", ["us.anthropic.claude-x-v1:0", "anthropic.claude-x-v1:0"]),
        ("global.openai.gpt-x", ["global.openai.gpt-x", "openai.gpt-x"]),
        (
            "arn:aws:bedrock:us-east-1:123:inference-profile/us.anthropic.claude-x",
            [
                "arn:aws:bedrock:us-east-1:123:inference-profile/us.anthropic.claude-x",
                "us.anthropic.claude-x",
                "anthropic.claude-x",
            ],
        ),
        ("gpt-4-0613", ["gpt-4-0613"]),
        ("us.house", ["us.house"]),
        ("minimax/minimax-m2:free", ["minimax/minimax-m2:free"]),
    ],
)
def test_a_name_is_looked_for_by_the_stated_rules_alone(model: str, names: list[str]) -> None:
    """The nearest to what was written first; nothing else is tried."""
    assert names == [name for name, _ in model_names(model)]


def test_a_provider_before_a_slash_is_one_that_is_known() -> None:
    """A maker's name before a model is no provider."""
    assert ("openai", "gpt-4o") == split_model("openai/gpt-4o")
    assert split_model("meta-llama/Llama-3.3-70B") is None
    assert split_model("openai/") is None


def test_a_base_model_names_the_tables_model() -> None:
    """Of the same provider, or of another; the deployment's own name is then not asked for."""
    table = load_prices()

    def row(*place: str, **options: Any) -> str | None:
        price = table.find(*place, **options)
        return None if price is None else price.rows[0].source.row

    assert row("azure", "my-deployment") is None
    assert "openai/gpt-4o" == row("azure", "my-deployment", base_model="gpt-4o")
    assert "openai/gpt-4o" == row("local", "gpt-5", base_model="openai/gpt-4o")
    assert row("openai", "gpt-4o", base_model="no-such-model") is None
    assert "anthropic/claude-opus-4-7" == row("mine", "claude-opus-4-7", provider_type="anthropic")
    assert "openai/gpt-4o" == row("litellm", "openai/gpt-4o")


def test_an_endpoint_of_another_is_priced_by_its_address() -> None:
    """A local server that speaks OpenAI's format has no prices of OpenAI's."""
    table = load_prices()
    assert table.find("openai", "gpt-4o", base_url="http://127.0.0.1:8000/v1") is None
    groq = table.find("openai", "openai/gpt-oss-120b", base_url="https://api.groq.com/openai/v1")
    assert groq is not None
    assert "groq/openai/gpt-oss-120b" == groq.rows[0].source.row


def test_an_unknown_model_has_no_price() -> None:
    """None is a state of its own; so is a row of the table that states nothing."""
    table = load_prices()
    for provider, model in (
        ("openai", "gpt-99"),
        ("nobody", "gpt-4o"),
        ("mistral", "mistral-small-24b-instruct-2501:free"),
    ):
        assert table.find(provider, model) is None


def test_the_overrides_come_first_then_the_file_then_the_package() -> None:
    """And each is passed over on a day when it has no row in force."""
    table = load_prices(
        overrides={"openai": {"gpt-4o": {"input": 7, "valid_to": "2026-10-01"}}},
        litellm=price_file({"gpt-4o-mini": {"input_cost_per_token": 8e-06}}),
    )

    def source(model: str, at: datetime) -> str | None:
        price = table.find("openai", model)
        row = price.row(at) if price is not None else None
        return row.source.table if row is not None else None

    before, after = datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
    assert ["overrides", "genai-prices", "litellm", "genai-prices"] == [
        source("gpt-4o", before),
        source("gpt-4o", after),
        source("gpt-4o-mini", after),
        source("o3", after),
    ]


def test_an_explanation_names_every_place_and_every_row() -> None:
    """And why each of them counts or not."""
    table = load_prices(
        overrides={
            "openai": {
                "o3": [
                    {"input": 9, "valid_from": "2027-01-01"},
                    {"input": 8, "valid_to": "2026-01-01"},
                    {"input": 7, "hours": "01:00-02:00"},
                ]
            }
        }
    )
    explained = table.explain("openai", "o3", at=AT)
    assert [("overrides", "o3"), ("overrides", "*"), ("genai-prices", "o3")] == [
        (place.table, place.model) for place in explained.consulted
    ]
    reasons = [(row.row.source.table, row.chosen, row.reason) for row in explained.rows]
    assert [
        ("overrides", False, "it holds from 01:00 to 02:00 UTC"),
        ("overrides", False, "it begins on 2027-01-01"),
        ("overrides", False, "it ended on 2026-01-01"),
        ("genai-prices", True, "the first row in force"),
    ] == reasons[:4]
    assert {(False, "an earlier row counts")} == {(chosen, why) for _, chosen, why in reasons[4:]}
    assert explained.chosen is explained.rows[3].row


def test_an_explanation_of_nothing_says_where_nothing_was() -> None:
    """An unknown model has been looked for too."""
    explained = load_prices().explain("openai", "gpt-99", at=AT)
    assert (None, ()) == (explained.chosen, explained.rows)
    assert [None, None, None] == [place.rule for place in explained.consulted]


def test_compiled_prices_are_kept_and_bounded() -> None:
    """The same one for the same model; names that clients make up do not pile up."""
    table = PriceTable(overrides={"p": {"m": {"input": 1}}})
    assert table.find("p", "m") is table.find("p", "m")
    for n in range(5000):
        assert table.find("p", f"unknown-{n}") is None
    assert 4096 == len(table._compiled)


def price_file(entries: dict[str, Any], provider: str = "openai") -> bytes:
    """A file in LiteLLM's format."""
    return json.dumps(
        {
            name: {"litellm_provider": provider, "mode": "chat", **one}
            for name, one in entries.items()
        }
    ).encode()


def bill(
    entries: dict[str, Any], provider: str, model: str, usage: Usage, tier: str | None = None
) -> Decimal | None:
    """What a usage costs by one entry of a file."""
    table = PriceTable(tables=[LiteLLMPrices(json.dumps(entries).encode())])
    price = table.find(provider, model)
    return None if price is None else price.cost(usage, at=AT, service_tier=tier).amount_usd


GPT_55 = {
    "litellm_provider": "openai",
    "mode": "chat",
    "input_cost_per_token": 5e-06,
    "input_cost_per_token_above_272k_tokens": 1e-05,
    "input_cost_per_token_above_272k_tokens_flex": 5e-06,
    "input_cost_per_token_batches": 2.5e-06,
    "input_cost_per_token_flex": 2.5e-06,
    "input_cost_per_token_priority": 1.25e-05,
    "cache_read_input_token_cost": 5e-07,
    "cache_read_input_token_cost_above_272k_tokens": 1e-06,
    "output_cost_per_token": 3e-05,
    "output_cost_per_token_above_272k_tokens": 4.5e-05,
    "output_cost_per_token_priority": 7.5e-05,
    "max_input_tokens": 1050000,
    "supports_vision": True,
}


@pytest.mark.parametrize(
    ("usage", "tier", "expected"),
    [
        (Usage(input_uncached=100, input_cached=200, output_text=10), None, "0.0009"),
        (Usage(input_uncached=100, input_cached=272_000, output_text=10), None, "0.27345"),
        (Usage(input_uncached=300_000, output_text=10), "priority", "3.75075"),
        (Usage(input_uncached=300_000, output_text=10), "flex", "1.50045"),
        (Usage(input_uncached=1000, output_text=10), "batch", "0.0028"),
    ],
)
def test_a_file_of_litellms_is_read_as_it_is_written(
    usage: Usage, tier: str | None, expected: str
) -> None:
    """Tiers of size and service, caches and batches, without a binary tail."""
    assert Decimal(expected) == bill({"gpt-5.5": GPT_55}, "openai", "gpt-5.5", usage, tier)


def test_what_a_file_calls_a_model_is_found_by_the_providers_name_for_it() -> None:
    """Its keys begin with a word for the provider, or not."""
    usage = Usage(input_uncached=1_000_000)
    one = {"input_cost_per_token": 1e-06}
    entries = {
        "azure/gpt-4o": {"litellm_provider": "azure", **one},
        "gemini/gemini-2.5-pro": {"litellm_provider": "gemini", **one},
        "together_ai/openai/gpt-oss-20b": {"litellm_provider": "together_ai", **one},
        "vertex_ai/claude-x@20250929": {"litellm_provider": "vertex_ai-anthropic_models", **one},
        "bedrock/us-east-1/anthropic.claude-y": {"litellm_provider": "bedrock", **one},
        "anthropic.claude-x-v1:0": {"litellm_provider": "bedrock_converse", **one},
        "sample_spec": {"litellm_provider": "one of many", "input_cost_per_token": 0.0},
        "nobody's": one,
    }
    for provider, model in (
        ("azure", "gpt-4o"),
        ("azure", "gpt-4o-2024-08-06"),
        ("gemini", "models/gemini-2.5-pro"),
        ("together_ai", "openai/gpt-oss-20b"),
        ("vertex", "claude-x@20250929"),
        ("bedrock", "eu.anthropic.claude-x-v1:0"),
        ("bedrock", "us-east-1/anthropic.claude-y"),
    ):
        assert Decimal(1) == bill(entries, provider, model, usage), model
    for provider, model in (("openai", "gpt-4o"), ("openai", "sample_spec"), ("x", "nobody's")):
        assert bill(entries, provider, model, usage) is None


def test_xais_larger_sizes_begin_at_their_threshold() -> None:
    """Others' begin above it."""
    one = {"input_cost_per_token": 1e-06, "input_cost_per_token_above_200k_tokens": 2e-06}
    at = Usage(input_uncached=200_000)
    assert [Decimal("0.4"), Decimal("0.2")] == [
        bill({"m": {"litellm_provider": word, **one}}, provider, "m", at)
        for word, provider in (("xai", "x_ai"), ("openai", "openai"))
    ]


def test_a_file_that_bills_by_units_is_read_so() -> None:
    """Where it prices tokens as well, for the same thing, the tokens count."""
    entries = {
        "whisper": {
            "mode": "audio_transcription",
            "input_cost_per_second": 0.0001,
            "output_cost_per_second": 0.0001,
        },
        "tts": {"mode": "audio_speech", "input_cost_per_character": 1.5e-05},
        "rerank": {"mode": "rerank", "input_cost_per_query": 0.002, "input_cost_per_token": 0.0},
        "dalle": {"mode": "image_generation", "output_cost_per_image": 0.04},
        "banana": {
            "mode": "image_generation",
            "output_cost_per_image": 0.039,
            "output_cost_per_image_token": 3e-05,
            "input_cost_per_token": 3e-07,
        },
        "chat": {
            "input_cost_per_token": 1e-06,
            "input_cost_per_request": 0.005,
            "search_context_cost_per_query": {"search_context_size_low": 0.005, "b": 0.012},
        },
    }
    file = LiteLLMPrices(price_file(entries))
    stated = {}
    for name in entries:
        found = file.find("openai", name)
        assert found is not None
        rates = found[1][0].standard.rates
        stated[name] = {
            field: str(value.normalize())
            for field in rates.__struct_fields__
            if isinstance(value := getattr(rates, field), Decimal) and field.startswith("per_")
        }
    assert {
        "whisper": {"per_audio_hour": "0.36"},
        "tts": {"per_million_characters": "15"},
        "rerank": {"per_thousand_searches": "2"},
        "dalle": {"per_image": "0.04"},
        "banana": {},
        "chat": {"per_request": "0.005", "per_thousand_web_searches": "12"},
    } == stated


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (b"{", "litellm"),
        (b"[]", "litellm"),
        (b'{"m": 1}', "litellm.m"),
        (b'{"m": {"input_cost_per_token": -1}}', "litellm.m.input_cost_per_token"),
        (b'{"m": {"output_cost_per_token": "x"}}', "litellm.m.output_cost_per_token"),
        (b'{"m": {"input_cost_per_token_batches": 1e999}}', "litellm.m.input_cost_per_token"),
    ],
)
def test_a_wrong_file_is_refused_as_a_whole(data: bytes, key: str) -> None:
    """With the entry and the field that are wrong."""
    with pytest.raises(ConfigurationError) as caught:
        LiteLLMPrices(data)
    assert key == caught.value.param


def test_null_and_nothing_in_a_file_are_no_price() -> None:
    """Zero is one."""
    usage = Usage(input_uncached=5)
    null = {"m": {"litellm_provider": "openai", "input_cost_per_token": None}}
    nothing = {"m": {"litellm_provider": "openai", "mode": "chat"}}
    zero = {"m": {"litellm_provider": "openai", "input_cost_per_token": 0}}
    assert [None, None, Decimal(0)] == [
        bill(entries, "openai", "m", usage) for entries in (null, nothing, zero)
    ]


def recorded_bills(folder: Path) -> Iterator[tuple[str, str, dict[str, Any], Decimal]]:
    """Provider, model, usage and what the provider itself charged, of recorded answers."""
    for name, provider in (("xai.responses", "x_ai"), ("openrouter.chat", "openrouter")):
        for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            for answer in answers(json.loads(line, parse_float=Decimal).get("response")):
                usage = answer.get("usage")
                if not isinstance(usage, dict) or "model" not in answer:
                    continue
                if "cost_in_usd_ticks" in usage:
                    charged = Decimal(usage["cost_in_usd_ticks"]) / 10**10
                elif usage.get("is_byok") is False and not usage.get("server_tool_use_details"):
                    charged = Decimal(usage["cost"])
                else:
                    continue
                yield provider, answer["model"], usage, charged


def answers(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of an exchange, those in its events too."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            yield one
            left += one.values()
        elif isinstance(one, list):
            left += one
        elif isinstance(one, str) and "data: {" in one:
            left += [
                json.loads(line[6:], parse_float=Decimal)
                for line in one.splitlines()
                if line.startswith("data: {")
            ]


def test_recorded_answers_cost_what_their_provider_charged() -> None:
    """Those of xAI and OpenRouter say what was taken; the last digit agrees."""
    folder = os.environ.get("ASGI_LLM_RECORDED")
    if not folder:
        pytest.skip("ASGI_LLM_RECORDED names no folder of recorded exchanges")
    table = load_prices()
    agreed = 0
    for provider, model, usage, charged in recorded_bills(Path(folder)):
        price = table.find(provider, model)
        if price is None:
            assert model.endswith(":free")
            continue
        cost = price.cost(usage_from_openai(usage), at=AT)
        assert charged == cost.amount_usd, (model, usage)
        agreed += 1
    assert agreed >= 40
