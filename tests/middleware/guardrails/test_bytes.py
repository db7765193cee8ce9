"""What is done with bytes and messages in few steps: compiled or not, it gives the same."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from asgi_llm._sending import send_both
from asgi_llm.middleware._guard_content import content_of
from asgi_llm.middleware._guard_lines import ascii_of, is_ascii, join_two
from asgi_llm.middleware._guard_simple import read_simple_answer
from asgi_llm.testing import chat_answer

TEXTS = st.text(alphabet="ab \n", max_size=40) | st.text(max_size=20)


def joined(first: str, last: str, near: int) -> str:
    """What ``join_two`` says, letter by letter."""
    start, end = last, first
    if len(last) > near and (place := last.find(" ", near)) > 0:
        start = last[:place]
    if len(first) > near and (place := first.rfind(" ", 0, len(first) - near)) > 0:
        end = first[place:]
    return f"{first}\n{end}{start}\n{last}"


@given(TEXTS, TEXTS, st.integers(1, 12), st.integers(0, 160))
def test_two_texts_as_lines(first: str, last: str, near: int, most: int) -> None:
    """Both whole, and between them what is near their border; nothing beyond ASCII or the most."""
    text = joined(first, last, near)
    expected = text.encode() if text.isascii() and len(text) <= most else None
    assert expected == join_two(first, last, near, most)


@given(TEXTS, st.integers(0, 40))
def test_one_text(text: str, most: int) -> None:
    """Its bytes, if it is ASCII and no longer than it may be."""
    expected = text.encode() if text.isascii() and len(text) <= most else None
    assert expected == ascii_of(text, most)


@given(st.binary(max_size=40) | st.text(alphabet="ab\x7f", max_size=40).map(str.encode))
def test_ascii(data: bytes) -> None:
    """Each byte counts, wherever it stands."""
    assert data.isascii() is is_ascii(data)


WORDS = st.sampled_from(["null", '"stop"', '""', f'"{"w" * 64}"', f'"{"w" * 65}"', '"\\u0041"'])
NUMBERS = st.sampled_from(
    ["null", "0", "-0", "00", "7", "1763600000", "999999999", "1000000000", "-999999999",
     "-1000000000", "9999999999", "10000000000", "123456789012345678901234", "1.0", "1.5", "1e3",
     "true", "-"]
)  # fmt: skip
CONTENTS = st.sampled_from(
    ["null", '""', '"Hello there"', '"a\\nb"', '"caf\u00e9"', '"del\x7f"', '"a\nb"', '"open', "7",
     '"quote \\" inside"', '"' + "long " * 40 + '"', '"eight ch"', '"\\\\"']
)  # fmt: skip


@st.composite
def objects(draw: st.DrawFn, /, **fields: st.SearchStrategy[str]) -> str:
    """JSON of an object with some of these fields, some of them twice, in any order."""
    names = draw(st.lists(st.sampled_from(sorted(fields)), max_size=len(fields) + 1))
    space = draw(st.sampled_from(["", " ", "\r\n\t"]))
    inside = f"{space},{space}".join(f'"{name}"{space}:{draw(fields[name])}' for name in names)
    return f"{{{space}{inside}{space}}}"


DETAILS = st.just("null") | objects(cached_tokens=NUMBERS, audio_tokens=NUMBERS, other=NUMBERS)
MESSAGES = objects(
    content=CONTENTS,
    role=WORDS,
    refusal=st.sampled_from(["null", '"no"']),
    annotations=st.sampled_from(["[]", "[ ]", "null", "[1]"]),
)
CHOICES = objects(
    message=MESSAGES | st.just("null"),
    index=NUMBERS,
    finish_reason=WORDS,
    logprobs=st.sampled_from(["null", "{}"]),
)
USAGES = st.just("null") | objects(
    prompt_tokens=NUMBERS, total_tokens=NUMBERS, prompt_tokens_details=DETAILS
)
ANSWERS = objects(
    choices=st.lists(CHOICES, max_size=2).map(lambda those: f"[{','.join(those)}]"),
    created=NUMBERS,
    id=WORDS,
    usage=USAGES,
    service_tier=WORDS,
    tier=WORDS,
)


def check_content(data: bytes) -> None:
    text = read_simple_answer(data)
    assert (None if text is None else text.encode()) == content_of(data)


@given(ANSWERS)
def test_the_content_of_any_answer(answer: str) -> None:
    """It is that of the decoded answer, whatever stands around it, or there is none."""
    check_content(answer.encode())


def plain_answer(text: str) -> bytes:
    usage = {"prompt_tokens": 190, "completion_tokens_details": {"reasoning_tokens": 12}}
    document = chat_answer(text)
    document["usage"] |= usage
    return msgspec.json.encode(document)


@given(
    st.text(max_size=60), st.integers(0, 400), st.integers(0, 3), st.binary(min_size=0, max_size=2)
)
def test_the_content_of_what_is_nearly_an_answer(
    text: str, at: int, length: int, new: bytes
) -> None:
    """The same where some bytes are others."""
    data = plain_answer(text)
    check_content(data)
    check_content(data[:at] + new + data[at + length :])


def test_a_plain_answer_has_a_content() -> None:
    """Of each length, and next to what ends it."""
    for length in range(30):
        for end in ("", '"', "\\", "\n", "\x7f", "\u00e9"):
            text = "abcdefgh"[:8] * 4
            assert (
                text[:length] + end
                == (content_of(plain_answer(text[:length] + end)) or b"").decode()
            )


FIRST, SECOND = {"type": "first"}, {"type": "second"}


class Sending:
    """A send that waits for its future with each message."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.waits: dict[str, asyncio.Future[None]] = {}

    async def __call__(self, message: Message) -> None:
        kind = message["type"]
        self.begun.append(kind)
        if kind in self.waits:
            try:
                await self.waits[kind]
            except asyncio.CancelledError:
                self.ended.append(f"{kind} cancelled")
                raise
        self.ended.append(kind)


async def test_messages_that_leave_at_once() -> None:
    """Both, in their order, and not before they are waited for."""
    send = Sending()
    both = send_both(send, FIRST, SECOND)
    assert [] == send.begun
    await both
    assert ["first", "second"] == send.ended


@pytest.mark.parametrize("kinds", [["first"], ["second"], ["first", "second"]])
async def test_messages_that_wait(kinds: list[str]) -> None:
    """The second one begins when the first one has gone."""
    send = Sending()
    loop = asyncio.get_running_loop()
    send.waits = {kind: loop.create_future() for kind in kinds}

    async def run() -> None:
        await send_both(send, FIRST, SECOND)

    task = asyncio.create_task(run())
    for kind in kinds:
        await asyncio.sleep(0)
        assert kind == send.begun[-1]
        assert kind not in send.ended
        send.waits[kind].set_result(None)
    async with asyncio.timeout(5):
        await task
    assert ["first", "second"] == send.begun == send.ended


@pytest.mark.parametrize("kind", ["first", "second"])
async def test_a_sender_that_is_cancelled(kind: str) -> None:
    """The message that waits is told, and none comes behind it."""
    send = Sending()
    send.waits = {kind: asyncio.get_running_loop().create_future()}

    async def run() -> None:
        await send_both(send, FIRST, SECOND)

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert f"{kind} cancelled" == send.ended[-1]
    assert kind == send.begun[-1]


@pytest.mark.parametrize("kind", ["first", "second"])
async def test_a_client_that_has_left(kind: str) -> None:
    """What the server raises is raised, and no more is sent."""
    sent: list[str] = []

    async def send(message: Message) -> None:
        sent.append(message["type"])
        if message["type"] == kind:
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await send_both(send, FIRST, SECOND)
    assert kind == sent[-1]


class Waited:
    """What can be awaited, and is no coroutine."""

    def __init__(self, begin: Callable[[], Generator[Any, Any, None]]) -> None:
        self._begin = begin

    def __await__(self) -> Generator[Any, Any, None]:
        return self._begin()


def steps() -> Generator[Any, Any, None]:
    yield


@types.coroutine
def one_step() -> Generator[Any, Any, None]:
    yield from steps()


@pytest.mark.parametrize("kind", ["object", "generator", "future", "iterator"])
async def test_a_send_that_gives_any_awaitable(kind: str) -> None:
    """Servers and layers may give what they like."""
    sent: list[Message] = []

    def send(message: Message) -> Awaitable[None]:
        sent.append(message)
        if kind == "object":
            return Waited(steps)
        if kind == "generator":
            return one_step()
        if kind == "iterator":
            return Waited(lambda: iter(()))  # type: ignore[arg-type,return-value]
        future = asyncio.get_running_loop().create_future()
        future.get_loop().call_soon(future.set_result, None)
        return future

    async def run() -> None:
        await send_both(send, FIRST, SECOND)

    async with asyncio.timeout(5):
        await run()
        await asyncio.create_task(run())
    assert [FIRST, SECOND, FIRST, SECOND] == sent


def test_a_sender_that_is_closed() -> None:
    """What waits is closed; the second message never begins."""
    seen: list[str] = []

    @types.coroutine
    def step() -> Generator[Any, Any, None]:
        try:
            yield
        finally:
            seen.append("closed")

    async def send(message: Message) -> None:
        seen.append(message["type"])
        await step()

    async def run() -> None:
        await send_both(send, FIRST, SECOND)

    running = run()
    running.send(None)
    running.close()
    assert ["first", "closed"] == seen


def test_what_is_thrown_in_may_be_caught() -> None:
    """By the one that sends: the second message then follows."""
    seen: list[str] = []

    async def send(message: Message) -> None:
        seen.append(message["type"])
        try:
            await one_step()
        except KeyError:
            seen.append("caught")

    async def run() -> None:
        await send_both(send, FIRST, SECOND)

    running = run()
    running.send(None)
    running.throw(KeyError("x"))
    with pytest.raises(KeyError):
        # Before anything waits for it, nobody is there to catch it.
        send_both(send, FIRST, SECOND).__await__().throw(KeyError("y"))
    with pytest.raises(StopIteration):
        running.send(None)
    assert ["first", "caught", "second"] == seen
