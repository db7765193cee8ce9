"""The tables. Their names begin with ``llm_``, so that they can share a database with a host's own.

What JSON holds is checked by the code that writes it and, as far as SQL can, by the database.
"""

from __future__ import annotations

import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = [
    "AuditRow",
    "Base",
    "CredentialRow",
    "KeyRow",
    "OrganizationRow",
    "TeamRow",
    "UTCTime",
    "UserRow",
]


class UTCTime(TypeDecorator[datetime.datetime]):
    """An aware time in UTC. SQLite keeps no zone: there it is written in UTC and read as such."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self, value: datetime.datetime | None, dialect: Dialect
    ) -> datetime.datetime | None:
        return None if value is None else value.astimezone(datetime.UTC)

    def process_result_value(
        self, value: datetime.datetime | None, dialect: Dialect
    ) -> datetime.datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            return value.replace(tzinfo=datetime.UTC)
        return value.astimezone(datetime.UTC)


Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
# SQLite numbers rows by itself only in a column of exactly this type.
Serial = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """All tables of the package and nothing else."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def entity_checks() -> list[CheckConstraint]:
    """What holds for the columns that all members of the directory have.

    Limits hold whole numbers of at least 0 (no sign, point or exponent); amounts of budgets are
    decimal numbers without them. PostgreSQL says so in a path, SQLite in patterns over the JSON
    without its spaces.
    """
    return [
        CheckConstraint("length(name) BETWEEN 1 AND 200", name="name"),
        CheckConstraint("created_at >= '1970-01-01' AND created_at < '3000-01-01'", name="created"),
        CheckConstraint(
            """jsonb_typeof(limits) = 'array' AND NOT jsonb_path_exists(limits, '$[*] ? (!(
            @.amount.type() == "number" && @.amount >= 0 && @.amount <= 9007199254740991
            && @.amount.floor() == @.amount && @.window_seconds >= 0
            && (@.burst.type() == "null" || @.burst >= 0)))')""",
            name="limits",
        ).ddl_if(dialect="postgresql"),
        CheckConstraint(
            """jsonb_typeof(budgets) = 'array' AND NOT jsonb_path_exists(budgets, '$[*] ? (!(
            @.amount_usd.type() == "string"
            && @.amount_usd like_regex "^[0-9]{1,12}([.][0-9]{1,12})?$"))')""",
            name="budgets",
        ).ddl_if(dialect="postgresql"),
        CheckConstraint(
            """json_valid(limits) AND json_type(limits) = 'array'
            AND json(limits) NOT GLOB '*"amount":[^0-9]*'
            AND json(limits) NOT GLOB '*-*' AND json(limits) NOT GLOB '*[0-9][.eE]*'""",
            name="limits",
        ).ddl_if(dialect="sqlite"),
        CheckConstraint(
            """json_valid(budgets) AND json_type(budgets) = 'array'
            AND json(budgets) NOT GLOB '*"amount_usd":[^"]*'
            AND json(budgets) NOT GLOB '*"amount_usd":"[^0-9]*'
            AND json(budgets) NOT GLOB '*[0-9][^0-9."]*'""",
            name="budgets",
        ).ddl_if(dialect="sqlite"),
    ]


ROLES = "role IN ('admin', 'team_admin', 'member')"


class EntityColumns:
    """Columns of every member of the directory, as ``asgi_llm.stores.directory.Entity``."""

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    tier: Mapped[str | None] = mapped_column(String(64))
    limits: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    budgets: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    # ``metadata`` means the tables to SQLAlchemy.
    labels: Mapped[dict[str, str]] = mapped_column("metadata", Json)
    active: Mapped[bool]
    created_at: Mapped[datetime.datetime] = mapped_column(UTCTime)


class OrganizationRow(EntityColumns, Base):
    """A tenant."""

    __tablename__ = "llm_organizations"
    __table_args__ = (
        UniqueConstraint("name"),
        Index(None, "created_at", "id"),
        *entity_checks(),
    )


class TeamRow(EntityColumns, Base):
    """A part of an organization. Its name is its own there."""

    __tablename__ = "llm_teams"
    __table_args__ = (
        UniqueConstraint("organization_id", "name"),
        # To a unique constraint one NULL is not the other.
        Index(
            "uq_llm_teams_name",
            "name",
            unique=True,
            sqlite_where=text("organization_id IS NULL"),
            postgresql_where=text("organization_id IS NULL"),
        ),
        # What belongs to a team is held to the same organization by way of this.
        UniqueConstraint("id", "organization_id"),
        Index(None, "created_at", "id"),
        Index(None, "organization_id", "created_at", "id"),
        *entity_checks(),
    )

    organization_id: Mapped[str | None] = mapped_column(ForeignKey("llm_organizations.id"))
    models: Mapped[list[str] | None] = mapped_column(Json)


class UserRow(EntityColumns, Base):
    """A person, or a program that stands for one. Its name is its own in the organization."""

    __tablename__ = "llm_users"
    __table_args__ = (
        UniqueConstraint("organization_id", "name"),
        Index(
            "uq_llm_users_name",
            "name",
            unique=True,
            sqlite_where=text("organization_id IS NULL"),
            postgresql_where=text("organization_id IS NULL"),
        ),
        UniqueConstraint("id", "organization_id"),
        ForeignKeyConstraint(
            ["team_id", "organization_id"], ["llm_teams.id", "llm_teams.organization_id"]
        ),
        Index(None, "created_at", "id"),
        Index(None, "organization_id", "created_at", "id"),
        Index(None, "team_id", "created_at", "id"),
        CheckConstraint(ROLES, name="role"),
        *entity_checks(),
    )

    organization_id: Mapped[str | None] = mapped_column(ForeignKey("llm_organizations.id"))
    team_id: Mapped[str | None] = mapped_column(ForeignKey("llm_teams.id"))
    role: Mapped[str] = mapped_column(String(16))


class KeyRow(EntityColumns, Base):
    """A virtual key; what callers present is in ``CredentialRow``. Several may share a name."""

    __tablename__ = "llm_keys"
    __table_args__ = (
        ForeignKeyConstraint(
            ["team_id", "organization_id"], ["llm_teams.id", "llm_teams.organization_id"]
        ),
        ForeignKeyConstraint(
            ["user_id", "organization_id"], ["llm_users.id", "llm_users.organization_id"]
        ),
        Index(None, "name"),
        Index(None, "created_at", "id"),
        Index(None, "organization_id", "created_at", "id"),
        Index(None, "team_id", "created_at", "id"),
        Index(None, "user_id", "created_at", "id"),
        CheckConstraint(ROLES, name="role"),
        CheckConstraint("expires_at >= '1970-01-01' AND expires_at < '3000-01-01'", name="expires"),
        *entity_checks(),
    )

    organization_id: Mapped[str | None] = mapped_column(ForeignKey("llm_organizations.id"))
    team_id: Mapped[str | None] = mapped_column(ForeignKey("llm_teams.id"))
    user_id: Mapped[str | None] = mapped_column(ForeignKey("llm_users.id"))
    role: Mapped[str] = mapped_column(String(16))
    models: Mapped[list[str] | None] = mapped_column(Json)
    scopes: Mapped[list[str]] = mapped_column(Json)
    hint: Mapped[str] = mapped_column(String(16))
    expires_at: Mapped[datetime.datetime | None] = mapped_column(UTCTime)
    last_used_at: Mapped[datetime.datetime | None] = mapped_column(UTCTime)
    revoked_at: Mapped[datetime.datetime | None] = mapped_column(UTCTime)


class CredentialRow(Base):
    """One digest that opens a key. A key has two while a rotation's grace period lasts."""

    __tablename__ = "llm_credentials"
    __table_args__ = (
        CheckConstraint("length(digest) = 32", name="digest"),
        CheckConstraint("expires_at >= '1970-01-01' AND expires_at < '3000-01-01'", name="expires"),
        Index(None, "key_id"),
    )

    digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("llm_keys.id"))
    created_at: Mapped[datetime.datetime] = mapped_column(UTCTime)
    expires_at: Mapped[datetime.datetime | None] = mapped_column(UTCTime)


class AuditRow(Base):
    """One change and who made it. Triggers of the migrations refuse to edit or delete a row."""

    __tablename__ = "llm_audit_log"
    __table_args__ = (
        Index(None, "at", "id"),
        Index(None, "actor", "at", "id"),
        Index(None, "action", "at", "id"),
        Index(None, "target", "at", "id"),
        # No number is given twice, whatever happens to the rows.
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=True)
    at: Mapped[datetime.datetime] = mapped_column(UTCTime)
    actor: Mapped[str] = mapped_column(String(200))
    action: Mapped[str] = mapped_column(String(64))
    target: Mapped[str] = mapped_column(String(200))
    request_id: Mapped[str | None] = mapped_column(String(200))
    changes: Mapped[dict[str, Any]] = mapped_column(Json)
