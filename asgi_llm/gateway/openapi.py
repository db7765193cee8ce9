"""The OpenAPI document of the gateway, made from the definitions that requests are checked against.

Source: OpenAPI 3.1.1; OpenAI API reference for what each endpoint answers.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import asgi_llm
from asgi_llm.gateway.admin import Part, admin_components, admin_paths, templates
from asgi_llm.wire.schema import components

__all__ = ["document", "route_template"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Endpoint:
    """One POST endpoint of the API."""

    path: str
    operation_id: str
    tag: str
    summary: str
    request: str
    response: str | None
    """Component of a whole answer; None where it is no JSON."""
    chunk: str | None = None
    """Component of one event, where the answer can be a stream."""
    multipart: bool = False
    example: dict[str, Any]


_CHAT_EXAMPLE: Final = {
    "model": "echo/echo",
    "messages": [{"role": "user", "content": "Say hello."}],
}

_ENDPOINTS: Final = (
    _Endpoint(
        path="/v1/chat/completions",
        operation_id="createChatCompletion",
        tag="Chat",
        summary="Answer a conversation",
        request="ChatCompletionRequest",
        response="ChatCompletion",
        chunk="ChatCompletionChunk",
        example=_CHAT_EXAMPLE,
    ),
    _Endpoint(
        path="/v1/completions",
        operation_id="createCompletion",
        tag="Completions",
        summary="Continue a text",
        request="CompletionRequest",
        response="Completion",
        chunk="Completion",
        example={"model": "echo/echo", "prompt": "Once upon a time", "max_tokens": 16},
    ),
    _Endpoint(
        path="/v1/embeddings",
        operation_id="createEmbedding",
        tag="Embeddings",
        summary="Turn texts into vectors",
        request="EmbeddingRequest",
        response="EmbeddingList",
        example={"model": "echo/echo", "input": "A text."},
    ),
    _Endpoint(
        path="/v1/moderations",
        operation_id="createModeration",
        tag="Moderations",
        summary="Classify a text",
        request="ModerationRequest",
        response="Moderation",
        example={"model": "echo/echo", "input": "A text."},
    ),
    _Endpoint(
        path="/v1/images/generations",
        operation_id="createImage",
        tag="Images",
        summary="Make images from a text",
        request="ImageRequest",
        response="ImageList",
        example={"model": "echo/echo", "prompt": "A lighthouse.", "n": 1},
    ),
    _Endpoint(
        path="/v1/audio/speech",
        operation_id="createSpeech",
        tag="Audio",
        summary="Read a text aloud",
        request="SpeechRequest",
        response=None,
        example={"model": "echo/echo", "input": "Hello.", "voice": "alloy"},
    ),
    _Endpoint(
        path="/v1/audio/transcriptions",
        operation_id="createTranscription",
        tag="Audio",
        summary="Write down what is said in a recording",
        request="TranscriptionRequest",
        response="Transcription",
        multipart=True,
        example={"model": "echo/echo"},
    ),
    _Endpoint(
        path="/v1/rerank",
        operation_id="createRanking",
        tag="Rerank",
        summary="Order documents by how well they fit a query",
        request="RerankRequest",
        response="Ranking",
        example={
            "model": "cohere/rerank-v3.5",
            "query": "Where is Paris?",
            "documents": ["Paris is in France.", "Bread is baked."],
        },
    ),
)

_MODEL_TEMPLATE: Final = "/v1/models/{model}"
_TEMPLATES: Final = frozenset(
    (
        *(endpoint.path for endpoint in _ENDPOINTS),
        "/v1/models",
        "/health",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/docs/docs.js",
        "/docs/docs.css",
    )
)


_DIRECTORY: Final[tuple[Part, ...]] = ("directory",)
_ADMIN_TEMPLATES: Final = [template.split("/") for template in sorted(templates())]


def route_template(path: str) -> str:
    """The template of a path as ``route_path`` gives it: one of a closed set, else ``other``."""
    if path in _TEMPLATES:
        return path
    if path.startswith("/admin/"):
        return _admin_template(path)
    return _MODEL_TEMPLATE if path.startswith("/v1/models/") else "other"


def _admin_template(path: str) -> str:
    segments = path.split("/")
    for template in _ADMIN_TEMPLATES:
        if len(template) == len(segments) and all(
            expected in (segment, "{id}")
            for expected, segment in zip(template, segments, strict=True)
        ):
            return "/".join(template)
    return "other"


def document(
    *,
    title: str = "LLM gateway",
    admin: bool = False,
    admin_parts: Collection[Part] = _DIRECTORY,
) -> dict[str, Any]:
    """OpenAPI 3.1 of everything that the gateway serves, without ``servers``.

    Args:
        title: What the document and the page are called.
        admin: Whether it serves the admin API.
        admin_parts: What that was given: ``ledger`` and ``budgets`` beside the ``directory``.
    """
    paths: dict[str, Any] = {
        endpoint.path: {"post": _operation(endpoint)} for endpoint in _ENDPOINTS
    }
    paths.update(_models_paths())
    paths.update(_health_paths())
    more: dict[str, dict[str, Any]] = {}
    if admin:
        paths.update(admin_paths(admin_parts))
        more = admin_components(admin_parts)
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": title,
            "version": asgi_llm.__version__,
            "description": "The OpenAI API over all configured providers. A model is named as "
            "provider/model, or by an alias of the configuration.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": {**components(), **_HEALTH_SCHEMAS, **more.get("schemas", {})},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key of this gateway. Not looked at where no authentication "
                    "is configured.",
                }
            },
            "headers": _HEADERS,
            "responses": {**_ERRORS, **more.get("responses", {})},
        },
    }


def _operation(endpoint: _Endpoint) -> dict[str, Any]:
    media = "multipart/form-data" if endpoint.multipart else "application/json"
    content: dict[str, Any] = {"schema": _schema(endpoint.request), "example": endpoint.example}
    return {
        "operationId": endpoint.operation_id,
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "description": _STREAMING if endpoint.chunk else "",
        "requestBody": {"required": True, "content": {media: content}},
        "responses": {
            "200": {
                "description": "The answer.",
                "headers": _refer("headers", _ANSWER_HEADERS),
                "content": _answer_content(endpoint),
            },
            **_refer("responses", _STATUSES),
        },
    }


_STREAMING: Final = (
    "With stream: true the answer is a stream of server-sent events. The data of each is a chunk, "
    "and the last is [DONE]. A stream that goes wrong ends with an event that holds an error "
    "object in place of a chunk, and never with a finish reason."
)


def _answer_content(endpoint: _Endpoint) -> dict[str, Any]:
    if endpoint.response is None:
        return {"audio/*": {"schema": {"type": "string", "format": "binary"}}}
    content: dict[str, Any] = {"application/json": {"schema": _schema(endpoint.response)}}
    if endpoint.chunk is not None:
        content["text/event-stream"] = {"schema": _schema(endpoint.chunk)}
    if endpoint.multipart:
        content["text/plain"] = {"schema": {"type": "string"}}
    return content


def _models_paths() -> dict[str, Any]:
    def operation(operation_id: str, summary: str, answer: str) -> dict[str, Any]:
        return {
            "operationId": operation_id,
            "tags": ["Models"],
            "summary": summary,
            "responses": {
                "200": {
                    "description": "The answer.",
                    "headers": _refer("headers", {"X-Request-ID": "RequestID"}),
                    "content": {"application/json": {"schema": _schema(answer)}},
                },
                **_refer("responses", _STATUSES),
            },
        }

    name = {
        "name": "model",
        "in": "path",
        "required": True,
        "description": "Its name, which may hold slashes, as in provider/model.",
        "schema": {"type": "string"},
    }
    return {
        "/v1/models": {"get": operation("listModels", "List the models", "ModelList")},
        _MODEL_TEMPLATE: {
            "parameters": [name],
            "get": operation("retrieveModel", "Describe one model", "Model"),
        },
    }


def _health_paths() -> dict[str, Any]:
    def operation(operation_id: str, summary: str, schema: str, down: str) -> dict[str, Any]:
        content = {"application/json": {"schema": _schema(schema)}}
        headers = _refer("headers", {"X-Request-ID": "RequestID"})
        answers = {"200": {"description": "Well.", "headers": headers, "content": content}}
        if down:
            answers["503"] = {"description": down, "headers": headers, "content": content}
        return {
            "operationId": operation_id,
            "tags": ["Health"],
            "summary": summary,
            "security": [],
            "responses": answers,
        }

    down = "A part is down, or the process is ending."
    return {
        "/health": {"get": operation("getHealth", "Version and parts", "Health", down)},
        "/health/live": {
            "get": operation("getLiveness", "Whether the process answers", "Liveness", "")
        },
        "/health/ready": {
            "get": operation("getReadiness", "Whether to send requests here", "Readiness", down)
        },
    }


def _schema(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _refer(section: str, names: dict[str, str]) -> dict[str, Any]:
    return {key: {"$ref": f"#/components/{section}/{name}"} for key, name in names.items()}


def _header(description: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"description": description, "schema": schema or {"type": "string"}}


_HEADERS: Final = {
    "RequestID": _header("Our id of the request."),
    "ClientRequestID": _header("The X-Request-ID that the client sent, if it was sane."),
    "Provider": _header("The provider that answered."),
    "Model": _header("The model that answered, in the provider's words."),
    "Attempts": _header("How many calls were made.", {"type": "integer", "minimum": 1}),
    "TranslationLoss": _header(
        "Fields of the request that the provider could not be told as they were written."
    ),
    "Cost": _header("What the call cost in USD, where that is known and told."),
    "RetryAfter": _header("Seconds to wait.", {"type": "integer", "minimum": 0}),
}
_ANSWER_HEADERS: Final = {
    "X-Request-ID": "RequestID",
    "X-Client-Request-ID": "ClientRequestID",
    "X-Provider": "Provider",
    "X-Model": "Model",
    "X-Attempts": "Attempts",
    "X-Translation-Loss": "TranslationLoss",
    "X-Cost": "Cost",
}


def _error(description: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "description": description,
        "headers": _refer("headers", {"X-Request-ID": "RequestID", **(headers or {})}),
        "content": {"application/json": {"schema": _schema("Error")}},
    }


_ERRORS: Final = {
    "InvalidRequest": _error("The request is malformed; param names the field."),
    "AuthenticationFailed": _error("No valid key came with the request."),
    "PermissionDenied": _error("The key may not do this."),
    "NotFound": _error("No such model, or no such path."),
    "RequestTooLarge": _error("The body is over the limit; the connection is closed."),
    "UnsupportedMediaType": _error("The body is compressed, or of another type."),
    "RateLimited": _error("A limit is reached.", {"Retry-After": "RetryAfter"}),
    "InternalError": _error("Something broke in the gateway."),
    "ProviderFailed": _error("The provider could not be reached, or answered nonsense."),
    "Unavailable": _error("No provider can take the request now.", {"Retry-After": "RetryAfter"}),
    "ProviderTimedOut": _error("The provider missed a deadline."),
}
_STATUSES: Final = {
    "400": "InvalidRequest",
    "401": "AuthenticationFailed",
    "403": "PermissionDenied",
    "404": "NotFound",
    "413": "RequestTooLarge",
    "415": "UnsupportedMediaType",
    "429": "RateLimited",
    "500": "InternalError",
    "502": "ProviderFailed",
    "503": "Unavailable",
    "504": "ProviderTimedOut",
}

_STATUS: Final = {"type": "string", "enum": ["ready", "degraded", "not_ready", "draining"]}
_DETAILS: Final = {
    "type": "object",
    "description": "Figures of parts, such as rows that wait for the ledger.",
    "additionalProperties": {"type": "object", "additionalProperties": {"type": "number"}},
}
_HEALTH_SCHEMAS: Final[dict[str, Any]] = {
    "Health": {
        "type": "object",
        "required": ["status", "version", "parts"],
        "properties": {
            "status": _STATUS,
            "version": {"type": "string"},
            "parts": {
                "type": "object",
                "additionalProperties": {"type": "string", "enum": ["ok", "failing"]},
            },
            "details": _DETAILS,
        },
    },
    "Liveness": {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"const": "alive"}},
    },
    "Readiness": {
        "type": "object",
        "required": ["status"],
        "properties": {
            "status": _STATUS,
            "failing": {"type": "array", "items": {"type": "string"}},
            "details": _DETAILS,
        },
    },
}
