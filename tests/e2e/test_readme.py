"""The README keeps its word: its commands, its length, its code (which test_docs.py runs)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.e2e.gateway_process import running_gateway

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def command_after(marker: str) -> str:
    """The only line of the block after ``<!-- marker -->``."""
    found = re.search(rf"^<!-- {marker} -->\n```sh\n(.*)\n```$", README, re.MULTILINE)
    assert found is not None, f"there is no {marker} command"
    return found[1]


def test_readme_is_short() -> None:
    """At most 150 lines."""
    assert len(README.splitlines()) <= 150


def test_first_command_ends_in_a_gateway(tmp_path: Path) -> None:
    """It installs in a fresh environment and its last words start a gateway with no options."""
    *install, serve = command_after("start").split(" && ")
    assert [
        "python3 -m venv .venv",
        ". .venv/bin/activate",
        "pip install -e '.[gateway]'",
    ] == install
    assert "asgi-llm serve" == serve
    with running_gateway(tmp_path) as origin:
        assert origin.startswith("http://127.0.0.1:")
    log = (tmp_path / "gateway.log").read_text()
    assert f"{origin}/v1" in log
    assert "echo" in log
    assert "curl" in log


def test_ci_runs_the_test_command() -> None:
    """``.ci/run`` takes its command out of the README by this very expression."""
    script = (ROOT / ".ci" / "run").read_text()
    [extract] = re.findall(r"command=\$\((sed .*)\)", script)
    done = subprocess.run(
        ["bash", "-c", extract], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert command_after("tests") == done.stdout.strip()
    assert "pip install -e '.[gateway,dev]' && pytest -n auto" == command_after("tests")


@pytest.mark.parametrize("extra", ["gateway", "dev"])
def test_extras_exist(extra: str) -> None:
    """What the commands install is what the package offers."""
    assert re.search(rf"^{extra} = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
