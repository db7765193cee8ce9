"""``merge_openapi``: the gateway's paths in its host's document."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import fastapi
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from asgi_llm.integrations.mount import merge_openapi, mount_gateway
from asgi_llm.testing.exchange import call
from asgi_llm.testing.scopes import http_scope

HOST: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Host", "version": "1"},
    "servers": [{"url": "/myapp"}],
    "tags": [{"name": "items"}],
    "paths": {
        "/items": {"get": {"operationId": "list", "responses": {}}},
        "/llm/own": {"get": {"operationId": "own", "responses": {}}},
    },
    "components": {
        "schemas": {"Chat": {"type": "string"}},
        "securitySchemes": {"bearer": {"type": "apiKey", "in": "header", "name": "x-host"}},
    },
}

GATEWAY: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Gateway", "version": "1"},
    "servers": [{"url": "http://127.0.0.1:4000"}],
    "security": [{"bearer": []}],
    "tags": [{"name": "Chat"}],
    "paths": {
        "/v1/chat/completions": {
            "summary": "Chat",
            "parameters": [{"$ref": "#/components/parameters/Trace"}],
            "post": {
                "operationId": "createChat",
                "tags": ["Chat"],
                "requestBody": {
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Chat"}}
                    }
                },
                "responses": {},
            },
        },
        "/health": {"get": {"operationId": "health", "security": [], "responses": {}}},
        "/own": {"get": {"operationId": "gatewayOwn", "responses": {}}},
    },
    "components": {
        "parameters": {"Trace": {"name": "trace", "in": "query"}},
        "schemas": {
            "Chat": {
                "oneOf": [{"$ref": "#/components/schemas/Text"}],
                "discriminator": {
                    "propertyName": "type",
                    "mapping": {"text": "#/components/schemas/Text"},
                },
                "properties": {"$ref": {"type": "string"}, "mapping": {"type": "object"}},
            },
            "Text": {"type": "string", "examples": ["#/components/schemas/Text"]},
        },
        "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
    },
}


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "$ref" and isinstance(item, str):
                yield item
            else:
                yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def dangling(document: dict[str, Any]) -> list[str]:
    """References that lead nowhere."""
    missing = []
    for reference in references(document):
        part: Any = document
        for name in reference.removeprefix("#/").split("/"):
            part = part.get(name) if isinstance(part, dict) else None
        if part is None:
            missing.append(reference)
    return missing


def test_paths_come_under_the_prefix() -> None:
    """Every path of the gateway is there under the prefix, and the host's are as they were."""
    merged = merge_openapi(HOST, GATEWAY, "/llm")
    assert [
        "/items",
        "/llm/own",
        "/llm/v1/chat/completions",
        "/llm/health",
    ] == list(merged["paths"])
    for path, item in HOST["paths"].items():
        assert item == merged["paths"][path]
    assert (HOST["info"], HOST["servers"]) == (merged["info"], merged["servers"])


def test_components_do_not_clash() -> None:
    """Equal names of host and gateway stay two things, and references follow their own."""
    merged = merge_openapi(HOST, GATEWAY, "/llm")
    assert {"Chat", "AsgiLLMChat", "AsgiLLMText"} == set(merged["components"]["schemas"])
    assert {"type": "string"} == merged["components"]["schemas"]["Chat"]
    chat = merged["components"]["schemas"]["AsgiLLMChat"]
    assert [{"$ref": "#/components/schemas/AsgiLLMText"}] == chat["oneOf"]
    assert {"text": "#/components/schemas/AsgiLLMText"} == chat["discriminator"]["mapping"]
    item = merged["paths"]["/llm/v1/chat/completions"]
    assert [{"$ref": "#/components/parameters/AsgiLLMTrace"}] == item["parameters"]
    assert [] == dangling(merged)


def test_only_references_are_renamed() -> None:
    """Properties called like keywords, and examples that look like references, stay."""
    schemas = merge_openapi(HOST, GATEWAY, "/llm")["components"]["schemas"]
    properties = {"$ref": {"type": "string"}, "mapping": {"type": "object"}}
    assert properties == schemas["AsgiLLMChat"]["properties"]
    assert ["#/components/schemas/Text"] == schemas["AsgiLLMText"]["examples"]


def test_security_is_asked_for_where_the_gateway_asks() -> None:
    """The gateway's top-level security is on its operations, one that asks for none excepted."""
    merged = merge_openapi(HOST, GATEWAY, "/llm")
    schemes = merged["components"]["securitySchemes"]
    assert {"type": "http", "scheme": "bearer"} == schemes["AsgiLLMbearer"]
    assert HOST["components"]["securitySchemes"]["bearer"] == schemes["bearer"]
    chat = merged["paths"]["/llm/v1/chat/completions"]["post"]
    health = merged["paths"]["/llm/health"]["get"]
    assert ([{"AsgiLLMbearer": []}], []) == (chat["security"], health["security"])
    assert "security" not in merged
    assert "security" not in merged["paths"]["/items"]["get"]


def test_operations_have_one_tag_and_ids_of_the_mount() -> None:
    """All operations carry our tag, and two mounts of one gateway have different ids."""
    merged = merge_openapi(HOST, GATEWAY, "/llm")
    merged = merge_openapi(merged, GATEWAY, "/v2/llm-b")
    assert [{"name": "items"}, {"name": "AsgiLLM", "description": "Gateway"}] == merged["tags"]
    ids = [
        operation["operationId"]
        for item in merged["paths"].values()
        for operation in item.values()
        if isinstance(operation, dict)
    ]
    assert len(ids) == len(set(ids))
    chat = merged["paths"]["/v2/llm-b/v1/chat/completions"]["post"]
    assert ("v2_llm_b_createChat", ["AsgiLLM"]) == (chat["operationId"], chat["tags"])


def test_arguments_are_unchanged() -> None:
    """Neither document is edited."""
    host, gateway = copy.deepcopy(HOST), copy.deepcopy(GATEWAY)
    merge_openapi(host, gateway, "/llm")
    assert (HOST, GATEWAY) == (host, gateway)


def test_an_empty_host_will_do() -> None:
    """A host's document without paths, components and tags gets ours."""
    merged = merge_openapi({"openapi": "3.1.0"}, GATEWAY, "/llm")
    assert 3 == len(merged["paths"])
    assert [] == dangling(merged)


def test_a_bare_operation_gets_the_tag_alone() -> None:
    """No id and no security is made up."""
    gateway: dict[str, Any] = {"paths": {"/x": {"get": {"responses": {}}}}}
    merged = merge_openapi(HOST, gateway, "/llm")
    assert {"responses": {}, "tags": ["AsgiLLM"]} == merged["paths"]["/llm/x"]["get"]


class Documented:
    """A gateway with a document."""

    def __init__(self, openapi: dict[str, Any]) -> None:
        self.document = openapi

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError(scope["path"])

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncIterator[None]:
        yield

    def openapi(self) -> dict[str, Any]:
        return self.document


async def test_fastapi_serves_the_merged_document() -> None:
    """``/openapi.json`` of a FastAPI host has the gateway's paths, merged once a set of routes."""
    app = fastapi.FastAPI()

    @app.get("/items")
    async def items() -> list[str]:
        return []

    mount_gateway(app, "/llm", Documented(GATEWAY))
    served = (await call(app, http_scope("GET", "/openapi.json"))).json()
    assert {"/items", "/llm/v1/chat/completions", "/llm/health", "/llm/own"} == set(served["paths"])
    assert app.openapi() is app.openapi()

    @app.get("/more")
    async def more() -> list[str]:
        return []

    assert "/more" in app.openapi()["paths"]
    assert "/llm/health" in app.openapi()["paths"]


async def test_fastapi_documents_two_gateways() -> None:
    """Two mounts are both there."""
    app = fastapi.FastAPI()
    mount_gateway(app, "/a", Documented(GATEWAY))
    mount_gateway(app, "/b", Documented(GATEWAY))
    assert {f"/{one}{path}" for one in "ab" for path in GATEWAY["paths"]} == set(
        app.openapi()["paths"]
    )


def test_a_host_without_a_document_gets_none() -> None:
    """Starlette has no ``openapi``, and is given none."""
    app = Starlette()
    mount_gateway(app, "/llm", Documented(GATEWAY))
    assert not hasattr(app, "openapi")
