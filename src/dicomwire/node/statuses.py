"""The status of a response that fails, for all services of the node."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicomwire.logs import escaped

LONGEST_COMMENT = 64
"""The most characters of an Error Comment, which has the VR LO."""


def failure(code: int, reason: str) -> Dataset:
    """Return a status with the reason as its Error Comment, as far as that has room for it."""
    status = Dataset()
    status.Status = code
    status.ErrorComment = escaped(reason)[:LONGEST_COMMENT]
    return status
