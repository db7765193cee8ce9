"""Metrics of requests to models: how many, how long, how many tokens, what they cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm._asgi import Observer, is_event_stream, observe, route_path
from asgi_llm.errors import ConfigurationError, LLMError, RawHeaders
from asgi_llm.middleware._model_access import INFERENCE_PATHS
from asgi_llm.middleware._telemetry_answer import ForeignAnswer, tells_usage
from asgi_llm.middleware._telemetry_metrics import Add, Instrument, Metric, Metrics
from asgi_llm.middleware._telemetry_names import Learned
from asgi_llm.middleware._telemetry_recorder import Ended, Recorder, is_hit
from asgi_llm.state import CACHE_STATUS, FAILURE, OPERATION, State, enter
from asgi_llm.types import Outcome

__all__ = ["Add", "Instrument", "Learned", "Metric", "Metrics", "TelemetryMiddleware"]

_CLIENT_LEFT: Final = 499
_INTERNAL: Final = 500


class TelemetryMiddleware:
    """Counts and times every POST to a model endpoint, and all that the layers inside tell of it.

    The figures are those of ``docs/reference/telemetry.md``. They are read from the state when the
    request is over, so that this layer belongs outside of all others that can answer or refuse.
    Everything but a POST to ``inference_paths`` passes untouched and uncounted.

    Values of labels are taken from closed sets. What is outside of them is ``other``; where there
    is nothing to name it is ``none``.

    Args:
        metrics: Keeps the figures, such as ``asgi_llm.integrations.prometheus.PrometheusMetrics``.
        models: Names of models that are always told apart, as clients write them.
        max_models: How many further names of models become values, in the order in which a
            provider first answers them, at least 0.
        providers: Names of providers. None: those that the layers inside tell of, at most 100.
        max_users: How many ids of users become values of ``llm_cost_usd_total``, at least 0; 0:
            that metric has no label ``user_id``.
        inference_paths: Where a POST is counted, as ``route_path`` gives them.
        learned: What an earlier layer over the same figures has learned. None: nothing.
        timer: Seconds, monotonic.

    Streaming: chunks pass as they come; the time of the first is taken. Around an app that is not
    ours, which tells of no usage, at most 64 KiB of a stream or 8 MiB of an answer are kept until
    its end.

    Raises:
        ConfigurationError: A number is negative.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        models: Collection[str] = (),
        max_models: int = 200,
        providers: Collection[str] | None = None,
        max_users: int = 0,
        inference_paths: Collection[str] = INFERENCE_PATHS,
        learned: Learned | None = None,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        for option, value in (("max_models", max_models), ("max_users", max_users)):
            if value < 0:
                raise ConfigurationError(f"{option} must be at least 0, not {value}", param=option)
        self.app = app
        self._recorder = Recorder(
            metrics,
            models=models,
            max_models=max_models,
            providers=providers,
            max_users=max_users,
            learned=Learned() if learned is None else learned,
        )
        self._paths = frozenset(inference_paths)
        self._timer = timer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["method"] != "POST"
            or route_path(scope) not in self._paths
        ):
            await self.app(scope, receive, send)
            return
        scope, state = enter(scope)
        recorder = self._recorder
        watch = _Watch(self._timer, state)
        error: BaseException | None = None
        recorder.active(1)
        try:
            await observe(self.app, scope, receive, send, watch)
        except BaseException as raised:
            error = raised
            raise
        finally:
            recorder.active(-1)
            recorder.record(state, watch.ended(error))


class _Watch(Observer):
    """What is noted of one answer while it passes."""

    def __init__(self, timer: Callable[[], float], state: State) -> None:
        self._timer = timer
        self._state = state
        self._status: int | None = None
        self._stream = False
        self._first_token: float | None = None
        self._foreign: ForeignAnswer | None = None
        self._outcome = Outcome.FAILED
        self._began = timer()

    async def on_start(self, status: int, headers: RawHeaders) -> None:
        self._status = status
        self._stream = is_event_stream(headers)
        values = self._state.values
        if (
            OPERATION not in values
            and status < 300
            and not is_hit(values.get(CACHE_STATUS))
            and tells_usage(headers)
        ):
            self._foreign = ForeignAnswer(headers)

    async def on_body(self, chunk: bytes, more: bool) -> bytes:
        if self._first_token is None and chunk and self._stream:
            self._first_token = self._timer()
        if self._foreign is not None:
            self._foreign.feed(chunk)
        return chunk

    async def on_end(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def ended(self, error: BaseException | None) -> Ended:
        """How the request ended; ``error`` is what passes through to whoever renders it."""
        first = self._first_token
        return Ended(
            status=self._final_status(error),
            complete=self._outcome is Outcome.COMPLETE,
            seconds=self._timer() - self._began,
            first_token_seconds=None if first is None else first - self._began,
            foreign=self._foreign,
        )

    def _final_status(self, error: BaseException | None) -> int:
        status = self._status
        values = self._state.values
        failure: LLMError | None = values.get(FAILURE)
        if self._outcome is Outcome.DISCONNECTED or isinstance(error, ClientDisconnect):
            return _CLIENT_LEFT if failure is None else failure.status
        if error is not None:
            if status is None or status < 400:
                if isinstance(error, LLMError) and not isinstance(error, ConfigurationError):
                    return error.status
                return _INTERNAL
        elif (
            failure is not None
            and status is not None
            and status < 400
            and self._stream
            and not is_hit(values.get(CACHE_STATUS))
        ):
            # The stream had begun, and could only end with an event that tells of the failure.
            return failure.status
        return _INTERNAL if status is None else status
