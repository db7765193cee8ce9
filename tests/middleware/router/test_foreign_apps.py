"""The layer around apps of one's own, and the official client in front of it."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.responses import Response

from asgi_llm.errors import ConfigurationError
from asgi_llm.middleware.router import RouterMiddleware
from asgi_llm.routing.targets import Route
from asgi_llm.testing import chat_answer, chat_events, sse_reply
from asgi_llm.testing.serving import serve
from tests.middleware.router.conftest import FAILS, HELLO, Clocked, ask, route, target, upstreams


class Models:
    """An endpoint that answers by its models.

    Args:
        answers: The status and the error's code of each; others answer well.

    Attributes:
        asked: The models, in their order.
        app: The endpoint.
    """

    def __init__(self, **answers: tuple[int, str | None]) -> None:
        self.asked: list[str] = []
        self.app = FastAPI()

        @self.app.post("/v1/chat/completions")
        async def complete(document: dict[str, Any]) -> Response:
            model = document["model"]
            self.asked.append(model)
            if model not in answers:
                return JSONResponse(chat_answer("Hi."))
            status, code = answers[model]
            error = {"message": "No.", "type": "t", "code": code}
            return JSONResponse({"error": error}, status, headers={"retry-after": "1"})


def router_of(models: Models, *routes: Route, **options: Any) -> RouterMiddleware:
    """The layer, which puts the target's model into the request."""
    given = {"sleep": Clocked().sleep, "rewrite_model": True, **options}
    return RouterMiddleware(models.app, routes=routes, **given)


async def test_targets_of_ones_own_app_are_models() -> None:
    """The request's model becomes the target's; the rest of the body stays as it is."""
    seen: list[Any] = []
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def complete(document: dict[str, Any]) -> dict[str, Any]:
        seen.append(document)
        return chat_answer("Hi.")

    app.add_middleware(RouterMiddleware, routes=[route("x/large")], rewrite_model=True)
    document = {**HELLO, "unknown": [1, {"two": None}]}
    answer = await ask(app, document)
    assert 200 == answer.status
    assert [{**document, "model": "large"}] == seen
    assert answer.header("x-attempts") is None


@pytest.mark.parametrize(
    ("status", "code", "asked"),
    (
        (500, None, ["one", "two"]),
        (429, None, ["one", "two"]),
        (429, "insufficient_quota", ["one", "two"]),
        (404, None, ["one", "two"]),
        (400, None, ["one"]),
        (400, "context_length_exceeded", ["one", "large"]),
        (400, "content_filter", ["one", "three"]),
    ),
)
async def test_errors_of_other_apps_are_judged_by_status_and_code(
    status: int, code: str | None, asked: list[str]
) -> None:
    """As those of providers are, though the app says nothing through the state."""
    models = Models(one=(status, code))
    router = router_of(
        models,
        route("x/one", "x/two", context_length=("large",), content_filter=("other",)),
        route("x/large", name="large"),
        route("x/three", name="other"),
    )
    answer = await ask(router)
    assert asked == models.asked
    if len(asked) > 1:
        assert (200, b"2") == (answer.status, answer.header("x-attempts"))
    else:
        assert (status, "No.") == (answer.status, answer.json()["error"]["message"])


async def test_an_error_that_is_too_long_to_hold_passes() -> None:
    """It is no error object, and what has left is not taken back."""
    asked: list[str] = []
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def complete(document: dict[str, Any]) -> Response:
        asked.append(document["model"])
        return Response(b"x" * 300_000, 500)

    answer = await ask(RouterMiddleware(app, routes=[route("x/a", "x/b")], rewrite_model=True))
    assert (500, 300_000) == (answer.status, len(answer.body))
    assert ["a"] == asked


async def test_an_exception_of_the_app_is_its_own() -> None:
    """It comes out as it is, behind the answer that the host made of it, and nothing is retried."""
    calls: list[str] = []
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def complete(document: dict[str, Any]) -> None:
        calls.append(document["model"])
        raise LookupError("a bug")

    app_with_routes = RouterMiddleware(app, routes=[route("x/a", "x/b")])
    with pytest.raises(LookupError, match="a bug"):
        await ask(app_with_routes)
    assert ["fast"] == calls


@pytest.mark.parametrize(
    ("options", "param"),
    (
        ({"attempts": 0}, "attempts"),
        ({"attempts": 101}, "attempts"),
        ({"deadline_seconds": 0}, "deadline_seconds"),
        ({"attempt_seconds": -1}, "attempt_seconds"),
        ({"stream_peek_bytes": -1}, "stream_peek_bytes"),
        ({"max_body_bytes": 0}, "max_body_bytes"),
        ({"routes": [route("a"), route("b")]}, "routes"),
        ({"routes": [route("a", fallbacks=("none",))]}, "routes.fast.fallbacks.errors"),
        ({"routes": [route("a", strategy="fastest")]}, "routes.fast.strategy"),
    ),
    ids=str,
)
def test_options_that_are_wrong_are_named(options: dict[str, Any], param: str) -> None:
    """In the constructor, before anything is served."""
    with pytest.raises(ConfigurationError) as caught:
        RouterMiddleware(Models().app, **options)
    assert param == caught.value.param


async def test_the_official_client_sees_one_answer() -> None:
    """Whole and streamed: the models in front of it fail, and it is told of nothing but headers."""
    good = sse_reply(chat_events("One two three."))
    async with asyncio.timeout(30), upstreams(a=FAILS, b=FAILS) as up:
        router = up.router(route("a", fallbacks=("slow",)), route(target("b/x"), name="slow"))
        async with (
            serve(router) as url,
            openai.AsyncOpenAI(api_key="none", base_url=f"{url}/v1", max_retries=0) as client,
        ):
            with pytest.raises(openai.InternalServerError) as caught:
                await client.chat.completions.create(**HELLO)
            assert ("3", 502) == (
                caught.value.response.headers["x-attempts"],
                caught.value.status_code,
            )
            up["b"].script(good)
            raw = await client.chat.completions.with_raw_response.create(**HELLO, stream=True)
            text = [
                chunk.choices[0].delta.content or "" async for chunk in raw.parse() if chunk.choices
            ]
            assert "One two three." == "".join(text)
            assert ("b", "x", "2") == tuple(
                raw.headers[name] for name in ("x-provider", "x-model", "x-attempts")
            )
