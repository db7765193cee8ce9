"""Upstreams, routes and stacks that the tests of the router share."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp

from asgi_llm.middleware.router import RouterMiddleware
from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.openai import OpenAI
from asgi_llm.routing.targets import Fallbacks, Route, Target
from asgi_llm.testing import Exchange, Recorder, Reply, Upstream, call, error_answer, http_scope
from asgi_llm.types import Deployment

HELLO: dict[str, Any] = {"model": "fast", "messages": [{"role": "user", "content": "Hello"}]}
STREAM = {**HELLO, "stream": True}
FAILS = error_answer(500)


class Clocked:
    """Waits that take no time, and how long they would have been.

    Attributes:
        waited: Each of them, in seconds.
    """

    def __init__(self) -> None:
        self.waited: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Note it, and go on."""
        self.waited.append(seconds)


class Upstreams:
    """Scripted upstreams by name, with a provider app in front of them.

    Attributes:
        by_name: The upstreams.
        app: Calls each under its own name.
        clocked: What the router waits by.
    """

    def __init__(self, by_name: Mapping[str, Upstream]) -> None:
        self.by_name = by_name
        self.clocked = Clocked()
        self.app = ProviderApp(
            [
                OpenAI(name=name, api_key="sk-test", base_url=f"{upstream.url}/v1")
                for name, upstream in by_name.items()
            ]
        )

    def __getitem__(self, name: str) -> Upstream:
        return self.by_name[name]

    @property
    def calls(self) -> dict[str, int]:
        """How many requests each of them got, those with none left out."""
        return {name: len(one.ledger) for name, one in self.by_name.items() if one.ledger}

    def router(self, *routes: Route, **options: Any) -> RouterMiddleware:
        """The layer around the app, with waits that take no time."""
        return RouterMiddleware(self.app, routes=routes, **{"sleep": self.clocked.sleep, **options})


@asynccontextmanager
async def upstreams(**replies: Reply) -> AsyncIterator[Upstreams]:
    """Upstreams that give one answer each, again and again."""
    opened: dict[str, Upstream] = {}
    for name, reply in replies.items():
        opened[name] = Upstream()
        opened[name].listen()
        opened[name].script(reply)
    made = Upstreams(opened)
    try:
        yield made
    finally:
        await made.app.aclose()
        for one in opened.values():
            await one.aclose()
    for one in opened.values():
        if one.failures:
            raise one.failures[0]


def target(name: str, **fields: Any) -> Target:
    """``provider/model`` as a target."""
    provider, _, model = name.partition("/")
    return Target(deployment=Deployment(provider=provider, model=model or "m"), **fields)


def route(
    *targets: str | Target,
    name: str = "fast",
    strategy: str = "ordered",
    fallbacks: tuple[str, ...] = (),
    **others: Any,
) -> Route:
    """A route to targets that are tried in their order."""
    return Route(
        name=name,
        targets=tuple([one if isinstance(one, Target) else target(one) for one in targets]),
        strategy=strategy,
        fallbacks=Fallbacks(errors=fallbacks, **others),
    )


async def ask(app: ASGIApp, document: Any = None, **scope: Any) -> Recorder:
    """Send one request and take its answer."""
    return await call(app, http_scope(**scope), json=HELLO if document is None else document)


def exchange_of(app: ASGIApp, document: Any) -> Exchange:
    """One request whose answer is taken message by message."""
    scope = http_scope(headers=[(b"content-type", b"application/json")])
    return Exchange(app, scope, body=json.dumps(document).encode())


def told(answer: Recorder) -> tuple[int, str | None]:
    """Status and code of an answer."""
    error = answer.json().get("error")
    return answer.status, None if error is None else error["code"]
