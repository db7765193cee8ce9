"""The prebuilt gateway as it is measured.

The upstream's origin comes in the environment variable ``PERFORMANCE_UPSTREAM``.
"""

from __future__ import annotations

import os
from pathlib import Path

from starlette.types import ASGIApp

from asgi_llm.gateway.access_log import write_to
from asgi_llm.gateway.build import load_gateway


def gateway() -> ASGIApp:
    """What ``asgi-llm serve`` builds, its log line included, which is written and thrown away."""
    write_to(Path(os.devnull).open("w"))  # noqa: SIM115  open as long as the process
    base_url = os.environ["PERFORMANCE_UPSTREAM"] + "/v1"
    openai = {"type": "openai", "api_key": "sk-upstream", "base_url": base_url}
    return load_gateway({"providers": {"openai": openai}})
