"""A gateway, its provider, a crowd and other callers: who is let in, and what it takes."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.e2e.crowd.peers import Peer
from tests.e2e.crowd.probe import CONNECTIONS
from tests.e2e.faults.fleet import Fleet, poll

__all__ = ["Round", "Scene", "Size", "allow_files", "scene"]

CROWD_KEY = "sk-test-crowd-7f3b9c2e8a1d4560"
OTHER_KEYS = [f"sk-test-other-{number}-7f3b9c2e8a1d4560" for number in range(4)]
FILES = 256
"""Descriptors of the gateway beside its clients' and its streams' connections."""
PATIENCE_SECONDS = 3600
"""The gateway would send idle connections away sooner."""
FREED_SECONDS = 60.0


class Size(NamedTuple):
    """How many of everything."""

    idle: int
    """Connections that say nothing."""
    streams: int
    """Connections that ask for a stream, all with one key."""
    slots: int
    """Streams that this key may have at the same time."""
    cap: int
    """Connections that the gateway takes, the callers' beside the crowd among them."""

    @property
    def turned_away(self) -> int:
        """Those of the crowd that the cap leaves no room for."""
        return max(0, self.idle + self.streams + CONNECTIONS - self.cap)


class Round(NamedTuple):
    """One crowd that came and went."""

    milliseconds: dict[str, dict[str, float]]
    """Of other callers' requests, by phase: median, 99th percentile and worst."""
    counts: dict[str, int]
    """What happened, by what it is called; with capitals, what should not have."""
    megabytes: dict[str, float]
    """Memory of the gateway before, with the crowd, and after it."""


def allow_files(count: int) -> None:
    """Let this process, and those that it starts, have so many files open.

    Raises:
        OSError: The hard limit of this machine is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise OSError(f"{count} open files are needed, and {hard} allowed: raise `ulimit -Hn`")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def _configuration(provider_url: str, size: Size) -> dict[str, Any]:
    crowd = {"name": "crowd", "key": CROWD_KEY, "limits": [f"{size.slots} concurrent requests"]}
    others = [
        {"name": f"other {number}", "key": key, "limits": ["100 concurrent requests"]}
        for number, key in enumerate(OTHER_KEYS)
    ]
    up = {"type": "openai", "base_url": f"{provider_url}/v1", "api_key": "sk-upstream"}
    return {
        "server": {
            "port": 0,
            "log_format": "json",
            "graceful_shutdown_seconds": 1,
            "max_connections": size.cap,
            "header_timeout_seconds": PATIENCE_SECONDS,
            "keep_alive_seconds": PATIENCE_SECONDS,
        },
        "providers": {"up": up},
        "stack": [
            "access_log",
            {"auth": {"keys": [crowd, *others], "database": False}},
            "rate_limit",
        ],
    }


class Scene:
    """All processes of it. Make one with ``scene``."""

    def __init__(
        self, size: Size, fleet: Fleet, *, provider: Peer, idle: Peer, streams: Peer, probe: Peer
    ) -> None:
        self.size = size
        self._fleet = fleet
        self._provider = provider
        self._idle = idle
        self._streams = streams
        self._probe = probe

    async def round(
        self, *, requests: int, per_second: float, arrivals_per_second: float | None = None
    ) -> Round:
        """A crowd comes, stays and goes, while others ask.

        Args:
            requests: Of the others, in each phase.
            per_second: How many of them in a second.
            arrivals_per_second: Streams that the crowd asks for in a second; None: all at once, so
                that others wait until the gateway has answered all of it.
        """
        size, told = self.size, {}
        probe = {"requests": requests, "per_second": per_second}
        files, memory = self._files(), {"before": self._megabytes()}
        milliseconds = {"before": await self._probe.ask(**probe)}
        told["idle"] = await self._idle.ask(order="fill", count=size.idle)
        milliseconds["idle"] = await self._probe.ask(**probe)
        told["streams"], milliseconds["arriving"] = await asyncio.gather(
            self._streams.ask(order="fill", count=size.streams, per_second=arrivals_per_second),
            self._probe.ask(**probe),
        )
        milliseconds["streams"] = await self._probe.ask(**probe)
        told["end"] = await self._idle.ask(order="tell")
        memory["crowd"], with_crowd = self._megabytes(), self._files()
        provider = await self._provider.ask()
        for peer in (self._idle, self._streams):
            await peer.ask(order="leave")

        async def all_is_free() -> bool:
            # The provider's connections are kept for the next that ask.
            kept = files + 2 * CONNECTIONS
            return self._files() <= kept and 0 == (await self._provider.ask())["running"]

        await poll("all is free again", all_is_free, seconds=FREED_SECONDS)
        milliseconds["after"] = await self._probe.ask(**probe)
        memory["after"] = self._megabytes()
        answered = {int(name): n for name, n in told["streams"].items() if name != "open"}
        counts = {
            "idle connections": told["end"]["open"],
            "streams asked for": size.streams,
            "streams let in": answered.get(200, 0),
            "refused by the key's limit": answered.get(429, 0),
            "refused by the cap": answered.get(503, 0),
            "streams at the provider": provider["running"],
            "connections of the gateway": with_crowd,
            "IDLE TOO FEW": size.idle - told["end"]["open"],
            "IDLE ANSWERED": len(told["end"]) - 1,
            "NOT THE LIMIT": abs(answered.get(200, 0) - size.slots),
            "NOT AT THE PROVIDER": abs(answered.get(200, 0) - provider["running"]),
            "NOT THE CAP": abs(answered.get(503, 0) - size.turned_away),
            "NOT ANSWERED": size.streams - sum(answered.values()),
            "OTHERWISE ANSWERED": sum(n for key, n in answered.items() if key not in _EXPECTED),
        }
        return Round(milliseconds, counts, memory)

    def _files(self) -> int:
        """Descriptors of the gateway."""
        return len(os.listdir(f"/proc/{self._fleet.pid}/fd"))

    def _megabytes(self) -> float:
        """Resident memory of the gateway."""
        for line in Path(f"/proc/{self._fleet.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("the kernel does not tell the memory of a process")


_EXPECTED = (200, 429, 503)


@asynccontextmanager
async def scene(folder: Path, size: Size) -> AsyncIterator[Scene]:
    """A gateway as it is served, and all who ask it, in processes of their own.

    Args:
        folder: For its configuration and its log.
        size: Of the crowd.

    Raises:
        OSError: This machine allows too few open files.
    """
    allow_files(max(size.cap + size.slots + FILES, size.idle + FILES, size.streams + FILES))
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(Peer("tests.e2e.crowd.slow"))
        url = (await provider.ask())["url"]
        fleet = stack.enter_context(Fleet(folder, _configuration(url, size), workers=1))
        port = str(fleet.port)
        peers = {
            "idle": ("seats", port),
            "streams": ("seats", port, CROWD_KEY),
            "probe": ("probe", port, *OTHER_KEYS),
        }
        started = {
            name: await stack.enter_async_context(Peer(f"tests.e2e.crowd.{module}", *arguments))
            for name, (module, *arguments) in peers.items()
        }
        # The first requests of a process are slower than the rest.
        await started["probe"].ask(requests=100, per_second=100)
        yield Scene(size, fleet, provider=provider, **started)
