"""Returns the scheduled procedures of modalities (Modality Worklist)."""

from collections.abc import Iterator
from fnmatch import fnmatchcase

from pydicom import Dataset

from dicomwire import AE, AssociationServer, evt
from dicomwire.sop_class import ModalityWorklistInformationModelFind


def scheduled(patient_id: str, name: str, modality: str, station: str, date: str) -> Dataset:
    """Return an entry of the worklist; a real program reads a database."""
    step = Dataset()
    step.Modality = modality
    step.ScheduledStationAETitle = station
    step.ScheduledProcedureStepStartDate = date
    step.ScheduledProcedureStepStartTime = "0900"
    step.ScheduledProcedureStepID = f"STEP-{patient_id}"
    entry = Dataset()
    entry.PatientID = patient_id
    entry.PatientName = name
    entry.AccessionNumber = f"ACC-{patient_id}"
    entry.StudyInstanceUID = f"1.2.826.0.1.3680043.10.999.{int(patient_id)}"
    entry.ScheduledProcedureStepSequence = [step]
    return entry


WORKLIST = [
    scheduled("1001", "Doe^Jane", "CT", "CT1", "20250402"),
    scheduled("1002", "Roe^Richard", "MR", "MR1", "20250402"),
    scheduled("1003", "Poe^Paula", "CT", "CT1", "20250403"),
]


def matches(entry: Dataset, keys: Dataset) -> bool:
    """Match single values and wildcards, also those within sequences."""
    for key in keys:
        value = entry.get(key.keyword)
        if key.VR == "SQ":
            if key.value and not any(matches(item, key.value[0]) for item in value or ()):
                return False
        elif not key.is_empty and not fnmatchcase(str(value), str(key.value)):
            return False
    return True


def handle_find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
    """Yield a pending status with each entry that matches."""
    for entry in WORKLIST:
        if event.is_cancelled:
            yield 0xFE00, None
            return
        if matches(entry, event.identifier):
            yield 0xFF00, entry


def serve(port: int = 11112, block: bool = True) -> AssociationServer | None:
    ae = AE("WORKLISTSCP")
    ae.add_supported_context(ModalityWorklistInformationModelFind)
    handlers = [(evt.EVT_C_FIND, handle_find)]
    return ae.start_server(("127.0.0.1", port), block=block, evt_handlers=handlers)


if __name__ == "__main__":
    serve()
