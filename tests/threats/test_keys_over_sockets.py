"""Keys of a whole gateway over real sockets: no way round them, and none of them is shown."""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import func, select

from asgi_llm.gateway.admin._routes import ROUTES as ADMIN_ROUTES
from asgi_llm.stores.key_material import new_key
from asgi_llm.stores.sql import open_engine
from asgi_llm.stores.sql.models import Base
from asgi_llm.testing import Reset, chat_events, error_answer, json_reply, raw_reply, sse_reply
from tests.stores.sql.test_injection import STRINGS
from tests.threats.conftest import SECRET, Raw
from tests.threats.whole import CHAT, MASTER, PUBLIC, Whole, every_route, whole_gateway

AT_ONCE = 16


@pytest.fixture
async def whole(tmp_path: Path) -> AsyncIterator[Whole]:
    """On SQLite."""
    async with whole_gateway(f"sqlite:///{tmp_path}/gateway.db") as one:
        yield one


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/gateway.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


HOSTS = [
    "a/#@b",
    "a/health/live#@b",
    "x/health/live?",
    "/health/live",
    "127.0.0.1@evil",
    "x/../health/live",
    "[::1",
    "x:99999",
    "x y",
    "v1/models?",
    "",
    "127.0.0.1",
]


async def test_a7_cve_2026_49468_no_host_changes_what_a_key_opens(whole: Whole) -> None:
    """Each route, each odd Host: the decision of a plain one, or the server's own refusal."""
    for method, path in every_route():
        for key in (None, whole.member):
            plain = await whole.ask(method, path, key, {})
            assert key is not None or plain.status == 401
            answers = await asyncio.gather(
                *(whole.ask(method, path, key, {}, host=host) for host in HOSTS)
            )
            for host, answer in zip(HOSTS, answers, strict=True):
                by_server = answer.status == 400 and answer.header("x-request-id") is None
                assert by_server or answer.status == plain.status, (method, path, host)


async def test_cve_2026_12772_every_route_of_a_gateway_needs_a_key(whole: Whole) -> None:
    """Without one, with one that is unknown or revoked, or in a cookie: 401, and no session."""
    revoked_id, revoked = await whole.make_key("revoked")
    assert 200 == (await whole.ask("POST", "/v1/chat/completions", revoked, CHAT)).status
    await whole.ask("POST", f"/admin/keys/{revoked_id}/revoke", MASTER, {})
    log = (await whole.ask("GET", "/admin/audit?limit=100", MASTER)).json
    cookies = f"cookie: session={MASTER}; token={whole.member}; authorization=Bearer {MASTER}"
    for method, path in every_route(whole.member_id):
        answers = [
            await whole.ask(method, path, None, {}),
            await whole.ask(method, path, None, {}, cookies),
            await whole.ask(method, path, new_key(), {}),
            await whole.ask(method, path, revoked, {}),
        ]
        for answer in answers:
            assert 401 == answer.status, (method, path)
            assert answer.header("set-cookie") is None
    assert log == (await whole.ask("GET", "/admin/audit?limit=100", MASTER)).json
    for path in PUBLIC:
        assert 200 == (await whole.ask("GET", path)).status


async def counts(database: str) -> dict[str, int]:
    """Rows of each table, but of those that calls and looks at budgets write."""
    engine = open_engine(database)
    async with engine.connect() as connection:
        found = {
            name: (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            for name, table in Base.metadata.tables.items()
            if not name.startswith(("llm_ledger", "llm_usage", "llm_budget_rules_revision"))
        }
    await engine.dispose()
    return found


async def all_of(asked: Iterable[tuple[str, str, str | None, object, tuple[str, ...]]],
                 whole: Whole) -> list[Raw]:  # fmt: skip
    """Answers to many requests, some of them at the same time."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(
        method: str, path: str, key: str | None, document: object, headers: tuple[str, ...]
    ) -> Raw:
        async with room:
            return await whole.ask(method, path, key, document, *headers)

    return await asyncio.gather(*(one(*each) for each in asked))


CREDENTIALS = ("authorization: Bearer {}", "authorization: {}", "x-api-key: {}", "api-key: {}",
               "x-goog-api-key: {}")  # fmt: skip
OTHER_HEADERS = ("user-agent", "x-request-id", "x-forwarded-for", "idempotency-key", "origin",
                 "openai-organization", "x-stainless-lang", "referer")  # fmt: skip


async def test_cve_2026_42208_no_header_path_or_query_is_read_as_sql(database: str) -> None:
    """What SQL scanners send opens nothing, fails nothing and changes nothing, on each database."""
    async with whole_gateway(database) as whole:
        before = await counts(database)
        on_the_wire = [text.encode().decode("latin-1") for text in STRINGS]
        refused = [
            ("GET", path, None, None, (header.format(text),))
            for text in on_the_wire
            for header in CREDENTIALS
            for path in ("/v1/models", "/admin/keys")
        ]
        assert {401} == {answer.status for answer in await all_of(refused, whole)}
        served = [
            ("POST", "/v1/chat/completions", whole.member, CHAT,
             tuple(f"{name}: {text}" for name in OTHER_HEADERS))
            for text in on_the_wire
        ]  # fmt: skip
        assert {200} == {answer.status for answer in await all_of(served, whole)}
        questions = [
            ("GET", f"{one.path}?{name}={quote(text, safe='')}", MASTER, None, ())
            for text in STRINGS
            for one in ADMIN_ROUTES
            for name in ("limit", "after", *(one.filters or {}))
            if one.action == "list"
        ]
        for answer in await all_of(questions, whole):
            assert answer.status in (200, 400, 422)
            assert answer.status != 200 or answer.json["data"] == []
        assert before == await counts(database)


async def test_issue_12402_no_management_call_reads_an_id_as_sql(database: str) -> None:
    """Each route with each string where its id stands: there is nobody of that name."""
    async with whole_gateway(database) as whole:
        before = await counts(database)
        bodies = {"rotate": {}, "revoke": {}, "update": {"name": "x"},
                  "update_budget": {"amount_usd": "1"}}  # fmt: skip
        asked = [
            (one.method, one.path.replace("{id}", quote(text, safe="")), MASTER,
             bodies.get(one.action), ())
            for text in STRINGS
            for one in ADMIN_ROUTES
            if "{id}" in one.path
        ]  # fmt: skip
        answers = await all_of(asked, whole)
        assert {400, 404} >= {answer.status for answer in answers}
        # A key's own text is no id either, and a change by it ends no key.
        for action in ("rotate", "revoke"):
            answer = await whole.ask("POST", f"/admin/keys/{whole.member}/{action}", MASTER, {})
            assert 404 == answer.status
        assert 200 == (await whole.ask("POST", "/v1/chat/completions", whole.member, CHAT)).status
        assert before == await counts(database)


PIECE = 12
"""So many characters of a key in a row are a part of it; a hint has four."""


def forms(secret: str) -> list[bytes]:
    """The secret in pieces, encoded, and its digest."""
    pieces = [secret[at : at + PIECE] for at in range(3, len(secret) - PIECE)]
    encoded = [
        base64.b64encode(b"x" * shift + text.encode())[4:-4].decode()
        for text in (secret, f"Bearer {secret}")
        for shift in range(3)
    ]
    whole = [secret.encode().hex(), hashlib.sha256(secret.encode()).hexdigest()]
    return [text.encode() for text in (*pieces, *encoded, *whole)]


def shown(data: bytes, secrets: Iterable[str]) -> set[bytes]:
    return {one for secret in secrets for one in forms(secret) if one in data}


@pytest.mark.parametrize(
    "leak",
    [
        lambda key: key,
        lambda key: f"Bearer {key}",
        lambda key: key[: len(key) // 2],
        lambda key: key[len(key) // 2 :],
        lambda key: base64.b64encode(key.encode()).decode(),
        lambda key: base64.b64encode(f"user:Bearer {key}".encode()).decode(),
        lambda key: base64.b64encode(f"x{key}y".encode()).decode(),
        lambda key: key.encode().hex(),
        lambda key: hashlib.sha256(key.encode()).hexdigest(),
    ],
)
def test_incident_2026_03_18_the_search_finds_a_key(leak: Callable[[str], str]) -> None:
    """Whole, in part, encoded or digested."""
    for key in (SECRET, MASTER):
        assert shown(f"told {leak(key)} to all".encode(), [key])
        assert set() == shown(f"told {leak(new_key())} to all".encode(), [key])


async def test_incident_2026_03_18_no_credential_is_shown_anywhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in answers, logs, rows, files or representations, whatever fails on the way."""
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "gateway.db"
    seen: list[bytes] = []
    async with whole_gateway(f"sqlite:///{file}", fresh_seconds=0.01) as whole:
        secrets = [SECRET, MASTER, whole.member]
        told = f"bad key {SECRET} (Authorization: Bearer {SECRET}) for {whole.member}"
        stream = {**CHAT, "stream": True}
        whole.door.upstream.script(
            json_reply(chat_answer_of_nothing()),
            sse_reply(chat_events("Hi")),
            *(error_answer(status, told) for status in (400, 401, 403, 404, 429, 500)),
            error_answer(200, told, code="server_error"),
            sse_reply([{"error": {"message": told, "code": 500}}], done=False),
            sse_reply([*chat_events("Hi")[:2], {"error": {"message": told}}], done=False),
            json_reply(f'{{"{SECRET}": '.encode()),
            raw_reply([Reset()]),
            raw_reply(f"HTTP/1.1 200 OK\r\n{SECRET}\r\n\r\n".encode()),
        )
        documents = [CHAT, stream, *[CHAT] * 7, stream, stream, CHAT, CHAT, CHAT]
        statuses = []
        for document in documents:
            answer = await whole.ask("POST", "/v1/chat/completions", whole.member, document)
            statuses.append(answer.status)
            seen.append(answer.head + answer.body)
        expected = [200, 200, 400, 502, 502, 404, 429, 502, 502, 502, 200, 502, 502, 502]
        assert expected == statuses
        refused = [
            (whole.member, f"/v1/models?key={whole.member}", ()),
            (whole.member, "/v1/models", (f"x-api-key: {MASTER}",)),
            (MASTER, "/v1/models", ()),
            (whole.member, f"/{whole.member}", (f"x-request-id: {MASTER}" * 4,)),
            (MASTER, "/admin/keys", ()),
            (MASTER, f"/admin/keys/{whole.member_id}", ()),
            (MASTER, "/admin/audit", ()),
            (MASTER, "/admin/usage", ()),
            (None, "/health", ()),
            (whole.member, "/v1/models", ()),
        ]
        for key, path, headers in refused:
            answer = await whole.ask("GET", path, key, None, *headers)
            seen.append(answer.head + answer.body)
        own = repr(whole.gateway)
        own += "".join(
            repr(one)
            for one in gc.get_objects()
            if str(type(one).__module__).startswith(("asgi_llm.gateway", "asgi_llm.middleware",
                                                "asgi_llm.stores", "asgi_llm.providers"))
        )  # fmt: skip
        kept = [one.read_bytes() for one in files_of(tmp_path)]
        with closing(sqlite3.connect(file)) as control:
            rows = "\n".join(control.iterdump())
            control.execute("ALTER TABLE llm_credentials RENAME TO llm_gone")
            control.commit()
        for key in (whole.member, new_key()):
            answer = await whole.ask("POST", "/v1/chat/completions", key, CHAT)
            seen.append(answer.head + answer.body)
        assert 503 == answer.status
    assert set() == shown(b"\n".join(seen), secrets)
    assert set() == shown(caplog.text.encode(), secrets)
    assert set() == shown(own.encode(), secrets)
    # The digest is in its table, and nowhere else in the database.
    digest = hashlib.sha256(whole.member.encode()).hexdigest()
    assert 1 == rows.lower().count(digest)
    assert set() == shown(rows.lower().replace(digest, "").encode(), secrets)
    assert 1 < len(kept)
    for data in (*kept, *(one.read_bytes() for one in files_of(tmp_path))):
        assert set() == shown(data, secrets)


def files_of(folder: Path) -> list[Path]:
    """The database's, and while the gateway runs the journal's."""
    return [one for one in folder.rglob("*") if one.is_file()]


def chat_answer_of_nothing() -> dict[str, object]:
    return {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [],
            "usage": {"prompt_tokens": 1, "completion_tokens": 0, "total_tokens": 1}}  # fmt: skip


CLAIMS = (
    "x-tenant", "x-role", "x-user-role", "x-user-id", "x-team-id", "role", "x-tier", "x-principal",
    "x-organization-id", "x-asgi-llm-principal", "x-cost", "x-cache-status", "x-forwarded-user",
    "remote-user", "x-remote-user", "x-authenticated-user", "x-original-url", "x-rewrite-url",
    "x-forwarded-prefix",
)  # fmt: skip


async def test_a4_no_header_makes_a_caller_somebody_else(whole: Whole) -> None:
    """Headers that name a tenant, a role or a price are not looked at, by any route."""
    claims = tuple(f"{name}: {value}" for name in CLAIMS for value in ("admin", "/health/live"))
    for method, path in every_route():
        for key in (None, whole.member):
            plain = await whole.ask(method, path, key, {})
            claimed = await whole.ask(method, path, key, {}, *claims)
            assert plain.status == claimed.status, (method, path)
            assert key is not None or plain.status == 401


async def test_b2_a_key_is_its_bytes_over_the_wire(whole: Whole) -> None:
    """Over a socket, too, a variant of a key is no key; what servers strip at a value's end is."""
    key = whole.member
    for variant in (
        key.swapcase(), f'"{key}"', f"Bearer {key}", key[:-1], f"{key}{key[-1]}", f"{key},{key}",
        f"{key}%20", f" {key}", f"\t{key}", "".join(chr(ord(c) + 0xFEE0) for c in key),
    ):  # fmt: skip
        header = f"authorization: Bearer {variant}".encode().decode("latin-1")
        answer = await whole.ask("GET", "/v1/models", None, None, header)
        assert answer.status in (400, 401), variant
    stripped = await whole.ask("GET", "/v1/models", None, None, f"authorization: Bearer {key} ")
    assert stripped.status in (200, 401)
