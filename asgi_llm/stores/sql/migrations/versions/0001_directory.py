"""Organizations, teams, users, keys, credentials and the audit log."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_TIME = sa.DateTime(timezone=True)
_ROLES = "role IN ('admin', 'team_admin', 'member')"
_EXPIRES = "expires_at >= '1970-01-01' AND expires_at < '3000-01-01'"
_CREATED = "created_at >= '1970-01-01' AND created_at < '3000-01-01'"
_LIMITS = {
    "postgresql": """jsonb_typeof(limits) = 'array' AND NOT jsonb_path_exists(limits, '$[*] ? (!(
        @.amount.type() == "number" && @.amount >= 0 && @.amount <= 9007199254740991
        && @.amount.floor() == @.amount && @.window_seconds >= 0
        && (@.burst.type() == "null" || @.burst >= 0)))')""",
    "sqlite": """json_valid(limits) AND json_type(limits) = 'array'
        AND json(limits) NOT GLOB '*"amount":[^0-9]*'
        AND json(limits) NOT GLOB '*-*' AND json(limits) NOT GLOB '*[0-9][.eE]*'""",
}
_BUDGETS = {
    "postgresql": """jsonb_typeof(budgets) = 'array' AND NOT jsonb_path_exists(budgets, '$[*] ? (!(
        @.amount_usd.type() == "string"
        && @.amount_usd like_regex "^[0-9]{1,12}([.][0-9]{1,12})?$"))')""",
    "sqlite": """json_valid(budgets) AND json_type(budgets) = 'array'
        AND json(budgets) NOT GLOB '*"amount_usd":[^"]*'
        AND json(budgets) NOT GLOB '*"amount_usd":"[^0-9]*'
        AND json(budgets) NOT GLOB '*[0-9][^0-9."]*'""",
}
_WITHOUT_ORGANIZATION = sa.text("organization_id IS NULL")
_APPEND_ONLY = {
    "postgresql": (
        """CREATE FUNCTION llm_refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$""",
        """CREATE TRIGGER llm_audit_log_rows BEFORE UPDATE OR DELETE ON llm_audit_log
        FOR EACH ROW EXECUTE FUNCTION llm_refuse_audit_change()""",
        """CREATE TRIGGER llm_audit_log_all BEFORE TRUNCATE ON llm_audit_log
        FOR EACH STATEMENT EXECUTE FUNCTION llm_refuse_audit_change()""",
    ),
    "sqlite": (
        """CREATE TRIGGER llm_audit_log_update BEFORE UPDATE ON llm_audit_log
        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
        """CREATE TRIGGER llm_audit_log_delete BEFORE DELETE ON llm_audit_log
        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
        # REPLACE deletes without telling the trigger above, unless the connection asks for it.
        """CREATE TRIGGER llm_audit_log_replace BEFORE INSERT ON llm_audit_log
        WHEN EXISTS (SELECT 1 FROM llm_audit_log WHERE id = NEW.id)
        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
    ),
}


def _entity(table: str, *columns: sa.schema.SchemaItem) -> tuple[Any, ...]:
    """What the tables of all members share, and ``columns``."""
    dialect = op.get_bind().dialect.name
    return (
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("tier", sa.String(64)),
        sa.Column("limits", _JSON, nullable=False),
        sa.Column("budgets", _JSON, nullable=False),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        *columns,
        sa.PrimaryKeyConstraint("id", name=op.f("pk_" + table)),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name=op.f(f"ck_{table}_name")),
        sa.CheckConstraint(_CREATED, name=op.f(f"ck_{table}_created")),
        sa.CheckConstraint(_LIMITS[dialect], name=op.f(f"ck_{table}_limits")),
        sa.CheckConstraint(_BUDGETS[dialect], name=op.f(f"ck_{table}_budgets")),
    )


def _belongs(table: str, *columns: str) -> list[sa.schema.SchemaItem]:
    """Foreign keys to the parents that ``columns`` name, and to the same organization as theirs."""
    parents = {
        "organization_id": "llm_organizations",
        "team_id": "llm_teams",
        "user_id": "llm_users",
    }
    items: list[sa.schema.SchemaItem] = []
    for column in columns:
        parent = parents[column]
        items.append(
            sa.ForeignKeyConstraint([column], [parent + ".id"], name=op.f(f"fk_{table}_{column}"))
        )
        if column != "organization_id":
            items.append(
                sa.ForeignKeyConstraint(
                    [column, "organization_id"],
                    [parent + ".id", parent + ".organization_id"],
                    name=op.f(f"fk_{table}_{column}_organization_id"),
                )
            )
    return items


def _named_in_organization(table: str) -> list[sa.schema.SchemaItem]:
    return [
        sa.UniqueConstraint(
            "organization_id", "name", name=op.f(f"uq_{table}_organization_id_name")
        ),
        sa.UniqueConstraint("id", "organization_id", name=op.f(f"uq_{table}_id_organization_id")),
    ]


def _index(table: str, *columns: str) -> None:
    op.create_index(op.f("_".join(("ix", table, *columns))), table, list(columns))


def upgrade() -> None:
    op.create_table(
        "llm_organizations",
        *_entity("llm_organizations"),
        sa.UniqueConstraint("name", name=op.f("uq_llm_organizations_name")),
    )
    op.create_table(
        "llm_teams",
        *_entity(
            "llm_teams",
            sa.Column("organization_id", sa.String(64)),
            sa.Column("models", _JSON),
        ),
        *_belongs("llm_teams", "organization_id"),
        *_named_in_organization("llm_teams"),
    )
    op.create_table(
        "llm_users",
        *_entity(
            "llm_users",
            sa.Column("organization_id", sa.String(64)),
            sa.Column("team_id", sa.String(64)),
            sa.Column("role", sa.String(16), nullable=False),
        ),
        *_belongs("llm_users", "organization_id", "team_id"),
        *_named_in_organization("llm_users"),
        sa.CheckConstraint(_ROLES, name=op.f("ck_llm_users_role")),
    )
    op.create_table(
        "llm_keys",
        *_entity(
            "llm_keys",
            sa.Column("organization_id", sa.String(64)),
            sa.Column("team_id", sa.String(64)),
            sa.Column("user_id", sa.String(64)),
            sa.Column("role", sa.String(16), nullable=False),
            sa.Column("models", _JSON),
            sa.Column("scopes", _JSON, nullable=False),
            sa.Column("hint", sa.String(16), nullable=False),
            sa.Column("expires_at", _TIME),
            sa.Column("last_used_at", _TIME),
            sa.Column("revoked_at", _TIME),
        ),
        *_belongs("llm_keys", "organization_id", "team_id", "user_id"),
        sa.CheckConstraint(_ROLES, name=op.f("ck_llm_keys_role")),
        sa.CheckConstraint(_EXPIRES, name=op.f("ck_llm_keys_expires")),
    )
    op.create_table(
        "llm_credentials",
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_llm_credentials")),
        sa.ForeignKeyConstraint(
            ["key_id"], ["llm_keys.id"], name=op.f("fk_llm_credentials_key_id")
        ),
        sa.CheckConstraint("length(digest) = 32", name=op.f("ck_llm_credentials_digest")),
        sa.CheckConstraint(_EXPIRES, name=op.f("ck_llm_credentials_expires")),
    )
    op.create_table(
        "llm_audit_log",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("request_id", sa.String(200)),
        sa.Column("changes", _JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_llm_audit_log")),
        sqlite_autoincrement=True,
    )
    for table in ("llm_teams", "llm_users"):
        op.create_index(
            f"uq_{table}_name",
            table,
            ["name"],
            unique=True,
            sqlite_where=_WITHOUT_ORGANIZATION,
            postgresql_where=_WITHOUT_ORGANIZATION,
        )
    for table in ("llm_organizations", "llm_teams", "llm_users", "llm_keys"):
        _index(table, "created_at", "id")
    for table in ("llm_teams", "llm_users", "llm_keys"):
        _index(table, "organization_id", "created_at", "id")
    for table in ("llm_users", "llm_keys"):
        _index(table, "team_id", "created_at", "id")
    _index("llm_keys", "user_id", "created_at", "id")
    _index("llm_keys", "name")
    _index("llm_credentials", "key_id")
    _index("llm_audit_log", "at", "id")
    for column in ("actor", "action", "target"):
        _index("llm_audit_log", column, "at", "id")
    for statement in _APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    for table in (
        "llm_audit_log",
        "llm_credentials",
        "llm_keys",
        "llm_users",
        "llm_teams",
        "llm_organizations",
    ):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION llm_refuse_audit_change()")
