"""The terminal app: the OpenAI API over any number of providers.

Adapters translate; all the I/O is here and in ``_exchange``: back-pressure, deadlines, clients that
leave, upstreams that break off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.types import Message, Receive, Scope, Send

from asgi_llm import _json
from asgi_llm._asgi import route_path, send_error
from asgi_llm._body import ArrivingBody, check_and_take
from asgi_llm._semconv import Operation
from asgi_llm.errors import (
    ConfigurationError,
    InvalidRequestError,
    LLMError,
    ModelNotFoundError,
)
from asgi_llm.middleware._model_access import check_unseen_model
from asgi_llm.providers._catalog import Catalog
from asgi_llm.providers._exchange import TOLD_HEADERS, Calling, Exchange, provider_error, read_error
from asgi_llm.providers._fan_out import FanOut
from asgi_llm.providers._fetch import FetchImages, ImageFetcher
from asgi_llm.providers._watch import ClientWatch, Watchman
from asgi_llm.providers.base import (
    AuthorizingProvider,
    HeaderReader,
    ModelCard,
    Provider,
    Translation,
    UploadProvider,
)
from asgi_llm.state import (
    DEPLOYMENT,
    FAILURE,
    OPERATION,
    REQUEST_MODEL,
    TRANSLATION_LOSS,
    State,
    enter,
)
from asgi_llm.transports._addresses import is_public
from asgi_llm.transports._decoding import decoded
from asgi_llm.transports.base import Timeouts, Transport, TransportError, UpstreamRequest
from asgi_llm.transports.http1 import Http1Transport
from asgi_llm.types import Deployment, Document
from asgi_llm.wire.upload import ClientLeftError, Upload
from asgi_llm.wire.validation import validate

__all__ = ["FetchImages", "ProviderApp", "is_public"]

MIB: Final = 1024 * 1024

ROUTES: Final[dict[str, Operation]] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v1/moderations": "moderation",
    "/v1/images/generations": "image_generation",
    "/v1/audio/speech": "speech",
    "/v1/audio/transcriptions": "transcription",
    "/v1/rerank": "rerank",
}
MODELS_ROUTE: Final = "/v1/models"

_KEY_NAMES: Final = frozenset(("key", "api_key", "api-key", "apikey", "access_token"))

_LIST_TIMEOUTS: Final = Timeouts(connect_seconds=3.0, first_byte_seconds=5.0, total_seconds=10.0)


class ProviderApp:
    """Serves the OpenAI API from the given providers; the innermost app of a stack.

    Args:
        providers: In the order in which a bare model name is looked for; names must differ.
        models: Aliases. With any of them other bare names are refused; ``provider/model`` works
            always.
        capabilities: What a provider can be asked for, by its name, for ``/v1/models`` to show; the
            rows of ``providers.capabilities`` are such documents.
        transport: The way to all upstreams that do not bring their own. Default: ``http1``.
        timeouts: Deadlines of a call to a provider that does not bring its own.
        max_body_bytes: Cap on a request body, above 0.
        max_response_bytes: Cap on an answer that is read whole, after decompression, above 0.
        body_timeout_seconds: How long a request body may take, above 0.
        write_timeout_seconds: How long a client may stop reading, above 0.
        fetch_images: Fetch images and documents by URL for providers that only take data. None:
            those are refused with a 400.
        clock: Seconds, monotonic.

    Streaming: one chunk at a time, taken from the upstream when the last has been sent. Held back
    are an unfinished event, and the end of the stream until it is known to be the end.

    Raises:
        ConfigurationError: No providers, two of one name, an alias without a provider, or a number
            out of range.
    """

    def __init__(
        self,
        providers: Iterable[Provider],
        *,
        models: Mapping[str, Deployment] | None = None,
        capabilities: Mapping[str, Document] | None = None,
        transport: Transport | None = None,
        timeouts: Timeouts | None = None,
        max_body_bytes: int = 32 * MIB,
        max_response_bytes: int = 64 * MIB,
        body_timeout_seconds: float = 60.0,
        write_timeout_seconds: float = 120.0,
        fetch_images: FetchImages | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        providers = tuple(providers)
        models = dict(models or {})
        _check_names(providers, models)
        for option, value in (
            ("max_body_bytes", max_body_bytes),
            ("max_response_bytes", max_response_bytes),
            ("body_timeout_seconds", body_timeout_seconds),
            ("write_timeout_seconds", write_timeout_seconds),
        ):
            if not value > 0:
                raise ConfigurationError(f"{option} must be above 0, not {value!r}", param=option)
        self._owns_transport = transport is None
        self._transport: Transport = Http1Transport() if transport is None else transport
        self._calling = {
            provider.name: Calling(
                provider=provider,
                transport=provider.transport or self._transport,
                timeouts=provider.timeouts or timeouts or Timeouts(),
                max_response_bytes=max_response_bytes,
                clock=clock,
                header=(b"x-provider", provider.name.encode()),
                authorize=(
                    provider.authorize if isinstance(provider, AuthorizingProvider) else None
                ),
                with_headers=(
                    provider.with_headers if isinstance(provider, HeaderReader) else None
                ),
                told_headers={**TOLD_HEADERS, **provider.limit_headers},
            )
            for provider in providers
        }
        self._max_body_bytes = max_body_bytes
        self._max_response_bytes = max_response_bytes
        self._body_timeout = body_timeout_seconds
        self._watchman = Watchman(write_timeout_seconds)
        self._fetcher = None if fetch_images is None else ImageFetcher(fetch_images)
        self._catalog = Catalog(providers, models, self._list_models, clock, capabilities or {})

    async def aclose(self) -> None:
        """Close what the app opened itself; transports that were handed in stay. Idempotent."""
        self._watchman.aclose()
        await self._catalog.aclose()
        if self._fetcher is not None:
            await self._fetcher.aclose()
        if self._owns_transport:
            await self._transport.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self._lifespan(receive, send)
            return
        if kind == "websocket":
            # Closed before it is accepted: the host answers the upgrade with 403.
            await receive()
            await send({"type": "websocket.close", "code": 4404})
            return
        scope, state = enter(scope)
        try:
            exchange = await self._prepare(scope, receive, send, state)
            if exchange is not None:
                with ClientWatch(self._watchman, receive) as watch:
                    await exchange.run(send, watch)
        except LLMError as error:
            state.set(FAILURE, error)
            await send_error(send, state, error)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _prepare(
        self, scope: Scope, receive: Receive, send: Send, state: State
    ) -> Exchange | None:
        """Read and check the request, and choose whom to ask; None: it has been dealt with."""
        path = route_path(scope)
        operation = ROUTES.get(path)
        if operation is None:
            if path == MODELS_ROUTE or path.startswith(MODELS_ROUTE + "/"):
                if scope["method"] != "GET":
                    raise _wrong_method(scope, "GET")
                await self._models(path, send, state)
                return None
            raise InvalidRequestError(
                "There is nothing at this path. The API begins at /v1, as in /v1/chat/completions.",
                status=404,
                code="unknown_route",
            )
        if scope["method"] != "POST":
            raise _wrong_method(scope, "POST")
        if query := scope.get("query_string"):
            _refuse_key_in_url(query)
        state.set(OPERATION, operation)
        if operation == "transcription":
            await self._upload(operation, scope, receive, send, state)
            return None
        _require_json(state.headers)
        # A coroutine to ask for what is there already would cost as much as all else about it.
        body = check_and_take(scope, receive, self._max_body_bytes)
        if isinstance(body, ArrivingBody):
            body = await body.whole(self._body_timeout)
        if body is None:
            return None
        document = validate(operation, state.document(body))
        name = document["model"]
        check_unseen_model(state, name)
        deployment = state.get(DEPLOYMENT) or self._catalog.known(name)
        if deployment is None:
            deployment = await self._find(name, state)
        state.update({REQUEST_MODEL: name, DEPLOYMENT: deployment})
        calling = self._call(operation, deployment)
        if (
            self._fetcher is not None
            and operation == "chat"
            and not getattr(calling.provider, "fetches_urls", True)
        ):
            with ClientWatch(self._watchman, receive) as watch:
                document = await self._fetcher.inline(document)
            if watch.gone:
                return None
        translation = calling.provider.translate(operation, document, deployment)
        if translation.losses:
            state.set(TRANSLATION_LOSS, translation.losses)
        if translation.more:
            return FanOut(calling, translation, state)
        return Exchange(calling, translation, state)

    async def _upload(
        self, operation: Operation, scope: Scope, receive: Receive, send: Send, state: State
    ) -> None:
        upload = await Upload.read_head(
            scope, receive, max_bytes=self._max_body_bytes, timeout_seconds=self._body_timeout
        )
        if upload is None:
            return
        async with upload:
            document = validate(operation, upload.document())
            check_unseen_model(state, document["model"])
            deployment = state.get(DEPLOYMENT) or await self._find(document["model"], state)
            state.update({REQUEST_MODEL: document["model"], DEPLOYMENT: deployment})
            calling = self._call(operation, deployment)
            provider = calling.provider
            if not isinstance(provider, UploadProvider):
                raise _unsupported(operation, provider)
            content_type, body = upload.body(replace={"model": deployment.model})
            request = provider.build_upload_request(operation, deployment, content_type, body)
            exchange = Exchange(
                calling, Translation(operation, document, deployment, request), state
            )

            async def receive_after_body() -> Message:
                await upload.finished.wait()
                return await receive()

            with ClientWatch(self._watchman, receive_after_body) as watch:
                try:
                    await exchange.run(send, watch)
                except ClientLeftError:
                    # Seen by the one who reads the body; nobody is there to be told.
                    return

    async def _find(self, name: str, state: State) -> Deployment:
        """Where to call, as the model's name says."""
        # Now, for whoever logs that it was not found.
        state.set(REQUEST_MODEL, name)
        return await self._catalog.find(name)

    def _call(self, operation: Operation, deployment: Deployment) -> Calling:
        """How ``deployment`` is called for ``operation``."""
        calling = self._calling.get(deployment.provider)
        if calling is None:
            raise ModelNotFoundError(f"There is no provider {deployment.provider!r} here.")
        if operation not in calling.provider.operations:
            raise _unsupported(operation, calling.provider)
        return calling

    async def _models(self, path: str, send: Send, state: State) -> None:
        document: Document
        if path == MODELS_ROUTE:
            document = {"object": "list", "data": await self._catalog.documents()}
        else:
            document = await self._catalog.document(path[len(MODELS_ROUTE) + 1 :])
        body = _json.encode(document)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", state.request_id.encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _list_models(self, provider: Provider) -> tuple[ModelCard, ...] | None:
        request: UpstreamRequest | None = provider.build_models_request()
        if request is None:
            return None
        try:
            transport = provider.transport or self._transport
            if (authorize := self._calling[provider.name].authorize) is not None:
                request = await authorize(request)
            response = await transport.send(request, _LIST_TIMEOUTS)
            try:
                if response.status != 200:
                    body = await read_error(response)
                    raise provider.parse_error(response.status, response.headers, body)
                body = await decoded(response).read(self._max_response_bytes)
            finally:
                await response.aclose()
        except TransportError as error:
            raise provider_error(error, provider.name) from error
        return provider.parse_models(body)


def _check_names(providers: tuple[Provider, ...], models: Mapping[str, Deployment]) -> None:
    if not providers:
        raise ConfigurationError("providers must not be empty", param="providers")
    names = [provider.name for provider in providers]
    for name in names:
        if not name or "/" in name:
            raise ConfigurationError(f"{name!r} is no name for a provider", param="providers")
        if names.count(name) > 1:
            raise ConfigurationError(f"two providers are named {name!r}", param="providers")
    for alias, deployment in models.items():
        if deployment.provider not in names:
            raise ConfigurationError(
                f"the model {alias!r} names the provider {deployment.provider!r}; there are: "
                + ", ".join(names),
                param=f"models.{alias}",
            )


def _wrong_method(scope: Scope, method: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"This path takes {method}, not {scope['method'][:20]!r}.",
        status=405,
        code="method_not_allowed",
        headers=[(b"allow", method.encode())],
    )


def _refuse_key_in_url(query: bytes) -> None:
    """A key in a URL ends up in the logs of everything on the way, so it is not taken there."""
    for field in query.split(b"&"):
        name = unquote_to_bytes(field.partition(b"=")[0]).decode("latin-1")
        if name.lower() in _KEY_NAMES:
            raise InvalidRequestError(
                f"Send the key in the Authorization header, not as {name!r} in the URL.",
                param=name,
                code="key_in_url",
            )


def _require_json(headers: Mapping[bytes, bytes]) -> None:
    """Refuse a body that is compressed, or is not said to be JSON.

    A missing type is refused too: a web page could make a visitor's browser send such a request to
    a gateway on loopback, with no preflight to stop it.
    """
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise InvalidRequestError(
            "Compressed request bodies are not accepted: send it without Content-Encoding.",
            status=415,
            code="unsupported_content_encoding",
        )
    media = headers.get(b"content-type", b"")
    if media == b"application/json":
        return
    kind = media.partition(b";")[0].strip().lower()
    if kind != b"application/json" and not (
        kind.startswith(b"application/") and kind.endswith(b"+json")
    ):
        raise InvalidRequestError(
            "The body must be JSON: send Content-Type: application/json.",
            status=415,
            code="unsupported_content_type",
        )


def _unsupported(operation: Operation, provider: Provider) -> InvalidRequestError:
    return InvalidRequestError(
        f"The provider {provider.name!r} has no {operation.replace('_', ' ')}.",
        param="model",
        code="unsupported_operation",
    )
