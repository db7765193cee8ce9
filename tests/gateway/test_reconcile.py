"""``asgi-llm reconcile``: exports that agree with the ledger, that differ, and that are none."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_llm.gateway._provider_exports import (
    FORMATS,
    ExportError,
    ExportLine,
    read_export,
)
from asgi_llm.gateway.reconcile_command import reconcile_command
from asgi_llm.stores import sql
from asgi_llm.types import Cost, Usage
from tests.e2e.gateway_process import COMMAND, clean_environment
from tests.services.postgres_server import PostgresServer, postgres_server, postgres_url
from tests.stores.ledger.rows import DAY, make_row

__all__ = ["PostgresServer", "postgres_server", "postgres_url"]

START = int(DAY.timestamp())
DAY_SECONDS = 86_400

OPENAI_USAGE: dict[str, Any] = {
    "object": "page",
    "data": [
        {
            "object": "bucket",
            "start_time": START,
            "end_time": START + DAY_SECONDS,
            "results": [
                {
                    "object": "organization.usage.completions.result",
                    "input_tokens": 480,
                    "output_tokens": 200,
                    "input_cached_tokens": 80,
                    "num_model_requests": 4,
                    "project_id": None,
                    "model": "gpt-4o-2024-08-06",
                    "batch": False,
                },
                {
                    "object": "organization.usage.completions.result",
                    "input_tokens": 120,
                    "output_tokens": 50,
                    "num_model_requests": 1,
                    "model": "gpt-4o-mini-2024-07-18",
                },
            ],
        },
        {"object": "bucket", "start_time": START + DAY_SECONDS, "results": []},
    ],
    "has_more": False,
    "next_page": None,
}
OPENAI_COSTS: dict[str, Any] = {
    "object": "page",
    "data": [
        {
            "object": "bucket",
            "start_time": START,
            "results": [
                {
                    "object": "organization.costs.result",
                    "amount": {"value": value, "currency": "usd"},
                    "line_item": item,
                }
                for value, item in (
                    (0.4, "gpt-4o-2024-08-06, input"),
                    ("0.600000000000", "gpt-4o-2024-08-06, output"),
                    (0.25, "gpt-4o-mini-2024-07-18, input"),
                )
            ],
        }
    ],
}
OPENAI_USAGE_CSV = f"""\
start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,user_id,model,\
input_tokens,output_tokens,input_cached_tokens
{START},{START + 3600},2026-03-14T00:00:00+00:00,x,proj,3.0,,gpt-4o-2024-08-06,360,150,60
{START + 3600},{START + 7200},2026-03-14T01:00:00+00:00,x,proj,1.0,,gpt-4o-2024-08-06,120,50,20
{START + 7200},{START + 9000},2026-03-14T02:00:00+00:00,x,proj,1.0,,gpt-4o-mini-2024-07-18,120,50,
{START + 9000},{START + 9999},2026-03-14T02:30:00+00:00,x,,,,,,,
"""
OPENAI_COSTS_CSV = f"""\
start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item
{START},{START + DAY_SECONDS},x,x,1.000000000000,usd,gpt-4o-2024-08-06
{START},{START + DAY_SECONDS},x,x,0.250000000000,usd,gpt-4o-mini-2024-07-18
{START + DAY_SECONDS},{START + 2 * DAY_SECONDS},x,x,,,
"""
ANTHROPIC_USAGE: dict[str, Any] = {
    "data": [
        {
            "starting_at": "2026-03-14T00:00:00Z",
            "ending_at": "2026-03-15T00:00:00Z",
            "results": [
                {
                    "uncached_input_tokens": 100,
                    "cache_creation": {
                        "ephemeral_1h_input_tokens": 7,
                        "ephemeral_5m_input_tokens": 3,
                    },
                    "cache_read_input_tokens": 20,
                    "output_tokens": 50,
                    "server_tool_use": {"web_search_requests": 0},
                    "model": "claude-sonnet-4-20250514",
                }
            ],
        }
    ],
    "has_more": False,
}
ANTHROPIC_COSTS: dict[str, Any] = {
    "data": [
        {
            "starting_at": "2026-03-14T00:00:00Z",
            "results": [
                {
                    "currency": "USD",
                    "amount": "12.5",
                    "model": "claude-sonnet-4-20250514",
                    "token_type": token_type,
                }
                for token_type in ("uncached_input_tokens", "output_tokens")
            ],
        }
    ],
}
ANTHROPIC_USAGE_CSV = """\
usage_date_utc,model_version,api_key,workspace,usage_type,context_window,\
usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,\
usage_input_tokens_cache_read,usage_output_tokens,web_search_count
2026-03-14,claude-sonnet-4-20250514,prod,Default,standard,≤ 200k,100,3,7,20,50,0
"""
ANTHROPIC_COSTS_CSV = """\
usage_date_utc,model,workspace,token_type,cost_usd
2026-03-14,claude-sonnet-4-20250514,Default,input_no_cache,0.125
2026-03-14,claude-sonnet-4-20250514,Default,output,0.125
"""
AGREEING: dict[str, tuple[str, Any]] = {
    "openai usage": ("openai", OPENAI_USAGE),
    "openai costs": ("openai", OPENAI_COSTS),
    "openai pages": ("openai", [OPENAI_USAGE, {"data": []}]),
    "openai buckets": ("openai", OPENAI_USAGE["data"]),
    "openai usage csv": ("openai", OPENAI_USAGE_CSV),
    "openai usage tsv": ("openai", OPENAI_USAGE_CSV.replace(",", "\t")),
    "openai costs csv": ("openai", "\ufeff" + OPENAI_COSTS_CSV),
    "anthropic usage": ("anthropic", ANTHROPIC_USAGE),
    "anthropic costs": ("anthropic", ANTHROPIC_COSTS),
    "anthropic usage csv": ("anthropic", ANTHROPIC_USAGE_CSV),
    "anthropic costs csv": ("anthropic", ANTHROPIC_COSTS_CSV),
}


async def fill(url: str) -> None:
    """Five rows of OpenAI's and one of Anthropic's, and some that the providers do not count."""
    engine = sql.open_engine(url)
    await sql.create_schema(engine)
    cost = Cost(amount_usd=Decimal("0.25"))
    claude = {
        "provider": "anthropic",
        "model": "claude-sonnet-4-20250514",
        "usage": Usage(
            input_uncached=100,
            input_cached=20,
            cache_write_5m=3,
            cache_write_1h=7,
            output_text=50,
        ),
    }
    free = {"usage": Usage(), "cost": Cost(amount_usd=Decimal(0))}
    refused = {**free, "outcome": "refused", "status": 429}
    hit = {**free, "cached": True, "attempt": 0, "outcome": "cache_hit"}
    await sql.SQLLedger(engine).record(
        [
            *(make_row(f"o{number}", cost=cost) for number in range(4)),
            make_row("mini", cost=cost, model="gpt-4o-mini"),
            make_row("claude", cost=cost, **claude),
            make_row("refused", **refused),
            make_row("hit", **hit),
            make_row("other", provider="azure"),
            make_row("before", at=DAY - datetime.timedelta(microseconds=1)),
        ]
    )
    await engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A ledger, once in each kind of database."""
    found = f"sqlite:///{tmp_path}/ledger.db"
    if request.param == "postgres":
        found = request.getfixturevalue("postgres_url")
    asyncio.run(fill(found))
    return found


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same in SQLite alone."""
    found = f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db"
    asyncio.run(fill(found))
    return found


def written(tmp_path: Path, content: Any) -> str:
    path = tmp_path / "export"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def invoke(url: str, export: str, *arguments: str) -> Result:
    environ = {name: None for name in os.environ if name.startswith("ASGI_LLM")}
    return CliRunner().invoke(
        reconcile_command, [export, "--database", url, *arguments], env=environ
    )


@pytest.mark.parametrize("case", AGREEING)
def test_exports_that_agree(url: str, tmp_path: Path, case: str) -> None:
    """Each form of each provider's, to the last token and digit: status 0."""
    provider, content = AGREEING[case]
    export = written(tmp_path, content)
    result = invoke(url, export, "--provider", provider, "--tolerance", "0", "--tolerance-usd", "0")
    assert (0, "") == (result.exit_code, result.stderr), result.stdout
    assert "agree" in result.stdout.splitlines()[-1]


def test_where_and_by_how_much_they_differ(url: str, tmp_path: Path) -> None:
    """Status 1, a line for each figure that differs by more than the tolerance, and the sums."""
    document = json.loads(json.dumps(OPENAI_USAGE))
    first = document["data"][0]["results"][0]
    first["num_model_requests"], first["output_tokens"] = 5, 201
    export = written(tmp_path, document)
    result = invoke(url, export, "--provider", "openai")
    table = [line.split() for line in result.stdout.splitlines()]
    assert 1 == result.exit_code
    assert ["2026-03-14", "gpt-4o", "requests", "4", "5", "-1", "20.00%"] == table[1]
    assert ["TOTAL", "requests", "5", "6", "-1", "16.67%"] == table[2]
    assert "1 of 2 lines differ by more than the tolerance." == " ".join(table[-1][-10:])
    every = invoke(url, export, "--provider", "openai", "--all").stdout
    assert 1 + 6 + 3 + 1 == len(every.splitlines())
    for tolerance, status in (("20%", 0), ("0.2", 0), ("19.9%", 1), ("0", 1)):
        assert (
            status
            == invoke(url, export, "--provider", "openai", "--tolerance", tolerance).exit_code
        )
    found = json.loads(invoke(url, export, "--provider", "openai", "--json").stdout)
    assert (False, "2026-03-14", "2026-03-14", ["openai"]) == (
        found["agrees"],
        found["start"],
        found["end"],
        found["providers"],
    )
    assert {"ledger": "4", "export": "5", "difference": "-1", "agrees": False} == found["data"][0][
        "measures"
    ]["requests"]


def test_what_only_one_side_has_is_found(sqlite: str, tmp_path: Path) -> None:
    """A model that the export lacks, and a day that the ledger lacks."""
    document = json.loads(json.dumps(OPENAI_USAGE))
    moved = document["data"][0]["results"].pop()
    document["data"][1]["results"].append(moved)
    result = invoke(sqlite, written(tmp_path, document), "--provider", "openai", "--json")
    found = {
        (line["day"], line["model"]): line["measures"]["requests"]
        for line in json.loads(result.stdout)["data"]
        if not line["agrees"]
    }
    assert {
        ("2026-03-14", "gpt-4o-mini"): {
            "ledger": "1",
            "export": "0",
            "difference": "1",
            "agrees": False,
        },
        ("2026-03-15", "gpt-4o-mini"): {
            "ledger": "0",
            "export": "1",
            "difference": "-1",
            "agrees": False,
        },
    } == found


def test_names_of_models(sqlite: str, tmp_path: Path) -> None:
    """Dated versions count as one unless they are told apart; other names can be given."""
    export = written(tmp_path, OPENAI_USAGE)
    exact = invoke(sqlite, export, "--provider", "openai", "--exact")
    assert 1 == exact.exit_code and "gpt-4o-2024-08-06" in exact.stdout
    named = [
        *("--exact", "--model", "gpt-4o-2024-08-06=gpt-4o"),
        *("--model", "gpt-4o-mini-2024-07-18=gpt-4o-mini"),
    ]
    assert 0 == invoke(sqlite, export, "--provider", "openai", *named).exit_code


def test_an_export_without_models_is_compared_by_day(sqlite: str, tmp_path: Path) -> None:
    """As OpenAI's costs are, where they are not grouped."""
    document = json.loads(json.dumps(OPENAI_COSTS))
    for result in document["data"][0]["results"]:
        result["line_item"] = None
    result = invoke(sqlite, written(tmp_path, document), "--provider", "openai", "--json")
    assert (0, [None]) == (
        result.exit_code,
        [line["model"] for line in json.loads(result.stdout)["data"]],
    )


def test_any_csv_with_named_columns(sqlite: str, tmp_path: Path) -> None:
    """Columns are added up, amounts may have a sign and commas; cents are let off."""
    export = written(
        tmp_path,
        "Datum;x,Modell,In,Cache,Betrag,currency\n"
        '2026-03-14 05:00 UTC,gpt-4o,400,80,"$1.00",USD\n'
        "1773446400,gpt-4o-mini,100,20,0.26,usd\n\n",
    )
    columns = [
        *("--column", "day=Datum;x", "--column", "model=Modell"),
        *("--column", "input_tokens=In+Cache", "--column", "cost_usd=Betrag"),
    ]
    result = invoke(sqlite, export, "--provider", "openai", *columns)
    assert 0 == result.exit_code, result.stdout
    strict = invoke(sqlite, export, "--provider", "openai", *columns, "--tolerance-usd", "0.009")
    assert (1, ["2026-03-14", "gpt-4o-mini", "cost_usd"]) == (
        strict.exit_code,
        strict.stdout.splitlines()[1].split()[:3],
    )


def test_several_names_of_one_provider(sqlite: str, tmp_path: Path) -> None:
    """Their rows are added up."""
    export = written(tmp_path, "d,r\n2026-03-14,6\n")
    columns = ("--column", "day=d", "--column", "requests=r")
    both = invoke(sqlite, export, "--provider", "openai,azure", *columns, "--tolerance", "0")
    assert 0 == both.exit_code, both.stdout


BROKEN: list[tuple[str, Any, str]] = [
    ("openai", "", "the file is empty"),
    ("openai", "{", "this is not JSON"),
    ("openai", "[" * 5000, "this is not JSON"),
    ("openai", '{"data": 5}', "data: expected a page of buckets, got '5'"),
    ("openai", {"data": [{"results": []}]}, "data[0]: expected a bucket with start_time"),
    ("openai", {"data": [{"start_time": 1}]}, "data[0].results: expected a list"),
    (
        "openai",
        {"data": [{"start_time": "soon", "results": []}]},
        "data[0].start_time: expected a day, as in 2027-01-31, or a time, got 'soon'",
    ),
    (
        "openai",
        {"data": [{"start_time": START, "results": [{"num_model_requests": -1}]}]},
        "data[0].results[0].num_model_requests: expected a whole number of at least 0, got '-1'",
    ),
    (
        "openai",
        {"data": [{"start_time": START, "results": [{"amount": {"value": "1e400"}}]}]},
        "data[0].results[0].amount.value: expected a number, got '1e400'",
    ),
    (
        "openai",
        {"data": [{"start_time": START, "results": [{"amount": {"value": 1, "currency": "eur"}}]}]},
        "data[0].results[0].amount.currency: expected usd, got 'eur'",
    ),
    ("openai", OPENAI_USAGE["data"][1:], "there is no usage in it"),
    ("openai", "a,b\n1,2\n", "line 1: expected the columns start_time, model"),
    (
        "openai",
        OPENAI_USAGE_CSV.replace(",360,", ",many,"),
        "line 2, column input_tokens: expected a number, got 'many'",
    ),
    (
        "openai",
        OPENAI_USAGE_CSV.replace(f"\n{START + 3600},", "\n9999999999999,"),
        "line 3, column start_time: expected a day",
    ),
    ("openai", OPENAI_COSTS_CSV.replace("usd", "eur", 1), "line 2, column amount_currency"),
    ("openai", OPENAI_COSTS_CSV + "1,2\n", "line 5: 2 columns, where the first line has 7"),
    ("anthropic", OPENAI_USAGE, "results[0]: expected amount or uncached_input_tokens"),
    (
        "anthropic",
        ANTHROPIC_COSTS_CSV.replace("0.125", "NaN", 1),
        "line 2, column cost_usd: expected a number, got 'NaN'",
    ),
    ("anthropic", ANTHROPIC_USAGE_CSV.replace("2026-03-14", "14/03/26"), "column usage_date_utc"),
]


@pytest.mark.parametrize(
    ("provider", "content", "problem"), BROKEN, ids=lambda value: str(value)[:40]
)
def test_files_that_are_none(
    sqlite: str, tmp_path: Path, provider: str, content: Any, problem: str
) -> None:
    """Status 2; the message names the file, the line and the column, or the place in the JSON."""
    result = invoke(sqlite, written(tmp_path, content), "--provider", provider)
    assert (2, "") == (result.exit_code, result.stdout), result.stderr
    assert problem in result.stderr and "export" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "name the columns"),
        (("--column", "day=d"), "name the columns"),
        (("--column", "days=d"), "--column: days is none of day, model"),
        (("--column", "day"), "--column: expected FIELD=COLUMN"),
        (("--column", "day=d", "--column", "requests=x"), "line 1: there is no column x, but d, r"),
        (("--column", "day=d", "--column", "requests=r", "--tolerance", "x"), "--tolerance"),
        (("--column", "day=d", "--column", "requests=r", "--tolerance", "NaN"), "--tolerance"),
        (
            ("--column", "day=d", "--column", "requests=r", "--tolerance-usd", "-1"),
            "--tolerance-usd",
        ),
        (("--column", "day=d", "--column", "requests=r", "--model", "x"), "--model: expected"),
        (("--column", "day=d", "--column", "requests=r", "--start-date", "9999-01-01"), "a year"),
        (
            ("--column", "day=d", "--column", "requests=r", "--start-date", "2026-04-01"),
            "--start-date is behind",
        ),
        (("--column", "day=d", "--column", "requests=r", "--end-date", "1971-01-01"), "behind"),
    ],
)
def test_options_that_are_wrong(
    sqlite: str, tmp_path: Path, arguments: tuple[str, ...], problem: str
) -> None:
    """Status 2, and the option is named."""
    export = written(tmp_path, "d,r\n2026-03-14,1\n")
    result = invoke(sqlite, export, "--provider", "mine", *arguments)
    assert (2, "") == (result.exit_code, result.stdout)
    assert problem in result.stderr


@given(
    data=st.one_of(
        st.binary(max_size=300),
        st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")),
    )
)
@settings(max_examples=200, deadline=None)
def test_no_file_does_more_than_fail(data: bytes) -> None:
    """Whatever it holds, it is lines or an ExportError."""
    for format in FORMATS:
        try:
            lines = read_export(data, format=format, columns={"day": ["a"], "requests": ["b"]})
        except ExportError as error:
            assert str(error)
        else:
            assert all(isinstance(line, ExportLine) for line in lines)


def test_as_a_process(sqlite: str, tmp_path: Path) -> None:
    """With the database of the configuration, and status 1 for a difference."""
    (tmp_path / "gateway.yaml").write_text(
        f"providers: {{e: {{type: echo}}}}\nstorage: {{database: '{sqlite}'}}\n"
    )
    named = ("--config", "gateway.yaml")
    for content, status in ((OPENAI_COSTS_CSV, 0), (OPENAI_COSTS_CSV.replace("1.00", "9.00"), 1)):
        done = subprocess.run(
            [COMMAND, "reconcile", written(tmp_path, content), "--provider", "openai", *named],
            cwd=tmp_path,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (status, "") == (done.returncode, done.stderr), done.stdout
