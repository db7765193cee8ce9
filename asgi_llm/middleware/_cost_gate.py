"""Which requests cost anything, and what their headers may say of their bodies."""

from __future__ import annotations

from collections.abc import Collection

from starlette.types import Scope

from asgi_llm._asgi import check_length, route_path
from asgi_llm.state import State

__all__ = ["Gate"]

_CODED = b"transfer-encoding"


class Gate:
    """Tells requests that count from others.

    Args:
        paths: Where a POST counts, as ``route_path`` gives the path.
        max_body_bytes: Cap on a body.
    """

    __slots__ = ("_max_body_bytes", "_paths", "_sure_digits")

    def __init__(self, paths: Collection[str], max_body_bytes: int) -> None:
        self._paths = frozenset(paths)
        self._max_body_bytes = max_body_bytes
        self._sure_digits = len(str(int(max_body_bytes))) - 1

    def path_of(self, scope: Scope) -> str | None:
        """The route of a request that counts; None: it does not."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return None
        path = route_path(scope)
        return path if path in self._paths else None

    def check(self, scope: Scope, state: State) -> None:
        """Refuse what the headers alone say of a body; see ``check_length``."""
        headers = state.headers
        length = headers.get(b"content-length")
        if length is None or len(length) > self._sure_digits or _CODED in headers:
            # Few digits are below every cap; only what is not is looked at in full.
            check_length(scope, self._max_body_bytes)
