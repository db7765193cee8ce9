"""One structured line a request, written when it is over. Never prompt text, never a key."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, MutableMapping
from typing import Any, Literal, TextIO

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_llm import _json
from asgi_llm._asgi import Observer, is_event_stream, observe, route_path
from asgi_llm.errors import ConfigurationError, InternalError, LLMError, RawHeaders
from asgi_llm.gateway.openapi import route_template
from asgi_llm.providers._losses import loss_text
from asgi_llm.state import (
    ATTEMPTS,
    CACHE_STATUS,
    COST,
    DEPLOYMENT,
    FAILURE,
    LIMIT_STATUS,
    OPERATION,
    PRINCIPAL,
    REQUEST_MODEL,
    RESPONSE_MODEL,
    TRANSLATION_LOSS,
    USAGE,
    VERDICTS,
    State,
    enter,
)
from asgi_llm.types import CacheReport, Cost, Outcome, Verdict

__all__ = ["LOGGER_NAME", "AccessLogMiddleware", "write_to"]

LOGGER_NAME = "asgi_llm.access"

Format = Literal["json", "console"]

_MAX_TEXT = 200


def write_to(stream: TextIO | None = None) -> logging.Handler:
    """Send access lines to ``stream`` (default: standard error), as they are, from now on.

    For the one who owns the process. Without it the lines go wherever the standard library's
    logger ``asgi_llm.access`` leads, and nowhere below level INFO.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger(LOGGER_NAME)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return handler


class AccessLogMiddleware:
    """Writes one line for each HTTP request, at its end, at level INFO.

    Fields, each left out where it is not known: ``timestamp`` (UTC), ``request_id``,
    ``client_request_id``, ``method``, ``route`` (the template, never the raw path), ``status``,
    ``outcome``, ``error``, ``key_id``, ``user_id``, ``team_id``, ``organization_id``,
    ``limits`` (what they said, where not ``admitted``), ``operation``, ``model``, ``provider``,
    ``upstream_model``, ``attempts``, ``stream``, ``duration_ms``, ``time_to_first_byte_ms``,
    ``bytes_in``, ``bytes_out``, ``input_tokens``, ``cached_tokens``, ``output_tokens``,
    ``usage_estimated``, ``cost_usd``, ``cost_unknown`` (why it is not known), ``cost_estimated``,
    ``price_source`` (table, version and row), ``cache`` (``hit``, ``miss`` or ``bypass``),
    ``cache_type`` (of a hit), ``guardrails`` (how many verdicts were to block, redact, flag, or
    only observed; never what was found), ``translation_loss`` (names of fields, never what they
    hold).

    Where its logger is disabled a request passes straight through.

    Args:
        format: ``json``, or ``console`` for people.
        logger: A standard library logger; default ``asgi_llm.access``.
        clock: Seconds since the epoch.
        timer: Seconds, monotonic.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        format: Format = "json",
        logger: logging.Logger | None = None,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.app = app
        self._logger = logging.getLogger(LOGGER_NAME) if logger is None else logger
        self._clock = clock
        self._timer = timer
        self._log = structlog.wrap_logger(
            self._logger,
            processors=[_escape, _renderer(format)],
            wrapper_class=structlog.BoundLogger,
            context_class=dict,
        ).bind()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._logger.isEnabledFor(logging.INFO):
            await self.app(scope, receive, send)
            return
        scope, state = enter(scope)
        record = _Record(self._timer)
        counted = record.count(scope, receive)
        # Taken now: hosts change the scope that they are given.
        method, route = scope["method"], route_template(route_path(scope))
        try:
            await observe(self.app, scope, counted, send, record)
        except Exception as error:
            record.fail(error)
            raise
        finally:
            self._write(method, route, state, record)

    def _write(self, method: str, route: str, state: State, record: _Record) -> None:
        fields: dict[str, Any] = {
            "timestamp": _utc(self._clock()),
            "request_id": state.request_id,
            "client_request_id": state.client_request_id,
            "method": method,
            "route": route,
            **record.fields(state),
        }
        self._log.info(
            "request", **{name: value for name, value in fields.items() if value is not None}
        )


class _Record(Observer):
    """What is noted of one request while it passes."""

    def __init__(self, timer: Callable[[], float]) -> None:
        self._timer = timer
        self._began = timer()
        self._first_byte: float | None = None
        self._stream = False
        self._status: int | None = None
        self._error: LLMError | None = None
        self._outcome = Outcome.FAILED
        self._bytes_in: int | None = None
        self._bytes_out = 0

    def count(self, scope: Scope, receive: Receive) -> Receive:
        """The ``receive`` to hand on. Bytes are counted only where no length is announced."""
        for name, value in scope["headers"]:
            if name == b"content-length":
                self._bytes_in = int(value) if value.isdigit() and len(value) < 20 else None
                return receive
        self._bytes_in = 0

        async def counted() -> Message:
            message = await receive()
            self._bytes_in = (self._bytes_in or 0) + len(message.get("body", b""))
            return message

        return counted

    async def on_start(self, status: int, headers: RawHeaders) -> None:
        self._status = status
        self._stream = is_event_stream(headers)

    async def on_body(self, chunk: bytes, more: bool) -> bytes:
        if chunk:
            if self._first_byte is None:
                self._first_byte = self._timer()
            self._bytes_out += len(chunk)
        return chunk

    async def on_end(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def fail(self, error: Exception) -> None:
        """Note an exception that passes: whoever renders it further out gives it this status."""
        told = error if isinstance(error, LLMError) else None
        if told is None or isinstance(told, ConfigurationError):
            told = InternalError("hidden")
        self._error = told
        if self._status is None:
            self._status = told.status

    def fields(self, state: State) -> dict[str, Any]:
        """All that is known at the end."""
        failure = self._error or state.get(FAILURE)
        outcome = self._outcome
        if failure is not None and outcome is Outcome.COMPLETE:
            outcome = Outcome.FAILED
        deployment = state.get(DEPLOYMENT)
        attempts = state.get(ATTEMPTS)
        usage = state.get(USAGE)
        losses = state.get(TRANSLATION_LOSS)
        principal = state.get(PRINCIPAL)
        limited = state.get(LIMIT_STATUS)
        first = self._first_byte
        return {
            "status": self._status,
            "outcome": outcome.value,
            "error": None if failure is None else failure.code or failure.type,
            "key_id": principal and (principal.key_id or principal.key_name),
            "user_id": principal and principal.user_id,
            "team_id": principal and principal.team_id,
            "organization_id": principal and principal.organization_id,
            "limits": limited.verdict if limited and limited.verdict != "admitted" else None,
            "operation": state.get(OPERATION),
            "model": state.get(REQUEST_MODEL),
            "provider": deployment.provider if deployment else None,
            "upstream_model": state.get(RESPONSE_MODEL)
            or (deployment.model if deployment else None),
            "attempts": len(attempts) if attempts else None,
            "stream": self._stream,
            "duration_ms": _milliseconds(self._timer() - self._began),
            "time_to_first_byte_ms": None if first is None else _milliseconds(first - self._began),
            "bytes_in": self._bytes_in,
            "bytes_out": self._bytes_out,
            "input_tokens": usage.input_tokens if usage else None,
            "cached_tokens": usage.input_cached if usage else None,
            "output_tokens": usage.output_tokens if usage else None,
            "usage_estimated": usage.estimated if usage else None,
            **_cost_fields(state.get(COST)),
            **_cache_fields(state.get(CACHE_STATUS)),
            "guardrails": _verdict_counts(state.get(VERDICTS)),
            "translation_loss": loss_text(losses) if losses else None,
        }


def _cost_fields(cost: Cost | None) -> dict[str, Any]:
    """A number for those who add up logs; the ledger has every digit."""
    if cost is None:
        return {}
    amount, source = cost.amount_usd, cost.source
    return {
        "cost_usd": None if amount is None else float(amount),
        "cost_unknown": cost.unknown,
        "cost_estimated": cost.estimated or None,
        "price_source": source and f"{source.table} {source.version} {source.row}",
    }


def _cache_fields(report: CacheReport | None) -> dict[str, Any]:
    return {} if report is None else {"cache": report.status, "cache_type": report.type}


def _verdict_counts(verdicts: tuple[Verdict, ...] | None) -> dict[str, int] | None:
    """How many of each kind; None: nothing was found."""
    if not verdicts:
        return None
    return dict(Counter([one.action if one.enforced else "observe" for one in verdicts]))


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _utc(seconds: float) -> str:
    whole = int(seconds)
    moment = time.gmtime(whole)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{int((seconds - whole) * 1000):03d}Z"


def _escape(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Cut long texts, and write out the characters that could forge a line or hide one.

    What is not printable are controls, the line ends of Unicode, and marks that turn text around.
    """
    for name, value in event.items():
        if isinstance(value, str):
            if len(value) > _MAX_TEXT:
                value = event[name] = value[:_MAX_TEXT] + "..."
            if not value.isprintable():
                event[name] = "".join(map(_printable, value))
    return event


def _printable(character: str) -> str:
    return character if character.isprintable() else f"\\u{ord(character):04x}"


def _renderer(format: Format) -> Callable[[Any, str, Any], str]:
    if format == "json":
        return _json_line
    if format == "console":
        return structlog.dev.ConsoleRenderer(colors=False, sort_keys=False, pad_event_to=0)
    raise ConfigurationError(f"format must be json or console, not {format!r}", param="format")


def _json_line(_: object, __: str, event: MutableMapping[str, Any]) -> str:
    return _json.encode(event).decode()
