"""Checks: what passes as it is, and in which surroundings."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from asgi_llm._asgi import route_path
from asgi_llm.testing.conformance._probes import (
    answer,
    bodies,
    drain,
    events,
    reply,
    request,
    stream_start,
)
from asgi_llm.testing.conformance._subject import Example, Layer, check, require
from asgi_llm.testing.recorder import Recorder
from asgi_llm.testing.scopes import lifespan_scope, websocket_scope

__all__ = ["MOUNTS", "SPEC_VERSIONS"]

MOUNTS: Mapping[str, Mapping[str, str]] = {
    "not mounted": {"path": "{path}", "root_path": ""},
    "Starlette mount": {"path": "/llm{path}", "root_path": "/llm", "app_root_path": ""},
    "FastAPI with root_path, proxy strips": {
        "path": "/llm{path}",
        "root_path": "/myapp/llm",
        "app_root_path": "/myapp",
    },
    "server with root_path": {"path": "/myapp{path}", "root_path": "/myapp"},
    "mounted, server with root_path": {
        "path": "/myapp/llm{path}",
        "root_path": "/myapp/llm",
        "app_root_path": "/myapp",
    },
    "server with root_path, proxy strips": {"path": "{path}", "root_path": "/myapp"},
    "Litestar mount": {"path": "{path}/", "root_path": ""},
}
"""Path keys of the scope that hosts hand over for one route, which ``{path}`` stands for."""

_TURNS = 50

SPEC_VERSIONS = (None, "2.0", "2.1", "2.2", "2.3", "2.4", "2.5")
"""Values of ``scope["asgi"]["spec_version"]``; None: it is not there, which means 2.0."""


async def _same_objects(layer: Layer, scope: Scope) -> None:
    seen: list[tuple[Scope, Receive, Send]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, receive, send))

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    send = Recorder()
    await layer(app)(scope, receive, send)
    kind = scope["type"]
    require(len(seen) == 1, f"the app was called {len(seen)} times, not once, with a {kind} scope")
    for name, inside, outside in zip(
        ("scope", "receive", "send"), seen[0], (scope, receive, send), strict=True
    ):
        require(inside is outside, f"{name} of {kind} is another object inside the layer")


@check
async def lifespan_passes_as_the_same_objects(layer: Layer, example: Example) -> None:
    """A lifespan scope, its receive and its send reach the app as the objects that came."""
    await _same_objects(layer, lifespan_scope())


@check
async def websocket_passes_as_the_same_objects(layer: Layer, example: Example) -> None:
    """A WebSocket scope, its receive and its send reach the app as the objects that came."""
    await _same_objects(layer, websocket_scope(example.path, example.headers))


@check
async def unknown_scope_passes_as_the_same_objects(layer: Layer, example: Example) -> None:
    """A scope of a type that no specification names reaches the app as the object that came."""
    await _same_objects(layer, {"type": "x.unknown", "asgi": {"version": "3.0"}})


@check
async def callers_scope_is_unchanged(layer: Layer, example: Example) -> None:
    """The caller's scope has the same keys and values after the call, at every depth."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await drain(receive)
        await reply(send, answer())

    body = example.body()
    scope = example.scope(body, state={"database": ["open"]}, extensions={"x": {"y": [1]}})
    before = copy.deepcopy(scope)
    await request(layer(app), scope, [body])
    added, gone = scope.keys() - before.keys(), before.keys() - scope.keys()
    require(not added, f"the layer added {sorted(added)} to the caller's scope")
    require(not gone, f"the layer took {sorted(gone)} out of the caller's scope")
    for key, value in before.items():
        require(scope[key] == value, f"the layer changed {key!r} in the caller's scope")


@check
async def scope_arrives_unchanged(layer: Layer, example: Example) -> None:
    """The app sees every key as it came, repeated request headers in order, and the same state."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append({**scope, "headers": list(scope["headers"])})
        await drain(receive)
        await reply(send, answer())

    body = example.body()
    scope = example.scope(body, client=None, extensions={"http.response.trailers": {}})
    # Their names are nobody's, so that a layer has no reason to take them off.
    repeated = [(b"x-probe", b"1"), (b"X-Odd-Case", b" \xff"), (b"x-probe", b"2")]
    scope["headers"] += repeated
    outside = {**scope}
    await request(layer(app), scope, [body])
    require(len(seen) == 1, f"the app was called {len(seen)} times, not once")
    inside = seen[0]
    for key, value in outside.items():
        require(key in inside, f"{key!r} is missing from the scope inside")
        if key != "headers":
            require(inside[key] == value, f"{key!r} is {inside[key]!r} inside, not {value!r}")
    require(inside["state"] is outside["state"], "the lifespan state inside is a copy")
    names = {name for name, _ in repeated}
    kept = [pair for pair in inside["headers"] if pair[0] in names]
    require(kept == repeated, f"repeated request headers are {kept} inside, not {repeated}")


async def _passes(layer: Layer, scope: Scope, body: bytes, where: str) -> Scope:
    """Send one request through and return the scope that the app saw."""
    seen: list[tuple[Scope, bytes | None]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, await drain(receive)))
        await reply(send, answer())

    recorder = await request(layer(app), scope, [body])
    require(len(seen) == 1, f"the app was called {len(seen)} times, not once: {where}")
    require(seen[0][1] is not None, f"the app saw a disconnect and no body: {where}")
    require(recorder.status == 200, f"the status is {recorder.status}, not 200: {where}")
    require(recorder.complete, f"the answer is not complete: {where}")
    return seen[0][0]


@check
async def works_with_no_other_layer(layer: Layer, example: Example) -> None:
    """The keys that ASGI requires are enough: no state of another layer, no optional key."""
    body = example.body()
    scope = example.scope(body)
    for key in ("scheme", "raw_path", "root_path", "client", "server", "state", "extensions"):
        del scope[key]
    await _passes(layer, scope, body, "with the required keys alone")


@check
async def works_under_any_mount(layer: Layer, example: Example) -> None:
    """One route means the same in every form in which hosts hand its path over (``MOUNTS``)."""
    for where, keys in MOUNTS.items():
        changes = {key: value.format(path=example.path) for key, value in keys.items()}
        body = example.body(mark=where)
        scope = example.scope(body, **changes)
        inside = await _passes(layer, scope, body, where)
        require(
            route_path(inside) == example.path,
            f"the route inside is {route_path(inside)!r}, not {example.path!r}: {where}",
        )


@check
async def works_under_every_spec_version(layer: Layer, example: Example) -> None:
    """ASGI HTTP 2.0 to 2.5 are all served, whole answers and streams."""
    for version in SPEC_VERSIONS:
        asgi = {"version": "3.0"} | ({} if version is None else {"spec_version": version})
        body = example.body(mark=f"version {version}")
        inside = await _passes(
            layer, example.scope(body, asgi=asgi), body, f"spec_version {version}"
        )
        require(inside["asgi"] == asgi, f"scope['asgi'] is {inside['asgi']} inside, not {asgi}")


@check
async def concurrent_requests_do_not_mix(layer: Layer, example: Example) -> None:
    """Of 50 requests at once through one instance, each gets its own body and its own answer."""
    marks = [f"request {number}" for number in range(50)]
    sent = {mark: example.body(mark=mark) for mark in marks}
    seen: dict[str, bytes | None] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        mark = dict(scope["headers"])[b"x-mark"]
        seen[mark.decode()] = await drain(receive)
        start = stream_start()
        start["headers"].append((b"x-mark", mark))
        await send(start)
        for message in bodies(events(mark.decode())):
            await asyncio.sleep(0)
            await send(message)

    one = layer(app)

    async def client(mark: str) -> Recorder:
        body = sent[mark]
        scope = example.scope(body)
        scope["headers"].append((b"x-mark", mark.encode()))
        return await request(one, scope, [body[:9], body[9:]])

    recorders = await asyncio.gather(*map(client, marks))
    for mark, recorder in zip(marks, recorders, strict=True):
        require(seen.get(mark) == sent[mark], f"the body inside is not that of {mark}")
        require(recorder.header("x-mark") == mark.encode(), f"the headers are not those of {mark}")
        require(recorder.body == b"".join(events(mark)), f"the answer is not the one to {mark}")


@check
async def no_task_is_left_behind(layer: Layer, example: Example) -> None:
    """When the call has returned, no task that it started still runs."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await drain(receive)
        await reply(send, answer())

    before = asyncio.all_tasks()
    body = example.body()
    await request(layer(app), example.scope(body), [body])
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    left: set[asyncio.Task[Any]] = {t for t in asyncio.all_tasks() - before if not t.done()}
    require(not left, f"{len(left)} tasks still run after the request")


CHECKS = (
    lifespan_passes_as_the_same_objects,
    websocket_passes_as_the_same_objects,
    unknown_scope_passes_as_the_same_objects,
    callers_scope_is_unchanged,
    scope_arrives_unchanged,
    works_with_no_other_layer,
    works_under_any_mount,
    works_under_every_spec_version,
    concurrent_requests_do_not_mix,
    no_task_is_left_behind,
)
