"""Recorded exchanges of OpenAI-format endpoints, where they are at hand."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from asgi_llm._semconv import Operation

_OPERATIONS: tuple[tuple[str, Operation], ...] = (
    ("/chat/completions", "chat"),
    ("/completions", "text_completion"),
    ("/embeddings", "embeddings"),
    ("/moderations", "moderation"),
)


class Recorded(NamedTuple):
    """One recorded exchange with a 2xx answer; ``answers`` are its JSON or the events' data."""

    file: str
    operation: Operation
    request: Any
    answers: list[Any]
    streamed: bool


@pytest.fixture(scope="session")
def recorded() -> list[Recorded]:
    folder = os.environ.get("ASGI_LLM_RECORDED")
    if not folder:
        pytest.skip("ASGI_LLM_RECORDED names no folder of recorded exchanges")
    return list(_read(Path(folder)))


def _read(folder: Path) -> Iterator[Recorded]:
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            request, response = row.get("request"), row["response"]
            if request is None or not isinstance(request.get("json"), dict):
                continue
            path = request["url"].partition("?")[0]
            if response["status"] // 100 != 2 or ("/api/" in path and "/api/v1/" not in path):
                continue
            for suffix, operation in _OPERATIONS:
                if path.endswith(suffix):
                    answers = [response["json"]] if "json" in response else _events(response)
                    yield Recorded(
                        file.name, operation, request["json"], answers, "json" not in response
                    )
                    break


def _events(response: dict[str, Any]) -> list[Any]:
    lines = response.get("text", "").splitlines()
    return [json.loads(line[5:]) for line in lines if line.startswith("data:") and "{" in line]
