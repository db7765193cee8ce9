"""``/metrics``: who may read it, and what is copied into the figures when it is read."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Collection, Iterable
from typing import Final, NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm._asgi import RawHeaders, route_path, send_error
from asgi_llm._tasks import end
from asgi_llm.errors import (
    AuthenticationError,
    ConfigurationError,
    InvalidRequestError,
    LLMError,
    PermissionDeniedError,
)
from asgi_llm.middleware._model_access import normal_form
from asgi_llm.middleware._telemetry_metrics import Metric, Metrics
from asgi_llm.state import FAILURE, State, enter

__all__ = ["Exposition", "MetricsEndpoint", "Reading", "Readings", "ReadingsTask"]

Exposition = Callable[[str], tuple[str, bytes]]
"""From an ``Accept`` header to a content type and the text of all figures."""

_FORWARDED: Final = frozenset(
    (b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip")
)


class MetricsEndpoint:
    """Answers GET and HEAD of ``path`` with all figures; everything else passes untouched.

    With ``tokens`` a request has to bring one of them, as ``Authorization: Bearer``. Without any it
    has to come from this machine, and not by way of a proxy that says so.

    Args:
        exposition: Makes the text; called in a thread.
        refresh: Called before that, on the event loop.
        path: As ``route_path`` gives it.
        tokens: Good for reading, each of visible ASCII. An empty collection is none at all.
        open_to_all: Whether anyone may read.
        closed: Why nobody may, as a sentence; None: they may.

    Raises:
        ConfigurationError: The path is no plain one.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        exposition: Exposition,
        refresh: Callable[[], None],
        path: str = "/metrics",
        tokens: Collection[str] = (),
        open_to_all: bool = False,
        closed: str | None = None,
    ) -> None:
        if normal_form(path) != path.lower() or "?" in path or "#" in path or path == "/":
            raise ConfigurationError(
                f"{path!r} is no plain path; it begins with / and does not end with one",
                param="path",
            )
        self.app = app
        self._exposition = exposition
        self._refresh = refresh
        self._path = path
        self._digests = [hashlib.sha256(token.encode()).digest() for token in tokens]
        self._open = open_to_all
        self._closed = closed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or route_path(scope) != self._path:
            await self.app(scope, receive, send)
            return
        scope, state = enter(scope)
        try:
            self._admit(scope)
        except LLMError as error:
            state.set(FAILURE, error)
            await send_error(send, state, error)
            return
        self._refresh()
        # Thousands of lines take their time, and requests are under way.
        accept = state.headers.get(b"accept", b"").decode("latin-1")
        content_type, body = await asyncio.to_thread(self._exposition, accept)
        await _answer(send, state, content_type, body, head=scope["method"] == "HEAD")

    def _admit(self, scope: Scope) -> None:
        """Raise what is to be told to who may not read."""
        if scope["method"] not in ("GET", "HEAD"):
            raise InvalidRequestError(
                "This path takes GET and HEAD only.",
                status=405,
                code="method_not_allowed",
                headers=[(b"allow", b"GET, HEAD")],
            )
        if self._open:
            return
        if self._digests:
            self._check_token(scope["headers"])
        elif self._closed is not None:
            raise PermissionDeniedError(self._closed, code="metrics_closed")
        elif not _is_local(scope):
            raise PermissionDeniedError(
                "Metrics are told to this machine alone; give the layer telemetry a token.",
                code="metrics_closed",
            )

    def _check_token(self, headers: RawHeaders) -> None:
        given = [value for name, value in headers if name == b"authorization"]
        if not given:
            raise AuthenticationError("Metrics need a token.", code="missing_api_key")
        scheme, _, token = given[0].partition(b" ")
        digest = hashlib.sha256(token).digest()
        # All of them, so that the time tells nothing.
        fits = [hmac.compare_digest(digest, one) for one in self._digests]
        if len(given) > 1 or scheme.lower() != b"bearer" or not any(fits):
            raise AuthenticationError("This is no token for metrics.", code="invalid_api_key")


def _is_local(scope: Scope) -> bool:
    client = scope.get("client")
    if not client or any(name in _FORWARDED for name, _ in scope["headers"]):
        return False
    try:
        return ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


async def _answer(send: Send, state: State, content_type: str, body: bytes, *, head: bool) -> None:
    headers: RawHeaders = [
        (b"content-type", content_type.encode("ascii")),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"x-request-id", state.request_id.encode("ascii")),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})


class Reading(NamedTuple):
    """A figure that somebody else keeps."""

    metric: Metric
    """A gauge, or a counter."""
    labels: tuple[str, ...]
    """Values, in the order of the metric's labels."""
    read: Callable[[], float]
    """Quick, and without a wait. What it gives for a counter never falls."""


class Readings:
    """Figures that others keep, copied into the metrics when they are asked for.

    So a store or a cache counts as it always does, and nothing of it knows of metrics.

    Args:
        metrics: Where they are copied to.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._last: dict[tuple[Metric, tuple[str, ...]], float] = {}
        self._turn = 0
        self._turns = 0

    def next_turn(self) -> int:
        """A number for who wants to copy, above all that were given before."""
        self._turns += 1
        return self._turns

    def refresh(self, sources: Iterable[Reading], turn: int) -> None:
        """Copy what has changed since the last time.

        Args:
            sources: All there is to copy.
            turn: Of whoever copies. Who has a lower one than another before is not heard any more:
                its figures are those of a configuration that is over.
        """
        if turn < self._turn:
            return
        gone = set(self._last) if turn > self._turn else set()
        self._turn = turn
        for metric, labels, read in sources:
            self._copy(metric, labels, read())
            gone.discard((metric, labels))
        for metric, labels in gone:
            if metric.kind == "gauge":
                self._copy(metric, labels, 0.0)

    def _copy(self, metric: Metric, labels: tuple[str, ...], now: float) -> None:
        last = self._last.get((metric, labels))
        if now == last:
            return
        # Told from the first time on, also while it is zero.
        last = last or 0.0
        if metric.kind == "counter" and now < last:
            # It is another one that counts, from zero.
            last = 0.0
        self._metrics.instrument(metric)(labels)(now - last)
        self._last[metric, labels] = now


class ReadingsTask:
    """Copies readings from the gateway's start to its end, for other processes to tell.

    A worker that is not asked for its metrics would else not tell what it reads.

    Args:
        refresh: Copies them.
        seconds: Between one time and the next, above 0.
    """

    def __init__(self, refresh: Callable[[], None], *, seconds: float = 1.0) -> None:
        self._refresh = refresh
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin on the running loop; nothing if it has begun."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """Copy a last time, and stop. Idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        self._refresh()
        if task.get_loop() is asyncio.get_running_loop():
            await end(task)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            self._refresh()
