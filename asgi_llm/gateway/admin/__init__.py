"""Managing who may call: organizations, teams, users, keys, and the log of every change."""

from __future__ import annotations

from asgi_llm.gateway.admin._forgetting import Invalidate
from asgi_llm.gateway.admin._judge import LimitState, ReadLimits
from asgi_llm.gateway.admin._openapi import admin_components, admin_paths
from asgi_llm.gateway.admin._routes import templates
from asgi_llm.gateway.admin.app import build_admin_app

__all__ = [
    "Invalidate",
    "LimitState",
    "ReadLimits",
    "admin_components",
    "admin_paths",
    "build_admin_app",
    "templates",
]
