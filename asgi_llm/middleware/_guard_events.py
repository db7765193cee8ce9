"""The events of a stream, and the texts in them that grow, each in its lane."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

from asgi_llm import _sse
from asgi_llm.middleware import _guard_kinds as kinds
from asgi_llm.middleware._guard_checks import UNREADABLE, Hit, Place, look
from asgi_llm.middleware._guard_data import CARRIERS, is_binary
from asgi_llm.middleware._guard_echoes import tokens_say
from asgi_llm.middleware._guard_guarding import Blocked, Guarding, LaneKey
from asgi_llm.middleware._guard_lane import ARGUMENTS, Lane, path_of
from asgi_llm.middleware._guard_noted import NotedTexts
from asgi_llm.middleware._guard_now import ask_now, change_now
from asgi_llm.middleware._guard_panel import Panel
from asgi_llm.middleware._guard_pieces import ENVELOPE, Piece, indexes_of
from asgi_llm.middleware._guard_texts import (
    LEAST_LONG_NUMBER,
    STRUCTURE,
    Path,
    Text,
    is_plain_key,
    is_structure,
    read_texts,
)
from asgi_llm.types import Document

__all__ = ["CONTENT", "GuardedEvents"]

_OF_SOUND: Final = frozenset(("data", "delta"))
# What may come whole, or grow, begins with None.
_LINES: Final[LaneKey] = (None, "data")
CONTENT: Final[Path] = ("choices", 0, "delta", "content")
"""Where the text of most events stands."""


class GuardedEvents:
    """What becomes of the events of one stream, once each is known as one.

    Args:
        guarding: What its texts share.
        noting: The guards that hold nothing back; they see each text when it is whole.
        max_held: So many characters may wait; more are as good as unreadable.
    """

    __slots__ = (
        "_choices",
        "_contents",
        "_gone",
        "_guarding",
        "_lanes",
        "_max_held",
        "_noted",
        "_odd",
        "_out",
        "_passes",
        "_queue",
        "_sound_size",
        "_sounds",
        "_strict",
        "_template",
        "_waiting",
        "_whole",
    )

    def __init__(self, guarding: Guarding, noting: Panel, *, max_held: int) -> None:
        self._guarding = guarding
        self._noted = NotedTexts(guarding, noting)
        self._max_held = max_held
        # Nothing waits where nothing acts and nothing is to be restored.
        self._passes = not (guarding.panel.acts or guarding.restores)
        self._lanes: dict[LaneKey, Lane] = {}
        # Those of them that grow in nearly all events, by the choice.
        self._contents: dict[int, Lane] = {}
        # Those that nobody knows to grow: they end where an event comes without them.
        self._odd: dict[LaneKey, Lane] = {}
        self._gone: dict[LaneKey, str] = {}  # Their last pieces that are in no lane.
        # What holds a sound, by the choice or the kind of event, and how much of it.
        self._sounds: dict[Any, list[tuple[Piece, Path]]] = {}
        self._sound_size = 0
        # What came whole in the event, for the guards that are not on the loop.
        self._whole: list[Text] = []
        self._queue: deque[Piece] = deque()
        self._out: list[bytes] = []
        self._waiting = 0
        self._strict = False
        self._template: Document | None = None
        # Whether each choice has come to its end.
        self._choices: dict[int, bool] = {}

    async def _take(self, raw: bytes, event: _sse.Event) -> None:
        """One event has come."""
        if event.done:
            await self._finish(None)
            self._out.append(raw)
            return
        try:
            document = event.json()
        except _sse.SSEError:
            document = None
        if type(document) is not dict:
            await self._take_text(raw, event)
            return
        piece = Piece(raw, document, event.type)
        choices = document.get("choices")
        ended: list[int] | None = None
        if type(choices) is list:
            if choices:
                self._template = document
                ended = self._read_choices(piece, choices)
            if not document.keys() <= ENVELOPE:
                extra = {key: one for key, one in document.items() if key not in ENVELOPE}
                await self._check_now(piece, read_texts(extra, role="assistant", is_answer=True))
        else:
            self._strict = True
            await self._read_other(piece, document)
        if self._whole:
            await self._ask_whole()
        if self._odd:
            await self._end_odd(piece, choices)
        if piece.waits:
            self._queue.append(piece)
            for key in piece.lanes:
                lane = self._lanes[key]
                if len(lane.text) >= lane.due:
                    await lane.advance(self._queue)
        if ended:
            for index in ended:
                await self._finish(index)
                self._choices[index] = True
        self._emit()
        if not piece.waits and not piece.lanes:
            if self._queue and self._strict:
                self._queue.append(piece)
            else:
                self._out.append(piece.encoded())
        if self._sounds and self._strict:
            # All that comes behind a sound waits with it, as the bytes that it came in.
            self._waiting += len(raw)
            if self._waiting > self._max_held:
                self._recount()

    def _read_choices(self, piece: Piece, choices: Sequence[Any]) -> list[int] | None:
        """Put the texts of a chunk where they belong; which choices end with it."""
        ended: list[int] | None = None
        for position, choice in enumerate(choices):
            if type(choice) is not dict:
                self._read_value(piece, (position,), ("choices", position), "choices", choice)
                continue
            index = choice.get("index", position)
            index = index if type(index) is int else position
            if index not in self._choices:
                self._choices[index] = False
            for key, value in choice.items():
                if key == "delta" and type(value) is dict:
                    self._read_delta(piece, (index,), ("choices", position, "delta"), value)
                elif key == "finish_reason" and value is None:
                    continue
                elif key == "logprobs":
                    if value is not None:
                        delta = choice.get("delta")
                        said = delta if type(delta) is dict else choice
                        self._read_tokens(piece, ("choices", position, key), value, said)
                elif key != "index" or type(value) is not int:
                    if key == "finish_reason":
                        ended = [*(ended or ()), index]
                    self._read_value(piece, (index, key), ("choices", position, key), key, value)
        return ended

    def _read_tokens(self, piece: Piece, path: Path, tokens: Any, said: dict[str, Any]) -> None:
        """Tokens are judged with the text beside them, and go where they are of another one."""
        if not self._passes and not tokens_say(tokens, said):
            piece.change(path, None)

    def _read_delta(self, piece: Piece, key: LaneKey, path: Path, delta: dict[str, Any]) -> None:
        for name, value in delta.items():
            self._read_value(piece, (*key, name), (*path, name), name, value)

    def _read_value(self, piece: Piece, key: LaneKey, path: Path, name: str, value: Any) -> None:
        kind = type(value)
        if kind is str:
            if value:
                self._read_string(piece, key, path, name, value)
        elif kind is dict:
            self._read_delta(piece, key, path, value)
        elif kind is list:
            for place, one in enumerate(value):
                number = one.get("index", place) if type(one) is dict else place
                number = number if type(number) is int else place
                self._read_value(piece, (*key, number), (*path, place), name, one)
        elif kind is int and not -LEAST_LONG_NUMBER < value < LEAST_LONG_NUMBER:
            self._read_whole(piece, key, Text(path, "assistant", str(value), "number"))
        if type(path[-1]) is str and not is_plain_key(name):
            self._read_whole(piece, (*key, "*"), Text(path, "assistant", name, "key"))

    def _read_whole(self, piece: Piece, key: LaneKey, text: Text) -> None:
        """What cannot grow, nor be changed in an event."""
        if self._noted.are_wanted:
            self._noted.add(key, text.text)
        if not self._passes:
            change_now(self._guarding, piece, text)
            self._whole.append(text)

    def _read_string(self, piece: Piece, key: LaneKey, path: Path, name: str, value: str) -> None:
        if name in STRUCTURE and is_structure(path, value):
            return
        if self._noted.are_wanted:
            self._noted.add(key, value)
        if self._passes:
            return
        is_odd = key[0] is None or (name not in kinds.GROWS and name != "delta")
        if name in _OF_SOUND and kinds.is_sound(key) and self._guarding.panel.acts:
            # Nobody hears what it says but at its end.
            self._sounds.setdefault(key[0], []).append((piece, path))
            self._sound_size += len(value)
            self._waiting += len(value)
            piece.waits += 1
            if self._waiting > self._max_held:
                self._recount()
            if is_binary(value):
                return
        if key[0] is None and name in CARRIERS and is_binary(value):
            return
        if is_odd:
            # Most come whole, as the name of a tool does, and have to be judged as such.
            text, before = Text(path, "assistant", value), piece.edits
            change_now(self._guarding, piece, text)
            if piece.edits is not before:
                if not self._goes_on(key, value):
                    self._whole.append(text)
                    self._gone[key] = value
                    return
                piece.edits = before
        lane = self._lanes.get(key)
        if lane is None:
            is_json = name in ARGUMENTS or (name == "delta" and "arguments" in str(key[0]))
            lane = Lane(self._guarding, key, path_of(key), is_json=is_json)
            self._lanes[key] = lane
            if path == CONTENT:
                self._contents[key[0]] = lane
        if is_odd:
            self._odd[key] = lane
            lane.follow(self._gone.pop(key, ""))
        lane.add(piece, path, value)
        piece.lanes = (*piece.lanes, key)
        self._waiting += len(value)
        if self._waiting > self._max_held:
            self._recount()

    def _goes_on(self, key: LaneKey, value: str) -> bool:
        """Whether what is found in ``value`` began in what came before of an odd text."""
        lane = self._lanes.get(key)
        seen = self._gone.get(key, "") or ("" if lane is None else lane.seen())
        place, border = Place("output", "assistant", path_of(key)), len(seen)
        hits = look(self._guarding.panel, seen + value, place, self._guarding.asked)
        return any(hit.start < border < hit.end for hit in hits)

    async def _end_odd(self, piece: Piece, choices: Any) -> None:
        """End the odd texts that do not go on in this event, which is of their choices."""
        of = indexes_of(choices)
        for key, lane in list(self._odd.items()):
            if key not in piece.lanes and (of is None or key[0] in of or key == _LINES):
                del self._odd[key]
                await lane.advance(self._queue, final=True)

    def _recount(self) -> None:
        self._waiting = self._count()
        if self._waiting > self._max_held:
            rail = next(rail for rail in self._guarding.panel.rails if rail.acts)
            raise Blocked(
                Hit(rail, 0, 0, UNREADABLE, 1.0, "too much waits for its check", True, False), ""
            )

    def _count(self) -> int:
        if self._sounds and self._strict:
            return sum(len(piece.raw) for piece in self._queue)
        return self._sound_size + sum(len(lane.text) for lane in self._lanes.values())

    async def _read_other(self, piece: Piece, document: Document) -> None:
        """An event that is no chunk of OpenAI's: what grows is in its ``delta``."""
        kind = document.get("type")
        kind = kind if type(kind) is str else ""
        delta = document.get("delta")
        key: LaneKey = (
            kind,
            document.get("output_index"),
            document.get("content_index"),
            document.get("index"),
        )
        if delta is not None:
            self._read_value(piece, (*key, "delta"), ("delta",), "delta", delta)
        whole = {name: one for name, one in document.items() if name != "delta"}
        tokens = document.get("logprobs")
        if tokens is not None:
            self._read_tokens(piece, ("logprobs",), tokens, document)
        # It may say what a sound says that waits for the end.
        if kinds.comes_whole(kind):
            await self._check_now(piece, read_texts(whole, role="assistant", is_answer=True))
        else:
            self._read_delta(piece, (None, kind), (), whole)
            await self._ask_whole()
        if kinds.ends_text(kind):
            await self._finish_at(kind, key[1:])

    async def _take_text(self, raw: bytes, event: _sse.Event) -> None:
        """An event that is no JSON object: those that follow each other are one text besides."""
        text = event.text
        piece = Piece(raw, {"data": text}, event.type, is_text=True)
        if text:
            self._read_string(piece, _LINES, ("data",), "data", text)
        if self._passes:
            self._out.append(raw)
            return
        await self._ask_whole()
        # One that need not wait has its place among the others.
        piece.lanes = (_LINES,)
        self._queue.append(piece)
        lane = self._lanes.get(_LINES)
        if lane is not None and len(lane.text) >= lane.due:
            await lane.advance(self._queue)
        self._emit()

    async def _ask_whole(self) -> None:
        """Ask the guards that are not on the loop about what came whole in an event."""
        texts, self._whole = self._whole, []
        for text in texts:
            await ask_now(self._guarding, text)

    async def _check_now(self, piece: Piece, texts: Iterable[Text]) -> None:
        for text in texts:
            if self._noted.are_wanted:
                self._noted.add(text.path, text.text)
            if not self._passes:
                change_now(self._guarding, piece, text)
                await ask_now(self._guarding, text)

    async def _finish(self, choice: int | None) -> None:
        """The texts of a choice, or all of them, have come to their end."""
        if choice is None:
            self._odd.clear()
        if self._noted.are_wanted:
            await self._noted.look(choice)
        for key, lane in list(self._lanes.items()):
            if choice is None or key[0] == choice:
                await lane.advance(self._queue, final=True)
        for index in [choice] if choice is not None else list(self._sounds):
            self._end_sound(index)
        if choice is None:
            self._emit()

    async def _finish_at(self, kind: str, place: tuple[Any, ...]) -> None:
        """The texts of a part of another format have come to their end, or all of them."""
        if kinds.is_of_sound(kind):
            return
        of = kind.rpartition(".")[0]
        has_place = any(type(one) is int for one in place)
        if not has_place and "." not in of:
            await self._finish(None)
            return
        for key, lane in list(self._lanes.items()):
            # What has no place ends the texts of its own kind, and not those beside them.
            if (
                all(one is None or one == own for one, own in zip(place, key[1:], strict=False))
                if has_place
                else str(key[0]).rpartition(".")[0] == of
            ):
                await lane.advance(self._queue, final=True)

    def _end_sound(self, choice: int) -> None:
        """Let the sound of a choice go, or nothing of it where something was taken out."""
        for piece, path in self._sounds.pop(choice, ()):
            piece.waits -= 1
            if self._guarding.notes.changed:
                piece.change(path, "")
        if not self._sounds:
            self._sound_size = 0

    def _emit(self) -> None:
        """Let those pieces go whose texts have all been cleared, each text in its order."""
        queue, out = self._queue, self._out
        while queue and not queue[0].waits:
            piece = queue.popleft()
            out.append(piece.encoded() if piece.edits else piece.raw)
        if not queue or self._strict or (len(self._lanes) < 2 and not self._sounds):
            return
        stopped: set[LaneKey] = set()
        kept: list[Piece] = []
        for piece in queue:
            if piece.waits or not stopped.isdisjoint(piece.lanes):
                stopped.update(piece.lanes)
                kept.append(piece)
            else:
                self._out.append(piece.encoded())
        if len(kept) < len(queue):
            queue.clear()
            queue.extend(kept)
