"""Reports that objects are available (Instance Availability Notification)."""

from pydicom import Dataset
from pydicom.uid import generate_uid

from dicomwire import AE
from dicomwire.sop_class import CTImageStorage, InstanceAvailabilityNotification


def notify(uids: list[str], host: str = "127.0.0.1", port: int = 11112) -> int | None:
    """Report that CT images are available; return the status of the response."""
    series = Dataset()
    series.SeriesInstanceUID = generate_uid()
    series.ReferencedSOPSequence = []
    for uid in uids:
        instance = Dataset()
        instance.ReferencedSOPClassUID = CTImageStorage
        instance.ReferencedSOPInstanceUID = uid
        instance.InstanceAvailability = "ONLINE"
        instance.RetrieveAETitle = "ARCHIVE"
        series.ReferencedSOPSequence.append(instance)
    notice = Dataset()
    notice.ReferencedPerformedProcedureStepSequence = []
    notice.StudyInstanceUID = generate_uid()
    notice.ReferencedSeriesSequence = [series]

    ae = AE("ARCHIVE")
    ae.add_requested_context(InstanceAvailabilityNotification)
    with ae.associate(host, port) as assoc:
        if not assoc.is_established:
            raise SystemExit(f"No association: {assoc.failure}")
        status, _ = assoc.send_n_create(notice, InstanceAvailabilityNotification, generate_uid())
    return status.Status if "Status" in status else None


if __name__ == "__main__":
    print(notify(["1.2.3.4"]))
