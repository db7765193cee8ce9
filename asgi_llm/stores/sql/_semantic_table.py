"""The table of a semantic index in PostgreSQL, for vectors of one length."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import BYTEA, DOUBLE_PRECISION
from sqlalchemy.types import UserDefinedType

from asgi_llm.stores.semantic_index import MAX_ID_CHARACTERS, MAX_LABEL_CHARACTERS

if TYPE_CHECKING:
    from asgi_llm.embedders.base import Vector

__all__ = ["FORMAT", "MAX_EXACT_DIMENSION", "MAX_HNSW_DIMENSION", "hnsw_index", "semantic_table"]

FORMAT: Final = "asgi-llm semantic index 1"
"""The table's comment, by which a table of another version is known."""
MAX_HNSW_DIMENSION: Final = 2000
MAX_EXACT_DIMENSION: Final = 16_000
_MAX_PLAIN_DIMENSION: Final = 1024


class _VectorType(UserDefinedType[Any]):
    """pgvector's ``vector``, written as text; it is compared in the database, and never read."""

    cache_ok = True

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension

    def get_col_spec(self, **_options: Any) -> str:
        return f"vector({self.dimension})"

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[Vector | None], str | None]:
        def process(vector: Vector | None) -> str | None:
            return None if vector is None else str(vector.tolist())

        return process


def semantic_table(dimension: int) -> sa.Table:
    """The table for vectors of that length; each length has its own."""
    name = f"llm_semantic_{dimension}"
    label = sa.String(MAX_LABEL_CHARACTERS)
    table = sa.Table(
        name,
        sa.MetaData(),
        # By bytes, as ids are ordered everywhere else.
        sa.Column("id", sa.String(MAX_ID_CHARACTERS, collation="C"), primary_key=True),
        sa.Column("partition", BYTEA, nullable=False),
        sa.Column("embedding", _VectorType(dimension), nullable=False),
        # As bytes: text may hold what PostgreSQL's does not, NUL.
        sa.Column("text", BYTEA, nullable=False),
        sa.Column("payload", BYTEA, nullable=False),
        sa.Column("model", label, nullable=False),
        sa.Column("namespace", label, nullable=False),
        sa.Column("scope", label, nullable=False),
        sa.Column("created", DOUBLE_PRECISION, nullable=False),
        sa.Column("expires", DOUBLE_PRECISION, nullable=False),
        # None of these has an index, so that a hit leaves the indexes alone (a HOT update).
        sa.Column("uses", sa.BigInteger, nullable=False),
        sa.Column("last_used", DOUBLE_PRECISION, nullable=False),
        sa.Column("learning", BYTEA, nullable=False),
        sa.Column("learning_version", sa.BigInteger, nullable=False),
        sa.Index(f"ix_{name}_partition", "partition"),
        sa.Index(f"ix_{name}_expires", "expires"),
        comment=FORMAT,
        postgresql_with={"fillfactor": 80},
    )
    if dimension <= _MAX_PLAIN_DIMENSION:
        # In the row itself, where a scan finds them at once.
        sa.event.listen(
            table,
            "after_create",
            sa.DDL("ALTER TABLE %(fullname)s ALTER COLUMN embedding SET STORAGE PLAIN"),  # type: ignore[no-untyped-call]
        )
    return table


def hnsw_index(table: sa.Table) -> sa.Index:
    """The approximate index over the table's vectors, which is not among the table's own."""
    return sa.Index(
        f"ix_{table.name}_hnsw",
        table.c.embedding,
        postgresql_using="hnsw",
        postgresql_ops={"embedding": "vector_cosine_ops"},
        postgresql_with={"m": 16, "ef_construction": 128},
        _table=table,
    )
