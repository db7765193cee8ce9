"""A running gateway with guardrails and both caches: what clients, the ledger and the log see."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2

from asgi_llm.stores.key_material import new_key
from asgi_llm.testing import (
    ReceivedRequest,
    Reply,
    Upstream,
    chat_answer,
    chat_events,
    json_reply,
    sse_reply,
)
from tests.e2e.gateway_process import running_gateway

SECONDS = 20.0
CONFIGURATION = """\
server: {{log_format: json}}
providers: {{up: {{type: openai, base_url: {upstream}/v1}}}}
storage: {{database: 'sqlite:///{folder}/gateway.db'}}
stack:
  - access_log
  - auth:
      master_key: ${{MASTER}}
      keys:
        - {{name: ann, key: '${{ANN}}', organization: acme}}
        - {{name: ben, key: '${{BEN}}', organization: acme}}
        - {{name: zoe, key: '${{ZOE}}', organization: zeta}}
  - cost:
      prices: {{overrides: {{up: {{m: {{input: 0, output: 0, per_request: '0.25'}}}}}}}}
      journal: {{enabled: false}}
  - guardrails:
      input:
        - {{pii: {{}}, action: redact}}
        - {{words: {{words: [Bluebird]}}}}
      output:
        - {{words: {{words: [forbidden]}}}}
  - exact_cache: {{cache_when: always}}
  - semantic_cache:
      embedder: {{http: {{base_url: {upstream}/v1, model: e}}}}
      guards: []
      embed_timeout_seconds: 10
"""


class Model:
    """Says what it was told last, and how often it was asked; knows all texts as one vector."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def __call__(self, request: ReceivedRequest) -> Reply:
        document = json.loads(request.body)
        if request.path.endswith("/embeddings"):
            rows = [
                {"object": "embedding", "index": index, "embedding": [1.0, 0.0]}
                for index, _ in enumerate(document["input"])
            ]
            return json_reply({"object": "list", "data": rows, "model": "e"})
        text = document["messages"][-1]["content"]
        self.heard.append(text)
        said = f"{len(self.heard)}: {text}"
        if document.get("stream"):
            return sse_reply(chat_events([word + " " for word in said.split()]))
        return json_reply(chat_answer(said))


class Client:
    """One caller."""

    def __init__(self, client: httpx2.AsyncClient, key: str) -> None:
        self._client = client
        self._key = key

    async def ask(self, text: str, system: str = "", **fields: Any) -> httpx2.Response:
        """A chat about ``text``; what has another system text is never the same by meaning."""
        document = {
            "model": "up/m",
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": text}],
            **fields,
        }
        headers = {"authorization": f"Bearer {self._key}"}
        return await self._client.post("/v1/chat/completions", json=document, headers=headers)


def said(answer: httpx2.Response) -> str:
    """What the model said, whole or streamed."""
    assert 200 == answer.status_code, answer.text
    if "event-stream" not in answer.headers["content-type"]:
        return str(answer.json()["choices"][0]["message"]["content"])
    events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
    choices = [choice for event in events for choice in json.loads(event).get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def status(answer: httpx2.Response) -> tuple[str | None, str | None]:
    """What a cache did with it."""
    return answer.headers.get("x-cache-status"), answer.headers.get("x-cache-type")


async def test_guards_and_caches_in_one_process(tmp_path: Path) -> None:
    """Hits cost nothing, organizations share nothing, and nothing forbidden passes."""
    secrets = {name: new_key() for name in ("MASTER", "ANN", "BEN", "ZOE")}
    model = Model()
    async with asyncio.timeout(120), Upstream(model) as upstream:
        file = tmp_path / "gateway.yaml"
        file.write_text(CONFIGURATION.format(folder=tmp_path, upstream=upstream.url))
        with running_gateway(tmp_path, "--config", str(file), **secrets) as origin:
            async with httpx2.AsyncClient(base_url=origin, timeout=SECONDS) as client:
                ann, ben, zoe = (Client(client, secrets[name]) for name in ("ANN", "BEN", "ZOE"))

                # Both caches, and two organizations.
                first = await ann.ask("Say hello")
                assert (("MISS", None), "0.25") == (status(first), first.headers["x-cost"])
                again = await ben.ask("Say hello")
                assert ("HIT", "EXACT") == status(again)
                assert ("0", "0.25") == (again.headers["x-cost"], again.headers["x-cost-saved"])
                near = await ben.ask("Say hello, please")
                assert ("HIT", "SEMANTIC") == status(near)
                assert ("0", "0.25") == (near.headers["x-cost"], near.headers["x-cost-saved"])
                assert said(first) == said(again) == said(near) == "1: Say hello"
                for text in ("Say hello", "Say hello, please"):
                    assert "2: Say hello" == said(await zoe.ask(text))
                assert 2 == len(model.heard)

                # Redacted on the way there, and back again; streams too, out of the cache too.
                for caller, mail in ((ann, "ada@example.com"), (ben, "bob@example.com")):
                    for stream in (False, True):
                        answer = await caller.ask(f"Write to {mail}", "mail", stream=stream)
                        assert f"3: Write to {mail}" == said(answer).strip()
                assert "Write to <EMAIL_1>" == model.heard[2]
                assert 3 == len(model.heard)

                # Blocked, before the model and behind it.
                blocked = await ann.ask("What is Bluebird?", "block")
                assert (400, "content_filter") == (
                    blocked.status_code,
                    blocked.json()["error"]["code"],
                )
                for _ in range(2):
                    streamed = await ann.ask("That is forbidden now", "end", stream=True)
                    assert "forbidden" not in streamed.text
                    assert '"content_filter"' in streamed.text
                assert "Bluebird" not in " ".join(model.heard)

                # The books and the log.
                admin = {"authorization": f"Bearer {secrets['MASTER']}"}
                rows = (await client.get("/admin/usage?limit=100", headers=admin)).json()["data"]
                ready = (await client.get("/health/ready")).json()
        log = (tmp_path / "gateway.log").read_text()
    paid = [row for row in rows if "0.25" == row["cost"]["amount_usd"]]
    free = [row for row in rows if "0" == row["cost"]["amount_usd"]]
    assert len(rows) == len(paid) + len(free)
    assert len(model.heard) == len(paid)
    assert {0.25} == {float(row["saved_usd"]) for row in free}
    assert "ready" == ready["status"]
    assert not [secret for secret in secrets.values() if secret in log]
    assert "ada@example.com" not in log
    lines = [json.loads(line) for line in log.splitlines() if '"request"' in line]
    told = [(line.get("cache"), line.get("cache_type")) for line in lines if line.get("cache")]
    assert [("miss", None), ("hit", "exact"), ("hit", "semantic"), ("miss", None)] == told[:4]
    assert {"redact": 1} in [line.get("guardrails") for line in lines]
