"""The script that alembic executes to run the migrations.

`index` passes a connection; a developer names a database in the configuration.

``alembic -c src/dicomwire/node/index/migrations/alembic.ini revision --autogenerate -m "…"`` makes
the next migration; it needs a database with all earlier ones. `schema.REVISION` names the last one.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, create_engine

from dicomwire.node.index.schema import metadata


def _migrate(connection: Connection) -> None:
    # SQLite cannot alter most columns; alembic's "batch" mode makes the tables again instead.
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    _migrate(given)
else:
    url = context.config.get_main_option("sqlalchemy.url")
    assert url is not None, "set sqlalchemy.url"
    with create_engine(url).connect() as connection:
        _migrate(connection)
