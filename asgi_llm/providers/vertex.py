"""Gemini on Google Cloud's Vertex AI."""

from __future__ import annotations

import asyncio
import calendar
import importlib
import inspect
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import msgspec

from asgi_llm._optional import require
from asgi_llm.errors import ConfigurationError, ProviderUnavailableError
from asgi_llm.providers._gemini_format import GeminiFormat, Values
from asgi_llm.providers._options import checked_base_url, credential, header_pairs
from asgi_llm.transports.base import Timeouts, Transport, UpstreamRequest
from asgi_llm.types import Document

__all__ = ["Vertex"]

_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_RENEWED_BEFORE_SECONDS: Final = 300.0
_KEPT_SECONDS: Final = 300.0
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.:-]*")
_TEXTS_AT_ONCE: Final = 250

TokenProvider = Callable[[], str | Awaitable[str]]


class Vertex(GeminiFormat):
    """Gemini, by Vertex AI in one project and location.

    Args:
        project: Id of the project.
        location: Such as ``europe-west4``, or ``global``.
        credentials: A ``google.auth.credentials.Credentials``; None takes the application's default
            ones. Needs the extra ``vertex``.
        token_provider: Gives an access token, in place of ``credentials``; asked again every five
            minutes at most. Needs no extra.
        name: Its name here, the part before the slash in ``provider/model``.
        base_url: Up to and with the version; None: as the location says.
        headers: Further headers, sent with every call.
        models: Models that it is known to serve.
        strict: Refuse what the translation would lose, in place of reporting it.
        transport: Its own way to the upstream; None takes the app's.
        timeouts: Deadlines of its calls; None takes the app's.
        clock: Unix time in seconds.

    Raises:
        ConfigurationError: An option is wrong, or the extra is missing.

    Source: Vertex AI API reference, November 2026.
    """

    def __init__(
        self,
        *,
        project: str,
        location: str = "global",
        credentials: Any = None,
        token_provider: TokenProvider | None = None,
        name: str = "vertex",
        base_url: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        models: Iterable[str] = (),
        strict: bool = False,
        transport: Transport | None = None,
        timeouts: Timeouts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        for option, value in (("project", project), ("location", location)):
            if _NAME.fullmatch(value) is None:
                raise ConfigurationError(f"{option} is no name: {value!r}", param=option)
        if credentials is not None and token_provider is not None:
            raise ConfigurationError(
                "give credentials or token_provider, not both", param="token_provider"
            )
        extra, extra_secrets = header_pairs(headers)
        host = "" if location == "global" else f"{location}-"
        super().__init__(
            name=name,
            provider_name="gcp.vertex_ai",
            base_url=checked_base_url(base_url or f"https://{host}aiplatform.googleapis.com/v1"),
            headers=extra,
            models=models,
            operations=("chat", "embeddings"),
            strict=strict,
            transport=transport,
            timeouts=timeouts,
            secrets=extra_secrets,
            clock=clock,
        )
        self._models_url = (
            f"{self.base_url}/projects/{project}/locations/{location}/publishers/google/models/"
        )
        self._tokens = _Tokens(token_provider or _google_tokens(credentials), clock)

    async def authorize(self, request: UpstreamRequest) -> UpstreamRequest:
        """See ``AuthorizingProvider.authorize``."""
        try:
            token = credential(await self._tokens.current(), "token")
        except ConfigurationError as error:
            raise ProviderUnavailableError(
                f"The provider {self.name!r} could not be given credentials.",
                code="provider_authentication_failed",
            ) from error
        headers = (*request.headers, (b"authorization", b"Bearer " + token))
        return UpstreamRequest(request.method, request.url, headers, request.body)

    def model_url(self, model: str) -> str:
        """See ``GeminiFormat.model_url``."""
        return self._models_url + self.checked_model(model)

    def embedding_limit(self, model: str) -> int:
        """See ``GeminiFormat.embedding_limit``; the newer models take one text a call."""
        return 1 if model.startswith("gemini-") else _TEXTS_AT_ONCE

    def embedding_request(
        self, url: str, texts: list[str], document: Document, model: str
    ) -> UpstreamRequest:
        """See ``GeminiFormat.embedding_request``."""
        shared = {
            name: document[name]
            for name in ("task_type", "title")
            if document.get(name) is not None
        }
        body: Document = {"instances": [{"content": text, **shared} for text in texts]}
        if (size := document.get("dimensions")) is not None:
            body["parameters"] = {"outputDimensionality": size}
        return self.post(f"{url}:predict", body)

    def read_embeddings(self, body: bytes) -> tuple[list[list[float]], int | None]:
        """See ``GeminiFormat.read_embeddings``."""
        predictions = _decode(body).predictions
        counts = [
            None if one.embeddings.statistics is None else one.embeddings.statistics.token_count
            for one in predictions
        ]
        tokens = None if None in counts else int(sum(count or 0 for count in counts))
        return [one.embeddings.values for one in predictions], tokens


class _Tokens:
    """Access tokens, renewed shortly before they end, once for all who wait."""

    def __init__(self, source: Callable[[], Any], clock: Callable[[], float]) -> None:
        self._source = source
        self._clock = clock
        self._token = ""
        self._until = 0.0
        self._renewing: asyncio.Task[None] | None = None

    async def current(self) -> str:
        """A token that is good for a while.

        Raises:
            ProviderUnavailableError: None can be had.
        """
        if self._clock() >= self._until:
            if self._renewing is None:
                self._renewing = asyncio.get_running_loop().create_task(self._renew())
            # One caller that leaves must not take the token from the others.
            await asyncio.shield(self._renewing)
        return self._token

    async def _renew(self) -> None:
        try:
            given = self._source()
            told = await given if inspect.isawaitable(given) else given
        except Exception as error:
            raise ProviderUnavailableError(
                "The provider's credentials could not be renewed.",
                code="provider_authentication_failed",
            ) from error
        finally:
            self._renewing = None
        self._token, expires = told if isinstance(told, tuple) else (told, None)
        now = self._clock()
        self._until = now + _KEPT_SECONDS if expires is None else expires - _RENEWED_BEFORE_SECONDS


def _google_tokens(credentials: Any) -> Callable[[], Awaitable[tuple[str, float | None]]]:
    """Tokens of Google's own library, whose blocking calls run in a thread."""
    require("google.auth", extra="vertex")
    given = credentials

    def renewed() -> tuple[str, float | None]:
        nonlocal given
        if given is None:
            given, _ = importlib.import_module("google.auth").default(scopes=[_SCOPE])
        elif getattr(given, "requires_scopes", False):
            given = given.with_scopes([_SCOPE])
        transport = importlib.import_module("google.auth.transport.urllib3")
        given.refresh(transport.Request(importlib.import_module("urllib3").PoolManager()))
        expiry = given.expiry
        return given.token, None if expiry is None else _unix(expiry)

    async def renew() -> tuple[str, float | None]:
        return await asyncio.to_thread(renewed)

    return renew


def _unix(moment: Any) -> float:
    """Seconds of a naive UTC time, as Google's library keeps it."""
    return float(calendar.timegm(moment.utctimetuple()))


class _Statistics(msgspec.Struct, gc=False):
    token_count: float | None = None


class _Embedding(Values, gc=False):
    statistics: _Statistics | None = None


class _Prediction(msgspec.Struct, gc=False):
    embeddings: _Embedding


class _Predictions(msgspec.Struct, gc=False):
    predictions: list[_Prediction]


_decode = msgspec.json.Decoder(_Predictions).decode
