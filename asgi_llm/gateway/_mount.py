"""An app under a prefix of a stack, inside of its layers."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm._asgi import route_path

__all__ = ["MountMiddleware"]


class MountMiddleware:
    """Hands requests at and below a path to another app, which finds the whole path in them.

    Args:
        prefix: As ``route_path`` gives it.
        mounted: The other app.
    """

    def __init__(self, app: ASGIApp, *, prefix: str, mounted: ASGIApp) -> None:
        self.app = app
        self._prefix = prefix
        self._below = prefix + "/"
        self._mounted = mounted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = route_path(scope)
            if path == self._prefix or path.startswith(self._below):
                await self._mounted(scope, receive, send)
                return
        await self.app(scope, receive, send)
