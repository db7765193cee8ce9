"""The layer alone keeps every promise of a layer, whoever it takes its word from."""

from __future__ import annotations

import pytest
from starlette.types import Scope

from asgi_llm.middleware.auth import AuthMiddleware
from asgi_llm.stores.base import KeyRecord
from asgi_llm.stores.keys_cached import CachedKeys
from asgi_llm.stores.keys_memory import MemoryKeys
from asgi_llm.testing.conformance import Check, Example, Layer, checks
from asgi_llm.types import Principal
from tests.middleware.auth.probes import CALLER, KEY, MASTER_KEY, table

RESTRICTED = Principal(key_id="key_2", models=("ec*",))


async def host(scope: Scope) -> Principal:
    """Everybody is the same."""
    return CALLER


LAYERS: dict[str, Layer] = {
    "memory": lambda app: AuthMiddleware(app, keys=MemoryKeys({KEY: CALLER})),
    "cached": lambda app: AuthMiddleware(app, keys=CachedKeys(table())),
    "store": lambda app: AuthMiddleware(app, keys=table(), master_key=MASTER_KEY),
    "callable": lambda app: AuthMiddleware(app, keys={KEY: CALLER}.get),
    "restricted": lambda app: AuthMiddleware(app, keys=MemoryKeys({KEY: RESTRICTED})),
    "host": lambda app: AuthMiddleware(app, principal=host),
    "scopes": lambda app: AuthMiddleware(
        app,
        keys=MemoryKeys({KEY: KeyRecord(principal=Principal(scopes=frozenset({"chat"})))}),
        required_scopes={"/": "chat"},
    ),
}
EXAMPLE = Example(headers=((b"authorization", b"Bearer " + KEY.encode()),))


# A caller of some models only names one in the query of a WebSocket, and sees a list of its own.
NOT_RESTRICTED = {"websocket_passes_as_the_same_objects", "other_requests_pass"}
CASES = [
    pytest.param(name, check, id=f"{name}-{check.__name__}")
    for name in LAYERS
    for check in checks
    if name != "restricted" or check.__name__ not in NOT_RESTRICTED
]


@pytest.mark.parametrize(("name", "check"), CASES)
async def test_conformance(name: str, check: Check) -> None:
    """The whole suite passes with a good key, and for a host's own callers."""
    await check(LAYERS[name], EXAMPLE)


@pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)
async def test_observing_conformance(check: Check) -> None:
    """In ``observe`` mode the suite passes with no key at all."""
    await check(lambda app: AuthMiddleware(app, keys=table(), mode="observe"))
