"""Gemini on Google Cloud's Vertex AI."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from asgi_llm.errors import (
    ConfigurationError,
    ProviderError,
    ProviderUnavailableError,
    RawHeaders,
)
from asgi_llm.providers._embedding_list import size_batches
from asgi_llm.providers._embeddings import batches
from asgi_llm.providers._gemini_format import GeminiFormat, Vector, checked_schemas
from asgi_llm.providers._gemini_request import Schemas
from asgi_llm.providers._options import checked_base_url, credential, header_pairs
from asgi_llm.providers._vertex_tokens import (
    AccessTokens,
    GoogleCredentials,
    TokenProvider,
    provided,
)
from asgi_llm.transports.base import Timeouts, Transport, UpstreamRequest
from asgi_llm.types import Document

__all__ = ["Vertex"]

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.:-]*")
_MULTI_REGIONS: Final = frozenset(("eu", "us"))
_TEXTS_AT_ONCE: Final = 250
_BYTES_AT_ONCE: Final = 40_000
"""One call takes 20,000 tokens, of two bytes or more each in all but odd texts."""

_NO_PROJECT: Final = "-"
"""Stands in URLs for the credentials' project until that is known."""


class Vertex(GeminiFormat):
    """Gemini, by Vertex AI in one project and location.

    Credentials are one of ``credentials``, ``service_account_info``, ``service_account_file``,
    ``token_provider`` and ``api_key``, or, without any, the application's default ones. All but
    the last two of those need the extra ``vertex``.

    Args:
        project: Id of the project; None: the credentials' own.
        location: Such as ``europe-west4``, ``eu``, ``us`` or ``global``.
        credentials: A ``google.auth.credentials.Credentials``.
        service_account_info: The key of a service account, parsed.
        service_account_file: The path of one.
        token_provider: A function, or a coroutine function, that gives an access token, or a pair
            of one and the Unix time in seconds at which it ends; asked again five minutes before
            that, or after five minutes where it does not say.
        api_key: Of Vertex AI in express mode, sent as ``x-goog-api-key``. It stands for the project
            too, and its calls have no location.
        name: Its name here, the part before the slash in ``provider/model``.
        base_url: Up to and with the version; None: as the location says.
        schemas: How JSON Schemas are told: as they are (``json``), in the ``subset`` that older
            models know, or as the model's name says (``auto``).
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

    model_names = re.compile(
        r"(?:models/)?[A-Za-z0-9][A-Za-z0-9._@-]*|endpoints/[A-Za-z0-9][A-Za-z0-9-]*"
    )
    embedding_fields = frozenset(("auto_truncate", "task_type", "title"))

    def __init__(
        self,
        *,
        project: str | None = None,
        location: str = "global",
        credentials: Any = None,
        service_account_info: Mapping[str, Any] | None = None,
        service_account_file: str | Path | None = None,
        token_provider: TokenProvider | None = None,
        api_key: str | None = None,
        name: str = "vertex",
        base_url: str | None = None,
        schemas: Schemas = "auto",
        headers: Iterable[tuple[str, str]] = (),
        models: Iterable[str] = (),
        strict: bool = False,
        transport: Transport | None = None,
        timeouts: Timeouts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        ways = {
            "credentials": credentials,
            "service_account_info": service_account_info,
            "service_account_file": service_account_file,
            "token_provider": token_provider,
            "api_key": api_key,
        }
        given = [option for option, value in ways.items() if value is not None]
        if len(given) > 1:
            raise ConfigurationError(
                f"give one of {' and '.join(given)}, not both", param=given[-1]
            )
        for option, value in (("project", project), ("location", location)):
            if value is not None and _NAME.fullmatch(value) is None:
                raise ConfigurationError(f"{option} is no name: {value!r}", param=option)
        if api_key is not None and (project is not None or location != "global"):
            raise ConfigurationError(
                "an api_key stands for a project and has no location", param="api_key"
            )
        if token_provider is not None and project is None:
            raise ConfigurationError("token_provider needs a project", param="project")
        extra, secrets = header_pairs(headers)
        sent: RawHeaders = [*extra]
        if api_key is not None:
            sent.append((b"x-goog-api-key", credential(api_key, "api_key")))
            secrets.append(api_key)
        super().__init__(
            name=name,
            provider_name="gcp.vertex_ai",
            base_url=checked_base_url(base_url or _address(location)),
            headers=sent,
            models=models,
            operations=("chat", "embeddings"),
            strict=strict,
            transport=transport,
            timeouts=timeouts,
            secrets=secrets,
            clock=clock,
        )
        self.schemas = checked_schemas(schemas)
        self._project = project
        self._root = self.base_url
        self._tokens: AccessTokens | None = None
        if api_key is None:
            self._root += f"/projects/{project or _NO_PROJECT}/locations/{location}"
            source = (
                provided(token_provider)
                if token_provider is not None
                else GoogleCredentials(
                    credentials=credentials,
                    info=service_account_info,
                    file=service_account_file,
                )
            )
            self._tokens = AccessTokens(source, clock)

    async def authorize(self, request: UpstreamRequest) -> UpstreamRequest:
        """See ``AuthorizingProvider.authorize``."""
        if self._tokens is None:
            return request  # the key is among the headers already
        token = await self._tokens.current()
        try:
            sent = [(b"authorization", b"Bearer " + credential(token.value, "token"))]
            if token.quota_project is not None:
                sent.append((b"x-goog-user-project", credential(token.quota_project, "project")))
            url = request.url
            if self._project is None:
                url = self._with_project(url, token.project)
        except ConfigurationError as error:
            raise ProviderUnavailableError(
                f"The gateway's credentials for the provider {self.name!r} cannot be used.",
                code="provider_authentication_failed",
            ) from error
        return UpstreamRequest(request.method, url, (*request.headers, *sent), request.body)

    def _with_project(self, url: str, project: str | None) -> str:
        if project is None or _NAME.fullmatch(project) is None:
            raise ConfigurationError("the credentials name no project", param="project")
        before = f"{self.base_url}/projects/"
        return f"{before}{project}{url[len(before) + len(_NO_PROJECT) :]}"

    def parse_error(self, status: int, headers: RawHeaders, body: bytes) -> ProviderError:
        """See ``Provider.parse_error``; a token that is not taken is not used again."""
        if status == 401 and self._tokens is not None:
            self._tokens.forget()
        return super().parse_error(status, headers, body)

    def model_url(self, model: str) -> str:
        """See ``GeminiFormat.model_url``."""
        path = self.checked_model(model)
        if path.startswith("endpoints/"):
            return f"{self._root}/{path}"
        return f"{self._root}/publishers/google/models/{path}"

    def embedding_pieces(self, texts: list[str], model: str) -> list[Sequence[str]]:
        """See ``GeminiFormat.embedding_pieces``; the Gemini models take one text a call."""
        if model.removeprefix("models/").startswith("gemini-"):
            return batches(texts, 1)
        return size_batches(texts, _TEXTS_AT_ONCE, _BYTES_AT_ONCE)

    def embedding_request(
        self, url: str, texts: Sequence[str], document: Document, model: str
    ) -> UpstreamRequest:
        """See ``GeminiFormat.embedding_request``."""
        shared = {
            name: document[name]
            for name in ("task_type", "title")
            if document.get(name) is not None
        }
        # OpenAI refuses a text that is too long, while Vertex cuts it unless told not to.
        parameters: Document = {"autoTruncate": bool(document.get("auto_truncate"))}
        if (size := document.get("dimensions")) is not None:
            parameters["outputDimensionality"] = size
        instances = [{"content": text, **shared} for text in texts]
        return self.post(f"{url}:predict", {"instances": instances, "parameters": parameters})

    def read_embeddings(self, body: bytes) -> tuple[list[Vector], int | None]:
        """See ``GeminiFormat.read_embeddings``."""
        found = [one.embeddings for one in _decode(body).predictions]
        tokens: int | None = 0
        for one in found:
            count = None if one.statistics is None else one.statistics.token_count
            tokens = None if tokens is None or count is None else tokens + int(count)
        return [one.values for one in found], tokens


def _address(location: str) -> str:
    if location == "global":
        return "https://aiplatform.googleapis.com/v1"
    if location in _MULTI_REGIONS:
        return f"https://aiplatform.{location}.rep.googleapis.com/v1"
    return f"https://{location}-aiplatform.googleapis.com/v1"


class _Statistics(msgspec.Struct, gc=False):
    token_count: float | None = None


class _Embedding(msgspec.Struct, gc=False):
    values: msgspec.Raw
    statistics: _Statistics | None = None


class _Prediction(msgspec.Struct, gc=False):
    embeddings: _Embedding


class _Predictions(msgspec.Struct, gc=False):
    predictions: list[_Prediction]


_decode: Final = msgspec.json.Decoder(_Predictions).decode
