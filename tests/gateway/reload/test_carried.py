"""Resources that several gateways have in common."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from asgi_llm.errors import ConfigurationError
from asgi_llm.gateway._reload_carried import Carried
from asgi_llm.gateway.build import build
from asgi_llm.gateway.compose import Starting
from asgi_llm.gateway.config import load
from asgi_llm.stores.journal import FileJournal
from tests.gateway.reload.running import file_of, write

DEADLINE_SECONDS = 5.0


class Door:
    """A resource that counts.

    Attributes:
        starts: How often it was started.
        ends: How often it was closed.
    """

    def __init__(self) -> None:
        self.starts = self.ends = 0

    def start(self) -> None:
        """Count."""
        self.starts += 1

    async def aclose(self) -> None:
        """Count."""
        self.ends += 1


async def test_equal_keys_are_one_and_the_last_holder_closes_it() -> None:
    """In whatever order they end; others are not concerned."""
    carried = Carried()
    first, second = carried.hold(), carried.hold()
    door = first.take("door", ("a", 1), Door)
    assert door is second.take("door", ("a", 1), Door)
    other = second.take("door", ("a", 2), Door)
    assert door is not other
    assert other is not second.take("gate", ("a", 2), Door)
    mine, its = first.uses([door]), second.uses([other, door])
    for one in its:
        await one.aclose()
    assert (0, 1) == (door.ends, other.ends)
    for one in mine:
        await one.aclose()
    assert 1 == door.ends
    assert 0 == len(carried)
    assert door is not carried.hold().take("door", ("a", 1), Door)


async def test_what_is_closed_may_be_started_again() -> None:
    """As a host does that starts and ends several times: it is held again, and closed again."""
    carried = Carried()
    hold = carried.hold()
    door = hold.take("door", None, Door)
    use = hold.uses([door])[0]
    for number in (1, 2):
        assert isinstance(use, Starting)
        use.start()
        assert carried.has("door")
        await use.aclose()
        assert (number, number) == (door.starts, door.ends)
        assert not carried.has("door")


async def test_what_is_listed_nowhere_is_closed_too() -> None:
    """At the end of its last holder, and figures are forgotten."""
    carried = Carried()
    hold = carried.hold()
    door = hold.take("door", None, Door)
    hold.take("figures", None, dict)
    await hold.aclose()
    assert (1, 0) == (door.ends, len(carried))


async def test_what_lasts_is_there_for_a_later_one() -> None:
    """Also when nobody has held it meanwhile; it is not closed."""
    carried = Carried()
    first, last = carried.hold(), carried.hold()
    door = first.take("door", None, Door, lasting=True)
    await first.aclose()
    assert door is last.take("door", None, Door)
    await last.aclose()
    assert (0, 1) == (door.ends, len(carried))


def test_a_resource_takes_no_other_while_it_is_made() -> None:
    """Who finds it made would not hold the other one."""
    hold = Carried().hold()
    with pytest.raises(RuntimeError, match="door was taken while another resource was made"):
        hold.take("house", None, lambda: hold.take("door", None, Door))
    assert isinstance(hold.take("door", None, Door), Door)


async def test_one_ends_while_the_next_is_built() -> None:
    """The loop, on which it ends, does not wait until what takes long is made."""
    carried = Carried()
    old, new = carried.hold(), carried.hold()
    door = old.take("door", 1, Door)
    making, ended = threading.Event(), threading.Event()
    seen: list[bool] = []

    def make() -> Door:
        making.set()
        seen.append(ended.wait(DEADLINE_SECONDS))
        return Door()

    building = asyncio.create_task(asyncio.to_thread(new.take, "model", 1, make))
    await asyncio.to_thread(making.wait, DEADLINE_SECONDS)
    await old.aclose()
    ended.set()
    made = await building
    assert ([True], 1, 1) == (seen, door.ends, len(carried))
    assert made is new.take("model", 1, Door)


async def test_builds_at_the_same_time_make_one_of_each() -> None:
    """As when one was given up in its thread, and the next has begun."""
    carried = Carried()
    one, other = carried.hold(), carried.hold()
    making, asked = threading.Event(), threading.Event()

    def make() -> Door:
        making.set()
        asked.wait(DEADLINE_SECONDS)
        return Door()

    def ask() -> Door:
        asked.set()
        return other.take("door", 1, Door)

    first = asyncio.create_task(asyncio.to_thread(one.take, "door", 1, make))
    await asyncio.to_thread(making.wait, DEADLINE_SECONDS)
    assert await asyncio.to_thread(ask) is await first
    assert 1 == len(carried)


async def test_a_build_that_fails_changes_nothing_that_others_hold(tmp_path: Path) -> None:
    """The journal of the running gateway keeps its policy until another is built to its end."""
    carried = Carried()

    def journal_of(*stack: object) -> FileJournal:
        write(file, {"providers": {"e": {"type": "echo"}}, "stack": list(stack)})
        hold = carried.hold()
        build(load(file), hold=hold)
        (books,) = (entry.value for entry in carried._entries if entry.kind == "books")
        journal = books.journal
        assert isinstance(journal, FileJournal)
        return journal

    file = file_of(tmp_path)
    journal = journal_of({"cost": {}})
    seen = [journal.on_full]
    with pytest.raises(ConfigurationError):
        journal_of({"cors": {}}, {"cost": {"on_store_error": "deny"}})
    seen.append(journal.on_full)
    assert journal is journal_of({"cost": {"on_store_error": "deny"}})
    seen.append(journal.on_full)
    assert ["allow", "allow", "deny"] == seen
