"""The archive: receives objects, keeps them safe, finds them, and sends them.

It uses what any program could, the public API, with SQLAlchemy and alembic (extra "node").
"""
