"""The statuses of responses of all services, and one that says why a request fails."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicomwire.logs import escaped

SUCCESS = 0x0000
COERCED = 0xB000
"""Warning: Coercion of Data Elements (PS3.4 Table B.2-1): queries find the object by the Patient
ID of its study, not by its own."""
OUT_OF_RESOURCES = 0xA700
"""Refused: Out of Resources (PS3.4 Table B.2-1): nothing was stored; the peer may try again."""
DUPLICATE = 0x0111
"""Duplicate SOP Instance (PS3.7 Annex C).

PS3.4 Section B.2.3 defines no code for this, and refers to PS3.7 for the general ones.
"""
NOT_AUTHORIZED = 0x0124
"""Refused: Not Authorized (PS3.7 Annex C). An object has it also if an operator has deleted and
rejected it."""
MISMATCH = 0xA900
"""Error: Data Set does not match SOP Class (PS3.4 Table B.2-1)."""
CANNOT_UNDERSTAND = 0xC000
"""Error: Cannot understand (PS3.4 Table B.2-1)."""
INVALID_INSTANCE = 0x0117
"""Invalid SOP Instance: the UID is malformed (PS3.7 Annex C)."""
PROCESSING_FAILURE = 0x0110
NO_SUCH_INSTANCE = 0x0112
NO_SUCH_EVENT = 0x0113
INVALID_ARGUMENT = 0x0115
CLASS_INSTANCE_CONFLICT = 0x0119
NO_SUCH_ACTION = 0x0123
DUPLICATE_TRANSACTION = 0x0131
RESOURCE_LIMITATION = 0x0213
"""How N-services fail (PS3.7 Annex C); some are Failure Reasons, too (PS3.3 Section C.14.1.1)."""
LONGEST_COMMENT = 64
"""The most characters of an Error Comment, which has the VR LO."""
NOT_STORED = {
    OUT_OF_RESOURCES: "the archive cannot store now; send it again later",
    DUPLICATE: "the archive has another object of this UID",
    NOT_AUTHORIZED: "the archive has rejected this object",
    MISMATCH: "UIDs or Patient ID are invalid, or not those of the request",
    CANNOT_UNDERSTAND: "the dataset is missing or cannot be read",
    INVALID_INSTANCE: "the SOP Instance UID is invalid",
}
"""Why an object is not stored, by the status. The log says more."""


def failure(code: int, reason: str) -> Dataset:
    """Return a status with the reason as its Error Comment, as far as that has room for it."""
    status = Dataset()
    status.Status = code
    status.ErrorComment = escaped(reason)[:LONGEST_COMMENT]
    return status
