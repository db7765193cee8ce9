"""OpenAI, and any one endpoint that speaks its format."""

from __future__ import annotations

from collections.abc import Iterable

from asgi_llm._semconv import Operation
from asgi_llm.errors import RawHeaders
from asgi_llm.providers._options import checked_base_url, credential, header_pairs
from asgi_llm.providers._passthrough import PATHS, OpenAIFormat
from asgi_llm.providers._quirks import check_quirks
from asgi_llm.transports.base import Timeouts, Transport

__all__ = ["OpenAI"]


class OpenAI(OpenAIFormat):
    """The OpenAI API, or a server that speaks it.

    Args:
        api_key: Sent as a bearer token; None for a server that wants none.
        name: Its name here, the part before the slash in ``provider/model``.
        base_url: Up to and without the path of an operation.
        organization: Sent as ``OpenAI-Organization``.
        project: Sent as ``OpenAI-Project``.
        headers: Further headers, sent with every call.
        models: Models that it is known to serve, without asking it.
        operations: What it can be asked for.
        quirks: Names from the table of quirks in the provider reference.
        transport: Its own way to the upstream; None takes the app's.
        timeouts: Deadlines of its calls; None takes the app's.

    Raises:
        ConfigurationError: An option is wrong.

    Source: OpenAI API reference, "Authentication".
    """

    def __init__(
        self,
        *,
        api_key: str | None,
        name: str = "openai",
        base_url: str = "https://api.openai.com/v1",
        organization: str | None = None,
        project: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        models: Iterable[str] = (),
        operations: Iterable[Operation] = tuple(PATHS),
        quirks: Iterable[str] = (),
        transport: Transport | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        sent: RawHeaders = []
        secrets: list[str] = []
        if api_key is not None:
            sent.append((b"authorization", b"Bearer " + credential(api_key, "api_key")))
            secrets.append(api_key)
        for option, header, value in (
            ("organization", b"openai-organization", organization),
            ("project", b"openai-project", project),
        ):
            if value is not None:
                sent.append((header, credential(value, option)))
                secrets.append(value)
        extra, extra_secrets = header_pairs(headers)
        super().__init__(
            name=name,
            provider_name="openai",
            base_url=checked_base_url(base_url),
            headers=[*sent, *extra],
            models=models,
            operations=operations,
            quirks=check_quirks(quirks),
            transport=transport,
            timeouts=timeouts,
            secrets=[*secrets, *extra_secrets],
        )
