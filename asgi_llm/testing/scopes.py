"""Scopes as a server builds them."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from starlette.types import Scope

from asgi_llm.testing.replies import HeaderItems, header_pairs

__all__ = ["http_scope", "lifespan_scope", "websocket_scope"]


def http_scope(
    method: str = "POST",
    path: str = "/v1/chat/completions",
    headers: HeaderItems = (),
    root_path: str = "",
    spec_version: str = "2.3",
    **extra: Any,
) -> Scope:
    """An ``http`` scope.

    Args:
        method: Upper case.
        path: As on the request line: decoded into ``path``, kept in ``raw_path``, and taken apart
            at ``?``. It holds ``root_path``, as uvicorn's does.
        headers: In their order; names are lowered, as the specification asks.
        root_path: The mount prefix.
        spec_version: Version of the HTTP and WebSocket specification that the server claims.
        **extra: Further keys, or other values for the ones above.
    """
    return _scope("http", path, headers, root_path, spec_version, {"method": method, **extra})


def websocket_scope(
    path: str = "/",
    headers: HeaderItems = (),
    root_path: str = "",
    spec_version: str = "2.3",
    **extra: Any,
) -> Scope:
    """A ``websocket`` scope; arguments as for ``http_scope``."""
    fields = {"scheme": "ws", "subprotocols": [], **extra}
    return _scope("websocket", path, headers, root_path, spec_version, fields)


def lifespan_scope(**extra: Any) -> Scope:
    """A ``lifespan`` scope with an empty state."""
    return {
        "type": "lifespan",
        "asgi": {"version": "3.0", "spec_version": "2.0"},
        "state": {},
        **extra,
    }


def _scope(
    kind: str,
    path: str,
    headers: HeaderItems,
    root_path: str,
    spec_version: str,
    fields: dict[str, Any],
) -> Scope:
    raw_path, _, query = path.partition("?")
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": spec_version},
        "http_version": "1.1",
        "scheme": "http",
        "path": unquote(raw_path),
        "raw_path": raw_path.encode("ascii"),
        "query_string": query.encode("ascii"),
        "root_path": root_path,
        "headers": [(name.lower(), value) for name, value in header_pairs(headers)],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        **fields,
    }
