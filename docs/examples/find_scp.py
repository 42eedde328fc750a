"""Answers queries (C-FIND) about the DICOM files in a folder."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from pydicom import DataElement, Dataset, dcmread

from dicomwire import AE, AssociationServer, evt
from dicomwire.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
)

UNIQUE_KEYS = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}


def matches(ds: Dataset, identifier: Dataset) -> bool:
    """Match single values, wildcards and lists of UIDs; no ranges of dates, no sequences."""
    for key in identifier:
        if key.keyword == "QueryRetrieveLevel" or key.is_empty or key.VR == "SQ":
            continue
        patterns = [str(each) for each in (key.value if key.VM > 1 else [key.value])]
        value = str(ds.get(key.tag, DataElement(key.tag, key.VR, "")).value)
        if not any(fnmatchcase(value, pattern) for pattern in patterns):
            return False
    return True


def answer(ds: Dataset, identifier: Dataset) -> Dataset:
    """Return the attributes that the query requests; unknown ones are empty."""
    found = Dataset()
    for key in identifier:
        found.add(ds[key.tag] if key.tag in ds else DataElement(key.tag, key.VR, None))
    found.QueryRetrieveLevel = identifier.QueryRetrieveLevel
    found.RetrieveAETitle = "FINDSCP"
    return found


def handle_find(event: evt.Event, folder: Path) -> Iterator[tuple[int, Dataset | None]]:
    """Yield a pending status with each match; the library sends success at the end."""
    identifier = event.identifier
    unique_key = UNIQUE_KEYS.get(identifier.get("QueryRetrieveLevel"))
    if unique_key is None:
        yield 0xA900, None  # the identifier does not match the SOP class
        return
    seen = set()
    for path in folder.rglob("*.dcm"):
        if event.is_cancelled:
            yield 0xFE00, None
            return
        ds = dcmread(path, stop_before_pixels=True)
        if ds[unique_key].value not in seen and matches(ds, identifier):
            seen.add(ds[unique_key].value)
            yield 0xFF00, answer(ds, identifier)


def serve(
    port: int = 11112, folder: str = "received", block: bool = True
) -> AssociationServer | None:
    ae = AE("FINDSCP")
    ae.add_supported_context(PatientRootQueryRetrieveInformationModelFind)
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    handlers = [(evt.EVT_C_FIND, handle_find, [Path(folder)])]
    return ae.start_server(("127.0.0.1", port), block=block, evt_handlers=handlers)


if __name__ == "__main__":
    serve()
