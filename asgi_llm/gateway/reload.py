"""A gateway that takes a changed configuration while it serves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

from starlette.types import Receive, Scope, Send

from asgi_llm._traceback import describe
from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._definitions import ServerDefinition
from asgi_llm.gateway._reload_carried import Carried
from asgi_llm.gateway._reload_fixed import keep_fixed, keep_server
from asgi_llm.gateway._reload_generation import Generation
from asgi_llm.gateway._reload_version import version_of
from asgi_llm.gateway._reload_watch import FileWatch
from asgi_llm.gateway._startup import answer_lifespan
from asgi_llm.gateway.build import Build, build
from asgi_llm.gateway.config import (
    Configuration,
    Loaded,
    Source,
    authenticates,
    find_file,
    find_telemetry,
    load,
)
from asgi_llm.gateway.health import Health

__all__ = ["ReloadingGateway"]

logger = logging.getLogger(__name__)


class ReloadingGateway:
    """The gateway that a configuration describes, and then the one that its changed file describes.

    The file is looked at every ``server.reload.interval_seconds``. A changed one is read and put
    together whole, beside the requests; then each new request gets the new gateway, and those under
    way end with the one that they began with. What a change does not touch goes on: limits, caches,
    budgets, the journal, connections. One that is wrong is told of in the log and in the health
    answers, and changes nothing.

    It is served and mounted as a ``Gateway`` is, and needs no lifespan either: the first request
    begins the watch.

    Args:
        source: As for ``load_gateway``. Only a file is watched.
        insecure: Take keys that are easily guessed.
        must_authenticate: Refuse a change after which callers would not be authenticated.
        started_with: What the server was started with, where that was before and elsewhere, so that
            the file may say something else by now. None: what the file says.

    Attributes:
        reloads: How often a configuration was taken.
        refused: How often one was not.

    Raises:
        ConfigurationError: One line for each thing that is wrong.
    """

    def __init__(
        self,
        source: Source | None = None,
        *,
        insecure: bool = False,
        must_authenticate: bool = False,
        started_with: ServerDefinition | None = None,
    ) -> None:
        self.must_authenticate = must_authenticate
        self.reloads = 0
        self.refused = 0
        self._insecure = insecure
        self._carried = Carried()
        self._error: str | None = None
        file = None if isinstance(source, Mapping) else find_file(source)
        self._source = source if file is None else file
        # Before it is read: what is written from now on is a change.
        self._watch = None if file is None else FileWatch(file)
        self._current = self._begin(load(self._source), started_with)
        self._told = find_telemetry(self._current.loaded.configuration)
        self._current.gateway.health.facts["configuration"] = self._facts
        self._lock = asyncio.Lock()
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_wanted = self._is_forced = False
        self._reloading: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._retired: set[Generation] = set()

    @property
    def loaded(self) -> Loaded:
        """The configuration that new requests get."""
        return self._current.loaded

    @property
    def built(self) -> Build:
        """What it was made into."""
        return self._current.built

    @property
    def version(self) -> str:
        """Its short name, as in the health answers and in the log."""
        return self._current.version

    @property
    def health(self) -> Health:
        """Readiness; ``health.drain()`` is for whoever stops the process."""
        return self._current.gateway.health

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document of what is served now."""
        return self._current.gateway.openapi()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await answer_lifespan(self._open, self._close, receive, send)
            return
        # Whose running task it knows is the loop that is running.
        task = None if self._loop is None else asyncio.current_task(self._loop)
        if task is None:
            task = self._look_from_now_on()
        current = self._current
        tasks = current.tasks
        if task in tasks:
            # A layer that asks the gateway itself: the request around it is the one that counts.
            await current.gateway(scope, receive, send)
            return
        tasks.add(task)
        try:
            await current.gateway(scope, receive, send)
        finally:
            tasks.discard(task)
            if current.idle is not None and not tasks:
                current.idle.set()

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """From start to end, as ``Gateway.lifespan``; the watch ends with it.

        Args:
            app: The host, which such a callable gets; not used.
        """
        await self._open()
        try:
            yield
        finally:
            await self._close()

    async def reload(self) -> str:
        """Read the configuration again now, and take it; its version.

        Whatever it refers to is read again too, such as a file of prices.

        Raises:
            ConfigurationError: One line for each thing that is wrong. What was there before stays.
        """
        return await self._reload(force=True)

    def reload_soon(self) -> None:
        """``reload`` beside the requests; what is wrong is in the log. For a signal's handler."""
        self._is_forced = True
        self._want()

    async def aclose(self) -> None:
        """Stop watching, and close everything. May be called again."""
        async with self._lock:
            await self._end()

    # Building

    def _begin(self, loaded: Loaded, started_with: ServerDefinition | None) -> Generation:
        version = version_of(loaded.configuration)
        keys: tuple[str, ...] = ()
        if started_with is not None:
            fixed, keys = keep_server(started_with, loaded.configuration)
            loaded = replace(loaded, configuration=fixed)
        built = build(loaded, insecure=self._insecure, hold=self._carried.hold())
        _tell_fixed(keys)
        return Generation(loaded, built, version=version, loaded_at=_now(), restart_required=keys)

    async def _reload(self, *, force: bool) -> str:
        async with self._lock:
            try:
                new = await self._make(force=force)
            except ConfigurationError as error:
                self._refuse(error.message.splitlines())
                raise
            except Exception as error:
                # Whatever it was, the gateway goes on.
                self._refuse([f"it cannot be put together:\n{describe(error)}"])
                raise ConfigurationError("the configuration cannot be put together") from error
            self._error = None
            if new is not None:
                self._swap(new)
            return self._current.version

    async def _make(self, *, force: bool) -> Generation | None:
        """The next generation, started; None: there is nothing new."""
        if self._watch is not None:
            self._watch.note_reading()
        loaded, version = await asyncio.to_thread(_read, self._source)
        if version == self._current.version and not force:
            return None
        if self.must_authenticate and not authenticates(loaded.configuration):
            raise loaded.problem(
                ("stack",),
                "callers would not be authenticated, and others can reach the gateway's address",
            )
        fixed, keys = keep_fixed(
            self._current.loaded.configuration,
            loaded.configuration,
            has_database=self._carried.has("database"),
            told=self._told,
        )
        loaded = replace(loaded, configuration=fixed)
        hold = self._carried.hold()
        try:
            built = await asyncio.to_thread(build, loaded, insecure=self._insecure, hold=hold)
            new = Generation(
                loaded, built, version=version, loaded_at=_now(), restart_required=keys
            )
            if self._users:
                await new.start()
        except BaseException:
            await hold.aclose()
            raise
        return new

    def _refuse(self, problems: list[str]) -> None:
        self.refused += 1
        number = len(problems)
        self._error = (
            f"refused at {_now()}: {number} problem{'s' if number > 1 else ''}, told in the log"
        )
        for problem in problems:
            logger.error("the configuration was not taken: %s", problem)

    def _swap(self, new: Generation) -> None:
        """From here on new requests get ``new``."""
        old, self._current = self._current, new
        self._told = find_telemetry(new.loaded.configuration) or self._told
        self.reloads += 1
        health = new.gateway.health
        health.facts["configuration"] = self._facts
        old.gateway.health.hand_over(health)
        for note in new.loaded.notes:
            logger.warning("%s", note)
        logger.info("configuration %s is in use, in place of %s", new.version, old.version)
        _tell_fixed(new.restart_required)
        self._retired.add(old)
        task = asyncio.get_running_loop().create_task(self._retire(old))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _retire(self, old: Generation) -> None:
        ended = await old.drain(_drain_seconds(old.loaded.configuration))
        if ended:
            logger.warning("configuration %s: %d requests were ended", old.version, ended)
        await self._close_retired(old)

    async def _close_retired(self, old: Generation) -> None:
        self._retired.discard(old)
        try:
            await old.aclose()
        except Exception as error:
            logger.error("configuration %s did not end well:\n%s", old.version, describe(error))

    def _facts(self) -> dict[str, object]:
        current = self._current
        facts: dict[str, object] = {
            "version": current.version,
            "loaded_at": current.loaded_at,
            "reloads": self.reloads,
            "refused": self.refused,
        }
        if self._error is not None:
            facts["error"] = self._error
        if current.restart_required:
            facts["restart_required"] = current.restart_required
        return facts

    # The watch

    def _look_from_now_on(self) -> asyncio.Task[object]:
        """Look on the running loop from now on, in place of any other; its running task."""
        self._loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        self._look_later()
        return cast("asyncio.Task[object]", asyncio.current_task())

    def _look_later(self) -> None:
        loop, options = self._loop, self._current.loaded.configuration.server.reload
        self._timer = None
        if loop is not None and self._watch is not None and self._watch.is_of_use:
            # One that is told to look away goes on counting, so that it may be told otherwise.
            self._timer = loop.call_later(options.interval_seconds, self._look)

    def _look(self) -> None:
        is_enabled = self._current.loaded.configuration.server.reload.enabled
        if is_enabled and self._watch is not None and self._watch.look():
            self._want()
        self._look_later()

    def _want(self) -> None:
        self._is_wanted = True
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.get_running_loop().create_task(self._reload_wanted())

    async def _reload_wanted(self) -> None:
        while self._is_wanted:
            force, self._is_wanted, self._is_forced = self._is_forced, False, False
            try:
                await self._reload(force=force)
            except ConfigurationError:
                # It is in the log, and the next change may be a better one.
                continue

    # Start and end

    async def _open(self) -> None:
        async with self._lock:
            if self._users == 0:
                await self._current.start()
                self._look_from_now_on()
            self._users += 1

    async def _close(self) -> None:
        async with self._lock:
            self._users -= 1
            if self._users == 0:
                await self._end()

    async def _end(self) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop = None
        self._is_wanted = False
        tasks = {task for task in (*self._retiring, self._reloading) if task is not None}
        tasks = {task for task in tasks if task.get_loop() is loop}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for old in tuple(self._retired):
            await self._close_retired(old)
        await self._current.aclose()


def _tell_fixed(keys: tuple[str, ...]) -> None:
    if keys:
        logger.warning(
            "until the gateway is started again these stay as they are: %s", ", ".join(keys)
        )


def _read(source: Source | None) -> tuple[Loaded, str]:
    loaded = load(source)
    return loaded, version_of(loaded.configuration)


def _drain_seconds(configuration: Configuration) -> float:
    server = configuration.server
    seconds = server.reload.drain_seconds
    return server.graceful_shutdown_seconds if seconds is None else seconds


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
