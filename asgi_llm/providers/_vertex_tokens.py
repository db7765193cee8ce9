"""Access tokens for Google Cloud: where they come from, and when they are renewed.

Source: OAuth 2.0 for Google APIs; google-auth's reference ("google.auth.transport.Request");
November 2026.
"""

from __future__ import annotations

import asyncio
import calendar
import http.client
import inspect
import json
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from asgi_llm._optional import require
from asgi_llm.errors import ConfigurationError
from asgi_llm.providers._renewal import Renewal

__all__ = ["AccessToken", "AccessTokens", "GoogleCredentials", "TokenProvider", "provided"]

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_CALL_SECONDS: Final = 10.0
_MAX_ANSWER_BYTES: Final = 1024 * 1024

Given = str | tuple[str, float]
TokenProvider = Callable[[], Given | Awaitable[Given]]
"""Gives an access token, alone or with the Unix time in seconds at which it ends."""


class AccessToken(NamedTuple):
    """A token, and what is known beside it.

    Attributes:
        value: What is sent.
        expires: Unix time in seconds; None: nobody said.
        project: Of the credentials.
        quota_project: Who is billed, where that is another project than the one that is called.
    """

    value: str
    expires: float | None = None
    project: str | None = None
    quota_project: str | None = None


class AccessTokens(Renewal[AccessToken]):
    """The current token. See ``Renewal``.

    Args:
        source: Fetches a token.
        clock: Unix time in seconds.
    """

    def __init__(
        self, source: Callable[[], Awaitable[AccessToken]], clock: Callable[[], float]
    ) -> None:
        super().__init__(source, clock, what="A token for Google Cloud")


def provided(provider: TokenProvider) -> Callable[[], Awaitable[AccessToken]]:
    """A source that asks ``provider``; one that is no coroutine function is called in a thread."""

    async def fetch() -> AccessToken:
        if inspect.iscoroutinefunction(provider):
            given = await provider()
        else:
            given = await asyncio.to_thread(provider)
            if inspect.isawaitable(given):
                given = await given
        value, expires = given if isinstance(given, tuple) else (given, None)
        if not isinstance(value, str) or not value:
            raise TypeError("token_provider gave no text")
        return AccessToken(value, expires)

    return fetch


class GoogleCredentials:
    """Fetches tokens with Google's own library, off the event loop.

    Args:
        credentials: A ``google.auth.credentials.Credentials``.
        info: A service account's key, parsed.
        file: The file of one. Without any of the three: the application's default credentials,
            which are looked for when the first token is needed.

    Raises:
        ConfigurationError: google-auth is missing, or the key cannot be used.
    """

    def __init__(
        self,
        *,
        credentials: Any = None,
        info: Mapping[str, Any] | None = None,
        file: str | Path | None = None,
    ) -> None:
        self._auth = require("google.auth", extra="vertex")
        self._request = _Request(require("google.auth.exceptions", extra="vertex").TransportError)
        self._project: str | None = None
        if file is not None:
            credentials = _service_account(_read(file), "service_account_file")
        elif info is not None:
            credentials = _service_account(info, "service_account_info")
        elif credentials is not None and not callable(getattr(credentials, "refresh", None)):
            raise ConfigurationError(
                "credentials must be google.auth.credentials.Credentials", param="credentials"
            )
        self._credentials = None if credentials is None else _scoped(credentials)

    async def __call__(self) -> AccessToken:
        """A new token.

        Raises:
            google.auth.exceptions.GoogleAuthError: None can be had.
        """
        return await asyncio.to_thread(self._fetch)

    def _fetch(self) -> AccessToken:
        if self._credentials is None:
            self._credentials, self._project = self._auth.default(
                scopes=[SCOPE], request=self._request
            )
        given = self._credentials
        given.refresh(self._request)
        expires = given.expiry and float(calendar.timegm(given.expiry.utctimetuple()))
        project = self._project or getattr(given, "project_id", None)
        return AccessToken(given.token, expires, project, getattr(given, "quota_project_id", None))


def _read(file: str | Path) -> Any:
    try:
        return json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        # The text of a ValueError may hold a part of the key.
        why = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise ConfigurationError(
            f"service_account_file cannot be read: {why}", param="service_account_file"
        ) from None


def _service_account(info: Any, option: str) -> Any:
    if not isinstance(info, Mapping) or info.get("type") != "service_account":
        raise ConfigurationError(
            f'{option} must be the key of a service account ("type": "service_account"); for '
            "other kinds set GOOGLE_APPLICATION_CREDENTIALS, or give credentials",
            param=option,
        )
    kind = require("google.oauth2.service_account", extra="vertex").Credentials
    try:
        return kind.from_service_account_info(info)
    except (ValueError, TypeError, KeyError):
        raise ConfigurationError(
            f"{option} is no usable key: client_email, token_uri or private_key is wrong",
            param=option,
        ) from None


def _scoped(credentials: Any) -> Any:
    if getattr(credentials, "requires_scopes", False):
        return credentials.with_scopes([SCOPE])
    return credentials


class _Response(NamedTuple):
    status: int
    headers: Any
    data: bytes


class _Request:
    """google-auth's way to the network, with the standard library alone.

    google-auth brings none of its own that speaks TLS; the others need further packages.
    """

    def __init__(self, failure: type[Exception]) -> None:
        self._failure = failure

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> _Response:
        if not url.startswith(("https://", "http://")):
            raise self._failure("expected a https URL")
        request = urllib.request.Request(  # noqa: S310
            url, data=body, headers=dict(headers or {}), method=method
        )
        try:
            with urllib.request.urlopen(  # noqa: S310
                request, timeout=min(timeout or _CALL_SECONDS, _CALL_SECONDS)
            ) as answer:
                return _Response(answer.status, answer.headers, answer.read(_MAX_ANSWER_BYTES))
        except urllib.error.HTTPError as answer:
            with answer:
                return _Response(answer.code, answer.headers, answer.read(_MAX_ANSWER_BYTES))
        except (OSError, http.client.HTTPException) as error:
            raise self._failure(str(error)) from error
