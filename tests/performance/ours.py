"""The terminal app as it is measured.

The upstream's origin comes in the environment variable ``PERFORMANCE_UPSTREAM``.
"""

from __future__ import annotations

import os

from starlette.types import ASGIApp

from asgi_llm.providers.anthropic import Anthropic
from asgi_llm.providers.app import ProviderApp
from asgi_llm.providers.openai import OpenAI
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
