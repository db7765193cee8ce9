"""Who is told of what guards found: the log, and a service that is asked by a signed POST."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

import msgspec

from asgi_llm.errors import ConfigurationError, StoreError
from asgi_llm.gateway._guardrails_definitions import AuditDefinition, AuditWebhookDefinition
from asgi_llm.gateway._webhooks import HttpPost
from asgi_llm.middleware.guardrails import AuditRecord
from asgi_llm.transports._addresses import safe_url
from asgi_llm.transports._signature import signature_header

__all__ = ["AUDIT_LOGGER_NAME", "GuardrailsAudit"]

AUDIT_LOGGER_NAME: Final = "asgi_llm.audit"

logger = logging.getLogger(AUDIT_LOGGER_NAME)

_SHORTEST_SECRET: Final = 16
_ALL_PORTS: Final = range(1, 65_536)


class GuardrailsAudit:
    """Writes each record to the log and posts it, as far as the definition wants it.

    The document holds ids and digests, and no text of anybody.

    Args:
        definition: As the configuration has it.
        wall_clock: Unix time in seconds.

    Raises:
        ConfigurationError: An option is wrong; ``param`` is its path below the audit.
    """

    def __init__(
        self, definition: AuditDefinition, *, wall_clock: Callable[[], float] = time.time
    ) -> None:
        if not definition.log and definition.webhook is None:
            raise ConfigurationError("nobody is told: give log or webhook", param="log")
        self._logs = definition.log
        self._hook = None if definition.webhook is None else _Hook(definition.webhook, wall_clock)

    async def __call__(self, record: AuditRecord) -> None:
        """Tell of one request.

        Raises:
            StoreError: The service did not take it.
        """
        body = msgspec.json.encode(_document(record))
        if self._logs:
            logger.info("%s", body.decode())
        if self._hook is not None:
            await self._hook.post(body)

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        if self._hook is not None:
            await self._hook.aclose()


class _Hook:
    def __init__(self, definition: AuditWebhookDefinition, wall_clock: Callable[[], float]) -> None:
        schemes = ("https", "http") if definition.private else ("https",)
        try:
            self._url = safe_url(definition.url.reveal(), schemes=schemes, ports=_ALL_PORTS)
        except ValueError as error:
            raise ConfigurationError(str(error), param="webhook.url") from None
        secret = definition.secret.reveal().encode()
        if len(secret) < _SHORTEST_SECRET:
            raise ConfigurationError(
                f"secret must have at least {_SHORTEST_SECRET} characters", param="webhook.secret"
            )
        self._secret = secret
        self._wall_clock = wall_clock
        self._post = HttpPost(private=definition.private)

    async def post(self, body: bytes) -> None:
        headers = [
            (b"content-type", b"application/json"),
            (b"user-agent", b"asgi-llm"),
            signature_header(self._secret, body, self._wall_clock()),
        ]
        status = await self._post(self._url, headers=headers, body=body)
        if not 200 <= status < 300:
            raise StoreError(f"the audit's webhook answered with status {status}")

    async def aclose(self) -> None:
        await self._post.aclose()


def _document(record: AuditRecord) -> dict[str, object]:
    principal = record.principal
    return {
        "type": "guardrails_audit",
        "request_id": record.request_id,
        "key_id": principal and principal.key_id,
        "user_id": principal and principal.user_id,
        "team_id": principal and principal.team_id,
        "organization_id": principal and principal.organization_id,
        "model": record.model,
        "verdicts": [
            {
                "guard": verdict.guard,
                "category": verdict.category,
                "action": verdict.action,
                "enforced": verdict.enforced,
                "score": round(verdict.score, 3),
                "direction": verdict.direction,
                "path": verdict.path,
                "digest": digest or None,
            }
            for verdict, digest in zip(record.verdicts, record.digests, strict=True)
        ],
    }
