"""Tracks the procedure steps that modalities report (MPPS)."""

from pydicom import Dataset

from dicomwire import AE, AssociationServer, evt
from dicomwire.sop_class import ModalityPerformedProcedureStep

STEPS: dict[str, Dataset] = {}  # by SOP Instance UID


def handle_create(event: evt.Event) -> tuple[int, Dataset | None]:
    """A modality has started a step; it has chosen the UID of the instance."""
    uid = event.request.AffectedSOPInstanceUID
    step = event.attribute_list
    if uid is None or step.get("PerformedProcedureStepStatus") != "IN PROGRESS":
        return 0x0106, None  # Invalid attribute value
    if uid in STEPS:
        return 0x0111, None  # SOP instance exists already
    STEPS[uid] = step
    return 0x0000, step


def handle_set(event: evt.Event) -> tuple[int | Dataset, Dataset | None]:
    """A modality reports progress, or the end of the step."""
    step = STEPS.get(event.request.RequestedSOPInstanceUID)
    if step is None:
        return 0x0112, None  # No such SOP instance
    if step.PerformedProcedureStepStatus != "IN PROGRESS":
        status = Dataset()  # a failure can have more than a code
        status.Status = 0x0110
        status.ErrorID = 0xA710
        status.ErrorComment = "Performed Procedure Step may no longer be updated"
        return status, None
    step.update(event.modification_list)
    return 0x0000, step


def serve(port: int = 11112, block: bool = True) -> AssociationServer | None:
    ae = AE("MPPSSCP")
    ae.add_supported_context(ModalityPerformedProcedureStep)
    handlers = [(evt.EVT_N_CREATE, handle_create), (evt.EVT_N_SET, handle_set)]
    return ae.start_server(("127.0.0.1", port), block=block, evt_handlers=handlers)


if __name__ == "__main__":
    serve()
