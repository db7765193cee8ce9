"""AWS credentials and the signatures of calls (Signature Version 4), by botocore's signer.

The steps are taken one by one and not with ``add_auth``, which writes the session's token to the
debug log and asks no clock but the system's.

Source: AWS IAM User Guide, "AWS Signature Version 4 for API requests"; botocore's reference of
``botocore.auth`` and ``botocore.credentials``; November 2026.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from asgi_llm._optional import require
from asgi_llm.errors import ConfigurationError
from asgi_llm.providers._renewal import Renewal
from asgi_llm.transports.base import UpstreamRequest

__all__ = ["Keys", "Signer", "chain", "fixed"]

_SERVICE: Final = "bedrock"
_ON_LOOP_BYTES: Final = 256 * 1024
"""A body up to this size is hashed where it is; a larger one would stall other requests."""

_TIME: Final = "%Y%m%dT%H%M%SZ"
_SIGNED: Final = frozenset((b"content-type",))
"""Proxies on the way may change the others."""


class Keys:
    """An access key. It has no text, so that none of it can be logged.

    Args:
        access_key: Its id.
        secret_key: Its secret.
        token: Of its session, where it is a temporary one.
    """

    __slots__ = ("access_key", "secret_key", "token")

    expires: float | None = None
    """botocore renews what ends, and is asked every few minutes."""

    def __init__(self, access_key: str, secret_key: str, token: str | None = None) -> None:
        self.access_key = access_key
        self.secret_key = secret_key
        self.token = token

    def texts(self) -> tuple[str, ...]:
        """What must not be shown."""
        return tuple(text for text in (self.access_key, self.secret_key, self.token) if text)


def fixed(keys: Keys) -> Callable[[], Awaitable[Keys]]:
    """A source that has but these."""

    async def fetch() -> Keys:
        return keys

    return fetch


def chain(profile: str | None) -> Callable[[], Awaitable[Keys]]:
    """A source that looks where all of AWS's tools do, in a thread.

    Args:
        profile: Of AWS's own files; None: what the environment says.

    Raises:
        ConfigurationError: botocore is missing, or there is no such profile.
    """
    session: Any = require("botocore.session", extra="bedrock").Session(profile=profile)
    missing: Any = require("botocore.exceptions", extra="bedrock")
    try:
        session.get_scoped_config()
    except missing.ProfileNotFound as error:
        option = "profile" if profile is not None else "AWS_PROFILE"
        raise ConfigurationError(f"{option} is not in AWS's files", param="profile") from error
    except missing.BotoCoreError:
        # What it was raised from may repeat lines of the files.
        raise ConfigurationError("AWS's configuration cannot be read", param="profile") from None

    def find() -> Keys:
        credentials = session.get_credentials()
        if credentials is None:
            raise missing.NoCredentialsError
        # May ask a service of AWS's for new ones.
        found = credentials.get_frozen_credentials()
        return Keys(found.access_key, found.secret_key, found.token)

    async def fetch() -> Keys:
        return await asyncio.to_thread(find)

    return fetch


class Signer:
    """Signs calls with the current credentials.

    Args:
        source: Fetches the credentials.
        region: That the calls go to.
        clock: Unix time in seconds.

    Raises:
        ConfigurationError: botocore is missing.
    """

    def __init__(
        self, source: Callable[[], Awaitable[Keys]], region: str, clock: Callable[[], float]
    ) -> None:
        self._auth: Any = require("botocore.auth", extra="bedrock").SigV4Auth
        self._request: Any = require("botocore.awsrequest", extra="bedrock").AWSRequest
        self._keys = Renewal(source, clock, what="Credentials for AWS")
        self._region = region
        self._clock = clock

    def secrets(self) -> tuple[str, ...]:
        """What must not be shown of the current credentials."""
        held = self._keys.held
        return () if held is None else held.texts()

    def forget(self) -> None:
        """Fetch other credentials next time: AWS does not take these."""
        self._keys.forget()

    async def signed(self, request: UpstreamRequest) -> UpstreamRequest:
        """``request`` with its signature; its body is the very bytes that were signed.

        Raises:
            ProviderUnavailableError: There are no credentials.
        """
        keys = await self._keys.current()
        if len(_body(request)) > _ON_LOOP_BYTES:
            return await asyncio.to_thread(self._sign, request, keys)
        return self._sign(request, keys)

    def _sign(self, request: UpstreamRequest, keys: Keys) -> UpstreamRequest:
        now = time.strftime(_TIME, time.gmtime(self._clock()))
        headers = {
            name.decode("ascii"): value.decode("latin-1")
            for name, value in request.headers
            if name in _SIGNED
        }
        headers["x-amz-date"] = now
        if keys.token:
            headers["x-amz-security-token"] = keys.token
        aws = self._request(
            method=request.method, url=request.url, data=_body(request), headers=headers
        )
        aws.context["timestamp"] = now
        auth = self._auth(keys, _SERVICE, self._region)
        text = auth.string_to_sign(aws, auth.canonical_request(aws))
        names = auth.signed_headers(auth.headers_to_sign(aws))
        authorization = (
            f"AWS4-HMAC-SHA256 Credential={auth.scope(aws)}, SignedHeaders={names}, "
            f"Signature={auth.signature(text, aws)}"
        )
        sent = [(b"x-amz-date", now.encode()), (b"authorization", authorization.encode())]
        if keys.token:
            sent.append((b"x-amz-security-token", keys.token.encode()))
        return UpstreamRequest(request.method, request.url, (*request.headers, *sent), request.body)


def _body(request: UpstreamRequest) -> bytes:
    body = request.body
    if not isinstance(body, bytes):
        raise TypeError("a body that comes in pieces cannot be signed")
    return body
