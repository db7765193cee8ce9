"""The server's side of a lifespan, and a Django project."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import django
import pytest
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path
from starlette.types import ASGIApp, Message, Scope

from asgi_llm.testing.scopes import lifespan_scope

DEADLINE_SECONDS = 5


class LifespanServer:
    """Starts and stops an app as a server does.

    Attributes:
        state: What a server keeps from the startup and copies into each request.
    """

    def __init__(self, app: ASGIApp, scope: Scope | None = None) -> None:
        self.scope = lifespan_scope() if scope is None else scope
        self.state: dict[str, Any] = self.scope.get("state", {})
        self.communicator: Any = ApplicationCommunicator(app, self.scope)  # type: ignore[no-untyped-call]

    async def start(self) -> Message:
        return await self._ask("startup")

    async def stop(self) -> Message:
        answer = await self._ask("shutdown")
        await self.communicator.wait(DEADLINE_SECONDS)
        return answer

    async def _ask(self, phase: str) -> Message:
        await self.communicator.send_input({"type": f"lifespan.{phase}"})
        answer: Message = await self.communicator.receive_output(DEADLINE_SECONDS)
        return answer


@pytest.fixture
def lifespan_server() -> Callable[..., LifespanServer]:
    """Makes a server for the lifespan of an app."""
    return LifespanServer


async def django_own(request: Any) -> HttpResponse:
    return HttpResponse(f"own {request.path}", content_type="text/plain")


async def django_echo(request: Any) -> HttpResponse:
    response = HttpResponse(request.body, content_type="application/octet-stream")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


async def django_stream(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(
        request.scope["test.ledger"].stream(), content_type="text/event-stream"
    )


async def django_wait(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(
        request.scope["test.ledger"].wait(), content_type="text/event-stream"
    )


@pytest.fixture(scope="session", autouse=True)
def django_project() -> None:
    """Django takes its settings once in a process; all modules here share them."""
    urls = types.ModuleType("tests_hosts_urls")
    urls.urlpatterns = [  # type: ignore[attr-defined]
        path("own", django_own),
        path("llmx", django_own),
        path("llm/echo", django_echo),
        path("llm/stream", django_stream),
        path("llm/wait", django_wait),
    ]
    settings.configure(ROOT_URLCONF=urls, ALLOWED_HOSTS=["*"], SECRET_KEY="tests only")
    django.setup()
