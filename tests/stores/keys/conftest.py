"""A Redis of the test's own."""

from __future__ import annotations

from tests.services.redis_server import redis_server, redis_url

__all__ = ["redis_server", "redis_url"]
