"""Azure OpenAI and Azure AI Foundry: the OpenAI format under other URLs and credentials."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import Final, Literal, get_args

from asgi_llm._semconv import Operation
from asgi_llm.errors import ConfigurationError, ModelNotFoundError, RawHeaders
from asgi_llm.providers._options import checked_base_url, credential, header_pairs
from asgi_llm.providers._passthrough import PATHS, OpenAIFormat
from asgi_llm.providers._quirks import check_quirks
from asgi_llm.providers.base import Translation
from asgi_llm.transports.base import Timeouts, Transport, UpstreamRequest
from asgi_llm.types import Deployment, Document

__all__ = ["Azure", "AzureAPI"]

AzureAPI = Literal["deployments", "v1", "models"]
"""Azure's three URL forms: the deployment in the path, the ``v1`` API, and model inference."""

_PREFIX: Final[dict[AzureAPI, str]] = {
    "deployments": "/openai/deployments",
    "v1": "/openai/v1",
    "models": "/models",
}
_PROVIDER_NAME: Final[dict[AzureAPI, str]] = {
    "deployments": "azure.ai.openai",
    "v1": "azure.ai.openai",
    "models": "azure.ai.inference",
}
# Azure allows letters, digits, "-", "_" and "." in 2 to 64 characters. A name of dots alone would
# be a step in the path.
_DEPLOYMENT = re.compile(r"(?!\.+\Z)[A-Za-z0-9._-]{1,64}")
_VERSION = re.compile(r"[A-Za-z0-9.-]{1,40}")


class Azure(OpenAIFormat):
    """One Azure resource.

    Args:
        endpoint: The resource, as in ``https://name.openai.azure.com``.
        api_key: Sent as ``api-key``. Give this or ``token_provider``.
        token_provider: Called for each request; its answer is sent as a bearer token. It must
            answer at once, from a token that is kept and renewed elsewhere.
        api_version: The ``api-version`` of the query; needed for ``deployments`` and ``models``.
        api: Which URL form the resource is called with.
        deployments: With ``api="deployments"``: model name here to deployment name there. None:
            they are the same, and every model name is tried.
        models: Models that it is known to serve, next to those of ``deployments``.
        name: Its name here, the part before the slash in ``provider/model``.
        headers: Further headers, sent with every call.
        operations: What it can be asked for.
        quirks: Names from the table of quirks in the provider reference.
        transport: Its own way to the upstream; None takes the app's.
        timeouts: Deadlines of its calls; None takes the app's.

    Raises:
        ConfigurationError: An option is wrong.

    Source: Azure OpenAI REST API reference; Azure OpenAI "v1 API"; Azure AI Model Inference API.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        api_key: str | None = None,
        token_provider: Callable[[], str] | None = None,
        api_version: str | None = None,
        api: AzureAPI = "deployments",
        deployments: Mapping[str, str] | None = None,
        models: Iterable[str] = (),
        name: str = "azure",
        headers: Iterable[tuple[str, str]] = (),
        operations: Iterable[Operation] = tuple(PATHS),
        quirks: Iterable[str] = (),
        transport: Transport | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        if api not in get_args(AzureAPI):
            raise ConfigurationError(
                f"api must be one of {', '.join(get_args(AzureAPI))}, not {api!r}", param="api"
            )
        if (api_key is None) == (token_provider is None):
            raise ConfigurationError("give either api_key or token_provider", param="api_key")
        if api_version is None and api != "v1":
            raise ConfigurationError(f"api {api!r} needs an api_version", param="api_version")
        if api_version is not None and not _VERSION.fullmatch(api_version):
            raise ConfigurationError("api_version must look like 2024-10-21", param="api_version")
        if deployments is not None and api != "deployments":
            raise ConfigurationError(
                f"api {api!r} takes the deployment's name as the model", param="deployments"
            )
        for target in (deployments or {}).values():
            if not _DEPLOYMENT.fullmatch(target):
                raise ConfigurationError(f"{target!r} is no deployment name", param="deployments")
        sent: RawHeaders = []
        extra, secrets = header_pairs(headers)
        if api_key is not None:
            sent.append((b"api-key", credential(api_key, "api_key")))
            secrets.append(api_key)
        super().__init__(
            name=name,
            provider_name=_PROVIDER_NAME[api],
            base_url=checked_base_url(endpoint, "endpoint") + _PREFIX[api],
            headers=[*sent, *extra],
            models=dict.fromkeys([*(deployments or ()), *models]),
            operations=operations,
            quirks=check_quirks(quirks),
            transport=transport,
            timeouts=timeouts,
            secrets=secrets,
        )
        self._token_provider = token_provider
        self._in_path = api == "deployments"
        self._deployments = None if deployments is None else dict(deployments)
        self._query = f"?api-version={api_version}" if api_version else ""

    def url_for(self, operation: Operation, deployment: Deployment) -> str:
        """Where ``operation`` is called.

        Raises:
            ModelNotFoundError: The model's name is no deployment's, or cannot be one.
        """
        if not self._in_path:
            return super().url_for(operation, deployment) + self._query
        target: str | None = deployment.model
        if self._deployments is not None:
            target = self._deployments.get(deployment.model)
        # Client text reaches this path: it names a deployment or it goes nowhere.
        if target is None or not _DEPLOYMENT.fullmatch(target):
            raise ModelNotFoundError(f"The provider {self.name!r} has no such deployment.")
        return f"{self.base_url}/{target}{PATHS[operation]}{self._query}"

    def translate(
        self, operation: Operation, document: Document, deployment: Deployment
    ) -> Translation:
        """The upstream call, with a fresh token where there is a token provider."""
        translation = super().translate(operation, document, deployment)
        self._authorize(translation.request)
        return translation

    def build_upload_request(
        self,
        operation: Operation,
        deployment: Deployment,
        content_type: bytes,
        body: AsyncIterable[bytes],
    ) -> UpstreamRequest:
        """The upstream call for a multipart form, with a fresh token likewise."""
        request = super().build_upload_request(operation, deployment, content_type, body)
        return self._authorize(request)

    def _authorize(self, request: UpstreamRequest) -> UpstreamRequest:
        if self._token_provider is not None:
            token = credential(self._token_provider(), "token_provider")
            request.headers = [(b"authorization", b"Bearer " + token), *request.headers]
        return request

    def build_models_request(self) -> None:
        """None: Azure lists the models of a region, not the deployments of the resource."""
        return None
