"""An archive for the peers to query and retrieve from: our SCP over a dict of datasets."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pydicom
import pydicom.data
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
)

from dicomwire import (
    AE,
    ALL_TRANSFER_SYNTAXES,
    AllStoragePresentationContexts,
    BasicWorklistManagementPresentationContexts,
    QueryRetrievePresentationContexts,
    VerificationPresentationContexts,
    build_context,
    evt,
)

WHEEL = Path(pydicom.data.__file__).parent / "test_files"
LOCALHOST = "127.0.0.1"
UNIQUE_KEYS = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}


def make_image(patient: int, study: int, series: int, instance: int) -> Dataset:
    """Return a small image; its UIDs and its pixels tell its place."""
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage if series % 2 else MRImageStorage
    ds.SOPInstanceUID = f"1.2.3.{patient}.{study}.{series}.{instance}"
    ds.StudyDate = f"202001{patient % 28 + 1:02}"
    ds.StudyTime = "120000"
    ds.AccessionNumber = f"A{patient}{study}"
    ds.Modality = "CT" if series % 2 else "MR"
    ds.PatientName = f"Doe^Patient {patient}"
    ds.PatientID = f"P{patient}"
    ds.StudyInstanceUID = f"1.2.3.{patient}.{study}"
    ds.SeriesInstanceUID = f"1.2.3.{patient}.{study}.{series}"
    ds.StudyID = str(study)
    ds.SeriesNumber = series
    ds.InstanceNumber = instance
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = ds.Columns = 16
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 0
    ds.add_new("PixelData", "OW", bytes([patient % 256, study, series, instance]) * 128)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def make_images() -> list[Dataset]:
    """Return two patients with three studies: two series of 2 images, then one of 1, and one."""
    return [
        *(make_image(1, 1, series, number) for series in (1, 2) for number in (1, 2)),
        make_image(1, 2, 1, 1),
        make_image(2, 1, 1, 1),
    ]


def query(level: str, **keys: Any) -> Dataset:
    """Return an identifier."""
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(ds, keyword, value)
    return ds


def same(one: Dataset, other: Dataset) -> bool:
    """Return whether two datasets have the same elements; group lengths do not count."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {e.tag: e for e in one if e.tag.element} == {
            e.tag: e for e in other if e.tag.element
        }


def files_in(folder: Path) -> dict[str, Dataset]:
    """Return the DICOM files of a folder, by SOP Instance UID."""
    read = [pydicom.dcmread(path) for path in folder.iterdir()]
    return {ds.SOPInstanceUID: ds for ds in read}


def assert_same(received: dict[str, Dataset], expected: list[Dataset]) -> None:
    """Check that just what was expected has been received."""
    assert sorted(received) == sorted(ds.SOPInstanceUID for ds in expected)
    for ds in expected:
        assert same(received[ds.SOPInstanceUID], ds)


class Archive:
    """What the SCP has, and where it may send that to.

    Attributes
    ----------
    objects : dict of str to Dataset
        By SOP Instance UID.
    destinations : dict of str to int
        Ports of move destinations, by AE title.
    cancelled, released : int
        How many operations have been cancelled, and associations released.
    worklist : list of Dataset
        What any query without a level finds.
    """

    def __init__(self, objects: Iterable[Dataset] = ()) -> None:
        self.objects = {ds.SOPInstanceUID: ds for ds in objects}
        self.destinations: dict[str, int] = {}
        self.cancelled = self.released = 0
        self.worklist: list[Dataset] = []

    @contextmanager
    def serving(self) -> Iterator[int]:
        """Serve while the block runs; give the port."""
        ae = AE("ARCHIVE")
        ae.maximum_associations = 50
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(
                context.abstract_syntax, ALL_TRANSFER_SYNTAXES, scu_role=True, scp_role=True
            )
        ae.supported_contexts = [
            *VerificationPresentationContexts,
            *QueryRetrievePresentationContexts,
            *BasicWorklistManagementPresentationContexts,
        ]
        handlers = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_C_GET, self._get),
            (evt.EVT_C_MOVE, self._move),
            (evt.EVT_RELEASED, self._count_release),
        ]
        server = ae.start_server((LOCALHOST, 0), block=False, evt_handlers=handlers)
        assert server is not None
        try:
            yield server.server_address[1]
        finally:
            ae.shutdown()

    def _count_release(self, event: evt.Event) -> None:
        self.released += 1

    def _store(self, event: evt.Event) -> int:
        ds = event.dataset
        ds.file_meta = event.file_meta
        self.objects[ds.SOPInstanceUID] = ds
        return 0x0000

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        identifier = event.identifier
        if "QueryRetrieveLevel" in identifier:
            unique = UNIQUE_KEYS[identifier.QueryRetrieveLevel]
            found = {ds[unique].value: ds for ds in self.matching(identifier)}
            matches = [_answer(identifier, ds) for ds in found.values()]
        else:
            matches = self.worklist
        for match in matches:
            if event.is_cancelled:
                self.cancelled += 1
                yield 0xFE00, None
                return
            yield 0xFF00, match

    def _get(self, event: evt.Event) -> Iterator[Any]:
        found = list(self.matching(event.identifier))
        yield len(found)
        for ds in found:
            if event.is_cancelled:
                self.cancelled += 1
                yield 0xFE00, None
                return
            yield 0xFF00, ds

    def _move(self, event: evt.Event) -> Iterator[Any]:
        port = self.destinations.get(event.move_destination or "")
        if port is None:
            yield None, None
            return
        found = list(self.matching(event.identifier))
        pairs = sorted({(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID) for ds in found})
        contexts = [build_context(uid, _sendable(syntax)) for uid, syntax in pairs]
        yield LOCALHOST, port, {"contexts": contexts}
        yield from self._get(event)

    def matching(self, identifier: Dataset) -> Iterator[Dataset]:
        """Yield the objects that match the keys of an identifier (PS3.4 Section C.2.2.2)."""
        for ds in self.objects.values():
            if all(
                _matches(key.value, ds.get(key.keyword))
                for key in identifier
                if key.keyword not in ("QueryRetrieveLevel", "SpecificCharacterSet")
            ):
                yield ds


def _matches(key: Any, value: Any) -> bool:
    if key is None or key == "":
        return True
    if isinstance(key, list | pydicom.multival.MultiValue):
        return value in key
    return fnmatchcase(str(value), str(key))


def _sendable(syntax: UID) -> list[UID]:
    """Return the transfer syntaxes that an object in one of them can be sent in."""
    if syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        return [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    return [syntax]


def _answer(identifier: Dataset, ds: Dataset) -> Dataset:
    """Return a match: what the identifier asks for of `ds`."""
    match = Dataset()
    match.QueryRetrieveLevel = identifier.QueryRetrieveLevel
    match.RetrieveAETitle = "ARCHIVE"
    for key in identifier:
        if key.keyword in ds:
            match[key.tag] = ds[key.tag]
    return match


class Destination:
    """Our Storage SCP that C-MOVE sends to; `received` has what came, by SOP Instance UID.

    `on_store`, if set, is called with each event before it is answered.
    """

    def __init__(self, title: str = "DESTINATION") -> None:
        self.received: dict[str, Dataset] = {}
        self.on_store: Callable[[evt.Event], None] | None = None
        self._title = title

    @contextmanager
    def serving(self) -> Iterator[int]:
        """Serve while the block runs; give the port."""
        ae = AE(self._title)
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
        ae.supported_contexts = VerificationPresentationContexts
        handlers = [(evt.EVT_C_STORE, self._store)]
        server = ae.start_server((LOCALHOST, 0), block=False, evt_handlers=handlers)
        assert server is not None
        try:
            yield server.server_address[1]
        finally:
            ae.shutdown()

    def _store(self, event: evt.Event) -> int:
        if self.on_store is not None:
            self.on_store(event)
        ds = event.dataset
        ds.file_meta = event.file_meta
        self.received[ds.SOPInstanceUID] = ds
        return 0x0000
