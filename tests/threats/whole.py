"""The prebuilt gateway with keys, limits, a ledger and a database, on a real socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from asgi_llm.gateway.admin._routes import ROUTES as ADMIN_ROUTES
from asgi_llm.gateway.build import load_gateway
from asgi_llm.gateway.compose import Gateway
from asgi_llm.providers.app import ROUTES as API_ROUTES
from asgi_llm.stores.key_material import new_key
from asgi_llm.testing import Upstream, chat_answer, json_reply
from asgi_llm.testing.serving import serve
from tests.threats.conftest import SECRET, Door, Raw

MASTER = new_key()
CHAT: dict[str, Any] = {"model": "up/m", "messages": [{"role": "user", "content": "hi"}]}
JSON = "content-type: application/json"
PUBLIC = ("/health", "/health/live", "/health/ready", "/openapi.json", "/docs")
MODEL_ROUTES = [("GET", "/v1/models"), ("GET", "/v1/models/up/m")]


def every_route(id: str = "nobody") -> list[tuple[str, str]]:
    """Method and path of all that needs a key, ``id`` in the place of an id."""
    admin = [(one.method, one.path.replace("{id}", quote(id, safe=""))) for one in ADMIN_ROUTES]
    posts = [("POST", path) for path in API_ROUTES if path != "/v1/models"]
    return [*admin, *posts, *MODEL_ROUTES]


class Whole:
    """A gateway that runs, and its door.

    Attributes:
        door: Where it listens.
        gateway: Itself.
        member: A key of its database.
        member_id: Of that key.
    """

    def __init__(self, door: Door, gateway: Gateway) -> None:
        self.door = door
        self.gateway = gateway
        self.member = self.member_id = ""

    async def ask(
        self,
        method: str,
        path: str,
        key: str | None = None,
        document: Any = None,
        *headers: str,
        host: str = "gateway",
    ) -> Raw:
        """One request over a connection of its own."""
        credential = () if key is None else (f"authorization: Bearer {key}",)
        body = b"" if document is None else json.dumps(document).encode()
        return await self.door.post(
            body, path=path, method=method, headers=(JSON, *credential, *headers), host=host
        )

    async def make_key(self, name: str, **fields: Any) -> tuple[str, str]:
        """A key's id and its text."""
        made = await self.ask("POST", "/admin/keys", MASTER, {"name": name, **fields})
        assert made.status == 201, made.body
        return made.json["id"], made.json["key"]


def configuration(database: str, upstream: Upstream, **auth: Any) -> dict[str, Any]:
    """All that has to do with keys, over a provider whose key is ``SECRET``."""
    prices = {"overrides": {"up": {"m": {"input": 1, "output": 1}}}}
    up = {"type": "openai", "api_key": SECRET, "base_url": upstream.url + "/v1"}
    return {
        "providers": {"up": up},
        "storage": {"database": database},
        "stack": [
            "access_log",
            {"auth": {"master_key": MASTER, **auth}},
            {"rate_limit": {"limits": ["100000 requests/minute"]}},
            {"cost": {"prices": prices}},
        ],
    }


@asynccontextmanager
async def whole_gateway(database: str, **auth: Any) -> AsyncIterator[Whole]:
    """A gateway with its keys in ``database``, and one key made."""
    async with Upstream(lambda _: json_reply(chat_answer("hello"))) as upstream:
        gateway = load_gateway(configuration(database, upstream, **auth))
        async with serve(gateway, server="uvicorn", http="httptools") as url:
            whole = Whole(Door(url, upstream), gateway)
            whole.member_id, whole.member = await whole.make_key("member", role="member")
            yield whole
