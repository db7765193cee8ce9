"""The form of a transcription: its fields first, its file streamed, its limits kept."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.types import Message, Receive, Scope

from asgi_llm.errors import InvalidRequestError, LLMError, RequestTooLargeError
from asgi_llm.wire.upload import ClientLeftError, Upload
from asgi_llm.wire.validation import validate

CAP = 64 * 1024 * 1024
AUDIO = bytes(range(256)) * 8 + b"\r\n--bound\r\n\r\n--boundar\r" + b"\r\n" * 20


def text(name: str, value: str) -> bytes:
    return f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()


def file(
    content: bytes = AUDIO, *, name: str = "file", file_name: str = "a.wav", kind: str = "audio/wav"
) -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"; filename="{file_name}"\r\n'
    return head.encode() + f"Content-Type: {kind}\r\n\r\n".encode() + content


def form(*parts: bytes, boundary: bytes = b"boundary", end: bytes = b"--\r\n") -> bytes:
    border = b"--" + boundary
    return b"".join(border + b"\r\n" + part + b"\r\n" for part in parts) + border + end


def scope_of(boundary: bytes = b"boundary", **extra: bytes) -> Scope:
    headers = [(b"content-type", b"multipart/form-data; boundary=" + boundary)]
    headers += [(name.replace("_", "-").encode(), value) for name, value in extra.items()]
    return {"type": "http", "headers": headers}


class Client:
    """A ``receive`` that gives the pieces it was made of, and counts how many were asked for."""

    def __init__(self, pieces: Iterable[bytes], *, leaves: bool = False) -> None:
        self._pieces = iter(pieces)
        self._next = next(self._pieces, None)
        self._leaves = leaves
        self.given = 0

    async def __call__(self) -> Message:
        self.given += 1
        piece, self._next = self._next, next(self._pieces, None)
        if piece is None:
            return {"type": "http.disconnect"}
        more = self._next is not None or self._leaves
        return {"type": "http.request", "body": piece, "more_body": more}


async def read(
    receive: Receive, scope: Scope | None = None, *, max_bytes: int = CAP, **options: Any
) -> Upload:
    async with asyncio.timeout(20):
        upload = await Upload.read_head(
            scope or scope_of(), receive, max_bytes=max_bytes, **options
        )
    assert upload is not None
    return upload


def parse(content_type: bytes, body: bytes) -> list[tuple[dict[bytes, bytes], bytes]]:
    """The parts of ``body``, as the reference parser reads them: headers and content."""
    parts: list[tuple[dict[bytes, bytes], bytes]] = []
    name: list[bytes] = []

    def on_value(data: bytes, start: int, end: int) -> None:
        parts[-1][0][b"".join(name).lower()] = data[start:end]
        name.clear()

    def on_data(data: bytes, start: int, end: int) -> None:
        headers, content = parts.pop()
        parts.append((headers, content + data[start:end]))

    boundary = parse_options_header(content_type)[1][b"boundary"]
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": lambda: parts.append(({}, b"")),
            "on_header_field": lambda data, start, end: name.append(data[start:end]),
            "on_header_value": on_value,
            "on_part_data": on_data,
        },
    )
    assert len(body) == parser.write(body)
    parser.finalize()
    return parts


async def sent(upload: Upload, **replace: str) -> list[tuple[str, bytes]]:
    """Names and contents of what ``upload`` sends on."""
    content_type, pieces = upload.body(replace)
    async with asyncio.timeout(20):
        body = b"".join([piece async for piece in pieces])
    named = []
    for headers, content in parse(content_type, body):
        options = parse_options_header(headers[b"content-disposition"])[1]
        named.append((options[b"name"].decode(), content))
    return named


def open_files() -> set[str]:
    """Files that this process holds open, temporary ones included."""
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("this system does not list open files")
    return {
        target
        for fd in os.listdir(folder)
        if (target := _target(folder / fd)).startswith("/")
        and not target.startswith(("/dev", "/proc", "/sys"))
    }


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


async def test_fields_before_the_file_are_known_and_the_file_streams() -> None:
    """The head is there before the file is, and each piece leaves before the next is asked for."""
    whole = form(text("model", "alias"), text("temperature", "0.5"), file(b"one"))
    cut = whole.index(b"one")
    client = Client([whole[:cut], b"two", b"three", whole[cut:]])
    upload = await read(client)
    assert {"model": "alias", "temperature": "0.5"} == upload.fields
    assert 1 == client.given
    assert not upload.finished.is_set()
    _, pieces = upload.body({"model": "whisper-1"})
    first = await anext(pieces)
    assert b'name="model"\r\n\r\nwhisper-1\r\n' in first
    assert b"alias" not in first
    assert (b"two", 2) == (await anext(pieces), client.given)
    assert (b"three", 3) == (await anext(pieces), client.given)
    rest = b"".join([piece async for piece in pieces])
    assert rest.startswith(b"one\r\n--")
    assert upload.finished.is_set()
    await upload.aclose()


@pytest.mark.parametrize("first", ["model", "file"])
async def test_every_split_gives_the_same_form(first: str) -> None:
    """Cut at any byte, in whatever order the parts come, the same form goes on."""
    model, audio = text("model", "m"), file()
    parts = [model, audio] if first == "model" else [audio, model]
    whole = form(*parts, text("include[]", "logprobs"), text("prompt", "naïve"))
    expected = sorted(
        [
            ("model", b"whisper-1"),
            ("file", AUDIO),
            ("include[]", b"logprobs"),
            ("prompt", "naïve".encode()),
        ]
    )
    for cut in range(1, len(whole)):
        async with await read(Client([whole[:cut], whole[cut:]])) as upload:
            assert expected == sorted(await sent(upload, model="whisper-1"))


async def test_a_form_byte_by_byte() -> None:
    """The smallest pieces give the same form."""
    whole = form(text("model", "m"), file(), text("language", "de"))
    client = Client([whole[place : place + 1] for place in range(len(whole))])
    async with await read(client) as upload:
        assert [("model", b"m"), ("file", AUDIO), ("language", b"de")] == await sent(upload)


async def test_a_file_before_the_model_is_spooled_and_can_be_sent_again() -> None:
    """All fields are known then, and a second attempt sends the same bytes."""
    before = open_files()
    content = os.urandom(3 * 1024 * 1024)
    whole = form(file(content), text("model", "m"), text("stream", "true"))
    pieces = [whole[place : place + 65536] for place in range(0, len(whole), 65536)]
    upload = await read(Client(pieces))
    assert {"model": "m", "stream": "true"} == upload.fields
    assert upload.finished.is_set()
    assert len(open_files() - before) == 1
    wanted = [("model", b"w"), ("stream", b"true"), ("file", content)]
    assert wanted == await sent(upload, model="w")
    assert wanted == await sent(upload, model="w")
    await upload.aclose()
    await upload.aclose()
    assert before == open_files()


async def test_a16_memory_is_bounded_for_a_file_of_any_size() -> None:
    """A file of 48 MiB passes with a few MiB of memory, streamed or spooled."""
    block = b"\x00\xff\r\n" * 16384

    def pieces(head: bytes, tail: bytes) -> Iterable[bytes]:
        yield head
        for _ in range(768):
            yield block
        yield tail

    streamed = form(text("model", "m"), file(b"*"))
    spooled = form(file(b"*"), text("model", "m"))
    for whole in (streamed, spooled):
        head, tail = whole.split(b"*")
        tracemalloc.start()
        async with await read(Client(pieces(head, tail))) as upload:
            _, body = upload.body({})
            size = 0
            async for piece in body:
                size += len(piece)
            peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert size > 768 * len(block)
        assert peak < 6 * 1024 * 1024


async def test_the_document_is_what_validation_takes() -> None:
    """Brackets and repetitions make lists; numbers are checked as numbers."""
    whole = form(
        text("model", "m"),
        text("temperature", "0.5"),
        text("timestamp_granularities[]", "word"),
        text("timestamp_granularities[]", "segment"),
        text("include[]", "logprobs"),
        text("known_speaker_names", "a"),
        text("known_speaker_names", "b"),
        file(),
    )
    async with await read(Client([whole])) as upload:
        document = upload.document()
        assert {
            "model": "m",
            "temperature": "0.5",
            "timestamp_granularities": ["word", "segment"],
            "include": ["logprobs"],
            "known_speaker_names": ["a", "b"],
        } == document
        assert ["word", "segment"] == upload.fields["timestamp_granularities[]"]
        assert validate("transcription", document) is document


@pytest.mark.parametrize(
    ("parts", "code", "param"),
    [
        ([file()], "missing_field", "model"),
        ([text("model", "a"), text("model", "b"), file()], "invalid_type", "model"),
        ([text("model", "a\r\nb"), file()], "invalid_value", "model"),
    ],
)
async def test_fields_are_checked_by_validation(parts: list[bytes], code: str, param: str) -> None:
    """A form has to hold what a document has to hold."""
    async with await read(Client([form(*parts)])) as upload:
        with pytest.raises(InvalidRequestError) as caught:
            validate("transcription", upload.document())
    assert (code, param) == (caught.value.code, caught.value.param)


@pytest.mark.parametrize("name", ["asgi_llm", "asgi_llm[]"])
async def test_a_form_may_not_hold_what_layers_write(name: str) -> None:
    """It is refused before anything is sent on."""
    with pytest.raises(InvalidRequestError) as caught:
        await read(Client([form(text("model", "m"), text(name, "x"), file())]))
    assert ("reserved_field", "asgi_llm") == (caught.value.code, caught.value.param)


@pytest.mark.parametrize(
    ("given_name", "sent_name"),
    [
        ("a.wav", "a.wav"),
        ("../../x", "x"),
        ("..\\\\..\\\\x.wav", "x.wav"),
        ("/etc/passwd", "passwd"),
        ("..", "file"),
        ("", "file"),
        ("a\x00b\x7f.wav", "ab.wav"),
        ('a\\"b.wav', "ab.wav"),
        ("naïve 日本.wav", "naïve 日本.wav"),
        ("\u202egpj.wav", "gpj.wav"),
        ("x" * 1000 + ".wav", "x" * 124 + ".wav"),
    ],
)
async def test_a16_a_file_name_loses_its_path_and_what_breaks_a_header(
    given_name: str, sent_name: str
) -> None:
    """Only a plain name goes on; nothing of it is ever a path here."""
    whole = form(text("model", "m"), file(file_name=given_name))
    async with await read(Client([whole])) as upload:
        content_type, pieces = upload.body({})
        body = b"".join([piece async for piece in pieces])
    headers = parse(content_type, body)[1][0]
    assert (
        f'form-data; name="file"; filename="{sent_name}"'.encode()
        == headers[b"content-disposition"]
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("audio/webm;codecs=opus", b"audio/webm"),
        ("", b"application/octet-stream"),
        ("nonsense", b"application/octet-stream"),
    ],
)
async def test_a_media_type_goes_on_if_it_is_one(kind: str, expected: bytes) -> None:
    """Parameters and nonsense do not."""
    async with await read(Client([form(text("model", "m"), file(kind=kind))])) as upload:
        content_type, pieces = upload.body({})
        body = b"".join([piece async for piece in pieces])
    assert expected == parse(content_type, body)[1][0][b"content-type"]


REFUSED: dict[str, tuple[bytes, Scope, str]] = {
    "no boundary": (b"", {"type": "http", "headers": [(b"content-type", b"multipart/form-data")]},
                    "invalid_form"),
    "a boundary of 71": (b"", scope_of(b"x" * 71), "invalid_form"),
    "a boundary of 1 MB": (b"", scope_of(b"x" * 10**6), "invalid_form"),
    "a boundary with a control character": (b"", scope_of(b"a\x01b"), "invalid_form"),
    "JSON": (b"{}", {"type": "http", "headers": [(b"content-type", b"application/json")]},
             "unsupported_media_type"),
    "no content type": (b"{}", {"type": "http", "headers": []}, "unsupported_media_type"),
    "two content types": (b"", scope_of(content_type=b"application/json"),
                          "unsupported_media_type"),
    "nothing": (b"", scope_of(), "invalid_form"),
    "another boundary": (form(file(), boundary=b"other"), scope_of(), "invalid_form"),
    "no end": (form(text("model", "m"), end=b"\r\n"), scope_of(), "invalid_form"),
    "an end in the file": (form(file(), text("model", "m"))[:-12], scope_of(), "invalid_form"),
    "no file": (form(text("model", "m")), scope_of(), "missing_field"),
    "no parts": (b"--boundary--\r\n", scope_of(), "missing_field"),
    "two files": (form(file(), file(), text("model", "m")), scope_of(), "invalid_type"),
    "a file elsewhere": (form(file(name="model"), file()), scope_of(), "invalid_type"),
    "10^6 parts": (form(*[text("a", "")] * 10**6), scope_of(), "too_many_fields"),
    "a long field": (form(text("prompt", "x" * 70_000), file()), scope_of(), "invalid_value"),
    "text that is no UTF-8": (form(text("model", "") + b"\xff", file()), scope_of(),
                              "invalid_value"),
    "no name": (form(b"Content-Disposition: form-data\r\n\r\nx"), scope_of(), "invalid_form"),
    "an odd name": (form(text("a\\\"b", "x")), scope_of(), "invalid_form"),
    "no disposition": (form(b"X-A: b\r\n\r\nx"), scope_of(), "invalid_form"),
    "no header": (form(b"\r\nx"), scope_of(), "invalid_form"),
    "a header of 1 MB": (form(b"X-A: " + b"x" * 10**6 + b"\r\n\r\n"), scope_of(), "invalid_form"),
    "headers of 7 KB": (form(b"".join(b"X-%d: %b\r\n" % (i, b"b" * 1000) for i in range(7))
                             + text("a", "b")), scope_of(), "invalid_form"),
    "headers of 64 KB": (form(b"X-A: b\r\n" * 9000 + b"\r\n"), scope_of(), "invalid_form"),
    "the same header twice": (form(b"X-A: b\r\nX-a: b\r\n" + text("a", "b")), scope_of(),
                              "invalid_form"),
    "a transfer encoding": (form(b"Content-Transfer-Encoding: base64\r\n" + text("a", "b")),
                            scope_of(), "invalid_form"),
    "a bare newline": (b"--boundary\nContent-Disposition: form-data\n\nx", scope_of(),
                       "invalid_form"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_a16_a_bad_form_is_refused_quickly_and_leaves_nothing(name: str) -> None:
    """Each is a 4xx within 100 ms of CPU, and no file stays open."""
    body, scope, code = REFUSED[name]
    before = open_files()
    start = time.process_time()
    with pytest.raises(InvalidRequestError) as caught:
        await read(Client([body]), scope)
    limit = 0.1 if sys.gettrace() is None else 1.0
    assert time.process_time() - start < limit
    assert (code, 415 if code == "unsupported_media_type" else 400) == (
        caught.value.code,
        caught.value.status,
    )
    assert before == open_files()


async def endless(prefix: bytes, block: bytes) -> AsyncIterator[bytes]:
    yield prefix
    while True:
        yield block


@pytest.mark.parametrize("first", ["model", "file"])
async def test_a11_a_body_over_the_cap_is_a_413(first: str) -> None:
    """Announced or not, in the head or in the stream, at most one piece over the cap is read."""
    parts = [text("model", "m"), file(b"*")] if first == "model" else [file(b"*")]
    prefix = form(*parts).split(b"*")[0]
    source = endless(prefix, b"x" * 65536)
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        piece = await anext(source)
        taken += len(piece)
        return {"type": "http.request", "body": piece, "more_body": True}

    before = open_files()
    with pytest.raises(RequestTooLargeError):
        async with await read(receive, max_bytes=3 * 1024 * 1024) as upload:
            await sent(upload)
    assert 3 * 1024 * 1024 < taken <= 3 * 1024 * 1024 + 65536
    assert before == open_files()
    taken = 0
    with pytest.raises(RequestTooLargeError):
        await read(receive, scope_of(content_length=b"4000000"), max_bytes=3 * 1024 * 1024)
    assert 0 == taken


async def test_a_client_that_leaves_before_the_file_is_no_error() -> None:
    """There is nobody to answer: None, and the temporary file is gone."""
    before = open_files()
    whole = form(file(b"x" * 2_000_000))[:-20]
    client = Client([whole[:1_500_000], whole[1_500_000:]], leaves=True)
    async with asyncio.timeout(20):
        assert None is await Upload.read_head(scope_of(), client, max_bytes=CAP)
    assert before == open_files()


async def test_a_client_that_leaves_in_the_file_ends_the_stream_with_an_error() -> None:
    """The upstream never sees a whole form then."""
    whole = form(text("model", "m"), file(b"x" * 100))[:-30]
    async with await read(Client([whole], leaves=True)) as upload:
        _, pieces = upload.body({})
        got = b""
        with pytest.raises(ClientLeftError):
            async for piece in pieces:
                got += piece
        assert upload.finished.is_set()
    assert b"xxx" in got
    assert not got.endswith(b"--\r\n")


@pytest.mark.parametrize(
    ("tail", "code"),
    [
        ([text("model", "other")], "invalid_value"),
        ([text("language", "de")], "invalid_value"),
        ([text("asgi_llm", "x")], "reserved_field"),
        ([file()], "invalid_type"),
        ([text("prompt", "x" * 70_000)], "invalid_value"),
        ([text("a", "b")] * 70, "too_many_fields"),
    ],
)
async def test_a_field_after_the_file_cannot_undo_a_check(tail: list[bytes], code: str) -> None:
    """What was decided on before the file stays; the limits hold to the end."""
    whole = form(text("model", "m"), text("language", "en"), file(), *tail)
    cut = whole.index(AUDIO)
    async with await read(Client([whole[:cut], whole[cut:]])) as upload:
        with pytest.raises(LLMError) as caught:
            await sent(upload)
        assert upload.finished.is_set()
    assert code == caught.value.code


async def test_a_replacement_wins_wherever_the_field_stands() -> None:
    """Before the file, after it, or nowhere in the client's form."""
    whole = form(text("model", "m"), file(b"x"), text("language", "en"), text("prompt", "p"))
    cut = whole.index(b'x\r\n--boundary\r\nContent-Disposition: form-data; name="language"')
    async with await read(Client([whole[:cut], whole[cut:]])) as upload:
        assert [
            ("model", b"w"),
            ("language", b"de"),
            ("response_format", b"json"),
            ("file", b"x"),
            ("prompt", b"p"),
        ] == await sent(upload, model="w", language="de", response_format="json")


async def test_a_streamed_upload_can_be_sent_once() -> None:
    """A second attempt is the caller's mistake, and says so."""
    async with await read(Client([form(text("model", "m"), file())])) as upload:
        assert upload.finished.is_set()
        await sent(upload)
        with pytest.raises(RuntimeError, match="once"):
            await sent(upload)


async def test_a14_a_slow_body_is_a_408() -> None:
    """The deadline covers the head, and the file as it streams."""
    whole = form(text("model", "m"), file(b"x"))

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(InvalidRequestError) as caught:
        await read(never, timeout_seconds=0.01)
    assert (408, "request_timeout") == (caught.value.status, caught.value.code)

    first = Client([whole[:-10]], leaves=True)

    async def stalls() -> Message:
        return await first() if not first.given else await never()

    async with await read(stalls, timeout_seconds=0.05) as upload:
        with pytest.raises(InvalidRequestError) as caught:
            await sent(upload)
    assert 408 == caught.value.status


async def test_a16_cancelling_removes_the_temporary_file() -> None:
    """Whoever cancels the read is left with nothing to clean up."""
    before = open_files()
    spooled = asyncio.Event()
    pieces = Client([form(file(b"x" * 2_000_000))[:-20]], leaves=True)

    async def receive() -> Message:
        if not pieces.given:
            return await pieces()
        spooled.set()
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.create_task(Upload.read_head(scope_of(), receive, max_bytes=CAP))
    async with asyncio.timeout(20):
        await spooled.wait()
        assert len(open_files() - before) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert before == open_files()


async def test_what_follows_the_last_boundary_is_not_read_as_a_part() -> None:
    """An epilogue is dropped, up to the cap."""
    whole = form(text("model", "m"), file(b"x")) + b"--boundary\r\n" + text("model", "evil")
    async with await read(Client([whole, b"more"])) as upload:
        assert [("model", b"m"), ("file", b"x")] == await sent(upload)
