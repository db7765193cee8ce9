"""Targets that differ in what a test is about."""

from __future__ import annotations

from typing import Any

from asgi_llm.routing.targets import Target
from asgi_llm.types import Deployment

__all__ = ["target"]


def target(name: str = "a", **fields: Any) -> Target:
    """A target of the provider of that name."""
    return Target(deployment=Deployment(provider=name, model="m"), **fields)
