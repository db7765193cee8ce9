"""What the tests of the Bedrock adapter share: requests checked, answers whole and streamed."""

from __future__ import annotations

import base64
import importlib
import json
import re
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from asgi_llm.providers.base import StreamDecoder, Translation
from asgi_llm.providers.bedrock import Bedrock
from asgi_llm.types import Deployment

# It has no types.
_loaders: Any = importlib.import_module("botocore.loaders")
_model: Any = importlib.import_module("botocore.model")
_validate: Any = importlib.import_module("botocore.validate")

ASKED = {"model": "bedrock/m", "messages": [{"role": "user", "content": "hi"}]}
OPTIONS: dict[str, Any] = {
    "region": "us-east-1",
    "api_key": "bedrock-api-key-0123456789",
    "clock": lambda: 1_700_000_000.5,
}

Translate = Callable[..., Translation]
Sent = Callable[..., dict[str, Any]]
Whole = Callable[..., dict[str, Any]]
Streamed = Callable[..., list[dict[str, Any]]]
Decoded = Callable[..., tuple[bytes, StreamDecoder]]
Framed = Callable[..., bytes]


@pytest.fixture(scope="session")
def service() -> Any:
    """Bedrock's runtime, as AWS describes it to its own SDK."""
    data = _loaders.create_loader().load_service_model("bedrock-runtime", "service-2")
    return _model.ServiceModel(data)


def problems(value: Any, shape: Any, path: str = "") -> Iterable[str]:
    """What the service would refuse beyond what botocore looks at before it sends."""
    if shape.type_name == "structure":
        if shape.is_document_type:
            return
        if getattr(shape, "is_tagged_union", False) and len(value) != 1:
            yield f"{path} has {len(value)} members"
        for name, inner in value.items():
            yield from problems(inner, shape.members[name], f"{path}.{name}")
    elif shape.type_name == "list":
        for index, inner in enumerate(value):
            yield from problems(inner, shape.member, f"{path}[{index}]")
    elif shape.type_name == "map":
        for name, inner in value.items():
            yield from problems(inner, shape.value, f"{path}.{name}")
    elif shape.type_name == "string":
        if shape.enum and value not in shape.enum:
            yield f"{path} is {value!r}"
        pattern = shape.metadata.get("pattern")
        if pattern is not None and re.fullmatch(pattern, value) is None:
            yield f"{path} is {value!r}"
        if not shape.metadata.get("min", 0) <= len(value) <= shape.metadata.get("max", 1e9):
            yield f"{path} has {len(value)} characters"
    elif shape.type_name == "blob":
        base64.b64decode(value, validate=True)
    elif shape.type_name in ("integer", "float") and not (
        shape.metadata.get("min", value) <= value <= shape.metadata.get("max", value)
    ):
        yield f"{path} is {value}"


def documents(value: Any) -> Iterable[str]:
    """The names of all documents."""
    if isinstance(value, dict):
        if isinstance(value.get("document"), dict):
            yield value["document"]["name"]
        for inner in value.values():
            yield from documents(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from documents(inner)


@pytest.fixture
def translate() -> Translate:
    """The translation of a request: fields of the document, a model, options of the adapter."""

    def translate(
        document: dict[str, Any] | None = None,
        *,
        operation: Any = "chat",
        model: str = "vendor.some-model-v1:0",
        **options: Any,
    ) -> Translation:
        adapter = Bedrock(**{**OPTIONS, **options})
        asked = {**ASKED, **(document or {})} if operation == "chat" else document or {}
        return adapter.translate(operation, asked, Deployment(provider="bedrock", model=model))

    return translate


@pytest.fixture
def sent(translate: Translate, service: Any) -> Sent:
    """The body that goes to Bedrock, checked against its service model."""

    def sent(document: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        body = json.loads(bytes(translate(document, **options).request.body))  # type: ignore[arg-type]
        assert isinstance(body, dict)
        is_stream = bool((document or {}).get("stream"))
        operation = service.operation_model("ConverseStream" if is_stream else "Converse")
        report = _validate.ParamValidator().validate(
            {"modelId": "m", **body}, operation.input_shape
        )
        assert "" == report.generate_report()
        assert [] == list(problems(body, operation.input_shape))
        names = list(documents(body["messages"]))
        assert len(names) == len(set(names))
        assert all(
            re.fullmatch(r"[A-Za-z0-9()\[\]-]+( [A-Za-z0-9()\[\]-]+)*", one) for one in names
        )
        sides = [message["role"] for message in body["messages"]]
        assert sides == [("user", "assistant")[index % 2] for index in range(len(sides))]
        return body

    return sent


@pytest.fixture
def whole(translate: Translate) -> Whole:
    """The answer that the client gets for one of Bedrock's."""

    def whole(response: Any, document: dict[str, Any] | None = None, **options: Any) -> Any:
        body = response if isinstance(response, bytes) else json.dumps(response).encode()
        translation = translate(document, **options)
        found = json.loads(Bedrock(**OPTIONS).parse_response(translation, body).body)
        assert isinstance(found, dict)
        return found

    return whole


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """One message of an event stream."""
    fields = b"".join(
        struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(value)) + value
        for name, value in ((name, text.encode()) for name, text in headers.items())
    )
    prelude = struct.pack(">II", 16 + len(fields) + len(payload), len(fields))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + fields + payload
    return message + struct.pack(">I", zlib.crc32(message))


@pytest.fixture
def framed() -> Framed:
    """The bytes of events: pairs of a kind and a payload; ``!name`` is an exception."""

    def framed(*events: tuple[str, Any]) -> bytes:
        found = b""
        for kind, payload in events:
            what = "exception" if kind.startswith("!") else "event"
            headers = {
                f":{what}-type": kind.lstrip("!"),
                ":content-type": "application/json",
                ":message-type": what,
            }
            data = {**payload, "p": "abcdef"} if what == "event" else payload
            found += frame(headers, json.dumps(data, ensure_ascii=False).encode())
        return found

    return framed


@pytest.fixture
def decoded(translate: Translate) -> Decoded:
    """What comes out for a stream's bytes, fed in pieces of ``size``, and its decoder."""

    def decoded(
        data: bytes,
        document: dict[str, Any] | None = None,
        *,
        size: int = 1_000_000,
        is_whole: bool = True,
        **options: Any,
    ) -> tuple[bytes, StreamDecoder]:
        asked = {"stream": True, "stream_options": {"include_usage": True}, **(document or {})}
        (decoder,) = Bedrock(**OPTIONS).stream_decoders(translate(asked, **options))
        out = b"".join(decoder.feed(data[at : at + size]) for at in range(0, len(data), size))
        return out + decoder.close(framed=is_whole), decoder

    return decoded


@pytest.fixture
def streamed(decoded: Decoded, framed: Framed) -> Streamed:
    """The chunks that the client gets for events that end well."""

    def streamed(
        events: list[tuple[str, Any]],
        document: dict[str, Any] | None = None,
        *,
        size: int = 1_000_000,
        **options: Any,
    ) -> list[dict[str, Any]]:
        out, decoder = decoded(framed(*events), document, size=size, **options)
        if decoder.error is not None:
            raise decoder.error
        *rows, done, rest = out.split(b"\n\n")
        assert (b"data: [DONE]", b"") == (done, rest)
        return [json.loads(row.removeprefix(b"data: ")) for row in rows]

    return streamed


@pytest.fixture
def both(whole: Whole, streamed: Streamed) -> Callable[..., dict[str, Any]]:
    """A choice read from a whole answer, which its stream, byte by byte, has to equal."""

    def both(
        content: list[dict[str, Any]],
        reason: str = "end_turn",
        document: dict[str, Any] | None = None,
        *,
        usage: dict[str, Any] | None = None,
        more: dict[str, Any] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        counts = usage or {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}
        answer = {
            "output": {"message": {"role": "assistant", "content": content}},
            "stopReason": reason,
            "usage": counts,
            "metrics": {"latencyMs": 1},
            **(more or {}),
        }
        found = whole(answer, document, **options)
        stop = {"stopReason": reason}
        metadata: dict[str, Any] = {"usage": counts, "metrics": {"latencyMs": 1}}
        for name, value in (more or {}).items():
            (stop if name.startswith("additional") else metadata)[name] = value
        events: list[tuple[str, Any]] = [("messageStart", {"role": "assistant"})]
        for index, block in enumerate(content):
            events += [
                (kind, {**event, "contentBlockIndex": index}) for kind, event in deltas(block)
            ]
            events.append(("contentBlockStop", {"contentBlockIndex": index}))
        events += [("messageStop", stop), ("metadata", metadata)]
        chunks = streamed(events, document, size=1, **options)
        assert found["usage"] == chunks[-1]["usage"]
        (choice,) = found["choices"]
        assert choice == joined(chunks)
        return {**choice, "usage": found["usage"]}

    return both


def deltas(block: dict[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    """The events of a block, as Bedrock streams it: each text in two pieces."""
    kind, value = next(iter(block.items()))
    if kind == "text":
        half = len(value) // 2
        for piece in (value[:half], value[half:]):
            yield "contentBlockDelta", {"delta": {"text": piece}}
    elif kind == "toolUse":
        yield (
            "contentBlockStart",
            {"start": {"toolUse": {k: v for k, v in value.items() if k != "input"}}},
        )
        if value["input"]:
            text = json.dumps(value["input"])
            for piece in ("", text[:4], text[4:]):
                yield "contentBlockDelta", {"delta": {"toolUse": {"input": piece}}}
    elif kind == "reasoningContent":
        if "redactedContent" in value:
            yield "contentBlockDelta", {"delta": {"reasoningContent": value}}
            return
        for name, text in value["reasoningText"].items():
            for piece in (text[:3], text[3:]):
                yield "contentBlockDelta", {"delta": {"reasoningContent": {name: piece}}}
    elif kind == "citationsContent":
        for one in value["content"]:
            yield "contentBlockDelta", {"delta": {"text": one["text"]}}
        for citation in value["citations"]:
            yield "contentBlockDelta", {"delta": {"citation": citation}}
    elif kind == "image":
        yield "contentBlockStart", {"start": {"image": {"format": value["format"]}}}
        yield "contentBlockDelta", {"delta": {"image": {"source": value["source"]}}}
    elif kind == "toolResult":
        yield (
            "contentBlockStart",
            {"start": {"toolResult": {k: v for k, v in value.items() if k != "content"}}},
        )
        yield "contentBlockDelta", {"delta": {"toolResult": value["content"]}}


def joined(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The choice that a stream's chunks make together."""
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    choice: dict[str, Any] = {"index": 0, "message": message, "logprobs": None}
    for chunk in chunks:
        for row in chunk["choices"]:
            delta = row["delta"]
            for name, value in delta.items():
                if name == "tool_calls":
                    _add_calls(message.setdefault(name, []), value)
                elif name in ("content", "reasoning_content"):
                    message[name] = (message.get(name) or "") + (value or "")
                elif isinstance(value, list):
                    message[name] = [*message.get(name, ()), *value]
                elif name != "role":
                    message[name] = value
            if row["finish_reason"] is not None:
                choice |= {k: v for k, v in row.items() if k not in ("index", "delta")}
    if not message["content"] and "tool_calls" in message:
        message["content"] = None
    return choice


def _add_calls(calls: list[dict[str, Any]], pieces: list[dict[str, Any]]) -> None:
    for piece in pieces:
        if "id" in piece:
            assert piece.pop("index") == len(calls)
            calls.append(piece)
        else:
            calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
