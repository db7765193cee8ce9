"""Recorded provider traffic, replayed through the app over real sockets."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from asgi_llm.providers._passthrough import OpenAIFormat
from asgi_llm.providers.compatible import compatible
from tests.providers.replay import (
    NOT_OPENAIS,
    Reading,
    Recording,
    difference,
    load,
    replaying,
    rows_of,
)
from tests.providers.replay_views.report import PAGE, figures, rates, report

RECORDING = Recording(
    index=0,
    id="made up",
    dialect="openai",
    endpoint="chat",
    url="https://api.openai.com/v1/chat/completions",
    sent={"model": "m", "messages": [], "stream": True},
    status=200,
    headers={},
    body=b"",
)
CHUNK = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}
LAST = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


async def test_the_sdk_reads_through_the_app_what_it_reads_from_the_recording(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every field, at every cut, but for exchanges that are not in OpenAI's format."""
    async with replaying(recorded) as replay:
        outcomes = await replay.run_all()
    with capsys.disabled():
        print("\n" + report(rows_of(outcomes)))
    assert [] == [(o.recording.id, o.cut, o.problem) for o in outcomes if o.problem is not None]
    outside = {(o.recording.id, o.departure) for o in outcomes if o.departure is not None}
    assert len(outside) <= 4
    assert {reason for _, reason in outside} <= NOT_OPENAIS.keys()
    dialects = {outcome.recording.dialect for outcome in outcomes}
    assert {"openai", "azure", "azure_ai", "groq", "mistral", "openrouter", "writer"} <= dialects
    assert len(outcomes) > 1000
    found = rates(rows_of(outcomes))
    for provider, rate in found.items():
        assert rate.equal >= 0.98 * rate.in_scope, provider
    assert found == figures("In OpenAI's format")


def test_every_departure_is_in_the_reference() -> None:
    """What is not in OpenAI's format, and what the app makes of it, is written down."""
    text = " ".join(PAGE.read_text().split())
    for reason in NOT_OPENAIS.values():
        assert reason in text


@pytest.mark.parametrize("dialect", ["cerebras", "perplexity"])
def test_recorded_model_lists_are_read(recorded: Path, dialect: str) -> None:
    """Every model of the list, with its id."""
    row = json.loads((recorded / f"{dialect}.models.jsonl").read_text().splitlines()[0])
    adapter: OpenAIFormat = compatible(dialect, api_key="sk-0123456789")
    cards = adapter.parse_models(json.dumps(row["response"]["json"]).encode())
    assert [model["id"] for model in row["response"]["json"]["data"]] == [c.id for c in cards]


def test_recordings_of_other_formats_are_left_out(recorded: Path) -> None:
    """Cohere's, Voyage's, Ollama's own and Writer's text completions belong to other adapters."""
    recordings = load(recorded)
    hosts = {urlsplit(recording.url).hostname for recording in recordings}
    paths = {urlsplit(recording.url).path for recording in recordings}
    assert {"api.cohere.com", "api.voyageai.com"}.isdisjoint(hosts)
    assert {"/api/chat", "/api/embeddings"}.isdisjoint(paths)
    assert "completions" not in {r.endpoint for r in recordings if r.dialect == "writer"}


@pytest.mark.parametrize(
    ("through", "found"),
    [
        (Reading(objects=[CHUNK, LAST]), False),
        (Reading(objects=[CHUNK]), True),
        (Reading(objects=[LAST, CHUNK]), True),
        (Reading(objects=[CHUNK, {**LAST, "usage": {"total_tokens": 1}}]), True),
        (Reading(objects=[CHUNK, LAST], error=("APIError", None, None)), True),
        (Reading(error=("InternalServerError", 502, None)), True),
    ],
)
def test_the_comparison_sees_what_is_missing(through: Reading, found: bool) -> None:
    """A lost, moved or changed chunk and an error are differences."""
    straight = Reading(objects=[CHUNK, LAST])
    assert found == (difference(RECORDING, straight, through, None) is not None)


def test_the_comparison_of_errors_knows_the_mapping() -> None:
    """401 has to become 502, and everything else has to stay."""
    whole = dataclasses.replace(RECORDING, sent={"model": "m", "messages": []})
    refused = Reading(error=("AuthenticationError", 401, "invalid_api_key"))
    mapped = Reading(error=("InternalServerError", 502, "provider_authentication_failed"))
    limited = Reading(error=("RateLimitError", 429, None))
    assert difference(whole, refused, mapped, None) is None
    assert difference(whole, refused, refused, None) is not None
    assert difference(whole, limited, limited, None) is None
    assert difference(whole, limited, mapped, None) is not None
