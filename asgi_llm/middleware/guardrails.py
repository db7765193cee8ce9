"""Guards on what goes in and on what comes out, streams included."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Final, Literal

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from asgi_llm._tasks import finish
from asgi_llm.errors import ConfigurationError
from asgi_llm.guards.base import Guard
from asgi_llm.middleware._guard_rail import Guardrail
from asgi_llm.middleware._guard_request import GuardedRequest, begin
from asgi_llm.middleware._guard_rules import Panels, read_rules
from asgi_llm.middleware._guard_shared import Guards, Settings
from asgi_llm.middleware._guard_threads import Threads
from asgi_llm.middleware._guard_vault import Placeholders
from asgi_llm.middleware._model_access import INFERENCE_PATHS
from asgi_llm.state import PRINCIPAL
from asgi_llm.types import Principal, Verdict

__all__ = ["AuditRecord", "Guardrail", "GuardrailsMiddleware"]

logger = logging.getLogger(__name__)

MIB: Final = 1024 * 1024
_SHORTEST_KEY: Final = 16


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the guards found in one request, for those who have to account for it."""

    request_id: str
    principal: Principal | None
    model: str
    verdicts: tuple[Verdict, ...]
    digests: tuple[str, ...]
    """For each verdict a keyed digest of what was found, in hexadecimal; empty where that is the
    whole text. Equal values have equal digests under one ``digest_key``."""


Audit = Callable[[AuditRecord], Awaitable[None]]


class GuardrailsMiddleware:
    """Lets nothing pass that a guard forbids, neither to the app inside nor to the client.

    Each guard blocks, redacts or flags what it finds: in every text of a request, and in every text
    of an answer, whole or streamed. A request that is blocked gets 400 and reaches nobody; what is
    redacted is a placeholder such as ``<EMAIL_1>`` from here on. A stream that is blocked ends with
    ``finish_reason`` ``content_filter``, and the app inside is told that its client has left.

    Only POSTs to the inference paths are looked at; all else passes untouched.

    Args:
        input: Guardrails for requests, or bare guards, which block.
        output: The same for answers.
        mode: ``observe`` notes what would have been done, and changes nothing.
        parallel: Whether guards in threads and remote ones, unless they redact, look at a request
            while it is being answered. Nothing is sent before they are done, and where one of them
            blocks the app inside is cancelled.
        reversible: Whether what was redacted in a request comes back in its answer.
        placeholders: ``numbered`` is ``<EMAIL_1>`` by the order in the conversation; ``digest`` is
            named by the value, the same in every request.
        digest_key: At least 16 bytes, for placeholders and audits. Default: one of this process.
        tell_header: Whether answers say in ``X-Guardrail`` what was done, as in
            ``pii.email=redact``.
        stream_error_event: Whether a stream that is blocked ends with an error event besides.
        audit: Told of each request with verdicts, when it is over.
        audit_timeout_seconds: Its deadline, above 0.
        threads: For guards that run in threads, and for texts over 32 KiB; at least 1.
        inference_paths: Where a POST counts, as ``route_path`` gives the path.
        max_body_bytes: Cap on a request, above 0.
        body_timeout_seconds: How long it may take, above 0.
        max_answer_bytes: Cap on an answer that is held until it is whole, above 0. A longer one is
            unreadable, as a compressed one is: it passes only if all guards allow on errors.
        max_held_characters: Cap on what a stream may hold back, above 0. More blocks it.

    Attributes:
        blocks: Requests and answers that were blocked.
        failures: Checks that could not be made.

    Streaming: see ``docs/explanation/guardrails-on-streams.md``. Other answers are held whole.

    Raises:
        ConfigurationError: An option is wrong; ``param`` names it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        input: Iterable[Guardrail | Guard] = (),
        output: Iterable[Guardrail | Guard] = (),
        mode: Literal["enforce", "observe"] = "enforce",
        parallel: bool = False,
        reversible: bool = True,
        placeholders: Placeholders = "numbered",
        digest_key: bytes | None = None,
        tell_header: bool = True,
        stream_error_event: bool = False,
        audit: Audit | None = None,
        audit_timeout_seconds: float = 2.0,
        threads: int = 4,
        inference_paths: Collection[str] = INFERENCE_PATHS,
        max_body_bytes: int = 32 * MIB,
        body_timeout_seconds: float = 60.0,
        max_answer_bytes: int = 32 * MIB,
        max_held_characters: int = 4 * MIB,
    ) -> None:
        for option, value, choices in (
            ("mode", mode, ("enforce", "observe")),
            ("placeholders", placeholders, ("numbered", "digest")),
        ):
            if value not in choices:
                raise ConfigurationError(
                    f"{option} must be {' or '.join(choices)}, not {value!r}", param=option
                )
        for option, number in (
            ("audit_timeout_seconds", audit_timeout_seconds),
            ("threads", threads),
            ("max_body_bytes", max_body_bytes),
            ("body_timeout_seconds", body_timeout_seconds),
            ("max_answer_bytes", max_answer_bytes),
            ("max_held_characters", max_held_characters),
        ):
            if not number > 0:
                raise ConfigurationError(f"{option} must be above 0, not {number!r}", param=option)
        if digest_key is not None and len(digest_key) < _SHORTEST_KEY:
            raise ConfigurationError(
                f"digest_key must have at least {_SHORTEST_KEY} bytes", param="digest_key"
            )
        observe = mode == "observe"
        self.app = app
        self._input = Panels(read_rules(input, "input", observe=observe))
        self._output = Panels(read_rules(output, "output", observe=observe), self._input)
        self._audit = audit
        self._audit_timeout = audit_timeout_seconds
        self._threads = Threads(threads)
        self._guards = Guards(
            app=app,
            input=self._input,
            output=self._output,
            settings=Settings(
                threads=self._threads,
                tell_header=tell_header,
                stream_error_event=stream_error_event,
                max_answer_bytes=max_answer_bytes,
                max_held_characters=max_held_characters,
                digest_key=os.urandom(32) if digest_key is None else digest_key,
                placeholders=placeholders,
                reversible=reversible,
                has_audit=audit is not None,
            ),
            parallel=parallel,
            enforce=not observe,
            paths=frozenset(inference_paths),
            max_body_bytes=max_body_bytes,
            body_timeout_seconds=body_timeout_seconds,
        )
        self._nothing = not (self._input.rails or self._output.rails)
        self.blocks = 0
        self.failures = 0

    async def aclose(self) -> None:
        """Let the threads end. Guards are closed by whoever made them."""
        self._threads.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = None if self._nothing else begin(self._guards, scope, receive, send)
        if request is None:
            await self.app(scope, receive, send)
            return
        try:
            await request.go()
        except Exception as error:
            if not await request.is_over(error):
                raise
        else:
            rest = request.rest()
            if rest is not None:
                await rest
        finally:
            notes = request.end()
            if notes is not None and notes.verdicts:
                self.failures += notes.failures
                self.blocks += notes.blocked
                if self._audit is not None:
                    await finish(self._record(self._audit, request))

    async def _record(self, audit: Audit, request: GuardedRequest) -> None:
        record = AuditRecord(
            request_id=request.state.request_id,
            principal=request.state.get(PRINCIPAL),
            model=request.asked.model,
            verdicts=request.notes.verdicts,
            digests=request.notes.digests,
        )
        try:
            async with asyncio.timeout(self._audit_timeout):
                await audit(record)
        except Exception as error:
            logger.error("the audit of guardrails failed: %s", type(error).__name__)
