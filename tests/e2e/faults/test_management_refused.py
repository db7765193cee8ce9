"""The admin API of a running gateway is closed in every way of writing its paths."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from asgi_llm.stores.key_material import new_key
from tests.e2e.faults.fleet import Fleet
from tests.e2e.faults.management import MASTER, manage
from tests.e2e.faults.wire import Connection

ROUTES: list[tuple[str, str, dict[str, Any] | None]] = [
    ("GET", "/admin/organizations", None),
    ("GET", "/admin/audit", None),
    ("POST", "/admin/keys", {"name": "mine"}),
    ("POST", "/admin/users", {"name": "me", "role": "admin"}),
    ("DELETE", "/admin/teams/any", None),
    ("POST", "/admin/budgets", {"scope": "everyone", "amount_usd": "1000000"}),
    ("DELETE", "/admin/budgets/any", None),
]
AS_WRITTEN = ["{}", "{}/", "{}?", "/%61dmin{rest}", "/adm%69n{rest}", "http://x{}"]
"""Ways that mean the same path."""
OTHERS = [
    "/{}",
    "//{}",
    "/admin/..{}",
    "/x/..{}",
    "/.{}",
    "/%2e%2e{}",
    "/health/live/../..{}",
    "/health/live%2f..%2f..{}",
    "/health/live;{}",
    "/docs/..{}",
    "/v1/..{}",
    "/ADMIN{rest}",
    "/Admin{rest}",
    "/admin/{rest}",
    "/admin%2F{rest}",
    "/%2561dmin{rest}",
    "/admin;a=1{rest}",
    "/admin%00{rest}",
    "/admin\\{rest}",
    "{};a",
    "{}//",
]
"""Ways that some router takes for the same path."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A gateway with an admin API, and paths that need no key."""
    folder = tmp_path_factory.mktemp("fleet")
    configuration = {
        "providers": {"e": {"type": "echo"}},
        "storage": {"database": f"sqlite:///{folder}/keys.db"},
        "stack": ["access_log", {"auth": {"master_key": MASTER}}, "cost"],
    }
    with Fleet(folder, configuration, workers=1) as fleet:
        yield fleet


@pytest.fixture
async def connection(fleet: Fleet) -> AsyncIterator[Connection]:
    """One to its worker."""
    async with asyncio.timeout(60), fleet.connections(1) as kept:
        yield next(iter(kept.values()))[0]


async def log_of_changes(connection: Connection) -> Any:
    """What anybody has changed so far."""
    answer = await connection.ask("/admin/audit?limit=100", key=MASTER)
    assert 200 == answer.status
    return answer.json["data"]


def written(form: str, path: str) -> str:
    return form.format(path, rest=path.removeprefix("/admin"))


@pytest.mark.parametrize("form", [*AS_WRITTEN, *OTHERS])
async def test_a5_cve_2026_12772_no_way_of_writing_a_path_is_a_way_in(
    connection: Connection, form: str
) -> None:
    """401 without a key of ours, 403 at most with too small a role, and nothing has changed."""
    member = (await manage(connection, name="member", role="member")).text
    before = await log_of_changes(connection)
    small = {403} if form in AS_WRITTEN else {403, 404}
    for method, path, document in ROUTES:
        for key, expected in ((None, {401}), (new_key(), {401}), (member, small)):
            answer = await connection.ask(
                written(form, path), key=key, document=document, method=method
            )
            assert answer.status in expected, (method, written(form, path), answer)
    assert before == await log_of_changes(connection)
