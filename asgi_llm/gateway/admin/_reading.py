"""From the bytes of a management request to values, with every refusal naming its field."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, TypeVar, get_args
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET

from asgi_llm import _json
from asgi_llm.errors import ConfigurationError, InvalidRequestError
from asgi_llm.gateway.admin._bodies import ID_PATTERN, Body, BudgetBody, LimitBody
from asgi_llm.middleware._limit_rules import check_limit, parse_limit
from asgi_llm.stores.directory import Budget
from asgi_llm.stores.ledger_reports import Dimension
from asgi_llm.types import Limit
from asgi_llm.wire._explain import name_kind

__all__ = [
    "MAX_PAGE",
    "NO_CURSOR",
    "Listing",
    "convert_body",
    "fields_of",
    "is_id",
    "read_amount",
    "read_body",
    "read_query",
    "unprocessable",
]

B = TypeVar("B", bound=Body)

MAX_PAGE: Final = 200
DEFAULT_PAGE: Final = 50
MAX_EXPIRY: Final = datetime.timedelta(days=3653)
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 2999
NO_CURSOR: Final = "expected the next of an earlier answer"

_ID = re.compile(ID_PATTERN)
_CURSOR = re.compile(r"[\x21-\x7e]{1,200}")
_DIGITS = re.compile(r"[0-9]{1,4}")
_PLACE = re.compile(r"(.*) - at (`key` in )?`\$(.*)`\Z", re.DOTALL)
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*)`\Z", re.DOTALL)
_MISSING_FIELD = re.compile(r"Object missing required field `(\w+)`\Z")
_TIME = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d([.]\d{1,6})?)?(Z|[+-]\d\d:\d\d))?", re.ASCII)
_TAG = re.compile(r'[^"\\\x00-\x1f\x7f-\x9f]{1,200}')
_PLAIN = re.compile(r"[\w.-]{1,64}", re.ASCII)


def unprocessable(param: str, problem: str, code: str = "invalid_value") -> InvalidRequestError:
    """A 422 that names what it is about."""
    return InvalidRequestError(f"{param}: {problem}", param=param, code=code, status=422)


def is_id(text: str) -> bool:
    """Whether anything in a directory could have this id."""
    return _ID.match(text) is not None


def read_body(data: bytes, definition: type[B]) -> B:
    """The body of a request, or an empty one where nothing was sent.

    Raises:
        InvalidRequestError: 422: it is not JSON, or not what ``definition`` allows.
    """
    document: Any = {}
    if data:
        try:
            document = _json.decode(data)
        except InvalidRequestError as error:
            raise InvalidRequestError(error.message, code=error.code, status=422) from error
    if type(document) is not dict:
        raise InvalidRequestError(
            f"The body has to be a JSON object, got {name_kind(document)}.",
            code="invalid_type",
            status=422,
        )
    return convert_body(document, definition)


def convert_body(document: Mapping[str, Any], definition: type[B]) -> B:
    """The body that a JSON object is.

    Raises:
        InvalidRequestError: 422: it is not what ``definition`` allows.
    """
    try:
        return msgspec.convert(document, definition)
    except msgspec.ValidationError as error:
        raise _explain(str(error), definition) from error


def _explain(text: str, definition: type[Body]) -> InvalidRequestError:
    """What msgspec found, with the field first. No value that a client sent is repeated."""
    found = _PLACE.match(text)
    problem, path = (found[1], found[3].removeprefix(".")) if found else (text, "")
    if found and found[2]:
        path += "[...]"
    # What is in a map has no path of its own: its keys are the client's.
    param = path.partition("[...]")[0]
    if found := _UNKNOWN_FIELD.match(problem):
        # A name that is no plain word is a client's text like any other.
        field = found[1] if _PLAIN.fullmatch(found[1]) else "(another name)"
        return unprocessable(_join(param, field), "unknown field", "unknown_field")
    if found := _MISSING_FIELD.match(problem):
        return unprocessable(_join(param, found[1]), "required field is missing", "missing_field")
    if problem.startswith("Invalid enum value"):
        return unprocessable(param, f"expected one of {', '.join(_choices(definition, path))}")
    if problem.startswith("Expected `str` matching regex"):
        return unprocessable(param, f"expected {_meant(definition, path)}")
    problem = problem[:1].lower() + problem[1:].replace("`", "")
    code = "invalid_type" if ", got " in problem else "invalid_value"
    return unprocessable(param, problem, code)


def _join(param: str, field: str) -> str:
    return f"{param}.{field}" if param else field


def _nodes(definition: type[Body], param: str) -> list[msgspec.inspect.Type]:
    """The types that the definition has for the value at ``param``, alternatives side by side."""
    nodes: list[msgspec.inspect.Type] = [msgspec.inspect.type_info(definition)]
    for name, _index in re.findall(r"(\w+)|\[(\d+|\.\.\.)\]", param):
        inner: list[msgspec.inspect.Type] = []
        for node in _alternatives(nodes):
            match node:
                case msgspec.inspect.StructType() if name:
                    inner += [one.type for one in node.fields if one.encode_name == name]
                case msgspec.inspect.DictType():
                    inner += [node.key_type, node.value_type]
                case msgspec.inspect.VarTupleType() | msgspec.inspect.FrozenSetType() if not name:
                    inner.append(node.item_type)
        nodes = inner or nodes
    return nodes


def _alternatives(nodes: Sequence[msgspec.inspect.Type]) -> list[msgspec.inspect.Type]:
    found: list[msgspec.inspect.Type] = []
    for node in nodes:
        if isinstance(node, msgspec.inspect.Metadata):
            found += _alternatives([node.type])
        elif isinstance(node, msgspec.inspect.UnionType):
            found += _alternatives(node.types)
        else:
            found.append(node)
    return found


def _choices(definition: type[Body], param: str) -> list[str]:
    return [
        str(value)
        for node in _alternatives(_nodes(definition, param))
        if isinstance(node, msgspec.inspect.LiteralType)
        for value in node.values
    ]


def _meant(definition: type[Body], param: str) -> str:
    """What a text is to be, in the definition's own words."""
    words: list[str] = []
    pending = _nodes(definition, param)
    while pending:
        node = pending.pop(0)
        if isinstance(node, msgspec.inspect.Metadata):
            if node.extra and "is" in node.extra:
                words.append(node.extra["is"])
            pending.append(node.type)
        elif isinstance(node, msgspec.inspect.UnionType):
            pending.extend(node.types)
    return " or ".join(words) or "another text"


def fields_of(body: Body, now: datetime.datetime) -> dict[str, Any]:
    """The fields that a body sets, as the directory's structs have them.

    Raises:
        InvalidRequestError: 422: a limit, a budget or a time that no type can rule out.
    """
    fields = {
        name: value
        for name in body.__struct_fields__
        if (value := getattr(body, name)) is not UNSET
    }
    if "limits" in fields:
        fields["limits"] = _limits(fields["limits"])
    if "budgets" in fields:
        fields["budgets"] = _budgets(fields["budgets"])
    if fields.get("expires_at") is not None:
        fields["expires_at"] = _expiry(fields["expires_at"], now)
    return fields


def _limits(given: Sequence[LimitBody | str]) -> tuple[Limit, ...]:
    limits: dict[tuple[str, str, int], Limit] = {}
    for index, one in enumerate(given):
        place = f"limits[{index}]"
        try:
            if isinstance(one, str):
                limit = parse_limit(one)
            else:
                limit = check_limit(
                    Limit(**{name: getattr(one, name) for name in one.__struct_fields__})
                )
        except ConfigurationError as error:
            if not isinstance(one, str):
                place = f"{place}.{error.param}"
            raise unprocessable(place, error.message) from error
        if limits.setdefault((limit.scope, limit.unit, limit.window_seconds), limit) is not limit:
            raise unprocessable(place, "there is one for this scope, unit and window already")
    return tuple(limits.values())


def _budgets(given: Sequence[BudgetBody]) -> tuple[Budget, ...]:
    budgets: dict[str, Budget] = {}
    for index, one in enumerate(given):
        amount = read_amount(one.amount_usd)
        budget = Budget(amount_usd=amount, period=one.period, hard=one.hard)
        if budgets.setdefault(one.period, budget) is not budget:
            raise unprocessable(f"budgets[{index}]", "there is one for this period already")
    return tuple(budgets.values())


def read_amount(amount: str | float) -> str:
    """An amount of money in digits and a point alone."""
    if isinstance(amount, str):
        return amount
    return format(Decimal(repr(amount)).quantize(Decimal("1e-12")).normalize(), "f")


def _expiry(given: datetime.datetime, now: datetime.datetime) -> datetime.datetime:
    # The year first: near the last one a change of zone overflows.
    if given.year > _LAST_YEAR or given > now + MAX_EXPIRY:
        raise unprocessable("expires_at", f"it is more than {MAX_EXPIRY.days} days ahead")
    if given <= now:
        raise unprocessable("expires_at", "it is in the past")
    return given.astimezone(datetime.UTC)


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What a listing is asked for."""

    where: Mapping[str, Any]
    limit: int
    after: str | None


def read_query(query: bytes, filters: Mapping[str, str], *, paged: bool = True) -> Listing:
    """The query of a listing.

    Args:
        query: As in the scope.
        filters: Fields to filter by, and of what kind each is: ``id``, ``text``, ``flag``,
            ``time`` (a day or a time with its zone), ``tag`` (``NAME=VALUE``) or ``groups``.
        paged: Whether ``limit`` and ``after`` are known.

    Raises:
        InvalidRequestError: 422: a parameter that is not known, comes twice, or has a bad value.
    """
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=50
        )
    except ValueError as error:
        raise InvalidRequestError(
            "The query cannot be read.", code="invalid_query", status=422
        ) from error
    given: dict[str, str] = {}
    for name, value in pairs:
        if name not in filters and not (paged and name in ("limit", "after")):
            shown = name if _PLAIN.fullmatch(name) else "(another name)"
            raise unprocessable(shown, "unknown parameter", "unknown_parameter")
        if name in given:
            raise unprocessable(name, "given twice")
        given[name] = value
    limit, after = given.pop("limit", str(DEFAULT_PAGE)), given.pop("after", None)
    if not _DIGITS.fullmatch(limit) or not 1 <= int(limit) <= MAX_PAGE:
        raise unprocessable("limit", f"expected a number from 1 to {MAX_PAGE}")
    if after is not None and not _CURSOR.fullmatch(after):
        raise unprocessable("after", NO_CURSOR)
    where = {name: _filter(name, filters[name], value) for name, value in given.items()}
    return Listing(where=where, limit=int(limit), after=after)


def _filter(name: str, kind: str, value: str) -> Any:
    if kind == "flag":
        if value not in ("true", "false"):
            raise unprocessable(name, "expected true or false")
        return value == "true"
    if kind == "time":
        return _time(name, value)
    if kind == "groups":
        return _groups(name, value)
    if kind == "tag":
        return _tag(name, value)
    if kind == "id" and not is_id(value):
        raise unprocessable(name, "expected an id")
    if not value or len(value) > 200 or not value.isprintable():
        raise unprocessable(name, "expected a text of at most 200 characters")
    return value


def _time(name: str, value: str) -> datetime.date:
    """A day, or a time with its zone."""
    problem = "expected a day or a time with its zone, as in 2027-01-31 or 2027-01-31T00:00:00Z"
    if not _TIME.fullmatch(value):
        raise unprocessable(name, problem)
    try:
        found = (datetime.datetime if "T" in value else datetime.date).fromisoformat(value)
    except ValueError:
        raise unprocessable(name, problem) from None
    # Near the first year and the last one a change of zone overflows.
    if not _FIRST_YEAR <= found.year <= _LAST_YEAR:
        raise unprocessable(name, f"expected a year from {_FIRST_YEAR} to {_LAST_YEAR}")
    return found


def _groups(name: str, value: str) -> tuple[str, ...]:
    """What to tell apart, by commas; nothing where the text is empty."""
    known = get_args(Dimension)
    groups = tuple(part.strip() for part in value.split(",")) if value else ()
    if any(part not in known for part in groups):
        raise unprocessable(name, f"expected of {', '.join(known)}, by commas")
    if len(set(groups)) < len(groups) or {"day", "hour"} <= {*groups}:
        raise unprocessable(name, "expected each once, and day or hour")
    return groups


def _tag(name: str, value: str) -> dict[str, str]:
    tag, equals, wanted = value.partition("=")
    if not equals or not _TAG.fullmatch(tag) or len(wanted) > 1000 or not wanted.isprintable():
        raise unprocessable(name, "expected NAME=VALUE")
    return {tag: wanted}
