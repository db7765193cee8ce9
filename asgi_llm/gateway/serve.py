"""Serving a gateway with uvicorn, in one process or in several."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import math
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import uvicorn
from msgspec.structs import replace

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._definitions import ServerDefinition
from asgi_llm.gateway._drain import Drain
from asgi_llm.gateway._logging import LogFormat, log_to_stderr
from asgi_llm.gateway._protocol import BoundedProtocol
from asgi_llm.gateway._reload_manager import (
    STARTUP_FAILURE,
    Manager,
    on_hang_up,
)
from asgi_llm.gateway.config import insecure_by_environment
from asgi_llm.gateway.reload import ReloadingGateway
from asgi_llm.integrations.collector import ease_collector

__all__ = ["ListenError", "ServerConfig", "application", "is_loopback", "listen", "run"]

logger = logging.getLogger(__name__)


class ListenError(OSError):
    """The address cannot be listened on; the text says why in one line."""


def application(started_with: ServerDefinition | None = None) -> ReloadingGateway:
    """The gateway of a worker process: an application factory for any ASGI server.

    Reads what ``load_gateway`` reads, and takes its changes. A configuration that is wrong at the
    start ends the process.

    Args:
        started_with: See ``ReloadingGateway``.
    """
    try:
        return ReloadingGateway(insecure=insecure_by_environment(), started_with=started_with)
    except ConfigurationError as error:
        sys.stderr.write(f"{error.message}\n")
        sys.exit(STARTUP_FAILURE)


def is_loopback(host: str) -> bool:
    """Whether ``host`` is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return bool(found) and all(
        ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to ``host`` and ``port``; 0 takes a free port.

    Raises:
        ListenError: The port is in use, or the address is not this machine's.
    """
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        )
        family, _, _, _, address = found[0]
        bound = socket.create_server(address, family=family, backlog=2048)
    except OSError as error:
        causes = {
            errno.EADDRINUSE: f"port {port} is in use by another program; choose one with --port",
            errno.EACCES: f"port {port} needs more rights; choose one above 1023 with --port",
            errno.EADDRNOTAVAIL: f"{host} is no address of this machine",
        }
        if isinstance(error, socket.gaierror):
            cause = f"{host} is no known host name"
        else:
            cause = causes.get(error.errno or 0, error.strerror or str(error))
        raise ListenError(f"cannot listen on {host}:{port}: {cause}") from error
    # Connections inherit it. Without uvloop nobody else sees to it, and each small piece waits.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    bound.set_inheritable(True)
    return bound


class ServerConfig(uvicorn.Config):
    """uvicorn's configuration for a gateway; what its workers get handed.

    Args:
        app: The gateway, or the import string of a factory for it, such as ``application``.
        server: The limits.
        workers: How many processes.
        must_authenticate: Whether no change may let callers in without a credential.
    """

    drain: Drain

    def __init__(
        self,
        app: Any,
        server: ServerDefinition,
        *,
        workers: int,
        must_authenticate: bool = False,
    ) -> None:
        self._must_authenticate = must_authenticate
        self._started_with = replace(server, workers=workers)
        self.max_connections = server.max_connections
        self.header_timeout_seconds = server.header_timeout_seconds
        self._drain_seconds = server.graceful_shutdown_seconds
        self._log_format: LogFormat = server.log_format
        self._own_log_level = server.log_level
        super().__init__(
            app,
            factory=True,
            http=BoundedProtocol,
            lifespan="on",
            workers=workers,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(server.trusted_proxies),
            forwarded_allow_ips=list(server.trusted_proxies),
            timeout_keep_alive=server.keep_alive_seconds,
            # What does not end by the drain's deadline ends shortly after.
            timeout_graceful_shutdown=math.ceil(server.graceful_shutdown_seconds) + 3,
        )

    def configure_logging(self) -> None:
        """Log to standard error; uvicorn calls this in each worker again."""
        super().configure_logging()
        log_to_stderr(self._log_format, self._own_log_level)

    def load_app(self) -> Any:
        """A factory of the gateway, with the drain around it."""
        app = super().load_app()

        def make() -> Drain:
            # A worker may begin, or take another's place, when the file is not what it was.
            gateway: ReloadingGateway = (
                app(self._started_with) if isinstance(self.app, str) else app
            )
            gateway.must_authenticate = self._must_authenticate
            loop = asyncio.get_running_loop()
            on_hang_up(gateway.reload_soon, loop)

            def begin() -> None:
                gateway.health.drain()
                # uvicorn would leave its tasks behind at a second Ctrl+C; this ends them at once.
                signal.signal(
                    signal.SIGINT, lambda *_: loop.call_soon_threadsafe(self.drain.expire)
                )

            self.drain = Drain(gateway, deadline_seconds=self._drain_seconds, on_begin=begin)
            ease_collector()
            return self.drain

        return make


def run(config: ServerConfig, bound: socket.socket, announce: Callable[[], None]) -> int:
    """Serve until SIGTERM or SIGINT, and give the exit status: 0 after either.

    Args:
        config: What is served.
        bound: Where.
        announce: Called once, when a signal to stop will be heeded.
    """
    if config.workers > 1:
        manager = Manager(config, sockets=[bound])
        announce()
        with bound:
            manager.run()
        return STARTUP_FAILURE if _failed(manager) else 0
    server = uvicorn.Server(config)

    def stop(*_: object) -> None:
        server.should_exit = True

    # Before uvicorn takes these over, since the port accepts connections already: one that came now
    # must not be lost. When it has ended the server it raises them again, and they come back here.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    on_hang_up(None)
    announce()
    server.run(sockets=[bound])
    return 0 if server.started else STARTUP_FAILURE


def _failed(manager: Manager) -> bool:
    return any(process.exitcode == STARTUP_FAILURE for process in manager.processes)
