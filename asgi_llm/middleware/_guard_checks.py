"""Guards asked about one text, in every view of it, each in its own way and by its own deadline."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Final, Literal, NamedTuple, TypeVar, cast

import msgspec

from asgi_llm.errors import StoreError
from asgi_llm.guards.base import Finding, GuardContext
from asgi_llm.middleware._guard_panel import Panel
from asgi_llm.middleware._guard_rail import Rail
from asgi_llm.middleware._guard_texts import Text, read_texts, system_texts
from asgi_llm.middleware._guard_threads import Threads
from asgi_llm.middleware._guard_views import View, is_plain, read_views
from asgi_llm.types import Document, GuardAction, Verdict

__all__ = [
    "LARGE",
    "UNREADABLE",
    "Asked",
    "Hit",
    "Notes",
    "Place",
    "look",
    "look_slowly",
    "to_context",
    "together",
    "unjudged",
]

logger = logging.getLogger(__name__)

T = TypeVar("T")

LARGE: Final = 32 * 1024
"""Characters for which the loop should not wait."""
MAX_VERDICTS: Final = 256
_MAX_SLOW_VIEWS: Final = 4


class Asked:
    """What every check of one request is told.

    Args:
        model: As the client names it.
        texts: Of the request; None: they are read when they are needed.
        document: The request, where it is one.

    Attributes:
        model: As given.
    """

    __slots__ = ("_document", "_system", "_texts", "model")

    def __init__(
        self, model: str, texts: Sequence[Text] | None = (), document: Document | None = None
    ) -> None:
        self.model = model
        self._document = document
        self._texts = texts
        self._system: tuple[str, ...] | None = None

    @property
    def system(self) -> tuple[str, ...]:
        """The conversation's system texts."""
        if self._system is None:
            texts = self._texts
            if texts is None:
                texts = () if self._document is None else read_texts(self._document)
            self._system = system_texts(texts)
            self._texts = self._document = None
        return self._system


class Place(NamedTuple):
    """Where a text stands. The first fields are those of ``GuardContext``.

    Attributes:
        is_json: Whether the text is JSON.
    """

    direction: Literal["input", "output"]
    role: str
    path: str
    is_json: bool = False
    is_final: bool = True


class Hit(msgspec.Struct, gc=False):
    """A finding that counts, in offsets of the text that was checked."""

    rail: Rail
    start: int
    end: int
    category: str
    score: float
    reason: str
    blocks: bool
    redacts: bool
    is_open: bool = False


class Notes:
    """What the guards said of one request, without any of its text.

    Args:
        digest: Makes the keyed digests of what was found, for an audit; None: there is none.

    Attributes:
        verdicts: What was said.
        digests: Of what each verdict is about, in hexadecimal; empty where it is the whole text.
        blocked: Whether the request or its answer was blocked.
        changed: Whether the answer was changed or cut off.
        failures: Checks that could not be made.
    """

    __slots__ = ("_digest", "_seen", "blocked", "changed", "digests", "failures", "verdicts")

    def __init__(self, digest: Callable[[str], bytes] | None) -> None:
        # Most requests have none.
        self.verdicts: tuple[Verdict, ...] = ()
        self.digests: tuple[str, ...] = ()
        self.blocked = False
        self.changed = False
        self.failures = 0
        self._digest = digest
        self._seen: set[tuple[str, str, str, str]] | None = None

    def add(
        self, hit: Hit, direction: Literal["input", "output"], path: str, value: str = ""
    ) -> None:
        """Note a hit on ``value``: one of a kind for each place."""
        action: GuardAction = hit.rail.action
        if hit.category == UNAVAILABLE:
            self.failures += 1
            action = "block" if hit.blocks else "flag"
        key = (hit.rail.name, hit.category, direction, path)
        if self._seen is None:
            self._seen = set()
        if key in self._seen or len(self.verdicts) >= MAX_VERDICTS:
            return
        self._seen.add(key)
        self.digests += (self._digest(value).hex() if value and self._digest else "",)
        self.verdicts += (
            Verdict(
                guard=hit.rail.name,
                action=action,
                category=hit.category,
                score=hit.score,
                reason=hit.reason,
                direction=direction,
                path=path,
                enforced=hit.blocks or hit.redacts or action == "flag",
            ),
        )


UNAVAILABLE: Final = "unavailable"
UNREADABLE: Final = "unreadable"


def failed(rail: Rail, reason: str) -> Hit:
    """What becomes of a text that a guard could not judge."""
    return Hit(rail, 0, 0, UNAVAILABLE, 1.0, reason, rail.denies, False)


def unjudged(panel: Panel) -> list[Hit]:
    """What becomes of a text that is too long for the loop, and for which no thread is free."""
    logger.warning("a text was not checked: all threads of the guards are busy")
    return [failed(rail, "all threads are busy") for rail in panel.rails if rail.cost == "inline"]


def look(
    panel: Panel,
    text: str,
    place: Place,
    asked: Asked,
    *,
    windowed: bool = False,
    views: Sequence[View] | None = None,
) -> list[Hit]:
    """What the panel's inline guards find.

    Args:
        panel: Of the direction.
        text: What to look at.
        place: Where it stands.
        asked: What the request is.
        windowed: Whether those are left out that need whole texts.
        views: Of the text, where they are known; none for a plain one.
    """
    hits: list[Hit] = []
    if views is None:
        views = () if is_plain(text) else read_views(text, is_json=place.is_json)
    if not views:
        _look_at(panel, text, None, place, asked, hits, windowed=windowed)
        return hits
    for number, view in enumerate(views):
        _look_at(panel, view.text, view, place, asked, hits, windowed=windowed or number > 0)
    return _distinct(hits) if len(views) > 1 else hits


def _look_at(
    panel: Panel,
    text: str,
    view: View | None,
    place: Place,
    asked: Asked,
    hits: list[Hit],
    *,
    windowed: bool,
) -> None:
    context: GuardContext | None = None
    if panel.scanner is not None:
        context = to_context(place, asked)
        try:
            found = panel.scanner.scan(text, is_final=place.is_final, context=context)
        except Exception:
            logger.exception("the scanner of the guards failed")
            hits += [failed(rail, "it failed") for rail in panel.fused if rail is not None]
        else:
            for rail, findings in zip(panel.fused, found, strict=True):
                if findings and rail is not None:
                    _take(rail, findings, view, place, len(text), hits)
    for rail in panel.inline:
        if windowed and rail.window is None:
            continue
        if rail.roles and place.role not in rail.roles and place.direction == "input":
            continue
        if context is None:
            context = to_context(place, asked)
        try:
            findings = cast("Sequence[Finding]", rail.guard.check(text, context))
        except Exception as error:
            hits.append(failed(rail, _cause(rail, error)))
        else:
            if findings:
                _take(rail, findings, view, place, len(text), hits)


def to_context(place: Place, asked: Asked) -> GuardContext:
    return GuardContext(
        direction=place.direction,
        role=place.role,
        path=place.path,
        model=asked.model,
        system=asked.system,
        is_final=place.is_final,
    )


def _take(
    rail: Rail,
    findings: Iterable[Finding],
    view: View | None,
    place: Place,
    length: int,
    hits: list[Hit],
) -> None:
    if rail.roles and place.role not in rail.roles and place.direction == "input":
        return
    for found in findings:
        if found.score < rail.min_score:
            continue
        start, end = max(0, found.start), min(found.end, length)
        is_whole = start >= end
        if view is not None and not is_whole:
            start, end = view.origin(start, end)
        hits.append(
            Hit(
                rail,
                0 if is_whole else start,
                0 if is_whole else end,
                found.category,
                found.score,
                found.reason,
                rail.blocks,
                rail.acts and not rail.blocks,
                found.is_open,
            )
        )


def _distinct(hits: list[Hit]) -> list[Hit]:
    kept: dict[tuple[str, int, int, str], Hit] = {}
    for hit in hits:
        kept.setdefault((hit.rail.name, hit.start, hit.end, hit.category), hit)
    return list(kept.values())


async def look_slowly(
    rails: Sequence[Rail], text: str, place: Place, asked: Asked, threads: Threads
) -> list[Hit]:
    """What guards find that run in threads or wait for somebody: all at once, each in its time."""
    wanted = [
        rail
        for rail in rails
        if not (rail.roles and place.role not in rail.roles and place.direction == "input")
    ]
    if not wanted:
        return []
    views: Sequence[View] = ()
    if not is_plain(text):
        views = read_views(text, is_json=place.is_json)[:_MAX_SLOW_VIEWS]
    checks: list[Coroutine[Any, Any, list[Hit]]] = []
    context = to_context(place, asked)
    for rail in wanted:
        if rail.window is None or not views:
            view = views[0] if views and place.is_json else None
            checks.append(_ask(rail, text if view is None else view.text, view, context, threads))
        else:
            checks += [_ask(rail, view.text, view, context, threads) for view in views]
    return _distinct([hit for hits in await together(checks) for hit in hits])


async def together(checks: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """What several checks give that run at once. All end where the request is cancelled."""
    if len(checks) == 1:
        return [await checks[0]]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(check) for check in checks]
    return [task.result() for task in tasks]


async def _ask(
    rail: Rail, text: str, view: View | None, context: GuardContext, threads: Threads
) -> list[Hit]:
    call = partial(rail.guard.check, text, context)
    try:
        async with asyncio.timeout(rail.timeout):
            if rail.cost == "thread":
                findings = await threads.run(cast("partial[Sequence[Finding]]", call))
            else:
                answer = call()
                if inspect.isawaitable(answer):
                    answer = await answer
                findings = answer
    except TimeoutError:
        return [failed(rail, "it was too late")]
    except Exception as error:
        return [failed(rail, _cause(rail, error))]
    hits: list[Hit] = []
    # Whose texts it looks at has been judged before it was asked.
    place = Place(context.direction, context.role, context.path)
    _take(rail, findings, view, place, len(text), hits)
    return hits


def _cause(rail: Rail, error: Exception) -> str:
    # The message of an error may hold some of the text; its type does not.
    if isinstance(error, StoreError):
        logger.warning("the guard %s cannot tell: its service does not answer", rail.name)
        return "its service does not answer"
    logger.error("the guard %s failed: %s", rail.name, type(error).__name__)
    return "it failed"
