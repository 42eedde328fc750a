"""The tables of the node's index.

The four levels of the Query/Retrieve model (PS3.4 C.6.1.1): `writer`, `reader` and `search` have
the statements, `ingest` converts the values. The tasks and the running nodes: see
`node.tasks` and `node.nodes`.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)

from dicomwire.node.index.dialects import ATTRIBUTES, NUMBER, TEXT

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""The tables as the migrations make them; alembic compares a new revision with it."""
REVISION = "0006"
"""The last migration: tables of this revision are as `metadata` has them."""
VERSION_TABLE = "alembic_version"
"""Where alembic notes the revision of the tables."""

_HAS_KEY = text("key <> ''")
_IS_OWNED = text("owner <> ''")
"""Conditions of indexes: most tasks have no key, and no process that runs them."""


def _text(name: str) -> Column[str]:
    """A text column that is never NULL, since absent and empty values match in the same way."""
    return Column(name, TEXT, nullable=False, default="", server_default="")


def _attributes() -> Column[object]:
    """The column of all attributes of a level in the DICOM JSON model (PS3.18 F), as Unicode."""
    return Column("attributes", ATTRIBUTES, nullable=False)


patient = Table(
    "patient",
    metadata,
    Column("id", NUMBER, primary_key=True),
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
    Column("id", NUMBER, primary_key=True),
    Column("patient", ForeignKey("patient.id"), nullable=False, index=True),
    Column("study_instance_uid", TEXT, nullable=False),
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
    Column("id", NUMBER, primary_key=True),
    Column("study", ForeignKey("study.id"), nullable=False, index=True),
    Column("series_instance_uid", TEXT, nullable=False),
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
    Column("id", NUMBER, primary_key=True),
    Column("series", ForeignKey("series.id"), nullable=False),
    Column("sop_instance_uid", TEXT, nullable=False),
    # 0, except for the further copies that the policy "keep-both" stores.
    Column("copy", Integer, nullable=False, default=0, server_default="0"),
    _text("sop_class_uid"),
    _text("instance_number"),
    _text("transfer_syntax_uid"),
    _text("content_date"),
    # Its path relative to the node's folder, with "/": objects/ab/cd/<32 hex digits>.dcm
    Column("file", TEXT, nullable=False),
    # The size of the file in bytes.
    Column("size", NUMBER, nullable=False),
    # SHA-256, in hex, of the dataset as received, followed by the transfer syntax UID.
    Column("digest", TEXT, nullable=False),
    # The time of receipt: UTC, ISO 8601.
    _text("received"),
    _attributes(),
    # With the UID first, it also serves as the index of UIDs. "file" has no index: the names are
    # random, so that each object would write one more page.
    UniqueConstraint("sop_instance_uid", "copy"),
    # All that is added up for many instances: rows are wide, so that to read them takes long.
    Index(None, "series", "received", "size"),
)

protection = Table(
    "protection",
    metadata,
    # A study that is deleted only if that is asked for explicitly.
    Column("study_instance_uid", TEXT, primary_key=True),
    # Seconds since 1970.
    Column("created", Float, nullable=False),
)

rejection = Table(
    "rejection",
    metadata,
    # An instance that was deleted, and is not stored again.
    Column("sop_instance_uid", TEXT, primary_key=True),
    Column("series_instance_uid", TEXT, nullable=False, index=True),
    Column("study_instance_uid", TEXT, nullable=False, index=True),
    # Seconds since 1970.
    Column("created", Float, nullable=False),
)

study_use = Table(
    "study_use",
    metadata,
    # When a study was retrieved last; it has no row before that. Seconds since 1970.
    Column("study_instance_uid", TEXT, primary_key=True),
    Column("used", Float, nullable=False),
)

removal = Table(
    "removal",
    metadata,
    # One row, for SQLite: the highest id of an instance before the last removal of instances. So
    # the numbers of batches (see `Writer.number`) never go back, and other processes notice a
    # removal (see `Sqlite.note_change`).
    Column("last_id", Integer, nullable=False),
)

task = Table(
    "task",
    metadata,
    # SQLite gives numbers by itself only to an INTEGER, which has 64 bits there.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("kind", String, nullable=False),
    # Tasks of one kind and key are run in order; "" is no key.
    _text("key"),
    Column("payload", JSON, nullable=False),
    Column("attempts", Integer, nullable=False, default=0, server_default="0"),
    # All times are in seconds since 1970. When it may be taken: for a running task, the end of
    # the lease. NULL: it is dead.
    Column("due", Float),
    # The id of the process that runs it.
    _text("owner"),
    # Why it failed last.
    _text("error"),
    Column("created", Float, nullable=False),
    Index(None, "kind", "due"),
    Index(None, "kind", "key", sqlite_where=_HAS_KEY, postgresql_where=_HAS_KEY),
    Index(None, "owner", sqlite_where=_IS_OWNED, postgresql_where=_IS_OWNED),
)

node = Table(
    "node",
    metadata,
    # A random name of the process.
    Column("id", String, primary_key=True),
    Column("host", String, nullable=False),
    Column("pid", Integer, nullable=False),
    # Where it listens.
    Column("address", String, nullable=False),
    Column("port", Integer, nullable=False),
    Column("ae_title", String, nullable=False),
    Column("version", String, nullable=False),
    # Seconds since 1970.
    Column("started", Float, nullable=False),
    Column("heartbeat", Float, nullable=False),
    # "serving" or "stopping".
    Column("state", String, nullable=False),
    # What it tells of itself; see `status`.
    Column("facts", JSON, nullable=False),
)
