"""The tutorial, done as it is written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.gateway_process import COMMAND, clean_environment, running_gateway

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial" / "first-gateway.md"
WRITTEN_ORIGIN = "http://127.0.0.1:4000"

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def matches(expected: str, actual: str) -> bool:
    """Whether ``actual`` is ``expected``, where ``...`` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("..."))
    return re.fullmatch(pattern, actual.strip(), re.DOTALL) is not None


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_tutorial_works_as_written(tmp_path: Path) -> None:
    """Each command of the page prints what the page says, against gateways started as it says."""
    blocks = _BLOCK.findall(PAGE.read_text())
    [configuration] = [text for language, text in blocks if language == "yaml"]
    (tmp_path / "asgi-llm.yaml").write_text(configuration)
    with running_gateway(tmp_path) as origin:
        environment = clean_environment() | {
            "PATH": os.pathsep.join([str(Path(COMMAND).parent), os.environ["PATH"]])
        }
        seen = 0
        for language, text in blocks:
            if language == "console":
                command, _, expected = text.removeprefix("$ ").partition("\n")
                run = ["bash", "-c", command.replace(WRITTEN_ORIGIN, origin)]
            elif language == "python":
                expected = "Hello, gateway\n...one| two| three|...\n"
                run = [sys.executable, "-c", text.replace(WRITTEN_ORIGIN, origin)]
            else:
                continue
            done = subprocess.run(
                run,
                cwd=tmp_path,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
            )
            output = (done.stdout + done.stderr).replace("\r\n", "\n")
            assert matches(expected, output), f"{run[-1]}\nexpected {expected}\ngot {output}"
            seen += 1
    assert 7 == seen
