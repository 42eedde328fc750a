"""Requests a disc (Media Creation Management)."""

from pydicom import Dataset
from pydicom.uid import generate_uid

from dicomwire import AE
from dicomwire.sop_class import CTImageStorage, MediaCreationManagement

INITIATE = 1


def write_disc(uids: list[str], host: str = "127.0.0.1", port: int = 11112) -> Dataset:
    """Request a disc with objects that the peer already has; return the progress."""
    request = Dataset()
    request.StorageMediaFileSetID = "DISC1"
    request.LabelText = "Second opinion"
    request.ReferencedSOPSequence = []
    for uid in uids:
        reference = Dataset()
        reference.ReferencedSOPClassUID = CTImageStorage
        reference.ReferencedSOPInstanceUID = uid
        reference.RequestedMediaApplicationProfile = "STD-GEN-CD"
        request.ReferencedSOPSequence.append(reference)
    copies = Dataset()
    copies.NumberOfCopies = 2

    ae = AE("MEDIASCU")
    ae.add_requested_context(MediaCreationManagement)
    disc = generate_uid()
    with ae.associate(host, port) as assoc:
        if not assoc.is_established:
            raise SystemExit(f"No association: {assoc.failure}")
        status, progress = assoc.send_n_create(request, MediaCreationManagement, disc)
        if status.get("Status") == 0x0000:
            status, _ = assoc.send_n_action(copies, INITIATE, MediaCreationManagement, disc)
        if status.get("Status") == 0x0000:
            status, progress = assoc.send_n_get([], MediaCreationManagement, disc)
        if status.get("Status") != 0x0000 or progress is None:
            raise SystemExit(f"No disc: {status or assoc.failure}")
    return progress


if __name__ == "__main__":
    print(write_disc(["1.2.3.4"]))
