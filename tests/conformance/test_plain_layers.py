"""The layers that the plumbing is made of keep every promise."""

from __future__ import annotations

import subprocess
import sys

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm._asgi import BufferedBody, Observer, observe, route_path
from asgi_llm.errors import InvalidRequestError
from asgi_llm.integrations.mount import beside
from asgi_llm.state import enter
from asgi_llm.testing.conformance import MOUNTS, Check, Example, Layer, checks


class Raw:
    """Passes everything on as it is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Observing:
    """Watches each response and changes nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await observe(self.app, scope, receive, send, Observer())


class Reading:
    """Reads the body and its document, then watches the response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope, state = enter(scope)
        body = await BufferedBody.read(scope, receive, max_bytes=4 * 1024 * 1024)
        if body is None:
            return
        if route_path(scope) == "/v1/chat/completions":
            state.document(body.data)
        await observe(self.app, scope, body.receive, send, Observer())


def stacked(app: ASGIApp) -> ASGIApp:
    """Three layers, each reading and watching for itself."""
    return Reading(Observing(Reading(app)))


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    raise InvalidRequestError("nothing is served here")


def alongside(app: ASGIApp) -> ASGIApp:
    """A host with something else mounted beside it."""
    return beside(app, "/elsewhere", refuse)


LAYERS: dict[str, Layer] = {
    "raw": Raw,
    "observing": Observing,
    "reading": Reading,
    "stacked": stacked,
    "none": lambda app: app,
}


@pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
async def test_plain_layer(layer: Layer, check: Check) -> None:
    """A layer made of the plumbing and nothing else passes the whole suite."""
    await check(layer)


@pytest.mark.parametrize(
    "check",
    [check for check in checks if check.__name__ != "lifespan_passes_as_the_same_objects"],
    ids=lambda check: check.__name__,
)
async def test_beside(check: Check) -> None:
    """``beside`` is transparent to its host, but for the lifespan, which it answers itself."""
    await check(alongside)


@pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)
async def test_another_example(check: Check) -> None:
    """The checks work for any route and document that a layer asks for."""
    example = Example(
        path="/v1/embeddings",
        headers=((b"authorization", b"Bearer sk-1"),),
        document={"model": "m", "input": "text"},
    )
    await check(Reading, example)


def test_every_check_says_what_it_proves() -> None:
    """Each check has a name of its own and a docstring of one line."""
    names = [check.__name__ for check in checks]
    assert len(names) == len(set(names))
    for check in checks:
        assert check.__doc__ is not None
        assert check.__doc__.count("\n") == 0


def test_the_kit_needs_no_test_runner() -> None:
    """The suite can be imported where pytest is not."""
    code = (
        "import sys; sys.modules['pytest'] = None; "
        "from asgi_llm.testing.conformance import checks; print(len(checks))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ran.stdout.strip(), ran.stderr) == (str(len(checks)), "")


@pytest.mark.parametrize("name", MOUNTS)
def test_mounts_are_one_route(name: str) -> None:
    """Every form of ``MOUNTS`` stands for the route that it was made from."""
    scope = {key: value.format(path="/v1/x") for key, value in MOUNTS[name].items()}
    assert route_path(scope) == "/v1/x"
