"""The tables of the node's index: the four levels of the Query/Retrieve model (PS3.4 C.6.1.1).

`index` and `search` have the statements, `ingest` converts the values.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""The tables as the migrations make them; alembic compares a new revision with it."""


def _text(name: str) -> Column[str]:
    """A text column that is never NULL, since absent and empty values match in the same way."""
    return Column(name, String, nullable=False, default="", server_default="")


def _attributes() -> Column[object]:
    """The column of all attributes of a level in the DICOM JSON model (PS3.18 F), as Unicode."""
    return Column("attributes", JSON, nullable=False)


patient = Table(
    "patient",
    metadata,
    Column("id", Integer, primary_key=True),
    _text("patient_id"),
    _text("issuer_of_patient_id"),
    _text("patient_name"),
    # For prefilters; see `names.fold_name`.
    _text("patient_name_key"),
    _text("patient_birth_date"),
    _text("patient_sex"),
    _attributes(),
    # Both together identify a patient, unless the ID is empty: then each study has its own.
    Index(None, "patient_id", "issuer_of_patient_id"),
    Index(None, "patient_name_key"),
)

study = Table(
    "study",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("patient", ForeignKey("patient.id"), nullable=False, index=True),
    Column("study_instance_uid", String, nullable=False),
    _text("study_date"),
    _text("study_time"),
    _text("accession_number"),
    _text("study_id"),
    _text("study_description"),
    _text("referring_physician_name"),
    _attributes(),
    UniqueConstraint("study_instance_uid"),
    Index(None, "study_date"),
    Index(None, "accession_number"),
)

series = Table(
    "series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study", ForeignKey("study.id"), nullable=False, index=True),
    Column("series_instance_uid", String, nullable=False),
    _text("modality"),
    _text("series_number"),
    _text("series_description"),
    _text("body_part_examined"),
    _text("series_date"),
    _attributes(),
    # With the UID first, it also serves as the index of UIDs. Some programs use one UID in two
    # studies.
    UniqueConstraint("series_instance_uid", "study"),
    Index(None, "modality"),
)

instance = Table(
    "instance",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("series", ForeignKey("series.id"), nullable=False, index=True),
    Column("sop_instance_uid", String, nullable=False),
    # 0, except for the further copies that the policy "keep-both" stores.
    Column("copy", Integer, nullable=False, default=0, server_default="0"),
    _text("sop_class_uid"),
    _text("instance_number"),
    _text("transfer_syntax_uid"),
    _text("content_date"),
    # Its path relative to the node's folder, with "/": objects/ab/cd/<32 hex digits>.dcm
    Column("file", String, nullable=False),
    # The size of the file in bytes.
    Column("size", Integer, nullable=False),
    # SHA-256, in hex, of the dataset as received, followed by the transfer syntax UID.
    Column("digest", String, nullable=False),
    # The time of receipt: UTC, ISO 8601.
    _text("received"),
    _attributes(),
    # With the UID first, it also serves as the index of UIDs. "file" has no index: the names are
    # random, so that each object would write one more page.
    UniqueConstraint("sop_instance_uid", "copy"),
)
