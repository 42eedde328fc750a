"""The tasks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_HAS_KEY = sa.text("key <> ''")
_IS_OWNED = sa.text("owner <> ''")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=False, server_default="")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "task",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        _text("key"),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("due", sa.Float()),
        *map(_text, ("owner", "error")),
        sa.Column("created", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_task"),
    )
    op.create_index("ix_task_kind_due", "task", ["kind", "due"])
    for name, columns, where in (
        ("ix_task_kind_key", ["kind", "key"], _HAS_KEY),
        ("ix_task_owner", ["owner"], _IS_OWNED),
    ):
        op.create_index(name, "task", columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Remove it."""
    op.drop_table("task")
