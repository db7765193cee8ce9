"""Images and documents by URL, for providers that only take them as data.

The URL is the client's, so everything about it is mistrusted: where it leads, what answers there,
how much of it and how slowly, and what a client could learn about the gateway's own network from
how it fails.
"""

from __future__ import annotations

import asyncio
import base64
import math
import ssl
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from asgi_llm.errors import ConfigurationError, InvalidRequestError
from asgi_llm.providers._fan_out import side_by_side
from asgi_llm.transports._addresses import (
    AddressPolicy,
    CheckedResolver,
    Resolver,
    is_public,
    safe_url,
    system_addresses,
)
from asgi_llm.transports.base import Timeouts, TransportError, UpstreamRequest, UpstreamResponse
from asgi_llm.transports.http1 import Http1Transport
from asgi_llm.types import Document

__all__ = ["FetchImages", "ImageFetcher"]

_MIB: Final = 1024 * 1024
_MAX_HEADER_BYTES: Final = 16 * 1024
_PDF: Final = "application/pdf"

_MARKS: Final[Mapping[str, tuple[bytes, ...]]] = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
    _PDF: (b"%PDF-",),
}
"""What the data of each media type begins with."""

_ALIASES: Final = {"image/jpg": "image/jpeg"}
_IMAGES: Final = frozenset(_MARKS) - {_PDF}
_FILES: Final = frozenset((_PDF,))

# Kind of a part to the field with its address, the key in that field, and what may be there.
_FIELDS: Final[Mapping[str, tuple[str, str, frozenset[str]]]] = {
    "image_url": ("image_url", "url", _IMAGES),
    "file": ("file", "file_data", _FILES),
    "file_url": ("file_url", "url", _FILES),
    "document_url": ("document_url", "url", _FILES),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchImages:
    """How images and documents by URL are fetched for providers that only take data.

    Args:
        max_bytes: Cap on one of them, at least 1.
        max_total_bytes: Cap on all of one request together, at least 1. One that a request holds
            several times counts each time.
        max_images: Cap on their number in one request, at least 1.
        max_at_once: How many of one request are fetched at the same time, at least 1.
        timeout_seconds: Deadline for all of one request, above 0.
        media_types: Those that are taken, out of ``image/png``, ``image/jpeg``, ``image/gif``,
            ``image/webp`` and ``application/pdf``.
        allow_http: Take ``http`` URLs too, whose answers anybody on the way can change.
        allowed_ports: Those that a URL may name, each 1 to 65535.
        ssl_context: For https. Default: certificates and names are verified against the system's
            authorities.
        resolver: Looks names up. Default: the system's.
        address_policy: Which addresses may be connected to. Default: public ones.

    Raises:
        ConfigurationError: An option is out of its range.
    """

    max_bytes: int = 10 * _MIB
    max_total_bytes: int = 20 * _MIB
    max_images: int = 20
    max_at_once: int = 4
    timeout_seconds: float = 10.0
    media_types: Collection[str] = frozenset(_MARKS)
    allow_http: bool = False
    allowed_ports: Collection[int] = frozenset((80, 443))
    ssl_context: ssl.SSLContext | None = None
    resolver: Resolver = system_addresses
    address_policy: AddressPolicy = is_public

    def __post_init__(self) -> None:
        for option in ("max_bytes", "max_total_bytes", "max_images", "max_at_once"):
            if getattr(self, option) < 1:
                raise _wrong(option, "must be at least 1")
        if not 0 < self.timeout_seconds < math.inf:
            raise _wrong("timeout_seconds", "must be above 0")
        if not self.media_types:
            raise _wrong("media_types", "must not be empty")
        if unknown := sorted(set(self.media_types) - _MARKS.keys()):
            known = ", ".join(sorted(_MARKS))
            raise _wrong("media_types", f"must be some of {known}, not {unknown[0]!r}")
        if not self.allowed_ports:
            raise _wrong("allowed_ports", "must not be empty")
        if any(not 0 < port < 65536 for port in self.allowed_ports):
            raise _wrong("allowed_ports", "must be 1 to 65535")


class _Place(NamedTuple):
    """Where in the document an address stands."""

    message: int
    part: int
    kind: str
    path: str
    url: str


class _Budget:
    """Bytes that a request may still take."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = size


class ImageFetcher:
    """Puts data in the place of addresses.

    Args:
        options: What is fetched, from where.
    """

    def __init__(self, options: FetchImages) -> None:
        self._options = options
        self._schemes = ("https", "http") if options.allow_http else ("https",)
        limit = options.timeout_seconds
        self._timeouts = Timeouts(
            connect_seconds=limit,
            first_byte_seconds=limit,
            idle_seconds=limit,
            total_seconds=limit,
        )
        accepted = ", ".join(sorted(options.media_types)).encode()
        # No credentials, no cookies, no referrer: nothing that is the gateway's own.
        self._headers = (
            (b"accept", accepted),
            (b"accept-encoding", b"identity"),
            (b"user-agent", b"asgi-llm"),
        )
        self._transport = Http1Transport(
            ssl_context=options.ssl_context,
            max_idle_per_origin=0,
            max_header_bytes=_MAX_HEADER_BYTES,
            resolver=CheckedResolver(options.resolver, options.address_policy),
        )

    async def aclose(self) -> None:
        """Close what is open. Idempotent."""
        await self._transport.aclose()

    async def inline(self, document: Document) -> Document:
        """``document`` with ``data:`` URLs where it had others; itself where it had none.

        Each URL is fetched once, whatever the number of its places.

        Args:
            document: Valid for the operation ``chat``; not changed.

        Raises:
            InvalidRequestError: Something cannot be fetched, or must not be; ``param`` is its path.
        """
        options = self._options
        places = list(_places(document["messages"]))
        if not places:
            return document
        if len(places) > options.max_images:
            raise _refused(
                places[options.max_images], f"a request may have {options.max_images} of these"
            )
        wanted: dict[str, list[_Place]] = defaultdict(list)
        for place in places:
            try:
                url = safe_url(place.url, schemes=self._schemes, ports=options.allowed_ports)
            except ValueError as error:
                raise _refused(place, str(error)) from error
            wanted[url].append(place)
        gate = asyncio.Semaphore(options.max_at_once)
        budget = _Budget(options.max_total_bytes)
        due = asyncio.get_running_loop().time() + options.timeout_seconds

        async def fetch(url: str, places: list[_Place]) -> str:
            try:
                async with asyncio.timeout_at(due), gate:
                    return await self._fetch(url, places, budget)
            except (TransportError, TimeoutError) as error:
                # The same words for an address that is refused, one that is silent and one that
                # does not exist: else the gateway would tell which hosts and ports its network has.
                raise _refused(places[0], "nothing could be fetched from this URL") from error

        data = await side_by_side([fetch(*pair) for pair in wanted.items()])
        urls = dict(zip(wanted, data, strict=True))
        return _replaced(
            document, {place: urls[url] for url, places in wanted.items() for place in places}
        )

    async def _fetch(self, url: str, places: list[_Place], budget: _Budget) -> str:
        """The data URL.

        Raises:
            InvalidRequestError: What is there is not what may be there.
            TransportError: Nothing is there, or it is not allowed to be.
        """
        request = UpstreamRequest("GET", url, self._headers)
        response = await self._transport.send(request, self._timeouts)
        try:
            media_type = self._check_head(response, places)
            data = await self._read(response, places, budget)
        finally:
            await response.aclose()
        if not _is(data, media_type):
            raise _refused(places[0], f"what is at this URL is not of the type {media_type}")
        return f"data:{media_type};base64,{base64.b64encode(data).decode()}"

    def _check_head(self, response: UpstreamResponse, places: list[_Place]) -> str:
        """The media type."""
        if 300 <= response.status < 400:
            raise _refused(places[0], "the URL redirects elsewhere, which is not followed")
        if response.status != 200:
            raise _refused(places[0], f"the URL answers with the status {response.status}")
        types: list[str] = []
        for name, value in response.headers:
            if name == b"content-encoding" and value.lower() not in (b"", b"identity"):
                raise _refused(places[0], "the answer is compressed, which was not asked for")
            if name == b"content-type":
                types.append(value.partition(b";")[0].strip().lower().decode("latin-1"))
        media_type = _ALIASES.get(types[0], types[0]) if len(types) == 1 else ""
        for place in places:
            allowed = _FIELDS[place.kind][2].intersection(self._options.media_types)
            if media_type not in allowed:
                names = ", ".join(sorted(allowed)) or "nothing"
                raise _refused(place, f"the URL's content type is not one of: {names}")
        return media_type

    async def _read(
        self, response: UpstreamResponse, places: list[_Place], budget: _Budget
    ) -> bytes:
        options = self._options
        chunks: list[bytes] = []
        size = 0
        async for chunk in response:
            size += len(chunk)
            if size > options.max_bytes:
                raise _refused(places[0], f"it is larger than {options.max_bytes} bytes")
            budget.left -= len(chunk) * len(places)
            if budget.left < 0:
                raise _refused(
                    places[0], f"a request may take {options.max_total_bytes} bytes of these"
                )
            chunks.append(chunk)
        if not response.framed:
            # The connection ended, and with it the body: whether it is whole nobody knows.
            raise _refused(places[0], "the answer does not say how long it is")
        return b"".join(chunks)


def _places(messages: list[dict[str, Any]]) -> Iterator[_Place]:
    """Every address that can be fetched, in the document's order."""
    for index, message in enumerate(messages):
        content = message.get("content")
        if not isinstance(content, list):
            continue
        for number, part in enumerate(content):
            kind = part["type"]
            if kind not in _FIELDS:
                continue
            field, key, _ = _FIELDS[kind]
            value = part.get(field)
            path = f"messages[{index}].content[{number}].{field}"
            if isinstance(value, dict):
                value = value.get(key)
                path = f"{path}.{key}"
            if isinstance(value, str) and value[:8].lower().startswith(("http://", "https://")):
                yield _Place(index, number, kind, path, value)


def _replaced(document: Document, data: Mapping[_Place, str]) -> Document:
    """A copy in what changes; the rest is shared with ``document``."""
    messages = list(document["messages"])
    copied: set[int] = set()
    for place, url in data.items():
        if place.message not in copied:
            copied.add(place.message)
            message = messages[place.message]
            messages[place.message] = {**message, "content": list(message["content"])}
        content = messages[place.message]["content"]
        part = content[place.part]
        field, key, _ = _FIELDS[place.kind]
        value = part[field]
        told = {**value, key: url} if isinstance(value, dict) else url
        content[place.part] = {**part, field: told}
    return {**document, "messages": messages}


def _is(data: bytes, media_type: str) -> bool:
    """Whether ``data`` begins as that type does."""
    return data.startswith(_MARKS[media_type]) and (
        media_type != "image/webp" or data[8:12] == b"WEBP"
    )


def _refused(place: _Place, why: str) -> InvalidRequestError:
    return InvalidRequestError(f"{place.path}: {why}", param=place.path, code="image_fetch_failed")


def _wrong(option: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"{option} {why}", param=option)
