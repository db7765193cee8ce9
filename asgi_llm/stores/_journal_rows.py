"""Rows of the ledger as bytes: what many of them share first, then what is each one's own.

Rows are one MessagePack array; a row is an array of three arrays, ``_Shared``, ``_Own`` and
``_Result``. The first is the same for all calls of one caller for one model at one place, and the
last for all that came to the usual end there, so that a writer encodes them once and copies them;
each row has the whole of them, and stands for itself. A usual result has rates in place of amounts:
the reader multiplies them, by the same exact arithmetic. Times are whole microseconds of Unix time.
A later version adds fields at the end of an array, which this one passes over.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final, Protocol, runtime_checkable

import msgspec
from msgspec.structs import astuple

from asgi_llm.pricing._money import price_text
from asgi_llm.stores._journal_short import ShortCall
from asgi_llm.stores.ledger import Journal, LedgerRow, RowOutcome
from asgi_llm.types import Cost, PriceSource, Usage

__all__ = [
    "ONE_ROW",
    "PackedJournal",
    "decode_rows",
    "encode_own",
    "encode_rows",
    "join_rows",
    "pack_result",
    "pack_shared",
]

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND: Final = datetime.timedelta(microseconds=1)


@runtime_checkable
class PackedJournal(Journal, Protocol):
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

    def intend_short(self, call: ShortCall, head: bytes, ending: bytes) -> None:
        """``intend_packed`` for a row of which ``head`` and ``ending`` recur.

        Raises:
            StoreError: As for ``Journal.intend``.
            ValueError: It is too large, or an id is no text.
            OverflowError: A number is too large.
        """
        ...

    def settle_short(self, call: ShortCall, head: bytes, ending: bytes) -> None:
        """``settle_packed`` for one row of which ``head`` and ``ending`` recur.

        Raises:
            StoreError: As for ``Journal.settle``.
            ValueError: It is too large, or an id is no text.
            OverflowError: A number is too large.
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
    """``Usage`` without text, in the order of its fields."""

    input_cached: int
    cache_write_5m: int
    cache_write_1h: int
    audio_in: int
    reasoning: int
    audio_out: int
    estimated: bool


class _Own(msgspec.Struct, array_like=True, frozen=True, gc=False):
    id: str
    request_id: str
    at: int
    streamed: bool
    input_uncached: int
    output_text: int
    latency_seconds: float | None = None
    time_to_first_token_seconds: float | None = None


class _Result(msgspec.Struct, array_like=True, frozen=True, gc=False):
    attempt: int
    outcome: RowOutcome
    usage: _Counts
    amount_usd: Decimal | None
    parts: dict[str, Decimal]
    source: PriceSource | None
    service_tier: str | None
    estimated: bool
    unknown: str | None
    status: int | None = None
    error_code: str | None = None
    saved_usd: Decimal | None = None
    cached: bool = False
    cache_type: str | None = None
    rates: tuple[Decimal, Decimal] | None = None
    """USD for a token of text that went in, and for one that came out: the amount is their sum."""


class _Row(msgspec.Struct, array_like=True, frozen=True, gc=False):
    shared: _Shared
    own: _Own
    result: _Result


_NO_PARTS: Final[dict[str, Decimal]] = {}
_encode: Final = msgspec.msgpack.Encoder().encode
encode_own: Final = _encode
"""What is a row's own: the fields of ``_Own`` in their order, of which those at the end may be left
out that have their default. Between ``pack_shared`` and ``pack_result`` it makes a row.

Raises ValueError for a text that is no UTF-8, and OverflowError for a number that is too large.
"""
_decode: Final = msgspec.msgpack.Decoder(list[_Row]).decode
# The head of an array of three.
_ROW: Final = b"\x93"
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
    """What rows share, to stand before what ``encode_own`` and ``pack_result`` make of each.

    Raises:
        ValueError: A text cannot be written as UTF-8.
    """
    names = (operation, requested_model, model, provider, deployment)
    ids = (key_id, user_id, team_id, organization_id)
    return _ROW + _encode((*names, *ids, tags))


def pack_result(
    attempt: int,
    outcome: RowOutcome,
    usage: Usage,
    cost: Cost,
    status: int | None,
    error_code: str | None,
    saved_usd: Decimal | None,
    cached: bool,
    cache_type: str | None,
    rates: tuple[Decimal, Decimal] | None = None,
) -> bytes:
    """What came of an attempt, but for its tokens of text, which are its own.

    Args:
        attempt: Its number.
        outcome: How it ended.
        usage: Its other tokens.
        cost: What it cost.
        status: As in ``LedgerRow``.
        error_code: As in ``LedgerRow``.
        saved_usd: As in ``LedgerRow``.
        cached: As in ``LedgerRow``.
        cache_type: As in ``LedgerRow``.
        rates: What a token of text costs, in and out, where tokens of both and nothing else are
            paid for; in place of the amount and the parts of ``cost``, which do not count then.

    Raises:
        ValueError: A text cannot be written as UTF-8.
        OverflowError: A number is too large.
    """
    counts = astuple(usage)
    priced = (None, _NO_PARTS) if rates is not None else (cost.amount_usd, cost.parts)
    return _encode(
        (
            attempt,
            outcome,
            (*counts[1:5], *counts[6:]),
            *priced,
            cost.source,
            cost.service_tier,
            cost.estimated,
            cost.unknown,
            status,
            error_code,
            saved_usd,
            cached,
            cache_type,
            rates,
        )
    )


def join_rows(packed: Sequence[bytes]) -> bytes:
    """Rows, each of ``pack_shared`` and what follows it, as ``decode_rows`` reads them."""
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
    own = (
        row.id,
        row.request_id,
        microseconds(row.at),
        row.streamed,
        row.usage.input_uncached,
        row.usage.output_text,
        row.latency_seconds,
        row.time_to_first_token_seconds,
    )
    result = pack_result(
        row.attempt,
        row.outcome,
        row.usage,
        row.cost,
        row.status,
        row.error_code,
        row.saved_usd,
        row.cached,
        row.cache_type,
    )
    return shared + _encode(own) + result


def decode_rows(data: bytes) -> list[LedgerRow]:
    """The rows of ``join_rows`` or ``encode_rows``.

    Raises:
        msgspec.DecodeError: They are not ours to read.
    """
    try:
        return [_row(one) for one in _decode(data)]
    except (OverflowError, ArithmeticError) as error:
        raise msgspec.DecodeError("a time or an amount is out of range") from error


def _row(row: _Row) -> LedgerRow:
    shared, own, result = row.shared, row.own, row.result
    counts = result.usage
    usage = Usage(
        input_uncached=own.input_uncached,
        input_cached=counts.input_cached,
        cache_write_5m=counts.cache_write_5m,
        cache_write_1h=counts.cache_write_1h,
        audio_in=counts.audio_in,
        output_text=own.output_text,
        reasoning=counts.reasoning,
        audio_out=counts.audio_out,
        estimated=counts.estimated,
    )
    amount, parts = result.amount_usd, result.parts
    if result.rates is not None:
        amount, parts = price_text(result.rates, own.input_uncached, own.output_text)
    return LedgerRow(
        id=own.id,
        request_id=own.request_id,
        attempt=result.attempt,
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
        usage=usage,
        cost=Cost(
            amount_usd=amount,
            parts=parts,
            source=result.source,
            service_tier=result.service_tier,
            estimated=result.estimated,
            unknown=result.unknown,
        ),
        saved_usd=result.saved_usd,
        cached=result.cached,
        cache_type=result.cache_type,
        status=result.status,
        error_code=result.error_code,
        latency_seconds=own.latency_seconds,
        time_to_first_token_seconds=own.time_to_first_token_seconds,
        streamed=own.streamed,
        outcome=result.outcome,
    )
