"""Anthropic's Messages API."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from asgi_llm.errors import ConfigurationError, RawHeaders
from asgi_llm.providers._anthropic_answer import MessageReader, read_message
from asgi_llm.providers._anthropic_request import StructuredOutput, message_body
from asgi_llm.providers._chat_answer import AnswerWriter
from asgi_llm.providers._conversation import ChatRequest
from asgi_llm.providers._errors import parse_stream_error
from asgi_llm.providers._native import ChatCall, NativeFormat, malformed
from asgi_llm.providers._options import checked_base_url, credential, header_pairs
from asgi_llm.providers._translated_stream import AnswerReader
from asgi_llm.providers.base import ModelCard, Translation
from asgi_llm.transports.base import Timeouts, Transport, UpstreamRequest
from asgi_llm.types import Deployment

__all__ = ["Anthropic"]

_LISTED_AT_ONCE: Final = 1000

LIMIT_HEADERS: Final[Mapping[bytes, bytes]] = {
    b"anthropic-ratelimit-requests-limit": b"x-ratelimit-limit-requests",
    b"anthropic-ratelimit-requests-remaining": b"x-ratelimit-remaining-requests",
    b"anthropic-ratelimit-tokens-limit": b"x-ratelimit-limit-tokens",
    b"anthropic-ratelimit-tokens-remaining": b"x-ratelimit-remaining-tokens",
}
"""Anthropic's names for limits and OpenAI's. The times of reset are points in time in the one and
durations in the other, and are left out."""


class Anthropic(NativeFormat):
    """Claude, at Anthropic or any endpoint that speaks its Messages API.

    Args:
        api_key: Sent as ``x-api-key``.
        name: Its name here, the part before the slash in ``provider/model``.
        base_url: Up to and without ``/v1``.
        version: Sent as ``anthropic-version``.
        betas: Sent as ``anthropic-beta``; what clients send under that name is not passed on.
        default_max_tokens: Cap on an answer whose client sets none, at least 1; None: 32,000, or
            less for models known to be older.
        structured_output: How a JSON Schema is asked for: ``native``, with a forced ``tool``, or
            ``auto``, which is native unless the model or the schema does not go with that.
        headers: Further headers, sent with every call.
        models: Models that it is known to serve, without asking it.
        strict: Refuse what the translation would lose, in place of reporting it.
        transport: Its own way to the upstream; None takes the app's.
        timeouts: Deadlines of its calls; None takes the app's.
        clock: Unix time in seconds.

    Raises:
        ConfigurationError: An option is wrong.

    Source: Anthropic API reference, November 2026.
    """

    limit_headers = LIMIT_HEADERS
    own_blocks = True

    def __init__(
        self,
        *,
        api_key: str,
        name: str = "anthropic",
        base_url: str = "https://api.anthropic.com",
        version: str = "2023-06-01",
        betas: Iterable[str] = (),
        default_max_tokens: int | None = None,
        structured_output: StructuredOutput = "auto",
        headers: Iterable[tuple[str, str]] = (),
        models: Iterable[str] = (),
        strict: bool = False,
        transport: Transport | None = None,
        timeouts: Timeouts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if default_max_tokens is not None and default_max_tokens < 1:
            raise ConfigurationError(
                "default_max_tokens must be at least 1", param="default_max_tokens"
            )
        if structured_output not in ("auto", "native", "tool"):
            raise ConfigurationError(
                f"structured_output must be auto, native or tool, not {structured_output!r}",
                param="structured_output",
            )
        sent: RawHeaders = [
            (b"x-api-key", credential(api_key, "api_key")),
            (b"anthropic-version", credential(version, "version")),
        ]
        if betas := tuple(betas):
            sent.append((b"anthropic-beta", credential(",".join(betas), "betas")))
        extra, extra_secrets = header_pairs(headers)
        super().__init__(
            name=name,
            provider_name="anthropic",
            base_url=checked_base_url(base_url),
            headers=[*sent, *extra],
            models=models,
            strict=strict,
            transport=transport,
            timeouts=timeouts,
            secrets=[api_key, *extra_secrets],
            clock=clock,
        )
        self._url = f"{self.base_url}/v1/messages"
        self._default_max_tokens = default_max_tokens
        self._structured_output: StructuredOutput = structured_output
        self._error_of = partial(
            parse_stream_error, provider=self.name, secrets=tuple(self._secrets)
        )

    def chat_call(self, request: ChatRequest, deployment: Deployment) -> ChatCall:
        """See ``NativeFormat.chat_call``."""
        body, memo = message_body(
            request,
            deployment.model,
            default_max_tokens=self._default_max_tokens,
            structured_output=self._structured_output,
        )
        return ChatCall(self._url, body, memo)

    def read_answer(self, translation: Translation, body: bytes, writer: AnswerWriter) -> None:
        """See ``NativeFormat.read_answer``."""
        read_message(body, translation.memo, self._error_of, writer)

    def reader(self, translation: Translation) -> AnswerReader:
        """See ``NativeFormat.reader``."""
        return MessageReader(translation.memo, self._error_of)

    def build_models_request(self) -> UpstreamRequest:
        """The call that lists the account's models, newest first."""
        url = f"{self.base_url}/v1/models?limit={_LISTED_AT_ONCE}"
        return UpstreamRequest("GET", url, self._headers)

    def parse_models(self, body: bytes) -> tuple[ModelCard, ...]:
        """Read ``{"data": [{"id": ..., "created_at": ...}]}``."""
        try:
            listed = _decode_models(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise malformed() from error
        return tuple(
            ModelCard(id=row.id, created=_unix(row.created_at), owned_by="anthropic")
            for row in listed.data
        )


class _Model(msgspec.Struct):
    id: str
    created_at: Any = None


class _Models(msgspec.Struct):
    data: list[_Model]


_decode_models = msgspec.json.Decoder(_Models).decode


def _unix(moment: Any) -> int:
    """Unix seconds of an RFC 3339 time; 0 where it is none."""
    try:
        return int(datetime.datetime.fromisoformat(moment).timestamp())
    except (TypeError, ValueError):
        return 0
