"""When a file counts as changed, what its version is, and who looks at it."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from asgi_llm.gateway._definitions import ServerDefinition
from asgi_llm.gateway._reload_fixed import keep_fixed
from asgi_llm.gateway._reload_version import version_of
from asgi_llm.gateway._reload_watch import FileWatch, file_stamp
from asgi_llm.gateway.config import load
from asgi_llm.gateway.reload import ReloadingGateway
from tests.e2e.faults.fleet import poll
from tests.gateway.reload.running import (
    DEADLINE_SECONDS,
    QUIET,
    ask,
    configuration,
    facts,
    file_of,
    running,
    write,
)

QUICK = {"reload": {"interval_seconds": 0.02}}
ECHO = "providers: {e: {type: echo}}\n"


def version(text: str, folder: Path, **environ: str) -> str:
    """The version of a file with this text."""
    file = folder / "some.yaml"
    file.write_text(text)
    return version_of(load(file, environ=environ).configuration)


def test_a_change_is_told_once_it_stays(tmp_path: Path) -> None:
    """Not while the file grows from look to look, and not twice."""
    file = tmp_path / "file"
    file.write_text("a")
    watch = FileWatch(str(file))
    assert [False, False] == [watch.look(), watch.look()]
    file.write_text("ab")
    assert not watch.look()
    file.write_text("abc")
    assert not watch.look()
    assert watch.look()
    assert [False, False] == [watch.look(), watch.look()]


def test_a_file_of_the_same_size_and_time_is_another(tmp_path: Path) -> None:
    """One that was moved into its place differs by its inode."""
    file, other = tmp_path / "file", tmp_path / "other"
    for one in (file, other):
        one.write_text("a")
        os.utime(one, ns=(1, 1))
    watch = FileWatch(str(file))
    other.replace(file)
    assert [False, True] == [watch.look(), watch.look()]


def test_a_link_that_leads_elsewhere_is_a_change(tmp_path: Path) -> None:
    """As where Kubernetes changes a ConfigMap: the file is a link into a folder that is one too."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "gateway.yaml").write_text("a")
    data, file = tmp_path / "..data", tmp_path / "gateway.yaml"
    data.symlink_to("first")
    file.symlink_to("..data/gateway.yaml")
    watch = FileWatch(str(file))
    assert not watch.look()
    new = tmp_path / "..data_tmp"
    new.symlink_to("second")
    new.replace(data)
    assert [False, True] == [watch.look(), watch.look()]


def test_a_file_that_is_away_for_a_moment_is_a_change_when_it_stays_away(tmp_path: Path) -> None:
    """And it is one again when it is back."""
    file, aside = tmp_path / "file", tmp_path / "aside"
    file.write_text("a")
    watch = FileWatch(str(file))
    file.replace(aside)
    assert not watch.look()
    aside.replace(file)
    assert [False, False] == [watch.look(), watch.look()]
    file.replace(aside)
    assert [False, True] == [watch.look(), watch.look()]
    aside.replace(file)
    assert [False, True] == [watch.look(), watch.look()]


def test_a_pipe_is_not_watched(tmp_path: Path) -> None:
    """What is read but once has no second state."""
    os.mkfifo(tmp_path / "pipe")
    assert file_stamp(str(tmp_path / "pipe")) is None
    assert not FileWatch(str(tmp_path / "pipe")).is_of_use


def test_the_version_is_of_what_counts(tmp_path: Path) -> None:
    """Equal for what means the same, another for each value, secrets and the environment's too."""
    first = version(ECHO, tmp_path)
    assert 12 == len(first)
    assert first == version("# a comment\nserver: {}\n" + ECHO, tmp_path)
    assert first == version("server: {port: 4000}\n" + ECHO, tmp_path)
    others = [
        version("server: {port: 4001}\n" + ECHO, tmp_path),
        version(ECHO, tmp_path, ASGI_LLM__SERVER__PORT="4002"),
        version("providers: {f: {type: echo}}\n", tmp_path),
    ]
    keyed = "providers: {o: {type: openai, api_key: '${KEY}'}}\n"
    others += [version(keyed, tmp_path, KEY="one"), version(keyed, tmp_path, KEY="two")]
    well_known = "providers: {o: {type: openai}}\n"
    others.append(version(well_known, tmp_path, OPENAI_API_KEY="three"))
    assert 1 + len(others) == len({first, *others})


def test_what_is_fixed_stays_as_it_is(tmp_path: Path) -> None:
    """Of the server what it was started with, of the books where they are; all else is taken."""

    def of(text: str) -> object:
        file = tmp_path / "gateway.yaml"
        file.write_text(ECHO + text)
        return load(file).configuration

    running = of("stack: [cost]\nstorage: {database: 'sqlite:///one.db'}\n")
    wanted = of(
        "stack: [{cost: {ledger: {delivery: redis}, journal: {fsync: never}, tell_cost: false}}]\n"
        "storage: {database: 'sqlite:///two.db', redis: 'redis://localhost'}\n"
        "server: {workers: 4, max_body_bytes: 7}\n"
    )
    fixed, keys = keep_fixed(
        running,  # type: ignore[arg-type]
        wanted,  # type: ignore[arg-type]
        has_database=True,
        told=None,
    )
    assert (
        "server.workers",
        "storage.database",
        "stack.cost.journal",
        "stack.cost.ledger.delivery",
    ) == keys
    assert (1, 7) == (fixed.server.workers, fixed.server.max_body_bytes)
    assert fixed.storage.redis is not None
    assert not fixed.stack[0].tell_cost  # type: ignore[attr-defined]
    wanted = of("stack: []\n")
    _, keys = keep_fixed(
        running,  # type: ignore[arg-type]
        wanted,  # type: ignore[arg-type]
        has_database=False,
        told=None,
    )
    assert () == keys


async def test_a_worker_keeps_to_what_its_server_was_started_with(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One that begins when the file says something else already; one line of the log says so."""
    started = ServerDefinition(workers=2)
    file = file_of(tmp_path, server={"reload": QUIET, "workers": 3, "max_body_bytes": 7})
    async with running(file, started_with=started) as gateway:
        server = gateway.loaded.configuration.server
        assert (2, 7) == (server.workers, server.max_body_bytes)
        assert ["server.workers"] == (await facts(gateway))["restart_required"]
        write(file, configuration(tmp_path, server={"reload": QUIET, "workers": 3, "port": 4001}))
        await gateway.reload()
        assert ["server.port", "server.workers"] == (await facts(gateway))["restart_required"]
        write(file, configuration(tmp_path, server={"reload": QUIET, "workers": 2}))
        await gateway.reload()
        assert "restart_required" not in await facts(gateway)
    told = [text for text in caplog.messages if "started again" in text]
    assert ["server.workers", "server.port, server.workers"] == [
        text.rpartition(": ")[2] for text in told
    ]


async def test_the_file_is_watched(tmp_path: Path) -> None:
    """A change is taken by itself, a bad one is refused by itself, and the next good one taken."""
    file = file_of(tmp_path, server=QUICK)
    async with running(file) as gateway:

        async def is_at(reloads: int, refused: int) -> bool:
            told = await facts(gateway)
            return bool((reloads, refused) == (told["reloads"], told["refused"]))

        changes: list[dict[str, Any]] = [{"models": {}}, {"stack": ["access_log"]}]
        for number, content in enumerate(changes, 1):
            write(file, configuration(tmp_path, **{"server": QUICK, **content}))
            await poll("it is taken", partial(is_at, number, number - 1), seconds=10)
            write(file, "providers: [")
            await poll("it is refused", partial(is_at, number, number), seconds=10)
        write(file, configuration(tmp_path, server=QUICK))
        await poll("the good one is taken", lambda: is_at(3, 2), seconds=10)
        assert "error" not in await facts(gateway)
        assert 200 == (await ask(gateway)).status


async def test_without_a_lifespan_the_first_request_begins_the_watch(tmp_path: Path) -> None:
    """In a host that starts nothing; there is no task beside the requests for it."""
    file = file_of(tmp_path, server=QUICK)
    gateway = ReloadingGateway(file)
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert 200 == (await ask(gateway)).status
        assert 1 == len(asyncio.all_tasks())
        write(file, configuration(tmp_path, models={}, server=QUICK))

        async def is_taken() -> bool:
            return 404 == (await ask(gateway)).status

        await poll("it is taken", is_taken, seconds=10)
        await gateway.aclose()
    assert 0 == len(gateway._carried)


def test_it_serves_on_one_event_loop_after_the_other(tmp_path: Path) -> None:
    """As in a host's tests: the watch goes on with the loop that is there."""
    file = file_of(tmp_path, server=QUICK)
    gateway = ReloadingGateway(file)

    async def serve() -> None:
        assert 200 == (await ask(gateway)).status

    async def change() -> None:
        reloads = gateway.reloads
        assert 200 == (await ask(gateway)).status
        write(file, configuration(tmp_path, *["access_log"] * (reloads + 1), server=QUICK))

        async def is_taken() -> bool:
            return gateway.reloads > reloads

        await poll("it is taken", is_taken, seconds=10)
        await gateway.aclose()

    for one in (serve, change, change):
        asyncio.run(one())


@pytest.mark.parametrize("enabled", [True, False])
async def test_watching_can_be_left_off(tmp_path: Path, enabled: bool) -> None:
    """Then a change waits for ``reload``, which may turn it on again."""
    options = {"reload": {"interval_seconds": 0.02, "enabled": enabled}}
    file = file_of(tmp_path, server=options)
    async with running(file) as gateway:
        write(file, configuration(tmp_path, models={}, server=QUICK))

        async def is_taken() -> bool:
            return gateway.reloads == 1

        if not enabled:
            # Real time is the subject: as long as the watch would need several times over.
            await asyncio.sleep(0.2)
            assert 0 == gateway.reloads
            await gateway.reload()
        await poll("it is taken", is_taken, seconds=10)
        write(file, configuration(tmp_path, server=QUICK))

        async def is_taken_again() -> bool:
            return gateway.reloads == 2

        await poll("it is taken", is_taken_again, seconds=10)
