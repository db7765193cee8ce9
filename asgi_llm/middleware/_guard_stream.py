"""A stream whose texts are checked as they grow. What need not wait passes as the bytes it was."""

from __future__ import annotations

from typing import Final

from asgi_llm import _sse
from asgi_llm.middleware._guard_events import CONTENT, GuardedEvents
from asgi_llm.middleware._guard_frame import Frame, read_frame
from asgi_llm.middleware._guard_guarding import Guarding
from asgi_llm.middleware._guard_lane import WORTH_SPLITTING, Lane
from asgi_llm.middleware._guard_panel import Panel
from asgi_llm.middleware._guard_pieces import Piece, read_simple_chunk, refusal_events

__all__ = ["GuardedStream"]

_END: Final = b"\n\n"
_FRAMES_TRIED: Final = 4


class GuardedStream(GuardedEvents):
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
        "_frame",
        "_frames_left",
        "_growing",
        "_known",
        "_reader",
        "_room",
        "_run",
        "_said",
        "_tail",
    )

    def __init__(
        self, guarding: Guarding, noting: Panel, log: _sse.EventLog, *, max_held: int
    ) -> None:
        super().__init__(guarding, noting, max_held=max_held)
        self._reader = _sse.EventReader(log)
        # Chunks that differ in the content of one choice alone, which wait behind all pieces.
        self._run: list[bytes] = []
        # How many of them have been read already, and what they say.
        self._known = 0
        self._said = ""
        self._frame: Frame | None = None
        self._frames_left = _FRAMES_TRIED
        self._growing: Lane | None = None
        self._room = 0
        self._tail = b""

    @property
    def is_foreign(self) -> bool:
        """Whether its events are not the chunks of OpenAI's chat and completions."""
        return self._template is None

    def swallow(self, chunk: bytes) -> Lane | bytes | bool:
        """Take a chunk of one event that only lets a content grow, as most do.

        True: nothing is to be sent yet. Bytes: they are. A lane: ``look`` at it. False: ``feed``
        the chunk.
        """
        frame = self._frame
        if frame is not None:
            length = frame.room(chunk)
            if length > 0:
                if length < self._room:
                    self._room -= length
                    self._run.append(chunk)
                    return True
                if self._growing is not None and not self._tail:
                    self._run.append(chunk)
                    out = self._pass_run(self._growing, frame)
                    return self._growing if out is None else out
        if self._passes or self._tail or self._run or self._odd or self._noted.are_wanted:
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
        lane.parts.append((piece, CONTENT, len(text)))
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

    def _pass_run(self, lane: Lane, frame: Frame) -> bytes | None:
        """What goes of the chunks in the frame and before; None: it takes a longer look."""
        guarding, run = self._guarding, self._run
        text = frame.content(run[self._known :]) if guarding.is_fast else None
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
            length = frame.length
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
        if lane is not None and self._frame is not None and known:
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
            elif events:
                # Their lines end in other ways than that of the last one.
                await self._take_parts(chunk, more)
            else:
                self._out.append(chunk)
        else:
            await self._take_parts(chunk, more)
        if not more:
            await self._finish(None)
        if self._odd:
            # What comes next may be the end of such a text, in a frame or not.
            self._frame = None
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
