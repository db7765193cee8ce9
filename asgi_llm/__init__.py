"""An LLM gateway taken apart into independent, pure-ASGI layers."""

from __future__ import annotations

__version__ = "0.1.0"
