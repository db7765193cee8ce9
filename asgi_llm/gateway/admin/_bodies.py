"""What the bodies of management requests may hold. Fields that are not named here are refused."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from asgi_llm.stores.directory import Entity, Key, Organization, Team, User
from asgi_llm.types import LimitScope, LimitUnit, Role

__all__ = [
    "CREATE_BODIES",
    "UPDATE_BODIES",
    "Body",
    "BudgetBody",
    "CreateKey",
    "CreateOrganization",
    "CreateTeam",
    "CreateUser",
    "ImportKey",
    "LimitBody",
    "NoBody",
    "RotateKey",
    "UpdateKey",
    "UpdateOrganization",
    "UpdateTeam",
    "UpdateUser",
]

# Not `$`, which lets a last newline pass.
_END: Final = r"(?![\s\S])"
ID_PATTERN: Final = r"^[0-9A-Za-z][0-9A-Za-z._:@|+=-]{0,63}" + _END
# No control characters, nor marks that turn the direction of what a terminal shows.
_CONTROLS = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"

Id = Annotated[
    str,
    Meta(
        pattern=ID_PATTERN,
        description="At most 64 letters, digits and . _ : @ | + = -",
        extra={"is": "an id of at most 64 letters, digits and . _ : @ | + = -"},
    ),
]
Name = Annotated[
    str,
    Meta(
        pattern=rf"^(?=[\s\S]*\S)[^{_CONTROLS}]{{1,200}}{_END}",
        description="What people call it; at most 200 characters.",
        extra={"is": "a name of 1 to 200 characters, none of them a control character"},
    ),
]
Tier = Annotated[
    str,
    Meta(
        pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,63}" + _END,
        description="Name of a tier of the rate limits.",
        extra={"is": "the name of a tier"},
    ),
]
ModelPattern = Annotated[
    str,
    Meta(
        pattern=r"^[\x21-\x7e]{1,256}" + _END,
        description="Name of a model, or a pattern such as openai/*.",
        extra={"is": "the name of a model, or a pattern such as openai/*"},
    ),
]
Scope = Annotated[
    str,
    Meta(
        pattern=r"^[0-9A-Za-z][0-9A-Za-z._:*/-]{0,63}" + _END,
        description="What else a key may do, by name.",
        extra={"is": "a scope of at most 64 letters, digits and . _ : * / -"},
    ),
]
LabelName = Annotated[
    str,
    Meta(
        pattern=rf"^[^{_CONTROLS}]{{1,64}}{_END}",
        extra={"is": "a label of 1 to 64 characters"},
    ),
]
LabelValue = Annotated[
    str,
    Meta(
        pattern=rf"^[^{_CONTROLS}]{{0,1024}}{_END}",
        extra={"is": "a text of at most 1024 characters"},
    ),
]
LimitText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=100,
        description="Such as 60 requests/minute.",
        examples=["60 requests/minute"],
    ),
]
Amount = Annotated[int, Meta(ge=0, le=1_000_000_000_000)]
Dollars: TypeAlias = (
    Annotated[
        str,
        Meta(
            pattern=r"^[0-9]{1,12}([.][0-9]{1,12})?" + _END,
            extra={"is": "an amount such as 100 or 99.50"},
        ),
    ]
    | Annotated[float, Meta(ge=0, le=999_999_999_999)]
)
# The zone has to be named, so that nobody's clock is meant by chance.
Time = Annotated[
    datetime.datetime,
    Meta(tz=True, description="With a zone, as in 2027-01-31T00:00:00Z; at most 10 years ahead."),
]
Grace = Annotated[int, Meta(ge=0, le=2_592_000)]


class Body(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body of a management request."""


class LimitBody(Body, frozen=True, kw_only=True):
    """So much of one unit in a window."""

    unit: LimitUnit
    amount: Amount
    window_seconds: Annotated[int, Meta(ge=0, le=2_678_400)] = 0
    scope: LimitScope = "caller"
    burst: Amount | None = None


class BudgetBody(Body, frozen=True, kw_only=True):
    """So much money in a period."""

    amount_usd: Dollars
    period: Literal["day", "week", "month", "total"]
    hard: bool = True


Limits = Annotated[tuple[LimitBody | LimitText, ...], Meta(max_length=50)]
Budgets = Annotated[tuple[BudgetBody, ...], Meta(max_length=4)]
Labels = Annotated[dict[LabelName, LabelValue], Meta(max_length=50)]
Models = Annotated[tuple[ModelPattern, ...], Meta(max_length=200)]
Scopes = Annotated[frozenset[Scope], Meta(max_length=50)]


class _Create(Body, frozen=True, kw_only=True):
    name: Name
    tier: Tier | None = None
    limits: Limits = ()
    budgets: Budgets = ()
    metadata: Labels = {}
    active: bool = True


class CreateOrganization(_Create, frozen=True, kw_only=True):
    """A new organization."""

    id: Id | None = None


class CreateTeam(_Create, frozen=True, kw_only=True):
    """A new team."""

    id: Id | None = None
    organization_id: Id | None = None
    models: Models | None = None


class CreateUser(_Create, frozen=True, kw_only=True):
    """A new user."""

    id: Id | None = None
    organization_id: Id | None = None
    team_id: Id | None = None
    role: Role = "member"


class CreateKey(_Create, frozen=True, kw_only=True):
    """A new key."""

    organization_id: Id | None = None
    team_id: Id | None = None
    user_id: Id | None = None
    role: Role = "member"
    models: Models | None = None
    scopes: Scopes = frozenset()
    expires_at: Time | None = None


class ImportKey(CreateKey, frozen=True, kw_only=True):
    """A key that exists already elsewhere."""

    key: Annotated[str, Meta(min_length=1, max_length=512)]


class RotateKey(Body, frozen=True, kw_only=True):
    """How to rotate a key."""

    grace_seconds: Annotated[
        Grace, Meta(description="How long the old credential works on; 0 ends it at once.")
    ] = 0


class NoBody(Body, frozen=True, kw_only=True):
    """Nothing to say."""


class _Update(Body, frozen=True, kw_only=True):
    name: Name | UnsetType = UNSET
    tier: Tier | UnsetType | None = UNSET
    limits: Limits | UnsetType = UNSET
    budgets: Budgets | UnsetType = UNSET
    metadata: Labels | UnsetType = UNSET
    active: bool | UnsetType = UNSET


class UpdateOrganization(_Update, frozen=True, kw_only=True):
    """Changes to an organization; what is left out stays."""


class UpdateTeam(_Update, frozen=True, kw_only=True):
    """Changes to a team; what is left out stays."""

    models: Models | UnsetType | None = UNSET


class UpdateUser(_Update, frozen=True, kw_only=True):
    """Changes to a user; what is left out stays."""

    team_id: Id | UnsetType | None = UNSET
    role: Role | UnsetType = UNSET


class UpdateKey(_Update, frozen=True, kw_only=True):
    """Changes to a key; what is left out stays."""

    role: Role | UnsetType = UNSET
    models: Models | UnsetType | None = UNSET
    scopes: Scopes | UnsetType = UNSET
    expires_at: Time | UnsetType | None = UNSET


CREATE_BODIES: Final[dict[type[Entity], type[Any]]] = {
    Organization: CreateOrganization,
    Team: CreateTeam,
    User: CreateUser,
    Key: CreateKey,
}
UPDATE_BODIES: Final[dict[type[Entity], type[Any]]] = {
    Organization: UpdateOrganization,
    Team: UpdateTeam,
    User: UpdateUser,
    Key: UpdateKey,
}
