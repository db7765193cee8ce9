"""Which models a caller may use: the check of a name, and of what a request asks for."""

from __future__ import annotations

import posixpath
from fnmatch import fnmatchcase
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.types import Scope

from asgi_llm.errors import InvalidRequestError, ModelNotFoundError, PermissionDeniedError
from asgi_llm.state import PRINCIPAL, State, StateKey
from asgi_llm.types import Principal

__all__ = [
    "INFERENCE_PATHS",
    "MAX_MODEL_LENGTH",
    "MODELS_PATH",
    "MODEL_CHECKED",
    "UPLOAD_PATHS",
    "check_model",
    "check_socket_model",
    "check_unseen_model",
    "is_upload",
    "model_allowed",
    "normal_form",
    "refuse_hidden_model",
]

MAX_MODEL_LENGTH: Final = 512
"""A longer name is never allowed to a caller who may use some models only."""

INFERENCE_PATHS: Final = frozenset(
    (
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/moderations",
        "/v1/images/generations",
        "/v1/images/edits",
        "/v1/images/variations",
        "/v1/audio/speech",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
        "/v1/rerank",
        "/v1/responses",
        "/v1/messages",
    )
)
"""Where a POST names its model in the body."""

MODELS_PATH: Final = "/v1/models"

MODEL_CHECKED: StateKey[bool] = StateKey("model_checked")
"""Whether the model that the client named has been judged. Writer: AuthMiddleware. Reader: whoever
reads what that layer could not."""

UPLOAD_PATHS = frozenset(
    (
        "/v1/images/edits",
        "/v1/images/variations",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
    )
)
_GLOB = frozenset("*?[")


def model_allowed(principal: Principal, model: str) -> bool:
    """Whether ``principal`` may use the model of that name, as the client writes it.

    A pattern is matched as in ``fnmatch``, case kept: ``gpt-4o*`` is not ``openai/gpt-4o``.
    """
    patterns = principal.models
    if patterns is None:
        return True
    if model in patterns and not _GLOB.intersection(model):
        return True
    return len(model) <= MAX_MODEL_LENGTH and any(
        fnmatchcase(model, pattern) for pattern in patterns
    )


def check_model(principal: Principal, document: Any) -> None:
    """Refuse a body that asks for a model which is not the caller's to use.

    Raises:
        PermissionDeniedError: It does.
        InvalidRequestError: It names no model, so that an app's default would decide.
    """
    model = document.get("model") if isinstance(document, dict) else None
    if not isinstance(model, str):
        raise InvalidRequestError(
            "The body must be a JSON object that names its model.",
            param="model",
            code="missing_field",
        )
    if not model_allowed(principal, model):
        raise _not_allowed()


def check_unseen_model(state: State, model: str) -> None:
    """Refuse a model that nobody has judged yet: of a form, or where a host said who is calling.

    Raises:
        PermissionDeniedError: It is not the caller's to use.
    """
    principal = state.get(PRINCIPAL)
    if (
        principal is not None
        and principal.models is not None
        and not state.get(MODEL_CHECKED)
        and not model_allowed(principal, model)
    ):
        raise _not_allowed()


def check_socket_model(principal: Principal, query: bytes) -> None:
    """The same for a WebSocket, which names its model in the query.

    Raises:
        PermissionDeniedError: It names none, or one that is not the caller's to use.
    """
    fields = parse_qsl(query.decode("latin-1"), max_num_fields=100)
    models = [value for name, value in fields if name == "model"]
    if not models or not all(model_allowed(principal, model) for model in models):
        raise _not_allowed()


def refuse_hidden_model(principal: Principal, path: str) -> None:
    """Refuse ``/v1/models/{id}`` of a model that may not be used, whether there is one or not.

    Raises:
        ModelNotFoundError: It may not be used.
    """
    if path.startswith(MODELS_PATH + "/"):
        name = path[len(MODELS_PATH) + 1 :]
        if not model_allowed(principal, name):
            raise ModelNotFoundError(f"The model {name[:MAX_MODEL_LENGTH]!r} does not exist here.")


def is_upload(scope: Scope, path: str) -> bool:
    """Whether the body is a form with a file, whose fields only its reader sees."""
    if path not in UPLOAD_PATHS:
        return False
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    return len(kinds) == 1 and kinds[0].lower().startswith(b"multipart/form-data")


def normal_form(path: str) -> str:
    """What the least strict of routers could take ``path`` for."""
    segments = (segment.partition(";")[0] for segment in path.replace("\\", "/").split("/"))
    path = posixpath.normpath("/" + "/".join(segments).strip().lower())
    return "/" + path.lstrip("/")


def _not_allowed() -> PermissionDeniedError:
    return PermissionDeniedError(
        "This key may not use that model. GET /v1/models lists those that it may use.",
        param="model",
    )
