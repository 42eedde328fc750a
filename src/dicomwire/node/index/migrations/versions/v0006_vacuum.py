"""How soon PostgreSQL vacuums the table of instances."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_SETTINGS = {
    # A query that counts the instances of studies reads the index alone only where a vacuum has
    # noted that all see these rows; for others it reads the wide rows, 50 of a usual study. By
    # default the server waits until a fifth of a table is new: those of last year.
    "autovacuum_vacuum_insert_scale_factor": "0",
    # It looks once a minute. A vacuum reads the new rows only, as long as none was removed.
    "autovacuum_vacuum_insert_threshold": "5000",
}


def upgrade() -> None:
    """Let it do that after some thousand new rows."""
    if op.get_bind().dialect.name == "postgresql":
        settings = ", ".join(f"{name} = {value}" for name, value in _SETTINGS.items())
        op.execute(f"ALTER TABLE instance SET ({settings})")


def downgrade() -> None:
    """Return to the server's defaults."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"ALTER TABLE instance RESET ({', '.join(_SETTINGS)})")
