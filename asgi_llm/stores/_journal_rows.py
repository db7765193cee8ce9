"""Rows of the ledger as bytes: what many of them share first, then what is each one's own.

Rows are one MessagePack array; a row is an array of two arrays, ``_Shared`` and ``_Own``. The first
is the same for all calls of one caller for one model at one place, so that a writer encodes it once
and copies it; each row has the whole of it, and stands for itself. Times are whole microseconds of
Unix time. A later version adds fields at the end of an array, which this one passes over.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final, Protocol, runtime_checkable

import msgspec
from msgspec.structs import astuple

from asgi_llm.stores.ledger import LedgerRow, RowOutcome
from asgi_llm.types import Cost, PriceSource, Usage

__all__ = [
    "ONE_ROW",
    "PackedJournal",
    "decode_rows",
    "encode_own",
    "encode_rows",
    "join_rows",
    "pack_shared",
    "pack_source",
]

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND: Final = datetime.timedelta(microseconds=1)


@runtime_checkable
class PackedJournal(Protocol):
    """A journal that also takes rows as bytes, as ``FileJournal`` does."""

    def intend_packed(self, intent: str, row: bytes) -> None:
        """``Journal.intend`` for a row of ``join_rows`` whose id is ``intent``.

        Raises:
            StoreError: As for ``Journal.intend``.
            ValueError: It is too large.
        """
        ...

    def settle_packed(self, rows: bytes, count: int, *, intent: str) -> None:
        """``Journal.settle`` for so many rows of ``join_rows``.

        Raises:
            StoreError: As for ``Journal.settle``.
            ValueError: They are too large.
        """
        ...


class _Shared(msgspec.Struct, array_like=True, frozen=True, gc=False):
    operation: str
    requested_model: str
    model: str | None
    provider: str | None
    deployment: str | None
    key_id: str | None
    user_id: str | None
    team_id: str | None
    organization_id: str | None
    tags: dict[str, str]


class _Counts(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """``Usage``, in the order of its fields."""

    input_uncached: int
    input_cached: int
    cache_write_5m: int
    cache_write_1h: int
    audio_in: int
    output_text: int
    reasoning: int
    audio_out: int
    estimated: bool


class _Own(msgspec.Struct, array_like=True, frozen=True, gc=False):
    id: str
    request_id: str
    at: int
    attempt: int
    outcome: RowOutcome
    streamed: bool
    usage: _Counts
    amount_usd: Decimal | None
    parts: dict[str, Decimal]
    source: PriceSource | None
    service_tier: str | None
    estimated: bool
    unknown: str | None
    status: int | None = None
    error_code: str | None = None
    latency_seconds: float | None = None
    time_to_first_token_seconds: float | None = None
    saved_usd: Decimal | None = None
    cached: bool = False
    cache_type: str | None = None


class _Row(msgspec.Struct, array_like=True, frozen=True, gc=False):
    shared: _Shared
    own: _Own


_encode: Final = msgspec.msgpack.Encoder().encode
encode_own: Final = _encode
"""What is a row's own: the fields of ``_Own`` in their order, of which those at the end may be left
out that have their default. Behind ``pack_shared`` it makes a row.

Raises ValueError for a text that is no UTF-8, and OverflowError for a number that is too large.
"""
_decode: Final = msgspec.msgpack.Decoder(list[_Row]).decode
# The head of an array of two.
_PAIR: Final = b"\x92"
ONE_ROW: Final = b"\x91"
"""What stands before the bytes of a single row, as ``join_rows`` has them."""


def pack_shared(
    operation: str,
    requested_model: str,
    model: str | None,
    provider: str | None,
    deployment: str | None,
    key_id: str | None,
    user_id: str | None,
    team_id: str | None,
    organization_id: str | None,
    tags: Mapping[str, str],
) -> bytes:
    """What rows share, to stand before what ``encode_own`` makes of each.

    Raises:
        ValueError: A text cannot be written as UTF-8.
    """
    names = (operation, requested_model, model, provider, deployment)
    ids = (key_id, user_id, team_id, organization_id)
    return _PAIR + _encode((*names, *ids, tags))


def pack_source(source: PriceSource | None) -> msgspec.Raw:
    """Where a price is from, to be given to ``encode_own`` any number of times."""
    return msgspec.Raw(_encode(source))


def join_rows(packed: Sequence[bytes]) -> bytes:
    """Rows of ``pack_shared`` and ``encode_own`` as ``decode_rows`` reads them."""
    if len(packed) == 1:
        return ONE_ROW + packed[0]
    return b"".join((b"\xdd", len(packed).to_bytes(4, "big"), *packed))


def microseconds(at: datetime.datetime) -> int:
    """Unix time of ``at``, which is taken for UTC where it says no zone."""
    if at.tzinfo is None:
        at = at.replace(tzinfo=datetime.UTC)
    return (at - _EPOCH) // _MICROSECOND


def encode_rows(rows: Sequence[LedgerRow]) -> bytes:
    """Rows as ``decode_rows`` reads them.

    Raises:
        ValueError: A text cannot be written as UTF-8.
        OverflowError: A number is too large.
    """
    return join_rows([_packed(row) for row in rows])


def _packed(row: LedgerRow) -> bytes:
    shared = pack_shared(
        row.operation,
        row.requested_model,
        row.model,
        row.provider,
        row.deployment,
        row.key_id,
        row.user_id,
        row.team_id,
        row.organization_id,
        row.tags,
    )
    cost = row.cost
    return shared + _encode(
        (
            row.id,
            row.request_id,
            microseconds(row.at),
            row.attempt,
            row.outcome,
            row.streamed,
            astuple(row.usage),
            cost.amount_usd,
            cost.parts,
            cost.source,
            cost.service_tier,
            cost.estimated,
            cost.unknown,
            row.status,
            row.error_code,
            row.latency_seconds,
            row.time_to_first_token_seconds,
            row.saved_usd,
            row.cached,
            row.cache_type,
        ),
    )


def decode_rows(data: bytes) -> list[LedgerRow]:
    """The rows of ``join_rows`` or ``encode_rows``.

    Raises:
        msgspec.DecodeError: They are not ours to read.
    """
    try:
        return [_row(one) for one in _decode(data)]
    except OverflowError as error:
        raise msgspec.DecodeError("a time is out of range") from error


def _row(row: _Row) -> LedgerRow:
    shared, own = row.shared, row.own
    return LedgerRow(
        id=own.id,
        request_id=own.request_id,
        attempt=own.attempt,
        at=_EPOCH + datetime.timedelta(microseconds=own.at),
        operation=shared.operation,
        key_id=shared.key_id,
        user_id=shared.user_id,
        team_id=shared.team_id,
        organization_id=shared.organization_id,
        tags=shared.tags,
        requested_model=shared.requested_model,
        model=shared.model,
        provider=shared.provider,
        deployment=shared.deployment,
        usage=Usage(**msgspec.structs.asdict(own.usage)),
        cost=Cost(
            amount_usd=own.amount_usd,
            parts=own.parts,
            source=own.source,
            service_tier=own.service_tier,
            estimated=own.estimated,
            unknown=own.unknown,
        ),
        saved_usd=own.saved_usd,
        cached=own.cached,
        cache_type=own.cache_type,
        status=own.status,
        error_code=own.error_code,
        latency_seconds=own.latency_seconds,
        time_to_first_token_seconds=own.time_to_first_token_seconds,
        streamed=own.streamed,
        outcome=own.outcome,
    )
