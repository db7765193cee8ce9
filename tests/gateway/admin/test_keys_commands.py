"""``asgi-llm keys`` and ``asgi-llm db``: what they print, where, and their exit status."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from asgi_llm.gateway.db_commands import db
from asgi_llm.gateway.keys_commands import keys
from asgi_llm.stores import sql
from asgi_llm.stores.base import KeyRecord
from asgi_llm.stores.directory import AuditEntry, Key, Page
from asgi_llm.stores.key_material import digest_key
from asgi_llm.stores.keys_cached import CachedKeys
from asgi_llm.stores.keys_redis import RedisKeyCache
from asgi_llm.stores.sql.migrations import head
from asgi_llm.types import Limit
from tests.e2e.gateway_process import COMMAND, clean_environment
from tests.gateway.admin.world import entry
from tests.services.redis_server import redis_server, redis_url

__all__ = ["redis_server", "redis_url"]

GOOD_KEYS = ("vk_9f2Kx7QpLw3ZtB8mRc5YdN1s", "vk_Q8wErT5yU1iOp9aSdF3gHjK7")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database that is not there yet."""
    return f"sqlite:///{tmp_path}/keys.db"


def invoke(url: str, *arguments: str, given: str = "") -> Result:
    """One command over the database at ``url``."""
    environ = {name: None for name in os.environ if name.startswith("ASGI_LLM")}
    return CliRunner().invoke(keys, [*arguments, "--database", url], input=given, env=environ)


def made(url: str, *arguments: str) -> dict[str, Any]:
    """A new key, as JSON."""
    result = invoke(url, "create", "--json", *arguments)
    assert 0 == result.exit_code, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def find(url: str, text: str) -> KeyRecord | None:
    """What a gateway would find for a key."""

    async def work() -> KeyRecord | None:
        engine = sql.open_engine(url)
        try:
            return await sql.SQLKeys(engine).find(digest_key(text))
        finally:
            await engine.dispose()

    return asyncio.run(work())


def audit(url: str) -> list[AuditEntry]:
    """The log, oldest first."""

    async def work() -> Page:
        engine = sql.open_engine(url)
        try:
            return await sql.SQLDirectory(engine).audit_log(where={}, limit=100)
        finally:
            await engine.dispose()

    return list(reversed(asyncio.run(work()).items))


def test_a_made_key_opens_the_gateway(url: str) -> None:
    """All options arrive; the first command makes the tables."""
    key = made(
        url,
        *("--name", "first", "--tier", "pro", "--models", "openai/*,echo/echo"),
        *("--scopes", "batch", "--scopes", "files", "--role", "admin", "--expires", "30d"),
        *("--limits", "60 requests/minute", "--limits", "5 concurrent requests"),
        *("--budgets", "100/month", "--metadata", "team=search"),
    )
    record = find(url, key["key"])
    assert record is not None and record.active and record.expires_at is not None
    principal = record.principal
    assert (key["id"], "first", "pro", "admin") == (
        principal.key_id,
        principal.key_name,
        principal.tier,
        principal.role,
    )
    assert ("openai/*", "echo/echo") == principal.models
    assert frozenset({"batch", "files"}) == principal.scopes
    assert {"team": "search"} == principal.metadata
    assert (
        Limit(unit="requests", amount=60, window_seconds=60),
        Limit(unit="concurrent_requests", amount=5),
    ) == principal.limits
    assert [{"amount_usd": "100", "period": "month", "hard": True}] == key["budgets"]


def test_quiet_prints_the_key_alone(url: str) -> None:
    """One line on standard output, for a pipe."""
    result = invoke(url, "create", "--name", "piped", "--quiet")
    assert (0, "") == (result.exit_code, result.stderr)
    (text,) = result.stdout.splitlines()
    assert find(url, text) is not None
    id = json.loads(invoke(url, "list", "--json").stdout)["data"][0]["id"]
    (other,) = invoke(url, "rotate", id, "-q").stdout.splitlines()
    assert text != other


def test_people_see_the_key_once(url: str) -> None:
    """In the answer to create, with a note on standard error; show and list do not have it."""
    result = invoke(url, "create", "--name", "first", "--limits", "60 requests/minute")
    rows = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert ("first", "active", "60 requests/60s per caller") == (
        rows["name"],
        rows["status"],
        rows["limits"],
    )
    assert "The key is shown this once; keep it where secrets are kept.\n" == result.stderr
    for command in (("list",), ("list", "--json"), ("show", rows["id"])):
        seen = invoke(url, *command)
        assert (0, False) == (seen.exit_code, rows["key"] in seen.stdout)
        assert digest_key(rows["key"]).hex() not in seen.stdout


def test_list_has_one_line_a_key(url: str) -> None:
    """Newest first, in columns, further ones behind a cursor."""
    for name in ("one", "two", "three"):
        made(url, "--name", name)
    result = invoke(url, "list")
    lines = result.stdout.splitlines()
    assert lines[0].split()[:2] == ["ID", "NAME"]
    assert ["three", "two", "one"] == [line.split()[1] for line in lines[1:]]
    result = invoke(url, "list", "--limit", "2")
    assert ["three", "two"] == [line.split()[1] for line in result.stdout.splitlines()[1:]]
    cursor = result.stderr.split()[-1]
    result = invoke(url, "list", "--limit", "2", "--after", cursor)
    assert ["one"] == [line.split()[1] for line in result.stdout.splitlines()[1:]]
    assert "" == result.stderr


def test_revoke_and_rotate(url: str) -> None:
    """The old text ends, at once or after its grace; a revoked key opens nothing."""
    key = made(url, "--name", "first")
    rotated = json.loads(invoke(url, "rotate", key["id"], "--grace", "600", "--json").stdout)
    old, new = find(url, key["key"]), find(url, rotated["key"])
    assert old is not None and old.active and old.expires_at is not None
    assert new is not None and new.active and new.expires_at is None
    result = invoke(url, "revoke", key["id"])
    assert (0, "revoked") == (result.exit_code, result.stdout.splitlines()[0].split()[1])
    for text in (key["key"], rotated["key"]):
        record = find(url, text)
        assert record is not None and not record.active
    result = invoke(url, "rotate", key["id"])
    assert (1, "", "error: The key is revoked, for good.\n") == (
        result.exit_code,
        result.stdout,
        result.stderr,
    )
    actions = [(one.actor, one.action) for one in audit(url)]
    assert [
        ("command-line", "key.create"),
        ("command-line", "key.rotate"),
        ("command-line", "key.revoke"),
    ] == actions


def test_import_reads_lines(url: str, tmp_path: Path) -> None:
    """From standard input or a file, with names or under one."""
    result = invoke(url, "import", "--name", "old", given=f"{GOOD_KEYS[0]}\n\n")
    assert (0, ["old"]) == (
        result.exit_code,
        [line.split()[1] for line in result.stdout.splitlines()[1:]],
    )
    file = tmp_path / "keys.txt"
    file.write_text(f"The other one {GOOD_KEYS[1]}\n")
    result = invoke(url, "import", str(file), "--tier", "pro", "--json")
    (imported,) = json.loads(result.stdout)["data"]
    assert ("The other one", "pro") == (imported["name"], imported["tier"])
    for text in GOOD_KEYS:
        assert find(url, text) is not None
        assert text not in result.stdout
    result = invoke(url, "import", "--name", "again", given=GOOD_KEYS[0])
    assert (1, True) == (result.exit_code, result.stderr.startswith("error: line 1: The key"))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (f"{GOOD_KEYS[0]}\nshort\n", "line 2: key: expected 20 to 512 characters"),
        (f"{GOOD_KEYS[0]}\n{'a' * 30}\n", "line 2: key: it is too regular"),
        ("", "there is no key to import"),
    ],
)
def test_import_takes_all_or_nothing_of_bad_input(url: str, lines: str, message: str) -> None:
    """Status 2 before anything is taken; the key is not repeated."""
    result = invoke(url, "import", "--name", "n", given=lines)
    assert (2, "") == (result.exit_code, result.stdout)
    assert result.stderr.startswith(f"error: {message}")
    made(url, "--name", "later")
    assert ["key.create"] == [one.action for one in audit(url)]


def test_a_redis_that_is_away_stops_no_revocation(url: str, tmp_path: Path) -> None:
    """Workers find out by themselves; a line on standard error says that they have to."""
    file = tmp_path / "gateway.yaml"
    file.write_text(
        "providers: {echo: {type: echo}}\n"
        f"storage: {{database: '{url}', redis: 'redis://127.0.0.1:1/0'}}\n"
    )
    key = made(url, "--name", "first")
    result = CliRunner().invoke(keys, ["revoke", key["id"], "--config", str(file)])
    warning = "warning: Redis does not answer; gateways notice within seconds\n"
    assert (0, warning) == (result.exit_code, result.stderr)
    record = find(url, key["key"])
    assert record is not None and not record.active


async def test_revocation_reaches_workers_through_redis(
    redis_url: str, url: str, tmp_path: Path
) -> None:
    """A worker that has the key in both levels of its cache refuses it at once."""
    file = tmp_path / "gateway.yaml"
    file.write_text(
        "providers: {echo: {type: echo}}\n"
        f"storage: {{database: '{url}', redis: '{redis_url}'}}\n"
    )
    key = await asyncio.to_thread(made, url, "--name", "first")
    engine = sql.open_engine(url)
    shared = RedisKeyCache(sql.SQLKeys(engine), redis=redis_url, timeout_seconds=5.0)
    worker = CachedKeys(shared, timeout_seconds=5.0)
    told = asyncio.Event()
    shared.on_forget(lambda digest: told.set())
    try:
        digest = digest_key(key["key"])
        async with asyncio.timeout(20):
            record = await worker.find(digest)
            assert record is not None and record.active
            # The worker begins to listen with its first look-up: ask until it has heard.
            while not told.is_set():
                result = await asyncio.to_thread(
                    CliRunner().invoke, keys, ["revoke", key["id"], "--config", str(file)]
                )
                assert 0 == result.exit_code, result.stderr
        record = await worker.find(digest)
        assert record is not None and not record.active
    finally:
        await shared.aclose()
        await engine.dispose()


def test_a_key_is_no_argument(url: str) -> None:
    """Arguments are seen by other users: there is no option that takes a key."""
    result = invoke(url, "import", "--key", GOOD_KEYS[0])
    assert (2, True) == (result.exit_code, "No such option" in result.stderr)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("show", "nobody"), 1, "There is no such key."),
        (("show", "x' OR '1'='1"), 1, "There is no such key."),
        (("revoke", "nobody"), 1, "There is no such key."),
        (("create", "--name", "x", "--team", "nobody"), 1, "There is no such team."),
        (("create", "--name", "x\n"), 2, "name: expected a name of 1 to 200 characters"),
        (("create", "--name", "x", "--limits", "60 foo"), 2, "limits[0]: '60 foo'"),
        (("create", "--name", "x", "--budgets", "-5/month"), 2, "budgets[0].amount_usd: expected"),
        (("create", "--name", "x", "--budgets", "5/year"), 2, "budgets[0].period: expected one of"),
        (("create", "--name", "x", "--expires", "99999d"), 2, "expires_at: it is more than 3653"),
        (("create", "--name", "x", "--expires", "soon"), 2, "expires_at: "),
        (("create", "--name", "x", "--expires", "0s"), 2, "expires_at: it is in the past"),
        (("create", "--name", "x", "--metadata", "x"), 2, "--metadata: expected NAME=VALUE"),
        (("list", "--team", "a b"), 2, "an id has at most 64"),
        (("list", "--after", "nonsense"), 2, "after: expected the next"),
    ],
)
def test_what_is_wrong_is_told(
    url: str, arguments: tuple[str, ...], status: int, message: str
) -> None:
    """One line on standard error; 1 where the directory has no such thing, 2 for wrong input."""
    made(url, "--name", "there")
    result = invoke(url, *arguments)
    assert (status, "") == (result.exit_code, result.stdout)
    assert result.stderr.startswith(f"error: {message}")


def test_an_older_or_missing_schema_is_not_made_by_reading(url: str) -> None:
    """List tells what to do; status 1."""
    result = invoke(url, "list")
    assert (1, "") == (result.exit_code, result.stdout)
    assert "run: asgi-llm db upgrade" in result.stderr


def test_a_wrong_url_is_not_repeated() -> None:
    """It may hold a password."""
    result = invoke("mysql://root:hunter2@host/x", "list")
    assert (2, False) == (result.exit_code, "hunter2" in result.stderr)


def test_names_in_the_database_do_not_steer_the_terminal(url: str) -> None:
    """Whatever wrote them there: control characters are shown as question marks."""
    made(url, "--name", "there")

    async def work() -> None:
        engine = sql.open_engine(url)
        directory = sql.SQLDirectory(engine)
        (key,) = (await directory.list(Key, where={}, limit=1)).items
        await directory.update(Key, key.id, {"name": "evil\x1b[2J\x9b"}, entry())
        await engine.dispose()

    asyncio.run(work())
    result = invoke(url, "list")
    assert "evil?[2J?" in result.stdout and "\x1b" not in result.stdout


def test_db_commands(url: str, tmp_path: Path) -> None:
    """Nothing, then the newest revision; a revision that there is not is status 2."""

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(db, [*arguments, "--database", url])
        return result.exit_code, result.stdout

    assert (0, "none\n") == run("current")
    status, revision = run("upgrade")
    assert (0, True) == (status, bool(revision.strip()))
    assert (0, revision) == run("current")
    assert (0, revision) == run("upgrade")
    assert 2 == run("upgrade", "--revision", "nonsense")[0]


def test_the_database_is_the_configurations(tmp_path: Path) -> None:
    """``--config`` and the environment say where it is; both options together are refused."""
    file = tmp_path / "gateway.yaml"
    file.write_text(
        f"providers: {{echo: {{type: echo}}}}\nstorage: {{database: 'sqlite:///{tmp_path}/a.db'}}\n"
    )
    runner = CliRunner()
    result = runner.invoke(keys, ["create", "--name", "x", "-q", "--config", str(file)])
    assert 0 == result.exit_code
    assert (tmp_path / "a.db").is_file()
    assert find(f"sqlite:///{tmp_path}/a.db", result.stdout.strip()) is not None
    both = ["list", "--config", str(file), "--database", "sqlite://"]
    assert 2 == runner.invoke(keys, both).exit_code
    environ = {"ASGI_LLM__STORAGE__DATABASE": f"sqlite:///{tmp_path}/b.db"}
    assert 0 == runner.invoke(keys, ["create", "--name", "x"], env=environ).exit_code
    assert (tmp_path / "b.db").is_file()


def test_the_installed_command(tmp_path: Path) -> None:
    """In a process of its own, in an empty directory: make a key, list it, and the revision."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *arguments],
            cwd=tmp_path,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

    created = run("keys", "create", "--name", "first", "--quiet")
    assert (0, "") == (created.returncode, created.stderr)
    assert created.stdout.startswith("sk-")
    assert "first" in run("keys", "list").stdout
    assert f"{head()}\n" == run("db", "current").stdout
    help_text = run("--help").stdout
    assert "keys" in help_text and "db " in help_text
