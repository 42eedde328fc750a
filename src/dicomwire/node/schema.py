"""Tables of the node's index, four levels of the Query/Retrieve model (PS3.4 C.6.1.1).
Only tables live here: no engine, no query, no conversion of values."""

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
"""What the migrations build; a new revision is written against it."""


def _text(name: str) -> Column[str]:
    """A text column that is never NULL: an absent value and an empty one match alike."""
    return Column(name, String, nullable=False, default="", server_default="")


def _attributes() -> Column[object]:
    """The level's attributes in the DICOM JSON model (PS3.18 F), already Unicode."""
    return Column("attributes", JSON, nullable=False)


patient = Table(
    "patient",
    metadata,
    Column("id", Integer, primary_key=True),
    _text("patient_id"),
    _text("issuer_of_patient_id"),
    _text("patient_name"),
    # Folded for prefilters: casefold, component groups kept.
    _text("patient_name_key"),
    _text("patient_birth_date"),
    _text("patient_sex"),
    _attributes(),
    # They are a patient's key, unless the ID is empty: such a patient is that of one study.
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
    # Leads with the UID, so it is the UID's index as well; some use one UID in two studies.
    UniqueConstraint("series_instance_uid", "study"),
    Index(None, "modality"),
)

instance = Table(
    "instance",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("series", ForeignKey("series.id"), nullable=False, index=True),
    Column("sop_instance_uid", String, nullable=False),
    # 0 but for the further copies that the policy "keep-both" leaves.
    Column("copy", Integer, nullable=False, default=0, server_default="0"),
    _text("sop_class_uid"),
    _text("instance_number"),
    _text("transfer_syntax_uid"),
    _text("content_date"),
    # Below the node's folder, with "/": objects/ab/cd/<32 hex digits>.dcm
    Column("file", String, nullable=False),
    # Of the file in bytes.
    Column("size", Integer, nullable=False),
    # SHA-256 of the dataset as received and the transfer syntax UID after it, in hex.
    Column("digest", String, nullable=False),
    # UTC, ISO 8601.
    _text("received"),
    _attributes(),
    # Leads with the UID, so it is the UID's index as well.
    # There is none of the file: its name is random, and an index of random names is
    # one more page to write for each object.
    UniqueConstraint("sop_instance_uid", "copy"),
)
