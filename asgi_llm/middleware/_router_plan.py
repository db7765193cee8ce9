"""Where one request goes next: the targets of its route, then those of the routes behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from asgi_llm._semconv import Operation
from asgi_llm.errors import ConfigurationError
from asgi_llm.routing.eligibility import Policy, route_allowed, why_not
from asgi_llm.routing.retries import Backoff, Failure
from asgi_llm.routing.strategies import STRATEGIES, Load, Strategy
from asgi_llm.routing.targets import Route, Target
from asgi_llm.types import Document, Principal

__all__ = ["Plan", "PlannedRoute", "Step", "plan_routes"]

_KINDS: Final = ("errors", "context_length", "content_filter")


class PlannedRoute:
    """A route, and what is kept of it between requests.

    Attributes:
        route: As it was configured.
        strategy: Its own, which may remember.
        fallbacks: The routes behind it, by what went wrong.
    """

    __slots__ = ("fallbacks", "route", "strategy")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.strategy: Strategy = STRATEGIES[route.strategy]()
        self.fallbacks: dict[str, tuple[PlannedRoute, ...]] = dict.fromkeys(_KINDS, ())


def plan_routes(routes: Iterable[Route]) -> dict[str, PlannedRoute]:
    """The routes by their names.

    Raises:
        ConfigurationError: Two have one name, or a fallback is not among them; ``param`` says
            where.
    """
    planned: dict[str, PlannedRoute] = {}
    for route in routes:
        if route.name in planned:
            raise ConfigurationError(f"two routes are named {route.name!r}", param="routes")
        if route.strategy not in STRATEGIES:
            raise ConfigurationError(
                f"there is no strategy {route.strategy!r}; there are {', '.join(STRATEGIES)}",
                param=f"routes.{route.name}.strategy",
            )
        planned[route.name] = PlannedRoute(route)
    for name, one in planned.items():
        for kind in _KINDS:
            others: tuple[str, ...] = getattr(one.route.fallbacks, kind)
            for other in others:
                if other not in planned:
                    raise ConfigurationError(
                        f"the route {name!r} falls back to {other!r}, which is none",
                        param=f"routes.{name}.fallbacks.{kind}",
                    )
            one.fallbacks[kind] = tuple([planned[other] for other in others])
    return planned


class Step:
    """A call that may be made next.

    Attributes:
        target: Where; None: the app finds it by the model's name.
        wait_seconds: How long to wait before it.
        repeats: Whether it has failed there before.
    """

    __slots__ = ("repeats", "target", "wait_seconds")

    def __init__(
        self, target: Target | None, wait_seconds: float = 0.0, *, repeats: bool = False
    ) -> None:
        self.target = target
        self.wait_seconds = wait_seconds
        self.repeats = repeats


class Plan:
    """The targets that one request may go to, in their order, as attempts fail.

    Args:
        start: The route that was asked for; None: the app finds the model by its name.
        operation: What is asked for.
        document: The request, valid for ``operation``; None: it has another form than OpenAI's, and
            says nothing of what it needs.
        principal: Who asks.
        policy: What is allowed for the request.
        load: How busy targets are.
        backoff: How long to wait before a target is tried again.
        random: From 0 to below 1.

    Attributes:
        refusals: Why targets may not serve it, in words.
    """

    __slots__ = (
        "_again",
        "_backoff",
        "_behind",
        "_document",
        "_kinds_used",
        "_load",
        "_operation",
        "_policy",
        "_principal",
        "_random",
        "_route",
        "_seen",
        "_start",
        "_tries",
        "_waiting",
        "refusals",
    )

    def __init__(
        self,
        start: PlannedRoute | None,
        operation: Operation,
        document: Document | None,
        principal: Principal | None,
        policy: Policy,
        load: Load,
        backoff: Backoff,
        random: Callable[[], float],
    ) -> None:
        self._start = start
        self._operation = operation
        self._document = document
        self._principal = principal
        self._policy = policy
        self._load = load
        self._backoff = backoff
        self._random = random
        self._route = start
        self._seen: set[str] = set()
        self._behind: deque[PlannedRoute] = deque()
        self._waiting: deque[Target] = deque()
        # Tried, and worth another try: the one whose try is longest past first.
        self._again: dict[str, tuple[Target | None, float | None]] = {}
        self._tries: dict[str, int] = {}
        self.refusals: list[str] = []
        if start is not None:
            self._open(start)

    def first(self) -> Iterator[Step]:
        """Where to go at first. What comes later is for when the earlier ones are not called."""
        if self._start is None:
            yield Step(None)
            return
        yield from self.fresh()
        # Nobody here may be called, or can serve it.
        if self.refusals:
            self._queue("context_length")
        self._queue("errors")
        yield from self.fresh()

    def failed(self, target: Target | None, failure: Failure) -> None:
        """Take a failure into account.

        Args:
            target: Where it failed.
            failure: What went wrong.
        """
        name = "" if target is None else target.id
        self._tries[name] = self._tries.get(name, 0) + 1
        self._again.pop(name, None)
        if failure.then == "same":
            self._again[name] = target, failure.retry_after_seconds
        elif failure.then == "stop":
            self._waiting.clear()
            self._behind.clear()
            self._again.clear()
        if failure.fallback is not None:
            if failure.fallback != "errors":
                # What is too long, or refused for what it says, is so for all that fail alike.
                self._behind.clear()
            self._queue(failure.fallback)

    def next(self, left_seconds: float) -> Iterator[Step]:
        """Where to go after what has failed, as ``first``.

        Args:
            left_seconds: How long the request has.
        """
        yield from self.fresh()
        for name, (again, retry_after_seconds) in list(self._again.items()):
            wait = self._backoff.wait_seconds(
                self._tries[name] - 1,
                self._random,
                retry_after_seconds=retry_after_seconds,
                left_seconds=left_seconds,
            )
            if wait is not None:
                yield Step(again, wait, repeats=True)

    def fresh(self) -> Iterator[Step]:
        """What was not tried yet."""
        while True:
            while self._waiting:
                yield Step(self._waiting.popleft())
            if not self._behind:
                return
            self._open(self._behind.popleft())

    def spare(self) -> Iterator[Step]:
        """The same for a call beside the one under way; it stays untried until it has ``begun``."""
        passed = 0
        while True:
            while passed < len(self._waiting):
                target = self._waiting[passed]
                passed += 1
                # A route behind that has it too adds it no second time.
                self._tries.setdefault(target.id, 0)
                yield Step(target)
            if not self._behind:
                return
            self._open(self._behind.popleft())

    def begun(self, target: Target | None) -> None:
        """It is being called: no other call of this request goes there meanwhile."""
        if target is not None:
            self._tries.setdefault(target.id, 0)
            if target in self._waiting:
                self._waiting.remove(target)

    def _queue(self, kind: str) -> None:
        route = self._route
        if route is not None:
            self._behind.extend(
                [one for one in route.fallbacks[kind] if one.route.name not in self._seen]
            )

    def _open(self, planned: PlannedRoute) -> None:
        """Go on to the targets of a route."""
        route = planned.route
        if route.name in self._seen:
            return
        self._seen.add(route.name)
        self._route = planned
        able = []
        for target in route.targets:
            if target.id in self._tries:
                continue
            if planned is not self._start and not route_allowed(
                self._principal, route.name, target
            ):
                continue
            reason = self._why_not(target)
            if reason is None:
                able.append(target)
            else:
                self.refusals.append(f"{target.id}: {reason}")
        self._waiting.extend(planned.strategy.order(able, self._load, self._random))

    def _why_not(self, target: Target) -> str | None:
        document = self._document
        if document is None:
            document = {}
            target = msgspec.structs.replace(
                target, capabilities=None, context_tokens=None, max_output_tokens=None
            )
        return why_not(target, self._operation, document, self._policy)
