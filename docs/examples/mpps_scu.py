"""Reports the start and the end of an examination (MPPS)."""

from pydicom import Dataset
from pydicom.uid import generate_uid

from dicomwire import AE
from dicomwire.sop_class import CTImageStorage, ModalityPerformedProcedureStep


def beginning() -> Dataset:
    """Return the attributes to report at the start."""
    scheduled = Dataset()
    scheduled.StudyInstanceUID = "1.2.826.0.1.3680043.10.999.1001"
    scheduled.AccessionNumber = "ACC-1001"
    scheduled.ScheduledProcedureStepID = "STEP-1001"
    step = Dataset()
    step.ScheduledStepAttributesSequence = [scheduled]
    step.PatientName = "Doe^Jane"
    step.PatientID = "1001"
    step.PerformedProcedureStepID = "PPS-1001"
    step.PerformedStationAETitle = "CT1"
    step.PerformedProcedureStepStartDate = "20250402"
    step.PerformedProcedureStepStartTime = "0903"
    step.PerformedProcedureStepStatus = "IN PROGRESS"
    step.Modality = "CT"
    step.PerformedSeriesSequence = []
    return step


def ending(images: list[str]) -> Dataset:
    """Return the attributes to report at the end."""
    series = Dataset()
    series.SeriesInstanceUID = generate_uid()
    series.ReferencedImageSequence = []
    for uid in images:
        reference = Dataset()
        reference.ReferencedSOPClassUID = CTImageStorage
        reference.ReferencedSOPInstanceUID = uid
        series.ReferencedImageSequence.append(reference)
    changes = Dataset()
    changes.PerformedProcedureStepStatus = "COMPLETED"
    changes.PerformedProcedureStepEndDate = "20250402"
    changes.PerformedProcedureStepEndTime = "0917"
    changes.PerformedSeriesSequence = [series]
    return changes


def perform(host: str = "127.0.0.1", port: int = 11112) -> list[int]:
    """Return the statuses of both requests."""
    ae = AE("CT1")
    ae.add_requested_context(ModalityPerformedProcedureStep)
    uid = generate_uid()
    with ae.associate(host, port) as assoc:
        if not assoc.is_established:
            raise SystemExit(f"No association: {assoc.failure}")
        begun, _ = assoc.send_n_create(beginning(), ModalityPerformedProcedureStep, uid)
        # ... the examination takes place ...
        changes = ending([generate_uid() for _ in range(3)])
        done, _ = assoc.send_n_set(changes, ModalityPerformedProcedureStep, uid)
    return [status.get("Status") for status in (begun, done)]


if __name__ == "__main__":
    print(perform())
