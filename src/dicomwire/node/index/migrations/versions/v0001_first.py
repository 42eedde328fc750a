"""The four levels: patient, study, series, instance."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=False, server_default="")


def _level(name: str, *columns: sa.schema.SchemaItem) -> None:
    op.create_table(
        name,
        sa.Column("id", sa.Integer(), nullable=False),
        *columns,
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=f"pk_{name}"),
    )


def _parent(table: str, name: str) -> list[sa.schema.SchemaItem]:
    return [
        sa.Column(name, sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint([name], [f"{name}.id"], name=f"fk_{table}_{name}"),
    ]


def _index(table: str, column: str) -> None:
    op.create_index(f"ix_{table}_{column}", table, [column])


def upgrade() -> None:
    """Make the tables."""
    _level(
        "patient",
        *map(_text, ("patient_id", "issuer_of_patient_id", "patient_name", "patient_name_key")),
        *map(_text, ("patient_birth_date", "patient_sex")),
    )
    op.create_index(
        "ix_patient_patient_id_issuer_of_patient_id",
        "patient",
        ["patient_id", "issuer_of_patient_id"],
    )
    _index("patient", "patient_name_key")
    _level(
        "study",
        *_parent("study", "patient"),
        sa.Column("study_instance_uid", sa.String(), nullable=False),
        *map(_text, ("study_date", "study_time", "accession_number", "study_id")),
        *map(_text, ("study_description", "referring_physician_name")),
        sa.UniqueConstraint("study_instance_uid", name="uq_study_study_instance_uid"),
    )
    for column in ("patient", "study_date", "accession_number"):
        _index("study", column)
    _level(
        "series",
        *_parent("series", "study"),
        sa.Column("series_instance_uid", sa.String(), nullable=False),
        *map(_text, ("modality", "series_number", "series_description", "body_part_examined")),
        _text("series_date"),
        sa.UniqueConstraint(
            "series_instance_uid", "study", name="uq_series_series_instance_uid_study"
        ),
    )
    for column in ("study", "modality"):
        _index("series", column)
    _level(
        "instance",
        *_parent("instance", "series"),
        sa.Column("sop_instance_uid", sa.String(), nullable=False),
        sa.Column("copy", sa.Integer(), nullable=False, server_default="0"),
        *map(_text, ("sop_class_uid", "instance_number", "transfer_syntax_uid", "content_date")),
        sa.Column("file", sa.String(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        _text("received"),
        sa.UniqueConstraint("sop_instance_uid", "copy", name="uq_instance_sop_instance_uid_copy"),
    )
    _index("instance", "series")


def downgrade() -> None:
    """Remove them."""
    for name in ("instance", "series", "study", "patient"):
        op.drop_table(name)
