"""A file that is wrong changes nothing, and is told of."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway.reload import ReloadingGateway
from asgi_llm.stores.key_material import new_key
from asgi_llm.testing import call, http_scope
from tests.gateway.reload.running import (
    ask,
    configuration,
    facts,
    file_of,
    running,
    write,
)

ECHO = "providers: {e: {type: echo}}\n"
CYCLE = "providers: &all {e: {type: echo}, all: *all}\n"


def _half(file: Path) -> None:
    file.write_text(file.read_text()[:60])


def _says(text: str) -> Callable[[Path], None]:
    return lambda file: write(file, text)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        pytest.param(_half, "gateway.yaml:1:61: not valid YAML", id="half written"),
        pytest.param(_says(""), "gateway.yaml: providers: no provider", id="empty"),
        pytest.param(
            _says(ECHO + "# " + "x" * (10 * 1024 * 1024)),
            "gateway.yaml: the file is larger than 10 MB",
            id="over the limit",
        ),
        pytest.param(_says(CYCLE), "the anchor *all is not defined above", id="cyclic"),
        pytest.param(
            _says(ECHO + "sorver: {}\n"),
            "gateway.yaml:2:1: sorver: unknown key, did you mean server?",
            id="unknown field",
        ),
        pytest.param(_says("a: [b\nc: d"), "gateway.yaml:2:2: not valid YAML", id="no YAML"),
        pytest.param(
            _says(ECHO + "models: {m: {targets: [{provider: f, model: x}]}}\n"),
            "gateway.yaml:2:25: models.m.targets[0].provider: no provider 'f' is configured",
            id="provider missing",
        ),
        pytest.param(
            _says(ECHO + "stack: [{rate_limit: {limits: [often]}}]\n"),
            "gateway.yaml:2:32: stack[0].rate_limit.limits[0]",
            id="refused by a layer",
        ),
        pytest.param(
            _says("providers: {o: {type: openai, api_key: ${NOT_SET_ANYWHERE}}}\n"),
            "gateway.yaml:1:40: providers.o.api_key: the environment variable NOT_SET_ANYWHERE",
            id="variable missing",
        ),
        pytest.param(
            lambda file: file.write_bytes(b"\xff\xfe\xfa"),
            "gateway.yaml: the file is not UTF-8",
            id="no text",
        ),
        pytest.param(Path.unlink, "gateway.yaml: the file cannot be read", id="missing"),
    ],
)
async def test_b32_a_bad_file_changes_nothing(
    tmp_path: Path,
    spoil: Callable[[Path], None],
    problem: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The old one serves on; log and readiness tell of it, and a good one heals it."""
    file = file_of(tmp_path, {"rate_limit": {"limits": ["5 requests/hour"]}})
    good = file.read_text()
    async with running(file) as gateway:
        before, held = await facts(gateway), list(gateway._carried._entries)
        assert b"4" == (await ask(gateway)).header("x-ratelimit-remaining-requests")
        spoil(file)
        with pytest.raises(ConfigurationError) as caught:
            await gateway.reload()
        assert problem in caught.value.message
        lines = [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
        assert [
            f"the configuration was not taken: {one}"
            for one in str(caught.value.message).splitlines()
        ] == lines
        assert any(problem in line for line in lines)
        after = await facts(gateway)
        assert (before["version"], 0, 1) == (after["version"], after["reloads"], after["refused"])
        assert after["error"].endswith("1 problem, told in the log")
        assert "gateway.yaml" not in json.dumps(after)
        assert b"3" == (await ask(gateway)).header("x-ratelimit-remaining-requests")
        assert held == gateway._carried._entries
        write(file, good)
        assert before["version"] == await gateway.reload()
        assert "error" not in await facts(gateway)
        assert b"2" == (await ask(gateway)).header("x-ratelimit-remaining-requests")


async def test_b32_each_problem_has_its_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All of them are told at once, with file, line and key, and no secret among them."""
    file = file_of(tmp_path)
    async with running(file) as gateway:
        write(file, "providers: {e: {type: ecko}}\nstack:\n  - auth: {master_kay: sk-hidden}\n")
        with pytest.raises(ConfigurationError):
            await gateway.reload()
        lines = [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
        assert 2 == len(lines)
        assert "gateway.yaml:1:23: providers.e.type: unknown provider type 'ecko'" in lines[0]
        assert "gateway.yaml:3:12: stack[0].auth.master_kay: unknown key" in lines[1]
        assert "sk-hidden" not in caplog.text
        assert "2 problems" in (await facts(gateway))["error"]


async def test_b32_a_failure_that_nobody_foresaw_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A part that raises anything at all while it is made leaves the old gateway as it was."""
    (tmp_path / "shadow").mkdir()
    file = file_of(tmp_path)
    async with running(file) as gateway:
        write(file, configuration(tmp_path, {"access_log": {}}, providers={"e": {"type": "echo"}}))
        gateway._carried._entries.insert(0, _Unequal())  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="cannot be put together"):
            await gateway.reload()
        assert "RuntimeError" in caplog.text
        del gateway._carried._entries[0]
        assert 200 == (await ask(gateway)).status
        assert 1 == (await facts(gateway))["refused"]


class _Unequal:
    kind = "transport"

    @property
    def key(self) -> object:
        raise RuntimeError("no key")


async def test_no_change_lets_strangers_in(tmp_path: Path) -> None:
    """Where others can reach the address, one that leaves out auth is refused."""
    key = new_key()
    auth = {"auth": {"keys": [{"name": "k", "key": key}]}}
    file = file_of(tmp_path, auth)
    async with running(file, must_authenticate=True) as gateway:
        write(file, configuration(tmp_path))
        with pytest.raises(ConfigurationError, match="stack: callers would not be authenticated"):
            await gateway.reload()
        assert 401 == (await ask(gateway)).status
        assert 200 == (await ask(gateway, key)).status


async def test_b32_reloads_at_the_same_time_are_one_after_the_other(tmp_path: Path) -> None:
    """Each is whole; the last state of the file is what counts."""
    file = file_of(tmp_path)
    async with running(file) as gateway:
        write(file, configuration(tmp_path, "access_log"))
        versions = await asyncio.gather(*(gateway.reload() for _ in range(4)))
        assert {gateway.version} == set(versions)
        assert 4 == gateway.reloads
        assert 200 == (await ask(gateway)).status


def test_a_bad_file_at_the_start_is_an_error(tmp_path: Path) -> None:
    """There is no old one that could stay."""
    file = tmp_path / "gateway.yaml"
    file.write_text("providers: {e: {type: ecko}}")
    with pytest.raises(ConfigurationError, match="unknown provider type"):
        ReloadingGateway(file)


async def test_b32_the_metrics_tell_what_was_taken_and_refused(tmp_path: Path) -> None:
    """Counted over all gateways of the process, as every other figure is."""
    pytest.importorskip("prometheus_client")
    telemetry = {"telemetry": {"public": True}}
    file = file_of(tmp_path, telemetry)
    async with running(file) as gateway:
        for number in range(2):
            write(file, configuration(tmp_path, telemetry, *["access_log"] * number))
            await gateway.reload()
        write(file, "providers: [")
        with pytest.raises(ConfigurationError):
            await gateway.reload()
        answer = await call(gateway, http_scope(method="GET", path="/metrics"))
        for outcome, count in (("taken", 2), ("refused", 1)):
            line = f'llm_configuration_reloads_total{{outcome="{outcome}"}} {count}.0'
            assert line in answer.body.decode()


async def test_b32_whether_users_are_told_apart_needs_a_restart(tmp_path: Path) -> None:
    """The figures go on, and the rest of the layer is taken; how many they are changes at once."""
    pytest.importorskip("prometheus_client")

    def telemetry(**options: Any) -> dict[str, Any]:
        return {"telemetry": {"public": True, **options}}

    none = file_of(tmp_path, telemetry())
    async with running(none) as gateway:
        assert 200 == (await ask(gateway)).status
        write(none, configuration(tmp_path, telemetry(max_users=5, path="/figures")))
        await gateway.reload()
        assert ["stack.telemetry.max_users"] == (await facts(gateway))["restart_required"]
        answer = await call(gateway, http_scope(method="GET", path="/figures"))
        (told,) = [
            line
            for line in answer.body.decode().splitlines()
            if line.startswith("llm_requests_total{")
        ]
        assert told.endswith(" 1.0")
    some = file_of(tmp_path, telemetry(max_users=5))
    async with running(some) as gateway:
        for max_users, needed in ((7, False), (0, True), (1, False)):
            write(some, configuration(tmp_path, telemetry(max_users=max_users)))
            await gateway.reload()
            assert needed == ("restart_required" in await facts(gateway))


async def test_b32_the_figures_outlive_their_layer(tmp_path: Path) -> None:
    """What was counted is there when the layer is again, once; under the labels that it had."""
    pytest.importorskip("prometheus_client")
    telemetry = {"telemetry": {"public": True}}
    file = file_of(tmp_path, telemetry)
    async with running(file) as gateway:
        assert 200 == (await ask(gateway)).status
        write(file, "providers: [")
        with pytest.raises(ConfigurationError):
            await gateway.reload()
        write(file, configuration(tmp_path))
        await gateway.reload()
        assert 404 == (await call(gateway, http_scope(method="GET", path="/metrics"))).status
        write(file, configuration(tmp_path, {"telemetry": {"public": True, "max_users": 5}}))
        await gateway.reload()
        assert ["stack.telemetry.max_users"] == (await facts(gateway))["restart_required"]
        answer = await call(gateway, http_scope(method="GET", path="/metrics"))
        told = answer.body.decode().splitlines()
        for outcome, count in (("taken", 2), ("refused", 1)):
            assert f'llm_configuration_reloads_total{{outcome="{outcome}"}} {count}.0' in told
        (requests,) = [line for line in told if line.startswith("llm_requests_total{")]
        assert requests.endswith(" 1.0")
