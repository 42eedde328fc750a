"""The objects that are sent: made by a script, kept between runs, never committed.

All are Explicit VR Little Endian; those of one workload differ in their SOP Instance UID only.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    PYDICOM_ROOT_UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
)

FIRST_NUMBER = 1_000_000_000
"""Ends the first UID; counted up, so that all UIDs of a workload are of one length."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Objects of one kind: a name, the function that makes their dataset, and their pixel bytes."""

    name: str
    dataset: Callable[[], Dataset]
    pixel_bytes: int

    def folder(self, root: Path, count: int) -> Path:
        """Return a folder with `count` objects, one per file named by its UID; made if need be."""
        folder = root / f"{self.name}-{count}"
        if folder.exists():
            return folder
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        template, first = _encode(self.dataset()), _uid(0).encode()
        for number in range(count):
            uid = _uid(number)
            path = unfinished / f"{uid}.dcm"
            path.write_bytes(template.replace(first, uid.encode()))
        return unfinished.rename(folder)


def _uid(number: int) -> str:
    return f"{PYDICOM_ROOT_UID}{FIRST_NUMBER + number}"


def _image(sop_class: str, rows: int, columns: int, frames: int = 1) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = _uid(0)
    ds.StudyDate = "20240101"
    ds.Modality = "CT"
    ds.PatientName = "Bench^Mark"
    ds.PatientID = "BENCH"
    ds.StudyInstanceUID = f"{PYDICOM_ROOT_UID}1"
    ds.SeriesInstanceUID = f"{PYDICOM_ROOT_UID}2"
    ds.InstanceNumber = 1
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    if frames > 1:
        ds.NumberOfFrames = frames
    ds.Rows = rows
    ds.Columns = columns
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 0
    ds.PixelData = random.Random(rows).randbytes(rows * columns * 2) * frames
    ds["PixelData"].VR = "OW"
    return ds


def _study() -> Dataset:
    """Return an image that is a study and a series of its own."""
    ds = _image(CTImageStorage, 8, 8)
    ds.StudyInstanceUID = ds.SeriesInstanceUID = ds.SOPInstanceUID
    ds.AccessionNumber = "1"
    return ds


def _encode(ds: Dataset) -> bytes:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


SMALL = Workload("4KB", lambda: _image(CTImageStorage, 40, 45), 40 * 45 * 2)
CT = Workload("512KB", lambda: _image(CTImageStorage, 512, 512), 512 * 512 * 2)
STUDIES = Workload("studies", _study, 8 * 8 * 2)
MULTI_FRAME = Workload(
    "400MB",
    lambda: _image(MultiFrameGrayscaleWordSecondaryCaptureImageStorage, 500, 500, 800),
    500 * 500 * 2 * 800,
)


def dataset_digest(path: Path) -> str:
    """Return the SHA-256 of a DICOM file's dataset: of all that follows the file meta group."""
    with path.open("rb") as file:
        head = file.read(144)  # the preamble, "DICM", and (0002,0000) with the group's length
        file.seek(144 + struct.unpack_from("<L", head, 140)[0])
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_received(received: Path, sent: Path, count: int) -> str | None:
    """Compare a receiver's files with what was sent.

    The number of files is checked, and the dataset's bytes of the first, middle and last. A
    receiver names a file by the UID, after a prefix of its own. Returns what is wrong, or None.
    """
    paths = sorted(path for path in received.iterdir() if path.is_file())
    if len(paths) != count:
        return f"{len(paths)} files of {count} arrived"
    for path in {paths[0], paths[count // 2], paths[-1]}:
        uid = path.name.removesuffix(".dcm").partition(".")[2]
        if dataset_digest(path) != dataset_digest(sent / f"{uid}.dcm"):
            return f"the bytes of {path.name} differ from what was sent"
    return None
