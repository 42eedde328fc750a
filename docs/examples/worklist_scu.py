"""Queries the scheduled procedures of a modality (Modality Worklist)."""

from pydicom import Dataset

from dicomwire import AE
from dicomwire.sop_class import ModalityWorklistInformationModelFind


def query(modality: str, date: str, host: str = "127.0.0.1", port: int = 11112) -> list[Dataset]:
    """Return the entries of the worklist for a modality and a day."""
    step = Dataset()
    step.Modality = modality
    step.ScheduledProcedureStepStartDate = date
    step.ScheduledProcedureStepStartTime = ""
    step.ScheduledStationAETitle = ""
    step.ScheduledProcedureStepID = ""
    identifier = Dataset()
    identifier.PatientName = ""
    identifier.PatientID = ""
    identifier.AccessionNumber = ""
    identifier.StudyInstanceUID = ""
    identifier.ScheduledProcedureStepSequence = [step]

    ae = AE("CT1")
    ae.add_requested_context(ModalityWorklistInformationModelFind)
    with ae.associate(host, port) as assoc:
        if not assoc.is_established:
            raise SystemExit(f"No association: {assoc.failure}")
        responses = assoc.send_c_find(identifier, ModalityWorklistInformationModelFind)
        entries = [entry for _, entry in responses if entry is not None]
        if assoc.failure:
            raise SystemExit(f"Not all of the worklist came: {assoc.failure}")
    return entries


if __name__ == "__main__":
    for entry in query("CT", "20250402"):
        step = entry.ScheduledProcedureStepSequence[0]
        print(step.ScheduledProcedureStepStartTime, entry.PatientID, entry.AccessionNumber)
