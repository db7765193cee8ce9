"""The Redis server that other tests use."""

from __future__ import annotations

import contextlib
import time

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.services.redis_server import RedisServer, redis_server, redis_url

__all__ = ["redis_server", "redis_url"]

NEVER = Retry(NoBackoff(), 0)


def test_a_server_answers_and_forgets_on_restart(redis_server: RedisServer) -> None:
    """It is up when the fixture gives it, keeps its port, and starts empty again."""
    port = redis_server.port
    redis_server.command("SET", "a", "1")
    assert [b"a"] == redis_server.keys()
    redis_server.restart()
    assert [] == redis_server.keys()
    assert port == redis_server.port


def test_flush_forgets_keys_and_scripts(redis_server: RedisServer) -> None:
    """After a flush neither a key nor a script is known."""
    digest = redis_server.command("SCRIPT", "LOAD", "return 1")
    redis_server.command("SET", "a", "1")
    redis_server.flush()
    assert [] == redis_server.keys()
    assert [False] == redis_server.command("SCRIPT", "EXISTS", digest)


def test_a_frozen_server_does_not_answer(redis_server: RedisServer) -> None:
    """A frozen server keeps its clients waiting and answers them once it is thawed."""
    with contextlib.closing(
        redis.Redis(port=redis_server.port or 0, socket_timeout=0.1, retry=NEVER)
    ) as client:
        assert client.ping()
        redis_server.freeze()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        redis_server.thaw()
        assert client.ping()


def test_a_stopped_server_refuses(redis_url: str, redis_server: RedisServer) -> None:
    """After ``stop`` nobody listens."""
    redis_server.stop()
    with (
        contextlib.closing(redis.Redis.from_url(redis_url, retry=NEVER)) as client,
        pytest.raises(redis.ConnectionError),
    ):
        client.ping()


def test_the_proxy_delays_cuts_and_refuses(redis_server: RedisServer) -> None:
    """Answers come later by the delay; a cut breaks connections; a refusal also new ones."""
    with (
        redis_server.proxy() as proxy,
        contextlib.closing(redis.Redis(port=proxy.port, socket_timeout=5)) as client,
    ):
        assert client.ping()
        proxy.delay_seconds = 0.2
        began = time.monotonic()
        assert client.ping()
        assert time.monotonic() - began >= 0.2
        proxy.delay_seconds = 0.0
        proxy.cut()
        assert client.ping()  # over a new connection
        proxy.refuse()
        client.set_retry(NEVER)
        with pytest.raises(redis.ConnectionError):
            client.ping()
        proxy.accept()
        assert client.ping()
