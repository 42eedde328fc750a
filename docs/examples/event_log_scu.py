"""Reports an event of a procedure (Application Event Logging)."""

from pydicom import Dataset

from dicomwire import AE
from dicomwire.sop_class import ProceduralEventLogging, ProceduralEventLoggingInstance

RECORD_PROCEDURAL_EVENT = 1


def code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def log_event(patient_id: str, host: str = "127.0.0.1", port: int = 11112) -> int | None:
    """Report that an image was taken; return the status of the response."""
    action = Dataset()
    action.RelationshipType = "CONTAINS"
    action.ValueType = "CODE"
    action.ObservationDateTime = "20250402091500"
    action.ConceptNameCodeSequence = [code("121122", "DCM", "Image Acquisition")]
    action.ConceptCodeSequence = [code("121122", "DCM", "Image Acquisition")]
    entry = Dataset()
    entry.PatientID = patient_id
    entry.StudyInstanceUID = "1.2.826.0.1.3680043.10.999.1001"
    entry.StudyID = ""
    entry.SynchronizationFrameOfReferenceUID = ""
    entry.PerformedLocation = "Angiography 2"
    entry.ValueType = "CONTAINER"
    entry.ConceptNameCodeSequence = [code("121145", "DCM", "Description of Material")]
    entry.ContinuityOfContent = "SEPARATE"
    entry.ContentSequence = [action]

    ae = AE("ANGIO2")
    ae.add_requested_context(ProceduralEventLogging)
    with ae.associate(host, port) as assoc:
        if not assoc.is_established:
            raise SystemExit(f"No association: {assoc.failure}")
        status, _ = assoc.send_n_action(
            entry, RECORD_PROCEDURAL_EVENT, ProceduralEventLogging, ProceduralEventLoggingInstance
        )
    return status.Status if "Status" in status else None


if __name__ == "__main__":
    print(log_event("1001"))
