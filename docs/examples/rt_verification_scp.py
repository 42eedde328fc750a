"""Verifies the setup of a treatment machine (RT Conventional Machine Verification)."""

import threading

from pydicom import Dataset
from pydicom.uid import generate_uid

from dicomwire import AE, Association, AssociationServer, evt
from dicomwire.sop_class import RTConventionalMachineVerification

REQUEST_BEAM_VERIFICATION = 1
DONE = 2
INSTANCES: dict[str, Dataset] = {}


def handle_create(event: evt.Event) -> tuple[int, Dataset | None]:
    """Open a verification for a plan and a fraction group."""
    uid = event.request.AffectedSOPInstanceUID or generate_uid()
    INSTANCES[uid] = event.attribute_list
    reply = Dataset()
    if event.request.AffectedSOPInstanceUID is None:
        reply.AffectedSOPInstanceUID = uid
    return 0x0000, reply


def handle_set(event: evt.Event) -> tuple[int, Dataset | None]:
    """Store the machine's parameters of a beam."""
    instance = INSTANCES.get(event.request.RequestedSOPInstanceUID)
    if instance is None:
        return 0xC112, None  # No machine verification instance that applies
    instance.update(event.modification_list)
    return 0x0000, None


def verify(assoc: Association, uid: str) -> None:
    """Compare the machine with the plan, and report the result."""
    verified = INSTANCES[uid]
    verified.TreatmentVerificationStatus = "VERIFIED"
    result = Dataset()
    result.TreatmentVerificationStatus = verified.TreatmentVerificationStatus
    assoc.send_n_event_report(result, DONE, RTConventionalMachineVerification, uid)


def handle_action(event: evt.Event) -> tuple[int, Dataset | None]:
    """Start to verify; the result is reported later."""
    uid = event.request.RequestedSOPInstanceUID
    if uid not in INSTANCES:
        return 0xC112, None  # No machine verification instance that applies
    if event.action_type != REQUEST_BEAM_VERIFICATION:
        return 0x0123, None  # No such action type
    threading.Thread(target=verify, args=(event.assoc, uid)).start()
    return 0x0000, None


def handle_get(event: evt.Event) -> tuple[int, Dataset | None]:
    """Return the full result."""
    instance = INSTANCES.get(event.request.RequestedSOPInstanceUID)
    return (0xC112, None) if instance is None else (0x0000, instance)


def handle_delete(event: evt.Event) -> int:
    """Close the verification."""
    known = INSTANCES.pop(event.request.RequestedSOPInstanceUID, None)
    return 0xC112 if known is None else 0x0000


def serve(port: int = 11112, block: bool = True) -> AssociationServer | None:
    ae = AE("VERIFIER")
    ae.add_supported_context(RTConventionalMachineVerification)
    handlers: list[evt.EventHandlerType] = [
        (evt.EVT_N_CREATE, handle_create),
        (evt.EVT_N_SET, handle_set),
        (evt.EVT_N_ACTION, handle_action),
        (evt.EVT_N_GET, handle_get),
        (evt.EVT_N_DELETE, handle_delete),
    ]
    return ae.start_server(("127.0.0.1", port), block=block, evt_handlers=handlers)


if __name__ == "__main__":
    serve()
