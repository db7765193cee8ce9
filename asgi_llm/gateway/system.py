"""The gateway's own endpoints: health, the OpenAPI document, and a page that shows it."""

from __future__ import annotations

import importlib.resources
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

import asgi_llm
from asgi_llm import _json
from asgi_llm._asgi import RawHeaders, route_path, send_error
from asgi_llm.errors import InvalidRequestError
from asgi_llm.gateway.health import Health, Status
from asgi_llm.gateway.openapi import document
from asgi_llm.state import FAILURE, State, enter

__all__ = ["SystemMiddleware"]

_HTTP_STATUS: Final[dict[Status, int]] = {
    "ready": 200,
    "degraded": 200,
    "not_ready": 503,
    "draining": 503,
}
_JSON = b"application/json"
_NOT_STORED = (b"cache-control", b"no-store")
_REVALIDATED = (b"cache-control", b"no-cache")
# The page runs our script on our document and may load, send and be framed nowhere else.
_PAGE_HEADERS: RawHeaders = [
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        b"img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    _REVALIDATED,
]


class _Answer(NamedTuple):
    status: int
    content_type: bytes
    body: bytes
    headers: RawHeaders


class SystemMiddleware:
    """Answers ``/health``, ``/health/live``, ``/health/ready``, ``/openapi.json`` and ``/docs``.

    All of them take GET and HEAD without a key; everything else passes untouched.

    - ``/health/live``: 200 as long as the process answers.
    - ``/health/ready``: 200, also while a part is down that the gateway does without
      (``degraded``); 503 while one is down that it needs, or the process is ending.
    - ``/health``: version, parts and the summary that was handed in, with the status of the above.
    - ``/openapi.json``: OpenAPI 3.1, made from the definitions that requests are checked against.
    - ``/docs``: that document as a page, served from here alone.

    Args:
        health: Readiness, shared with ``compose``.
        openapi: Makes the document.
        docs: Whether ``/docs`` and ``/openapi.json`` are there.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        health: Health,
        openapi: Callable[[], dict[str, Any]] = document,
        docs: bool = True,
    ) -> None:
        self.app = app
        self._health = health
        self._openapi = openapi
        self._document: dict[str, Any] | None = None
        self._routes: dict[str, Callable[[Scope], Awaitable[_Answer]]] = {
            "/health": self._summary,
            "/health/live": self._live,
            "/health/ready": self._ready,
        }
        if docs:
            self._routes["/openapi.json"] = self._describe
            for path, (content_type, body) in _assets().items():
                self._routes[path] = _static(content_type, body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = route_path(scope)
        route = self._routes.get(path)
        if route is None:
            await self.app(scope, receive, send)
            return
        scope, state = enter(scope)
        method = scope["method"]
        if method not in ("GET", "HEAD"):
            refusal = InvalidRequestError(
                "This path takes GET and HEAD only.",
                status=405,
                code="method_not_allowed",
                headers=[(b"allow", b"GET, HEAD")],
            )
            state.set(FAILURE, refusal)
            await send_error(send, state, refusal)
        elif path == "/docs" and scope["path"].endswith("/"):
            # The page's own links are relative, so that they hold under any prefix and any proxy.
            await _send(send, state, _Answer(307, b"text/plain", b"", [(b"location", b"../docs")]))
        else:
            await _send(send, state, await route(scope), head=method == "HEAD")

    async def _live(self, scope: Scope) -> _Answer:
        return _json_answer(200, {"status": "alive"})

    async def _ready(self, scope: Scope) -> _Answer:
        parts = await self._health.parts()
        status = self._health.status(parts)
        failing = [name for name, well in parts.items() if not well]
        return _json_answer(
            _HTTP_STATUS[status],
            {
                "status": status,
                **({"failing": failing} if failing else {}),
                **self._details(),
            },
        )

    async def _summary(self, scope: Scope) -> _Answer:
        parts = await self._health.parts()
        status = self._health.status(parts)
        return _json_answer(
            _HTTP_STATUS[status],
            {
                **self._health.summary,
                "status": status,
                "version": asgi_llm.__version__,
                "parts": {name: "ok" if well else "failing" for name, well in parts.items()},
                **self._details(),
            },
        )

    def _details(self) -> dict[str, object]:
        details = self._health.details()
        return {"details": details} if details else {}

    async def _describe(self, scope: Scope) -> _Answer:
        if self._document is None:
            self._document = self._openapi()
        described = {**self._document, "servers": [{"url": _public_prefix(scope) or "/"}]}
        return _Answer(200, _JSON, _json.encode(described), [_REVALIDATED])


def _public_prefix(scope: Scope) -> str:
    """Where the gateway is to be found from outside, without a slash at its end."""
    root: str = scope.get("root_path") or ""
    if not root:
        # Litestar takes the prefix off `path` and names it nowhere but here.
        raw = (scope.get("raw_path") or b"").partition(b"?")[0]
        root = raw.removesuffix(b"/").removesuffix(b"/openapi.json").decode("latin-1")
    return root.rstrip("/")


def _json_answer(status: int, content: object) -> _Answer:
    return _Answer(status, _JSON, _json.encode(content), [_NOT_STORED])


async def _send(send: Send, state: State, answer: _Answer, *, head: bool = False) -> None:
    headers: RawHeaders = [
        (b"content-type", answer.content_type),
        (b"content-length", b"%d" % len(answer.body)),
        (b"x-request-id", state.request_id.encode("ascii")),
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else answer.body})


def _static(content_type: bytes, body: bytes) -> Callable[[Scope], Awaitable[_Answer]]:
    answer = _Answer(200, content_type, body, _PAGE_HEADERS)

    async def route(scope: Scope) -> _Answer:
        return answer

    return route


def _assets() -> dict[str, tuple[bytes, bytes]]:
    folder = importlib.resources.files("asgi_llm.gateway") / "_docs"
    return {
        "/docs": (b"text/html; charset=utf-8", (folder / "index.html").read_bytes()),
        "/docs/docs.js": (b"text/javascript; charset=utf-8", (folder / "docs.js").read_bytes()),
        "/docs/docs.css": (b"text/css; charset=utf-8", (folder / "docs.css").read_bytes()),
    }
