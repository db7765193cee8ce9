"""An LLM gateway taken apart into independent, pure-ASGI layers.

A layer, store or provider is imported from its own module. The few names below are the composed
whole; each is loaded when it is first used, so that ``import asgi_llm`` costs nothing.
"""

from __future__ import annotations

import importlib

# Type checkers take this name for true; importing `typing` for it would be most of our cost.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from asgi_llm._client import client
    from asgi_llm.gateway.build import load_gateway
    from asgi_llm.gateway.compose import compose
    from asgi_llm.integrations.mount import beside, mount_gateway

__all__ = [
    "__version__",
    "beside",
    "client",
    "compose",
    "load_gateway",
    "mount_gateway",
]

__version__ = "0.1.0"

_MODULES = {
    "beside": "asgi_llm.integrations.mount",
    "client": "asgi_llm._client",
    "compose": "asgi_llm.gateway.compose",
    "load_gateway": "asgi_llm.gateway.build",
    "mount_gateway": "asgi_llm.integrations.mount",
}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
