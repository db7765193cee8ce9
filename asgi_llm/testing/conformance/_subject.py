"""What a check is, what it sends through the layer, and what the app inside answers."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from starlette.types import ASGIApp, Scope

from asgi_llm.testing.scopes import http_scope
from asgi_llm.types import Document

__all__ = ["DEFAULT", "Check", "Example", "Layer", "check", "require"]

Layer = Callable[[ASGIApp], ASGIApp]
"""Puts the layer under test around an app."""

DEADLINE_SECONDS = 10.0


def _hello() -> Document:
    return {"model": "echo", "messages": [{"role": "user", "content": "Hello"}]}


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A request that the layer under test lets through to its app.

    Args:
        path: Of a POST.
        headers: What the layer asks for beside the content type, such as a key.
        document: The JSON body. Checks add fields that the layer has no reason to know.
    """

    path: str = "/v1/chat/completions"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    document: Document = field(default_factory=_hello)

    def body(self, *, mark: str = "", **fields: Any) -> bytes:
        """The request body; one with another ``mark`` is another request to any cache."""
        document = {**self.document, **fields}
        if mark:
            document["user"] = mark
            if "messages" in document:
                turn = {"role": "user", "content": mark}
                document["messages"] = [*document["messages"], turn]
        return json.dumps(document, ensure_ascii=False).encode()

    def scope(self, body: bytes = b"", **changes: Any) -> Scope:
        """The scope of an HTTP request with all that servers give, on a fresh set of objects."""
        headers = [
            (b"host", b"127.0.0.1:8000"),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            *self.headers,
        ]
        path = f"{self.path}?a=1&a=2"
        keys = {"path": path, "spec_version": "2.4", "state": {}, "extensions": {}, **changes}
        return http_scope(headers=headers, **keys)


DEFAULT = Example()


class Check(Protocol):
    """One promise of a layer; raises AssertionError where the layer breaks it."""

    __name__: str

    def __call__(self, layer: Layer, example: Example = DEFAULT) -> Awaitable[None]:
        """Put ``layer`` around an app, send ``example`` through it, and look."""
        ...


def check(
    function: Callable[[Layer, Example], Awaitable[None]],
    *,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> Check:
    """Make ``function`` a check: a default example, and AssertionError for a hang or a crash."""

    @functools.wraps(function)
    async def bounded(layer: Layer, example: Example = DEFAULT) -> None:
        try:
            async with asyncio.timeout(deadline_seconds):
                await function(layer, example)
        except TimeoutError as error:
            raise AssertionError(
                f"the layer hangs: {error or f'no end within {deadline_seconds:g} seconds'}"
            ) from error
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError(f"the layer raised {error!r}") from error

    return cast("Check", bounded)


def require(condition: bool, message: str) -> None:
    """An assertion that ``python -O`` keeps."""
    if not condition:
        raise AssertionError(message)
