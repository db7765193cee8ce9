"""Putting a gateway into a host, or beside it. None of this is required: ``app.mount`` will do.

What a plain mount lacks is the lifespan, which no host passes on, and the host's own docs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, cast

from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm._asgi import route_path
from asgi_llm.errors import ConfigurationError
from asgi_llm.integrations._lifespan import Member, run_lifespans, speak_lifespan
from asgi_llm.integrations.openapi import merge_openapi

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["Lifespan", "MountableGateway", "beside", "merge_openapi", "mount_gateway"]


class MountableGateway(Protocol):
    """What is needed of a gateway. If it has ``openapi`` as well, its paths can be documented."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        ...

    def lifespan(self, app: Any = None) -> AbstractAsyncContextManager[object]:
        """Hold the gateway's resources open."""
        ...


def beside(host: ASGIApp, prefix: str, app: ASGIApp) -> ASGIApp:
    """Serve ``app`` under ``prefix`` and everything else by ``host``, whatever ASGI app that is.

    The prefix ends on a segment border: ``/llmx`` is the host's. ``path`` stays whole and
    ``root_path`` says where ``app`` is, for HTTP and WebSocket alike; a part of ``root_path`` that
    a proxy has taken off ``path`` is put back for ``app``. Both lifespans run, the host's first,
    each with its own ``scope["state"]``; a host that has none, as Django, is fine.

    Args:
        host: The app that was there before.
        prefix: Such as ``/llm``; one trailing slash is dropped.
        app: The gateway, or any ASGI app.

    Raises:
        ConfigurationError: ``prefix`` is empty, does not begin with a slash, or has a parameter.
    """
    return _Beside(host, _checked(prefix), app)


class _Beside:
    def __init__(self, host: ASGIApp, prefix: str, app: ASGIApp) -> None:
        self._prefix = prefix
        self._host = Member("the host", host)
        self._app = Member(f"the app under {prefix}", app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await run_lifespans((self._host, self._app), scope, receive, send)
            return
        member = self._host
        if scope["type"] in ("http", "websocket"):
            inner = _enter_prefix(scope, self._prefix)
            if inner is not None:
                member, scope = self._app, inner
        await member.app(member.see(scope), receive, send)


class Lifespan:
    """Answer the lifespan protocol for a host without one, and hold ``gateway`` open meanwhile.

    A host that has a lifespan keeps it: the host up, the gateway up, the gateway down, the host
    down. Every other scope goes to ``app``.

    Args:
        app: The host, with the gateway somewhere in it.
        gateway: Whose ``lifespan()`` runs.
    """

    def __init__(self, app: ASGIApp, gateway: MountableGateway) -> None:
        self._app = Member("the host", app)
        self._gateway = Member("the gateway", speak_lifespan(gateway.lifespan))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or both lifespans."""
        if scope["type"] == "lifespan":
            await run_lifespans((self._app, self._gateway), scope, receive, send)
        else:
            await self._app.app(self._app.see(scope), receive, send)


def mount_gateway(app: Starlette, prefix: str, gateway: MountableGateway) -> None:
    """Mount ``gateway`` in a Starlette or FastAPI app, with its lifespan and its docs.

    Order: host up, gateway up, gateway down, host down. The bare prefix reaches the gateway, where
    ``app.mount`` would redirect. In FastAPI's own document appear the paths of
    ``gateway.openapi()``, if it has that.

    Args:
        app: The host. Routes that it already has go first.
        prefix: Such as ``/llm``; one trailing slash is dropped.
        gateway: What to mount.

    Raises:
        ConfigurationError: ``prefix`` is empty, does not begin with a slash, or has a parameter.
    """
    prefix = _checked(prefix)
    app.router.routes.append(_Mount(prefix, app=gateway))
    host_lifespan = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Any]:
        async with host_lifespan(app) as state, gateway.lifespan(app):
            yield state

    app.router.lifespan_context = lifespan
    host_openapi = getattr(app, "openapi", None)
    gateway_openapi = getattr(gateway, "openapi", None)
    if host_openapi is not None and gateway_openapi is not None:
        # An attribute of the instance, as FastAPI's documentation has it for extended documents.
        app.openapi = _merged(host_openapi, gateway_openapi, prefix)  # type: ignore[attr-defined]


class _Mount(Mount):
    """A mount that the bare prefix reaches, too."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        inner = _enter_prefix(scope, self.path)
        if inner is None:
            return Match.NONE, {}
        return Match.FULL, {**inner, "endpoint": self.app}


_Openapi = Callable[[], Mapping[str, Any]]


def _merged(host_openapi: _Openapi, gateway_openapi: _Openapi, prefix: str) -> _Openapi:
    source: Mapping[str, Any] | None = None
    merged: Mapping[str, Any] = {}

    def openapi() -> Mapping[str, Any]:
        nonlocal source, merged
        document = host_openapi()
        # FastAPI hands out one object until its routes change.
        if document is not source:
            merged = merge_openapi(document, gateway_openapi(), prefix)
            source = document
        return merged

    return openapi


def _checked(prefix: str) -> str:
    checked = prefix.removesuffix("/")
    if not checked.startswith("/") or checked.endswith("/") or "{" in checked:
        raise ConfigurationError(
            "prefix must begin with a slash, name a segment and hold no parameter, "
            f"as in '/llm', not {prefix!r}",
            param="prefix",
        )
    return checked


def _enter_prefix(scope: Scope, prefix: str) -> dict[str, Any] | None:
    """The scope for what is mounted at ``prefix``; None where the path is not below it."""
    below = route_path(scope)
    if below != prefix and not below.startswith(prefix + "/"):
        return None
    path: str = scope["path"]
    root: str = (scope.get("root_path") or "").rstrip("/")
    if root and path != root and not path.startswith(root + "/"):
        # A proxy took off what `root_path` holds, and not every server puts it back; the app
        # further in, if it is no part of this package, relies on the two going together.
        path = root + below + ("/" if path.endswith("/") else "")
    return {
        **cast("Mapping[str, Any]", scope),
        "path": path,
        "root_path": root + prefix,
        "app_root_path": scope.get("app_root_path", root),
    }
