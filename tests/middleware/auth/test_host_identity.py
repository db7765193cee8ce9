"""The host's users as callers: Starlette's, FastAPI's and Django's own classes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    BaseUser,
    SimpleUser,
    UnauthenticatedUser,
)
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from starlette.routing import Mount

from asgi_llm.integrations.identity import starlette_user
from asgi_llm.middleware.auth import AuthMiddleware
from asgi_llm.types import Principal
from tests.middleware.auth.probes import Inside, ask


class Account(BaseUser):
    """A user with an id of its own."""

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def display_name(self) -> str:
        return "Ada"

    @property
    def identity(self) -> str:
        return "user-7"


class Cookie(AuthenticationBackend):
    """Knows two users by a cookie."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        user = {"ada": Account(), "bob": SimpleUser("bob")}.get(conn.cookies.get("session", ""))
        return None if user is None else (AuthCredentials(["authenticated", "chat"]), user)


SCOPES = frozenset({"authenticated", "chat"})


@pytest.mark.parametrize("mounted", [False, True])
@pytest.mark.parametrize("kind", [Starlette, FastAPI])
async def test_users_of_starlette_and_fastapi(kind: Any, mounted: bool) -> None:
    """A user of the host is the caller, with the host's scopes; a stranger is a 401."""
    inside = Inside()
    layered = AuthMiddleware(inside, principal=starlette_user)
    host = kind(
        middleware=[Middleware(AuthenticationMiddleware, backend=Cookie())],
        routes=[Mount("/llm" if mounted else "/", app=layered)],
    )
    path = "/llm/v1/files" if mounted else "/v1/files"
    for cookie, status in (("ada", 200), ("bob", 200), ("eve", 401), ("", 401)):
        headers = [("cookie", f"session={cookie}"), ("x-user", "admin")]
        assert status == (await ask(host, headers, path=path)).status
    assert [
        Principal(user_id="user-7", scopes=SCOPES),
        Principal(user_id="bob", scopes=SCOPES),
    ] == inside.principals


@pytest.mark.parametrize("user", [None, UnauthenticatedUser(), SimpleUser("")])
def test_users_that_are_nobody(user: Any) -> None:
    """No user, one who is not authenticated, and one without any name are nobody."""
    assert None is starlette_user({"type": "http", "user": user})
    assert None is starlette_user({"type": "http"})


DJANGO = """
from django.conf import settings
settings.configure(INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
                   DATABASES={}, USE_TZ=True, SECRET_KEY="x" * 50)
import django
django.setup()
from django.contrib.auth.models import AnonymousUser, User
from django.utils.functional import SimpleLazyObject
from asgi_llm.integrations.identity import django_user
from asgi_llm.types import Principal

def of(user):
    return django_user({"type": "http", "user": user})

ada = User(pk=7, username="ada", is_superuser=True, is_staff=True)
assert Principal(user_id="7", key_name="ada") == of(ada) == of(SimpleLazyObject(lambda: ada))
assert None is of(AnonymousUser()) is of(None) is django_user({"type": "http"})
assert None is of(User(pk=8, username="gone", is_active=False)) is of(User(username="unsaved"))
print("well")
"""


def test_users_of_django() -> None:
    """An active user is the caller, with no more than a member's role; all others are nobody."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", DJANGO], capture_output=True, text=True, timeout=60
    )
    assert ("well\n", "") == (ran.stdout, ran.stderr)
