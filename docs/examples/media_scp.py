"""Writes discs for SCUs (Media Creation Management)."""

from pydicom import Dataset
from pydicom.uid import generate_uid

from dicomwire import AE, AssociationServer, evt
from dicomwire.sop_class import MediaCreationManagement

INITIATE, CANCEL = 1, 2
REQUESTS: dict[str, Dataset] = {}


def handle_create(event: evt.Event) -> tuple[int, Dataset | None]:
    """Store the list of objects to write."""
    uid = event.request.AffectedSOPInstanceUID or generate_uid()
    if uid in REQUESTS:
        return 0x0111, None  # SOP instance exists already
    REQUESTS[uid] = event.attribute_list
    REQUESTS[uid].ExecutionStatus = "IDLE"
    reply = Dataset()
    if event.request.AffectedSOPInstanceUID is None:
        reply.AffectedSOPInstanceUID = uid
    return 0x0000, reply


def handle_action(event: evt.Event) -> tuple[int, Dataset | None]:
    """Start to write, or cancel."""
    request = REQUESTS.get(event.request.RequestedSOPInstanceUID)
    if request is None:
        return 0x0112, None  # No such SOP instance
    if event.action_type == INITIATE:
        if request.ExecutionStatus != "IDLE":
            return 0xA510, None  # Media creation was initiated before
        copies = int(event.action_information.get("NumberOfCopies", 1))
        request.ExecutionStatus = "DONE"  # a real disc is PENDING, CREATING and then DONE
        request.TotalNumberOfPiecesOfMediaCreated = copies
        return 0x0000, None
    if event.action_type == CANCEL:
        return (0xC201 if request.ExecutionStatus == "DONE" else 0x0000), None
    return 0x0123, None  # No such action type


def handle_get(event: evt.Event) -> tuple[int, Dataset | None]:
    """Return the progress."""
    request = REQUESTS.get(event.request.RequestedSOPInstanceUID)
    return (0x0112, None) if request is None else (0x0000, request)


def serve(port: int = 11112, block: bool = True) -> AssociationServer | None:
    ae = AE("MEDIASCP")
    ae.add_supported_context(MediaCreationManagement)
    handlers = [
        (evt.EVT_N_CREATE, handle_create),
        (evt.EVT_N_ACTION, handle_action),
        (evt.EVT_N_GET, handle_get),
    ]
    return ae.start_server(("127.0.0.1", port), block=block, evt_handlers=handlers)


if __name__ == "__main__":
    serve()
