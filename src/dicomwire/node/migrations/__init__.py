"""Versions of the index's schema, for alembic; a new database goes through all of them."""
