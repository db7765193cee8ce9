"""Cross-origin requests from browsers, by option."""

from __future__ import annotations

import re
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware as StarletteCORS
from starlette.types import ASGIApp, Message, Send

from asgi_llm.errors import ConfigurationError, RawHeaders

__all__ = ["ALLOW_HEADERS", "EXPOSE_HEADERS", "CORSMiddleware"]

ALLOW_HEADERS = (
    "Authorization",
    "Content-Type",
    "OpenAI-Organization",
    "OpenAI-Project",
    "OpenAI-Beta",
    "X-API-Key",
    "X-Max-Cost",
    "X-Cache-TTL",
    "X-Cache-Namespace",
    "X-Cache-Feedback",
    "Cache-Control",
    "X-Request-ID",
    # What the official JavaScript client says of itself; without them its preflight fails.
    "X-Stainless-Arch",
    "X-Stainless-Lang",
    "X-Stainless-OS",
    "X-Stainless-Package-Version",
    "X-Stainless-Retry-Count",
    "X-Stainless-Runtime",
    "X-Stainless-Runtime-Version",
    "X-Stainless-Timeout",
    "X-Stainless-Poll-Helper",
    "X-Stainless-Helper-Method",
    "X-Stainless-Custom-Poll-Interval",
)

EXPOSE_HEADERS = (
    "X-Request-ID",
    "X-Client-Request-ID",
    "X-Provider",
    "X-Model",
    "X-Attempts",
    "X-Translation-Loss",
    "X-Cache-Status",
    "X-Cache-Type",
    "X-Cache-Entry",
    "X-Cache-Similarity",
    "X-Guardrail",
    "X-Cost",
    "X-Cost-Saved",
    "Age",
    "Retry-After",
    "X-RateLimit-Limit-Requests",
    "X-RateLimit-Remaining-Requests",
    "X-RateLimit-Reset-Requests",
    "X-RateLimit-Limit-Tokens",
    "X-RateLimit-Remaining-Tokens",
    "X-RateLimit-Reset-Tokens",
)


class CORSMiddleware(StarletteCORS):
    """Starlette's CORS layer with an LLM API's headers as its defaults.

    Unlike Starlette's it leaves the app's message and its repeated headers as they are.

    It answers preflights itself, so that it belongs outside authentication.

    Args:
        allow_origins: Origins with their scheme and port, or ``"*"``; at least one, or a regex.
        allow_origin_regex: Matched against the whole origin.
        allow_methods: Methods a preflight grants.
        allow_headers: Request headers a preflight grants, beside those browsers may always send.
        expose_headers: Response headers that a page's script may read.
        allow_credentials: Let cookies and browser-held credentials through. Not with ``"*"``: any
            page could then act for its visitor. Keys in ``Authorization`` do not need it.
        max_age_seconds: How long a browser may keep a preflight's answer, at least 0.

    Raises:
        ConfigurationError: No origin is allowed, or all of them with credentials, or an option is
            malformed.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        allow_origins: Collection[str] = (),
        allow_origin_regex: str | None = None,
        allow_methods: Collection[str] = ("GET", "HEAD", "POST"),
        allow_headers: Collection[str] = ALLOW_HEADERS,
        expose_headers: Collection[str] = EXPOSE_HEADERS,
        allow_credentials: bool = False,
        max_age_seconds: int = 600,
    ) -> None:
        if isinstance(allow_origins, str):
            raise ConfigurationError(
                "allow_origins must be a list of origins", param="allow_origins"
            )
        if not allow_origins and allow_origin_regex is None:
            raise ConfigurationError("allow_origins must not be empty", param="allow_origins")
        if allow_credentials and "*" in allow_origins:
            raise ConfigurationError(
                'allow_credentials cannot be combined with the origin "*"',
                param="allow_credentials",
            )
        try:
            re.compile(allow_origin_regex or "")
        except re.error as error:
            raise ConfigurationError(
                f"allow_origin_regex is no regular expression: {error}", param="allow_origin_regex"
            ) from error
        if max_age_seconds < 0:
            raise ConfigurationError("max_age_seconds must be at least 0", param="max_age_seconds")
        super().__init__(
            app,
            allow_origins=allow_origins,
            allow_origin_regex=allow_origin_regex,
            allow_methods=allow_methods,
            allow_headers=allow_headers,
            expose_headers=expose_headers,
            allow_credentials=allow_credentials,
            max_age=max_age_seconds,
        )
        self._exposed = ", ".join(expose_headers).encode("latin-1")

    async def send(self, message: Message, send: Send, request_headers: Headers) -> None:
        """Add what the browser asks for to the start of a response."""
        if message["type"] == "http.response.start":
            added = self._grants(request_headers.get("origin"))
            replaced = {name for name, _ in added}
            headers: RawHeaders = [
                pair for pair in message.get("headers", ()) if pair[0].lower() not in replaced
            ]
            if not self.allow_all_origins and not _varies_by_origin(headers):
                added.append((b"vary", b"Origin"))
            message = {**message, "headers": [*headers, *added]}
        await send(message)

    def _grants(self, origin: str | None) -> RawHeaders:
        if origin is None or not self.is_allowed_origin(origin):
            return []
        granted = b"*" if self.allow_all_origins else origin.encode("latin-1")
        grants = [(b"access-control-allow-origin", granted)]
        if self.allow_credentials:
            grants.append((b"access-control-allow-credentials", b"true"))
        if self._exposed:
            grants.append((b"access-control-expose-headers", self._exposed))
        return grants


def _varies_by_origin(headers: RawHeaders) -> bool:
    return any(
        name.lower() == b"vary" and (b"origin" in value.lower() or value.strip() == b"*")
        for name, value in headers
    )
