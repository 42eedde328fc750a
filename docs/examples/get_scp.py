"""Sends the DICOM files in a folder to requestors (C-GET)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from dicomwire import AE, AssociationServer, StoragePresentationContexts, evt
from dicomwire.sop_class import StudyRootQueryRetrieveInformationModelGet

UNIQUE_KEYS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


def is_wanted(ds: Dataset, identifier: Dataset) -> bool:
    """Match the unique keys of the request: one value, or a list of them."""
    for keyword in UNIQUE_KEYS:
        wanted = identifier.get(keyword)
        if wanted and ds.get(keyword) not in ([wanted] if isinstance(wanted, str) else wanted):
            return False
    return True


def handle_get(event: evt.Event, folder: Path) -> Iterator[Any]:
    """Yield the number of objects, then each object with a pending status."""
    paths = [
        path
        for path in folder.rglob("*.dcm")
        if is_wanted(dcmread(path, stop_before_pixels=True), event.identifier)
    ]
    yield len(paths)
    for path in paths:
        if event.is_cancelled:
            yield 0xFE00, None
            return
        yield 0xFF00, path  # a file is sent as it is; a Dataset works too


def serve(
    port: int = 11112, folder: str = "received", block: bool = True
) -> AssociationServer | None:
    ae = AE("GETSCP")
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
    for context in StoragePresentationContexts:
        # We send the objects, so the requestor of the association is their SCP.
        ae.add_supported_context(context.abstract_syntax, scu_role=False, scp_role=True)
    handlers = [(evt.EVT_C_GET, handle_get, [Path(folder)])]
    return ae.start_server(("127.0.0.1", port), block=block, evt_handlers=handlers)


if __name__ == "__main__":
    serve()
