"""The echo provider's other endpoints: vectors, moderation, pictures and sound."""

from __future__ import annotations

import base64
import hashlib
import io
import math
import re
import struct
import wave
import zlib
from typing import Any, Final

from asgi_llm.providers._echo_text import count
from asgi_llm.types import Document

__all__ = ["Form", "embeddings", "images", "moderations", "parse_form", "speech", "transcription"]

_DEFAULT_DIMENSIONS: Final = 256
_EMBEDDED_CHARACTERS: Final = 8 * 1024
_WORDS = re.compile(r"\w+")

_CATEGORIES: Final = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)

_SAMPLE_RATE: Final = 8000


def embeddings(document: Document) -> Document:
    """A list of unit vectors.

    Each is the sum of one hashed vector a word, so that texts with common words are near each
    other. Letter case and punctuation do not count, nor does what follows the first 8 Ki
    characters.
    """
    given = document["input"]
    if isinstance(given, str) or (isinstance(given, list) and given and isinstance(given[0], int)):
        given = [given]
    dimensions = document.get("dimensions") or _DEFAULT_DIMENSIONS
    texts = [one if isinstance(one, str) else " ".join(map(str, one)) for one in given]
    as_base64 = document.get("encoding_format") == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _base64(vector) if as_base64 else vector,
        }
        for index, vector in enumerate(_vector(text, dimensions) for text in texts)
    ]
    tokens = sum(map(count, texts))
    return {
        "object": "list",
        "data": data,
        "model": document["model"],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _vector(text: str, dimensions: int) -> list[float]:
    text = text[:_EMBEDDED_CHARACTERS]
    # The hashing trick: each word adds to a few places, so that a long text costs little.
    sums = [0.0] * dimensions
    for word in _WORDS.findall(text.lower()) or [text]:
        for value in struct.unpack("<16I", hashlib.blake2b(word.encode()).digest()):
            sums[value % dimensions] += 1.0 if value & 0x80000000 else -1.0
    length = math.sqrt(sum(value * value for value in sums))
    if not length:
        sums[0] = length = 1.0
    return [value / length for value in sums]


def _base64(vector: list[float]) -> str:
    """Little-endian float32, as the OpenAI clients read it."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def moderations(document: Document) -> Document:
    """Flags a category where the text has its name in brackets, as in ``[violence]``."""
    given = document["input"]
    if isinstance(given, str):
        texts = [given]
    elif given and isinstance(given[0], dict):
        # Parts of one input.
        texts = ["\n".join(str(part.get("text", "")) for part in given)]
    else:
        texts = [str(one) for one in given]
    return {
        "id": "modr-" + hashlib.sha256("\0".join(texts).encode()).hexdigest()[:24],
        "model": document.get("model", "echo"),
        "results": [_moderation(text) for text in texts],
    }


def _moderation(text: str) -> Document:
    flags = {category: f"[{category}]" in text for category in _CATEGORIES}
    return {
        "flagged": any(flags.values()),
        "categories": flags,
        "category_scores": {category: float(flag) for category, flag in flags.items()},
        "category_applied_input_types": {category: ["text"] for category in _CATEGORIES},
    }


def images(document: Document, created: int) -> Document:
    """Pictures of one pixel, whose colour is a hash of the prompt."""
    colour = hashlib.sha256(str(document["prompt"]).encode()).digest()[:3]
    encoded = base64.b64encode(_png(colour)).decode()
    if document.get("response_format") == "url":
        row: Document = {"url": "data:image/png;base64," + encoded}
    else:
        row = {"b64_json": encoded}
    return {"created": created, "data": [row] * (document.get("n") or 1)}


def _png(colour: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" + colour)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def speech(document: Document) -> tuple[bytes, bytes]:
    """Content type and sound: a tone of 50 ms a token, 16-bit mono at 8 kHz.

    Raw samples for ``pcm``, and WAV whatever other format is asked for.
    """
    length = min(count(str(document["input"])), 1000) * _SAMPLE_RATE // 20
    wave_form = (int(9000 * math.sin(math.tau * 440 * at / _SAMPLE_RATE)) for at in range(length))
    tone = struct.pack(f"<{length}h", *wave_form)
    if document.get("response_format") == "pcm":
        return b"audio/pcm", tone
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(_SAMPLE_RATE)
        sound.writeframes(tone)
    return b"audio/wav", out.getvalue()


class Form:
    """A parsed multipart form.

    Attributes:
        fields: Name to value; of a repeated name the last one.
        filename: The file's name.
        size: The file's length in bytes.
    """

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.filename = ""
        self.size = 0


_BOUNDARY = re.compile(rb'boundary="?([^";,\s]{1,70})"?', re.IGNORECASE)
_NAME = re.compile(rb'[;\s]name="([^"]*)"', re.IGNORECASE)
_FILENAME = re.compile(rb'filename="([^"]*)"', re.IGNORECASE)


def parse_form(content_type: bytes, body: bytes) -> Form | None:
    """Read a whole multipart form; None where it is none."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        return None
    form = Form()
    for part in (b"\r\n" + body).split(b"\r\n--" + found[1])[1:]:
        head, separator, value = part.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if not separator or name is None:
            continue
        if (filename := _FILENAME.search(head)) is not None:
            form.filename = filename[1].decode("utf-8", "replace")
            form.size = len(value)
        else:
            form.fields[name[1].decode("utf-8", "replace")] = value.decode("utf-8", "replace")
    return form


def transcription(form: Form) -> tuple[bytes, Any]:
    """Content type and answer, which says what was uploaded: a text, or an object for JSON."""
    fields = ", ".join(f"{name}={value}" for name, value in sorted(form.fields.items()))
    text = f"{form.filename}: {form.size} bytes; {fields}"
    kind = form.fields.get("response_format", "json")
    if kind == "text":
        return b"text/plain; charset=utf-8", text + "\n"
    if kind == "srt":
        return b"text/plain; charset=utf-8", f"1\n00:00:00,000 --> 00:00:01,000\n{text}\n\n"
    if kind == "vtt":
        body = f"WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n{text}\n\n"
        return b"text/vtt; charset=utf-8", body
    answer: Document = {"text": text, "usage": {"type": "duration", "seconds": 1}}
    if kind == "verbose_json":
        segment = {
            "id": 0,
            "seek": 0,
            "start": 0.0,
            "end": 1.0,
            "text": text,
            "tokens": [],
            "temperature": 0.0,
            "avg_logprob": 0.0,
            "compression_ratio": 1.0,
            "no_speech_prob": 0.0,
        }
        language = form.fields.get("language", "english")
        answer = {
            "task": "transcribe",
            "language": language,
            "duration": 1.0,
            "segments": [segment],
            **answer,
        }
    return b"application/json", answer
