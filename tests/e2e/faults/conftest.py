"""Servers that the tests take away and give back."""

from __future__ import annotations

from tests.services.postgres_server import postgres_server

__all__ = ["postgres_server"]
