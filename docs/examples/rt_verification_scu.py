"""Requests verification of a beam before its delivery (RT Conventional Machine Verification)."""

import queue

from pydicom import Dataset
from pydicom.tag import Tag
from pydicom.uid import generate_uid

from dicomwire import AE, evt
from dicomwire.sop_class import RTConventionalMachineVerification, RTPlanStorage

REQUEST_BEAM_VERIFICATION = 1


def check(what: str, status: Dataset) -> None:
    if status.get("Status") != 0x0000:
        raise SystemExit(f"{what} failed: {status}")


def verify_beam(host: str = "127.0.0.1", port: int = 11112, wait: float = 30) -> str:
    """Return the outcome: VERIFIED, VERIFIED_OVR or NOT_VERIFIED."""
    results: queue.Queue[Dataset] = queue.Queue()

    def handle_report(event: evt.Event) -> tuple[int, Dataset | None]:
        results.put(event.event_information)
        return 0x0000, None

    plan = Dataset()
    plan.ReferencedSOPClassUID = RTPlanStorage
    plan.ReferencedSOPInstanceUID = generate_uid()
    session = Dataset()
    session.PatientID = "1001"
    session.ReferencedRTPlanSequence = [plan]
    session.ReferencedFractionGroupNumber = 1
    session.ConventionalMachineVerificationSequence = []

    beam = Dataset()
    beam.ReferencedBeamNumber = 1
    beam.SpecifiedPrimaryMeterset = 120.0
    setup = Dataset()
    setup.ConventionalMachineVerificationSequence = [beam]

    sop_class, uid = RTConventionalMachineVerification, generate_uid()
    ae = AE("TREATMENT")
    ae.add_requested_context(sop_class)
    handlers = [(evt.EVT_N_EVENT_REPORT, handle_report)]
    with ae.associate(host, port, evt_handlers=handlers) as assoc:
        if not assoc.is_established:
            raise SystemExit(f"No association: {assoc.failure}")
        check("Opening", assoc.send_n_create(session, sop_class, uid)[0])
        check("Setting up", assoc.send_n_set(setup, sop_class, uid)[0])
        check("Verifying", assoc.send_n_action(None, REQUEST_BEAM_VERIFICATION, sop_class, uid)[0])
        outcome = str(results.get(timeout=wait).TreatmentVerificationStatus)
        tags = [Tag("TreatmentVerificationStatus"), Tag("FailedAttributesSequence")]
        status, details = assoc.send_n_get(tags, sop_class, uid)
        check("Asking for details", status)
        assert details is not None
        assert details.TreatmentVerificationStatus == outcome
        check("Closing", assoc.send_n_delete(sop_class, uid))
    return outcome


if __name__ == "__main__":
    print(verify_beam())
