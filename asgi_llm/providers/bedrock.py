"""Amazon Bedrock: any of its models by the Converse API, and embeddings."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final
from urllib.parse import quote

import msgspec

from asgi_llm import _json
from asgi_llm._semconv import Operation
from asgi_llm.errors import (
    ConfigurationError,
    ModelNotFoundError,
    ProviderError,
    RawHeaders,
)
from asgi_llm.providers._anthropic_request import StructuredOutput
from asgi_llm.providers._bedrock_answer import ConverseReader
from asgi_llm.providers._bedrock_embeddings import (
    embedding_bodies,
    read_embeddings,
    with_token_count,
)
from asgi_llm.providers._bedrock_errors import answer_error, exception_error
from asgi_llm.providers._bedrock_events import EventStreamFrames
from asgi_llm.providers._bedrock_request import converse_body
from asgi_llm.providers._bedrock_signing import Keys, Signer, chain, fixed
from asgi_llm.providers._chat_answer import AnswerWriter
from asgi_llm.providers._conversation import ChatRequest
from asgi_llm.providers._losses import Losses
from asgi_llm.providers._native import ChatCall, NativeFormat, malformed
from asgi_llm.providers._options import checked_base_url, credential, header_pairs
from asgi_llm.providers._translated_stream import Frames
from asgi_llm.providers.base import Answer, ModelCard, Translation
from asgi_llm.transports.base import Timeouts, Transport, UpstreamRequest
from asgi_llm.types import Deployment, Document

__all__ = ["Bedrock"]

_REGION: Final = re.compile(r"[a-z]{2,}(?:-[a-z]+)+-\d{1,2}")
_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,2047}")


@functools.lru_cache(maxsize=256)
def _segment(model: str) -> str | None:
    """A model's name as a segment of a path; None: it cannot be one."""
    if _MODEL.fullmatch(model) is None or ".." in model:
        return None
    return quote(model, safe="")


class Bedrock(NativeFormat):
    """Models on Amazon Bedrock in one region.

    Calls are signed with an access key, or carry an API key of Bedrock's. Without either,
    credentials are looked for where all of AWS's tools do. Signatures need the extra ``bedrock``.

    Args:
        region: As in ``us-east-1``.
        api_key: Of Bedrock, sent as a bearer token.
        access_key_id: Of an access key.
        secret_access_key: Its secret.
        session_token: Of a temporary access key.
        profile: Of AWS's own files, to take credentials from.
        name: Its name here, the part before the slash in ``provider/model``.
        base_url: Up to and without ``/model``; None: the region's public endpoint.
        structured_output: How a JSON Schema is asked for: ``native``, with a forced ``tool``, or
            ``auto``, which is native unless the model or the schema does not go with that.
        headers: Further headers, sent with every call; they are not signed.
        models: Models and inference profiles that it is known to serve, without asking it.
        strict: Refuse what the translation would lose, in place of reporting it.
        transport: Its own way to the upstream; None takes the app's.
        timeouts: Deadlines of its calls; None takes the app's.
        clock: Unix time in seconds, for signatures too.

    Raises:
        ConfigurationError: An option is wrong, or the extra is missing.

    Source: Amazon Bedrock API reference, November 2026.
    """

    stream_types = frozenset((b"application/vnd.amazon.eventstream",))
    own_blocks = True

    fetches_urls: ClassVar[bool] = False
    """Images and documents have to come as data."""

    def __init__(
        self,
        *,
        region: str,
        api_key: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        session_token: str | None = None,
        profile: str | None = None,
        name: str = "bedrock",
        base_url: str | None = None,
        structured_output: StructuredOutput = "auto",
        headers: Iterable[tuple[str, str]] = (),
        models: Iterable[str] = (),
        strict: bool = False,
        transport: Transport | None = None,
        timeouts: Timeouts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if _REGION.fullmatch(region) is None:
            raise ConfigurationError(f"region is no region: {region!r}", param="region")
        if structured_output not in ("auto", "native", "tool"):
            raise ConfigurationError(
                f"structured_output must be auto, native or tool, not {structured_output!r}",
                param="structured_output",
            )
        _check_ways(api_key, access_key_id, secret_access_key, session_token, profile)
        domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        extra, secrets = header_pairs(headers)
        sent: RawHeaders = [*extra]
        self._signer: Signer | None = None
        if api_key is not None:
            sent.append((b"authorization", b"Bearer " + credential(api_key, "api_key")))
            secrets.append(api_key)
        elif access_key_id is not None and secret_access_key is not None:
            keys = Keys(access_key_id, secret_access_key, session_token)
            for option, value in (
                ("access_key_id", access_key_id),
                ("secret_access_key", secret_access_key),
                ("session_token", session_token),
            ):
                if value is not None:
                    credential(value, option)
            secrets += keys.texts()
            self._signer = Signer(fixed(keys), region, clock)
        else:
            self._signer = Signer(chain(profile), region, clock)
        super().__init__(
            name=name,
            provider_name="aws.bedrock",
            base_url=checked_base_url(base_url or f"https://bedrock-runtime.{region}.{domain}"),
            headers=sent,
            models=models,
            operations=("chat", "embeddings"),
            strict=strict,
            transport=transport,
            timeouts=timeouts,
            secrets=secrets,
            clock=clock,
        )
        self._structured_output: StructuredOutput = structured_output
        # The list of models is at another host, of which a base_url of one's own says nothing.
        self._models_url = (
            f"https://bedrock.{region}.{domain}/foundation-models" if base_url is None else None
        )

    async def authorize(self, request: UpstreamRequest) -> UpstreamRequest:
        """See ``AuthorizingProvider.authorize``."""
        if self._signer is None:
            return request  # the key is among the headers already
        return await self._signer.signed(request)

    def _url(self, model: str, method: str) -> str:
        """Where a model is asked.

        Raises:
            ModelNotFoundError: The name cannot be a model's; it would lead to another place.
        """
        segment = _segment(model)
        if segment is None:
            raise ModelNotFoundError(f"The provider {self.name!r} has no model of that name.")
        return f"{self.base_url}/model/{segment}/{method}"

    # Chat

    def chat_call(self, request: ChatRequest, deployment: Deployment) -> ChatCall:
        """See ``NativeFormat.chat_call``."""
        url = self._url(deployment.model, "converse-stream" if request.stream else "converse")
        body, memo = converse_body(
            request, deployment.model, structured_output=self._structured_output
        )
        return ChatCall(url, body, memo)

    def read_answer(self, translation: Translation, body: bytes, writer: AnswerWriter) -> None:
        """See ``NativeFormat.read_answer``."""
        self.reader(translation).read_whole(body, writer)

    def reader(self, translation: Translation) -> ConverseReader:
        """See ``NativeFormat.reader``."""
        return ConverseReader(translation.memo, self._exception)

    def frames(self) -> Frames:
        """See ``NativeFormat.frames``."""
        return EventStreamFrames()

    # Embeddings

    def other_call(
        self, operation: Operation, document: Document, deployment: Deployment, losses: Losses
    ) -> Translation:
        """See ``NativeFormat.other_call``."""
        if operation != "embeddings":
            raise self.unsupported(operation)
        url = self._url(deployment.model, "invoke")
        bodies, memo = embedding_bodies(document, deployment.model, losses)
        first, *more = [
            UpstreamRequest("POST", url, self._json_headers, _json.encode(body)) for body in bodies
        ]
        return Translation(operation, document, deployment, first, more=tuple(more), memo=memo)

    def read_other(self, translation: Translation, *bodies: bytes) -> Answer:
        """See ``NativeFormat.read_other``."""
        return read_embeddings(translation, bodies)

    def with_headers(self, translation: Translation, headers: RawHeaders, body: bytes) -> bytes:
        """See ``HeaderReader.with_headers``."""
        return with_token_count(translation, headers, body)

    # Errors and models

    def parse_error(self, status: int, headers: RawHeaders, body: bytes) -> ProviderError:
        """See ``Provider.parse_error``; credentials that are not taken are not used again."""
        error = answer_error(status, headers, body, provider=self.name, secrets=self._all_secrets())
        if error.code == "provider_authentication_failed" and self._signer is not None:
            self._signer.forget()
        return error

    def _exception(self, name: str, body: bytes) -> ProviderError:
        return exception_error(name, body, provider=self.name, secrets=self._all_secrets())

    def _all_secrets(self) -> tuple[str, ...]:
        return self._secrets if self._signer is None else self._secrets + self._signer.secrets()

    def build_models_request(self) -> UpstreamRequest | None:
        """The call that lists the region's models; None where a ``base_url`` was given."""
        if self._models_url is None:
            return None
        return UpstreamRequest("GET", self._models_url, self._headers)

    def parse_models(self, body: bytes) -> tuple[ModelCard, ...]:
        """Read ``{"modelSummaries": [...]}``: what writes texts or vectors and can be called."""
        try:
            rows = _decode_models(body).model_summaries
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise malformed() from error
        return tuple(
            ModelCard(id=row.model_id, owned_by=row.provider_name or "aws")
            for row in rows
            if row.model_id
            and not _WRITTEN.isdisjoint(row.output_modalities or _WRITTEN)
            # The others have to be called by an inference profile.
            and _ON_DEMAND in (row.inference_types_supported or (_ON_DEMAND,))
        )


_WRITTEN: Final = frozenset(("TEXT", "EMBEDDING"))
_ON_DEMAND: Final = "ON_DEMAND"


class _Model(msgspec.Struct, gc=False, rename="camel"):
    model_id: str = ""
    provider_name: str | None = None
    output_modalities: list[str] | None = None
    inference_types_supported: list[str] | None = None


class _Models(msgspec.Struct, gc=False, rename="camel"):
    model_summaries: list[_Model]


_decode_models: Final[Any] = msgspec.json.Decoder(_Models).decode


def _check_ways(
    api_key: str | None,
    access_key_id: str | None,
    secret_access_key: str | None,
    session_token: str | None,
    profile: str | None,
) -> None:
    """That credentials are given in one way, and whole."""
    given = [
        option
        for option, value in (
            ("api_key", api_key),
            ("access_key_id", access_key_id),
            ("profile", profile),
        )
        if value is not None
    ]
    if len(given) > 1:
        raise ConfigurationError(f"give one of {' and '.join(given)}, not both", param=given[-1])
    if (access_key_id is None) is not (secret_access_key is None):
        missing = "secret_access_key" if secret_access_key is None else "access_key_id"
        raise ConfigurationError("access_key_id and secret_access_key go together", param=missing)
    if session_token is not None and access_key_id is None:
        raise ConfigurationError("session_token needs an access_key_id", param="session_token")
