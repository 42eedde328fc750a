"""Commits to keep the objects that it has (Storage Commitment Push Model)."""

import threading
from pathlib import Path

from pydicom import Dataset

from dicomwire import AE, Association, AssociationServer, build_role, evt
from dicomwire.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

REQUESTORS = {"COMMITSCU": ("127.0.0.1", 11113)}  # where to report, by AE title


def result_of(request: Dataset, folder: Path) -> tuple[int, Dataset]:
    """Return the event type (1: all objects are kept, 2: some are not) and its information."""
    result = Dataset()
    result.TransactionUID = request.TransactionUID
    result.ReferencedSOPSequence = []
    missing = []
    for reference in request.ReferencedSOPSequence:
        uid = reference.ReferencedSOPInstanceUID
        if uid.is_valid and (folder / f"{uid}.dcm").is_file():
            result.ReferencedSOPSequence.append(reference)
        else:
            reference.FailureReason = 0x0112  # No such SOP instance
            missing.append(reference)
    if not missing:
        return 1, result
    result.FailedSOPSequence = missing
    return 2, result


def report(assoc: Association, event_type: int, result: Dataset) -> None:
    """Send the result on the requesting association or, if that is over, on a new one."""
    requestor = assoc.requestor.ae_title
    known_as = (StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    if assoc.is_established:
        status, _ = assoc.send_n_event_report(result, event_type, *known_as)
        if "Status" in status:
            return
    host, port = REQUESTORS[requestor]
    ae = AE("COMMITSCP")
    ae.add_requested_context(StorageCommitmentPushModel)
    role = build_role(StorageCommitmentPushModel, scp_role=True)  # we stay the SCP
    with ae.associate(host, port, ae_title=requestor, ext_neg=[role]) as assoc:
        if assoc.is_established:
            assoc.send_n_event_report(result, event_type, *known_as)
        # A real server retries later.


def handle_action(event: evt.Event, folder: Path) -> tuple[int, Dataset | None]:
    """Accept the request; the result follows after the response."""
    if event.request.AffectedSOPInstanceUID or event.action_type != 1:
        return 0x0123, None  # No such action type
    event_type, result = result_of(event.action_information, folder)
    threading.Thread(target=report, args=(event.assoc, event_type, result)).start()
    return 0x0000, None


def serve(
    port: int = 11112, folder: str = "received", block: bool = True
) -> AssociationServer | None:
    ae = AE("COMMITSCP")
    ae.add_supported_context(StorageCommitmentPushModel)
    handlers = [(evt.EVT_N_ACTION, handle_action, [Path(folder)])]
    return ae.start_server(("127.0.0.1", port), block=block, evt_handlers=handlers)


if __name__ == "__main__":
    serve()
