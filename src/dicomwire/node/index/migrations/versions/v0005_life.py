"""Protected and rejected studies, their last use, and an index that answers for sizes and times."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from dicomwire.node.index.dialects import TEXT

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables and the index, which takes the place of a shorter one."""
    op.create_table(
        "protection",
        sa.Column("study_instance_uid", TEXT, nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", name="pk_protection"),
    )
    op.create_table(
        "rejection",
        sa.Column("sop_instance_uid", TEXT, nullable=False),
        sa.Column("series_instance_uid", TEXT, nullable=False),
        sa.Column("study_instance_uid", TEXT, nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("sop_instance_uid", name="pk_rejection"),
    )
    for name in ("series_instance_uid", "study_instance_uid"):
        op.create_index(f"ix_rejection_{name}", "rejection", [name])
    op.create_table(
        "study_use",
        sa.Column("study_instance_uid", TEXT, nullable=False),
        sa.Column("used", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", name="pk_study_use"),
    )
    op.create_index("ix_instance_series_received_size", "instance", ["series", "received", "size"])
    op.drop_index("ix_instance_series", "instance")


def downgrade() -> None:
    """Undo it."""
    op.create_index("ix_instance_series", "instance", ["series"])
    op.drop_index("ix_instance_series_received_size", "instance")
    for table in ("study_use", "rejection", "protection"):
        op.drop_table(table)
