"""Managing who may call and what they may spend, with the log of every change, and what it cost."""

from __future__ import annotations

from asgi_llm.gateway.admin._forgetting import Invalidate
from asgi_llm.gateway.admin._judge import LimitState, ReadLimits
from asgi_llm.gateway.admin._openapi import admin_components, admin_paths
from asgi_llm.gateway.admin._routes import Part, templates
from asgi_llm.gateway.admin.app import build_admin_app

__all__ = [
    "Invalidate",
    "LimitState",
    "Part",
    "ReadLimits",
    "admin_components",
    "admin_paths",
    "build_admin_app",
    "templates",
]
