"""Which requests cost anything, and their bodies."""

from __future__ import annotations

from collections.abc import Awaitable, Collection

from starlette.types import Receive, Scope

from asgi_llm._asgi import check_length, read_body, route_path
from asgi_llm.state import State

__all__ = ["Gate"]

_CODED = b"transfer-encoding"


class Gate:
    """Tells requests that count from others, and reads them.

    Args:
        paths: Where a POST counts, as ``route_path`` gives the path.
        max_body_bytes: Cap on a body.
        body_timeout_seconds: How long it may take.
    """

    __slots__ = ("_body_timeout", "_max_body_bytes", "_paths", "_sure_digits")

    def __init__(
        self, paths: Collection[str], max_body_bytes: int, body_timeout_seconds: float
    ) -> None:
        self._paths = frozenset(paths)
        self._max_body_bytes = max_body_bytes
        self._body_timeout = body_timeout_seconds
        self._sure_digits = len(str(int(max_body_bytes))) - 1

    def path_of(self, scope: Scope) -> str | None:
        """The route of a request that counts; None: it does not."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return None
        path: str = scope["path"]
        if path not in self._paths or scope.get("root_path"):
            path = route_path(scope)
            if path not in self._paths:
                return None
        return path

    def read(self, scope: Scope, state: State, receive: Receive) -> Awaitable[bytes | None]:
        """Check what the headers say of the body, and give what reads it; see ``read_body``."""
        headers = state.headers
        length = headers.get(b"content-length")
        if length is None or len(length) > self._sure_digits or _CODED in headers:
            # Few digits are below every cap; only what is not is looked at in full.
            check_length(scope, self._max_body_bytes)
        return read_body(receive, self._max_body_bytes, self._body_timeout)
