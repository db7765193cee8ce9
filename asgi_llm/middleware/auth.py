"""Who is calling: virtual keys, the master key, web tokens, or the host's own word."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, Literal

from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm._asgi import BufferedBody, observe, route_path, send_error
from asgi_llm._traceback import describe
from asgi_llm.errors import (
    ConfigurationError,
    InvalidRequestError,
    LLMError,
    PermissionDeniedError,
    RequestError,
    StoreError,
)
from asgi_llm.middleware._identify import HostIdentity, Identification, KeyCheck, TokenVerifier
from asgi_llm.middleware._jwt import JWTVerifier
from asgi_llm.middleware._master_key import MasterKey
from asgi_llm.middleware._model_access import (
    INFERENCE_PATHS,
    MODEL_CHECKED,
    MODELS_PATH,
    check_model,
    check_socket_model,
    is_upload,
    model_allowed,
    normal_form,
    refuse_hidden_model,
)
from asgi_llm.middleware._model_list import ModelListFilter, plain_scope
from asgi_llm.state import FAILURE, PRINCIPAL, SCOPE_KEY, State, enter
from asgi_llm.stores.base import KeyStore
from asgi_llm.types import Principal

__all__ = [
    "PUBLIC_PATHS",
    "AuthMiddleware",
    "HostIdentity",
    "JWTVerifier",
    "KeyCheck",
    "TokenVerifier",
    "model_allowed",
]

logger = logging.getLogger(__name__)

PUBLIC_PATHS: Final = ("/health/live", "/health/ready")

MIB: Final = 1024 * 1024

_RETRY_SECONDS = 1.0
_CLOSE_CODES = {400: 4400, 401: 4401, 403: 4403, 503: 1013}
_CLOSE_OTHER = 1008
_WITHOUT_BODY = frozenset(("GET", "HEAD", "OPTIONS"))


class AuthMiddleware:
    """Lets only known callers in, and tells the layers inside who is calling.

    Every HTTP request and every WebSocket needs a credential, except on the public paths. It is
    taken from ``Authorization: Bearer``, ``X-API-Key``, ``api-key`` or ``x-goog-api-key``, byte for
    byte; two that differ are refused, and so is one in the URL. A lifespan passes as it is.

    There is no option to let a request pass whose key cannot be checked: that is a 503.

    Args:
        keys: A key store; one that is no cache itself is put behind ``CachedKeys`` with its
            defaults. Or a callable that is given the credential.
        master_key: Good for ``management_prefix`` alone, with the role ``admin``.
        jwt: Who verifies web tokens, one per issuer.
        principal: Asked for requests that carry no credential; with nothing else configured, for
            all, and headers are then not looked at.
        public_paths: Let through without a look, as ``route_path`` gives them, and in no other
            form.
        management_prefix: Where the master key is good; ``/`` is everywhere.
        required_scopes: A scope that callers need at and below a path. The role ``admin`` has all.
        inference_paths: Where a POST names its model, for callers who may use some models only.
        max_body_bytes: Cap on the body of such a POST, above 0.
        body_timeout_seconds: How long it may take, above 0.
        mode: ``observe`` refuses nobody: it counts, and gives no identity to whoever has none.
        insecure: Take a master key from an example; an empty one is then none.
        clock: Seconds, monotonic.
        wall_clock: Unix time in seconds.

    Attributes:
        refusals: How often each error code was answered, or would have been.

    Streaming: answers pass untouched. Held back is the list of models alone, for callers who may
    use some of them only.

    Raises:
        ConfigurationError: Nobody could be let in, or an option is wrong.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyStore | KeyCheck | None = None,
        master_key: str | None = None,
        jwt: TokenVerifier | Sequence[TokenVerifier] | None = None,
        principal: HostIdentity | None = None,
        public_paths: Collection[str] = PUBLIC_PATHS,
        management_prefix: str = "/admin",
        required_scopes: Mapping[str, str] | None = None,
        inference_paths: Collection[str] = INFERENCE_PATHS,
        max_body_bytes: int = 32 * MIB,
        body_timeout_seconds: float = 60.0,
        mode: Literal["enforce", "observe"] = "enforce",
        insecure: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        for option, value in (
            ("max_body_bytes", max_body_bytes),
            ("body_timeout_seconds", body_timeout_seconds),
        ):
            if not value > 0:
                raise ConfigurationError(f"{option} must be above 0, not {value!r}", param=option)
        if mode not in ("enforce", "observe"):
            raise ConfigurationError('mode must be "enforce" or "observe"', param="mode")
        if insecure and not master_key:
            master_key = None
        self.app = app
        self.refusals: Counter[str] = Counter()
        self._public = frozenset(_plain(path, "public_paths") for path in public_paths)
        self._identify = Identification(
            keys=keys,
            master_key=None if master_key is None else MasterKey(master_key, insecure=insecure),
            management_prefix=_plain(management_prefix, "management_prefix"),
            jwt=jwt,
            principal=principal,
            clock=clock,
            wall_clock=wall_clock,
        ).identify
        self._scopes = [
            (_plain(prefix, "required_scopes"), scope)
            for prefix, scope in (required_scopes or {}).items()
        ]
        self._inference = frozenset(_plain(path, "inference_paths") for path in inference_paths)
        self._like_inference = frozenset(map(normal_form, self._inference))
        self._max_body_bytes = max_body_bytes
        self._body_timeout = body_timeout_seconds
        self._enforces = mode == "enforce"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind != "http":
            if kind == "websocket":
                await self._websocket(scope, receive, send)
            else:
                await self.app(scope, receive, send)
            return
        path = route_path(scope)
        if path in self._public:
            await self.app(scope, receive, send)
            return
        scope, state = enter(scope)
        try:
            principal = await self._identify(scope, path)
            state.set(PRINCIPAL, principal)
            if self._scopes:
                self._require_scopes(principal, path)
        except Exception as error:
            if await self._refuse(error, state, send):
                return
        else:
            if principal.models is not None:
                await self._serve_restricted(principal, path, scope, receive, send, state)
                return
        await self.app(scope, receive, send)

    async def _serve_restricted(
        self,
        principal: Principal,
        path: str,
        scope: Scope,
        receive: Receive,
        send: Send,
        state: State,
    ) -> None:
        """Serve a caller who may use some models only."""
        method = scope["method"]
        if path in self._inference and method not in _WITHOUT_BODY and not is_upload(scope, path):
            try:
                body = await BufferedBody.read(
                    scope,
                    receive,
                    max_bytes=self._max_body_bytes,
                    timeout_seconds=self._body_timeout,
                )
            except LLMError as error:
                # What was read is gone, so that no mode could let it pass.
                state.set(FAILURE, error)
                await send_error(send, state, error)
                return
            if body is None:
                return
            receive = body.receive
        else:
            body = None
        if body is not None or not self._enforces:
            state.set(MODEL_CHECKED, True)
        try:
            self._refuse_other_form(path)
            refuse_hidden_model(principal, path)
            if body is not None:
                check_model(principal, state.document(body.data))
        except Exception as error:
            if await self._refuse(error, state, send):
                return
        if self._enforces and path == MODELS_PATH:
            only = ModelListFilter(principal, head=method == "HEAD")
            await observe(self.app, plain_scope(scope), receive, send, only)
        else:
            await self.app(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a WebSocket in as the objects that came, or close it before it is accepted."""
        path = route_path(scope)
        if path not in self._public:
            carried = scope.get(SCOPE_KEY)
            state = carried if isinstance(carried, State) else State()
            try:
                principal = await self._identify(scope, path)
                state.set(PRINCIPAL, principal)
                self._require_scopes(principal, path)
                if principal.models is not None:
                    check_socket_model(principal, scope.get("query_string", b""))
            except Exception as error:
                refusal = self._refusal(error, state)
                if self._enforces:
                    await receive()
                    code = _CLOSE_CODES.get(refusal.status, _CLOSE_OTHER)
                    await send({"type": "websocket.close", "code": code, "reason": refusal.code})
                    return
        await self.app(scope, receive, send)

    def _require_scopes(self, principal: Principal, path: str) -> None:
        if principal.role == "admin":
            return
        for prefix, scope in self._scopes:
            if scope not in principal.scopes and (
                _covers(prefix, path) or _covers(normal_form(prefix), normal_form(path))
            ):
                raise PermissionDeniedError(
                    f"This key lacks the scope {scope!r}.", code="scope_required"
                )

    def _refuse_other_form(self, path: str) -> None:
        """Refuse a path that some router may take for one whose model would be checked."""
        form = normal_form(path)
        if (form in self._like_inference and path not in self._inference) or (
            _covers(MODELS_PATH, form) and not _covers(MODELS_PATH, path)
        ):
            raise InvalidRequestError(
                "There is nothing at this path.", status=404, code="unknown_route"
            )

    async def _refuse(self, error: Exception, state: State, send: Send) -> bool:
        """Answer with ``error``; False: it is only counted."""
        refusal = self._refusal(error, state)
        if self._enforces:
            await send_error(send, state, refusal)
        return self._enforces

    def _refusal(self, error: Exception, state: State) -> LLMError:
        """What the client is told of ``error``: only our own words about its request."""
        refusal: LLMError
        if isinstance(error, RequestError):
            refusal = error
        else:
            if not isinstance(error, StoreError):
                logger.error("request %s: auth failed:\n%s", state.request_id, describe(error))
            refusal = StoreError(
                "The API key cannot be checked now. Try again.", retry_after_seconds=_RETRY_SECONDS
            )
        self.refusals[refusal.code or "none"] += 1
        if self._enforces:
            state.set(FAILURE, refusal)
        return refusal


def _covers(prefix: str, path: str) -> bool:
    return path == prefix or path.startswith(prefix if prefix == "/" else prefix + "/")


def _plain(path: str, option: str) -> str:
    """``path``, if it is written as ``route_path`` would give it."""
    if normal_form(path) != path.lower() or "?" in path or "#" in path:
        raise ConfigurationError(
            f"{option}: {path!r} is no plain path; it begins with / and does not end with one, "
            "as in /health/live",
            param=option,
        )
    return path
