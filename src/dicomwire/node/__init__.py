"""The archive: receives, stores, finds and sends DICOM objects.

It is built on the public API of the library, with SQLAlchemy and alembic (extra "node").
"""
