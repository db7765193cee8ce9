"""What every database can hold: rows brought into that form, so that no row can block the others.

Nothing here is expected to change a row of an ordinary call. A row that is out of all bounds is
kept in the nearest form that can be stored, because the rows behind it wait for it.
"""

from __future__ import annotations

import datetime
import hashlib
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

import msgspec

from asgi_llm.stores.ledger import LedgerRow
from asgi_llm.types import Cost, PriceSource, Usage

__all__ = ["MAX_ID", "MAX_TEXT", "clean_row", "fit_id", "fit_row_id", "fit_text"]

MAX_ID: Final = 200
"""Characters of an id: what is longer keeps its beginning and gets a digest of the whole."""
MAX_TEXT: Final = 1000
_ROW_ID: Final = 64
_MOST_TAGS: Final = 64
_MOST_PARTS: Final = 64
_LARGEST_COUNT: Final = 10**12
_LARGEST_INTEGER: Final = 2**31 - 1
_EARLIEST: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_LATEST: Final = datetime.datetime(3000, 1, 1, tzinfo=datetime.UTC)
_MOST_DIGITS: Final = 200


def _is_clean(text: str) -> bool:
    """Whether it has neither NUL, which PostgreSQL knows not, nor surrogates, as UTF-8."""
    if text.isascii():
        return "\0" not in text
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def fit_text(text: str, longest: int = MAX_TEXT) -> str:
    """``text`` with what cannot be stored replaced by U+FFFD, cut to ``longest`` characters."""
    if not _is_clean(text):
        text = "".join(
            "\ufffd" if character == "\0" or "\ud800" <= character <= "\udfff" else character
            for character in text[:longest]
        )
    return text[:longest]


def fit_id(text: str | None) -> str | None:
    """An id that can be stored, and is another for every other text; None where there is none."""
    if not text:
        return None
    if len(text) <= MAX_ID and _is_clean(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{fit_text(text, MAX_ID - 1 - len(digest))}~{digest}"


def fit_row_id(text: str) -> str:
    """A row's id that can be stored: itself up to 64 characters, else its digest."""
    if 0 < len(text) <= _ROW_ID and _is_clean(text):
        return text
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _text(text: str | None, longest: int = MAX_TEXT) -> str | None:
    return None if text is None else fit_text(text, longest)


def _count(number: int) -> int:
    return min(max(number, 0), _LARGEST_COUNT)


def _seconds(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _amount(amount: Decimal | None) -> Decimal | None:
    """None for what is no amount of money: not finite, or of absurdly many digits."""
    if amount is None or not amount.is_finite():
        return None
    _, digits, exponent = amount.as_tuple()
    if len(digits) + abs(int(exponent)) > _MOST_DIGITS:
        return None
    return amount


def _usage(usage: Usage) -> Usage:
    counts = {
        field: _count(getattr(usage, field))
        for field in usage.__struct_fields__
        if field != "estimated"
    }
    return Usage(**counts, estimated=bool(usage.estimated))


def _cost(cost: Cost) -> Cost:
    amount = _amount(cost.amount_usd)
    unknown = _text(cost.unknown)
    if amount is None and unknown is None:
        unknown = "not_a_number"
    parts = {
        fit_text(name, MAX_ID): part
        for name, part in list(cost.parts.items())[:_MOST_PARTS]
        if _amount(part) is not None
    }
    source = cost.source and PriceSource(
        table=fit_text(cost.source.table),
        version=fit_text(cost.source.version),
        row=fit_text(cost.source.row),
        effective=cost.source.effective,
    )
    return Cost(
        amount_usd=amount,
        parts=parts,
        source=source,
        service_tier=_text(cost.service_tier),
        estimated=bool(cost.estimated),
        unknown=None if amount is not None else unknown,
    )


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {
        fit_text(str(name), MAX_ID): fit_text(str(value))
        for name, value in list(tags.items())[:_MOST_TAGS]
    }


def _time(at: datetime.datetime) -> datetime.datetime:
    aware = at if at.tzinfo is not None else at.replace(tzinfo=datetime.UTC)
    return min(max(aware, _EARLIEST), _LATEST - datetime.timedelta(seconds=1)).astimezone(
        datetime.UTC
    )


def clean_row(row: LedgerRow) -> LedgerRow:
    """``row`` in a form that any store can keep; the same for the same row, so still one row.

    Texts lose NUL and lone surrogates and are cut at 1,000 characters; ids and models above 200
    characters (the row's own id: 64) become their digest; counts lie between 0 and 10**12; an
    amount that is no number is an unknown one.
    """
    return msgspec.structs.replace(
        row,
        id=fit_row_id(row.id),
        request_id=fit_id(row.request_id) or "",
        attempt=min(max(row.attempt, 0), _LARGEST_INTEGER),
        at=_time(row.at),
        operation=fit_text(row.operation, MAX_ID),
        key_id=fit_id(row.key_id),
        user_id=fit_id(row.user_id),
        team_id=fit_id(row.team_id),
        organization_id=fit_id(row.organization_id),
        tags=_tags(row.tags),
        # Where there is no other model, the sums are kept by it.
        requested_model=fit_id(row.requested_model) or "",
        model=fit_id(row.model),
        provider=fit_id(row.provider),
        deployment=_text(row.deployment),
        usage=_usage(row.usage),
        cost=_cost(row.cost),
        saved_usd=_amount(row.saved_usd),
        cache_type=_text(row.cache_type, MAX_ID),
        status=None if row.status is None else min(max(row.status, 0), _LARGEST_INTEGER),
        error_code=_text(row.error_code, MAX_ID),
        latency_seconds=_seconds(row.latency_seconds),
        time_to_first_token_seconds=_seconds(row.time_to_first_token_seconds),
    )
