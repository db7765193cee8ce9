"""Two tenants with all that they can have, and a way to ask the admin API as any of them."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from asgi_llm.gateway.admin import build_admin_app
from asgi_llm.state import PRINCIPAL, enter
from asgi_llm.stores.directory import (
    AuditEntry,
    Budget,
    Directory,
    Key,
    Organization,
    Team,
    User,
)
from asgi_llm.stores.key_material import digest_key
from asgi_llm.stores.sql.budget_rules import StoredBudgets
from asgi_llm.testing import Recorder, call, http_scope
from asgi_llm.types import Limit, Principal

START = 1_790_000_000.0
"""The time at first, in Unix seconds."""

ADMIN = Principal(role="admin", key_name="master")
TEAM_ADMIN = Principal(
    key_id="key_a_boss",
    user_id="user_a_boss",
    team_id="team_a",
    organization_id="org_a",
    role="team_admin",
    tier="pro",
    models=("openai/*", "echo/echo"),
    scopes=frozenset(("batch", "files")),
    limits=(Limit(unit="requests", amount=60, window_seconds=60),),
)
MEMBER = Principal(
    key_id="key_a_member",
    user_id="user_a_member",
    team_id="team_a",
    organization_id="org_a",
    tier="pro",
    models=("openai/*", "echo/echo"),
    limits=(Limit(unit="requests", amount=60, window_seconds=60),),
)
CALLERS = {"admin": ADMIN, "team_admin": TEAM_ADMIN, "member": MEMBER}


def moment(seconds: float = 0) -> datetime.datetime:
    """So many seconds after the start."""
    return datetime.datetime.fromtimestamp(START + seconds, datetime.UTC)


def secret(key_id: str) -> str:
    """The text of one of the keys below."""
    return f"sk-test-secret-of-{key_id}"


def entry(action: str = "test.add", target: str = "test:1") -> AuditEntry:
    return AuditEntry(at=moment(-100), actor="master", action=action, target=target)


async def fill(directory: Directory) -> None:
    """Tenants ``a`` and ``b``, alike: a team, its admin and a member, and a key of each.

    The team's limits, budget, tier and models are what its people have; ``org_a`` has a member
    outside the team too.
    """
    seconds = 0
    for name in ("a", "b"):
        shared: dict[str, Any] = {"organization_id": f"org_{name}"}
        await directory.add(
            Organization(id=f"org_{name}", name=f"Org {name}", created_at=moment(-90)), entry()
        )
        await directory.add(
            Team(
                id=f"team_{name}",
                name=f"Team {name}",
                created_at=moment(-80),
                tier="pro",
                limits=(Limit(unit="requests", amount=60, window_seconds=60),),
                budgets=(Budget(amount_usd="100", period="month"),),
                models=("openai/*", "echo/echo"),
                **shared,
            ),
            entry(),
        )
        shared["team_id"] = f"team_{name}"
        for part in ("boss", "member"):
            seconds += 1
            role: Any = "team_admin" if part == "boss" else "member"
            await directory.add(
                User(
                    id=f"user_{name}_{part}",
                    name=f"{part} {name}",
                    created_at=moment(seconds - 70),
                    role=role,
                    **shared,
                ),
                entry(),
            )
            await add_key(
                directory,
                f"key_{name}_{part}",
                created_at=moment(seconds - 60),
                user_id=f"user_{name}_{part}",
                role=role,
                scopes=frozenset(("batch", "files") if part == "boss" else ()),
                **shared,
            )
    await directory.add(
        Team(id="team_a2", name="Other", created_at=moment(-50), organization_id="org_a"), entry()
    )


async def add_key(directory: Directory, id: str, **fields: Any) -> Key:
    """A key past the API, with a text that tests know."""
    key = Key(**{"id": id, "name": id, "hint": id[-4:], "created_at": moment(-10), **fields})
    await directory.add_key(key, digest_key(secret(id)), entry())
    return key


class API:
    """The admin API over a directory.

    Attributes:
        forgotten: Digests that caches were told to forget, in order.
        budgets: Those that were given to it.
        now: What its clock says, in Unix seconds.
    """

    def __init__(self, directory: Directory, **options: Any) -> None:
        self.directory = directory
        self.forgotten: list[bytes] = []
        self.now = START
        self.budgets: StoredBudgets | None = options.get("budgets")
        options.setdefault("invalidate", self._invalidate)
        self.app = build_admin_app(directory, clock=lambda: self.now, **options)

    async def snapshot(self) -> list[Any]:
        """All that there is, the log and the stored budgets too."""
        found = await snapshot(self.directory)
        if self.budgets is not None:
            found.append(list((await self.budgets.list(where={}, limit=1000)).items))
        return found

    async def _invalidate(self, digests: Sequence[bytes]) -> None:
        self.forgotten.extend(digests)

    async def ask(
        self,
        caller: Principal | None,
        method: str,
        path: str,
        json: Any = None,
        *,
        body: bytes | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """One request, as a layer outside the app has found its caller."""

        async def identified(scope: Scope, receive: Receive, send: Send) -> None:
            scope, state = enter(scope)
            if caller is not None:
                state.set(PRINCIPAL, caller)
            await self.app(scope, receive, send)

        if body is not None:
            headers = [("content-type", "application/json"), *headers]
        scope = http_scope(method, path, headers)
        return Answer(await call(identified, scope, body=body or b"", json=json))


class Answer:
    """What came back."""

    def __init__(self, recorder: Recorder) -> None:
        self.status = recorder.status
        self.body = recorder.body
        self.headers = {name.decode(): value.decode() for name, value in recorder.headers}

    @property
    def json(self) -> Any:
        """The body."""
        return msgspec.json.decode(self.body)

    @property
    def error(self) -> tuple[int | None, str, str | None]:
        """Status, code and param."""
        error = self.json["error"]
        return self.status, error["code"], error["param"]


async def snapshot(directory: Directory) -> list[Any]:
    """All that a directory holds, its log too."""
    pages = [
        await directory.list(kind, where={}, limit=1000) for kind in (Organization, Team, User, Key)
    ]
    pages.append(await directory.audit_log(where={}, limit=1000))
    return [list(page.items) for page in pages]
