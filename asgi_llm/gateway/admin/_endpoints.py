"""From a request to what is done, and to its answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

from starlette.types import Receive, Scope, Send

from asgi_llm import _json
from asgi_llm._asgi import RawHeaders, check_length, read_body, send_error
from asgi_llm._traceback import describe
from asgi_llm.errors import (
    AuthenticationError,
    InternalError,
    InvalidRequestError,
    LLMError,
    PermissionDeniedError,
)
from asgi_llm.gateway.admin import _reading
from asgi_llm.gateway.admin._answers import (
    deleted,
    limits_document,
    listing_document,
    member_document,
)
from asgi_llm.gateway.admin._bodies import Body, CreateKey, NoBody, RotateKey
from asgi_llm.gateway.admin._download import Download, send_download
from asgi_llm.gateway.admin._grants import require_role
from asgi_llm.gateway.admin._management import Management
from asgi_llm.gateway.admin._records import Caller
from asgi_llm.gateway.admin._requests import Act, Request
from asgi_llm.gateway.admin._routes import Operation
from asgi_llm.state import FAILURE, PRINCIPAL, State, enter
from asgi_llm.stores.directory import ConflictError, Entity, Key
from asgi_llm.types import Principal

__all__ = ["Endpoint", "Limits", "Nowhere"]

logger = logging.getLogger(__name__)

_HEADERS: Final[RawHeaders] = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]
# A page of another origin can send none of these without being asked first.
_CREDENTIALS: Final = frozenset((b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"))

_NO_LISTING: Final = _reading.Listing(where={}, limit=1, after=None)


class Limits(NamedTuple):
    """How much of a body is read, and for how long."""

    max_body_bytes: int
    body_timeout_seconds: float


class Endpoint:
    """All methods of one path, as an ASGI app.

    Args:
        operations: One for each method.
        management: What they do it with.
        limits: For bodies.
        more: What is done for actions beyond those on the directory.
    """

    def __init__(
        self,
        operations: Mapping[str, Operation],
        management: Management,
        limits: Limits,
        more: Mapping[str, Act],
    ) -> None:
        self._operations = operations
        self._management = management
        self._limits = limits
        allowed = sorted({*operations, *(("HEAD",) if "GET" in operations else ())})
        self._allow = ", ".join(allowed)
        self._actions: dict[str, Act] = {
            **more,
            "create": self._create,
            "import": self._create,
            "list": self._list,
            "show": self._show,
            "update": self._update,
            "delete": self._delete,
            "rotate": self._rotate,
            "revoke": self._revoke,
            "limits": self._tell_limits,
            "audit": self._audit,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope, state = enter(scope)
        method = scope["method"]
        try:
            answer = await self._answer(scope, receive, state)
        except LLMError as error:
            await _refuse(send, state, error)
        except ConflictError as error:
            await _refuse(send, state, InvalidRequestError(str(error), code="conflict", status=409))
        except Exception as error:
            logger.error("a management request failed:\n%s", describe(error))
            await _refuse(send, state, InternalError("The request failed."))
        else:
            if answer is None:
                return
            status, content = answer
            if isinstance(content, Download):
                await send_download(content, receive, send, state, head=method == "HEAD")
            else:
                await _send(send, state, status, _json.encode(content), head=method == "HEAD")

    async def _answer(
        self, scope: Scope, receive: Receive, state: State
    ) -> tuple[int, dict[str, Any] | Download] | None:
        """Status and content; None: the client left."""
        principal = _identify(state)
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        operation = self._operations.get(method)
        if operation is None:
            raise InvalidRequestError(
                f"This path takes {self._allow}.",
                status=405,
                code="method_not_allowed",
                headers=[(b"allow", self._allow.encode())],
            )
        require_role(principal, operation.role)
        if method != "GET":
            _refuse_other_origins(scope)
        body: Body = NoBody()
        listing = _NO_LISTING
        if operation.body is not None:
            check_length(scope, self._limits.max_body_bytes)
            data = await read_body(receive, *self._limits)
            if data is None:
                return None
            _check_type(scope, data)
            body = _reading.read_body(data, operation.body)
        # Parameters that are not known are refused everywhere.
        if operation.filters is not None:
            listing = _reading.read_query(
                scope["query_string"], operation.filters, paged=operation.paged
            )
        elif scope["query_string"]:
            raise InvalidRequestError(
                "This path takes no query.", code="unknown_parameter", status=422
            )
        caller = Caller(principal=principal, actor=_actor(principal), request_id=state.request_id)
        id: str = scope["path_params"].get("id", "")
        request = Request(caller, id, body, listing)
        return operation.status, await self._actions[operation.action](operation, request)

    async def _create(self, operation: Operation, request: Request) -> Any:
        if isinstance(request.body, CreateKey):
            key, text = await self._management.create_key(request.caller, request.body)
            return member_document(key, key=text)
        kind = cast("type[Entity]", operation.kind)
        return member_document(await self._management.create(kind, request.caller, request.body))

    async def _list(self, operation: Operation, request: Request) -> Any:
        kind = cast("type[Entity]", operation.kind)
        page = await self._management.list(kind, request.caller, request.listing)
        return listing_document(page.items, page.next)

    async def _show(self, operation: Operation, request: Request) -> Any:
        kind = cast("type[Entity]", operation.kind)
        return member_document(await self._management.get(kind, request.caller, request.id))

    async def _update(self, operation: Operation, request: Request) -> Any:
        kind = cast("type[Entity]", operation.kind)
        return member_document(
            await self._management.update(kind, request.caller, request.id, request.body)
        )

    async def _delete(self, operation: Operation, request: Request) -> Any:
        if operation.kind is Key:
            return await self._revoke(operation, request)
        kind = cast("type[Entity]", operation.kind)
        await self._management.remove(kind, request.caller, request.id)
        return deleted(kind, request.id)

    async def _rotate(self, operation: Operation, request: Request) -> Any:
        grace = cast("RotateKey", request.body).grace_seconds
        key, text = await self._management.rotate(request.caller, request.id, grace)
        return member_document(key, key=text)

    async def _revoke(self, operation: Operation, request: Request) -> Any:
        return member_document(await self._management.revoke(request.caller, request.id))

    async def _tell_limits(self, operation: Operation, request: Request) -> Any:
        principal, states = await self._management.limits(request.caller, request.id)
        return limits_document(request.id, principal, states)

    async def _audit(self, operation: Operation, request: Request) -> Any:
        page = await self._management.audit(request.listing)
        return listing_document(page.items, page.next)


class Nowhere:
    """Answers paths that there are not: 401 before 404."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope, state = enter(scope)
        try:
            _identify(state)
        except AuthenticationError as error:
            await _refuse(send, state, error)
        else:
            missing = InvalidRequestError("There is no such path.", code="not_found", status=404)
            await _refuse(send, state, missing)


def _identify(state: State) -> Principal:
    principal = state.get(PRINCIPAL)
    if principal is None:
        raise AuthenticationError(
            "This path takes a key.",
            code="missing_api_key",
            headers=[(b"www-authenticate", b"Bearer")],
        )
    return principal


def _refuse_other_origins(scope: Scope) -> None:
    """Refuse a change that a page of another origin sends with what the browser has kept.

    A host's own identity may be a cookie. Who sends a key means the request.
    """
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site") and not (
        _CREDENTIALS & headers.keys()
    ):
        raise PermissionDeniedError(
            "Pages of other origins cannot change anything here without a key.",
            code="cross_origin_request",
        )


def _check_type(scope: Scope, data: bytes) -> None:
    headers: dict[bytes, bytes] = dict(scope["headers"])
    coding = headers.get(b"content-encoding", b"identity").lower()
    media = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if coding != b"identity" or (data and media != b"application/json"):
        raise InvalidRequestError(
            "The body has to be application/json, not compressed.",
            code="unsupported_media_type",
            status=415,
        )


def _actor(principal: Principal) -> str:
    """Who did it, for the audit log."""
    if principal.key_id is not None:
        return f"key:{principal.key_id}"
    if principal.user_id is not None:
        return f"user:{principal.user_id}"
    return "master" if principal.role == "admin" else "host"


async def _refuse(send: Send, state: State, error: LLMError) -> None:
    state.set(FAILURE, error)
    await send_error(send, state, error)


async def _send(send: Send, state: State, status: int, body: bytes, *, head: bool) -> None:
    headers = [
        *_HEADERS,
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", state.request_id.encode("ascii")),
    ]
    if state.client_request_id is not None:
        headers.append((b"x-client-request-id", state.client_request_id.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})
