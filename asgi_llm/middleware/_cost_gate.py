"""Which requests cost anything, their bodies, and the way in for the usual ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm._asgi import check_length, route_path
from asgi_llm._body import ArrivingBody, take_body
from asgi_llm._sending import DONE
from asgi_llm.errors import LLMError
from asgi_llm.middleware._cost_admission import Admission
from asgi_llm.middleware._cost_driving import drive
from asgi_llm.state import State, enter

__all__ = ["Gate"]

_CODED = b"transfer-encoding"

Unusual = Callable[
    [ASGIApp, Scope, Receive, Send, State, str, bytes | ArrivingBody], Awaitable[None]
]
"""Reads what has not arrived, admits a request, and has it answered."""

Refuse = Callable[[Send, State, LLMError], Awaitable[None]]


class Gate:
    """Tells requests that count from others, and takes in those for which there is no wait.

    Args:
        paths: Where a POST counts, as ``route_path`` gives the path.
        max_body_bytes: Cap on a body.
        admission: Admits the usual requests.
        unusual: Takes all others.
        refuse: Answers with an error.
    """

    __slots__ = ("_admission", "_max_body_bytes", "_paths", "_refuse", "_sure_digits", "_unusual")

    def __init__(
        self,
        paths: Collection[str],
        max_body_bytes: int,
        admission: Admission,
        unusual: Unusual,
        refuse: Refuse,
    ) -> None:
        self._paths = frozenset(paths)
        self._max_body_bytes = max_body_bytes
        self._sure_digits = len(str(int(max_body_bytes))) - 1
        self._admission = admission
        self._unusual = unusual
        self._refuse = refuse

    def take_in(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> Awaitable[Any]:
        """What has to be awaited for a request to be answered by ``app``."""
        fields = scope if type(scope) is dict else dict(scope)
        if fields["type"] != "http" or fields["method"] != "POST":
            return app(scope, receive, send)
        path: str = fields["path"]
        if path not in self._paths or fields.get("root_path"):
            path = route_path(scope)
            if path not in self._paths:
                return app(scope, receive, send)
        scope, state = enter(scope)
        try:
            headers = state.headers
            length = headers.get(b"content-length")
            if length is None or len(length) > self._sure_digits or _CODED in headers:
                # Few digits are below every cap; only what is not is looked at in full.
                check_length(scope, self._max_body_bytes)
            data = take_body(receive, self._max_body_bytes)
            if data is None:
                return DONE
            if isinstance(data, ArrivingBody):
                return self._unusual(app, scope, receive, send, state, path, data)
            answer = self._admission.admit_at_once(scope, receive, send, state, path, data)
        except LLMError as error:
            return self._refuse(send, state, error)
        if answer is None:
            return self._unusual(app, scope, receive, send, state, path, data)
        return drive(app, scope, answer)
