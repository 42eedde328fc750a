"""Retrieves a study over the requesting association (C-GET)."""

import sys

from pydicom import Dataset

from dicomwire import AE, build_role, evt
from dicomwire.sop_class import (
    CTImageStorage,
    MRImageStorage,
    StudyRootQueryRetrieveInformationModelGet,
)

EXPECTED = [CTImageStorage, MRImageStorage]  # an association has up to 128 contexts


def fetch(study_uid: str, host: str = "127.0.0.1", port: int = 11112) -> list[Dataset]:
    """Return the objects of a study."""
    received = []

    def handle_store(event: evt.Event) -> int:
        ds = event.dataset
        ds.file_meta = event.file_meta
        received.append(ds)
        return 0x0000

    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = study_uid

    ae = AE("GETSCU")
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
    for sop_class in EXPECTED:
        ae.add_requested_context(sop_class)
    roles = [build_role(sop_class, scp_role=True) for sop_class in EXPECTED]
    handlers = [(evt.EVT_C_STORE, handle_store)]
    with ae.associate(host, port, ext_neg=roles, evt_handlers=handlers) as assoc:
        if not assoc.is_established:
            raise SystemExit(f"No association: {assoc.failure}")
        model = StudyRootQueryRetrieveInformationModelGet
        # The objects arrive during this iteration; the last response has the counts.
        *_, (status, reply) = assoc.send_c_get(identifier, model)
        if "Status" not in status:
            raise SystemExit(f"No response: {assoc.failure}")
        print(len(received), "received,", f"status 0x{status.Status:04X}")
        if reply and reply.get("FailedSOPInstanceUIDList"):
            print("Not received:", reply.FailedSOPInstanceUIDList)
    return received


if __name__ == "__main__":
    fetch(sys.argv[1])
