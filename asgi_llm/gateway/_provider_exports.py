"""What providers say that was used: their exports of usage and costs, by day and model.

Sources, as of 2026-08: OpenAI, API reference, "Usage" and "Costs", and the CSV of its usage page;
Anthropic, Admin API, "Get Messages Usage Report" and "Get Cost Report", and the CSV of its console.
"""

from __future__ import annotations

import csv
import datetime
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NoReturn

import msgspec

__all__ = ["FIELDS", "FORMATS", "ExportError", "ExportLine", "read_export"]

FIELDS: Final = ("day", "model", "requests", "input_tokens", "output_tokens", "cost_usd")
"""What a line has, and a column can be named for."""

FORMATS: Final = ("openai", "anthropic", "columns")

_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.]\d{1,9})?)?( ?(UTC|Z|[+-]\d\d:?\d\d))?)?", re.ASCII
)
_UNIX: Final = re.compile(r"\d{9,10}([.]0+)?", re.ASCII)
_NUMBER: Final = re.compile(r"-?\$?(\d+|\d{1,3}(,\d{3})+)([.]\d+)?([eE]-?\d{1,2})?", re.ASCII)
_MOST_DIGITS: Final = 60


class ExportError(Exception):
    """An export that cannot be read; the message says where."""


class ExportLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an export; None is what it does not say."""

    day: datetime.date
    """In UTC."""
    model: str | None = None
    requests: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: Decimal | None = None


def read_export(
    data: bytes, *, format: str, columns: Mapping[str, Sequence[str]] | None = None
) -> list[ExportLine]:
    """The lines of an export.

    Args:
        data: JSON or CSV, in UTF-8.
        format: ``openai``, ``anthropic``, or ``columns`` for any CSV.
        columns: For ``columns``: the columns of each of ``FIELDS``; several are added up.

    Raises:
        ExportError: It is something else, or holds nonsense; the message says where.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ExportError(f"byte {error.start}: this is not UTF-8 text") from None
    if not text.strip():
        raise ExportError("the file is empty")
    if format == "columns":
        return list(_read_csv(text, [columns or {}]))
    if text.lstrip()[0] in "{[":
        return list(_read_json(data, _JSON_RESULTS[format]))
    return list(_read_csv(text, _CSV_LAYOUTS[format]))


# CSV

_CSV_LAYOUTS: Final[dict[str, list[Mapping[str, Sequence[str]]]]] = {
    "openai": [
        {
            "day": ("start_time",),
            "model": ("model",),
            "requests": ("num_model_requests",),
            "input_tokens": ("input_tokens",),
            "output_tokens": ("output_tokens",),
        },
        {
            "day": ("start_time",),
            "model": ("model",),
            "requests": ("num_model_requests",),
            "input_tokens": ("input_tokens",),
        },
        {
            "day": ("start_time",),
            "model": ("line_item",),
            "cost_usd": ("amount_value",),
        },
    ],
    "anthropic": [
        {
            "day": ("usage_date_utc",),
            "model": ("model_version",),
            "input_tokens": (
                "usage_input_tokens_no_cache",
                "usage_input_tokens_cache_write_5m",
                "usage_input_tokens_cache_write_1h",
                "usage_input_tokens_cache_read",
            ),
            "output_tokens": ("usage_output_tokens",),
        },
        {"day": ("usage_date_utc",), "model": ("model",), "cost_usd": ("cost_usd",)},
    ],
}
"""Ways in which a file may be laid out; the first whose columns are all there counts."""
_CURRENCIES: Final = ("amount_currency", "currency")


def _read_csv(text: str, layouts: Sequence[Mapping[str, Sequence[str]]]) -> Iterator[ExportLine]:
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        heads = [head.strip() for head in next(reader)]
        layout = _fitting(heads, layouts)
        places = {field: [heads.index(name) for name in names] for field, names in layout.items()}
        currency = next((heads.index(name) for name in _CURRENCIES if name in heads), None)
        for row in reader:
            if len(row) not in (0, len(heads)):
                raise ExportError(
                    f"line {reader.line_num}: {len(row)} columns, where the first line has "
                    f"{len(heads)}"
                )
            line = _csv_line(row, heads, places, currency, reader.line_num)
            if line is not None:
                yield line
    except csv.Error as error:
        raise ExportError(f"line {reader.line_num}: {error}") from None


def _fitting(
    heads: Sequence[str], layouts: Sequence[Mapping[str, Sequence[str]]]
) -> Mapping[str, Sequence[str]]:
    missing: list[str] = []
    for layout in layouts:
        missing = [name for names in layout.values() for name in names if name not in heads]
        if not missing:
            return layout
    shown = ", ".join(heads[:30])
    wanted = " or ".join(
        ", ".join(name for names in layout.values() for name in names) for layout in layouts
    )
    if len(layouts) == 1:
        raise ExportError(f"line 1: there is no column {missing[0]}, but {shown}")
    raise ExportError(f"line 1: expected the columns {wanted}; there are {shown}")


def _csv_line(
    row: Sequence[str],
    heads: Sequence[str],
    places: Mapping[str, Sequence[int]],
    currency: int | None,
    number: int,
) -> ExportLine | None:
    """One line; None for one that says nothing but its day."""

    def fail(index: int, problem: str) -> NoReturn:
        shown = row[index][:40]
        raise ExportError(f"line {number}, column {heads[index]}: {problem}, got {shown!r}")

    measured = [index for field in FIELDS[2:] for index in places.get(field, ())]
    if not row or all(not row[index].strip() for index in measured):
        return None
    values: dict[str, Any] = {}
    for field, indices in places.items():
        if field == "day":
            values["day"] = _day(row[indices[0]].strip(), _failing(fail, indices[0]))
        elif field == "model":
            values["model"] = _model(row[indices[0]])
        else:
            values[field] = _sum(
                [
                    _number(row[index].strip() or "0", field, _failing(fail, index))
                    for index in indices
                ],
                field,
            )
    if "cost_usd" in values and currency is not None:
        word = row[currency].strip()
        if word and word.upper() != "USD":
            fail(currency, "expected USD")
    return ExportLine(**values)


def _failing(fail: Callable[[int, str], NoReturn], index: int) -> Callable[[str], NoReturn]:
    return lambda problem: fail(index, problem)


def _model(text: str) -> str | None:
    """A model, of a line item such as ``gpt-4o-2024-08-06, input`` too."""
    return text.partition(",")[0].strip() or None


def _day(text: str, fail: Callable[[str], NoReturn]) -> datetime.date:
    """A day in UTC, of a day, a time or Unix seconds; a time without a zone is in UTC."""
    try:
        if _UNIX.fullmatch(text):
            return datetime.datetime.fromtimestamp(float(text), datetime.UTC).date()
        if _TIME.fullmatch(text):
            text = text.removesuffix("UTC").strip()
            at = datetime.datetime.fromisoformat(text)
            if 1970 <= at.year < 3000:
                zone = at.tzinfo or datetime.UTC
                return at.replace(tzinfo=zone).astimezone(datetime.UTC).date()
    except ValueError:
        pass
    fail("expected a day, as in 2027-01-31, or a time")


def _number(text: str, field: str, fail: Callable[[str], NoReturn]) -> Decimal:
    if not _NUMBER.fullmatch(text) or len(text) > _MOST_DIGITS:
        fail("expected a number")
    number = Decimal(text.replace("$", "").replace(",", ""))
    if field != "cost_usd" and (number < 0 or number != number.to_integral_value()):
        fail("expected a whole number of at least 0")
    return number


def _sum(numbers: Iterable[Decimal], field: str) -> Decimal | int:
    total = sum(numbers, Decimal(0))
    return total if field == "cost_usd" else int(total)


# JSON


def _read_json(
    data: bytes, results: Callable[[Any, _At], Iterator[_Found]]
) -> Iterator[ExportLine]:
    try:
        document = msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, RecursionError) as error:
        raise ExportError(f"this is not JSON: {error}") from None
    for bucket, at in _buckets(document, _At("")):
        found = bucket.get("results")
        if not isinstance(found, list):
            at["results"].fail("expected a list", found)
        start = next((name for name in ("start_time", "starting_at") if name in bucket), None)
        if start is None:
            at.fail("expected a bucket with start_time or starting_at", sorted(bucket)[:5])
        day = _day(str(bucket[start]), _with_value(at[start], bucket[start]))
        for index, result in enumerate(found):
            place = at["results"][index]
            if not isinstance(result, dict):
                place.fail("expected an object", result)
            for fields in results(result, place):
                yield ExportLine(day=day, **fields)


class _At(str):
    """A place in a document, as ``data[0].results[1]``."""

    def __getitem__(self, step: Any) -> _At:
        if isinstance(step, int):
            return _At(f"{self}[{step}]")
        return _At(f"{self}.{step}" if self else step)

    def fail(self, problem: str, value: object) -> NoReturn:
        raise ExportError(f"{self or 'the document'}: {problem}, got {str(value)[:40]!r}")


_Found = dict[str, Any]


def _with_value(at: _At, value: object) -> Callable[[str], NoReturn]:
    return lambda problem: at.fail(problem, value)


def _buckets(document: Any, at: _At) -> Iterator[tuple[dict[str, Any], _At]]:
    """The buckets of a page, of a list of pages, or of a list of buckets."""
    if isinstance(document, list):
        for index, one in enumerate(document):
            yield from _buckets(one, at[index])
    elif isinstance(document, dict) and "data" in document:
        yield from _buckets(document["data"], at["data"])
    elif isinstance(document, dict):
        yield document, at
    else:
        at.fail("expected a page of buckets", document)


def _field(result: Mapping[str, Any], name: str, field: str, at: _At) -> Decimal:
    value = result.get(name)
    if value is None:
        return Decimal(0)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        at[name].fail("expected a number", value)
    text = repr(value) if isinstance(value, float) else str(value)
    return _number(text, field, _with_value(at[name], value))


def _word(result: Mapping[str, Any], name: str, at: _At) -> str | None:
    value = result.get(name)
    if value is not None and not isinstance(value, str):
        at[name].fail("expected a text", value)
    return _model(value) if value else None


def _openai(result: Mapping[str, Any], at: _At) -> Iterator[_Found]:
    """A result of ``/organization/usage/...`` or of ``/organization/costs``."""
    amount = result.get("amount")
    if amount is not None:
        if not isinstance(amount, dict):
            at["amount"].fail("expected an object", amount)
        if str(amount.get("currency", "usd")).upper() != "USD":
            at["amount"]["currency"].fail("expected usd", amount["currency"])
        cost = _field(amount, "value", "cost_usd", at["amount"])
        yield {"model": _word(result, "line_item", at), "cost_usd": cost}
    elif "num_model_requests" in result:
        yield {
            "model": _word(result, "model", at),
            "requests": int(_field(result, "num_model_requests", "requests", at)),
            "input_tokens": int(_field(result, "input_tokens", "input_tokens", at)),
            "output_tokens": int(_field(result, "output_tokens", "output_tokens", at)),
        }
    elif not str(result.get("object", "")).startswith("organization.usage."):
        at.fail("expected amount or num_model_requests", sorted(result)[:5])


_INPUTS: Final = ("uncached_input_tokens", "cache_read_input_tokens")
_WRITES: Final = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")


def _anthropic(result: Mapping[str, Any], at: _At) -> Iterator[_Found]:
    """A result of the messages usage report, or of the cost report, whose amounts are in cents."""
    if "amount" in result:
        if str(result.get("currency") or "USD").upper() != "USD":
            at["currency"].fail("expected USD", result["currency"])
        cents = _field(result, "amount", "cost_usd", at)
        yield {"model": _word(result, "model", at), "cost_usd": cents.scaleb(-2)}
    elif "uncached_input_tokens" in result:
        writes = result.get("cache_creation") or {}
        if not isinstance(writes, dict):
            at["cache_creation"].fail("expected an object", writes)
        counts = [_field(result, name, "input_tokens", at) for name in _INPUTS]
        inner = at["cache_creation"]
        counts += [_field(writes, name, "input_tokens", inner) for name in _WRITES]
        yield {
            "model": _word(result, "model", at),
            "input_tokens": int(sum(counts)),
            "output_tokens": int(_field(result, "output_tokens", "output_tokens", at)),
        }
    else:
        at.fail("expected amount or uncached_input_tokens", sorted(result)[:5])


_JSON_RESULTS: Final[dict[str, Callable[[Any, _At], Iterator[_Found]]]] = {
    "openai": _openai,
    "anthropic": _anthropic,
}
