"""Datasets to bytes and back, and the file meta information that goes before them in a file.

pydicom makes and reads the values. No pixel is ever decoded here.
"""

from __future__ import annotations

import logging
import re
import struct
import zlib
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import UID

from dicomwire.encoder import encode_plain
from dicomwire.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicomwire.protocol.context import quick_uid
from dicomwire.protocol.limits import KIB, MIB, Limits
from dicomwire.scanner import LONG_VRS, SHORT_VRS, Counts, Elements, Scanner
from dicomwire.scanner import DatasetError as DatasetError

LOGGER = logging.getLogger("dicomwire")

_DEFAULT_LIMITS = Limits()
INFLATE_CEILING = 1024 * MIB
"""The most bytes that a deflated dataset may inflate to, unless the caller says otherwise."""

_DEFLATED_PIECE = 16 * KIB
_RATIO_CEILING = 200
_RATIO_FREE = 128 * MIB
"""Small outputs may have any ratio: a blank segmentation is rightly deflated 1,000 : 1."""
_MESSAGE_RATIO_FREE = MIB
"""The same for identifiers and the like, which have no pixels."""

_BYTES_PER_ITEM = 24
_BYTES_PER_ELEMENT = 12
"""The densest functional groups have a little more for each: an item has elements, an element a
value besides its header of 8 bytes. pydicom makes about 700 bytes of an item, and 450 of an
element."""
_FREE_ITEMS = 10_000
_FREE_ELEMENTS = 20_000
"""A message may have as many, however small it is: what little is deflated inflates to that."""


class FileFormatError(DatasetError, InvalidDicomError):
    """A file is not in the DICOM File Format (PS3.10 Section 7)."""


class Viewable(Protocol):
    """What has the bytes of a dataset, such as a `Payload`."""

    def view(self) -> memoryview:
        """Return the bytes, without copying them where that is possible."""


Encoded = bytes | bytearray | memoryview | BinaryIO | Viewable
"""An encoded dataset: in memory, or a file that is positioned where the dataset begins."""


# --- Transfer syntaxes ------------------------------------------------------------------------

_IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"

_ENCODINGS = {
    _IMPLICIT_VR_LITTLE_ENDIAN: (True, True, False),
    _DEFLATED: (False, True, True),
    _EXPLICIT_VR_BIG_ENDIAN: (False, False, False),
    "1.2.840.10008.1.2.4.95": (False, True, True),  # JPIP Referenced Deflate
    "1.2.840.10008.1.2.4.205": (False, True, True),  # JPIP HTJ2K Referenced Deflate
}
"""(implicit VR, little endian, deflated) where it is not as PS3.5 Section A.4 has it."""

_UNCOMPRESSED = frozenset(
    {
        _IMPLICIT_VR_LITTLE_ENDIAN,
        _EXPLICIT_VR_LITTLE_ENDIAN,
        _DEFLATED,
        _EXPLICIT_VR_BIG_ENDIAN,
    }
)


def is_uncompressed(transfer_syntax: str) -> bool:
    """Return whether pixel data is native, so that one such syntax can be had from another."""
    return transfer_syntax in _UNCOMPRESSED


def encoding_of(transfer_syntax: str) -> tuple[bool, bool, bool]:
    """Return (implicit VR, little endian, deflated) of a transfer syntax (PS3.5 Annex A).

    A private one is taken for explicit VR little endian, unless `UID.set_private_encoding` of
    pydicom says otherwise.
    """
    known = _ENCODINGS.get(transfer_syntax)
    if known is not None:
        return known
    implicit, little = getattr(transfer_syntax, "_PRIVATE_TS_ENCODING", (False, True))
    return implicit, little, False


# --- Encoding ---------------------------------------------------------------------------------

_WITH_TAG = re.compile(r"(?:With tag (\([0-9A-Fa-f]{4},[0-9A-Fa-f]{4}\)) got exception: )+")


def encode_dataset(ds: Dataset, transfer_syntax: str) -> bytes:
    """Return `ds` encoded for `transfer_syntax`; DatasetError where that is not possible."""
    return _encode(ds, *encoding_of(transfer_syntax))


def encode(
    ds: Dataset, is_implicit_vr: bool, is_little_endian: bool, deflated: bool = False
) -> bytes | None:
    """Return `ds` encoded, or None where that is not possible; the log has the reason."""
    try:
        return _encode(ds, is_implicit_vr, is_little_endian, deflated)
    except DatasetError as error:
        LOGGER.error("%s", error)
        LOGGER.debug("What the encoder said", exc_info=error)
        return None


def _encode(ds: Dataset, implicit: bool, little: bool, deflated: bool) -> bytes:
    data = encode_plain(ds, implicit) if little else None
    if data is None:
        data = _encode_any(ds, implicit, little)
    return _deflate(data) if deflated else data


def _encode_any(ds: Dataset, implicit: bool, little: bool) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = implicit
    buffer.is_little_endian = little
    try:
        write_dataset(buffer, ds)
    except Exception as error:  # whatever a value of the wrong type brings about
        where = _WITH_TAG.match(str(error))
        at = f" at {where[1]}" if where else ""
        raise DatasetError(f"cannot encode the dataset: {type(error).__name__}{at}") from error
    return buffer.getvalue()


def _deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = deflater.compress(data) + deflater.flush()
    return deflated + b"\0" if len(deflated) % 2 else deflated


# --- Decoding ---------------------------------------------------------------------------------


def decode_for(
    data: Encoded,
    transfer_syntax: str,
    inflate_ceiling: int = INFLATE_CEILING,
    limits: Limits = _DEFAULT_LIMITS,
) -> Dataset:
    """Return the dataset in `data`, which is encoded for `transfer_syntax` (see `decode`)."""
    return decode(data, *encoding_of(transfer_syntax), inflate_ceiling, limits)


def decode(
    bytestring: Encoded,
    is_implicit_vr: bool,
    is_little_endian: bool,
    deflated: bool = False,
    inflate_ceiling: int = INFLATE_CEILING,
    limits: Limits = _DEFAULT_LIMITS,
) -> Dataset:
    """Return the dataset in `bytestring`; values are decoded when they are asked for.

    All time and memory it takes is in proportion to the size of `bytestring`, and that of a small
    one is bounded.

    Raises
    ------
    DatasetError
        When the data is truncated or no dataset, has sequences more than 64 deep, has more items
        or elements than `limits` says, or inflates to more than `inflate_ceiling` bytes (or 128
        MiB at a ratio above 200).
    """
    view = _view(bytestring)
    size = len(view)
    if deflated:
        ceiling = min(inflate_ceiling, max(_RATIO_FREE, _RATIO_CEILING * size))
        view = memoryview(_inflate(view, ceiling))
    most = Counts(
        max(limits.dataset_items, size // _BYTES_PER_ITEM),
        max(limits.dataset_elements, size // _BYTES_PER_ELEMENT),
    )
    return _dataset(Scanner(view, is_implicit_vr, is_little_endian, most))


def decode_message(data: Encoded, transfer_syntax: str, limits: Limits) -> Dataset:
    """Return the dataset of any message but C-STORE: an identifier, what an N-service is about.

    Raises
    ------
    DatasetError
        As for `decode`. The ceilings are lower, since there are no pixels in it.
    """
    return _dataset(_message_scanner(data, transfer_syntax, limits))


def message_elements(data: Encoded, transfer_syntax: str, limits: Limits) -> Elements:
    """Return the elements that `decode_message` makes a dataset of, raw; see `scanner.items_of`."""
    return _message_scanner(data, transfer_syntax, limits).elements()


def _message_scanner(data: Encoded, transfer_syntax: str, limits: Limits) -> Scanner:
    is_implicit, is_little, is_deflated = encoding_of(transfer_syntax)
    view = _view(data)
    size = len(view)
    if is_deflated:
        ceiling = min(limits.identifier, max(_MESSAGE_RATIO_FREE, _RATIO_CEILING * size))
        view = memoryview(_inflate(view, ceiling))
    most = Counts(
        min(limits.dataset_items, max(_FREE_ITEMS, size // _BYTES_PER_ITEM)),
        min(limits.dataset_elements, max(_FREE_ELEMENTS, size // _BYTES_PER_ELEMENT)),
    )
    return Scanner(view, is_implicit, is_little, most)


def _dataset(scanner: Scanner) -> Dataset:
    try:
        return scanner.dataset()
    except DatasetError:
        raise
    except Exception as error:  # a character set that pydicom cannot make sense of
        raise DatasetError(f"cannot decode the dataset: {type(error).__name__}") from error


def _view(data: Encoded) -> memoryview:
    if isinstance(data, bytes | bytearray | memoryview):
        return memoryview(data)
    if hasattr(data, "view"):
        return data.view()
    return memoryview(data.read())


def _inflate(view: memoryview, ceiling: int) -> bytearray:
    """Inflate a raw deflate stream (PS3.5 Section A.5), up to a ceiling that bombs do not pass.

    It goes by pieces: zlib needs twice the memory for one that it inflates at once.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    data = bytearray()
    try:
        for start in range(0, len(view), _DEFLATED_PIECE):
            piece = view[start : start + _DEFLATED_PIECE]
            data += inflater.decompress(piece, ceiling + 1 - len(data))
            if len(data) > ceiling:
                raise DatasetError(f"the dataset inflates to more than {ceiling} bytes")
    except zlib.error as error:
        raise DatasetError("the dataset is not deflated, or damaged") from error
    if not inflater.eof:
        raise DatasetError("the deflated dataset is truncated")
    return data


# --- File meta information --------------------------------------------------------------------

_PREAMBLE = bytes(128) + b"DICM"
_META_LENGTH = struct.Struct("<HH2sHI")
_META_ELEMENT = struct.Struct("<HH2sH")
_META_VERSION = b"\2\0\1\0OB\0\0\2\0\0\0\0\1"
_READ_AT_ONCE = 4 * KIB
_MAX_META = MIB
_OUR_UID = IMPLEMENTATION_CLASS_UID.encode("ascii")
_LONG_VRS = frozenset(vr.encode() for vr in LONG_VRS)
_SHORT_VRS = frozenset(vr.encode() for vr in SHORT_VRS)


class FileHead(NamedTuple):
    """What the file meta information of a DICOM file says, and where the dataset begins."""

    sop_class_uid: UID
    sop_instance_uid: UID
    transfer_syntax_uid: UID
    offset: int


def create_file_meta(
    *,
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax: str,
    implementation_uid: str = IMPLEMENTATION_CLASS_UID,
    implementation_version: str = IMPLEMENTATION_VERSION_NAME,
) -> FileMetaDataset:
    """Return file meta information (PS3.10 Section 7.1) as a dataset.

    Its group length is 0; pydicom puts in the right one when it writes a file.
    """
    meta = FileMetaDataset()
    meta.FileMetaInformationGroupLength = 0
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = quick_uid(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = quick_uid(sop_instance_uid)
    meta.TransferSyntaxUID = quick_uid(transfer_syntax)
    meta.ImplementationClassUID = quick_uid(implementation_uid)
    meta.ImplementationVersionName = implementation_version
    return meta


def encode_file_meta(file_meta: FileMetaDataset) -> bytes:
    """Return any file meta information encoded; its group length, if it has one, is put right."""
    buffer = DicomBytesIO()
    try:
        write_file_meta_info(buffer, file_meta, enforce_standard=False)
    except Exception as error:  # as in _encode
        raise DatasetError(
            f"cannot encode the file meta information: {type(error).__name__}"
        ) from error
    return buffer.getvalue()


def file_head(
    sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str, source_ae: str = ""
) -> bytes:
    """Return all of a DICOM file that comes before its dataset (PS3.10 Section 7.1).

    The preamble is zeros, whatever the sender had there.

    Parameters
    ----------
    source_ae : str
        For (0002,0016): the AE title that the dataset came from.
    """
    meta = b"".join(
        (
            _sop_class(sop_class_uid),
            _element(0x0003, b"UI", sop_instance_uid.encode("ascii"), b"\0"),
            _meta_end(transfer_syntax, source_ae),
        )
    )
    return _PREAMBLE + _META_LENGTH.pack(2, 0, b"UL", 4, len(meta)) + meta


def _element(element: int, vr: bytes, value: bytes, padding: bytes) -> bytes:
    if len(value) % 2:
        value += padding
    return _META_ELEMENT.pack(2, element, vr, len(value)) + value


@lru_cache(maxsize=256)
def _sop_class(uid: str) -> bytes:
    return _META_VERSION + _element(0x0002, b"UI", uid.encode("ascii"), b"\0")


@lru_cache(maxsize=256)
def _meta_end(transfer_syntax: str, source_ae: str) -> bytes:
    parts = [
        _element(0x0010, b"UI", transfer_syntax.encode("ascii"), b"\0"),
        _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode("ascii"), b"\0"),
        _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii"), b" "),
    ]
    if source_ae:
        parts.append(_element(0x0016, b"AE", source_ae.encode("ascii", "replace"), b" "))
    return b"".join(parts)


def parse_file_meta(source: bytes | bytearray | memoryview | BinaryIO) -> FileHead:
    """Return what the file meta information says, reading no more of a file than needed.

    Parameters
    ----------
    source
        The beginning of a DICOM file, or a file that is positioned there.

    Raises
    ------
    FileFormatError
        When there is no DICOM file, or one of the three UIDs is missing; it says which file.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        head = _parse_head(bytes(memoryview(source)[:_MAX_META]), True, "")
        assert head is not None
        return head
    name = f"{getattr(source, 'name', 'file')}: "
    data = source.read(_READ_AT_ONCE)
    whole = False
    while True:
        head = _parse_head(data, whole, name)
        if head is not None:
            return head
        if len(data) >= _MAX_META:
            raise FileFormatError(f"{name}more than {len(data)} bytes of file meta information")
        more = source.read(len(data) or _READ_AT_ONCE)
        whole = not more
        data += more


def _parse_head(data: bytes, whole: bool, name: str) -> FileHead | None:
    """Return what parse_file_meta returns; None where more than `data` is needed of the whole."""
    position, end = len(_PREAMBLE), len(data)
    if not data.startswith(b"DICM", 128):
        if end < position and not whole:
            return None
        raise FileFormatError(f"{name}no DICOM file, 'DICM' is missing at byte 128")
    values, offset = file_meta_values(data, position)
    if offset + 8 > end and not whole:
        return None
    if offset > end:
        raise FileFormatError(f"{name}ends within its file meta information")
    return _head(values, offset, name)


def file_meta_values(data: bytes, position: int) -> tuple[dict[int, bytes], int]:
    """Return the values of group 0002, which begins at `position`, and where it ends.

    Where `data` has less than 8 bytes from there on, more of the group may follow. What the group
    length claims is not relied on, nor that the group is in explicit VR: there are files where it
    is wrong, or is not. Only in files of ours it is right, whatever the dataset begins with. Of
    elements that are there twice the first one counts.
    """
    end = len(data)
    values: dict[int, bytes] = {}
    claimed_end = own_end = -1
    while position + 8 <= end and position != own_end:
        group, element, vr, length = _META_ELEMENT.unpack_from(data, position)
        if group != 2:
            break
        position += 8
        if vr in _LONG_VRS:
            length = int.from_bytes(data[position : position + 4], "little")
            position += 4
        elif vr not in _SHORT_VRS:
            length = int.from_bytes(data[position - 4 : position], "little")
        value = values.setdefault(element, data[position : position + length])
        position += length
        if element == 0x0000:
            claimed_end = position + int.from_bytes(value, "little")
        elif element == 0x0012 and value.rstrip(b"\0") == _OUR_UID:
            own_end = claimed_end
    return values, position


def _head(values: dict[int, bytes], offset: int, name: str) -> FileHead:
    try:
        return FileHead(
            quick_uid(values[0x0002].rstrip(b"\0 ").decode("ascii")),
            quick_uid(values[0x0003].rstrip(b"\0 ").decode("ascii")),
            quick_uid(values[0x0010].rstrip(b"\0 ").decode("ascii")),
            offset,
        )
    except KeyError as error:
        text = f"{name}(0002,{error.args[0]:04X}) is missing from the file meta information"
        raise FileFormatError(text) from None
    except UnicodeDecodeError:
        text = f"{name}a UID in the file meta information is not ASCII"
        raise FileFormatError(text) from None


def split_dataset(path: Path) -> tuple[Dataset, int]:
    """Return the file meta information of a DICOM file, and where its dataset begins."""
    with path.open("rb") as file:
        offset = parse_file_meta(file).offset
        file.seek(len(_PREAMBLE))
        meta = decode(file.read(offset - len(_PREAMBLE)), False, True)
    return FileMetaDataset(meta), offset


# --- For people to read -----------------------------------------------------------------------

_SHOWN_CHARACTERS = 200
_SHOWN_BYTES = 16


def pretty_dataset(ds: Dataset, indent: int = 0, indent_char: str = "  ") -> list[str]:
    """Return a line for each element of `ds`, items of sequences indented below theirs.

    The lines hold patient data: they are for DEBUG.
    """
    margin = indent * indent_char
    lines = []
    for tag in sorted(ds.keys()):
        try:
            element = ds[tag]
        except Exception as error:  # a value that pydicom cannot make sense of
            lines.append(f"{margin}{tag} (undecodable: {type(error).__name__})")
            continue
        lines.append(margin + pretty_element(element))
        if element.VR == "SQ":
            for number, item in enumerate(element.value, 1):
                lines.append(f"{margin}{indent_char}(item {number})")
                lines += pretty_dataset(item, indent + 2, indent_char)
    return lines


def pretty_element(elem: DataElement) -> str:
    """Return an element as one line: tag, VR, value, value multiplicity and keyword."""
    tag = f"({elem.tag.group:04X},{elem.tag.element:04X})"
    return f"{tag} {elem.VR} {_pretty_value(elem):<40} # {elem.VM} {elem.keyword}".rstrip()


def _pretty_value(elem: DataElement) -> str:
    value = elem.value
    if elem.VR == "SQ":
        return f"({len(value)} item{'' if len(value) == 1 else 's'})"
    if elem.is_empty:
        return "(no value)"
    if isinstance(value, bytes):
        if len(value) > _SHOWN_BYTES:
            return f"({len(value)} bytes)"
        return f"[{value.hex(' ')}]"
    text = "\\".join(map(str, value)) if elem.VM > 1 else str(value)
    if len(text) > _SHOWN_CHARACTERS:
        text = f"{text[:_SHOWN_CHARACTERS]}..."
    if not text.isprintable():
        text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    return f"[{text}]"
