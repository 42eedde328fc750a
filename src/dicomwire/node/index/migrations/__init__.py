"""The alembic migrations of the index's schema; a new database runs all of them."""
