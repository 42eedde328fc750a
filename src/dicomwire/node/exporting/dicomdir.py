"""Makes a DICOMDIR (PS3.10 Section 8.6, PS3.3 Annex F) of what the index has of objects.

pydicom's FileSet looks at all earlier objects for each further one, which takes a minute for a
thousand. This takes the same time for each.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydicom.config import disable_value_validation
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage, generate_uid

from dicomwire.data.codec import encode_dataset
from dicomwire.data.file_meta import file_head
from dicomwire.node.exporting.selection import Exported

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_TYPES = {
    "4.2": "SPECTROSCOPY",
    "9.": "WAVEFORM",
    "9.100.": "PRESENTATION",
    "11.": "PRESENTATION",
    "34.7": "PLAN",
    "66": "RAW DATA",
    "66.1": "REGISTRATION",
    "66.2": "FIDUCIAL",
    "66.3": "REGISTRATION",
    "66.4": "IMAGE",
    "66.5": "SURFACE",
    "66.6": "TRACT",
    "67": "VALUE MAP",
    "68.": "SURFACE SCAN",
    "77.1.5.3": "STEREOMETRIC",
    "78.": "MEASUREMENT",
    "79.1": "MEASUREMENT",
    "80.1": "MEASUREMENT",
    "88.": "SR DOCUMENT",
    "88.59": "KEY OBJECT DOC",
    "90.1": "ASSESSMENT",
    "91.1": "ANNOTATION",
    "104.": "ENCAP DOC",
    "481.2": "RT DOSE",
    "481.3": "RT STRUCTURE SET",
    "481.4": "RT TREAT RECORD",
    "481.5": "RT PLAN",
    "481.6": "RT TREAT RECORD",
    "481.7": "RT TREAT RECORD",
    "481.8": "RT PLAN",
    "481.9": "RT TREAT RECORD",
}
"""The types of directory records (PS3.3 Table F.4-1) by SOP class; with a dot at the end, by the
beginning of SOP classes. All others are images."""
_CONTENT = ("ContentDate", "ContentTime")
_KEYS: dict[str, Sequence[str]] = {
    "IMAGE": ("ImageType", "NumberOfFrames", "Rows", "Columns"),
    "SR DOCUMENT": (
        *("CompletionFlag", "VerificationFlag", *_CONTENT),
        *("VerificationDateTime", "ConceptNameCodeSequence"),
    ),
    "KEY OBJECT DOC": (*_CONTENT, "ConceptNameCodeSequence"),
    "PRESENTATION": (
        *("PresentationCreationDate", "PresentationCreationTime", "ContentLabel"),
        *("ContentDescription", "ContentCreatorName"),
    ),
    "ENCAP DOC": (
        *("ContentDate", "DocumentTitle", "ConceptNameCodeSequence"),
        "MIMETypeOfEncapsulatedDocument",
    ),
    "RT DOSE": ("DoseSummationType",),
    "RT STRUCTURE SET": ("StructureSetLabel", "StructureSetDate", "StructureSetTime"),
    "RT PLAN": ("RTPlanLabel", "RTPlanDate", "RTPlanTime"),
    "RT TREAT RECORD": ("TreatmentDate", "TreatmentTime"),
}
"""The keys of records besides the Instance Number; others have date and time of their content."""

_OFFSET = struct.Struct("<I")
_ITEM = struct.Struct("<HHI")
_NEXT_AT, _LOWER_AT = 8, 30
"""Where a record has the offsets of the next record, and of the first one below it."""


@dataclass
class _Record:
    """A directory record, encoded, and those below it."""

    data: bytearray
    below: list[_Record] = field(default_factory=list)
    at: int = 0


class Directory:
    """The directory of a file-set, to which objects are added one by one, in order."""

    def __init__(self) -> None:
        self._patients: list[_Record] = []
        self._last: list[Any] = [None, None, None]
        """Patient, study and series of the last object."""
        self._uid = generate_uid()

    def add(self, each: Exported) -> str:
        """Add an object; return the name of its file in the file-set, with "/".

        It has no text of an object: a name has eight characters of those that PS3.10 allows.
        """
        path = (each.patient, each.study_instance_uid, each.series_instance_uid)
        records, names = self._patients, []
        for depth, (kind, make) in enumerate(_LEVELS):
            if self._last[depth] != path[depth]:
                self._last[depth:] = [path[depth], *[None] * (len(path) - depth - 1)]
                records.append(_Record(_encoded(make(each))))
            names.append(f"{kind}{len(records) - 1:06}")
            records = records[-1].below
        names.append(f"IM{len(records):06}")
        records.append(_Record(_encoded(_leaf(each, names))))
        return "/".join(names)

    def encoded(self) -> bytes:
        """Return the file DICOMDIR."""
        head = file_head(MediaStorageDirectoryStorage, self._uid, ExplicitVRLittleEndian)
        start = len(head) + len(self._fixed(0, 0)) + 12  # the header of the sequence
        pieces: list[bytearray] = []
        end = _place(self._patients, start, pieces)
        first, last = self._patients[0].at, self._patients[-1].at
        sequence = struct.pack("<HH2sxxI", 0x0004, 0x1220, b"SQ", end - start)
        return b"".join((head, self._fixed(first, last), sequence, *pieces))

    def _fixed(self, first: int, last: int) -> bytes:
        ds = Dataset()
        ds.FileSetID = ""
        ds.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = first
        ds.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = last
        ds.FileSetConsistencyFlag = 0
        return encode_dataset(ds, ExplicitVRLittleEndian)


def _place(records: Sequence[_Record], at: int, pieces: list[bytearray]) -> int:
    """Give records and those below them their places; return the offset after them.

    A record comes before those below it, which are before the next one.
    """
    for number, record in enumerate(records):
        record.at = at
        pieces.append(record.data)
        at = _place(record.below, at + len(record.data), pieces)
        is_last = number == len(records) - 1
        _OFFSET.pack_into(record.data, _ITEM.size + _NEXT_AT, 0 if is_last else at)
        if record.below:
            _OFFSET.pack_into(record.data, _ITEM.size + _LOWER_AT, record.below[0].at)
    return at


def _encoded(ds: Dataset) -> bytearray:
    """Return a record as an item."""
    ds.OffsetOfTheNextDirectoryRecord = 0
    ds.RecordInUseFlag = 0xFFFF
    ds.OffsetOfReferencedLowerLevelDirectoryEntity = 0
    if not all(str(each.value).isascii() for each in ds):
        ds.SpecificCharacterSet = "ISO_IR 192"
    data = encode_dataset(ds, ExplicitVRLittleEndian)
    return bytearray(_ITEM.pack(0xFFFE, 0xE000, len(data)) + data)


def _record(kind: str, **values: Any) -> Dataset:
    ds = Dataset()
    ds.DirectoryRecordType = kind
    with disable_value_validation():  # they are what the senders have made of them
        for keyword, value in values.items():
            setattr(ds, keyword, value)
    return ds


def _patient(each: Exported) -> Dataset:
    return _record("PATIENT", PatientName=each.patient_name, PatientID=each.patient_id)


def _study(each: Exported) -> Dataset:
    return _record(
        "STUDY",
        StudyDate=each.study_date,
        StudyTime=each.study_time,
        AccessionNumber=each.accession_number,
        StudyDescription=each.study_description,
        StudyInstanceUID=each.study_instance_uid,
        StudyID=each.study_id,
    )


def _series(each: Exported) -> Dataset:
    return _record(
        "SERIES",
        Modality=each.modality,
        SeriesDescription=each.series_description,
        SeriesInstanceUID=each.series_instance_uid,
        SeriesNumber=each.series_number,
    )


_LEVELS = (("PT", _patient), ("ST", _study), ("SE", _series))


def _leaf(each: Exported, names: Sequence[str]) -> Dataset:
    kind = _type_of(each.sop_class_uid)
    wanted = {f"{tag_for_keyword(keyword):08X}" for keyword in _KEYS.get(kind, _CONTENT)}
    own = {tag: value for tag, value in each.attributes.items() if tag in wanted}
    with disable_value_validation():
        ds = Dataset.from_json(own)
    ds.update(
        _record(
            kind,
            ReferencedFileID=[*names],
            ReferencedSOPClassUIDInFile=each.sop_class_uid,
            ReferencedSOPInstanceUIDInFile=each.sop_instance_uid,
            ReferencedTransferSyntaxUIDInFile=each.transfer_syntax_uid,
            InstanceNumber=each.instance_number,
        )
    )
    return ds


def _type_of(sop_class_uid: str) -> str:
    own = sop_class_uid.removeprefix(_STORAGE)
    while own != sop_class_uid and own:
        if own in _TYPES:
            return _TYPES[own]
        above = own.rstrip(".").rpartition(".")
        own = above[0] + above[1]
    return "IMAGE"
