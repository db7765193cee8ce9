"""``asgi-llm worker`` where it has nothing to do; at work it is in the tests of processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from asgi_llm.gateway.worker_commands import worker

ECHO = "providers: {e: {type: echo}}\n"
REDIS = "storage: {redis: 'redis://:canary@127.0.0.1:1/0'}\n"


def invoke(folder: Path, text: str) -> Result:
    """The command with a file of ``text``."""
    file = folder / "gateway.yaml"
    file.write_text(ECHO + text)
    environ = {name: None for name in os.environ if name.startswith("ASGI_LLM")}
    return CliRunner().invoke(worker, ["--config", str(file)], env=environ)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (REDIS, "error: there is nothing to do: the stack has no layer cost\n"),
        (
            REDIS + "stack: [cost]\n",
            "error: there is nothing to do: each worker of the gateway writes its rows itself, ",
        ),
        (
            "stack: [{cost: {ledger: {delivery: redis}}}]\n",
            "error: there is nothing to do: each worker of the gateway writes its rows itself, ",
        ),
        (
            REDIS + "stack: [{cost: {ledger: {delivery: pigeon}}}]\n",
            "error: {file}:3:36: stack[0].cost.ledger.delivery: expected one of direct, redis",
        ),
    ],
)
def test_a_configuration_without_work_is_an_error(tmp_path: Path, text: str, expected: str) -> None:
    """Status 2 and one line; never the address of Redis."""
    result = invoke(tmp_path, text)
    assert 2 == result.exit_code
    assert result.stderr.startswith(expected.format(file=tmp_path / "gateway.yaml"))
    assert "canary" not in result.output
