"""The terminal app as it is measured, alone and paid for.

The upstream's origin comes in the environment variable ``PERFORMANCE_UPSTREAM``.
"""

from __future__ import annotations

import os
import tempfile
from decimal import Decimal

from starlette.types import ASGIApp

from asgi_llm.guards.injection import InjectionGuard
from asgi_llm.guards.pii import PiiGuard
from asgi_llm.guards.secrets import SecretsGuard
from asgi_llm.middleware.cost import CostMiddleware
from asgi_llm.middleware.guardrails import Guardrail, GuardrailsMiddleware
from asgi_llm.providers.anthropic import Anthropic
from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.openai import OpenAI
from asgi_llm.stores.budgets import BudgetRule
from asgi_llm.stores.journal import FileJournal
from asgi_llm.transports.http1 import Http1Transport


def provider_app() -> ASGIApp:
    """``ProviderApp`` alone, with its default options, on ``http1``."""
    base_url = os.environ["PERFORMANCE_UPSTREAM"] + "/v1"
    provider = OpenAI(api_key="sk-upstream", base_url=base_url)
    return ProviderApp([provider], transport=Http1Transport())


def anthropic() -> ASGIApp:
    """The same before an upstream that speaks Anthropic's format."""
    provider = Anthropic(api_key="sk-upstream", base_url=os.environ["PERFORMANCE_UPSTREAM"])
    return ProviderApp([provider], transport=Http1Transport())


def cost() -> ASGIApp:
    """``provider_app``, priced, within a budget in memory, and written to a journal on disk.

    Nobody ships the journal, which is another process' work.
    """
    folder = tempfile.TemporaryDirectory(prefix="asgi-llm-journal-")
    _FOLDERS.append(folder)
    plenty = BudgetRule(scope="everyone", amount_usd=Decimal(10) ** 9)
    return CostMiddleware(
        provider_app(), budgets=[plenty], journal=FileJournal(folder.name), ledger=None
    )


# They are removed when the process ends.
_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []


def guardrails() -> ASGIApp:
    """``provider_app`` inside guards both ways: personal data, secrets and injections."""
    pii = Guardrail(guard=PiiGuard(), action="redact")
    secrets = Guardrail(guard=SecretsGuard(), action="redact")
    return GuardrailsMiddleware(
        provider_app(),
        input=[pii, secrets, Guardrail(guard=InjectionGuard(), roles=("user", "tool"))],
        output=[pii, secrets],
    )
