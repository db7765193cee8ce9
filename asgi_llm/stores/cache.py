"""What a cache keeps, and what it asks of the place where it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

from asgi_llm.types import Usage

__all__ = [
    "JSON_HEADERS",
    "CacheStatistics",
    "CacheStore",
    "Claim",
    "Found",
    "Selection",
    "StoredAnswer",
    "decode_answer",
    "encode_answer",
]


JSON_HEADERS: Final = ((b"content-type", b"application/json"),)
"""Headers as most answers have them; one object for all."""


class StoredAnswer(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """An answer as it left, and what has to be known to serve and to purge it.

    New fields go to the end, with a default: what an older version wrote can then still be read.
    """

    body: bytes
    """The JSON document, or the whole stream of events, byte for byte. Of an embedding: the
    vector alone, as JSON."""
    operation: str
    """As in ``gen_ai.operation.name``."""
    scope: str
    """The partition that it belongs to, as ``organization:acme``: nobody else is ever served."""
    model: str
    """As the client named it."""
    fresh_seconds: float
    """How long it is served without a second thought."""
    keep_seconds: float
    """How long a store keeps it, at least ``fresh_seconds``: what lies between is stale."""
    is_stream: bool = False
    tells_usage: bool = True
    """Whether the body says what the answer took."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Those that are served again; names in lower case."""
    namespace: str = ""
    written_by: str | None = None
    """Id of the key that it was made for, else of its user."""
    provider: str | None = None
    """Who made it, and with which model; None where that is not known."""
    response_model: str | None = None
    usage: Usage | None = None
    """What it took to make it; None where nobody said."""


class Found(msgspec.Struct, frozen=True, gc=False):
    """An answer that a store had."""

    answer: StoredAnswer
    age_seconds: float
    """By the store's own clock, so that workers whose clocks differ agree on it."""


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What a store said to one who wants to make the answer where there is none."""

    found: Found | None = None
    leased: bool = False
    """Whether it is this one who makes it anew. False without an answer that will do: somebody
    else is at it."""


class Selection(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which answers are meant: those that fit all that is given. Nothing given: all."""

    scope: str | None = None
    """As in ``StoredAnswer.scope``."""
    namespace: str | None = None
    """The empty text is the namespace of requests without one."""
    model: str | None = None
    written_by: str | None = None
    older_than_seconds: float | None = None
    """At least 0."""

    def fits(self, answer: StoredAnswer, age_seconds: float) -> bool:
        """Whether ``answer`` is meant."""
        return (
            (self.scope is None or self.scope == answer.scope)
            and (self.namespace is None or self.namespace == answer.namespace)
            and (self.model is None or self.model == answer.model)
            and (self.written_by is None or self.written_by == answer.written_by)
            and (self.older_than_seconds is None or age_seconds > self.older_than_seconds)
        )


class CacheStatistics(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a store is doing. Counts of calls are those of this process."""

    entries: int
    """Answers that are kept now."""
    bytes: int | None
    """What they take; None where the store cannot tell its own share."""
    hits: int
    misses: int
    writes: int
    evictions: int
    """Answers that went before their time, to make room."""
    failures: int = 0
    """Calls that failed or came too late."""


class CacheStore(Protocol):
    """Where answers are kept. Keys are digests of 32 bytes.

    Every method may raise ``StoreError``. A store bounds itself: in bytes, and each entry in time.
    """

    async def get(self, keys: Sequence[bytes]) -> list[Found | None]:
        """The answers of ``keys`` in their order, stale ones too; None: there is none."""
        ...

    async def claim(
        self,
        key: bytes,
        *,
        owner: str,
        lease_seconds: float,
        max_age_seconds: float | None = None,
    ) -> Claim:
        """The answer of ``key`` and, where there is none or an old one, the right to make it.

        Of all that ask in all processes one gets it, until it calls ``set`` or ``release``, or
        does not ``renew`` it for ``lease_seconds``.

        Args:
            key: Of the answer.
            owner: Who asks; unlike any other.
            lease_seconds: How long the right outlives a process that dies.
            max_age_seconds: An answer is old beyond this, and beyond its ``fresh_seconds``.
        """
        ...

    async def renew(self, key: bytes, *, owner: str, lease_seconds: float) -> None:
        """Keep the right to make the answer for ``lease_seconds`` from now."""
        ...

    async def release(self, key: bytes, *, owner: str) -> None:
        """Give the right back: no answer came that can be kept."""
        ...

    async def set(
        self,
        entries: Sequence[tuple[bytes, StoredAnswer]],
        *,
        owner: str | None = None,
        age_seconds: float = 0.0,
    ) -> None:
        """Keep answers; ``owner`` gives back the right to make the first of them.

        Args:
            entries: Keys, and what is kept under them in the place of what was.
            owner: As given to ``claim``.
            age_seconds: How old they are already.
        """
        ...

    async def delete(self, keys: Sequence[bytes]) -> int:
        """Forget the answers of ``keys``; how many there were."""
        ...

    async def purge(self, selection: Selection) -> int:
        """Forget the answers that are meant; how many there were."""
        ...

    async def statistics(self) -> CacheStatistics:
        """How the store is doing."""
        ...

    async def aclose(self) -> None:
        """Close what the store itself opened."""
        ...


_encode = msgspec.msgpack.Encoder().encode
_decode: Any = msgspec.msgpack.Decoder(StoredAnswer).decode


def encode_answer(answer: StoredAnswer) -> bytes:
    """An answer as bytes."""
    return _encode(answer)


def decode_answer(data: bytes) -> StoredAnswer | None:
    """What ``encode_answer`` made; None for anything else, such as the bytes of a later version."""
    try:
        answer: StoredAnswer = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return answer
