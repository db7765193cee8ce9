"""An app that says who it was called by, key stores of all kinds, and one request to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm.errors import StoreError
from asgi_llm.state import PRINCIPAL, enter
from asgi_llm.stores.base import KeyRecord
from asgi_llm.stores.key_material import digest_key
from asgi_llm.testing import Recorder, call, http_scope
from asgi_llm.types import Principal

KEY = "sk-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_abcde"
MASTER_KEY = "sk-aM4st3rK3yOfTh3G4t3w4y"
CALLER = Principal(key_id="key_1", key_name="laptop", user_id="ada", tier="pro")
NO_STORE = 503
Headers = list[tuple[str, str]] | list[tuple[bytes, bytes]]


class Inside:
    """An app that keeps the principals of its calls and answers with the body that it got."""

    def __init__(self, answer: bytes = b"{}", headers: Headers | None = None) -> None:
        self.principals: list[Principal | None] = []
        self.bodies: list[bytes] = []
        self.scopes: list[Scope] = []
        self._answer = answer
        self._headers = headers or [(b"content-type", b"application/json")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        self.principals.append(enter(scope)[1].get(PRINCIPAL))
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._answer})

    @property
    def calls(self) -> int:
        """How often it was called."""
        return len(self.principals)


class Table:
    """A key store without a cache; it counts, fails or waits as told."""

    def __init__(self, records: Mapping[str, KeyRecord | None] | None = None) -> None:
        self.records = {digest_key(key): record for key, record in (records or {}).items()}
        self.asked: list[bytes] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.entered = asyncio.Event()

    async def find(self, digest: bytes) -> KeyRecord | None:
        self.asked.append(digest)
        self.entered.set()
        answer = self.records.get(digest)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return answer


def table() -> Table:
    """A store that knows ``KEY``."""
    return Table({KEY: KeyRecord(principal=CALLER)})


def bearer(key: str = KEY) -> list[tuple[str, str]]:
    """The header that carries ``key``."""
    return [("authorization", f"Bearer {key}")]


async def ask(
    app: ASGIApp,
    headers: Headers | None = None,
    *,
    path: str = "/v1/files",
    method: str = "GET",
    document: Any = None,
    body: bytes = b"",
    **scope: Any,
) -> Recorder:
    """One request; by default one without a body that no layer has a reason to look into."""
    if document is not None:
        body = msgspec.json.encode(document)
    return await call(
        app,
        http_scope(method, path, headers=bearer() if headers is None else headers, **scope),
        body=body,
    )


def code(recorder: Recorder) -> str:
    """The error code of an answer."""
    found = recorder.json()["error"]["code"]
    assert isinstance(found, str)
    return found


def away() -> StoreError:
    """What a store raises that cannot say."""
    return StoreError("postgresql://admin:hunter2@db is down")


Clock = Callable[[], float]
