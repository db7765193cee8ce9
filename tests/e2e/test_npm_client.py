"""The npm ``openai`` client against a gateway that was started with no configuration."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent / "js"
NODE = shutil.which("node")
NPM = shutil.which("npm")

pytestmark = pytest.mark.skipif(
    NODE is None or NPM is None, reason="node and npm are not installed"
)


@pytest.fixture(scope="module", autouse=True)
def packages() -> None:
    """The client, installed as the lock file has it."""
    if (FOLDER / "node_modules" / "openai" / "package.json").exists():
        return
    done = subprocess.run(
        [str(NPM), "ci", "--no-audit", "--no-fund"],
        cwd=FOLDER,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        pytest.skip(f"npm ci failed in tests/e2e/js: {done.stderr.strip()[-300:]}")


def run(script: str, origin: str) -> Any:
    """What the script prints."""
    done = subprocess.run(
        [str(NODE), script],
        cwd=FOLDER,
        env=os.environ | {"GATEWAY_URL": f"{origin}/v1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (0, "") == (done.returncode, done.stderr)
    return json.loads(done.stdout)


def test_chat(gateway_origin: str) -> None:
    """A whole answer has content, a finish reason, a usage that adds up, and our request id."""
    result = run("chat.mjs", gateway_origin)
    usage = result["usage"]
    assert result["content"]
    assert ("stop", True) == (result["finish"], result["same"])
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert result["requestId"].startswith("req_")


def test_stream(gateway_origin: str) -> None:
    """A stream comes in several deltas that make up the content, and ends with the usage."""
    result = run("stream.mjs", gateway_origin)
    assert len(result["deltas"]) > 1
    assert result["content"] == "".join(result["deltas"])
    assert "stop" == result["finish"]
    assert result["usage"]["completion_tokens"] > 0


def test_tools(gateway_origin: str) -> None:
    """A tool call is the same whole and streamed, and its arguments fit the tool's schema."""
    result = run("tools.mjs", gateway_origin)
    assert result["whole"] == result["streamed"]
    assert ("weather", "tool_calls") == (result["whole"]["name"], result["whole"]["finish"])
    assert ["city"] == list(result["whole"]["arguments"])


def test_embeddings(gateway_origin: str) -> None:
    """The client's default base64 vectors are those that it gets as numbers."""
    result = run("embeddings.mjs", gateway_origin)
    assert 2 == len(result["plain"])
    for packed, plain in zip(result["packed"], result["plain"], strict=True):
        assert plain == pytest.approx(packed, abs=1e-6)
    assert result["plain"][0] != result["plain"][1]


def test_errors(gateway_origin: str) -> None:
    """An unknown model raises the client's own NotFoundError with our code."""
    assert {
        "notFound": True,
        "status": 404,
        "code": "model_not_found",
        "type": "invalid_request_error",
        "param": "model",
    } == run("errors.mjs", gateway_origin)
