"""What alembic runs: the migrations, on the connection that `index` or a developer gives it.

``alembic -c src/dicomwire/node/migrations/alembic.ini revision --autogenerate -m "…"`` makes the
next one, beside a database that has all before it.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, create_engine

from dicomwire.node.schema import metadata


def _migrate(connection: Connection) -> None:
    # SQLite changes tables by making them anew: "batch".
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
