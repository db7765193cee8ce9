"""A stream whose texts are checked as they grow. What need not wait passes as the bytes it was."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

from asgi_llm import _sse
from asgi_llm.middleware._guard_checks import UNREADABLE, Hit, Place, look, look_slowly
from asgi_llm.middleware._guard_edits import Span, apply_edits, plan_edits
from asgi_llm.middleware._guard_lane import WORTH_SPLITTING, Blocked, Guarding, Lane, LaneKey
from asgi_llm.middleware._guard_pieces import (
    ENVELOPE,
    Frame,
    Piece,
    read_frame,
    read_simple_chunk,
    refusal_events,
)
from asgi_llm.middleware._guard_rules import Panel
from asgi_llm.middleware._guard_texts import (
    Path,
    Text,
    is_structure,
    path_text,
    read_texts,
)
from asgi_llm.types import Document

__all__ = ["GuardedStream"]

_END: Final = b"\n\n"
_ARGUMENTS: Final = frozenset(("arguments", "partial_json"))
_GROWS: Final = frozenset(
    (
        "content", "text", "refusal", "reasoning", "reasoning_content", "thinking", "arguments",
        "input", "partial_json", "transcript", "summary",
    )
)  # fmt: skip
_LAST_OF_TEXT: Final = (".done", ".completed", ".incomplete", ".failed", "_stop")
_MAX_NOTED: Final = 1024 * 1024

_FRAMES_TRIED: Final = 4
_NO_FRAME: Final = Frame(b"", b"", 0)
_CONTENT: Final[Path] = ("choices", 0, "delta", "content")


class GuardedStream:
    """What becomes of the events of one stream.

    Args:
        guarding: What its texts share.
        noting: The guards that hold nothing back; they see each text when it is whole.
        log: The request's events, as other layers have decoded them.
        max_held: So many characters may wait; more are as good as unreadable.

    Streaming: holds back, of each text, as many characters as the longest window of a guard, a
    quarter more, and what a placeholder may need; all of it where a guard wants whole texts.
    """

    __slots__ = (
        "_asked",
        "_choices",
        "_contents",
        "_frame",
        "_frames_left",
        "_growing",
        "_guarding",
        "_known",
        "_lanes",
        "_max_held",
        "_noting",
        "_out",
        "_passes",
        "_queue",
        "_reader",
        "_room",
        "_run",
        "_said",
        "_seen",
        "_seen_size",
        "_strict",
        "_tail",
        "_template",
        "_waiting",
    )

    def __init__(
        self, guarding: Guarding, noting: Panel, log: _sse.EventLog, *, max_held: int
    ) -> None:
        self._guarding = guarding
        self._noting = noting
        self._asked = guarding.asked
        self._reader = _sse.EventReader(log)
        self._max_held = max_held
        # Nothing waits where nothing acts and nothing is to be restored.
        self._passes = not (guarding.panel.acts or guarding.restores)
        self._lanes: dict[LaneKey, Lane] = {}
        # Those of them that grow in nearly all events, by the choice.
        self._contents: dict[int, Lane] = {}
        self._queue: deque[Piece] = deque()
        self._out: list[bytes] = []
        # Chunks that differ in the content of one choice alone, which wait behind all pieces.
        self._run: list[bytes] = []
        # How many of them have been read already, and what they say.
        self._known = 0
        self._said = ""
        self._frame = _NO_FRAME
        self._frames_left = _FRAMES_TRIED
        self._growing: Lane | None = None
        self._room = 0
        self._tail = b""
        self._seen: dict[LaneKey, list[str]] = {}
        self._seen_size = 0
        self._waiting = 0
        self._strict = False
        self._template: Document | None = None
        # Whether each choice has come to its end.
        self._choices: dict[int, bool] = {}

    @property
    def is_foreign(self) -> bool:
        """Whether its events are not the chunks of OpenAI's chat and completions."""
        return self._template is None

    def swallow(self, chunk: bytes) -> Lane | bytes | bool:
        """Take a chunk of one event that only lets a content grow, as most do.

        True: nothing is to be sent yet. Bytes: they are. A lane: ``look`` at it. False: ``feed``
        the chunk.
        """
        head, tail, length = self._frame
        if chunk.startswith(head) and chunk.endswith(tail):
            length = len(chunk) - length
            room = self._room - length
            if room > 0 < length:
                self._room = room
                self._run.append(chunk)
                return True
            if self._growing is not None and length > 0 and not self._tail:
                self._run.append(chunk)
                return self._growing if (out := self._pass_run(self._growing)) is None else out
        if self._passes or self._tail or self._run or self._noting.rails:
            return False
        said = read_simple_chunk(chunk)
        if said is None:
            return False
        index, text = said
        lane = self._contents.get(index)
        length = len(text)
        if lane is None or not length or self._waiting + length > self._max_held:
            return False
        self._grow(lane, chunk, text)
        self._room -= length
        if self._frames_left:
            self._frames_left -= 1
            frame = read_frame(chunk, index, text)
            if frame is not None:
                self._frame, self._growing = frame, lane
                self._make_room()
        return True if len(lane.text) < lane.due else lane

    def _grow(self, lane: Lane, chunk: bytes, text: str) -> None:
        piece = Piece(chunk, None, "message", 1, lane.own)
        lane.text += text
        lane.parts.append((piece, _CONTENT, len(text)))
        self._queue.append(piece)
        self._waiting += len(text)

    def _make_room(self) -> None:
        """How much may come in the frame before something has to be done about it."""
        lane = self._growing
        self._room = 0
        if lane is not None and not self._tail:
            if self._waiting > self._max_held // 2:
                self._waiting = self._count()
            self._room = min(lane.due - len(lane.text), self._max_held - self._waiting)

    async def look(self, lane: Lane) -> bytes:
        """What to send now that a text has grown long enough to be looked at.

        Raises:
            Blocked: The stream ends here.
            SSEError: An event is too large.
        """
        await self._unroll()
        if len(lane.text) >= lane.due:
            await lane.advance(self._queue)
        self._emit()
        self._make_room()
        out = b"".join(self._out)
        self._out.clear()
        return out

    def _pass_run(self, lane: Lane) -> bytes | None:
        """What goes of the chunks in the frame and before; None: it takes a longer look."""
        guarding, run = self._guarding, self._run
        text = self._frame.content(run[self._known :]) if guarding.is_fast else None
        if text is None:
            return None
        text = self._said + text
        if len(lane.text) + len(text) > self._max_held or not lane.is_clean(text):
            return None
        limit = len(lane.text) + len(text) - guarding.far
        cut = lane.let_go(limit)
        if self._queue:
            self._emit()
        passed = number = 0
        if not self._queue:
            length = self._frame.length
            for chunk in run:
                size = len(chunk) - length
                if cut + passed + size > limit:
                    break
                passed += size
                number += 1
            self._out += run[:number]
            del run[:number]
        lane.go_on(cut, text, passed)
        if limit - cut - passed >= WORTH_SPLITTING:
            self._known = 0
            return None
        self._known, self._said = len(run), text[passed:]
        waiting = len(lane.text) + len(self._said)
        self._room = min(lane.due, self._max_held) - waiting
        out = b"".join(self._out)
        self._out.clear()
        return out

    async def _unroll(self) -> None:
        """Make pieces of the chunks in the frame."""
        run, self._run = self._run, []
        known, said_by_known = self._known, self._said
        self._known, self._said = 0, ""
        lane = self._growing
        if lane is not None and known:
            length, at = self._frame.length, 0
            for chunk in run[:known]:
                end = at + len(chunk) - length
                self._grow(lane, chunk, said_by_known[at:end])
                at = end
        for chunk in run[known:]:
            said = read_simple_chunk(chunk)
            lane = None if said is None else self._contents.get(said[0])
            if said is None or lane is None or not said[1]:
                await self._take_parts(chunk, True)
            else:
                self._grow(lane, chunk, said[1])
        if self._waiting > self._max_held:
            self._recount()

    async def feed(self, chunk: bytes, more: bool) -> bytes:
        """What to send when ``chunk`` has come.

        Raises:
            Blocked: The stream ends here; ``rest`` is what may still be sent.
            SSEError: An event is too large.
        """
        if self._run:
            await self._unroll()
        if not self._tail and chunk.endswith(_END) and chunk.count(_END) == 1:
            events = self._reader.feed(chunk)
            if len(events) == 1:
                await self._take(chunk, events[0])
            else:
                self._out.append(chunk)
        else:
            await self._take_parts(chunk, more)
        if not more:
            await self._finish(None)
        self._make_room()
        if len(self._out) == 1:
            return self._out.pop()
        out = b"".join(self._out)
        self._out.clear()
        return out

    def refusal(self) -> bytes:
        """What may still be sent of a stream that was blocked, and the end of its choices."""
        self._emit()
        out = b"".join(self._out)
        self._out.clear()
        left = [index for index, ended in self._choices.items() if not ended]
        return out + refusal_events(self._template, left)

    async def _take_parts(self, chunk: bytes, more: bool) -> None:
        data = self._tail + chunk if self._tail else chunk
        end = _sse.last_border(data)
        self._tail, rest = (data[end:], b"") if more else (b"", data[end:])
        if len(self._tail) > _sse.MAX_EVENT_BYTES:
            raise _sse.SSEError("an event is too large")
        for raw, event in _sse.split(data[:end]):
            if event is None:
                self._out.append(raw)
            else:
                await self._take(raw, event)
        if rest:
            # The last event may lack its blank line.
            events = _sse.Decoder().feed(rest + _END)
            if events:
                await self._take(rest, events[0])
            else:
                self._out.append(rest)

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
                await self._check_now(piece, read_texts(extra, role="assistant"))
        else:
            self._strict = True
            await self._read_other(piece, document)
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

    def _read_choices(self, piece: Piece, choices: Sequence[Any]) -> list[int] | None:
        """Put the texts of a chunk where they belong; which choices end with it."""
        ended: list[int] | None = None
        for position, choice in enumerate(choices):
            if type(choice) is not dict:
                continue
            index = choice.get("index", position)
            if index not in self._choices:
                self._choices[index] = False
            for key, value in choice.items():
                if key == "delta":
                    if type(value) is dict:
                        self._read_delta(piece, (index,), ("choices", position, "delta"), value)
                elif key == "finish_reason":
                    if value is not None:
                        ended = [*(ended or ()), index]
                elif key == "index" or key == "logprobs" or value is None:
                    continue
                elif type(value) is str:
                    self._read_string(piece, (index, key), ("choices", position, key), key, value)
                elif type(value) is dict:
                    self._read_delta(piece, (index, key), ("choices", position, key), value)
        return ended

    def _read_delta(self, piece: Piece, key: LaneKey, path: Path, delta: dict[str, Any]) -> None:
        for name, value in delta.items():
            kind = type(value)
            if kind is str:
                if value:
                    self._read_string(piece, (*key, name), (*path, name), name, value)
            elif kind is dict:
                self._read_delta(piece, (*key, name), (*path, name), value)
            elif kind is list:
                for place, one in enumerate(value):
                    if type(one) is dict:
                        number = one.get("index", place)
                        self._read_delta(piece, (*key, name, number), (*path, name, place), one)
                    elif type(one) is str and one:
                        self._read_string(
                            piece, (*key, name, place), (*path, name, place), name, one
                        )

    def _read_string(self, piece: Piece, key: LaneKey, path: Path, name: str, value: str) -> None:
        if is_structure(name, value):
            return
        if self._noting.rails:
            self._note_later(key, value)
        if self._passes:
            return
        if name not in _GROWS and name != "delta":
            # It comes whole, as the name of a tool does.
            self._change_now(piece, Text(path, "assistant", value))
            return
        lane = self._lanes.get(key)
        if lane is None:
            is_json = name in _ARGUMENTS or (name == "delta" and "arguments" in str(key[0]))
            lane = Lane(self._guarding, key, _path_of(key), is_json=is_json)
            self._lanes[key] = lane
            if path == _CONTENT:
                self._contents[key[0]] = lane
        lane.add(piece, path, value)
        piece.lanes = (*piece.lanes, key)
        self._waiting += len(value)
        if self._waiting > self._max_held:
            self._recount()

    def _recount(self) -> None:
        self._waiting = self._count()
        if self._waiting > self._max_held:
            rail = next(rail for rail in self._guarding.panel.rails if rail.acts)
            raise Blocked(
                Hit(rail, 0, 0, UNREADABLE, 1.0, "too much waits for its check", True, False), ""
            )

    def _count(self) -> int:
        return sum(len(lane.text) for lane in self._lanes.values())

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
        if type(delta) is str and delta:
            self._read_string(piece, (*key, "delta"), ("delta",), "delta", delta)
        elif type(delta) is dict:
            self._read_delta(piece, (*key, "delta"), ("delta",), delta)
        whole = {name: one for name, one in document.items() if name != "delta"}
        if kind.endswith(_LAST_OF_TEXT):
            await self._finish(None)
        await self._check_now(piece, read_texts(whole, role="assistant"))

    async def _take_text(self, raw: bytes, event: _sse.Event) -> None:
        """An event that is no JSON object cannot be changed: it passes, or all ends."""
        document: Document = {"data": event.text}
        piece = Piece(raw, document, event.type)
        self._change_now(piece, Text(("data",), "assistant", event.text), may_change=False)
        self._out.append(raw)

    async def _check_now(self, piece: Piece, texts: Iterable[Text]) -> None:
        for text in texts:
            if self._noting.rails:
                self._note_later(text.path, text.text)
            if not self._passes:
                self._change_now(piece, text)
                await self._ask_now(text)

    async def _ask_now(self, text: Text) -> None:
        guarding = self._guarding
        if guarding.panel.slow:
            place = Place("output", "assistant", path_text(text.path), text.kind == "json")
            self._judge_now(
                text,
                await look_slowly(
                    guarding.panel.slow, text.text, place, self._asked, guarding.threads
                ),
                may_change=False,
            )

    def _change_now(self, piece: Piece, text: Text, *, may_change: bool = True) -> None:
        """A text that comes whole is checked at once."""
        guarding = self._guarding
        place = Place("output", "assistant", path_text(text.path), text.kind == "json")
        hits = look(guarding.panel, text.text, place, self._asked) if guarding.panel.acts else []
        spans = self._judge_now(text, hits, may_change=may_change)
        if not spans and not guarding.restores:
            return
        edits = plan_edits(
            text.text,
            spans,
            guarding.vault,
            is_json=place.is_json,
            keep=False,
            restore=guarding.restores and may_change,
        )
        if edits and text.kind in ("text", "json"):
            piece.change(text.path, apply_edits(text.text, edits))

    def _judge_now(self, text: Text, hits: Iterable[Hit], *, may_change: bool) -> list[Span]:
        spans: list[Span] = []
        path = path_text(text.path)
        for hit in hits:
            self._guarding.notes.add(hit, "output", path, text.text[hit.start : hit.end])
            if hit.blocks or (hit.redacts and not (may_change and text.kind in ("text", "json"))):
                raise Blocked(hit, path)
            if hit.redacts:
                whole = hit.start >= hit.end
                end = len(text.text) if whole else hit.end
                spans.append(Span(hit.start, end, hit.category))
                self._guarding.notes.changed = True
        return spans

    async def _finish(self, choice: int | None) -> None:
        """The texts of a choice, or all of them, have come to their end."""
        if self._noting.rails and self._seen:
            await self._note_now(choice)
        for key, lane in list(self._lanes.items()):
            if choice is None or key[0] == choice:
                await lane.advance(self._queue, final=True)
        if choice is None:
            self._emit()

    def _emit(self) -> None:
        """Let those pieces go whose texts have all been cleared, each text in its order."""
        queue, out = self._queue, self._out
        while queue and not queue[0].waits:
            piece = queue.popleft()
            out.append(piece.encoded() if piece.edits else piece.raw)
        if not queue or self._strict or len(self._lanes) < 2:
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

    def _note_later(self, key: LaneKey, text: str) -> None:
        if self._seen_size < _MAX_NOTED:
            self._seen_size += len(text)
            self._seen.setdefault(key, []).append(text)

    async def _note_now(self, choice: int | None) -> None:
        """The guards that change nothing see each text once, when it is whole."""
        guarding = self._guarding
        for key in list(self._seen):
            if choice is not None and key[0] != choice:
                continue
            text = "".join(self._seen.pop(key))
            path = _path_of(key)
            place = Place("output", "assistant", path, key[-1] in _ARGUMENTS)
            hits = look(self._noting, text, place, self._asked)
            if self._noting.slow:
                hits += await look_slowly(
                    self._noting.slow, text, place, self._asked, guarding.threads
                )
            for hit in hits:
                guarding.notes.add(hit, "output", path, text[hit.start : hit.end])
                if hit.blocks:
                    raise Blocked(hit, path)


def _path_of(key: LaneKey) -> str:
    if type(key[0]) is int:
        return path_text(("choices", key[0], *key[1:]))
    return path_text(tuple([step for step in key if type(step) is int or type(step) is str]))
