"""Keys, made and ended as a person does it: over the admin API of a running gateway."""

from __future__ import annotations

from typing import Any, NamedTuple

from asgi_llm.stores.key_material import new_key
from tests.e2e.faults.wire import Connection

__all__ = ["MASTER", "MadeKey", "manage"]

MASTER = new_key()


class MadeKey(NamedTuple):
    """A key, and the text of it that is shown once."""

    id: str
    text: str


async def manage(connection: Connection, path: str = "", **fields: Any) -> MadeKey:
    """Make a key, or do to one what ``path`` says, such as ``/<id>/rotate``."""
    answer = await connection.ask(f"/admin/keys{path}", key=MASTER, document=fields)
    assert answer.status in (200, 201), answer
    return MadeKey(answer.json["id"], answer.json.get("key", ""))
