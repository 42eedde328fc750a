"""Names of UIDs for the log, without pydicom, whose import takes longer than many operations."""

from __future__ import annotations

from functools import cache

from dicomwire.registry import tables


def keyword_of(uid: str) -> str:
    """Return the keyword of a SOP class, such as "CTImageStorage"; the UID if it has none here."""
    return _keywords().get(uid, uid)


@cache
def _keywords() -> dict[str, str]:
    return {uid: name for name, uid in vars(tables).items() if isinstance(uid, str)}
