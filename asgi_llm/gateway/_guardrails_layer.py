"""The layer ``guardrails`` of a configuration: its guards, each made once, and what they need."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import UNSET
from starlette.middleware import Middleware

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._definition_types import Secret
from asgi_llm.gateway._definitions import ServerDefinition
from asgi_llm.gateway._guardrails_definitions import (
    AuditDefinition,
    GLiNERDefinition,
    GuardDefinition,
    GuardrailDefinition,
    GuardrailsDefinition,
    InjectionDefinition,
    PresidioDefinition,
    RegexDefinition,
    RemoteGuardDefinition,
)
from asgi_llm.gateway._reload_carried import Hold
from asgi_llm.gateway.compose import Resource
from asgi_llm.gateway.health import Health
from asgi_llm.guards._calls import checked_transport
from asgi_llm.guards.base import Finding, Guard, GuardContext, GuardCost
from asgi_llm.guards.entities import EntitiesGuard, gliner, presidio
from asgi_llm.guards.injection import InjectionGuard, Sign
from asgi_llm.guards.json_schema import JsonGuard
from asgi_llm.guards.language import LanguageGuard
from asgi_llm.guards.leakage import CanaryGuard, SystemLeakGuard
from asgi_llm.guards.links import LinksGuard
from asgi_llm.guards.moderation import ModerationGuard
from asgi_llm.guards.pii import PiiGuard
from asgi_llm.guards.secrets import SecretsGuard
from asgi_llm.guards.size import LengthGuard
from asgi_llm.guards.webhook import WebhookGuard
from asgi_llm.guards.words import RegexGuard, TopicsGuard, WordsGuard
from asgi_llm.middleware.guardrails import Guardrail, GuardrailsMiddleware
from asgi_llm.transports._addresses import safe_url
from asgi_llm.transports.base import Transport
from asgi_llm.transports.http1 import Http1Transport

__all__ = ["GuardrailsLayer", "WatchedGuard"]

_GUARDS: Final[Mapping[str, Callable[..., Guard]]] = {
    "pii": PiiGuard,
    "secrets": SecretsGuard,
    "injection": InjectionGuard,
    "links": LinksGuard,
    "canary": CanaryGuard,
    "system_leak": SystemLeakGuard,
    "words": WordsGuard,
    "topics": TopicsGuard,
    "regex": RegexGuard,
    "length": LengthGuard,
    "language": LanguageGuard,
    "json": JsonGuard,
    "moderation": ModerationGuard,
    "webhook": WebhookGuard,
    "presidio": EntitiesGuard,
    "gliner": EntitiesGuard,
}
_OPTIONS: Final = (
    "mode",
    "parallel",
    "reversible",
    "placeholders",
    "tell_header",
    "stream_error_event",
    "threads",
    "max_answer_bytes",
    "max_held_characters",
)
_ALL_PORTS: Final = range(1, 65_536)
_NO_DEADLINE: Final = 300.0
"""Of a call, where the check has none: connections do not stay open for good."""
_ALMOST: Final = 0.9


class WatchedGuard:
    """A guard that asks somebody else, and of which it is known how it does.

    Args:
        guard: Asks.
        timeout_seconds: When whoever asks gives up; None: never.

    Attributes:
        is_failing: Whether the last check could not be made.
    """

    cost: GuardCost = "remote"

    def __init__(self, guard: Guard, *, timeout_seconds: float | None) -> None:
        self._guard = guard
        self._timeout = timeout_seconds
        self.name = guard.name
        self.window = guard.window
        self.is_failing = False

    async def check(self, text: str, context: GuardContext) -> Sequence[Finding]:
        """What the guard finds."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            found = self._guard.check(text, context)
            findings = await found if isinstance(found, Awaitable) else found
        except asyncio.CancelledError:
            # A deadline looks like a client that leaves, but for the time that has passed.
            if self._timeout is not None and loop.time() - began >= self._timeout * _ALMOST:
                self.is_failing = True
            raise
        except Exception:
            self.is_failing = True
            raise
        self.is_failing = False
        return findings


class GuardrailsLayer:
    """Makes layers ``guardrails``. Opens no connection.

    Args:
        server: For the limits of bodies, and how many workers there are.
        health: Gets a check where a guard asks somebody else.
        hold: Gives the guards of an earlier build.

    Attributes:
        resources: What is to be closed after the layers, in this order.
    """

    def __init__(self, server: ServerDefinition, health: Health, hold: Hold) -> None:
        self._server = server
        self._hold = hold
        self._health = health
        self._transports: dict[bool, Transport] = {}
        self._watched: list[WatchedGuard] = []
        self.resources: list[Resource] = []

    def make(self, definition: GuardrailsDefinition) -> Middleware:
        """One layer.

        Raises:
            ConfigurationError: An option is wrong; ``param`` is its path below the layer.
        """
        options: dict[str, Any] = {
            side: [
                _below(f"{side}.{index}", self._rail, one)
                for index, one in enumerate(getattr(definition, side))
            ]
            for side in ("input", "output")
        }
        if self._watched:
            # What all instances share: without it each still does what `on_error` says.
            self._health.checks["guardrails"] = lambda: (
                not any(guard.is_failing for guard in self._watched)
            )
            self._health.dispensable.add("guardrails")
        shares_digests = definition.audit is not None or definition.placeholders == "digest"
        if shares_digests and definition.digest_key is None and self._server.workers > 1:
            raise ConfigurationError(
                f"there are {self._server.workers} workers, and each would make digests of its "
                "own: give them one key of at least 16 bytes",
                param="digest_key",
            )
        options |= {name: getattr(definition, name) for name in _OPTIONS}
        key = definition.digest_key
        return Middleware(
            GuardrailsMiddleware,
            **options,
            **self._audit(definition.audit),
            digest_key=self._hold.take("digest_key", None, partial(os.urandom, 32))
            if key is None
            else key.reveal().encode(),
            max_body_bytes=self._server.max_body_bytes,
            body_timeout_seconds=self._server.body_timeout_seconds,
        )

    def _rail(self, definition: GuardrailDefinition) -> Guardrail:
        given = [kind for kind in _GUARDS if getattr(definition, kind) is not UNSET]
        if len(given) != 1:
            what = "the guard is missing" if not given else f"{' and '.join(given)}: two guards"
            raise ConfigurationError(f"{what}; give one of {', '.join(_GUARDS)}")
        kind = given[0]
        inner: GuardDefinition = getattr(definition, kind)
        guard = _below(kind, self._guard, kind, inner, definition.timeout_seconds)
        return Guardrail(
            guard=guard,
            action=definition.action,
            on_error=definition.on_error,
            timeout_seconds=definition.timeout_seconds,
            mode=definition.mode,
            min_score=definition.min_score,
            roles=definition.roles,
            models=definition.models,
            scopes=definition.scopes,
            retry=definition.retry,
            repair=definition.repair,
        )

    def _guard(self, kind: str, definition: GuardDefinition, timeout: float | None) -> Guard:
        """The guard; the same one for equal definitions, since its rules are compiled once."""
        deadline = timeout if isinstance(definition, RemoteGuardDefinition) else None
        if isinstance(definition, RemoteGuardDefinition):
            self._transport(private=definition.private)
        guard = self._hold.take(
            f"guard.{kind}",
            (definition, deadline),
            lambda: self._make_guard(kind, definition, deadline),
        )
        if isinstance(guard, WatchedGuard) and guard not in self._watched:
            self._watched.append(guard)
        return guard

    def _make_guard(self, kind: str, definition: GuardDefinition, deadline: float | None) -> Guard:
        try:
            guard = _GUARDS[kind](**self._options(definition, deadline))
        except ConfigurationError as error:
            raise _placed(error, definition) from None
        if isinstance(definition, RemoteGuardDefinition):
            return WatchedGuard(guard, timeout_seconds=deadline)
        return guard

    def _options(self, definition: GuardDefinition, deadline: float | None) -> dict[str, Any]:
        """The options of the guard, without those that were left out."""
        options = dict(_given(definition))
        match definition:
            case InjectionDefinition():
                options["signs"] = [
                    Sign(**msgspec.structs.asdict(sign)) for sign in definition.signs
                ]
            case RemoteGuardDefinition():
                private = options.pop("private")
                options["url"] = _checked_url(definition)
                options["transport"] = self._transport(private=private)
                options["timeout_seconds"] = _NO_DEADLINE if deadline is None else deadline
            case PresidioDefinition():
                options["recognizer"] = presidio(
                    language=options.pop("language"), kinds=tuple(definition.categories)
                )
            case GLiNERDefinition():
                options["recognizer"] = gliner(
                    options.pop("path"), labels=tuple(definition.categories)
                )
        return options

    def _transport(self, *, private: bool) -> Transport:
        """The way to guards: one for all whose addresses have to be public, and one for others."""
        found = self._transports.get(private)
        if found is None:
            found = self._hold.take(
                "guards.transport",
                private,
                lambda: Http1Transport() if private else checked_transport(),
            )
            self._transports[private] = found
            self.resources.append(found)
        return found

    def _audit(self, definition: AuditDefinition | None) -> dict[str, Any]:
        if definition is None:
            return {}
        # Imported here, with the webhooks that most stacks do not have.
        module = importlib.import_module("asgi_llm.gateway._guardrails_audit")
        audit = _below(
            "audit",
            self._hold.take,
            *("audit", definition, lambda: module.GuardrailsAudit(definition)),
        )
        self.resources.append(audit)
        return {"audit": audit, "audit_timeout_seconds": definition.timeout_seconds}


def _given(definition: GuardDefinition) -> Iterator[tuple[str, Any]]:
    for name, value in msgspec.structs.asdict(definition).items():
        if value is not None:
            yield name, _revealed(value)


def _revealed(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_revealed(one) for one in value)
    return value.reveal() if isinstance(value, Secret) else value


def _checked_url(definition: RemoteGuardDefinition) -> str:
    schemes = ("https", "http") if definition.private else ("https",)
    try:
        return safe_url(definition.url.reveal(), schemes=schemes, ports=_ALL_PORTS)
    except ValueError as error:
        raise ConfigurationError(str(error), param="url") from None


def _below(path: str, make: Callable[..., Any], *args: Any) -> Any:
    """What ``make`` makes; what it refuses stands below ``path``."""
    try:
        return make(*args)
    except ConfigurationError as error:
        param = error.param
        message = error.message.removeprefix(f"{param}: ")
        below = f"{path}.{param}" if param else path
        raise ConfigurationError(message, param=below) from None


def _placed(error: ConfigurationError, definition: GuardDefinition) -> ConfigurationError:
    """What a guard refuses, with the key that it is about; none where a package is missing."""
    param, message = error.param or "", error.message
    message = message.removeprefix(f"{param}: ") if param else message
    if isinstance(definition, RegexDefinition):
        wrong = [name for name in definition.patterns if message.startswith(f"{name}: ")]
        if wrong:
            param = "patterns." + max(wrong, key=len)
            message = message.removeprefix(f"{max(wrong, key=len)}: ")
            return ConfigurationError(message, param=param)
    if isinstance(definition, InjectionDefinition) and param == "pattern":
        param = "signs"
    return ConfigurationError(
        message, param=param if param in definition.__struct_fields__ else None
    )
