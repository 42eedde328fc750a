"""The status of a response that fails, for all services of the node."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicomwire.logs import escaped
from dicomwire.node.commit import DUPLICATE, OUT_OF_RESOURCES, REJECTED
from dicomwire.node.ingest import CANNOT_UNDERSTAND, INVALID_INSTANCE, MISMATCH

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
    REJECTED: "the archive has rejected this object",
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
