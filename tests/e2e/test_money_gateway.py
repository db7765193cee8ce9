"""A running gateway: what it serves is in its reports, and a budget made meanwhile holds."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2

from asgi_llm.stores.key_material import new_key
from tests.e2e.gateway_process import COMMAND, clean_environment, running_gateway

SECONDS = 20.0
CONFIGURATION = """\
providers: {{echo: {{type: echo}}}}
storage: {{database: 'sqlite:///{folder}/gateway.db'}}
stack:
  - auth: {{master_key: {master}}}
  - cost:
      prices: {{overrides: {{echo: {{echo: {{input: 1000, output: 1000}}}}}}}}
"""


def until(ask: Callable[[], Any], is_well: Callable[[Any], bool]) -> Any:
    """The first answer that is as wanted; after a time the last one."""
    end = time.monotonic() + SECONDS
    while True:
        answer = ask()
        if is_well(answer) or time.monotonic() > end:
            return answer


def test_from_a_call_to_the_report_and_back_to_a_refusal(tmp_path: Path) -> None:
    """Rows, sums, CSV, commands and the API tell the same, and the budget refuses."""
    master = new_key()
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIGURATION.format(folder=tmp_path, master=master))
    chat = {
        "model": "echo/echo",
        "messages": [{"role": "user", "content": "Say hello."}],
        "max_tokens": 5,
    }
    with (
        running_gateway(tmp_path, "--config", str(file)) as origin,
        httpx2.Client(base_url=origin, timeout=SECONDS) as client,
    ):
        admin = {"authorization": f"Bearer {master}"}
        key = client.post("/admin/keys", json={"name": "ada"}, headers=admin).json()
        caller = {"authorization": f"Bearer {key['key']}"}
        costs = []
        for _ in range(3):
            answer = client.post("/v1/chat/completions", json=chat, headers=caller)
            assert 200 == answer.status_code, answer.text
            costs.append(Decimal(answer.headers["x-cost"]))
        own = until(
            lambda: client.get("/admin/costs/summary", headers=caller).json(),
            lambda found: found["totals"]["requests"] == 3,
        )
        assert (3, sum(costs)) == (
            own["totals"]["requests"],
            Decimal(own["totals"]["cost_usd"]),
        )
        rows = client.get(f"/admin/usage?key_id={key['id']}", headers=admin).json()["data"]
        lines = list(
            csv.DictReader(io.StringIO(client.get("/admin/usage.csv", headers=caller).text))
        )
        assert {row["id"] for row in rows} == {line["id"] for line in lines} and 3 == len(lines)
        printed = subprocess.run(
            [COMMAND, "usage", "--config", str(file), "--key", key["id"], "--json"],
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert own["totals"] == json.loads(printed.stdout)["totals"], printed.stderr

        body = {"scope": "key", "of": key["id"], "amount_usd": "0.000001"}
        budget = client.post("/admin/budgets", json=body, headers=admin).json()
        refused = until(
            lambda: client.post("/v1/chat/completions", json=chat, headers=caller),
            lambda answer: answer.status_code != 200,
        )
        assert (400, "budget_exceeded") == (refused.status_code, refused.json()["error"]["code"])
        shown = client.get(f"/admin/budgets/{budget['id']}", headers=caller).json()
        assert budget["id"] == shown["id"] and shown["use"] is not None
        # By the command, in another process: the gateway notices by itself.
        removed = subprocess.run(
            [COMMAND, "budgets", "remove", budget["id"], "--config", str(file)],
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert 0 == removed.returncode, removed.stderr
        served = until(
            lambda: client.post("/v1/chat/completions", json=chat, headers=caller),
            lambda answer: answer.status_code == 200,
        )
        assert 200 == served.status_code
        described = client.get("/openapi.json").json()["paths"]
        assert {"/admin/costs/summary", "/admin/budgets/{id}"} <= described.keys()
