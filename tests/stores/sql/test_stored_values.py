"""Values that are out of their range are stored by nobody: not by us, and not past us."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from asgi_llm.stores.directory import Budget, Entity, Key, Organization
from asgi_llm.stores.sql._rows import TABLES, values_of
from asgi_llm.stores.sql.directory import SQLDirectory
from asgi_llm.types import Limit
from tests.stores.sql.members import at, digest, entry, key, organization, user


def limits(**fields: Any) -> dict[str, Any]:
    return {"limits": (Limit(**{"unit": "requests", "window_seconds": 60, "amount": 1, **fields}),)}


def budgets(amount: Any, **fields: Any) -> dict[str, Any]:
    return {"budgets": (Budget(**{"amount_usd": amount, "period": "day", **fields}),)}


NOT_NUMBERS: list[Any] = [-1, 1e309, float("nan"), 1.5, "1", True, None, 2**53, 10**400]
NOT_AMOUNTS: list[Any] = ["-1", "-0", "NaN", "Infinity", "1e309", "1E+2", "", ".5", "5.", "1,5"]
NOT_AMOUNTS += ["\u0661", " 1", "1\n", "0x1", "1_0", "1" * 13, 1, 1.0, None]
NOT_TEXT: list[Any] = ["a\0b", "\ud800", None, 5, b"name"]

REFUSED: list[dict[str, Any]] = [
    *(limits(amount=value) for value in NOT_NUMBERS),
    *(limits(window_seconds=value) for value in NOT_NUMBERS),
    *(limits(burst=value) for value in NOT_NUMBERS if value is not None),
    limits(unit="apples"),
    limits(scope="galaxy"),
    {"limits": ({"unit": "requests", "amount": 1},)},
    *(budgets(value) for value in NOT_AMOUNTS),
    budgets("1", period="fortnight"),
    budgets("1", hard="no"),
    {"budgets": ("1",)},
    *({"name": value} for value in [*NOT_TEXT, "", "x" * 201]),
    *({"id": value} for value in [*NOT_TEXT, "", "x" * 65]),
    {"tier": "x" * 65},
    {"tier": "a\0"},
    *({"metadata": {"a": value}} for value in [*NOT_TEXT, "x" * 1001]),
    {"metadata": {"a\0": "b"}},
    {"metadata": [("a", "b")]},
    {"active": None},
    {"active": 1},
    {"created_at": datetime.datetime(2026, 1, 1)},
    {"created_at": datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC)},
    {"created_at": "2026-01-01T00:00:00Z"},
]
REFUSED_OF_KEYS: list[dict[str, Any]] = [
    {"role": "root"},
    {"role": None},
    {"models": "gpt-4"},
    {"models": (1,)},
    {"models": ("a\0",)},
    {"scopes": frozenset({"\ud800"})},
    {"scopes": None},
    {"hint": "x" * 17},
    {"expires_at": datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC)},
    {"expires_at": datetime.datetime(3000, 1, 1, tzinfo=datetime.UTC)},
    {"expires_at": datetime.datetime(1969, 1, 1, tzinfo=datetime.UTC)},
    {"expires_at": datetime.datetime(2027, 1, 1)},
    {"expires_at": 1e309},
]


@pytest.mark.parametrize("fields", [*REFUSED, *REFUSED_OF_KEYS], ids=repr)
def test_b35_a_value_out_of_range_is_refused_by_its_name(fields: dict[str, Any]) -> None:
    """The message says which field it is, and does not repeat the value."""
    [field] = fields
    with pytest.raises(ValueError, match=f"^{field} must"):
        values_of(fields)


@pytest.mark.parametrize("fields", [limits(amount=-1), budgets("NaN"), {"name": ""}], ids=repr)
async def test_b35_a_refused_value_stores_nothing(
    directory: SQLDirectory, fields: dict[str, Any]
) -> None:
    """Neither a new member nor a change, and no audit entry."""
    await directory.add(organization("org"), entry("made"))
    await directory.add_key(key("key"), digest("key"), entry("made"))
    for work in (
        directory.add(organization("other", **{"name": "other", **fields}), entry()),
        directory.add_key(key("other", **{"name": "other", **fields}), digest("x"), entry()),
        directory.update(Organization, "org", fields, entry()),
        directory.update(Key, "key", fields, entry()),
    ):
        with pytest.raises(ValueError, match="must"):
            await work
    assert organization("org") == await directory.get(Organization, "org")
    assert key("key") == await directory.get(Key, "key")
    assert None is await directory.get(Organization, "other")
    log = await directory.audit_log(where={}, limit=9)
    assert ["made", "made"] == [one.action for one in log.items]


LIMIT = {"unit": "requests", "amount": 1, "window_seconds": 60, "scope": "caller", "burst": None}
PAST_US: list[dict[str, Any]] = [
    *(
        {"limits": [{**LIMIT, field: value}]}
        for field, values in (
            ("amount", [-1, 1.5, 1e300, "1", None]),
            ("window_seconds", [-1]),
            ("burst", [-1]),
        )
        for value in values
    ),
    {"limits": {}},
    *(
        {"budgets": [{"amount_usd": value, "period": "day", "hard": True}]}
        for value in ["-1", "NaN", "Infinity", "1e309", "", -1, 1, None]
    ),
    {"budgets": "5"},
    {"name": ""},
    {"created_at": datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC)},
    {"created_at": datetime.datetime(3000, 1, 1, tzinfo=datetime.UTC)},
    {"created_at": datetime.datetime(1969, 1, 1, tzinfo=datetime.UTC)},
]


async def store(engine: AsyncEngine, member: Entity, fields: dict[str, Any]) -> None:
    values = {**values_of(msgspec.structs.asdict(member)), **fields}
    async with engine.begin() as connection:
        await connection.execute(insert(TABLES[type(member)]).values(values))


async def test_b35_the_database_refuses_them_too(engine: AsyncEngine) -> None:
    """Whoever writes past us meets the same bounds, in each table."""
    cases: list[tuple[Entity, dict[str, Any]]] = [
        *((organization("x"), fields) for fields in PAST_US),
        *((key("x"), fields) for fields in PAST_US),
        (key("x"), {"role": "root"}),
        (user("x"), {"role": "root"}),
        (key("x"), {"expires_at": datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC)}),
    ]
    kept = []
    for member, fields in cases:
        try:
            await store(engine, member, fields)
        except DBAPIError:
            continue
        kept.append(fields)
        break
    assert [] == kept


async def test_what_json_cannot_say_is_no_json_to_the_database(engine: AsyncEngine) -> None:
    """NaN, Infinity and 1e309 as text of a JSON column."""
    await store(engine, organization("x"), {})
    kept = []
    for number in ("NaN", "Infinity", "-Infinity", "1e309", "1E309", "-1"):
        stored = (
            f'[{{"unit":"requests","amount":{number},"window_seconds":60,"scope":"caller",'
            '"burst":null}]'
        )
        try:
            async with engine.begin() as connection:
                await connection.exec_driver_sql(
                    f"UPDATE llm_organizations SET limits = '{stored}'"  # noqa: S608
                )
        except DBAPIError:
            continue
        kept.append(number)
    assert [] == kept


async def test_the_ends_of_the_ranges_are_stored(directory: SQLDirectory) -> None:
    """The largest and the smallest values come back as they were."""
    member = organization(
        "x" * 64,
        name="\u00fc" * 200,
        limits=(
            Limit(unit="tokens", amount=2**53 - 1, window_seconds=0, burst=0, scope="everyone"),
            Limit(unit="input_tokens", amount=0, window_seconds=86400, scope="key_and_model"),
        ),
        budgets=(
            Budget(amount_usd="9" * 12 + "." + "9" * 12, period="month", hard=False),
            Budget(amount_usd="0", period="week"),
        ),
        created_at=datetime.datetime(2999, 12, 31, 23, 59, 59, 999999, tzinfo=datetime.UTC),
    )
    await directory.add(member, entry())
    assert member == await directory.get(Organization, member.id)


async def test_times_of_other_zones_are_the_same_instant(directory: SQLDirectory) -> None:
    """They come back in UTC, and are ordered as instants."""
    zone = datetime.timezone(datetime.timedelta(hours=-7))
    await directory.add(organization("early", created_at=at(0).astimezone(zone)), entry())
    await directory.add(organization("late", created_at=at(1)), entry())
    found = await directory.get(Organization, "early")
    assert found is not None
    assert (at(0), datetime.UTC) == (found.created_at, found.created_at.tzinfo)
    page = await directory.list(Organization, where={}, limit=9)
    assert ["late", "early"] == [one.id for one in page.items]


@pytest.mark.parametrize(
    "fields",
    [{"actor": "a\0"}, {"action": None}, {"target": "x" * 201}, {"changes": {"a": "b\0"}}],
    ids=repr,
)
async def test_an_audit_entry_has_bounds_too(
    directory: SQLDirectory, fields: dict[str, Any]
) -> None:
    """A change whose entry cannot be stored is not made."""
    with pytest.raises(ValueError, match=f"^{next(iter(fields))} must"):
        await directory.add(organization("org"), entry(**fields))
    assert None is await directory.get(Organization, "org")
