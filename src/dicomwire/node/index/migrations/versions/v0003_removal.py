"""The highest id of an instance before some were removed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table, with its only row."""
    removal = op.create_table("removal", sa.Column("last_id", sa.Integer(), nullable=False))
    op.bulk_insert(removal, [{"last_id": 0}])


def downgrade() -> None:
    """Remove it."""
    op.drop_table("removal")
