"""The version of pynetdicom whose API this is; not that of this package."""

from __future__ import annotations

__version__ = "3.0.4"
