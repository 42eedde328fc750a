"""Objects whose sequences have elements with other VRs, lengths and bytes than they should."""

from __future__ import annotations

import random
import struct

from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicomwire.data.codec import encode_dataset

LONG_VRS = ["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"]
SHORT_VRS = [
    *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO"),
    *("LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"),
]
IN_ITEMS = [
    0x00080005,  # Specific Character Set
    0x00080008,  # Image Type, CS
    0x00080100,  # Code Value, SH
    0x00080102,  # Coding Scheme Designator, SH
    0x00080104,  # Code Meaning, LO
    0x00080119,  # Long Code Value, UC
    0x00080120,  # URN Code Value, UR
    0x00080121,  # Equivalent Code Sequence
    0x00080124,  # Mapping Resource Identification Sequence
    0x00080301,  # Private Group Reference, US
    0x00081155,  # Referenced SOP Instance UID
    0x00091001,
    0x00100010,  # Patient's Name
    0x00189073,  # Acquisition Duration, FD
    0x00280106,  # Smallest Image Pixel Value, US or SS
    0x00400440,  # Protocol Context Sequence
    0x0040A30A,  # Numeric Value, DS
    0x00720072,  # Selector FL Value
    0x7FE00010,  # Pixel Data
]
TEXTS = [
    b"Doe^Jo", b"X1", b"", b"a\\b\\\\c", b"\xc3\xbc\xe4", b"\x1b$B;3ED", b"1.2.3", b"7", b"1e400",
    b"-1", b"\0\0\0\0", b"=^=^=", b"20250402", b"*", b"\xfe\xff\x00\xe0\0\0\0\0", b"x" * 9000,
]  # fmt: skip


class OddObjects:
    """Makes objects, in Explicit VR Little Endian; the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def make(self, number: int) -> bytes:
        """Return the object of study 1.9.<number>."""
        ds = Dataset()
        ds.SOPClassUID = CTImageStorage
        ds.SOPInstanceUID = f"1.9.{number}.1.1"
        ds.PatientID = ds.PatientName = f"P{number}"
        ds.StudyInstanceUID = f"1.9.{number}"
        ds.SeriesInstanceUID = f"1.9.{number}.1"
        data = encode_dataset(ds, ExplicitVRLittleEndian)
        at = data.index(struct.pack("<HH", 0x0010, 0x0010))
        return data[:at] + self._sequence(0x00081032, 0) + data[at:]

    def _sequence(self, tag: int, depth: int) -> bytes:
        items = b"".join(self._item(depth) for _ in range(self._random.randint(0, 2)))
        if self._random.random() < 0.5:
            end = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
            return _header(tag, "SQ", 0xFFFFFFFF) + items + end
        return _header(tag, "SQ", len(items)) + items

    def _item(self, depth: int) -> bytes:
        some = self._random.sample(IN_ITEMS, self._random.randint(0, 8))
        some += self._random.choices([*DicomDictionary], k=self._random.randint(0, 3))
        data = b"".join(self._element(tag, depth) for tag in sorted({*some}) if tag >> 16 > 7)
        return struct.pack("<HHL", 0xFFFE, 0xE000, len(data)) + data

    def _element(self, tag: int, depth: int) -> bytes:
        vr = self._random.choice([*SHORT_VRS, *LONG_VRS, "SQ"])
        if vr == "SQ" and depth < 3:
            return self._sequence(tag, depth + 1)
        value = self._random.choice([*TEXTS, self._random.randbytes(self._random.randint(0, 40))])
        value += b" " * (len(value) % 2)
        return _header(tag, vr, len(value)) + value


def _header(tag: int, vr: str, length: int) -> bytes:
    if vr in LONG_VRS:
        return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr.encode(), 0, length)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), length)
