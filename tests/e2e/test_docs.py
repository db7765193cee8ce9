"""The documentation is true: its Python runs, its YAML is valid, its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.gateway_process import COMMAND, clean_environment

ROOT = Path(__file__).resolve().parents[2]
# The tutorial's blocks need a running gateway: test_tutorial.py.
TUTORIAL = ROOT / "docs" / "tutorial" / "first-gateway.md"
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])

_BLOCK = re.compile(
    r"(?:^<!-- serves: (?P<app>\w+) (?P<prefix>\S+) -->\n)?"
    r"(?:^<!-- needs: (?P<needs>\w+) -->\n)?"
    r"^```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_PYTEST = [
    *("-m", "pytest", "-q", "-W", "error", "-o", "asyncio_mode=auto"),
    *("-o", "asyncio_default_fixture_loop_scope=function"),
]
_LINK = re.compile(r"\]\((?!https?:)(?P<path>[^)#]*)(?:#[^)]*)?\)")
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_EXAMPLES = {
    "REDIS_URL": "redis://127.0.0.1:6379/0",
    "CACHE_KEYS": "2026:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "GUARD_SECRET": "0123456789abcdef",
    "AUDIT_SECRET": "0123456789abcdef",
    "GUARDRAILS_KEY": "0123456789abcdef",
}

_ASK = """

import asyncio as _asyncio
import asgi_llm as _asgi_llm

async def _ask():
    async with _asgi_llm.client({app}) as client:
        answer = await client.post(
            "http://host{prefix}/v1/chat/completions",
            json={{"model": "echo/echo", "messages": [{{"role": "user", "content": "Hello"}}]}},
        )
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"], answer.text

_asyncio.run(_ask())
"""


@dataclass(frozen=True)
class Block:
    """One fenced block and where it is."""

    page: Path
    line: int
    language: str
    code: str
    needs: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(language: str) -> list[Block]:
    """All blocks in ``language``.

    A block after ``<!-- serves: app /prefix -->`` is followed by a chat completion, in process, to
    the app of that name under that prefix. One after ``<!-- needs: package -->`` is skipped
    without it.
    """
    found = []
    for page in PAGES:
        if page == TUTORIAL and language == "python":
            continue
        text = page.read_text()
        for match in _BLOCK.finditer(text):
            if match["language"] == language:
                ask = (
                    _ASK.format(app=match["app"], prefix=match["prefix"].rstrip("/"))
                    if match["app"]
                    else ""
                )
                line = text.count("\n", 0, match.start("code")) + 1
                found.append(Block(page, line, language, match["code"] + ask, match["needs"]))
    return found


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_block_runs_by_itself(block: Block, tmp_path: Path) -> None:
    """A reader can paste the block into a file and run it, with no key, and sees no warning."""
    if block.needs:
        pytest.importorskip(block.needs, reason=f"{block.needs} is not installed")
    script = tmp_path / "block.py"
    script.write_text(block.code)
    if re.search(r"^(async )?def test_", block.code, re.MULTILINE):
        run = [*_PYTEST, str(script)]
    else:
        run = ["-W", "error", str(script)]
    done = subprocess.run(
        [sys.executable, *run], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert 0 == done.returncode, (done.stdout + done.stderr)[-4000:]
    # A host may log what it likes; an error in a destructor changes no exit status.
    assert "Traceback" not in done.stderr, done.stderr[-4000:]


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_block_is_a_valid_configuration(block: Block, tmp_path: Path) -> None:
    """``asgi-llm check`` accepts the block, given the variables that it names."""
    file = tmp_path / "gateway.yaml"
    file.write_text(block.code)
    named = _VARIABLE.findall(block.code)
    given = {name: _EXAMPLES.get(name, "sk-7f3b9c2e8a1d4560") for name in named}
    done = subprocess.run(
        [COMMAND, "check", "--config", str(file)],
        cwd=tmp_path,
        env=clean_environment() | given,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert 0 == done.returncode, done.stderr
    assert "" == done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_files(page: Path) -> None:
    """Every link without a host names a file that exists."""
    broken = [
        match["path"]
        for match in _LINK.finditer(page.read_text())
        if match["path"] and not (page.parent / match["path"]).exists()
    ]
    assert [] == broken


def test_every_page_is_in_the_navigation() -> None:
    """A page that nobody can reach from the contents does not exist."""
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")]
    assert [] == [page for page in pages if page not in navigation]
